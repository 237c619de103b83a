package pubsub_test

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/chatstore/chatstore/bus/pubsub"
)

// hub is a channel in memory. Tests set its faults.
type hub struct {
	mu    sync.Mutex
	conns map[*conn]bool
	// fate returns the payloads that arrive at a connection, and their delay. If nil, each payload arrives unchanged at once.
	fate fate
	log  []string // sent payloads
}

type fate = func(to *conn, payload string) ([]string, time.Duration)

// port connects one process to the hub.
type port struct {
	*hub
	name    string
	connect func(context.Context) error // if nil, Connect succeeds
	publish func(context.Context) error // if nil, Publish sends; its error is returned, and nothing is sent
	opened  int                         // calls of Connect
}

var errFake = errors.New("fake: out of order")

func newHub() *hub { return &hub{conns: map[*conn]bool{}} }

func (h *hub) port(name string) *port { return &port{hub: h, name: name} }

func (h *hub) send(payload string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.log = append(h.log, payload)
	for c := range h.conns {
		arriving, after := []string{payload}, time.Duration(0)
		if h.fate != nil {
			arriving, after = h.fate(c, payload)
		}
		if after > 0 {
			time.AfterFunc(after, func() { c.arrive(arriving) })
		} else {
			c.arrive(arriving)
		}
	}
}

func (h *hub) setFate(f fate) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fate = f
}

// cut ends the connections of a port, as a server does.
func (p *port) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if c.port == p {
			delete(p.conns, c)
			close(c.broken)
		}
	}
}

func (p *port) set(connect, publish func(context.Context) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.connect, p.publish = connect, publish
}

func (p *port) faults() (connect, publish func(context.Context) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.connect, p.publish
}

func (p *port) Connect(ctx context.Context) (pubsub.Conn, error) {
	p.mu.Lock()
	p.opened++
	p.mu.Unlock()
	if f, _ := p.faults(); f != nil {
		if err := f(ctx); err != nil {
			return nil, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &conn{port: p, more: make(chan struct{}, 1), broken: make(chan struct{})}
	p.conns[c] = true
	return c, nil
}

func (p *port) Publish(ctx context.Context, payload string) error {
	if _, f := p.faults(); f != nil {
		if err := f(ctx); err != nil {
			return err
		}
	}
	p.send(payload)
	return ctx.Err()
}

type conn struct {
	*port
	queueMu sync.Mutex
	queue   []string
	more    chan struct{}
	broken  chan struct{}
}

func (c *conn) arrive(payloads []string) {
	c.queueMu.Lock()
	defer c.queueMu.Unlock()
	c.queue = append(c.queue, payloads...)
	select {
	case c.more <- struct{}{}:
	default:
	}
}

func (c *conn) Receive(ctx context.Context) (string, error) {
	for {
		c.queueMu.Lock()
		if len(c.queue) > 0 {
			p := c.queue[0]
			c.queue = c.queue[1:]
			c.queueMu.Unlock()
			return p, nil
		}
		c.queueMu.Unlock()
		select {
		case <-c.more:
		case <-c.broken:
			return "", errFake
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

func (c *conn) Send(_ context.Context, payload string) error {
	c.send(payload)
	return nil
}

func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, c)
	return nil
}
