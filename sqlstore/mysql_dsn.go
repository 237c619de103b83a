package sqlstore

import (
	"errors"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"
)

var errMySQLDSN = invalid("dsn: cannot be parsed: use mysql://USER:PASSWORD@HOST:PORT/DATABASE, or the driver's form USER:PASSWORD@tcp(HOST:PORT)/DATABASE")

// mysqlHostsIn finds the hosts in the driver's form of a DSN.
var mysqlHostsIn = regexp.MustCompile(`tcp6?\(([^()]*,[^()]*)\)(/[^/]*)$`)

// mysqlDSN parses a DSN, and returns the addresses of its hosts. Its errors do not contain the DSN, which may have a password.
func mysqlDSN(dsn string) (c *mysql.Config, addrs []string, err error) {
	scheme, text, isURL := strings.Cut(dsn, "://")
	if isURL && schemes[scheme] == "mysql" { // package net/url takes no port with several hosts
		text, query, _ := strings.Cut(text, "?")
		user, rest := "", text
		if at := strings.LastIndex(text, "@"); at >= 0 {
			user, rest = text[:at], text[at+1:]
		}
		name, password, _ := strings.Cut(user, ":")
		hosts, database, _ := strings.Cut(rest, "/")
		name, err1 := url.PathUnescape(name)
		password, err2 := url.PathUnescape(password)
		params, err3 := url.ParseQuery(query)
		socket := params.Get("socket")
		others := slices.DeleteFunc(strings.Split(query, "&"), func(p string) bool { return strings.HasPrefix(p, "socket=") })
		c, err4 := mysql.ParseDSN("/" + database + "?" + strings.Join(others, "&")) // as they are: the driver decodes some of them
		if errors.Join(err1, err2, err3, err4) != nil || strings.ContainsRune(rest, '#') {
			return nil, nil, errMySQLDSN
		}
		c.User, c.Passwd = name, password
		if socket != "" {
			c.Net, addrs = "unix", []string{socket}
		} else if addrs, err = withPorts(hosts); err != nil {
			return nil, nil, err
		}
		return named(c, addrs)
	}
	if m := mysqlHostsIn.FindStringSubmatchIndex(dsn); m != nil {
		if addrs, err = withPorts(dsn[m[2]:m[3]]); err != nil {
			return nil, nil, err
		}
		dsn = dsn[:m[2]] + addrs[0] + dsn[m[3]:]
	}
	if c, err = mysql.ParseDSN(dsn); err != nil {
		return nil, nil, errMySQLDSN
	}
	if addrs == nil {
		addrs = []string{c.Addr}
	}
	return named(c, addrs)
}

// named refuses a DSN without a database: a server has no default.
func named(c *mysql.Config, addrs []string) (*mysql.Config, []string, error) {
	if c.DBName == "" {
		return nil, nil, errMySQLDSN
	}
	return c, addrs, nil
}

// redactedMySQL returns a URL without a password and without parameters.
func redactedMySQL(dsn string) string {
	c, addrs, err := mysqlDSN(dsn)
	if err != nil || strings.ContainsAny(c.User+c.DBName, ":@") {
		return "mysql://…" // a password may be in the wrong place
	}
	u := url.URL{Scheme: "mysql", Host: strings.Join(addrs, ","), Path: "/" + c.DBName}
	if c.Net == "unix" {
		u.Host, u.RawQuery = "localhost", "socket="+addrs[0]
	}
	if c.User != "" {
		u.User = url.User(c.User)
	}
	return u.String()
}

// withPorts returns the addresses of hosts, which may lack the port.
func withPorts(hosts string) (addrs []string, err error) {
	for host := range strings.SplitSeq(hosts, ",") {
		name, port, err := net.SplitHostPort(host)
		if err != nil {
			if name, port = host, "3306"; strings.HasSuffix(host, "]") {
				name = strings.TrimPrefix(strings.TrimSuffix(host, "]"), "[")
			}
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil || name == "" || strings.ContainsAny(name, "[] ") {
			return nil, errMySQLDSN
		}
		addrs = append(addrs, net.JoinHostPort(name, port))
	}
	return addrs, nil
}
