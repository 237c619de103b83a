package memstore

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// EraseOwner erases all rows of the owner, and its name from the ids of deleted ones. The ids that it returns are sorted. See
// [driver.Eraser].
func (s *Store) EraseOwner(ctx context.Context, owner chat.Owner) (driver.Erased, error) {
	if err := checks.Owner(ctx, owner); err != nil {
		return driver.Erased{}, err
	}
	s.listings.mu.Lock()
	defer s.listings.mu.Unlock()
	s.attachments.mu.Lock()
	defer s.attachments.mu.Unlock()

	var erased driver.Erased
	var locked []*thread // until all is erased, so that no reader finds a part
	defer func() {
		for _, t := range locked {
			t.mu.Unlock()
		}
	}()
	s.threads.Range(func(_, v any) bool {
		t := v.(*thread)
		if t.owner != owner {
			return true
		}
		t.mu.Lock()
		locked = append(locked, t)
		if t.live != nil {
			s.remove(t)
			erased.Threads = append(erased.Threads, t.key.id)
		} else {
			erased.Deleted++
		}
		t.claim = claim{erased: true}
		return true
	})
	for id, a := range s.attachments.byID {
		if a.owner != owner {
			continue
		}
		if a.row != nil {
			s.attachments.delete(a)
			erased.Attachments = append(erased.Attachments, id)
		} else {
			erased.Deleted++
		}
		a.claim = claim{erased: true}
	}
	slices.Sort(erased.Threads)
	slices.Sort(erased.Attachments)
	return erased, nil
}

// ThreadVersions returns the versions of the threads, and the epoch of this Store. See [driver.VersionReader].
func (s *Store) ThreadVersions(ctx context.Context, ids []string) (epoch string, versions []uint64, err error) {
	if err := checks.ThreadIDs(ctx, ids); err != nil {
		return "", nil, err
	}
	versions = make([]uint64, len(ids))
	for i, id := range ids {
		versions[i] = s.read(id, func(*conversation) {})
	}
	return s.epoch, versions, nil
}

// InactiveThreads returns a page of the threads that q.Owner matches and that have no item since before. See [driver.Inactive].
func (s *Store) InactiveThreads(ctx context.Context, before time.Time, q store.ThreadQuery) (store.Page[driver.ThreadVersion], error) {
	const op = store.OpLoadThreads
	var page store.Page[driver.ThreadVersion]
	q, err := checks.Threads(ctx, q)
	if err != nil {
		return page, err
	}
	before = before.Truncate(time.Microsecond) // as the times of rows
	s.listings.mu.RLock()
	defer s.listings.mu.RUnlock()
	after, err := s.placeOf(op, q)
	if err != nil {
		return page, err
	}
	for n, i := s.listings.of(q.Owner).first(after, q.Order); n != nil; n, i = n.step(i, q.Order) {
		id := n.rows[i].key.id
		inactive := false
		version := s.read(id, func(c *conversation) { inactive = c.inactiveSince(before) })
		switch {
		case !inactive:
		case len(page.Data) == q.Limit:
			page.HasMore, page.After = true, page.Data[q.Limit-1].ID
			return page, nil
		default:
			page.Data = append(page.Data, driver.ThreadVersion{ID: id, Version: version})
		}
	}
	return page, nil
}

// inactiveSince reports whether the thread and all its items were created before t.
func (c *conversation) inactiveSince(t time.Time) bool {
	newest, i := c.index.first(nil, store.NewestFirst)
	return c.row.val.CreatedAt.Before(t) && (newest == nil || newest.rows[i].val.CreatedAt.Before(t))
}

// ListTombstones returns a page of the deleted and erased ids. See [driver.Tombstones].
func (s *Store) ListTombstones(ctx context.Context, kind string, q store.PageQuery) (store.Page[driver.Tombstone], error) {
	q, err := checks.Tombstones(ctx, kind, q)
	if err != nil {
		return store.Page[driver.Tombstone]{}, err
	}
	var page store.Page[driver.Tombstone]
	before := func(a, b string) int {
		if q.Order == store.NewestFirst {
			return strings.Compare(b, a)
		}
		return strings.Compare(a, b)
	}
	// add keeps the first rows of those that it gets, in order.
	add := func(t driver.Tombstone) {
		if q.After != "" && before(t.ID, q.After) <= 0 {
			return
		}
		i, _ := slices.BinarySearchFunc(page.Data, t.ID, func(t driver.Tombstone, id string) int { return before(t.ID, id) })
		if i < q.Limit {
			page.Data = slices.Insert(page.Data[:min(len(page.Data), q.Limit)], i, t)
		} else if len(page.Data) == q.Limit {
			page.Data = append(page.Data, t)
		}
	}
	if kind == store.RowThread {
		s.listings.mu.RLock()
		defer s.listings.mu.RUnlock()
		s.threads.Range(func(_, v any) bool {
			if t := v.(*thread); t.live == nil {
				add(driver.Tombstone{ID: t.key.id, Owner: t.owner, CreatedAt: time.UnixMicro(t.key.at).UTC(), Erased: t.erased})
			}
			return true
		})
	} else {
		s.attachments.mu.RLock()
		defer s.attachments.mu.RUnlock()
		for id, a := range s.attachments.byID {
			if a.row == nil {
				add(driver.Tombstone{ID: id, Owner: a.owner, Erased: a.erased})
			}
		}
	}
	if len(page.Data) > q.Limit {
		page.Data = page.Data[:q.Limit]
		page.HasMore, page.After = true, page.Data[q.Limit-1].ID
	}
	return page, nil
}
