// Package tracing records one OpenTelemetry span for every call of a Store.
//
// Put it outermost. To see the calls of the backend too, put a second layer beneath the cache (see [WithLayer]):
//
//	s := store.Wrap(base, tracing.New(), authz.New(authz.OwnerOnly()), cache.New())
//	thread, err := s.LoadThread(ctx, id) // a span load_thread, a child of the span in ctx
//
// Do not use it to count or to alert, because sampling makes counts wrong: package metrics does that.
//
// The package needs only the OpenTelemetry API. The program chooses the SDK, the sampler and the exporter. Without an SDK nothing
// is recorded.
//
// The kind of a span is internal, and its name is the op. It has those of these attributes that apply to the call:
//
//	chatstore.operation      load_thread, …: the name of the span
//	chatstore.layer          the name in WithLayer
//	gen_ai.conversation.id   the thread's id
//	chatstore.item.id        and chatstore.item.type
//	chatstore.attachment.id
//	chatstore.page.limit     as the caller passed it; 0 means store.DefaultLimit
//	chatstore.page.items     and chatstore.page.has_more: of a returned page
//	chatstore.code           the outcome, a store.Code: ok, not_found, …
//	chatstore.cache.result   hit, miss or bypass: the result of a read in a cache beneath
//	chatstore.flight.role    leader or follower in a load that a layer beneath shares; a follower links to its leader's span
//	error.type               the code again, if the status is Error
//
// The status is Error, without a description, for timeout, unavailable, internal and panic. It is unset for ok and for codes that
// callers must expect: not_found, conflict, invalid, unauthenticated, denied, limited and canceled.
//
// A span has ids, but no content and no personal data. Titles, texts, metadata, names, URLs, cursors, owners, principals and
// error texts are left out, and so are ids that break the contract's rules. Errors are not recorded.
//
// Under a parent span that is not sampled, the layer starts no span and allocates nothing.
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

// DefaultLayer is the attribute chatstore.layer of spans without [WithLayer].
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

// WithTracerProvider sets the provider of the tracer. The default is otel.GetTracerProvider() at the time of New. If the program
// sets its first global provider later, the layer uses that one from then on. WithTracerProvider panics if tp is nil.
func WithTracerProvider(tp trace.TracerProvider) Option {
	if tp == nil {
		panic("tracing.WithTracerProvider: the provider is nil: leave the option out to use the global one")
	}
	return func(c *config) { c.provider = tp }
}

// WithLayer sets the attribute chatstore.layer, which tells apart the spans of two layers in one stack. The default is
// [DefaultLayer]. WithLayer panics if name is empty.
func WithLayer(name string) Option {
	if name == "" {
		panic("tracing.WithLayer: the name is empty: leave the option out for DefaultLayer")
	}
	return func(c *config) { c.layer = name }
}

// WithAttributes adds attributes to every span, such as the name of a database. They must not contain content or personal data.
// An attribute of this package replaces one with the same key.
func WithAttributes(attrs ...attribute.KeyValue) Option {
	attrs = append([]attribute.KeyValue(nil), attrs...)
	return func(c *config) { c.attributes = append(c.attributes, attrs...) }
}

// New returns the layer. It can wrap any number of stores and need not be closed. It is safe for concurrent use if the tracer is.
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

// tracer is the Observer that makes the spans. Its state is the span of a write, or the notes of a read, whose origin is the
// span. So the state costs no allocation.
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
		t.start[op] = []trace.SpanStartOption{trace.WithAttributes(attrs...)} // the default kind is internal
	}
	for code := range store.NumCodes {
		name := store.Code(code).String()
		t.code[code], t.errorType[code] = keyCode.String(name), keyErrorType.String(name)
	}
	return t
}

// Begin starts the span, unless the parent is not sampled.
func (t *tracer) Begin(ctx context.Context, c layer.Call) (context.Context, any) {
	if parent := trace.SpanContextFromContext(ctx); parent.IsValid() && !parent.IsSampled() {
		return ctx, nil
	}
	inner, span := t.tracer.Start(ctx, c.Op.String(), t.start[c.Op]...)
	switch {
	case !span.IsRecording():
		return inner, nil // inner tells the layers beneath that the trace is not sampled
	case c.Op.IsWrite(): // only reads are cached and shared
		return inner, span
	}
	return layer.WithNotes(inner, c.Op, span)
}

// describe appends the attributes of the call's arguments. It leaves out ids and types that are missing or not valid.
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

// End ends the span, also after a panic. It sets all attributes in one call, which costs the SDK one allocation less.
func (t *tracer) End(_ context.Context, c layer.Call, r layer.Result, state any) {
	notes, _ := state.(*layer.Notes) // nil for a write
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

// spanContextOf returns the span of a shared load's leader. origin is a span of this package, or what another Observer passed to
// layer.WithNotes.
func spanContextOf(origin any) trace.SpanContext {
	switch o := origin.(type) {
	case trace.Span:
		return o.SpanContext()
	case trace.SpanContext:
		return o
	}
	return trace.SpanContext{}
}

// isFailure reports whether a span with the code has the status Error.
func isFailure(c store.Code) bool {
	switch c {
	case store.CodeTimeout, store.CodeUnavailable, store.CodeInternal, store.CodePanic:
		return true
	}
	return false
}
