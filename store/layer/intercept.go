package layer

import (
	"context"
	"errors"
	"sync"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
)

// Interceptor decides whether, when and how often a call is made. Use it for retries, limits, timeouts or your own rules. It
// must be safe for concurrent use.
type Interceptor interface {
	// Intercept makes the call with next, or leaves it out. It may call next several times, also from other goroutines. The
	// caller gets the answer of the last successful next, and the error that Intercept returns. If Intercept returns nil
	// without a successful next, the error is CodeInternal. After Intercept has returned, next does nothing and fails.
	//
	// An attempt of a write may take effect later than attempts made after it, in two cases:
	//
	//   - The attempt had an unknown outcome (see [store.IsDefinite]).
	//   - The attempt was still running when Intercept returned, which cancels it.
	//
	// In both cases the layer calls [ReportUnsettled], so that caches above bypass that thread for a while. It also replaces
	// a definite error by CodeUnavailable. It does the same if an attempt succeeded but Intercept returns an error. To avoid
	// this, repeat a write only after [store.ErrNotApplied], and wait for every next that was called.
	Intercept(ctx context.Context, c Call, next func(context.Context) error) error
}

// InterceptorFunc is a function that implements [Interceptor].
type InterceptorFunc func(ctx context.Context, c Call, next func(context.Context) error) error

// Intercept calls f.
func (f InterceptorFunc) Intercept(ctx context.Context, c Call, next func(context.Context) error) error {
	return f(ctx, c, next)
}

// Intercept returns a layer with this name that passes every call through i. It allocates on every call, so put it below a
// cache if you can. If i is an io.Closer, closing the layer closes i, once for each stack that has the layer. If i is a
// [StatsReporter], so is the layer. Intercept panics if i is nil.
func Intercept(name string, i Interceptor) store.Middleware {
	if i == nil {
		panic("layer.Intercept: the Interceptor is nil: leave the layer out")
	}
	return func(next store.Store) store.Store {
		l := &intercepted{next: next, name: name, i: i}
		if r, ok := i.(StatsReporter); ok {
			return &struct {
				*intercepted
				StatsReporter
			}{l, r}
		}
		return l
	}
}

type intercepted struct {
	next store.Store
	name string
	i    Interceptor
}

var (
	_ store.Store     = (*intercepted)(nil)
	_ store.Unwrapper = (*intercepted)(nil)
	_ store.Named     = (*intercepted)(nil)
)

// Unwrap returns the wrapped Store.
func (s *intercepted) Unwrap() store.Store { return s.next }

// LayerName returns the name given to Intercept.
func (s *intercepted) LayerName() string { return s.name }

// Close closes the Interceptor if it is an io.Closer.
func (s *intercepted) Close() error { return closeIf(s.i) }

var (
	errNoNext   = errors.New("layer: an Interceptor returned nil without a successful next")
	errLateNext = errors.New("layer: an Interceptor called next after it had returned")
)

// unsettledError is an Interceptor's definite error for a write of which an attempt may still take effect. It hides the
// sentinels in that error, because they would make the outcome definite.
type unsettledError struct{ err error }

func (e *unsettledError) Error() string {
	return "layer: an attempt of the write may still take effect; the Interceptor returned: " + e.err.Error()
}

// interception is one running call through an Interceptor.
type interception[T any] struct {
	call func(context.Context) (T, error)

	mu       sync.Mutex
	answer   T
	answered bool
	returned bool
	running  []context.CancelFunc // one for each attempt; nil after its end
	unknown  bool                 // an attempt has an unknown outcome
}

// intercept makes one call through i and keeps the answer of its last successful next.
func intercept[T any](ctx context.Context, i Interceptor, c Call, call func(context.Context) (T, error)) (T, error) {
	n := interception[T]{call: call}
	err := func() error {
		defer n.leave() // also on a panic: attempts in other goroutines must stop
		return i.Intercept(ctx, c, func(ctx context.Context) error { return n.attempt(ctx, c) })
	}()
	n.mu.Lock()
	defer n.mu.Unlock()
	var zero T
	if c.Op.IsWrite() && (n.unknown || n.answered && err != nil) {
		ReportUnsettled(ctx)
		if err != nil && store.IsDefinite(err) {
			err = &store.Error{Op: c.Op, Code: store.CodeUnavailable, Cause: &unsettledError{err}}
		}
	}
	if err != nil {
		return zero, err
	}
	if !n.answered {
		return zero, &store.Error{Op: c.Op, Code: store.CodeInternal, Cause: errNoNext}
	}
	return n.answer, nil
}

// attempt implements next.
func (n *interception[T]) attempt(ctx context.Context, c Call) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n.mu.Lock()
	if n.returned {
		n.mu.Unlock()
		return &store.Error{Op: c.Op, Code: store.CodeInternal, Cause: errors.Join(store.ErrNotApplied, errLateNext)}
	}
	me := len(n.running)
	n.running = append(n.running, cancel)
	n.mu.Unlock()

	definite := false // a panic leaves it false
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.running[me] = nil
		n.unknown = n.unknown || !definite
	}()
	v, err := n.call(n.gated(ctx))
	definite = store.IsDefinite(err)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answer, n.answered = v, true
	return nil
}

// gated returns ctx with recorders that ignore reports after the call has returned.
func (n *interception[T]) gated(ctx context.Context) context.Context {
	d := callctx.Of(ctx)
	if d.Versions == nil && d.Unsettled == nil {
		return ctx
	}
	while := func(f func()) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if !n.returned {
			f()
		}
	}
	return callctx.With(ctx, func(g *callctx.Data) {
		if d.Versions != nil {
			g.Versions = callctx.VersionFunc(func(id string, before, after uint64) {
				while(func() { d.Versions.RecordVersion(id, before, after) })
			})
		}
		if d.Unsettled != nil {
			g.Unsettled = callctx.UnsettledFunc(func(ended <-chan struct{}) {
				while(func() { d.Unsettled.RecordUnsettled(ended) })
			})
		}
	})
}

// leave ends the call. It cancels running attempts, because the base's LongestWrite is a limit for abandoned writes only.
// Their outcome is unknown.
func (n *interception[T]) leave() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.returned = true
	for _, cancel := range n.running {
		if cancel != nil {
			cancel()
			n.unknown = true
		}
	}
}

func (s *intercepted) write(ctx context.Context, c Call, call func(context.Context) error) error {
	_, err := intercept(ctx, s.i, c, func(ctx context.Context) (struct{}, error) { return struct{}{}, call(ctx) })
	return err
}

func (s *intercepted) GenerateThreadID(ctx context.Context) string {
	return s.next.GenerateThreadID(ctx)
}

func (s *intercepted) GenerateItemID(ctx context.Context, kind chat.ItemKind, thread chat.Thread) string {
	return s.next.GenerateItemID(ctx, kind, thread)
}

func (s *intercepted) LoadThread(ctx context.Context, threadID string) (chat.Thread, error) {
	c := Call{Op: store.OpLoadThread, ThreadID: threadID}
	return intercept(ctx, s.i, c, func(ctx context.Context) (chat.Thread, error) { return s.next.LoadThread(ctx, threadID) })
}

func (s *intercepted) SaveThread(ctx context.Context, thread chat.Thread) error {
	c := Call{Op: store.OpSaveThread, ThreadID: thread.ID}
	return s.write(ctx, c, func(ctx context.Context) error { return s.next.SaveThread(ctx, thread) })
}

func (s *intercepted) DeleteThread(ctx context.Context, threadID string) error {
	c := Call{Op: store.OpDeleteThread, ThreadID: threadID}
	return s.write(ctx, c, func(ctx context.Context) error { return s.next.DeleteThread(ctx, threadID) })
}

func (s *intercepted) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	c := pageCall(store.OpLoadThreads, "", q.PageQuery)
	return intercept(ctx, s.i, c, func(ctx context.Context) (store.Page[chat.Thread], error) { return s.next.LoadThreads(ctx, q) })
}

func (s *intercepted) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
	c := pageCall(store.OpLoadThreadItems, threadID, q)
	return intercept(ctx, s.i, c, func(ctx context.Context) (store.Page[chat.Item], error) {
		return s.next.LoadThreadItems(ctx, threadID, q)
	})
}

func (s *intercepted) AddThreadItem(ctx context.Context, threadID string, item chat.Item) error {
	c := itemCall(store.OpAddThreadItem, threadID, item)
	return s.write(ctx, c, func(ctx context.Context) error { return s.next.AddThreadItem(ctx, threadID, item) })
}

func (s *intercepted) SaveItem(ctx context.Context, threadID string, item chat.Item) error {
	c := itemCall(store.OpSaveItem, threadID, item)
	return s.write(ctx, c, func(ctx context.Context) error { return s.next.SaveItem(ctx, threadID, item) })
}

func (s *intercepted) LoadItem(ctx context.Context, threadID, itemID string) (chat.Item, error) {
	c := Call{Op: store.OpLoadItem, ThreadID: threadID, ItemID: itemID}
	return intercept(ctx, s.i, c, func(ctx context.Context) (chat.Item, error) { return s.next.LoadItem(ctx, threadID, itemID) })
}

func (s *intercepted) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	c := Call{Op: store.OpDeleteThreadItem, ThreadID: threadID, ItemID: itemID}
	return s.write(ctx, c, func(ctx context.Context) error { return s.next.DeleteThreadItem(ctx, threadID, itemID) })
}

func (s *intercepted) SaveAttachment(ctx context.Context, a chat.Attachment) error {
	c := Call{Op: store.OpSaveAttachment, AttachmentID: a.ID}
	return s.write(ctx, c, func(ctx context.Context) error { return s.next.SaveAttachment(ctx, a) })
}

func (s *intercepted) LoadAttachment(ctx context.Context, attachmentID string) (chat.Attachment, error) {
	c := Call{Op: store.OpLoadAttachment, AttachmentID: attachmentID}
	return intercept(ctx, s.i, c, func(ctx context.Context) (chat.Attachment, error) {
		return s.next.LoadAttachment(ctx, attachmentID)
	})
}

func (s *intercepted) DeleteAttachment(ctx context.Context, attachmentID string) error {
	c := Call{Op: store.OpDeleteAttachment, AttachmentID: attachmentID}
	return s.write(ctx, c, func(ctx context.Context) error { return s.next.DeleteAttachment(ctx, attachmentID) })
}
