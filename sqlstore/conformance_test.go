package sqlstore_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/metrics"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
	"github.com/chatstore/chatstore/storetest/fleet"
)

func TestMain(m *testing.M) {
	fleet.Worker(openWorker)
	writeUntilKilled()
	moveWorker()
	operateUntilKilled()
	flag.Parse()
	if err := flag.Set("test.parallel", fmt.Sprint(max(4, runtime.GOMAXPROCS(0)))); err != nil { // they mostly wait for servers
		panic(err)
	}
	pgtest.Main(m, mysqltest.Close)
}

var must = testenv.Must

func get[T any](t testing.TB) func(v T, err error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		must(t, err)
		return v
	}
}

// wantErr wants an error of the given code that also is each of the others.
func wantErr(t testing.TB, err error, code store.Code, others ...error) {
	t.Helper()
	if store.CodeOf(err) != code || slices.ContainsFunc(others, func(other error) bool { return !errors.Is(err, other) }) {
		t.Errorf("got %v (cause %v), want %v %v", err, causeOf(err), code, others)
	}
}

// An opener opens a new, empty store that is closed when the test ends.
type opener func(t testing.TB, opts ...sqlstore.Option) *sqlstore.Store

func closing(t testing.TB) func(s *sqlstore.Store, err error) *sqlstore.Store {
	return closed[*sqlstore.Store](t)
}

// closed is like get, for a value to close when the test ends.
func closed[T io.Closer](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		must(t, err)
		t.Cleanup(func() { must(t, v.Close()) })
		return v
	}
}

// tries returns how often a test repeats: fewer times unless CHATSTORE_FULL=1.
func tries(full, part int) int {
	if testenv.Full {
		return full
	}
	return part
}

// lightly is like tries, but the race detector gets the smaller number: SQLite is slow under it. .ci/run repeats these tests in full
// without the detector.
func lightly(full, part int) int {
	if testenv.Race {
		return part
	}
	return tries(full, part)
}

// errOf returns the error of a call.
func errOf(_ any, err error) error { return err }

// fast has arguments for a server that does not sync to disk. A crash of the server alone loses nothing that way.
var fast = []string{"-c", "fsync=off"}

// patient makes a store retry for a minute, for slow machines. Only a hang takes longer.
var patient = sqlstore.WithRetryFor(time.Minute)

// patientLocks makes a store wait for locks as long. A call that ends for a lock is not retried.
var patientLocks = sqlstore.WithLockTimeout(time.Minute)

func sqliteFile(t testing.TB, opts ...sqlstore.Option) *sqlstore.Store {
	t.Helper()
	// No test cuts the power, so no store has to wait for the disk.
	opts = append([]sqlstore.Option{sqlstore.WithDurability(sqlstore.SurvivesKill), patient}, opts...)
	return closing(t)(sqlstore.OpenSQLite(context.Background(), filepath.Join(t.TempDir(), "chat.db"), opts...))
}

func sqliteMemory(t testing.TB, opts ...sqlstore.Option) *sqlstore.Store {
	t.Helper()
	return closing(t)(sqlstore.OpenSQLite(context.Background(), ":memory:", opts...))
}

var schemas atomic.Int64

func postgres(dsn string) opener {
	return func(t testing.TB, opts ...sqlstore.Option) *sqlstore.Store {
		t.Helper()
		opts = append([]sqlstore.Option{sqlstore.WithSchema(fmt.Sprintf("s%d", schemas.Add(1))), sqlstore.WithMaxConns(4), patient}, opts...)
		return closing(t)(sqlstore.OpenPostgres(context.Background(), dsn, opts...))
	}
}

var prefixes atomic.Int64

func mysqlOn(dsn string) opener {
	return func(t testing.TB, opts ...sqlstore.Option) *sqlstore.Store {
		t.Helper()
		opts = append([]sqlstore.Option{sqlstore.WithTablePrefix(fmt.Sprintf("p%d_", prefixes.Add(1))), sqlstore.WithMaxConns(4), patient}, opts...)
		return closing(t)(sqlstore.OpenMySQL(context.Background(), dsn, opts...))
	}
}

// onEach runs a test on each kind of store.
func onEach(t *testing.T, f func(t *testing.T, open opener)) {
	t.Run("sqlite", func(t *testing.T) { f(t, sqliteFile) })
	t.Run("sqlite in memory", func(t *testing.T) { f(t, sqliteMemory) })
	t.Run("postgres", func(t *testing.T) { f(t, postgres(pgtest.Shared(t).DSN(t))) })
	t.Run("mariadb", func(t *testing.T) { f(t, mysqlOn(mysqltest.Shared(t).DSN(t))) })
}

// kept is a store that stays open when its users close it, because opening a database takes longer than most groups of
// checks.
type kept struct{ *sqlstore.Store }

func (kept) Close() error { return nil }

func TestConformance(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open opener) {
		t.Parallel()
		base := kept{open(t)}
		storetest.Run(t, func(*testing.T) store.Store { return base }, storetest.WithVersionsRequired())
	})
}

func recommended(t testing.TB, base store.Store, opts ...cache.Option) store.Store {
	t.Helper()
	layer := func(name string) store.Middleware {
		return get[store.Middleware](t)(metrics.New(nil, metrics.WithLayer(name)))
	}
	return store.Wrap(base, tracing.New(), layer("outer"), authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New(opts...), layer("inner"))
}

// spareTheDetector skips a test on some kinds of store under the race detector, where SQLite (translated from C) would take
// minutes. The detector finds the races of this package on the other kinds.
func spareTheDetector(t *testing.T, kinds ...string) {
	if _, kind, _ := strings.Cut(t.Name(), "/"); testenv.Race && slices.Contains(kinds, kind) {
		t.Skip("under the race detector this takes minutes; run it without")
	}
}

// partly skips a test on some kinds of store, or some groups of its checks, unless CHATSTORE_FULL=1. The other kinds show
// the same, and other tests check those groups.
func partly(t *testing.T, names ...string) {
	if _, name, _ := strings.Cut(t.Name(), "/"); !testenv.Full && slices.Contains(names, name[strings.LastIndex(name, "/")+1:]) {
		t.Skip("runs with CHATSTORE_FULL=1")
	}
}

func TestTheRecommendedStackConforms(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open opener) {
		t.Parallel()
		spareTheDetector(t, "sqlite", "mariadb")
		partly(t, "sqlite", "postgres")
		base := kept{open(t)}
		storetest.Run(t, func(t *testing.T) store.Store { return recommended(t, base) })
	})
}

// With serializable transactions as the default, more transactions fail temporarily, but no more calls.
func TestInASerializableDatabaseItConforms(t *testing.T) {
	t.Parallel()
	base := kept{postgres(pgtest.Shared(t).DSN(t) + " options='-c default_transaction_isolation=serializable'")(t)}
	storetest.Run(t, func(t *testing.T) store.Store {
		partly(t, "Limit")
		return base
	}, storetest.WithVersionsRequired())
}
