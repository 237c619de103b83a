// Package customstore is a Store of one's own, written to be copied: it keeps threads, items and attachments in maps under
// one lock, and passes the conformance suite (see store_test.go). Put your database in the maps' place.
//
// What makes it conformant is marked by "The contract:". It does not report thread versions, which is allowed: a cache
// above then needs cache.WithSoleWriter to keep its entries through writes (see Example).
package customstore

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/chatstore/chatstore/store"
)

// Store keeps everything in maps. A page sorts its whole listing: an index of your database does better.
type Store struct {
	store.DefaultIDs // GenerateThreadID and GenerateItemID

	mu          sync.Mutex
	seq         int // of the row inserted last
	threads     table[store.Thread]
	items       map[string]table[store.Item] // by thread
	attachments table[store.Attachment]
}

var _ store.Store = (*Store)(nil)

// New returns an empty Store.
func New() *Store {
	return &Store{
		threads:     table[store.Thread]{},
		items:       map[string]table[store.Item]{},
		attachments: table[store.Attachment]{},
	}
}

// table is what a table of your database would be.
type table[T any] map[string]*row[T]

type row[T any] struct {
	value T
	owner store.Owner
	at    time.Time // the order of a listing is by at, then by seq
	seq   int
	live  bool // The contract: a deleted row leaves its id and owner behind, so that nobody else can take the id.
}

func (t table[T]) get(id string) (value T, ok bool) {
	if r := t[id]; r != nil && r.live {
		return r.value, true
	}
	return value, false
}

// rowFor returns the row to save a value of that owner in.
func (t table[T]) rowFor(id string, owner store.Owner, mode store.SaveMode) (*row[T], store.Code) {
	r := t[id]
	if r == nil {
		r = &row[T]{owner: owner}
	}
	switch {
	case mode == store.InsertOnly && r.live:
		return nil, store.CodeConflict
	case mode == store.UpdateOnly && !r.live:
		return nil, store.CodeNotFound
	case !owner.IsZero() && owner != r.owner: // The contract: the first save sets the owner, for good.
		return nil, store.CodeConflict
	}
	t[id] = r
	return r, store.CodeOK
}

// set puts a value in its row. The contract: a replaced row keeps its place among rows of its time.
func (r *row[T]) set(value T, at time.Time, seq *int) {
	if !r.live {
		*seq++
		r.seq, r.live = *seq, true
	}
	r.value, r.at = value, at
}

// page lists the rows that match. ok is false if the cursor is none of them: the contract forbids to start again at the
// first page.
func (t table[T]) page(q store.PageQuery, match func(store.Owner) bool) (p store.Page[T], ok bool) {
	var ids []string
	for id, r := range t {
		if r.live && match(r.owner) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b string) int {
		if c := t[a].at.Compare(t[b].at); c != 0 {
			return c
		}
		return t[a].seq - t[b].seq
	})
	if q.Order == store.NewestFirst {
		slices.Reverse(ids)
	}
	if q.After != "" {
		i := slices.Index(ids, q.After)
		if i < 0 {
			return p, false
		}
		ids = ids[i+1:]
	}
	if len(ids) > q.Limit {
		ids = ids[:q.Limit]
		p.HasMore, p.After = true, ids[q.Limit-1]
	}
	for _, id := range ids {
		p.Data = append(p.Data, t[id].value)
	}
	return p, true
}

func failed(op store.Op, code store.Code, kind, id string) error {
	return &store.Error{Op: op, Code: code, Kind: kind, ID: id}
}

// valid is the check of what is asked for by id. The contract: what is invalid is refused before anything else is looked at,
// and a cancelled call does nothing. The Normalize functions check values and queries.
func valid(ctx context.Context, op store.Op, kind, id string) error {
	if err := store.CheckID(op, kind, id); err != nil {
		return err
	}
	return store.CheckContext(ctx, op, kind, id)
}

// savable is the rest of the check of a save.
func savable(ctx context.Context, op store.Op, kind, id string) error {
	if err := store.CheckSaveMode(ctx, op, kind, id); err != nil {
		return err
	}
	return store.CheckContext(ctx, op, kind, id)
}

// LoadThread is the method of [store.ThreadStore].
func (s *Store) LoadThread(ctx context.Context, threadID string) (store.Thread, error) {
	if err := valid(ctx, store.OpLoadThread, store.KindOfThread, threadID); err != nil {
		return store.Thread{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.threads.get(threadID)
	if !ok {
		return store.Thread{}, failed(store.OpLoadThread, store.CodeNotFound, store.KindOfThread, threadID)
	}
	return t, nil
}

// SaveThread is the method of [store.ThreadStore].
func (s *Store) SaveThread(ctx context.Context, thread store.Thread) error {
	thread, err := store.NormalizeThread(store.OpSaveThread, thread)
	if err != nil {
		return err
	}
	if err := savable(ctx, store.OpSaveThread, store.KindOfThread, thread.ID); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, code := s.threads.rowFor(thread.ID, thread.Owner, store.SaveModeFrom(ctx))
	if code != store.CodeOK {
		return failed(store.OpSaveThread, code, store.KindOfThread, thread.ID)
	}
	if !r.live {
		s.items[thread.ID] = table[store.Item]{}
	}
	thread.Owner = r.owner
	r.set(thread, thread.CreatedAt, &s.seq)
	return nil
}

// DeleteThread is the method of [store.ThreadStore].
func (s *Store) DeleteThread(ctx context.Context, threadID string) error {
	if err := valid(ctx, store.OpDeleteThread, store.KindOfThread, threadID); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.threads[threadID]; r != nil {
		r.value, r.live = store.Thread{}, false
		delete(s.items, threadID)
	}
	return nil
}

// LoadThreads is the method of [store.ThreadStore].
func (s *Store) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[store.Thread], error) {
	q, err := store.NormalizeThreadQuery(q)
	if err != nil {
		return store.Page[store.Thread]{}, err
	}
	if err := store.CheckContext(ctx, store.OpLoadThreads, store.KindOfThread, q.After); err != nil {
		return store.Page[store.Thread]{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.threads.page(q.PageQuery, q.Owner.Match)
	if !ok {
		return p, failed(store.OpLoadThreads, store.CodeNotFound, store.KindOfThread, q.After)
	}
	return p, nil
}

// LoadThreadItems is the method of [store.ItemStore].
func (s *Store) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[store.Item], error) {
	if err := store.CheckID(store.OpLoadThreadItems, store.KindOfThread, threadID); err != nil {
		return store.Page[store.Item]{}, err
	}
	q, err := store.NormalizeQuery(store.OpLoadThreadItems, store.KindOfItem, q)
	if err != nil {
		return store.Page[store.Item]{}, err
	}
	if err := store.CheckContext(ctx, store.OpLoadThreadItems, store.KindOfThread, threadID); err != nil {
		return store.Page[store.Item]{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.items[threadID].page(q, func(store.Owner) bool { return true })
	if !ok {
		return p, failed(store.OpLoadThreadItems, store.CodeNotFound, store.KindOfItem, q.After)
	}
	return p, nil
}

// AddThreadItem is the method of [store.ItemStore].
func (s *Store) AddThreadItem(ctx context.Context, threadID string, item store.Item) error {
	return s.saveItem(store.WithSaveMode(ctx, store.InsertOnly), store.OpAddThreadItem, threadID, item)
}

// SaveItem is the method of [store.ItemStore].
func (s *Store) SaveItem(ctx context.Context, threadID string, item store.Item) error {
	return s.saveItem(ctx, store.OpSaveItem, threadID, item)
}

func (s *Store) saveItem(ctx context.Context, op store.Op, threadID string, item store.Item) error {
	item, err := store.NormalizeItem(op, threadID, item)
	if err != nil {
		return err
	}
	if err := savable(ctx, op, store.KindOfItem, item.ID); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	items, ok := s.items[threadID]
	if !ok {
		return failed(op, store.CodeNotFound, store.KindOfThread, threadID)
	}
	r, code := items.rowFor(item.ID, store.Owner{}, store.SaveModeFrom(ctx))
	if code != store.CodeOK {
		return failed(op, code, store.KindOfItem, item.ID)
	}
	r.set(item, item.CreatedAt, &s.seq)
	return nil
}

// LoadItem is the method of [store.ItemStore].
func (s *Store) LoadItem(ctx context.Context, threadID, itemID string) (store.Item, error) {
	if err := store.CheckID(store.OpLoadItem, store.KindOfThread, threadID); err != nil {
		return store.Item{}, err
	}
	if err := valid(ctx, store.OpLoadItem, store.KindOfItem, itemID); err != nil {
		return store.Item{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	it, ok := s.items[threadID].get(itemID)
	if !ok {
		return store.Item{}, failed(store.OpLoadItem, store.CodeNotFound, store.KindOfItem, itemID)
	}
	return it, nil
}

// DeleteThreadItem is the method of [store.ItemStore].
func (s *Store) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	if err := store.CheckID(store.OpDeleteThreadItem, store.KindOfThread, threadID); err != nil {
		return err
	}
	if err := valid(ctx, store.OpDeleteThreadItem, store.KindOfItem, itemID); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.items[threadID], itemID)
	return nil
}

// SaveAttachment is the method of [store.AttachmentStore].
func (s *Store) SaveAttachment(ctx context.Context, a store.Attachment) error {
	a, err := store.NormalizeAttachment(store.OpSaveAttachment, a)
	if err != nil {
		return err
	}
	if err := savable(ctx, store.OpSaveAttachment, store.KindOfAttachment, a.ID); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, code := s.attachments.rowFor(a.ID, a.Owner, store.SaveModeFrom(ctx))
	if code != store.CodeOK {
		return failed(store.OpSaveAttachment, code, store.KindOfAttachment, a.ID)
	}
	a.Owner = r.owner
	r.set(a, time.Time{}, &s.seq)
	return nil
}

// LoadAttachment is the method of [store.AttachmentStore].
func (s *Store) LoadAttachment(ctx context.Context, attachmentID string) (store.Attachment, error) {
	if err := valid(ctx, store.OpLoadAttachment, store.KindOfAttachment, attachmentID); err != nil {
		return store.Attachment{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.attachments.get(attachmentID)
	if !ok {
		return store.Attachment{}, failed(store.OpLoadAttachment, store.CodeNotFound, store.KindOfAttachment, attachmentID)
	}
	return a, nil
}

// DeleteAttachment is the method of [store.AttachmentStore].
func (s *Store) DeleteAttachment(ctx context.Context, attachmentID string) error {
	if err := valid(ctx, store.OpDeleteAttachment, store.KindOfAttachment, attachmentID); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.attachments[attachmentID]; r != nil {
		r.value, r.live = store.Attachment{}, false
	}
	return nil
}
