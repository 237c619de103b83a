//go:build redis

package main

import (
	"log/slog"

	"github.com/chatstore/chatstore/examples/chatserver/overredis"
)

func init() {
	openRedis = func(url string, log *slog.Logger) (closingBus, error) { return overredis.Open(url, log) }
}
