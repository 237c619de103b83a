package chatkit_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
)

// An alert on a rate needs the series before the first event.
func TestSeriesExistBeforeTheFirstRequest(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	chatkit.NewHandler(memstore.New(), nil, chatkit.WithRegisterer(reg))
	got := map[string]int{}
	for _, f := range testenv.Value(reg.Gather())(t) {
		for _, m := range f.GetMetric() {
			if m.GetCounter().GetValue() != 0 || m.GetHistogram().GetSampleCount() != 0 || m.GetGauge().GetValue() != 0 {
				t.Errorf("%s is not zero: %v", f.GetName(), m)
			}
			for _, l := range m.GetLabel() {
				got[f.GetName()+" "+l.GetValue()]++
			}
		}
		got[f.GetName()]++
	}
	for _, want := range []string{
		"chatkit_requests_total threads.create", "chatkit_requests_total threads.list", "chatkit_requests_total unknown",
		"chatkit_requests_total ok", "chatkit_request_duration_seconds threads.create", "chatkit_streams",
		"chatkit_turns_total done", "chatkit_turns_total failed", "chatkit_turns_total abandoned", "chatkit_turns_total superseded",
	} {
		if got[want] == 0 {
			t.Errorf("no series %s", want)
		}
	}
}

func TestARegistryTakesTheSeriesOfOneHandler(t *testing.T) {
	reg := prometheus.NewRegistry()
	second := func(r prometheus.Registerer) (panicked any) {
		defer func() { panicked = recover() }()
		chatkit.NewHandler(memstore.New(), nil, chatkit.WithRegisterer(r))
		return nil
	}
	if p := second(prometheus.WrapRegistererWith(prometheus.Labels{"handler": "a"}, reg)); p != nil {
		t.Fatalf("the first handler: %v", p)
	}
	if p := second(prometheus.WrapRegistererWith(prometheus.Labels{"handler": "b"}, reg)); p != nil {
		t.Errorf("a handler with another label: %v", p)
	}
	if p := second(prometheus.WrapRegistererWith(prometheus.Labels{"handler": "a"}, reg)); p == nil {
		t.Error("NewHandler did not panic for a registry that has its series")
	} else if err, ok := p.(error); !ok || !strings.Contains(err.Error(), "already registered") && !strings.Contains(err.Error(), "duplicate") {
		t.Errorf("the panic says %v", p)
	}
}
