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

// request is a context without a String method.
type request struct {
	context.Context
	token string
}

// A printed context, in a log for example, must not contain ids of persons.
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
	ctx = callctx.WithVersionRecorder(ctx, func(string, uint64, uint64) { t.Error("the detached call reports to the caller's recorder") })
	ctx, _ = layer.WithNotes(ctx, store.OpLoadThread, nil)
	d := callctx.With(context.WithoutCancel(ctx), (*callctx.Data).Detach)
	cancel()
	if d.Err() != nil || d.Done() != nil {
		t.Error("the caller's cancellation reaches the detached call")
	}
	if _, ok := d.Deadline(); ok {
		t.Error("the caller's deadline reaches the detached call")
	}
	driver.ReportVersion(d, "thr_1", 1, 1)
	h := layer.HintsFor(d, store.OpLoadThread)
	if h.Fresh() || h.NoStore() || h.Notes != nil || store.SaveModeFrom(d) != store.Upsert {
		t.Errorf("the caller's hints reach the detached call: %+v", h)
	}
	if p, ok := store.PrincipalFrom(d); !ok || p.Owner.Subject != "s" || d.Value(key{}) != "span" {
		t.Error("the detached call lost the principal or the span")
	}
}

func TestAStampTravelsWithTheContext(t *testing.T) {
	stamp := bus.Stamp{Origin: "a", Write: 7}
	ctx := bus.WithStamp(t.Context(), stamp)
	if got := bus.StampFrom(ctx); got != stamp {
		t.Errorf("got %v", got)
	}
	if got := bus.StampFrom(callctx.With(context.WithoutCancel(ctx), (*callctx.Data).Detach)); got != (bus.Stamp{}) {
		t.Errorf("a detached call has the stamp %v", got)
	}
}

// Layers add data to the context in every call. Each time must take one allocation, whatever the context had before.
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

var kept context.Context // keeps the compiler from removing the calls

// New data replaces the data of the same context. A foreign context in between keeps its own data.
func TestAContextsDataIsOneStep(t *testing.T) {
	type foreign struct{}
	ctx := store.WithFresh(t.Context())
	ctx = context.WithValue(ctx, foreign{}, "theirs")
	ctx = store.WithNoStore(ctx)
	ctx = store.WithSaveMode(ctx, store.InsertOnly)
	ctx, notes := layer.WithNotes(ctx, store.OpLoadThread, nil)
	h := layer.HintsFor(ctx, store.OpLoadThread)
	if !h.Fresh() || !h.NoStore() || h.Notes != notes || store.SaveModeFrom(ctx) != store.InsertOnly || ctx.Value(foreign{}) != "theirs" {
		t.Errorf("data was lost: %+v", h)
	}
	if steps := strings.Count(fmt.Sprint(ctx), "WithValue(store)"); steps != 2 {
		t.Errorf("the chain has %d contexts with data, want one on each side of the foreign one: %v", steps, ctx)
	}
}
