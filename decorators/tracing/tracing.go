// Package tracing records one OpenTelemetry span for every call of a Store.
//
// Put it outermost, and once more beneath a cache if the backend's own calls are to be told apart (see [WithLayer]):
//
//	s := store.Wrap(base, tracing.New(), authz.New(authz.OwnerOnly()), cache.New())
//	thread, err := s.LoadThread(ctx, id) // a span load_thread, a child of the span in ctx
//
// It needs the OpenTelemetry API only: which SDK, sampler and exporter there are is the program's business, and without any
// nothing is recorded. Do not use it to count or to alert, which sampling makes wrong: package metrics does that.
//
// A span is internal, is named by the op, and has these attributes, each where it applies:
//
//	chatstore.operation      load_thread, …, the name of the span
//	chatstore.layer          as WithLayer says
//	gen_ai.conversation.id   the thread's id
//	chatstore.item.id        and chatstore.item.type
//	chatstore.attachment.id
//	chatstore.page.limit     as the caller gave it; 0 is store.DefaultLimit
//	chatstore.page.items     and chatstore.page.has_more, of a page that was returned
//	chatstore.code           how the call ended, a store.Code: ok, not_found, …
//	chatstore.cache.result   hit, miss or bypass: what a cache beneath said of a read
//	chatstore.flight.role    leader or follower: what a shared read beneath was; a follower links to its leader's span
//	error.type               the code, of a span whose status is Error
//
// The status is Error, without a description, for timeout, unavailable, internal and panic. The answers that a caller has to
// expect (not_found, conflict, invalid, unauthenticated, denied, and canceled) leave it unset.
//
// No span has content or personal data: no titles, texts, metadata, names, URLs, cursors, owners, principals or error texts. No
// error is recorded. Ids that break the contract's rules are left out.
//
// Beneath a parent that is not sampled no span is started and nothing is allocated.
package tracing

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/internal/rules"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// ScopeName is the name of the instrumentation scope of all spans.
const ScopeName = "github.com/chatstore/chatstore/decorators/tracing"

// DefaultLayer is the chatstore.layer of spans unless [WithLayer] says otherwise.
const DefaultLayer = "store"

// The names of the attributes.
const (
	keyOperation    = attribute.Key("chatstore.operation")
	keyLayer        = attribute.Key("chatstore.layer")
	keyThreadID     = attribute.Key("gen_ai.conversation.id")
	keyItemID       = attribute.Key("chatstore.item.id")
	keyItemType     = attribute.Key("chatstore.item.type")
	keyAttachmentID = attribute.Key("chatstore.attachment.id")
	keyPageLimit    = attribute.Key("chatstore.page.limit")
	keyPageItems    = attribute.Key("chatstore.page.items")
	keyPageHasMore  = attribute.Key("chatstore.page.has_more")
	keyCode         = attribute.Key("chatstore.code")
	keyCacheResult  = attribute.Key("chatstore.cache.result")
	keyFlightRole   = attribute.Key("chatstore.flight.role")
	keyErrorType    = attribute.Key("error.type")
)

type config struct {
	provider   trace.TracerProvider
	layer      string
	attributes []attribute.KeyValue
}

// Option changes what New makes.
type Option func(*config)

// WithTracerProvider sets where the tracer comes from. The default is otel.GetTracerProvider() as it is when New is called;
// a provider that is made the global one later takes over from it then. It panics on nil.
func WithTracerProvider(tp trace.TracerProvider) Option {
	if tp == nil {
		panic("tracing.WithTracerProvider: the provider is nil: leave the option out to use the global one")
	}
	return func(c *config) { c.provider = tp }
}

// WithLayer sets chatstore.layer, which tells the spans of two layers of one stack apart. The default is [DefaultLayer].
// It panics on "".
func WithLayer(name string) Option {
	if name == "" {
		panic("tracing.WithLayer: the name is empty: leave the option out for DefaultLayer")
	}
	return func(c *config) { c.layer = name }
}

// WithAttributes adds attributes to every span, such as the name of a database. They must not hold content or personal
// data. The attributes of this package win over one of the same key.
func WithAttributes(attrs ...attribute.KeyValue) Option {
	attrs = append([]attribute.KeyValue(nil), attrs...)
	return func(c *config) { c.attributes = append(c.attributes, attrs...) }
}

// New returns the layer. It may wrap any number of stores, holds nothing that has to be closed, and is safe for concurrent
// use as far as the tracer is.
func New(opts ...Option) store.Middleware {
	c := config{layer: DefaultLayer}
	for _, o := range opts {
		o(&c)
	}
	if c.provider == nil {
		c.provider = otel.GetTracerProvider()
	}
	name := "tracing"
	if c.layer != DefaultLayer {
		name = "tracing(" + c.layer + ")"
	}
	return layer.Observe(name, newTracer(&c))
}

// tracer makes the spans. It is an Observer whose state is the span of a write, and of a read the notes, whose origin is the
// span: neither has to be allocated for it.
type tracer struct {
	tracer    trace.Tracer
	start     [store.NumOps][]trace.SpanStartOption
	code      [store.NumCodes]attribute.KeyValue
	errorType [store.NumCodes]attribute.KeyValue
}

var _ layer.Observer = (*tracer)(nil)

func newTracer(c *config) *tracer {
	t := &tracer{tracer: c.provider.Tracer(ScopeName)}
	for _, op := range store.Ops() {
		attrs := append([]attribute.KeyValue(nil), c.attributes...)
		attrs = append(attrs, keyOperation.String(op.String()), keyLayer.String(c.layer))
		t.start[op] = []trace.SpanStartOption{trace.WithAttributes(attrs...)} // and internal, which is the default
	}
	for code := range store.NumCodes {
		word := store.Code(code).String()
		t.code[code], t.errorType[code] = keyCode.String(word), keyErrorType.String(word)
	}
	return t
}

// Begin starts the span, unless it would come to nothing.
func (t *tracer) Begin(ctx context.Context, c layer.Call) (context.Context, any) {
	if parent := trace.SpanContextFromContext(ctx); parent.IsValid() && !parent.IsSampled() {
		return ctx, nil
	}
	inner, span := t.tracer.Start(ctx, c.Op.String(), t.start[c.Op]...)
	switch {
	case !span.IsRecording():
		return inner, nil // the context still says to those beneath that the trace is not sampled
	case c.Op.IsWrite(): // only reads are cached and shared
		return inner, span
	}
	return layer.WithNotes(inner, c.Op, span)
}

// describe appends what the call was for. It leaves out ids and types that the base is going to refuse, and those that the
// call does not have.
func describe(attrs []attribute.KeyValue, c *layer.Call) []attribute.KeyValue {
	if rules.IDFault(c.ThreadID) == "" {
		attrs = append(attrs, keyThreadID.String(c.ThreadID))
	}
	if rules.IDFault(c.ItemID) == "" {
		attrs = append(attrs, keyItemID.String(c.ItemID))
	}
	if rules.TypeFault(string(c.ItemType)) == "" {
		attrs = append(attrs, keyItemType.String(string(c.ItemType)))
	}
	if rules.IDFault(c.AttachmentID) == "" {
		attrs = append(attrs, keyAttachmentID.String(c.AttachmentID))
	}
	if isPage(c.Op) {
		attrs = append(attrs, keyPageLimit.Int(c.Limit))
	}
	return attrs
}

func isPage(op store.Op) bool { return op == store.OpLoadThreads || op == store.OpLoadThreadItems }

// End ends the span, always. It sets all attributes at once, which costs the SDK one growth less.
func (t *tracer) End(_ context.Context, c layer.Call, r layer.Result, state any) {
	notes, _ := state.(*layer.Notes) // nil of a write
	span, ok := state.(trace.Span)
	if !ok {
		span = notes.Origin().(trace.Span)
	}
	defer span.End()
	cache, role, leader := notes.Close()
	room := 5
	if isPage(c.Op) {
		room = 8
	}
	attrs := describe(make([]attribute.KeyValue, 0, room), &c)
	attrs = append(attrs, t.code[r.Code])
	if isPage(c.Op) && r.Code == store.CodeOK {
		attrs = append(attrs, keyPageItems.Int(r.Items), keyPageHasMore.Bool(r.HasMore))
	}
	if cache != "" {
		attrs = append(attrs, keyCacheResult.String(cache))
	}
	if role != "" {
		attrs = append(attrs, keyFlightRole.String(role))
	}
	if isFailure(r.Code) {
		attrs = append(attrs, t.errorType[r.Code])
		span.SetStatus(codes.Error, "")
	}
	span.SetAttributes(attrs...)
	if leader := spanContextOf(leader); leader.IsValid() && leader.SpanID() != span.SpanContext().SpanID() {
		span.AddLink(trace.Link{SpanContext: leader})
	}
}

// spanContextOf returns the span of a flight's leader, if it is known: that of a layer of this package, or what another
// Observer gave as its origin.
func spanContextOf(origin any) trace.SpanContext {
	switch o := origin.(type) {
	case trace.Span:
		return o.SpanContext()
	case trace.SpanContext:
		return o
	}
	return trace.SpanContext{}
}

// isFailure reports whether the code is one that nobody asked for.
func isFailure(c store.Code) bool {
	switch c {
	case store.CodeTimeout, store.CodeUnavailable, store.CodeInternal, store.CodePanic:
		return true
	}
	return false
}
