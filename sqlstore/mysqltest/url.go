package mysqltest

import (
	"net/url"

	"github.com/go-sql-driver/mysql"

	"github.com/chatstore/chatstore/internal/testenv"
)

// URL returns the form of a DSN that sqlstore.Open takes.
func URL(dsn string) string {
	c := testenv.OrPanic(mysql.ParseDSN(dsn))
	u := url.URL{Scheme: "mysql", User: url.User(c.User), Host: c.Addr, Path: "/" + c.DBName}
	if c.Net == "unix" {
		u.Host, u.RawQuery = "localhost", "socket="+c.Addr
	}
	return u.String()
}
