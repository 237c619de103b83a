package sqlstore

import (
	"time"

	"github.com/chatstore/chatstore/store/layer"
)

var _ layer.StatsReporter = (*Store)(nil)

// poolStats has the numbers of a pool of connections.
type poolStats struct {
	inUse, idle, max int
	waits            uint64        // calls that waited for a connection
	waited           time.Duration // all of them together
}

// AppendStats appends the numbers of the pool of connections. They are the connections in use, idle and allowed, the number of
// calls that had to wait for one, and the sum of their waits. For SQLite, the writing connection is one of them. The number
// allowed is 0 for a program's own pool of SQLite, because it is not known.
func (s *Store) AppendStats(dst []layer.Stat) []layer.Stat {
	p := s.engine.stats()
	state := func(name string, n int) layer.Stat {
		return layer.Stat{
			Name: "chatstore_pool_connections", Help: "Connections to the database, by state.",
			Labels: [3]layer.Label{{Name: "state", Value: name}}, Value: float64(n),
		}
	}
	return append(dst, state("in_use", p.inUse), state("idle", p.idle),
		layer.Stat{Name: "chatstore_pool_connections_max", Help: "Connections that the pool may have.", Value: float64(p.max)},
		layer.Stat{Name: "chatstore_pool_waits_total", Help: "Calls that waited for a connection.", Counter: true, Value: float64(p.waits)},
		layer.Stat{Name: "chatstore_pool_wait_seconds_total", Help: "Time that calls waited for a connection.", Counter: true, Value: p.waited.Seconds()})
}
