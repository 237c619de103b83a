package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/singleflight"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
)

const (
	width   = 116 // maximum width of a printed line
	readers = 1000
	maxRows = 60 // maximum rows of the table of requests
)

var (
	ada     = store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "ada"}}
	mallory = store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "mallory"}}
)

// run takes the tour and prints it.
func run(ctx context.Context, w io.Writer, file, dir string) error {
	transcripts, err := readTranscripts(file, dir)
	if err != nil {
		return err
	}
	begin := time.Now()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	defer provider.Shutdown(context.WithoutCancel(ctx))
	var audit auditLog

	base := memstore.New()
	s, err := newStack(base, true, provider, audit.record)
	if err != nil {
		return err
	}
	defer store.Close(s.Store)
	plain, err := newStack(memstore.New(), false, noop.NewTracerProvider(), nil)
	if err != nil {
		return err
	}
	defer store.Close(plain.Store)

	heading(w, "The stack, from outside in")
	fmt.Fprintf(w, "  %s\n", strings.Join(store.Layers(s.Store), " → "))

	owner := store.WithPrincipal(ctx, ada)
	if err := conversations(owner, w, transcripts, s, plain, provider); err != nil {
		return err
	}
	if err := stampedes(ctx, w, transcripts[0], base); err != nil {
		return err
	}
	if err := stranger(ctx, w, transcripts[0], s, &audit); err != nil {
		return err
	}
	heading(w, "The first user message as a trace (attributes without their prefix chatstore.)")
	printTrace(w, firstTrace(spans.GetSpans(), "POST /chatkit (user message)"))

	heading(w, `The Prometheus series that are not zero (without their prefix chatstore_ and the label store="quickstart")`)
	moved, all, err := printSeries(w, s.registry)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "  %d of %d series\n", moved, all)
	fmt.Fprintf(w, "\nAll of this took %v.\n", time.Since(begin).Round(time.Millisecond))
	return nil
}

func heading(w io.Writer, text string) {
	fmt.Fprintf(w, "\n%s\n%s\n", text, strings.Repeat("-", utf8.RuneCountInString(text)))
}

// conversations replays the transcripts and prints what each request cost.
func conversations(ctx context.Context, w io.Writer, all []transcript, s, plain *stack, provider *sdktrace.TracerProvider) error {
	tracer := provider.Tracer("quickstart")
	sum := turn{request: "in all"}
	back := fidelity{types: map[chat.ItemType]int{}}
	printed := 0
	for _, t := range all {
		turns, err := replay(ctx, t, s, plain, tracer)
		if err != nil {
			return err
		}
		f, err := compare(ctx, t, s)
		if err != nil {
			return err
		}
		back.add(f)

		if printed < maxRows {
			title := ""
			if t.thread.Title != "" {
				title = fmt.Sprintf(" %q", t.thread.Title)
			}
			heading(w, fmt.Sprintf("%s: thread %s%s", t.name, t.thread.ID, title))
			row(w, "", "", "calls of", "base", "base reads", "base reads")
			row(w, "request", "items (* = a later state)", "the server", "writes", "with cache", "without it")
		}
		for _, m := range turns {
			sum.calls.add(m.calls)
			sum.base.add(m.base)
			sum.plain.add(m.plain)
			if printed++; printed <= maxRows {
				turnRow(w, m)
			}
		}
	}
	if printed > maxRows {
		fmt.Fprintf(w, "  … %d more requests\n", printed-maxRows)
	}
	fmt.Fprintln(w)
	turnRow(w, sum)
	fmt.Fprintf(w, "\n  The cache saved the base %d of %d reads. These include the reads by which authz finds the owner of a thread.\n",
		sum.plain.reads-sum.base.reads, sum.plain.reads)
	fmt.Fprintf(w, "  %d of %d items came back byte for byte. They are of %d types:\n", back.same, back.items, len(back.types))
	for _, line := range wrap(slices.Sorted(maps.Keys(back.types)), width-4) {
		fmt.Fprintf(w, "    %s\n", line)
	}
	if len(back.changed) > 0 {
		fmt.Fprintf(w, "  Changed: %q\n", back.changed)
	}
	return nil
}

func row(w io.Writer, cells ...any) {
	fmt.Fprintf(w, "  %-18v  %-46v  %10v  %8v  %10v  %10v\n", cells...)
}

func turnRow(w io.Writer, t turn) {
	row(w, t.request, t.itemList(46), t.calls.reads+t.calls.writes, t.base.writes, t.base.reads, t.plain.reads)
}

// wrap joins words into lines of at most n bytes.
func wrap[T ~string](words []T, n int) []string {
	var lines []string
	for _, word := range words {
		if last := len(lines) - 1; last >= 0 && len(lines[last])+1+len(word) <= n {
			lines[last] += " " + string(word)
		} else {
			lines = append(lines, string(word))
		}
	}
	return lines
}

// everyone is a lookup by which all may view all threads.
type everyone struct{}

func (everyone) Access(context.Context, store.Principal, string) (sharing.Access, error) {
	return sharing.Access{Role: sharing.Viewer}, nil
}

// stampedes starts many readers of a thread that no layer holds.
func stampedes(ctx context.Context, w io.Writer, t transcript, base store.Store) error {
	heading(w, fmt.Sprintf("%d concurrent readers of a thread that is not cached, over a slow base", readers))
	for _, c := range []struct {
		name   string
		who    func(int) store.Principal
		layers []store.Middleware
	}{
		{"no layer", func(int) store.Principal { return ada }, nil},
		{"singleflight, one user", func(int) store.Principal { return ada }, []store.Middleware{singleflight.New()}},
		{"authz and cache, as many users with access", func(i int) store.Principal {
			return store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: fmt.Sprint("viewer-", i)}}
		}, []store.Middleware{authz.New(authz.Shared(everyone{}), authz.ShareBelow()), cache.New()}},
	} {
		calls, err := stampede(ctx, base, t.thread.ID, readers, c.who, c.layers...)
		if err != nil {
			return fmt.Errorf("stampede, %s: %w", c.name, err)
		}
		fmt.Fprintf(w, "  %-48s %5d calls of the base\n", c.name, calls)
	}
	return nil
}

// stranger shows the answers that another user gets.
func stranger(ctx context.Context, w io.Writer, t transcript, s *stack, audit *auditLog) error {
	owner := store.WithPrincipal(ctx, ada)
	before, err := compare(owner, t, s)
	if err != nil {
		return err
	}
	got, err := refusals(store.WithPrincipal(ctx, mallory), s, t)
	if err != nil {
		return err
	}
	heading(w, "A stranger, signed in as "+name(mallory.Owner))
	fmt.Fprintf(w, "  %-24s  %-22s  %s\n", "call", "on "+name(ada.Owner)+"'s thread", "on a missing thread")
	for _, r := range got {
		fmt.Fprintf(w, "  %-24s  %-22s  %s\n", r.call, r.theirs, r.absent)
	}
	_, err = s.LoadThread(ctx, t.thread.ID)
	fmt.Fprintf(w, "  %-24s  %s\n", "signed out, load_thread", answer(1, err))

	fmt.Fprintf(w, "\n  The audit log has %d denials, for example:\n", len(audit.lines))
	if len(audit.lines) > 0 {
		fmt.Fprintf(w, "    %s\n", audit.lines[0])
	}
	after, err := compare(owner, t, s)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "  %d of the %d items of the owner's thread are unchanged.\n", after.same, before.items)
	return nil
}
