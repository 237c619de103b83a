package storetest

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// model is what the contract says of a whole Store, as simply as it can be said: threads, each a threadSpec, their listing,
// and attachments.
type model struct {
	guarded     bool // by a guard under which every call is the owner's
	threads     map[string]modelThread
	attachments map[string]modelAttachment
	seq         int // of the next thread
}

type modelThread struct {
	threadSpec
	seq     int // of its insertion
	version uint64
}

type modelAttachment struct {
	exists, used bool
	owner        chat.Owner
	row          chat.Attachment
}

func newModel(guarded bool) *model {
	return &model{guarded: guarded, threads: make(map[string]modelThread), attachments: make(map[string]modelAttachment)}
}

// reply is what a call returned.
type reply struct {
	answer
	threads    store.Page[chat.Thread]
	attachment chat.Attachment
}

// versionStep is the version of a thread before and after a call. A Store that reports versions reports it if it is due.
type versionStep struct {
	before, after uint64
	due           bool
}

// play makes the call on the model: arguments are looked at first, then the context, then the rows.
func (m *model) play(c randomCall) (reply, versionStep) {
	v := m.threads[c.threadID()].version
	unchanged := versionStep{before: v, after: v}
	norm, err := c.normalized()
	if err == nil {
		err = c.end.err
	}
	if err != nil {
		return reply{answer: answer{code: store.CodeOf(err)}}, unchanged
	}
	switch c.op {
	case store.OpLoadThreads:
		return m.list(norm), unchanged
	case store.OpSaveAttachment, store.OpLoadAttachment, store.OpDeleteAttachment:
		return m.onAttachment(norm), unchanged
	}
	return m.onThread(norm)
}

// named is the owner that a save names: behind a guard, the caller, where an insert names none.
func (m *model) named(c randomCall, used bool, owner chat.Owner) chat.Owner {
	if m.guarded && !used && owner.IsZero() {
		return c.by
	}
	return owner
}

func (m *model) onThread(c randomCall) (reply, versionStep) {
	t := m.threads[c.threadID()]
	c.thread.Owner = m.named(c, t.used, c.thread.Owner)
	after, a := c.on(t.threadSpec)
	v := versionStep{before: t.version, after: t.version, due: a.code == store.CodeOK && after.exists}
	if c.op.IsWrite() {
		if v.due = a.code == store.CodeOK && c.changes(t.threadSpec); v.due {
			v.after++
		}
		if after.exists && !t.exists {
			t.seq = m.seq
			m.seq++
		}
		t.threadSpec, t.version = after, v.after
		m.threads[c.threadID()] = t
	}
	return reply{answer: a}, v
}

// changes reports whether a write that succeeds on s changes it.
func (c command) changes(s threadSpec) bool {
	switch c.op {
	case store.OpDeleteThread:
		return s.exists
	case store.OpDeleteThreadItem:
		return s.find(c.item.ID) >= 0
	}
	return true
}

func (m *model) list(c randomCall) (r reply) {
	filter := c.filter
	if m.guarded && filter == (store.OwnerFilter{}) {
		filter = store.OwnedBy(c.by)
	}
	var rows []specRow[chat.Thread]
	for id, t := range m.threads {
		if t.exists && filter.Match(t.owner) {
			rows = append(rows, specRow[chat.Thread]{id: id, at: t.thread.CreatedAt, seq: t.seq, row: t.thread})
		}
	}
	slices.SortFunc(rows, bySpec)
	p, err := specPage(rows, c.query)
	r.threads, r.code = p, store.CodeOf(err)
	return r
}

func (m *model) onAttachment(c randomCall) (r reply) {
	id := c.attachment.ID
	a := m.attachments[id]
	var err error
	switch {
	case c.op == store.OpDeleteAttachment:
		a.exists = false
	case c.op == store.OpLoadAttachment && !a.exists:
		err = store.ErrNotFound
	case c.op == store.OpLoadAttachment:
		r.attachment = a.row
	default:
		if err = specMode(c.mode, a.exists); err != nil {
			break
		}
		a.owner, err = specOwner(a.used, a.owner, m.named(c, a.used, c.attachment.Owner))
		a.exists, a.used, a.row = true, true, c.attachment
		a.row.Owner = a.owner
	}
	if err == nil {
		m.attachments[id] = a
	}
	r.code = store.CodeOf(err)
	return r
}

// sentinels are the errors that errors.Is must find in one of a code.
var sentinels = map[store.Code]error{
	store.CodeNotFound: store.ErrNotFound,
	store.CodeConflict: store.ErrConflict,
	store.CodeInvalid:  store.ErrInvalid,
	store.CodeCanceled: context.Canceled,
	store.CodeTimeout:  context.DeadlineExceeded,
}

// equal reports whether r, and err, are what the model's reply says: also the owners, and the JSON byte for byte.
func (r reply) equal(err error, want reply) bool {
	return r.code == want.code && errors.Is(err, sentinels[want.code]) &&
		equalThreads(r.thread, want.thread) && equalItems(r.item, want.item) && equalAttachments(r.attachment, want.attachment) &&
		equalPages(r.page, want.page, equalItems) && equalPages(r.threads, want.threads, equalThreads)
}

func equalPages[T any](a, b store.Page[T], equal func(a, b T) bool) bool {
	return a.HasMore == b.HasMore && a.After == b.After && slices.EqualFunc(a.Data, b.Data, equal)
}

func equalThreads(a, b chat.Thread) bool {
	return a.Equal(b) && a.Owner == b.Owner && a.JSON() == b.JSON() && equalTimes(a.CreatedAt, b.CreatedAt)
}

func equalItems(a, b chat.Item) bool {
	return a.Equal(b) && a.JSON() == b.JSON() && equalTimes(a.CreatedAt, b.CreatedAt)
}

func equalAttachments(a, b chat.Attachment) bool {
	return a.Equal(b) && a.Owner == b.Owner && a.JSON() == b.JSON()
}

func equalTimes(a, b time.Time) bool { return a.Equal(b) && a.Location() == b.Location() }
