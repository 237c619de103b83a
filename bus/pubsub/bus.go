// Package bus turns a plain message channel into a [store.Bus] that notices what it may have missed. Message brokers deliver
// at most once, or lose the end of a connection: a cache that trusts them serves stale answers for as long as they live. Give
// New a [Transport], which is about 40 lines for any channel that sends to everybody (Redis pub/sub, NATS, LISTEN and NOTIFY):
//
//	b := bus.New(transport)
//	defer b.Close()
//	s := store.Wrap(base, cache.New(cache.WithBus(b)))
//
// The package redisbus has such a transport for Redis. Within one process take cache.LocalBus instead. A channel that never
// loses or reorders anything, such as a log with offsets, needs none of this.
//
// # How it notices
//
// Each Bus sends heartbeats on the channel. One that comes back through the same connection proves that the connection was
// live when it was sent, and leases serving until [WithLease] after that moment ([Bus.LeasedUntil]). The clock is the process's
// own monotonic one; no two clocks are compared. The time that a machine is suspended for does not count on it: close the Bus
// before, or keep the cache's TTL short there.
//
// Each Bus numbers the messages of its changes, and says its last number in the heartbeats. When a number is missing, a
// publisher falls silent for the length of the lease without a goodbye, or one turns up that has sent messages before it was
// heard of, the subscribers are told to drop everything (connected(false), then connected(true)). When the connection is lost,
// a payload cannot be decoded, or the lease ends, they bypass until a new connection, or heartbeat, has proved itself.
//
// # What is promised
//
// A lease after a change was handed to Publish, every subscriber that still serves knows it, or has dropped everything since;
// sooner is the rule. If the change was lost, the time that the channel takes to deliver the news of it is added. That holds if Publish failed too, as long as the publisher still reaches the channel,
// or has stopped. It does not hold for a publisher that is cut off from the channel and goes on changing the base: after one
// drop, others see its changes at their TTL, or when it comes back. All that share a channel should have the same lease: to
// one with a shorter lease, the others seem silent.
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

// beatsPerLease leaves room within the lease for a change to wait for the sending of another (2 beats), to be sent (1), and,
// if that failed, for the heartbeat that tells (1).
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

// WithLease says for how long after the sending of a heartbeat its return allows to serve: the longest time for which a lost
// change goes unnoticed. A fifth of it is the time between heartbeats. The default is DefaultLease, the least 10 milliseconds.
func WithLease(d time.Duration) Option { return func(c *config) { c.lease = d } }

// WithBackoff says how long to wait between attempts to connect: shortest at first, doubling up to longest, each up to half
// shorter by chance. The defaults are DefaultMinBackoff and DefaultMaxBackoff.
func WithBackoff(shortest, longest time.Duration) Option {
	return func(c *config) { c.minBackoff, c.maxBackoff = shortest, longest }
}

// WithLogger says where lost connections and panics of subscribers are logged; the default is slog.Default.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.log = l } }

// AnnouncedByBase makes Publish do nothing, because the base itself sends every change on the channel, by a trigger for
// example. Such messages have no numbers, so a channel that loses some without losing the connection is not for them.
func AnnouncedByBase() Option { return func(c *config) { c.announced = true } }

// Bus is a [store.Bus] over a [Transport]. It is safe for concurrent use. Its own changes come back to its own subscribers
// too, so that several caches can share one.
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
// on options that make no sense.
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
		panic("bus: " + what)
	}
}

// LeasedUntil implements [store.Leaser].
func (b *Bus) LeasedUntil() time.Time {
	d := b.leased.Load()
	if d == 0 {
		return time.Time{}
	}
	return b.epoch.Add(time.Duration(d))
}

func (b *Bus) setLease(until time.Time) { b.leased.Store(int64(until.Sub(b.epoch))) }
func (b *Bus) endLease()                { b.leased.Store(0) }

// Publish implements [store.Bus]. It returns when the transport has taken the change, together with others that came
// meanwhile, and waits for that for two fifths of the lease at most. An error is ErrInvalid, of a change that nobody could
// decode, or ErrUnavailable: then the change may be lost, which the others will notice, and drop everything.
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

// Close tells the subscribers that they are not connected, sends the changes that are waiting and a goodbye, for which it takes
// a fifth of the lease at most, and ends every subscription. It may be called again.
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
		if bye, err := Encode(Message{Publisher: b.publisher.id, Number: b.publisher.settled(), Goodbye: true}); err == nil {
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
		b.log.Warn("bus: not connected", "error", err, "retry_in", pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		wait = min(2*wait, b.maxBackoff)
	}
}
