package main

import (
	"errors"
	"log/slog"
)

// openRedis opens the bus of -bus. A build with the tag redis replaces it.
var openRedis = withoutRedis

func withoutRedis(string, *slog.Logger) (closingBus, error) {
	return nil, errors.New("-bus needs a build with Redis: go run -tags redis ./examples/chatserver -bus …")
}
