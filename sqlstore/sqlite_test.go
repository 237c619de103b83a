package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/store"
)

// locked opens a store. Another program holds the write lock of its file; the returned function releases it.
func locked(t *testing.T, opts ...sqlstore.Option) (s *sqlstore.Store, unlock func()) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "chat.db")
	s = closing(t)(sqlstore.OpenSQLite(t.Context(), path, opts...))
	other := raw(t, path)
	execute(t, other, "BEGIN IMMEDIATE")
	unlock = sync.OnceFunc(func() { execute(t, other, "ROLLBACK") })
	t.Cleanup(unlock)
	return s, unlock
}

// raw opens a connection without a Store.
func raw(t testing.TB, path string) *sqlite.Conn {
	t.Helper()
	sqlstore.OFDLocks() // for the tests that come later
	return closed[*sqlite.Conn](t)(sqlite.OpenConn(path, sqlite.OpenReadWrite, sqlite.OpenCreate))
}

func execute(t testing.TB, c *sqlite.Conn, text string) {
	t.Helper()
	must(t, sqlstore.Script(c, text))
}

func TestABusyFileIsWaitedFor(t *testing.T) {
	s, unlock := locked(t, patient)
	done := make(chan error, 1)
	go func() { done <- s.SaveThread(t.Context(), thread("thr_1")) }()
	wantErr(t, errOf(s.LoadThread(t.Context(), "thr_1")), store.CodeNotFound) // a read does not wait for a writer
	if len(done) > 0 {
		t.Error("the write did not wait")
	}
	unlock()
	must(t, <-done)
}

func TestABusyFileIsUnavailableInTheEnd(t *testing.T) {
	s, _ := locked(t, sqlstore.WithRetryFor(50*time.Millisecond))
	wantErr(t, s.SaveThread(t.Context(), thread("thr_1")), store.CodeUnavailable, store.ErrNotApplied)
}

func TestACancelledCallStopsWaitingForABusyFile(t *testing.T) {
	s, unlock := locked(t, sqlstore.WithRetryFor(time.Hour))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	for i := range 3 { // one waits for the file lock, the others for its connection
		go func() { done <- s.SaveThread(ctx, thread(fmt.Sprintf("thr_%d", i))) }()
	}
	cancel()
	for range 3 {
		wantErr(t, <-done, store.CodeCanceled, store.ErrNotApplied)
	}
	unlock()
	if p := get[store.Page[chat.Thread]](t)(s.LoadThreads(t.Context(), store.ThreadQuery{})); len(p.Data) != 0 {
		t.Errorf("%d threads exist that were not applied", len(p.Data))
	}
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
}

func TestErrorsOfSQLiteAreClassified(t *testing.T) {
	const trigger = `CREATE TRIGGER fault BEFORE INSERT ON chatstore_items BEGIN %s; END`
	const later = `CREATE TABLE later (id INTEGER REFERENCES none (id) DEFERRABLE INITIALLY DEFERRED); CREATE TABLE none (id INTEGER PRIMARY KEY);`
	for _, c := range []struct {
		name, setup, undo string
		want              store.Code
	}{
		{"full", "PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1073741823", store.CodeUnavailable},
		{"read-only", "PRAGMA query_only = on", "PRAGMA query_only = off", store.CodeUnavailable},
		{"unique", "CREATE TABLE taken (id INTEGER UNIQUE); INSERT INTO taken VALUES (1);" +
			fmt.Sprintf(trigger, "INSERT INTO taken VALUES (1)"), "DROP TRIGGER fault", store.CodeConflict},
		{"foreign key", "CREATE TABLE none (id INTEGER PRIMARY KEY); CREATE TABLE child (id INTEGER REFERENCES none (id));" +
			fmt.Sprintf(trigger, "INSERT INTO child VALUES (1)"), "DROP TRIGGER fault", store.CodeNotFound},
		{"foreign key, at COMMIT", later + fmt.Sprintf(trigger, "INSERT INTO later VALUES (1)"), "DROP TRIGGER fault", store.CodeNotFound},
		{"anything else", fmt.Sprintf(trigger, "SELECT RAISE(ABORT, 'c4n4ry')"), "DROP TRIGGER fault", store.CodeInternal},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := sqliteFile(t)
			must(t, s.SaveThread(t.Context(), thread("thr_1")))
			big := get[chat.Item](t)(chat.NewItem("msg_1", noon, chat.SDKHiddenContext{Content: strings.Repeat("x", 1<<20)}))
			must(t, sqlstore.Exec(s, c.setup))
			reported := false
			ctx := callctx.WithVersionRecorder(t.Context(), func(string, uint64, uint64) { reported = true })
			err := s.AddThreadItem(ctx, "thr_1", big)
			wantErr(t, err, c.want, store.ErrNotApplied)
			if reported || !store.IsDefinite(err) {
				t.Errorf("versions were reported for a failed write: %v; definite: %v", reported, store.IsDefinite(err))
			}
			if err != nil && (strings.Contains(err.Error(), "c4n4ry") || strings.Contains(strings.ToLower(err.Error()), "sqlite")) {
				t.Errorf("the text shows the driver's error: %v", err)
			}
			wantErr(t, errOf(s.LoadItem(t.Context(), "thr_1", "msg_1")), store.CodeNotFound)
			must(t, sqlstore.Exec(s, c.undo))
			must(t, s.AddThreadItem(t.Context(), "thr_1", big))
		})
	}
}

func TestARowThatMakesNoSenseIsAnInternalError(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		s := open(t)
		must(t, s.SaveThread(t.Context(), thread("thr_1")))
		must(t, s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_1")))
		a := get[chat.Attachment](t)(chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "file", Name: "a", MIMEType: "text/plain"}))
		must(t, s.SaveAttachment(t.Context(), a))
		for _, table := range []string{"threads", "items", "attachments"} {
			must(t, sqlstore.Exec(s, "UPDATE "+sqlstore.Table(s, table)+" SET doc = 'c4n4ry'"))
		}
		for name, err := range map[string]error{
			"LoadThread":      errOf(s.LoadThread(t.Context(), "thr_1")),
			"LoadThreads":     errOf(s.LoadThreads(t.Context(), store.ThreadQuery{})),
			"LoadItem":        errOf(s.LoadItem(t.Context(), "thr_1", "msg_1")),
			"LoadThreadItems": errOf(s.LoadThreadItems(t.Context(), "thr_1", store.PageQuery{})),
			"LoadAttachment":  errOf(s.LoadAttachment(t.Context(), "atc_1")),
		} {
			if store.CodeOf(err) != store.CodeInternal || strings.Contains(err.Error(), "c4n4ry") {
				t.Errorf("%s: got %v", name, err)
			}
		}
	})
}

func TestPathsAreTakenAsTheyAre(t *testing.T) {
	for _, name := range []string{"chat.db", "a b.db", "a?b=c.db", "100%.db", "%41.db", "a#b.db", "a&b+c;d.db", "ä→.db", "file.db?mode=ro", "it's.db"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, name)
			s := get[*sqlstore.Store](t)(sqlstore.OpenSQLite(t.Context(), path))
			must(t, s.SaveThread(t.Context(), thread("thr_1")))
			get[chat.Thread](t)(s.LoadThread(t.Context(), "thr_1"))
			must(t, s.Close())
			entries := get[[]os.DirEntry](t)(os.ReadDir(dir))
			if len(entries) != 1 || entries[0].Name() != name {
				t.Errorf("made %v", entries)
			}
		})
	}
	t.Run("relative, and the working directory changes", func(t *testing.T) {
		t.Chdir(t.TempDir())
		s := closing(t)(sqlstore.OpenSQLite(t.Context(), "./chat.db"))
		must(t, s.SaveThread(t.Context(), thread("thr_1")))
		t.Chdir(t.TempDir())
		get[chat.Thread](t)(s.LoadThread(t.Context(), "thr_1"))
	})
	t.Run("two slashes", func(t *testing.T) {
		s := closing(t)(sqlstore.OpenSQLite(t.Context(), "/"+filepath.Join(t.TempDir(), "chat.db")))
		must(t, s.SaveThread(t.Context(), thread("thr_1")))
	})
	for _, path := range []string{"", "file:chat.db?mode=ro", "chat\x00.db"} {
		if _, err := sqlstore.OpenSQLite(t.Context(), path); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%q: got %v", path, err)
		}
	}
}

func TestEachMemoryIsItsOwn(t *testing.T) {
	a, b := sqliteMemory(t), sqliteMemory(t)
	must(t, a.SaveThread(t.Context(), thread("thr_1")))
	wantErr(t, errOf(b.LoadThread(t.Context(), "thr_1")), store.CodeNotFound)
	// A broken connection, as after an interrupted call, must not look like the end of the data.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		_, _ = a.LoadThread(ctx, "thr_1")
	}
	get[chat.Thread](t)(a.LoadThread(t.Context(), "thr_1"))
}

func TestDurabilityIsWhatTheFileIsOpenedWith(t *testing.T) {
	for want, opts := range map[int][]sqlstore.Option{
		2: nil, // FULL
		1: {sqlstore.WithDurability(sqlstore.SurvivesKill)},
	} {
		s := closing(t)(sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "chat.db"), opts...))
		for pragma, want := range map[string]string{"synchronous": fmt.Sprint(want), "journal_mode": "wal", "foreign_keys": "1"} {
			var got string
			must(t, sqlstore.Query(s, "PRAGMA "+pragma, &got))
			if got != want {
				t.Errorf("%s: got %s, want %s", pragma, got, want)
			}
		}
	}
}

// An unwritable file or folder gets an error that says so. Root may write anywhere, so the test runs as another user.
func TestWhatCannotBeWrittenIsUnavailable(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("permissions are different on Windows")
	}
	const env = "CHATSTORE_TEST_UNWRITABLE"
	dir, given := os.LookupEnv(env)
	if !given {
		dir = t.TempDir()
		unwritable(t, dir)
	}
	if !given && os.Getuid() == 0 {
		exe := filepath.Join(dir, "test")
		must(t, os.WriteFile(exe, get[[]byte](t)(os.ReadFile(get[string](t)(os.Executable()))), 0o755))
		for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
			must(t, os.Chmod(d, 0o755))
		}
		cmd := exec.Command(exe, "-test.run=^TestWhatCannotBeWrittenIsUnavailable$", "-test.v")
		cmd.Env = append(os.Environ(), env+"="+dir)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	for _, path := range []string{filepath.Join(dir, "new.db"), filepath.Join(dir, "old.db"), filepath.Join(dir, "none", "new.db"), dir} {
		_, err := sqlstore.OpenSQLite(t.Context(), path)
		if !errors.Is(err, store.ErrUnavailable) || strings.Contains(err.Error(), dir) {
			t.Errorf("%s: got %v (cause %v)", filepath.Base(path), err, causeOf(err))
		}
	}
}

// unwritable creates a database in dir that other users cannot write to.
func unwritable(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "old.db")
	must(t, get[*sqlstore.Store](t)(sqlstore.OpenSQLite(t.Context(), path)).Close())
	must(t, os.Chmod(path, 0o444))
	must(t, os.Chmod(dir, 0o555))
	t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
}
