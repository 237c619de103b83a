package pgtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/chatstore/chatstore/internal/testenv"
)

// Disk is a small disk in memory.
type Disk struct{ filler string }

// StartOnDisk is like [Start], with all files of the server on a disk of its own. A test that may not mount one is skipped.
func StartOnDisk(t testing.TB, megabytes int, args ...string) (*Server, *Disk) {
	t.Helper()
	dir := testenv.Value(os.MkdirTemp("", "disk"))(t)
	t.Cleanup(func() { testenv.Must(t, os.Remove(dir)) })
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=755", megabytes))
	if errors.Is(err, syscall.EPERM) {
		t.Skip("only root can mount a disk")
	}
	testenv.Must(t, err)
	t.Cleanup(func() { testenv.Must(t, syscall.Unmount(dir, 0)) })
	s, err := start(dir, args...)
	available(t, err)
	t.Cleanup(func() { testenv.Must(t, s.remove()) })
	return s, &Disk{filepath.Join(dir, "filler")}
}

// Fill fills the disk.
func (d *Disk) Fill(t testing.TB) {
	t.Helper()
	f := testenv.Value(os.Create(d.filler))(t)
	var err error
	for block := make([]byte, 1<<16); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
	testenv.Must(t, f.Close())
}

// Free makes room on the disk again.
func (d *Disk) Free(t testing.TB) {
	t.Helper()
	testenv.Must(t, os.Remove(d.filler))
}
