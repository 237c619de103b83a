package report_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/internal/report"
)

func TestErrorSaysTheCauses(t *testing.T) {
	locked := errors.New("database is locked\n")
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, "no error"},
		{errors.New("alone"), `"alone"`},
		{fmt.Errorf("outer: %w", errors.New("inner")), `"outer: inner"`},
		{&store.Error{Op: store.OpLoadThread, Code: store.CodeUnavailable, Cause: locked},
			`"load_thread: unavailable", caused by "database is locked\n"`},
		{&store.Error{Op: store.OpLoadThread, Code: store.CodeUnavailable, Cause: fmt.Errorf("begin: %w", errors.Join(locked, errors.New("busy")))},
			`"load_thread: unavailable", caused by "begin: database is locked\n\nbusy"`},
	} {
		if got := report.Error(c.err); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestPrintable(t *testing.T) {
	if got, want := report.Printable("a\tb\nc\x1b[31m\u0085\u202e\xff é\ufffd"), "a\tb\nc\\x1b[31m\\u0085\\u202e\\xff é\ufffd"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAbridged(t *testing.T) {
	if got := report.Abridged("abcdef", 3) + report.Abridged("abc", 3); got != "abc… (6 bytes)abc" {
		t.Error(got)
	}
}
