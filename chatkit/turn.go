package chatkit

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// Turn is one answer of the assistant. Only the goroutine that called the [Responder] may use it.
type Turn struct {
	// Thread is the conversation. A responder may set its Title, Status, Metadata and AllowedImageDomains. The changes are
	// saved and sent to the client with the next event, or at the end of the turn.
	Thread chat.Thread
	// Message is the user's message, which chat.DecodeItem[chat.UserMessage] reads. Its ID is "" if there is none. A message of
	// an odd form, which another program has stored, cannot be decoded.
	Message chat.Item

	handler *Handler
	claim   *claim
	saved   chat.Thread // the stored thread, without the fence
	pending []*draft    // announced but unfinished, oldest first
	send    func(Event) error
}

// Emit stores the event's changes and then sends it to the client. It fails if the store fails, if the client is gone (with
// ctx's error), and for an event that does not fit. After an error the turn is over.
func (t *Turn) Emit(ctx context.Context, e Event) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	hidden, err := t.keep(ctx, e)
	if err != nil {
		return err
	}
	if !hidden {
		if err := t.send(e); err != nil {
			return err
		}
	}
	return t.saveThread(ctx)
}

// keep applies an event to the store and the pending drafts. It reports whether the event is hidden from the client.
func (t *Turn) keep(ctx context.Context, e Event) (hidden bool, err error) {
	s := t.handler.store
	switch e := e.(type) {
	case ItemAdded:
		if t.draft(e.Item.ID) != nil {
			return false, fmt.Errorf("chatkit: item %q was announced before", e.Item.ID)
		}
		d, err := newDraft(e.Item)
		t.pending = append(t.pending, d)
		return isHidden(e.Item), err
	case ItemUpdated:
		d := t.draft(e.ItemID)
		if d == nil {
			// A responder may also update a stored item for the client. Only ItemDone and ItemReplaced store a change.
			it, err := s.LoadItem(ctx, t.Thread.ID, e.ItemID)
			return isHidden(it), err
		}
		return isHidden(d.item), d.apply(e.Update)
	case ItemDone:
		d := t.draft(e.Item.ID)
		if d == nil {
			return isHidden(e.Item), t.claim.put(ctx, e.Item)
		}
		d.finish(e.Item)
		if err := t.claim.add(ctx, e.Item); err != nil {
			return false, err
		}
		t.drop(d)
		return isHidden(e.Item), nil
	case ItemReplaced:
		if err := t.claim.put(ctx, e.Item); err != nil {
			return false, err
		}
		t.drop(t.draft(e.Item.ID))
		return isHidden(e.Item), nil
	case ItemRemoved:
		if d := t.draft(e.ItemID); d != nil {
			t.drop(d)
			return isHidden(d.item), nil
		}
		it, err := s.LoadItem(ctx, t.Thread.ID, e.ItemID)
		if store.CodeOf(err) == store.CodeNotFound {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		return isHidden(it), t.claim.delete(ctx, e.ItemID)
	case Progress, ClientEffect, Notice:
		return false, nil
	}
	return false, fmt.Errorf("chatkit: a responder may not emit %T", e)
}

// saveThread saves the responder's changes to the thread, and sends them to the client.
func (t *Turn) saveThread(ctx context.Context) error {
	if t.Thread.Equal(t.saved) {
		return nil
	}
	now, err := t.mergeThread(ctx)
	if err != nil {
		return err
	}
	t.Thread, t.saved = now, now
	return t.send(threadUpdated{viewThread(now)})
}

// mergeThread merges the responder's changes into the stored thread. A user may have renamed the conversation during the
// answer: that change wins.
func (t *Turn) mergeThread(ctx context.Context) (now chat.Thread, err error) {
	c := t.claim
	version, _, err := t.handler.revise(ctx, c.thread.ID, func(ctx context.Context, unchanged unchanged) error {
		if now, err = t.handler.store.LoadThread(ctx, c.thread.ID); err != nil {
			return err
		}
		write, versioned := unchanged()
		if versioned && !fenceOf(now.Metadata).is(c.mine) {
			if err := c.renew(ctx); err != nil {
				return err
			}
		}
		merge(&now.Title, t.saved.Title, t.Thread.Title)
		merge(&now.Status, t.saved.Status, t.Thread.Status)
		merge(&now.AllowedImageDomains, t.saved.AllowedImageDomains, t.Thread.AllowedImageDomains)
		if wanted := t.Thread.Metadata; wanted != t.saved.Metadata && withoutFence(now.Metadata) == t.saved.Metadata {
			if now.Metadata = wanted; versioned {
				if now.Metadata, err = withFence(wanted, c.mine); err != nil {
					return err
				}
			}
		}
		// With UpdateOnly, a thread that was deleted in the meantime stays deleted.
		return t.handler.store.SaveThread(store.WithSaveMode(write, store.UpdateOnly), now)
	})
	if err == nil {
		c.version = version
		now.Metadata = withoutFence(now.Metadata)
	}
	return now, err
}

// merge sets now to wanted, unless another request has changed it.
func merge[T comparable](now *T, before, wanted T) {
	if *now == before {
		*now = wanted
	}
}

func (t *Turn) draft(id string) *draft {
	i := slices.IndexFunc(t.pending, func(d *draft) bool { return d.item.ID == id })
	if i < 0 {
		return nil
	}
	return t.pending[i]
}

func (t *Turn) drop(d *draft) {
	t.pending = slices.DeleteFunc(t.pending, func(p *draft) bool { return p == d })
}

// NewItem returns a new item of this thread, created now, with a new id.
func (t *Turn) NewItem(ctx context.Context, body chat.Body) (chat.Item, error) {
	id := t.handler.store.GenerateItemID(ctx, chat.KindOf(body.ItemType()), t.Thread)
	created := now()
	if at := t.claim.mine.At; created.Before(at) {
		created = at // this server's clock is behind
	}
	it, err := chat.NewItem(id, created, body)
	it.ThreadID = t.Thread.ID
	return it, err
}

// History returns the newest n items of the thread, oldest first, including hidden ones. Items that cannot be decoded are left
// out.
func (t *Turn) History(ctx context.Context, n int) ([]chat.Item, error) {
	page, err := t.claim.items(ctx, store.PageQuery{Limit: n, Order: store.NewestFirst})
	if err != nil {
		return nil, err
	}
	past := slices.DeleteFunc(slices.Clone(page.Data), func(it chat.Item) bool {
		_, _, err := chat.DecodeItem[chat.Body](it)
		if err != nil {
			t.handler.odd(ctx, t.Thread.ID, it.ID, err)
		}
		return err != nil
	})
	slices.Reverse(past)
	return past, nil
}

// Say streams an assistant's message with one part, piece by piece. An error among the pieces ends it.
func (t *Turn) Say(ctx context.Context, pieces iter.Seq2[string, error]) error {
	it, err := t.NewItem(ctx, chat.AssistantMessage{Content: []chat.AssistantContent{}})
	if err != nil {
		return err
	}
	if err := t.Emit(ctx, ItemAdded{it}); err != nil {
		return err
	}
	if err := t.Emit(ctx, ItemUpdated{it.ID, PartAdded{}}); err != nil {
		return err
	}
	for piece, err := range pieces {
		if err != nil {
			return err
		}
		if err := t.Emit(ctx, ItemUpdated{it.ID, TextDelta{Delta: piece}}); err != nil {
			return err
		}
	}
	d := t.draft(it.ID)
	whole, err := d.current()
	if err != nil {
		return err
	}
	if err := t.Emit(ctx, ItemUpdated{it.ID, PartDone{Content: d.content(0)}}); err != nil {
		return err
	}
	return t.Emit(ctx, ItemDone{whole})
}
