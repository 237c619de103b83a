// Package pubsub turns a plain message channel into a [bus.Bus] that notices lost messages. Message brokers deliver at most
// once, or lose the last messages of a connection. A cache that relied on them would serve a stale entry until it expires.
//
// Use this package to connect caches over your own channel. Give [New] a [Transport]. A Transport takes about 40 lines for
// any channel that sends to all clients, such as Redis pub/sub, NATS, or LISTEN and NOTIFY:
//
//	b := pubsub.New(transport)
//	defer b.Close()
//	s := store.Wrap(base, cache.New(cache.WithBus(b)))
//
// Package redisbus has a Transport for Redis, package sqlstore one for PostgreSQL. Within one process use [bus.Local]
// instead. A channel that never loses or reorders a message, such as a log with offsets, does not need this package.
//
// # How it works
//
// Each Bus sends heartbeats on the channel. A heartbeat that comes back on the same connection proves that the connection
// worked when the heartbeat was sent. From that moment, subscribers may serve for one lease ([WithLease],
// [Bus.LeasedUntil]). Each Bus uses the monotonic clock of its process, which stops while a machine is suspended: close
// the Bus before that, or use a short TTL.
//
// Each Bus numbers its change messages, and its heartbeats carry the last number. Subscribers drop everything, through
// connected(false) and connected(true), if
//
//   - a number is missing,
//   - a publisher has been silent for a lease without a goodbye, or
//   - a new publisher appears that has already sent messages.
//
// Subscribers bypass the cache if the connection is lost, a payload cannot be decoded, or the lease ends. They serve again
// after a heartbeat has come back.
//
// # What it promises
//
// One lease after a change was given to Publish, every subscriber that still serves knows the change or has dropped
// everything since. Usually it takes much less time. If the change was lost, add the delivery time of the next message.
//
// The promise also holds if Publish fails, as long as the publisher still reaches the channel or has stopped. It does not
// hold for a publisher that is cut off from the channel and still changes the base. The others drop everything once. They
// see its further changes after the cache's TTL, or when it comes back. Use the same lease everywhere.
// A Bus with a shorter lease would take the others for silent.
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

// connectTime limits one attempt to connect.
const connectTime = 5 * time.Second

// beatsPerLease is the number of heartbeats in a lease. A change waits up to 2 beats for the message before it, and its own
// sending takes up to 1. If that fails, a heartbeat reveals the gap within 1 more.
const beatsPerLease = 5

const minLease = 10 * time.Millisecond

type config struct {
	lease      time.Duration
	minBackoff time.Duration
	maxBackoff time.Duration
	log        *slog.Logger
	announced  bool
}

// Option configures [New].
type Option func(*config)

// WithLease sets how long subscribers may serve after a heartbeat was sent. This is also the longest time for which a lost
// change goes unnoticed. A Bus sends five heartbeats per lease. The default is DefaultLease, the minimum 10 milliseconds.
func WithLease(d time.Duration) Option { return func(c *config) { c.lease = d } }

// WithBackoff sets the wait between attempts to connect. It begins with shortest and doubles up to longest. A random part,
// up to half, is subtracted from each wait. The defaults are DefaultMinBackoff and DefaultMaxBackoff.
func WithBackoff(shortest, longest time.Duration) Option {
	return func(c *config) { c.minBackoff, c.maxBackoff = shortest, longest }
}

// WithLogger sets the logger for lost connections and for panics of subscribers. The default is slog.Default.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.log = l } }

// WithAnnouncingBase makes Publish do nothing. Use it if the base itself sends every change on the channel, for example from
// a trigger. These messages have no numbers, so the channel may lose a message only together with the connection.
func WithAnnouncingBase() Option { return func(c *config) { c.announced = true } }

// Bus is a [bus.Bus] over a [Transport]. Its changes also come back to its own subscribers, so several caches can share one
// Bus. It is safe for concurrent use.
type Bus struct {
	transport Transport
	config
	beat      time.Duration
	publisher *publisher
	stats     stats

	epoch  time.Time
	leased atomic.Int64 // end of the lease, in nanoseconds since epoch; 0 if there is none

	mu          sync.Mutex
	subscribers []*subscriber // replaced or appended to, never changed in place
	greet       bool          // a new subscriber may need connected(true)
	wake        func()        // ends the running Receive

	closing       sync.Once
	stopReceiving context.CancelFunc
	stopSending   context.CancelFunc
	sendCtx       context.Context
	received      chan struct{} // closed when the receiving goroutine has ended
	sent          chan struct{} // closed when the sending goroutine has ended
}

var (
	_ bus.Bus             = (*Bus)(nil)
	_ bus.Leaser          = (*Bus)(nil)
	_ layer.StatsReporter = (*Bus)(nil)
	_ io.Closer           = (*Bus)(nil)
)

// New returns a Bus. It connects in the background, and reconnects after every loss, until Close. New panics if t is nil or
// an option is invalid.
func New(t Transport, opts ...Option) *Bus {
	c := config{lease: DefaultLease, minBackoff: DefaultMinBackoff, maxBackoff: DefaultMaxBackoff}
	for _, o := range opts {
		o(&c)
	}
	must(t != nil, "New needs a Transport")
	must(c.lease >= minLease, "WithLease: the lease must be at least 10ms")
	must(c.minBackoff > 0 && c.maxBackoff >= c.minBackoff, "WithBackoff: shortest must be positive and not above longest")
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

// LeasedUntil implements [bus.Leaser]. It is the zero time while there is no lease.
func (b *Bus) LeasedUntil() time.Time {
	d := b.leased.Load()
	if d == 0 {
		return time.Time{}
	}
	return b.epoch.Add(time.Duration(d))
}

func (b *Bus) setLease(until time.Time) { b.leased.Store(int64(until.Sub(b.epoch))) }
func (b *Bus) endLease()                { b.leased.Store(0) }

// Publish implements [bus.Bus]. It returns when the transport has accepted the change, after at most two fifths of the
// lease. Concurrent changes are sent together. The error is [store.ErrInvalid] for a change that no receiver could decode.
// It is [store.ErrUnavailable] if the change may be lost, or if the Bus is closed. Receivers notice a lost change and drop
// everything.
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

// Close calls connected(false) of every subscriber and ends the subscriptions. It then sends the waiting changes and a
// goodbye, for at most a fifth of the lease. It always returns nil. Further calls do nothing.
func (b *Bus) Close() error {
	b.closing.Do(func() {
		b.stopReceiving()
		<-b.received
		limit := time.AfterFunc(b.beat, b.stopSending)
		defer limit.Stop()
		defer b.stopSending()
		b.publisher.close()
		<-b.sent
		// Without a goodbye, the others would drop everything after a lease of silence.
		if bye, err := encode(message{Publisher: b.publisher.id, Number: b.publisher.settled(), Goodbye: true}); err == nil {
			_ = b.transport.Publish(b.sendCtx, bye)
		}
	})
	return nil
}

// receive connects and receives until ctx ends.
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
