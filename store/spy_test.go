package store_test

import (
	"context"
	"reflect"
	"sync"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// spy is a base that notes the calls that reach it and answers err, after do has run if it is set.
type spy struct {
	store.DefaultIDs
	mu    sync.Mutex
	calls []string
	do    func(ctx context.Context)
	err   error
}

var _ store.Store = (*spy)(nil)

func (s *spy) note(ctx context.Context, name string) error {
	s.mu.Lock()
	s.calls = append(s.calls, name)
	do, err := s.do, s.err
	s.mu.Unlock()
	if do != nil {
		do(ctx)
	}
	return err
}

func (s *spy) GenerateThreadID(ctx context.Context) string {
	_ = s.note(ctx, "GenerateThreadID")
	return "thr_1"
}

func (s *spy) GenerateItemID(ctx context.Context, _ chat.ItemKind, _ chat.Thread) string {
	_ = s.note(ctx, "GenerateItemID")
	return "msg_1"
}

func (s *spy) LoadThread(ctx context.Context, id string) (chat.Thread, error) {
	return chat.Thread{ID: id, Title: "answer"}, s.note(ctx, "LoadThread")
}

func (s *spy) SaveThread(ctx context.Context, _ chat.Thread) error { return s.note(ctx, "SaveThread") }

func (s *spy) DeleteThread(ctx context.Context, _ string) error { return s.note(ctx, "DeleteThread") }

func (s *spy) LoadThreads(ctx context.Context, _ store.ThreadQuery) (store.Page[chat.Thread], error) {
	return store.Page[chat.Thread]{Data: make([]chat.Thread, 2), HasMore: true}, s.note(ctx, "LoadThreads")
}

func (s *spy) LoadThreadItems(ctx context.Context, _ string, _ store.PageQuery) (store.Page[chat.Item], error) {
	return store.Page[chat.Item]{Data: make([]chat.Item, 3), HasMore: true}, s.note(ctx, "LoadThreadItems")
}

func (s *spy) AddThreadItem(ctx context.Context, _ string, _ chat.Item) error {
	return s.note(ctx, "AddThreadItem")
}

func (s *spy) SaveItem(ctx context.Context, _ string, _ chat.Item) error {
	return s.note(ctx, "SaveItem")
}

func (s *spy) LoadItem(ctx context.Context, _, id string) (chat.Item, error) {
	return chat.Item{ID: id}, s.note(ctx, "LoadItem")
}

func (s *spy) DeleteThreadItem(ctx context.Context, _, _ string) error {
	return s.note(ctx, "DeleteThreadItem")
}

func (s *spy) SaveAttachment(ctx context.Context, _ chat.Attachment) error {
	return s.note(ctx, "SaveAttachment")
}

func (s *spy) LoadAttachment(ctx context.Context, id string) (chat.Attachment, error) {
	return chat.Attachment{ID: id}, s.note(ctx, "LoadAttachment")
}

func (s *spy) DeleteAttachment(ctx context.Context, _ string) error {
	return s.note(ctx, "DeleteAttachment")
}

// opCalls makes one call of each op.
var opCalls = map[store.Op]func(context.Context, store.Store) error{
	store.OpLoadThread: func(ctx context.Context, s store.Store) error { _, err := s.LoadThread(ctx, "thr_1"); return err },
	store.OpSaveThread: func(ctx context.Context, s store.Store) error {
		return s.SaveThread(ctx, chat.Thread{ID: "thr_1"})
	},
	store.OpDeleteThread: func(ctx context.Context, s store.Store) error { return s.DeleteThread(ctx, "thr_1") },
	store.OpLoadThreads: func(ctx context.Context, s store.Store) error {
		_, err := s.LoadThreads(ctx, store.ThreadQuery{PageQuery: store.PageQuery{Limit: 7, After: "thr_0"}})
		return err
	},
	store.OpLoadThreadItems: func(ctx context.Context, s store.Store) error {
		_, err := s.LoadThreadItems(ctx, "thr_1", store.PageQuery{Limit: 5, Order: store.OldestFirst})
		return err
	},
	store.OpAddThreadItem: func(ctx context.Context, s store.Store) error {
		return s.AddThreadItem(ctx, "thr_1", chat.Item{ID: "msg_1"})
	},
	store.OpSaveItem: func(ctx context.Context, s store.Store) error {
		return s.SaveItem(ctx, "thr_1", chat.Item{ID: "msg_1"})
	},
	store.OpLoadItem: func(ctx context.Context, s store.Store) error {
		_, err := s.LoadItem(ctx, "thr_1", "msg_1")
		return err
	},
	store.OpDeleteThreadItem: func(ctx context.Context, s store.Store) error {
		return s.DeleteThreadItem(ctx, "thr_1", "msg_1")
	},
	store.OpSaveAttachment: func(ctx context.Context, s store.Store) error {
		return s.SaveAttachment(ctx, chat.Attachment{ID: "atc_1"})
	},
	store.OpLoadAttachment: func(ctx context.Context, s store.Store) error {
		_, err := s.LoadAttachment(ctx, "atc_1")
		return err
	},
	store.OpDeleteAttachment: func(ctx context.Context, s store.Store) error { return s.DeleteAttachment(ctx, "atc_1") },
}

// methods returns the names of the Store's methods.
func methods() []string {
	t := reflect.TypeFor[store.Store]()
	var names []string
	for i := range t.NumMethod() {
		names = append(names, t.Method(i).Name)
	}
	return names
}

// callAll calls every method of s once, with zero arguments.
func callAll(ctx context.Context, s store.Store) {
	v := reflect.ValueOf(s)
	for _, name := range methods() {
		m := v.MethodByName(name)
		args := []reflect.Value{reflect.ValueOf(ctx)}
		for i := 1; i < m.Type().NumIn(); i++ {
			args = append(args, reflect.Zero(m.Type().In(i)))
		}
		m.Call(args)
	}
}
