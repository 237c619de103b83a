package chatkit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// Handler is the HTTP endpoint. It is safe for concurrent use.
type Handler struct {
	store     store.Store
	responder Responder
	metrics   *metrics
	config

	mu      sync.Mutex
	closed  bool
	running int
	users   map[chat.Owner]int // running turns by user; without zeros
	idle    chan struct{}      // closed when the handler is closed and no turn is running

	locks map[string]*lock     // by thread; guarded by mu
	turns map[string]*underway // by thread; guarded by mu
	odds  oddItems

	over context.Context // cancelled to end all turns
	end  context.CancelCauseFunc
}

type config struct {
	zone        *time.Location // of stored times without one; nil means UTC
	log         *slog.Logger
	registerer  prometheus.Registerer // may be nil
	files       Files
	maxBody     int64
	maxTurns    int
	maxPerUser  int
	answerLimit time.Duration
	turnLimit   time.Duration
}

// Option configures a [Handler].
type Option func(*config)

// WithLogger sets the logger for failures of the server. The default is slog.Default. Messages of users are not logged.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.log = l } }

// WithFiles makes the handler accept attachments. Without it, they are refused as not supported.
func WithFiles(f Files) Option { return func(c *config) { c.files = f } }

// WithMaxBody limits the bytes of a request. The default is 1 MiB.
func WithMaxBody(bytes int64) Option { return func(c *config) { c.maxBody = bytes } }

// WithMaxTurns limits the number of concurrent turns. More are refused as unavailable. The default is 10,000.
func WithMaxTurns(n int) Option { return func(c *config) { c.maxTurns = n } }

// WithMaxTurnsPerUser limits the number of concurrent turns of one user: of one Owner of the [store.Principal]. More are
// refused as limited. The default is 20. Requests without a principal are not limited.
func WithMaxTurnsPerUser(n int) Option { return func(c *config) { c.maxPerUser = n } }

// WithAnswerLimit limits the time of a request that is answered with JSON. The default is 30 s.
func WithAnswerLimit(d time.Duration) Option { return func(c *config) { c.answerLimit = d } }

// WithTurnLimit limits the time of a request that is answered with a stream. The default is five minutes.
func WithTurnLimit(d time.Duration) Option { return func(c *config) { c.turnLimit = d } }

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
	h := &Handler{
		store: s, responder: r, idle: make(chan struct{}), users: map[chat.Owner]int{},
		locks: map[string]*lock{}, turns: map[string]*underway{},
	}
	h.config = config{
		log:     slog.Default(),
		maxBody: 1 << 20, maxTurns: 10_000, maxPerUser: 20,
		answerLimit: 30 * time.Second, turnLimit: 5 * time.Minute,
	}
	for _, o := range opts {
		o(&h.config)
	}
	h.metrics = newMetrics(h.registerer)
	h.over, h.end = context.WithCancelCause(context.Background())
	return h
}

var _ http.Handler = (*Handler)(nil)

// ServeHTTP answers one request. If the store asks for the caller, as with authz, the context must have the [store.Principal].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	req, err := readRequest(w, r, h.maxBody)
	r = r.WithContext(withMetadata(r.Context(), req.Metadata))
	kind := "unknown" // labels are a closed set: never use the client's text
	answer, isAnswer := answers[req.Type]
	respond, isStream := streams[req.Type]
	if isAnswer || isStream {
		kind = req.Type
	}
	trace.SpanFromContext(r.Context()).SetAttributes(attribute.String("chatkit.request.type", kind))

	out := &stream{w: w, rc: http.NewResponseController(w), zone: h.zone}
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
		var leave func()
		if leave, err = h.enter(r.Context()); err == nil {
			err = func() error {
				defer leave() // also after Goexit
				return h.stream(r.Context(), out, func(ctx context.Context) error { return respond(h, ctx, req.Params, out) })
			}()
		}
	default:
		err = invalid("type: not known")
	}

	code := "ok"
	if err != nil {
		code = describe(err).Code
		h.report(r.Context(), kind, err, out.begun())
		if out.begun() {
			out.fail(err)
		} else {
			WriteError(w, err)
		}
	}
	out.end()
	h.metrics.request(kind, code, time.Since(began))
}

// stream runs a request that is answered with events. Comments are sent until its end.
func (h *Handler) stream(ctx context.Context, out *stream, respond func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, h.turnLimit, errTooLong)
	defer cancel()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer context.AfterFunc(h.over, func() { end(context.Cause(h.over)) })()
	beating, still := context.WithCancel(ctx)
	var beats sync.WaitGroup
	beats.Go(func() { out.beat(beating) })
	defer func() { still(); beats.Wait() }()
	_, err := guard(func() (any, error) { return nil, respond(ctx) })
	return err
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

// errTooMany refuses a turn of a user who has too many. When one of them ends is not known.
var errTooMany = &store.Error{Code: store.CodeLimited, Field: "too many answers at a time: wait for one to end", RetryAfter: 5 * time.Second}

// enter begins a turn, which leave ends. It fails if there are too many or the handler is shut down.
func (h *Handler) enter(ctx context.Context) (leave func(), err error) {
	p, known := store.PrincipalFrom(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return nil, errStopping
	case h.running >= h.maxTurns:
		return nil, errBusy
	case known && h.users[p.Owner] >= h.maxPerUser:
		return nil, errTooMany
	}
	h.running++
	h.users[p.Owner]++
	h.metrics.streams.Inc()
	return func() { h.leave(p.Owner) }, nil
}

func (h *Handler) leave(user chat.Owner) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.metrics.streams.Dec()
	h.running--
	if h.users[user]--; h.users[user] == 0 {
		delete(h.users, user)
	}
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
