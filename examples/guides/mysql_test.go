package guides_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/redisbus/redistest"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/store"
)

// openOnMySQL opens the stack of one process. Its cache asks once a second which threads others have changed.
func openOnMySQL(ctx context.Context, url string) (store.Store, error) {
	base, err := sqlstore.OpenMySQL(ctx, url) // such as mysql://chat:secret@db1.internal,db2.internal/chat?tls=true
	if err != nil {
		return nil, err
	}
	return store.Wrap(base, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New(cache.WithRevalidation(time.Second))), nil
}

// migrateAndOpenMySQL is the code for a deploy, and for a program with few rights.
func migrateAndOpenMySQL(ctx context.Context, adminURL, url string) (*sqlstore.Store, error) {
	if err := sqlstore.MigrateMySQL(ctx, adminURL); err != nil { // in the deploy
		return nil, err
	}
	return sqlstore.OpenMySQL(ctx, url, sqlstore.WithoutMigration()) // in the program
}

// as returns a URL with another user.
func as(user, url string) string { return strings.Replace(url, "chat@", user+"@", 1) }

// packet is the max_allowed_packet of the tests' server.
const packet = 1 << 20

// TestOnMariaDB runs the code of the page on a server of its own.
func TestOnMariaDB(t *testing.T) {
	srv := mysqltest.Start(t, "--innodb-flush-log-at-trx-commit=2", fmt.Sprint("--max-allowed-packet=", packet))
	t.Run("two processes", func(t *testing.T) {
		url := mysqltest.URL(srv.DSN(t))
		a, b := testenv.Value(openOnMySQL(t.Context(), url))(t), testenv.Value(openOnMySQL(t.Context(), url))(t)
		testenv.Must(t, a.SaveThread(operateCtx, operateThread))
		_ = testenv.Value(b.LoadThread(operateCtx, "thr_1"))(t)
		seesTheChange(t, a, b)
		testenv.Must(t, errors.Join(store.Close(a), store.Close(b)))
	})
	t.Run("over Redis", func(t *testing.T) {
		base := testenv.Value(sqlstore.Open(t.Context(), mysqltest.URL(srv.DSN(t))))(t)
		s, closing, err := withRedis(base, redistest.Start(t).URL())
		testenv.Must(t, err)
		testenv.Must(t, errors.Join(s.SaveThread(operateCtx, operateThread), closing()))
	})
	t.Run("rights", func(t *testing.T) { mysqlRights(t, srv) })
	t.Run("a backup", func(t *testing.T) { mysqlBackup(t, srv) })
	t.Run("an interrupted migration", func(t *testing.T) { mysqlInterrupted(t, srv) })
	t.Run("packets", func(t *testing.T) { mysqlPackets(t, srv) })
}

// The program needs four rights, and the deploy those to make tables.
func mysqlRights(t *testing.T, srv *mysqltest.Server) {
	dsn := srv.DSN(t)
	srv.Exec(t, dsn, "CREATE USER deploy; GRANT SELECT, INSERT, CREATE ON * TO deploy")
	srv.Exec(t, dsn, "CREATE USER program; GRANT SELECT, INSERT, UPDATE, DELETE ON * TO program")
	program := as("program", mysqltest.URL(dsn))
	if _, err := sqlstore.OpenMySQL(t.Context(), program, sqlstore.WithoutMigration()); !errors.Is(err, sqlstore.ErrSchema) {
		t.Errorf("before the migration: %v", err)
	}
	s := testenv.Value(migrateAndOpenMySQL(t.Context(), as("deploy", mysqltest.URL(dsn)), program))(t)
	ctx := t.Context()
	testenv.Must(t, s.SaveThread(ctx, operateThread))
	it := testenv.Value(chat.NewItem("msg_1", operateThread.CreatedAt, chat.UserMessage{}))(t)
	testenv.Must(t, s.AddThreadItem(ctx, "thr_1", it))
	testenv.Must(t, errors.Join(s.DeleteThreadItem(ctx, "thr_1", "msg_1"), s.DeleteThread(ctx, "thr_1"), s.CheckHealth(ctx)))
	_ = testenv.Value(s.EraseOwner(ctx, chat.Owner{Subject: "ada"}))(t)
	testenv.Must(t, s.Close())
	for _, c := range testenv.Value(sqlstore.Diagnose(ctx, program))(t).Checks {
		if c.Result == "FAIL" {
			t.Errorf("%s: %s", c.Name, c.Text)
		}
	}
}

// A dump is one state beside writers. Where it is restored, the epoch of the versions is another.
func mysqlBackup(t *testing.T, srv *mysqltest.Server) {
	dump, restore := testenv.Program(t, "mariadb-dump", "mariadb-client"), testenv.Program(t, "mariadb", "mariadb-client")
	from, file := srv.DSN(t), filepath.Join(t.TempDir(), "chat.sql")
	c := testenv.Value(mysql.ParseDSN(from))(t)
	ctx := t.Context()
	s := testenv.Value(sqlstore.OpenMySQL(ctx, from))(t)
	defer func() { testenv.Must(t, s.Close()) }()
	testenv.Must(t, s.SaveThread(ctx, operateThread))
	before, versions, err := s.ThreadVersions(ctx, []string{"thr_1"})
	testenv.Must(t, err)
	run(t, exec.Command(dump, "--single-transaction", "--hex-blob", "--socket="+c.Addr, "--user=chat", "--result-file="+file, c.DBName))
	testenv.Must(t, s.SaveThread(ctx, operateThread))
	cmd := exec.Command(restore, "--socket="+c.Addr, "--user=chat", c.DBName)
	cmd.Stdin = testenv.Value(os.Open(file))(t)
	mysqltest.Await(t, srv.Admin(t, from), "SELECT min(create_time) < now() - INTERVAL 1 SECOND FROM information_schema.tables WHERE table_schema = database()")
	run(t, cmd)
	after, restored, err := s.ThreadVersions(ctx, []string{"thr_1"})
	testenv.Must(t, err)
	if before == after || restored[0] != versions[0] {
		t.Errorf("the epochs are %q and %q, the versions %d and %d", before, after, versions, restored)
	}
}

// What is larger than max_allowed_packet, as the text of a statement, is refused, and the store goes on.
func mysqlPackets(t *testing.T, srv *mysqltest.Server) {
	ctx := t.Context()
	s := testenv.Value(sqlstore.OpenMySQL(ctx, srv.DSN(t)))(t)
	testenv.Must(t, s.SaveThread(ctx, operateThread))
	save := func(id, text string) error {
		body := chat.UserMessage{Content: []chat.UserContent{{Text: text}}}
		return s.AddThreadItem(ctx, "thr_1", testenv.Value(chat.NewItem(id, operateThread.CreatedAt, body))(t))
	}
	testenv.Must(t, save("msg_1", strings.Repeat("x", packet*9/10)))
	testenv.Must(t, save("msg_2", strings.Repeat(`"`, packet*9/10/4)))
	for id, text := range map[string]string{"msg_3": strings.Repeat("x", packet), "msg_4": strings.Repeat(`"`, packet/4)} {
		if err := save(id, text); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), id) {
			t.Errorf("%s: %v", id, err)
		}
	}
	testenv.Must(t, errors.Join(s.CheckHealth(ctx), s.Close()))
}

// A migration that was interrupted goes on with the next call.
func mysqlInterrupted(t *testing.T, srv *mysqltest.Server) {
	dsn, ctx := srv.DSN(t), t.Context()
	testenv.Must(t, sqlstore.MigrateMySQL(ctx, dsn))
	srv.Exec(t, dsn, "DROP TABLE chatstore_attachments, chatstore_grants; DELETE FROM chatstore_migrations") // as if
	if _, err := sqlstore.OpenMySQL(ctx, dsn, sqlstore.WithoutMigration()); !errors.Is(err, sqlstore.ErrSchema) {
		t.Errorf("opened in the middle of a migration: %v", err)
	}
	s := testenv.Value(migrateAndOpenMySQL(ctx, dsn, dsn))(t)
	testenv.Must(t, errors.Join(s.SaveThread(ctx, operateThread), s.DeleteThread(ctx, "thr_1"), s.Close()))
}

// killed saves threads with several writers, and kills the server between two answers. It returns those whose save was acknowledged.
func killed(t *testing.T, s *sqlstore.Store, srv *mysqltest.Server) (acknowledged []string) {
	after := 300
	if testenv.Full {
		after = 3000
	}
	var (
		mu  sync.Mutex
		all sync.WaitGroup
	)
	for writer := range 8 {
		all.Go(func() {
			for n := 0; ; n++ {
				thread := operateThread
				thread.ID = fmt.Sprintf("thr_%d_%d", writer, n)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				err := s.SaveThread(ctx, thread)
				cancel()
				if err != nil {
					return
				}
				mu.Lock()
				if acknowledged = append(acknowledged, thread.ID); len(acknowledged) == after {
					srv.Kill(t)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return acknowledged
}

// lost counts the threads that are not there.
func lost(t *testing.T, s *sqlstore.Store, ids []string) (n int) {
	t.Helper()
	for _, id := range ids {
		if _, err := s.LoadThread(t.Context(), id); errors.Is(err, store.ErrNotFound) {
			n++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// TestWhatAKilledMariaDBLoses kills a server with each innodb_flush_log_at_trx_commit, and unless testenv.Full with one of them.
func TestWhatAKilledMariaDBLoses(t *testing.T) {
	settings := map[string]bool{"2": false}
	if testenv.Full {
		settings = map[string]bool{"1": false, "2": false, "0": true}
	}
	for flush, mayLose := range settings {
		srv := mysqltest.Start(t, "--innodb-flush-log-at-trx-commit="+flush)
		s := testenv.Value(sqlstore.OpenMySQL(t.Context(), srv.DSN(t), sqlstore.WithRetryFor(time.Second)))(t)
		acknowledged := killed(t, s, srv)
		srv.Restart(t, 0)
		n := lost(t, s, acknowledged)
		t.Logf("innodb_flush_log_at_trx_commit=%s: %d of %d acknowledged writes are lost", flush, n, len(acknowledged))
		if !mayLose && n > 0 {
			t.Errorf("innodb_flush_log_at_trx_commit=%s: lost %d", flush, n)
		}
		_ = s.Close() // the pool of a killed server may fail to close
	}
}

// replicated starts a primary and a semi-synchronous replica, and returns a URL of both.
func replicated(t *testing.T, patience time.Duration) (primary, replica *mysqltest.Server, url string) {
	primary = mysqltest.Start(t, "--log-bin", "--server-id=1", "--rpl-semi-sync-master-wait-point=AFTER_SYNC",
		fmt.Sprint("--rpl-semi-sync-master-timeout=", patience.Milliseconds()))
	replica = mysqltest.Start(t, "--log-bin", "--server-id=2", "--read-only=ON", "--rpl-semi-sync-slave-enabled=ON")
	primary.Exec(t, "", "CREATE USER copier; GRANT REPLICATION SLAVE ON *.* TO copier")
	admin, begin := primary.Admin(t, ""), ""
	testenv.Must(t, admin.QueryRowContext(t.Context(), "SELECT @@gtid_current_pos").Scan(&begin))
	dsn := primary.DSN(t)
	at := testenv.Value(mysql.ParseDSN(primary.TCP(dsn)))(t)
	host, port, _ := strings.Cut(at.Addr, ":")
	primary.Exec(t, "", "SET GLOBAL rpl_semi_sync_master_enabled = ON") // before, it would wait for a replica
	replica.Exec(t, "", fmt.Sprintf("SET GLOBAL gtid_slave_pos = '%s'; CHANGE MASTER TO master_host = '%s', master_port = %s, master_user = 'copier', "+
		"master_use_gtid = slave_pos; START SLAVE", begin, host, port))
	semiSynchronous(t, primary, "ON")
	other := testenv.Value(mysql.ParseDSN(replica.TCP(dsn)))(t)
	return primary, replica, "mysql://chat@" + at.Addr + "," + other.Addr + "/" + at.DBName
}

// semiSynchronous waits until commits wait for the replica, or do not.
func semiSynchronous(t *testing.T, primary *mysqltest.Server, want string) {
	t.Helper()
	mysqltest.Await(t, primary.Admin(t, ""),
		"SELECT variable_value = ? FROM information_schema.global_status WHERE variable_name = 'rpl_semi_sync_master_status'", want)
}

// promote lets a replica whose primary is gone apply what it has received, and take writes.
func promote(t *testing.T, replica *mysqltest.Server) {
	t.Helper()
	replica.Exec(t, "", "STOP SLAVE IO_THREAD")
	rows := testenv.Value(replica.Admin(t, "").Query("SHOW SLAVE STATUS"))(t)
	defer func() { testenv.Must(t, rows.Close()) }()
	names := testenv.Value(rows.Columns())(t)
	values, into := make([]sql.NullString, len(names)), make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	rows.Next()
	testenv.Must(t, errors.Join(rows.Scan(into...), rows.Err()))
	received := values[slices.Index(names, "Gtid_IO_Pos")].String
	mysqltest.Await(t, replica.Admin(t, ""), "SELECT master_gtid_wait(?) = 0", received)
	replica.Exec(t, "", "STOP SLAVE; SET GLOBAL read_only = OFF")
}

// TestASemiSynchronousFailoverOfMariaDBLosesNothing kills a primary under load. The store goes on with the replica.
func TestASemiSynchronousFailoverOfMariaDBLosesNothing(t *testing.T) {
	primary, replica, url := replicated(t, time.Hour)
	s := testenv.Value(sqlstore.OpenMySQL(t.Context(), url, sqlstore.WithRetryFor(0)))(t)
	acknowledged := killed(t, s, primary)
	_ = s.Close() // the pool of a killed server may fail to close
	promote(t, replica)
	s = testenv.Value(sqlstore.OpenMySQL(t.Context(), url))(t)
	if n := lost(t, s, acknowledged); n > 0 {
		t.Errorf("%d of %d acknowledged writes are lost", n, len(acknowledged))
	}
	t.Logf("%d acknowledged", len(acknowledged))
	testenv.Must(t, s.Close())
}

// TestWhatAFailoverOfMariaDBLoses kills a primary that has gone on without its replica, and lets the store find the replica.
func TestWhatAFailoverOfMariaDBLoses(t *testing.T) {
	ctx := t.Context()
	primary, replica, url := replicated(t, 100*time.Millisecond)
	s := testenv.Value(sqlstore.OpenMySQL(ctx, url, sqlstore.WithRetryFor(time.Minute)))(t)
	save := func(id string) {
		t.Helper()
		thread := operateThread
		thread.ID = id
		testenv.Must(t, s.SaveThread(ctx, thread))
	}
	save("thr_replicated")
	var position string
	testenv.Must(t, primary.Admin(t, "").QueryRowContext(ctx, "SELECT @@gtid_current_pos").Scan(&position))
	mysqltest.Await(t, replica.Admin(t, ""), "SELECT master_gtid_wait(?) = 0", position) // a slow primary has not waited for it
	before, _, err := s.ThreadVersions(ctx, nil)
	testenv.Must(t, err)
	replica.Exec(t, "", "STOP SLAVE IO_THREAD")
	save("thr_late") // waits for 100 ms
	semiSynchronous(t, primary, "OFF")
	primary.Kill(t)
	promote(t, replica)
	if n := lost(t, s, []string{"thr_replicated"}); n > 0 {
		t.Error("what the replica had acknowledged is lost")
	}
	if n := lost(t, s, []string{"thr_late"}); n != 1 {
		t.Error("the replica has what it cannot have")
	}
	after, _, err := s.ThreadVersions(ctx, nil)
	testenv.Must(t, err)
	if before == after {
		t.Error("the epoch is the same at another server")
	}
	save("thr_new")
	_ = s.Close() // the pool of a killed server may fail to close
}
