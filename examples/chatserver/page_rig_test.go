package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/examples/chatserver/answer"
	"github.com/chatstore/chatstore/internal/testenv"
)

// scripted is the demo, and answers "do NAME" as a test wants.
type scripted struct {
	*answer.Demo
	do map[string]func(context.Context, *chatkit.Turn) error
}

func (s scripted) Respond(ctx context.Context, t *chatkit.Turn) error {
	if m, ok, err := chat.DecodeItem[chat.UserMessage](t.Message); err == nil && ok && len(m.Content) > 0 {
		if name, found := strings.CutPrefix(m.Content[0].Text, "do "); found && s.do[name] != nil {
			return s.do[name](ctx, t)
		}
	}
	return s.Demo.Respond(ctx, t)
}

// script makes the server answer "do NAME" with these functions.
func script(do map[string]func(context.Context, *chatkit.Turn) error) func(*config) {
	return func(c *config) { c.responder = scripted{answer.NewDemo(answer.WithPace(0)), do} }
}

// saying streams the given pieces of one message.
func saying(pieces ...string) func(context.Context, *chatkit.Turn) error {
	return func(ctx context.Context, t *chatkit.Turn) error {
		return t.Say(ctx, func(yield func(string, error) bool) {
			for _, p := range pieces {
				if !yield(p, nil) {
					return
				}
			}
		})
	}
}

// held streams the given pieces, each only after the test has sent to next.
func held(next <-chan struct{}, pieces ...string) func(context.Context, *chatkit.Turn) error {
	return func(ctx context.Context, t *chatkit.Turn) error {
		return t.Say(ctx, func(yield func(string, error) bool) {
			for _, p := range pieces {
				select {
				case <-next:
				case <-ctx.Done():
					yield("", ctx.Err())
					return
				}
				if !yield(p, nil) {
					return
				}
			}
		})
	}
}

// begin sends a message with the keyboard and does not wait for the answer.
func (b *browser) begin(text string) {
	b.t.Helper()
	b.free()
	b.do(fmt.Sprintf("{ const t = document.getElementById('text'); t.focus(); t.value = %q; }", text))
	b.enter(0)
}

// press clicks wherever the element is. A click with the mouse would miss it while the line about the lost server goes away.
func (b *browser) press(selector string) {
	b.t.Helper()
	b.do(fmt.Sprintf("document.querySelector(%q).click()", selector))
}

// value returns the value that a JavaScript expression has now. What the page shows a little later is awaited with until.
func value[T any](b *browser, expression string) T {
	b.t.Helper()
	return testenv.Value(evaluate[T](b, expression))(b.t)
}

// count returns an expression for the number of elements.
func count(selector string) string {
	return fmt.Sprintf("document.querySelectorAll(%q).length", selector)
}

// faultsExcept returns the page's faults without those that a test has caused.
func (b *browser) faultsExcept(parts ...string) (rest []string) {
	for _, f := range b.heard() {
		expected := false
		for _, p := range parts {
			expected = expected || strings.Contains(f, p)
		}
		if !expected {
			rest = append(rest, f)
		}
	}
	return rest
}

func (b *browser) cleanExcept(parts ...string) {
	b.t.Helper()
	if rest := b.faultsExcept(parts...); len(rest) > 0 {
		b.t.Errorf("the page's faults:\n%s", strings.Join(rest, "\n"))
	}
}

// intercept makes requests of a type (a part of their body) fail without an answer, after the server has carried them out if
// carried is true. It ends with window.mend().
func (b *browser) intercept(part string, carried bool) {
	b.t.Helper()
	b.do(fmt.Sprintf(`(() => {
		const real = window.fetch;
		window.tried = 0;
		window.mend = () => { window.fetch = real; };
		window.fetch = async (url, init) => {
			if (!String(init?.body).includes(%q)) return real(url, init);
			window.tried++;
			if (%t) await (await real(url, init)).text();
			throw new TypeError("gone");
		};
	})()`, part, carried))
}

// serverFor starts a server and returns it with a page of it. Tests with a browser run in parallel, so they call this first.
func serverFor(t *testing.T, change func(*config)) (*running, *browser) {
	t.Helper()
	t.Parallel()
	srv := startServer(t, change)
	return srv, newBrowser(t, srv.url)
}

func evaluate[T any](b *browser, expression string) (T, error) {
	return chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// release lets a held responder say its next piece.
func release(t *testing.T, next chan<- struct{}) {
	t.Helper()
	select {
	case next <- struct{}{}:
	case <-time.After(hang):
		t.Fatal("the responder did not begin")
	}
}

// media sets the colours that the user prefers. No animation runs: a click would miss what moves.
func (b *browser) media(scheme string) {
	b.t.Helper()
	testenv.Value(chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}}))(b.t)
}
