package stacktest_test

// This file tries every fault of a base and of a caller with every op, through whole stacks. The contract decides what the caller
// gets. In every case:
//
//   - every span and every goroutine ends
//   - the gauge of calls in flight returns to zero
//   - the cache counts its entries and bytes correctly
//   - the next caller gets the base's current rows

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/metrics"
	"github.com/chatstore/chatstore/decorators/singleflight"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
)

const (
	patience    = time.Second     // until a caller's deadline, or until a caller cancels
	slowness    = 3 * time.Second // of a base that ignores its context
	release     = 5 * time.Second // until a waiting base goes on
	loadTimeout = 8 * time.Second // of a shared load
	quarantine  = time.Minute     // after a write with an unknown outcome
)

// session is a store and a caller's context.
type session struct {
	store.Store
	ctx context.Context
}

// operation is a call of an op on an existing row.
type operation struct {
	op   store.Op
	look store.Op // the load by which authz finds the row's owner; zero means the call itself
	call func(session) error
}

var operations = []operation{
	{store.OpLoadThread, 0, func(c session) error { return errOf(c.LoadThread(c.ctx, "thr_1")) }},
	{store.OpSaveThread, store.OpLoadThread, func(c session) error { return c.SaveThread(c.ctx, titled("thr_1", "new")) }},
	{store.OpDeleteThread, store.OpLoadThread, func(c session) error { return c.DeleteThread(c.ctx, "thr_1") }},
	{store.OpLoadThreads, 0, func(c session) error { return errOf(c.LoadThreads(c.ctx, store.ThreadQuery{})) }},
	{store.OpLoadThreadItems, store.OpLoadThread,
		func(c session) error { return errOf(c.LoadThreadItems(c.ctx, "thr_1", store.PageQuery{})) }},
	{store.OpAddThreadItem, store.OpLoadThread,
		func(c session) error { return c.AddThreadItem(c.ctx, "thr_1", hidden("msg_9", 9)) }},
	{store.OpSaveItem, store.OpLoadThread, func(c session) error { return c.SaveItem(c.ctx, "thr_1", hidden("msg_1", 9)) }},
	{store.OpAddThreadItem, store.OpLoadAttachment,
		func(c session) error { return c.AddThreadItem(c.ctx, "thr_1", naming("msg_9", "atc_1")) }},
	{store.OpSaveItem, store.OpLoadItem, func(c session) error { return c.SaveItem(c.ctx, "thr_1", naming("msg_1", "atc_1")) }},
	{store.OpLoadItem, store.OpLoadThread, func(c session) error { return errOf(c.LoadItem(c.ctx, "thr_1", "msg_2")) }},
	{store.OpDeleteThreadItem, store.OpLoadThread, func(c session) error { return c.DeleteThreadItem(c.ctx, "thr_1", "msg_2") }},
	{store.OpSaveAttachment, store.OpLoadAttachment, func(c session) error {
		a := file("atc_1")
		a.ThreadID = "thr_1"
		return c.SaveAttachment(c.ctx, a)
	}},
	{store.OpLoadAttachment, 0, func(c session) error { return errOf(c.LoadAttachment(c.ctx, "atc_1")) }},
	{store.OpDeleteAttachment, store.OpLoadAttachment, func(c session) error { return c.DeleteAttachment(c.ctx, "atc_1") }},
}

// conditional are writes under the thread's version. They are for bases that report versions.
var conditional = []operation{
	{store.OpSaveThread, store.OpLoadThread, func(c session) error { return c.SaveThread(c.atVersion(), titled("thr_1", "new")) }},
	{store.OpSaveItem, store.OpLoadThread, func(c session) error { return c.SaveItem(c.atVersion(), "thr_1", hidden("msg_1", 9)) }},
}

// atVersion returns the caller's context under the version that thr_1 has in a new rig.
func (c session) atVersion() context.Context { return store.IfVersion(c.ctx, "thr_1", 4) }

// naming returns a message with an attachment, which authz must load.
func naming(id, attachmentID string) chat.Item {
	return testenv.OrPanic(chat.NewItem(id, noon, chat.UserMessage{Attachments: []chat.Attachment{file(attachmentID)}}))
}

func errOf[T any](_ T, err error) error { return err }

// rows returns all rows of s as text.
func rows(ctx context.Context, s store.Store) string {
	var b strings.Builder
	add := func(what string, err error, parts ...any) {
		fmt.Fprintln(&b, what, store.CodeOf(err), fmt.Sprint(parts...))
	}
	text := func(p store.Page[chat.Item]) (all []string) {
		for _, it := range p.Data {
			all = append(all, it.JSON().String())
		}
		return all
	}
	th, err := s.LoadThread(ctx, "thr_1")
	add("thread", err, th.JSON(), th.Owner)
	page, err := s.LoadThreadItems(ctx, "thr_1", store.PageQuery{Limit: 2})
	add("newest", err, text(page), page.HasMore, page.After)
	page, err = s.LoadThreadItems(ctx, "thr_1", store.PageQuery{Order: store.OldestFirst})
	add("oldest", err, text(page), page.HasMore, page.After)
	for _, id := range []string{"msg_1", "msg_2", "msg_9"} {
		it, err := s.LoadItem(ctx, "thr_1", id)
		add(id, err, it.JSON())
	}
	threads, err := s.LoadThreads(ctx, store.ThreadQuery{Owner: store.OwnedBy(ada.Owner)})
	for _, th := range threads.Data {
		add("listed", err, th.JSON(), th.Owner)
	}
	add("listed", err, len(threads.Data), threads.HasMore)
	a, err := s.LoadAttachment(ctx, "atc_1")
	add("attachment", err, a.JSON(), a.Owner)
	return b.String()
}

// leaving is how the caller leaves.
type leaving int

const (
	stays         leaving = iota
	goneBefore            // cancels before the call
	lateBefore            // has a deadline that is over before the call
	hasDeadline           // has a deadline after patience
	cancelled             // cancels after patience
	cancelledOnce         // is cancelled by the base, at some point
)

// fault is one thing that goes wrong.
type fault struct {
	name    string
	do      func(*rig) layer.InterceptorFunc // nil if the base has no fault
	base    store.Code                       // of the base's answer; CodePanic also for Goexit
	unknown bool                             // a write with this answer may have been made
	made    bool                             // the write was made
	exits   bool                             // the base calls Goexit
	caller  leaving
	waits   bool // the base waits until the caller has left, or until release
	kin     bool // differs from another fault only in the error: is tried only cold and alone
}

// fixed makes a fault that is the same for every rig.
func fixed(f layer.InterceptorFunc) func(*rig) layer.InterceptorFunc {
	return func(*rig) layer.InterceptorFunc { return f }
}

// failing returns a fault of a base that returns err.
func failing(name string, err error, code store.Code, unknown bool) fault {
	return fault{name: name, do: fixed(faulty.Fail(err)), base: code, unknown: unknown}
}

// kin returns f with the field kin set.
func kin(f fault) fault {
	f.kin = true
	return f
}

// ignoring makes a base slow, and makes it ignore its context.
func ignoring(d time.Duration) layer.InterceptorFunc {
	return func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		time.Sleep(d)
		return next(context.WithoutCancel(ctx))
	}
}

// held makes a base wait until the caller has left, or until the rig releases it.
var held = func(r *rig) layer.InterceptorFunc { return faulty.Delay(faulty.Until(r.released)) }

var faults = []fault{
	failing("unavailable", store.ErrUnavailable, store.CodeUnavailable, true),
	failing("not found", store.ErrNotFound, store.CodeNotFound, false),
	kin(failing("conflict", store.ErrConflict, store.CodeConflict, false)),
	failing("invalid", store.ErrInvalid, store.CodeInvalid, false),
	kin(failing("unauthenticated", store.ErrUnauthenticated, store.CodeUnauthenticated, false)),
	failing("denied", store.ErrDenied, store.CodeDenied, false),
	failing("another version", &store.Error{Code: store.CodeConflict, Field: "if_version"}, store.CodeConflict, false),
	failing("limited", &store.Error{Code: store.CodeLimited, RetryAfter: time.Second}, store.CodeLimited, false),
	failing("not applied", store.ErrNotApplied, store.CodeUnavailable, false),
	kin(failing("connection lost before it was sent", &store.Error{Code: store.CodeUnavailable, Cause: errors.Join(io.EOF, store.ErrNotApplied)},
		store.CodeUnavailable, false)),
	failing("connection lost", &store.Error{Code: store.CodeUnavailable, Cause: io.EOF}, store.CodeUnavailable, true),
	failing("connection lost, unclassified", io.EOF, store.CodeInternal, true),
	kin(failing("connection reset, unclassified", &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}, store.CodeInternal, true)),
	kin(failing("connection closed, unclassified", net.ErrClosed, store.CodeInternal, true)),
	kin(failing("network timed out, unclassified", &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}, store.CodeInternal, true)),
	kin(failing("bad connection, unclassified", driver.ErrBadConn, store.CodeInternal, true)),
	failing("the base's own deadline", context.DeadlineExceeded, store.CodeTimeout, true),
	failing("the base's own cancellation", context.Canceled, store.CodeCanceled, true),
	{name: "answer lost", do: fixed(faulty.FailAfter(store.ErrUnavailable)), base: store.CodeUnavailable, unknown: true, made: true},
	{name: "answer lost, unclassified", do: fixed(faulty.FailAfter(io.EOF)), base: store.CodeInternal, unknown: true, made: true},
	{name: "applied late", do: func(r *rig) layer.InterceptorFunc { return r.late.Hold(nil) }, base: store.CodeUnavailable, unknown: true},
	{name: "panic", do: fixed(faulty.Panic("boom")), base: store.CodePanic, unknown: true},
	{name: "panic after", do: fixed(faulty.PanicAfter("boom")), base: store.CodePanic, unknown: true, made: true},
	{name: "Goexit", do: fixed(faulty.Goexit()), base: store.CodePanic, exits: true, unknown: true},
	{name: "Goexit after", do: fixed(faulty.GoexitAfter()), base: store.CodePanic, exits: true, unknown: true, made: true},
	{name: "too slow for its caller", do: held, base: store.CodeTimeout, unknown: true, caller: hasDeadline, waits: true},
	{name: "slow, ignores its context", do: fixed(ignoring(slowness)), base: store.CodeOK, made: true, caller: hasDeadline},
	{name: "too slow for a shared load", do: fixed(faulty.Delay(faulty.Until(nil))), base: store.CodeTimeout, unknown: true},
	{name: "too slow for a shared load, ignores its context", do: fixed(ignoring(loadTimeout + time.Second)), base: store.CodeOK},
	{name: "cancelled before", caller: goneBefore},
	{name: "too late before", caller: lateBefore},
	{name: "cancelled while the base waits", do: held, base: store.CodeCanceled, unknown: true, caller: cancelled, waits: true},
	{name: "cancelled when the base is done", do: func(r *rig) layer.InterceptorFunc {
		return func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			defer r.leave()
			return next(ctx)
		}
	}, base: store.CodeOK, made: true, caller: cancelledOnce},
	{name: "cancelled when the base is done, base returns canceled", do: func(r *rig) layer.InterceptorFunc {
		return func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			_ = next(ctx)
			r.leave()
			return context.Canceled
		}
	}, base: store.CodeCanceled, unknown: true, made: true, caller: cancelledOnce},
}

// company says whether others call at the same time: for a read two identical reads, for a write two readers of the row.
type company int

const (
	alone   company = iota
	leads           // the others come after the call
	follows         // the others come before the call
)

var companies = [...]string{"alone", "leading", "following"}

// cell is one case of the matrix.
type cell struct {
	stack   string // names the layer in the cache's place
	op      operation
	fault   fault
	atLook  bool // the fault hits the load that authz makes, not the op's own call
	warm    bool
	company company
}

func (c cell) String() string {
	name := c.fault.name
	if c.atLook {
		name += ", in the load of authz"
	}
	if c.warm {
		name += ", warm"
	}
	return name + ", " + companies[c.company]
}

// struck returns the op of the calls that the fault hits.
func (c cell) struck() store.Op {
	if c.atLook {
		return c.op.look
	}
	return c.op.op
}

// shared reports whether the calls that the fault hits are shared loads, which have their own goroutine and context.
func (c cell) shared() bool {
	return !c.struck().IsWrite() && (c.stack == "singleflight" || c.struck() != store.OpLoadThreads)
}

// hit reports whether the cache answers without a call of the base.
func (c cell) hit() bool {
	return c.stack != "singleflight" && c.warm && !c.op.op.IsWrite() && c.op.op != store.OpLoadThreads
}

// makes reports whether the case makes sense and differs from others.
func (c cell) makes() bool {
	f, write := c.fault, c.op.op.IsWrite()
	switch {
	case c.atLook && (c.op.look == 0 || c.company != alone || c.stack != "singleflight" && c.warm):
		return false // authz makes no load, or none that reaches the base
	case c.atLook && (f.base == store.CodeNotFound || f.base == store.CodeDenied):
		return false // for authz this is a missing row and no fault
	case f.do == nil && (c.atLook || c.company != alone):
		return false // others would notice nothing
	case f.name == "applied late" && !c.struck().IsWrite():
		return false
	case strings.HasPrefix(f.name, "too slow for a shared load") && !c.shared():
		return false
	case c.hit() && f.name != "unavailable" && f.do != nil:
		return false // the fault hits nothing, so one such case is enough
	case f.kin && (c.warm || c.atLook || c.company != alone):
		return false
	case f.caller == cancelledOnce && c.company != alone && !c.shared() && !write:
		return false // each of the others' calls would cancel the caller when it ends
	case c.company == follows && (write || f.caller == stays):
		return false // readers come during a write, and the order matters only if the caller leaves
	case c.stack == "singleflight" && c.warm:
		return false // singleflight keeps nothing
	case c.stack == "sole writer" && !(write && c.warm && c.company == alone):
		return false // a sole writer differs only in its patches
	}
	return true
}

// ending is how a call ended.
type ending struct {
	how  string // returned, panicked or exited
	code store.Code
	err  error
	what any // the value of the panic
	took time.Duration
}

func (e ending) String() string { return fmt.Sprint(e.how, " ", e.code, " after ", e.took) }

func attempt(f func() error) *ending {
	e := &ending{how: "exited", code: store.CodePanic}
	begin := time.Now()
	go func() {
		defer func() {
			if v := recover(); v != nil {
				e.how, e.what = "panicked", v
			}
			e.took = time.Since(begin)
		}()
		e.err = f()
		e.how, e.code = "returned", store.CodeOf(e.err)
	}()
	return e
}

// want is what the contract promises the caller.
type want struct {
	how   string
	codes []store.Code
	took  time.Duration
	// For a write: whether its error is definite, and whether it was made when the call ended.
	definite, made bool
	asked          map[store.Code]int // the calls of the struck op that reach the base, by code
}

// promised returns what the contract promises the caller.
func (c cell) promised() want {
	f := c.fault
	w := want{how: "returned", codes: []store.Code{f.base}, definite: !f.unknown, made: f.made, asked: map[store.Code]int{f.base: 1}}
	if c.company != alone && !c.shared() && !c.struck().IsWrite() {
		w.asked[f.base] = 3
	}
	switch {
	case f.do == nil:
		w.codes, w.definite, w.asked = []store.Code{store.CodeCanceled}, true, nil
		if f.caller == lateBefore {
			w.codes = []store.Code{store.CodeTimeout}
		}
		return w
	case c.hit():
		w.codes, w.asked = []store.Code{store.CodeOK}, nil
		return w
	}
	switch {
	case f.base == store.CodePanic && f.exits && c.shared():
		w.codes = []store.Code{store.CodeInternal}
	case f.base == store.CodePanic && f.exits:
		w.how = "exited"
	case f.base == store.CodePanic:
		w.how = "panicked"
	case f.base == store.CodeDenied && (c.op.op == store.OpLoadThread || c.op.op == store.OpLoadAttachment):
		w.codes = []store.Code{store.CodeNotFound} // authz hides that the base denied an existing row
	case f.base == store.CodeNotFound && (c.op.op == store.OpSaveThread || c.op.op == store.OpSaveAttachment):
		w.asked[f.base] = 3 // authz has just loaded the row: it tries twice, then leaves the save to the base
	case f.name == "too slow for its caller":
		w.took = patience
	case f.name == "cancelled while the base waits":
		w.took = patience
	case f.name == "slow, ignores its context" && c.shared():
		w.codes, w.took = []store.Code{store.CodeTimeout}, patience // the caller need not wait for the base
	case f.name == "slow, ignores its context":
		w.took = slowness // the call was made, late
	case strings.HasPrefix(f.name, "too slow for a shared load"):
		w.codes, w.took = []store.Code{store.CodeTimeout}, loadTimeout
	case f.name == "cancelled when the base is done" && c.shared():
		w.codes = append(w.codes, store.CodeCanceled) // the answer and the cancellation race
	}
	if f.waits && c.shared() {
		// A load ends when its last caller leaves, and goes on while others wait.
		w.asked = map[store.Code]int{store.CodeCanceled: 1}
		if c.company != alone {
			w.asked = map[store.Code]int{store.CodeOK: 1}
		}
	} else if f.waits && c.company != alone && !c.struck().IsWrite() {
		w.asked = map[store.Code]int{f.base: 1, store.CodeOK: 2}
	}
	if c.atLook {
		w.definite, w.made = true, false
		if f.name == "cancelled when the base is done" {
			w.codes = []store.Code{store.CodeCanceled} // the context has ended before the op's own call
		}
	}
	return w
}

// others returns what the contract promises the other callers, who do not leave.
func (c cell) others(subject want) want {
	w := want{how: subject.how, codes: subject.codes}
	switch {
	case c.op.op.IsWrite():
		return want{how: "returned", codes: []store.Code{store.CodeOK}} // they read the row as it was before
	case c.fault.waits, c.fault.base == store.CodeOK && c.fault.caller != stays:
		w.codes = []store.Code{store.CodeOK}
	}
	return w
}

// rig is a stack with everything that a case observes or controls.
type rig struct {
	base    *memstore.Store
	faulty  *faulty.Store
	s       store.Store
	metrics collectors
	spans   *tracetest.SpanRecorder

	late     faulty.Late
	gate     chan struct{} // closed when all callers have come
	released chan struct{} // closed to release a waiting base
	leave    context.CancelFunc
}

func newRig(t *testing.T, stack string) *rig {
	r := &rig{base: memstore.New(), spans: tracetest.NewSpanRecorder(),
		gate: make(chan struct{}), released: make(chan struct{})}
	r.faulty = faulty.New(r.base, faulty.WithLongestWrite(quarantine))
	traced := tracing.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r.spans)))
	counting := func(name string) store.Middleware {
		m, err := metrics.New(&r.metrics, metrics.WithLayer(name), metrics.WithBuckets())
		must(t, err)
		return m
	}
	var middle store.Middleware
	var base store.Store = r.faulty
	switch stack {
	case "cache":
		middle = cache.New(cache.WithMaxEntries(64), cache.WithLoadTimeout(loadTimeout))
	case "sole writer": // over a base without versions, so that only the errors of writes decide about patches
		middle = cache.New(cache.WithMaxEntries(64), cache.WithLoadTimeout(loadTimeout), cache.WithSoleWriter())
		base = spy.Unversioned(base)
	case "singleflight":
		middle = singleflight.New(singleflight.WithLoadTimeout(loadTimeout))
	}
	r.s = store.Wrap(base, tracing.New(traced), counting("outer"), authz.New(authz.OwnerOnly(), authz.ShareBelow()), middle,
		counting("inner"), tracing.New(traced, tracing.WithLayer("base")))
	th := titled("thr_1", "old")
	th.Owner = ada.Owner
	must(t, r.base.SaveThread(t.Context(), th))
	for _, id := range []string{"msg_1", "msg_2", "msg_3"} {
		must(t, r.base.AddThreadItem(t.Context(), "thr_1", hidden(id, 1)))
	}
	a := file("atc_1")
	a.Owner = ada.Owner
	must(t, r.base.SaveAttachment(t.Context(), a))
	return r
}

// tally has the calls that the metrics layers counted, and the sum of their gauges of calls in flight.
type tally struct {
	calls    map[string]map[store.Op]map[store.Code]int // by layer, op and code
	inFlight float64
}

func (r *rig) tally(t *testing.T) tally {
	sum := tally{calls: map[string]map[store.Op]map[store.Code]int{"outer": {}, "inner": {}}}
	for m := range r.metrics.all() {
		_, gauge := m.(prometheus.Gauge)
		_, counter := m.(prometheus.Counter)
		if !gauge && !counter {
			continue
		}
		var d dto.Metric
		must(t, m.Write(&d))
		if gauge {
			sum.inFlight += d.Gauge.GetValue()
			continue
		}
		if n := int(d.Counter.GetValue()); n > 0 {
			label := make(map[string]string, len(d.Label))
			for _, l := range d.Label {
				label[l.GetName()] = l.GetValue()
			}
			calls, op, code := sum.calls[label["layer"]], opOf[label["operation"]], codeOf[label["code"]]
			if calls[op] == nil {
				calls[op] = make(map[store.Code]int)
			}
			calls[op][code] = n
		}
	}
	return sum
}

// collectors is a registry without checks, which would take most of the time. Of the layers' own metrics, only the calls in flight
// are of the type Gauge, and only the finished calls of the type Counter.
type collectors []prometheus.Collector

func (c *collectors) Register(x prometheus.Collector) error {
	*c = append(*c, x)
	return nil
}
func (c *collectors) MustRegister(xs ...prometheus.Collector) { *c = append(*c, xs...) }
func (c *collectors) Unregister(prometheus.Collector) bool    { return true }

func (c *collectors) all() <-chan prometheus.Metric {
	ch := make(chan prometheus.Metric, 100)
	go func() {
		defer close(ch)
		for _, x := range *c {
			x.Collect(ch)
		}
	}()
	return ch
}

var (
	opOf   = make(map[string]store.Op)
	codeOf = make(map[string]store.Code)
)

func init() {
	for _, op := range store.Ops() {
		opOf[op.String()] = op
	}
	for c := range store.NumCodes {
		codeOf[store.Code(c).String()] = store.Code(c)
	}
}

// less returns now minus before.
func less(now, before map[store.Code]int) map[store.Code]int {
	d := maps.Clone(now)
	for code, n := range before {
		if d[code] -= n; d[code] == 0 {
			delete(d, code)
		}
	}
	return d
}

// run tries the case. It must run in a synctest bubble.
func (c cell) run(t *testing.T, balances *balances) {
	r := newRig(t, c.stack)
	ctx := store.WithPrincipal(t.Context(), ada)
	there := rows(ctx, r.base)
	var before tally
	if c.warm {
		if got := rows(ctx, r.s); got != there {
			t.Fatalf("before the fault the stack has other rows than the base (-base +stack):\n%s", cmp.Diff(there, got))
		}
		before = r.tally(t)
		r.spans.Reset()
	}

	w := c.promised()
	e, others := c.strike(ctx, t, r)

	// Check the answers of the caller and of the others.
	if e.how != w.how || !slices.Contains(w.codes, e.code) || e.took != w.took {
		t.Errorf("the call %v (%v), want: %s %v after %v", e, e.err, w.how, w.codes, w.took)
	}
	if e.how == "panicked" && !strings.Contains(fmt.Sprint(e.what), "boom") {
		t.Errorf("the call panicked with %v, want the base's value", e.what)
	}
	if c.op.op.IsWrite() && e.how == "returned" && store.IsDefinite(e.err) != w.definite {
		t.Errorf("the error %v is definite: %v, want %v", e.err, store.IsDefinite(e.err), w.definite)
	}
	ow := c.others(w)
	for _, o := range others {
		if o.how != ow.how || !slices.Contains(ow.codes, o.code) {
			t.Errorf("another caller's call %v (%v), want: %s %v", o, o.err, ow.how, ow.codes)
		}
	}
	c.counted(t, r, before, w, append(others, e))

	// The next reads must equal the base: at once, when a late write is applied, and after the quarantine.
	r.faulty.Reset()
	now := rows(ctx, r.base)
	if w.made = w.made && c.op.op.IsWrite(); (now != there) != w.made {
		t.Errorf("the write has changed the base: %v, want %v", now != there, w.made)
	}
	truth := func(when string) {
		t.Helper()
		if want, got := rows(ctx, r.base), rows(ctx, r.s); got != want {
			t.Errorf("%s, the stack has other rows than the base (-base +stack):\n%s", when, cmp.Diff(want, got))
		}
	}
	truth("at once")
	time.Sleep(quarantine / 2)
	must(t, r.late.Apply())
	truth("in the quarantine")
	if held := counted(r.s, "chatstore_cache_quarantined", ""); c.stack != "singleflight" && (held == 1) != (c.op.op.IsWrite() && !w.definite) {
		t.Errorf("%d counters are in quarantine after a write with a definite outcome: %v", held, w.definite)
	}
	time.Sleep(quarantine/2 + time.Second)
	truth("after the quarantine")
	truth("after the quarantine, from the cache")
	if n := counted(r.s, "chatstore_cache_quarantined", ""); n != 0 {
		t.Errorf("%d counters are still in quarantine after its end", n)
	}

	// When all entries have expired and are loaded again, the cache must count as many entries and bytes as a new cache.
	time.Sleep(cache.DefaultTTL)
	truth("after the TTL")
	if got, want := balanceOf(r.s), balances.of(t, c.stack, ctx, r.base); got != want {
		t.Errorf("the cache counts %+v, a new cache counts %+v", got, want)
	}
	must(t, store.Close(r.s))
	if got := balanceOf(r.s); got != (balance{}) {
		t.Errorf("the closed cache counts %+v, want zero", got)
	}
}

// strike makes the calls. It returns when they and all loads have ended.
func (c cell) strike(ctx context.Context, t *testing.T, r *rig) (subject *ending, others []*ending) {
	if c.fault.do != nil {
		do := c.fault.do(r)
		r.faulty.Inject(faulty.Fault{Op: c.struck(),
			Do: func(ctx context.Context, call layer.Call, next func(context.Context) error) error {
				<-r.gate
				return do(ctx, call, next)
			}})
	}
	mine, leave := context.WithCancel(ctx)
	switch c.fault.caller {
	case goneBefore:
		leave()
	case lateBefore:
		mine, leave = context.WithDeadline(ctx, time.Now())
	case hasDeadline:
		mine, leave = context.WithTimeout(ctx, patience)
	}
	defer leave()
	r.leave = leave
	start := func() {
		subject = attempt(func() error { return c.op.call(session{r.s, mine}) })
		synctest.Wait()
	}
	along := c.op
	if c.op.op.IsWrite() {
		along = operations[slices.IndexFunc(operations, func(o operation) bool { return o.op == c.reader() })]
	}
	if c.company != follows {
		start()
	}
	if c.company != alone {
		for range 2 {
			others = append(others, attempt(func() error { return along.call(session{r.s, ctx}) }))
		}
		synctest.Wait()
	}
	if c.company == follows {
		start()
	}
	close(r.gate)
	if c.fault.caller == cancelled {
		time.Sleep(patience)
		leave()
	}
	time.Sleep(release)
	close(r.released)
	time.Sleep(loadTimeout)
	synctest.Wait()
	return subject, others
}

// reader returns the op by which others read the row that a write changes.
func (c cell) reader() store.Op {
	if c.op.op == store.OpSaveAttachment || c.op.op == store.OpDeleteAttachment {
		return store.OpLoadAttachment
	}
	return store.OpLoadThread
}

// counted checks the metrics and the spans of the calls.
func (c cell) counted(t *testing.T, r *rig, before tally, w want, ended []*ending) {
	t.Helper()
	after := r.tally(t)
	if after.inFlight != 0 {
		t.Errorf("%v calls are still in flight", after.inFlight)
	}
	answers := make(map[store.Code]int) // of the op, by code
	for i, e := range ended {
		if i == len(ended)-1 || !c.op.op.IsWrite() {
			answers[e.code]++
		}
	}
	if d := cmp.Diff(answers, less(after.calls["outer"][c.op.op], before.calls["outer"][c.op.op])); d != "" {
		t.Errorf("the outer layer counted other calls than were made (-made +counted):\n%s", d)
	}
	if w.asked == nil {
		w.asked = map[store.Code]int{}
	}
	got := less(after.calls["inner"][c.struck()], before.calls["inner"][c.struck()])
	if c.op.op.IsWrite() || c.struck() == c.op.op {
		if got == nil {
			got = map[store.Code]int{}
		}
		if d := cmp.Diff(w.asked, got); d != "" {
			t.Errorf("the inner layer counted other calls than promised (-promised +counted):\n%s", d)
		}
	}
	if n := after.calls["inner"][c.op.op]; c.atLook && len(less(n, before.calls["inner"][c.op.op])) > 0 {
		t.Errorf("the load of authz failed, but the op reached the base: %v", n)
	}

	started, over := r.spans.Started(), r.spans.Ended()
	if len(started) != len(over) {
		t.Errorf("%d spans started, %d ended", len(started), len(over))
	}
	spans := make(map[store.Code]int)
	for _, s := range over {
		attrs := make(map[string]string)
		for _, a := range s.Attributes() {
			attrs[string(a.Key)] = a.Value.String()
		}
		code := codeOf[attrs["chatstore.code"]]
		if attrs["chatstore.layer"] == tracing.DefaultLayer && s.Name() == c.op.op.String() {
			spans[code]++
		}
		failed := slices.Contains([]store.Code{store.CodeTimeout, store.CodeUnavailable, store.CodeInternal, store.CodePanic}, code)
		if status := s.Status(); (status.Code == codes.Error) != failed || status.Description != "" || (attrs["error.type"] == code.String()) != failed {
			t.Errorf("a span of code %v has the status %+v and error.type %q", code, status, attrs["error.type"])
		}
	}
	if d := cmp.Diff(answers, spans); d != "" {
		t.Errorf("there are spans of other calls than were made (-made +spans):\n%s", d)
	}
}

// balance is what a cache counts.
type balance struct{ entries, bytes int }

func balanceOf(s store.Store) balance {
	return balance{counted(s, "chatstore_cache_entries", ""), counted(s, "chatstore_cache_bytes", "")}
}

// balances remembers the balance of a new cache, by the rows of its base.
type balances struct {
	mu sync.Mutex
	m  map[string]balance
}

func (b *balances) of(t *testing.T, stack string, ctx context.Context, base store.Store) balance {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := fmt.Sprint(stack == "singleflight", rows(ctx, base))
	if known, ok := b.m[key]; ok {
		return known
	}
	s := store.Wrap(base, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New(cache.WithMaxEntries(64)))
	rows(ctx, s)
	b.m[key] = balanceOf(s)
	if stack == "singleflight" {
		b.m[key] = balance{}
	}
	must(t, store.Close(s))
	return b.m[key]
}

// cases returns the cases of an op.
func cases(stack string, op operation) (all []cell) {
	for _, f := range faults {
		for _, atLook := range []bool{false, true} {
			for _, warm := range []bool{false, true} {
				for _, with := range []company{alone, leads, follows} {
					if c := (cell{stack, op, f, atLook, warm, with}); c.makes() {
						all = append(all, c)
					}
				}
			}
		}
	}
	return all
}

func TestWhateverGoesWrong(t *testing.T) {
	known := &balances{m: make(map[string]balance)}
	for _, stack := range []string{"cache", "sole writer", "singleflight"} {
		ops := operations
		if stack != "sole writer" {
			ops = slices.Concat(ops, conditional)
		}
		for n, op := range ops {
			name := stack + "/" + op.op.String()
			if op.look != 0 {
				name += " after " + op.look.String()
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				for i, c := range cases(stack, op) {
					if (i+n)%tries(1, 5) != 0 { // a part of the cases tries each fault with some ops
						continue
					}
					synctest.Test(t, func(t *testing.T) { c.run(t, known) })
					if t.Failed() {
						t.Fatal("the failed case: ", c)
					}
				}
			})
		}
	}
}
