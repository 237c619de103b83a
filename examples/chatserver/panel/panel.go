// Package panel is what the example's page shows of the decorators at work: numbers from the server's own metrics, and the
// spans of the caller's last request. It is for looking at, not for monitoring: that is what /metrics is for.
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

	"github.com/chatstore/chatstore/store"
)

// Panel gathers what is shown. It is safe for concurrent use.
type Panel struct {
	metrics prometheus.Gatherer

	mu     sync.Mutex
	traces *simplelru.LRU[trace.TraceID, []span] // followed ones
	last   *simplelru.LRU[store.Owner, trace.TraceID]
}

// The bounds: users whose last request is kept, and spans of one.
const (
	maxTraces = 1000
	maxSpans  = 200
)

// New returns a Panel that shows what g gathers.
func New(g prometheus.Gatherer) *Panel {
	p := &Panel{metrics: g}
	p.traces, _ = simplelru.NewLRU[trace.TraceID, []span](maxTraces, nil) // an error: a size that is not positive
	p.last, _ = simplelru.NewLRU[store.Owner, trace.TraceID](maxTraces, nil)
	return p
}

// Follow makes the trace of ctx the last of ctx's principal, and keeps the spans that end in it from now on. Nobody else is
// shown them.
func (p *Panel) Follow(ctx context.Context) {
	who, ok := store.PrincipalFrom(ctx)
	at := trace.SpanContextFromContext(ctx)
	if !ok || !at.IsValid() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if before, ok := p.last.Peek(who.Owner); ok {
		p.traces.Remove(before)
	}
	p.last.Add(who.Owner, at.TraceID())
	p.traces.Add(at.TraceID(), nil)
}

// SpanProcessor returns what a TracerProvider tells of the spans that end.
func (p *Panel) SpanProcessor() sdktrace.SpanProcessor { return processor{p} }

type processor struct{ *Panel }

func (processor) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (processor) Shutdown(context.Context) error                  { return nil }
func (processor) ForceFlush(context.Context) error                { return nil }

func (p processor) OnEnd(s sdktrace.ReadOnlySpan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := s.SpanContext().TraceID()
	spans, followed := p.traces.Peek(id)
	if !followed || len(spans) >= maxSpans {
		return
	}
	p.traces.Add(id, append(spans, newSpan(s)))
}

// span is a span as it is shown.
type span struct {
	Name       string            `json:"name"`
	Start      float64           `json:"start_ms"` // after the first of the trace
	Duration   float64           `json:"ms"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Children   []span            `json:"children,omitempty"`

	id, parent trace.SpanID
	began      time.Time
}

// shown are the attributes that say what a layer did. Ids are left out: they are long, and the page has them.
var shown = []string{
	"chatkit.request.type", "chatstore.code", "chatstore.cache.result", "chatstore.flight.role", "chatstore.page.items", "http.response.status_code",
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

// tree puts spans, which may have ended in any order, under their parents. One whose parent is not there is at the top.
func tree(spans []span) []span {
	spans = slices.Clone(spans)
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

// op is what the outer layer has seen of an operation.
type op struct {
	Name  string  `json:"op"`
	Count uint64  `json:"count"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`

	bounds []float64
	below  []uint64 // cumulative
}

// numbers are since the server's start, of all users together.
type numbers struct {
	Reads     float64 `json:"reads"`      // asked of the stack
	BaseReads float64 `json:"base_reads"` // that reached the store itself
	Saved     float64 `json:"base_reads_saved"`
	HitRatio  float64 `json:"hit_ratio"`
	Shared    float64 `json:"flights_shared"`
	Refused   float64 `json:"refusals"`
	Ops       []*op   `json:"ops"`
	Trace     []span  `json:"trace"`
}

// ServeHTTP answers with JSON: the numbers, and the last trace of the request's principal.
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
	id, _ := p.last.Get(who.Owner)
	spans, _ := p.traces.Get(id)
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
	// Not reads less base reads: what authz asks, and the cache answers, is beneath the layer that counts the reads.
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

// add adds the calls of one status.
func (o *op) add(h *dto.Histogram) {
	o.Count += h.GetSampleCount()
	for i, b := range h.GetBucket() {
		if i == len(o.bounds) {
			o.bounds, o.below = append(o.bounds, b.GetUpperBound()), append(o.below, 0)
		}
		o.below[i] += b.GetCumulativeCount()
	}
}

// quantile estimates as Prometheus does: evenly within a bucket, and no more than the highest bound. In milliseconds.
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
