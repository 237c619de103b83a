package chatkit

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics has the Prometheus series of a [Handler].
type Metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	turns    *prometheus.CounterVec
	streams  prometheus.Gauge
}

// NewMetrics returns the series and registers them with r. If r is nil, it does not register them. Like MustRegister, it
// panics if r already has them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chatserver_requests_total",
			Help: "ChatKit requests, by type and by code of the answer.",
		}, []string{"type", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                            "chatserver_request_duration_seconds",
			Help:                            "Duration of ChatKit requests; of streams, until they end.",
			Buckets:                         []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10, 60, 300},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  160,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"type"}),
		turns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chatserver_turns_total",
			Help: "The assistant's turns: done, failed, or abandoned because the client left or the server stopped.",
		}, []string{"outcome"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "chatserver_streams",
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
	for _, o := range []string{turnDone, turnFailed, turnAbandoned} {
		m.turns.WithLabelValues(o)
	}
	if r != nil {
		r.MustRegister(m.requests, m.seconds, m.turns, m.streams)
	}
	return m
}

// The outcomes of a turn.
const (
	turnDone      = "done"
	turnFailed    = "failed"
	turnAbandoned = "abandoned"
)

func (m *Metrics) create(kind string) {
	m.requests.WithLabelValues(kind, "ok")
	m.seconds.WithLabelValues(kind)
}

func (m *Metrics) request(kind, code string, took time.Duration) {
	m.requests.WithLabelValues(kind, code).Inc()
	m.seconds.WithLabelValues(kind).Observe(took.Seconds())
}
