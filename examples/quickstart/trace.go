package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// firstTrace returns the spans of the first trace whose root has the given name. If there is none, it returns the first
// trace.
func firstTrace(spans tracetest.SpanStubs, root string) tracetest.SpanStubs {
	var id trace.TraceID
	for _, s := range spans {
		if s.Parent.IsValid() {
			continue
		}
		if s.Name == root {
			id = s.SpanContext.TraceID()
			break
		}
		if !id.IsValid() {
			id = s.SpanContext.TraceID()
		}
	}
	return slices.DeleteFunc(slices.Clone(spans), func(s tracetest.SpanStub) bool { return s.SpanContext.TraceID() != id })
}

// printTrace prints one trace as a tree, in the order in which its spans began.
func printTrace(w io.Writer, spans tracetest.SpanStubs) {
	children := map[trace.SpanID]tracetest.SpanStubs{}
	for _, s := range spans {
		children[s.Parent.SpanID()] = append(children[s.Parent.SpanID()], s)
	}
	var visit func(parent trace.SpanID, depth int)
	visit = func(parent trace.SpanID, depth int) {
		under := children[parent]
		slices.SortStableFunc(under, func(a, b tracetest.SpanStub) int { return a.StartTime.Compare(b.StartTime) })
		for _, s := range under {
			head := strings.Repeat("  ", depth) + s.Name
			fmt.Fprintf(w, "  %-34s %8s", head, s.EndTime.Sub(s.StartTime).Round(time.Microsecond))
			printAttributes(w, s)
			visit(s.SpanContext.SpanID(), depth+1)
		}
	}
	visit(trace.SpanID{}, 0)
}

// printAttributes prints the span's attributes behind its name, and in further lines if they do not fit.
func printAttributes(w io.Writer, s tracetest.SpanStub) {
	const column = 2 + 34 + 1 + 8
	at := column
	for _, a := range s.Attributes {
		key := strings.TrimPrefix(string(a.Key), "chatstore.")
		if key == "operation" || key == "layer" { // already in the span's name, or the same for all
			continue
		}
		text := "  " + key + "=" + a.Value.String()
		if at+len(text) > width {
			fmt.Fprintf(w, "\n%*s", column, "")
			at = column
		}
		fmt.Fprint(w, text)
		at += len(text)
	}
	fmt.Fprintln(w)
}
