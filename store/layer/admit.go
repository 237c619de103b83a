package layer

import (
	"context"
	"errors"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// Admit returns a layer with this name that asks admit before every call, for limits, quotas, or a read-only time. If admit
// returns an error, the call ends with that error, and nothing beneath is called. The error of a write is definite: it wraps
// [store.ErrNotApplied]. Return a [*store.Error] to choose the code; another error has the code of [store.CodeOf].
//
// admit must be safe for concurrent use. It must not change what the context carries. The layer itself allocates nothing.
// Admit panics if admit is nil.
func Admit(name string, admit func(context.Context, Call) error) store.Middleware {
	if admit == nil {
		panic("layer.Admit: the function is nil: leave the layer out")
	}
	return func(next store.Store) store.Store { return &admitted{next, name, admit} }
}

type admitted struct {
	next store.Store
	name string
	ask  func(context.Context, Call) error
}

var (
	_ store.Store     = (*admitted)(nil)
	_ store.Unwrapper = (*admitted)(nil)
	_ store.Named     = (*admitted)(nil)
)

// Unwrap returns the wrapped Store.
func (s *admitted) Unwrap() store.Store { return s.next }

// LayerName returns the name given to Admit.
func (s *admitted) LayerName() string { return s.name }

// admit returns the error with which the call ends, or nil.
func (s *admitted) admit(ctx context.Context, c Call) error {
	err := s.ask(ctx, c)
	if err == nil {
		return nil
	}
	kind, id := store.RowThread, c.ThreadID
	switch {
	case c.AttachmentID != "":
		kind, id = store.RowAttachment, c.AttachmentID
	case c.ItemID != "":
		kind, id = store.RowItem, c.ItemID
	}
	return refused(c.Op, kind, id, err)
}

// refused returns the error of a call that ended with err before the base was called.
func refused(op store.Op, kind, id string, err error) error {
	e := &store.Error{Op: op, Kind: kind, ID: id, Code: store.CodeOf(err), Cause: err}
	if s, ok := errors.AsType[*store.Error](err); ok {
		e.Field, e.RetryAfter = s.Field, s.RetryAfter
	}
	if op.IsWrite() {
		e.Cause = errors.Join(store.ErrNotApplied, err)
	}
	return e
}

func (s *admitted) GenerateThreadID(ctx context.Context) string { return s.next.GenerateThreadID(ctx) }

func (s *admitted) GenerateItemID(ctx context.Context, kind chat.ItemKind, thread chat.Thread) string {
	return s.next.GenerateItemID(ctx, kind, thread)
}

func (s *admitted) LoadThread(ctx context.Context, threadID string) (chat.Thread, error) {
	if err := s.admit(ctx, Call{Op: store.OpLoadThread, ThreadID: threadID}); err != nil {
		return chat.Thread{}, err
	}
	return s.next.LoadThread(ctx, threadID)
}

func (s *admitted) SaveThread(ctx context.Context, thread chat.Thread) error {
	if err := s.admit(ctx, Call{Op: store.OpSaveThread, ThreadID: thread.ID}); err != nil {
		return err
	}
	return s.next.SaveThread(ctx, thread)
}

func (s *admitted) DeleteThread(ctx context.Context, threadID string) error {
	if err := s.admit(ctx, Call{Op: store.OpDeleteThread, ThreadID: threadID}); err != nil {
		return err
	}
	return s.next.DeleteThread(ctx, threadID)
}

func (s *admitted) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	if err := s.admit(ctx, pageCall(store.OpLoadThreads, "", q.PageQuery)); err != nil {
		return store.Page[chat.Thread]{}, err
	}
	return s.next.LoadThreads(ctx, q)
}

func (s *admitted) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
	if err := s.admit(ctx, pageCall(store.OpLoadThreadItems, threadID, q)); err != nil {
		return store.Page[chat.Item]{}, err
	}
	return s.next.LoadThreadItems(ctx, threadID, q)
}

func (s *admitted) AddThreadItem(ctx context.Context, threadID string, item chat.Item) error {
	if err := s.admit(ctx, itemCall(store.OpAddThreadItem, threadID, item)); err != nil {
		return err
	}
	return s.next.AddThreadItem(ctx, threadID, item)
}

func (s *admitted) SaveItem(ctx context.Context, threadID string, item chat.Item) error {
	if err := s.admit(ctx, itemCall(store.OpSaveItem, threadID, item)); err != nil {
		return err
	}
	return s.next.SaveItem(ctx, threadID, item)
}

func (s *admitted) LoadItem(ctx context.Context, threadID, itemID string) (chat.Item, error) {
	if err := s.admit(ctx, Call{Op: store.OpLoadItem, ThreadID: threadID, ItemID: itemID}); err != nil {
		return chat.Item{}, err
	}
	return s.next.LoadItem(ctx, threadID, itemID)
}

func (s *admitted) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	if err := s.admit(ctx, Call{Op: store.OpDeleteThreadItem, ThreadID: threadID, ItemID: itemID}); err != nil {
		return err
	}
	return s.next.DeleteThreadItem(ctx, threadID, itemID)
}

func (s *admitted) SaveAttachment(ctx context.Context, a chat.Attachment) error {
	if err := s.admit(ctx, Call{Op: store.OpSaveAttachment, AttachmentID: a.ID}); err != nil {
		return err
	}
	return s.next.SaveAttachment(ctx, a)
}

func (s *admitted) LoadAttachment(ctx context.Context, attachmentID string) (chat.Attachment, error) {
	if err := s.admit(ctx, Call{Op: store.OpLoadAttachment, AttachmentID: attachmentID}); err != nil {
		return chat.Attachment{}, err
	}
	return s.next.LoadAttachment(ctx, attachmentID)
}

func (s *admitted) DeleteAttachment(ctx context.Context, attachmentID string) error {
	if err := s.admit(ctx, Call{Op: store.OpDeleteAttachment, AttachmentID: attachmentID}); err != nil {
		return err
	}
	return s.next.DeleteAttachment(ctx, attachmentID)
}
