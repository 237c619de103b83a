package lifecycle

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// Receipt says what Erase has done. It does not name the owner, and has no content.
type Receipt struct {
	Begun time.Time `json:"begun"`
	Ended time.Time `json:"ended"`
	// Erased has the numbers of rows. Items are not counted: they go with their threads.
	Erased struct {
		Threads     int `json:"threads"`
		Attachments int `json:"attachments"`
	} `json:"erased"`
	// Deleted is the number of ids of rows that were deleted before, and that kept the owner's name.
	Deleted int `json:"deleted"`
	// Threads and Attachments have the SHA-256 of each erased id.
	Threads     []string `json:"thread_hashes"`
	Attachments []string `json:"attachment_hashes"`
	// NotFound says in sentences what Erase cannot find.
	NotFound []string `json:"not_found"`
}

// notFound is what no store can find by an owner.
var notFound = []string{
	"Copies that other owners made of the owner's threads.",
	"Items and attachments that the owner added to other owners' threads, if they have other owners.",
	"Ids that contain the owner's name.",
	"Backups, exports and logs, and what the database's files keep of deleted rows.",
}

// Erase removes all that s has of an owner: threads with their items, attachments and grants. It also removes the owner's name from
// the ids of deleted rows. s is the stack inside of a guard such as authz. So the caches of this process drop the rows, and those of
// others that share a bus.
//
// First end the owner's sessions: a row that is saved behind the call stays. Erase takes at least the base's LongestWrite
// ([driver.WriteBounder]). For that long, a write that its caller has given up may still add a row, so Erase erases again behind it.
// In the end it calls the base's [driver.Scrubber], which may take long. Memory grows with the number of the owner's rows. If Erase
// fails, some rows may be left: call it again. The new receipt counts only what the new call has found.
//
// The base must be a [driver.Eraser] and a [driver.AttachmentLister]. Else the error is [errors.ErrUnsupported], and nothing is
// erased. The zero owner is [store.ErrInvalid].
func Erase(ctx context.Context, s store.Store, owner chat.Owner) (r Receipt, err error) {
	r.Begun, r.NotFound = time.Now().UTC(), notFound
	begun := false // rows may be gone
	defer func() {
		if r.Ended = time.Now().UTC(); err != nil && begun {
			err = fmt.Errorf("lifecycle: rows and the name of the owner may be left: %w", err)
		}
	}()
	eraser, ok := store.As[driver.Eraser](s)
	if _, lists := store.As[driver.AttachmentLister](s); !ok || !lists {
		return r, fmt.Errorf("lifecycle: the store cannot erase an owner: %w", errors.ErrUnsupported)
	}
	if owner.IsZero() {
		return r, &store.Error{Code: store.CodeInvalid, Field: "owner: empty"}
	}
	// A layer may refuse to erase, such as mirror. It must do so before rows are gone.
	if _, err := eraser.EraseOwner(ctx, chat.Owner{Tenant: rand.Text(), Subject: rand.Text()}); err != nil {
		return r, err
	}
	begun = true
	if err := r.deleteAll(ctx, s, owner, allThreads, func(id string) { r.add([]string{id}, nil) }); err != nil {
		return r, err
	}
	if err := r.deleteAll(ctx, s, owner, allAttachments, func(id string) { r.add(nil, []string{id}) }); err != nil {
		return r, err
	}
	deleted := r.Erased.Threads + r.Erased.Attachments // by deleteAll, so their ids are among those of deleted rows
	if err := r.erase(ctx, s, eraser, owner); err != nil {
		return r, err
	}
	r.Deleted = max(0, r.Deleted-deleted)
	if longest := longestWrite(s); longest > 0 {
		if err := wait(ctx, longest); err != nil {
			return r, err
		}
		if err := r.erase(ctx, s, eraser, owner); err != nil {
			return r, err
		}
	}
	begun = false
	if scrubber, ok := store.As[driver.Scrubber](s); ok {
		if err := scrubber.Scrub(ctx); err != nil {
			return r, fmt.Errorf("lifecycle: the rows are erased, but their text may still be in the database's file: %w", err)
		}
	}
	return r, nil
}

// deleteAll deletes the owner's rows of a listing through the stack. A row that cannot be read is deleted too: an error names it.
func (r *Receipt) deleteAll(ctx context.Context, s store.Store, owner chat.Owner, l listing, add func(id string)) error {
	unreadable := map[string]bool{}
	for again := true; again; {
		again = false
		some := false // rows in this walk
		for row, err := range rows(ctx, store.OldestFirst, func(ctx context.Context, q store.PageQuery) (store.Page[image], error) {
			return l.page(ctx, s, store.ThreadQuery{PageQuery: q, Owner: store.OwnedBy(owner)})
		}) {
			id := row.id
			if e, ok := errors.AsType[*store.Error](err); ok && e.Code == store.CodeInternal && e.Kind == l.kind && e.ID != "" && !unreadable[e.ID] {
				again, id, err = true, e.ID, nil
				unreadable[id] = true
			}
			if some && errors.Is(err, store.ErrNotFound) { // another Erase has erased the walk's cursor
				again = true
				break
			}
			if err == nil {
				err = l.remove(ctx, s, id)
			}
			if err != nil {
				return err
			}
			add(id)
			some = true
		}
	}
	return nil
}

// erase erases the owner at the base, and deletes through the stack what was still there.
func (r *Receipt) erase(ctx context.Context, s store.Store, eraser driver.Eraser, owner chat.Owner) error {
	e, err := eraser.EraseOwner(ctx, owner)
	if err != nil {
		return err
	}
	r.Deleted += e.Deleted
	r.add(e.Threads, e.Attachments)
	for _, id := range e.Threads {
		if err := s.DeleteThread(ctx, id); err != nil {
			return err
		}
	}
	for _, id := range e.Attachments {
		if err := s.DeleteAttachment(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (r *Receipt) add(threads, attachments []string) {
	hash := func(id string) string {
		sum := sha256.Sum256([]byte(id))
		return hex.EncodeToString(sum[:])
	}
	for _, id := range threads {
		r.Threads = append(r.Threads, hash(id))
	}
	for _, id := range attachments {
		r.Attachments = append(r.Attachments, hash(id))
	}
	r.Erased.Threads += len(threads)
	r.Erased.Attachments += len(attachments)
}
