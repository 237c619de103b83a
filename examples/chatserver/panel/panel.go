// Package panel serves the data of the page's panel, which shows the decorators at work on the caller's own requests. It
// is for demonstration. For monitoring, use /metrics.
//
// A user learns nothing about rows that the user may not read. A request in which a call was refused or failed is shown
// without its calls, and is not part of the numbers. No number counts another user's requests.
//
// The state is that of one process. With several servers, each has its own numbers and its own switch of the cache.
package panel

import (
	"context"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/store"
)

// Panel collects the data. It is safe for concurrent use.
type Panel struct {
	mu    sync.Mutex
	users *simplelru.LRU[chat.Owner, *user]
	open  map[spanKey]*request // by spans that have not ended
}

// The panel keeps this many users, the newest request and turn of each, and this many spans of a request.
const (
	maxUsers = 1000
	maxSpans = 200
)

// user is what the panel knows about a user.
type user struct {
	noCache  bool
	followed int // requests, so that the page can tell them apart
	last     *request
	turn     *request // the newest one that wrote items
	totals   totals
}

// request is a followed request.
type request struct {
	user    *user
	n       int
	noCache bool
	root    sdktrace.ReadOnlySpan
	ended   bool
	spans   []span // ended spans below the root
	open    map[spanKey]struct{}
	tooMany bool
}

// spanKey identifies a span of this process. The trace's id alone could mix users up, because clients choose it.
type spanKey struct {
	trace trace.TraceID
	span  trace.SpanID
}

func keyOf(c trace.SpanContext) spanKey { return spanKey{c.TraceID(), c.SpanID()} }

// New returns a Panel.
func New() *Panel {
	p := &Panel{open: map[spanKey]*request{}}
	p.users, _ = simplelru.NewLRU[chat.Owner, *user](maxUsers, nil) // fails only if the size is not positive
	return p
}

// Base returns a tracing layer for beneath the cache. The panel needs its spans to see which calls reach the base.
func Base(tp trace.TracerProvider) store.Middleware {
	return tracing.New(tracing.WithTracerProvider(tp), tracing.WithLayer(baseLayer))
}

// userOf returns the user of ctx, and makes it if it is not kept. It returns nil if ctx has no principal.
func (p *Panel) userOf(ctx context.Context) *user {
	who, ok := store.PrincipalFrom(ctx)
	if !ok {
		return nil
	}
	u, ok := p.users.Get(who.Owner)
	if !ok {
		u = &user{}
		p.users.Add(who.Owner, u)
	}
	return u
}

// Follow makes a request the last one of ctx's principal. ctx must have the request's span. The panel keeps this span, and
// the spans that begin below it from now on. It shows them only to that principal.
//
// Follow returns the context for the request's calls of the store. If the user has turned the cache off, these neither read
// the cache nor fill it.
func (p *Panel) Follow(ctx context.Context) context.Context {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.userOf(ctx)
	if u == nil {
		return ctx
	}
	if root, ok := trace.SpanFromContext(ctx).(sdktrace.ReadOnlySpan); ok {
		u.followed++
		u.last = &request{user: u, n: u.followed, noCache: u.noCache, root: root, open: map[spanKey]struct{}{}}
		p.begin(u.last, keyOf(root.SpanContext()))
	}
	if u.noCache {
		ctx = store.WithNoStore(store.WithFresh(ctx))
	}
	return ctx
}

func (p *Panel) begin(r *request, k spanKey) {
	r.open[k] = struct{}{}
	p.open[k] = r
}

// SpanProcessor returns the processor to add to a TracerProvider.
func (p *Panel) SpanProcessor() sdktrace.SpanProcessor { return processor{p} }

type processor struct{ *Panel }

func (processor) Shutdown(context.Context) error   { return nil }
func (processor) ForceFlush(context.Context) error { return nil }

func (p processor) OnStart(_ context.Context, s sdktrace.ReadWriteSpan) {
	if s.Parent().IsRemote() { // a client can claim any parent
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch r := p.open[keyOf(s.Parent())]; {
	case r == nil:
	case len(r.open)+len(r.spans) > maxSpans:
		r.tooMany = true
	default:
		p.begin(r, keyOf(s.SpanContext()))
	}
}

func (p processor) OnEnd(s sdktrace.ReadOnlySpan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := keyOf(s.SpanContext())
	r := p.open[k]
	if r == nil {
		return
	}
	delete(p.open, k)
	delete(r.open, k)
	if k != keyOf(r.root.SpanContext()) {
		n := newSpan(s)
		r.spans = append(r.spans, n)
		if n.writesItems() {
			r.user.turn = r
		}
		return
	}
	r.root, r.ended = s, true
	for k := range r.open { // spans that outlive the request are not of interest
		delete(p.open, k)
	}
	r.open = nil
	r.user.totals.add(r)
}
