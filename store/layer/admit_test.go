package layer_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest"
)

func TestACallThatIsNotAdmittedReachesNobody(t *testing.T) {
	base := &spy.Base{}
	refusal := &store.Error{Code: store.CodeLimited, RetryAfter: time.Second, Field: "reads"}
	var asked []store.Op
	s := store.Wrap(base, layer.Admit("limit", func(_ context.Context, c layer.Call) error {
		asked = append(asked, c.Op)
		return refusal
	}))
	for _, op := range store.Ops() {
		err := spy.CallOp(t.Context(), s, op)
		e, _ := errors.AsType[*store.Error](err)
		kind := store.RowThread
		switch op {
		case store.OpAddThreadItem, store.OpSaveItem, store.OpLoadItem, store.OpDeleteThreadItem:
			kind = store.RowItem
		case store.OpSaveAttachment, store.OpLoadAttachment, store.OpDeleteAttachment:
			kind = store.RowAttachment
		}
		if e == nil || e.Op != op || e.Kind != kind || e.Code != store.CodeLimited || e.RetryAfter != time.Second || e.Field != "reads" {
			t.Errorf("%s: got %#v", op, e)
		}
		if op.IsWrite() != errors.Is(err, store.ErrNotApplied) || !store.IsDefinite(err) {
			t.Errorf("%s: %v: is it not applied?", op, err)
		}
	}
	if calls := base.Calls(); len(calls) != 0 {
		t.Errorf("the base was called: %v", calls)
	}
	if !slices.Equal(asked, store.Ops()) {
		t.Errorf("asked about %v", asked)
	}
}

// Another error must not look like an outcome that is unknown: nothing was written.
func TestAnyErrorOfAdmitIsDefinite(t *testing.T) {
	for _, refusal := range []error{errors.New("not today"), store.ErrUnavailable, context.Canceled} {
		s := store.Wrap(memstore.New(), layer.Admit("rule", func(context.Context, layer.Call) error { return refusal }))
		err := s.DeleteThread(t.Context(), "thr_1")
		if !store.IsDefinite(err) || !errors.Is(err, refusal) || store.CodeOf(err) != store.CodeOf(refusal) {
			t.Errorf("%v: got %v", refusal, err)
		}
	}
}

func TestAdmitAllocatesNothing(t *testing.T) {
	s := store.Wrap(&spy.Base{Forget: true}, layer.Admit("all", func(context.Context, layer.Call) error { return nil }))
	bare := &spy.Base{Forget: true}
	ctx := t.Context()
	count := func(s store.Store) float64 {
		return testing.AllocsPerRun(100, func() { _, _ = s.LoadItem(ctx, "thr_1", "msg_1") })
	}
	if added := count(s) - count(bare); added != 0 {
		t.Errorf("%v allocations", added)
	}
}

func TestAdmitKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store {
		return store.Wrap(memstore.New(), layer.Admit("all", func(context.Context, layer.Call) error { return nil }))
	}, storetest.WithVersionsRequired())
}
