package guides_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
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

// readOnly refuses writes while it is on.
type readOnly struct{ on atomic.Bool }

func (r *readOnly) Intercept(ctx context.Context, c layer.Call, next func(context.Context) error) error {
	if r.on.Load() && c.Op.IsWrite() {
		return &store.Error{Op: c.Op, Code: store.CodeUnavailable, Cause: store.ErrNotApplied}
	}
	return next(ctx)
}

func Example_readOnly() {
	var maintenance readOnly
	s := store.Wrap(memstore.New(), layer.Intercept("read only", &maintenance), cache.New())
	ctx := context.Background()
	thread := chat.Thread{ID: "thr_1", CreatedAt: time.Now()}
	fmt.Println(s.SaveThread(ctx, thread))

	maintenance.on.Store(true)
	err := s.SaveThread(ctx, thread)
	fmt.Println(err, store.IsDefinite(err))
	// Output:
	// <nil>
	// save_thread: unavailable true
}

// shortTitles cuts the titles of threads to 80 characters.
type shortTitles struct{ store.Store }

func (s shortTitles) SaveThread(ctx context.Context, t chat.Thread) error {
	if title := []rune(t.Title); len(title) > 80 {
		t.Title = string(title[:80])
	}
	return s.Store.SaveThread(ctx, t)
}

func (s shortTitles) Unwrap() store.Store { return s.Store }        // for store.As, store.All and store.Close
func (shortTitles) LayerName() string     { return "short titles" } // for store.Layers
func (shortTitles) RewritesValues()       {}                        // for caches above: see layer.Rewriter

func Example_rewriter() {
	cut := func(next store.Store) store.Store { return shortTitles{next} }
	s := store.Wrap(memstore.New(), cache.New(), cut)
	ctx := context.Background()
	thread := chat.Thread{ID: "thr_1", Title: strings.Repeat("tea ", 30), CreatedAt: time.Now()}
	fmt.Println(s.SaveThread(ctx, thread))
	thread, err := s.LoadThread(ctx, "thr_1")
	fmt.Println(len(thread.Title), err, store.Layers(s))
	// Output:
	// <nil>
	// 80 <nil> [cache short titles memstore]
}

// timeout limits every call beneath it.
func timeout(d time.Duration) store.Middleware {
	limit := func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		return next(ctx)
	}
	return layer.Intercept("timeout", layer.InterceptorFunc(limit))
}

func TestTheTimeoutEndsACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := faulty.New(memstore.New())
		base.Inject(faulty.Fault{Do: faulty.Delay(faulty.Until(nil))})
		s := store.Wrap(base, timeout(time.Second))
		_, err := s.LoadThread(t.Context(), "thr_1")
		if store.CodeOf(err) != store.CodeTimeout {
			t.Errorf("got %v", err)
		}
	})
}

// myLayers are the layers of the guide.
func myLayers() []store.Middleware {
	return []store.Middleware{
		layer.Observe("slow log", &slowLog{time.Hour, slog.New(slog.DiscardHandler)}),
		layer.Intercept("read only", new(readOnly)),
		func(next store.Store) store.Store { return shortTitles{next} },
		timeout(time.Minute),
	}
}

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
		return store.Wrap(base, append(myLayers(), guard)...)
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
