package cache

import (
	"context"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/internal/generation"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

func (l *cached) LoadAttachment(ctx context.Context, attachmentID string) (chat.Attachment, error) {
	const op = store.OpLoadAttachment
	if err := checks.Attachment(ctx, op, attachmentID); err != nil {
		return chat.Attachment{}, err
	}
	h := layer.HintsFor(ctx, op)
	var p place
	w := l.locate(&p, h, coherence.AttachmentCounter, attachmentID)
	if e := l.lookup(&p, h, w); e != nil {
		l.hit(h, ofAttachment, &p, e)
		return *e.attachment, nil
	}
	return l.missAttachment(ctx, h, p, w)
}

func (l *cached) missAttachment(ctx context.Context, h layer.Hints, p place, w generation.Counter) (chat.Attachment, error) {
	p = p.kept()
	id := p.key.id
	m := miss[string, chat.Attachment]{
		Read: coherence.Read[string]{Op: store.OpLoadAttachment, Kind: store.RowAttachment, ID: id, Counter: w, Args: id},
		kind: ofAttachment, hints: h, place: p, calls: &l.attachments, load: store.Store.LoadAttachment,
		fill: func(e *entry, a *chat.Attachment, id string) bool {
			e.attachment = new(*a)
			return a.ID == id
		},
		from: func(e *entry, _ string) (chat.Attachment, bool) { return *e.attachment, true },
	}
	return m.answer(ctx, l)
}

func (l *cached) SaveAttachment(ctx context.Context, attachment chat.Attachment) error {
	w, err := checks.SaveAttachment(ctx, attachment)
	if err != nil {
		return err
	}
	a := w.Attachment
	h := layer.HintsFor(ctx, store.OpSaveAttachment)
	var p place
	l.locate(&p, h, coherence.AttachmentCounter, a.ID)
	return l.write(ctx, h, p,
		func(ctx context.Context) error { return l.next.SaveAttachment(ctx, a) },
		func(e *entry) {
			stored := e.attachment.Owner
			e.attachment = new(a)
			e.attachment.Owner = stored
		})
}

func (l *cached) DeleteAttachment(ctx context.Context, attachmentID string) error {
	const op = store.OpDeleteAttachment
	if err := checks.Attachment(ctx, op, attachmentID); err != nil {
		return err
	}
	h := layer.HintsFor(ctx, op)
	var p place
	l.locate(&p, h, coherence.AttachmentCounter, attachmentID)
	return l.write(ctx, h, p,
		func(ctx context.Context) error { return l.next.DeleteAttachment(ctx, attachmentID) }, nil)
}
