package mysqltest

import (
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sqlstore/internal/proxy"
)

// Network is a TCP port that forwards to a server. A test can lead it to another server, slow it down, freeze it and cut it.
// It is safe for concurrent use.
type Network struct {
	DSN    string // leads through the network
	Direct string // bypasses it

	*proxy.Proxy
}

// An Action is what happens to a message of a client, and to its connection.
type Action = proxy.Action

// The actions.
const (
	Pass        = proxy.Pass
	Break       = proxy.Break
	BreakAnswer = proxy.BreakAnswer
	LoseAnswer  = proxy.LoseAnswer
	Vanish      = proxy.Vanish
)

// NewNetwork returns a network to the server of dsn, until the test ends.
func NewNetwork(t testing.TB, dsn string) *Network {
	t.Helper()
	p := proxy.New(t)
	n := &Network{DSN: moved(dsn, "tcp", p.Addr.String()), Direct: dsn, Proxy: p}
	n.Lead(t, dsn)
	return n
}

// Lead makes new connections lead to the server of dsn, or with "" nowhere: they break at once. Those that are open stay where
// they are.
func (n *Network) Lead(t testing.TB, dsn string) {
	t.Helper()
	if dsn == "" {
		n.Proxy.Lead("", "")
		return
	}
	c := testenv.Value(mysql.ParseDSN(dsn))(t)
	n.Proxy.Lead(c.Net, c.Addr)
}
