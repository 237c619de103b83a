package chatkit

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// Handler is the HTTP endpoint. It is safe for concurrent use.
type Handler struct {
	store     store.Store
	responder Responder
	config

	mu      sync.Mutex
	closed  bool
	running int
	idle    chan struct{} // closed when the handler is closed and no turn is running

	seed  maphash.Seed
	locks [64]chan struct{}    // by the hash of a thread's id: see lock
	turns map[string]*underway // by thread; guarded by mu

	over context.Context // cancelled to end all turns
	end  context.CancelCauseFunc
}

type config struct {
	log         *slog.Logger
	metrics     *Metrics
	files       Files
	maxBody     int64
	maxTurns    int
	answerLimit time.Duration
	turnLimit   time.Duration
	heartbeat   time.Duration
}

// Option configures a [Handler].
type Option func(*config)

// WithLogger sets the logger for failures of the server. The default is slog.Default. Messages of users are not logged.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.log = l } }

// WithMetrics counts requests and turns.
func WithMetrics(m *Metrics) Option { return func(c *config) { c.metrics = m } }

// WithFiles makes the handler accept attachments. Without it, they are refused as not supported.
func WithFiles(f Files) Option { return func(c *config) { c.files = f } }

// WithMaxBody limits the bytes of a request. The default is 1 MiB.
func WithMaxBody(bytes int64) Option { return func(c *config) { c.maxBody = bytes } }

// WithMaxTurns limits the number of concurrent turns. More are refused as unavailable. The default is 10,000.
func WithMaxTurns(n int) Option { return func(c *config) { c.maxTurns = n } }

// WithAnswerLimit limits the time of a request that is answered with JSON. The default is 30 s.
func WithAnswerLimit(d time.Duration) Option { return func(c *config) { c.answerLimit = d } }

// WithTurnLimit limits the time of a request that is answered with a stream. The default is five minutes.
func WithTurnLimit(d time.Duration) Option { return func(c *config) { c.turnLimit = d } }

// WithHeartbeat sets how often a silent stream sends a comment, because proxies close silent connections. The default is
// 15 seconds.
func WithHeartbeat(d time.Duration) Option { return func(c *config) { c.heartbeat = d } }

// Files stores the content of attachments. Like an attachment's row, the content outlives the conversation, because several
// conversations may use it. attachments.delete removes both.
type Files interface {
	// Create prepares the upload of an attachment's content. size is the number of bytes that the client announced. The
	// returned body has the data that the client needs for the upload.
	Create(ctx context.Context, id string, size int64, body chat.AttachmentBody) (chat.AttachmentBody, error)
	// Delete deletes the content. It is called only for attachments that the caller may delete, possibly more than once.
	Delete(ctx context.Context, id string) error
}

// NewHandler returns a Handler that keeps conversations in s and answers with r. Both must outlive it.
func NewHandler(s store.Store, r Responder, opts ...Option) *Handler {
	h := &Handler{store: s, responder: r, idle: make(chan struct{}), seed: maphash.MakeSeed(), turns: map[string]*underway{}}
	for i := range h.locks {
		h.locks[i] = make(chan struct{}, 1)
	}
	h.config = config{
		log: slog.Default(), metrics: NewMetrics(nil),
		maxBody: 1 << 20, maxTurns: 10_000,
		answerLimit: 30 * time.Second, turnLimit: 5 * time.Minute, heartbeat: 15 * time.Second,
	}
	for _, o := range opts {
		o(&h.config)
	}
	h.over, h.end = context.WithCancelCause(context.Background())
	return h
}

var _ http.Handler = (*Handler)(nil)

// ServeHTTP answers one request. The context must have the caller's [store.Principal].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	req, err := readRequest(w, r, h.maxBody)
	kind := "unknown" // labels are a closed set: never use the client's text
	answer, isAnswer := answers[req.Type]
	respond, isStream := streams[req.Type]
	if isAnswer || isStream {
		kind = req.Type
	}
	trace.SpanFromContext(r.Context()).SetAttributes(attribute.String("chatkit.request.type", kind))

	out := &stream{w: w, rc: http.NewResponseController(w)}
	switch {
	case err != nil:
	case isAnswer:
		ctx, cancel := context.WithTimeoutCause(r.Context(), h.answerLimit, errTooLong)
		defer cancel()
		var v any
		if v, err = guard(func() (any, error) { return answer(h, ctx, req.Params) }); err == nil {
			err = out.answer(v)
		}
	case isStream:
		if err = h.enter(); err == nil {
			ctx, cancel := context.WithTimeoutCause(r.Context(), h.turnLimit, errTooLong)
			_, err = guard(func() (any, error) { return nil, respond(h, ctx, req.Params, out) })
			cancel()
			h.leave()
		}
	default:
		err = invalid("type: not known")
	}

	code := "ok"
	if err != nil {
		code = describe(err).Code
		if out.begun() {
			out.fail(err)
		} else {
			WriteError(w, err)
		}
	}
	if code == store.CodeInternal.String() || code == store.CodePanic.String() {
		h.log.ErrorContext(r.Context(), "request failed", "type", kind, "error", err)
	}
	out.end()
	h.metrics.request(kind, code, time.Since(began))
}

// lock serialises decisions that read a thread and then write it, on this server. It returns the function that unlocks. It
// fails if ctx ends first.
func (h *Handler) lock(ctx context.Context, threadID string) (unlock func(), err error) {
	l := h.locks[maphash.String(h.seed, threadID)%uint64(len(h.locks))]
	select {
	case l <- struct{}{}:
		return func() { <-l }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// guard turns a panic into an error.
func guard[T any](f func() (T, error)) (v T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &store.Error{Code: store.CodePanic, Cause: fmt.Errorf("panic: %v\n%s", p, debug.Stack())}
		}
	}()
	return f()
}

var (
	errBusy     = StatusError{http.StatusServiceUnavailable, "unavailable", "the server is busy: try again"}
	errStopping = StatusError{http.StatusServiceUnavailable, "unavailable", "the server is stopping: try again"}
)

// enter begins a turn. It fails if there are too many or the handler is shut down.
func (h *Handler) enter() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return errStopping
	case h.running >= h.maxTurns:
		return errBusy
	}
	h.running++
	h.metrics.streams.Inc()
	return nil
}

func (h *Handler) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.metrics.streams.Dec()
	h.running--
	if h.closed && h.running == 0 {
		close(h.idle)
	}
}

// Shutdown refuses new turns and waits for the running ones. If ctx ends first, it ends them, which saves their answers so
// far, and returns ctx's error. Call it once.
func (h *Handler) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return errors.New("chatkit: Shutdown was called twice")
	}
	h.closed = true
	if h.running == 0 {
		close(h.idle)
	}
	h.mu.Unlock()
	defer h.end(errStopping)
	select {
	case <-h.idle:
		return nil
	case <-ctx.Done():
	}
	h.end(errStopping)
	<-h.idle
	return ctx.Err()
}
