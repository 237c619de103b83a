package storetest

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/internal/report"
)

const (
	conditionRule = "a write under store.IfVersion applies only if its thread has that version, and the write itself decides; otherwise it is " +
		"ErrConflict with the Field \"if_version\", and changes nothing (driver.Condition.Check)"
	conditionOrderRule = "the checks of a write come in this order: its arguments, the context, the version of store.IfVersion, then save mode, id and owner"
	missingThreadRule  = "a write in a missing thread answers as without store.IfVersion; but SaveThread continues with the version of the deleted thread, " +
		"or with 0 for an id that was never used"
	conditionScopeRule = "a write of an attachment or of another thread under store.IfVersion is ErrInvalid"
	noVersionsRule     = "a Store that keeps no thread versions refuses writes under store.IfVersion as ErrInvalid and does not apply them (the zero driver.Checks does so)"
	withVersionsRule   = "Versions.Of is the lowest version that a read reported; an own write moves it from the version before the write to the one after"
)

// ifVersion returns the same user with a condition for writes.
func (u *user) ifVersion(threadID string, n uint64) *user {
	return u.in(store.IfVersion(u.ctx, threadID, n))
}

// wrongVersion wants the error of a write under a version that the thread does not have.
func (o outcome[T]) wrongVersion() {
	o.h.t.Helper()
	if o.is(store.ErrConflict); !errors.Is(o.err, store.ErrConflict) {
		return
	}
	if e, ok := errors.AsType[*store.Error](o.err); !ok || e.Field != "if_version" {
		o.h.errorf("%s: got error %s, want a *store.Error with the Field \"if_version\"", o, report.Error(o.err))
	}
}

// rightVersion wants an error that is not about the version.
func (o outcome[T]) rightVersion(want error) {
	o.h.t.Helper()
	o.is(want)
	if e, ok := errors.AsType[*store.Error](o.err); ok && e.Field != "" && want == store.ErrConflict {
		o.h.errorf("%s: got an error with the Field %q, want none: the thread has that version", o, e.Field)
	}
}

// threadWrite is a write that succeeds on a thread with an item.
type threadWrite struct {
	name string
	make func(u *user, t chat.Thread, it chat.Item) outcome[none]
}

var threadWrites = []threadWrite{
	{"SaveThread", func(u *user, t chat.Thread, _ chat.Item) outcome[none] {
		t.Title = "changed"
		return u.saveThread(t)
	}},
	{"AddThreadItem", func(u *user, t chat.Thread, _ chat.Item) outcome[none] {
		return u.addItem(t.ID, u.h.item(at(2), "text"))
	}},
	{"SaveItem", func(u *user, t chat.Thread, it chat.Item) outcome[none] {
		return u.saveItem(t.ID, rewritten(u.h, it, 1))
	}},
	{"DeleteThreadItem", func(u *user, t chat.Thread, it chat.Item) outcome[none] { return u.deleteItem(t.ID, it.ID) }},
	{"DeleteThread", func(u *user, t chat.Thread, _ chat.Item) outcome[none] { return u.deleteThread(t.ID) }},
}

// conditional returns a check for Stores that report versions.
func conditional(name, rule string, run func(h *harness)) check {
	c := versioned(name, run)
	c.rule = rule
	return c
}

// eachThreadWrite returns a check for each kind of write, with a world and its thread's version.
func eachThreadWrite(name, rule string, run func(w world, version uint64, do threadWrite)) (all []check) {
	for _, do := range threadWrites {
		all = append(all, conditional(fmt.Sprintf(name, do.name), rule, func(h *harness) {
			w := newWorld(h)
			run(w, version(h, w.thread.ID), do)
		}))
	}
	return all
}

// conditionChecks has one check that no Store skips: the first.
var conditionChecks = append(
	[]check{{"obeyed, or refused by a Store without versions", noVersionsRule, func(h *harness) {
		h.t.Helper()
		w := newWorld(h)
		if h.reports() {
			w.refusesAll(func(o outcome[none]) { o.is(store.ErrConflict) })
			return
		}
		w.refusesAll(func(o outcome[none]) { o.is(store.ErrInvalid) })
		stray := h.ada.thread()
		h.ada.ifVersion(stray.ID, 0).saveThread(stray).is(store.ErrInvalid)
		h.ada.loadThread(stray.ID).absent()
	}}},
	conditionsOfVersions()...,
)

// refusesAll makes a write of each kind under a version that the thread cannot have. Nothing may change.
func (w world) refusesAll(wants func(outcome[none])) {
	w.h.t.Helper()
	for _, do := range threadWrites {
		wants(do.make(w.h.ada.ifVersion(w.thread.ID, 1<<40), w.thread, w.item))
		w.check("after " + do.name + " under store.IfVersion")
	}
}

func conditionsOfVersions() (all []check) {
	all = append(all, eachThreadWrite("%s applies at the right version", conditionRule, func(w world, v uint64, do threadWrite) {
		write(w.h, w.thread.ID, do.name+" under the thread's version", v, func(u *user) {
			do.make(u.ifVersion(w.thread.ID, v), w.thread, w.item).ok()
		})
	})...)
	all = append(all, eachThreadWrite("%s is refused at another version", conditionRule, func(w world, v uint64, do threadWrite) {
		for _, n := range []uint64{v - 1, v + 1, 0, v + 1<<32} {
			saw := recorded(w.h.ada, w.thread.ID, func(u *user) { do.make(u.ifVersion(w.thread.ID, n), w.thread, w.item).wrongVersion() })
			if saw.reported && (saw.before != v || saw.after != v) {
				w.h.errorf("%s under another version: reported version %d before and %d after, want %d for both, or none", do.name, saw.before, saw.after, v)
			}
			w.check("after " + do.name + " under another version")
			read(w.h, w.thread.ID, "LoadThread after "+do.name+" under another version", v, func(u *user) { u.loadThread(w.thread.ID).ok() })
		}
	})...)
	add := threadWrites[1]
	for _, do := range threadWrites {
		all = append(all, conditional("of concurrent calls of "+do.name+" and AddThreadItem, one applies", conditionRule, func(h *harness) {
			for range raceRounds / 2 {
				oneApplies(h, do, add, do)
			}
		}))
	}
	all = append(all, eachThreadWrite("WithVersions moves with an own %s", withVersionsRule, func(w world, v uint64, do threadWrite) {
		u, of := versionsOf(w.h, w.thread.ID)
		u.addItem(w.thread.ID, w.h.item(at(2), "text")).ok()
		of("a write without a read", none{})
		u.loadThread(w.thread.ID).ok()
		of("a write and a read", v+1)
		do.make(u.ifVersion(w.thread.ID, v+1), w.thread, w.item).ok()
		of(do.name+" in the same context", v+2)
	})...)
	return append(all,
		conditional("of concurrent saves of a new id, one applies", conditionRule, func(h *harness) {
			for range raceRounds / 2 {
				t := h.ada.thread()
				oneWins(h, "SaveThread of a new id under version 0", func(int) error { return h.ada.ifVersion(t.ID, 0).saveThread(t).err })
			}
		}),
		conditional("the version comes after the arguments and the context", conditionOrderRule, func(h *harness) {
			w := newWorld(h)
			u := h.ada.ifVersion(w.thread.ID, version(h, w.thread.ID)+1)
			undated, untitled := rewritten(h, w.item, 1), w.thread
			undated.CreatedAt, untitled.Title = time.Time{}, "\xff"
			u.addItem(w.thread.ID, undated).is(store.ErrInvalid)
			u.saveItem(w.thread.ID, undated).is(store.ErrInvalid)
			u.saveThread(untitled).is(store.ErrInvalid)
			u.mode(unknownMode).saveThread(w.thread).is(store.ErrInvalid)
			for _, over := range u.overContexts() {
				for _, do := range threadWrites {
					o := do.make(u.in(over.ctx), w.thread, w.item)
					o.note = ", with a " + over.name
					o.is(over.want)
				}
			}
		}),
		conditional("the version comes before the save mode and the id", conditionOrderRule, func(h *harness) {
			w := newWorld(h)
			v := version(h, w.thread.ID)
			right, wrong := h.ada.ifVersion(w.thread.ID, v), h.ada.ifVersion(w.thread.ID, v+1)
			for _, u := range []struct {
				*user
				wants func(o outcome[none], want error)
			}{
				{wrong, func(o outcome[none], _ error) { o.wrongVersion() }},
				{right, outcome[none].rightVersion},
			} {
				u.wants(u.addItem(w.thread.ID, w.item), store.ErrConflict)
				u.wants(u.mode(store.InsertOnly).saveItem(w.thread.ID, w.item), store.ErrConflict)
				u.wants(u.mode(store.UpdateOnly).saveItem(w.thread.ID, h.item(at(1), "text")), store.ErrNotFound)
				u.wants(u.deleteItem(w.thread.ID, h.mint.ID("msg")), nil)
				u.wants(u.mode(store.InsertOnly).saveThread(w.thread), store.ErrConflict)
			}
			w.check("after refused writes")
		}),
		conditional("the version comes before the save mode of a deleted thread, and before the owner", conditionOrderRule, func(h *harness) {
			h.bare()
			w := newWorld(h)
			v := version(h, w.thread.ID)
			stolen := w.thread
			stolen.Owner = h.bob.owner
			h.bob.ifVersion(w.thread.ID, v+1).saveThread(stolen).wrongVersion()
			h.bob.ifVersion(w.thread.ID, v).saveThread(stolen).rightVersion(store.ErrConflict)
			w.check("after refused writes")
			h.ada.deleteThread(w.thread.ID).ok()
			u := h.ada.mode(store.UpdateOnly)
			u.ifVersion(w.thread.ID, v).saveThread(w.thread).wrongVersion()
			u.ifVersion(w.thread.ID, v+1).saveThread(w.thread).is(store.ErrNotFound)
		}),
		conditional("a missing thread answers as without a condition", missingThreadRule, func(h *harness) {
			deleted := h.ada.newThread()
			it := h.ada.newItem(deleted.ID, at(1))
			v := write(h, deleted.ID, "DeleteThread", version(h, deleted.ID), func(u *user) { u.deleteThread(deleted.ID).ok() })
			it.ThreadID = ""
			for _, id := range []string{deleted.ID, h.mint.ID("thr")} {
				for _, n := range []uint64{0, v, v + 1} {
					u := h.ada.ifVersion(id, n)
					u.addItem(id, it).is(store.ErrNotFound)
					u.saveItem(id, it).is(store.ErrNotFound)
					u.deleteItem(id, it.ID).ok()
					u.deleteThread(id).ok()
					u.loadThread(id).absent()
				}
			}
		}),
		conditional("a new id has version 0", missingThreadRule, func(h *harness) {
			t := h.ada.thread()
			for _, n := range []uint64{1, 1 << 40} {
				h.savedAtNo(t, n)
			}
			write(h, t.ID, "SaveThread of a new id under version 0", 0, func(u *user) { u.ifVersion(t.ID, 0).saveThread(t).ok() })
			h.ada.ifVersion(t.ID, 0).saveThread(t).wrongVersion()
		}),
		conditional("a deleted id keeps its version", missingThreadRule, func(h *harness) {
			t := h.ada.newThread()
			v := write(h, t.ID, "DeleteThread", version(h, t.ID), func(u *user) { u.deleteThread(t.ID).ok() })
			for _, n := range []uint64{0, v - 1, v + 1} {
				h.savedAtNo(t, n)
			}
			write(h, t.ID, "SaveThread of a deleted id under its version", v, func(u *user) { u.ifVersion(t.ID, v).saveThread(t).ok() })
		}),
		conditional("an attachment or another thread is ErrInvalid", conditionScopeRule, func(h *harness) {
			w := newWorld(h)
			v := version(h, w.thread.ID)
			u := h.ada.ifVersion(h.bob.newThread().ID, v)
			for _, do := range threadWrites {
				do.make(u, w.thread, w.item).is(store.ErrInvalid)
				for _, over := range u.overContexts() {
					o := do.make(u.in(over.ctx), w.thread, w.item)
					o.note = ", with a " + over.name
					o.is(store.ErrInvalid)
				}
			}
			for _, u := range []*user{u, h.ada.ifVersion(w.thread.ID, v)} {
				a := h.ada.attachment("changed.txt")
				a.ID, a.ThreadID = w.attachment.ID, w.thread.ID
				u.saveAttachment(a).is(store.ErrInvalid)
				u.deleteAttachment(a.ID).is(store.ErrInvalid)
			}
			w.check("after writes under another thread's version")
			read(h, w.thread.ID, "LoadThread after writes under another thread's version", v, func(u *user) { u.loadThread(w.thread.ID).ok() })
		}),
		conditional("reads are not affected", conditionRule, func(h *harness) {
			w := newWorld(h)
			v := version(h, w.thread.ID)
			h.ada = h.ada.ifVersion(w.thread.ID, v+1)
			w.check("under another version")
			h.ada = h.ada.ifVersion(h.mint.ID("thr"), v)
			w.check("under another thread's version")
		}),
		conditional("WithVersions has the lowest version that was read", withVersionsRule, func(h *harness) {
			w := newWorld(h)
			v := version(h, w.thread.ID)
			for _, reads := range []func(u *user){
				func(u *user) { u.loadThread(w.thread.ID).ok() },
				func(u *user) { u.items(w.thread.ID, store.PageQuery{}).ok() },
				func(u *user) { u.loadItem(w.thread.ID, w.item.ID).ok() },
			} {
				u, of := versionsOf(h, w.thread.ID)
				reads(u)
				of("a read", v)
				v = write(h, w.thread.ID, "AddThreadItem", v, func(u *user) { u.addItem(w.thread.ID, h.item(at(2), "text")).ok() })
				reads(u)
				of("a read, another's write and a second read", v-1)
				u.ifVersion(w.thread.ID, v-1).saveItem(w.thread.ID, rewritten(h, w.item, 1)).wrongVersion()
			}
		}),
		conditional("WithVersions stays at what was read before another's write", withVersionsRule, func(h *harness) {
			w := newWorld(h)
			v := version(h, w.thread.ID)
			u, of := versionsOf(h, w.thread.ID)
			u.loadThread(w.thread.ID).ok()
			h.ada.addItem(w.thread.ID, h.item(at(2), "text")).ok()
			u.addItem(w.thread.ID, h.item(at(2), "text")).ok()
			of("a read, another's write and an own write", v)
		}),
	)
}

// savedAtNo wants a save of a missing thread under version n to be refused. A guard that cannot see the thread does not say
// why.
func (h *harness) savedAtNo(t chat.Thread, n uint64) {
	h.t.Helper()
	o := h.ada.ifVersion(t.ID, n).saveThread(t)
	if layer.Guarded(h.s) {
		o.is(store.ErrConflict)
	} else {
		o.wrongVersion()
	}
	h.ada.loadThread(t.ID).absent()
}

// versionsOf returns a user whose calls report to a store.Versions, and a function that wants a version there, or none.
func versionsOf(h *harness, threadID string) (u *user, of func(after string, want any)) {
	ctx, read := store.WithVersions(h.ada.ctx)
	return h.ada.in(ctx), func(after string, want any) {
		h.t.Helper()
		n, ok := read.Of(threadID)
		if v, known := want.(uint64); ok != known || n != v {
			h.errorf("store.WithVersions after %s: Of(%q) returned %d, %t, want %d, %t", after, threadID, n, ok, v, known)
		}
	}
}

// oneApplies makes writes at once of a new thread, each under its version. One of them must apply, at that version.
func oneApplies(h *harness, writes ...threadWrite) {
	h.t.Helper()
	t := h.ada.newThread()
	it := h.ada.newItem(t.ID, at(1))
	v := version(h, t.ID)
	var applied atomic.Int32
	h.parallel(len(writes), func(i int) error {
		runtime.Gosched()
		var o outcome[none]
		saw := recorded(h.ada, t.ID, func(u *user) { o = writes[i].make(u.ifVersion(t.ID, v), t, it) })
		switch {
		case errors.Is(o.err, store.ErrConflict), errors.Is(o.err, store.ErrNotFound): // the latter after DeleteThread
		case o.err != nil:
			return o.check(nil)
		case saw.after != saw.before: // else there was nothing left to delete
			applied.Add(1)
		}
		return nil
	})
	if n := applied.Load(); n != 1 {
		h.fatalf("%d concurrent writes of thread %q under version %d: %d were applied, want 1", len(writes), t.ID, v, n)
	}
	if saw := recorded(h.ada, t.ID, func(u *user) { u.items(t.ID, store.PageQuery{Limit: 1}).ok() }); saw.reported && saw.after != v+1 {
		h.errorf("%d concurrent writes of thread %q under version %d: it has version %d, want %d", len(writes), t.ID, v, saw.after, v+1)
	}
}
