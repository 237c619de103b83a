package sqlstore_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
)

// canary is the owner to be erased. Both names are long enough to be found in a file.
var canary = chat.Owner{Tenant: "canarytenant", Subject: "canarysubject"}

// populate saves rows of many owners in a random order, so that those of the canary are between others in each page of a file. Some
// items are replaced, some rows are deleted. Others' threads are granted to the canary, and by it.
func populate(t *testing.T, s store.Store, g sharing.Grants, seed uint64) {
	t.Helper()
	ctx, r := t.Context(), rand.New(rand.NewPCG(seed, 0))
	at := func() time.Time { return noon.Add(time.Duration(r.IntN(1e6)) * time.Second) }
	text := func(o chat.Owner) string { return strings.Repeat(o.Tenant+" "+o.Subject+" ", r.IntN(400)) }
	for i := range tries(2000, 500) {
		o := chat.Owner{Tenant: "acme", Subject: fmt.Sprint("user", r.IntN(50))}
		if i%10 == 0 {
			o = canary
		}
		id := fmt.Sprintf("thr_%x", r.Uint64())
		must(t, s.SaveThread(ctx, chat.Thread{ID: id, Title: text(o), CreatedAt: at(), Owner: o}))
		message := func(id string) chat.Item {
			return get[chat.Item](t)(chat.NewItem(id, at(), chat.SDKHiddenContext{Content: text(o)}))
		}
		for j := range r.IntN(8) {
			must(t, s.AddThreadItem(ctx, id, message(fmt.Sprint("msg_", j))))
			must(t, s.SaveItem(ctx, id, message(fmt.Sprint("msg_", r.IntN(j+1)))))
		}
		must(t, s.DeleteThreadItem(ctx, id, "msg_1"))
		to := sharing.Grantee{Tenant: "acme", Subject: "friend"}
		if o != canary {
			to = sharing.Grantee{Tenant: canary.Tenant, Subject: canary.Subject}
		}
		must(t, g.Grant(ctx, sharing.Grant{ThreadID: id, To: to, Role: sharing.Viewer, By: o}))
		must(t, g.Grant(ctx, sharing.Grant{ThreadID: id, To: sharing.Grantee{Tenant: "acme", Subject: "eve"}, Role: sharing.Viewer, By: canary}))
		a := get[chat.Attachment](t)(chat.NewAttachment(fmt.Sprintf("atc_%x", r.Uint64()), chat.AttachmentBody{Type: "file", Name: text(o), MIMEType: "text/plain"}))
		a.Owner = o
		must(t, s.SaveAttachment(ctx, a))
		if r.IntN(5) == 0 {
			must(t, s.DeleteThread(ctx, id))
			must(t, s.DeleteAttachment(ctx, a.ID))
		}
	}
}

// After Erase, neither a SQLite file, once its WAL was copied into it, nor a dump of PostgreSQL has the owner's name or texts.
func TestNothingHasTheNameOfAnErasedOwner(t *testing.T) {
	t.Parallel()
	for engine, f := range map[string]func(t *testing.T) (s *sqlstore.Store, read func() map[string]string){
		"sqlite": func(t *testing.T) (*sqlstore.Store, func() map[string]string) {
			path := filepath.Join(t.TempDir(), "chat.db")
			s := closing(t)(sqlstore.OpenSQLite(t.Context(), path, sqlstore.WithDurability(sqlstore.SurvivesKill)))
			return s, func() map[string]string {
				must(t, sqlstore.Exec(s, "PRAGMA wal_checkpoint(TRUNCATE)")) // another reader may have kept Erase from it
				files := map[string]string{}
				for _, suffix := range []string{"", "-wal", "-shm"} {
					files["chat.db"+suffix] = string(get[[]byte](t)(os.ReadFile(path + suffix)))
				}
				return files
			}
		},
		"postgres": func(t *testing.T) (*sqlstore.Store, func() map[string]string) {
			dump := testenv.Program(t, "pg_dump", "postgresql-client")
			dsn := pgtest.Shared(t).DSN(t)
			return openPG(t, dsn, sqlstore.WithStatementTimeout(time.Second), sqlstore.WithLockTimeout(time.Second)), func() map[string]string {
				return map[string]string{"the dump": string(get[[]byte](t)(exec.Command(dump, "--dbname="+dsn).Output()))}
			}
		},
	} {
		seeds := uint64(tries(5, 2))
		if engine == "postgres" {
			seeds = 1 // the place of rows in its files does not matter, and Erase waits
		}
		for seed := range seeds {
			t.Run(fmt.Sprint(engine, " ", seed), func(t *testing.T) {
				base, read := f(t)
				s := store.Wrap(base, cache.New())
				populate(t, s, base, seed)
				before := read()
				r := get[lifecycle.Receipt](t)(lifecycle.Erase(t.Context(), s, canary))
				if r.Erased.Threads == 0 || r.Erased.Attachments == 0 || r.Deleted == 0 {
					t.Errorf("the receipt: %+v", r.Erased)
				}
				was := false
				for _, text := range before {
					was = was || strings.Contains(text, canary.Subject)
				}
				for file, text := range read() {
					for _, name := range []string{canary.Tenant, canary.Subject} {
						if n := strings.Count(text, name); n > 0 {
							t.Errorf("%s: %s is there %d times", file, name, n)
						}
					}
					was = was && (file != "chat.db" && file != "the dump" || strings.Contains(text, "user7"))
				}
				if !was {
					t.Error("the canary was never there, or others are gone")
				}
			})
		}
	}
}
