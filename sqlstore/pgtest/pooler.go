package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sqlstore/internal/process"
)

// Pooler is a pgbouncer in transaction mode.
type Pooler struct {
	DSN string // leads through the pooler

	path, dir string
	as        *syscall.SysProcAttr

	mu      sync.Mutex
	running *exec.Cmd // nil when stopped
}

// StartPooler starts a pgbouncer before the database of dsn, until the test ends. Further settings are lines of its
// section [pgbouncer]. If pgbouncer is not installed, the test is skipped; with CHATSTORE_REQUIRE_SERVERS=1 it fails.
func StartPooler(t testing.TB, dsn string, settings ...string) *Pooler {
	t.Helper()
	c := testenv.Value(pgconn.ParseConfig(dsn))(t)
	dir := testenv.Value(os.MkdirTemp("", "pool"))(t) // short, because the path of a socket has a limit
	p := &Pooler{
		DSN:  moved(dsn, "host="+dir, "port=6432"),
		path: testenv.Program(t, "pgbouncer", "pgbouncer"), dir: dir,
	}
	t.Cleanup(func() { testenv.Must(t, errors.Join(p.stop(syscall.SIGKILL), os.RemoveAll(dir))) })
	lines := append([]string{
		"[databases]", fmt.Sprintf("%s = host=%s port=%d user=%s", c.Database, c.Host, c.Port, c.User),
		"[pgbouncer]", "unix_socket_dir = " + dir, "listen_addr =", "listen_port = 6432", "auth_type = any", "pool_mode = transaction",
		"admin_users = " + c.User, "server_login_retry = 0.1", "max_client_conn = 200",
	}, settings...)
	testenv.Must(t, os.WriteFile(filepath.Join(dir, "pgbouncer.ini"), []byte(strings.Join(lines, "\n")+"\n"), 0o644))
	p.as = testenv.Value(process.Drop(dir, users...))(t) // it refuses to run as root
	p.as.Pdeathsig = syscall.SIGKILL
	p.start(t)
	return p
}

// start starts it and waits until it answers.
func (p *Pooler) start(t testing.TB) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	cmd := exec.Command(p.path, filepath.Join(p.dir, "pgbouncer.ini"))
	cmd.SysProcAttr = p.as
	var log strings.Builder
	cmd.Stderr = &log
	testenv.Must(t, cmd.Start())
	p.running = cmd
	for end := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) { // spares the processor
		err := p.admin(t, "SHOW VERSION")
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("pgbouncer does not answer: %v\n%s", err, log.String())
		}
	}
}

func (p *Pooler) stop(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		return nil
	}
	if err := p.running.Process.Signal(sig); err != nil {
		return err
	}
	_ = p.running.Wait() // an error only says that a signal ended it
	p.running = nil
	return nil
}

// Restart ends the pooler with a signal and starts it again. All of its connections break.
func (p *Pooler) Restart(t testing.TB, sig syscall.Signal) {
	t.Helper()
	testenv.Must(t, p.stop(sig))
	p.start(t)
}

// Admin executes a command of the admin console, such as RECONNECT.
func (p *Pooler) Admin(t testing.TB, command string) {
	t.Helper()
	testenv.Must(t, p.admin(t, command))
}

func (p *Pooler) admin(t testing.TB, command string) error {
	ctx := t.Context()
	c, err := pgx.ParseConfig(p.DSN)
	if err != nil {
		return err
	}
	c.Database, c.DefaultQueryExecMode = "pgbouncer", pgx.QueryExecModeSimpleProtocol // it knows no other
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, command)
	return errors.Join(err, conn.Close(ctx))
}
