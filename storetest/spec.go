package storetest

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// threadSpec is what the contract says of one thread, as simply as it can be said: what it would be slow to do, and hard to
// get wrong. It is a value: a write returns the state after it, and leaves the state before as it was. Arguments are valid
// and normalised.
type threadSpec struct {
	exists bool
	used   bool // the id has, or once had, a thread: it is owner's
	owner  chat.Owner
	thread chat.Thread
	items  []specRow[chat.Item] // oldest first
	seq    int                  // of the next insertion
}

// specRow is a row of a listing, with its place.
type specRow[T any] struct {
	id  string
	at  time.Time
	seq int // of its insertion, which decides between equal times
	row T
}

func bySpec[T any](a, b specRow[T]) int {
	return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.seq, b.seq))
}

// specPage is a page of rows, which are in order, oldest first.
func specPage[T any](rows []specRow[T], q store.PageQuery) (store.Page[T], error) {
	rows = slices.Clone(rows)
	if q.Order == store.NewestFirst {
		slices.Reverse(rows)
	}
	if q.After != "" {
		i := slices.IndexFunc(rows, func(r specRow[T]) bool { return r.id == q.After })
		if i < 0 {
			return store.Page[T]{}, store.ErrNotFound
		}
		rows = rows[i+1:]
	}
	limit := q.Limit
	switch {
	case limit == 0:
		limit = store.DefaultLimit
	case limit > store.MaxLimit:
		limit = store.MaxLimit
	}
	var p store.Page[T]
	for _, r := range rows[:min(limit, len(rows))] {
		p.Data = append(p.Data, r.row)
	}
	if p.HasMore = len(rows) > limit; p.HasMore {
		p.After = rows[limit-1].id
	}
	return p, nil
}

// specMode is what a save's mode says of a row that exists, or does not.
func specMode(mode store.SaveMode, exists bool) error {
	switch {
	case mode == store.InsertOnly && exists:
		return store.ErrConflict
	case mode == store.UpdateOnly && !exists:
		return store.ErrNotFound
	}
	return nil
}

// specOwner is the owner of a row after a save that names one. An id once used is its owner's for good, and a row that is
// there without an owner is nobody's.
func specOwner(used bool, owner, named chat.Owner) (chat.Owner, error) {
	switch {
	case !used:
		return named, nil
	case named.IsZero() || named == owner:
		return owner, nil
	}
	return chat.Owner{}, store.ErrConflict
}

func (s threadSpec) load() (chat.Thread, error) {
	if !s.exists {
		return chat.Thread{}, store.ErrNotFound
	}
	return s.thread, nil
}

func (s threadSpec) save(t chat.Thread, mode store.SaveMode) (threadSpec, error) {
	if err := specMode(mode, s.exists); err != nil {
		return s, err
	}
	owner, err := specOwner(s.used, s.owner, t.Owner)
	if err != nil {
		return s, err
	}
	t.Owner = owner
	s.exists, s.used, s.owner, s.thread = true, true, owner, t
	return s, nil
}

func (s threadSpec) delete() threadSpec {
	s.exists, s.thread, s.items = false, chat.Thread{}, nil
	return s
}

func (s threadSpec) find(itemID string) int {
	return slices.IndexFunc(s.items, func(r specRow[chat.Item]) bool { return r.id == itemID })
}

func (s threadSpec) loadItem(itemID string) (chat.Item, error) {
	i := s.find(itemID)
	if i < 0 {
		return chat.Item{}, store.ErrNotFound
	}
	return s.items[i].row, nil
}

func (s threadSpec) loadItems(q store.PageQuery) (store.Page[chat.Item], error) {
	return specPage(s.items, q)
}

func (s threadSpec) addItem(it chat.Item) (threadSpec, error) {
	switch {
	case !s.exists:
		return s, store.ErrNotFound
	case s.find(it.ID) >= 0:
		return s, store.ErrConflict
	}
	return s.saveItem(it, store.Upsert)
}

func (s threadSpec) saveItem(it chat.Item, mode store.SaveMode) (threadSpec, error) {
	if !s.exists {
		return s, store.ErrNotFound
	}
	i := s.find(it.ID)
	if err := specMode(mode, i >= 0); err != nil {
		return s, err
	}
	row := specRow[chat.Item]{id: it.ID, at: it.CreatedAt, seq: s.seq, row: it}
	s.items = slices.Clone(s.items)
	if i >= 0 {
		row.seq = s.items[i].seq
		s.items[i] = row
	} else {
		s.items = append(s.items, row)
		s.seq++
	}
	slices.SortFunc(s.items, bySpec)
	return s, nil
}

func (s threadSpec) deleteItem(itemID string) threadSpec {
	if i := s.find(itemID); i >= 0 {
		s.items = slices.Delete(slices.Clone(s.items), i, i+1)
	}
	return s
}

// equal reports whether nothing that can follow will tell s from o.
func (s threadSpec) equal(o threadSpec) bool {
	return s.exists == o.exists && s.used == o.used && s.owner == o.owner && s.thread.Equal(o.thread) && s.seq == o.seq &&
		slices.EqualFunc(s.items, o.items, func(a, b specRow[chat.Item]) bool { return a.seq == b.seq && a.row.Equal(b.row) })
}

// hash is equal for equal states.
func (s threadSpec) hash() uint64 {
	h := fnv.New64a()
	io.WriteString(h, s.thread.Title)
	for _, r := range s.items {
		fmt.Fprint(h, r.seq, r.at.UnixMicro(), r.id, ";")
	}
	return h.Sum64()
}

func (s threadSpec) String() string {
	if !s.exists {
		return "no thread"
	}
	_, a := command{op: store.OpLoadThreadItems, query: store.PageQuery{Order: store.OldestFirst, Limit: store.MaxLimit}}.on(s)
	return s.thread.Title + ": " + a.String()
}
