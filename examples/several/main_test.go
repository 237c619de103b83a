package main

import (
	"bufio"
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/redisbus/redistest"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
)

func TestMain(m *testing.M) { pgtest.Main(m, mysqltest.Close) }

// Two programs share one file and one Redis: each prints the lines typed into the other.
func TestWhatIsTypedIntoOneIsSeenInBoth(t *testing.T) {
	redis, file := redistest.Start(t).URL(), filepath.Join(t.TempDir(), "chat.db")

	type program struct {
		in   *io.PipeWriter
		out  *bufio.Reader
		done chan error
	}
	start := func() program {
		inR, inW := io.Pipe()
		outR, outW := io.Pipe()
		p := program{inW, bufio.NewReader(outR), make(chan error, 1)}
		go func() {
			p.done <- run(context.Background(), file, redis, inR, outW)
			_ = outW.Close()
		}()
		return p
	}
	a, b := start(), start()
	for from, text := range map[program]string{a: "hello from a\n", b: "hello from b\n"} {
		testenv.Value(io.WriteString(from.in, text))(t)
		for name, p := range map[string]program{"a": a, "b": b} {
			if line, err := p.out.ReadString('\n'); err != nil || line != text {
				t.Fatalf("%s prints %q, %v; typed was %q", name, line, err, text)
			}
		}
	}
	for name, p := range map[string]program{"a": a, "b": b} {
		_ = p.in.Close()
		select {
		case err := <-p.done:
			if err != nil {
				t.Errorf("%s ended with %v", name, err)
			}
		case <-time.After(time.Minute):
			t.Errorf("%s does not end when its input ends", name)
		}
	}
}

func TestItSaysWhatItCannotDo(t *testing.T) {
	err := run(t.Context(), filepath.Join(t.TempDir(), "chat.db"), "", strings.NewReader(""), io.Discard)
	if store.CodeOf(err) != store.CodeInvalid {
		t.Errorf("SQLite without a bus: %v", err)
	}
	err = run(t.Context(), mysqltest.URL(mysqltest.Shared(t).DSN(t)), "", strings.NewReader(""), io.Discard)
	if store.CodeOf(err) != store.CodeInvalid || !strings.Contains(err.Error(), "only PostgreSQL announces changes") {
		t.Errorf("MariaDB without a bus: %v", err)
	}
}
