// Package proxy has a network between clients and servers that a test can break. It does not depend on the protocol.
package proxy

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/chatstore/chatstore/internal/testenv"
)

// Proxy is a TCP port that forwards to a server. A test can lead it to another server, slow it down, freeze it and cut it.
// It is safe for concurrent use.
type Proxy struct {
	Addr *net.TCPAddr // of the port

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

// New returns a proxy that leads nowhere yet, until the test ends.
func New(t testing.TB) *Proxy {
	t.Helper()
	l := testenv.Value(net.Listen("tcp", "127.0.0.1:0"))(t)
	n := &Proxy{Addr: l.Addr().(*net.TCPAddr), links: map[*link]bool{}}
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
		testenv.Must(t, l.Close())
		n.Lead("", "")
		n.Thaw()
		n.Cut()
		wg.Wait()
	})
	return n
}

// Lead makes new connections lead to another server, or with "" nowhere: they break at once. Those that are open stay where
// they are.
func (n *Proxy) Lead(network, address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.network, n.address = network, address
}

// Do calls f for each message of a client. The default passes all messages on. A message is what the client wrote at once.
func (n *Proxy) Do(f func(sent []byte) Action) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.on = f
}

// Delay delays everything by d, each way. A round trip takes 2d longer.
func (n *Proxy) Delay(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay = d
}

// Freeze holds everything back, both ways, until Thaw. Connections are still accepted. Cut loses what is held back.
func (n *Proxy) Freeze() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.frozen == nil {
		n.frozen = make(chan struct{})
	}
}

// Thaw ends Freeze.
func (n *Proxy) Thaw() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.frozen != nil {
		close(n.frozen)
		n.frozen = nil
	}
}

// Cut breaks all connections that are open, for the server too, and returns their number.
func (n *Proxy) Cut() int {
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

func (n *Proxy) serve(client net.Conn) {
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
func (n *Proxy) pump(l *link, from, to net.Conn, allowed func([]byte) bool, wanted func() bool) {
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
func (n *Proxy) hold(l *link, due time.Time) bool {
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
