package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/store"
)

// auditLog keeps denials as printable lines.
type auditLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *auditLog) record(_ context.Context, d authz.Denial) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf("%s tried to %s %s %q of %s: %s, answered %s", name(d.Request.Principal.Owner),
		d.Request.Action, d.Kind, d.ID, name(d.Request.Owner), d.Reason, d.Code))
}

func name(o chat.Owner) string {
	if o.IsZero() {
		return "nobody"
	}
	return o.Tenant + "/" + o.Subject
}

// refusal is a stranger's answers for one kind of call: on a thread of somebody else, and on a missing one.
type refusal struct {
	call, theirs, absent string
}

// refusals makes every kind of call on the transcript's thread under ctx, and the same calls on a missing thread.
func refusals(ctx context.Context, s store.Store, t transcript) ([]refusal, error) {
	item, err := chat.NewItem("msg_stranger", t.thread.CreatedAt, chat.AssistantMessage{})
	if err != nil {
		return nil, err
	}
	type target struct{ thread, item, attachment string }
	const noItem, noAttachment = "msg_none", "atc_none"
	calls := []struct {
		name string
		make func(target) (rows int, err error)
	}{
		{"load_thread", func(x target) (int, error) { _, err := s.LoadThread(ctx, x.thread); return 1, err }},
		{"load_thread_items", func(x target) (int, error) {
			p, err := s.LoadThreadItems(ctx, x.thread, store.PageQuery{})
			return len(p.Data), err
		}},
		{"load_threads (anyone's)", func(target) (int, error) {
			p, err := s.LoadThreads(ctx, store.ThreadQuery{Owner: store.AnyOwner()})
			return len(p.Data), err
		}},
		{"load_item", func(x target) (int, error) { _, err := s.LoadItem(ctx, x.thread, x.item); return 1, err }},
		{"load_attachment", func(x target) (int, error) { _, err := s.LoadAttachment(ctx, x.attachment); return 1, err }},
		{"add_thread_item", func(x target) (int, error) { return 0, s.AddThreadItem(ctx, x.thread, item) }},
		{"save_item", func(x target) (int, error) { return 0, s.SaveItem(ctx, x.thread, item) }},
		{"delete_thread_item", func(x target) (int, error) { return 0, s.DeleteThreadItem(ctx, x.thread, x.item) }},
		{"delete_thread", func(x target) (int, error) { return 0, s.DeleteThread(ctx, x.thread) }},
		{"delete_attachment", func(x target) (int, error) { return 0, s.DeleteAttachment(ctx, x.attachment) }},
		{"save_thread", func(x target) (int, error) {
			return 0, s.SaveThread(ctx, chat.Thread{ID: x.thread, CreatedAt: t.thread.CreatedAt})
		}},
	}
	theirs := target{t.thread.ID, noItem, noAttachment}
	if len(t.requests) > 0 {
		theirs.item = t.requests[0].steps[0].item.ID
	}
	if len(t.attachments) > 0 {
		theirs.attachment = t.attachments[0].ID
	}
	absent := target{s.GenerateThreadID(ctx), noItem, noAttachment}
	var got []refusal
	for _, c := range calls {
		got = append(got, refusal{c.name, answer(c.make(theirs)), answer(c.make(absent))})
	}
	// Saving the missing thread has created it for the stranger.
	return got, s.DeleteThread(ctx, absent.thread)
}

// answer returns the answer that a caller gets.
func answer(rows int, err error) string {
	switch {
	case err != nil:
		return store.CodeOf(err).String()
	case rows == 0:
		return "ok, nothing"
	}
	return fmt.Sprintf("ok, %d rows", rows)
}
