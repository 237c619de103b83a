package storetest

import (
	"cmp"
	"slices"
	"strings"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

const (
	saveThreadRule   = "SaveThread inserts or replaces the thread and leaves its items alone"
	moveRule         = "a save with a new CreatedAt moves the row in listings; among rows of equal times, an item keeps the place of its insertion, and a thread has the place of its id"
	deleteThreadRule = "DeleteThread deletes the thread and its items, and keeps attachments; of a missing thread it returns nil"
)

var loadThreadChecks = []check{
	{"a missing thread is ErrNotFound", "LoadThread of a missing thread is ErrNotFound", func(h *harness) {
		h.ada.loadThread(h.mint.ID("thr")).is(store.ErrNotFound)
	}},
	{"returns the saved thread", backRule, func(h *harness) {
		t := h.ada.thread()
		t.Status = chat.Status{Type: "locked", Reason: "a reason"}
		t.Metadata = h.json(`{"k":["v",1,null]}`)
		t.AllowedImageDomains = h.json(`["example.com"]`)
		h.ada.saveThread(t).ok()
		wants(h.ada.loadThread(t.ID), "", t)
	}},
}

var saveThreadChecks = []check{
	{"inserts", saveThreadRule, func(h *harness) {
		t := h.ada.newThread()
		wants(h.ada.loadThread(t.ID), "", t)
		lists(h.ada.threads(store.OwnedBy(h.ada.owner), store.PageQuery{}), "", []string{t.ID})
	}},
	{"replaces", saveThreadRule, func(h *harness) {
		t := h.ada.newThread()
		h.ada.loadThread(t.ID).ok() // so that a cache holds the old row
		t.Title = "another title"
		t.Status = chat.Status{Type: "closed", Reason: "done"}
		t.Metadata = h.json(`{"new":true}`)
		h.ada.saveThread(t).ok()
		wants(h.ada.loadThread(t.ID), " after a second SaveThread", t)
		lists(h.ada.threads(store.OwnedBy(h.ada.owner), store.PageQuery{}), "", []string{t.ID})
	}},
	{"a replace removes the members that the new value lacks", saveThreadRule, func(h *harness) {
		t := h.ada.thread()
		t.Metadata = h.json(`{"k":1}`)
		h.ada.saveThread(t).ok()
		bare := h.ada.thread()
		bare.ID, bare.Title = t.ID, ""
		h.ada.saveThread(bare).ok()
		wants(h.ada.loadThread(t.ID), " after a SaveThread without title and metadata", bare)
	}},
	{"items survive a replace", saveThreadRule, func(h *harness) {
		t := h.ada.newThread()
		a, b := h.ada.newItem(t.ID, at(1)), h.ada.newItem(t.ID, at(2))
		t.Title = "another title"
		h.ada.saveThread(t).ok()
		lists(h.ada.items(t.ID, store.PageQuery{Order: store.OldestFirst}), " after SaveThread", []string{a.ID, b.ID})
	}},
	{"a new CreatedAt moves it", moveRule, func(h *harness) {
		ts := threadsAt(h, 1, 2, 3)
		ts[0].CreatedAt = at(9)
		h.ada.saveThread(ts[0]).ok()
		wantThreads(h, "after the first was saved with a CreatedAt behind the last", ts[1], ts[2], ts[0])
	}},
	{"a replace keeps the place among ties", moveRule, func(h *harness) {
		ts := threadsAt(h, 1, 1, 1)
		for i := range ts {
			ts[i].Title = "another title"
			h.ada.saveThread(ts[i]).ok()
			wantThreads(h, "of equal times, after one of them was saved again", ts...)
			ts[i].CreatedAt = at(9)
			h.ada.saveThread(ts[i]).ok()
			ts[i].CreatedAt = at(1)
			h.ada.saveThread(ts[i]).ok()
			wantThreads(h, "of equal times, after one of them was moved away and back", ts...)
		}
	}},
	{"a thread that is made again has the place of its time and id", moveRule, func(h *harness) {
		ts := threadsAt(h, 1, 1, 1, 5)
		for i := range ts[:3] {
			h.ada.deleteThread(ts[i].ID).ok()
			h.ada.saveThread(ts[i]).ok()
			wantThreads(h, "of equal times, after one of them was deleted and saved", ts...)
		}
		h.ada.deleteThread(ts[0].ID).ok()
		ts[0].CreatedAt = at(9)
		h.ada.saveThread(ts[0]).ok()
		wantThreads(h, "after one of them was deleted and saved with a CreatedAt behind the last", ts[1], ts[2], ts[3], ts[0])
	}},
}

// threadsAt saves threads of ada, created at the given seconds. It returns them oldest first.
func threadsAt(h *harness, secs ...int) []chat.Thread {
	h.t.Helper()
	var ts []chat.Thread
	for _, sec := range secs {
		t := h.ada.thread()
		t.CreatedAt = at(sec)
		h.ada.saveThread(t).ok()
		ts = append(ts, t)
	}
	slices.SortFunc(ts, func(a, b chat.Thread) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return ts
}

func wantThreads(h *harness, when string, ts ...chat.Thread) {
	h.t.Helper()
	lists(h.ada.threads(store.OwnedBy(h.ada.owner), store.PageQuery{Order: store.OldestFirst}), " "+when, idsOf(ts))
}

var deleteThreadChecks = []check{
	{"the thread is gone", deleteThreadRule, func(h *harness) {
		t, kept := h.ada.newThread(), h.ada.newThread()
		h.ada.loadThread(t.ID).ok()
		h.ada.deleteThread(t.ID).ok()
		h.ada.loadThread(t.ID).absent()
		wantThreads(h, "after DeleteThread of another", kept)
	}},
	{"a missing thread is nil", deleteThreadRule, func(h *harness) {
		h.ada.deleteThread(h.mint.ID("thr")).is(nil)
		t := h.ada.newThread()
		h.ada.deleteThread(t.ID).ok()
		h.ada.deleteThread(t.ID).is(nil)
	}},
	{"its items are gone", deleteThreadRule, func(h *harness) {
		t := h.ada.newThread()
		it := h.ada.newItem(t.ID, at(1))
		h.ada.items(t.ID, store.PageQuery{}).ok()
		h.ada.loadItem(t.ID, it.ID).ok()
		h.ada.deleteThread(t.ID).ok()
		h.ada.loadItem(t.ID, it.ID).absent()
		if o := h.ada.items(t.ID, store.PageQuery{}); len(o.val.Data) > 0 {
			h.errorf("%s after DeleteThread: got %d items, want none", o, len(o.val.Data))
		}
	}},
	{"its items do not come back with a new thread of that id", deleteThreadRule, func(h *harness) {
		t := h.ada.newThread()
		it := h.ada.newItem(t.ID, at(1))
		h.ada.deleteThread(t.ID).ok()
		h.ada.saveThread(t).ok()
		h.ada.loadItem(t.ID, it.ID).absent()
		lists(h.ada.items(t.ID, store.PageQuery{}), " after DeleteThread and SaveThread of the same id", nil)
		h.ada.addItem(t.ID, it).ok() // its id is free again
	}},
	{"another thread's items stay", deleteThreadRule, func(h *harness) {
		t, other := h.ada.newThread(), h.ada.newThread()
		it := h.ada.newItem(t.ID, at(1))
		h.ada.addItem(other.ID, h.itemWithID(it.ID, at(1), "the other's")).ok()
		h.ada.deleteThread(t.ID).ok()
		lists(h.ada.items(other.ID, store.PageQuery{}), " after DeleteThread of another thread", []string{it.ID})
		h.ada.loadItem(other.ID, it.ID).is(nil)
	}},
	{"attachments stay", deleteThreadRule, func(h *harness) {
		t := h.ada.newThread()
		a := h.ada.attachment("a.txt")
		a.ThreadID = t.ID
		h.ada.saveAttachment(a).ok()
		h.ada.deleteThread(t.ID).ok()
		wants(h.ada.loadAttachment(a.ID), " after DeleteThread of its thread", a)
	}},
}

const ownerFilterRule = "LoadThreads lists the rows that match the filter: the zero filter matches rows without an owner, OwnedBy those of one owner, InTenant " +
	"those of one tenant, AnyOwner all; an empty field never means all owners"

var ownerFilterChecks = []check{
	{"OwnedBy lists one owner's", ownerFilterRule, func(h *harness) {
		mine := []string{h.ada.newThread().ID, h.ada.newThread().ID}
		h.bob.newThread()
		colleague := h.user(chat.Owner{Tenant: h.ada.owner.Tenant, Subject: h.mint.ID("cleo")})
		colleague.newThread()
		namesake := h.user(chat.Owner{Tenant: h.bob.owner.Tenant, Subject: h.ada.owner.Subject})
		namesake.newThread()
		lists(h.ada.threads(store.OwnedBy(h.ada.owner), store.PageQuery{Order: store.OldestFirst}), ", while a colleague and a namesake in another tenant have threads too", sortedIDs(mine))
	}},
	{"OwnedBy keeps tenant and subject apart", ownerFilterRule, func(h *harness) {
		base := h.mint.ID("o")
		owners := []chat.Owner{
			{Tenant: base + "a", Subject: "bc"}, {Tenant: base + "ab", Subject: "c"},
			{Tenant: base + "a:b", Subject: "c"}, {Tenant: base + "a", Subject: "b:c"},
			{Tenant: base + "a/b", Subject: "c"}, {Tenant: base + "a", Subject: "b/c"},
			{Subject: base + "abc"},
		}
		var want []string
		for _, owner := range owners {
			want = append(want, h.user(owner).newThread().ID)
		}
		for i, owner := range owners {
			lists(h.user(owner).threads(store.OwnedBy(owner), store.PageQuery{}), "", want[i:i+1])
		}
	}},
	{"OwnedBy of an owner without threads is empty", ownerFilterRule, func(h *harness) {
		h.ada.newThread()
		lists(h.bob.threads(store.OwnedBy(h.bob.owner), store.PageQuery{}), "", nil)
	}},
	{"the zero filter lists rows without an owner", ownerFilterRule, func(h *harness) {
		h.bare()
		owned := h.ada.newThread()
		unowned := h.nobody().newThread()
		got := allThreads(h, store.OwnerFilter{})
		contains(h, "LoadThreads(OwnerFilter{})", got, []string{unowned.ID}, []string{owned.ID})
	}},
	{"InTenant lists every owner of the tenant", ownerFilterRule, func(h *harness) {
		h.bare()
		colleague := h.user(chat.Owner{Tenant: h.ada.owner.Tenant, Subject: h.mint.ID("cleo")})
		want := []string{h.ada.newThread().ID, colleague.newThread().ID}
		h.bob.newThread()
		h.nobody().newThread()
		lists(h.ada.threads(store.InTenant(h.ada.owner.Tenant), store.PageQuery{Order: store.OldestFirst}), "", sortedIDs(want))
	}},
	{"InTenant of no name lists owners without a tenant", ownerFilterRule, func(h *harness) {
		h.bare()
		single := h.user(chat.Owner{Subject: h.mint.ID("single")}).newThread()
		owned, unowned := h.ada.newThread(), h.nobody().newThread()
		contains(h, `LoadThreads(InTenant(""))`, allThreads(h, store.InTenant("")), []string{single.ID}, []string{owned.ID, unowned.ID})
	}},
	{"AnyOwner lists all rows, also those without an owner", ownerFilterRule, func(h *harness) {
		h.bare()
		want := []string{h.ada.newThread().ID, h.bob.newThread().ID, h.nobody().newThread().ID}
		contains(h, "LoadThreads(AnyOwner())", allThreads(h, store.AnyOwner()), want, nil)
	}},
	{"a page is full if enough rows match the filter", ownerFilterRule, func(h *harness) {
		var want []string
		for i := range 30 {
			t := h.ada.thread()
			t.CreatedAt = at(i)
			h.ada.saveThread(t).ok()
			want = append(want, t.ID)
			other := h.bob.thread()
			other.CreatedAt = at(i)
			h.bob.saveThread(other).ok()
		}
		lists(h.ada.threads(store.OwnedBy(h.ada.owner), store.PageQuery{Limit: 10, Order: store.OldestFirst}), ", while another owner has as many rows between them", want[:10])
	}},
}

// allThreads walks a listing to its end, because other tests may have left rows in it.
func allThreads(h *harness, f store.OwnerFilter) []string {
	h.t.Helper()
	l := listing{h: h, page: func(q store.PageQuery) outcome[store.Page[string]] {
		return idsOnly(h.ada.threads(f, q))
	}}
	return l.walk(store.MaxLimit, store.NewestFirst, undisturbed)
}

// contains wants every id of want in got, and none of not.
func contains(h *harness, what string, got, want, not []string) {
	h.t.Helper()
	for _, id := range want {
		if !slices.Contains(got, id) {
			h.errorf("%s: row %q is missing", what, id)
		}
	}
	for _, id := range not {
		if slices.Contains(got, id) {
			h.errorf("%s: lists row %q, whose owner the filter does not match", what, id)
		}
	}
}
