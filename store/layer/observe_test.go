package layer_test

import (
	"context"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// tape is an Observer that records its calls.
type tape struct {
	pass   bool // Begin returns a nil state
	begins []layer.Call
	ends   []layer.Result
	closed int
}

type mark struct{}

func (o *tape) Begin(ctx context.Context, c layer.Call) (context.Context, any) {
	o.begins = append(o.begins, c)
	if o.pass {
		return ctx, nil
	}
	return context.WithValue(ctx, mark{}, c.Op), c.Op
}

func (o *tape) End(inner context.Context, c layer.Call, r layer.Result, state any) {
	if inner.Value(mark{}) != c.Op || state != c.Op {
		panic("End got another call's context or state")
	}
	o.ends = append(o.ends, r)
}

func (o *tape) Close() error { o.closed++; return nil }

func TestEveryMethodPassesThroughEachPrimitive(t *testing.T) {
	through := layer.InterceptorFunc(func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		return next(ctx)
	})
	for name, mw := range map[string]store.Middleware{
		"observe": layer.Observe("o", &tape{}), "intercept": layer.Intercept("i", through),
		"admit": layer.Admit("a", func(context.Context, layer.Call) error { return nil }),
	} {
		for m := range reflect.TypeFor[store.Store]().Methods() {
			t.Run(name+"/"+m.Name, func(t *testing.T) {
				ctx := store.WithSaveMode(t.Context(), store.UpdateOnly)
				if inner := spy.Through(ctx, t, mw, m); store.SaveModeFrom(inner) != store.UpdateOnly {
					t.Error("the caller's context did not reach the base")
				}
			})
		}
	}
}

func TestObserveTellsOfEveryOp(t *testing.T) {
	for _, op := range store.Ops() {
		t.Run(op.String(), func(t *testing.T) {
			o := &tape{}
			s := store.Wrap(&spy.Base{}, layer.Observe("o", o))
			testenv.Must(t, spy.CallOp(t.Context(), s, op))
			if len(o.begins) != 1 || o.begins[0].Op != op || len(o.ends) != 1 || o.ends[0].Code != store.CodeOK {
				t.Errorf("got %+v and %+v", o.begins, o.ends)
			}
			c, r := o.begins[0], o.ends[0]
			switch op {
			case store.OpLoadThreads:
				if !c.HasCursor || c.Limit != 7 || c.Order != store.NewestFirst || r.Items != 2 || r.HasMore {
					t.Errorf("got %+v and %+v", c, r)
				}
			case store.OpLoadThreadItems:
				if c.HasCursor || c.Limit != 3 || c.Order != store.OldestFirst || r.Items != 3 || !r.HasMore || c.ThreadID != "thr_1" {
					t.Errorf("got %+v and %+v", c, r)
				}
			case store.OpLoadItem, store.OpSaveItem, store.OpAddThreadItem, store.OpDeleteThreadItem:
				saved := op == store.OpSaveItem || op == store.OpAddThreadItem
				if c.ThreadID != "thr_1" || c.ItemID != "msg_1" || (c.ItemType == chat.TypeUserMessage) != saved {
					t.Errorf("got %+v", c)
				}
			case store.OpLoadAttachment, store.OpSaveAttachment, store.OpDeleteAttachment:
				if c.AttachmentID != "atc_1" {
					t.Errorf("got %+v", c)
				}
			}
		})
	}
}

func TestObserveReportsErrorsPanicsAndGoexit(t *testing.T) {
	for _, end := range spy.Outcomes() {
		for _, op := range store.Ops() {
			t.Run(end.Name+"/"+op.String(), func(t *testing.T) {
				o := &tape{}
				end.Through(t, layer.Observe("o", o), op)
				if len(o.ends) != 1 || o.ends[0].Code != end.Code || store.CodeOf(o.ends[0].Err) != end.Code && end.Code != store.CodePanic {
					t.Errorf("got %+v", o.ends)
				}
			})
		}
	}
}

func TestObserveMeasuresTheInnerCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &tape{}
		s := store.Wrap(&spy.Base{Do: func(context.Context, store.Op) error { time.Sleep(3 * time.Second); return nil }}, layer.Observe("o", o))
		_, _ = s.LoadThread(t.Context(), "thr_1")
		if o.ends[0].Duration != 3*time.Second {
			t.Errorf("got %v", o.ends[0].Duration)
		}
	})
}

func TestANilStateHasNoEnd(t *testing.T) {
	o := &tape{pass: true}
	s := store.Wrap(&spy.Base{}, layer.Observe("o", o))
	for _, op := range store.Ops() {
		_ = spy.CallOp(t.Context(), s, op)
	}
	if len(o.begins) != 12 || len(o.ends) != 0 {
		t.Errorf("%d begins, %d ends", len(o.begins), len(o.ends))
	}
}

// silent is an Observer that does nothing.
type silent struct{}

func (*silent) Begin(ctx context.Context, _ layer.Call) (context.Context, any) {
	return ctx, (*silent)(nil)
}
func (*silent) End(context.Context, layer.Call, layer.Result, any) {}

func TestObserveAllocatesNothing(t *testing.T) {
	base := &spy.Base{Forget: true}
	s := store.Wrap(base, layer.Observe("o", &silent{}))
	for _, op := range store.Ops() {
		// Subtract the allocations of CallOp and the base.
		without := testing.AllocsPerRun(100, func() { _ = spy.CallOp(t.Context(), base, op) })
		if n := testing.AllocsPerRun(100, func() { _ = spy.CallOp(t.Context(), s, op) }); n != without {
			t.Errorf("%s: %v allocations, %v without the layer", op, n, without)
		}
	}
}

func TestClosingAnObservedLayerClosesItsObserver(t *testing.T) {
	o := &tape{}
	s := store.Wrap(&spy.Base{}, layer.Observe("o", o))
	if err := store.Close(s); err != nil || o.closed != 1 {
		t.Errorf("closed %d times, %v", o.closed, err)
	}
}
