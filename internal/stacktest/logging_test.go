package stacktest_test

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/logging"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

// logged keeps the attributes of the lines above Debug.
type logged struct {
	slog.Handler // discards
	mu           sync.Mutex
	lines        []map[string]string
}

func (l *logged) Enabled(context.Context, slog.Level) bool { return true }

func (l *logged) Handle(_ context.Context, r slog.Record) error {
	if r.Level <= slog.LevelDebug {
		return nil
	}
	attrs := map[string]string{"level": r.Level.String()}
	r.Attrs(func(a slog.Attr) bool { attrs[a.Key] = a.Value.String(); return true })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, attrs)
	return nil
}

func TestLoggingInTheRecommendedStackKeepsTheContract(t *testing.T) {
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	storetest.Run(t, func(t *testing.T) store.Store {
		s := logging.New(logger)(inRecommended(t, logging.New(logger)(memstore.New()), cache.New()))
		t.Cleanup(func() { must(t, store.Close(s)) })
		return s
	})
}

// TestEveryFaultIsLogged tries each fault of the matrix with each op. Every call has one line with its code and outcome.
func TestEveryFaultIsLogged(t *testing.T) {
	for n, op := range operations {
		for i, c := range cases("cache", op) {
			if (i+n)%tries(1, 5) != 0 || c.warm || c.company != alone {
				continue
			}
			synctest.Test(t, func(t *testing.T) {
				r, l := newRig(t, c.stack), &logged{}
				r.s = logging.New(slog.New(l))(r.s)
				e, _ := c.strike(store.WithPrincipal(t.Context(), ada), t, r)
				must(t, store.Close(r.s))
				if len(l.lines) != 1 {
					t.Fatalf("%s, %s: %d lines, want 1", op.op, c, len(l.lines))
				}
				outcome := ""
				if op.op.IsWrite() && e.code != store.CodeOK {
					outcome = "not_applied"
					if e.how != "returned" || !store.IsDefinite(e.err) {
						outcome = "unknown"
					}
				}
				if got := l.lines[0]; got["operation"] != op.op.String() || got["code"] != e.code.String() || got["outcome"] != outcome {
					t.Errorf("%s, %s: the line %v, want the outcome %q of %v", op.op, c, got, outcome, e)
				}
			})
		}
	}
}

// A layer beneath the cache sees the loads that the cache makes itself. Its lines have no content either.
func TestNoContentIsLoggedBeneathTheCache(t *testing.T) {
	l := &logged{}
	base := memstore.New()
	s := store.Wrap(base, cache.New(), logging.New(slog.New(l)))
	t.Cleanup(func() { must(t, store.Close(s)) })
	spy.Conversation(t.Context(), t, s, base)
	if len(l.lines) == 0 {
		t.Fatal("no lines")
	}
	for _, attrs := range l.lines {
		for key, value := range attrs {
			if strings.Contains(value, spy.Canary) {
				t.Errorf("%s is %q", key, value)
			}
		}
	}
}
