package storetest

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/internal/call"
	"github.com/chatstore/chatstore/storetest/internal/report"
	"github.com/chatstore/chatstore/storetest/internal/rows"
)

const concurrentRule = "every method is safe for concurrent use: each write takes effect at one instant between its call and its return, and every later read sees it"

// The sizes of the mixes let the race detector meet every pair of methods.
const (
	numWriters = 4
	numWrites  = 12
)

var concurrencyChecks = slices.Concat(
	[]check{
		{"many writers and readers of one thread", concurrentRule, func(h *harness) {
			t := h.ada.newThread()
			kept := make([][]string, numWriters)
			var writing atomic.Int32
			writing.Store(numWriters)
			h.parallel(numWriters+2, func(i int) error {
				if i >= numWriters {
					return readWhile(h, t.ID, func() bool { return writing.Load() > 0 })
				}
				defer writing.Add(-1)
				var err error
				kept[i], err = writeItems(h.ada, t.ID)
				return err
			})
			o := h.ada.items(t.ID, store.PageQuery{Limit: store.MaxLimit, Order: store.OldestFirst})
			got := idsOf(o.ok().Data)
			for i, want := range kept {
				// Rows of one writer with equal times are listed in the order in which it added them.
				var mine []string
				for _, id := range got {
					if slices.Contains(want, id) {
						mine = append(mine, id)
					}
				}
				sameIDs(h, fmt.Sprintf("%s: the items that writer %d of %d added and did not delete", o, i, numWriters), want, mine)
			}
			if n := len(slices.Concat(kept...)); len(got) != n {
				h.errorf("%s after all writers are done: got %d items, want the %d that were added and not deleted", o, len(got), n)
			}
		}},
		{"writers of different threads do not disturb each other", concurrentRule, func(h *harness) {
			users := []*user{h.ada, h.bob, h.user(chat.Owner{Subject: h.mint.ID("cleo")})}
			threads := make([]chat.Thread, 2*len(users))
			for i := range threads {
				threads[i] = users[i/2].newThread()
			}
			kept := make([][]string, len(threads))
			h.parallel(len(threads), func(i int) error {
				u := users[i/2]
				var err error
				if kept[i], err = writeItems(u, threads[i].ID); err != nil {
					return err
				}
				threads[i].Title = fmt.Sprint("title ", i)
				return errors.Join(u.saveThread(threads[i]).check(nil), u.saveAttachment(u.attachment("a.txt")).check(nil))
			})
			for i, t := range threads {
				u := users[i/2]
				lists(u.items(t.ID, store.PageQuery{Limit: store.MaxLimit, Order: store.OldestFirst}), " after writes to it and to others", kept[i])
				wants(u.loadThread(t.ID), " after writes to it and to others", t)
			}
		}},
		{"threads of one owner come and go", concurrentRule, func(h *harness) {
			kept := make([][]string, numWriters)
			h.parallel(numWriters, func(i int) error {
				for n := range numWrites {
					t := h.ada.thread()
					if err := h.ada.saveThread(t).check(nil); err != nil {
						return err
					}
					got := h.ada.loadThread(t.ID)
					if err := got.check(nil); err != nil {
						return fmt.Errorf("right after its SaveThread: %w", err)
					}
					if n%3 == 0 {
						if err := h.ada.deleteThread(t.ID).check(nil); err != nil {
							return err
						}
						if err := h.ada.loadThread(t.ID).checkAbsent(); err != nil {
							return fmt.Errorf("right after its DeleteThread: %w", err)
						}
						continue
					}
					kept[i] = append(kept[i], t.ID)
					l := h.ada.threads(store.OwnedBy(h.ada.owner), store.PageQuery{Limit: store.MaxLimit})
					if err := l.check(nil); err != nil {
						return err
					}
					if !slices.Contains(idsOf(l.val.Data), t.ID) {
						return fmt.Errorf("%s right after SaveThread(%q): the thread is missing", l, t.ID)
					}
				}
				return nil
			})
			o := h.ada.threads(store.OwnedBy(h.ada.owner), store.PageQuery{Limit: store.MaxLimit})
			got, want := idsOf(o.ok().Data), slices.Concat(kept...)
			slices.Sort(got)
			slices.Sort(want)
			sameIDs(h, o.String()+" after all writers are done, sorted by id", want, got)
		}},
		{"a walk over ties while rows are added", concurrentRule, func(h *harness) {
			l := itemListing(h)
			ids := l.fill(60)
			for _, order := range []store.Order{store.OldestFirst, store.NewestFirst} {
				var wg sync.WaitGroup
				wg.Go(func() {
					for range 40 {
						if err := l.insert(l.newID(), at(0)).check(nil); err != nil {
							h.errorf("%v", err)
						}
					}
				})
				got := l.walk(7, order, undisturbed)
				wg.Wait()
				got = slices.DeleteFunc(got, func(id string) bool { return !slices.Contains(ids, id) })
				what := fmt.Sprintf("walking rows of equal times, %s, while others are added: the rows added before the walk", call.Order(order))
				sameIDs(h, what, inOrder(ids, order), got)
			}
		}},
		{"a walk whose cursors are deleted", concurrentRule, func(h *harness) {
			for _, order := range []store.Order{store.OldestFirst, store.NewestFirst} {
				l := itemListing(h)
				ids := l.fill(fewTies)
				var wg sync.WaitGroup
				got := l.walk(3, order, func(_ int, cursor string) {
					wg.Go(func() {
						if err := l.remove(cursor).check(nil); err != nil {
							h.errorf("%v", err)
						}
					})
					runtime.Gosched()
				})
				wg.Wait()
				sameIDs(h, "walking rows, "+call.Order(order)+", while the cursors are deleted", inOrder(ids, order), got)
			}
		}},
		{"of many AddThreadItem calls of one id, one succeeds", concurrentRule, func(h *harness) {
			t := h.ada.newThread()
			for range raceRounds / 2 {
				id := h.mint.ID("msg")
				it := h.itemWithID(id, at(1), "text")
				oneWins(h, "AddThreadItem of one id", func(int) error { return h.ada.addItem(t.ID, it).err })
			}
		}},
		{"no item outlives its thread", concurrentRule, func(h *harness) {
			for range raceRounds / 2 {
				t := h.ada.newThread()
				h.parallel(3, func(i int) error {
					if i == 0 {
						return h.ada.deleteThread(t.ID).check(nil)
					}
					it := h.item(at(i), "text")
					o := h.ada.addItem(t.ID, it)
					if i == 2 {
						o = h.ada.saveItem(t.ID, it)
					}
					if errors.Is(o.err, store.ErrNotFound) {
						return nil
					}
					return o.check(nil)
				})
				h.ada.saveThread(t).ok()
				lists(h.ada.items(t.ID, store.PageQuery{}), " of a thread that was deleted during writes to it and then saved again", nil)
			}
		}},
		{"no update resurrects a deleted thread", concurrentRule, func(h *harness) {
			for range raceRounds / 2 {
				t := h.ada.newThread()
				h.parallel(2, func(i int) error {
					if i == 0 {
						return h.ada.deleteThread(t.ID).check(nil)
					}
					o := h.ada.mode(store.UpdateOnly).saveThread(t)
					if errors.Is(o.err, store.ErrNotFound) {
						return nil
					}
					return o.check(nil)
				})
				h.ada.loadThread(t.ID).absent()
			}
		}},
	},
	allKinds("of many InsertOnly saves of one id, one wins", insertRule, func(h *harness, k kind) {
		for range raceRounds / 2 {
			id := k.newID()
			winner := oneWins(h, "InsertOnly save of one id", func(i int) error {
				return k.save(h.ada.mode(store.InsertOnly), id, h.ada.owner, fmt.Sprint(i)).err
			})
			k.wantText(h.ada, id, "after a race of InsertOnly saves", fmt.Sprint(winner))
		}
	}),
	allKinds("of many first saves of one id by its owner, all succeed", concurrentRule, func(h *harness, k kind) {
		for round := range raceRounds {
			id := k.newID()
			if round%2 == 1 { // the first saves after a deletion
				k.save(h.ada, id, h.ada.owner, "old").ok()
				k.remove(h.ada, id).ok()
			}
			h.parallel(4, func(i int) error {
				runtime.Gosched()
				return k.save(h.ada, id, h.ada.owner, fmt.Sprint(i)).check(nil)
			})
		}
	}),
	bothOwned("delete and recreate let no other owner in", usedIDRule, func(h *harness, k kind) {
		id := k.create(h.ada)
		var done atomic.Bool
		h.parallel(2, func(i int) error {
			if i == 0 {
				defer done.Store(true)
				for range raceRounds {
					if err := errors.Join(k.remove(h.ada, id).check(nil), k.save(h.ada, id, h.ada.owner, "again").check(nil)); err != nil {
						return err
					}
				}
				return nil
			}
			for !done.Load() {
				if err := k.save(h.bob, id, h.bob.owner, "stolen").check(store.ErrConflict); err != nil {
					return fmt.Errorf("while its owner deletes and recreates the row: %w", err)
				}
			}
			return nil
		})
		k.wantText(h.ada, id, "after its owner deleted and recreated it", "again")
	}),
)

// writeItems adds, replaces and deletes items as u. Each write must be visible at once. It returns the ids that stay.
func writeItems(u *user, threadID string) (kept []string, err error) {
	for n := range numWrites {
		it := u.h.item(at(0), "first")
		if err := u.addItem(threadID, it).check(nil); err != nil {
			return nil, err
		}
		if err := u.saveItem(threadID, u.h.itemWithID(it.ID, at(0), "second")).check(nil); err != nil {
			return nil, err
		}
		o := u.loadItem(threadID, it.ID)
		if err := o.check(nil); err != nil {
			return nil, fmt.Errorf("right after its SaveItem: %w", err)
		}
		if text := rows.Text(o.val); text != "second" {
			return nil, fmt.Errorf("%s right after its SaveItem: got the item saved as %q, want the one saved as %q", o, text, "second")
		}
		if n%3 == 0 {
			if err := u.deleteItem(threadID, it.ID).check(nil); err != nil {
				return nil, err
			}
			if err := u.loadItem(threadID, it.ID).checkAbsent(); err != nil {
				return nil, fmt.Errorf("right after its DeleteThreadItem: %w", err)
			}
			continue
		}
		kept = append(kept, it.ID)
		p := u.items(threadID, store.PageQuery{Limit: store.MaxLimit})
		if err := p.check(nil); err != nil {
			return nil, err
		}
		if !slices.Contains(idsOf(p.val.Data), it.ID) {
			return nil, fmt.Errorf("%s right after AddThreadItem(%q): the item is missing", p, it.ID)
		}
	}
	return kept, nil
}

// readWhile reads a thread with every method. Pages must not repeat a row.
func readWhile(h *harness, threadID string, more func() bool) error {
	for more() {
		t := h.ada.loadThread(threadID)
		p := h.ada.items(threadID, store.PageQuery{Limit: 50})
		if err := errors.Join(t.check(nil), p.check(nil)); err != nil {
			return err
		}
		ids := idsOf(p.val.Data)
		slices.Sort(ids)
		if n := len(slices.Compact(ids)); n != len(p.val.Data) {
			return fmt.Errorf("%s while others write: got %d rows with %d ids", p, len(p.val.Data), n)
		}
		runtime.Gosched()
	}
	return nil
}

// oneWins makes a call from several goroutines. One must succeed and the others must return ErrConflict. It returns the
// winner.
func oneWins(h *harness, what string, call func(i int) error) (winner int) {
	h.t.Helper()
	const n = 3
	errs := make([]error, n)
	h.parallel(n, func(i int) error {
		errs[i] = call(i)
		return nil
	})
	wins := 0
	for i, err := range errs {
		switch {
		case err == nil:
			wins, winner = wins+1, i
		case !errors.Is(err, store.ErrConflict):
			h.fatalf("%s by %d goroutines: got %s, want one nil and store.ErrConflict from the others", what, n, report.Error(errors.Join(errs...)))
		}
	}
	if wins != 1 {
		h.fatalf("%s by %d goroutines: got %s, want one nil and store.ErrConflict from the others", what, n, report.Error(errors.Join(errs...)))
	}
	return winner
}
