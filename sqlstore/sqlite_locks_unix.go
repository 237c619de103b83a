//go:build unix

package sqlstore

import (
	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// ofdLocks asks SQLite to lock files with locks of open files (OFD) in the whole program. A POSIX lock is lost when any code in
// the process opens and closes the file, for example to copy it. It has no effect once a file was locked, or on other systems
// than Linux.
func ofdLocks() { ofdLocking(1) }

// ofdLocksOn reports whether SQLite uses such locks.
func ofdLocksOn() bool { return ofdLocking(-1) == 1 }

func ofdLocking(how int32) int32 {
	tls := libc.NewTLS()
	defer tls.Close()
	return sqlite3.Xmodernc_ofd_locking(tls, how)
}
