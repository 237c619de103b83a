package redisbus

import (
	"context"
	"errors"
	"testing"

	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/redisbus/redistest"
)

var must = testenv.Must

func connect(t *testing.T) (*transport, *conn) {
	t.Helper()
	tr := &transport{redistest.Start(t).Client(), "c"}
	c, err := tr.Connect(t.Context())
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return tr, c.(*conn)
}

// go-redis reconnects by itself. The only sign of it is a second confirmation of the subscription.
func TestASubscriptionConfirmedAgainIsALostConnection(t *testing.T) {
	_, c := connect(t)
	must(t, c.sub.Subscribe(t.Context(), "c"))
	if _, err := c.Receive(t.Context()); !errors.Is(err, errResubscribed) {
		t.Errorf("got %v", err)
	}
}

func TestAReceiveThatIsLeftLosesNothing(t *testing.T) {
	tr, c := connect(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		must(t, tr.Publish(t.Context(), "payload"))
	}
	for got := 0; got < 100; {
		switch p, err := c.Receive(gone); {
		case err == nil && p == "payload":
			got++
		case !errors.Is(err, context.Canceled):
			t.Fatalf("got %q, %v", p, err)
		default:
			_, err := c.Receive(t.Context())
			must(t, err)
			got++
		}
	}
}

func TestTheEndOfTheContextOfConnectLeavesTheConnection(t *testing.T) {
	tr, _ := connect(t)
	ctx, cancel := context.WithCancel(t.Context())
	c, err := tr.Connect(ctx)
	must(t, err)
	defer c.Close()
	cancel()
	must(t, c.Send(t.Context(), "payload"))
	if p, err := c.Receive(t.Context()); p != "payload" || err != nil {
		t.Errorf("got %q, %v", p, err)
	}
}
