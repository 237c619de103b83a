package main

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
)

// output is a text that several goroutines write.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// logs returns what the program writes to the default logger.
func logs(t *testing.T) *output {
	var o output
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&o, &slog.HandlerOptions{Level: slog.LevelDebug})))
	t.Cleanup(func() { slog.SetDefault(before) })
	return &o
}

// Each start fails, and has the password s3cret somewhere. The database server repeats the password that it was sent.
func TestNoFailingStartShowsASecret(t *testing.T) {
	t.Chdir(t.TempDir())
	log := logs(t)
	host := pgtest.Refusing(t)
	_, maria, _ := strings.Cut(mysqltest.URL(mysqltest.Shared(t).TCP(mysqltest.Shared(t).DSN(t))), "@")
	name, port, _ := net.SplitHostPort(host)
	at := "host=" + name + " port=" + port + " user=u sslmode=disable "
	var wg sync.WaitGroup
	for _, args := range [][]string{
		{"-store", "postgres://u:s3cret@" + host + "/db?sslmode=disable"},
		{"-store", "postgresql://u@" + host + "/db?sslmode=disable&password=s3cret"},
		{"-store", at + "password=s3cret dbname=db"},
		{"-store", at + "password=s3cret"},
		{"-store", "password=s3cret " + at},
		{"-store", at + "password='it is s3cret'"},
		{"-store", at + "password = s3cret"},
		{"-store", at + "password='s3cret"},
		{"-store", "postgres://u:s3cret%zz@" + host + "/db"},
		{"-store", "postgres://u:12/s3cret@" + host + "/db"},
		{"-store", "postgres:u:s3cret@" + host}, {"-store", "Postgres://u:s3cret@h/db"}, {"-store", "oracle://u:s3cret@h/db"},
		{"-store", "mysql://u:s3cret@" + maria}, {"-store", "mariadb://u:s3cret@" + maria + "?timeout=s3cret"}, {"-store", "mysql://u:12/s3cret@" + maria},
		{"-store", "host=h", "password=s3cret", "dbname=db"}, {"-store", "postgres://u:", "s3cret@h/db"},
		{"-pooler", "-listen", "postgres://u:s3cret@" + host + "/db"},
		{"-pooler=postgres://u:s3cret@h/d"}, {"-grace=s3cret"}, {"-zone=s3cret"}, {"-s3cret"}, {"-postgres://u:s3cret@h/d"}, {"---s3cret"},
		{"-openai-model", "m", "-openai-url", "http://u:s3cret@local host"}, {"-openai-model", "m", "-openai-url", "u:s3cret@h"},
		{"-url", "https://u:s3cret@h"}, {"-url", "https://u:s3cret%zz@h"}, {"-origins", "https://u:s3cret@h"},
	} {
		wg.Go(func() {
			var out output
			if code := command(t.Context(), append([]string{"-addr", "127.0.0.1:0"}, args...), &out, &out); code == 0 || out.String() == "" {
				t.Errorf("%q: %d", args, code)
			}
			if strings.Contains(out.String(), "s3cret") {
				t.Errorf("%q\n\tprints %s", args, &out)
			}
		})
	}
	wg.Wait()
	// OpenTelemetry writes to the process's own standard error.
	for _, env := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://u:s3cret@local host", "OTEL_EXPORTER_OTLP_HEADERS=s3cret"} {
		cmd := exec.Command(testenv.Value(os.Executable())(t))
		cmd.Env = append(os.Environ(), "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://localhost", childArgs+"=-addr\nnonsense", env)
		if out, err := cmd.CombinedOutput(); err == nil || len(out) == 0 || strings.Contains(string(out), "s3cret") {
			t.Errorf("%s: %v, %s", env, err, out)
		}
	}
	if strings.Contains(log.String(), "s3cret") {
		t.Errorf("the log has it: %s", log)
	}
	for _, file := range testenv.Value(os.ReadDir("."))(t) {
		if !strings.HasPrefix(file.Name(), "chatserver") {
			t.Errorf("the start made %s", file.Name())
		}
	}
}

func TestNoRunningServerShowsASecret(t *testing.T) {
	t.Chdir(t.TempDir())
	log := logs(t)
	collector := httptest.NewServer(http.NotFoundHandler())
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", strings.Replace(collector.URL, "//", "//u:s3cret@", 1))
	dsn := pgtest.Shared(t).DSN(t)
	// A broken URL of -listen may have the password anywhere. Some can only be noticed when nobody answers there.
	for _, at := range []string{"postgres://u:12/s3cret@127.0.0.1/db", "s3cret", "postgres://u:s3cret%zz@h/db", "sqlite:s3cret"} {
		var out output
		if code := command(t.Context(), []string{"-addr", "127.0.0.1:0", "-store", dsn, "-pooler", "-listen", at}, &out, &out); code != 1 ||
			strings.Contains(out.String(), "s3cret") || !strings.Contains(strings.ToLower(out.String()), "listen") {
			t.Errorf("-listen %s: %d, %s", at, code, &out)
		}
	}
	for _, args := range [][]string{
		{"-store", dsn + " password=s3cret"},
		{"-store", "postgres:///?" + strings.ReplaceAll(dsn, " ", "&") + "&password=s3cret", "-listen", dsn + " password=s3cret", "-pooler"},
		{"-store", dsn, "-pooler", "-listen", strings.Replace(dsn, "dbname=postgres", "dbname=postgres;password=s3cret", 1) + " dbname=postgres;password=s3cret"},
		{"-store", dsn, "-pooler", "-listen", "postgres://postgres%3As3cret@127.0.0.1:1/x"},
		{"-store", dsn, "-pooler", "-listen", "host=127.0.0.1,password=s3cret dbname=x"},
		{"-bus", "redis://:s3cret@127.0.0.1:1/0"},                                                       // never answers
		{"-store", dsn, "-listen", "postgres://u:s3cret@" + pgtest.Refusing(t) + "/db?sslmode=disable"}, // refused again and again
		{"-openai-url", "http://u:s3cret@127.0.0.1:1/v1?key=s3cret", "-openai-model", "m"},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		var all output
		read, write := io.Pipe()
		ended := make(chan int, 1)
		go func() {
			ended <- command(ctx, append([]string{"-addr", "127.0.0.1:0", "-grace", "1ms", "-trace", "stdout"}, args...), write, &all)
			_ = write.Close()
		}()
		lines := bufio.NewReader(read)
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("%q: %v, %s", args, err, &all)
		}
		go func() { _, _ = io.Copy(&all, lines) }()
		_, rest, _ := strings.Cut(line, "chatserver: ")
		c := newClient(t, strings.Fields(rest)[0], "ada", testenv.Value(os.ReadFile("chatserver.key"))(t))
		for _, path := range []string{"/readyz", "/session", "/metrics", "/panel"} {
			_, text := c.get(t, path)
			line += text
		}
		for _, body := range []string{"{}", `{"type":"threads.create","params":{"input":{"content":[{"type":"input_text","text":"x"}],"attachments":[]}}}`} {
			_, text := c.do(t, http.MethodPost, "/chatkit", body)
			line += text
		}
		cancel()
		if code := <-ended; code != 0 {
			t.Errorf("%q: %d, %s", args, code, &all)
		}
		if text := line + all.String(); strings.Contains(text, "s3cret") {
			t.Errorf("%q\n\tprints %s", args, text)
		}
	}
	if strings.Contains(log.String(), "s3cret") {
		t.Errorf("the log has it: %s", log)
	}
}

// The README names a plain file. It must stay an SQLite file.
func TestAPlainFileNameIsAnSQLiteFile(t *testing.T) {
	dir := t.TempDir()
	for _, where := range []string{dir + "/chat.db", "sqlite:" + dir + "/chat.db"} {
		srv := startServer(t, func(c *config) { c.store = where })
		testenv.Must(t, srv.stop())
	}
	if _, err := os.Stat(dir + "/chat.db"); err != nil {
		t.Error(err)
	}
}
