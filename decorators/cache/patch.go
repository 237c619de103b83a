package cache

import (
	"context"
	"log/slog"
	"time"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/internal/generation"
	"github.com/chatstore/chatstore/store/layer"
)

// write makes a write in the base, and patches or drops the row's entry. patch gets a copy of the entry that was valid when
// the write began. It changes the copy as the write has changed the row. If patch is nil, the entry is dropped.
func (l *cached) write(ctx context.Context, h layer.Hints, p place, call func(context.Context) error,
	patch func(*entry)) (err error) {
	w := l.core.NewWrite(ctx, p.slot)
	// A closed cache announces its writes too: other caches may be open.
	if l.cfg.bus != nil {
		n := l.writes.Add(1)<<slotBits | mark(p.slot)
		w.Stamp(bus.Stamp{Origin: l.origin, Write: n})
		defer func() { l.announce(ctx, p.key, n, w, err) }()
	}
	return w.Make(func(ctx context.Context, before generation.Counter) error {
		begin := l.now()
		e := l.known(p, before)
		settled := false
		defer func() {
			if !settled { // after an error or a panic, too, no counter will equal the entry's tag again
				l.overtaken(p)
			}
		}()
		if e == nil || patch == nil {
			return call(ctx)
		}
		err := call(w.Listen(ctx))
		reports := w.Reports()
		coherence.Forward(h, reports)
		if err == nil {
			l.patch(p, e, before, begin, reports, patch)
			settled = true
		}
		return err
	})
}

// known returns the entry that a write may patch: the one that was valid when the write began, at the counter before. No tag
// is the counter of a write in progress, so there was no other writer.
func (l *cached) known(p place, before generation.Counter) *entry {
	if !l.mayPatch {
		return nil
	}
	if e := l.index.get(&p.key); e != nil && e.tag == before {
		return e
	}
	return nil
}

// overtaken drops the row's entry, if there is one.
func (l *cached) overtaken(p place) {
	if e := l.index.get(&p.key); e != nil {
		l.shard(&p).drop(p.key, e, byWrite)
	}
}

// patch replaces e by its patched copy if the state before the write is known to be e's. Otherwise it drops e.
func (l *cached) patch(p place, e *entry, before generation.Counter, begin time.Duration, reports []coherence.Report,
	patch func(*entry)) {
	next := *e
	// The tag is the counter that the end of this write leaves if no other write begins or ends in between. If one does, the
	// entry is never used. The counter must not be read again here: it would include the other write.
	next.tag = before.AfterWrite()
	rep, reported := coherence.Only(reports, p.key.id)
	known := true
	switch {
	case e.version.known && reported && rep.Before == e.version.n:
		next.version.n = rep.After
		next.expires = l.expiry(begin) // the base has confirmed the entry's state
		next.since = l.now()           // the write names no epoch, so the lease stays
	case len(reports) == 0 && !e.version.known && l.cfg.soleWriter:
	default:
		known = false
	}
	if !known {
		l.stats.dropped.Add(1)
		l.shard(&p).drop(p.key, e, byWrite)
		if len(reports) == 0 && !l.cfg.soleWriter && p.key.kind == coherence.ThreadCounter { // attachments have no versions
			l.warnUnversioned()
		}
		return
	}
	patch(&next)
	l.stats.patched.Add(1)
	l.shard(&p).replace(p.key, e, &next, begin)
}

// warnUnversioned logs once per cache that writes cannot patch entries. A second caller does not wait for the first one's
// logger.
func (l *cached) warnUnversioned() {
	if !l.warned.CompareAndSwap(false, true) {
		return
	}
	advice := "report versions with driver.ReportVersion"
	if l.cfg.bus == nil { // WithBus says that there are other writers
		advice += ", or use cache.WithSoleWriter if nothing else writes to the base"
	}
	l.logger().Warn("cache: writes report no thread versions, so every write drops its thread from the cache: " + advice)
}

func (l *cached) logger() *slog.Logger {
	if l.cfg.logger == nil {
		return slog.Default()
	}
	return l.cfg.logger
}
