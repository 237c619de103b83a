package cache

import (
	"context"
	"log/slog"
	"time"

	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/internal/generation"
	"github.com/chatstore/chatstore/store/layer"
)

// write passes a write on and keeps the cache true. patch gets a copy of the entry that was true when the write began, and
// makes it what is true after the write has succeeded. Without a patch, or if it returns false, the entry is dropped.
func (l *cached) write(ctx context.Context, h layer.Hints, p place, call func(context.Context) error,
	patch func(*entry) bool) error {
	// Also of a closed cache: others may be open.
	return l.announced(ctx, p.key, func(ctx context.Context) (definite bool, err error) {
		return l.core.Write(ctx, p.slot, func(ctx context.Context, before generation.Counter) error {
			begin := l.now()
			e := l.known(p, before)
			settled := false
			defer func() {
				if !settled { // nor after an error or a panic will a counter make true again what was there
					l.overtaken(p)
				}
			}()
			if e == nil || patch == nil {
				return call(ctx)
			}
			var rec coherence.Recorder
			err := call(rec.Listen(ctx))
			reports := rec.Reports()
			coherence.Forward(h, reports)
			if err == nil {
				l.patch(p, e, before, begin, reports, patch)
				settled = true
			}
			return err
		})
	})
}

// known returns the entry that a write which began at the counter before may patch: one that was true then. No tag is the counter
// of a write in progress, so no other writer was about.
func (l *cached) known(p place, before generation.Counter) *entry {
	if !l.mayPatch {
		return nil
	}
	if e := p.shard.peek(p.key); e != nil && e.tag == before {
		return e
	}
	return nil
}

// overtaken drops the entry of a place, which no counter will make true again.
func (l *cached) overtaken(p place) {
	if e := p.shard.peek(p.key); e != nil {
		p.shard.drop(p.key, e, byWrite)
	}
}

// patch replaces e by what it is after the write, if that is known.
func (l *cached) patch(p place, e *entry, before generation.Counter, begin time.Duration, reports []coherence.Report,
	patch func(*entry) bool) {
	next := *e
	// The tag is the counter that the end of this write makes of the counter it began at. If another write began or ended in
	// between, the counter is another, and the entry is never used. The counter must not be read again here: it would have the
	// other write in it.
	next.tag = before.AfterWrite()
	rep, reported := coherence.Only(reports, p.key.id)
	known := true
	switch {
	case e.version.known && reported && rep.Before == e.version.n:
		next.version.n = rep.After
		next.expires = l.expiry(begin) // it was the base's own state just now
	case len(reports) == 0 && !e.version.known && l.cfg.soleWriter:
	default:
		known = false
		if len(reports) == 0 && !l.cfg.soleWriter && p.key.kind == coherence.ThreadCounter { // attachments have no versions
			l.warnUnversioned()
		}
	}
	if !known || !patch(&next) {
		l.stats.dropped.Add(1)
		p.shard.drop(p.key, e, byWrite)
		return
	}
	l.stats.patched.Add(1)
	p.shard.replace(p.key, e, &next, begin)
}

// warnUnversioned logs, once per cache, that writes cannot patch. No caller waits for another's logging.
func (l *cached) warnUnversioned() {
	if !l.warned.CompareAndSwap(false, true) {
		return
	}
	logger := l.cfg.logger
	if logger == nil {
		logger = slog.Default()
	}
	logger.Warn("cache: writes report no thread versions, so every write drops its thread from the cache: " +
		"report versions with driver.ReportVersion, or use cache.WithSoleWriter if nothing else writes to the base")
}
