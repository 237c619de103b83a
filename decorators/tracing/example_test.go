package tracing_test

import (
	"context"
	"fmt"
	"log"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// A program traces the calls of its users and the calls of the backend. The second load is a cache hit: the backend has no span
// for it.
func Example() {
	exporter := tracetest.NewInMemoryExporter() // in production, an OTLP exporter
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	s := store.Wrap(memstore.New(),
		tracing.New(tracing.WithTracerProvider(provider)),
		cache.New(),
		tracing.New(tracing.WithTracerProvider(provider), tracing.WithLayer("backend")),
	)
	defer store.Close(s)

	ctx, turn := provider.Tracer("example").Start(context.Background(), "turn")
	if err := s.SaveThread(ctx, chat.Thread{ID: "thr_1", CreatedAt: time.Now()}); err != nil {
		log.Fatal(err)
	}
	for range 2 {
		if _, err := s.LoadThread(ctx, "thr_1"); err != nil {
			log.Fatal(err)
		}
	}
	turn.End()

	for _, span := range exporter.GetSpans() { // in the order in which they ended
		fmt.Print(span.Name)
		for _, a := range span.Attributes {
			switch a.Key {
			case "chatstore.layer", "chatstore.code", "chatstore.cache.result":
				fmt.Print(" ", a.Value.String())
			}
		}
		fmt.Println()
	}
	// Output:
	// save_thread backend ok
	// save_thread store ok
	// load_thread backend ok
	// load_thread store ok miss
	// load_thread store ok hit
	// turn
}
