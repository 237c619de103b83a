package storetest

import (
	"errors"
	"runtime"
	"slices"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/internal/call"
	"github.com/chatstore/chatstore/storetest/internal/report"
	"github.com/chatstore/chatstore/storetest/internal/rows"
)

const (
	ownerSetRule = "the insert sets the Owner, and it never changes: a row inserted with the zero Owner has no owner, and a replace with the zero Owner keeps the stored one"
	ownerRule    = "a save with another Owner is ErrConflict and changes nothing, also if the stored row has no owner"
	ownerJSON    = "the Owner is not part of the JSON: a store that keeps only x.JSON() loses it. Keep tenant and subject in columns of their own"
	raceRule     = "the write itself decides the Owner: of two racing first saves of one id exactly one wins, and the other is ErrConflict"
	usedIDRule   = "a used id belongs to its owner permanently: a deletion keeps (id, Owner), and another owner's save under that id is ErrConflict"
	insertRule   = "under store.InsertOnly a save inserts a new row; a save of an existing row is ErrConflict and changes nothing, so a colliding new id never merges two rows"
	modeRule     = "an unknown save mode is ErrInvalid, and nothing is saved: it is not taken for Upsert"
	updateRule   = "under store.UpdateOnly a save replaces an existing row; a save of a missing row is ErrNotFound and inserts nothing, so a late save never restores a deleted row"
)

// kind is one kind of row: threads, items of one thread of ada, or attachments. Each row has one text as its content. The
// checks of owners and save modes are the same for all kinds.
type kind struct {
	h      *harness
	newID  func() string
	save   func(u *user, id string, o chat.Owner, text string) outcome[none]
	load   func(u *user, id string) outcome[row]
	remove func(u *user, id string) outcome[none]
}

type row struct {
	text  string
	owner chat.Owner
}

func threadKind(h *harness) kind {
	return kind{
		h:     h,
		newID: func() string { return h.mint.ID("thr") },
		save: func(u *user, id string, o chat.Owner, text string) outcome[none] {
			t := u.thread()
			t.ID, t.Owner, t.Title = id, o, text
			return u.saveThread(t)
		},
		load: func(u *user, id string) outcome[row] {
			o := u.loadThread(id)
			return with(o, row{o.val.Title, o.val.Owner})
		},
		remove: (*user).deleteThread,
	}
}

func attachmentKind(h *harness) kind {
	return kind{
		h:     h,
		newID: func() string { return h.mint.ID("atc") },
		save: func(u *user, id string, o chat.Owner, text string) outcome[none] {
			a := u.attachment(text)
			a.ID, a.Owner = id, o
			return u.saveAttachment(a)
		},
		load: func(u *user, id string) outcome[row] {
			o := u.loadAttachment(id)
			return with(o, row{attachmentName(o.val), o.val.Owner})
		},
		remove: (*user).deleteAttachment,
	}
}

// attachmentName returns the name in an attachment's body, or "" if there is none.
func attachmentName(a chat.Attachment) string {
	b, err := a.Decode()
	if err != nil {
		return ""
	}
	return b.Name
}

func itemKind(h *harness) kind {
	thread := h.ada.newThread().ID
	return kind{
		h:     h,
		newID: func() string { return h.mint.ID("msg") },
		save: func(u *user, id string, _ chat.Owner, text string) outcome[none] {
			return u.saveItem(thread, h.itemWithID(id, at(1), text))
		},
		load: func(u *user, id string) outcome[row] {
			o := u.loadItem(thread, id)
			return with(o, row{text: rows.Text(o.val)})
		},
		remove: func(u *user, id string) outcome[none] { return u.deleteItem(thread, id) },
	}
}

func bothOwned(name, rule string, run func(h *harness, k kind)) []check {
	return []check{
		{"threads: " + name, rule, func(h *harness) { run(h, threadKind(h)) }},
		{"attachments: " + name, rule, func(h *harness) { run(h, attachmentKind(h)) }},
	}
}

func allKinds(name, rule string, run func(h *harness, k kind)) []check {
	return append(bothOwned(name, rule, run), check{"items: " + name, rule, func(h *harness) { run(h, itemKind(h)) }})
}

// create saves a new row owned by u.
func (k kind) create(u *user) (id string) {
	k.h.t.Helper()
	id = k.newID()
	k.save(u, id, u.owner, "first").ok()
	return id
}

// wantText loads a row and compares its content.
func (k kind) wantText(u *user, id, when, want string) {
	k.h.t.Helper()
	o := k.load(u, id)
	if got := o.ok().text; got != want {
		k.h.errorf("%s %s: got the row saved as %q, want the one saved as %q", o, when, got, want)
	}
}

// wantOwner loads a row and compares its Owner.
func (k kind) wantOwner(u *user, id, when string, want chat.Owner) {
	k.h.t.Helper()
	o := k.load(u, id)
	if got := o.ok().owner; got != want {
		k.h.errorf("%s %s: got %s, want %s", o, when, call.Owner(got), call.Owner(want))
	}
}

var ownerChecks = slices.Concat(
	bothOwned("a loaded row has its Owner", ownerJSON, func(h *harness, k kind) {
		k.wantOwner(h.ada, k.create(h.ada), "after a save with an Owner", h.ada.owner)
	}),
	[]check{{"threads: a listed row has its Owner", ownerJSON, func(h *harness) {
		t := h.ada.newThread()
		o := h.ada.threads(store.OwnedBy(h.ada.owner), store.PageQuery{})
		for _, got := range o.ok().Data {
			if got.ID == t.ID && got.Owner != h.ada.owner {
				h.errorf("%s: got thread %q with %s, want %s", o, got.ID, call.Owner(got.Owner), call.Owner(h.ada.owner))
			}
		}
	}}},
	bothOwned("a replace with the zero Owner keeps the stored one", ownerSetRule, func(h *harness, k kind) {
		id := k.create(h.ada)
		k.save(h.ada, id, chat.Owner{}, "second").ok()
		k.wantOwner(h.ada, id, "after a second save with the zero Owner", h.ada.owner)
		k.wantText(h.ada, id, "after a second save with the zero Owner", "second")
	}),
	bothOwned("an insert with the zero Owner is unowned", ownerSetRule, func(h *harness, k kind) {
		h.bare()
		u := h.nobody()
		id := k.create(u)
		k.wantOwner(u, id, "after a save with the zero Owner", chat.Owner{})
		k.save(u, id, chat.Owner{}, "second").ok()
		k.wantText(u, id, "after a second save with the zero Owner", "second")
	}),
	bothOwned("claiming an unowned row is ErrConflict", ownerRule, func(h *harness, k kind) {
		h.bare()
		id := k.create(h.nobody())
		k.save(h.ada, id, h.ada.owner, "claimed").is(store.ErrConflict)
		k.wantText(h.nobody(), id, "after a save with an Owner", "first")
	}),
	bothOwned("another owner's save is ErrConflict", ownerRule, func(h *harness, k kind) {
		id := k.create(h.ada)
		colleague := h.user(chat.Owner{Tenant: h.ada.owner.Tenant, Subject: h.mint.ID("cleo")})
		namesake := h.user(chat.Owner{Tenant: h.bob.owner.Tenant, Subject: h.ada.owner.Subject})
		for _, u := range []*user{h.bob, colleague, namesake} {
			k.save(u, id, u.owner, "stolen").is(store.ErrConflict)
			k.wantText(h.ada, id, "after another owner's save", "first")
		}
	}),
	bothOwned("another owner's UpdateOnly save is ErrConflict", ownerRule, func(h *harness, k kind) {
		h.bare()
		id := k.create(h.ada)
		k.save(h.bob.mode(store.UpdateOnly), id, h.bob.owner, "stolen").is(store.ErrConflict)
		k.wantText(h.ada, id, "after another owner's UpdateOnly save", "first")
	}),
	bothOwned("of two racing first saves exactly one wins", raceRule, func(h *harness, k kind) {
		for range raceRounds {
			id := k.newID()
			users := []*user{h.ada, h.bob}
			errs := make([]error, len(users))
			h.parallel(len(users), func(i int) error {
				runtime.Gosched()
				errs[i] = k.save(users[i], id, users[i].owner, users[i].owner.Subject).err
				return nil
			})
			winner, loser := 0, 1
			if errs[0] != nil {
				winner, loser = 1, 0
			}
			if errs[winner] != nil || !errors.Is(errs[loser], store.ErrConflict) {
				h.fatalf("two racing first saves of %q by two owners: got %s and %s, want no error from one and store.ErrConflict from the other", id, report.Error(errs[0]), report.Error(errs[1]))
			}
			k.wantText(users[winner], id, "after its owner won the race", users[winner].owner.Subject)
		}
	}),
)

// raceRounds is how often a race is run, so that one round meets the critical moment.
const raceRounds = 50

var usedIDChecks = slices.Concat(
	bothOwned("another owner's save under a deleted id is ErrConflict", usedIDRule, func(h *harness, k kind) {
		id := k.create(h.ada)
		k.remove(h.ada, id).ok()
		k.save(h.bob, id, h.bob.owner, "stolen").is(store.ErrConflict)
		k.load(h.bob, id).absent()
		k.save(h.bob.mode(store.InsertOnly), id, h.bob.owner, "stolen").is(store.ErrConflict)
		k.load(h.ada, id).absent()
	}),
	bothOwned("a save with the zero Owner does not free a deleted id", usedIDRule, func(h *harness, k kind) {
		id := k.create(h.ada)
		k.remove(h.ada, id).ok()
		// The contract lets a Store either restore the row or refuse the save.
		if o := k.save(h.ada, id, chat.Owner{}, "again"); !errors.Is(o.err, store.ErrConflict) {
			o.ok()
			k.wantOwner(h.ada, id, "after it was deleted and saved with the zero Owner", h.ada.owner)
		}
		k.save(h.bob, id, h.bob.owner, "stolen").is(store.ErrConflict)
	}),
	bothOwned("a deleted id without an owner cannot be claimed", usedIDRule, func(h *harness, k kind) {
		h.bare()
		id := k.create(h.nobody())
		k.remove(h.nobody(), id).ok()
		k.save(h.ada, id, h.ada.owner, "claimed").is(store.ErrConflict)
	}),
	bothOwned("its owner may use a deleted id again", usedIDRule, func(h *harness, k kind) {
		id := k.create(h.ada)
		k.remove(h.ada, id).ok()
		k.save(h.ada, id, h.ada.owner, "again").ok()
		k.wantText(h.ada, id, "after it was saved, deleted and saved", "again")
		k.remove(h.ada, id).ok()
		k.save(h.ada.mode(store.InsertOnly), id, h.ada.owner, "and again").ok()
		k.wantText(h.ada, id, "after it was deleted and saved InsertOnly", "and again")
	}),
)

var saveModeChecks = slices.Concat(
	allKinds("InsertOnly of a new row inserts", insertRule, func(h *harness, k kind) {
		id := k.newID()
		k.save(h.ada.mode(store.InsertOnly), id, h.ada.owner, "first").ok()
		k.wantText(h.ada, id, "after an InsertOnly save", "first")
	}),
	allKinds("InsertOnly of an existing row is ErrConflict", insertRule, func(h *harness, k kind) {
		id := k.create(h.ada)
		k.save(h.ada.mode(store.InsertOnly), id, h.ada.owner, "second").is(store.ErrConflict)
		k.wantText(h.ada, id, "after an InsertOnly save of its id", "first")
	}),
	allKinds("UpdateOnly of an existing row replaces", updateRule, func(h *harness, k kind) {
		id := k.create(h.ada)
		k.save(h.ada.mode(store.UpdateOnly), id, h.ada.owner, "second").ok()
		k.wantText(h.ada, id, "after an UpdateOnly save", "second")
	}),
	allKinds("UpdateOnly of a missing row is ErrNotFound", updateRule, func(h *harness, k kind) {
		id := k.newID()
		k.save(h.ada.mode(store.UpdateOnly), id, h.ada.owner, "late").is(store.ErrNotFound)
		k.load(h.ada, id).absent()
	}),
	allKinds("UpdateOnly of a deleted row is ErrNotFound", updateRule, func(h *harness, k kind) {
		id := k.create(h.ada)
		k.remove(h.ada, id).ok()
		k.save(h.ada.mode(store.UpdateOnly), id, h.ada.owner, "late").is(store.ErrNotFound)
		k.load(h.ada, id).absent()
	}),
	allKinds("an unknown mode is ErrInvalid", modeRule, func(h *harness, k kind) {
		for _, m := range []store.SaveMode{store.UpdateOnly + 1, unknownMode} {
			id := k.create(h.ada)
			k.save(h.ada.mode(m), id, h.ada.owner, "second").is(store.ErrInvalid)
			k.wantText(h.ada, id, "after a save of an unknown mode", "first")
			absent := k.newID()
			k.save(h.ada.mode(m), absent, h.ada.owner, "first").is(store.ErrInvalid)
			k.load(h.ada, absent).absent()
		}
	}),
)

// unknownMode is not a save mode.
const unknownMode store.SaveMode = 9
