package pubsub

import (
	"sync/atomic"

	"github.com/chatstore/chatstore/store/layer"
)

// reason is the reason for which subscribers had to drop everything.
type reason uint8

const (
	byConnection reason = iota // the connection was lost or given up
	byPayload                  // a payload could not be decoded
	byLease                    // no heartbeat came back in time
	byGap                      // a number is missing
	bySilence                  // a publisher fell silent
	byStranger                 // a new publisher had already sent messages
	numReasons
)

var reasonNames = [numReasons]string{"connection", "payload", "lease", "gap", "silence", "stranger"}

type stats struct {
	connected   atomic.Bool
	connections atomic.Uint64
	drops       [numReasons]atomic.Uint64
	unsent      atomic.Uint64
	failed      atomic.Uint64
}

// AppendStats implements [layer.StatsReporter].
func (b *Bus) AppendStats(dst []layer.Stat) []layer.Stat {
	connected := 0.0
	if b.stats.connected.Load() {
		connected = 1
	}
	dst = append(dst, layer.Stat{Name: "chatstore_bus_connected", Help: "1 while subscribers may serve.", Value: connected})
	counter := func(name, help string, n uint64, labels ...layer.Label) {
		s := layer.Stat{Name: name, Help: help, Counter: true, Value: float64(n)}
		copy(s.Labels[:], labels)
		dst = append(dst, s)
	}
	counter("chatstore_bus_connections_total", "Connections made.", b.stats.connections.Load())
	for why := range b.stats.drops {
		counter("chatstore_bus_drops_total", "Times that subscribers had to drop everything, by reason.", b.stats.drops[why].Load(),
			layer.Label{Name: "reason", Value: reasonNames[why]})
	}
	counter("chatstore_bus_unsent_changes_total", "Changes that could not be published.", b.stats.unsent.Load())
	counter("chatstore_bus_subscriber_failures_total", "Calls to subscribers that panicked or exited their goroutine.", b.stats.failed.Load())
	return dst
}
