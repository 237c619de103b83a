package mysqltest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/chatstore/chatstore/internal/testenv"
)

// DSN returns the data source name of a new database. It leads through the server's unix socket.
func (s *Server) DSN(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", next.Add(1))
	testenv.Must(t, s.exec("", "CREATE DATABASE "+name))
	return s.Same("chat@/" + name)
}

// Same returns the data source name at this server of the database that dsn names at another one.
func (s *Server) Same(dsn string) string { return moved(dsn, "unix", s.socket()) }

// TCP returns the data source name at this server's TCP port of the database that dsn names.
func (s *Server) TCP(dsn string) string { return moved(dsn, "tcp", s.address(0)) }

// moved returns a DSN with another address of the server.
func moved(dsn, network, address string) string {
	c := testenv.OrPanic(mysql.ParseDSN(dsn))
	c.Net, c.Addr = network, address
	return c.FormatDSN()
}

// Admin returns a pool of root's connections to the database that dsn names, or with "" to none. It is closed when the test ends.
func (s *Server) Admin(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db := testenv.Value(s.admin(dsn))(t)
	t.Cleanup(func() { _ = db.Close() }) // it fails if the server was killed meanwhile
	return db
}

func (s *Server) admin(dsn string) (*sql.DB, error) {
	c, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	c.User, c.Passwd, c.Net, c.Addr = "root", "", "unix", s.socket()
	c.MultiStatements, c.InterpolateParams = true, true
	return sql.Open("mysql", c.FormatDSN())
}

// Exec executes statements as root in the database that dsn names, or with "" in none, outside of any Store.
func (s *Server) Exec(t testing.TB, dsn, text string, args ...any) {
	t.Helper()
	testenv.Must(t, s.exec(dsn, text, args...))
}

func (s *Server) exec(dsn, text string, args ...any) error {
	db, err := s.admin(dsn)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	_, err = db.Exec(text, args...)
	return err
}

// Await waits until a query for one boolean, such as SELECT count(*) = 2 FROM information_schema.processlist, returns true. It fails
// the test after a minute.
func Await(t testing.TB, db *sql.DB, query string, args ...any) {
	t.Helper()
	testenv.Must(t, await(db, query, args...))
}

func await(db *sql.DB, query string, args ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for done := false; !done; time.Sleep(2 * time.Millisecond) { // spares the processor
		if err := db.QueryRowContext(ctx, query, args...).Scan(&done); err != nil && !errors.Is(err, mysql.ErrInvalidConn) { // a node that joins may close it
			return fmt.Errorf("%s: %w", query, err)
		}
	}
	return nil
}
