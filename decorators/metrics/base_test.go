package metrics_test

import (
	"context"
	"errors"
	"reflect"
	"runtime"
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// spy is a base that answers everything with fixed values and remembers its calls, unless it is to forget them. do, if set,
// runs within each op.
type spy struct {
	forget bool
	do     func(ctx context.Context, op store.Op) error
	calls  []spyCall
	ctx    context.Context // of the last call
}

type spyCall struct {
	method string
	args   []any
}

var _ store.Store = (*spy)(nil)

func (s *spy) called(ctx context.Context, op store.Op, method string, args ...any) error {
	if !s.forget {
		s.calls, s.ctx = append(s.calls, spyCall{method, args}), ctx
	}
	if s.do != nil && op != 0 {
		return s.do(ctx, op)
	}
	return nil
}

func (s *spy) GenerateThreadID(ctx context.Context) string {
	_ = s.called(ctx, 0, "GenerateThreadID")
	return "thr_new"
}

func (s *spy) GenerateItemID(ctx context.Context, kind chat.ItemKind, t chat.Thread) string {
	_ = s.called(ctx, 0, "GenerateItemID", kind, t)
	return "msg_new"
}

func (s *spy) LoadThread(ctx context.Context, id string) (chat.Thread, error) {
	return chat.Thread{ID: "answer"}, s.called(ctx, store.OpLoadThread, "LoadThread", id)
}

func (s *spy) SaveThread(ctx context.Context, t chat.Thread) error {
	return s.called(ctx, store.OpSaveThread, "SaveThread", t)
}

func (s *spy) DeleteThread(ctx context.Context, id string) error {
	return s.called(ctx, store.OpDeleteThread, "DeleteThread", id)
}

func (s *spy) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	p := store.Page[chat.Thread]{Data: make([]chat.Thread, 2)}
	return p, s.called(ctx, store.OpLoadThreads, "LoadThreads", q)
}

func (s *spy) LoadThreadItems(ctx context.Context, id string, q store.PageQuery) (store.Page[chat.Item], error) {
	p := store.Page[chat.Item]{Data: make([]chat.Item, 3), HasMore: true, After: "msg_last"}
	return p, s.called(ctx, store.OpLoadThreadItems, "LoadThreadItems", id, q)
}

func (s *spy) AddThreadItem(ctx context.Context, id string, it chat.Item) error {
	return s.called(ctx, store.OpAddThreadItem, "AddThreadItem", id, it)
}

func (s *spy) SaveItem(ctx context.Context, id string, it chat.Item) error {
	return s.called(ctx, store.OpSaveItem, "SaveItem", id, it)
}

func (s *spy) LoadItem(ctx context.Context, id, itemID string) (chat.Item, error) {
	return chat.Item{ID: "answer"}, s.called(ctx, store.OpLoadItem, "LoadItem", id, itemID)
}

func (s *spy) DeleteThreadItem(ctx context.Context, id, itemID string) error {
	return s.called(ctx, store.OpDeleteThreadItem, "DeleteThreadItem", id, itemID)
}

func (s *spy) SaveAttachment(ctx context.Context, a chat.Attachment) error {
	return s.called(ctx, store.OpSaveAttachment, "SaveAttachment", a)
}

func (s *spy) LoadAttachment(ctx context.Context, id string) (chat.Attachment, error) {
	return chat.Attachment{ID: "answer"}, s.called(ctx, store.OpLoadAttachment, "LoadAttachment", id)
}

func (s *spy) DeleteAttachment(ctx context.Context, id string) error {
	return s.called(ctx, store.OpDeleteAttachment, "DeleteAttachment", id)
}

// callOp makes a call of op with ids that name what they are the id of.
func callOp(ctx context.Context, s store.Store, op store.Op) error {
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
		_, err = s.LoadThreadItems(ctx, "thr_1", store.PageQuery{Limit: 3, After: "msg_0"})
	case store.OpAddThreadItem:
		err = s.AddThreadItem(ctx, "thr_1", newItem("msg_1"))
	case store.OpSaveItem:
		err = s.SaveItem(ctx, "thr_1", newItem("msg_1"))
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

// outcome is a way for a call to end.
type outcome struct {
	name string
	code store.Code
	do   func(ctx context.Context, op store.Op) error
}

var errCustom = errors.New("a driver's own error")

func outcomes() []outcome {
	fail := func(name string, code store.Code, err error) outcome {
		return outcome{name, code, func(context.Context, store.Op) error { return err }}
	}
	all := []outcome{
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
		store.ErrDenied, store.ErrUnavailable} {
		all = append(all, fail(err.Error(), store.CodeOf(err), err))
	}
	return all
}

// call makes the call in a goroutine of its own, as it may panic or exit, and returns what it ended with.
func call(ctx context.Context, s store.Store, op store.Op) (recovered any, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { recovered = recover() }()
		err = callOp(ctx, s, op)
	}()
	<-done
	return recovered, err
}

// arguments returns a value for each argument of method behind the context, no two alike.
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
			args = append(args, newItem(id))
		case reflect.TypeFor[chat.Attachment]():
			args = append(args, chat.Attachment{ID: id, ThreadID: "thread"})
		case reflect.TypeFor[store.PageQuery]():
			args = append(args, store.PageQuery{Limit: 5, After: id, Order: store.OldestFirst})
		case reflect.TypeFor[store.ThreadQuery]():
			args = append(args, store.ThreadQuery{PageQuery: store.PageQuery{Limit: 5, After: id}, Owner: store.AnyOwner()})
		default:
			t.Fatalf("no value for %v: add one", method.In(i))
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
