package sqlstore

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
	"syscall"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/chatstore/chatstore/store"
)

// Open opens the database that a text names, such as a flag of a program:
//
//	sqlite:chat.db  sqlite:/var/lib/chat.db  sqlite:///var/lib/chat.db  sqlite::memory:
//	postgres://chat@db.internal/chat  postgresql://…
//	host=db.internal dbname=chat user=chat
//	mysql://chat@db.internal/chat  mysql://chat@db1.internal,db2.internal/chat  mariadb://…
//
// A path of SQLite is taken as it is, and has no parameters. Keywords are PostgreSQL's: see [OpenPostgres]. For MySQL and MariaDB see
// [OpenMySQL]. The characters / ? # and @ of a password are percent-encoded in a URL. Any other text is [store.ErrInvalid].
//
// With [WithoutMigration], Open does not create a missing SQLite file: that is [store.ErrUnavailable]. The text of an error says
// why the database cannot be opened. No error contains the URL or the password; [Redacted] is for messages.
func Open(ctx context.Context, url string, opts ...Option) (*Store, error) {
	cfg, err := configured(opts)
	if err != nil {
		return nil, err
	}
	e, err := engineOf(ctx, url, cfg)
	if err != nil {
		return nil, err
	}
	s, err := open(ctx, cfg, e)
	if f, ok := errors.AsType[*store.Error](err); ok && f.Field == cannotOpen {
		f.Field += ": " + cmp.Or(Reason(f.Cause), "the server cannot be reached")
		if e.name() != "sqlite" {
			f.Cause = nil // the driver's texts contain parts of what was typed
		}
	}
	return s, err
}

const noFile = ": the file does not exist"

// engineOf returns the engine for the database that a text names. It connects to nothing.
func engineOf(ctx context.Context, url string, cfg config) (engine, error) {
	kind, rest, err := placeOf(url)
	switch {
	case err != nil:
		return nil, err
	case kind == "postgres":
		return newPostgres(ctx, rest, cfg)
	case kind == "mysql":
		return newMySQL(rest, cfg)
	}
	if cfg.unmigrated && rest != ":memory:" {
		if _, err := os.Stat(rest); errors.Is(err, fs.ErrNotExist) {
			return nil, &store.Error{Code: store.CodeUnavailable, Field: cannotOpen + noFile, Cause: err}
		}
	}
	return newSQLite(rest, cfg)
}

// Redacted returns a form of a database's URL for messages and logs, without a password and without parameters. What [Open] refuses becomes a
// constant text.
func Redacted(text string) string {
	kind, rest, err := placeOf(text)
	switch {
	case err != nil:
		return "(not a database URL)"
	case kind == "sqlite":
		return "sqlite:" + rest
	case kind == "mysql":
		return redactedMySQL(rest)
	}
	c, err := pgconn.ParseConfig(rest)
	if err != nil || strings.ContainsAny(c.User+c.Database, ":") || strings.Contains(c.Host+c.Database, "@") {
		return "postgres://…" // a password may be in the wrong place
	}
	u := url.URL{Scheme: "postgres", User: url.User(c.User), Host: net.JoinHostPort(c.Host, fmt.Sprint(c.Port)), Path: "/" + c.Database}
	if strings.HasPrefix(c.Host, "/") { // the folder of a socket
		u.Host, u.RawQuery = "", "host="+c.Host
	}
	return u.String()
}

// keywords matches the begin of a list of keywords and values.
var keywords = regexp.MustCompile(`^\s*[A-Za-z_]+\s*=`)

// schemes has the engines of URLs.
var schemes = map[string]string{"postgres": "postgres", "postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql"}

// placeOf returns the engine that a text means, and what the engine opens. Its errors are constant: also a text that is no URL may
// contain a password.
func placeOf(text string) (kind, rest string, err error) {
	if path, ok := strings.CutPrefix(text, "sqlite:"); ok {
		if after, ok := strings.CutPrefix(path, "//"); ok {
			path = after
			if !strings.HasPrefix(path, "/") {
				return "", "", invalid("database: sqlite:// needs an absolute path: sqlite:///var/lib/chat.db; a relative one is sqlite:chat.db")
			}
		}
		if path == "" || strings.ContainsAny(path, "?\x00") {
			return "", "", invalid("database: sqlite: needs a path, without parameters, such as sqlite:chat.db")
		}
		return "sqlite", path, nil
	}
	scheme, after, ok := strings.Cut(text, "://")
	if kind := schemes[scheme]; ok && kind != "" {
		// An unencoded / ? or # in a password ends the host. The rest of the password would be the name of a database.
		if i := strings.IndexAny(after, "/?#"); i >= 0 && strings.Contains(after[i:], "@") {
			return "", "", invalid("database: the URL has an @ behind its host: write / ? # and @ as %2F %3F %23 and %40 in the password")
		}
		return kind, text, nil
	}
	if keywords.MatchString(text) {
		return "postgres", text, nil
	}
	return "", "", invalid(`database: use sqlite:PATH, postgres://USER@HOST/NAME, mysql://USER@HOST/NAME, or keywords such as "host=HOST dbname=NAME"`)
}

// Reason says in a few words why a call failed, as far as the driver's error tells, else "". It shows no content and no secret.
func Reason(err error) string {
	// The texts are constant, because a driver's may contain what the user typed.
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pe.Code {
		case "28P01", "28000":
			return "the server refused the user or the password"
		case "3D000":
			return "the server has no such database"
		case "42501":
			return "the role lacks a right"
		case "25006":
			return "the database is read-only"
		case "53300":
			return "the server has too many connections"
		case "57P03":
			return "the server is starting or stopping"
		}
		return "the server answered with SQLSTATE " + pe.Code
	}
	if f, ok := errors.AsType[*sqliteFault](err); ok {
		return f.code.Message()
	}
	if me, ok := errors.AsType[*mysql.MySQLError](err); ok {
		switch me.Number {
		case 1045, 1698:
			return "the server refused the user or the password"
		case 1044, 1142, 1143, 1227:
			return "the user lacks a right"
		case 1049:
			return "the server has no such database"
		case 1290, 1792, 1836:
			return "the database is read-only"
		case 1040, 1203, 1226:
			return "the server has too many connections"
		}
		return fmt.Sprint("the server answered with error ", me.Number)
	}
	_, isDNS := errors.AsType[*net.DNSError](err)
	_, isTLS := errors.AsType[*tls.CertificateVerificationError](err)
	errno, isErrno := errors.AsType[syscall.Errno](err)
	switch {
	case isDNS:
		return "the host is unknown"
	case isTLS:
		return "the server's certificate is not trusted"
	case errors.Is(err, errStandby):
		return "the server is a standby"
	case errors.Is(err, errNotServing):
		return "the server is read-only, or a node that is not ready"
	case isErrno:
		return errno.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	}
	return ""
}
