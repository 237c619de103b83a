package metrics_test

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/metrics"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

func ExampleNew() {
	reg := prometheus.NewRegistry()
	layer, err := metrics.New(reg, metrics.WithStore("chat"))
	if err != nil {
		fmt.Println(err) // the registry has a layer of that name
		return
	}
	s := store.Wrap(memstore.New(), layer)
	defer store.Close(s) // unregisters

	ctx := context.Background()
	_ = s.SaveThread(ctx, chat.Thread{ID: "thr_1", Title: "never in a label", CreatedAt: time.Now()})
	_, _ = s.LoadThread(ctx, "thr_1")
	_, _ = s.LoadThread(ctx, "thr_unknown")

	families, _ := reg.Gather()
	for _, f := range families {
		if f.GetName() != "chatstore_operations_total" {
			continue
		}
		for _, m := range f.Metric {
			if n := m.Counter.GetValue(); n > 0 {
				labels := map[string]string{}
				for _, l := range m.Label {
					labels[l.GetName()] = l.GetValue()
				}
				fmt.Println(f.GetName(), labels, n)
			}
		}
	}
	// Output:
	// chatstore_operations_total map[code:not_found layer:store operation:load_thread store:chat] 1
	// chatstore_operations_total map[code:ok layer:store operation:load_thread store:chat] 1
	// chatstore_operations_total map[code:ok layer:store operation:save_thread store:chat] 1
}
