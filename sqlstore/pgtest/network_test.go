package pgtest

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chatstore/chatstore/internal/testenv"
)

func TestMain(m *testing.M) { Main(m) }

func TestNetwork(t *testing.T) {
	ctx := context.Background()
	n := NewNetwork(t, Shared(t).DSN(t))
	c := testenv.Value(pgx.Connect(ctx, n.DSN))(t)
	ping := func() error { return c.Ping(ctx) }
	testenv.Must(t, ping())

	const delay = 20 * time.Millisecond
	n.Delay(delay)
	begin := time.Now()
	testenv.Must(t, ping())
	if took := time.Since(begin); took < 2*delay {
		t.Errorf("with a delay of %v each way, a round trip took %v", delay, took)
	}
	n.Delay(0)

	answered := make(chan error, 1)
	sent := make(chan struct{}, 1)
	n.Do(func([]byte) Action {
		sent <- struct{}{}
		return Pass
	})
	n.Freeze()
	go func() { answered <- ping() }()
	<-sent
	select {
	case err := <-answered:
		t.Errorf("a frozen network answered: %v", err)
	case <-time.After(delay): // an answer would take much less
	}
	n.Thaw()
	testenv.Must(t, <-answered)

	n.Freeze()
	go func() { answered <- ping() }()
	<-sent
	if k := n.Cut(); k != 1 {
		t.Errorf("cut %d connections, want 1", k)
	}
	if <-answered == nil {
		t.Error("a cut connection answered")
	}
	n.Thaw()
	n.Do(nil)

	n.Lead(t, "")
	if _, err := pgx.Connect(ctx, n.DSN); err == nil {
		t.Error("connected, although the network leads nowhere")
	}
	n.Lead(t, n.Direct)
	c = testenv.Value(pgx.Connect(ctx, n.DSN))(t)
	testenv.Must(t, c.Close(ctx))
}
