package guides_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/bus/pubsub"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/metrics"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// observed wraps base for a program that exports metrics, traces and logs.
func observed(base store.Store, reg prometheus.Registerer, tp trace.TracerProvider, log *slog.Logger) (store.Store, error) {
	outer, err := metrics.New(reg, metrics.WithStore("chat"), metrics.WithLayer("outer"))
	if err != nil {
		return nil, err
	}
	inner, err := metrics.New(reg, metrics.WithStore("chat"), metrics.WithLayer("inner"))
	if err != nil {
		return nil, err
	}
	return store.Wrap(base,
		tracing.New(tracing.WithTracerProvider(tp)), logged(log), outer, // what callers see
		authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New(),
		inner), nil // what the base has to do
}

// metricsHandler answers GET /metrics. OpenMetrics carries exemplars, which lead to traces.
func metricsHandler(reg *prometheus.Registry) http.Handler {
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{Registry: reg, EnableOpenMetrics: true})
}

// logged logs each failed call with its cause.
func logged(log *slog.Logger) store.Middleware {
	return layer.Intercept("log", layer.InterceptorFunc(
		func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			err := next(ctx)
			switch code := store.CodeOf(err); code {
			case store.CodeTimeout, store.CodeUnavailable, store.CodeInternal:
				log.ErrorContext(ctx, "call failed", "code", code.String(), "error", err, "cause", causeOf(err))
			}
			return err
		}))
}

// causeOf returns the innermost cause. Each layer's error wraps that of the layer beneath, and none has it in its text.
func causeOf(err error) error {
	e, ok := errors.AsType[*store.Error](err)
	if !ok || e.Cause == nil {
		return err
	}
	return causeOf(e.Cause)
}

// observedRequest is a server's request: two reads by the owner, one by a stranger.
func observedRequest(s store.Store) {
	ada, eve := asUser("acme", "ada"), asUser("acme", "eve")
	_ = s.SaveThread(ada, accessThread("thr_1"))
	item, _ := chat.NewItem("msg_1", accessThread("").CreatedAt, chat.EndOfTurn{})
	_ = s.AddThreadItem(ada, "thr_1", item)
	for range 2 {
		_, _ = s.LoadThreadItems(ada, "thr_1", store.PageQuery{})
	}
	_, _ = s.LoadThreadItems(eve, "thr_1", store.PageQuery{})
}

// The page that Prometheus scrapes.
func Example_observeMetrics() {
	reg := prometheus.NewRegistry()
	s, err := observed(memstore.New(), reg, sdktrace.NewTracerProvider(), slog.New(slog.DiscardHandler))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close(s) // unregisters the metrics
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metricsHandler(reg))

	observedRequest(s)
	for _, line := range scrape(mux) {
		for _, name := range []string{"chatstore_operations_total{", "chatstore_cache_requests_total{", "chatstore_authz_decisions_total{"} {
			if strings.HasPrefix(line, name) && !strings.HasSuffix(line, " 0.0") {
				fmt.Println(line)
			}
		}
	}
	// Output:
	// chatstore_authz_decisions_total{decision="allow",layer="outer",reason="policy",store="chat"} 4.0
	// chatstore_authz_decisions_total{decision="deny",layer="outer",reason="hidden",store="chat"} 1.0
	// chatstore_cache_requests_total{kind="items",layer="outer",result="hit",store="chat"} 1.0
	// chatstore_cache_requests_total{kind="items",layer="outer",result="miss",store="chat"} 1.0
	// chatstore_cache_requests_total{kind="thread",layer="outer",result="hit",store="chat"} 3.0
	// chatstore_cache_requests_total{kind="thread",layer="outer",result="miss",store="chat"} 2.0
	// chatstore_operations_total{code="not_found",layer="inner",operation="load_thread",store="chat"} 1.0
	// chatstore_operations_total{code="ok",layer="inner",operation="add_thread_item",store="chat"} 1.0
	// chatstore_operations_total{code="ok",layer="inner",operation="load_thread",store="chat"} 1.0
	// chatstore_operations_total{code="ok",layer="inner",operation="load_thread_items",store="chat"} 1.0
	// chatstore_operations_total{code="ok",layer="inner",operation="save_thread",store="chat"} 1.0
	// chatstore_operations_total{code="ok",layer="outer",operation="add_thread_item",store="chat"} 1.0
	// chatstore_operations_total{code="ok",layer="outer",operation="load_thread_items",store="chat"} 3.0
	// chatstore_operations_total{code="ok",layer="outer",operation="save_thread",store="chat"} 1.0
}

// scrape returns the lines of /metrics without comments, as OpenMetrics.
func scrape(h http.Handler) (lines []string) {
	r, w := httptest.NewRequest(http.MethodGet, "/metrics", nil), httptest.NewRecorder()
	r.Header.Set("Accept", "application/openmetrics-text")
	h.ServeHTTP(w, r)
	for line := range strings.Lines(w.Body.String()) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// failingBase fails to load threads.
type failingBase struct{ store.Store }

func (failingBase) LoadThread(context.Context, string) (chat.Thread, error) {
	return chat.Thread{}, &store.Error{Op: store.OpLoadThread, Kind: store.RowThread, ID: "thr_1", Code: store.CodeUnavailable,
		Cause: errors.New("dial tcp 10.0.0.7:5432: connection refused")}
}

// A log line has the cause that the caller does not get.
func Example_observeLogs() {
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	s := store.Wrap(failingBase{memstore.New()}, logged(log), authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New())
	defer store.Close(s)
	_, err := s.LoadThread(asUser("acme", "ada"), "thr_1")
	fmt.Println(err)
	// Output:
	// level=ERROR msg="call failed" code=unavailable error="load_thread: unavailable: thread \"thr_1\"" cause="dial tcp 10.0.0.7:5432: connection refused"
	// load_thread: unavailable: thread "thr_1"
}

// A hundred readers ask for a thread that is not cached. The base is asked once.
func Example_observeStampede() {
	arrived := make(chan struct{})
	slow := layer.Intercept("slow", layer.InterceptorFunc(
		func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			if c.Op == store.OpLoadThread {
				<-arrived
			}
			return next(ctx)
		}))
	s := store.Wrap(memstore.New(), cache.New(), slow)
	defer store.Close(s)
	_ = s.SaveThread(context.Background(), accessThread("thr_1"))

	var readers sync.WaitGroup
	for range 100 {
		readers.Go(func() { _, _ = s.LoadThread(context.Background(), "thr_1") })
	}
	for statOf(s, "chatstore_flights_total", "load_thread", "follower") < 99 {
		runtime.Gosched()
	}
	close(arrived)
	readers.Wait()
	fmt.Println("leaders:", statOf(s, "chatstore_flights_total", "load_thread", "leader"))
	fmt.Println("followers:", statOf(s, "chatstore_flights_total", "load_thread", "follower"))
	fmt.Println("misses:", statOf(s, "chatstore_cache_requests_total", "thread", "miss"))
	// Output:
	// leaders: 1
	// followers: 99
	// misses: 100
}

// statOf returns the sum of the statistics of that name that have all the label values.
func statOf(s store.Store, name string, values ...string) (sum float64) {
	for r := range store.All[layer.StatsReporter](s) {
		for _, stat := range r.AppendStats(nil) {
			has := func(v string) bool {
				return slices.ContainsFunc(stat.Labels[:], func(l layer.Label) bool { return l.Value == v })
			}
			if stat.Name == name && !slices.ContainsFunc(values, func(v string) bool { return !has(v) }) {
				sum += stat.Value
			}
		}
	}
	return sum
}

func TestObserveExemplars(t *testing.T) {
	reg := prometheus.NewRegistry()
	tp := sdktrace.NewTracerProvider()
	s := testenv.Value(observed(failingBase{memstore.New()}, reg, tp, slog.New(slog.DiscardHandler)))(t)
	_, _ = s.LoadThread(asUser("acme", "ada"), "thr_1")
	if !slices.ContainsFunc(scrape(metricsHandler(reg)), func(line string) bool {
		return strings.Contains(line, `code="unavailable",layer="outer"`) && strings.Contains(line, "# {trace_id=")
	}) {
		t.Error("a failed call left no exemplar")
	}
	testenv.Must(t, store.Close(s))
	for _, line := range scrape(metricsHandler(prometheus.NewRegistry())) {
		if strings.HasPrefix(line, "chatstore_") {
			t.Errorf("after Close: %s", line)
		}
	}
	_ = testenv.Value(observed(memstore.New(), reg, tp, slog.New(slog.DiscardHandler)))(t) // the names are free again
	if _, err := metrics.New(reg, metrics.WithStore("chat"), metrics.WithLayer("outer")); err == nil {
		t.Error("a second layer of the same names was registered")
	}
}

// The layer around authz also sees why a policy failed.
func TestObserveLogsThePolicysFailure(t *testing.T) {
	var text strings.Builder
	policy := policyFunc(func(context.Context) (authz.Decision, error) { return authz.Deny, errors.New("no table of grants") })
	s := store.Wrap(memstore.New(), logged(slog.New(slog.NewTextHandler(&text, nil))), authz.New(policy))
	_, err := s.LoadThread(asUser("acme", "ada"), "thr_1")
	if !errors.Is(err, store.ErrUnavailable) || strings.Contains(err.Error(), "grants") {
		t.Errorf("the caller gets %v", err)
	}
	if !strings.Contains(text.String(), "the policy failed: no table of grants") {
		t.Errorf("the log has %s", text.String())
	}
}

// noChannel is a message channel that cannot be reached.
type noChannel struct{}

func (noChannel) Connect(context.Context) (pubsub.Conn, error) { return nil, errors.New("no channel") }
func (noChannel) Publish(context.Context, string) error        { return errors.New("no channel") }

// exported returns the series of a stack with a bus and a pool, and of a ChatKit handler.
func exported(t *testing.T) []string {
	t.Helper()
	reg := prometheus.NewRegistry()
	outer := testenv.Value(metrics.New(reg, metrics.WithLayer("outer")))(t)
	inner := testenv.Value(metrics.New(reg, metrics.WithLayer("inner")))(t)
	b := pubsub.New(noChannel{}, pubsub.WithLogger(slog.New(slog.DiscardHandler)))
	base := testenv.Value(sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "chat.db")))(t)
	s := store.Wrap(base, outer, authz.New(authz.OwnerOnly()), cache.New(cache.WithBus(b), cache.WithRevalidation(time.Hour)), inner)
	chatkit.NewHandler(s, nil, chatkit.WithRegisterer(reg))
	t.Cleanup(func() { testenv.Must(t, store.Close(s)); testenv.Must(t, b.Close()) })
	for _, name := range []string{"thr_1", "thr_2"} {
		_, _ = s.LoadThread(asUser("acme", "ada"), name)
	}
	return scrape(promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true}))
}

func pageOf(t *testing.T, path string) string {
	t.Helper()
	return string(testenv.Value(os.ReadFile("../../" + path))(t))
}

// The series, alerts and queries on the pages exist. The tables explain all series, results and reasons of cache and bus.
func TestObservePagesNameWhatExists(t *testing.T) {
	lines, rules := exported(t), pageOf(t, "observability/rules.yml")
	all := strings.Join(lines, "\n")
	for _, path := range []string{"docs/observe.md", "docs/runbooks.md", "observability/README.md"} {
		page := pageOf(t, path)
		recorded := regexp.MustCompile(`\b[a-z_]+:[a-z_]+:[a-z0-9_]+`)
		for _, name := range recorded.FindAllString(page, -1) {
			if !strings.Contains(rules, "record: "+name+"\n") {
				t.Errorf("%s: no rule records %s", path, name)
			}
		}
		page = recorded.ReplaceAllString(page, "")
		for _, name := range regexp.MustCompile(`\bchat(?:store|kit)_[a-z_]*[a-z]\b`).FindAllString(page, -1) {
			if !strings.Contains(all, name) {
				t.Errorf("%s: no series %s", path, name)
			}
		}
		for _, name := range regexp.MustCompile(`\bChat(?:store|kit)[A-Z][A-Za-z]+`).FindAllString(page, -1) {
			if !strings.Contains(rules, "alert: "+name+"\n") {
				t.Errorf("%s: no alert %s", path, name)
			}
		}
	}
	variables := strings.NewReplacer(`\"`, `"`, `{job=~\"$job\", store=~\"$store\"}`, "", `job=~\"$job\", store=~\"$store\", `, "", "$__rate_interval", "5m")
	dashboard := variables.Replace(pageOf(t, "observability/dashboard.json"))
	page, squeezed := pageOf(t, "docs/observe.md"), strings.Join(strings.Fields(rules+dashboard), " ")
	for _, query := range regexp.MustCompile("(?s)```promql\n(.*?)```").FindAllStringSubmatch(page, -1) {
		for q := range strings.SplitSeq(query[1], "\n\n") {
			if !strings.Contains(squeezed, strings.Join(strings.Fields(q), " ")) {
				t.Errorf("no rule and no panel has the query\n%s", q)
			}
		}
	}
	for _, alert := range regexp.MustCompile(`(?s)alert: (\w+)\n.*?severity: (\w+)\n`).FindAllStringSubmatch(rules, -1) {
		if alert[2] == "critical" && strings.HasPrefix(alert[1], "Chatstore") && !strings.Contains(page, "`"+alert[1]+"`") {
			t.Errorf("docs/observe.md does not page on %s", alert[1])
		}
	}
	for _, family := range []string{"chatstore_cache_", "chatstore_bus_"} {
		for _, line := range lines {
			if !strings.HasPrefix(line, family) {
				continue
			}
			name, _, _ := strings.Cut(line, "{")
			if !strings.Contains(page, "`"+name) {
				t.Errorf("the page does not explain %s", name)
			}
			for _, label := range regexp.MustCompile(`(?:reason|result)="(\w+)"`).FindAllStringSubmatch(line, -1) {
				if !strings.Contains(page, "`"+label[1]+"`") {
					t.Errorf("the page does not explain %s of %s", label[1], name)
				}
			}
		}
	}
	for _, layer := range []string{"outer", "inner"} {
		n := 0
		for _, line := range lines {
			if strings.HasPrefix(line, "chatstore_") && strings.Contains(line, `layer="`+layer+`"`) {
				n++
			}
		}
		if n < 521 || n >= 600 {
			t.Errorf("layer %s has %d series, and the page says 521 to 599", layer, n)
		}
	}
}

// Each alert leads to its runbook, and each runbook belongs to an alert.
func TestEachAlertHasARunbook(t *testing.T) {
	page, rules := pageOf(t, "docs/runbooks.md"), pageOf(t, "observability/rules.yml")
	const address = "https://github.com/chatstore/chatstore/blob/main/docs/runbooks.md#"
	books := map[string]string{} // by alert
	for _, part := range strings.Split(page, "\n## ")[1:] {
		name, text, _ := strings.Cut(part, "\n")
		books[name] = text
	}
	alerts := strings.Split(rules, "- alert: ")[1:]
	if len(alerts) < 20 {
		t.Fatalf("there are %d alerts", len(alerts))
	}
	for _, rule := range alerts {
		name, rule, _ := strings.Cut(rule, "\n")
		severity := regexp.MustCompile(`severity: (\w+)\n`).FindStringSubmatch(rule)
		book, ok := books[name]
		delete(books, name)
		switch {
		case !strings.Contains(rule, "runbook_url: "+address+strings.ToLower(name)+"\n"):
			t.Errorf("%s has no runbook_url %s%s", name, address, strings.ToLower(name))
		case !ok:
			t.Errorf("docs/runbooks.md has no heading %s", name)
		case len(severity) != 2 || !strings.HasPrefix(book, "\nSeverity: "+severity[1]+".\n"):
			t.Errorf("the runbook of %s does not begin with its severity %v", name, severity)
		}
		for _, step := range []string{"Users see", "Look", "Causes", "Mend"} {
			if ok && strings.Count(book, "\n- **"+step+"**: ") != 1 {
				t.Errorf("the runbook of %s does not say once: %s", name, step)
			}
		}
	}
	for name := range books {
		t.Errorf("docs/runbooks.md: there is no alert %s", name)
	}
}

// unversioned hides that its base reports versions.
type unversioned struct{ store.Store }

func (b unversioned) LoadThread(ctx context.Context, id string) (chat.Thread, error) {
	return b.Store.LoadThread(layer.Own(ctx), id)
}
func (b unversioned) AddThreadItem(ctx context.Context, id string, item chat.Item) error {
	return b.Store.AddThreadItem(layer.Own(ctx), id, item)
}

// The cache counts as the page says.
func TestObserveCacheStatistics(t *testing.T) {
	ctx := t.Context()
	b := pubsub.New(noChannel{}, pubsub.WithLogger(slog.New(slog.DiscardHandler)))
	defer b.Close()
	item := func(n int) chat.Item {
		return testenv.Value(chat.NewItem(fmt.Sprint("msg_", n), accessThread("").CreatedAt.Add(time.Duration(n)*time.Second), chat.EndOfTurn{}))(t)
	}
	for _, test := range []struct {
		what   string
		base   func(store.Store) store.Store
		opts   []cache.Option
		do     func(s store.Store)
		series string
		values []string
		want   float64
	}{
		{what: "missing threads", do: func(s store.Store) {
			for range 3 {
				_, _ = s.LoadThread(ctx, "thr_missing")
			}
		}, series: "chatstore_cache_requests_total", values: []string{"thread", "miss"}, want: 3},
		{what: "empty threads", do: func(s store.Store) {
			for range 3 {
				_, _ = s.LoadThreadItems(ctx, "thr_1", store.PageQuery{})
			}
		}, series: "chatstore_cache_requests_total", values: []string{"items", "miss"}, want: 3},
		{what: "pages older than the window", opts: []cache.Option{cache.WithWindow(2)}, do: func(s store.Store) {
			for n := range 6 {
				_ = s.AddThreadItem(ctx, "thr_1", item(n))
			}
			_, _ = s.LoadThreadItems(ctx, "thr_1", store.PageQuery{Limit: 2})
			for range 3 {
				_, _ = s.LoadThreadItems(ctx, "thr_1", store.PageQuery{Limit: 2, After: "msg_4"})
			}
		}, series: "chatstore_cache_requests_total", values: []string{"items", "miss"}, want: 4},
		{what: "WithFresh", do: func(s store.Store) { _, _ = s.LoadThread(store.WithFresh(ctx), "thr_1") },
			series: "chatstore_cache_requests_total", values: []string{"thread", "bypass"}, want: 1},
		{what: "a miss WithNoStore", do: func(s store.Store) { _, _ = s.LoadThread(store.WithNoStore(ctx), "thr_1") },
			series: "chatstore_cache_requests_total", values: []string{"thread", "bypass"}, want: 1},
		{what: "a write with versions", do: func(s store.Store) {
			_, _ = s.LoadThread(ctx, "thr_1")
			_ = s.AddThreadItem(ctx, "thr_1", item(1))
		}, series: "chatstore_cache_patches_total", values: []string{"patched"}, want: 1},
		{what: "a write without versions", base: func(s store.Store) store.Store { return unversioned{s} }, do: func(s store.Store) {
			_, _ = s.LoadThread(ctx, "thr_1")
			_ = s.AddThreadItem(ctx, "thr_1", item(1))
		}, series: "chatstore_cache_patches_total", values: []string{"dropped"}, want: 1},
		{what: "the same, as evictions", base: func(s store.Store) store.Store { return unversioned{s} }, do: func(s store.Store) {
			_, _ = s.LoadThread(ctx, "thr_1")
			_ = s.AddThreadItem(ctx, "thr_1", item(1))
		}, series: "chatstore_cache_evictions_total", values: []string{"overtaken"}, want: 1},
		{what: "a full cache", opts: []cache.Option{cache.WithMaxEntries(1)}, do: func(s store.Store) {
			_ = s.SaveThread(ctx, accessThread("thr_2"))
			_, _ = s.LoadThread(ctx, "thr_1")
			_, _ = s.LoadThread(ctx, "thr_2")
		}, series: "chatstore_cache_evictions_total", values: []string{"entries"}, want: 1},
		{what: "a bus that is not connected", opts: []cache.Option{cache.WithBus(b)}, do: func(s store.Store) {
			_, _ = s.LoadThread(ctx, "thr_1")
		}, series: "chatstore_cache_requests_total", values: []string{"bypass"}, want: 1},
	} {
		var base store.Store = memstore.New()
		testenv.Must(t, base.SaveThread(ctx, accessThread("thr_1")))
		if test.base != nil {
			base = test.base(base)
		}
		s := store.Wrap(base, cache.New(test.opts...))
		test.do(s)
		if got := statOf(s, test.series, test.values...); got != test.want {
			t.Errorf("%s: %s %v is %v, want %v", test.what, test.series, test.values, got, test.want)
		}
		testenv.Must(t, store.Close(s))
	}
}
