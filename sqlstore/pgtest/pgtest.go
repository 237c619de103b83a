// Package pgtest runs real, private PostgreSQL servers for tests: a primary, its standbys, a pooler before it, and a network
// that a test can break. A unix socket reaches a server, and everything ends with the tests. The package is for the modules of
// this repository. Its interface is not stable.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sqlstore/internal/process"
)

// Server is a private PostgreSQL server.
type Server struct {
	dir  string
	args []string
	as   *syscall.SysProcAttr
	next atomic.Int64

	held atomic.Int64 // the stopped walreceiver; 0 if there is none

	mu      sync.Mutex
	process *process.Process // nil when stopped
}

var (
	shared  *Server
	failure error
	once    sync.Once
)

// Main runs the tests, then ends the shared server and calls closers, which may end others. Use it as TestMain.
func Main(m *testing.M, closers ...func() error) {
	code := m.Run()
	if shared != nil {
		closers = append(closers, shared.remove)
	}
	for _, end := range closers {
		if err := end(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// Shared returns the server that all tests of a program share. It does not sync to disk. If PostgreSQL is not installed, the
// test is skipped; with CHATSTORE_REQUIRE_SERVERS=1 it fails.
func Shared(t testing.TB) *Server {
	t.Helper()
	once.Do(func() { shared, failure = start(process.InMemory(), "-c", "fsync=off") })
	available(t, failure)
	return shared
}

// Start returns a server for one test, which may stop and start it. Without args it syncs to disk, as in production.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s, err := start("", args...)
	available(t, err)
	t.Cleanup(func() {
		if err := s.remove(); err != nil {
			t.Error(err)
		}
	})
	return s
}

var errMissing = errors.New("PostgreSQL is not installed (on Debian, the package postgresql)")

func available(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, errMissing):
		testenv.Missing(t, err.Error())
	default:
		t.Fatal(err)
	}
}

// program finds a PostgreSQL program: in the PATH, or the newest version in Debian's folders.
func program(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	all, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(all) == 0 {
		return "", fmt.Errorf("%s: %w", name, errMissing)
	}
	version := func(p string) int {
		n, _ := strconv.Atoi(strings.Split(p, "/")[4])
		return n
	}
	return slices.MaxFunc(all, func(a, b string) int { return version(a) - version(b) }), nil
}

// moved returns a DSN with other settings for the server.
func moved(dsn string, server ...string) string {
	rest := slices.DeleteFunc(strings.Fields(dsn), func(setting string) bool {
		name, _, _ := strings.Cut(setting, "=")
		return name == "host" || name == "port" || name == "sslmode"
	})
	return strings.Join(append(server, rest...), " ")
}

func start(in string, args ...string) (*Server, error) {
	return prepare(in, func(data string) (*exec.Cmd, error) {
		initdb, err := program("initdb")
		return exec.Command(initdb, "-D", data, "-U", "chat", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"), err
	}, args...)
}

// users may run the server if the tests run as root.
var users = []string{"postgres", "nobody"}

// prepare starts a server on a data folder that a command makes.
func prepare(in string, command func(data string) (*exec.Cmd, error), args ...string) (_ *Server, err error) {
	dir, err := os.MkdirTemp(in, "pgtest") // short, because the path of a socket has a limit
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, args: args}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if s.as, err = process.Drop(dir, users...); err != nil { // PostgreSQL refuses to run as root
		return nil, err
	}
	init, err := command(s.data())
	if err != nil {
		return nil, err
	}
	init.SysProcAttr, init.Dir = s.as, dir
	if out, err := init.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", init.Path, err, out)
	}
	return s, s.run()
}

// Dir returns the folder with all files of the server: the data folder, and its log.
func (s *Server) Dir() string { return s.dir }

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// run starts the server and waits until it reports that it is ready.
func (s *Server) run() error {
	bin, err := program("postgres")
	if err != nil {
		return err
	}
	args := append([]string{"-D", s.data(), "-k", s.dir, "-c", "listen_addresses=", "-c", "max_connections=200",
		"-c", "dynamic_shared_memory_type=mmap"}, s.args...) // a killed server leaves files in its folder only
	cmd := exec.Command(bin, args...)
	cmd.SysProcAttr, cmd.Dir = s.as, s.dir
	// With SIGQUIT the server ends with its children.
	p, err := process.Start(cmd, syscall.SIGQUIT, filepath.Join(s.dir, "log"), "ready to accept ")
	if err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process = p
	return nil
}

// Stop ends the server with a signal and waits for it. SIGINT ends its sessions. SIGQUIT leaves the files as a crash would.
func (s *Server) Stop(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return nil
	}
	err := s.process.End(sig)
	s.process = nil
	return err
}

// Restart stops the server with a signal and starts it again.
func (s *Server) Restart(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := errors.Join(s.Stop(sig), s.run()); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) remove() error {
	// A stopped process would keep the server for 5 s.
	return errors.Join(s.signalHeld(syscall.SIGCONT), s.Stop(syscall.SIGQUIT), os.RemoveAll(s.dir))
}

// DSN returns the data source name of a new database.
func (s *Server) DSN(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", s.next.Add(1))
	s.Exec(t, s.dsn("postgres"), "CREATE DATABASE "+name)
	return s.dsn(name)
}

// Copy returns the data source name of a copy of a database. The original must have no connections.
func (s *Server) Copy(t testing.TB, dsn string) string {
	t.Helper()
	_, of, _ := strings.Cut(dsn, "dbname=")
	name := fmt.Sprintf("test%d", s.next.Add(1))
	s.Exec(t, s.dsn("postgres"), "CREATE DATABASE "+name+" TEMPLATE "+of)
	return s.dsn(name)
}

func (s *Server) dsn(database string) string {
	return fmt.Sprintf("host=%s user=chat dbname=%s", s.dir, database)
}

// Exec executes a statement in the database of dsn, outside of any Store.
func (s *Server) Exec(t testing.TB, dsn, text string, args ...any) {
	t.Helper()
	ctx := context.Background()
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()
	if _, err := c.Exec(ctx, text, args...); err != nil {
		t.Fatal(err)
	}
}

// Await waits until a query for one boolean, such as SELECT count(*) = 2 FROM pg_stat_activity, returns true. It fails the test
// after a minute.
func Await(t testing.TB, dsn, query string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	for done := false; !done; time.Sleep(2 * time.Millisecond) { // spares the processor
		if err := c.QueryRow(ctx, query, args...).Scan(&done); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
}
