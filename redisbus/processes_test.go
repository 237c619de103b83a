package redisbus_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/redisbus"
	"github.com/chatstore/chatstore/redisbus/redistest"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/fleet"
)

// lease and the delivery time together bound the age of a read in this test.
const (
	lease    = 1500 * time.Millisecond
	delivery = time.Second
)

// openWorker opens the stack of a process of the fleet. All processes write to one SQLite file. Entries never expire, so a
// read that is too old shows a missed message.
func openWorker(ctx context.Context, args []string) (store.Store, error) {
	s, err := sqlstore.OpenSQLite(ctx, args[0], sqlstore.WithDurability(sqlstore.SurvivesKill))
	if err != nil {
		return nil, err
	}
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: args[1], ContextTimeoutEnabled: true})
	b := redisbus.New(client, redisbus.WithLease(lease), redisbus.WithBackoff(10*time.Millisecond, 100*time.Millisecond),
		redisbus.WithLogger(slog.New(slog.DiscardHandler)))
	return store.Wrap(s, cache.New(cache.WithBus(b), cache.WithTTL(0))), nil
}

// Three processes read each other's writes through caches that only messages over Redis invalidate. Meanwhile subscriptions
// are killed, and the server hangs, goes down and comes back.
func TestNoProcessReadsWhatIsOlderThanTheLease(t *testing.T) {
	srv := redistest.Start(t)
	path := filepath.Join(t.TempDir(), "chat.db")
	base, err := sqlstore.OpenSQLite(t.Context(), path, sqlstore.WithDurability(sqlstore.SurvivesKill))
	must(t, err)
	defer func() { must(t, base.Close()) }()
	client := srv.Client()
	defer func() { must(t, client.Close()) }()
	kill := func() { must(t, client.Do(context.Background(), "CLIENT", "KILL", "TYPE", "pubsub").Err()) }
	fleet.Run(t, fleet.Fleet{
		Args: []string{path, srv.Addr()}, Bound: lease + delivery, Base: base,
		Disturb: []func(){
			kill,
			func() { srv.Restart() },
			func() {
				srv.Pause()
				<-time.After(2 * lease) // the server hangs for longer than the lease
				srv.Resume()
			},
			kill,
		},
	})
}
