// Package redistest runs a real, private Redis server for a test. Only a unix socket reaches it, and it ends with the test.
// The package is for the modules of this repository. Its interface is not stable.
package redistest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatstore/chatstore/internal/testenv"
)

// Server is a redis-server without persistence. Its socket is in a folder of its own.
type Server struct {
	t    testing.TB
	bin  string
	dir  string
	args []string
	cmd  *exec.Cmd
	done chan struct{} // closed when the process ends
}

// Start starts a server, and stops it when the test ends. Settings are pairs of names and values ("maxmemory", "1mb", …),
// added to those of the package. If redis-server is not installed, the test is skipped; with CHATSTORE_REQUIRE_SERVERS=1 it
// fails.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	bin := testenv.Program(t, "redis-server", "redis-server")
	dir, err := os.MkdirTemp("", "redis") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, bin: bin, dir: dir}
	for i := 0; i < len(settings); i += 2 {
		s.args = append(s.args, "--"+settings[i])
		s.args = append(s.args, strings.Fields(settings[i+1])...)
	}
	t.Cleanup(func() {
		s.Stop()
		os.RemoveAll(dir)
	})
	s.start()
	return s
}

// Addr returns the path of the server's socket, for redis.Options with Network "unix".
func (s *Server) Addr() string { return filepath.Join(s.dir, "s") }

// URL returns the server's address for redis.ParseURL.
func (s *Server) URL() string { return "unix://" + s.Addr() }

// Client returns a client that is closed when the test ends.
func (s *Server) Client() *redis.Client {
	c := redis.NewClient(&redis.Options{Network: "unix", Addr: s.Addr(), ContextTimeoutEnabled: true})
	s.t.Cleanup(func() { c.Close() })
	return c
}

// Stop kills the server if it is running.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill() // also when paused
	<-s.done
	s.cmd = nil
}

// Restart stops the server and starts it again.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.start()
}

// Pause makes the server hang until Resume: connections stay open, but get no answers.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) start() {
	s.t.Helper()
	args := append([]string{"--port", "0", "--unixsocket", s.Addr(), "--save", "", "--appendonly", "no", "--dir", s.dir,
		"--loglevel", "warning"}, s.args...)
	s.cmd = exec.Command(s.bin, args...)
	dieWithParent(s.cmd)
	var out strings.Builder
	s.cmd.Stdout, s.cmd.Stderr = &out, &out
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	s.done = done
	go func(cmd *exec.Cmd) {
		defer close(done)
		cmd.Wait()
	}(s.cmd)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := redis.NewClient(&redis.Options{Network: "unix", Addr: s.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1})
	defer c.Close()
	for {
		err := c.Ping(ctx).Err()
		if err == nil {
			return
		}
		select {
		case <-done:
			s.t.Fatalf("redis-server ended: %v", out.String())
		case <-ctx.Done():
			s.t.Fatal(fmt.Errorf("redis-server does not answer: %w", err))
		case <-time.After(5 * time.Millisecond):
		}
	}
}
