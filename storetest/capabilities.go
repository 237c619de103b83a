package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/storetest/internal/call"
)

const (
	listAttachmentsRule = "driver.AttachmentLister lists the attachments that the owner filter matches, by id, where ids compare as bytes; After is the id of " +
		"one that is, or was, in the listing"
	swapAttachmentRule = "driver.AttachmentSwapper saves as SaveAttachment does under UpdateOnly, if the stored attachment's JSON is the old one, byte for byte; " +
		"else it is ErrConflict, and of concurrent swaps of one old attachment one applies"
	eraseRule = "driver.Eraser removes all rows of one owner, and its name from the ids of deleted ones, at one instant; it returns the ids that were live, and no other " +
		"owner's row changes"
	erasedRule = "an erased id has no owner: every save is ErrConflict (ErrNotFound under UpdateOnly), a load is ErrNotFound, a delete is nil, and only " +
		"store.AnyOwner accepts it as a cursor"
	erasedConditionRule = "an erased thread answers under store.IfVersion as a deleted one does: SaveThread looks at the version first, every other write finds no thread"
	erasedVersionRule   = "an erased id keeps its version; erasing a live thread increments it like a deletion"
	threadVersionsRule  = "driver.VersionReader returns the versions in the order of the ids, also of deleted threads; an id that was never used has version 0"
	tombstonesRule      = "driver.Tombstones lists the ids of deleted and erased rows of a kind, in order, where ids compare as bytes; After is any id"
	inactiveThreadsRule = "driver.Inactive lists the threads that were created before a time and have no item created at it or later, in the order of LoadThreads, with their versions"
)

var capabilityChecks = slices.Concat(listAttachmentsChecks, swapAttachmentChecks, eraseOwnerChecks, threadVersionsChecks, inactiveThreadsChecks, tombstonesChecks)

// capable returns a check of a capability, which is skipped if the Store lacks it.
func capable[C any](name, rule string, run func(h *harness, c C)) check {
	return check{name, rule, func(h *harness) {
		h.t.Helper()
		run(h, capability[C](h))
	}}
}

// capability returns a capability of the Store. If the Store lacks it, the check is skipped, or fails.
func capability[C any](h *harness) C {
	h.t.Helper()
	c, ok := store.As[C](h.s)
	if !ok {
		name := reflect.TypeFor[C]().Name()
		if h.cfg.requireCapabilities {
			h.fatalf("store.As finds no driver.%s; storetest.WithCapabilitiesRequired requires one", name)
		}
		h.t.Skipf("skipped: store.As finds no driver.%s (storetest.WithCapabilitiesRequired makes that a failure)", name)
	}
	return c
}

// fresh returns the same user, whose reads no cache answers. Capabilities bypass caches.
func (u *user) fresh() *user { return u.in(store.WithFresh(u.ctx)) }

func listAttachments(u *user, c driver.AttachmentLister, f store.OwnerFilter, q store.PageQuery) outcome[store.Page[chat.Attachment]] {
	q2 := store.ThreadQuery{PageQuery: q, Owner: f}
	p, err := c.ListAttachments(u.ctx, q2)
	return outcome[store.Page[chat.Attachment]]{h: u.h, note: "ListAttachments" + queryText(q2), val: p, err: err}
}

// queryText returns the arguments of a listing, as in the text of a LoadThreads.
func queryText(q store.ThreadQuery) string {
	return call.Call{Op: store.OpLoadThreads, Query: q}.String()[len("LoadThreads"):]
}

func eraseOwner(u *user, c driver.Eraser, o chat.Owner) outcome[driver.Erased] {
	e, err := c.EraseOwner(u.ctx, o)
	return outcome[driver.Erased]{h: u.h, note: "EraseOwner(" + call.Owner(o) + ")", val: e, err: err}
}

// erases wants the ids that were live, and the number of deleted ones.
func erases(o outcome[driver.Erased], threads, attachments []string, deleted int) {
	o.h.t.Helper()
	got := o.ok()
	sameIDs(o.h, o.String()+": the Threads, sorted", sortedIDs(threads), sortedIDs(got.Threads))
	sameIDs(o.h, o.String()+": the Attachments, sorted", sortedIDs(attachments), sortedIDs(got.Attachments))
	if got.Deleted != deleted {
		o.h.errorf("%s: got Deleted %d, want %d", o, got.Deleted, deleted)
	}
}

func threadVersions(u *user, c driver.VersionReader, ids ...string) (outcome[[]uint64], string) {
	epoch, vs, err := c.ThreadVersions(u.ctx, ids)
	note := fmt.Sprintf("ThreadVersions of %d ids", len(ids))
	if len(ids) <= 4 {
		note = fmt.Sprintf("ThreadVersions(%q)", ids)
	}
	return outcome[[]uint64]{h: u.h, note: note, val: vs, err: err}, epoch
}

// versionNow returns the version of one thread.
func versionNow(u *user, c driver.VersionReader, id string) uint64 {
	u.h.t.Helper()
	o, _ := threadVersions(u, c, id)
	vs := o.ok()
	if len(vs) != 1 {
		u.h.fatalf("%s: got %d versions, want 1", o, len(vs))
	}
	return vs[0]
}

func inactiveThreads(u *user, c driver.Inactive, before time.Time, f store.OwnerFilter, q store.PageQuery) outcome[store.Page[driver.ThreadVersion]] {
	q2 := store.ThreadQuery{PageQuery: q, Owner: f}
	p, err := c.InactiveThreads(u.ctx, before, q2)
	return outcome[store.Page[driver.ThreadVersion]]{h: u.h, note: "InactiveThreads before " + before.Format("04:05.999999999") + queryText(q2), val: p, err: err}
}

func inactiveIDs(o outcome[store.Page[driver.ThreadVersion]]) outcome[store.Page[string]] {
	p := store.Page[string]{HasMore: o.val.HasMore, After: o.val.After}
	for _, t := range o.val.Data {
		p.Data = append(p.Data, t.ID)
	}
	return with(o, p)
}

// attachmentListing is the attachments of ada.
func attachmentListing(h *harness, c driver.AttachmentLister) listing {
	return listing{
		h:     h,
		ties:  sortedIDs,
		newID: func() string { return h.mint.ID("atc") },
		page: func(q store.PageQuery) outcome[store.Page[string]] {
			return idsOnly(listAttachments(h.ada, c, store.OwnedBy(h.ada.owner), q))
		},
		insert: func(id string, _ time.Time) outcome[none] {
			a := h.ada.attachment("a.txt")
			a.ID = id
			return h.ada.saveAttachment(a)
		},
		remove: h.ada.deleteAttachment,
	}
}

var listAttachmentsChecks = []check{
	capable("ListAttachments: by id, with their values", listAttachmentsRule, func(h *harness, c driver.AttachmentLister) {
		saved := map[string]chat.Attachment{}
		base := h.mint.ID("atc")
		for _, end := range []string{"b", "😀", "_", "A", "ａ", "", "a", "Z"} { // in UTF-16, 😀 would come before ａ
			a := h.ada.attachment("name " + end)
			a.ID = base + end
			if end == "A" {
				a.ThreadID = h.mint.ID("thr")
			}
			h.ada.saveAttachment(a).ok()
			saved[a.ID] = a
		}
		h.bob.newAttachment("b.txt")
		var ids []string
		for id := range saved {
			ids = append(ids, id)
		}
		for _, order := range []store.Order{store.OldestFirst, store.NewestFirst} {
			o := listAttachments(h.ada, c, store.OwnedBy(h.ada.owner), store.PageQuery{Order: order})
			lists(o, "", inOrder(sortedIDs(ids), order))
			for _, got := range o.val.Data {
				wants(with(o, got), "", saved[got.ID])
				if got.Owner != h.ada.owner {
					h.errorf("%s: got attachment %q with %s, want %s", o, got.ID, call.Owner(got.Owner), call.Owner(h.ada.owner))
				}
			}
		}
	}),
	capable("ListAttachments: a replace and a deletion show", listAttachmentsRule, func(h *harness, c driver.AttachmentLister) {
		a, b := h.ada.newAttachment("a.txt"), h.ada.newAttachment("b.txt")
		changed := h.ada.attachment("another.txt")
		changed.ID = a.ID
		h.ada.saveAttachment(changed).ok()
		h.ada.deleteAttachment(b.ID).ok()
		o := listAttachments(h.ada, c, store.OwnedBy(h.ada.owner), store.PageQuery{})
		lists(o, " after one attachment was replaced and one deleted", []string{a.ID})
		for _, got := range o.val.Data {
			wants(with(o, got), " after it was replaced", changed)
		}
		h.ada.saveAttachment(b).ok()
		lists(listAttachments(h.ada, c, store.OwnedBy(h.ada.owner), store.PageQuery{Order: store.OldestFirst}),
			" after a deleted attachment was saved again", sortedIDs([]string{a.ID, b.ID}))
	}),
	capable("ListAttachments: pages", listAttachmentsRule, func(h *harness, c driver.AttachmentLister) {
		l := attachmentListing(h, c)
		ids := l.fill(store.DefaultLimit + 1)
		for _, order := range []store.Order{store.OldestFirst, store.NewestFirst} {
			for _, limit := range []int{1, 3, 7, 20, 21} {
				got := l.walk(limit, order, undisturbed)
				sameIDs(h, fmt.Sprintf("walking attachments by pages of %d, %s", limit, call.Order(order)), inOrder(ids, order), got)
			}
		}
		lists(l.page(store.PageQuery{Order: store.OldestFirst}), "", ids[:store.DefaultLimit])
		lists(l.page(store.PageQuery{Limit: math.MaxInt, Order: store.OldestFirst}), "", ids)
	}),
	capable("ListAttachments: the owner filter", listAttachmentsRule, func(h *harness, c driver.AttachmentLister) {
		colleague := h.user(chat.Owner{Tenant: h.ada.owner.Tenant, Subject: h.mint.ID("cleo")})
		single := h.user(chat.Owner{Subject: h.mint.ID("single")})
		all := make(map[*user]string)
		for _, u := range []*user{h.ada, h.bob, colleague, single, h.nobody()} {
			all[u] = u.newAttachment("a.txt").ID
		}
		for _, f := range []store.OwnerFilter{store.OwnedBy(h.ada.owner), store.OwnedBy(single.owner), store.InTenant(h.ada.owner.Tenant),
			store.InTenant(""), store.AnyOwner(), {}} {
			var want, not []string
			for u, id := range all {
				if f.Match(u.owner) {
					want = append(want, id)
				} else {
					not = append(not, id)
				}
			}
			l := listing{h: h, page: func(q store.PageQuery) outcome[store.Page[string]] { return idsOnly(listAttachments(h.ada, c, f, q)) }}
			got := l.walk(store.MaxLimit, store.NewestFirst, undisturbed)
			contains(h, "ListAttachments"+queryText(store.ThreadQuery{Owner: f}), got, want, not)
		}
	}),
	capable("ListAttachments: a deleted attachment is a cursor", listAttachmentsRule, func(h *harness, c driver.AttachmentLister) {
		l := attachmentListing(h, c)
		ids := l.fill(5)
		gone := []string{ids[0], ids[2]}
		for _, id := range gone {
			l.remove(id).ok()
		}
		for _, id := range gone {
			for _, order := range []store.Order{store.OldestFirst, store.NewestFirst} {
				want := slices.DeleteFunc(behind(inOrder(ids, order), id), func(id string) bool { return slices.Contains(gone, id) })
				lists(l.page(store.PageQuery{After: id, Order: order}), ", a deleted attachment,", want)
			}
		}
	}),
	capable("ListAttachments: a cursor outside the listing is ErrNotFound", listAttachmentsRule, func(h *harness, c driver.AttachmentLister) {
		h.ada.newAttachment("a.txt")
		others, deleted := h.bob.newAttachment("b.txt"), h.bob.newAttachment("c.txt")
		h.bob.deleteAttachment(deleted.ID).ok()
		for _, id := range []string{h.mint.ID("atc"), h.ada.newThread().ID, others.ID, deleted.ID} {
			for _, f := range []store.OwnerFilter{store.OwnedBy(h.ada.owner), store.InTenant(h.ada.owner.Tenant), {}} {
				listAttachments(h.ada, c, f, store.PageQuery{After: id}).is(store.ErrNotFound)
			}
		}
	}),
	capable("ListAttachments: arguments, then the context", listAttachmentsRule, func(h *harness, c driver.AttachmentLister) {
		over, cancel := context.WithCancel(h.ada.ctx)
		cancel()
		f := store.OwnedBy(h.ada.owner)
		for _, q := range []store.PageQuery{{Limit: -1}, {Order: store.OldestFirst + 1}, {After: "a\nb"}} {
			listAttachments(h.ada.in(over), c, f, q).is(store.ErrInvalid)
		}
		listAttachments(h.ada.in(over), c, store.OwnedBy(chat.Owner{Tenant: "t"}), store.PageQuery{}).is(store.ErrInvalid)
		listAttachments(h.ada.in(over), c, f, store.PageQuery{After: h.mint.ID("atc")}).is(context.Canceled)
	}),
}

func swapAttachment(u *user, c driver.AttachmentSwapper, old chat.JSON, a chat.Attachment) outcome[none] {
	err := c.SwapAttachment(u.ctx, old, a)
	return outcome[none]{h: u.h, note: fmt.Sprintf("SwapAttachment(%q)", a.ID), err: err}
}

// renamed returns an attachment of the same id and owner with another name.
func (u *user) renamed(a chat.Attachment, name string) chat.Attachment {
	n := u.attachment(name)
	n.ID = a.ID
	return n
}

var swapAttachmentChecks = []check{
	capable("SwapAttachment: only the old attachment is replaced", swapAttachmentRule, func(h *harness, c driver.AttachmentSwapper) {
		u := h.ada.fresh()
		a := u.newAttachment("a.txt")
		b, other := u.renamed(a, "b.txt"), u.renamed(a, "c.txt")
		other.ThreadID = h.mint.ID("thr")
		swapAttachment(u, c, b.JSON(), other).is(store.ErrConflict)
		swapAttachment(u, c, chat.JSON{}, other).is(store.ErrConflict)
		wants(u.loadAttachment(a.ID), " after swaps of another attachment", a)
		swapAttachment(u.mode(store.InsertOnly), c, a.JSON(), b).is(nil)
		wants(u.loadAttachment(a.ID), " after a swap", b)
		swapAttachment(u, c, a.JSON(), other).is(store.ErrConflict)
		wants(u.loadAttachment(a.ID), " after a second swap of the same old attachment", b)
	}),
	capable("SwapAttachment: missing rows and owners", swapAttachmentRule, func(h *harness, c driver.AttachmentSwapper) {
		u := h.ada.fresh()
		a, gone := u.newAttachment("a.txt"), u.newAttachment("b.txt")
		u.deleteAttachment(gone.ID).ok()
		swapAttachment(u, c, gone.JSON(), gone).is(store.ErrNotFound)
		never := u.attachment("c.txt")
		swapAttachment(u, c, never.JSON(), never).is(store.ErrNotFound)
		swapAttachment(u, c, chat.JSON{}, never).is(store.ErrNotFound)
		b := u.renamed(a, "d.txt")
		b.Owner = h.bob.owner
		swapAttachment(u, c, a.JSON(), b).is(store.ErrConflict)
		wants(u.loadAttachment(a.ID), " after a swap with another owner", a)
		b.Owner = chat.Owner{}
		swapAttachment(u, c, a.JSON(), b).is(nil)
		got := u.loadAttachment(a.ID)
		if got.ok().Owner != h.ada.owner {
			h.errorf("%s after a swap with the zero Owner: got %s, want %s", got, call.Owner(got.val.Owner), call.Owner(h.ada.owner))
		}
	}),
	capable("SwapAttachment: of concurrent swaps of one old attachment one applies", swapAttachmentRule, func(h *harness, c driver.AttachmentSwapper) {
		u := h.ada.fresh()
		old := u.newAttachment("a.txt")
		for round := range 20 {
			var applied atomic.Int64
			h.parallel(4, func(i int) error {
				o := swapAttachment(u, c, old.JSON(), u.renamed(old, fmt.Sprintf("%d.%d.txt", round, i)))
				if o.err == nil {
					applied.Add(1)
					return nil
				}
				return o.check(store.ErrConflict)
			})
			if n := applied.Load(); n != 1 {
				h.errorf("4 concurrent swaps of one old attachment: %d applied, want 1", n)
			}
			old = u.loadAttachment(old.ID).ok()
		}
	}),
	capable("SwapAttachment: arguments, then the context", swapAttachmentRule, func(h *harness, c driver.AttachmentSwapper) {
		a := h.ada.newAttachment("a.txt")
		over, cancel := context.WithCancel(h.ada.ctx)
		cancel()
		u, bad := h.ada.in(over), a
		bad.ID = "a\nb"
		swapAttachment(u, c, a.JSON(), bad).is(store.ErrInvalid)
		swapAttachment(u.in(store.IfVersion(over, "thr_1", 1)), c, a.JSON(), a).is(store.ErrInvalid)
		swapAttachment(u, c, a.JSON(), a).is(context.Canceled)
	}),
}

// estate is rows of one user in every state.
type estate struct {
	thread, deletedThread, attachment, deletedAttachment string
	item                                                 chat.Item
}

func (u *user) estate() (e estate) {
	u.h.t.Helper()
	e.thread, e.attachment = u.newThread().ID, u.newAttachment("a.txt").ID
	e.item = u.newItem(e.thread, at(1))
	e.deletedThread, e.deletedAttachment = u.newThread().ID, u.newAttachment("b.txt").ID
	u.deleteThread(e.deletedThread).ok()
	u.deleteAttachment(e.deletedAttachment).ok()
	return e
}

// stays wants the rows as they were made.
func (e estate) stays(u *user, when string) {
	u.h.t.Helper()
	u = u.fresh()
	wants(u.loadItem(e.thread, e.item.ID), when, e.item)
	u.loadThread(e.thread).is(nil)
	u.loadAttachment(e.attachment).is(nil)
	lists(u.threads(store.OwnedBy(u.owner), store.PageQuery{}), when, []string{e.thread})
	for _, id := range []string{e.deletedThread, e.thread} {
		other := u.h.user(chat.Owner{Subject: u.h.mint.ID("thief")})
		t := other.thread()
		t.ID = id
		other.saveThread(t).is(store.ErrConflict)
	}
}

var eraseOwnerChecks = []check{
	capable("EraseOwner: the owner's rows are gone", eraseRule, func(h *harness, c driver.Eraser) {
		e, other := h.ada.estate(), h.ada.newThread().ID
		erases(eraseOwner(h.ada, c, h.ada.owner), []string{e.thread, other}, []string{e.attachment}, 2)
		u := h.ada.fresh()
		u.loadThread(e.thread).is(store.ErrNotFound)
		u.loadThread(other).is(store.ErrNotFound)
		u.loadAttachment(e.attachment).is(store.ErrNotFound)
		u.loadItem(e.thread, e.item.ID).is(store.ErrNotFound)
		lists(u.items(e.thread, store.PageQuery{}), " of an erased thread", nil)
		lists(u.threads(store.OwnedBy(u.owner), store.PageQuery{}), " after EraseOwner", nil)
		if l, ok := store.As[driver.AttachmentLister](h.s); ok {
			lists(listAttachments(u, l, store.OwnedBy(u.owner), store.PageQuery{}), " after EraseOwner", nil)
		}
	}),
	capable("EraseOwner: other owners' rows stay", eraseRule, func(h *harness, c driver.Eraser) {
		base := h.mint.ID("o")
		ada := h.user(chat.Owner{Tenant: base + "a", Subject: base + "bc"})
		ada.estate()
		others := []*user{
			h.bob,
			h.user(chat.Owner{Tenant: base + "a", Subject: base + "bd"}),
			h.user(chat.Owner{Tenant: base + "b", Subject: base + "bc"}),
			h.user(chat.Owner{Tenant: base + "a" + base, Subject: "bc"}),
			h.user(chat.Owner{Subject: base + "bc"}),
		}
		var estates []estate
		for _, u := range others {
			estates = append(estates, u.estate())
		}
		unowned := h.nobody().newThread().ID
		eraseOwner(ada, c, ada.owner).ok()
		for i, u := range others {
			estates[i].stays(u, " after EraseOwner of another owner")
		}
		h.nobody().fresh().loadThread(unowned).is(nil)
	}),
	capable("EraseOwner: an erased id cannot be saved", erasedRule, func(h *harness, c driver.Eraser) {
		e := h.ada.estate()
		eraseOwner(h.ada, c, h.ada.owner).ok()
		for _, k := range []struct {
			kind
			ids []string
		}{
			{threadKind(h), []string{e.thread, e.deletedThread}},
			{attachmentKind(h), []string{e.attachment, e.deletedAttachment}},
		} {
			for _, id := range k.ids {
				for _, u := range []*user{h.ada, h.bob, h.nobody()} {
					for _, o := range []chat.Owner{u.owner, {}} {
						k.save(u, id, o, "again").is(store.ErrConflict)
						k.save(u.mode(store.InsertOnly), id, o, "again").is(store.ErrConflict)
						k.save(u.mode(store.UpdateOnly), id, o, "again").is(store.ErrNotFound)
					}
				}
				k.load(h.ada.fresh(), id).is(store.ErrNotFound)
				k.remove(h.ada, id).is(nil)
				k.save(h.ada, id, h.ada.owner, "after a deletion").is(store.ErrConflict)
			}
		}
		for _, id := range []string{e.thread, e.deletedThread} {
			h.ada.addItem(id, h.item(at(1), "late")).is(store.ErrNotFound)
			h.ada.saveItem(id, h.item(at(1), "late")).is(store.ErrNotFound)
			h.ada.deleteItem(id, e.item.ID).is(nil)
		}
	}),
	capable("EraseOwner: only AnyOwner accepts an erased thread as a cursor", erasedRule, func(h *harness, c driver.Eraser) {
		base := h.mint.ID("thr") // no other thread lies between two of these
		first, last := h.bob.thread(), h.bob.thread()
		first.ID, last.ID = base+"a", base+"d"
		h.bob.saveThread(first).ok()
		h.bob.saveThread(last).ok()
		live, deleted := h.ada.thread(), h.ada.thread()
		live.ID, deleted.ID = base+"b", base+"c"
		h.ada.saveThread(live).ok()
		it := h.ada.newItem(live.ID, at(1))
		h.ada.saveThread(deleted).ok()
		h.ada.deleteThread(deleted.ID).ok()
		eraseOwner(h.ada, c, h.ada.owner).ok()
		for _, id := range []string{live.ID, deleted.ID} {
			lists(h.ada.threads(store.AnyOwner(), store.PageQuery{Limit: 1, After: id, Order: store.OldestFirst}), ", an erased thread,", []string{last.ID})
			lists(h.ada.threads(store.AnyOwner(), store.PageQuery{Limit: 1, After: id}), ", an erased thread,", []string{first.ID})
			for _, f := range []store.OwnerFilter{store.OwnedBy(h.ada.owner), store.InTenant(h.ada.owner.Tenant), store.InTenant(""), {}} {
				h.ada.threads(f, store.PageQuery{After: id}).is(store.ErrNotFound)
			}
		}
		h.ada.fresh().items(live.ID, store.PageQuery{After: it.ID}).is(store.ErrNotFound)
	}),
	capable("EraseOwner: only AnyOwner accepts an erased attachment as a cursor", erasedRule, func(h *harness, c driver.Eraser) {
		l := capability[driver.AttachmentLister](h)
		base := h.mint.ID("atc")
		for i, u := range []*user{h.bob, h.ada, h.ada, h.bob} {
			a := u.attachment("a.txt")
			a.ID = base + string(rune('a'+i))
			u.saveAttachment(a).ok()
		}
		h.ada.deleteAttachment(base + "c").ok()
		eraseOwner(h.ada, c, h.ada.owner).ok()
		for _, id := range []string{base + "b", base + "c"} {
			lists(listAttachments(h.ada, l, store.AnyOwner(), store.PageQuery{Limit: 1, After: id, Order: store.OldestFirst}), ", an erased attachment,", []string{base + "d"})
			lists(listAttachments(h.ada, l, store.AnyOwner(), store.PageQuery{Limit: 1, After: id}), ", an erased attachment,", []string{base + "a"})
			for _, f := range []store.OwnerFilter{store.OwnedBy(h.ada.owner), store.InTenant(h.ada.owner.Tenant), store.InTenant(""), {}} {
				listAttachments(h.ada, l, f, store.PageQuery{After: id}).is(store.ErrNotFound)
			}
		}
	}),
	capable("EraseOwner: versions", erasedVersionRule, func(h *harness, c driver.Eraser) {
		r := capability[driver.VersionReader](h)
		e := h.ada.estate()
		live, deleted := versionNow(h.ada, r, e.thread), versionNow(h.ada, r, e.deletedThread)
		for range 2 { // the second time, nothing is left to erase
			eraseOwner(h.ada, c, h.ada.owner).ok()
			if got := versionNow(h.ada, r, e.thread); got != live+1 {
				h.errorf("the version of a thread that was live when it was erased: got %d, want %d, one more than before", got, live+1)
			}
			if got := versionNow(h.ada, r, e.deletedThread); got != deleted {
				h.errorf("the version of a thread that was deleted when it was erased: got %d, want %d, as before", got, deleted)
			}
		}
	}),
	capable("EraseOwner: calls under IfVersion", erasedConditionRule, func(h *harness, c driver.Eraser) {
		r := capability[driver.VersionReader](h)
		e := h.ada.estate()
		eraseOwner(h.ada, c, h.ada.owner).ok()
		for _, id := range []string{e.thread, e.deletedThread} {
			v := versionNow(h.ada, r, id)
			in := func(n uint64) *user { return h.ada.in(store.IfVersion(h.ada.ctx, id, n)) }
			t := h.ada.thread()
			t.ID = id
			in(v).saveThread(t).is(store.ErrConflict)
			in(v).mode(store.UpdateOnly).saveThread(t).is(store.ErrNotFound)
			in(v + 1).mode(store.UpdateOnly).saveThread(t).is(store.ErrConflict) // the version is looked at before the mode
			for _, n := range []uint64{v, v + 1} {
				in(n).addItem(id, h.item(at(1), "late")).is(store.ErrNotFound)
				in(n).deleteItem(id, e.item.ID).is(nil)
				in(n).deleteThread(id).is(nil)
			}
		}
	}),
	capable("EraseOwner: the same owner may begin anew, and be erased again", eraseRule, func(h *harness, c driver.Eraser) {
		h.ada.estate()
		eraseOwner(h.ada, c, h.ada.owner).ok()
		erases(eraseOwner(h.ada, c, h.ada.owner), nil, nil, 0)
		e := h.ada.estate()
		e.stays(h.ada, " after EraseOwner and a new begin")
		erases(eraseOwner(h.ada, c, h.ada.owner), []string{e.thread}, []string{e.attachment}, 2)
	}),
	capable("EraseOwner: arguments, then the context", eraseRule, func(h *harness, c driver.Eraser) {
		e := h.ada.estate()
		over, cancel := context.WithCancel(h.ada.ctx)
		cancel()
		for _, o := range []chat.Owner{{}, {Tenant: h.ada.owner.Tenant}, {Subject: "a\nb"}} {
			eraseOwner(h.ada, c, o).is(store.ErrInvalid)
			eraseOwner(h.ada.in(over), c, o).is(store.ErrInvalid)
		}
		eraseOwner(h.ada.in(over), c, h.ada.owner).is(context.Canceled)
		e.stays(h.ada, " after calls of EraseOwner that failed")
	}),
	capable("EraseOwner: beside saves, each row is either erased or live", eraseRule, func(h *harness, c driver.Eraser) {
		const savers, each = 3, 30
		var saved [2][savers][]string // threads, attachments
		var erased driver.Erased
		var saving atomic.Int32
		saving.Store(savers)
		h.parallel(savers+1, func(i int) error {
			if i == savers {
				for more := true; more; {
					more = saving.Load() > 0 // then once more
					o := eraseOwner(h.ada, c, h.ada.owner)
					if err := o.check(nil); err != nil {
						return err
					}
					erased.Threads = append(erased.Threads, o.val.Threads...)
					erased.Attachments = append(erased.Attachments, o.val.Attachments...)
					runtime.Gosched()
				}
				return nil
			}
			defer saving.Add(-1)
			for range each {
				t, a := h.ada.thread(), h.ada.attachment("a.txt")
				if err := errors.Join(h.ada.saveThread(t).check(nil), h.ada.saveAttachment(a).check(nil)); err != nil {
					return err
				}
				saved[0][i], saved[1][i] = append(saved[0][i], t.ID), append(saved[1][i], a.ID)
				for _, o := range []outcome[none]{h.ada.addItem(t.ID, h.item(at(1), "text")), h.ada.mode(store.UpdateOnly).saveThread(t)} {
					if err := o.check(nil); err != nil && o.check(store.ErrNotFound) != nil {
						return fmt.Errorf("while its owner may be erased: %w", err)
					}
				}
				if o := h.ada.saveThread(t); o.check(nil) != nil {
					if err := o.check(store.ErrConflict); err != nil {
						return fmt.Errorf("while its owner may be erased: %w", err)
					}
				}
			}
			return nil
		})
		sameIDs(h, "the Threads of all calls of EraseOwner, sorted", sortedIDs(slices.Concat(saved[0][:]...)), sortedIDs(erased.Threads))
		sameIDs(h, "the Attachments of all calls of EraseOwner, sorted", sortedIDs(slices.Concat(saved[1][:]...)), sortedIDs(erased.Attachments))
		u := h.ada.fresh()
		lists(u.threads(store.OwnedBy(u.owner), store.PageQuery{}), " after the last EraseOwner", nil)
		for _, id := range slices.Concat(saved[0][:]...) {
			u.loadThread(id).is(store.ErrNotFound)
			lists(u.items(id, store.PageQuery{}), " of an erased thread", nil)
		}
		for _, id := range slices.Concat(saved[1][:]...) {
			u.loadAttachment(id).is(store.ErrNotFound)
		}
	}),
	capable("EraseOwner: beside reads, all rows go at one instant", eraseRule, func(h *harness, c driver.Eraser) {
		for range raceRounds / 2 {
			var threads, attachments []string
			for range 4 {
				threads, attachments = append(threads, h.ada.newThread().ID), append(attachments, h.ada.newAttachment("a.txt").ID)
			}
			var erased atomic.Bool
			h.parallel(3, func(i int) error {
				if i == 0 {
					defer erased.Store(true)
					runtime.Gosched()
					return eraseOwner(h.ada, c, h.ada.owner).check(nil)
				}
				ids := slices.Concat(threads, attachments)
				if i == 2 { // the other reader goes backwards
					slices.Reverse(ids)
				}
				u, gone := h.ada.fresh(), ""
				read := func(id string) error {
					if slices.Contains(threads, id) {
						return u.loadThread(id).err
					}
					return u.loadAttachment(id).err
				}
				for last := false; !last; {
					last = erased.Load()
					for _, id := range ids {
						switch err := read(id); {
						case err == nil && gone != "":
							return fmt.Errorf("a read of %q, after a read found %q erased: got a row of the same owner, want store.ErrNotFound", id, gone)
						case errors.Is(err, store.ErrNotFound):
							gone = id
						case err != nil:
							return err
						}
					}
				}
				return nil
			})
		}
	}),
}

var threadVersionsChecks = []check{
	capable("ThreadVersions: in the order of ids, also of deleted and unused ones", threadVersionsRule, func(h *harness, c driver.VersionReader) {
		one, three, deleted := h.ada.newThread().ID, h.ada.newThread().ID, h.bob.newThread().ID
		h.ada.newItem(three, at(1))
		h.ada.newItem(three, at(2))
		h.bob.deleteThread(deleted).ok()
		o, _ := threadVersions(h.ada, c, three, h.mint.ID("thr"), deleted, one, three, h.mint.ID("thr"))
		if d := cmp.Diff([]uint64{3, 0, 2, 1, 3, 0}, o.ok()); d != "" {
			h.errorf("%s, of a thread with two items, an unused id, a deleted thread, a new thread, the first again, and an unused id (-want +got):\n%s", o, d)
		}
	}),
	capable("ThreadVersions: every change counts", threadVersionsRule, func(h *harness, c driver.VersionReader) {
		t := h.ada.newThread()
		it := h.item(at(1), "text")
		for i, change := range []func(){
			func() { h.ada.addItem(t.ID, it).ok() },
			func() { h.ada.saveItem(t.ID, it).ok() },
			func() { h.ada.saveThread(t).ok() },
			func() { h.ada.deleteItem(t.ID, it.ID).ok() },
			func() { h.ada.deleteThread(t.ID).ok() },
			func() { h.ada.saveThread(t).ok() },
		} {
			change()
			if got, want := versionNow(h.ada, c, t.ID), uint64(i+2); got != want {
				h.errorf("ThreadVersions(%q) after write %d of the check: got %d, want %d", t.ID, i+2, got, want)
			}
		}
		h.ada.deleteItem(t.ID, it.ID).ok()
		if got := versionNow(h.ada, c, t.ID); got != 7 {
			h.errorf("ThreadVersions(%q) after a deletion of an item that was not there: got %d, want 7", t.ID, got)
		}
	}),
	capable("ThreadVersions: the epoch stays", threadVersionsRule, func(h *harness, c driver.VersionReader) {
		_, first := threadVersions(h.ada, c)
		o, second := threadVersions(h.ada, c, h.ada.newThread().ID)
		if o.ok(); first == "" || first != second {
			h.errorf("%s: got epoch %q, and %q before; want one text, not empty, as nothing was restored", o, second, first)
		}
	}),
	capable("ThreadVersions: at most 1000 ids", threadVersionsRule, func(h *harness, c driver.VersionReader) {
		ids := make([]string, driver.MaxVersions+1)
		for i := range ids {
			ids[i] = h.mint.ID("thr")
		}
		last := h.ada.newThread().ID
		ids[driver.MaxVersions-1] = last
		o, _ := threadVersions(h.ada, c, ids[:driver.MaxVersions]...)
		if vs := o.ok(); len(vs) != driver.MaxVersions || vs[driver.MaxVersions-1] != 1 {
			h.errorf("%s: got %d versions, want %d, and the last one 1", o, len(vs), driver.MaxVersions)
		}
		o, _ = threadVersions(h.ada, c, ids...)
		o.is(store.ErrInvalid)
		o, _ = threadVersions(h.ada, c)
		if vs := o.ok(); len(vs) != 0 {
			h.errorf("%s: got %d versions, want none", o, len(vs))
		}
	}),
	capable("ThreadVersions: arguments, then the context", threadVersionsRule, func(h *harness, c driver.VersionReader) {
		over, cancel := context.WithCancel(h.ada.ctx)
		cancel()
		id := h.ada.newThread().ID
		o, _ := threadVersions(h.ada.in(over), c, id, "")
		o.is(store.ErrInvalid)
		o, _ = threadVersions(h.ada.in(over), c, id)
		o.is(context.Canceled)
	}),
}

var inactiveThreadsChecks = []check{
	capable("InactiveThreads: by the newest item", inactiveThreadsRule, func(h *harness, c driver.Inactive) {
		var want []string
		thread := func(inactive bool, created time.Time, items ...time.Time) (id string) {
			t := h.ada.thread()
			t.CreatedAt = created
			h.ada.saveThread(t).ok()
			for _, at := range items {
				h.ada.newItem(t.ID, at)
			}
			if inactive {
				want = append(want, t.ID)
			}
			return t.ID
		}
		before := at(100)
		thread(true, at(1))                                // no item
		thread(true, at(2), at(99), at(3))                 // old items
		thread(false, at(3), at(101), at(4))               // one new item, which was not inserted last
		thread(true, at(4), before.Add(-time.Microsecond)) // an item just before
		thread(false, at(5), before)                       // an item at that time
		shrunk := thread(true, at(6), at(101))             // its new item is deleted
		moved := thread(true, at(7), at(101))              // its new item moves
		grown := thread(false, at(8), at(7))               // its old item moves
		thread(true, before.Add(-time.Microsecond))        // created just before
		thread(false, before)                              // created at that time
		thread(false, at(101), at(1))                      // created later
		gone := thread(false, at(9))                       // deleted
		items := func(id string) []chat.Item { return h.ada.items(id, store.PageQuery{}).ok().Data }
		h.ada.deleteItem(shrunk, items(shrunk)[0].ID).ok()
		h.ada.saveItem(moved, h.itemWithID(items(moved)[0].ID, at(8), "text")).ok()
		h.ada.saveItem(grown, h.itemWithID(items(grown)[0].ID, at(101), "text")).ok()
		h.ada.deleteThread(gone).ok()
		for _, order := range []store.Order{store.OldestFirst, store.NewestFirst} {
			o := inactiveThreads(h.ada, c, before, store.OwnedBy(h.ada.owner), store.PageQuery{Order: order})
			lists(inactiveIDs(o), "", inOrder(want, order))
		}
		// A part of a microsecond does not count, as in the times of rows.
		o := inactiveThreads(h.ada, c, before.Add(999).In(time.FixedZone("", 3600)), store.OwnedBy(h.ada.owner), store.PageQuery{Order: store.OldestFirst})
		lists(inactiveIDs(o), "", want)
	}),
	capable("InactiveThreads: pages, in the order of LoadThreads", inactiveThreadsRule, func(h *harness, c driver.Inactive) {
		var all, want []string
		for i := range store.DefaultLimit + 1 { // some have equal times
			t := h.ada.thread()
			t.CreatedAt = at(i / 4)
			h.ada.saveThread(t).ok()
			if all = append(all, t.ID); i%3 == 1 {
				h.ada.newItem(t.ID, at(100))
			}
		}
		f := store.OwnedBy(h.ada.owner)
		listed := idsOf(h.ada.threads(f, store.PageQuery{Limit: store.MaxLimit, Order: store.OldestFirst}).ok().Data)
		want = slices.DeleteFunc(slices.Clone(listed), func(id string) bool { return slices.Index(all, id)%3 == 1 })
		l := listing{h: h, page: func(q store.PageQuery) outcome[store.Page[string]] {
			return inactiveIDs(inactiveThreads(h.ada, c, at(100), f, q))
		}}
		for _, order := range []store.Order{store.OldestFirst, store.NewestFirst} {
			for _, limit := range []int{1, 2, 7, len(want), len(want) + 1} {
				got := l.walk(limit, order, undisturbed)
				sameIDs(h, fmt.Sprintf("walking inactive threads by pages of %d, %s", limit, call.Order(order)), inOrder(want, order), got)
			}
		}
		// The cursor may be any thread of the listing: one that is not inactive, or one that was deleted.
		h.ada.deleteThread(want[3]).ok()
		left := func(id string) bool { return slices.Contains(want, id) && id != want[3] }
		for _, id := range append(slices.DeleteFunc(slices.Clone(listed), left), want[0]) {
			for _, order := range []store.Order{store.OldestFirst, store.NewestFirst} {
				rest := slices.DeleteFunc(behind(inOrder(listed, order), id), func(id string) bool { return !left(id) })
				lists(l.page(store.PageQuery{After: id, Order: order}), "", rest)
			}
		}
		l.page(store.PageQuery{After: h.mint.ID("thr")}).is(store.ErrNotFound)
		l.page(store.PageQuery{After: h.bob.newThread().ID}).is(store.ErrNotFound)
	}),
	capable("InactiveThreads: the owner filter", inactiveThreadsRule, func(h *harness, c driver.Inactive) {
		colleague := h.user(chat.Owner{Tenant: h.ada.owner.Tenant, Subject: h.mint.ID("cleo")})
		all := make(map[*user]string)
		for _, u := range []*user{h.ada, h.bob, colleague, h.nobody()} {
			all[u] = u.newThread().ID
		}
		for _, f := range []store.OwnerFilter{store.OwnedBy(h.ada.owner), store.InTenant(h.ada.owner.Tenant), store.AnyOwner(), {}} {
			var want, not []string
			for u, id := range all {
				if f.Match(u.owner) {
					want = append(want, id)
				} else {
					not = append(not, id)
				}
			}
			l := listing{h: h, page: func(q store.PageQuery) outcome[store.Page[string]] {
				return inactiveIDs(inactiveThreads(h.ada, c, at(1), f, q))
			}}
			got := l.walk(store.MaxLimit, store.NewestFirst, undisturbed)
			contains(h, "InactiveThreads"+queryText(store.ThreadQuery{Owner: f}), got, want, not)
		}
	}),
	capable("InactiveThreads: a deletion under its version meets no thread that was written since", inactiveThreadsRule, func(h *harness, c driver.Inactive) {
		h.ada.newItem(h.ada.newThread().ID, at(1))
		h.ada.newItem(h.ada.newThread().ID, at(1))
		o := inactiveThreads(h.ada, c, at(100), store.OwnedBy(h.ada.owner), store.PageQuery{})
		if n := len(o.ok().Data); n != 2 {
			h.fatalf("%s: got %d threads, want 2", o, n)
		}
		written, quiet := o.val.Data[0], o.val.Data[1]
		h.ada.newItem(written.ID, at(200))
		under := func(t driver.ThreadVersion) *user { return h.ada.in(store.IfVersion(h.ada.ctx, t.ID, t.Version)) }
		under(written).deleteThread(written.ID).is(store.ErrConflict)
		under(quiet).deleteThread(quiet.ID).is(nil)
		lists(h.ada.threads(store.OwnedBy(h.ada.owner), store.PageQuery{}), " after both were deleted under their versions, and one had a new item", []string{written.ID})
	}),
	capable("InactiveThreads: beside writes, an inactive thread's version is that of its items", inactiveThreadsRule, func(h *harness, c driver.Inactive) {
		const rounds = 60
		t := h.ada.newThread()
		var done atomic.Bool
		h.parallel(2, func(i int) error {
			if i == 0 {
				defer done.Store(true)
				for range rounds {
					it := h.item(at(200), "text")
					added := h.ada.addItem(t.ID, it)
					runtime.Gosched() // also where there is one processor, a read must meet the item
					deleted := h.ada.deleteItem(t.ID, it.ID)
					runtime.Gosched()
					if err := errors.Join(added.check(nil), deleted.check(nil)); err != nil {
						return err
					}
				}
				return nil
			}
			for !done.Load() {
				o := inactiveThreads(h.ada, c, at(100), store.OwnedBy(h.ada.owner), store.PageQuery{})
				if err := o.check(nil); err != nil {
					return err
				}
				for _, got := range o.val.Data {
					if got.Version%2 == 0 { // between an addition and its deletion
						return fmt.Errorf("%s while a new item is added and deleted again and again: got the thread as inactive in version %d, in which it has the item", o, got.Version)
					}
				}
				runtime.Gosched()
			}
			return nil
		})
	}),
	capable("InactiveThreads: arguments, then the context", inactiveThreadsRule, func(h *harness, c driver.Inactive) {
		over, cancel := context.WithCancel(h.ada.ctx)
		cancel()
		f := store.OwnedBy(h.ada.owner)
		for _, q := range []store.PageQuery{{Limit: -1}, {Order: store.OldestFirst + 1}, {After: "a\nb"}} {
			inactiveThreads(h.ada.in(over), c, at(1), f, q).is(store.ErrInvalid)
		}
		inactiveThreads(h.ada.in(over), c, at(1), store.OwnedBy(chat.Owner{Tenant: "t"}), store.PageQuery{}).is(store.ErrInvalid)
		inactiveThreads(h.ada.in(over), c, at(1), f, store.PageQuery{After: h.mint.ID("thr")}).is(context.Canceled)
	}),
}

func tombstones(u *user, c driver.Tombstones, kind string, q store.PageQuery) outcome[store.Page[driver.Tombstone]] {
	p, err := c.ListTombstones(u.ctx, kind, q)
	return outcome[store.Page[driver.Tombstone]]{h: u.h, note: "ListTombstones of " + kind + queryText(store.ThreadQuery{PageQuery: q}), val: p, err: err}
}

// tombstonesOf walks all tombstones whose ids begin with the base.
func tombstonesOf(u *user, c driver.Tombstones, kind, base string, order store.Order, limit int) (all []driver.Tombstone) {
	u.h.t.Helper()
	q := store.PageQuery{Limit: limit, Order: order, After: base}
	if order == store.NewestFirst {
		q.After = base + "~"
	}
	for {
		o := tombstones(u, c, kind, q)
		p := o.ok()
		if p.HasMore != (p.After != "") || p.HasMore && (len(p.Data) != limit || p.After != p.Data[limit-1].ID) || len(p.Data) > limit {
			u.h.errorf("%s: got %d rows, HasMore %v and After %q", o, len(p.Data), p.HasMore, p.After)
		}
		for _, t := range p.Data {
			if !strings.HasPrefix(t.ID, base) {
				return all
			}
			all = append(all, t)
		}
		if q.After = p.After; !p.HasMore || len(all) > 20 { // no check has so many
			return all
		}
	}
}

var tombstonesChecks = []check{
	capable("ListTombstones: deleted rows by id, with owner and time", tombstonesRule, func(h *harness, c driver.Tombstones) {
		base := h.mint.ID("row")
		var threads, attachments []driver.Tombstone
		for i, end := range []string{"A", "_", "a", "ａ", "😀"} { // in UTF-16, 😀 would come before ａ
			u := []*user{h.ada, h.bob, h.nobody()}[i%3]
			t := u.thread()
			t.ID, t.CreatedAt = base+end, at(9-i)
			u.saveThread(t).ok()
			u.deleteThread(t.ID).ok()
			a := u.attachment("a.txt")
			a.ID = base + end
			u.saveAttachment(a).ok()
			u.deleteAttachment(a.ID).ok()
			threads = append(threads, driver.Tombstone{ID: t.ID, Owner: u.owner, CreatedAt: t.CreatedAt})
			attachments = append(attachments, driver.Tombstone{ID: a.ID, Owner: u.owner})
		}
		live := h.ada.thread()
		live.ID = base + "live"
		h.ada.saveThread(live).ok()
		for kind, want := range map[string][]driver.Tombstone{store.RowThread: threads, store.RowAttachment: attachments} {
			for _, limit := range []int{1, 2, 7} {
				got := tombstonesOf(h.ada, c, kind, base, store.OldestFirst, limit)
				if d := cmp.Diff(want, got); d != "" {
					h.errorf("walking tombstones of %s by pages of %d, the lowest id first (-want +got):\n%s", kind, limit, d)
				}
			}
		}
		slices.Reverse(threads)
		if d := cmp.Diff(threads[2:], tombstonesOf(h.ada, c, store.RowThread, base, store.NewestFirst, 2)); d != "" { // "~" comes before the others
			h.errorf("walking tombstones, the highest id first (-want +got):\n%s", d)
		}
	}),
	capable("ListTombstones: the last time, and not what is there again", tombstonesRule, func(h *harness, c driver.Tombstones) {
		u, t := h.ada, h.ada.thread()
		walk := func(when string, want ...driver.Tombstone) {
			if d := cmp.Diff(want, tombstonesOf(u, c, store.RowThread, t.ID, store.NewestFirst, 7)); d != "" {
				h.errorf("ListTombstones %s (-want +got):\n%s", when, d)
			}
		}
		u.saveThread(t).ok()
		walk("before the deletion")
		t.CreatedAt = at(7)
		u.saveThread(t).ok()
		u.deleteThread(t.ID).ok()
		walk("after the thread had moved", driver.Tombstone{ID: t.ID, Owner: u.owner, CreatedAt: at(7)})
		u.saveThread(t).ok()
		walk("after the thread was saved again")
	}),
	capable("ListTombstones: erased ids have no owner", tombstonesRule, func(h *harness, c driver.Tombstones) {
		eraser := capability[driver.Eraser](h)
		e := h.ada.estate()
		eraseOwner(h.ada, eraser, h.ada.owner).ok()
		for kind, ids := range map[string][]string{store.RowThread: {e.thread, e.deletedThread}, store.RowAttachment: {e.attachment, e.deletedAttachment}} {
			for _, id := range ids {
				got := tombstonesOf(h.ada, c, kind, id, store.NewestFirst, 7)
				if len(got) != 1 || got[0].ID != id || !got[0].Owner.IsZero() || !got[0].Erased || got[0].CreatedAt.IsZero() != (kind == store.RowAttachment) {
					h.errorf("the tombstone of the erased %s %q: got %+v", kind, id, got)
				}
			}
		}
	}),
	capable("ListTombstones: arguments, then the context", tombstonesRule, func(h *harness, c driver.Tombstones) {
		over, cancel := context.WithCancel(h.ada.ctx)
		cancel()
		u := h.ada.in(over)
		tombstones(u, c, store.RowItem, store.PageQuery{}).is(store.ErrInvalid)
		tombstones(u, c, store.RowThread, store.PageQuery{Limit: -1}).is(store.ErrInvalid)
		tombstones(u, c, store.RowThread, store.PageQuery{After: "a\nb"}).is(store.ErrInvalid)
		tombstones(u, c, store.RowThread, store.PageQuery{}).is(context.Canceled)
	}),
}
