// Package customstore is a complete Store to copy and adapt. It keeps threads, items and attachments in maps under one lock,
// and passes the conformance suite (see store_test.go). Replace the maps by your database.
//
// Comments that begin with "The contract:" name the rules that a Store must follow. This Store does not report thread
// versions, which the contract allows. So a cache above it needs cache.WithSoleWriter to keep its entries through writes
// (see Example).
package customstore

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// Store keeps all rows in maps. For a page it sorts the whole listing; use an index in your database instead.
type Store struct {
	store.DefaultIDs // GenerateThreadID and GenerateItemID

	mu          sync.Mutex
	seq         int // of the last inserted row
	threads     table[chat.Thread]
	items       map[string]table[chat.Item] // by thread
	attachments table[chat.Attachment]
}

var _ store.Store = (*Store)(nil)

// New returns an empty Store.
func New() *Store {
	return &Store{
		threads:     table[chat.Thread]{},
		items:       map[string]table[chat.Item]{},
		attachments: table[chat.Attachment]{},
	}
}

// table stands for a table of your database.
type table[T any] map[string]*row[T]

type row[T any] struct {
	value T
	owner chat.Owner
	at    time.Time // a listing is ordered by at, then by seq
	seq   int
	live  bool // The contract: a deleted row keeps its id and owner, so that no other owner can take the id.
}

func (t table[T]) get(id string) (value T, ok bool) {
	if r := t[id]; r != nil && r.live {
		return r.value, true
	}
	return value, false
}

// rowFor returns the row for saving a value of the given owner.
func (t table[T]) rowFor(id string, owner chat.Owner, mode store.SaveMode) (*row[T], store.Code) {
	r := t[id]
	if r == nil {
		r = &row[T]{owner: owner}
	}
	switch {
	case mode == store.InsertOnly && r.live:
		return nil, store.CodeConflict
	case mode == store.UpdateOnly && !r.live:
		return nil, store.CodeNotFound
	case !owner.IsZero() && owner != r.owner: // The contract: the first save sets the owner permanently.
		return nil, store.CodeConflict
	}
	t[id] = r
	return r, store.CodeOK
}

// set puts a value into its row. The contract: a replaced row keeps its place among rows of the same time.
func (r *row[T]) set(value T, at time.Time, seq *int) {
	if !r.live {
		*seq++
		r.seq, r.live = *seq, true
	}
	r.value, r.at = value, at
}

// page lists the rows that match. ok is false if the cursor is not one of them. The contract: such a cursor is an error,
// never a restart at the first page.
func (t table[T]) page(q store.PageQuery, match func(chat.Owner) bool) (p store.Page[T], ok bool) {
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

// checks checks the arguments and the context of every method. The contract: invalid arguments are refused first, and a
// cancelled call does nothing. It returns normalized arguments: a page with its limit, a value with its save mode.
var checks driver.Checks

// LoadThread implements [store.ThreadStore].
func (s *Store) LoadThread(ctx context.Context, threadID string) (chat.Thread, error) {
	if err := checks.Thread(ctx, store.OpLoadThread, threadID); err != nil {
		return chat.Thread{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.threads.get(threadID)
	if !ok {
		return chat.Thread{}, failed(store.OpLoadThread, store.CodeNotFound, store.RowThread, threadID)
	}
	return t, nil
}

// SaveThread implements [store.ThreadStore].
func (s *Store) SaveThread(ctx context.Context, thread chat.Thread) error {
	w, err := checks.SaveThread(ctx, thread)
	if err != nil {
		return err
	}
	thread = w.Thread
	s.mu.Lock()
	defer s.mu.Unlock()
	r, code := s.threads.rowFor(thread.ID, thread.Owner, w.Mode)
	if code != store.CodeOK {
		return failed(store.OpSaveThread, code, store.RowThread, thread.ID)
	}
	if !r.live {
		s.items[thread.ID] = table[chat.Item]{}
	}
	thread.Owner = r.owner
	r.set(thread, thread.CreatedAt, &s.seq)
	return nil
}

// DeleteThread implements [store.ThreadStore].
func (s *Store) DeleteThread(ctx context.Context, threadID string) error {
	if _, err := checks.DeleteThread(ctx, threadID); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.threads[threadID]; r != nil {
		r.value, r.live = chat.Thread{}, false
		delete(s.items, threadID)
	}
	return nil
}

// LoadThreads implements [store.ThreadStore].
func (s *Store) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	q, err := checks.Threads(ctx, q)
	if err != nil {
		return store.Page[chat.Thread]{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.threads.page(q.PageQuery, q.Owner.Match)
	if !ok {
		return p, failed(store.OpLoadThreads, store.CodeNotFound, store.RowThread, q.After)
	}
	return p, nil
}

// LoadThreadItems implements [store.ItemStore].
func (s *Store) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
	q, err := checks.Items(ctx, threadID, q)
	if err != nil {
		return store.Page[chat.Item]{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.items[threadID].page(q, func(chat.Owner) bool { return true })
	if !ok {
		return p, failed(store.OpLoadThreadItems, store.CodeNotFound, store.RowItem, q.After)
	}
	return p, nil
}

// AddThreadItem implements [store.ItemStore].
func (s *Store) AddThreadItem(ctx context.Context, threadID string, item chat.Item) error {
	return s.saveItem(ctx, store.OpAddThreadItem, threadID, item)
}

// SaveItem implements [store.ItemStore].
func (s *Store) SaveItem(ctx context.Context, threadID string, item chat.Item) error {
	return s.saveItem(ctx, store.OpSaveItem, threadID, item)
}

func (s *Store) saveItem(ctx context.Context, op store.Op, threadID string, item chat.Item) error {
	w, err := checks.SaveItem(ctx, op, threadID, item)
	if err != nil {
		return err
	}
	item = w.Item
	s.mu.Lock()
	defer s.mu.Unlock()
	items, ok := s.items[threadID]
	if !ok {
		return failed(op, store.CodeNotFound, store.RowThread, threadID)
	}
	r, code := items.rowFor(item.ID, chat.Owner{}, w.Mode) // the mode is InsertOnly for AddThreadItem
	if code != store.CodeOK {
		return failed(op, code, store.RowItem, item.ID)
	}
	r.set(item, item.CreatedAt, &s.seq)
	return nil
}

// LoadItem implements [store.ItemStore].
func (s *Store) LoadItem(ctx context.Context, threadID, itemID string) (chat.Item, error) {
	if err := checks.Item(ctx, store.OpLoadItem, threadID, itemID); err != nil {
		return chat.Item{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	it, ok := s.items[threadID].get(itemID)
	if !ok {
		return chat.Item{}, failed(store.OpLoadItem, store.CodeNotFound, store.RowItem, itemID)
	}
	return it, nil
}

// DeleteThreadItem implements [store.ItemStore].
func (s *Store) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	if _, err := checks.DeleteItem(ctx, threadID, itemID); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.items[threadID], itemID)
	return nil
}

// SaveAttachment implements [store.AttachmentStore].
func (s *Store) SaveAttachment(ctx context.Context, a chat.Attachment) error {
	w, err := checks.SaveAttachment(ctx, a)
	if err != nil {
		return err
	}
	a = w.Attachment
	s.mu.Lock()
	defer s.mu.Unlock()
	r, code := s.attachments.rowFor(a.ID, a.Owner, w.Mode)
	if code != store.CodeOK {
		return failed(store.OpSaveAttachment, code, store.RowAttachment, a.ID)
	}
	a.Owner = r.owner
	r.set(a, time.Time{}, &s.seq)
	return nil
}

// LoadAttachment implements [store.AttachmentStore].
func (s *Store) LoadAttachment(ctx context.Context, attachmentID string) (chat.Attachment, error) {
	if err := checks.Attachment(ctx, store.OpLoadAttachment, attachmentID); err != nil {
		return chat.Attachment{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.attachments.get(attachmentID)
	if !ok {
		return chat.Attachment{}, failed(store.OpLoadAttachment, store.CodeNotFound, store.RowAttachment, attachmentID)
	}
	return a, nil
}

// DeleteAttachment implements [store.AttachmentStore].
func (s *Store) DeleteAttachment(ctx context.Context, attachmentID string) error {
	if err := checks.Attachment(ctx, store.OpDeleteAttachment, attachmentID); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.attachments[attachmentID]; r != nil {
		r.value, r.live = chat.Attachment{}, false
	}
	return nil
}
