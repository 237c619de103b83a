package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/chatstore/chatstore/bus/pubsub"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
)

// places are new, empty databases, opened with options of the test.
func places(t *testing.T, f func(t *testing.T, open, migrate func(opts ...sqlstore.Option) (*sqlstore.Store, error))) {
	t.Run("sqlite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "chat.db")
		f(t, func(opts ...sqlstore.Option) (*sqlstore.Store, error) {
			return sqlstore.OpenSQLite(t.Context(), path, append([]sqlstore.Option{sqlstore.WithDurability(sqlstore.SurvivesKill), patient}, opts...)...)
		}, func(opts ...sqlstore.Option) (*sqlstore.Store, error) {
			return nil, sqlstore.MigrateSQLite(t.Context(), path, opts...)
		})
	})
	t.Run("postgres", func(t *testing.T) {
		dsn := pgtest.Shared(t).DSN(t)
		f(t, func(opts ...sqlstore.Option) (*sqlstore.Store, error) {
			return sqlstore.OpenPostgres(t.Context(), dsn, append([]sqlstore.Option{sqlstore.WithMaxConns(3), patient}, opts...)...)
		}, func(opts ...sqlstore.Option) (*sqlstore.Store, error) {
			return nil, sqlstore.MigratePostgres(t.Context(), dsn, opts...)
		})
	})
	t.Run("mariadb", func(t *testing.T) {
		dsn := mysqltest.Shared(t).DSN(t)
		f(t, func(opts ...sqlstore.Option) (*sqlstore.Store, error) {
			return sqlstore.OpenMySQL(t.Context(), dsn, append([]sqlstore.Option{sqlstore.WithMaxConns(3), patient}, opts...)...)
		}, func(opts ...sqlstore.Option) (*sqlstore.Store, error) {
			return nil, sqlstore.MigrateMySQL(t.Context(), dsn, opts...)
		})
	})
}

func TestManyMayOpenANewDatabaseAtOnce(t *testing.T) {
	t.Parallel()
	for round := range tries(5, 2) {
		places(t, func(t *testing.T, open, _ func(opts ...sqlstore.Option) (*sqlstore.Store, error)) {
			t.Parallel() // goose waits a second after a race
			var (
				all   [8]*sqlstore.Store
				errs  [8]error
				wg    sync.WaitGroup
				start = make(chan struct{})
			)
			for i := range all {
				wg.Go(func() {
					<-start
					all[i], errs[i] = open(sqlstore.WithTablePrefix(fmt.Sprintf("round%d_", round)))
				})
			}
			close(start)
			wg.Wait()
			for i, err := range errs {
				if err != nil {
					t.Fatalf("%d: %v (cause %v)", i, err, causeOf(err))
				}
			}
			for i, s := range all {
				must(t, s.SaveThread(t.Context(), thread(fmt.Sprintf("thr_%d", i))))
			}
			for _, s := range all {
				if p := get[store.Page[chat.Thread]](t)(s.LoadThreads(t.Context(), store.ThreadQuery{})); len(p.Data) != len(all) {
					t.Errorf("a store lists %d threads", len(p.Data))
				}
				must(t, s.Close())
			}
		})
	}
}

// causeOf returns the cause of an error, which its text leaves out.
func causeOf(err error) error {
	if e, ok := errors.AsType[*store.Error](err); ok {
		return e.Cause
	}
	return err
}

func TestANewerSchemaIsRefused(t *testing.T) {
	places(t, func(t *testing.T, open, _ func(opts ...sqlstore.Option) (*sqlstore.Store, error)) {
		s := get[*sqlstore.Store](t)(open())
		newer := sqlstore.Newest(s) + 1
		must(t, sqlstore.Exec(s, fmt.Sprintf(
			"INSERT INTO %s (version_id, is_applied) VALUES (%d, true)", sqlstore.Table(s, "migrations"), newer)))
		must(t, s.Close())
		for _, opts := range [][]sqlstore.Option{nil, {sqlstore.WithoutMigration()}} {
			_, err := open(opts...)
			if !errors.Is(err, sqlstore.ErrSchema) || !strings.Contains(err.Error(), fmt.Sprint(newer)) {
				t.Errorf("got %v", err)
			}
		}
	})
}

func TestWithoutMigrationNothingIsMade(t *testing.T) {
	places(t, func(t *testing.T, open, migrate func(opts ...sqlstore.Option) (*sqlstore.Store, error)) {
		for range 2 { // the first attempt must not create the schema for the second
			if _, err := open(sqlstore.WithoutMigration()); !errors.Is(err, sqlstore.ErrSchema) {
				t.Errorf("an empty database: got %v", err)
			}
		}
		must(t, errOf(migrate(sqlstore.WithoutMigration()))) // Migrate overrides WithoutMigration
		must(t, errOf(migrate()))
		s := closing(t)(open(sqlstore.WithoutMigration()))
		must(t, s.SaveThread(t.Context(), thread("thr_1")))
	})
}

func TestOpeningAgainFindsEverything(t *testing.T) {
	places(t, func(t *testing.T, open, _ func(opts ...sqlstore.Option) (*sqlstore.Store, error)) {
		s := get[*sqlstore.Store](t)(open())
		must(t, s.SaveThread(t.Context(), thread("thr_1")))
		must(t, s.Close())
		s = closing(t)(open())
		get[chat.Thread](t)(s.LoadThread(t.Context(), "thr_1"))
	})
}

func TestPrefixesKeepStoresApart(t *testing.T) {
	places(t, func(t *testing.T, open, _ func(opts ...sqlstore.Option) (*sqlstore.Store, error)) {
		a := closing(t)(open(sqlstore.WithTablePrefix("a_")))
		b := closing(t)(open(sqlstore.WithTablePrefix("_b2")))
		must(t, a.SaveThread(t.Context(), thread("thr_1")))
		wantErr(t, errOf(b.LoadThread(t.Context(), "thr_1")), store.CodeNotFound)
		must(t, b.SaveThread(t.Context(), thread("thr_1")))
	})
}

func TestSchemasKeepStoresApart(t *testing.T) {
	dsn := pgtest.Shared(t).DSN(t)
	a, b := openPG(t, dsn, sqlstore.WithSchema("one")), openPG(t, dsn, sqlstore.WithSchema("two"))
	must(t, a.SaveThread(t.Context(), thread("thr_1")))
	wantErr(t, errOf(b.LoadThread(t.Context(), "thr_1")), store.CodeNotFound)
}

// A program that may only read and write rows opens a database that another program has migrated.
func TestAMigratedDatabaseIsOpenedWithoutRightsToCreate(t *testing.T) {
	srv := pgtest.Shared(t)
	dsn := srv.DSN(t)
	must(t, sqlstore.MigratePostgres(t.Context(), dsn, sqlstore.WithSchema("chats")))
	role := "writer_" + strings.ToLower(dsn[strings.LastIndex(dsn, "=")+1:])
	srv.Exec(t, dsn, fmt.Sprintf(`CREATE ROLE %[1]s LOGIN; GRANT USAGE ON SCHEMA chats TO %[1]s;
		GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA chats TO %[1]s`, role))
	s := openPG(t, strings.Replace(dsn, "user=chat", "user="+role, 1), sqlstore.WithSchema("chats"))
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	must(t, s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_1")))
	must(t, s.DeleteThread(t.Context(), "thr_1"))
}

// Migrating may take longer than any call: the limits for calls limit neither it nor the wait for another migration.
func TestMigratingIsNotLimitedAsCallsAre(t *testing.T) {
	t.Parallel()
	srv := pgtest.Shared(t)
	dsn := srv.DSN(t)
	srv.Exec(t, dsn, `CREATE TABLE limits (lock text, statement text);
		CREATE FUNCTION see() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO limits SELECT current_setting('lock_timeout'), current_setting('statement_timeout')
				FROM pg_event_trigger_ddl_commands() WHERE object_identity LIKE '%threads';
		END $$;
		CREATE EVENT TRIGGER see ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION see()`)
	db := closed[*sql.DB](t)(sql.Open("pgx", dsn))
	other := closed[*sql.Conn](t)(db.Conn(t.Context()))
	get[sql.Result](t)(other.ExecContext(t.Context(), "SELECT pg_advisory_lock(hashtextextended($1, 0))", sqlstore.LockName))
	done := make(chan error, 1)
	go func() {
		done <- sqlstore.MigratePostgres(context.Background(), dsn,
			sqlstore.WithLockTimeout(10*time.Millisecond), sqlstore.WithStatementTimeout(time.Hour))
	}()
	for waits := false; !waits; { // wait longer than the lock timeout, by the server's clock
		must(t, other.QueryRowContext(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid)) AND query_start < clock_timestamp() - interval '200 ms')`).Scan(&waits))
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v (cause %v)", err, causeOf(err))
		default:
		}
	}
	get[sql.Result](t)(other.ExecContext(t.Context(), "SELECT pg_advisory_unlock_all()"))
	must(t, <-done)
	var lock, statement string
	must(t, db.QueryRowContext(t.Context(), "SELECT lock, statement FROM limits").Scan(&lock, &statement))
	if lock != "0" || statement != "0" {
		t.Errorf("during the migration, statement_timeout was %s and lock_timeout %s, want none", statement, lock)
	}
}

func TestADatabaseThatCannotKeepEveryTextIsRefused(t *testing.T) {
	srv := pgtest.Shared(t)
	dsn := srv.DSN(t)
	srv.Exec(t, dsn, "DROP DATABASE IF EXISTS latin") // left by an earlier run with -count
	srv.Exec(t, dsn, "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
	_, err := sqlstore.OpenPostgres(t.Context(), dsn[:strings.LastIndex(dsn, "=")+1]+"latin")
	if err == nil || !strings.Contains(err.Error(), "LATIN1") {
		t.Errorf("got %v", err)
	}
}

func TestASchemaMayHaveTheNameOfAReservedWord(t *testing.T) {
	dsn := pgtest.Shared(t).DSN(t)
	for _, word := range []string{"user", "select", "table"} {
		s := openPG(t, dsn, sqlstore.WithSchema(word), sqlstore.WithTablePrefix("order"))
		must(t, s.SaveThread(t.Context(), thread("thr_1")))
		closed[*pubsub.Bus](t)(s.Bus(t.Context()))
		closing(t)(sqlstore.OpenPostgres(t.Context(), dsn, sqlstore.WithSchema(word), sqlstore.WithTablePrefix("order"), sqlstore.WithoutMigration()))
	}
}

// A program that migrates reads what is there after it has waited for the others, whatever isolation the database has.
func TestManyMayMigrateASerializableDatabaseAtOnce(t *testing.T) {
	t.Parallel()
	srv := pgtest.Shared(t)
	dsn := srv.DSN(t)
	_, name, _ := strings.Cut(dsn, "dbname=")
	srv.Exec(t, dsn, "ALTER DATABASE "+name+" SET default_transaction_isolation = serializable")
	srv.Exec(t, dsn, sqlstore.FirstEdition())
	errs := make(chan error)
	for range 6 {
		go func() { errs <- sqlstore.MigratePostgres(t.Context(), dsn, sqlstore.WithMaxConns(2)) }()
	}
	for range 6 {
		if err := <-errs; err != nil {
			t.Errorf("%v (cause %v)", err, causeOf(err))
		}
	}
}

// A role without the right to create tables gets its error at once: waiting cannot help.
func TestMissingRightsAreSaidAtOnce(t *testing.T) {
	t.Parallel()
	srv := pgtest.Shared(t)
	dsn := srv.DSN(t)
	srv.Exec(t, dsn, "CREATE ROLE weak LOGIN")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // twenty tries would take longer
	defer cancel()
	_, err := sqlstore.OpenPostgres(ctx, strings.Replace(dsn, "user=chat", "user=weak", 1))
	if denied, ok := errors.AsType[*pgconn.PgError](err); !ok || denied.Code != "42501" || ctx.Err() != nil {
		t.Errorf("got %v (%v)", err, errors.Unwrap(err))
	}
}
