package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/store"
)

// Two of the program, on one file and one Redis: what is typed into one is seen in both.
func TestWhatIsTypedIntoOneIsSeenInBoth(t *testing.T) {
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CHATSTORE_REQUIRE_SERVERS") != "" {
			t.Fatal(err)
		}
		t.Skip("redis-server is not installed (on Debian, the package redis-server)")
	}
	dir, err := os.MkdirTemp("", "several") // short: the path of a socket has an end
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	socket := filepath.Join(dir, "s")
	redis := exec.Command(bin, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", dir)
	if err := redis.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = redis.Process.Kill(), redis.Wait() }()

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
			p.done <- run(context.Background(), filepath.Join(dir, "chat.db"), "unix://"+socket, inR, outW)
			_ = outW.Close()
		}()
		return p
	}
	a, b := start(), start()
	for from, text := range map[program]string{a: "hello from a\n", b: "hello from b\n"} {
		if _, err := io.WriteString(from.in, text); err != nil {
			t.Fatal(err)
		}
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
			t.Errorf("%s does not end with its input", name)
		}
	}
}

func TestItSaysWhatItCannotDo(t *testing.T) {
	err := run(t.Context(), filepath.Join(t.TempDir(), "chat.db"), "", strings.NewReader(""), io.Discard)
	if store.CodeOf(err) != store.CodeInvalid {
		t.Errorf("SQLite without a bus: %v", err)
	}
}
