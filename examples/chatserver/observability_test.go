package main

import (
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
	"testing"
	"time"

	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
)

// observability is the folder with the dashboard and the rules.
const observability = "../../observability"

func TestPromtoolTakesTheRules(t *testing.T) {
	t.Parallel()
	promtool := testenv.Program(t, "promtool", "prometheus")
	for _, args := range [][]string{{"check", "rules", "rules.yml"}, {"test", "rules", "rules_test.yml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = observability
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// Every query of the dashboard has an answer from a real Prometheus that scrapes a real server. Every series that a rule
// selects exists.
func TestEveryQueryFindsItsSeries(t *testing.T) {
	t.Parallel()
	bin := testenv.Program(t, "prometheus", "prometheus")
	dsn := pgtest.Shared(t).DSN(t) // the series of a bus exist only with a bus
	srv := startServer(t, func(c *config) { c.store = dsn })
	p := startPrometheus(t, bin, strings.TrimPrefix(srv.url, "http://"))

	// Make all kinds of requests: answers, refusals, failures, a file.
	ada, grace := newPage(t, srv.url, "ada"), newPage(t, srv.url, "grace")
	exercise := func() {
		id := testenv.Value(ada.newThread(t.Context(), "hello", func(object) {}))(t)
		for _, text := range []string{"/widget", "/workflow", "/fail"} {
			_ = ada.say(t.Context(), id, text, func(object) {}) // the last one fails on purpose
		}
		for _, c := range []*client{ada, grace} {
			_, _ = c.ask(t.Context(), "threads.get_by_id", object{"thread_id": id}) // grace is refused
			_, _ = c.ask(t.Context(), "threads.list", object{})
		}
		_, _ = ada.ask(t.Context(), "threads.delete", object{"thread_id": id})
	}
	// Rates need counters that grow between two scrapes.
	for range 2 {
		exercise()
		p.lookAgain(t)
	}

	// All queries use one time: after a successful scrape and an evaluation of the rules. On a busy machine a scrape may
	// time out, and then Prometheus treats every series as gone.
	p.at = p.until(t, "the server is scraped and the rules are evaluated",
		"up == 1 and on () (count(job_store_layer:chatstore_operations:rate5m) > 0) and on () (count(job:chatserver_requests:rate5m) > 0)")

	for _, q := range append(dashboardQueries(t), p.ruleQueries(t)...) {
		rows, err := p.query(t, q.expr)
		if err != nil {
			t.Errorf("%s: %v\n%s", q.name, err, q.expr)
			continue
		}
		if q.answers && len(rows) == 0 {
			t.Errorf("%s: no answer\n%s", q.name, q.expr)
		}
		selectors := selector.FindAllString(q.expr, -1)
		if len(selectors) == 0 {
			t.Errorf("%s: which series?\n%s", q.name, q.expr)
		}
		for _, s := range selectors {
			if rows, err := p.query(t, "count("+s+")"); err != nil || len(rows) == 0 {
				t.Errorf("%s: no series %s (%v)", q.name, s, err)
			}
		}
	}
	// Prometheus must have these series. Otherwise the test proves nothing.
	for _, name := range []string{"chatserver_turns_total", "chatstore_bus_connected", "job_store_layer:chatstore_operations:rate5m"} {
		if rows, err := p.query(t, name); err != nil || len(rows) == 0 {
			t.Errorf("Prometheus has no %s: the test proves nothing (%v)", name, err)
		}
	}
}

// selector matches the series of a query: names of this project, of Go's collectors, and recorded series.
var selector = regexp.MustCompile(`\b(?:chatstore|chatserver|go|process)_[a-z0-9_]+(?:\{[^}]*\})?|\b[a-z_]+:[a-z0-9_]+:[a-z0-9_]+(?:\{[^}]*\})?`)

type namedQuery struct {
	name, expr string
	answers    bool // it must have an answer
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
	variables := strings.NewReplacer("$job", ".+", "$store", ".+", "$layer", ".+", "$__rate_interval", "1m")
	for _, p := range dashboard.Panels {
		for _, q := range p.Targets {
			// Faults have no rate here, but their series exist.
			quiet := strings.Contains(q.Expr, "timeout|unavailable")
			all = append(all, namedQuery{"panel " + p.Title, variables.Replace(q.Expr), !quiet})
		}
	}
	if len(all) < 30 {
		t.Fatalf("the dashboard has %d queries", len(all))
	}
	return all
}

// ruleQueries returns the expressions of the rules, as Prometheus has parsed them.
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

// prometheusServer is a real Prometheus with one target and the rules.
type prometheusServer struct {
	url string
	at  string // time of the queries; "" means now
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
	cmd := exec.Command(bin, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr, "--log.level=warn")
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
	p.until(t, "it scrapes the target", "up == 1")
	return p
}

// until waits until a query has an answer, and returns the time of that answer.
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
		return fmt.Sprintf("prometheus: not yet: %s (%v)", what, err)
	})
	return at
}

// lookAgain waits for two more successful scrapes.
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
