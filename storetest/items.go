package storetest

import (
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

const (
	addItemRule    = "AddThreadItem only inserts: an id that is already in the thread is ErrConflict and the stored item stays; a missing thread is ErrNotFound"
	anyModeRule    = "AddThreadItem ignores the save mode: it inserts under UpdateOnly too, and it replaces nothing under Upsert"
	saveItemRule   = "SaveItem inserts or replaces; a missing thread is ErrNotFound"
	threadIDRule   = "an empty item.ThreadID is filled in; another thread's is ErrInvalid"
	itemIDsRule    = "item ids are unique within a thread: the same id in two threads is two rows"
	loadItemRule   = "LoadItem returns the item of the named thread; an item of another thread is ErrNotFound"
	loadItemsRule  = "LoadThreadItems of a missing thread is an empty page; with After it is ErrNotFound"
	deleteItemRule = "DeleteThreadItem deletes the item of the named thread; if there is none, it returns nil"
	backRule       = "a loaded value equals the saved value"
)

var modeNames = map[store.SaveMode]string{store.Upsert: "Upsert", store.InsertOnly: "InsertOnly", store.UpdateOnly: "UpdateOnly"}

// putChecks returns the checks that AddThreadItem and SaveItem share.
func putChecks(rule string, put func(u *user, threadID string, it chat.Item) outcome[none]) []check {
	return []check{
		{"a missing thread is ErrNotFound", rule, func(h *harness) {
			t := h.ada.thread()
			put(h.ada, t.ID, h.item(at(1), "text")).is(store.ErrNotFound)
			h.ada.loadThread(t.ID).absent()
			h.ada.saveThread(t).ok()
			wantItems(h, t.ID, "that was saved after a failed call to put an item into it")
		}},
		{"a deleted thread is ErrNotFound", rule, func(h *harness) {
			thread, its := itemsAt(h, 1)
			h.ada.deleteThread(thread).ok()
			put(h.ada, thread, its[0]).is(store.ErrNotFound)
			put(h.ada, thread, h.item(at(1), "text")).is(store.ErrNotFound)
		}},
		{"an empty ThreadID is filled in", threadIDRule, func(h *harness) {
			t := h.ada.newThread()
			it := h.item(at(1), "text")
			put(h.ada, t.ID, it).ok()
			it.ThreadID = t.ID
			wants(h.ada.loadItem(t.ID, it.ID), "", it)
		}},
		{"another thread's ThreadID is ErrInvalid", threadIDRule, func(h *harness) {
			thread, its := itemsAt(h, 1)
			other := h.ada.newThread()
			it := its[0]
			if rule == addItemRule { // an id that no thread has
				it = h.item(at(1), "text")
				it.ThreadID = thread
			}
			put(h.ada, other.ID, it).is(store.ErrInvalid)
			wantItems(h, other.ID, "after a call for another thread's item")
			wantItems(h, thread, "after another thread was to get its item", its...)
		}},
	}
}

var addThreadItemChecks = append(putChecks(addItemRule, (*user).addItem), []check{
	{"inserts", addItemRule, func(h *harness) {
		t := h.ada.newThread()
		h.ada.items(t.ID, store.PageQuery{}).ok() // so that a cache holds the empty page
		it := h.ada.newItem(t.ID, at(1))
		wantItems(h, t.ID, "after AddThreadItem", it)
		wants(h.ada.loadItem(t.ID, it.ID), "", it)
	}},
	{"an existing id is ErrConflict", addItemRule, func(h *harness) {
		t := h.ada.newThread()
		it := h.ada.newItem(t.ID, at(1))
		h.ada.addItem(t.ID, h.itemWithID(it.ID, at(2), "an impostor")).is(store.ErrConflict)
		wants(h.ada.loadItem(t.ID, it.ID), " after AddThreadItem of the same id", it)
		wantItems(h, t.ID, "after AddThreadItem of an id that it has", it)
	}},
	{"an equal item again is ErrConflict", addItemRule, func(h *harness) {
		t := h.ada.newThread()
		it := h.ada.newItem(t.ID, at(1))
		h.ada.addItem(t.ID, it).is(store.ErrConflict)
	}},
	{"inserts under any save mode", anyModeRule, func(h *harness) {
		t := h.ada.newThread()
		for i, m := range []store.SaveMode{store.Upsert, store.InsertOnly, store.UpdateOnly} {
			it := h.item(at(i), "text")
			it.ThreadID = t.ID
			h.ada.mode(m).addItem(t.ID, it).is(nil)
			wants(h.ada.loadItem(t.ID, it.ID), " after AddThreadItem under "+modeNames[m], it)
		}
	}},
	{"an existing id is ErrConflict under any save mode", anyModeRule, func(h *harness) {
		t := h.ada.newThread()
		it := h.ada.newItem(t.ID, at(1))
		for _, m := range []store.SaveMode{store.Upsert, store.InsertOnly, store.UpdateOnly} {
			h.ada.mode(m).addItem(t.ID, h.itemWithID(it.ID, at(2), "an impostor")).is(store.ErrConflict)
			wantItems(h, t.ID, "after AddThreadItem, under "+modeNames[m]+", of an id that it has", it)
		}
	}},
	{"a deleted item's id is free", addItemRule, func(h *harness) {
		t := h.ada.newThread()
		it := h.ada.newItem(t.ID, at(1))
		h.ada.deleteItem(t.ID, it.ID).ok()
		h.ada.addItem(t.ID, it).is(nil)
		wantItems(h, t.ID, "after the item was added, deleted and added", it)
	}},
	{"the same id in two threads is two rows", itemIDsRule, func(h *harness) {
		a, b := h.ada.newThread(), h.ada.newThread()
		id := h.mint.ID("msg")
		inA, inB := h.itemWithID(id, at(1), "in a"), h.itemWithID(id, at(2), "in b")
		inA.ThreadID, inB.ThreadID = a.ID, b.ID
		h.ada.addItem(a.ID, inA).ok()
		h.ada.addItem(b.ID, inB).is(nil)
		wants(h.ada.loadItem(a.ID, id), "", inA)
		wants(h.ada.loadItem(b.ID, id), "", inB)
		h.ada.deleteItem(b.ID, id).ok()
		h.ada.loadItem(a.ID, id).is(nil)
	}},
}...)

// wantItems lists a thread's items, oldest first, and compares ids and values.
func wantItems(h *harness, threadID, when string, want ...chat.Item) {
	h.t.Helper()
	o := h.ada.items(threadID, store.PageQuery{Order: store.OldestFirst})
	lists(o, " "+when, idsOf(want))
	for i, it := range o.val.Data[:min(len(o.val.Data), len(want))] {
		wants(with(o, it), " "+when+": an item", want[i])
	}
}

// itemsAt adds items to a new thread of ada, created at the given seconds.
func itemsAt(h *harness, secs ...int) (threadID string, its []chat.Item) {
	h.t.Helper()
	t := h.ada.newThread()
	for _, sec := range secs {
		its = append(its, h.ada.newItem(t.ID, at(sec)))
	}
	return t.ID, its
}

// rewritten returns the item with another text and CreatedAt.
func rewritten(h *harness, it chat.Item, sec int) chat.Item {
	h.t.Helper()
	threadID := it.ThreadID
	it = h.itemWithID(it.ID, at(sec), "another text")
	it.ThreadID = threadID
	return it
}

var saveItemChecks = append(putChecks(saveItemRule, (*user).saveItem), []check{
	{"inserts", saveItemRule, func(h *harness) {
		thread, its := itemsAt(h, 1)
		it := h.item(at(2), "text")
		it.ThreadID = thread
		h.ada.saveItem(thread, it).ok()
		wantItems(h, thread, "after SaveItem of a new item", its[0], it)
	}},
	{"replaces", saveItemRule, func(h *harness) {
		thread, its := itemsAt(h, 1, 2, 3)
		wantItems(h, thread, "before SaveItem", its...)
		h.ada.loadItem(thread, its[1].ID).ok()
		its[1] = rewritten(h, its[1], 2)
		h.ada.saveItem(thread, its[1]).ok()
		wantItems(h, thread, "after SaveItem of the second", its...)
		wants(h.ada.loadItem(thread, its[1].ID), " after SaveItem", its[1])
	}},
	{"a new CreatedAt moves it", moveRule, func(h *harness) {
		thread, its := itemsAt(h, 1, 2, 3)
		its[0] = rewritten(h, its[0], 9)
		h.ada.saveItem(thread, its[0]).ok()
		wantItems(h, thread, "after the first was saved with a CreatedAt behind the last", its[1], its[2], its[0])
	}},
	{"a replace keeps the place among ties", moveRule, func(h *harness) {
		thread, its := itemsAt(h, 1, 1, 1)
		its[0] = rewritten(h, its[0], 1)
		h.ada.saveItem(thread, its[0]).ok()
		wantItems(h, thread, "of equal times, after the first was saved again", its...)
		h.ada.saveItem(thread, rewritten(h, its[1], 9)).ok()
		its[1] = rewritten(h, its[1], 1)
		h.ada.saveItem(thread, its[1]).ok()
		wantItems(h, thread, "of equal times, after the second was moved away and back", its...)
	}},
	{"leaves the same id in another thread alone", itemIDsRule, func(h *harness) {
		thread, its := itemsAt(h, 1)
		other := h.ada.newThread()
		h.ada.saveItem(other.ID, h.itemWithID(its[0].ID, at(5), "the other's")).ok()
		wantItems(h, thread, "after SaveItem of the same id in another thread", its...)
	}},
}...)

var loadItemChecks = []check{
	{"a missing item is ErrNotFound", loadItemRule, func(h *harness) {
		thread, _ := itemsAt(h, 1)
		h.ada.loadItem(thread, h.mint.ID("msg")).is(store.ErrNotFound)
	}},
	{"a missing thread is ErrNotFound", loadItemRule, func(h *harness) {
		h.ada.loadItem(h.mint.ID("thr"), h.mint.ID("msg")).is(store.ErrNotFound)
	}},
	{"through the wrong thread is ErrNotFound", loadItemRule, func(h *harness) {
		thread, its := itemsAt(h, 1)
		h.ada.loadItem(thread, its[0].ID).ok() // so that a cache holds it
		other := h.ada.newThread()
		h.ada.loadItem(other.ID, its[0].ID).is(store.ErrNotFound)
	}},
}

var loadThreadItemsChecks = []check{
	{"an empty thread is an empty page", backRule, func(h *harness) {
		wantItems(h, h.ada.newThread().ID, "that has no items")
	}},
	{"a missing thread is an empty page", loadItemsRule, func(h *harness) {
		wantItems(h, h.mint.ID("thr"), "that does not exist")
	}},
	{"a missing thread with After is ErrNotFound", loadItemsRule, func(h *harness) {
		_, its := itemsAt(h, 1)
		h.ada.items(h.mint.ID("thr"), store.PageQuery{After: its[0].ID}).is(store.ErrNotFound)
	}},
	{"lists only this thread's items", backRule, func(h *harness) {
		thread, its := itemsAt(h, 1, 3)
		itemsAt(h, 2)
		wantItems(h, thread, "while another thread has an item between them in time", its...)
	}},
}

var deleteThreadItemChecks = []check{
	{"the item is gone", deleteItemRule, func(h *harness) {
		thread, its := itemsAt(h, 1, 2, 3)
		wantItems(h, thread, "before DeleteThreadItem", its...)
		h.ada.loadItem(thread, its[1].ID).ok()
		h.ada.deleteItem(thread, its[1].ID).ok()
		h.ada.loadItem(thread, its[1].ID).absent()
		wantItems(h, thread, "after DeleteThreadItem of the second", its[0], its[2])
	}},
	{"a missing item is nil", deleteItemRule, func(h *harness) {
		thread, its := itemsAt(h, 1)
		h.ada.deleteItem(thread, h.mint.ID("msg")).is(nil)
		h.ada.deleteItem(thread, its[0].ID).ok()
		h.ada.deleteItem(thread, its[0].ID).is(nil)
	}},
	{"a missing thread is nil", deleteItemRule, func(h *harness) {
		h.ada.deleteItem(h.mint.ID("thr"), h.mint.ID("msg")).is(nil)
	}},
	{"through the wrong thread deletes nothing", deleteItemRule, func(h *harness) {
		thread, its := itemsAt(h, 1)
		other := h.ada.newThread()
		_ = h.ada.deleteItem(other.ID, its[0].ID) // another check wants nil
		h.ada.loadItem(thread, its[0].ID).is(nil)
	}},
}
