package layer

import (
	"context"
	"fmt"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// Transformer changes values on their way to the base and back, for encryption, compression, redaction or moderation. A nil
// function changes nothing. The functions must be safe for concurrent use. They get contexts of [Own].
//
// A function must keep the id, the thread id, the owner, the time of creation and the type of a value. If it changes one of
// them, the call fails with CodeInternal, and so does a save if its function makes the value invalid.
type Transformer struct {
	// SaveThread, SaveItem and SaveAttachment get checked values, and return what the base is to store. If they return an
	// error, nothing is written, and the call ends with the code of that error (see [store.CodeOf]) and
	// [store.ErrNotApplied].
	SaveThread     func(context.Context, chat.Thread) (chat.Thread, error)
	SaveItem       func(context.Context, chat.Item) (chat.Item, error)
	SaveAttachment func(context.Context, chat.Attachment) (chat.Attachment, error)

	// LoadThread, LoadItem and LoadAttachment get what the base has stored, and return what the caller gets. If they return
	// an error, the call fails; of a page, the whole page. The code is CodeUnavailable, CodeCanceled, CodeTimeout or else
	// CodeInternal: a row that cannot be read must not look as if it were missing.
	LoadThread     func(context.Context, chat.Thread) (chat.Thread, error)
	LoadItem       func(context.Context, chat.Item) (chat.Item, error)
	LoadAttachment func(context.Context, chat.Attachment) (chat.Attachment, error)

	// Lossless says that loading returns exactly what was saved. A cache above then keeps patching its entries. Without it
	// the layer is a [Rewriter].
	Lossless bool

	// Unreadable makes pages leave out a row whose load fails with CodeInternal, and is called for it. threadID is that of an
	// item, else "". Such a page may have fewer rows than the query's limit, or none; HasMore and After stay. So one bad
	// thread does not block its owner's list. It is for operators: log the row, and repair it. A load of the row alone still
	// fails. So does a page under [store.WithNoStore], so that exports, copies and other walks never lack a row unnoticed.
	//
	// With Unreadable the layer is a [Rewriter], whatever Lossless says: a cache cannot patch a list that lacks rows. A cached
	// list stays without the row until its thread is written, or the entry expires.
	Unreadable func(ctx context.Context, threadID string, err *store.Error)
}

// Transform returns a layer with this name that passes every value through t. Put it beneath a guard and a cache, so that the
// guard sees what callers save, and the cache keeps what callers get:
//
//	s := store.Wrap(base, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New(), layer.Transform("seal", t))
//
// The layer allocates nothing by itself. It passes on the base's [driver.AttachmentLister] and
// [driver.AttachmentSwapper], with transformed attachments. Its Middleware panics around a guard if t changes what is saved: the
// guard would not see it.
func Transform(name string, t Transformer) store.Middleware {
	return func(next store.Store) store.Store {
		if Guarded(next) && (t.SaveThread != nil || t.SaveItem != nil || t.SaveAttachment != nil) {
			panic(fmt.Sprintf("layer.Transform: %q changes what is saved, and the guard in it, such as authz, would not see that: "+
				"put the guard before it in store.Wrap", name))
		}
		if t.Unreadable != nil {
			t.Lossless = false
		}
		l := &transformed{next: next, name: name, t: t}
		lister, lists := store.As[driver.AttachmentLister](next)
		swapper, swaps := store.As[driver.AttachmentSwapper](next)
		listing := &transformedLister{l, lister}
		swapping := &transformedSwapper{listing, swapper}
		switch {
		case swaps && t.Lossless:
			return swapping
		case swaps:
			return struct {
				*transformedSwapper
				rewriter
			}{transformedSwapper: swapping}
		case lists && t.Lossless:
			return listing
		case lists:
			return struct {
				*transformedLister
				rewriter
			}{transformedLister: listing}
		case t.Lossless:
			return l
		}
		return struct {
			*transformed
			rewriter
		}{transformed: l}
	}
}

type rewriter struct{}

func (rewriter) RewritesValues() {}

type transformed struct {
	next store.Store
	name string
	t    Transformer
}

var (
	_ store.Store     = (*transformed)(nil)
	_ store.Unwrapper = (*transformed)(nil)
	_ store.Named     = (*transformed)(nil)
)

var checks = driver.Checks{Versions: true}

// Unwrap returns the wrapped Store.
func (s *transformed) Unwrap() store.Store { return s.next }

// LayerName returns the name given to Transform.
func (s *transformed) LayerName() string { return s.name }

func (s *transformed) GenerateThreadID(ctx context.Context) string {
	return s.next.GenerateThreadID(ctx)
}

func (s *transformed) GenerateItemID(ctx context.Context, kind chat.ItemKind, thread chat.Thread) string {
	return s.next.GenerateItemID(ctx, kind, thread)
}

func (s *transformed) LoadThread(ctx context.Context, threadID string) (chat.Thread, error) {
	t, err := s.next.LoadThread(ctx, threadID)
	return loaded(ctx, store.OpLoadThread, &threads, s.t.LoadThread, t, err)
}

func (s *transformed) SaveThread(ctx context.Context, thread chat.Thread) error {
	if s.t.SaveThread == nil {
		return s.next.SaveThread(ctx, thread)
	}
	w, err := checks.SaveThread(ctx, thread)
	if err != nil {
		return err
	}
	t, err := saved(ctx, store.OpSaveThread, &threads, s.t.SaveThread, w.Thread)
	if err != nil {
		return err
	}
	return s.next.SaveThread(ctx, t)
}

func (s *transformed) DeleteThread(ctx context.Context, threadID string) error {
	return s.next.DeleteThread(ctx, threadID)
}

func (s *transformed) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	p, err := s.next.LoadThreads(ctx, q)
	return loadedPage(ctx, store.OpLoadThreads, &threads, s.t.LoadThread, "", s.t.Unreadable, p, err)
}

func (s *transformed) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
	p, err := s.next.LoadThreadItems(ctx, threadID, q)
	return loadedPage(ctx, store.OpLoadThreadItems, &items, s.t.LoadItem, threadID, s.t.Unreadable, p, err)
}

func (s *transformed) AddThreadItem(ctx context.Context, threadID string, item chat.Item) error {
	return s.saveItem(ctx, store.OpAddThreadItem, threadID, item, s.next.AddThreadItem)
}

func (s *transformed) SaveItem(ctx context.Context, threadID string, item chat.Item) error {
	return s.saveItem(ctx, store.OpSaveItem, threadID, item, s.next.SaveItem)
}

func (s *transformed) saveItem(ctx context.Context, op store.Op, threadID string, item chat.Item,
	save func(context.Context, string, chat.Item) error) error {
	if s.t.SaveItem == nil {
		return save(ctx, threadID, item)
	}
	w, err := checks.SaveItem(ctx, op, threadID, item)
	if err != nil {
		return err
	}
	it, err := saved(ctx, op, &items, s.t.SaveItem, w.Item)
	if err != nil {
		return err
	}
	return save(ctx, threadID, it)
}

func (s *transformed) LoadItem(ctx context.Context, threadID, itemID string) (chat.Item, error) {
	it, err := s.next.LoadItem(ctx, threadID, itemID)
	return loaded(ctx, store.OpLoadItem, &items, s.t.LoadItem, it, err)
}

func (s *transformed) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	return s.next.DeleteThreadItem(ctx, threadID, itemID)
}

func (s *transformed) SaveAttachment(ctx context.Context, a chat.Attachment) error {
	if s.t.SaveAttachment == nil {
		return s.next.SaveAttachment(ctx, a)
	}
	w, err := checks.SaveAttachment(ctx, a)
	if err != nil {
		return err
	}
	if a, err = saved(ctx, store.OpSaveAttachment, &attachments, s.t.SaveAttachment, w.Attachment); err != nil {
		return err
	}
	return s.next.SaveAttachment(ctx, a)
}

func (s *transformed) LoadAttachment(ctx context.Context, attachmentID string) (chat.Attachment, error) {
	a, err := s.next.LoadAttachment(ctx, attachmentID)
	return loaded(ctx, store.OpLoadAttachment, &attachments, s.t.LoadAttachment, a, err)
}

func (s *transformed) DeleteAttachment(ctx context.Context, attachmentID string) error {
	return s.next.DeleteAttachment(ctx, attachmentID)
}
