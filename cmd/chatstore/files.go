package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// draft is a file that gets its name when it is complete.
type draft struct {
	*os.File
	path string
}

func newDraft(path string) (*draft, error) {
	there, err := os.Stat(path)
	switch {
	case err == nil && !there.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file: use - for standard output", path)
	case err == nil:
		path, err = filepath.EvalSymlinks(path) // the link stays
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.part")
	return &draft{f, path}, err
}

func (d *draft) complete() error {
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return err
	}
	return os.Rename(d.Name(), d.path)
}

// drop removes the file if it is not complete.
func (d *draft) drop() {
	_ = d.Close()
	_ = os.Remove(d.Name())
}

// synced makes each write reach the disk before it returns.
type synced struct{ *os.File }

func (s synced) Write(b []byte) (int, error) {
	n, err := s.File.Write(b)
	return n, errors.Join(err, s.Sync())
}

// appending opens a file to which lines are added.
func appending(path string) (synced, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return synced{f}, err
}

// heldIDs returns the lines of a file, and fails if there are none: it would hold nothing. "" is no file.
func heldIDs(path string) (map[string]bool, error) {
	found := map[string]bool{}
	if path == "" {
		return found, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for id := range strings.FieldsFuncSeq(strings.TrimPrefix(string(text), "\ufeff"), func(r rune) bool { return r == '\n' || r == '\r' }) {
		if id = strings.TrimSpace(id); id != "" {
			found[id] = true
		}
	}
	if len(found) == 0 {
		return nil, errors.New("the file of --hold has no ids")
	}
	return found, nil
}
