package sqlstore_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/chatstore/chatstore/sqlstore"
)

// Closing a file releases the process's POSIX locks on it. Then another program with an older SQLite believes that it is
// alone, and deletes the WAL when it is done. Later writes are invisible to all others.
//
// Which locks SQLite uses is decided by a process's first lock, so each case has a process of its own.
func TestLocksOutliveThatSomebodyInTheProcessReadsTheFile(t *testing.T) {
	const env = "CHATSTORE_TEST_LOCKS"
	path := filepath.Join(t.TempDir(), "chat.db")
	var s *sqlstore.Store
	switch os.Getenv(env) {
	case "":
		for kind, more := range map[string]string{"OpenSQLite": "", "NewSQLite": "MODERNC_SQLITE_OFD_LOCK=1"} {
			cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
			cmd.Env = append(os.Environ(), env+"="+kind, more)
			if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS")) {
				t.Errorf("%s: %v\n%s", kind, err, out)
			}
		}
		return
	case "OpenSQLite":
		s = closing(t)(sqlstore.OpenSQLite(t.Context(), path))
	case "NewSQLite":
		pool := closed[*sqlitex.Pool](t)(sqlitex.NewPool(path, sqlitex.PoolOptions{PoolSize: 1, PrepareConn: func(c *sqlite.Conn) error {
			return sqlstore.Script(c, "PRAGMA foreign_keys = on")
		}}))
		s = closing(t)(sqlstore.NewSQLite(t.Context(), pool))
	}
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	get[[]byte](t)(os.ReadFile(path))

	const getLock, shared, sharedBytes = 36, 0x40000000 + 2, 510 // F_OFD_GETLK, and where SQLite's file format has the lock
	f := closed[*os.File](t)(os.OpenFile(path, os.O_RDWR, 0))
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart, Start: shared, Len: sharedBytes}
	must(t, syscall.FcntlFlock(f.Fd(), getLock, &lock))
	if lock.Type != syscall.F_RDLCK {
		t.Errorf("the file is no longer locked (type %d)", lock.Type)
	}
}
