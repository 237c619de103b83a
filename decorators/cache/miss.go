package cache

import (
	"context"
	"time"

	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// miss is a read of a T that no entry has answered. Its functions get all that they need as arguments, because closures would
// be allocated for every miss.
type miss[K comparable, T any] struct {
	coherence.Read[K]
	kind  kind
	hints layer.Hints
	place place
	calls *coherence.Group[K, T]
	load  func(store.Store, context.Context, K) (T, error)
	fill  func(*entry, *T, K) bool  // puts the loaded value into an entry; false: the value must not be cached
	from  func(*entry, K) (T, bool) // answers the read from an entry that another miss has filled
}

// answer loads the value and fills the cache. Reads share the load, unless they bypass the cache or are no-store reads.
func (m *miss[K, T]) answer(ctx context.Context, l *cached) (T, error) {
	result, load := missed, m.share
	if l.bypassed(m.hints) || m.hints.NoStore() {
		result, load = bypass, m.direct
	}
	l.requests.Add(requested(m.kind, result), 1)
	m.hints.Notes.SetCache(resultNames[result])
	a, err := load(ctx, l)
	coherence.Forward(m.hints, a.Reports())
	return a.Value, err
}

func (m *miss[K, T]) share(ctx context.Context, l *cached) (*coherence.Answer[T], error) {
	m.Period = l.period()
	return coherence.Share(ctx, &l.core, m.calls, m.hints, m.Read, func(ctx context.Context, a *coherence.Answer[T]) error {
		// Another load may have filled the cache since this caller's lookup. The lease must be long enough for all callers that join
		// later, so until the end of the period.
		if e := l.lookup(&m.place, m.hints, m.Counter); e != nil && (e.lease == nil || e.lease.end() >= l.periodEnd(m.Period)) {
			if v, ok := m.from(e, m.Args); ok {
				a.Value = v
				if e.version.known {
					a.RecordVersion(m.place.key.id, e.version.n, e.version.n)
				}
				return nil
			}
		}
		return m.fetch(ctx, l, a, false)
	})
}

func (m *miss[K, T]) direct(ctx context.Context, l *cached) (*coherence.Answer[T], error) {
	a := new(coherence.Answer[T])
	return a, m.fetch(a.Listen(l.core.Unnamed(ctx)), l, a, m.hints.Fresh())
}

// fetch loads the value and caches it. A fresh value replaces an entry if their versions cannot be compared.
func (m *miss[K, T]) fetch(ctx context.Context, l *cached, a *coherence.Answer[T], fresh bool) (err error) {
	begin := l.now()
	a.Value, err = m.load(l.next, ctx, m.Args)
	m.keep(l, begin, a, err, fresh)
	return err
}

func (m *miss[K, T]) keep(l *cached, begin time.Duration, a *coherence.Answer[T], err error, fresh bool) {
	if !m.Counter.Idle() || !l.serving.Load() {
		return
	}
	p, reports := m.place, a.Reports()
	e := &entry{tag: m.Counter, expires: l.expiry(begin), since: begin, lease: l.leaseFrom(begin)}
	if rep, ok := coherence.Only(reports, p.key.id); ok && rep.Before == rep.After {
		e.version = version{rep.After, true}
	}
	// No poll can confirm an entry without a version. Past its lease it would only take up room.
	if e.lease != nil && !e.version.known && (e.expires == 0 || e.lease.end() < e.expires) {
		e.expires = e.lease.end()
	}
	switch {
	case len(reports) > 0 && !e.version.known:
		// A hit could not report the version of this answer, and its caller might write over what has changed since. The
		// present entry may be older than the answer.
		l.overtaken(p)
	case err == nil && m.fill(e, &a.Value, m.Args) && !m.hints.NoStore():
		l.shard(&p).fill(p.key, e, l.core.Counters.Load(p.slot), l.now(), fresh)
	case err == nil || store.CodeOf(err) == store.CodeNotFound:
		// There is nothing to store. But the answer may show that another process has changed or deleted the row.
		if old := l.index.get(&p.key); old != nil && (old.outdated(e) || fresh && !old.sure(e)) {
			l.shard(&p).drop(p.key, old, byWrite)
		}
	}
}
