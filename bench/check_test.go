package bench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// All peers must return the loaded values, also beyond their bounds and after a deletion.
func TestEveryPeerAnswersTheTruth(t *testing.T) {
	for _, p := range peersOf[string]() {
		t.Run(p.name, func(t *testing.T) {
			c := p.new(source[string]{
				load:    func(_ context.Context, key string) (string, error) { return "of " + key, nil },
				size:    func(v string) int { return len(v) },
				entries: 100, bytes: 1000,
			})
			defer c.Close()
			for range 3 {
				for n := range 200 { // twice as many as there is room for
					key := fmt.Sprint(n)
					if v, err := c.Get(t.Context(), key); err != nil || v != "of "+key {
						t.Fatalf("%s: got %q, %v", key, v, err)
					}
				}
			}
			c.Delete(t.Context(), "1")
			if v, err := c.Get(t.Context(), "1"); err != nil || v != "of 1" {
				t.Fatalf("after the deletion: got %q, %v", v, err)
			}
		})
	}
}

// The handwritten spans must equal those of chatstore.
func TestSpansByHandAreTheSame(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	base, tracer := instant{memstore.New()}, tp.Tracer("by hand")
	var want []attribute.KeyValue
	for n, load := range []loadThread{
		store.Wrap(base, tracing.New(tracing.WithTracerProvider(tp))).LoadThread,
		leastSpan(tracer, base.LoadThread), usualSpan(tracer, base.LoadThread),
	} {
		get[chat.Thread](t)(load(t.Context(), "thr_1"))
		span := recorder.Ended()[n]
		set := attribute.NewSet(span.Attributes()...)
		got := set.ToSlice()
		if n == 0 {
			want = got
		}
		if !slices.Equal(got, want) || span.Name() != "load_thread" || span.SpanKind() != trace.SpanKindInternal {
			t.Errorf("span %d: got %s with %v, want %v", n, span.Name(), got, want)
		}
	}
}

// Every section runs at a small scale, and every answer passes its checks.
func TestEverySectionRuns(t *testing.T) {
	defer func(before scale) { at = before }(at)
	at = small
	for _, s := range sections {
		t.Run(s.name, func(t *testing.T) {
			for _, table := range s.run(t) {
				if len(table.rows) < 2 {
					t.Errorf("%s: %d rows", table.title, len(table.rows))
				}
				for _, row := range table.rows {
					if len(row) != len(table.head) {
						t.Errorf("%s: %q under %q", table.title, row, table.head)
					}
				}
			}
		})
	}
}

// README.md must have every section, with results.
func TestTheReadmeHasEverySection(t *testing.T) {
	text := string(get[[]byte](t)(os.ReadFile("README.md")))
	for _, s := range sections {
		begin, end := marks(s.name)
		_, rest, ok := strings.Cut(text, begin)
		tables, _, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 || !strings.Contains(tables, "| ---") {
			t.Errorf("%s: README.md has no tables", s.name)
		}
	}
	for _, picture := range []string{"growth-items.svg", "growth-threads.svg", "memory.svg"} {
		if !strings.Contains(text, "("+picture+")") {
			t.Errorf("%s: README.md does not show the picture", picture)
		}
		if b := get[[]byte](t)(os.ReadFile(picture)); !strings.Contains(string(b), "<svg") {
			t.Errorf("%s: no picture", picture)
		}
	}
}
