package storetest

import (
	"context"
	"crypto/rand"
	"errors"
	"runtime"
	"slices"
	"time"
	"unicode/utf16"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/storetest/internal/call"
)

// capabilities are those of a base.
type capabilities struct {
	list     func(context.Context, store.ThreadQuery) (store.Page[chat.Attachment], error)
	swap     func(context.Context, chat.JSON, chat.Attachment) error
	erase    func(context.Context, chat.Owner) (driver.Erased, error)
	versions func(context.Context, []string) (string, []uint64, error)
	inactive func(context.Context, time.Time, store.ThreadQuery) (store.Page[driver.ThreadVersion], error)
	gone     func(context.Context, string, store.PageQuery) (store.Page[driver.Tombstone], error)
}

// capableStore is a Store with capabilities.
type capableStore struct {
	store.Store
	can *capabilities
}

func (s capableStore) ListAttachments(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Attachment], error) {
	return s.can.list(ctx, q)
}

func (s capableStore) SwapAttachment(ctx context.Context, old chat.JSON, a chat.Attachment) error {
	return s.can.swap(ctx, old, a)
}

func (s capableStore) EraseOwner(ctx context.Context, o chat.Owner) (driver.Erased, error) {
	return s.can.erase(ctx, o)
}

func (s capableStore) ThreadVersions(ctx context.Context, ids []string) (string, []uint64, error) {
	return s.can.versions(ctx, ids)
}

func (s capableStore) InactiveThreads(ctx context.Context, before time.Time, q store.ThreadQuery) (store.Page[driver.ThreadVersion], error) {
	return s.can.inactive(ctx, before, q)
}

func (s capableStore) ListTombstones(ctx context.Context, kind string, q store.PageQuery) (store.Page[driver.Tombstone], error) {
	return s.can.gone(ctx, kind, q)
}

// can changes the capabilities of a new Store.
func can(change func(m *made, can *capabilities)) func() ops {
	return on(opening, func(m *made) { change(m, m.can) })
}

// capably changes an op of a Store that has capabilities.
func capably(op store.Op, do func(m *made)) func() ops {
	return func() ops { return ops{op: do, opening: func(*made) {}} }
}

// attachmentsListed changes the answers of a ListAttachments. was is the capability of the base.
func attachmentsListed(do func(m *made, q store.ThreadQuery, p *store.Page[chat.Attachment], err error) error) func() ops {
	return can(func(m *made, can *capabilities) {
		was := can.list
		can.list = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Attachment], error) {
			p, err := was(ctx, q)
			m := &made{ctx: ctx, base: m.base}
			err = do(m, q, &p, err)
			return p, err
		}
	})
}

type swapper func(ctx context.Context, old chat.JSON, a chat.Attachment) error

// swapping changes SwapAttachment. swap is the capability of the base.
func swapping(do func(m *made, swap swapper, ctx context.Context, old chat.JSON, a chat.Attachment) error) func() ops {
	return can(func(m *made, can *capabilities) {
		swap := can.swap
		can.swap = func(ctx context.Context, old chat.JSON, a chat.Attachment) error {
			return do(&made{ctx: ctx, base: m.base}, swap, ctx, old, a)
		}
	})
}

func (m *made) attachment(id string) call.Answer {
	return call.Call{Op: store.OpLoadAttachment, Attachment: chat.Attachment{ID: id}}.Make(m.quiet(), m.base)
}

var brokenCapabilities = []broken{
	{"ListAttachments: ids compare as UTF-16", attachmentsListed(func(_ *made, _ store.ThreadQuery, p *store.Page[chat.Attachment], err error) error {
		if p.HasMore || len(p.Data) == 0 || len(p.Data) > store.DefaultLimit {
			return err
		}
		sign := 1
		if p.Data[0].ID > p.Data[len(p.Data)-1].ID {
			sign = -1
		}
		slices.SortStableFunc(p.Data, func(a, b chat.Attachment) int {
			return sign * slices.Compare(utf16.Encode([]rune(a.ID)), utf16.Encode([]rune(b.ID)))
		})
		return err
	}), []string{"Capabilities/ListAttachments: by id, with their values"}},
	{"ListAttachments: rows lack the Owner", attachmentsListed(func(_ *made, _ store.ThreadQuery, p *store.Page[chat.Attachment], err error) error {
		for i := range p.Data {
			p.Data[i].Owner = chat.Owner{}
		}
		return err
	}), []string{"Capabilities/ListAttachments: by id, with their values"}},
	{"ListAttachments: rows are the first ones", func() ops {
		var first memory[chat.Attachment]
		return ops{store.OpSaveAttachment: func(m *made) {
			if _, known := first.get(m.Attachment.ID); !known && m.make().Err == nil {
				first.set(m.Attachment.ID, m.Attachment)
			}
		}, opening: attachmentsListed(func(_ *made, _ store.ThreadQuery, p *store.Page[chat.Attachment], err error) error {
			for i, a := range p.Data {
				p.Data[i], _ = first.get(a.ID)
			}
			return err
		})()[opening]}
	}, []string{"Capabilities/ListAttachments: a replace and a deletion show"}},
	{"ListAttachments: a deleted row stays", func() ops {
		var deleted memory[chat.Attachment]
		return ops{store.OpDeleteAttachment: func(m *made) {
			if old := m.stored(); old.Err == nil {
				deleted.set(m.caller().Subject, old.Attachment)
			}
		}, opening: attachmentsListed(func(m *made, q store.ThreadQuery, p *store.Page[chat.Attachment], err error) error {
			if a, ok := deleted.get(m.caller().Subject); ok && len(p.Data) == 1 && q.After == "" && q.Limit == 0 {
				p.Data = append(p.Data, a)
			}
			return err
		})()[opening]}
	}, []string{"Capabilities/ListAttachments: a replace and a deletion show"}},
	{"ListAttachments: pages of 7 are the last", attachmentsListed(func(_ *made, q store.ThreadQuery, p *store.Page[chat.Attachment], err error) error {
		if q.Limit == 7 {
			p.HasMore, p.After = false, ""
		}
		return err
	}), []string{"Capabilities/ListAttachments: pages"}},
	{"ListAttachments: InTenant of no name lists everything", can(func(_ *made, can *capabilities) {
		was := can.list
		can.list = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Attachment], error) {
			if q.Owner == store.InTenant("") && q.After == "" {
				q.Owner = store.AnyOwner()
			}
			return was(ctx, q)
		}
	}), []string{"Capabilities/ListAttachments: the owner filter"}},
	{"ListAttachments: a deleted row is no cursor", attachmentsListed(func(m *made, q store.ThreadQuery, _ *store.Page[chat.Attachment], err error) error {
		if q.After != "" && err == nil && m.attachment(q.After).Err != nil {
			return &store.Error{Code: store.CodeNotFound}
		}
		return err
	}), []string{
		"Capabilities/EraseOwner: only AnyOwner accepts an erased attachment as a cursor",
		"Capabilities/ListAttachments: a deleted attachment is a cursor",
	}},
	{"ListAttachments: a cursor outside the listing is the end", attachmentsListed(func(_ *made, _ store.ThreadQuery, _ *store.Page[chat.Attachment], err error) error {
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	}), []string{
		"Capabilities/EraseOwner: only AnyOwner accepts an erased attachment as a cursor",
		"Capabilities/ListAttachments: a cursor outside the listing is ErrNotFound",
	}},
	{"ListAttachments is deaf to cancellation", can(func(_ *made, can *capabilities) {
		was := can.list
		can.list = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Attachment], error) {
			return was(context.WithoutCancel(ctx), q)
		}
	}), []string{"Capabilities/ListAttachments: arguments, then the context"}},

	{"SwapAttachment replaces any attachment", swapping(func(m *made, _ swapper, ctx context.Context, _ chat.JSON, a chat.Attachment) error {
		return m.base.SaveAttachment(store.WithSaveMode(ctx, store.UpdateOnly), a)
	}), []string{"Capabilities/SwapAttachment: only the old attachment is replaced", andMore}},
	{"SwapAttachment takes the zero JSON for any", swapping(func(m *made, swap swapper, ctx context.Context, old chat.JSON, a chat.Attachment) error {
		if old.IsZero() {
			old = m.attachment(a.ID).Attachment.JSON()
		}
		return swap(ctx, old, a)
	}), []string{"Capabilities/SwapAttachment: only the old attachment is replaced"}},
	{"SwapAttachment inserts a missing row", swapping(func(m *made, swap swapper, ctx context.Context, old chat.JSON, a chat.Attachment) error {
		err := swap(ctx, old, a)
		if errors.Is(err, store.ErrNotFound) {
			return m.base.SaveAttachment(ctx, a)
		}
		return err
	}), []string{"Capabilities/SwapAttachment: missing rows and owners"}},
	{"SwapAttachment looks, then saves", swapping(func(m *made, _ swapper, ctx context.Context, old chat.JSON, a chat.Attachment) error {
		ctx = store.WithSaveMode(ctx, store.UpdateOnly)
		was := m.attachment(a.ID)
		runtime.Gosched()
		if was.Err == nil && was.Attachment.JSON() != old {
			return &store.Error{Op: store.OpSaveAttachment, Code: store.CodeConflict}
		}
		return m.base.SaveAttachment(ctx, a)
	}), []string{"Capabilities/SwapAttachment: of concurrent swaps of one old attachment one applies"}},
	{"SwapAttachment is deaf to cancellation", swapping(func(_ *made, swap swapper, ctx context.Context, old chat.JSON, a chat.Attachment) error {
		return swap(context.WithoutCancel(ctx), old, a)
	}), []string{"Capabilities/SwapAttachment: arguments, then the context"}},
	{"EraseOwner does not count deleted ids", erasing(func(erase eraser, ctx context.Context, o chat.Owner) (driver.Erased, error) {
		e, err := erase(ctx, o)
		e.Deleted = 0
		return e, err
	}), []string{
		"Capabilities/EraseOwner: the owner's rows are gone",
		"Capabilities/EraseOwner: the same owner may begin anew, and be erased again",
	}},
	{"EraseOwner ignores the tenant", erasing(func(erase eraser, ctx context.Context, o chat.Owner) (driver.Erased, error) {
		e, err := erase(ctx, o)
		if err == nil && o.Tenant != "" {
			_, err = erase(ctx, chat.Owner{Subject: o.Subject})
		}
		return e, err
	}), []string{"Capabilities/EraseOwner: other owners' rows stay"}},
	{"EraseOwner takes the rows without an owner along", can(func(m *made, can *capabilities) {
		was := can.erase
		can.erase = func(ctx context.Context, o chat.Owner) (driver.Erased, error) {
			e, err := was(ctx, o)
			p, _ := m.base.LoadThreads(ctx, store.ThreadQuery{PageQuery: store.PageQuery{Limit: store.MaxLimit}})
			for _, t := range p.Data {
				_ = m.base.DeleteThread(ctx, t.ID)
			}
			return e, err
		}
	}), []string{"Capabilities/EraseOwner: other owners' rows stay"}},
	{"EraseOwner only deletes", can(func(m *made, can *capabilities) {
		was := can.erase
		can.erase = func(ctx context.Context, o chat.Owner) (driver.Erased, error) {
			if o.IsZero() || ctx.Err() != nil || o.Tenant == "" {
				return was(ctx, o)
			}
			var e driver.Erased
			q := store.ThreadQuery{Owner: store.OwnedBy(o), PageQuery: store.PageQuery{Limit: store.MaxLimit}}
			ts, _ := m.base.LoadThreads(ctx, q)
			for _, t := range ts.Data {
				e.Threads = append(e.Threads, t.ID)
				_ = m.base.DeleteThread(ctx, t.ID)
			}
			as, _ := can.list(ctx, q)
			for _, a := range as.Data {
				e.Attachments = append(e.Attachments, a.ID)
				_ = m.base.DeleteAttachment(ctx, a.ID)
			}
			return e, nil
		}
	}), []string{"Capabilities/EraseOwner: an erased id cannot be saved", andMore}},
	{"a save of an erased id with the zero Owner does nothing", capably(store.OpSaveAttachment, func(m *made) {
		if m.make(); m.ends(store.ErrConflict) && m.Mode == store.Upsert && m.Attachment.Owner.IsZero() && m.stored().Err != nil {
			m.a.Err = nil
		}
	}), []string{"Capabilities/EraseOwner: an erased id cannot be saved"}},
	{"an erased id matches the zero filter", capably(store.OpLoadThreads, func(m *made) {
		if m.make(); m.ends(store.ErrNotFound) && m.Query.Owner == (store.OwnerFilter{}) {
			any := m.Query
			any.Owner = store.AnyOwner()
			if _, err := m.base.LoadThreads(m.ctx, any); err == nil && m.thread(m.Query.After).Err != nil {
				m.a = call.Answer{}
			}
		}
	}), []string{
		"After/threads: a deleted thread is a cursor of the filters that its owner matches",
		"Capabilities/EraseOwner: only AnyOwner accepts an erased thread as a cursor",
	}},
	{"an erased id has version 0", func() ops {
		var gone memory[bool]
		return ops{opening: func(m *made) {
			erase, versions := m.can.erase, m.can.versions
			m.can.erase = func(ctx context.Context, o chat.Owner) (driver.Erased, error) {
				e, err := erase(ctx, o)
				for _, id := range e.Threads {
					gone.set(id, true)
				}
				return e, err
			}
			m.can.versions = func(ctx context.Context, ids []string) (string, []uint64, error) {
				epoch, vs, err := versions(ctx, ids)
				for i := range vs {
					if was, _ := gone.get(ids[i]); was {
						vs[i] = 0
					}
				}
				return epoch, vs, err
			}
		}}
	}, []string{"Capabilities/EraseOwner: calls under IfVersion", "Capabilities/EraseOwner: versions"}},
	{"a condition comes before an erased thread", capably(store.OpDeleteThread, func(m *made) {
		if m.make(); m.a.Err == nil && callctx.Of(m.ctx).If.Set && callctx.Of(m.ctx).If.Version == 4 {
			m.fail(store.CodeConflict)
		}
	}), []string{"Capabilities/EraseOwner: calls under IfVersion"}},
	{"an erased owner cannot come back", func() ops {
		var gone memory[bool]
		return ops{opening: func(m *made) {
			erase := m.can.erase
			m.can.erase = func(ctx context.Context, o chat.Owner) (driver.Erased, error) {
				gone.set(o.Subject, true)
				return erase(ctx, o)
			}
		}, store.OpSaveAttachment: func(m *made) {
			if was, _ := gone.get(m.Attachment.Owner.Subject); was && m.Mode == store.Upsert {
				m.fail(store.CodeConflict)
			}
		}}
	}, []string{"Capabilities/EraseOwner: the same owner may begin anew, and be erased again", andMore}},
	{"EraseOwner is deaf to cancellation", erasing(func(erase eraser, ctx context.Context, o chat.Owner) (driver.Erased, error) {
		return erase(context.WithoutCancel(ctx), o)
	}), []string{"Capabilities/EraseOwner: arguments, then the context"}},
	{"EraseOwner erases row by row", can(func(m *made, can *capabilities) {
		was := can.erase
		can.erase = func(ctx context.Context, o chat.Owner) (driver.Erased, error) {
			as, _ := can.list(ctx, store.ThreadQuery{Owner: store.OwnedBy(o)})
			if len(as.Data) == 4 {
				_ = m.base.DeleteAttachment(ctx, as.Data[2].ID)
				runtime.Gosched()
			}
			return was(ctx, o)
		}
	}), []string{"Capabilities/EraseOwner: beside reads, all rows go at one instant"}},
	{"EraseOwner looks, then erases", can(func(m *made, can *capabilities) {
		was := can.erase
		can.erase = func(ctx context.Context, o chat.Owner) (driver.Erased, error) {
			var found []string
			q := store.ThreadQuery{Owner: store.OwnedBy(o), PageQuery: store.PageQuery{Limit: store.MaxLimit}}
			ts, _ := m.base.LoadThreads(ctx, q)
			for _, t := range ts.Data {
				found = append(found, t.ID)
			}
			runtime.Gosched()
			e, err := was(ctx, o)
			e.Threads = found
			return e, err
		}
	}), []string{"Capabilities/EraseOwner: beside saves, each row is either erased or live"}},

	{"ThreadVersions answers each id once", reading(func(read reader, ctx context.Context, ids []string) (string, []uint64, error) {
		var once []string
		for _, id := range ids {
			if !slices.Contains(once, id) {
				once = append(once, id)
			}
		}
		return read(ctx, once)
	}), []string{"Capabilities/ThreadVersions: in the order of ids, also of deleted and unused ones"}},
	{"ThreadVersions forgets deleted threads", can(func(m *made, can *capabilities) {
		was := can.versions
		can.versions = func(ctx context.Context, ids []string) (string, []uint64, error) {
			epoch, vs, err := was(ctx, ids)
			for i := range vs {
				if _, err := m.base.LoadThread(ctx, ids[i]); err != nil {
					vs[i] = 0
				}
			}
			return epoch, vs, err
		}
	}), []string{
		"Capabilities/EraseOwner: calls under IfVersion",
		"Capabilities/EraseOwner: versions",
		"Capabilities/ThreadVersions: every change counts",
		"Capabilities/ThreadVersions: in the order of ids, also of deleted and unused ones",
	}},
	{"ThreadVersions: no change counts from the fifth", reading(func(read reader, ctx context.Context, ids []string) (string, []uint64, error) {
		epoch, vs, err := read(ctx, ids)
		for i := range vs {
			vs[i] = min(vs[i], 5)
		}
		return epoch, vs, err
	}), []string{"Capabilities/ThreadVersions: every change counts"}},
	{"the epoch is that of the call", reading(func(read reader, ctx context.Context, ids []string) (string, []uint64, error) {
		_, vs, err := read(ctx, ids)
		return rand.Text(), vs, err
	}), []string{"Capabilities/ThreadVersions: the epoch stays"}},
	{"ThreadVersions answers the first 1000 ids", reading(func(read reader, ctx context.Context, ids []string) (string, []uint64, error) {
		return read(ctx, ids[:min(len(ids), driver.MaxVersions)])
	}), []string{"Capabilities/ThreadVersions: at most 1000 ids"}},
	{"ThreadVersions is deaf to cancellation", reading(func(read reader, ctx context.Context, ids []string) (string, []uint64, error) {
		return read(context.WithoutCancel(ctx), ids)
	}), []string{"Capabilities/ThreadVersions: arguments, then the context"}},

	{"InactiveThreads includes its time", finding(func(find finder, ctx context.Context, before time.Time, q store.ThreadQuery) (store.Page[driver.ThreadVersion], error) {
		return find(ctx, before.Add(time.Microsecond), q)
	}), []string{
		"Capabilities/InactiveThreads: by the newest item",
		"Capabilities/InactiveThreads: pages, in the order of LoadThreads",
	}},
	{"InactiveThreads: a part of a microsecond counts", finding(func(find finder, ctx context.Context, before time.Time, q store.ThreadQuery) (store.Page[driver.ThreadVersion], error) {
		return find(ctx, before.Add(time.Microsecond-1), q)
	}), []string{"Capabilities/InactiveThreads: by the newest item"}},
	{"InactiveThreads: pages of 7 are the last", finding(func(find finder, ctx context.Context, before time.Time, q store.ThreadQuery) (store.Page[driver.ThreadVersion], error) {
		p, err := find(ctx, before, q)
		if q.Limit == 7 {
			p.HasMore, p.After = false, ""
		}
		return p, err
	}), []string{"Capabilities/InactiveThreads: pages, in the order of LoadThreads"}},
	{"InactiveThreads: InTenant lists everything", finding(func(find finder, ctx context.Context, before time.Time, q store.ThreadQuery) (store.Page[driver.ThreadVersion], error) {
		if _, ok := q.Owner.Tenant(); ok {
			q.Owner = store.AnyOwner()
		}
		return find(ctx, before, q)
	}), []string{"Capabilities/InactiveThreads: the owner filter"}},
	{"InactiveThreads: versions are of the deletion", finding(func(find finder, ctx context.Context, before time.Time, q store.ThreadQuery) (store.Page[driver.ThreadVersion], error) {
		p, err := find(ctx, before, q)
		for i := range p.Data {
			p.Data[i].Version++
		}
		return p, err
	}), []string{
		"Capabilities/InactiveThreads: a deletion under its version meets no thread that was written since",
		"Capabilities/InactiveThreads: beside writes, an inactive thread's version is that of its items",
	}},
	{"InactiveThreads reads the versions afterwards", can(func(_ *made, can *capabilities) {
		find, read := can.inactive, can.versions
		can.inactive = func(ctx context.Context, before time.Time, q store.ThreadQuery) (store.Page[driver.ThreadVersion], error) {
			p, err := find(ctx, before, q)
			runtime.Gosched()
			for i, t := range p.Data {
				_, vs, _ := read(ctx, []string{t.ID})
				p.Data[i].Version = vs[0]
			}
			return p, err
		}
	}), []string{"Capabilities/InactiveThreads: beside writes, an inactive thread's version is that of its items"}},
	{"InactiveThreads is deaf to cancellation", finding(func(find finder, ctx context.Context, before time.Time, q store.ThreadQuery) (store.Page[driver.ThreadVersion], error) {
		return find(context.WithoutCancel(ctx), before, q)
	}), []string{"Capabilities/InactiveThreads: arguments, then the context"}},

	{"ListTombstones lists erased ids as deleted ones", burying(func(list burier, ctx context.Context, kind string, q store.PageQuery) (store.Page[driver.Tombstone], error) {
		p, err := list(ctx, kind, q)
		for i := range p.Data {
			p.Data[i].Erased = false
		}
		return p, err
	}), []string{"Capabilities/ListTombstones: erased ids have no owner"}},
	{"ListTombstones forgets times", burying(func(list burier, ctx context.Context, kind string, q store.PageQuery) (store.Page[driver.Tombstone], error) {
		p, err := list(ctx, kind, q)
		for i := range p.Data {
			p.Data[i].CreatedAt = time.Time{}
		}
		return p, err
	}), []string{
		"Capabilities/ListTombstones: deleted rows by id, with owner and time",
		"Capabilities/ListTombstones: erased ids have no owner",
		"Capabilities/ListTombstones: the last time, and not what is there again",
	}},
	{"ListTombstones repeats the row of the cursor", burying(func(list burier, ctx context.Context, kind string, q store.PageQuery) (store.Page[driver.Tombstone], error) {
		if q.After != "" && q.Order == store.OldestFirst {
			q.After = q.After[:len(q.After)-1]
		}
		return list(ctx, kind, q)
	}), []string{"Capabilities/ListTombstones: deleted rows by id, with owner and time"}},
	{"ListTombstones is deaf to cancellation", burying(func(list burier, ctx context.Context, kind string, q store.PageQuery) (store.Page[driver.Tombstone], error) {
		return list(context.WithoutCancel(ctx), kind, q)
	}), []string{"Capabilities/ListTombstones: arguments, then the context"}},
}

type burier func(context.Context, string, store.PageQuery) (store.Page[driver.Tombstone], error)

// burying changes ListTombstones. list is the capability of the base.
func burying(do func(list burier, ctx context.Context, kind string, q store.PageQuery) (store.Page[driver.Tombstone], error)) func() ops {
	return can(func(_ *made, can *capabilities) {
		list := can.gone
		can.gone = func(ctx context.Context, kind string, q store.PageQuery) (store.Page[driver.Tombstone], error) {
			return do(list, ctx, kind, q)
		}
	})
}

type (
	eraser = func(context.Context, chat.Owner) (driver.Erased, error)
	reader = func(context.Context, []string) (string, []uint64, error)
	finder = func(context.Context, time.Time, store.ThreadQuery) (store.Page[driver.ThreadVersion], error)
)

func erasing(do func(erase eraser, ctx context.Context, o chat.Owner) (driver.Erased, error)) func() ops {
	return can(func(_ *made, can *capabilities) {
		was := can.erase
		can.erase = func(ctx context.Context, o chat.Owner) (driver.Erased, error) { return do(was, ctx, o) }
	})
}

func reading(do func(read reader, ctx context.Context, ids []string) (string, []uint64, error)) func() ops {
	return can(func(_ *made, can *capabilities) {
		was := can.versions
		can.versions = func(ctx context.Context, ids []string) (string, []uint64, error) { return do(was, ctx, ids) }
	})
}

func finding(do func(find finder, ctx context.Context, before time.Time, q store.ThreadQuery) (store.Page[driver.ThreadVersion], error)) func() ops {
	return can(func(_ *made, can *capabilities) {
		was := can.inactive
		can.inactive = func(ctx context.Context, before time.Time, q store.ThreadQuery) (store.Page[driver.ThreadVersion], error) {
			return do(was, ctx, before, q)
		}
	})
}
