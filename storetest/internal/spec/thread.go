// Package spec is a model of the contract of a Store. It is written for clarity, not for speed.
package spec

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/internal/call"
)

// Thread is one thread. It is a value: a write returns the new state and does not change the old one. Arguments must be
// valid and normalised.
type Thread struct {
	Exists  bool
	Used    bool // the id has or had a thread, and belongs to Owner
	Erased  bool // the id had a thread, and belongs to nobody any more
	Owner   chat.Owner
	Row     chat.Thread
	Version uint64
	items   []row[chat.Item] // oldest first
	gone    []row[chat.Item] // the places of deleted items, oldest first; they have no value
	seq     int              // insertion number of the next item
}

// Play returns the state after a call on state s, and its answer, as the contract requires.
func (s Thread) Play(c call.Call) (after Thread, a call.Answer) {
	if s.forbids(c) {
		return s, call.Answer{Code: store.CodeConflict, Field: "if_version"}
	}
	was := s
	var err error
	switch c.Op {
	case store.OpLoadThread:
		a.Thread, err = s.load()
	case store.OpLoadThreadItems:
		a.Items, err = pageOf(s.items, s.gone, c.Query.PageQuery)
	case store.OpLoadItem:
		a.Item, err = s.Item(c.Item.ID)
	case store.OpSaveThread:
		s, err = s.save(c.Thread, c.Mode)
	case store.OpDeleteThread:
		s = s.delete()
	case store.OpAddThreadItem:
		s, err = s.addItem(c.Item)
	case store.OpSaveItem:
		s, err = s.saveItem(c.Item, c.Mode)
	case store.OpDeleteThreadItem:
		if i := s.find(c.Item.ID); i >= 0 {
			was := s.items[i]
			was.value = chat.Item{}
			s.gone = sorted(append(slices.Clone(s.gone), was))
			s.items = slices.Delete(slices.Clone(s.items), i, i+1)
		}
	}
	if err == nil && c.Op.IsWrite() && was.Changes(c) {
		s.Version++
	}
	a.Code = store.CodeOf(err)
	return s, a
}

// forbids reports whether the condition of a write forbids it. A missing thread forbids nothing but to save it.
func (s Thread) forbids(c call.Call) bool {
	return c.IfThread != "" && c.Op.IsWrite() && (s.Exists || c.Op == store.OpSaveThread) && c.IfVersion != s.Version
}

// Changes reports whether a write that succeeds on s changes it.
func (s Thread) Changes(c call.Call) bool {
	switch c.Op {
	case store.OpDeleteThread:
		return s.Exists
	case store.OpDeleteThreadItem:
		return s.find(c.Item.ID) >= 0
	}
	return true
}

// row is a row of a listing, with its sort key.
type row[T any] struct {
	id    string
	at    time.Time
	seq   int // insertion number, which orders items of equal times; 0 for threads, which are ordered by id
	value T
}

func inOrder[T any](a, b row[T]) int {
	return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.seq, b.seq), strings.Compare(a.id, b.id))
}

func sorted[T any](rows []row[T]) []row[T] {
	slices.SortFunc(rows, inOrder)
	return rows
}

// pageOf returns a page of rows, which are sorted, oldest first. gone has the places of deleted rows, which are cursors too.
func pageOf[T any](rows, gone []row[T], q store.PageQuery) (store.Page[T], error) {
	cursors := slices.Concat(rows, gone)
	rows = slices.Clone(rows)
	if q.Order == store.NewestFirst {
		slices.Reverse(rows)
	}
	if q.After != "" {
		i := slices.IndexFunc(cursors, func(r row[T]) bool { return r.id == q.After })
		if i < 0 {
			return store.Page[T]{}, store.ErrNotFound
		}
		rows = slices.DeleteFunc(rows, func(r row[T]) bool {
			c := inOrder(r, cursors[i])
			return c == 0 || (c < 0) == (q.Order == store.OldestFirst)
		})
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
		p.Data = append(p.Data, r.value)
	}
	if p.HasMore = len(rows) > limit; p.HasMore {
		p.After = rows[limit-1].id
	}
	return p, nil
}

// allows returns the error of a save with this mode, for an existing or a missing row.
func allows(mode store.SaveMode, exists bool) error {
	switch {
	case mode == store.InsertOnly && exists:
		return store.ErrConflict
	case mode == store.UpdateOnly && !exists:
		return store.ErrNotFound
	}
	return nil
}

// ownerAfter returns the owner of a row after a save with the owner named. A used id keeps its owner, even if that is no
// owner. An erased id cannot be saved.
func ownerAfter(used, erased bool, owner, named chat.Owner) (chat.Owner, error) {
	switch {
	case erased:
		return chat.Owner{}, store.ErrConflict
	case !used:
		return named, nil
	case named.IsZero() || named == owner:
		return owner, nil
	}
	return chat.Owner{}, store.ErrConflict
}

func (s Thread) load() (chat.Thread, error) {
	if !s.Exists {
		return chat.Thread{}, store.ErrNotFound
	}
	return s.Row, nil
}

func (s Thread) delete() Thread {
	s.Exists, s.Row, s.items, s.gone = false, chat.Thread{}, nil, nil
	return s
}

func (s Thread) save(t chat.Thread, mode store.SaveMode) (Thread, error) {
	if err := allows(mode, s.Exists); err != nil {
		return s, err
	}
	owner, err := ownerAfter(s.Used, s.Erased, s.Owner, t.Owner)
	if err != nil {
		return s, err
	}
	t.Owner = owner
	s.Exists, s.Used, s.Owner, s.Row = true, true, owner, t
	return s, nil
}

func (s Thread) find(itemID string) int {
	return slices.IndexFunc(s.items, func(r row[chat.Item]) bool { return r.id == itemID })
}

// Item returns an item of the thread.
func (s Thread) Item(itemID string) (chat.Item, error) {
	i := s.find(itemID)
	if i < 0 {
		return chat.Item{}, store.ErrNotFound
	}
	return s.items[i].value, nil
}

func (s Thread) addItem(it chat.Item) (Thread, error) {
	switch {
	case !s.Exists:
		return s, store.ErrNotFound
	case s.find(it.ID) >= 0:
		return s, store.ErrConflict
	}
	return s.saveItem(it, store.Upsert)
}

func (s Thread) saveItem(it chat.Item, mode store.SaveMode) (Thread, error) {
	if !s.Exists {
		return s, store.ErrNotFound
	}
	i := s.find(it.ID)
	if err := allows(mode, i >= 0); err != nil {
		return s, err
	}
	r := row[chat.Item]{id: it.ID, at: it.CreatedAt, seq: s.seq, value: it}
	s.items = slices.Clone(s.items)
	if i >= 0 {
		r.seq = s.items[i].seq
		s.items[i] = r
	} else {
		s.items = append(s.items, r)
		s.gone = slices.DeleteFunc(slices.Clone(s.gone), func(g row[chat.Item]) bool { return g.id == it.ID })
		s.seq++
	}
	sorted(s.items)
	return s, nil
}

// Equal reports whether no later call can distinguish s from o.
func (s Thread) Equal(o Thread) bool {
	equal := func(a, b row[chat.Item]) bool { return a.id == b.id && inOrder(a, b) == 0 && a.value.Equal(b.value) }
	return s.Exists == o.Exists && s.Version == o.Version && s.Used == o.Used && s.Erased == o.Erased && s.Owner == o.Owner &&
		s.Row.Equal(o.Row) && s.seq == o.seq && slices.EqualFunc(s.items, o.items, equal) && slices.EqualFunc(s.gone, o.gone, equal)
}

// Hash returns equal hashes for equal states.
func (s Thread) Hash() uint64 {
	h := fnv.New64a()
	io.WriteString(h, s.Row.Title)
	for _, r := range slices.Concat(s.items, s.gone) {
		fmt.Fprint(h, r.seq, r.at.UnixMicro(), r.id, ";")
	}
	return h.Sum64()
}

// String returns a short text about the thread.
func (s Thread) String() string {
	if !s.Exists {
		return "no thread"
	}
	_, a := s.Play(call.Call{Op: store.OpLoadThreadItems, Query: store.ThreadQuery{PageQuery: store.PageQuery{Order: store.OldestFirst, Limit: store.MaxLimit}}})
	return s.Row.Title + ": " + a.String()
}
