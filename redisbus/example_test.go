package redisbus_test

import (
	"github.com/redis/go-redis/v9"

	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/redisbus"
	"github.com/chatstore/chatstore/store"
)

func Example() {
	client := redis.NewClient(&redis.Options{Addr: "localhost:6379", ContextTimeoutEnabled: true})
	defer client.Close()
	b := redisbus.New(client, redisbus.WithChannel("chatstore:production"))
	defer b.Close()
	base := memstore.New() // in production: the database that all processes share
	s := store.Wrap(base, cache.New(cache.WithBus(b)))
	defer store.Close(s)
}
