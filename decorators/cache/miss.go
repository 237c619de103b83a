package cache

import (
	"context"
	"time"

	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/internal/flight"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// miss is a read of a T that no entry has answered.
type miss[T any] struct {
	coherence.Read
	kind  kind
	hints layer.Hints
	place place
	calls *flight.Group[*coherence.Answer[T]]
	load  func(context.Context) (T, error)
	fill  func(*entry, *T) bool  // puts the loaded value into an entry; false: the value must not be cached
	from  func(*entry) (T, bool) // answers the read from an entry that another miss has filled
}

// answer loads the value and fills the cache. Reads share the load, unless they bypass the cache or are no-store reads.
func (m *miss[T]) answer(ctx context.Context, l *cached) (T, error) {
	result, load := missed, m.share
	if l.bypassed(m.hints) || m.hints.NoStore() {
		result, load = bypass, m.direct
	}
	l.requests.Add(requested(m.kind, result), 1)
	m.hints.Notes.SetCache(resultNames[result])
	a, err := load(ctx, l)
	coherence.Forward(m.hints, a.Reports)
	return a.Value, err
}

func (m *miss[T]) share(ctx context.Context, l *cached) (*coherence.Answer[T], error) {
	return coherence.Share(ctx, &l.core, m.calls, m.hints, m.Read, func(ctx context.Context) (*coherence.Answer[T], error) {
		// Another load may have filled the cache since this caller's lookup.
		if e := l.lookup(&m.place, m.hints, m.Counter); e != nil {
			if v, ok := m.from(e); ok {
				return &coherence.Answer[T]{Value: v, Reports: e.version.reports(m.place.key.id)}, nil
			}
		}
		return m.fetch(ctx, l, false)
	})
}

func (m *miss[T]) direct(ctx context.Context, l *cached) (*coherence.Answer[T], error) {
	return m.fetch(l.core.Unnamed(ctx), l, m.hints.Fresh())
}

// fetch loads the value and caches it. A fresh value replaces an entry if their versions cannot be compared.
func (m *miss[T]) fetch(ctx context.Context, l *cached, fresh bool) (*coherence.Answer[T], error) {
	begin := l.now()
	a, err := coherence.Direct(ctx, m.load)
	m.keep(l, begin, a, err, fresh)
	return a, err
}

func (m *miss[T]) keep(l *cached, begin time.Duration, a *coherence.Answer[T], err error, fresh bool) {
	if !m.Counter.Idle() || !l.serving.Load() {
		return
	}
	p := m.place
	e := &entry{tag: m.Counter, expires: l.expiry(begin)}
	if rep, ok := coherence.Only(a.Reports, p.key.id); ok && rep.Before == rep.After {
		e.version = version{rep.After, true}
	}
	switch {
	case len(a.Reports) > 0 && !e.version.known:
		// A hit could not report the version of this answer, and its caller might write over what has changed since. The
		// present entry may be older than the answer.
		l.overtaken(p)
	case err == nil && m.fill(e, &a.Value) && !m.hints.NoStore():
		l.shard(&p).fill(p.key, e, l.core.Counters.Load(p.slot), l.now(), fresh)
	case err == nil || store.CodeOf(err) == store.CodeNotFound:
		// There is nothing to store. But the answer may show that another process has changed or deleted the row.
		if old := l.index.get(&p.key); old != nil && (old.outdated(e) || fresh && !old.sure(e)) {
			l.shard(&p).drop(p.key, old, byWrite)
		}
	}
}
