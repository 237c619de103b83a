package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// observability is the folder with the dashboard and the rules.
const observability = "../../observability"

func TestPromtoolTakesTheRules(t *testing.T) {
	t.Parallel()
	promtool := testenv.Program(t, "promtool", "prometheus")
	for _, args := range [][]string{
		{"check", "rules", "rules.yml"}, {"test", "rules", "rules_test.yml"}, {"test", "rules", "rules_days_test.yml"},
		{"check", "config", "prometheus.yml"},
	} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = observability
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestEveryQueryFindsItsSeries runs a real server and a real Prometheus. Each query of the dashboard has an answer, and each
// series that a rule selects exists. Prometheus also scrapes the exemplar of a failed call, which leads to its trace.
func TestEveryQueryFindsItsSeries(t *testing.T) {
	t.Parallel()
	bin := testenv.Program(t, "prometheus", "prometheus")
	dsn := pgtest.Shared(t).DSN(t) // only a stack with a bus has the series of a bus
	var broken atomic.Bool
	breaking := layer.Intercept("mysql", layer.InterceptorFunc(func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		if broken.Load() {
			return store.ErrUnavailable
		}
		return next(ctx)
	}))
	spans := tracetest.NewSpanRecorder()
	srv := startServer(t, func(c *config) {
		c.store, c.exporters = dsn, []sdktrace.SpanProcessor{spans}
		c.wrap = func(base store.Store, b bus.Bus, reg prometheus.Registerer, tp trace.TracerProvider) (store.Store, error) {
			return wrap(store.Wrap(base, breaking), b, reg, tp) // with polls too, by the name of breaking
		}
	})
	p := startPrometheus(t, bin, strings.TrimPrefix(srv.url, "http://"))

	// Answers, refusals and failures.
	ada, grace := newPage(t, srv.url, "ada"), newPage(t, srv.url, "grace")
	exercise := func() {
		id := testenv.Value(ada.newThread(t.Context(), "hello", func(object) {}))(t)
		for _, text := range []string{"/widget", "/workflow", "/fail"} {
			_ = ada.say(t.Context(), id, text, func(object) {}) // the last one fails
		}
		for _, c := range []*client{ada, grace} {
			_, _ = c.ask(t.Context(), "threads.get_by_id", object{"thread_id": id}) // not found: the thread is ada's
			_, _ = c.ask(t.Context(), "threads.list", object{})
		}
		_, _ = ada.ask(t.Context(), "threads.delete", object{"thread_id": id})
	}
	// A rate needs a counter that grows between two scrapes.
	for range 2 {
		exercise()
		p.lookAgain(t)
	}
	broken.Store(true)
	_, _ = ada.ask(t.Context(), "threads.list", object{})
	broken.Store(false)
	p.scrapesAnExemplarOf(t, spans, `chatstore_operations_total{layer="outer", code="unavailable"}`)

	p.at = p.settled(t)

	for _, q := range append(dashboardQueries(t), p.ruleQueries(t)...) {
		rows, err := p.query(t, q.expr)
		if err != nil {
			t.Errorf("%s: %v\n%s", q.name, err, q.expr)
			continue
		}
		if q.answers && len(rows) == 0 {
			t.Errorf("%s: no answer\n%s", q.name, q.expr)
		}
		if strings.HasPrefix(q.expr, "vector(") {
			continue // the objective, which no series has
		}
		selectors := selector.FindAllString(q.expr, -1)
		if len(selectors) == 0 {
			t.Errorf("%s: the query selects no series\n%s", q.name, q.expr)
		}
		for _, s := range selectors {
			if rows, err := p.query(t, "count("+s+")"); err != nil || len(rows) == 0 {
				t.Errorf("%s: no series %s (%v)", q.name, s, err)
			}
		}
	}
	p.countsThePoolOnce(t)
	// These series must exist, or the loop above proves nothing.
	for _, name := range []string{"chatkit_turns_total", "chatstore_bus_connected", "job_store_layer:chatstore_operations:rate5m"} {
		if rows, err := p.query(t, name); err != nil || len(rows) == 0 {
			t.Errorf("Prometheus has no series %s (%v)", name, err)
		}
	}
}

// settled returns a time for all queries: the last scrape had succeeded, and every group of rules had recorded. On a busy machine a
// scrape may time out, and Prometheus then marks every series as stale, from the begin of the scrape. So the time is taken only if
// it still serves when all that began before it has ended.
func (p prometheusServer) settled(t *testing.T) (at string) {
	t.Helper()
	ready, later := "up == 1", "min(timestamp(up)) > %[1]s"
	for _, recorded := range []string{ // of each group
		"job_store_layer:chatstore_operations:rate5m", "job:chatkit_requests:rate5m",
		"job_store_layer:chatstore_error_budget_burn:rate3d", "job:chatkit_turn_error_budget_burn:rate3d",
	} {
		ready += " and on () (count(" + recorded + ") > 0)"
		later += " and on () (min(timestamp(" + recorded + ")) > %[1]s)"
	}
	for {
		p.at = ""
		p.at = p.until(t, "a scrape and the rules after it", ready)
		now := prometheusServer{url: p.url}
		now.until(t, "later scrape and rules", fmt.Sprintf(later, p.at))
		if rows, err := p.query(t, ready); err == nil && len(rows) > 0 {
			return p.at
		}
	}
}

// scrapesAnExemplarOf waits until Prometheus has an exemplar of the series, whose trace the program made.
func (p prometheusServer) scrapesAnExemplarOf(t *testing.T, spans *tracetest.SpanRecorder, series string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	eventually(t, func() string {
		<-tick.C
		var v struct {
			Data []struct {
				Exemplars []struct{ Labels map[string]string }
			}
		}
		now := time.Now()
		about := url.Values{"query": {series}, "start": {now.Add(-time.Hour).Format(time.RFC3339)}, "end": {now.Add(time.Hour).Format(time.RFC3339)}}
		if err := p.get("/api/v1/query_exemplars?"+about.Encode(), &v); err != nil {
			return err.Error()
		}
		for _, d := range v.Data {
			for _, e := range d.Exemplars {
				for _, s := range spans.Ended() {
					if s.SpanContext().TraceID().String() == e.Labels["trace_id"] {
						return ""
					}
				}
			}
		}
		return fmt.Sprintf("prometheus has no exemplar of %s that leads to a trace: %v", series, v.Data)
	})
}

// countsThePoolOnce checks the panel of the pool: each metrics layer exports its numbers.
func (p prometheusServer) countsThePoolOnce(t *testing.T) {
	t.Helper()
	most, err := p.query(t, "max(chatstore_pool_connections_max)")
	if err != nil || len(most) != 1 {
		t.Fatalf("the pool's limit: %v, %v", most, err)
	}
	checked := 0
	for _, q := range dashboardQueries(t) {
		if q.name != "panel In use and allowed" || !strings.Contains(q.expr, "chatstore_pool_connections_max") {
			continue
		}
		checked++
		if rows, err := p.query(t, q.expr); err != nil || len(rows) != 1 || rows[0].Value[1] != most[0].Value[1] {
			t.Errorf("%s shows %v, the pool has %v (%v)", q.name, rows, most[0].Value[1], err)
		}
	}
	if checked != 1 {
		t.Errorf("%d queries show the pool's limit", checked)
	}
}

// selector matches a selector of a query: a series of chatstore, of Go's collectors, or a recorded one.
var selector = regexp.MustCompile(`\b(?:chatstore|chatkit|go|process)_[a-z0-9_]+(?:\{[^}]*\})?|\b[a-z_]+:[a-z0-9_]+:[a-z0-9_]+(?:\{[^}]*\})?`)

type namedQuery struct {
	name, expr string
	answers    bool // the query must have an answer
}

// dashboardQueries returns the queries of the dashboard's panels, as Grafana sends them for all stores.
func dashboardQueries(t *testing.T) (all []namedQuery) {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	text, err := os.ReadFile(filepath.Join(observability, "dashboard.json"))
	if err == nil {
		err = json.Unmarshal(text, &dashboard)
	}
	testenv.Must(t, err)
	variables := strings.NewReplacer("$job", ".+", "$store", ".+", "$layer", ".+", "$__rate_interval", "10m") // longer than the test waits
	for _, p := range dashboard.Panels {
		for _, q := range p.Targets {
			// Failures do not happen here, but their series exist.
			quiet := strings.Contains(q.Expr, "timeout|unavailable")
			all = append(all, namedQuery{"panel " + p.Title, variables.Replace(q.Expr), !quiet})
		}
	}
	if len(all) < 30 {
		t.Fatalf("the dashboard has %d queries", len(all))
	}
	return all
}

// ruleQueries returns the expressions of the rules, as Prometheus has read them.
func (p prometheusServer) ruleQueries(t *testing.T) (all []namedQuery) {
	t.Helper()
	var v struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Query, Health, LastError string }
			}
		}
	}
	testenv.Must(t, p.get("/api/v1/rules", &v))
	for _, g := range v.Data.Groups {
		for _, r := range g.Rules {
			if r.Health != "ok" {
				t.Errorf("rule %s: %s: %s", r.Name, r.Health, r.LastError)
			}
			all = append(all, namedQuery{"rule " + r.Name, r.Query, false})
		}
	}
	if len(all) < 20 {
		t.Fatalf("prometheus has %d rules", len(all))
	}
	return all
}

// prometheusServer is a real Prometheus that scrapes one target and evaluates the rules.
type prometheusServer struct {
	url string
	at  string // the time of queries; "" is now
}

func startPrometheus(t *testing.T, bin, target string) prometheusServer {
	t.Helper()
	rules := testenv.Value(filepath.Abs(filepath.Join(observability, "rules.yml")))(t)
	dir := t.TempDir()
	config := fmt.Sprintf("global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\nrule_files: [%q]\n"+
		"scrape_configs: [{job_name: chatserver, static_configs: [{targets: [%q]}]}]\n", rules, target)
	file := filepath.Join(dir, "prometheus.yml")
	testenv.Must(t, os.WriteFile(file, []byte(config), 0o600))
	l, err := net.Listen("tcp", "127.0.0.1:0") // a free port
	testenv.Must(t, err)
	addr := l.Addr().String()
	testenv.Must(t, l.Close())
	cmd := exec.Command(bin, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr,
		"--log.level=warn", "--enable-feature=exemplar-storage")
	var said strings.Builder
	cmd.Stderr = &said
	testenv.Must(t, cmd.Start())
	t.Cleanup(func() {
		_, _ = cmd.Process.Kill(), cmd.Wait()
		if t.Failed() {
			t.Logf("prometheus said:\n%s", said.String())
		}
	})
	p := prometheusServer{url: "http://" + addr}
	p.until(t, "the first scrape", "up == 1")
	return p
}

// until waits until a query has an answer, and returns the time of the answer.
func (p prometheusServer) until(t *testing.T, what, expr string) (at string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	eventually(t, func() string {
		rows, err := p.query(t, expr)
		if err == nil && len(rows) > 0 {
			at = strconv.FormatFloat(rows[0].Value[0].(float64), 'f', 3, 64)
			return ""
		}
		<-tick.C
		return fmt.Sprintf("prometheus: still no %s (%v)", what, err)
	})
	return at
}

// lookAgain waits for two more successful scrapes of the target.
func (p prometheusServer) lookAgain(t *testing.T) {
	t.Helper()
	rows, err := p.query(t, "sum_over_time(up[1h])")
	if err != nil || len(rows) != 1 {
		t.Fatalf("%v, %v", rows, err)
	}
	p.until(t, "two more scrapes", fmt.Sprintf("sum_over_time(up[1h]) >= %s + 2", rows[0].Value[1]))
}

// row is one series of an answer: a time and a value.
type row struct{ Value [2]any }

func (p prometheusServer) query(t *testing.T, expr string) (rows []row, err error) {
	t.Helper()
	var v struct {
		Error string
		Data  struct{ Result []row }
	}
	about := url.Values{"query": {expr}}
	if p.at != "" {
		about.Set("time", p.at)
	}
	if err := p.get("/api/v1/query?"+about.Encode(), &v); err != nil {
		return nil, err
	}
	if v.Error != "" {
		return nil, fmt.Errorf("prometheus: %s", v.Error)
	}
	return v.Data.Result, nil
}

func (p prometheusServer) get(path string, v any) error {
	res, err := http.Get(p.url + path)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return json.NewDecoder(res.Body).Decode(v)
}
