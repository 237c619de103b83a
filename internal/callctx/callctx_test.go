package callctx_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
)

// request is a context that does not say how it is printed.
type request struct {
	context.Context
	token string
}

// A context that is printed, into a log for instance, must not name people.
func TestAPrintedContextNamesNobody(t *testing.T) {
	ctx := store.WithPrincipal(request{context.Background(), "acme"}, store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "ada"}})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if text := fmt.Sprintf("%v %+v", ctx, ctx); strings.Contains(text, "acme") || strings.Contains(text, "ada") {
		t.Error(text)
	}
}

func TestADetachedContextHasOnlyWhatIsEverybodys(t *testing.T) {
	type key struct{}
	ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "span"), time.Hour)
	ctx = store.WithPrincipal(ctx, store.Principal{Owner: chat.Owner{Subject: "s"}})
	ctx = store.WithFresh(store.WithNoStore(store.WithSaveMode(ctx, store.UpdateOnly)))
	ctx = callctx.WithVersionRecorder(ctx, func(string, uint64, uint64) { t.Error("one caller's recorder was told") })
	ctx, _ = layer.WithNotes(ctx, store.OpLoadThread, nil)
	d := callctx.Detached(ctx)
	cancel()
	if d.Err() != nil || d.Done() != nil {
		t.Error("one caller's cancellation reaches it")
	}
	if _, ok := d.Deadline(); ok {
		t.Error("one caller's deadline reaches it")
	}
	driver.ReportVersion(d, "thr_1", 1, 1)
	h := layer.HintsFor(d, store.OpLoadThread)
	if h.Fresh() || h.NoStore() || h.Notes != nil || store.SaveModeFrom(d) != store.Upsert {
		t.Errorf("one caller's hints reach it: %+v", h)
	}
	if p, ok := store.PrincipalFrom(d); !ok || p.Owner.Subject != "s" || d.Value(key{}) != "span" {
		t.Error("values were lost")
	}
}

func TestAStampTravelsWithTheContext(t *testing.T) {
	stamp := bus.Stamp{Origin: "a", Write: 7}
	ctx := bus.WithStamp(t.Context(), stamp)
	if got := bus.StampFrom(ctx); got != stamp {
		t.Errorf("got %v", got)
	}
	if got := bus.StampFrom(callctx.Detached(ctx)); got != (bus.Stamp{}) {
		t.Errorf("a detached call bears %v", got)
	}
}

// What a context is given is one allocation, however much it had before: layers do it in every call.
func TestAContextsDataIsOneAllocation(t *testing.T) {
	type foreign struct{}
	other := context.WithValue(store.WithFresh(t.Context()), foreign{}, 1)
	for name, c := range map[string]struct {
		f    func()
		want float64
	}{
		"the first":         {func() { kept = store.WithNoStore(t.Context()) }, 1},
		"one upon one":      {func() { kept = store.WithNoStore(store.WithFresh(t.Context())) }, 2},
		"upon another's":    {func() { kept = store.WithNoStore(other) }, 1},
		"notes":             {func() { kept, _ = layer.WithNotes(other, store.OpLoadThread, nil) }, 1},
		"nothing to change": {func() { kept = store.WithSaveMode(other, store.Upsert) }, 0},
	} {
		if n := testing.AllocsPerRun(100, c.f); n != c.want {
			t.Errorf("%s: %v allocations, want %v", name, n, c.want)
		}
	}
}

var kept context.Context // so that nothing is optimized away

// Data that is given upon data takes its place; a context of another's in between changes neither.
func TestAContextsDataIsOneStep(t *testing.T) {
	type foreign struct{}
	ctx := store.WithFresh(t.Context())
	ctx = context.WithValue(ctx, foreign{}, "theirs")
	ctx = store.WithNoStore(ctx)
	ctx = store.WithSaveMode(ctx, store.InsertOnly)
	ctx, notes := layer.WithNotes(ctx, store.OpLoadThread, nil)
	h := layer.HintsFor(ctx, store.OpLoadThread)
	if !h.Fresh() || !h.NoStore() || h.Notes != notes || store.SaveModeFrom(ctx) != store.InsertOnly || ctx.Value(foreign{}) != "theirs" {
		t.Errorf("something was lost: %+v", h)
	}
	if steps := strings.Count(fmt.Sprint(ctx), "WithValue(store)"); steps != 2 {
		t.Errorf("a lookup passes %d contexts with data, want one on each side of the other's: %v", steps, ctx)
	}
}
