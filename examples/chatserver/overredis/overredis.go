// Package overredis opens the bus over Redis. It is a package of its own because Redis is not part of the program's default build:
// the client takes a compiler long.
package overredis

import (
	"errors"
	"log/slog"

	"github.com/redis/go-redis/v9"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/redisbus"
)

// Open returns a bus over the Redis at a URL. The error does not quote the URL, which may have a password.
func Open(url string, log *slog.Logger) (interface {
	bus.Bus
	Close() error
}, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, errors.New("-bus: not the URL of a Redis, such as redis://localhost:6379/0")
	}
	o.ContextTimeoutEnabled = true
	return redisbus.New(redis.NewClient(o), redisbus.WithLogger(log)), nil
}
