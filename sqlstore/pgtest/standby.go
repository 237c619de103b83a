package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/chatstore/chatstore/internal/testenv"
)

// Standby returns a hot standby that replicates s and accepts reads. The primary does not wait for it.
func (s *Server) Standby(t testing.TB) *Server {
	t.Helper()
	return s.standby(t, s.args...)
}

// SynchronousStandby is like [Server.Standby], but every commit of s waits until the standby has it. A promoted standby waits for
// nobody.
func (s *Server) SynchronousStandby(t testing.TB) *Server {
	t.Helper()
	const name = "s1"
	// Without an application_name of its own, a standby has its cluster_name.
	standby := s.standby(t, append(s.args[:len(s.args):len(s.args)], "-c", "cluster_name="+name)...)
	s.Exec(t, s.dsn("postgres"), "ALTER SYSTEM SET synchronous_standby_names = "+name) // not in the standby's files, which are older
	s.Exec(t, s.dsn("postgres"), "SELECT pg_reload_conf()")
	Await(t, s.dsn("postgres"), "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
	s.Exec(t, s.dsn("postgres"), "CHECKPOINT") // by the process that makes the setting known to the sessions
	return standby
}

func (s *Server) standby(t testing.TB, args ...string) *Server {
	t.Helper()
	standby, err := prepare("", func(data string) (*exec.Cmd, error) {
		backup, err := program("pg_basebackup")
		return exec.Command(backup, "-h", s.dir, "-U", "chat", "-D", data, "-R", "-c", "fast", "--no-sync"), err
	}, args...)
	available(t, err)
	t.Cleanup(func() {
		if err := standby.remove(); err != nil {
			t.Error(err)
		}
	})
	return standby
}

// Same returns the data source name at this server of the database that dsn names at another one.
func (s *Server) Same(dsn string) string { return moved(dsn, "host="+s.dir) }

// Hosts returns a DSN that names the servers of several DSNs of one database.
func Hosts(dsns ...string) string {
	var hosts []string
	for _, dsn := range dsns {
		host, _, _ := strings.Cut(strings.TrimPrefix(dsn, "host="), " ")
		hosts = append(hosts, host)
	}
	return moved(dsns[0], "host="+strings.Join(hosts, ","))
}

// Hold stops the walreceiver of a standby (SIGSTOP): its connection stays, and it receives nothing until [Server.Continue].
func (s *Server) Hold(t testing.TB) {
	t.Helper()
	var pid int
	c := testenv.Value(pgx.Connect(t.Context(), s.dsn("postgres")))(t)
	defer func() { _ = c.Close(context.Background()) }()
	Await(t, s.dsn("postgres"), "SELECT count(*) = 1 FROM pg_stat_wal_receiver WHERE status = 'streaming'")
	testenv.Must(t, c.QueryRow(t.Context(), "SELECT pid FROM pg_stat_wal_receiver").Scan(&pid))
	testenv.Must(t, syscall.Kill(pid, syscall.SIGSTOP))
	s.held.Store(int64(pid))
}

// CatchUp waits until a standby has replayed everything that its primary has written.
func (s *Server) CatchUp(t testing.TB, primary *Server) {
	t.Helper()
	var now string
	c := testenv.Value(pgx.Connect(t.Context(), primary.dsn("postgres")))(t)
	defer func() { _ = c.Close(context.Background()) }()
	testenv.Must(t, c.QueryRow(t.Context(), "SELECT pg_current_wal_lsn()::text").Scan(&now))
	Await(t, s.dsn("postgres"), "SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn", now)
}

// Continue ends Hold. The standby receives what it missed.
func (s *Server) Continue(t testing.TB) {
	t.Helper()
	testenv.Must(t, s.signalHeld(syscall.SIGCONT))
}

func (s *Server) signalHeld(sig syscall.Signal) error {
	if pid := s.held.Swap(0); pid != 0 {
		return syscall.Kill(int(pid), sig)
	}
	return nil
}

// Promote makes a standby a primary, and returns when it takes writes. What its walreceiver has not received is lost to it.
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	if s.held.Load() != 0 {
		// It must not receive what waits in its socket. Its end restarts the other processes too.
		testenv.Must(t, s.signalHeld(syscall.SIGKILL))
		s.Restart(t, syscall.SIGQUIT)
	}
	s.Exec(t, s.dsn("postgres"), "SELECT pg_promote()")
	Await(t, s.dsn("postgres"), "SELECT NOT pg_is_in_recovery()")
}

// Kill ends all processes of a server at once (SIGKILL), as when its machine fails.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return
	}
	testenv.Must(t, s.process.Signal(syscall.SIGSTOP)) // so that it starts no process meanwhile
	children, err := childrenOf(s.process.Pid)
	testenv.Must(t, err)
	for _, pid := range append(children, s.process.Pid) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Error(err)
		}
	}
	<-s.process.Ended
	s.process = nil
	testenv.Must(t, s.freeMemory())
}

// freeMemory frees the shared memory that a killed server leaves. Line 7 of its file names it.
func (s *Server) freeMemory() error {
	text, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	if err != nil {
		return err
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 7 {
		return fmt.Errorf("postmaster.pid has only %q", text)
	}
	var key, id uintptr
	if _, err := fmt.Sscan(lines[6], &key, &id); err != nil {
		return err
	}
	const remove = 0 // IPC_RMID
	if _, _, errno := syscall.Syscall(syscall.SYS_SHMCTL, id, remove, 0); errno != 0 {
		return fmt.Errorf("shmctl: %w", errno)
	}
	return nil
}

// childrenOf returns the processes that a process has started.
func childrenOf(parent int) (pids []int, err error) {
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range all {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// The fields after the name, which is in parentheses: the state, and the parent.
		var state string
		var of int
		if _, err := fmt.Sscan(string(text[strings.LastIndexByte(string(text), ')')+1:]), &state, &of); err != nil || of != parent {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, err
}
