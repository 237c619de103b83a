package lifecycle

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// PruneAttachments deletes the attachments that no user message names, of the owners that f selects. It reads the messages of all
// owners, because others may have the attachment in theirs. Deleting an attachment's row does not delete its file.
//
// Attachments have no time, and an upload may wait for its message. So PruneAttachments looks twice, and waits for unnamed between,
// which must be longer than a user may take from the upload to the message. It deletes an attachment that was there both times, with
// the same document and owner, and was named at neither. A message that is saved from the second look until the deletion may
// lose its attachment. It keeps the attachment's document, as always.
//
// s is the stack inside of a guard, so that caches drop what is deleted, and messages can be read. A message that cannot be read is
// [chat.ErrInvalid], and nothing is deleted. The base must be a [driver.AttachmentLister], else the error is [errors.ErrUnsupported].
// Memory is about 60 bytes for each attachment that f selects. PruneAttachments may be repeated after an error. The options are
// WithDryRun, WithPause and WithProgress. WithHold is [store.ErrInvalid]: it knows threads only.
func PruneAttachments(ctx context.Context, s store.Store, f store.OwnerFilter, unnamed time.Duration, opts ...Option) (Pruned, error) {
	p := newPruner(s, opts)
	switch {
	case unnamed <= 0:
		return p.done, badOption("unnamed: not positive")
	case p.hold != nil:
		return p.done, badOption("WithHold: for threads only")
	}
	seed := maphash.MakeSeed()
	contentOf := func(a chat.Attachment) uint64 {
		return maphash.Comparable(seed, [3]string{a.JSON().String(), a.Owner.Tenant, a.Owner.Subject})
	}
	found := map[key]uint64{}
	for a, err := range Attachments(ctx, s, f) {
		if err != nil {
			return p.done, err
		}
		found[keyOf(a.ID)] = contentOf(a)
		p.looked.Attachments++
	}
	if err := p.forgetNamed(ctx, found); err != nil || len(found) == 0 {
		return p.done, err
	}
	if err := wait(ctx, unnamed); err != nil {
		return p.done, err
	}
	if err := p.forgetNamed(ctx, found); err != nil {
		return p.done, err
	}
	for a, err := range Attachments(ctx, s, f) {
		if err != nil {
			return p.done, err
		}
		was, ok := found[keyOf(a.ID)]
		switch {
		case !ok:
			continue
		case was != contentOf(a):
			p.done.Changed++
			continue
		case !p.dryRun:
			err = s.DeleteAttachment(ctx, a.ID)
		}
		if err != nil {
			return p.done, err
		}
		p.done.Deleted++
	}
	return p.done, nil
}

// naming is the part of a user message that names attachments.
type naming struct {
	Attachments []chat.Attachment `json:"attachments"`
}

func (naming) ItemType() chat.ItemType { return chat.TypeUserMessage }

// forgetNamed removes the attachments that a user message names.
func (p *pruner) forgetNamed(ctx context.Context, found map[key]uint64) error {
	for t, err := range Threads(ctx, p.s, store.AnyOwner()) {
		if err != nil {
			return err
		}
		for it, err := range Items(ctx, p.s, t.ID) {
			if errors.Is(err, store.ErrNotFound) { // the thread was deleted meanwhile
				break
			}
			if err != nil {
				return err
			}
			message, _, err := chat.DecodeItem[naming](it)
			if err != nil {
				return fmt.Errorf("lifecycle: an item of thread %s: %w", t.ID, err)
			}
			for _, a := range message.Attachments {
				delete(found, keyOf(a.ID))
			}
			p.looked.Items++
		}
		p.looked.Threads++
		p.tell(p.looked)
		if err := p.rest(ctx); err != nil {
			return err
		}
	}
	return nil
}

// rest waits after each hundred calls, if there is a pause.
func (p *pruner) rest(ctx context.Context) error {
	if p.seen++; p.pause <= 0 || p.seen%pageSize != 0 {
		return nil
	}
	return wait(ctx, p.pause)
}

// key stands for an id in memory.
type key [16]byte

func keyOf(id string) key {
	sum := sha256.Sum256([]byte(id))
	return key(sum[:len(key{})])
}
