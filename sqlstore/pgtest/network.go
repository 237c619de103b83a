package pgtest

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

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

// LoseCancels is for [Network.Do]: no request to cancel a statement reaches the server. After a broken connection pgx sends one. A
// client that was killed does not.
func LoseCancels(sent []byte) Action {
	const code = 80877102
	if len(sent) >= 8 && binary.BigEndian.Uint32(sent[4:]) == code {
		return Break
	}
	return Pass
}

// NewNetwork returns a network to the server of dsn, until the test ends.
func NewNetwork(t testing.TB, dsn string) *Network {
	t.Helper()
	p := proxy.New(t)
	settings := []string{"host=" + p.Addr.IP.String(), fmt.Sprintf("port=%d", p.Addr.Port), "sslmode=disable"}
	n := &Network{DSN: moved(dsn, settings...), Direct: dsn, Proxy: p}
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
	c := testenv.Value(pgconn.ParseConfig(dsn))(t)
	n.Proxy.Lead(pgconn.NetworkAddress(c.Host, c.Port))
}
