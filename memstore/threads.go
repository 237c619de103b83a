package memstore

import (
	"context"
	"strings"
	"sync"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// thread is an id that a thread has or had. When the thread is deleted, all but live stays.
type thread struct {
	// claim and key are written with both listings.mu and mu held, so either lock is enough to read them.
	claim
	key idKey // the place in listings of the thread, or of the one that was deleted

	mu      sync.RWMutex
	version uint64
	// live is nil if the thread is deleted. It and its row are written with both listings.mu and mu held.
	live *conversation
}

// conversation is an existing thread with its items.
type conversation struct {
	row   *row[idKey, chat.Thread]
	seq   uint64 // of the item inserted last
	items map[string]*row[itemKey, chat.Item]
	gone  map[string]itemKey // the places of deleted items
	index index[itemKey, chat.Item]
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
		t = &thread{claim: claimOf(saved.Owner), key: idKey{id: strings.Clone(saved.ID)}}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	before = t.version
	if err := w.Condition.Check(op, saved.ID, before); err != nil {
		return before, before, err
	}
	if code := t.refusal(w.Mode, t.live != nil, saved.Owner); code != store.CodeOK {
		return before, before, failed(op, code, store.RowThread, saved.ID)
	}
	saved.Owner = t.owner
	at := saved.CreatedAt.UnixMicro()
	switch {
	case t.live == nil:
		t.key.at = at
		t.live = &conversation{row: &row[idKey, chat.Thread]{t.key, saved}}
		s.listings.insert(t.owner, t.live.row)
	case t.key.at == at:
		t.live.row.val = saved
	default:
		s.listings.remove(t.owner, t.live.row)
		t.key.at = at
		t.live.row.key, t.live.row.val = t.key, saved
		s.listings.insert(t.owner, t.live.row)
	}
	t.version++
	if before == 0 {
		s.threads.Store(t.key.id, t)
	}
	return before, t.version, nil
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
	s.remove(t)
	return before, t.version, nil
}

// remove deletes the thread with its items. The caller holds listings.mu and t.mu.
func (s *Store) remove(t *thread) {
	s.listings.remove(t.owner, t.live.row)
	t.live = nil
	t.version++
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
	after, err := s.placeOf(op, q)
	if err != nil {
		return store.Page[chat.Thread]{}, err
	}
	return s.listings.of(q.Owner).page(after, q.PageQuery, func(t *chat.Thread) string { return t.ID }), nil
}

// placeOf returns the place of q.After among the threads, or nil if q has no cursor. The caller holds listings.mu.
func (s *Store) placeOf(op store.Op, q store.ThreadQuery) (*idKey, error) {
	if q.After == "" {
		return nil, nil
	}
	t := s.thread(q.After)
	if t == nil || !t.matches(q.Owner) {
		return nil, failed(op, store.CodeNotFound, store.RowThread, q.After)
	}
	return &t.key, nil
}
