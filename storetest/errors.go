package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/internal/call"
)

const (
	orderOfChecksRule = "the checks come in this order: validation, then existence, then ownership"
	contextLastRule   = "arguments are checked before the context: invalid arguments are ErrInvalid even if the context is over, so that no caller retries them"
	cancelledRule     = "a call whose context is over returns the context's error, wrapped, and does nothing; also on a cache hit"
	errorTextRule     = "an error's text has the op, the kind of row and the caller's own id: never content, never the owner of a row"
)

var orderOfChecksChecks = slices.Concat(rowOrderChecks, contextOrderChecks)

var rowOrderChecks = []check{
	{"invalid before missing: AddThreadItem", orderOfChecksRule, func(h *harness) {
		it := h.item(at(1), "text")
		it.CreatedAt = time.Time{}
		h.ada.addItem(h.mint.ID("thr"), it).is(store.ErrInvalid)
	}},
	{"invalid before missing: SaveItem", orderOfChecksRule, func(h *harness) {
		it := h.item(at(1), "text")
		it.CreatedAt = time.Time{}
		h.ada.saveItem(h.mint.ID("thr"), it).is(store.ErrInvalid)
	}},
	{"invalid before missing: LoadItem", orderOfChecksRule, func(h *harness) {
		h.ada.loadItem(h.mint.ID("thr"), "").is(store.ErrInvalid)
	}},
	{"invalid before missing: DeleteThreadItem", orderOfChecksRule, func(h *harness) {
		h.ada.deleteItem(h.mint.ID("thr"), "").is(store.ErrInvalid)
	}},
	{"invalid before missing: LoadThreadItems", orderOfChecksRule, func(h *harness) {
		h.ada.items(h.mint.ID("thr"), store.PageQuery{Limit: -1}).is(store.ErrInvalid)
		h.ada.items(h.mint.ID("thr"), store.PageQuery{Limit: -1, After: h.mint.ID("msg")}).is(store.ErrInvalid)
	}},
	{"invalid before missing: LoadThreads", orderOfChecksRule, func(h *harness) {
		q := store.PageQuery{Limit: -1, After: h.mint.ID("thr")}
		h.ada.threads(store.OwnedBy(h.ada.owner), q).is(store.ErrInvalid)
	}},
	{"invalid before conflict: AddThreadItem", orderOfChecksRule, func(h *harness) {
		thread, its := itemsAt(h, 1)
		its[0].CreatedAt = time.Time{}
		h.ada.addItem(thread, its[0]).is(store.ErrInvalid)
	}},
	{"invalid before owner: SaveThread", orderOfChecksRule, func(h *harness) {
		t := h.ada.newThread()
		t.Owner, t.Title = h.bob.owner, "\xff"
		h.bob.saveThread(t).is(store.ErrInvalid)
	}},
	{"missing before owner: SaveThread", orderOfChecksRule, func(h *harness) {
		missingBeforeOwner(h, threadKind(h))
	}},
	{"missing before owner: SaveAttachment", orderOfChecksRule, func(h *harness) {
		missingBeforeOwner(h, attachmentKind(h))
	}},
}

// missingBeforeOwner updates a deleted row as a user who never owned its id.
func missingBeforeOwner(h *harness, k kind) {
	h.t.Helper()
	id := k.create(h.ada)
	k.remove(h.ada, id).ok()
	k.save(h.bob.mode(store.UpdateOnly), id, h.bob.owner, "late").is(store.ErrNotFound)
}

// world is one row of each kind, and the calls on them.
type world struct {
	h          *harness
	thread     chat.Thread
	item       chat.Item
	attachment chat.Attachment
}

func newWorld(h *harness) world {
	h.t.Helper()
	w := world{h: h, thread: h.ada.newThread(), attachment: h.ada.newAttachment("a.txt")}
	w.item = h.ada.newItem(w.thread.ID, at(1))
	w.check("right after it was saved")
	return w
}

// check wants every row as newWorld saved it. As a side effect, a cache holds all of them.
func (w world) check(when string) {
	w.h.t.Helper()
	u := w.h.ada
	when = " " + when
	wants(u.loadThread(w.thread.ID), when, w.thread)
	lists(u.threads(store.OwnedBy(u.owner), store.PageQuery{}), when, []string{w.thread.ID})
	wantItems(w.h, w.thread.ID, when[1:], w.item)
	wants(u.loadItem(w.thread.ID, w.item.ID), when, w.item)
	wants(u.loadAttachment(w.attachment.ID), when, w.attachment)
}

// overContext is a context that is over, and its error.
type overContext struct {
	name string
	ctx  context.Context
	want error
}

// overContexts returns the user's context, cancelled and past its deadline.
func (u *user) overContexts() []overContext {
	over, cancel := context.WithCancel(u.ctx)
	cancel()
	late, stop := context.WithDeadline(u.ctx, at(0).AddDate(-10, 0, 0))
	u.h.t.Cleanup(stop)
	return []overContext{
		{"cancelled context", over, context.Canceled},
		{"context past its deadline", late, context.DeadlineExceeded},
	}
}

// badID is an id that every method refuses.
const badID = "a\nb"

// calls returns calls of an op with valid arguments: on the saved rows, and on missing ones.
func (w world) calls(op store.Op) []call.Call {
	w.h.t.Helper()
	there := call.Call{Op: op, Thread: w.thread, Item: rewritten(w.h, w.item, 1), Attachment: w.h.ada.attachment("changed.txt"),
		Query: store.ThreadQuery{Owner: store.OwnedBy(w.h.ada.owner)}}
	there.Thread.Title, there.Attachment.ID = "changed", w.attachment.ID
	gone, newItem, cursor, unknown := there, there, there, there
	gone.Thread.ID, gone.Item.ThreadID, gone.Attachment.ID = w.h.mint.ID("thr"), "", w.h.mint.ID("atc")
	newItem.Item = w.h.item(at(2), "text")
	if cursor.Query.After = w.thread.ID; op == store.OpLoadThreadItems {
		cursor.Query.After = w.item.ID
	}
	unknown.Query.After = w.h.mint.ID("row")
	return []call.Call{there, gone, newItem, cursor, unknown}
}

// badCalls returns calls of an op with invalid arguments, each for another reason.
func (w world) badCalls(op store.Op) (all []call.Call) {
	w.h.t.Helper()
	there, gone := w.calls(op)[0], w.calls(op)[1]
	bad := func(applies bool, of call.Call, change func(c *call.Call)) {
		if change(&of); applies {
			all = append(all, of)
		}
	}
	list := op == store.OpLoadThreads || op == store.OpLoadThreadItems
	save := op == store.OpSaveThread || op == store.OpSaveItem || op == store.OpSaveAttachment
	put := op == store.OpAddThreadItem || op == store.OpSaveItem
	bad(there.OfThread(), there, func(c *call.Call) { c.Thread.ID = badID })
	bad(there.OfAttachment(), there, func(c *call.Call) { c.Attachment.ID = badID })
	bad(list, there, func(c *call.Call) { c.Query.Limit = -1 })
	bad(list, there, func(c *call.Call) { c.Query.After = badID })
	bad(list, there, func(c *call.Call) { c.Query.Order = 9 })
	bad(save, there, func(c *call.Call) {
		c.Mode, c.Thread, c.Item, c.Attachment = unknownMode, w.thread, w.item, w.attachment
	})
	bad(op == store.OpSaveThread, there, func(c *call.Call) { c.Thread.AllowedImageDomains = w.h.json(`{}`) })
	bad(op == store.OpSaveAttachment, there, func(c *call.Call) { c.Attachment = chat.Attachment{ID: c.Attachment.ID, Owner: c.Attachment.Owner} })
	bad(op == store.OpLoadItem || op == store.OpDeleteThreadItem, there, func(c *call.Call) { c.Item.ID = badID })
	for _, of := range []call.Call{there, gone} {
		bad(put, of, func(c *call.Call) { c.Item.ID = badID })
		bad(put, of, func(c *call.Call) { c.Item.CreatedAt = time.Time{} })
		bad(put, of, func(c *call.Call) { c.Item = chat.Item{ID: c.Item.ID, CreatedAt: at(1)} })
	}
	return all
}

func (u *user) make(c call.Call) outcome[none] { return makes(u.mode(c.Mode), c, nothing) }

// invalidBeforeContext checks that bad arguments are ErrInvalid even if the context is over. It leaves out arguments that
// the Store accepts under a live context: other checks report those.
func invalidBeforeContext(op store.Op) check {
	return check{"invalid before context: " + call.Method(op), contextLastRule, func(h *harness) {
		w := newWorld(h)
		refused, calls := 0, w.badCalls(op)
		for _, c := range calls {
			if !errors.Is(h.ada.make(c).err, store.ErrInvalid) {
				continue
			}
			refused++
			for _, over := range h.ada.overContexts() {
				o := h.ada.in(over.ctx).make(c)
				o.note = ", with a " + over.name
				o.is(store.ErrInvalid)
			}
		}
		if refused == len(calls) {
			w.check("after invalid calls of " + call.Method(op))
		}
	}}
}

// cancelled checks one op under contexts that are over.
func cancelled(op store.Op) check {
	return check{call.Method(op), cancelledRule, func(h *harness) {
		w := newWorld(h)
		for _, over := range h.ada.overContexts() {
			for _, c := range w.calls(op) {
				o := h.ada.in(over.ctx).make(c)
				o.note = ", with a " + over.name
				o.is(over.want)
			}
			w.check("after " + call.Method(op) + " with a " + over.name)
		}
	}}
}

func eachOp(f func(store.Op) check) (all []check) {
	for _, op := range store.Ops() {
		all = append(all, f(op))
	}
	return all
}

var (
	contextOrderChecks = eachOp(invalidBeforeContext)
	cancelledChecks    = eachOp(cancelled)
)

var errorChecks = []check{
	{"texts are free of content", errorTextRule, func(h *harness) {
		const canary = "CANARY"
		noSecrets(h, provoke(h, canary), canary)
	}},
	{"texts do not say whose a row is", errorTextRule, func(h *harness) {
		t, a := h.ada.newThread(), h.ada.newAttachment("a.txt")
		t.Owner, a.Owner = h.bob.owner, h.bob.owner
		deleted := h.ada.newThread()
		h.ada.deleteThread(deleted.ID).ok()
		deleted.Owner = h.bob.owner
		fails := []outcome[none]{h.bob.saveThread(t), h.bob.saveAttachment(a), h.bob.saveThread(deleted)}
		noSecrets(h, fails, h.ada.owner.Subject, h.ada.owner.Tenant)
	}},
}

// provoke makes calls that fail for every possible reason, with values and rows full of canary.
func provoke(h *harness, canary string) []outcome[none] {
	h.t.Helper()
	thread := func(u *user) chat.Thread {
		t := u.thread()
		t.Title, t.Status = canary, chat.Status{Type: "locked", Reason: canary}
		t.Metadata = h.json(fmt.Sprintf(`{%q:%q}`, canary, canary))
		t.AllowedImageDomains = h.json(fmt.Sprintf(`[%q]`, canary))
		return t
	}
	attachment := func(u *user) chat.Attachment {
		a, err := chat.NewAttachment(h.mint.ID("atc"), chat.AttachmentBody{
			Type: "image", Name: canary, MIMEType: "image/png", PreviewURL: "https://example.com/" + canary,
			Upload: &chat.UploadDescriptor{URL: "https://example.com/" + canary, Method: "PUT", Headers: map[string]string{canary: canary}},
		})
		a.Owner = u.owner
		return value(h, a, err)
	}
	taken, file := thread(h.ada), attachment(h.ada)
	h.ada.saveThread(taken).ok()
	h.ada.saveAttachment(file).ok()
	it := h.item(at(1), canary)
	h.ada.addItem(taken.ID, it).ok()

	var fails []outcome[none]
	saveThread := func(u *user, change func(*chat.Thread)) {
		t := thread(u)
		change(&t)
		fails = append(fails, u.saveThread(t))
	}
	saveThread(h.ada, func(t *chat.Thread) { t.Metadata = h.json(fmt.Sprintf(`[%q]`, canary)) })
	saveThread(h.ada, func(t *chat.Thread) { t.AllowedImageDomains = h.json(fmt.Sprintf(`{%q:1}`, canary)) })
	saveThread(h.ada, func(t *chat.Thread) { t.Title = canary + "\xff" })
	saveThread(h.ada, func(t *chat.Thread) { t.CreatedAt = time.Time{} })
	saveThread(h.ada, func(t *chat.Thread) { t.ID = "" })
	saveThread(h.bob, func(t *chat.Thread) { t.ID = taken.ID })
	saveThread(h.ada.mode(store.InsertOnly), func(t *chat.Thread) { t.ID = taken.ID })
	saveThread(h.ada.mode(store.UpdateOnly), func(*chat.Thread) {})

	saveItem := func(threadID string, change func(*chat.Item)) {
		it := h.item(at(2), canary)
		change(&it)
		fails = append(fails, h.ada.addItem(threadID, it), h.ada.mode(store.InsertOnly).saveItem(threadID, it))
	}
	saveItem(taken.ID, func(i *chat.Item) { i.ID = it.ID })
	saveItem(taken.ID, func(i *chat.Item) { i.CreatedAt = time.Time{} })
	saveItem(taken.ID, func(i *chat.Item) { i.ThreadID = h.mint.ID("thr") })
	saveItem(h.mint.ID("thr"), func(*chat.Item) {})

	saveAttachment := func(u *user, change func(*chat.Attachment)) {
		a := attachment(u)
		change(&a)
		fails = append(fails, u.saveAttachment(a))
	}
	saveAttachment(h.bob, func(a *chat.Attachment) { a.ID = file.ID })
	saveAttachment(h.ada, func(a *chat.Attachment) { a.ID = "" })
	saveAttachment(h.ada.mode(store.InsertOnly), func(a *chat.Attachment) { a.ID = file.ID })
	saveAttachment(h.ada.mode(store.UpdateOnly), func(*chat.Attachment) {})

	over, cancel := context.WithCancel(h.ada.ctx)
	cancel()
	gone := h.ada.in(over)
	stale := h.ada.ifVersion(taken.ID, 1<<40) // a Store without versions refuses it too
	fails = append(fails, stale.saveThread(taken), stale.addItem(taken.ID, h.item(at(2), canary)), stale.saveItem(taken.ID, it),
		stale.saveAttachment(file))
	return append(fails, gone.saveThread(taken), gone.addItem(taken.ID, it), gone.saveItem(taken.ID, it), gone.saveAttachment(file))
}

// noSecrets wants no secret in the errors of the calls. A call that did not fail is left to other checks.
func noSecrets(h *harness, fails []outcome[none], secrets ...string) {
	h.t.Helper()
	for _, o := range fails {
		if o.err == nil {
			continue
		}
		for _, text := range []string{o.err.Error(), fmt.Sprintf("%+v", o.err)} {
			for _, secret := range secrets {
				if strings.Contains(text, secret) {
					h.errorf("%s: the error %q contains %q, which its caller must not learn", o, text, secret)
				}
			}
		}
	}
}
