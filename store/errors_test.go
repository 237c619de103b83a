package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

func TestCodeOf(t *testing.T) {
	for _, c := range []struct {
		err      error
		want     store.Code
		definite bool
	}{
		{nil, store.CodeOK, true},
		{store.ErrNotFound, store.CodeNotFound, true},
		{store.ErrConflict, store.CodeConflict, true},
		{store.ErrInvalid, store.CodeInvalid, true},
		{store.ErrUnauthenticated, store.CodeUnauthenticated, true},
		{store.ErrDenied, store.CodeDenied, true},
		{store.ErrLimited, store.CodeLimited, true},
		{&store.Error{Code: store.CodeLimited, RetryAfter: time.Second}, store.CodeLimited, true},
		{context.Canceled, store.CodeCanceled, false},
		{context.DeadlineExceeded, store.CodeTimeout, false},
		{store.ErrUnavailable, store.CodeUnavailable, false},
		{store.ErrNotApplied, store.CodeUnavailable, true},
		{errors.New("driver"), store.CodeInternal, false},
		{errors.Join(context.Canceled, store.ErrNotApplied), store.CodeCanceled, true},
		{&store.Error{Code: store.CodePanic}, store.CodePanic, false},
		{&store.Error{Code: store.CodeNotFound, Cause: context.Canceled}, store.CodeNotFound, true},
		{&store.Error{Code: store.CodeTimeout, Cause: store.ErrNotApplied}, store.CodeTimeout, true},
		{&store.Error{Cause: store.ErrDenied}, store.CodeDenied, true},
		{&store.Error{Code: 99}, store.CodeInternal, false},
		{(*store.Error)(nil), store.CodeInternal, false},
		// Joined errors of several attempts: one unknown outcome makes all unknown.
		{errors.Join(store.ErrUnavailable, store.ErrConflict), store.CodeUnavailable, false},
		{errors.Join(store.ErrConflict, store.ErrUnavailable), store.CodeUnavailable, false},
		{errors.Join(store.ErrLimited, store.ErrUnavailable), store.CodeUnavailable, false},
		{errors.Join(&store.Error{Code: store.CodeConflict}, &store.Error{Code: store.CodeUnavailable}), store.CodeConflict, false},
		{errors.Join(store.ErrConflict, wrapped(context.DeadlineExceeded)), store.CodeConflict, false},
		{&store.Error{Cause: errors.Join(store.ErrNotFound, context.Canceled)}, store.CodeNotFound, false},
		{errors.Join(store.ErrConflict, errors.New("duplicate key")), store.CodeConflict, true},
		// A *chat.Error is invalid whatever it wraps. It counts after a *store.Error and before sentinels.
		{&chat.Error{Kind: store.RowItem, ID: "msg_1", Field: "created_at: zero"}, store.CodeInvalid, true},
		{&chat.Error{Cause: store.ErrUnavailable}, store.CodeInvalid, true},
		{&chat.Error{Cause: context.Canceled}, store.CodeInvalid, true},
		{&chat.Error{Cause: &store.Error{Code: store.CodeUnavailable}}, store.CodeInvalid, true},
		{&chat.Error{Cause: errors.Join(store.ErrConflict, context.DeadlineExceeded)}, store.CodeInvalid, true},
		{errors.Join(&chat.Error{}, &store.Error{Code: store.CodeConflict}), store.CodeConflict, true},
		{&store.Error{Code: store.CodeUnavailable, Cause: &chat.Error{}}, store.CodeUnavailable, false},
		{&store.Error{Cause: &chat.Error{Cause: store.ErrUnavailable}}, store.CodeInvalid, true},
		{errors.Join(store.ErrNotFound, &chat.Error{}), store.CodeInvalid, true},
		{errors.Join(store.ErrUnavailable, &chat.Error{}), store.CodeInvalid, false},
		{(*chat.Error)(nil), store.CodeInternal, false},
	} {
		for _, err := range []error{c.err, wrapped(c.err)} {
			if got := store.CodeOf(err); got != c.want {
				t.Errorf("CodeOf(%v) is %v, want %v", err, got, c.want)
			}
			if got := store.IsDefinite(err); got != c.definite {
				t.Errorf("IsDefinite(%v) is %v", err, got)
			}
		}
	}
}

func TestErrInvalidIsThatOfValues(t *testing.T) {
	if store.ErrInvalid != chat.ErrInvalid || !errors.Is(&chat.Error{}, store.ErrInvalid) || !errors.Is(&store.Error{Code: store.CodeInvalid}, chat.ErrInvalid) {
		t.Error("store.ErrInvalid and chat.ErrInvalid differ")
	}
}

func wrapped(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("somewhere: %w", err)
}

func TestAnErrorSaysWhatTheCallerKnowsAndNoMore(t *testing.T) {
	e := &store.Error{Op: store.OpSaveItem, Kind: store.RowItem, ID: "msg_1", Code: store.CodeInvalid,
		Field: "created_at: zero", Cause: errors.New("driver secret")}
	if got, want := e.Error(), `save_item: invalid: item "msg_1": created_at: zero`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if !errors.Is(e, store.ErrInvalid) || !errors.Is(e, e.Cause) || e.ErrorType() != "invalid" {
		t.Error("the sentinel, the cause or the type is wrong")
	}
	limited := &store.Error{Op: store.OpLoadThread, Kind: store.RowThread, ID: "thr_1", Code: store.CodeLimited, RetryAfter: time.Second}
	if got, want := limited.Error(), `load_thread: limited: thread "thr_1"`; got != want || !errors.Is(limited, store.ErrLimited) {
		t.Errorf("got %s, want %s, and ErrLimited", got, want)
	}
	if got := (&store.Error{Cause: store.ErrDenied}).ErrorType(); got != "denied" {
		t.Errorf("ErrorType of an error without a code is %q", got)
	}
	if got := (*store.Error)(nil).ErrorType(); got != "internal" {
		t.Errorf("ErrorType of a nil error is %q", got)
	}
	hostile := &store.Error{Op: store.OpLoadItem, Kind: store.RowItem, ID: "a\n\x1b[31m" + strings.Repeat("x", 9000)}
	if got := hostile.Error(); strings.ContainsAny(got, "\n\x1b") || len(got) > 1500 {
		t.Errorf("a hostile id is printed raw or in full: %d bytes", len(got))
	}
}

// A driver's error may have exported fields with content. No encoder may reach it.
func TestACauseIsNotEncoded(t *testing.T) {
	type driverError struct {
		error
		Detail string
	}
	e := &store.Error{Op: store.OpSaveThread, Kind: store.RowThread, ID: "thr_1", Code: store.CodeConflict,
		Cause: driverError{errors.New("x"), "Key (title)=(CANARY)"}}
	text, err := json.Marshal(map[string]any{"pointer": e, "value": *e})
	if err != nil || strings.Contains(string(text), "CANARY") {
		t.Errorf("json: %s, %v", text, err)
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("failed", "request", struct{ Err error }{e})
	if strings.Contains(log.String(), "CANARY") {
		t.Errorf("slog: %s", log.String())
	}
}

func TestEveryCodeHasAWordAndEverySentinelItsCode(t *testing.T) {
	seen := map[string]bool{}
	for c := range store.Code(store.NumCodes) {
		if w := c.String(); w == "" || seen[w] {
			t.Errorf("code %d is %q", c, w)
		} else {
			seen[w] = true
		}
		if got := store.CodeOf(&store.Error{Code: c}); c != store.CodeOK && got != c {
			t.Errorf("CodeOf of an Error with code %v is %v", c, got)
		}
	}
	ops := map[string]bool{}
	for _, op := range store.Ops() {
		ops[op.String()] = true
	}
	if len(ops) != 12 || ops["unknown"] {
		t.Errorf("ops: %v", ops)
	}
}
