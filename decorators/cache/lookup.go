package cache

import (
	"hash/maphash"
	"strings"

	"github.com/chatstore/chatstore/internal/generation"
	"github.com/chatstore/chatstore/store/layer"
)

// place says where a row's entry and generation counter are.
type place struct {
	key  key
	slot generation.Slot
}

// locate sets p to the place of a row, and returns its counter. A result would be copied, which takes longer.
func (l *cached) locate(p *place, h layer.Hints, kind byte, id string) generation.Counter {
	p.slot = l.core.Counters.Slot(kind, id)
	p.key.partition, p.key.kind, p.key.id, p.key.hash = l.core.Partition(h), kind, id, uint64(p.slot)
	if p.key.partition != (layer.Partition{}) {
		p.key.hash ^= maphash.Comparable(l.seed, p.key.partition)
	}
	return l.core.Counters.Load(p.slot)
}

func (l *cached) shard(p *place) *shard { return l.shards[p.key.hash&uint64(len(l.shards)-1)] }

// kept returns the place with a copy of its id. The caller's id may be a part of a longer text, such as a request's body,
// which would stay in memory as long as the entry.
func (p place) kept() place {
	p.key.id = strings.Clone(p.key.id)
	return p
}

// lookup returns the row's entry if it is valid now, or nil. An entry is valid if its tag is w, the counter loaded before the
// lookup. While a write is in progress no tag equals the counter.
func (l *cached) lookup(p *place, h layer.Hints, w generation.Counter) *entry {
	if h.Fresh() || !l.serving.Load() {
		return nil
	}
	e := l.index.get(&p.key)
	if e == nil || e.tag != w {
		return nil
	}
	if e.expires == 0 && e.lease == nil && l.lease == nil {
		return e
	}
	now := l.now() // one reading for all checks
	if e.expired(now) {
		l.shard(p).drop(p.key, e, byExpiry)
		return nil
	}
	if e.lapsed(now) || !l.serves(now) {
		return nil
	}
	return e
}

// hit records a read that e has answered.
func (l *cached) hit(h layer.Hints, k kind, p *place, e *entry) {
	l.requests.Add(requested(k, hit), 1)
	if !h.NoStore() && !e.answered.Load() { // writing on every hit would make processors contend
		e.answered.Store(true)
	}
	if h.Notes != nil {
		h.Notes.SetCache(resultNames[hit])
	}
	if e.version.known {
		h.ReportVersion(p.key.id, e.version.n, e.version.n)
	}
}
