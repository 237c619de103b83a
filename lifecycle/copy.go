package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// Copied says what Copy has done. A row counts again each time that it is written.
type Copied struct {
	Saved   Counts // rows that Copy saved at the target
	Same    Counts // rows that the target had already. Of threads that a journal knows, items are not counted
	Deleted Counts // rows that Copy deleted at the target. Items that were saved again in another order count too
}

// WithJournal makes Copy note in a file which version of each thread the target has, and at which version of its own. The next Copy
// skips the threads that neither store has changed since. The file belongs to one source and one target, and to one Copy at a time. If
// the source's [driver.VersionReader] has a new epoch, all threads are compared again. SQLite has a new epoch for each Store. A file
// that Copy refuses may be deleted, if no Copy has written to the target within its LongestWrite.
func WithJournal(path string) Option { return func(c *config) { c.journal = path } }

// WithParallel makes Copy copy n threads at once. The default is 4.
func WithParallel(n int) Option { return func(c *config) { c.parallel = n } }

// WithFence makes Copy move a live service. When most rows are copied, Copy calls f. It must make every process refuse writes at
// the source, and return when all writes that began before have returned. See package readonly. Copy then waits for the LongestWrite
// ([driver.WriteBounder], without one a minute) of its own source, which must have the time limits of the service's. Then it copies
// what has changed. If f fails, Copy returns its error.
func WithFence(f func(context.Context) error) Option { return func(c *config) { c.fence = f } }

// Copy makes the rows of a store as those of another one, the target first as in io.Copy. It copies threads and their items
// with the order of listings, then attachments, and the grants ([sharing.Grants]) of each thread that it copies. Copy it again to
// bring over what has changed: equal rows are not written. The options are WithJournal, WithParallel, WithFence,
// WithoutAttachments and WithProgress, which counts anew in each pass.
//
// Programs may write to the source meanwhile. Each thread is at one version when it has been copied. Without WithFence the copy
// has no common instant. With it, the target is the source when Copy returns nil, except for what is named below. Nothing else moves
// a live service: programs that write to both stores leave them different. Nobody else may write to the target.
//
// Deletions are carried if the journal knows the thread, or if the source lists its tombstones ([driver.Tombstones]). Other threads
// and attachments that only the target has stay: see [Verify]. A deleted id keeps its owner and place, and an erased one stays
// unusable, if the target is a [driver.Tombstones], and for erased ones a [driver.Eraser]. An id that the source has erased is erased
// at the target, whoever has it there. After erasures Copy calls the target's [driver.Scrubber].
//
// Not carried are the places of deleted items, the times of grants, and so the order of [sharing.Grants]'s SharedWith. If the target
// has other rows of an erased owner, the owner's name stays there.
//
// Both stores must report thread versions. A store that cannot list attachments, and a grant that the target cannot keep, are
// [errors.ErrUnsupported]. A row of another owner under the same id is [store.ErrConflict]. So is a thread that changes ten times
// while it is copied; before the fence, it is left for the last pass.
//
// After an error, call Copy again. A write of a killed Copy, or one with an unknown outcome, may still take effect at the target. So
// the next Copy waits for the target's LongestWrite if the journal has no clean end. Without a journal, wait before you call it.
//
// The stores are stacks inside of a guard, or bases. Copy reads both past their caches. Memory grows with the number of threads, as
// Copy keeps their ids and versions.
func Copy(ctx context.Context, to, from store.Store, opts ...Option) (Copied, error) {
	c := newCopier(from, to)
	c.config = config{attachments: true, parallel: 4}
	for _, o := range opts {
		o(&c.config)
	}
	for what, s := range map[string]store.Store{"source": from, "target": to} {
		if _, lists := store.As[driver.AttachmentLister](s); c.attachments && !lists {
			return Copied{}, fmt.Errorf("lifecycle: the %s cannot list attachments: %w", what, errors.ErrUnsupported)
		}
	}
	j, err := openJournal(c.config.journal)
	if err != nil {
		return Copied{}, err
	}
	c.journal = j
	err = c.run(ctx)
	return c.done, errors.Join(err, j.close())
}

// copier copies rows from a store to another.
type copier struct {
	config
	from, to             store.Store
	longest              time.Duration        // an abandoned write to the target may take effect so long
	versions, toVersions driver.VersionReader // or nil
	fromGrants, toGrants sharing.Grants       // or nil
	journal              *journal
	buries               bool         // the target is a driver.Tombstones
	fenced               bool         // the source changes no more
	doubts               atomic.Int64 // writes whose outcome is unknown, and which may be under way

	mu     sync.Mutex
	done   Copied
	looked Counts
}

func newCopier(from, to store.Store) *copier {
	c := &copier{from: from, to: to, longest: longestWrite(to), journal: newJournal()}
	c.versions, _ = store.As[driver.VersionReader](from)
	c.toVersions, _ = store.As[driver.VersionReader](to)
	c.fromGrants, _ = store.As[sharing.Grants](from)
	_, c.buries = store.As[driver.Tombstones](to)
	c.toGrants, _ = store.As[sharing.Grants](to)
	return c
}

func (c *copier) run(ctx context.Context) error {
	if !c.journal.clean {
		if err := wait(ctx, c.longest); err != nil {
			return err
		}
	}
	err := c.pass(ctx)
	if err != nil || c.fence == nil {
		return err
	}
	if c.versions != nil {
		if err := c.pass(ctx); err != nil {
			return err
		}
	}
	if err := c.fence(ctx); err != nil {
		return err
	}
	if err := wait(ctx, longestWrite(c.from)); err != nil {
		return err
	}
	c.fenced = true
	return c.pass(ctx)
}
