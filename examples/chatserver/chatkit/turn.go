package chatkit

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// Turn is an answer under way. It belongs to the goroutine that the [Responder] was called in.
type Turn struct {
	// Thread is the conversation. Its Title, Status, Metadata and AllowedImageDomains may be set: they are then saved and the
	// client told, with the next event or at the end of the turn.
	Thread chat.Thread
	// Message is the user's message to answer; its ID is "" where there is none.
	Message chat.Item

	handler *Handler
	saved   chat.Thread // as it is stored
	pending []*draft    // announced, not done; the oldest first
	send    func(Event) error
}

// Emit stores what the event says, and then tells the client. It fails where the store does, with ctx's error once the client
// is gone, and for an event that fits nothing: the turn is then over.
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

// keep does to the store, and to what is pending, what the event says. hidden: it is not for the client.
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
			// A stored item may change before the client's eyes, too; what lasts is said by ItemReplaced.
			it, err := s.LoadItem(ctx, t.Thread.ID, e.ItemID)
			return isHidden(it), err
		}
		return isHidden(d.item), d.apply(e.Update)
	case ItemDone:
		d := t.draft(e.Item.ID)
		if d == nil {
			return isHidden(e.Item), s.SaveItem(ctx, t.Thread.ID, e.Item)
		}
		d.finish(e.Item)
		if err := s.AddThreadItem(ctx, t.Thread.ID, e.Item); err != nil {
			return false, err
		}
		t.drop(d)
		return isHidden(e.Item), nil
	case ItemReplaced:
		if err := s.SaveItem(ctx, t.Thread.ID, e.Item); err != nil {
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
		return isHidden(it), s.DeleteThreadItem(ctx, t.Thread.ID, e.ItemID)
	case Progress, ClientEffect, Notice:
		return false, nil
	}
	return false, fmt.Errorf("chatkit: a responder may not emit %T", e)
}

// saveThread saves what the responder has changed of the thread, and tells the client.
func (t *Turn) saveThread(ctx context.Context) error {
	if t.Thread.Equal(t.saved) {
		return nil
	}
	now, err := t.mergeThread(ctx)
	if err != nil {
		return err
	}
	t.Thread, t.saved = now, now
	return t.send(ThreadUpdated{viewThread(now)})
}

// mergeThread saves the thread as it is stored, with what the responder has changed of it and nobody else has: a user may
// rename a conversation in the midst of an answer.
func (t *Turn) mergeThread(ctx context.Context) (chat.Thread, error) {
	s := t.handler.store
	unlock, err := t.handler.lock(ctx, t.saved.ID)
	if err != nil {
		return chat.Thread{}, err
	}
	defer unlock()
	now, err := s.LoadThread(ctx, t.saved.ID)
	if err != nil {
		return chat.Thread{}, err
	}
	merge(&now.Title, t.saved.Title, t.Thread.Title)
	merge(&now.Status, t.saved.Status, t.Thread.Status)
	merge(&now.Metadata, t.saved.Metadata, t.Thread.Metadata)
	merge(&now.AllowedImageDomains, t.saved.AllowedImageDomains, t.Thread.AllowedImageDomains)
	// UpdateOnly: a thread that was deleted in the meantime stays deleted.
	return now, s.SaveThread(store.WithSaveMode(ctx, store.UpdateOnly), now)
}

// merge makes now what it is wanted to be, unless it is another than before already.
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

// NewItem returns an item of this thread, made now, with an id that is new.
func (t *Turn) NewItem(ctx context.Context, body chat.Body) (chat.Item, error) {
	id := t.handler.store.GenerateItemID(ctx, chat.KindOf(body.ItemType()), t.Thread)
	it, err := chat.NewItem(id, time.Now(), body)
	it.ThreadID = t.Thread.ID
	return it, err
}

// History returns the newest items of the thread, at most n, the oldest of them first. Hidden ones are among them.
func (t *Turn) History(ctx context.Context, n int) ([]chat.Item, error) {
	page, err := t.handler.store.LoadThreadItems(ctx, t.Thread.ID, store.PageQuery{Limit: n, Order: store.NewestFirst})
	slices.Reverse(page.Data)
	return page.Data, err
}

// Say emits an assistant's message of one part, its text in pieces as they come. An error among them ends it there.
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
