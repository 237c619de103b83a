package files_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/examples/chatserver/files"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

const block = 4 << 10 // counts for a small file

// several returns servers that share a folder and a store. A user may store four blocks.
func several(t *testing.T, n int) (servers []*rig) {
	dir, s := t.TempDir(), store.Wrap(memstore.New(), authz.New(authz.OwnerOnly()))
	for range n {
		f := testenv.Value(files.Open(dir, s, "", files.Limits{File: 2 * block, User: 4 * block}))(t)
		t.Cleanup(func() { testenv.Must(t, f.Close()) })
		servers = append(servers, &rig{t: t, dir: dir, f: f, s: s})
	}
	return servers
}

func (r *rig) create(user, id string, size int64) error {
	r.t.Helper()
	b, err := r.f.Create(as(user), id, size, aFile)
	if err == nil {
		testenv.Must(r.t, r.s.SaveAttachment(as(user), testenv.Value(chat.NewAttachment(id, b))(r.t)))
	}
	return err
}

func TestAUserStoresNoMoreThanTheQuotaWhateverTheServer(t *testing.T) {
	servers := several(t, 2)
	a, b := servers[0], servers[1]
	testenv.Must(t, a.create("ada", "atc_1", 2*block))
	testenv.Must(t, b.create("ada", "atc_2", block+1))
	if err := a.create("ada", "atc_3", block); status(err) != 413 || !strings.Contains(err.Error(), "16384 bytes together") {
		t.Errorf("over the quota: %v", err)
	}
	testenv.Must(t, a.create("grace", "atc_4", 2*block)) // another user is not concerned
	// A deleted file does not count. Nor does a refused one.
	testenv.Must(t, b.s.DeleteAttachment(as("ada"), "atc_1"))
	testenv.Must(t, b.f.Delete(as("ada"), "atc_1"))
	testenv.Must(t, a.create("ada", "atc_5", 2*block))
	if err := b.create("ada", "atc_6", 0); status(err) != 413 {
		t.Errorf("an empty file counts nothing: %v", err)
	}
}

func TestAnnouncementsAtOnceStayWithinTheQuota(t *testing.T) {
	servers := several(t, 4)
	for round := range 20 {
		user := fmt.Sprint("user ", round)
		var taken atomic.Int64
		var wg sync.WaitGroup
		for n := range 2 * len(servers) {
			wg.Go(func() {
				if err := servers[n%len(servers)].create(user, fmt.Sprint("atc_", round, "_", n), block); err == nil {
					taken.Add(1)
				} else if status(err) != 413 {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if taken.Load() > 4 {
			t.Fatalf("%d blocks were announced, want at most 4", taken.Load())
		}
	}
}

// An announced upload that never came must not count forever. One that comes late counts again.
func TestAnAbandonedAnnouncementCountsForAnHour(t *testing.T) {
	a := several(t, 1)[0]
	testenv.Must(t, a.create("ada", "atc_1", 2*block))
	testenv.Must(t, a.create("ada", "atc_2", 2*block))
	put := func(id string) int {
		w, req := newPut(id, "content")
		a.f.Put(w, req)
		return w.Code
	}
	if code := put("atc_1"); code != 204 {
		t.Fatal(code)
	}
	age := func(by time.Duration) {
		at := time.Now().Add(-by)
		for _, path := range testenv.Value(filepath.Glob(filepath.Join(a.dir, "of-*", "*")))(t) {
			testenv.Must(t, os.Chtimes(path, at, at))
		}
	}
	age(59 * time.Minute)
	if err := a.create("ada", "atc_3", block); status(err) != 413 {
		t.Errorf("after 59 minutes: %v", err)
	}
	age(61 * time.Minute)
	testenv.Must(t, a.create("ada", "atc_4", 2*block)) // in place of atc_2; atc_1 was uploaded
	if code := put("atc_2"); code != 413 {
		t.Errorf("the late upload: %d", code)
	}
	if code := put("atc_4"); code != 204 {
		t.Errorf("the upload in its place: %d", code)
	}
}

// A sent attachment is deleted in the store alone, for example by lifecycle.PruneAttachments.
func TestADeletedAttachmentNoLongerCounts(t *testing.T) {
	a := several(t, 1)[0]
	put := func(id string) {
		t.Helper()
		w, req := newPut(id, "content")
		if a.f.Put(w, req); w.Code != 204 {
			t.Fatal(w.Code, w.Body)
		}
	}
	testenv.Must(t, a.create("ada", "atc_1", 2*block))
	testenv.Must(t, a.create("ada", "atc_2", 2*block))
	put("atc_1")
	put("atc_2")
	if err := a.create("ada", "atc_3", block); status(err) != 413 {
		t.Errorf("over the quota: %v", err)
	}
	testenv.Must(t, a.s.DeleteAttachment(as("ada"), "atc_1"))
	testenv.Must(t, a.create("ada", "atc_3", block))
	a.wantFiles(1)
	put("atc_3")
	if err := a.create("ada", "atc_4", 2*block); status(err) != 413 {
		t.Errorf("what is there no longer counts: %v", err)
	}
	// What cannot be asked for stays.
	a.f = testenv.Value(files.Open(a.dir, faulty{a.s}, "", files.Limits{File: 2 * block, User: 4 * block}))(t)
	defer a.f.Close()
	if err := a.create("ada", "atc_5", 2*block); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("without the database: %v", err)
	}
	a.wantFiles(2)
}

// faulty finds no attachment, because its database is down.
type faulty struct{ store.Store }

func (faulty) LoadAttachment(context.Context, string) (chat.Attachment, error) {
	return chat.Attachment{}, &store.Error{Code: store.CodeUnavailable}
}
