package authz

import (
	"context"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

func (l *guarded) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
	none := store.Page[chat.Item]{}
	q, err := checks.Items(ctx, threadID, q)
	if err != nil {
		return none, err
	}
	var c call
	if err := l.begin(ctx, &c, store.OpLoadThreadItems, store.RowThread, threadID); err != nil {
		return none, err
	}
	owner, found, err := l.threadOwner(ctx, &c, threadID)
	if err != nil {
		return none, err
	}
	missed := c.missedPage(store.RowItem, q.After)
	if ok, err := l.may(ctx, c.about(Read, threadID, owner), found, store.CodeOf(missed)); err != nil {
		return none, err
	} else if !ok {
		return none, missed
	}
	page, err := since(ctx, &c, func(ctx context.Context) (store.Page[chat.Item], error) {
		return l.next.LoadThreadItems(ctx, threadID, q)
	})
	if err != nil {
		return none, c.basePage(err, store.RowItem, q.After)
	}
	for i := range page.Data {
		if page.Data[i].ThreadID != threadID {
			return none, l.stray(&c)
		}
	}
	return page, nil
}

func (l *guarded) AddThreadItem(ctx context.Context, threadID string, item chat.Item) error {
	return l.putItem(ctx, store.OpAddThreadItem, threadID, item)
}

func (l *guarded) SaveItem(ctx context.Context, threadID string, item chat.Item) error {
	return l.putItem(ctx, store.OpSaveItem, threadID, item)
}

func (l *guarded) putItem(ctx context.Context, op store.Op, threadID string, item chat.Item) error {
	w, err := checks.SaveItem(ctx, op, threadID, item)
	if err != nil {
		return err
	}
	item = w.Item
	embedded, err := embeddedIn(op, item)
	if err != nil {
		return err
	}
	var c call
	if err := l.begin(ctx, &c, op, store.RowItem, item.ID); err != nil {
		return err
	}
	c.kind, c.id = store.RowThread, threadID // for errors about the thread
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
	ctx, versions := c.listen(ctx)
	if op == store.OpAddThreadItem {
		err = l.next.AddThreadItem(ctx, threadID, item)
	} else {
		err = l.next.SaveItem(ctx, threadID, item)
	}
	if store.CodeOf(err) != store.CodeNotFound || w.Mode == store.UpdateOnly {
		c.kind, c.id = store.RowItem, item.ID // only a thread that has just been deleted is an error about the thread
	}
	c.tell(versions, err)
	return c.changed(err)
}

func (l *guarded) LoadItem(ctx context.Context, threadID, itemID string) (chat.Item, error) {
	if err := checks.Item(ctx, store.OpLoadItem, threadID, itemID); err != nil {
		return chat.Item{}, err
	}
	var c call
	if err := l.begin(ctx, &c, store.OpLoadItem, store.RowItem, itemID); err != nil {
		return chat.Item{}, err
	}
	owner, found, err := l.threadOwner(ctx, &c, threadID)
	if err != nil {
		return chat.Item{}, err
	}
	if ok, err := l.may(ctx, c.about(Read, threadID, owner), found, store.CodeNotFound); err != nil {
		return chat.Item{}, err
	} else if !ok {
		return chat.Item{}, c.error(store.CodeNotFound)
	}
	it, err := since(ctx, &c, func(ctx context.Context) (chat.Item, error) { return l.next.LoadItem(ctx, threadID, itemID) })
	if err != nil {
		return chat.Item{}, c.base(err)
	}
	if it.ID != itemID || it.ThreadID != threadID {
		return chat.Item{}, l.stray(&c)
	}
	return it, nil
}

func (l *guarded) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	if _, err := checks.DeleteItem(ctx, threadID, itemID); err != nil {
		return err
	}
	var c call
	if err := l.begin(ctx, &c, store.OpDeleteThreadItem, store.RowItem, itemID); err != nil {
		return err
	}
	owner, found, err := l.threadOwner(ctx, &c, threadID)
	if err != nil {
		return err
	}
	if ok, err := l.may(ctx, c.about(Delete, threadID, owner), found, store.CodeOK); !ok {
		return err
	}
	ctx, versions := c.listen(ctx)
	err = l.next.DeleteThreadItem(ctx, threadID, itemID)
	c.tell(versions, err)
	return c.changed(err)
}
