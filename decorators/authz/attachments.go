package authz

import (
	"context"
	"errors"
	"slices"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/rules"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// MaxEmbedded is the largest number of attachments that a user message may name. A message with more is [store.ErrInvalid]. Each
// attachment that the stored message does not name costs a read of the base, and with [Shared] up to three if it is another owner's.
const MaxEmbedded = 100

func (l *guarded) SaveAttachment(ctx context.Context, a chat.Attachment) error {
	w, err := checks.SaveAttachment(ctx, a)
	if err != nil {
		return err
	}
	a = w.Attachment
	var c call
	if err := l.begin(ctx, &c, store.OpSaveAttachment, store.RowAttachment, a.ID); err != nil {
		return err
	}
	if err := l.mayName(ctx, &c, a.ThreadID); err != nil {
		return err
	}
	return l.save(ctx, &c, row{
		owner: a.Owner,
		stored: func(ctx context.Context) (chat.Owner, bool, error) {
			return l.attachmentOwner(ctx, &c, a.ID)
		},
		write: func(ctx context.Context, o chat.Owner) error {
			a.Owner = o
			return l.next.SaveAttachment(ctx, a)
		},
	})
}

func (l *guarded) LoadAttachment(ctx context.Context, attachmentID string) (chat.Attachment, error) {
	if err := checks.Attachment(ctx, store.OpLoadAttachment, attachmentID); err != nil {
		return chat.Attachment{}, err
	}
	var c call
	if err := l.begin(ctx, &c, store.OpLoadAttachment, store.RowAttachment, attachmentID); err != nil {
		return chat.Attachment{}, err
	}
	a, err := l.next.LoadAttachment(ctx, attachmentID)
	found := err == nil
	switch {
	case found && a.ID != attachmentID:
		return chat.Attachment{}, l.stray(&c)
	case !found && !missing(err):
		return chat.Attachment{}, c.base(err)
	case !found:
		a = chat.Attachment{} // a value beside an error must not reach the policy
	}
	c.names = a.ThreadID
	if ok, err := l.may(ctx, c.about(Read, "", a.Owner), found, store.CodeNotFound); err != nil {
		return chat.Attachment{}, err
	} else if !ok {
		return chat.Attachment{}, c.error(store.CodeNotFound)
	}
	if c.fresh != nil {
		a = *c.fresh
	}
	return a, nil
}

func (l *guarded) DeleteAttachment(ctx context.Context, attachmentID string) error {
	if err := checks.Attachment(ctx, store.OpDeleteAttachment, attachmentID); err != nil {
		return err
	}
	var c call
	if err := l.begin(ctx, &c, store.OpDeleteAttachment, store.RowAttachment, attachmentID); err != nil {
		return err
	}
	owner, found, err := l.attachmentOwner(ctx, &c, attachmentID)
	if err != nil {
		return err
	}
	if ok, err := l.may(ctx, c.about(Delete, "", owner), found, store.CodeOK); !ok {
		return err
	}
	return c.base(l.next.DeleteAttachment(ctx, attachmentID))
}

// embedding is the part of a user message that is decoded. The rest may come from a version that this one cannot read.
type embedding struct {
	Attachments []chat.Attachment `json:"attachments"`
}

func (embedding) ItemType() chat.ItemType { return chat.TypeUserMessage }

// embeddedIn returns the ids of the attachments that a user message names, each once. It returns none for other types of items.
func embeddedIn(op store.Op, item chat.Item) ([]string, error) {
	fail := func(fault string) ([]string, error) {
		return nil, &store.Error{Op: op, Kind: store.RowItem, ID: item.ID, Code: store.CodeInvalid, Field: fault}
	}
	message, ok, err := chat.DecodeItem[embedding](item)
	if err != nil {
		e, _ := errors.AsType[*chat.Error](err) // package chat returns no other type
		return fail(e.Field)
	}
	if !ok {
		return nil, nil
	}
	if len(message.Attachments) > MaxEmbedded {
		return fail("attachments: more than 100")
	}
	var ids []string
	for _, a := range message.Attachments {
		if rules.IDFault(a.ID) != "" {
			return fail("attachments: an id is not valid")
		}
		if !slices.Contains(ids, a.ID) {
			ids = append(ids, a.ID)
		}
	}
	return ids, nil
}

// checkEmbedded returns an error unless the caller may read every attachment that the save adds to the item: readers of the
// message will see them. An unreadable and a missing attachment give the same error.
func (l *guarded) checkEmbedded(ctx context.Context, c *call, threadID, itemID string, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	var before []string
	if c.Op == store.OpSaveItem {
		var err error
		if before, err = l.embeddedBefore(ctx, c, threadID, itemID); err != nil {
			return err
		}
	}
	for _, id := range ids {
		if slices.Contains(before, id) {
			continue
		}
		a := *c
		a.kind, a.id = store.RowAttachment, id
		owner, found, err := l.attachmentOwner(ctx, &a, id)
		if err != nil {
			return err
		}
		if ok, err := l.may(ctx, a.about(Read, "", owner), found, store.CodeNotFound); err != nil {
			return err
		} else if !ok {
			return a.error(store.CodeNotFound)
		}
	}
	return nil
}

// embeddedBefore returns the ids of the attachments that the stored item names: none if it does not decode as a user message.
func (l *guarded) embeddedBefore(ctx context.Context, c *call, threadID, itemID string) ([]string, error) {
	it, err := since(layer.Own(ctx), c, func(ctx context.Context) (chat.Item, error) {
		return l.next.LoadItem(ctx, threadID, itemID)
	})
	switch {
	case err == nil && (it.ID != itemID || it.ThreadID != threadID):
		return nil, l.stray(c)
	case err == nil:
		ids, err := embeddedIn(c.Op, it)
		if err != nil {
			return nil, nil
		}
		return ids, nil
	case missing(err):
		return nil, nil
	}
	return nil, c.before(err)
}
