// Package pubsub makes a [bus.Bus] of a plain message channel, and notices lost messages. Message brokers deliver at most
// once, or lose the last messages of a connection. A cache that trusts them serves a stale entry for as long as it lives.
//
// Use this package to connect caches over a channel of your own. Give [New] a [Transport], which takes about 40 lines for
// any channel that sends to everybody, such as Redis pub/sub, NATS, or LISTEN and NOTIFY:
//
//	b := pubsub.New(transport)
//	defer b.Close()
//	s := store.Wrap(base, cache.New(cache.WithBus(b)))
//
// Package redisbus has a Transport for Redis, package sqlstore one for PostgreSQL. Within one process use [bus.Local]
// instead. A channel that never loses and never reorders a message, such as a log with offsets, does not need this package.
//
// # How it works
//
// Each Bus sends heartbeats on the channel. A heartbeat that comes back through the same connection proves that the
// connection was live when it was sent. Subscribers may serve until [WithLease] after that moment ([Bus.LeasedUntil]). Each
// Bus uses the monotonic clock of its process, which stands still while a machine is suspended: close the Bus before that,
// or keep the cache's TTL short.
//
// Each Bus numbers its messages of changes, and its heartbeats carry the last number. Subscribers drop everything, by
// connected(false) and connected(true), when
//
//   - a number is missing,
//   - a publisher is silent for a lease without a goodbye,
//   - a publisher turns up that sent messages before it was heard of.
//
// They bypass the cache when the connection is lost, a payload cannot be decoded, or the lease ends. They serve again when a
// heartbeat has come back.
//
// # What it promises
//
// A lease after a change was given to Publish, every subscriber that still serves knows the change, or has dropped
// everything since. Most know it much sooner. For a lost change, the time to deliver the next message is added. The promise
// also holds when Publish fails, if the publisher still reaches the channel or has stopped. It does not hold for a publisher
// that is cut off from the channel and still changes the base. Others drop everything once, and see its further changes at
// the cache's TTL, or when it comes back. To a Bus with a shorter lease, the others seem silent: give all the same lease.
package pubsub

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/store/layer"
)

// The defaults of the options.
const (
	DefaultLease      = 5 * time.Second
	DefaultMinBackoff = 100 * time.Millisecond
	DefaultMaxBackoff = 5 * time.Second
)

// connectTime bounds one attempt to connect.
const connectTime = 5 * time.Second

// beatsPerLease leaves room within a lease. A change waits for the sending of another for 2 beats and is sent within 1. If that
// fails, the heartbeat that tells of it follows within 1.
const beatsPerLease = 5

const minLease = 10 * time.Millisecond

type config struct {
	lease      time.Duration
	minBackoff time.Duration
	maxBackoff time.Duration
	log        *slog.Logger
	announced  bool
}

// Option changes what [New] makes.
type Option func(*config)

// WithLease sets how long after the sending of a heartbeat subscribers may serve: the longest time for which a lost change
// goes unnoticed. Heartbeats are sent five times a lease. The default is DefaultLease, the minimum 10 milliseconds.
func WithLease(d time.Duration) Option { return func(c *config) { c.lease = d } }

// WithBackoff sets the wait between attempts to connect. It begins with shortest and doubles up to longest; a random part of
// up to a half is taken off each. The defaults are DefaultMinBackoff and DefaultMaxBackoff.
func WithBackoff(shortest, longest time.Duration) Option {
	return func(c *config) { c.minBackoff, c.maxBackoff = shortest, longest }
}

// WithLogger sets where lost connections and panics of subscribers are logged. The default is slog.Default.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.log = l } }

// WithAnnouncingBase makes Publish do nothing, because the base itself sends every change on the channel, by a trigger for
// example. Such messages have no numbers. The channel must not lose one without losing the connection.
func WithAnnouncingBase() Option { return func(c *config) { c.announced = true } }

// Bus is a [bus.Bus] over a [Transport]. Its own changes come back to its own subscribers too, so several caches can share
// one. It is safe for concurrent use.
type Bus struct {
	transport Transport
	config
	beat      time.Duration
	publisher *publisher
	stats     stats

	epoch  time.Time
	leased atomic.Int64 // when the lease ends, in nanoseconds since epoch; 0: there is none

	mu          sync.Mutex
	subscribers []*subscriber // never changed, only replaced or appended to
	greet       bool          // somebody has subscribed, and may have to be told that we are connected
	wake        func()        // ends the Receive under way

	closing       sync.Once
	stopReceiving context.CancelFunc
	stopSending   context.CancelFunc
	sendCtx       context.Context
	received      chan struct{} // closed at the end of the goroutine that receives
	sent          chan struct{} // and of the one that sends
}

var (
	_ bus.Bus             = (*Bus)(nil)
	_ bus.Leaser          = (*Bus)(nil)
	_ layer.StatsReporter = (*Bus)(nil)
	_ io.Closer           = (*Bus)(nil)
)

// New returns a Bus that connects in the background, and again whenever the connection is lost, until it is closed. It panics
// if t is nil or an option makes no sense.
func New(t Transport, opts ...Option) *Bus {
	c := config{lease: DefaultLease, minBackoff: DefaultMinBackoff, maxBackoff: DefaultMaxBackoff}
	for _, o := range opts {
		o(&c)
	}
	must(t != nil, "New needs a Transport")
	must(c.lease >= minLease, "WithLease must be at least 10ms")
	must(c.minBackoff > 0 && c.maxBackoff >= c.minBackoff, "WithBackoff must be positive, and the first not longer than the second")
	if c.log == nil {
		c.log = slog.Default()
	}
	b := &Bus{transport: t, config: c, beat: c.lease / beatsPerLease, epoch: time.Now(),
		received: make(chan struct{}), sent: make(chan struct{})}
	b.publisher = newPublisher(rand.Text(), b.beat, t.Publish)
	var ctx context.Context
	ctx, b.stopReceiving = context.WithCancel(context.Background())
	b.sendCtx, b.stopSending = context.WithCancel(context.Background())
	go func() {
		defer close(b.received)
		b.receive(ctx)
	}()
	go func() {
		defer close(b.sent)
		b.publisher.run(b.sendCtx)
	}()
	return b
}

func must(ok bool, what string) {
	if !ok {
		panic("pubsub: " + what)
	}
}

// LeasedUntil implements [bus.Leaser].
func (b *Bus) LeasedUntil() time.Time {
	d := b.leased.Load()
	if d == 0 {
		return time.Time{}
	}
	return b.epoch.Add(time.Duration(d))
}

func (b *Bus) setLease(until time.Time) { b.leased.Store(int64(until.Sub(b.epoch))) }
func (b *Bus) endLease()                { b.leased.Store(0) }

// Publish implements [bus.Bus]. It returns when the transport has taken the change, and waits for at most two fifths of the
// lease. Changes that come meanwhile are sent together. Publish returns [store.ErrInvalid] for a change that nobody could
// decode, and [store.ErrUnavailable] when the change may be lost: the others notice that and drop everything.
func (b *Bus) Publish(ctx context.Context, c bus.Change) error {
	if b.announced {
		return nil
	}
	err := b.publisher.publish(ctx, c)
	if err != nil {
		b.stats.unsent.Add(1)
	}
	return err
}

// Close tells the subscribers that they are not connected, and ends every subscription. It sends the waiting changes and a
// goodbye, and takes at most a fifth of the lease for them. Close may be called again.
func (b *Bus) Close() error {
	b.closing.Do(func() {
		b.stopReceiving()
		<-b.received
		limit := time.AfterFunc(b.beat, b.stopSending)
		defer limit.Stop()
		defer b.stopSending()
		b.publisher.close()
		<-b.sent
		// Without it, the others drop everything when they miss the heartbeats.
		if bye, err := encode(message{Publisher: b.publisher.id, Number: b.publisher.settled(), Goodbye: true}); err == nil {
			_ = b.transport.Publish(b.sendCtx, bye)
		}
	})
	return nil
}

// receive keeps connecting.
func (b *Bus) receive(ctx context.Context) {
	wait := b.minBackoff
	for ctx.Err() == nil {
		began := time.Now()
		up, err := b.connection(ctx)
		if ctx.Err() != nil {
			return
		}
		if up && time.Since(began) > b.maxBackoff {
			wait = b.minBackoff
		}
		pause := wait - time.Duration(mathrand.Int64N(int64(wait/2)+1))
		b.log.Warn("pubsub: not connected", "error", err, "retry_in", pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		wait = min(2*wait, b.maxBackoff)
	}
}
