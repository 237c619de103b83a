package cache_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
)

// quiet keeps the warning of caches over bases without versions out of the output.
var quiet = cache.WithLogger(slog.New(slog.DiscardHandler))

// logged returns an option that captures the log, and a function that returns its lines.
func logged() (cache.Option, func() []string) {
	var buf bytes.Buffer // the handler locks it
	return cache.WithLogger(slog.New(slog.NewTextHandler(&buf, nil))), func() []string {
		return slices.Collect(strings.Lines(buf.String()))
	}
}

func TestABaseWithoutVersionsIsLoggedOnce(t *testing.T) {
	log, lines := logged()
	s, _, base := openOver(t, unversioned(), log)
	const threads = 8
	id := func(n int) string { return fmt.Sprintf("thr_%d", n) }
	for n := range threads {
		must(t, base.SaveThread(t.Context(), thread(id(n), "first", chat.Owner{})))
	}
	for range 3 {
		for n := range threads {
			get[chat.Thread](t)(s.LoadThread(t.Context(), id(n)))
		}
		var writes sync.WaitGroup
		start := make(chan struct{})
		for n := range threads {
			writes.Go(func() {
				<-start
				must(t, s.SaveThread(t.Context(), thread(id(n), "second", chat.Owner{})))
			})
		}
		close(start)
		writes.Wait()
	}
	got := lines()
	if len(got) != 1 {
		t.Fatalf("got %d lines, want 1: %q", len(got), got)
	}
	for _, want := range []string{"level=WARN", "every write drops its thread", "driver.ReportVersion", "cache.WithSoleWriter"} {
		if !strings.Contains(got[0], want) {
			t.Errorf("got %q, which does not contain %q", got[0], want)
		}
	}
}

// WithSoleWriter contradicts WithBus, so New would panic.
func TestTheWarningOfACacheWithABusDoesNotAdviseWithSoleWriter(t *testing.T) {
	log, lines := logged()
	s, _, base := openOver(t, unversioned(), log, cache.WithBus(bus.Local()))
	fill(t, base, 1)
	warm(t, s)
	must(t, s.SaveThread(t.Context(), second))
	if got := lines(); len(got) != 1 || strings.Contains(got[0], "WithSoleWriter") {
		t.Errorf("got %q, want one line without WithSoleWriter", got)
	}
}

func TestNothingIsLoggedWhereVersionsAreNotTheReason(t *testing.T) {
	type write func(t *testing.T, s, base store.Store, p *probe)
	save := func(t *testing.T, s, _ store.Store, _ *probe) { must(t, s.SaveThread(t.Context(), second)) }
	for _, c := range []struct {
		name  string
		base  store.Store
		opts  []cache.Option
		write write
	}{
		{"sole writer", unversioned(), []cache.Option{cache.WithSoleWriter()}, save},
		{"sole writer, and only reads report versions", onlyReadsReport(), []cache.Option{cache.WithSoleWriter()}, save},
		{"the base reports versions", memstore.New(), nil, save},
		{"the write met another version", memstore.New(), nil, func(t *testing.T, s, base store.Store, p *probe) {
			must(t, base.SaveThread(t.Context(), second))
			must(t, s.SaveThread(t.Context(), second))
		}},
		{"attachments have no versions", memstore.New(), nil, func(t *testing.T, s, base store.Store, p *probe) {
			must(t, s.SaveAttachment(t.Context(), attachment(t, "atc_1", "second")))
		}},
		{"a layer below rewrites values", renaming{unversioned()}, nil, save},
		{"the write fails", unversioned(), nil, func(t *testing.T, s, base store.Store, p *probe) {
			if err := s.SaveThread(store.WithSaveMode(t.Context(), store.InsertOnly), second); store.CodeOf(err) != store.CodeConflict {
				t.Errorf("got %v, want a conflict", err)
			}
		}},
		{"the write's outcome is unknown", unversioned(), nil, func(t *testing.T, s, base store.Store, p *probe) {
			p.set(faulty.Fail(nil))
			if err := s.SaveThread(t.Context(), second); err == nil || store.IsDefinite(err) {
				t.Errorf("got %v, want an unknown outcome", err)
			}
		}},
		{"the write drops its thread over any base", unversioned(), nil, func(t *testing.T, s, base store.Store, p *probe) {
			must(t, s.DeleteThread(t.Context(), "thr_1"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			log, lines := logged()
			s, p, base := openOver(t, c.base, append(c.opts, log)...)
			fill(t, base, 1)
			must(t, base.SaveAttachment(t.Context(), attachment(t, "atc_1", "first")))
			warm(t, s)
			get[chat.Attachment](t)(s.LoadAttachment(t.Context(), "atc_1"))
			c.write(t, s, base, p)
			if got := lines(); len(got) != 0 {
				t.Errorf("got %q, want no line", got)
			}
		})
	}
}

// onlyReadsReport is a memstore whose writes report no versions.
func onlyReadsReport() store.Store {
	return store.Wrap(memstore.New(), layer.Intercept("only reads report", layer.InterceptorFunc(
		func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			if c.Op.IsWrite() {
				ctx = callctx.WithoutVersionRecorder(ctx)
			}
			return next(ctx)
		})))
}

// A write of a thread that is not in the cache has no entry to patch, so the missing version costs nothing.
func TestNothingIsLoggedBeforeAWriteMeetsAnEntry(t *testing.T) {
	log, lines := logged()
	s, _, base := openOver(t, unversioned(), log)
	fill(t, base, 1)
	must(t, s.SaveThread(t.Context(), second))
	if got := lines(); len(got) != 0 {
		t.Errorf("got %q, want no line: the thread was not in the cache", got)
	}
	warm(t, s)
	must(t, s.SaveThread(t.Context(), second))
	if got := lines(); len(got) != 1 {
		t.Errorf("got %q, want one line", got)
	}
}
