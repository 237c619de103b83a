package guides_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/resilience"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest"
	"github.com/chatstore/chatstore/storetest/faulty"
	"github.com/chatstore/chatstore/storetest/isolate"
	"github.com/chatstore/chatstore/storetest/linear"
)

// slowLog logs every call that took at least limit.
type slowLog struct {
	limit time.Duration
	log   *slog.Logger
}

func (o *slowLog) Begin(ctx context.Context, c layer.Call) (context.Context, any) {
	return ctx, o // a state that is not nil, so that End is called
}

func (o *slowLog) End(ctx context.Context, c layer.Call, r layer.Result, _ any) {
	if r.Duration >= o.limit {
		o.log.WarnContext(ctx, "slow call", "op", c.Op, "thread", c.ThreadID, "code", r.Code, "took", r.Duration)
	}
}

func TestTheSlowLogHasSlowCallsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := faulty.New(memstore.New())
		base.Inject(faulty.Fault{Op: store.OpLoadItem, Do: faulty.Delay(func(context.Context) error {
			time.Sleep(2 * time.Second)
			return nil
		})})
		var out bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&out, nil))
		s := store.Wrap(base, layer.Observe("slow log", &slowLog{time.Second, logger}))
		_, _ = s.LoadThread(t.Context(), "thr_1")
		_, _ = s.LoadItem(t.Context(), "thr_1", "msg_1")
		_, got, _ := strings.Cut(out.String(), " ")
		if want := "level=WARN msg=\"slow call\" op=load_item thread=thr_1 code=not_found took=2s\n"; got != want {
			t.Errorf("logged %q, want %q", got, want)
		}
	})
}

// suspended refuses the writes of the owners for which is returns true.
func suspended(is func(chat.Owner) bool) store.Middleware {
	return layer.Admit("suspended", func(ctx context.Context, c layer.Call) error {
		if p, ok := store.PrincipalFrom(ctx); ok && c.Op.IsWrite() && is(p.Owner) {
			return store.ErrDenied
		}
		return nil
	})
}

func Example_admit() {
	eve := chat.Owner{Tenant: "acme", Subject: "eve"}
	s := store.Wrap(memstore.New(), suspended(func(o chat.Owner) bool { return o == eve }))
	ctx := store.WithPrincipal(context.Background(), store.Principal{Owner: eve})
	err := s.SaveThread(ctx, chat.Thread{ID: "thr_1", CreatedAt: time.Now()})
	fmt.Println(err, store.IsDefinite(err))
	_, err = s.LoadThread(ctx, "thr_1")
	fmt.Println(err)
	// Output:
	// save_thread: denied: thread "thr_1" true
	// load_thread: not found: thread "thr_1"
}

// cards matches 13 to 19 digits, also with spaces, dots or hyphens between them.
var cards = regexp.MustCompile(`\d(?:[\s.\x{a0}-]*\d){12,18}`)

// redact replaces the numbers of payment cards in a user's message.
func redact(_ context.Context, it chat.Item) (chat.Item, error) {
	m, ok, err := chat.DecodeItem[chat.UserMessage](it)
	if err != nil || !ok {
		return it, err
	}
	m.QuotedText = cards.ReplaceAllString(m.QuotedText, "[card]")
	for i := range m.Content {
		m.Content[i].Text = cards.ReplaceAllString(m.Content[i].Text, "[card]")
	}
	return it.WithBody(m)
}

func Example_redaction() {
	s := store.Wrap(memstore.New(), cache.New(), layer.Transform("redaction", layer.Transformer{SaveItem: redact}))
	fmt.Println(say(s, "My card is 4111 1111 1111 1111, call 555-0123"))
	// Output:
	// My card is [card], call 555-0123 <nil>
}

// moderate refuses messages with an e-mail address.
func moderate(_ context.Context, it chat.Item) (chat.Item, error) {
	m, ok, err := chat.DecodeItem[chat.UserMessage](it)
	if err != nil || !ok {
		return it, err
	}
	texts := m.QuotedText
	for _, c := range m.Content {
		texts += c.Text
	}
	if strings.Contains(texts, "@") {
		return it, &store.Error{Code: store.CodeInvalid, Field: "content: an e-mail address"}
	}
	return it, nil
}

func Example_moderation() {
	rule := layer.Transformer{SaveItem: moderate, Lossless: true} // it changes nothing
	s := store.Wrap(memstore.New(), cache.New(), layer.Transform("moderation", rule))
	fmt.Println(say(s, "Call me"))
	fmt.Println(say(s, "Write to ada@example.com"))
	// Output:
	// Call me <nil>
	//  add_thread_item: invalid: item "msg_1": content: an e-mail address
}

// say adds a message to a new thread, and returns its text as the store has it.
func say(s store.Store, text string) (string, error) {
	ctx, now := context.Background(), time.Now()
	m, err := chat.NewItem("msg_1", now, chat.UserMessage{Content: []chat.UserContent{{Text: text}}, QuotedText: text})
	if err != nil {
		return "", err
	}
	if err := s.SaveThread(ctx, chat.Thread{ID: "thr_1", CreatedAt: now}); err != nil {
		return "", err
	}
	if err := s.AddThreadItem(ctx, "thr_1", m); err != nil {
		return "", err
	}
	if m, err = s.LoadItem(ctx, "thr_1", "msg_1"); err != nil {
		return "", err
	}
	body, _, err := chat.DecodeItem[chat.UserMessage](m)
	if body.QuotedText != body.Content[0].Text {
		err = fmt.Errorf("quoted %q", body.QuotedText)
	}
	return body.Content[0].Text, err
}

// watching are the layers of the guide that may stand around a guard, and changing is the one that must stand in it.
var (
	watching = []store.Middleware{
		layer.Observe("slow log", &slowLog{time.Hour, slog.New(slog.DiscardHandler)}),
		suspended(func(chat.Owner) bool { return false }),
	}
	changing = layer.Transform("redaction", layer.Transformer{SaveItem: redact})
)

// myLayers returns the layers of the guide.
func myLayers() []store.Middleware { return append(slices.Clone(watching), changing) }

// The contract still holds around the layer.
func TestTheLayersKeepTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return store.Wrap(memstore.New(), myLayers()...) })
}

// Retries beneath a cache never make it answer with an old value, whatever the base does.
func TestRetriesBeneathACacheAreLinearizable(t *testing.T) {
	linear.Run(t, func(base store.Store) store.Store {
		return store.Wrap(base, cache.New(), resilience.New())
	}, linear.WithHistories(20))
}

// Layers around a guard do not leak what it hides.
func TestTheLayersIsolate(t *testing.T) {
	isolate.Run(t, func(base store.Store, _ *isolate.Grants) store.Store {
		guard := authz.New(authz.AnyOf(authz.OwnerOnly(), authz.HasRole("admin"), authz.TenantAdmin("tenant_admin")))
		return store.Wrap(base, append(slices.Clone(watching), guard, changing)...)
	}, isolate.Options{Traces: 20, WithoutGrants: true})
}

// The rules that the page states and no other test of this folder shows.
func TestTheRulesOfAnInterceptor(t *testing.T) {
	save := func(base store.Store, i layer.InterceptorFunc) error {
		s := store.Wrap(base, layer.Intercept("rule", i))
		return s.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: time.Now()})
	}
	for name, tt := range map[string]struct {
		i    layer.InterceptorFunc
		want store.Code
	}{
		"nil without next": {func(context.Context, layer.Call, func(context.Context) error) error { return nil }, store.CodeInternal},
		"a definite error after a success": {func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			testenv.Must(t, next(ctx))
			return store.ErrDenied
		}, store.CodeUnavailable},
	} {
		if err := save(memstore.New(), tt.i); store.CodeOf(err) != tt.want {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
	var late func(context.Context) error
	testenv.Must(t, save(memstore.New(), func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		late = next
		return next(ctx)
	}))
	if err := late(t.Context()); store.CodeOf(err) != store.CodeInternal || !store.IsDefinite(err) {
		t.Errorf("next after the return: %v", err)
	}
}
