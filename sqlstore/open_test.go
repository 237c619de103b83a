package sqlstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/go-sql-driver/mysql"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
)

func TestOpenTakesEachForm(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "chat.db")
	for _, tt := range []struct{ url, name, redacted string }{
		{"sqlite:" + file, "sqlite", "sqlite:" + file},
		{"sqlite://" + file, "sqlite", "sqlite:" + file},
		{"sqlite::memory:", "sqlite", "sqlite::memory:"},
	} {
		s, err := sqlstore.Open(t.Context(), tt.url)
		if err != nil {
			t.Fatalf("%s: %v", tt.url, err)
		}
		if got := s.LayerName(); got != tt.name {
			t.Errorf("%s opens %s", tt.url, got)
		}
		if got := sqlstore.Redacted(tt.url); got != tt.redacted {
			t.Errorf("Redacted(%s) = %s", tt.url, got)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		dsn := pgtest.Shared(t).DSN(t)
		settings := "?" + strings.ReplaceAll(dsn, " ", "&")
		for _, url := range []string{"postgres:///" + settings, "postgresql:///" + settings, dsn} {
			s, err := sqlstore.Open(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.LayerName(); got != "postgres" {
				t.Errorf("%s opens %s", url, got)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("mariadb", func(t *testing.T) {
		t.Parallel()
		server := mysqltest.Shared(t)
		socket := mysqlURL(t, server.DSN(t))
		tcp := mysqlURL(t, server.TCP(server.DSN(t)))
		for _, url := range []string{socket, tcp, strings.Replace(tcp, "mysql", "mariadb", 1), strings.Replace(tcp, "@", "@127.0.0.1:1,", 1) + "?timeout=9s&charset=utf8mb4,utf8"} {
			s := closing(t)(sqlstore.Open(t.Context(), url))
			if got := s.LayerName(); got != "mysql" {
				t.Errorf("%s opens %s", url, got)
			}
			plain := strings.Replace(regexp.MustCompile(`:[^:@/]*@`).ReplaceAllString(url, "@"), "mariadb", "mysql", 1)
			if got := sqlstore.Redacted(url); got != strings.TrimSuffix(plain, "?timeout=9s&charset=utf8mb4,utf8") {
				t.Errorf("Redacted(%s) = %s", url, got)
			}
		}
	})
}

// mysqlURL returns the URL for a DSN of the driver.
func mysqlURL(t testing.TB, dsn string) string {
	c := get[*mysql.Config](t)(mysql.ParseDSN(dsn))
	u := url.URL{Scheme: "mysql", User: url.UserPassword(c.User, c.Passwd), Host: c.Addr, Path: "/" + c.DBName}
	if c.Net == "unix" {
		u.Host, u.RawQuery = "localhost", "socket="+c.Addr
	}
	return u.String()
}

func TestOpenRefusesOtherTextsAndNamesTheForms(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "chat.db", "sqlite:", "sqlite://chat.db", "sqlite:chat.db?mode=ro", "/var/lib/chat.db",
		"postgres:/h/db", "POSTGRES://u:s3cret@h/db", "sqlite3:chat.db"} {
		_, err := sqlstore.Open(t.Context(), url)
		if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "sqlite:") {
			t.Errorf("%q: %v", url, err)
		}
		if got := sqlstore.Redacted(url); got != "(not a database URL)" {
			t.Errorf("Redacted(%q) = %s", url, got)
		}
	}
}

func TestOpenWithoutMigrationCreatesNoFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "chat.db")
	_, err := sqlstore.Open(t.Context(), "sqlite:"+file, sqlstore.WithoutMigration())
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("got %v", err)
	}
	if _, err := sqlstore.Diagnose(t.Context(), "sqlite:"+file); err != nil {
		t.Error(err)
	}
	if files, _ := os.ReadDir(filepath.Dir(file)); len(files) > 0 {
		t.Errorf("the folder has %v", files)
	}
}

// Each text has the password s3cret somewhere. The server repeats what it was sent.
func TestNoErrorContainsThePassword(t *testing.T) {
	t.Parallel()
	host := pgtest.Refusing(t)
	name, port, _ := net.SplitHostPort(host)
	maria := get[*mysql.Config](t)(mysql.ParseDSN(mysqltest.Shared(t).TCP(mysqltest.Shared(t).DSN(t)))).Addr
	for _, url := range []string{
		"postgres://u:s3cret@" + host + "/db?sslmode=disable",
		"postgres://u@" + host + "/db?sslmode=disable&password=s3cret",
		"postgres://" + host + "/db?sslmode=disable&user=u&password=s3cret",
		"postgres://:s3cret@" + host + "/s?sslmode=disable",
		"host=" + name + " port=" + port + " user=u password=s3cret sslmode=disable",
		"host=" + name + " port=" + port + " user=u password='s3cret' sslmode=disable",
		"host=" + name + " port=" + port + ` user=u password='it\'s s3cret' sslmode=disable`,
		"host=" + name + " port=" + port + " user=u password = s3cret sslmode=disable",
		"host=" + name + " port=" + port + " user=u sslmode=disable password='s3cret",
		"host=" + name + " port=" + port + " password='a' s3cret sslmode=disable",
		"postgres://u:s3cret@127.0.0.1:1/db",
		"postgres://u:s3cret@127.0.0.1:1,127.0.0.1:2/db",
		"postgres://u:s3cret@no.such.host.invalid/db",
		"postgres://u:12/s3cret@" + host + "/db?sslmode=disable", // not encoded
		"postgres://127.0.0.1:1/s3cret@" + host + "/db?sslmode=disable",
		"postgres://127.0.0.1:1?s3cret@" + host + "/db",
		"postgres://127.0.0.1:1#s3cret@" + host + "/db",
		"postgres://u:s3cret/x@" + host + "/db",
		"postgres://u:s3cret%zz@" + host + "/db",
		"postgres://u:s3cret@" + host + "/db?sslmode=nonsense",
		"postgres://u:s3cret@" + host + ":x/db",
		"postgres://u:s3cret@[::1/db",
		"postgres://u:s3cret@" + host + "/db?connect_timeout=s3cret",
		"postgres://u%3As3cret@" + host + "/db?sslmode=disable",
		"host=u:s3cret@" + name + " port=1 dbname=db",
		"dbname=u:s3cret@" + name + " host=127.0.0.1 port=1",
		"mysql://u:s3cret@127.0.0.1:1/db", "mysql://u:s3cret@127.0.0.1:1,127.0.0.1:2/db", "mysql://u:s3cret@127.0.0.1:1", "mysql://u:s3cret@/db",
		"mysql://u:12/s3cret@127.0.0.1:1/db", "mysql://127.0.0.1:1#s3cret@h/db", "mysql://u:s3cret%zz@127.0.0.1:1/db", "mysql://u:s3cret/x@127.0.0.1:1/db",
		"mysql://u%3As3cret@127.0.0.1:1/db", "mysql://u:s3cret@127.0.0.1:1/db?tls=s3cret", "mysql://u:s3cret@127.0.0.1:1/db?timeout=s3cret",
		"mysql://u:s3cret@127.0.0.1:1/db?socket=/s3cret@x", "mysql://nobody:s3cret@" + maria + "/db", "mysql://chat:@" + maria + "/u:s3cret", "u:s3cret@tcp(127.0.0.1:1)/db",
		"s3cret", "password=s3cret host=127.0.0.1 port=1", " postgres://u:s3cret@h/db", "Postgres://u:s3cret@h/db?x=y",
		"sqlite:postgres://u:s3cret@h/db?x=y",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err := sqlstore.Open(ctx, url, sqlstore.WithRetryFor(0))
		if err == nil {
			t.Fatalf("%s: opened", url)
		}
		d, derr := sqlstore.Diagnose(ctx, url, sqlstore.WithRetryFor(0))
		for e := range chain(err, derr) {
			if text := fmt.Sprintf("%v %+v", e, e); strings.Contains(text, "s3cret") {
				t.Errorf("%s\n\thas the error %s", url, text)
			}
		}
		for _, text := range []string{sqlstore.Redacted(url), fmt.Sprint(d)} {
			if strings.Contains(text, "s3cret") {
				t.Errorf("%s\n\tis shown as %s", url, text)
			}
		}
		cancel()
	}
}

// chain returns the errors and all that they wrap.
func chain(errs ...error) func(func(error) bool) {
	return func(yield func(error) bool) {
		for queue := errs; len(queue) > 0; queue = queue[1:] {
			if queue[0] == nil {
				continue
			}
			if !yield(queue[0]) {
				return
			}
			switch e := queue[0].(type) {
			case interface{ Unwrap() error }:
				queue = append(queue, e.Unwrap())
			case interface{ Unwrap() []error }:
				queue = append(queue, e.Unwrap()...)
			}
		}
	}
}

func TestTheErrorOfOpenSaysWhy(t *testing.T) {
	t.Parallel()
	c := get[*mysql.Config](t)(mysql.ParseDSN(mysqltest.Shared(t).TCP(mysqltest.Shared(t).DSN(t))))
	maria, password := c.Addr, c.Passwd
	for url, want := range map[string]string{
		"postgres://u:p@" + pgtest.Refusing(t) + "/db?sslmode=disable": "refused the user or the password",
		"postgres://u@127.0.0.1:1/db":                                  "connection refused",
		"mysql://u@127.0.0.1:1,127.0.0.1:2/db":                         "connection refused",
		"mysql://nobody:p@" + maria + "/db":                            "refused the user or the password",
		"mysql://chat:" + password + "@" + maria + "/chat_nowhere":     "lacks a right",
	} {
		if _, err := sqlstore.Open(t.Context(), url, sqlstore.WithRetryFor(0)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestSizeCountsAllRows(t *testing.T) {
	t.Parallel()
	eachOpened(t, func(t *testing.T, s *sqlstore.Store, _ string) {
		ada := chat.Owner{Tenant: "acme", Subject: "ada"}
		for n := range 5 {
			id := fmt.Sprint("thr_", n)
			must(t, s.SaveThread(t.Context(), chat.Thread{ID: id, CreatedAt: time.Now(), Owner: ada}))
			it := get[chat.Item](t)(chat.NewItem(fmt.Sprint("msg_", n), time.Now(), chat.UserMessage{}))
			must(t, s.AddThreadItem(t.Context(), id, it))
		}
		must(t, s.DeleteThread(t.Context(), "thr_0"))
		z, err := s.Size(t.Context())
		if want := (sqlstore.Size{Schema: z.Schema, Threads: 4, Items: 4, Deleted: 1, Bytes: z.Bytes}); err != nil || z != want || z.Schema < 1 || z.Bytes < 4096 {
			t.Errorf("got %+v, %v", z, err)
		}
		if _, err := s.EraseOwner(t.Context(), ada); err != nil {
			t.Fatal(err)
		}
		z, err = s.Size(t.Context())
		if want := (sqlstore.Size{Schema: z.Schema, Erased: 5, Bytes: z.Bytes}); err != nil || z != want {
			t.Errorf("after erasing: %+v, %v", z, err)
		}
	})
}

func TestDiagnoseFindsNothingWrong(t *testing.T) {
	t.Parallel()
	eachOpened(t, func(t *testing.T, s *sqlstore.Store, url string) {
		d, err := sqlstore.Diagnose(t.Context(), url)
		if err != nil || d.Schema != d.Needed || len(d.Checks) != 7 {
			t.Fatalf("got %+v, %v", d, err)
		}
		for _, c := range d.Checks {
			if c.Result != "ok" && s.LayerName()+" "+c.Name != "sqlite clock" && s.LayerName()+" "+c.Name != "mysql triggers" {
				t.Errorf("%+v", c)
			}
		}
	})
}

// "ENABLE ALWAYS" is stricter than what a migration makes.
func TestATriggerThatAlwaysFiresIsOn(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	dsn := server.DSN(t)
	must(t, sqlstore.MigratePostgres(t.Context(), dsn))
	server.Exec(t, dsn, "ALTER TABLE chatstore_threads ENABLE ALWAYS TRIGGER chatstore_end_grants")
	if d, err := sqlstore.Diagnose(t.Context(), dsn); err != nil || d.Checks[5].Result != "ok" {
		t.Errorf("got %+v, %v", d, err)
	}
}

func TestDiagnoseLeavesAnotherProgramsFileAsItIs(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "other.db")
	conn := get[*sqlite.Conn](t)(sqlite.OpenConn(file, sqlite.OpenReadWrite|sqlite.OpenCreate))
	must(t, sqlitex.ExecuteTransient(conn, "CREATE TABLE u (x)", nil))
	must(t, conn.Close())
	before := get[[]byte](t)(os.ReadFile(file))
	if d, err := sqlstore.Diagnose(t.Context(), "sqlite:"+file); err != nil || d.Schema != 0 {
		t.Errorf("got %+v, %v", d, err)
	}
	if _, err := sqlstore.Open(t.Context(), "sqlite:"+file, sqlstore.WithoutMigration()); !errors.Is(err, sqlstore.ErrSchema) {
		t.Errorf("got %v", err)
	}
	if after := get[[]byte](t)(os.ReadFile(file)); !bytes.Equal(before, after) {
		t.Error("the file has changed")
	}
}

func TestDiagnoseFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	for _, tt := range []struct{ name, fault, check, text string }{
		{"an older schema", "DELETE FROM chatstore_migrations WHERE version_id = 4", "schema", "has version 3"},
		{"a missing trigger", "DROP TRIGGER chatstore_end_grants ON chatstore_threads", "triggers", "grants"},
		{"a disabled trigger", "ALTER TABLE chatstore_threads DISABLE TRIGGER chatstore_end_grants", "triggers", "grants"},
		{"a half of the announcements", "ALTER TABLE chatstore_items ENABLE TRIGGER chatstore_notify_delete", "triggers", "1 are on and 11 off"},
		{"a missing right", "REVOKE DELETE ON chatstore_items FROM chat", "permissions", `may not DELETE chatstore_items`},
		{"a missing table", "DROP TABLE chatstore_grants CASCADE", "permissions", `the table chatstore_grants is missing`},
		{"a missing right and a missing table", "DROP TABLE chatstore_grants CASCADE; REVOKE DELETE ON chatstore_items FROM chat", "permissions",
			`may not DELETE chatstore_items; the table chatstore_grants is missing`},
		{"a log that cannot be read", "REVOKE SELECT ON chatstore_migrations FROM chat", "schema", `may not read chatstore_migrations`},
		{"a schema that cannot be used", "REVOKE USAGE ON SCHEMA public FROM PUBLIC, chat", "schema", `may not use the schema "public"`},
		{"a database that is read-only", "ALTER ROLE chat SET default_transaction_read_only = on", "health", "the database is read-only"},
		{"a missing right to update", "REVOKE UPDATE ON chatstore_grants FROM chat", "permissions", `may not UPDATE chatstore_grants`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dsn := server.DSN(t)
			must(t, sqlstore.MigratePostgres(t.Context(), dsn))
			if strings.HasSuffix(tt.fault, "chat") || strings.Contains(tt.fault, "ROLE chat") { // the superuser may do all
				role := "r" + strings.ToLower(fmt.Sprint(time.Now().UnixNano()))
				server.Exec(t, dsn, "CREATE ROLE "+role+" LOGIN")
				server.Exec(t, dsn, "GRANT ALL ON ALL TABLES IN SCHEMA public TO "+role)
				admin := dsn
				t.Cleanup(func() { server.Exec(t, admin, "DROP OWNED BY "+role) })
				tt.fault = strings.NewReplacer("FROM chat", "FROM "+role, "PUBLIC, chat", "PUBLIC, "+role, "ROLE chat", "ROLE "+role).Replace(tt.fault)
				server.Exec(t, dsn, tt.fault)
				dsn = strings.Replace(dsn, "user=chat", "user="+role, 1)
			} else {
				server.Exec(t, dsn, tt.fault)
			}
			d, err := sqlstore.Diagnose(t.Context(), dsn)
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, c := range d.Checks {
				if c.Name == tt.check {
					found = c.Result == "FAIL" && strings.Contains(c.Text, tt.text)
				} else if c.Result == "FAIL" && !strings.Contains(c.Text, "read-only") {
					t.Errorf("also %+v", c)
				}
			}
			if !found {
				t.Errorf("got %+v", d)
			}
		})
	}
}

// eachOpened runs f with a Store of each engine.
func eachOpened(t *testing.T, f func(t *testing.T, s *sqlstore.Store, url string)) {
	for _, name := range []string{"sqlite", "postgres", "mariadb"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := "sqlite:" + filepath.Join(t.TempDir(), "chat.db")
			switch name {
			case "postgres":
				url = pgtest.Shared(t).DSN(t)
			case "mariadb":
				url = mysqlURL(t, mysqltest.Shared(t).DSN(t))
			}
			s := get[*sqlstore.Store](t)(sqlstore.Open(t.Context(), url))
			t.Cleanup(func() { must(t, s.Close()) })
			f(t, s, url)
		})
	}
}

func TestAnUnencodedPasswordIsExplained(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"postgres://u:12/s3cret@127.0.0.1:1/db", "postgres://u:1?s@127.0.0.1:1/db", "postgres://u:1#s@127.0.0.1:1/db"} {
		if _, err := sqlstore.Open(t.Context(), url, sqlstore.WithRetryFor(0)); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "%2F") {
			t.Errorf("%s: %v", url, err)
		}
	}
}
