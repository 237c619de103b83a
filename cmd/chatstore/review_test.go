package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
)

func TestANumberInTheConfigurationIsNoDuration(t *testing.T) {
	t.Parallel()
	url, file := "sqlite:"+filepath.Join(t.TempDir(), "chat.db"), filepath.Join(t.TempDir(), "config.json")
	fill(t, url, 2)
	for text, want := range map[string]string{
		`{"inactive": 720}`: "inactive must be a text with a unit", `{"unnamed-attachments": 24}`: "with a unit",
		`{"statement-timeout": 30, "newest": 2}`: "with a unit", `{"newest": 1.9}`: "newest must be a whole number", `{"newest": 1} trailing {`: "not one JSON object",
	} {
		must(t, os.WriteFile(file, []byte(text), 0o600))
		chatstore(t, "--config", file, "prune", url, "--dry-run").wants(wrongUsage, want)
	}
	must(t, os.WriteFile(file, []byte(`{"inactive": "720h", "statement-timeout": "3s"}`), 0o600))
	chatstore(t, "--config", file, "prune", url, "--dry-run").wants(success, "would delete 2,")
}

func TestAServerThatDoesNotAnswerHoldsNothingUp(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	for _, url := range []string{"postgres://u@" + l.Addr().String() + "/db?sslmode=disable", "mysql://u@" + l.Addr().String() + "/db"} { // the kernel accepts
		for _, command := range []string{"check", "stats", "migrate"} {
			chatstore(t, command, url, "--statement-timeout", "200ms").wants(failure, "no answer in time")
		}
	}
}

func TestAnInterruptEndsTheQuestionOfErase(t *testing.T) {
	t.Parallel()
	in, keyboard, err := os.Pipe()
	must(t, err)
	defer func() { _ = keyboard.Close() }()
	c := eraseCmd{Owner: owner(ada)}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.ask(ctx, &app{stdin: in, stderr: &bytes.Buffer{}}); err == nil {
		t.Error("it was answered")
	}
	for answer, ok := range map[string]bool{"ursula\n": true, "\n": false, "ursul\n": false} {
		if err := c.ask(t.Context(), &app{stdin: strings.NewReader(answer), stderr: &bytes.Buffer{}}); (err == nil) != ok {
			t.Errorf("%q: %v", answer, err)
		}
	}
}

func TestAHoldFileHoldsItsFirstId(t *testing.T) {
	t.Parallel()
	url, file := "sqlite:"+filepath.Join(t.TempDir(), "chat.db"), filepath.Join(t.TempDir(), "hold")
	fill(t, url, 2)
	must(t, os.WriteFile(file, []byte("\ufeffthr_0000\r\nthr_0001"), 0o600))
	chatstore(t, "prune", url, "--newest", "0", "--hold", file).wants(success, "deleted 0, held 2")
	must(t, os.WriteFile(file, []byte("\ufeff \n\n"), 0o600))
	chatstore(t, "prune", url, "--newest", "0", "--hold", file).wants(failure, "has no ids")
}

func TestAnExportReplacesOnlyARegularFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url, file, link := "sqlite:"+filepath.Join(dir, "chat.db"), filepath.Join(dir, "file"), filepath.Join(dir, "link")
	fill(t, url, 2)
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, os.Symlink(file, link))
	chatstore(t, "export", url, link).wants(success)
	if target, err := os.Readlink(link); target != file {
		t.Errorf("the link leads to %q, %v", target, err)
	}
	if text, err := os.ReadFile(file); len(text) == 0 {
		t.Errorf("the file is empty, %v", err)
	}
	chatstore(t, "export", url, dir).wants(failure, "no regular file: use -")
	if there, err := os.Stat(dir); err != nil || !there.IsDir() {
		t.Errorf("the folder was replaced: %v", err)
	}
}

func TestMigrateRefusesANewerSchema(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	dsn := server.DSN(t)
	fill(t, dsn, 2)
	server.Exec(t, dsn, "UPDATE chatstore_migrations SET version_id = 9 WHERE version_id = 4")
	chatstore(t, "migrate", dsn, "--dry-run").wants(failure, "use a newer program")
}

func TestAFailureAfterOpeningHasItsReason(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	dsn := server.DSN(t)
	fill(t, dsn, 2)
	server.Exec(t, dsn, "CREATE ROLE reader LOGIN")
	server.Exec(t, dsn, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
	t.Cleanup(func() { server.Exec(t, dsn, "DROP OWNED BY reader") })
	r := chatstore(t, "prune", strings.Replace(dsn, "user=chat", "user=reader", 1), "--newest", "0", "--json").wants(failure, "the role lacks a right")
	if r.stdout != "" {
		t.Errorf("nothing was done, and printed was %s", r.stdout)
	}
}

func TestMissingRightsOfMariaDBAreNamed(t *testing.T) {
	t.Parallel()
	server := mysqltest.Shared(t)
	dsn := server.DSN(t)
	fill(t, mysqltest.URL(dsn), 2)
	server.Exec(t, dsn, "CREATE USER reader")
	t.Cleanup(func() { server.Exec(t, dsn, "DROP USER reader") })
	reader := strings.Replace(mysqltest.URL(dsn), "chat@", "reader@", 1)
	chatstore(t, "check", reader).wants(failure, "connection   FAIL", "the user lacks a right")
	server.Exec(t, dsn, "GRANT SELECT ON * TO reader")
	chatstore(t, "check", reader).wants(failure, "schema       ok", "permissions  FAIL", "may not INSERT chatstore_threads", "may not DELETE chatstore_grants")
	chatstore(t, "stats", reader).wants(success, "2 threads")
	chatstore(t, "prune", reader, "--newest", "0").wants(failure, "the user lacks a right")
	chatstore(t, "--table-prefix", "other_", "migrate", reader).wants(failure, "the user lacks a right")
}

func TestWrongUsageSaysWhatIsWrong(t *testing.T) {
	for want, args := range map[string]string{
		`unknown flag, did you mean "--parallel"?`: "copy a sqlite:b --parralel 3", "variable NO_SUCH_NAME is not set": "verify env:NO_SUCH_NAME env:NO_SUCH_NAME",
		"give either a thread or --to": "grants sqlite:a.db a --to b", "--newest: expected a valid 64 bit int\n": "prune sqlite:a.db --newest x",
		"see chatstore --help": "", "/nope.json: no such file": "stats sqlite:a.db --config nope.json",
	} {
		chatstore(t, strings.Fields(args)...).wants(wrongUsage, want)
	}
}

func TestTheRateBeginsWithTheFirstRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := (&app{stderr: &out}).progress(t.Context(), nil)
		p.total.Store(1000)
		time.Sleep(time.Hour) // for abandoned writes
		p.show(lifecycle.Counts{Threads: 10})
		if strings.Contains(out.String(), "rows/s") || strings.Contains(out.String(), "left") {
			t.Errorf("got %s", out.String())
		}
		time.Sleep(time.Minute)
		p.show(lifecycle.Counts{Threads: 610})
		if p.end(); !strings.Contains(out.String(), "610 threads, 0 items, 0 attachments, 10 rows/s, about 39s left") {
			t.Errorf("got %s", out.String())
		}
	})
}

func TestEraseSaysThatNothingWasFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url := "sqlite:" + filepath.Join(dir, "chat.db")
	fill(t, url, 2)
	r := chatstore(t, "erase", url, "--owner", "ursule", "--receipt", filepath.Join(dir, "r"), "--yes")
	if r.wants(success, "nothing was found"); strings.Contains(r.stderr, "0s") {
		t.Errorf("printed was %s", r.stderr)
	}
}

// Each pass of a copy counts from the begin. The rate and the time left are those of the pass.
func TestProgressBeginsAnewInEachPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := (&app{stderr: &out}).progress(t.Context(), nil)
		defer p.end()
		p.total.Store(1000)
		for range 3 {
			for n := int64(10); n <= 1000; n += 10 {
				p.show(lifecycle.Counts{Threads: n})
				time.Sleep(10 * time.Second)
			}
		}
		for line := range strings.Lines(out.String()) {
			if !regexp.MustCompile(`, 1 rows/s, about (\d+m)?\d+s left\n$`).MatchString(line) {
				t.Errorf("the line is %q", line)
			}
		}
		if n := strings.Count(out.String(), "\n"); n < 30 {
			t.Errorf("%d lines:\n%s", n, &out)
		}
	})
}
