package redisbus

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/chatstore/chatstore/bus/pubsub"
)

var (
	_ pubsub.Transport = (*transport)(nil)
	_ pubsub.Conn      = (*conn)(nil)
)

type transport struct {
	client  redis.UniversalClient
	channel string
}

// within runs f in a goroutine and waits for it until ctx ends. It is necessary because go-redis notices a cancelled context
// only between its own timeouts, and a deadline only with ContextTimeoutEnabled.
func within[T any](ctx context.Context, f func() (T, error), abandon func(T)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.err == nil {
				abandon(r.v)
			}
		}()
		var none T
		return none, context.Cause(ctx)
	}
}

func (t *transport) Publish(ctx context.Context, payload string) error {
	_, err := within(ctx, func() (int64, error) {
		client, err := t.sender(ctx)
		if err != nil {
			return 0, err
		}
		return client.Publish(ctx, t.channel, payload).Result()
	}, func(int64) {})
	return err
}

// sender returns the client to publish with. A cluster client would choose any node, and messages through two nodes can
// overtake each other. So it returns the client of the node that has the subscription.
func (t *transport) sender(ctx context.Context) (redis.UniversalClient, error) {
	if c, ok := t.client.(*redis.ClusterClient); ok {
		return c.MasterForKey(ctx, t.channel)
	}
	return t.client, nil
}

func (t *transport) Connect(ctx context.Context) (pubsub.Conn, error) {
	return within(ctx, func() (pubsub.Conn, error) { return t.connect(ctx) }, func(c pubsub.Conn) { c.Close() })
}

func (t *transport) connect(ctx context.Context) (pubsub.Conn, error) {
	// The client uses this context for later work, too. The connection must outlive ctx.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	forget := context.AfterFunc(ctx, end)
	sub := t.client.Subscribe(life, t.channel)
	defer context.AfterFunc(ctx, func() { sub.Close() })() // only this interrupts a read
	fail := func(err error) (pubsub.Conn, error) {
		end()
		sub.Close()
		return nil, err
	}
	// ReceiveTimeout would lose the beginning of a reply if it timed out in the middle.
	first, err := sub.Receive(life)
	if !forget() {
		return fail(context.Cause(ctx))
	}
	if err != nil {
		return fail(err)
	}
	if s, ok := first.(*redis.Subscription); !ok || s.Kind != "subscribe" {
		return fail(fmt.Errorf("redisbus: got %v before the confirmation of the subscription", first))
	}
	c := &conn{transport: t, sub: sub, end: end, payloads: make(chan string), failed: make(chan struct{})}
	go c.receive(life)
	return c, nil
}

// conn reads in its own goroutine, one message ahead. So a cancelled Receive leaves no reply half read.
type conn struct {
	*transport
	sub      *redis.PubSub
	end      context.CancelFunc
	payloads chan string
	failed   chan struct{} // closed once err is set
	err      error
}

var errResubscribed = errors.New("redisbus: the client reconnected by itself and may have missed messages")

func (c *conn) receive(life context.Context) {
	defer close(c.failed)
	for {
		m, err := c.sub.Receive(life)
		if err != nil {
			c.err = err // after any error the client reconnects
			return
		}
		switch m := m.(type) {
		case *redis.Message:
			select {
			case c.payloads <- m.Payload:
			case <-life.Done():
				c.err = life.Err()
				return
			}
		case *redis.Pong:
		default:
			c.err = errResubscribed
			return
		}
	}
}

func (c *conn) Receive(ctx context.Context) (string, error) {
	select {
	case p := <-c.payloads:
		return p, nil
	case <-c.failed:
		return "", c.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (c *conn) Send(ctx context.Context, payload string) error { return c.Publish(ctx, payload) }

// Close returns when reading has stopped.
func (c *conn) Close() error {
	c.end() // a pending dial would hold the lock that Close needs
	err := c.sub.Close()
	<-c.failed
	return err
}
