package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// WithInactive makes Prune delete threads that were created longer than d ago and have no item since then. d must be positive.
func WithInactive(d time.Duration) Option { return func(c *config) { c.inactive = d } }

// WithNewest makes Prune delete the threads of each owner but the newest n, by CreatedAt. n must not be negative.
func WithNewest(n int) Option { return func(c *config) { c.newest = n } }

// WithHold makes Prune keep the threads for which f returns true, such as those of a lawsuit. Its error ends the call.
func WithHold(f func(context.Context, chat.Thread) (bool, error)) Option {
	return func(c *config) { c.hold = f }
}

// WithDryRun makes Prune and PruneAttachments count, and delete nothing.
func WithDryRun() Option { return func(c *config) { c.dryRun = true } }

// WithPause makes Prune wait for d after each hundred old threads, to spare the base. PruneAttachments waits after each hundred
// threads that it has read.
func WithPause(d time.Duration) Option { return func(c *config) { c.pause = d } }

// WithPart makes Prune look at one of n equal parts of the threads only, so that n runners share the work. i is between 0 and
// n-1.
func WithPart(i, n int) Option { return func(c *config) { c.part, c.parts = i, n } }

// Pruned says what Prune or PruneAttachments has done.
type Pruned struct {
	Deleted int // by this call, or under WithDryRun, would be deleted
	Held    int // kept by WithHold
	Changed int // kept, because they were written to meanwhile
}

// Prune deletes old threads of the owners that f selects, with their items. Attachments stay: see [PruneAttachments]. WithInactive
// or WithNewest says which threads are old. With neither or both, Prune is [store.ErrInvalid], and so it is with an argument of an
// option that is out of range.
//
// WithInactive deletes a thread only if nobody has written to it since it was found: under [store.IfVersion], with its version from
// the same snapshot. WithNewest keeps the threads that were the newest when Prune passed them. If some of them are deleted during
// the call, fewer than n may be left. The threads that have no owner count as those of one owner. Both options need a base that
// reports versions. s is the stack inside of a guard, so that caches drop what is deleted.
//
// WithInactive needs a base that is a [driver.Inactive], else the error is [errors.ErrUnsupported]. WithNewest keeps in memory a
// number for each owner, and about 50 bytes for each of the newest threads.
//
// Prune may be repeated after an error. Several may run at once. The options are WithInactive, WithNewest, WithHold, WithDryRun,
// WithPause, WithPart and WithProgress.
func Prune(ctx context.Context, s store.Store, f store.OwnerFilter, opts ...Option) (Pruned, error) {
	p := newPruner(s, opts)
	byAge, byNumber := p.inactive != unset, p.newest != unset
	switch {
	case byAge == byNumber:
		return p.done, badOption("one of WithInactive and WithNewest is needed")
	case byAge && p.inactive <= 0:
		return p.done, badOption("WithInactive: not positive")
	case byNumber && p.newest < 0:
		return p.done, badOption("WithNewest: negative")
	case p.part < 0 || p.part >= p.parts:
		return p.done, badOption("WithPart: no such part")
	}
	if byAge {
		err := p.old(ctx, f, time.Now().Add(-p.inactive))
		return p.done, err
	}
	err := p.surplus(ctx, f)
	return p.done, err
}

// unset is the value of options that the caller has not given.
const unset = math.MinInt

func badOption(fault string) error {
	return &store.Error{Code: store.CodeInvalid, Field: "options: " + fault}
}

type pruner struct {
	config
	s      store.Store
	seen   int
	looked Counts
	done   Pruned
}

func newPruner(s store.Store, opts []Option) *pruner {
	p := &pruner{config: config{inactive: unset, newest: unset, parts: 1}, s: s}
	for _, o := range opts {
		o(&p.config)
	}
	return p
}

// old deletes the threads without an item since before.
func (p *pruner) old(ctx context.Context, f store.OwnerFilter, before time.Time) error {
	finder, ok := store.As[driver.Inactive](p.s)
	if !ok {
		return fmt.Errorf("lifecycle: the store cannot find inactive threads: %w", errors.ErrUnsupported)
	}
	found := rows(ctx, store.OldestFirst, func(ctx context.Context, q store.PageQuery) (store.Page[driver.ThreadVersion], error) {
		return finder.InactiveThreads(ctx, before, store.ThreadQuery{PageQuery: q, Owner: f})
	})
	for t, err := range found {
		if err == nil && p.mine(t.ID) {
			err = p.prune(ctx, t.ID, t.Version)
		}
		if err != nil {
			return err
		}
		p.looked.Threads++
		p.tell(p.looked)
	}
	return nil
}

// surplus deletes the threads of each owner but the newest.
func (p *pruner) surplus(ctx context.Context, f store.OwnerFilter) error {
	number, kept := map[chat.Owner]int{}, map[key]bool{}
	newestFirst := rows(ctx, store.NewestFirst, func(ctx context.Context, q store.PageQuery) (store.Page[chat.Thread], error) {
		return p.s.LoadThreads(ctx, store.ThreadQuery{PageQuery: q, Owner: f})
	})
	var last chat.Thread
	for t, err := range newestFirst {
		if err != nil {
			return err
		}
		p.looked.Threads++
		p.tell(p.looked)
		// If the thread of the cursor gets a newer CreatedAt, the listing begins again there. What comes then was counted, or is newer.
		if last.ID != "" && (t.CreatedAt.After(last.CreatedAt) || t.CreatedAt.Equal(last.CreatedAt) && t.ID >= last.ID) {
			continue
		}
		last = t
		switch {
		case kept[keyOf(t.ID)]: // it has got an older CreatedAt
			continue
		case number[t.Owner] < p.newest:
			number[t.Owner]++
			kept[keyOf(t.ID)] = true
			continue
		case !p.mine(t.ID):
			continue
		}
		reading, versions := reading(ctx)
		now, err := p.s.LoadThread(reading, t.ID)
		version, ok := versions.Of(t.ID)
		switch {
		case errors.Is(err, store.ErrNotFound):
			continue
		case err != nil:
			return err
		case !ok:
			return errNoVersions
		case !now.CreatedAt.Equal(t.CreatedAt): // it may be a new one
			p.done.Changed++
			continue
		}
		if err := p.prune(ctx, t.ID, version); err != nil {
			return err
		}
	}
	return nil
}

var errNoVersions = fmt.Errorf("lifecycle: the store reports no versions: %w", errors.ErrUnsupported)

// mine reports whether the thread is in this runner's part.
func (p *pruner) mine(id string) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return int(h.Sum32()%uint32(p.parts)) == p.part
}

// prune deletes the thread, if it still has the version and is not held.
func (p *pruner) prune(ctx context.Context, id string, version uint64) error {
	if err := p.rest(ctx); err != nil {
		return err
	}
	if p.hold != nil {
		fresh, _ := reading(ctx)
		t, err := p.s.LoadThread(fresh, id)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		held := false
		if err == nil {
			held, err = p.hold(ctx, t)
		}
		if err != nil {
			return err
		}
		if held {
			p.done.Held++
			return nil
		}
	}
	if p.dryRun {
		p.done.Deleted++
		return nil
	}
	deleting, versions := store.WithVersions(store.IfVersion(ctx, id, version))
	err := p.s.DeleteThread(deleting, id)
	_, missing := versions.Of(id) // a deletion that changes nothing counts as a read
	switch {
	case errors.Is(err, store.ErrConflict):
		p.done.Changed++
		return nil
	case err == nil && !missing:
		p.done.Deleted++
	}
	return err
}
