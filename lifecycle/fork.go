package lifecycle

import (
	"context"
	"errors"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/jsondoc"
	"github.com/chatstore/chatstore/internal/rules"
	"github.com/chatstore/chatstore/store"
)

// forkReason is the status of a fork that is not complete.
const forkReason = "This conversation is being copied."

// Fork makes a new thread from the items of another, up to and with the item upTo. An empty upTo means all. s is the stack that guards
// the caller's rows. The fork belongs to the caller, who must be able to read the thread. It has the title, the status and the
// metadata of the thread, its own id, and the time now as CreatedAt. Its items keep their ids, times and documents, except for
// thread_id. The attachments and calls that they name stay the same. The member chatstore_turn of the metadata, which says that a
// server is answering, is left out.
//
// Package authz lets a caller fork only messages whose attachments they may load. In another user's thread these are the attachments
// that have its thread_id. Others, and deleted ones, are [store.ErrNotFound].
//
// The fork is locked until it is complete. If Fork fails, it deletes what it has made, if it can. If the thread changes while it
// is read, Fork begins again. A thread that changes in each of ten tries, within about a second, is [store.ErrConflict]. A thread or
// item that is missing is [store.ErrNotFound]. Over a store without versions, a thread that is written during the call may be a
// mixture.
func Fork(ctx context.Context, s store.Store, threadID, upTo string) (fork chat.Thread, err error) {
	err = unchanged(ctx, threadID, func() (err error) {
		if fork, err = forkOnce(ctx, s, threadID, upTo); err == nil || fork.ID == "" {
			return err
		}
		left := s.DeleteThread(context.WithoutCancel(ctx), fork.ID)
		if left != nil && errors.Is(err, errAgain) {
			return left
		}
		return errors.Join(err, left)
	})
	if err != nil {
		return chat.Thread{}, err
	}
	return fork, nil
}

// forkOnce returns the fork. A fork with an id was perhaps saved, also with an error, which is errAgain if a write came between.
func forkOnce(ctx context.Context, s store.Store, threadID, upTo string) (fork chat.Thread, err error) {
	fresh, versions := reading(ctx)
	from, err := s.LoadThread(fresh, threadID)
	if err != nil {
		return fork, err
	}
	if upTo != "" {
		if _, err := s.LoadItem(fresh, threadID, upTo); err != nil {
			return fork, err
		}
	}
	fork = chat.Thread{
		ID: s.GenerateThreadID(ctx), Title: from.Title, CreatedAt: time.Now(), Metadata: withoutTurn(from.Metadata),
		AllowedImageDomains: from.AllowedImageDomains, Status: chat.Status{Type: chat.StatusLocked, Reason: forkReason},
	}
	if p, ok := store.PrincipalFrom(ctx); ok {
		fork.Owner = p.Owner
	}
	if err := s.SaveThread(store.WithSaveMode(ctx, store.InsertOnly), fork); err != nil {
		if store.IsDefinite(err) {
			fork.ID = ""
		}
		return fork, err
	}
	for it, err := range itemsAt(ctx, s, threadID, versions) {
		if err != nil {
			return fork, err
		}
		it.ThreadID = fork.ID
		if err := s.AddThreadItem(ctx, fork.ID, it); err != nil {
			return fork, err
		}
		if it.ID == upTo {
			break
		}
	}
	fresh, _ = reading(ctx)
	now, err := s.LoadThread(fresh, fork.ID) // it may have another title
	if err != nil {
		return fork, err
	}
	now.Status = from.Status
	return now, s.SaveThread(store.WithSaveMode(ctx, store.UpdateOnly), now)
}

// withoutTurn returns the metadata without the member that names a turn under way.
func withoutTurn(metadata chat.JSON) chat.JSON {
	fork, err := chat.ParseJSON(jsondoc.Without(metadata.String(), rules.Turn))
	if err != nil {
		return metadata // it was not valid before: the save says so
	}
	return fork
}
