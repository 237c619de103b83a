package sqlstore_test

import (
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/chatstore/chatstore/sqlstore"
)

// Closing a file releases the process's POSIX locks on it. Then another program with an older SQLite believes that it is
// alone, and deletes the WAL when it is done. Later writes are invisible to all others.
func TestLocksOutliveThatSomebodyInTheProcessReadsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "chat.db")
	s := closing(t)(sqlstore.OpenSQLite(t.Context(), path))
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
