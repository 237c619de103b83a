// Package spy has helpers for this repository's tests of layers. [Base] records its calls, [CallOp] makes a call of each op, and
// [Unversioned] hides thread versions. [Conversation] makes calls with content that must not leak.
package spy

import (
	"context"
	"errors"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/store"
)

// Base is a Store that answers every call with a fixed value and records the call. It is safe for concurrent use. Its fields must
// not change during a call.
type Base struct {
	Forget bool                                         // record no calls
	Do     func(ctx context.Context, op store.Op) error // if set, runs in each op and returns its error

	mu    sync.Mutex
	calls []Call
}

// Call is a call that reached a [Base].
type Call struct {
	Method string
	Ctx    context.Context
	Args   []any // after the context
}

var _ store.Store = (*Base)(nil)

// Calls returns the recorded calls.
func (b *Base) Calls() []Call {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.calls)
}

func (b *Base) called(ctx context.Context, op store.Op, method string, args ...any) error {
	if !b.Forget {
		b.mu.Lock()
		b.calls = append(b.calls, Call{method, ctx, args})
		b.mu.Unlock()
	}
	if b.Do != nil && op != 0 {
		return b.Do(ctx, op)
	}
	return nil
}

// GenerateThreadID returns thr_new.
func (b *Base) GenerateThreadID(ctx context.Context) string {
	_ = b.called(ctx, 0, "GenerateThreadID")
	return "thr_new"
}

// GenerateItemID returns msg_new.
func (b *Base) GenerateItemID(ctx context.Context, kind chat.ItemKind, t chat.Thread) string {
	_ = b.called(ctx, 0, "GenerateItemID", kind, t)
	return "msg_new"
}

// LoadThread returns a thread whose title is "answer".
func (b *Base) LoadThread(ctx context.Context, id string) (chat.Thread, error) {
	return chat.Thread{ID: id, Title: "answer"}, b.called(ctx, store.OpLoadThread, "LoadThread", id)
}

// SaveThread records the call.
func (b *Base) SaveThread(ctx context.Context, t chat.Thread) error {
	return b.called(ctx, store.OpSaveThread, "SaveThread", t)
}

// DeleteThread records the call.
func (b *Base) DeleteThread(ctx context.Context, id string) error {
	return b.called(ctx, store.OpDeleteThread, "DeleteThread", id)
}

// LoadThreads returns a last page of two threads.
func (b *Base) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	p := store.Page[chat.Thread]{Data: make([]chat.Thread, 2)}
	return p, b.called(ctx, store.OpLoadThreads, "LoadThreads", q)
}

// LoadThreadItems returns a page of three items, with more to follow.
func (b *Base) LoadThreadItems(ctx context.Context, id string, q store.PageQuery) (store.Page[chat.Item], error) {
	p := store.Page[chat.Item]{Data: make([]chat.Item, 3), HasMore: true, After: "msg_last"}
	return p, b.called(ctx, store.OpLoadThreadItems, "LoadThreadItems", id, q)
}

// AddThreadItem records the call.
func (b *Base) AddThreadItem(ctx context.Context, id string, it chat.Item) error {
	return b.called(ctx, store.OpAddThreadItem, "AddThreadItem", id, it)
}

// SaveItem records the call.
func (b *Base) SaveItem(ctx context.Context, id string, it chat.Item) error {
	return b.called(ctx, store.OpSaveItem, "SaveItem", id, it)
}

// LoadItem returns an item without a body.
func (b *Base) LoadItem(ctx context.Context, id, itemID string) (chat.Item, error) {
	return chat.Item{ID: itemID}, b.called(ctx, store.OpLoadItem, "LoadItem", id, itemID)
}

// DeleteThreadItem records the call.
func (b *Base) DeleteThreadItem(ctx context.Context, id, itemID string) error {
	return b.called(ctx, store.OpDeleteThreadItem, "DeleteThreadItem", id, itemID)
}

// SaveAttachment records the call.
func (b *Base) SaveAttachment(ctx context.Context, a chat.Attachment) error {
	return b.called(ctx, store.OpSaveAttachment, "SaveAttachment", a)
}

// LoadAttachment returns an attachment without a body.
func (b *Base) LoadAttachment(ctx context.Context, id string) (chat.Attachment, error) {
	return chat.Attachment{ID: id}, b.called(ctx, store.OpLoadAttachment, "LoadAttachment", id)
}

// DeleteAttachment records the call.
func (b *Base) DeleteAttachment(ctx context.Context, id string) error {
	return b.called(ctx, store.OpDeleteAttachment, "DeleteAttachment", id)
}

// CallOp makes a call of op with the ids thr_1, msg_1 and atc_1.
func CallOp(ctx context.Context, s store.Store, op store.Op) error {
	var err error
	switch op {
	case store.OpLoadThread:
		_, err = s.LoadThread(ctx, "thr_1")
	case store.OpSaveThread:
		err = s.SaveThread(ctx, chat.Thread{ID: "thr_1"})
	case store.OpDeleteThread:
		err = s.DeleteThread(ctx, "thr_1")
	case store.OpLoadThreads:
		_, err = s.LoadThreads(ctx, store.ThreadQuery{PageQuery: store.PageQuery{Limit: 7, After: "thr_0"}})
	case store.OpLoadThreadItems:
		_, err = s.LoadThreadItems(ctx, "thr_1", store.PageQuery{Limit: 3, Order: store.OldestFirst})
	case store.OpAddThreadItem:
		err = s.AddThreadItem(ctx, "thr_1", message("msg_1"))
	case store.OpSaveItem:
		err = s.SaveItem(ctx, "thr_1", message("msg_1"))
	case store.OpLoadItem:
		_, err = s.LoadItem(ctx, "thr_1", "msg_1")
	case store.OpDeleteThreadItem:
		err = s.DeleteThreadItem(ctx, "thr_1", "msg_1")
	case store.OpSaveAttachment:
		err = s.SaveAttachment(ctx, chat.Attachment{ID: "atc_1"})
	case store.OpLoadAttachment:
		_, err = s.LoadAttachment(ctx, "atc_1")
	case store.OpDeleteAttachment:
		err = s.DeleteAttachment(ctx, "atc_1")
	default:
		panic("no such op")
	}
	return err
}

// Try runs [CallOp] in its own goroutine, because the call may panic or call Goexit. It returns the value of the panic and the
// error.
func Try(ctx context.Context, s store.Store, op store.Op) (recovered any, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { recovered = recover() }()
		err = CallOp(ctx, s, op)
	}()
	<-done
	return recovered, err
}

// Outcome is a way for a call to end.
type Outcome struct {
	Name string
	Code store.Code
	Do   func(ctx context.Context, op store.Op) error
}

var errCustom = errors.New("a driver's own error")

// Outcomes returns all ways for a call to end.
func Outcomes() []Outcome {
	fail := func(name string, code store.Code, err error) Outcome {
		return Outcome{name, code, func(context.Context, store.Op) error { return err }}
	}
	all := []Outcome{
		fail("ok", store.CodeOK, nil),
		fail("canceled", store.CodeCanceled, context.Canceled),
		fail("timeout", store.CodeTimeout, context.DeadlineExceeded),
		fail("not applied", store.CodeUnavailable, store.ErrNotApplied),
		fail("other error", store.CodeInternal, errCustom),
		{"panic", store.CodePanic, func(context.Context, store.Op) error { panic(errCustom) }},
		{"panic(nil)", store.CodePanic, func(context.Context, store.Op) error { panic(nil) }},
		{"Goexit", store.CodePanic, func(context.Context, store.Op) error { runtime.Goexit(); return nil }},
	}
	for _, err := range []error{store.ErrNotFound, store.ErrConflict, store.ErrInvalid, store.ErrUnauthenticated,
		store.ErrDenied, store.ErrLimited, store.ErrUnavailable} {
		all = append(all, fail(err.Error(), store.CodeOf(err), err))
	}
	return all
}

// Through makes a call of op through the layer, over a base in which the call has outcome o. It fails the test unless the call
// ends as it does without the layer.
func (o Outcome) Through(t *testing.T, layer store.Middleware, op store.Op) {
	t.Helper()
	recovered, err := Try(t.Context(), store.Wrap(&Base{Do: o.Do}, layer), op)
	wantRecovered, wantErr := Try(t.Context(), &Base{Do: o.Do}, op)
	if err != wantErr || !reflect.DeepEqual(recovered, wantRecovered) {
		t.Errorf("the call ended with error %v and panic %v; without the layer: %v and %v", err, recovered, wantErr, wantRecovered)
	}
}

// Through calls the method m through the layer and returns the context that the base got. It fails the test unless the base gets
// one call with the same arguments and the caller gets the base's answer.
func Through(ctx context.Context, t *testing.T, layer store.Middleware, m reflect.Method) context.Context {
	t.Helper()
	base := &Base{}
	args := arguments(t, m.Type)
	got := invoke(ctx, store.Wrap(base, layer), m.Name, args)
	if len(base.calls) != 1 || base.calls[0].Method != m.Name {
		t.Fatalf("the base's calls: %v", base.calls)
	}
	if call := base.calls[0]; !slices.EqualFunc(args, call.Args, reflect.DeepEqual) {
		t.Errorf("the base got %v, want %v", call.Args, args)
	}
	if want := invoke(ctx, &Base{}, m.Name, args); !reflect.DeepEqual(want, got) {
		t.Errorf("the answer is %v, want the base's, %v", got, want)
	}
	return base.calls[0].Ctx
}

// arguments returns a different value for each argument of method after the context.
func arguments(t *testing.T, method reflect.Type) []any {
	t.Helper()
	var args []any
	for i := 1; i < method.NumIn(); i++ {
		id := method.In(i).Name() + "_" + string(rune('0'+i))
		switch method.In(i) {
		case reflect.TypeFor[string]():
			args = append(args, id)
		case reflect.TypeFor[chat.ItemKind]():
			args = append(args, chat.ItemKind(id))
		case reflect.TypeFor[chat.Thread]():
			args = append(args, chat.Thread{ID: id, Title: "title"})
		case reflect.TypeFor[chat.Item]():
			args = append(args, message(id))
		case reflect.TypeFor[chat.Attachment]():
			args = append(args, chat.Attachment{ID: id, ThreadID: "thread"})
		case reflect.TypeFor[store.PageQuery]():
			args = append(args, store.PageQuery{Limit: 5, After: id, Order: store.OldestFirst})
		case reflect.TypeFor[store.ThreadQuery]():
			args = append(args, store.ThreadQuery{PageQuery: store.PageQuery{Limit: 5, After: id}, Owner: store.AnyOwner()})
		default:
			t.Fatalf("arguments has no value for %v: add one", method.In(i))
		}
	}
	return args
}

// invoke calls the method by name.
func invoke(ctx context.Context, s store.Store, method string, args []any) []any {
	in := []reflect.Value{reflect.ValueOf(ctx)}
	for _, a := range args {
		in = append(in, reflect.ValueOf(a))
	}
	var out []any
	for _, v := range reflect.ValueOf(s).MethodByName(method).Call(in) {
		out = append(out, v.Interface())
	}
	return out
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func message(id string) chat.Item { return testenv.OrPanic(chat.NewItem(id, noon, chat.UserMessage{})) }
