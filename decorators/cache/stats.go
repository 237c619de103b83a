package cache

import (
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// kind is what a read asks for.
type kind uint8

const (
	ofThread kind = iota
	ofItems
	ofItem
	ofAttachment
	numKinds
)

var kindNames = [numKinds]string{"thread", "items", "item", "attachment"}

// result is how the cache answers a read.
type result uint8

const (
	hit result = iota
	missed
	bypass
	numResults
)

var resultNames = [numResults]string{"hit", "miss", "bypass"}

type stats struct {
	patched atomic.Uint64
	dropped atomic.Uint64
	unsent  atomic.Uint64
}

// requested returns the index of a counter of l.requests.
func requested(k kind, r result) int { return int(k)*int(numResults) + int(r) }

func (l *cached) AppendStats(dst []layer.Stat) []layer.Stat {
	for k := range numKinds {
		for r := range numResults {
			dst = append(dst, layer.Stat{
				Name: "chatstore_cache_requests_total", Help: "Reads, by kind and by result: hit, miss or bypass.", Counter: true,
				Labels: [3]layer.Label{{Name: "kind", Value: kindNames[k]}, {Name: "result", Value: resultNames[r]}},
				Value:  float64(l.requests.Load(requested(k, r))),
			})
		}
	}
	var (
		entries int
		bytes   int64
		evicted [len(entryKinds)][numEvictions]uint64
	)
	for _, s := range l.shards {
		s.mu.Lock()
		entries += s.len()
		bytes += s.bytes()
		for k := range evicted {
			for why := range evicted[k] {
				evicted[k][why] += s.evicted[k][why]
			}
		}
		s.mu.Unlock()
	}
	for k := range evicted {
		for why, n := range evicted[k] {
			dst = append(dst, layer.Stat{
				Name: "chatstore_cache_evictions_total", Help: "Entries removed, by kind and reason.", Counter: true,
				Labels: [3]layer.Label{{Name: "kind", Value: entryKinds[k]}, {Name: "reason", Value: evictionNames[why]}},
				Value:  float64(n),
			})
		}
	}
	for i, n := range [...]uint64{l.stats.patched.Load(), l.stats.dropped.Load()} {
		dst = append(dst, layer.Stat{
			Name: "chatstore_cache_patches_total", Help: "Writes that found an entry to patch, by result: patched or dropped.",
			Counter: true, Labels: [3]layer.Label{{Name: "result", Value: [...]string{"patched", "dropped"}[i]}}, Value: float64(n),
		})
	}
	dst = append(dst,
		layer.Stat{Name: "chatstore_cache_entries", Help: "Threads and attachments in the cache.", Value: float64(entries)},
		layer.Stat{Name: "chatstore_cache_bytes", Help: "Bytes of the entries in the cache.", Value: float64(bytes)},
		layer.Stat{Name: "chatstore_cache_quarantined", Help: "Generation counters in quarantine after writes with an unknown outcome.",
			Value: float64(l.core.Counters.Quarantined())},
		layer.Stat{Name: "chatstore_cache_unsent_changes_total", Help: "Changes that the bus did not accept.", Counter: true,
			Value: float64(l.stats.unsent.Load())},
	)
	if p := l.polls; p != nil {
		for i, n := range [...]uint64{p.answered.Load(), p.failed.Load()} {
			dst = append(dst, layer.Stat{
				Name: "chatstore_cache_polls_total", Help: "Calls for the versions of threads, by result: answered or failed.",
				Counter: true, Labels: [3]layer.Label{{Name: "result", Value: [...]string{"answered", "failed"}[i]}}, Value: float64(n),
			})
		}
		dst = append(dst, layer.Stat{Name: "chatstore_cache_polled_threads_total", Help: "Threads whose versions were asked for.",
			Counter: true, Value: float64(p.threads.Load())},
			layer.Stat{Name: "chatstore_cache_poll_seconds", Help: "Duration of the last poll, of all its calls.",
				Value: time.Duration(p.took.Load()).Seconds()})
	}
	if bus, ok := l.cfg.bus.(layer.StatsReporter); ok { // a bus is no layer, so no other code reports it
		dst = bus.AppendStats(dst)
	}
	return l.core.AppendStats(dst, store.OpLoadThread, store.OpLoadThreadItems, store.OpLoadItem, store.OpLoadAttachment)
}
