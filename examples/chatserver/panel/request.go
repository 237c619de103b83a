package panel

import (
	"math"
	"net/http"
	"slices"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/store"
)

// The layers of spans: the calls of the request's handler, and the calls that reach the base.
const (
	outerLayer = tracing.DefaultLayer
	baseLayer  = "base"
)

// span is a span for the page. It has no ids, because they are long and the page has them.
type span struct {
	Name     string  `json:"name"`
	Layer    string  `json:"layer,omitempty"` // outerLayer, baseLayer, or "" for a span that is no call of the store
	Cache    string  `json:"cache,omitempty"` // hit, miss or bypass
	Shared   bool    `json:"shared,omitempty"`
	Start    float64 `json:"start_ms"` // after the start of the request
	Duration float64 `json:"ms"`
	Children []span  `json:"children,omitempty"`

	op, code   string
	items      int64
	id, parent trace.SpanID
	began      time.Time
	took       time.Duration
}

func newSpan(s sdktrace.ReadOnlySpan) span {
	n := span{
		Name: s.Name(), id: s.SpanContext().SpanID(), parent: s.Parent().SpanID(),
		began: s.StartTime(), took: s.EndTime().Sub(s.StartTime()),
	}
	n.Duration = milliseconds(n.took)
	for _, a := range s.Attributes() {
		switch a.Key {
		case "chatstore.layer":
			n.Layer = a.Value.AsString()
		case "chatstore.operation":
			n.op = a.Value.AsString()
		case "chatstore.code":
			n.code = a.Value.AsString()
		case "chatstore.cache.result":
			n.Cache = a.Value.AsString()
		case "chatstore.flight.role":
			n.Shared = a.Value.AsString() == "follower"
		case "chatstore.page.items":
			n.items = a.Value.AsInt64()
		}
	}
	return n
}

func milliseconds(d time.Duration) float64 { return math.Round(d.Seconds()*1e6) / 1e3 }

func (s span) writesItems() bool {
	return s.Layer == outerLayer && s.code == store.CodeOK.String() &&
		(s.op == store.OpAddThreadItem.String() || s.op == store.OpSaveItem.String())
}

// hidden reports whether nothing may be shown of the request's calls. A user must not learn from the panel whether a row
// exists that the user may not read. So a request is shown only if each of its calls was allowed and had its effect.
func (r *request) hidden() bool {
	if r.tooMany {
		return true
	}
	for _, a := range r.root.Attributes() {
		if a.Key == "http.response.status_code" && a.Value.AsInt64() >= http.StatusBadRequest {
			return true
		}
	}
	for _, s := range r.spans {
		if s.Layer == outerLayer && !r.harmless(s) {
			return true
		}
	}
	return false
}

// harmless reports whether a call was allowed and had its effect. The answer to a call that authz denies may be a success:
// a deletion that deletes nothing, or an empty page.
func (r *request) harmless(s span) bool {
	switch {
	case s.code != store.CodeOK.String():
		return false
	case s.op == store.OpLoadThreadItems.String():
		return s.items > 0
	case ops[s.op].IsWrite():
		return slices.ContainsFunc(r.spans, func(b span) bool {
			return b.Layer == baseLayer && b.parent == s.id && ops[b.op].IsWrite() && b.code == store.CodeOK.String()
		})
	}
	return true
}

// calls counts the calls of the store in one or more requests.
type calls struct {
	Reads      int `json:"reads"` // by the handler
	Writes     int `json:"writes"`
	Lookups    int `json:"lookups"` // reads that the cache was asked for
	Hits       int `json:"hits"`    // reads that the cache answered
	Shared     int `json:"shared"`  // reads that joined another load
	BaseReads  int `json:"base_reads"`
	BaseWrites int `json:"base_writes"`
}

func (c *calls) add(s span) {
	switch {
	case s.Layer == baseLayer && ops[s.op].IsWrite():
		c.BaseWrites++
	case s.Layer == baseLayer:
		c.BaseReads++
	case s.Layer != outerLayer:
	case ops[s.op].IsWrite():
		c.Writes++
	default:
		c.Reads++
	}
	if s.Layer != outerLayer {
		return
	}
	if s.Cache != "" {
		c.Lookups++
	}
	if s.Cache == "hit" {
		c.Hits++
	}
	if s.Shared {
		c.Shared++
	}
}

// view is a request for the page. Calls and Trace are nil if the request is hidden.
type view struct {
	N       int    `json:"n"`
	Kind    string `json:"kind"`
	Running bool   `json:"running"`
	Cache   bool   `json:"cache"` // false if the user had turned it off
	Hidden  bool   `json:"hidden"`
	Calls   *calls `json:"calls,omitempty"`
	Trace   *span  `json:"trace,omitempty"`
}

// view returns the request as far as it has run. It returns nil for a nil request.
func (r *request) view() *view {
	if r == nil {
		return nil
	}
	v := &view{N: r.n, Kind: r.root.Name(), Running: !r.ended, Cache: !r.noCache, Hidden: r.hidden()}
	for _, a := range r.root.Attributes() {
		if a.Key == "chatkit.request.type" {
			v.Kind = a.Value.AsString()
		}
	}
	if v.Hidden {
		return v
	}
	v.Calls, v.Trace = &calls{}, &span{Name: v.Kind}
	if r.ended {
		v.Trace.Duration = milliseconds(r.root.EndTime().Sub(r.root.StartTime()))
	}
	v.Trace.Children = r.under(r.root.SpanContext().SpanID(), v.Calls)
	return v
}

// under returns the spans below a span, in the order of their starts, and counts them. It leaves out spans below one that has
// not ended, because its call may still be refused.
func (r *request) under(parent trace.SpanID, c *calls) []span {
	var all []span
	for _, s := range r.spans {
		if s.parent == parent {
			c.add(s)
			s.Start = milliseconds(s.began.Sub(r.root.StartTime()))
			s.Children = r.under(s.id, c)
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b span) int { return a.began.Compare(b.began) })
	return all
}
