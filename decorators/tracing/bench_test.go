package tracing_test

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/store"
)

// Each benchmark alternates with its reference and reports the ratio of their costs.
//
//	go test -run '^$' -bench Tracing ./decorators/tracing

// empty is a base that costs nothing.
type empty struct{ store.Store }

func (empty) LoadThread(context.Context, string) (chat.Thread, error) { return chat.Thread{}, nil }
func (empty) DeleteThread(context.Context, string) error              { return nil }

func BenchmarkTracingUnsampledParent(b *testing.B) {
	tp := sdktrace.NewTracerProvider()
	s := store.Wrap(empty{}, tracing.New(tracing.WithTracerProvider(tp)))
	ctx := unsampled(b.Context())
	spy.InTurns(b, "x-bare-call",
		func() { _, _ = s.LoadThread(ctx, "thr_1a2b3c4d") },
		func() { _, _ = empty{}.LoadThread(ctx, "thr_1a2b3c4d") })
}

func BenchmarkTracingRootNotSampled(b *testing.B) {
	tp := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
	s := store.Wrap(empty{}, tracing.New(tracing.WithTracerProvider(tp)))
	tracer := tp.Tracer("by hand")
	opts := []trace.SpanStartOption{trace.WithAttributes(
		attribute.String("chatstore.operation", "load_thread"), attribute.String("chatstore.layer", "store"))}
	spy.InTurns(b, "x-Start",
		func() { _, _ = s.LoadThread(b.Context(), "thr_1a2b3c4d") },
		func() { tracer.Start(b.Context(), "load_thread", opts...) })
}

func BenchmarkTracingSampled(b *testing.B) {
	tp := sdktrace.NewTracerProvider()
	s := store.Wrap(empty{}, tracing.New(tracing.WithTracerProvider(tp)))
	hand := byHand{empty{}, tp.Tracer("by hand")}
	b.Run("read", func(b *testing.B) { // a read also has notes
		spy.InTurns(b, "x-by-hand",
			func() { _, _ = s.LoadThread(b.Context(), "thr_1a2b3c4d") },
			func() { _, _ = hand.LoadThread(b.Context(), "thr_1a2b3c4d") })
	})
	b.Run("write", func(b *testing.B) {
		spy.InTurns(b, "x-by-hand",
			func() { _ = s.DeleteThread(b.Context(), "thr_1a2b3c4d") },
			func() { _ = hand.DeleteThread(b.Context(), "thr_1a2b3c4d") })
	})
}

// byHand is a layer with hand-written spans that have the same attributes.
type byHand struct {
	empty
	tracer trace.Tracer
}

func (s byHand) start(ctx context.Context, op, id string) (context.Context, trace.Span) {
	return s.tracer.Start(ctx, op, trace.WithAttributes(
		attribute.String("chatstore.operation", op),
		attribute.String("chatstore.layer", "store"),
		attribute.String("gen_ai.conversation.id", id),
	))
}

func (s byHand) LoadThread(ctx context.Context, id string) (chat.Thread, error) {
	ctx, span := s.start(ctx, "load_thread", id)
	defer span.End()
	t, err := s.empty.LoadThread(ctx, id)
	span.SetAttributes(attribute.String("chatstore.code", store.CodeOf(err).String()))
	return t, err
}

func (s byHand) DeleteThread(ctx context.Context, id string) error {
	ctx, span := s.start(ctx, "delete_thread", id)
	defer span.End()
	err := s.empty.DeleteThread(ctx, id)
	span.SetAttributes(attribute.String("chatstore.code", store.CodeOf(err).String()))
	return err
}
