package chatkit

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// WithRegisterer registers the handler's Prometheus series with r. Without it, nothing is registered. A registry takes the series
// of one handler: for a second one, NewHandler panics as MustRegister does. [prometheus.WrapRegistererWith] tells several apart.
//
// All series exist from the start, at zero, except codes other than ok. No id and no text of a client is a label:
//
//	chatkit_requests_total{type, code}       counter; code is ok or the code of the error
//	chatkit_request_duration_seconds{type}   histogram, classic and native; a stream's duration is the time to its end
//	chatkit_turns_total{outcome}             counter; outcome is done, failed, abandoned or superseded
//	chatkit_streams                          gauge: running streams
func WithRegisterer(r prometheus.Registerer) Option { return func(c *config) { c.registerer = r } }

// metrics has the Prometheus series of a [Handler].
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	turns    *prometheus.CounterVec
	streams  prometheus.Gauge
}

// newMetrics returns the series and registers them with r, unless it is nil.
func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chatkit_requests_total",
			Help: "ChatKit requests, by type and by code of the answer.",
		}, []string{"type", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                            "chatkit_request_duration_seconds",
			Help:                            "Duration of ChatKit requests; of streams, until they end.",
			Buckets:                         []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10, 60, 300},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  160,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"type"}),
		turns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chatkit_turns_total",
			Help: "The assistant's turns, by outcome: done, failed, abandoned (the client left or the server stopped), or superseded (another " +
				"request took over the conversation).",
		}, []string{"outcome"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "chatkit_streams",
			Help: "Running streams.",
		}),
	}
	for kind := range answers {
		m.create(kind)
	}
	for kind := range streams {
		m.create(kind)
	}
	m.create("unknown")
	for _, o := range []string{turnDone, turnFailed, turnAbandoned, turnSuperseded} {
		m.turns.WithLabelValues(o)
	}
	if r != nil {
		r.MustRegister(m.requests, m.seconds, m.turns, m.streams)
	}
	return m
}

// The outcomes of a turn.
const (
	turnDone       = "done"
	turnFailed     = "failed"
	turnAbandoned  = "abandoned"  // the client left or the server stopped
	turnSuperseded = "superseded" // another request took over the conversation
)

func (m *metrics) create(kind string) {
	m.requests.WithLabelValues(kind, "ok")
	m.seconds.WithLabelValues(kind)
}

func (m *metrics) request(kind, code string, took time.Duration) {
	m.requests.WithLabelValues(kind, code).Inc()
	m.seconds.WithLabelValues(kind).Observe(took.Seconds())
}
