package metrics_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/metrics"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// Callers load one thread three times, and the cache loads it from the base once. They also load a thread that does not exist.
func Example() {
	reg := prometheus.NewRegistry()
	outer, err := metrics.New(reg, metrics.WithLayer("outer"))
	if err != nil {
		log.Fatal(err) // such as: the registry already has a layer of this name
	}
	inner, err := metrics.New(reg, metrics.WithLayer("inner"))
	if err != nil {
		log.Fatal(err)
	}
	s := store.Wrap(memstore.New(), outer, cache.New(), inner)
	defer store.Close(s)                                        // unregisters both layers
	handler := promhttp.HandlerFor(reg, promhttp.HandlerOpts{}) // for http.Handle("/metrics", handler)

	ctx := context.Background()
	if err := s.SaveThread(ctx, chat.Thread{ID: "thr_1", CreatedAt: time.Now()}); err != nil {
		log.Fatal(err)
	}
	for range 3 {
		if _, err := s.LoadThread(ctx, "thr_1"); err != nil {
			log.Fatal(err)
		}
	}
	_, err = s.LoadThread(ctx, "thr_2")
	fmt.Println("thr_2:", store.CodeOf(err))

	scrape := httptest.NewRecorder()
	handler.ServeHTTP(scrape, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(scrape.Body.String()) {
		if strings.HasPrefix(line, "chatstore_operations_total") && !strings.HasSuffix(line, " 0\n") {
			fmt.Print(line)
		}
	}
	// Output:
	// thr_2: not_found
	// chatstore_operations_total{code="not_found",layer="inner",operation="load_thread",store="default"} 1
	// chatstore_operations_total{code="not_found",layer="outer",operation="load_thread",store="default"} 1
	// chatstore_operations_total{code="ok",layer="inner",operation="load_thread",store="default"} 1
	// chatstore_operations_total{code="ok",layer="inner",operation="save_thread",store="default"} 1
	// chatstore_operations_total{code="ok",layer="outer",operation="load_thread",store="default"} 3
	// chatstore_operations_total{code="ok",layer="outer",operation="save_thread",store="default"} 1
}
