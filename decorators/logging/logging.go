// Package logging writes one line to a [slog.Logger] for every call of a Store.
//
// Put it inside of tracing, so that a handler that adds trace ids finds the span in the context. Put it inside of metrics, which
// then exports its counter:
//
//	s := store.Wrap(base, tracing.New(), m, logging.New(logger), authz.New(authz.OwnerOnly()), cache.New())
//
// Such a layer sees the callers' calls. A second layer beneath the cache sees those of the backend. Tell the two apart by their
// loggers: logging.New(logger.With("layer", "backend")).
//
// Do not use it to count or to alert: package metrics does that, at a lower cost.
//
// The line is written when the call has ended. Its message is "chatstore call". It has those of these attributes that apply:
//
//	operation      load_thread, …
//	code           the outcome, a store.Code: ok, not_found, …
//	duration
//	thread_id, item_id, item_type, attachment_id
//	limit          as the caller passed it; 0 means store.DefaultLimit
//	rows, has_more of a returned page
//	outcome        of a failed write: not_applied, or unknown if it may still take effect
//
// The code decides the level:
//
//	Info   ok, not_found, conflict, canceled
//	Warn   invalid, unauthenticated, denied, limited; and slow calls that would be Info
//	Error  timeout, unavailable, internal, panic
//
// [WithSample] thins out the lines of code ok. Lines of other codes and of slow calls are always written.
//
// # Content
//
// A line has ids, but no content and no personal data. It leaves out cursors, owners and principals, the texts of errors, and
// ids that break the contract's rules. To log the owner, use a handler that takes it from the context.
//
// Only at Debug does a failed call have a second line, "chatstore error". It repeats the attributes and adds causes, the chain
// of errors with their Go types. Their texts may contain stored content and names of hosts.
//
// # Cost
//
// A line that is not written costs no allocation. If the logger is not enabled for Error, the layer does not read the clock
// either. A handler that panics fails no call. The lines of the call may be lost, and the layer counts that for
// [layer.StatsReporter]: chatstore_logging_lost_total. A handler must not call runtime.Goexit.
package logging

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/internal/rules"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// DefaultSlow is the duration from which a call is slow if [WithSlow] sets no other.
const DefaultSlow = time.Second

// Option configures New.
type Option func(*observer)

// WithSlow sets the duration from which a call is slow; the default is DefaultSlow. Slow calls are logged at Warn at least, and
// are never left out by [WithSample]. WithSlow panics if d is negative.
func WithSlow(d time.Duration) Option {
	must(d >= 0, "WithSlow: the duration is negative: use 0 for every call")
	return func(o *observer) { o.slow = d }
}

// WithSample sets the part of the lines of code ok that is written, chosen at random. The default is 1, which means all; with 0,
// only failed and slow calls are logged. WithSample panics unless rate is between 0 and 1.
func WithSample(rate float64) Option {
	must(rate >= 0 && rate <= 1, "WithSample: the rate must be between 0 and 1")
	return func(o *observer) { o.sample = rate }
}

func must(ok bool, sentence string) {
	if !ok {
		panic("logging." + sentence)
	}
}

// New returns the layer, which logs to logger. It can wrap any number of stores and need not be closed. New panics if logger is
// nil.
func New(logger *slog.Logger, opts ...Option) store.Middleware {
	must(logger != nil, "New: the logger is nil: pass slog.Default()")
	o := &observer{logger: logger, slow: DefaultSlow, sample: 1}
	for _, opt := range opts {
		opt(o)
	}
	return layer.Observe("logging", o)
}

type observer struct {
	logger *slog.Logger
	slow   time.Duration
	sample float64
	lost   atomic.Int64
}

var (
	_ layer.Observer      = (*observer)(nil)
	_ layer.StatsReporter = (*observer)(nil)
)

func levelOf(c store.Code) slog.Level {
	switch c {
	case store.CodeOK, store.CodeNotFound, store.CodeConflict, store.CodeCanceled:
		return slog.LevelInfo
	case store.CodeInvalid, store.CodeUnauthenticated, store.CodeDenied, store.CodeLimited:
		return slog.LevelWarn
	}
	return slog.LevelError
}

// Begin asks for the end of the call, unless no line could be written.
func (o *observer) Begin(ctx context.Context, _ layer.Call) (inner context.Context, state any) {
	defer o.rescue()
	inner = ctx // also if Enabled panics
	if o.logger.Enabled(ctx, slog.LevelError) {
		state = o
	}
	return inner, state
}

// End writes the lines of the call.
func (o *observer) End(ctx context.Context, c layer.Call, r layer.Result, _ any) {
	level := levelOf(r.Code)
	switch {
	case r.Duration >= o.slow:
		level = max(level, slog.LevelWarn)
	case r.Code == store.CodeOK && rand.Float64() >= o.sample:
		return
	}
	defer o.rescue()
	if o.logger.Enabled(ctx, level) {
		o.logger.LogAttrs(ctx, level, "chatstore call", attributes(c, r)...)
	}
	// The causes have their own line: one of several handlers may take only lines above Debug.
	if r.Err != nil && o.logger.Enabled(ctx, slog.LevelDebug) {
		o.logger.LogAttrs(ctx, slog.LevelDebug, "chatstore error", append(attributes(c, r), slog.Any("causes", causes(nil, r.Err)))...)
	}
}

// rescue counts a line that is lost because the handler panics. The panic of a base goes on.
func (o *observer) rescue() {
	if recover() != nil {
		o.lost.Add(1)
	}
}

// AppendStats implements [layer.StatsReporter].
func (o *observer) AppendStats(dst []layer.Stat) []layer.Stat {
	return append(dst, layer.Stat{Name: "chatstore_logging_lost_total", Help: "Log lines lost because the handler panicked.",
		Counter: true, Value: float64(o.lost.Load())})
}

// attributes returns the attributes of a call. It leaves out ids and types that are missing or not valid: such text may be
// content.
func attributes(c layer.Call, r layer.Result) []slog.Attr {
	attrs := make([]slog.Attr, 0, 9) // with the causes
	attrs = append(attrs, slog.String("operation", c.Op.String()), slog.String("code", r.Code.String()),
		slog.Duration("duration", r.Duration))
	add := func(key, value, fault string) {
		if fault == "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	add("thread_id", c.ThreadID, rules.IDFault(c.ThreadID))
	add("item_id", c.ItemID, rules.IDFault(c.ItemID))
	add("item_type", string(c.ItemType), rules.TypeFault(string(c.ItemType)))
	add("attachment_id", c.AttachmentID, rules.IDFault(c.AttachmentID))
	if c.Op == store.OpLoadThreads || c.Op == store.OpLoadThreadItems {
		attrs = append(attrs, slog.Int("limit", c.Limit))
		if r.Code == store.CodeOK {
			attrs = append(attrs, slog.Int("rows", r.Items), slog.Bool("has_more", r.HasMore))
		}
	}
	if c.Op.IsWrite() && r.Code != store.CodeOK {
		outcome := "unknown"
		if r.Code != store.CodePanic && store.IsDefinite(r.Err) {
			outcome = "not_applied"
		}
		attrs = append(attrs, slog.String("outcome", outcome))
	}
	return attrs
}

// causes appends the types and texts of err and of all errors that it wraps. Sprintf catches the panics of an Error method.
func causes(list []string, err error) []string {
	if err == nil {
		return list
	}
	list = append(list, fmt.Sprintf("%T: %v", err, err))
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		list = causes(list, e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, cause := range e.Unwrap() {
			list = causes(list, cause)
		}
	}
	return list
}
