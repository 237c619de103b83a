package spec

import (
	"context"
	"slices"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/storetest/internal/call"
)

// Store is a whole Store: threads, their listing, and attachments.
type Store struct {
	Guarded     bool // a guard is around it, and every call is made by the owner
	Versions    bool // it keeps versions; otherwise it refuses conditions
	Threads     map[string]storedThread
	Attachments map[string]attachment
}

// storedThread is a thread with its place in listings.
type storedThread struct {
	Thread
	at time.Time // CreatedAt, also of a deleted thread
}

// attachment is one attachment.
type attachment struct {
	Exists, Used, Erased bool
	Owner                chat.Owner
	Row                  chat.Attachment
}

// New returns an empty Store.
func New(guarded bool) *Store {
	return &Store{Guarded: guarded, Threads: make(map[string]storedThread), Attachments: make(map[string]attachment)}
}

// Version is a thread's version before and after a call. If Due, a Store that reports versions must report this one.
type Version struct {
	Before, After uint64
	Due           bool
}

// Play makes the call. It checks the arguments, then the context, then the rows.
func (m *Store) Play(c call.Call) (call.Answer, Version) {
	v := m.Threads[c.Thread.ID].Version
	unchanged := Version{Before: v, After: v}
	norm, err := normalized(c)
	if err == nil && c.IfThread != "" && c.Op.IsWrite() && (!m.Versions || c.IfThread != c.Thread.ID) {
		err = store.ErrInvalid // for an attachment too, which has no thread's version
	}
	if err == nil {
		err = c.End.Err()
	}
	switch {
	case err != nil:
		return call.Answer{Code: store.CodeOf(err)}, unchanged
	case c.Op == store.OpLoadThreads:
		return m.list(norm), unchanged
	case c.OfAttachment():
		return m.onAttachment(norm), unchanged
	}
	return m.onThread(norm)
}

var checks driver.Checks

// normalized returns the call with its arguments as they are stored, or ErrInvalid.
func normalized(c call.Call) (_ call.Call, err error) {
	ctx := context.Background()
	if c.OfThread() {
		if err := checks.Thread(ctx, c.Op, c.Thread.ID); err != nil {
			return c, err
		}
	}
	switch c.Op {
	case store.OpLoadThreads:
		c.Query, err = checks.Threads(ctx, c.Query)
	case store.OpLoadThreadItems:
		c.Query.PageQuery, err = checks.Items(ctx, c.Thread.ID, c.Query.PageQuery)
	case store.OpLoadItem, store.OpDeleteThreadItem:
		err = checks.Item(ctx, c.Op, c.Thread.ID, c.Item.ID)
	case store.OpLoadAttachment, store.OpDeleteAttachment:
		err = checks.Attachment(ctx, c.Op, c.Attachment.ID)
	case store.OpSaveThread:
		c.Thread, err = c.Thread.Normalized()
	case store.OpAddThreadItem, store.OpSaveItem:
		c.Item, err = c.Item.Normalized(c.Thread.ID)
	case store.OpSaveAttachment:
		c.Attachment, err = c.Attachment.Normalized()
	}
	if err == nil && c.Mode > store.UpdateOnly {
		err = store.ErrInvalid
	}
	return c, err
}

// named returns the owner of a save. Behind a guard, an insert without an owner gets the caller.
func (m *Store) named(c call.Call, used bool, owner chat.Owner) chat.Owner {
	if m.Guarded && !used && owner.IsZero() {
		return c.By.Owner
	}
	return owner
}

func (m *Store) onThread(c call.Call) (call.Answer, Version) {
	t := m.Threads[c.Thread.ID]
	c.Thread.Owner = m.named(c, t.Used, c.Thread.Owner)
	if m.Guarded && c.Op == store.OpSaveThread && c.Mode == store.UpdateOnly && !t.Exists {
		c.IfThread = "" // the guard itself says that the thread is missing
	}
	after, a := t.Play(c)
	v := Version{Before: t.Version, After: after.Version, Due: a.Code == store.CodeOK && after.Exists}
	if c.Op.IsWrite() {
		v.Due = v.After > v.Before
		if after.Exists {
			t.at = after.Row.CreatedAt
		}
		t.Thread = after
		m.Threads[c.Thread.ID] = t
	}
	return a, v
}

func (m *Store) list(c call.Call) (r call.Answer) {
	filter := c.Query.Owner
	if m.Guarded && filter == (store.OwnerFilter{}) {
		filter = store.OwnedBy(c.By.Owner)
	}
	var rows, gone []row[chat.Thread]
	for id, t := range m.Threads {
		r := row[chat.Thread]{id: id, at: t.at, value: t.Row}
		switch {
		case t.Exists && filter.Match(t.Owner):
			rows = append(rows, r)
		case t.Erased && filter.IsAny(), t.Used && !t.Exists && !t.Erased && filter.Match(t.Owner):
			gone = append(gone, r)
		}
	}
	p, err := pageOf(sorted(rows), gone, c.Query.PageQuery)
	r.Threads, r.Code = p, store.CodeOf(err)
	return r
}

func (m *Store) onAttachment(c call.Call) (r call.Answer) {
	id := c.Attachment.ID
	a := m.Attachments[id]
	var err error
	switch {
	case c.Op == store.OpDeleteAttachment:
		a.Exists = false
	case c.Op == store.OpLoadAttachment && !a.Exists:
		err = store.ErrNotFound
	case c.Op == store.OpLoadAttachment:
		r.Attachment = a.Row
	default:
		if err = allows(c.Mode, a.Exists); err != nil {
			break
		}
		a.Owner, err = ownerAfter(a.Used, a.Erased, a.Owner, m.named(c, a.Used, c.Attachment.Owner))
		a.Exists, a.Used, a.Row = true, true, c.Attachment
		a.Row.Owner = a.Owner
	}
	if err == nil {
		m.Attachments[id] = a
	}
	r.Code = store.CodeOf(err)
	return r
}

// Erase erases the owner, as driver.Eraser does. The ids are sorted.
func (m *Store) Erase(o chat.Owner) (r driver.Erased) {
	for id, t := range m.Threads {
		if !t.Used || t.Erased || t.Owner != o {
			continue
		}
		if t.Exists {
			t.Thread = t.delete()
			t.Version++
			r.Threads = append(r.Threads, id)
		} else {
			r.Deleted++
		}
		t.Erased, t.Owner = true, chat.Owner{}
		m.Threads[id] = t
	}
	for id, a := range m.Attachments {
		if !a.Used || a.Erased || a.Owner != o {
			continue
		}
		if a.Exists {
			r.Attachments = append(r.Attachments, id)
		} else {
			r.Deleted++
		}
		m.Attachments[id] = attachment{Used: true, Erased: true}
	}
	slices.Sort(r.Threads)
	slices.Sort(r.Attachments)
	return r
}
