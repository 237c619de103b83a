package chatkit

import (
	"context"
	"errors"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/rules"
	"github.com/chatstore/chatstore/store"
)

// claim is a turn's right to write to its thread. It ends when another turn begins, on this server or on another one of the
// same database.
type claim struct {
	h         *Handler
	thread    chat.Thread // when the turn began, without the fence
	release   func()      // ends the claim; the next turn of this server may begin
	mine      fence
	versioned bool                    // false: the store keeps no versions, and the rule holds on this server only
	version   uint64                  // of the thread, as far as the turn knows
	seen      uint64                  // what the turn reads must be at least as new
	last      time.Time               // of the newest item that the turn stored, or its start
	page      store.Page[chat.Item]   // the newest items when the turn began
	isNew     bool                    // the thread has no items yet
	end       context.CancelCauseFunc // ends the turn
	over      bool                    // the turn only keeps what it said
	behind    bool                    // another turn has begun
}

// isStale reports whether a write failed because the thread has changed.
func isStale(err error) bool {
	e, ok := errors.AsType[*store.Error](err)
	return ok && e.Code == store.CodeConflict && e.Field == rules.FieldIfVersion
}

// unchanged returns the context for a write that fails if the thread has changed since it was read. versioned is false if the store
// keeps no versions.
type unchanged func() (write context.Context, versioned bool)

// revise reads a thread and writes to it, and loses nothing that others write in between. f reads with its ctx, and makes one
// write. If the thread has changed, revise calls f again. It returns the version after the write; ok is false if the store keeps
// no versions.
func (h *Handler) revise(ctx context.Context, threadID string, f func(context.Context, unchanged) error) (
	version uint64, ok bool, err error,
) {
	// Without versions, the lock must do. With them, it spares the servers' own requests to begin again.
	unlock, err := h.lock(ctx, threadID)
	if err != nil {
		return 0, false, err
	}
	defer unlock()
	for try := 0; ; try++ {
		reading, versions := store.WithVersions(ctx)
		err := f(reading, func() (context.Context, bool) {
			n, ok := versions.Of(threadID)
			if !ok {
				return reading, false
			}
			return store.IfVersion(reading, threadID, n), true
		})
		if !isStale(err) {
			n, ok := versions.Of(threadID)
			return n, ok, err
		}
		if err := pause(ctx, try); err != nil {
			return 0, false, err
		}
		ctx = store.WithFresh(ctx)
	}
}

// pause waits before another try: not before the second one, and at most 100 ms. It fails if ctx has ended.
func pause(ctx context.Context, try int) error {
	if try > 0 {
		select {
		case <-time.After(min(time.Millisecond<<min(try, 10), 100*time.Millisecond)):
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}

// checkWrite saves a thread unchanged, which fails if the caller may only read it.
func (h *Handler) checkWrite(ctx context.Context, threadID string) error {
	_, _, err := h.revise(ctx, threadID, func(ctx context.Context, unchanged unchanged) error {
		t, err := h.activeThread(ctx, threadID)
		if err != nil {
			return err
		}
		write, _ := unchanged()
		return h.store.SaveThread(store.WithSaveMode(write, store.UpdateOnly), t)
	})
	return err
}

// begin begins a turn in an existing thread. retried is the message that the turn answers again, if any. A caller who may not write
// to the thread, and a retry of a message that is gone, end no other turn.
func (h *Handler) begin(ctx context.Context, threadID string, retried chat.Item) (context.Context, *claim, error) {
	return (&claim{h: h, thread: chat.Thread{ID: threadID}}).begin(ctx, retried)
}

// beginNew begins the first turn of a new thread, which has no items.
func (h *Handler) beginNew(ctx context.Context, threadID string) (context.Context, *claim, error) {
	return (&claim{h: h, thread: chat.Thread{ID: threadID}, isNew: true}).begin(ctx, chat.Item{})
}

// begin saves the fence, and then ends the older turn of this server. Without versions the order is less safe: the thread is read
// and saved again after the older turn has ended.
func (c *claim) begin(ctx context.Context, retried chat.Item) (context.Context, *claim, error) {
	if err := c.save(ctx, retried); err != nil {
		return nil, nil, err
	}
	ctx, err := c.takeOver(ctx)
	if err != nil {
		return nil, nil, err
	}
	begun := c.versioned
	defer func() {
		if !begun { // also after a panic
			c.release()
		}
	}()
	if !c.versioned { // the turn before may have stored something
		if err := c.save(ctx, retried); err != nil {
			return nil, nil, err
		}
		begun = true
	}
	return ctx, c, nil
}

// save reads the thread and its newest items, and saves the turn's fence.
func (c *claim) save(ctx context.Context, retried chat.Item) (err error) {
	c.version, c.versioned, err = c.h.revise(ctx, c.thread.ID, func(ctx context.Context, unchanged unchanged) error {
		t, err := c.h.activeThread(ctx, c.thread.ID)
		if err != nil {
			return err
		}
		if retried.ID != "" { // another retry may have deleted it
			if _, err := c.h.store.LoadItem(ctx, t.ID, retried.ID); err != nil {
				return err
			}
		}
		if !c.isNew {
			if c.page, err = c.h.store.LoadThreadItems(ctx, t.ID, store.PageQuery{Order: store.NewestFirst}); err != nil {
				return err
			}
		}
		c.mine = fenceOf(t.Metadata).next(retried, c.page.Data)
		c.thread = t
		c.thread.Metadata = withoutFence(t.Metadata)
		write, versioned := unchanged()
		if versioned {
			if t.Metadata, err = withFence(t.Metadata, c.mine); err != nil {
				return err
			}
		}
		return c.h.store.SaveThread(store.WithSaveMode(write, store.UpdateOnly), t)
	})
	c.seen, c.last = c.version, c.mine.At
	return err
}

// write makes a write of the turn. A change by others, such as a new title, does not stop it. Once another turn has begun, it
// fails with errSuperseded and ends the turn.
func (c *claim) write(ctx context.Context, do func(context.Context) error) error {
	if !c.versioned {
		return do(ctx)
	}
	for try := 0; ; try++ {
		if c.behind && !c.over {
			return errSuperseded
		}
		err := do(store.IfVersion(ctx, c.thread.ID, c.version))
		if err == nil {
			c.version++ // if nothing has changed, the next write reads again
		}
		if !isStale(err) {
			return err
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
		if err := c.renew(ctx); err != nil {
			return err
		}
	}
}

// renew reads the thread again. It fails if the turn may no longer write.
func (c *claim) renew(ctx context.Context) error {
	ctx, versions := store.WithVersions(store.WithFresh(ctx))
	t, err := c.h.store.LoadThread(ctx, c.thread.ID)
	if err != nil {
		return err
	}
	if err := c.holds(t); err != nil {
		return err
	}
	n, ok := versions.Of(c.thread.ID)
	if !ok {
		return errors.New("chatkit: the store refuses a version, but reports none")
	}
	c.version, c.seen = n, n
	return nil
}

// holds fails with errSuperseded if another turn has begun, and ends this one. A turn that only keeps what it said may go on,
// unless a retry cut that away.
func (c *claim) holds(t chat.Thread) error {
	f := fenceOf(t.Metadata)
	if f.is(c.mine) {
		return nil
	}
	c.behind = true
	if c.over && f.spares(c.mine) {
		return nil
	}
	c.end(errSuperseded)
	return errSuperseded
}

// add adds an item of the turn.
func (c *claim) add(ctx context.Context, it chat.Item) error {
	err := c.write(ctx, func(ctx context.Context) error { return c.h.store.AddThreadItem(ctx, c.thread.ID, it) })
	if err == nil && it.CreatedAt.After(c.last) {
		c.last = it.CreatedAt
	}
	return err
}

// put saves an item of the turn.
func (c *claim) put(ctx context.Context, it chat.Item) error {
	return c.write(ctx, func(ctx context.Context) error { return c.h.store.SaveItem(ctx, c.thread.ID, it) })
}

// delete deletes an item for the turn.
func (c *claim) delete(ctx context.Context, itemID string) error {
	return c.write(ctx, func(ctx context.Context) error { return c.h.store.DeleteThreadItem(ctx, c.thread.ID, itemID) })
}

// keep adds what a turn that is over has said. If another turn has begun, it comes before that turn's message.
func (c *claim) keep(ctx context.Context, it chat.Item) error {
	c.over = true
	defer func() { c.over = false }()
	return c.write(ctx, func(ctx context.Context) error {
		if c.behind && it.CreatedAt.After(c.last) {
			it.CreatedAt = c.last
		}
		return c.h.store.AddThreadItem(ctx, c.thread.ID, it)
	})
}

// items loads a page of items. It has all that others wrote before the turn began, and nothing of a turn that began later: that
// is errSuperseded.
func (c *claim) items(ctx context.Context, q store.PageQuery) (store.Page[chat.Item], error) {
	for fresh := false; ; fresh = true {
		reading, versions := store.WithVersions(ctx)
		page, err := c.h.store.LoadThreadItems(reading, c.thread.ID, q)
		n, ok := versions.Of(c.thread.ID)
		switch {
		case err != nil || !ok:
			return page, err
		case n > c.version:
			if err := c.renew(ctx); err != nil {
				return page, err
			}
		case n >= c.seen || fresh:
			return page, nil
		}
		ctx = store.WithFresh(ctx)
	}
}

// watchEvery is how often a turn looks whether another one has begun on another server. What it streams is not stored, so no
// write would tell it.
const watchEvery = 5 * time.Second

// watch ends the turn when another one has begun, or when the thread was deleted. It returns when ctx ends.
func (c *claim) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		t, err := guard(func() (chat.Thread, error) { return c.h.store.LoadThread(store.WithFresh(ctx), c.thread.ID) })
		switch {
		case store.CodeOf(err) == store.CodeNotFound:
			c.end(errDeleted)
		case err == nil && !fenceOf(t.Metadata).is(c.mine):
			c.end(errSuperseded)
		}
	}
}
