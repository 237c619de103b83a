// Package redisbus carries the changes of caches between processes over Redis pub/sub:
//
//	client := redis.NewClient(&redis.Options{Addr: "localhost:6379", ContextTimeoutEnabled: true})
//	b := redisbus.New(client)
//	defer b.Close()
//	s := store.Wrap(base, cache.New(cache.WithBus(b)))
//
// Use it where several processes cache one base that does not announce its changes itself, or where announcing them within the
// transaction costs too much (PostgreSQL's NOTIFY serialises commits). Within one process, cache.LocalBus needs no server. A
// cache without a bus sees the writes of others at its TTL.
//
// # What is promised
//
// A cache publishes its change after the base has committed it, before the write returns. Others have dropped what it made
// untrue within the lease ([WithLease]) after the publishing, usually within a millisecond; while they cannot know, they pass
// the cache by. Package bus says how a lost message is noticed. Three cases are left, where a change is seen at the TTL of
// the cache at the latest: a process that died, or was cut off from Redis, and whose write the base commits later than a
// lease after its last heartbeat; a writer that uses no such cache; and a Redis that was split in two by a failover, each
// half with its own clients, until the old primary closes its connections.
//
// # Redis
//
// Any topology of redis.UniversalClient will do: a server, Sentinel, a Ring, a Cluster, where PUBLISH reaches all nodes and the
// Bus keeps to the one that the channel's name hashes to, so that nothing overtakes; sharded pub/sub is not used, as its
// channels move with their slots. Nothing is stored. Channels are the server's, not a database's: deployments that share one
// take a channel each ([WithChannel]). The user needs, as an ACL: +subscribe +publish, beside what the client itself
// sends to connect, and &chatstore for the channel. Who may publish on it can make every cache drop everything, and may send
// a change that was none; it sees ids, and no content.
//
// A subscriber that does not keep up is cut off by the server (client-output-buffer-limit pubsub): that is a lost connection
// like any other. Without ContextTimeoutEnabled, a call of a server that hangs holds a goroutine until the client's own
// time-outs; the Bus does not wait for it.
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

// WithLease says for how long a lost change may go unnoticed; see [pubsub.WithLease]. All processes should have the same.
func WithLease(d time.Duration) Option {
	return func(c *config) { c.bus = append(c.bus, pubsub.WithLease(d)) }
}

// WithBackoff says how long to wait between attempts to connect; see [pubsub.WithBackoff].
func WithBackoff(shortest, longest time.Duration) Option {
	return func(c *config) { c.bus = append(c.bus, pubsub.WithBackoff(shortest, longest)) }
}

// WithLogger says where lost connections are logged; see [pubsub.WithLogger].
func WithLogger(l *slog.Logger) Option {
	return func(c *config) { c.bus = append(c.bus, pubsub.WithLogger(l)) }
}

// New returns a Bus over a channel of client, which stays the caller's: close the Bus before it. It connects in the background;
// a server that is not there yet is no error. New panics if client is nil, the channel has no name, or an option makes no sense.
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
