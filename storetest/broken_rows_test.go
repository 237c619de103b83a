package storetest

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf16"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/internal/call"
)

var brokenPages = []broken{
	{"items: an unknown cursor restarts at page one", on(store.OpLoadThreadItems, func(m *made) {
		if m.make(); m.ends(store.ErrNotFound) {
			m.Query.After = ""
			m.make()
		}
	}), []string{
		"After/items: unknown cursor is ErrNotFound",
		"After/items: an item of a deleted thread as cursor is ErrNotFound",
		"After/items: an item of an earlier thread of the id as cursor is ErrNotFound",
		"After/items: another thread's item as cursor is ErrNotFound",
		"LoadThreadItems/a missing thread with After is ErrNotFound",
	}},
	{"threads: an unknown cursor is the end", on(store.OpLoadThreads, func(m *made) {
		if m.make(); m.ends(store.ErrNotFound) && m.thread(m.Query.After).Err != nil {
			m.a = call.Answer{}
		}
	}), []string{
		"After/threads: unknown cursor is ErrNotFound",
		"After/threads: a deleted thread is a cursor of the filters that its owner matches",
		"After/threads: another owner's deleted thread as cursor is ErrNotFound",
	}},
	{"items: a deleted row is no cursor", on(store.OpLoadThreadItems, func(m *made) {
		if m.make(); m.Query.After != "" && m.a.Err == nil && m.item(m.Thread.ID, m.Query.After).Err != nil {
			m.fail(store.CodeNotFound)
		}
	}), []string{
		"After/items: a deleted row is a cursor",
		"After/items: a deleted row is a cursor where it stood last",
		"After/items: a row that is there again is a cursor at its new place",
		"After/items: a walk goes on when its cursor is deleted",
		"After/items: an item of an earlier thread of the id as cursor is ErrNotFound",
		"Concurrency/a walk whose cursors are deleted",
	}},
	{"threads: a deleted row is no cursor", on(store.OpLoadThreads, func(m *made) {
		if m.make(); m.Query.After != "" && m.a.Err == nil && m.thread(m.Query.After).Err != nil {
			m.fail(store.CodeNotFound)
		}
	}), []string{
		"After/threads: a deleted row is a cursor",
		"After/threads: a deleted row is a cursor where it stood last",
		"After/threads: a deleted thread is a cursor of the filters that its owner matches",
		"After/threads: a row that is there again is a cursor at its new place",
		"After/threads: a walk goes on when its cursor is deleted",
	}},
	{"threads: anybody's deleted row is a cursor", func() ops {
		var deleted memory[bool]
		return ops{store.OpDeleteThread: func(m *made) {
			deleted.set(m.Thread.ID, true)
		}, store.OpLoadThreads: func(m *made) {
			m.make()
			if was, _ := deleted.get(m.Query.After); was && m.ends(store.ErrNotFound) {
				m.a = call.Answer{}
			}
		}}
	}, []string{
		"After/threads: a deleted thread is a cursor of the filters that its owner matches",
		"After/threads: another owner's deleted thread as cursor is ErrNotFound",
	}},
	{"items: a cursor outlives its thread", cursorsOutlive(func(m *made) bool { return m.thread(m.Thread.ID).Err != nil }),
		[]string{"After/items: an item of a deleted thread as cursor is ErrNotFound"}},
	{"items: a cursor outlives its thread when another one has the id", cursorsOutlive(func(m *made) bool { return m.thread(m.Thread.ID).Err == nil }),
		[]string{"After/items: an item of an earlier thread of the id as cursor is ErrNotFound"}},
	{"items: a cursor stays at the first place of its row", func() ops {
		var first memory[time.Time]
		return ops{store.OpAddThreadItem: func(m *made) {
			if _, known := first.get(m.place()); m.make().Err == nil && !known {
				first.set(m.place(), m.Item.CreatedAt)
			}
		}, store.OpLoadThreadItems: func(m *made) {
			at := m.item(m.Thread.ID, m.Query.After)
			if t, ok := first.get(m.Thread.ID + "/" + m.Query.After); ok && at.Err == nil && !t.Equal(at.Item.CreatedAt) {
				m.itemsBehind(t)
			}
		}}
	}, []string{
		"After/items: a row that is there again is a cursor at its new place",
		"After/items: a row that moves is a cursor at its new place",
	}},
	{"items: a deleted row is a cursor at its first place", func() ops {
		var first memory[time.Time]
		return ops{store.OpAddThreadItem: func(m *made) {
			if m.make().Err == nil {
				first.set(m.place(), m.Item.CreatedAt)
			}
		}, store.OpLoadThreadItems: func(m *made) {
			t, ok := first.get(m.Thread.ID + "/" + m.Query.After)
			if ok && m.Query.Limit == 0 && m.item(m.Thread.ID, m.Query.After).Err != nil && t.Equal(at(-9)) {
				m.itemsBehind(t)
			}
		}}
	}, []string{"After/items: a deleted row is a cursor where it stood last"}},
	{"items: the place of a deleted row goes before that of the row", func() ops {
		var last memory[time.Time]
		return ops{store.OpDeleteThreadItem: func(m *made) {
			if old := m.stored(); old.Err == nil && m.make().Err == nil {
				last.set(m.place(), old.Item.CreatedAt)
			}
		}, store.OpLoadThreadItems: func(m *made) {
			t, ok := last.get(m.Thread.ID + "/" + m.Query.After)
			if ok && m.item(m.Thread.ID, m.Query.After).Err == nil {
				m.itemsBehind(t)
			}
		}}
	}, []string{"After/items: a row that is there again is a cursor at its new place"}},
	{"threads: another owner's thread is a cursor", on(store.OpLoadThreads, func(m *made) {
		if m.make(); m.ends(store.ErrNotFound) && m.thread(m.Query.After).Err == nil {
			m.a = call.Answer{}
		}
	}), []string{"After/threads: another owner's thread as cursor is ErrNotFound"}},
	{"items: a cursor is inclusive", on(store.OpLoadThreadItems, func(m *made) {
		if m.make(); m.Query.After != "" && m.a.Err == nil && m.Query.Limit == 0 {
			m.a.Items.Data = slices.Insert(m.a.Items.Data, 0, m.item(m.Thread.ID, m.Query.After).Item)
		}
	}), []string{"After/items: a page begins behind the cursor", andMore}},
	{"items: created_at > ? drops ties", on(store.OpLoadThreadItems, func(m *made) {
		if m.make(); m.a.Err != nil || m.Query.After == "" || m.Query.Order != store.OldestFirst {
			return
		}
		last, p := m.item(m.Thread.ID, m.Query.After).Item, &m.a.Items
		n := len(p.Data)
		p.Data = slices.DeleteFunc(p.Data, func(it chat.Item) bool { return !it.CreatedAt.After(last.CreatedAt) })
		if n > 0 && len(p.Data) == 0 {
			p.HasMore, p.After = false, ""
		}
	}), []string{
		"Order/items: ties by pages of 1, 3 and 7, oldest first",
		"Order/items: ties while others are added, oldest first",
		"Concurrency/a walk over ties while rows are added",
		maybe("Concurrency/a walk whose cursors are deleted"),
	}},
	{"threads: created_at < ? drops ties", on(store.OpLoadThreads, func(m *made) {
		if m.make(); m.a.Err != nil || m.Query.After == "" || m.Query.Order != store.NewestFirst {
			return
		}
		cursor, p := m.thread(m.Query.After), &m.a.Threads
		if cursor.Err != nil {
			return
		}
		n := len(p.Data)
		p.Data = slices.DeleteFunc(p.Data, func(t chat.Thread) bool { return !t.CreatedAt.Before(cursor.Thread.CreatedAt) })
		if n > 0 && len(p.Data) == 0 {
			p.HasMore, p.After = false, ""
		}
	}), []string{
		"Order/threads: ties by pages of 1, 3 and 7, newest first",
		"Order/threads: ties while others are added, newest first",
	}},
	{"items: pages are offsets", func() ops {
		// After names a row, but the page begins where the row stood when its page was read.
		var place memory[int]
		return ops{store.OpLoadThreadItems: func(m *made) {
			q := m.Query
			offset, known := place.get(m.Thread.ID + q.After + q.Order.String())
			if q.After != "" && !known || q.Limit <= 0 {
				m.make()
				return
			}
			m.Query.PageQuery = store.PageQuery{Limit: store.MaxLimit, Order: q.Order}
			all := m.make()
			if all.Err != nil || all.Items.HasMore || offset > len(all.Items.Data) {
				m.Query = q
				m.make()
				return
			}
			rest := all.Items.Data[offset:]
			p := store.Page[chat.Item]{Data: rest[:min(q.Limit, len(rest))], HasMore: len(rest) > q.Limit}
			if p.HasMore {
				p.After = p.Data[q.Limit-1].ID
				place.set(m.Thread.ID+p.After+q.Order.String(), offset+q.Limit)
			}
			m.a.Items = p
		}}
	}, []string{
		"After/items: a walk goes on when its cursor is deleted",
		"Concurrency/a walk whose cursors are deleted",
		"Order/items: ties while others are added, newest first",
		maybe("Concurrency/a walk over ties while rows are added"),
	}},
	{"items: After is set on the last page", on(store.OpLoadThreadItems, func(m *made) {
		if n := len(m.make().Items.Data); n > 0 {
			m.a.Items.After = m.a.Items.Data[n-1].ID
		}
	}), []string{"Page.After/items: empty when there is no more"}},
	{"threads: a full page claims that there is more", on(store.OpLoadThreads, func(m *made) {
		if n := len(m.make().Threads.Data); n > 0 && n == m.Query.Limit {
			m.a.Threads.HasMore, m.a.Threads.After = true, m.a.Threads.Data[n-1].ID
		}
	}), []string{"Page.After/threads: empty when there is no more"}},
	{"items: After is the first row's id", on(store.OpLoadThreadItems, func(m *made) {
		if p := m.make().Items; p.HasMore && len(p.Data) == 4 {
			m.a.Items.After = p.Data[0].ID
		}
	}), []string{"Page.After/items: the last row's id when there is more"}},
	{"items: ties are ordered by id", on(store.OpLoadThreadItems, func(m *made) {
		if m.make(); m.Query.Limit == 50 && m.Query.Order == store.OldestFirst {
			slices.SortStableFunc(m.a.Items.Data, byID)
		}
	}), []string{"Order/items: equal times by insertion", "Order/items: newest first is the exact reverse"}},
	{"threads: ties are ordered by insertion", func() ops {
		var (
			order memory[int]
			n     atomic.Int64
		)
		return ops{store.OpSaveThread: func(m *made) {
			if _, known := order.get(m.Thread.ID); !known && m.Thread.CreatedAt.Equal(at(0)) {
				order.set(m.Thread.ID, int(n.Add(1)))
			}
			m.make()
		}, store.OpLoadThreads: func(m *made) {
			if m.make(); m.Query.Limit == 50 && m.Query.Order == store.OldestFirst {
				m.orderTies(&order)
			}
		}}
	}, []string{"Order/threads: equal times by id", "Order/threads: ids compare as bytes", "Order/threads: newest first is the exact reverse"}},
	{"threads: ids compare as UTF-16", on(store.OpLoadThreads, func(m *made) {
		if m.make(); m.Query.Limit == 50 && m.Query.Order == store.OldestFirst {
			slices.SortStableFunc(m.a.Threads.Data, func(a, b chat.Thread) int {
				return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), slices.Compare(utf16.Encode([]rune(a.ID)), utf16.Encode([]rune(b.ID))))
			})
		}
	}), []string{"Order/threads: ids compare as bytes"}},
	{"threads: newest first keeps ties oldest first", on(store.OpLoadThreads, func(m *made) {
		if m.make(); m.Query.Order == store.NewestFirst && m.Query.Limit == 50 {
			slices.Reverse(m.a.Threads.Data)
			slices.SortStableFunc(m.a.Threads.Data, func(a, b chat.Thread) int { return b.CreatedAt.Compare(a.CreatedAt) })
		}
	}), []string{"Order/threads: newest first is the exact reverse"}},
	{"threads: CreatedAt does not count", on(store.OpSaveThread, func(m *made) {
		if t := &m.Thread; t.CreatedAt.Nanosecond() == 0 && t.CreatedAt.After(at(0)) && t.CreatedAt.Before(at(5)) {
			t.CreatedAt = at(1)
		}
	}), []string{"Order/threads: by CreatedAt", andMore}},
	{"items: a negative limit is the default", on(store.OpLoadThreadItems, func(m *made) {
		m.Query.Limit = max(m.Query.Limit, 0)
	}), []string{"Limit/items: negative is ErrInvalid", "OrderOfChecks/invalid before missing: LoadThreadItems"}},
	{"threads: a negative limit is none", on(store.OpLoadThreads, func(m *made) {
		if m.Query.Limit < 0 && m.Query.After == "" {
			m.Query.Limit = store.MaxLimit
		}
	}), []string{"Limit/threads: negative is ErrInvalid"}},
	{"items: a limit has no bound", on(store.OpLoadThreadItems, func(m *made) {
		if p := m.make().Items; m.Query.Limit > store.MaxLimit && p.HasMore {
			m.Query.After = p.After
			m.make()
			m.a.Items.Data = append(p.Data, m.a.Items.Data...)
		}
	}), []string{"Limit/items: above 1000 is 1000"}},
	{"threads: the default limit is 50", on(store.OpLoadThreads, func(m *made) {
		if m.Query.Limit == 0 {
			m.Query.Limit = 50
		}
	}), []string{"Limit/threads: zero is 20"}},
	{"items: a page has one row too many", on(store.OpLoadThreadItems, func(m *made) {
		if m.Query.Limit == 24 {
			m.Query.Limit++
		}
	}), []string{"Limit/items: is kept"}},
}

// cursorsOutlive makes every item that was added to a thread a cursor, if the thread is as when says.
func cursorsOutlive(when func(m *made) bool) func() ops {
	return func() ops {
		var added memory[bool]
		return ops{store.OpAddThreadItem: func(m *made) {
			if m.make().Err == nil {
				added.set(m.place(), true)
			}
		}, store.OpLoadThreadItems: func(m *made) {
			m.make()
			if was, _ := added.get(m.Thread.ID + "/" + m.Query.After); was && m.ends(store.ErrNotFound) && when(m) {
				m.a = call.Answer{}
			}
		}}
	}
}

// itemsBehind answers a listing of a short thread as if its cursor stood at t.
func (m *made) itemsBehind(t time.Time) {
	m.Query.After, m.Query.Limit = "", store.MaxLimit
	m.make()
	m.a.Items.Data = slices.DeleteFunc(m.a.Items.Data, func(it chat.Item) bool {
		return it.CreatedAt.Compare(t) == 0 || it.CreatedAt.After(t) == (m.Query.Order == store.NewestFirst)
	})
}

// orderTies sorts the threads of equal times in the answer by their numbers. A thread without a number is the first.
func (m *made) orderTies(numbers *memory[int]) {
	slices.SortStableFunc(m.a.Threads.Data, func(a, b chat.Thread) int {
		x, _ := numbers.get(a.ID)
		y, _ := numbers.get(b.ID)
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(x, y))
	})
}

func byID(a, b chat.Item) int {
	return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
}

var brokenThreads = []broken{
	{"LoadThread of a missing thread is a zero thread", on(store.OpLoadThread, func(m *made) { m.forgive(store.ErrNotFound) }),
		[]string{"LoadThread/a missing thread is ErrNotFound"}},
	{"SaveThread drops the items", on(store.OpSaveThread, func(m *made) {
		if m.make().Err == nil {
			for _, it := range m.items(m.Thread.ID) {
				_ = m.base.DeleteThreadItem(m.quiet(), m.Thread.ID, it.ID)
			}
		}
	}), []string{"Concurrency/writers of different threads do not disturb each other", "SaveThread/items survive a replace"}},
	{"SaveThread merges metadata", on(store.OpSaveThread, func(m *made) {
		if old := m.stored(); old.Err == nil && m.Thread.Metadata.IsZero() {
			m.Thread.Metadata = old.Thread.Metadata
		}
	}), []string{"SaveThread/a replace removes the members that the new value lacks"}},
	{"SaveThread does not move the thread", on(store.OpSaveThread, func(m *made) {
		if old := m.stored(); old.Err == nil && !m.Thread.CreatedAt.IsZero() {
			m.Thread.CreatedAt = old.Thread.CreatedAt
		}
	}), []string{
		"After/threads: a deleted row is a cursor where it stood last",
		"After/threads: a row that moves is a cursor at its new place",
		"SaveThread/a new CreatedAt moves it",
	}},
	{"SaveThread puts a replaced thread behind its ties", behindTies(func(m *made, _ bool) bool { return m.stored().Err == nil }),
		[]string{"SaveThread/a replace keeps the place among ties"}},
	{"SaveThread puts a thread that is made again behind its ties", behindTies(func(m *made, used bool) bool { return used && m.stored().Err != nil }),
		[]string{"SaveThread/a thread that is made again has the place of its time and id"}},
	{"SaveThread does nothing", on(store.OpSaveThread, nothingDone), []string{"SaveThread/inserts", andMore}},
	{"SaveThread does not replace", on(store.OpSaveThread, insertsOnly), []string{"SaveThread/replaces", andMore}},
	{"image domains are not kept", on(store.OpSaveThread, func(m *made) {
		if m.Thread.AllowedImageDomains.String() == `["example.com"]` {
			m.Thread.AllowedImageDomains = chat.JSON{}
		}
	}), []string{"LoadThread/returns the saved thread"}},
	{"DeleteThread leaves the thread in listings", func() ops {
		var deleted memory[chat.Thread]
		return ops{store.OpDeleteThread: func(m *made) {
			q := store.ThreadQuery{Owner: store.OwnedBy(m.caller())}
			if l, err := m.base.LoadThreads(m.ctx, q); err == nil && len(l.Data) == 2 && l.Data[0].CreatedAt.Equal(at(0)) {
				if old := m.stored(); old.Err == nil {
					deleted.set(m.caller().Subject, old.Thread)
				}
			}
		}, store.OpLoadThreads: func(m *made) {
			m.make()
			if t, ok := deleted.get(m.caller().Subject); ok && m.a.Err == nil && len(m.a.Threads.Data) == 1 {
				m.a.Threads.Data = append(m.a.Threads.Data, t)
			}
		}}
	}, []string{"DeleteThread/the thread is gone"}},
	{"DeleteThread of a missing thread is ErrNotFound", on(store.OpDeleteThread, missingIsMissing), []string{"DeleteThread/a missing thread is nil"}},
	{"DeleteThread leaves the items behind", func() ops {
		var left memory[[]chat.Item]
		return ops{store.OpDeleteThread: func(m *made) {
			if its := m.items(m.Thread.ID); len(its) > 0 {
				left.set(m.Thread.ID, its)
			}
		}, store.OpSaveThread: func(m *made) {
			m.make()
			if its, ok := left.get(m.Thread.ID); ok && m.a.Err == nil {
				for _, it := range its {
					_ = m.base.SaveItem(m.quiet(), m.Thread.ID, it)
				}
			}
		}}
	}, []string{
		"After/items: an item of an earlier thread of the id as cursor is ErrNotFound",
		"DeleteThread/its items do not come back with a new thread of that id",
		maybe("Concurrency/no item outlives its thread"),
	}},
	{"an item is found when its thread is gone", func() ops {
		var items memory[chat.Item]
		return ops{store.OpAddThreadItem: func(m *made) {
			if m.make().Err == nil {
				items.set(m.place(), m.Item)
			}
		}, store.OpLoadItem: func(m *made) {
			m.make()
			if old, ok := items.get(m.place()); ok && m.ends(store.ErrNotFound) && m.thread(m.Thread.ID).Err != nil {
				m.a = call.Answer{Item: old}
			}
		}}
	}, []string{"DeleteThread/its items are gone"}},
	{"DeleteThread takes attachments along", func() ops {
		var of memory[string]
		return ops{store.OpSaveAttachment: func(m *made) {
			if a := m.Attachment; a.ThreadID != "" {
				of.set(a.ThreadID, a.ID)
			}
		}, store.OpDeleteThread: func(m *made) {
			if a, ok := of.get(m.Thread.ID); ok {
				_ = m.base.DeleteAttachment(m.ctx, a)
			}
		}}
	}, []string{"DeleteThread/attachments stay"}},
	{"who has no threads sees everybody's", on(store.OpLoadThreads, func(m *made) {
		if m.make(); m.a.Err == nil && len(m.a.Threads.Data) == 0 && m.Query.After == "" {
			m.Query.Owner = store.AnyOwner()
			m.make()
		}
	}), []string{"OwnerFilter/OwnedBy of an owner without threads is empty"}},
}

// behindTies makes a SaveThread put the thread behind those of equal times, if when says so. used says whether the id was saved
// before.
func behindTies(when func(m *made, used bool) bool) func() ops {
	return func() ops {
		var order memory[int]
		n := 0
		return ops{store.OpSaveThread: func(m *made) {
			_, used := order.get(m.Thread.ID)
			if !m.Thread.CreatedAt.Equal(at(1)) {
				return
			}
			if !used {
				order.set(m.Thread.ID, 0)
			} else if when(m, used) {
				n++
				order.set(m.Thread.ID, n)
			}
		}, store.OpLoadThreads: func(m *made) {
			if m.make(); m.Query.Order == store.OldestFirst && len(m.a.Threads.Data) <= 4 {
				m.orderTies(&order)
			}
		}}
	}
}

var brokenItems = []broken{
	{"AddThreadItem replaces", on(store.OpAddThreadItem, func(m *made) {
		m.Op = store.OpSaveItem
	}), []string{
		"AddThreadItem/an equal item again is ErrConflict",
		"AddThreadItem/an existing id is ErrConflict",
		"AddThreadItem/an existing id is ErrConflict under any save mode",
		"AddThreadItem/inserts under any save mode",
		"Concurrency/of many AddThreadItem calls of one id, one succeeds",
	}},
	{"AddThreadItem keeps an equal item", on(store.OpAddThreadItem, func(m *made) {
		if old := m.stored(); old.Err == nil && old.Item.Equal(m.Item) {
			m.forgive(store.ErrConflict)
			return
		}
	}), []string{"AddThreadItem/an equal item again is ErrConflict"}},
	{"AddThreadItem does nothing", on(store.OpAddThreadItem, nothingDone), []string{"AddThreadItem/inserts", andMore}},
	{"AddThreadItem makes a missing thread", on(store.OpAddThreadItem, makesThread), []string{
		"AddThreadItem/a deleted thread is ErrNotFound",
		"AddThreadItem/a missing thread is ErrNotFound",
		maybe("Concurrency/no item outlives its thread"),
	}},
	{"AddThreadItem never frees a deleted id", func() ops {
		var deleted memory[bool]
		return ops{store.OpDeleteThreadItem: func(m *made) {
			deleted.set(m.place(), true)
		}, store.OpAddThreadItem: func(m *made) {
			if _, ok := deleted.get(m.place()); ok {
				m.fail(store.CodeConflict)
			}
		}}
	}, []string{"AddThreadItem/a deleted item's id is free", "After/items: a row that is there again is a cursor at its new place"}},
	{"AddThreadItem leaves an empty ThreadID empty", bareThreadID(store.OpAddThreadItem), []string{"AddThreadItem/an empty ThreadID is filled in"}},
	{"AddThreadItem takes another thread's item", on(store.OpAddThreadItem, takesOthersItem), []string{"AddThreadItem/another thread's ThreadID is ErrInvalid"}},
	{"SaveItem takes another thread's item", on(store.OpSaveItem, takesOthersItem), []string{"SaveItem/another thread's ThreadID is ErrInvalid"}},
	{"item ids are unique among all threads", func() ops {
		var in memory[string]
		return ops{store.OpAddThreadItem: func(m *made) {
			if other, ok := in.get(m.Item.ID); ok && other != m.Thread.ID && m.item(other, m.Item.ID).Err == nil {
				m.fail(store.CodeConflict)
				return
			}
			in.set(m.Item.ID, m.Thread.ID)
		}}
	}, []string{"AddThreadItem/the same id in two threads is two rows", "DeleteThread/another thread's items stay"}},
	{"SaveItem does not insert", on(store.OpSaveItem, func(m *made) {
		if m.Item.CreatedAt.Equal(at(2)) {
			m.mode(store.UpdateOnly)
		}
	}), []string{"SaveItem/inserts", "Version/SaveItem counts"}},
	{"SaveItem does not replace", on(store.OpSaveItem, insertsOnly), []string{"SaveItem/replaces", andMore}},
	{"SaveItem makes a missing thread", on(store.OpSaveItem, makesThread), []string{
		"SaveItem/a deleted thread is ErrNotFound",
		"SaveItem/a missing thread is ErrNotFound",
		maybe("Concurrency/no item outlives its thread"),
	}},
	{"SaveItem leaves an empty ThreadID empty", bareThreadID(store.OpSaveItem), []string{"SaveItem/an empty ThreadID is filled in"}},
	{"SaveItem takes the id from another thread", func() ops {
		var in memory[string]
		return ops{store.OpAddThreadItem: func(m *made) {
			in.set(m.Item.ID, m.Thread.ID)
		}, store.OpSaveItem: func(m *made) {
			m.make()
			if other, ok := in.get(m.Item.ID); ok && other != m.Thread.ID && m.a.Err == nil {
				_ = m.base.DeleteThreadItem(m.ctx, other, m.Item.ID)
			}
		}}
	}, []string{"SaveItem/leaves the same id in another thread alone"}},
	{"SaveItem moves a replaced item behind its ties", on(store.OpSaveItem, func(m *made) {
		p, err := m.base.LoadThreadItems(m.quiet(), m.Thread.ID, store.PageQuery{})
		if err == nil && len(p.Data) == 3 && m.Item.CreatedAt.Equal(at(1)) && m.Mode == store.Upsert {
			_ = m.base.DeleteThreadItem(m.quiet(), m.Thread.ID, m.Item.ID)
		}
	}), []string{"SaveItem/a replace keeps the place among ties"}},
	{"SaveItem keeps the old CreatedAt", on(store.OpSaveItem, func(m *made) {
		if old := m.stored(); old.Err == nil && !m.Item.CreatedAt.IsZero() {
			m.Item.CreatedAt = old.Item.CreatedAt
		}
	}), []string{
		"After/items: a deleted row is a cursor where it stood last",
		"After/items: a row that moves is a cursor at its new place",
		"SaveItem/a new CreatedAt moves it",
	}},
	{"LoadItem of a missing item is a zero item", on(store.OpLoadItem, func(m *made) {
		if m.make(); m.ends(store.ErrNotFound) && len(m.items(m.Thread.ID)) > 0 {
			m.a.Err = nil
		}
	}), []string{"LoadItem/a missing item is ErrNotFound"}},
	{"LoadItem ignores the thread", ignoresThread(store.OpLoadItem), []string{"LoadItem/through the wrong thread is ErrNotFound"}},
	{"LoadThreadItems of a missing thread is ErrNotFound", on(store.OpLoadThreadItems, func(m *made) {
		if m.make(); len(m.a.Items.Data) == 0 && m.a.Err == nil {
			m.a.Err = m.thread(m.Thread.ID).Err
		}
	}), []string{"LoadThreadItems/a missing thread is an empty page"}},
	{"an empty thread is ErrNotFound", on(store.OpLoadThreadItems, func(m *made) {
		if m.make(); m.a.Err == nil && len(m.a.Items.Data) == 0 && m.thread(m.Thread.ID).Err == nil {
			m.fail(store.CodeNotFound)
		}
	}), []string{"LoadThreadItems/an empty thread is an empty page", andMore}},
	{"a listing holds another thread's item", func() ops {
		var added memory[chat.Item]
		return ops{store.OpAddThreadItem: func(m *made) {
			added.set("last", m.Item)
		}, store.OpLoadThreadItems: func(m *made) {
			m.make()
			foreign, _ := added.get("last")
			if p := &m.a.Items; len(p.Data) == 2 && p.Data[0].CreatedAt.Equal(at(1)) && p.Data[1].CreatedAt.Equal(at(3)) && foreign.CreatedAt.Equal(at(2)) {
				p.Data = []chat.Item{p.Data[0], foreign, p.Data[1]}
			}
		}}
	}, []string{"LoadThreadItems/lists only this thread's items"}},
	{"DeleteThreadItem of a missing item is ErrNotFound", on(store.OpDeleteThreadItem, missingIsMissing), []string{
		"DeleteThreadItem/a missing item is nil",
		"DeleteThreadItem/a missing thread is nil",
	}},
	{"DeleteThreadItem ignores the thread", ignoresThread(store.OpDeleteThreadItem), []string{"DeleteThreadItem/through the wrong thread deletes nothing"}},
	{"DeleteThreadItem leaves the item in listings", func() ops {
		var deleted memory[bool]
		return ops{store.OpDeleteThreadItem: func(m *made) {
			if it := m.stored(); it.Err == nil && it.Item.CreatedAt.Equal(at(2)) {
				deleted.set(m.place(), true)
				m.answer(call.Answer{})
			}
		}, store.OpLoadItem: func(m *made) {
			if _, ok := deleted.get(m.place()); ok {
				m.fail(store.CodeNotFound)
			}
		}}
	}, []string{"DeleteThreadItem/the item is gone"}},
}

func nothingDone(m *made) { m.answer(call.Answer{Err: m.ctx.Err()}) }

func insertsOnly(m *made) {
	m.mode(store.InsertOnly)
	m.forgive(store.ErrConflict)
}

// missingIsMissing deletes an existing row and returns ErrNotFound for a missing one.
func missingIsMissing(m *made) {
	if gone := m.stored(); errors.Is(gone.Err, store.ErrNotFound) {
		m.answer(gone)
	}
}

func makesThread(m *made) {
	if m.make(); m.ends(store.ErrNotFound) && m.Mode == store.Upsert {
		_ = m.base.SaveThread(m.quiet(), chat.Thread{ID: m.Thread.ID, CreatedAt: m.Item.CreatedAt, Owner: m.caller(), Status: chat.Status{Type: "active"}})
		m.make()
	}
}

func takesOthersItem(m *made) {
	m.Item.ThreadID = m.Thread.ID
}

func bareThreadID(op store.Op) func() ops {
	return func() ops {
		var bare memory[bool]
		return ops{op: func(m *made) {
			if m.make().Err == nil {
				bare.set(m.Item.ID, m.Item.ThreadID == "")
			}
		}, store.OpLoadItem: func(m *made) {
			m.make()
			if b, _ := bare.get(m.Item.ID); b {
				m.a.Item.ThreadID = ""
			}
		}}
	}
}

// ignoresThread makes one op find an item in the thread to which it was added.
func ignoresThread(op store.Op) func() ops {
	return func() ops {
		var in memory[string]
		return ops{store.OpAddThreadItem: func(m *made) {
			in.set(m.Item.ID, m.Thread.ID)
		}, op: func(m *made) {
			if other, ok := in.get(m.Item.ID); ok && errors.Is(m.stored().Err, store.ErrNotFound) {
				m.Thread.ID = other
			}
		}}
	}
}

var brokenAttachments = []broken{
	{"SaveAttachment does nothing", on(store.OpSaveAttachment, nothingDone), []string{"Attachment/SaveAttachment inserts", andMore}},
	{"SaveAttachment keeps no ThreadID in a replace", on(store.OpSaveAttachment, func(m *made) {
		if m.stored().Err == nil {
			m.Attachment.ThreadID = ""
		}
	}), []string{"Attachment/SaveAttachment replaces"}},
	{"LoadAttachment of a missing one is a zero attachment", on(store.OpLoadAttachment, func(m *made) { m.forgive(store.ErrNotFound) }),
		[]string{"Attachment/LoadAttachment of a missing one is ErrNotFound"}},
	{"DeleteAttachment does nothing", on(store.OpDeleteAttachment, nothingDone), []string{"Attachment/DeleteAttachment deletes", andMore}},
	{"DeleteAttachment of a missing one is ErrNotFound", on(store.OpDeleteAttachment, missingIsMissing), []string{"Attachment/DeleteAttachment of a missing one is nil"}},
	{"DeleteThread deletes the attachment of its id", on(store.OpDeleteThread, func(m *made) {
		m.make()
		m.a.Err = errors.Join(m.a.Err, m.base.DeleteAttachment(m.ctx, m.Thread.ID))
	}), []string{"Attachment/threads and attachments have separate ids"}},
}

func disowned(p *store.Page[chat.Thread]) {
	for i := range p.Data {
		p.Data[i].Owner = chat.Owner{}
	}
}

var brokenOwners = []broken{
	{"only the JSON is kept", func() ops {
		disown := func(m *made) {
			m.make()
			m.a.Thread.Owner, m.a.Attachment.Owner = chat.Owner{}, chat.Owner{}
			disowned(&m.a.Threads)
		}
		return ops{store.OpLoadThread: disown, store.OpLoadThreads: disown, store.OpLoadAttachment: disown}
	}, []string{
		"Owner/attachments: a replace with the zero Owner keeps the stored one",
		"Owner/attachments: a loaded row has its Owner",
		"Owner/threads: a replace with the zero Owner keeps the stored one",
		"Owner/threads: a listed row has its Owner",
		"Owner/threads: a loaded row has its Owner",
		"UsedID/attachments: a save with the zero Owner does not free a deleted id",
		"UsedID/threads: a save with the zero Owner does not free a deleted id",
	}},
	{"listings lack the Owner", on(store.OpLoadThreads, func(m *made) {
		m.make()
		disowned(&m.a.Threads)
	}), []string{"Owner/threads: a listed row has its Owner"}},
	{"a row without an owner gets one", on(store.OpSaveAttachment, func(m *made) {
		if _, known := store.PrincipalFrom(m.ctx); !known {
			m.Attachment.Owner = chat.Owner{Subject: "anonymous"}
		}
	}), []string{"Owner/attachments: an insert with the zero Owner is unowned"}},
	{"a replace with the zero Owner clears it", func() ops {
		var cleared memory[bool]
		return ops{store.OpSaveThread: func(m *made) {
			was := m.stored()
			if m.make().Err == nil && was.Err == nil && m.Thread.Owner.IsZero() {
				cleared.set(m.Thread.ID, true)
			}
		}, store.OpLoadThread: func(m *made) {
			m.make()
			if _, ok := cleared.get(m.Thread.ID); ok {
				m.a.Thread.Owner = chat.Owner{}
			}
		}}
	}, []string{"Owner/threads: a replace with the zero Owner keeps the stored one"}},
	{"a save by another owner overwrites", on(store.OpSaveThread, func(m *made) {
		m.make()
		if old := m.stored().Thread; m.ends(store.ErrConflict) && !old.Owner.IsZero() && m.Mode == store.Upsert && old.Owner != m.Thread.Owner {
			m.Thread.Owner = old.Owner
			m.make()
		}
	}), []string{
		"Owner/threads: another owner's save is ErrConflict",
		"Owner/threads: of two racing first saves exactly one wins",
		"UsedID/threads: a save with the zero Owner does not free a deleted id",
		maybe("Concurrency/threads: delete and recreate let no other owner in"),
	}},
	{"only the subject is compared", on(store.OpSaveAttachment, func(m *made) {
		m.make()
		if old := m.stored().Attachment; m.ends(store.ErrConflict) && old.Owner.Subject == m.Attachment.Owner.Subject && m.Mode == store.Upsert {
			m.Attachment.Owner = old.Owner
			m.make()
		}
	}), []string{"Owner/attachments: another owner's save is ErrConflict"}},
	{"an update does not compare owners", on(store.OpSaveThread, func(m *made) {
		m.make()
		if m.ends(store.ErrConflict) && m.Mode == store.UpdateOnly {
			m.Thread.Owner = chat.Owner{}
			m.make()
		}
	}), []string{"Owner/threads: another owner's UpdateOnly save is ErrConflict"}},
	{"a save updates, then inserts", on(store.OpSaveThread, func(m *made) {
		if m.Mode == store.Upsert && m.stored().Err != nil {
			runtime.Gosched()
			m.mode(store.InsertOnly)
		}
		m.make()
	}), []string{"Concurrency/threads: of many first saves of one id by its owner, all succeed"}},
	{"an unowned row can be claimed", on(store.OpSaveThread, func(m *made) {
		m.make()
		if old := m.stored(); m.ends(store.ErrConflict) && old.Err == nil && old.Thread.Owner.IsZero() {
			m.a.Err = nil
		}
	}), []string{"Owner/threads: claiming an unowned row is ErrConflict"}},
	{"the owner is read, then written", on(store.OpSaveThread, func(m *made) {
		found := m.stored()
		runtime.Gosched()
		m.make()
		if winner := m.stored(); m.ends(store.ErrConflict) && errors.Is(found.Err, store.ErrNotFound) && winner.Err == nil &&
			m.Mode == store.Upsert && winner.Thread.Owner != m.Thread.Owner {
			m.a.Err = nil
		}
	}), []string{
		"Owner/threads: of two racing first saves exactly one wins",
		maybe("Concurrency/threads: delete and recreate let no other owner in"),
	}},
	{"a deletion forgets the owner", on(store.OpSaveAttachment, func(m *made) {
		if m.make(); m.ends(store.ErrConflict) && errors.Is(m.stored().Err, store.ErrNotFound) {
			m.a.Err = nil
		}
	}), []string{
		"UsedID/attachments: another owner's save under a deleted id is ErrConflict",
		"UsedID/attachments: a deleted id without an owner cannot be claimed",
		maybe("Concurrency/attachments: delete and recreate let no other owner in"),
	}},
	{"the owner cannot use a deleted id again", afterDeletion(func(m *made, deleted bool) {
		if deleted && m.Mode == store.Upsert {
			m.fail(store.CodeConflict)
			return
		}
		m.make()
	}), []string{
		"Concurrency/attachments: delete and recreate let no other owner in",
		"Concurrency/attachments: of many first saves of one id by its owner, all succeed",
		"UsedID/attachments: its owner may use a deleted id again",
	}},
	{"InsertOnly is ignored", on(store.OpSaveThread, func(m *made) {
		if m.Mode == store.InsertOnly {
			m.mode(store.Upsert)
		}
	}), []string{
		"Concurrency/threads: of many InsertOnly saves of one id, one wins",
		"SaveMode/threads: InsertOnly of an existing row is ErrConflict",
	}},
	{"InsertOnly never inserts", on(store.OpSaveItem, func(m *made) {
		if m.Mode == store.InsertOnly && strings.HasPrefix(m.Item.ID, "msg_") {
			m.fail(store.CodeConflict)
		}
	}), []string{"SaveMode/items: InsertOnly of a new row inserts", "Concurrency/items: of many InsertOnly saves of one id, one wins"}},
	{"UpdateOnly is ignored", on(store.OpSaveItem, func(m *made) {
		if m.Mode == store.UpdateOnly {
			m.mode(store.Upsert)
		}
	}), []string{"SaveMode/items: UpdateOnly of a deleted row is ErrNotFound", "SaveMode/items: UpdateOnly of a missing row is ErrNotFound"}},
	{"UpdateOnly never updates", on(store.OpSaveAttachment, func(m *made) {
		if m.Mode == store.UpdateOnly && m.stored().Err == nil {
			m.answer(call.Answer{})
		}
	}), []string{
		"Owner/attachments: another owner's UpdateOnly save is ErrConflict",
		"SaveMode/attachments: UpdateOnly of an existing row replaces",
	}},
	{"UpdateOnly revives what was deleted", afterDeletion(func(m *made, deleted bool) {
		if m.make(); deleted && m.ends(store.ErrNotFound) {
			was := m.a
			m.mode(store.Upsert)
			if m.make().Err != nil {
				m.a = was
			}
		}
	}), []string{"SaveMode/attachments: UpdateOnly of a deleted row is ErrNotFound"}},
	{"the zero filter lists everything", on(store.OpLoadThreads, func(m *made) {
		if m.Query.Owner == (store.OwnerFilter{}) {
			m.Query.Owner = store.AnyOwner()
		}
	}), []string{
		"After/threads: a deleted thread is a cursor of the filters that its owner matches",
		"OwnerFilter/the zero filter lists rows without an owner",
	}},
	{"InTenant of no name lists everything", on(store.OpLoadThreads, func(m *made) {
		if m.Query.Owner == store.InTenant("") {
			m.Query.Owner = store.AnyOwner()
		}
	}), []string{
		"After/threads: a deleted thread is a cursor of the filters that its owner matches",
		"OwnerFilter/InTenant of no name lists owners without a tenant",
	}},
	{"InTenant lists the caller's own", on(store.OpLoadThreads, func(m *made) {
		if tenant, ok := m.Query.Owner.Tenant(); ok && tenant != "" {
			m.Query.Owner = store.OwnedBy(m.caller())
		}
	}), []string{
		"After/threads: a deleted thread is a cursor of the filters that its owner matches",
		"OwnerFilter/InTenant lists every owner of the tenant",
	}},
	{"AnyOwner omits rows without an owner", on(store.OpLoadThreads, func(m *made) {
		if m.make(); m.Query.Owner.IsAny() {
			m.a.Threads.Data = slices.DeleteFunc(m.a.Threads.Data, func(t chat.Thread) bool { return t.Owner.IsZero() })
		}
	}), []string{"OwnerFilter/AnyOwner lists all rows, also those without an owner"}},
	{"OwnedBy ignores the subject", on(store.OpLoadThreads, func(m *made) {
		if o, ok := m.Query.Owner.Owner(); ok && o.Tenant != "" {
			m.Query.Owner = store.InTenant(o.Tenant)
		}
	}), []string{
		"ID/owners that differ in a byte are two",
		"OwnerFilter/OwnedBy keeps tenant and subject apart",
		"OwnerFilter/OwnedBy lists one owner's",
	}},
	{"tenant and subject are joined", on(store.OpLoadThreads, func(m *made) {
		// The colliding owners share one thread in listings.
		o, ok := m.Query.Owner.Owner()
		if !ok || o.IsZero() || m.Query.PageQuery != (store.PageQuery{}) {
			m.make()
			return
		}
		m.Query.Owner, m.Query.Limit = store.AnyOwner(), store.MaxLimit
		m.make()
		p := &m.a.Threads
		p.Data = slices.DeleteFunc(p.Data, func(t chat.Thread) bool { return t.Owner.Tenant+t.Owner.Subject != o.Tenant+o.Subject })
		if len(p.Data) > 20 {
			p.Data, p.HasMore, p.After = p.Data[:20], true, p.Data[19].ID
		}
	}), []string{"OwnerFilter/OwnedBy keeps tenant and subject apart"}},
	{"pages are filtered afterwards", on(store.OpLoadThreads, func(m *made) {
		filter := m.Query.Owner
		if o, ok := filter.Owner(); !ok || o.IsZero() || m.Query.Limit != 10 {
			m.make()
			return
		}
		m.Query.Owner = store.AnyOwner()
		m.make()
		m.a.Threads.Data = slices.DeleteFunc(m.a.Threads.Data, func(t chat.Thread) bool { return !filter.Match(t.Owner) })
	}), []string{"OwnerFilter/a page is full if enough rows match the filter"}},
}

// afterDeletion tells a save of an attachment whether its id was deleted.
func afterDeletion(save func(m *made, deleted bool)) func() ops {
	return func() ops {
		var deleted memory[bool]
		return ops{store.OpDeleteAttachment: func(m *made) {
			deleted.set(m.Attachment.ID, true)
		}, store.OpSaveAttachment: func(m *made) {
			was, _ := deleted.get(m.Attachment.ID)
			save(m, was)
		}}
	}
}

var brokenModes = []broken{
	{"an unknown mode of threads is an upsert", on(store.OpSaveThread, (*made).knownMode), []string{"SaveMode/threads: an unknown mode is ErrInvalid"}},
	{"an unknown mode of items is an upsert", on(store.OpSaveItem, (*made).knownMode), []string{"SaveMode/items: an unknown mode is ErrInvalid"}},
	{"an unknown mode of attachments is refused too late", on(store.OpSaveAttachment, func(m *made) {
		if refused := m.make(); m.ends(store.ErrInvalid) && m.Mode > store.UpdateOnly {
			m.knownMode()
			m.make()
			m.a = refused
		}
	}), []string{"SaveMode/attachments: an unknown mode is ErrInvalid"}},
	{"AddThreadItem obeys UpdateOnly", on(store.OpAddThreadItem, func(m *made) {
		if old := m.stored(); errors.Is(old.Err, store.ErrNotFound) && m.Mode == store.UpdateOnly {
			m.answer(old)
		}
	}), []string{"AddThreadItem/inserts under any save mode"}},
	{"AddThreadItem replaces under UpdateOnly", on(store.OpAddThreadItem, func(m *made) {
		if m.make(); m.ends(store.ErrConflict) && m.Mode == store.UpdateOnly {
			m.Op = store.OpSaveItem
			m.make()
		}
	}), []string{"AddThreadItem/an existing id is ErrConflict under any save mode"}},
}

var brokenRaces = []broken{
	{"AddThreadItem looks, then adds", on(store.OpAddThreadItem, func(m *made) {
		found := m.stored()
		runtime.Gosched()
		if m.make(); m.ends(store.ErrConflict) && errors.Is(found.Err, store.ErrNotFound) {
			m.a.Err = nil
		}
	}), []string{"Concurrency/of many AddThreadItem calls of one id, one succeeds"}},
	{"InsertOnly looks, then inserts", on(store.OpSaveAttachment, func(m *made) {
		found := m.stored()
		runtime.Gosched()
		if m.Mode == store.InsertOnly && errors.Is(found.Err, store.ErrNotFound) {
			m.mode(store.Upsert)
		}
	}), []string{"Concurrency/attachments: of many InsertOnly saves of one id, one wins"}},
	{"UpdateOnly looks, then saves", on(store.OpSaveThread, func(m *made) {
		if m.Mode == store.UpdateOnly && m.stored().Err == nil {
			runtime.Gosched()
			m.mode(store.Upsert)
		}
	}), []string{"Concurrency/no update resurrects a deleted thread"}},
	{"a late item outlives its thread", func() ops {
		// A table of items without a foreign key behaves so.
		var orphan memory[chat.Item]
		return ops{store.OpAddThreadItem: func(m *made) {
			found := m.thread(m.Thread.ID)
			runtime.Gosched()
			if m.make(); found.Err == nil && m.ends(store.ErrNotFound) {
				orphan.set(m.Thread.ID, m.Item)
				m.a.Err = nil
			}
		}, store.OpSaveThread: func(m *made) {
			m.make()
			if it, ok := orphan.get(m.Thread.ID); ok && m.a.Err == nil {
				_ = m.base.AddThreadItem(m.quiet(), m.Thread.ID, it)
			}
		}}
	}, []string{"Concurrency/no item outlives its thread"}},
	{"a read lags behind a write", func() ops {
		var before memory[chat.Item]
		return ops{store.OpSaveItem: func(m *made) {
			if old := m.stored(); old.Err == nil && m.Item.CreatedAt.Equal(at(0)) {
				before.set(m.Item.ID, old.Item)
			}
		}, store.OpLoadItem: func(m *made) {
			m.make()
			if old, ok := before.get(m.Item.ID); ok && m.a.Err == nil {
				m.a.Item = old
			}
		}}
	}, []string{"Concurrency/many writers and readers of one thread", "Concurrency/writers of different threads do not disturb each other"}},
	{"a listing lags behind", func() ops {
		var last memory[store.Page[chat.Thread]]
		return ops{store.OpLoadThreads: func(m *made) {
			m.make()
			o, ok := m.Query.Owner.Owner()
			if m.a.Err != nil || !ok || o.IsZero() || m.Query.Limit != store.MaxLimit || m.Query.After != "" {
				return
			}
			old, ok := last.get(o.Subject)
			last.set(o.Subject, m.a.Threads)
			if ok {
				m.a.Threads = old
			}
		}}
	}, []string{"Concurrency/threads of one owner come and go"}},
}

// brokenCancellations look at their context only if there is something to do.
var brokenCancellations = []broken{
	{"DeleteThread of a missing one is deaf", on(store.OpDeleteThread, deafIfMissing), []string{"CancelledContext/DeleteThread"}},
	{"DeleteThreadItem of a missing one is deaf", on(store.OpDeleteThreadItem, deafIfMissing), []string{"CancelledContext/DeleteThreadItem"}},
	{"DeleteAttachment of a missing one is deaf", on(store.OpDeleteAttachment, deafIfMissing), []string{"CancelledContext/DeleteAttachment"}},
	{"AddThreadItem looks for the thread before the context", on(store.OpAddThreadItem, func(m *made) {
		if _, err := m.base.LoadThread(context.WithoutCancel(m.quiet()), m.Thread.ID); errors.Is(err, store.ErrNotFound) {
			m.ctx = context.WithoutCancel(m.ctx)
		}
	}), []string{"CancelledContext/AddThreadItem"}},
	{"LoadThreads with a cursor is deaf", on(store.OpLoadThreads, deafWithCursor), []string{"CancelledContext/LoadThreads"}},
	{"LoadThreadItems with a cursor is deaf", on(store.OpLoadThreadItems, deafWithCursor), []string{"CancelledContext/LoadThreadItems"}},
	{"LoadThreads looks for the cursor before the context", on(store.OpLoadThreads, func(m *made) {
		if a := m.Make(context.WithoutCancel(m.quiet()), m.base); errors.Is(a.Err, store.ErrNotFound) {
			m.answer(a)
		}
	}), []string{"CancelledContext/LoadThreads"}},
}

func deafIfMissing(m *made) {
	deaf := *m
	deaf.ctx = context.WithoutCancel(m.ctx)
	if errors.Is(deaf.stored().Err, store.ErrNotFound) {
		m.ctx = deaf.ctx
	}
}

func deafWithCursor(m *made) {
	if m.Query.After != "" {
		m.ctx = context.WithoutCancel(m.ctx)
	}
}
