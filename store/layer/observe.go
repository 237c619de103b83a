package layer

import (
	"context"
	"io"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// Result describes the end of a call.
type Result struct {
	Code     store.Code
	Items    int  // rows of the page, for listings
	HasMore  bool // for listings
	Duration time.Duration
	// Err is the call's error, for logs. Its causes may contain stored content and names of hosts, so do not show them to
	// callers. It is nil after a panic.
	Err error
}

// Observer is called at the beginning and at the end of every call. It must be safe for concurrent use.
type Observer interface {
	// Begin returns the context for the inner call, which may be ctx itself, and a state for End. If the state is nil, End
	// is not called and no time is measured.
	Begin(ctx context.Context, c Call) (inner context.Context, state any)
	// End is called once for each Begin that returned a state. If the call panics or exits its goroutine, the code is
	// store.CodePanic. The panic continues after End.
	End(inner context.Context, c Call, r Result, state any)
}

// Observe returns a layer with this name that calls o for every call. It allocates nothing. If o is an io.Closer, closing
// the layer closes o, once for each stack that has the layer. If o is a [StatsReporter], so is the layer. Observe panics if
// o is nil.
func Observe(name string, o Observer) store.Middleware {
	if o == nil {
		panic("layer.Observe: the Observer is nil: leave the layer out")
	}
	return func(next store.Store) store.Store {
		l := &observed{next: next, name: name, o: o}
		if r, ok := o.(StatsReporter); ok {
			return &counting{l, r}
		}
		return l
	}
}

// counting is an observed layer whose Observer is a StatsReporter. [store.As] must not find that capability in other layers.
type counting struct {
	*observed
	StatsReporter
}

type observed struct {
	next store.Store
	name string
	o    Observer
}

var (
	_ store.Store     = (*observed)(nil)
	_ store.Unwrapper = (*observed)(nil)
	_ store.Named     = (*observed)(nil)
)

// Unwrap returns the wrapped Store.
func (s *observed) Unwrap() store.Store { return s.next }

// LayerName returns the name given to Observe.
func (s *observed) LayerName() string { return s.name }

// Close closes the Observer if it is an io.Closer.
func (s *observed) Close() error { return closeIf(s.o) }

// epoch is the base of all clock readings: time.Since reads only the monotonic clock and is cheaper than time.Now.
var epoch = time.Now()

// observation is one running call. It stays on the caller's stack.
type observation struct {
	ctx   context.Context
	state any
	begin time.Duration
	items int
	more  bool
	err   error
	done  bool // false while the call runs, and after a panic or Goexit
}

// begin fills in ob, and reports whether to measure the call.
func (s *observed) begin(ctx context.Context, c *Call, ob *observation) (measured bool) {
	ob.ctx, ob.state = s.o.Begin(ctx, *c)
	if ob.state == nil {
		return false
	}
	ob.begin = time.Since(epoch)
	return true
}

func (s *observed) end(c *Call, ob *observation) {
	r := Result{Code: store.CodePanic, Duration: time.Since(epoch) - ob.begin}
	if ob.done {
		r.Code = store.CodeOf(ob.err)
		r.Items, r.HasMore, r.Err = ob.items, ob.more, ob.err
	}
	s.o.End(ob.ctx, *c, r, ob.state)
}

func (s *observed) GenerateThreadID(ctx context.Context) string { return s.next.GenerateThreadID(ctx) }

func (s *observed) GenerateItemID(ctx context.Context, kind chat.ItemKind, thread chat.Thread) string {
	return s.next.GenerateItemID(ctx, kind, thread)
}

func (s *observed) LoadThread(ctx context.Context, threadID string) (chat.Thread, error) {
	c := Call{Op: store.OpLoadThread, ThreadID: threadID}
	var ob observation
	if !s.begin(ctx, &c, &ob) {
		return s.next.LoadThread(ob.ctx, threadID)
	}
	defer s.end(&c, &ob)
	t, err := s.next.LoadThread(ob.ctx, threadID)
	ob.err, ob.done = err, true
	return t, err
}

func (s *observed) SaveThread(ctx context.Context, thread chat.Thread) error {
	c := Call{Op: store.OpSaveThread, ThreadID: thread.ID}
	var ob observation
	if !s.begin(ctx, &c, &ob) {
		return s.next.SaveThread(ob.ctx, thread)
	}
	defer s.end(&c, &ob)
	err := s.next.SaveThread(ob.ctx, thread)
	ob.err, ob.done = err, true
	return err
}

func (s *observed) DeleteThread(ctx context.Context, threadID string) error {
	c := Call{Op: store.OpDeleteThread, ThreadID: threadID}
	var ob observation
	if !s.begin(ctx, &c, &ob) {
		return s.next.DeleteThread(ob.ctx, threadID)
	}
	defer s.end(&c, &ob)
	err := s.next.DeleteThread(ob.ctx, threadID)
	ob.err, ob.done = err, true
	return err
}

func (s *observed) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	c := pageCall(store.OpLoadThreads, "", q.PageQuery)
	var ob observation
	if !s.begin(ctx, &c, &ob) {
		return s.next.LoadThreads(ob.ctx, q)
	}
	defer s.end(&c, &ob)
	p, err := s.next.LoadThreads(ob.ctx, q)
	ob.items, ob.more, ob.err, ob.done = len(p.Data), p.HasMore, err, true
	return p, err
}

func (s *observed) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
	c := pageCall(store.OpLoadThreadItems, threadID, q)
	var ob observation
	if !s.begin(ctx, &c, &ob) {
		return s.next.LoadThreadItems(ob.ctx, threadID, q)
	}
	defer s.end(&c, &ob)
	p, err := s.next.LoadThreadItems(ob.ctx, threadID, q)
	ob.items, ob.more, ob.err, ob.done = len(p.Data), p.HasMore, err, true
	return p, err
}

func (s *observed) AddThreadItem(ctx context.Context, threadID string, item chat.Item) error {
	c := itemCall(store.OpAddThreadItem, threadID, item)
	var ob observation
	if !s.begin(ctx, &c, &ob) {
		return s.next.AddThreadItem(ob.ctx, threadID, item)
	}
	defer s.end(&c, &ob)
	err := s.next.AddThreadItem(ob.ctx, threadID, item)
	ob.err, ob.done = err, true
	return err
}

func (s *observed) SaveItem(ctx context.Context, threadID string, item chat.Item) error {
	c := itemCall(store.OpSaveItem, threadID, item)
	var ob observation
	if !s.begin(ctx, &c, &ob) {
		return s.next.SaveItem(ob.ctx, threadID, item)
	}
	defer s.end(&c, &ob)
	err := s.next.SaveItem(ob.ctx, threadID, item)
	ob.err, ob.done = err, true
	return err
}

func (s *observed) LoadItem(ctx context.Context, threadID, itemID string) (chat.Item, error) {
	c := Call{Op: store.OpLoadItem, ThreadID: threadID, ItemID: itemID}
	var ob observation
	if !s.begin(ctx, &c, &ob) {
		return s.next.LoadItem(ob.ctx, threadID, itemID)
	}
	defer s.end(&c, &ob)
	it, err := s.next.LoadItem(ob.ctx, threadID, itemID)
	ob.err, ob.done = err, true
	return it, err
}

func (s *observed) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	c := Call{Op: store.OpDeleteThreadItem, ThreadID: threadID, ItemID: itemID}
	var ob observation
	if !s.begin(ctx, &c, &ob) {
		return s.next.DeleteThreadItem(ob.ctx, threadID, itemID)
	}
	defer s.end(&c, &ob)
	err := s.next.DeleteThreadItem(ob.ctx, threadID, itemID)
	ob.err, ob.done = err, true
	return err
}

func (s *observed) SaveAttachment(ctx context.Context, a chat.Attachment) error {
	c := Call{Op: store.OpSaveAttachment, AttachmentID: a.ID}
	var ob observation
	if !s.begin(ctx, &c, &ob) {
		return s.next.SaveAttachment(ob.ctx, a)
	}
	defer s.end(&c, &ob)
	err := s.next.SaveAttachment(ob.ctx, a)
	ob.err, ob.done = err, true
	return err
}

func (s *observed) LoadAttachment(ctx context.Context, attachmentID string) (chat.Attachment, error) {
	c := Call{Op: store.OpLoadAttachment, AttachmentID: attachmentID}
	var ob observation
	if !s.begin(ctx, &c, &ob) {
		return s.next.LoadAttachment(ob.ctx, attachmentID)
	}
	defer s.end(&c, &ob)
	a, err := s.next.LoadAttachment(ob.ctx, attachmentID)
	ob.err, ob.done = err, true
	return a, err
}

func (s *observed) DeleteAttachment(ctx context.Context, attachmentID string) error {
	c := Call{Op: store.OpDeleteAttachment, AttachmentID: attachmentID}
	var ob observation
	if !s.begin(ctx, &c, &ob) {
		return s.next.DeleteAttachment(ob.ctx, attachmentID)
	}
	defer s.end(&c, &ob)
	err := s.next.DeleteAttachment(ob.ctx, attachmentID)
	ob.err, ob.done = err, true
	return err
}

// closeIf closes x if it is an io.Closer.
func closeIf(x any) error {
	if c, ok := x.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
