// Package redisbus connects the caches of several processes over Redis pub/sub. Each cache announces its changes to the
// others:
//
//	client := redis.NewClient(&redis.Options{Addr: "localhost:6379", ContextTimeoutEnabled: true})
//	b := redisbus.New(client)
//	defer b.Close()
//	s := store.Wrap(base, cache.New(cache.WithBus(b)))
//
// Use it if several processes cache one base that does not announce its changes itself. Use it over PostgreSQL too, if
// announcing changes within the transaction is too slow: NOTIFY serialises commits. Caches in one process need no server:
// use bus.Local. A cache without a bus sees the writes of other processes only after its TTL.
//
// # What it promises
//
// A cache publishes its change after the base has committed it and before the write returns. The other caches then drop the
// old entries, usually within a millisecond, at most within the lease ([WithLease]). While a message may be missing, they
// bypass their entries. Package bus/pubsub says how a lost message is noticed. In three cases a change is seen only after
// the TTL of the cache:
//
//   - A process dies or is cut off from Redis, and the base commits its write later than a lease after its last heartbeat.
//   - A writer does not use a cache with this Bus.
//   - A failover splits Redis in two, each half with its own clients, until the old primary closes its connections.
//
// # Redis
//
// Every topology of redis.UniversalClient works: a server, Sentinel, a Ring, a Cluster. In a Cluster, PUBLISH reaches all
// nodes. The Bus publishes and subscribes on one node, chosen by the hash of the channel's name, so that messages stay in
// order. It does not use sharded pub/sub, because those channels move with their slots. Nothing is stored. Channels belong
// to the server, not to a database: give each deployment on one server its own channel ([WithChannel]).
//
// The Redis user needs these ACL rules, in addition to those that the client needs to connect: +subscribe +publish, and
// &chatstore for the channel. A user who can publish on the channel can make every cache drop all entries, and can announce
// changes that did not happen. A user who can subscribe sees ids, but no content.
//
// The server disconnects a subscriber that is too slow (client-output-buffer-limit pubsub). The Bus handles this as a lost
// connection. Set ContextTimeoutEnabled: without it, a call to a hanging server holds a goroutine until the client's own
// timeouts. The Bus does not wait for it.
package redisbus

import (
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatstore/chatstore/bus/pubsub"
)

// DefaultChannel is the Redis channel if [WithChannel] is not given.
const DefaultChannel = "chatstore"

type config struct {
	channel string
	bus     []pubsub.Option
}

// Option configures the Bus of [New].
type Option func(*config)

// WithChannel sets the Redis channel. All caches over one base must use the same channel. The default is DefaultChannel.
func WithChannel(name string) Option { return func(c *config) { c.channel = name } }

// WithLease sets how long a lost change can go unnoticed: see [pubsub.WithLease]. All processes should use the same lease.
func WithLease(d time.Duration) Option {
	return func(c *config) { c.bus = append(c.bus, pubsub.WithLease(d)) }
}

// WithBackoff sets the pause between attempts to connect: see [pubsub.WithBackoff].
func WithBackoff(shortest, longest time.Duration) Option {
	return func(c *config) { c.bus = append(c.bus, pubsub.WithBackoff(shortest, longest)) }
}

// WithLogger sets the logger for lost connections: see [pubsub.WithLogger].
func WithLogger(l *slog.Logger) Option {
	return func(c *config) { c.bus = append(c.bus, pubsub.WithLogger(l)) }
}

// New returns a Bus over a channel of client. It connects in the background, so the server need not be up yet. Close the Bus
// before the client. New panics if client is nil, the channel's name is empty, or an option is invalid.
func New(client redis.UniversalClient, opts ...Option) *pubsub.Bus {
	c := config{channel: DefaultChannel}
	for _, o := range opts {
		o(&c)
	}
	if client == nil {
		panic("redisbus.New: client is nil")
	}
	if c.channel == "" {
		panic("redisbus.WithChannel: name is empty")
	}
	return pubsub.New(&transport{client, c.channel}, c.bus...)
}
