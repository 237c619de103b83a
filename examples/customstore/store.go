// Package customstore is a complete Store to copy and adapt. It keeps threads, items and attachments in maps under one lock,
// and passes the conformance suite (see store_test.go). Replace the maps by your database.
//
// Comments that begin with "The contract:" name the rules that a Store must follow.
package customstore

import (
	"cmp"
	"context"
	"slices"
	"strings"
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
	seq         int // of the last inserted item
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
	id      string
	value   T
	owner   chat.Owner
	at      time.Time
	seq     int    // of an item
	version uint64 // of a thread
	// The contract: a deleted row keeps its id and owner, so that no other owner can take the id. It keeps its version, which
	// never restarts. And it keeps its place, where a page may go on.
	live bool
}

// compare orders a listing. The contract: threads are ordered by time and id, items by time and insertion.
func (r *row[T]) compare(q *row[T]) int {
	return cmp.Or(r.at.Compare(q.at), cmp.Compare(r.seq, q.seq), strings.Compare(r.id, q.id))
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
		r = &row[T]{id: id, owner: owner}
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

// set puts a value into its row.
func (r *row[T]) set(value T, at time.Time) { r.value, r.at, r.live = value, at, true }

// remove leaves the row's tombstone.
func (r *row[T]) remove() {
	var none T
	r.value, r.live = none, false
}

// page lists the rows that match. ok is false if the cursor neither is nor was one of them. The contract: such a cursor is an
// error, never a restart at the first page. The page of a deleted row's cursor begins where the row stood.
func (t table[T]) page(q store.PageQuery, match func(chat.Owner) bool) (p store.Page[T], ok bool) {
	after := t[q.After]
	if q.After != "" && (after == nil || !match(after.owner)) {
		return p, false
	}
	direction := -1
	if q.Order == store.OldestFirst {
		direction = 1
	}
	var rows []*row[T]
	for _, r := range t {
		if r.live && match(r.owner) && (after == nil || direction*r.compare(after) > 0) {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b *row[T]) int { return direction * a.compare(b) })
	if len(rows) > q.Limit {
		rows = rows[:q.Limit]
		p.HasMore, p.After = true, rows[q.Limit-1].id
	}
	for _, r := range rows {
		p.Data = append(p.Data, r.value)
	}
	return p, true
}

// version returns the version of a thread's id. The contract: it is 0 for an id that was never used.
func (s *Store) version(threadID string) uint64 {
	if r := s.threads[threadID]; r != nil {
		return r.version
	}
	return 0
}

// report reports the thread's version before the call, and the present one. Every call for one thread defers it.
func (s *Store) report(ctx context.Context, threadID string, before uint64) {
	driver.ReportVersion(ctx, threadID, before, s.version(threadID))
}

func failed(op store.Op, code store.Code, kind, id string) error {
	return &store.Error{Op: op, Code: code, Kind: kind, ID: id}
}

// checks checks the arguments and the context of every method. The contract: invalid arguments are refused first, and a
// cancelled call does nothing. It returns normalized arguments: a page with its limit, a value with its save mode, and the
// condition of store.IfVersion. A Store without versions uses the zero Checks, which refuses conditions.
var checks = driver.Checks{Versions: true}

// LoadThread implements [store.ThreadStore].
func (s *Store) LoadThread(ctx context.Context, threadID string) (chat.Thread, error) {
	if err := checks.Thread(ctx, store.OpLoadThread, threadID); err != nil {
		return chat.Thread{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.report(ctx, threadID, s.version(threadID))
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
	defer s.report(ctx, thread.ID, s.version(thread.ID))
	// The contract: the version is checked first, in the transaction of the write.
	if err := w.Condition.Check(store.OpSaveThread, thread.ID, s.version(thread.ID)); err != nil {
		return err
	}
	r, code := s.threads.rowFor(thread.ID, thread.Owner, w.Mode)
	if code != store.CodeOK {
		return failed(store.OpSaveThread, code, store.RowThread, thread.ID)
	}
	if !r.live {
		s.items[thread.ID] = table[chat.Item]{}
	}
	thread.Owner = r.owner
	r.set(thread, thread.CreatedAt)
	r.version++
	return nil
}

// DeleteThread implements [store.ThreadStore].
func (s *Store) DeleteThread(ctx context.Context, threadID string) error {
	cond, err := checks.DeleteThread(ctx, threadID)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.report(ctx, threadID, s.version(threadID))
	r := s.threads[threadID]
	if r == nil || !r.live { // The contract: that is nil, whatever the condition.
		return nil
	}
	if err := cond.Check(store.OpDeleteThread, threadID, r.version); err != nil {
		return err
	}
	r.remove()
	r.version++
	delete(s.items, threadID)
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
	defer s.report(ctx, threadID, s.version(threadID))
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
	defer s.report(ctx, threadID, s.version(threadID))
	items, ok := s.items[threadID]
	if !ok {
		return failed(op, store.CodeNotFound, store.RowThread, threadID)
	}
	if err := w.Condition.Check(op, threadID, s.version(threadID)); err != nil {
		return err
	}
	r, code := items.rowFor(item.ID, chat.Owner{}, w.Mode) // the mode is InsertOnly for AddThreadItem
	if code != store.CodeOK {
		return failed(op, code, store.RowItem, item.ID)
	}
	if !r.live { // The contract: a replaced item keeps its place among items of the same time.
		s.seq++
		r.seq = s.seq
	}
	r.set(item, item.CreatedAt)
	s.threads[threadID].version++
	return nil
}

// LoadItem implements [store.ItemStore].
func (s *Store) LoadItem(ctx context.Context, threadID, itemID string) (chat.Item, error) {
	if err := checks.Item(ctx, store.OpLoadItem, threadID, itemID); err != nil {
		return chat.Item{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.report(ctx, threadID, s.version(threadID))
	it, ok := s.items[threadID].get(itemID)
	if !ok {
		return chat.Item{}, failed(store.OpLoadItem, store.CodeNotFound, store.RowItem, itemID)
	}
	return it, nil
}

// DeleteThreadItem implements [store.ItemStore].
func (s *Store) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	cond, err := checks.DeleteItem(ctx, threadID, itemID)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.report(ctx, threadID, s.version(threadID))
	items, ok := s.items[threadID]
	if !ok {
		return nil
	}
	if err := cond.Check(store.OpDeleteThreadItem, threadID, s.version(threadID)); err != nil {
		return err
	}
	if r := items[itemID]; r != nil && r.live {
		r.remove()
		s.threads[threadID].version++
	}
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
	r.set(a, time.Time{})
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
		r.remove()
	}
	return nil
}
