// Package panel serves the data of the page's panel, which shows the decorators at work: numbers from the server's own
// metrics, and the spans of the caller's last request. It is for demonstration. For monitoring, use /metrics.
package panel

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// Panel collects the data. It is safe for concurrent use.
type Panel struct {
	metrics prometheus.Gatherer

	mu   sync.Mutex
	last *simplelru.LRU[chat.Owner, *request]
	open map[spanKey]*request // by spans that have not ended
}

// request is a followed request.
type request struct {
	spans []span // ended spans
	open  map[spanKey]struct{}
}

// spanKey identifies a span of this process. The trace's id alone could mix users up, because clients choose it.
type spanKey struct {
	trace trace.TraceID
	span  trace.SpanID
}

func keyOf(c trace.SpanContext) spanKey { return spanKey{c.TraceID(), c.SpanID()} }

// The panel keeps the last requests of this many users, and this many spans of each.
const (
	maxRequests = 1000
	maxSpans    = 200
)

// New returns a Panel that shows the metrics of g.
func New(g prometheus.Gatherer) *Panel {
	p := &Panel{metrics: g, open: map[spanKey]*request{}}
	p.last, _ = simplelru.NewLRU(maxRequests, p.forget) // fails only if the size is not positive
	return p
}

// forget is called for a request that is no longer the last of its user.
func (p *Panel) forget(_ chat.Owner, r *request) {
	for k := range r.open {
		delete(p.open, k)
	}
}

// Follow makes a request the last one of ctx's principal. ctx must have the request's span. The panel keeps this span, and
// the spans that begin below it from now on. It shows them only to that principal.
func (p *Panel) Follow(ctx context.Context) {
	who, ok := store.PrincipalFrom(ctx)
	at := trace.SpanContextFromContext(ctx)
	if !ok || !at.IsValid() {
		return
	}
	r := &request{open: map[spanKey]struct{}{}}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last.Remove(who.Owner)
	p.last.Add(who.Owner, r)
	p.begin(r, keyOf(at))
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
	if r := p.open[keyOf(s.Parent())]; r != nil && len(r.open)+len(r.spans) < maxSpans {
		p.begin(r, keyOf(s.SpanContext()))
	}
}

func (p processor) OnEnd(s sdktrace.ReadOnlySpan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := keyOf(s.SpanContext())
	if r := p.open[k]; r != nil {
		delete(p.open, k)
		delete(r.open, k)
		r.spans = append(r.spans, newSpan(s))
	}
}

// span is a span for the page.
type span struct {
	Name       string            `json:"name"`
	Start      float64           `json:"start_ms"` // after the start of the trace
	Duration   float64           `json:"ms"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Children   []span            `json:"children,omitempty"`

	id, parent trace.SpanID
	began      time.Time
}

// shown has the attributes that say what a layer did. Ids are left out, because they are long and the page has them.
var shown = []string{
	"chatkit.request.type", "chatstore.code", "chatstore.cache.result", "chatstore.flight.role", "chatstore.page.items",
	"http.response.status_code",
}

func newSpan(s sdktrace.ReadOnlySpan) span {
	n := span{
		Name: s.Name(), Duration: milliseconds(s.EndTime().Sub(s.StartTime())), Attributes: map[string]string{},
		id: s.SpanContext().SpanID(), parent: s.Parent().SpanID(), began: s.StartTime(),
	}
	for _, a := range s.Attributes() {
		if slices.Contains(shown, string(a.Key)) {
			n.Attributes[string(a.Key)] = a.Value.String()
		}
	}
	return n
}

func milliseconds(d time.Duration) float64 { return math.Round(d.Seconds()*1e6) / 1e3 }

// tree puts spans under their parents, in the order of their starts. A span without a known parent is at the top.
func tree(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return a.began.Compare(b.began) })
	there := map[trace.SpanID]bool{}
	for i := range spans {
		spans[i].Start = milliseconds(spans[i].began.Sub(spans[0].began))
		there[spans[i].id] = true
	}
	var under func(parent trace.SpanID) []span
	under = func(parent trace.SpanID) []span {
		var all []span
		for _, s := range spans {
			if s.parent == parent && s.id != parent {
				s.Children = under(s.id)
				all = append(all, s)
			}
		}
		return all
	}
	var top []span
	for _, s := range spans {
		if !there[s.parent] {
			s.Children = under(s.id)
			top = append(top, s)
		}
	}
	return top
}

// op is the outer layer's numbers for one operation.
type op struct {
	Name  string  `json:"op"`
	Count uint64  `json:"count"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`

	bounds []float64
	below  []uint64 // cumulative
}

// numbers count since the server's start, for all users together.
type numbers struct {
	Reads     float64 `json:"reads"`      // reads of the stack
	BaseReads float64 `json:"base_reads"` // reads that reached the store itself
	Saved     float64 `json:"base_reads_saved"`
	HitRatio  float64 `json:"hit_ratio"`
	Shared    float64 `json:"flights_shared"`
	Refused   float64 `json:"refusals"`
	Ops       []*op   `json:"ops"`
	Trace     []span  `json:"trace"`
}

// ServeHTTP answers with JSON: the numbers, and the trace of the caller's last request.
func (p *Panel) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n, err := p.gather()
	if err != nil {
		http.Error(w, `{"error":{"code":"internal","message":"the metrics cannot be gathered"}}`, http.StatusInternalServerError)
		return
	}
	n.Trace = p.lastOf(r.Context())
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(n) // the client may be gone
}

func (p *Panel) lastOf(ctx context.Context) []span {
	who, ok := store.PrincipalFrom(ctx)
	if !ok {
		return []span{}
	}
	p.mu.Lock()
	r, ok := p.last.Get(who.Owner)
	var spans []span
	if ok {
		spans = slices.Clone(r.spans)
	}
	p.mu.Unlock()
	return append([]span{}, tree(spans)...)
}

func (p *Panel) gather() (numbers, error) {
	families, err := p.metrics.Gather()
	if err != nil {
		return numbers{}, err
	}
	writes := map[string]bool{}
	for _, o := range store.Ops() {
		writes[o.String()] = o.IsWrite()
	}
	n := numbers{Ops: []*op{}}
	ops := map[string]*op{}
	var hits, misses float64
	for _, f := range families {
		for _, m := range f.GetMetric() {
			l := labels(m)
			count := m.GetCounter().GetValue()
			switch f.GetName() {
			case "chatstore_operations_total":
				switch {
				case writes[l["operation"]]:
				case l["layer"] == "outer":
					n.Reads += count
				case l["layer"] == "inner":
					n.BaseReads += count
				}
			case "chatstore_cache_requests_total":
				if l["result"] == "hit" {
					hits += count
				} else {
					misses += count
				}
			case "chatstore_flights_total":
				if l["role"] == "follower" {
					n.Shared += count
				}
			case "chatstore_authz_decisions_total":
				if l["decision"] == "deny" {
					n.Refused += count
				}
			case "chatstore_operation_duration_seconds":
				if l["layer"] == "outer" {
					name := l["operation"]
					if ops[name] == nil {
						ops[name] = &op{Name: name}
					}
					ops[name].add(m.GetHistogram())
				}
			}
		}
	}
	// Reads minus base reads would be wrong: reads by authz begin beneath the layer that counts the reads.
	n.Saved = hits + n.Shared
	if hits+misses > 0 {
		n.HitRatio = hits / (hits + misses)
	}
	for _, o := range store.Ops() {
		if o := ops[o.String()]; o != nil && o.Count > 0 {
			o.P50, o.P99 = o.quantile(.5), o.quantile(.99)
			n.Ops = append(n.Ops, o)
		}
	}
	return n, nil
}

func labels(m *dto.Metric) map[string]string {
	all := map[string]string{}
	for _, l := range m.GetLabel() {
		all[l.GetName()] = l.GetValue()
	}
	return all
}

// add adds the calls of one histogram.
func (o *op) add(h *dto.Histogram) {
	o.Count += h.GetSampleCount()
	for i, b := range h.GetBucket() {
		if i == len(o.bounds) {
			o.bounds, o.below = append(o.bounds, b.GetUpperBound()), append(o.below, 0)
		}
		o.below[i] += b.GetCumulativeCount()
	}
}

// quantile estimates a quantile in milliseconds, as Prometheus does: by linear interpolation in a bucket, at most the
// highest bound.
func (o *op) quantile(q float64) float64 {
	rank := q * float64(o.Count)
	lower, before := 0.0, uint64(0)
	for i, upper := range o.bounds {
		if float64(o.below[i]) >= rank {
			if math.IsInf(upper, 1) {
				break
			}
			share := (rank - float64(before)) / float64(o.below[i]-before)
			return math.Round((lower+(upper-lower)*share)*1e6) / 1e3
		}
		lower, before = upper, o.below[i]
	}
	return lower * 1e3
}
