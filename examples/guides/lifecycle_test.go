package guides_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/readonly"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/store"
)

var ada = chat.Owner{Tenant: "acme", Subject: "ada"}

// move copies everything, and returns when the target is the source. refuse makes every process refuse writes.
func move(ctx context.Context, to, from store.Store, journal string, refuse func(context.Context) error) error {
	_, err := lifecycle.Copy(ctx, to, from,
		lifecycle.WithJournal(journal), lifecycle.WithParallel(4), lifecycle.WithFence(refuse))
	if err != nil {
		return err // refuse may have been called: allow writes again, or call move again
	}
	for d, err := range lifecycle.Verify(ctx, to, from) {
		if err != nil {
			return err
		}
		return fmt.Errorf("%s %s: %s", d.Kind, d.ID, d.What)
	}
	return nil
}

// exportOwner writes all that an owner has to a file.
func exportOwner(ctx context.Context, path string, s store.Store, owner chat.Owner) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = lifecycle.Export(ctx, f, s, store.OwnedBy(owner))
	return errors.Join(err, f.Sync(), f.Close())
}

func TestALiveServiceMoves(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "chat.db")
	to := testenv.Value(sqlstore.OpenSQLite(ctx, path))(t)
	defer to.Close()
	base := memstore.New()
	sw := new(readonly.Switch)
	service := store.Wrap(base, readonly.New(sw))
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	save := func(n int) error {
		return service.SaveThread(ctx, chat.Thread{ID: fmt.Sprint("thr_", n), CreatedAt: at, Owner: ada})
	}
	for n := range 100 {
		testenv.Must(t, save(n))
	}
	refused := 0
	err := move(ctx, to, base, path+".journal", func(context.Context) error {
		testenv.Must(t, save(1000)) // the last write before the fence
		sw.Refuse("moving to another database")
		refused++
		return nil
	})
	testenv.Must(t, err)
	if err := save(1001); !errors.Is(err, store.ErrUnavailable) || refused != 1 {
		t.Errorf("a write behind the fence: %v; refused %d times", err, refused)
	}
	if _, err := to.LoadThread(ctx, "thr_1000"); err != nil {
		t.Error(err)
	}
}

// The guard's inside is what operators' functions get.
func TestAPersonIsExportedAndErased(t *testing.T) {
	ctx := t.Context()
	base := memstore.New()
	inside := store.Wrap(base, cache.New())
	s := store.Wrap(inside, authz.New(authz.OwnerOnly(), authz.ShareBelow()))
	defer store.Close(s)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i, o := range []chat.Owner{ada, {Tenant: "acme", Subject: "bob"}} {
		testenv.Must(t, inside.SaveThread(ctx, chat.Thread{ID: fmt.Sprint("thr_", i), CreatedAt: at, Owner: o}))
	}
	ctx = store.WithPrincipal(ctx, store.Principal{Owner: ada})
	testenv.Value(s.LoadThread(ctx, "thr_0"))(t) // into the cache

	path := filepath.Join(t.TempDir(), "ada.jsonl")
	testenv.Must(t, exportOwner(ctx, path, inside, ada))
	text := testenv.Value(os.ReadFile(path))(t)
	if !bytes.Contains(text, []byte("thr_0")) || bytes.Contains(text, []byte("thr_1")) {
		t.Errorf("ada's export is\n%s", text)
	}

	receipt, err := lifecycle.Erase(ctx, inside, ada)
	testenv.Must(t, err)
	if _, err := s.LoadThread(ctx, "thr_0"); !errors.Is(err, store.ErrNotFound) || receipt.Erased.Threads != 1 {
		t.Errorf("after Erase: %v; the receipt is %+v", err, receipt)
	}
	if _, err := base.LoadThread(ctx, "thr_1"); err != nil {
		t.Error(err)
	}
}

func TestOldConversationsArePruned(t *testing.T) {
	ctx := t.Context()
	s := store.Wrap(memstore.New(), cache.New())
	defer store.Close(s)
	held := map[string]bool{"thr_1": true}
	for i := range 3 {
		testenv.Must(t, s.SaveThread(ctx, chat.Thread{ID: fmt.Sprint("thr_", i), CreatedAt: time.Now().Add(-1000 * time.Hour)}))
	}
	testenv.Must(t, s.SaveThread(ctx, chat.Thread{ID: "thr_new", CreatedAt: time.Now()}))

	pruned, err := lifecycle.Prune(ctx, s, store.AnyOwner(),
		lifecycle.WithInactive(30*24*time.Hour),
		lifecycle.WithHold(func(_ context.Context, t chat.Thread) (bool, error) { return held[t.ID], nil }),
		lifecycle.WithDryRun()) // only counts
	testenv.Must(t, err)
	if pruned.Deleted != 2 || pruned.Held != 1 {
		t.Errorf("pruned %+v", pruned)
	}
}
