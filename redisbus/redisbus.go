// Package redisbus tells the caches of several processes of each other's changes, over Redis pub/sub:
//
//	client := redis.NewClient(&redis.Options{Addr: "localhost:6379", ContextTimeoutEnabled: true})
//	b := redisbus.New(client)
//	defer b.Close()
//	s := store.Wrap(base, cache.New(cache.WithBus(b)))
//
// Use it where several processes cache one base that does not announce its changes itself. Use it over PostgreSQL too, where
// announcing them within the transaction costs too much: NOTIFY serialises commits. Within one process, bus.Local needs no
// server. A cache without a bus sees the writes of others at its TTL.
//
// # What it promises
//
// A cache publishes its change after the base has committed it, before the write returns. Within the lease ([WithLease])
// after that, usually within a millisecond, the others have dropped what the change made untrue. While they cannot know,
// they bypass their cache. Package bus/pubsub says how a lost message is noticed. In three cases a change is seen only at the
// TTL of the cache:
//
//   - A process dies or is cut off from Redis, and the base commits its write later than a lease after its last heartbeat.
//   - A writer does not use such a cache.
//   - A failover splits Redis in two, each half with its own clients, until the old primary closes its connections.
//
// # Redis
//
// Any topology of redis.UniversalClient works: a server, Sentinel, a Ring, a Cluster. In a Cluster, PUBLISH reaches all nodes,
// and the Bus keeps to the node that the channel's name hashes to, so that no message overtakes another. Sharded pub/sub is
// not used, as its channels move with their slots. Nothing is stored. Channels belong to the server, not to a database: give
// each deployment on one server its own ([WithChannel]).
//
// Beside what the client itself sends to connect, the user needs these ACL rules: +subscribe +publish, and &chatstore for
// the channel. A user who may publish on it can make every cache drop everything, and can announce changes that never were.
// Such a user sees ids, and no content.
//
// The server cuts off a subscriber that does not keep up (client-output-buffer-limit pubsub). That is a lost connection like
// any other. Without ContextTimeoutEnabled, a call to a hanging server holds a goroutine until the client's own timeouts; the
// Bus does not wait for it.
package redisbus

import (
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatstore/chatstore/bus/pubsub"
)

// DefaultChannel is the channel without [WithChannel].
const DefaultChannel = "chatstore"

type config struct {
	channel string
	bus     []pubsub.Option
}

// Option changes what [New] makes.
type Option func(*config)

// WithChannel names the Redis channel: one for all caches over one base. The default is DefaultChannel.
func WithChannel(name string) Option { return func(c *config) { c.channel = name } }

// WithLease sets how long a lost change may go unnoticed: see [pubsub.WithLease]. All processes should have the same lease.
func WithLease(d time.Duration) Option {
	return func(c *config) { c.bus = append(c.bus, pubsub.WithLease(d)) }
}

// WithBackoff sets the wait between attempts to connect: see [pubsub.WithBackoff].
func WithBackoff(shortest, longest time.Duration) Option {
	return func(c *config) { c.bus = append(c.bus, pubsub.WithBackoff(shortest, longest)) }
}

// WithLogger sets where lost connections are logged: see [pubsub.WithLogger].
func WithLogger(l *slog.Logger) Option {
	return func(c *config) { c.bus = append(c.bus, pubsub.WithLogger(l)) }
}

// New returns a Bus over a channel of client. Close the Bus before the client. It connects in the background: a server that is
// not there yet is no error. New panics if client is nil, the channel has no name, or an option makes no sense.
func New(client redis.UniversalClient, opts ...Option) *pubsub.Bus {
	c := config{channel: DefaultChannel}
	for _, o := range opts {
		o(&c)
	}
	if client == nil {
		panic("redisbus: New needs a client")
	}
	if c.channel == "" {
		panic("redisbus: WithChannel needs a name")
	}
	return pubsub.New(&transport{client, c.channel}, c.bus...)
}
