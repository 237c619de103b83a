package main

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/examples/chatserver/overredis"
)

// The tests' program has Redis, as a build with the tag redis.
func init() {
	openRedis = func(url string, log *slog.Logger) (closingBus, error) { return overredis.Open(url, log) }
}

// A build without Redis says how to get one. A wrong URL is not quoted, because it may have a password.
func TestBusNeedsRedis(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	if _, err := withoutRedis("redis://localhost", log); err == nil || !strings.Contains(err.Error(), "go run -tags redis") {
		t.Errorf("without Redis: %v", err)
	}
	for _, url := range []string{"http://ada:secret@localhost", "redis://ada:secret@local host", "redis://:secret@localhost/x", "localhost:6379"} {
		if _, err := openRedis(url, log); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", url, err)
		}
	}
}
