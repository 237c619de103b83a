// Package documents puts a store.Store over a document database that has compare-and-set and no transactions. It shows the
// loop of read, change and compare-and-set. The loop makes each write atomic for a thread and its items. The same write
// counts the thread's version, and obeys the condition of store.IfVersion.
//
// One document has a thread and all of its items. So the database's limit for a document bounds a thread, and each call
// reads the thread whole. For longer threads, give each item a document of its own. Then each write needs a transaction over
// two documents: the item's, and the thread's with the version.
package documents

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// Store keeps a document for each thread and for each attachment. It is no driver.WriteBounder: how long a lost Put may still
// take effect depends on the database's client. Layers above then wait for a minute.
type Store struct {
	store.DefaultIDs
	db DB
}

var _ store.Store = (*Store)(nil)

// New returns a Store over db.
func New(db DB) *Store { return &Store{db: db} }

// Threads and attachments have separate ids, and so separate keys.
func threadKey(id string) string     { return "thread/" + id }
func attachmentKey(id string) string { return "attachment/" + id }

// row is a thread, an item or an attachment. JSON is kept as a string: as an object of the document, the database might
// reorder its members, round its numbers, or drop repeated names.
type row struct {
	ID    string
	At    time.Time
	Place int // of an item, among items of equal times
	Owner chat.Owner
	JSON  string // "" once the row is deleted; id, owner, version and place stay behind
}

func (r row) live() bool { return r.JSON != "" }

// threadDoc is the document of a thread. The zero document is that of an id which was never used.
type threadDoc struct {
	Thread  row
	Version uint64
	Items   []row // oldest first, also the deleted ones
	Places  int   // that items have been given
}

// call names a call, for its errors.
type call struct {
	op       store.Op
	kind, id string
}

func (c call) error(code store.Code, cause error) error {
	return &store.Error{Op: c.op, Kind: c.kind, ID: c.id, Code: code, Cause: cause}
}

// errUnchanged is what a change returns if there is nothing to write.
var errUnchanged = errors.New("unchanged")

// failed returns the error of a call that has written nothing. A *store.Error is the answer of the contract. Any other comes from
// the database.
func (c call) failed(ctx context.Context, err error) error {
	if errors.Is(err, errUnchanged) {
		return nil
	}
	if _, answered := errors.AsType[*store.Error](err); answered {
		return err
	}
	if done := driver.Done(ctx, c.op, c.kind, c.id); done != nil {
		return done
	}
	return c.error(store.CodeUnavailable, errors.Join(store.ErrNotApplied, err))
}

// get reads a document into doc, which stays zero if there is none.
func (s *Store) get(ctx context.Context, c call, key string, doc any) (revision uint64, err error) {
	text, revision, err := s.db.Get(ctx, key)
	if err == nil && revision > 0 {
		err = c.parse(text, doc)
	}
	return revision, err
}

func (c call) parse(text []byte, doc any) error {
	if err := json.Unmarshal(text, doc); err != nil {
		return c.error(store.CodeInternal, errors.Join(store.ErrNotApplied, err))
	}
	return nil
}

// putLimit limits the wait for the answer to a Put.
const putLimit = 10 * time.Second

// put writes a document if it still has that revision, and else returns ErrRevision. The caller's context must not end a Put:
// the outcome would be unknown.
func (s *Store) put(ctx context.Context, c call, key string, doc any, ifRevision uint64) error {
	text, err := json.Marshal(doc)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), putLimit)
		defer cancel()
		err = s.db.Put(ctx, key, text, ifRevision)
	}
	if err != nil && !errors.Is(err, ErrRevision) {
		return c.error(store.CodeUnavailable, err) // The outcome is unknown: another attempt could write twice.
	}
	return err
}

// change reads a document, has f change it, and writes it if no other write came in between. If one came, it begins again.
// So f sees the state that it replaces, and what f decides is decided by the write itself.
func change[D any](ctx context.Context, s *Store, c call, key string, f func(*D) error) error {
	for {
		var doc D
		revision, err := s.get(ctx, c, key, &doc)
		if err == nil {
			err = f(&doc)
		}
		if err != nil {
			return c.failed(ctx, err)
		}
		if err := s.put(ctx, c, key, doc, revision); !errors.Is(err, ErrRevision) {
			return err
		}
	}
}

// changeThread is change for a thread. It counts the version and reports it.
func (s *Store) changeThread(ctx context.Context, c call, threadID string, f func(*threadDoc) error) error {
	var before, after uint64
	err := change(ctx, s, c, threadKey(threadID), func(d *threadDoc) error {
		before, after = d.Version, d.Version
		if err := f(d); err != nil {
			return err
		}
		d.Version++
		after = d.Version
		return nil
	})
	if err == nil {
		driver.ReportVersion(ctx, threadID, before, after)
	}
	return err
}

// thread reads the document of a thread, and reports its version.
func (s *Store) thread(ctx context.Context, c call, threadID string) (d threadDoc, err error) {
	if _, err := s.get(ctx, c, threadKey(threadID), &d); err != nil {
		return d, c.failed(ctx, err)
	}
	driver.ReportVersion(ctx, threadID, d.Version, d.Version)
	return d, nil
}

// save returns the row that replaces old, or the contract's error. The first save sets the owner.
func save(c call, mode store.SaveMode, old, new row) (row, error) {
	used := old.ID != ""
	switch {
	case mode == store.InsertOnly && old.live():
		return row{}, c.error(store.CodeConflict, nil)
	case mode == store.UpdateOnly && !old.live():
		return row{}, c.error(store.CodeNotFound, nil)
	case used && !new.Owner.IsZero() && new.Owner != old.Owner:
		return row{}, c.error(store.CodeConflict, nil)
	}
	if used {
		new.Owner = old.Owner
	}
	new.Place = old.Place
	return new, nil
}

// inOrder orders a listing: threads by time and id, items by time and insertion. Ids compare as bytes.
func inOrder(a, b row) int {
	return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Place, b.Place), strings.Compare(a.ID, b.ID))
}

// page returns the page of rows, which are in order, oldest first. The deleted ones are there for the cursor only: behind it,
// the page goes on where the row stood.
func page[T any](c call, rows []row, q store.PageQuery, parse func(call, row) (T, error)) (p store.Page[T], err error) {
	if q.Order == store.NewestFirst {
		slices.Reverse(rows)
	}
	if q.After != "" {
		i := slices.IndexFunc(rows, func(r row) bool { return r.ID == q.After })
		if i < 0 {
			return p, call{c.op, c.kind, q.After}.error(store.CodeNotFound, nil)
		}
		rows = rows[i+1:]
	}
	rows = slices.DeleteFunc(rows, func(r row) bool { return !r.live() })
	if len(rows) > q.Limit {
		rows = rows[:q.Limit]
		p.HasMore, p.After = true, rows[q.Limit-1].ID
	}
	for _, r := range rows {
		v, err := parse(c, r)
		if err != nil {
			return store.Page[T]{}, err
		}
		p.Data = append(p.Data, v)
	}
	return p, nil
}

var checks = driver.Checks{Versions: true}

// LoadThread is the method of [store.ThreadStore].
func (s *Store) LoadThread(ctx context.Context, threadID string) (chat.Thread, error) {
	c := call{store.OpLoadThread, store.RowThread, threadID}
	if err := checks.Thread(ctx, c.op, threadID); err != nil {
		return chat.Thread{}, err
	}
	d, err := s.thread(ctx, c, threadID)
	if err != nil {
		return chat.Thread{}, err
	}
	return parseThread(c, d.Thread)
}

func parseThread(c call, r row) (chat.Thread, error) {
	if !r.live() {
		return chat.Thread{}, c.error(store.CodeNotFound, nil)
	}
	t, err := chat.ParseThread(r.JSON)
	if err != nil {
		return chat.Thread{}, c.error(store.CodeInternal, err)
	}
	t.Owner = r.Owner // The JSON has no owner.
	return t, nil
}

// SaveThread is the method of [store.ThreadStore].
func (s *Store) SaveThread(ctx context.Context, thread chat.Thread) error {
	c := call{store.OpSaveThread, store.RowThread, thread.ID}
	w, err := checks.SaveThread(ctx, thread)
	if err != nil {
		return err
	}
	thread = w.Thread
	r := row{ID: thread.ID, At: thread.CreatedAt, Owner: thread.Owner, JSON: thread.JSON().String()}
	return s.changeThread(ctx, c, thread.ID, func(d *threadDoc) (err error) {
		if err := w.Condition.Check(c.op, thread.ID, d.Version); err != nil {
			return err
		}
		d.Thread, err = save(c, w.Mode, d.Thread, r)
		return err
	})
}

// DeleteThread is the method of [store.ThreadStore].
func (s *Store) DeleteThread(ctx context.Context, threadID string) error {
	c := call{store.OpDeleteThread, store.RowThread, threadID}
	cond, err := checks.DeleteThread(ctx, threadID)
	if err != nil {
		return err
	}
	return s.changeThread(ctx, c, threadID, func(d *threadDoc) error {
		if !d.Thread.live() {
			return errUnchanged
		}
		if err := cond.Check(c.op, threadID, d.Version); err != nil {
			return err
		}
		d.Thread.JSON, d.Items = "", nil
		return nil
	})
}

// LoadThreads is the method of [store.ThreadStore].
func (s *Store) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	c := call{op: store.OpLoadThreads, kind: store.RowThread}
	q, err := checks.Threads(ctx, q)
	if err != nil {
		return store.Page[chat.Thread]{}, err
	}
	texts, err := s.db.List(ctx, threadKey(""))
	var rows []row
	for _, text := range texts {
		var d struct{ Thread row } // without the items
		if err == nil {
			err = c.parse(text, &d)
		}
		if d.Thread.ID != "" && q.Owner.Match(d.Thread.Owner) {
			rows = append(rows, d.Thread)
		}
	}
	if err != nil {
		return store.Page[chat.Thread]{}, c.failed(ctx, err)
	}
	slices.SortFunc(rows, inOrder)
	return page(c, rows, q.PageQuery, parseThread)
}
