// Package mysqltest runs real, private MariaDB servers for tests: single ones, a Galera cluster, and a network that a test can
// break. Everything ends with the tests. The package is for the modules of this repository. Its interface is not stable.
package mysqltest

import (
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sqlstore/internal/process"
)

// Server is a private MariaDB server. The user of its DSNs is chat, who may do everything in the databases of the tests and nothing
// else. It has the defaults of MariaDB itself, not those of Debian: the character set is latin1.
type Server struct {
	dir   string
	args  []string
	as    *syscall.SysProcAttr
	ports int // the first of its ports

	mu      sync.Mutex
	process *process.Process // nil when stopped
	lag     *sql.Conn        // makes the server lag
}

var (
	next    atomic.Int64 // numbers the databases
	servers atomic.Int64

	mu   sync.Mutex
	kept []interface{ remove() error } // what the tests of a program share
)

func keep[V interface{ remove() error }](v V, err error) (V, error) {
	if err == nil {
		mu.Lock()
		defer mu.Unlock()
		kept = append(kept, v)
	}
	return v, err
}

// Close ends what the tests of a program shared. Pass it to pgtest.Main.
func Close() error {
	mu.Lock()
	defer mu.Unlock()
	var errs []error
	for _, v := range kept {
		errs = append(errs, v.remove())
	}
	return errors.Join(errs...)
}

var shared = sync.OnceValues(func() (*Server, error) { return keep(start(process.InMemory(), noSync)) })

// Shared returns the server that all tests of a program share. It does not sync to disk. If MariaDB is not installed, the
// test is skipped; with CHATSTORE_REQUIRE_SERVERS=1 it fails.
func Shared(t testing.TB) *Server {
	t.Helper()
	s, err := shared()
	available(t, err)
	return s
}

// noSync is for a server whose machine does not fail.
const noSync = "--innodb-flush-log-at-trx-commit=2"

// Start returns a server for one test, which may stop and start it. Without args, such as "--log-bin", it syncs its redo log to disk
// and has no binary log.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s, err := start("", args...)
	available(t, err)
	t.Cleanup(func() { testenv.Must(t, s.remove()) })
	return s
}

var errMissing = errors.New("MariaDB is not installed (on Debian, the package mariadb-server)")

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

// program finds a MariaDB program: in the PATH, or in the folder of Debian, which only root has in the PATH.
func program(name string) (string, error) {
	for _, p := range []string{name, "/usr/sbin/" + name} {
		if p, err := exec.LookPath(p); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, errMissing)
}

func start(in string, args ...string) (*Server, error) {
	s, err := prepare(in, args...)
	if err != nil {
		return nil, err
	}
	err = s.run()
	if err == nil {
		err = s.grant()
	}
	if err != nil {
		return nil, errors.Join(err, s.remove())
	}
	return s, nil
}

// create makes the folder of a server.
func create(in string, args ...string) (_ *Server, err error) {
	dir, err := os.MkdirTemp(in, "mysqltest") // short, because the path of a socket has a limit
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, args: args[:len(args):len(args)], ports: 20000 + portsEach*int(servers.Add(1))}
	if s.as, err = process.Drop(dir, "mysql", "nobody"); err != nil { // MariaDB refuses to run as root
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

// prepare is like create, and makes the data folder too.
func prepare(in string, args ...string) (*Server, error) {
	install, err := program("mariadb-install-db")
	if err != nil {
		return nil, err
	}
	s, err := create(in, args...)
	if err != nil {
		return nil, err
	}
	init := exec.Command(install, append(s.settings(), "--auth-root-authentication-method=normal", "--skip-test-db")...)
	init.SysProcAttr, init.Dir = s.as, s.dir
	if out, err := init.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w\n%s", init.Path, err, out), s.remove())
	}
	return s, nil
}

// settings are for all programs that use the data folder. A starting server deletes the files of others in a common tmpdir.
func (s *Server) settings() []string {
	return []string{"--no-defaults", "--datadir=" + s.data(), "--tmpdir=" + s.dir, "--skip-name-resolve", "--innodb-log-file-size=16M"}
}

// grant makes the user of the tests.
func (s *Server) grant() error {
	return s.exec("", "CREATE USER chat; GRANT ALL ON `test%`.* TO chat")
}

// portsEach is the number of ports that a server has.
const portsEach = 4

// address returns the address of a port. The port stays free while the server is stopped. Each test program has its own address in
// 127/8, and the system gives out no ports as low as these.
func (s *Server) address(port int) string {
	pid := os.Getpid()
	ip := net.IPv4(127, byte(1+pid>>16&0x3f), byte(pid>>8), byte(pid))
	return net.JoinHostPort(ip.String(), fmt.Sprint(s.ports+port))
}

// Dir returns the folder with all files of the server: the data folder, and its log.
func (s *Server) Dir() string { return s.dir }

func (s *Server) data() string   { return filepath.Join(s.dir, "data") }
func (s *Server) socket() string { return filepath.Join(s.dir, "s") }

// command returns the command that runs the server.
func (s *Server) command(more ...string) (*exec.Cmd, error) {
	bin, err := program("mariadbd")
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(s.address(0))
	if err != nil {
		return nil, err
	}
	args := append(s.settings(), "--socket="+s.socket(), "--pid-file="+filepath.Join(s.dir, "pid"), "--bind-address="+host,
		"--port="+port, "--max-connections=300", "--performance-schema=OFF", "--innodb-buffer-pool-size=32M")
	cmd := exec.Command(bin, slices.Concat(args, s.args, more)...)
	cmd.SysProcAttr, cmd.Dir = s.as, s.dir
	return cmd, nil
}

// run starts the server and waits until it reports that it is ready.
func (s *Server) run(more ...string) error {
	cmd, err := s.command(more...)
	if err != nil {
		return err
	}
	p, err := process.Start(cmd, syscall.SIGKILL, filepath.Join(s.dir, "log"), "ready for connections")
	if err != nil {
		return fmt.Errorf("mysqltest: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process = p
	return nil
}

// Stop ends the server with a signal and waits for it. SIGTERM shuts it down. SIGKILL leaves the files as a crash would.
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

// Restart stops the server with a signal, unless it is stopped, and starts it again.
func (s *Server) Restart(t testing.TB, sig syscall.Signal) {
	t.Helper()
	testenv.Must(t, errors.Join(s.Stop(sig), s.run()))
}

// Kill ends the server at once (SIGKILL). [Server.Restart] starts it again.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	testenv.Must(t, s.Stop(syscall.SIGKILL))
}

// Freeze makes the server hang until Continue (SIGSTOP). Its connections stay open, and new ones are accepted, but it answers nobody.
func (s *Server) Freeze(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	testenv.Must(t, s.process.Signal(syscall.SIGSTOP))
	const pid, stopped = 1, 2 // P_PID and WSTOPPED: the last of its threads has stopped
	_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pid, uintptr(s.process.Pid), 0, stopped, 0, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
}

// Continue ends Freeze.
func (s *Server) Continue(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	testenv.Must(t, s.process.Signal(syscall.SIGCONT))
}

func (s *Server) remove() error { return errors.Join(s.Stop(syscall.SIGKILL), os.RemoveAll(s.dir)) }
