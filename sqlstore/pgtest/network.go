package pgtest

import (
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/chatstore/chatstore/internal/testenv"
)

// Network is a TCP port that forwards to a server. A test can lead it to another server, slow it down, freeze it and cut it.
// It is safe for concurrent use.
type Network struct {
	DSN    string // leads through the network
	Direct string // bypasses it

	mu               sync.Mutex
	network, address string // of the server
	on               func(sent []byte) Action
	delay            time.Duration
	frozen           chan struct{} // closed by Thaw; nil if not frozen
	links            map[*link]bool
}

// An Action is what happens to a message of a client, and to its connection.
type Action int

// The actions.
const (
	Pass        Action = iota
	Break              // break the connection and do not pass the message on
	BreakAnswer        // pass it on, and break the connection when the answer comes
	LoseAnswer         // pass it on, and silently drop everything to the client from then on
	Vanish             // break the connection for the client only: the server gets nothing more, and does not notice
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
	l := testenv.Value(net.Listen("tcp", "127.0.0.1:0"))(t)
	host, port, err := net.SplitHostPort(l.Addr().String())
	testenv.Must(t, err)
	n := &Network{DSN: moved(dsn, "host="+host, "port="+port, "sslmode=disable"), Direct: dsn, links: map[*link]bool{}}
	testenv.Must(t, n.lead(dsn))
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { n.serve(client) })
		}
	})
	t.Cleanup(func() {
		testenv.Must(t, errors.Join(l.Close(), n.lead("")))
		n.Thaw()
		n.Cut()
		wg.Wait()
	})
	return n
}

// Lead makes new connections lead to the server of dsn, or with "" nowhere: they break at once. Those that are open stay where
// they are.
func (n *Network) Lead(t testing.TB, dsn string) {
	t.Helper()
	testenv.Must(t, n.lead(dsn))
}

// lead leads to the server of dsn, or with "" nowhere.
func (n *Network) lead(dsn string) error {
	var network, address string
	if dsn != "" {
		c, err := pgconn.ParseConfig(dsn)
		if err != nil {
			return err
		}
		network, address = pgconn.NetworkAddress(c.Host, c.Port)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.network, n.address = network, address
	return nil
}

// Do calls f for each message of a client. The default passes all messages on. A message is what the client wrote at once.
func (n *Network) Do(f func(sent []byte) Action) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.on = f
}

// Delay delays everything by d, each way. A round trip takes 2d longer.
func (n *Network) Delay(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay = d
}

// Freeze holds everything back, both ways, until Thaw. Connections are still accepted. Cut loses what is held back.
func (n *Network) Freeze() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.frozen == nil {
		n.frozen = make(chan struct{})
	}
}

// Thaw ends Freeze.
func (n *Network) Thaw() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.frozen != nil {
		close(n.frozen)
		n.frozen = nil
	}
}

// Cut breaks all connections that are open, for the server too, and returns their number.
func (n *Network) Cut() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	for l := range n.links {
		l.end()
	}
	return len(n.links)
}

// link is one connection through the network.
type link struct {
	client net.Conn
	ended  chan struct{}
	once   sync.Once
}

func (l *link) end() { l.once.Do(func() { close(l.ended) }) }

func (n *Network) serve(client net.Conn) {
	l := &link{client: client, ended: make(chan struct{})}
	n.mu.Lock()
	n.links[l] = true
	network, address := n.network, n.address
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.links, l)
	}()
	server, err := net.Dial(network, address)
	if err != nil {
		_ = client.Close()
		return
	}
	var (
		mu   sync.Mutex
		then Action
		wg   sync.WaitGroup
	)
	wg.Go(func() {
		defer l.end()
		n.pump(l, client, server, func(sent []byte) bool {
			n.mu.Lock()
			a := Pass
			if n.on != nil {
				a = n.on(sent)
			}
			n.mu.Unlock()
			if a == Vanish {
				_ = client.Close()
				<-l.ended
				return false
			}
			mu.Lock()
			defer mu.Unlock()
			then = max(then, a)
			return a != Break
		}, func() bool { return true })
	})
	wg.Go(func() {
		defer l.end()
		now := func() Action {
			mu.Lock()
			defer mu.Unlock()
			return then
		}
		n.pump(l, server, client, func([]byte) bool { return now() != BreakAnswer }, func() bool { return now() != LoseAnswer })
	})
	<-l.ended
	_ = client.Close()
	_ = server.Close()
	wg.Wait()
}

// pump passes on what from sends, until an error or until allowed refuses. It drops what wanted does not want.
func (n *Network) pump(l *link, from, to net.Conn, allowed func([]byte) bool, wanted func() bool) {
	type piece struct {
		text []byte
		due  time.Time
	}
	pieces := make(chan piece, 1024)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer l.end()
		for p := range pieces {
			if !n.hold(l, p.due) {
				return
			}
			if wanted() {
				if _, err := to.Write(p.text); err != nil {
					return
				}
			}
		}
	})
	defer wg.Wait()
	defer close(pieces)
	buf := make([]byte, 1<<16)
	for {
		k, err := from.Read(buf)
		if err != nil || !allowed(buf[:k]) {
			return
		}
		n.mu.Lock()
		delay := n.delay
		n.mu.Unlock()
		select {
		case pieces <- piece{append([]byte(nil), buf[:k]...), time.Now().Add(delay)}:
		case <-l.ended:
			return
		}
	}
}

// hold waits until due, and while the network is frozen. It returns false if the connection has ended.
func (n *Network) hold(l *link, due time.Time) bool {
	if d := time.Until(due); d > 0 {
		select {
		case <-time.After(d):
		case <-l.ended:
			return false
		}
	}
	for {
		n.mu.Lock()
		frozen := n.frozen
		n.mu.Unlock()
		if frozen == nil {
			break
		}
		select {
		case <-frozen:
		case <-l.ended:
			return false
		}
	}
	select {
	case <-l.ended:
		return false
	default:
		return true
	}
}
