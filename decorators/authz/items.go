package authz

import (
	"context"

	"github.com/chatstore/chatstore/store"
)

func (l *layer) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[store.Item], error) {
	none := store.Page[store.Item]{}
	if err := store.CheckID(store.OpLoadThreadItems, store.KindOfThread, threadID); err != nil {
		return none, err
	}
	q, err := store.NormalizeQuery(store.OpLoadThreadItems, store.KindOfItem, q)
	if err != nil {
		return none, err
	}
	var c call
	if err := l.begin(ctx, &c, store.OpLoadThreadItems, store.KindOfThread, threadID); err != nil {
		return none, err
	}
	owner, found, err := l.threadOwner(ctx, &c, threadID)
	if err != nil {
		return none, err
	}
	missed := c.missedPage(store.KindOfItem, q.After)
	if ok, err := l.may(ctx, c.about(Read, threadID, owner), found, store.CodeOf(missed)); err != nil {
		return none, err
	} else if !ok {
		return none, missed
	}
	page, err := l.next.LoadThreadItems(ctx, threadID, q)
	if err != nil {
		return none, c.basePage(err, store.KindOfItem, q.After)
	}
	for _, it := range page.Data {
		if it.ThreadID != threadID {
			return none, l.stray(&c)
		}
	}
	return page, nil
}

func (l *layer) AddThreadItem(ctx context.Context, threadID string, item store.Item) error {
	return l.putItem(ctx, store.OpAddThreadItem, threadID, item)
}

func (l *layer) SaveItem(ctx context.Context, threadID string, item store.Item) error {
	return l.putItem(ctx, store.OpSaveItem, threadID, item)
}

func (l *layer) putItem(ctx context.Context, op store.Op, threadID string, item store.Item) error {
	item, err := store.NormalizeItem(op, threadID, item)
	if err != nil {
		return err
	}
	if op == store.OpSaveItem {
		if err := store.CheckSaveMode(ctx, op, store.KindOfItem, item.ID); err != nil {
			return err
		}
	}
	embedded, err := embeddedIn(op, item)
	if err != nil {
		return err
	}
	var c call
	if err := l.begin(ctx, &c, op, store.KindOfItem, item.ID); err != nil {
		return err
	}
	c.kind, c.id = store.KindOfThread, threadID // from here on it is about the thread
	owner, found, err := l.threadOwner(ctx, &c, threadID)
	if err != nil {
		return err
	}
	if ok, err := l.may(ctx, c.about(Write, threadID, owner), found, store.CodeNotFound); err != nil {
		return err
	} else if !ok {
		return c.error(store.CodeNotFound)
	}
	if err := l.checkEmbedded(ctx, &c, threadID, item.ID, embedded); err != nil {
		return err
	}
	if op == store.OpAddThreadItem {
		err = l.next.AddThreadItem(ctx, threadID, item)
	} else {
		err = l.next.SaveItem(ctx, threadID, item)
	}
	if store.CodeOf(err) != store.CodeNotFound || store.SaveModeFrom(ctx) == store.UpdateOnly && op == store.OpSaveItem {
		c.kind, c.id = store.KindOfItem, item.ID // everything but a thread that has just gone is about the item
	}
	return c.base(err)
}

func (l *layer) LoadItem(ctx context.Context, threadID, itemID string) (store.Item, error) {
	if err := checkItemIDs(store.OpLoadItem, threadID, itemID); err != nil {
		return store.Item{}, err
	}
	var c call
	if err := l.begin(ctx, &c, store.OpLoadItem, store.KindOfItem, itemID); err != nil {
		return store.Item{}, err
	}
	owner, found, err := l.threadOwner(ctx, &c, threadID)
	if err != nil {
		return store.Item{}, err
	}
	if ok, err := l.may(ctx, c.about(Read, threadID, owner), found, store.CodeNotFound); err != nil {
		return store.Item{}, err
	} else if !ok {
		return store.Item{}, c.error(store.CodeNotFound)
	}
	it, err := l.next.LoadItem(ctx, threadID, itemID)
	if err != nil {
		return store.Item{}, c.base(err)
	}
	if it.ID != itemID || it.ThreadID != threadID {
		return store.Item{}, l.stray(&c)
	}
	return it, nil
}

func (l *layer) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	if err := checkItemIDs(store.OpDeleteThreadItem, threadID, itemID); err != nil {
		return err
	}
	var c call
	if err := l.begin(ctx, &c, store.OpDeleteThreadItem, store.KindOfItem, itemID); err != nil {
		return err
	}
	owner, found, err := l.threadOwner(ctx, &c, threadID)
	if err != nil {
		return err
	}
	if ok, err := l.may(ctx, c.about(Delete, threadID, owner), found, store.CodeOK); !ok {
		return err
	}
	return c.base(l.next.DeleteThreadItem(ctx, threadID, itemID))
}

func checkItemIDs(op store.Op, threadID, itemID string) error {
	if err := store.CheckID(op, store.KindOfThread, threadID); err != nil {
		return err
	}
	return store.CheckID(op, store.KindOfItem, itemID)
}
