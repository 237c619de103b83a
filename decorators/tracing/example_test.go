package tracing_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// Two layers, told apart by chatstore.layer, and a program's own span around them.
func ExampleNew() {
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))

	s := store.Wrap(memstore.New(),
		tracing.New(tracing.WithTracerProvider(provider)),
		tracing.New(tracing.WithTracerProvider(provider), tracing.WithLayer("backend")),
	)

	ctx, turn := provider.Tracer("example").Start(context.Background(), "turn")
	_ = s.SaveThread(ctx, chat.Thread{ID: "thr_1", Title: "never in a span", CreatedAt: time.Now()})
	_, _ = s.LoadThreadItems(ctx, "thr_1", store.PageQuery{})
	_, _ = s.LoadThread(ctx, "thr_unknown")
	turn.End()

	printTree(exporter.GetSpans(), trace.SpanID{}, 0)
	// Output:
	// turn
	//   save_thread layer=store conversation.id=thr_1 code=ok
	//     save_thread layer=backend conversation.id=thr_1 code=ok
	//   load_thread_items layer=store conversation.id=thr_1 page.limit=0 code=ok page.items=0 page.has_more=false
	//     load_thread_items layer=backend conversation.id=thr_1 page.limit=0 code=ok page.items=0 page.has_more=false
	//   load_thread layer=store conversation.id=thr_unknown code=not_found
	//     load_thread layer=backend conversation.id=thr_unknown code=not_found
}

// printTree prints the spans beneath parent, indented, with their attributes but for the operation, which is the name.
func printTree(spans tracetest.SpanStubs, parent trace.SpanID, depth int) {
	for _, span := range spans {
		if span.Parent.SpanID() != parent {
			continue
		}
		fmt.Print(strings.Repeat("  ", depth), span.Name)
		for _, a := range span.Attributes {
			if a.Key != attribute.Key("chatstore.operation") {
				key := strings.TrimPrefix(strings.TrimPrefix(string(a.Key), "chatstore."), "gen_ai.")
				fmt.Printf(" %s=%s", key, a.Value.String())
			}
		}
		fmt.Println()
		printTree(spans, span.SpanContext.SpanID(), depth+1)
	}
}
