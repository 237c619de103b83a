package memstore

import (
	"context"
	"strings"
	"sync"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// thread is an id that a thread has or had. When the thread is deleted, owner and version stay.
type thread struct {
	owner chat.Owner // never changes

	mu      sync.RWMutex
	version uint64
	// live is nil if the thread is deleted. It and its row are written with both listings.mu and mu held, so either lock is
	// enough to read them.
	live *conversation
}

// conversation is an existing thread with its items.
type conversation struct {
	row   *row[chat.Thread]
	seq   uint64 // of the item inserted last
	items map[string]*row[chat.Item]
	index index[chat.Item]
}

// thread returns the thread of the id, or nil if the id was never used.
func (s *Store) thread(id string) *thread {
	if t, ok := s.threads.Load(id); ok {
		return t.(*thread)
	}
	return nil
}

// read calls f under the thread's read lock, with its conversation, or nil if there is none. It returns the version that f
// saw.
func (s *Store) read(id string, f func(*conversation)) (version uint64) {
	t := s.thread(id)
	if t == nil {
		f(nil)
		return 0
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	f(t.live)
	return t.version
}

// LoadThread returns the thread. A missing one is [store.ErrNotFound].
func (s *Store) LoadThread(ctx context.Context, threadID string) (chat.Thread, error) {
	const op = store.OpLoadThread
	if err := checks.Thread(ctx, op, threadID); err != nil {
		return chat.Thread{}, err
	}
	var thread chat.Thread
	found := false
	version := s.read(threadID, func(c *conversation) {
		if c != nil {
			thread, found = c.row.val, true
		}
	})
	driver.ReportVersion(ctx, threadID, version, version)
	if !found {
		return chat.Thread{}, failed(op, store.CodeNotFound, store.RowThread, threadID)
	}
	return thread, nil
}

// SaveThread inserts or replaces the thread.
func (s *Store) SaveThread(ctx context.Context, thread chat.Thread) error {
	w, err := checks.SaveThread(ctx, thread)
	if err != nil {
		return err
	}
	before, after, err := s.saveThread(w)
	driver.ReportVersion(ctx, thread.ID, before, after)
	return err
}

func (s *Store) saveThread(w driver.SaveThread) (before, after uint64, err error) {
	const op = store.OpSaveThread
	saved := w.Thread
	s.listings.mu.Lock()
	defer s.listings.mu.Unlock()
	t := s.thread(saved.ID)
	if t == nil {
		t = &thread{owner: cloneOwner(saved.Owner)}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	before = t.version
	if err := w.Condition.Check(op, saved.ID, before); err != nil {
		return before, before, err
	}
	if code := refusal(w.Mode, t.live != nil, t.owner, saved.Owner); code != store.CodeOK {
		return before, before, failed(op, code, store.RowThread, saved.ID)
	}
	saved.Owner = t.owner
	at := saved.CreatedAt.UnixMicro()
	switch {
	case t.live == nil:
		s.listings.seq++
		t.live = &conversation{row: &row[chat.Thread]{key{at, s.listings.seq}, saved}}
		s.listings.insert(t.live.row)
	case t.live.row.key.at == at:
		t.live.row.val = saved
	default:
		s.listings.remove(t.live.row)
		t.live.row.key.at, t.live.row.val = at, saved
		s.listings.insert(t.live.row)
	}
	t.version++
	if before == 0 {
		s.threads.Store(strings.Clone(saved.ID), t)
	}
	return before, t.version, nil
}

// cloneOwner copies the strings of o. The caller may have cut them from a longer text, which would stay in memory.
func cloneOwner(o chat.Owner) chat.Owner {
	return chat.Owner{Tenant: strings.Clone(o.Tenant), Subject: strings.Clone(o.Subject)}
}

// DeleteThread deletes the thread and its items.
func (s *Store) DeleteThread(ctx context.Context, threadID string) error {
	cond, err := checks.DeleteThread(ctx, threadID)
	if err != nil {
		return err
	}
	before, after, err := s.deleteThread(threadID, cond)
	driver.ReportVersion(ctx, threadID, before, after)
	return err
}

func (s *Store) deleteThread(id string, cond driver.Condition) (before, after uint64, err error) {
	s.listings.mu.Lock()
	defer s.listings.mu.Unlock()
	t := s.thread(id)
	if t == nil {
		return 0, 0, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	before = t.version
	if t.live == nil {
		return before, before, nil
	}
	if err := cond.Check(store.OpDeleteThread, id, before); err != nil {
		return before, before, err
	}
	s.listings.remove(t.live.row)
	t.live = nil
	t.version++
	return before, t.version, nil
}

// LoadThreads returns a page of the threads that q.Owner matches.
func (s *Store) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	const op = store.OpLoadThreads
	q, err := checks.Threads(ctx, q)
	if err != nil {
		return store.Page[chat.Thread]{}, err
	}
	s.listings.mu.RLock()
	defer s.listings.mu.RUnlock()
	var after *row[chat.Thread]
	if q.After != "" {
		t := s.thread(q.After)
		if t == nil || t.live == nil || !q.Owner.Match(t.owner) {
			return store.Page[chat.Thread]{}, failed(op, store.CodeNotFound, store.RowThread, q.After)
		}
		after = t.live.row
	}
	return s.listings.of(q.Owner).page(after, q.PageQuery, func(t *chat.Thread) string { return t.ID }), nil
}
