package guides_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/redisbus/redistest"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
)

// openStack opens the stack of one process. The returned function closes it.
func openStack(ctx context.Context, dsn string) (store.Store, func() error, error) {
	base, err := sqlstore.OpenPostgres(ctx, dsn)
	if err != nil {
		return nil, nil, err
	}
	b, err := base.Bus(ctx)
	if err != nil {
		return nil, nil, errors.Join(err, base.Close())
	}
	s := store.Wrap(base, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New(cache.WithBus(b)))
	return s, func() error { return errors.Join(store.Close(s), b.Close()) }, nil
}

// openStackWithRedis is openStack with Redis in the place of PostgreSQL's notifications.
func openStackWithRedis(ctx context.Context, dsn, redisURL string) (store.Store, func() error, error) {
	base, err := sqlstore.OpenPostgres(ctx, dsn, sqlstore.WithoutNotify())
	if err != nil {
		return nil, nil, err
	}
	return withRedis(base, redisURL)
}

// openThroughPooler opens the store where a pooler stands before the server. A deploy has migrated the database.
func openThroughPooler(ctx context.Context, poolerDSN, directDSN string) (*sqlstore.Store, error) {
	return sqlstore.OpenPostgres(ctx, poolerDSN,
		sqlstore.WithPooler(),
		sqlstore.WithListenDSN(directDSN), // for Bus
		sqlstore.WithoutMigration())
}

// A program that is started before the deploy has migrated the database says so.
func migrateAndOpen(ctx context.Context, adminDSN, dsn string) (*sqlstore.Store, error) {
	if err := sqlstore.MigratePostgres(ctx, adminDSN); err != nil { // in the deploy
		return nil, err
	}
	return sqlstore.OpenPostgres(ctx, dsn, sqlstore.WithoutMigration()) // in the program
}

var (
	operateCtx    = store.WithPrincipal(context.Background(), store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "ada"}})
	operateThread = chat.Thread{ID: "thr_1", Title: "Tea", CreatedAt: time.Date(2026, 5, 1, 16, 0, 0, 0, time.UTC)}
)

// TestOnPostgres runs the code of the page, and checks what it says, on a server of its own.
func TestOnPostgres(t *testing.T) {
	srv := pgtest.Start(t, "-c", "fsync=off")
	t.Run("two processes", func(t *testing.T) { twoProcesses(t, srv) })
	t.Run("the page of sqlstore", func(t *testing.T) { modulePostgres(t, srv) })
	t.Run("a pooler", func(t *testing.T) { aPooler(t, srv) })
	t.Run("several hosts", func(t *testing.T) { severalHosts(t, srv) })
	t.Run("a backup", func(t *testing.T) { aBackup(t, srv) })
}

// Two processes keep each other's caches true, by PostgreSQL's notifications and by Redis.
func twoProcesses(t *testing.T, srv *pgtest.Server) {
	url := redistest.Start(t).URL()
	for name, open := range map[string]func(dsn string) (store.Store, func() error, error){
		"postgres": func(dsn string) (store.Store, func() error, error) { return openStack(t.Context(), dsn) },
		"redis":    func(dsn string) (store.Store, func() error, error) { return openStackWithRedis(t.Context(), dsn, url) },
	} {
		t.Run(name, func(t *testing.T) {
			dsn := srv.DSN(t)
			a, closeA, err := open(dsn)
			testenv.Must(t, err)
			defer func() { testenv.Must(t, closeA()) }()
			b, closeB, err := open(dsn)
			testenv.Must(t, err)
			defer func() { testenv.Must(t, closeB()) }()
			testenv.Must(t, a.SaveThread(operateCtx, operateThread))
			for range 20 {
				_ = testenv.Value(b.LoadThread(operateCtx, "thr_1"))(t) // perhaps from the cache
			}
			seesTheChange(t, a, b)
		})
	}
}

// The store works through a real pgbouncer in transaction mode.
func aPooler(t *testing.T, srv *pgtest.Server) {
	direct := srv.DSN(t)
	through := pgtest.StartPooler(t, direct).DSN
	_, err := openThroughPooler(t.Context(), through, direct)
	if !errors.Is(err, sqlstore.ErrSchema) {
		t.Errorf("before the migration: %v", err)
	}
	testenv.Must(t, testenv.Value(migrateAndOpen(t.Context(), direct, direct))(t).Close())
	s := testenv.Value(openThroughPooler(t.Context(), through, direct))(t)
	b := testenv.Value(s.Bus(t.Context()))(t)
	testenv.Must(t, s.SaveThread(operateCtx, operateThread))
	if got := testenv.Value(s.LoadThread(operateCtx, "thr_1"))(t); got.Title != "Tea" {
		t.Errorf("got %q", got.Title)
	}
	testenv.Must(t, s.CheckHealth(t.Context()))
	testenv.Must(t, errors.Join(b.Close(), s.Close()))
}

// A DSN of several hosts with target_session_attrs leads to the server that takes writes.
func severalHosts(t *testing.T, primary *pgtest.Server) {
	replica := pgtest.Start(t, "-c", "fsync=off")
	var hosts []string
	for _, srv := range []*pgtest.Server{replica, primary} {
		dsn := srv.DSN(t)
		srv.Exec(t, dsn, "CREATE DATABASE failover")
		host, _, _ := strings.Cut(strings.TrimPrefix(dsn, "host="), " ")
		hosts = append(hosts, host)
	}
	replica.Exec(t, "host="+hosts[0]+" user=chat dbname=failover", "ALTER DATABASE failover SET default_transaction_read_only = on")
	dsn := "host=" + strings.Join(hosts, ",") + " user=chat dbname=failover target_session_attrs=read-write"
	s := testenv.Value(sqlstore.OpenPostgres(t.Context(), dsn))(t)
	testenv.Must(t, s.SaveThread(operateCtx, operateThread))
	testenv.Must(t, errors.Join(s.CheckHealth(t.Context()), s.Close()))
}

// run runs a program that must succeed.
func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
}

// A backup is made while the store is open, and opens as a database of its own.
func TestABackupOfSQLite(t *testing.T) {
	bin, dir := testenv.Program(t, "sqlite3", "sqlite3"), t.TempDir()
	s := testenv.Value(sqlstore.OpenSQLite(t.Context(), filepath.Join(dir, "chat.db")))(t)
	testenv.Must(t, s.SaveThread(operateCtx, operateThread))
	cmd := exec.Command(bin, "chat.db", "VACUUM INTO 'backup.db'")
	cmd.Dir = dir
	run(t, cmd)
	testenv.Must(t, s.DeleteThread(operateCtx, "thr_1"))
	restored := testenv.Value(sqlstore.OpenSQLite(t.Context(), filepath.Join(dir, "backup.db"), sqlstore.WithoutMigration()))(t)
	_ = testenv.Value(restored.LoadThread(operateCtx, "thr_1"))(t)
	testenv.Must(t, errors.Join(restored.Close(), s.Close()))
}

// A dump has the rows, the schema's version and the triggers.
func aBackup(t *testing.T, srv *pgtest.Server) {
	dump, restore := testenv.Program(t, "pg_dump", "postgresql-client"), testenv.Program(t, "pg_restore", "postgresql-client")
	from, to, file := srv.DSN(t), srv.DSN(t), filepath.Join(t.TempDir(), "chat.dump")
	s := testenv.Value(sqlstore.OpenPostgres(t.Context(), from))(t)
	testenv.Must(t, s.SaveThread(operateCtx, operateThread))
	run(t, exec.Command(dump, "--format=custom", "--file="+file, "--dbname="+from))
	run(t, exec.Command(restore, "--dbname="+to, file))
	restored := testenv.Value(sqlstore.OpenPostgres(t.Context(), to, sqlstore.WithoutMigration()))(t)
	_ = testenv.Value(restored.LoadThread(operateCtx, "thr_1"))(t)
	b := testenv.Value(restored.Bus(t.Context()))(t)
	testenv.Must(t, errors.Join(b.Close(), restored.Close(), s.Close()))
}

// readyz answers 200 while the base can serve, and 503 otherwise.
func readyz(s store.Store) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if base, ok := store.As[store.HealthChecker](s); ok { // also through a guard
			if err := base.CheckHealth(ctx); err != nil {
				http.Error(w, store.CodeOf(err).String(), http.StatusServiceUnavailable)
			}
		}
	}
}

func Example_readyz() {
	base, err := sqlstore.OpenSQLite(context.Background(), ":memory:")
	s := store.Wrap(base, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New())
	ask := func() string {
		w := httptest.NewRecorder()
		readyz(s)(w, httptest.NewRequest("GET", "/readyz", nil))
		return strings.TrimSpace(strconv.Itoa(w.Code) + " " + w.Body.String())
	}
	fmt.Println(ask(), err)
	fmt.Println(store.Close(s))
	fmt.Println(ask())
	// Output:
	// 200 <nil>
	// <nil>
	// 503 unavailable
}
