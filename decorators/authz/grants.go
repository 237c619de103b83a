package authz

import (
	"context"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// Role is what [Grants] lets a principal do with another owner's thread.
type Role uint8

// The roles.
const (
	NoRole Role = iota
	Viewer      // reads the thread and its items
	Editor      // also saves the thread and adds, saves and deletes its items; does not delete the thread
)

// Grants returns the policy for shared threads. It calls f for the role of p on a thread of another owner. It does so on every
// call, so a withdrawn grant ends at once. An error of f denies the call, as any policy's error. Grants allows owners nothing:
// combine it with [OwnerOnly] by [AnyOf].
//
// Grants does not ask f about new threads, listings or attachments. So shared threads must be loaded by id. A grant shows the
// messages of a thread with what they say about attachments, but not the stored attachments.
//
// Grants calls f with the zero owner for a missing thread and for one without an owner, and ignores the role. So response times
// do not reveal which threads exist. f must be safe for concurrent use. Grants panics if f is nil.
func Grants(f func(ctx context.Context, p store.Principal, threadID string, owner chat.Owner) (Role, error)) Policy {
	if f == nil {
		panic("authz.Grants: the function is nil: pass one that looks grants up")
	}
	return grants(f)
}

type grants func(ctx context.Context, p store.Principal, threadID string, owner chat.Owner) (Role, error)

func (f grants) Decide(ctx context.Context, r Request) (Decision, error) {
	if r.ThreadID == "" || r.Action == Create || r.Owner == r.Principal.Owner {
		return Deny, nil
	}
	role, err := f(ctx, r.Principal, r.ThreadID, r.Owner)
	if err != nil || r.Owner.IsZero() {
		return Deny, err
	}
	switch role {
	case Editor:
		if r.Action == Read || r.Action == Write || r.Op == store.OpDeleteThreadItem {
			return Allow, nil
		}
	case Viewer:
		if r.Action == Read {
			return Allow, nil
		}
	}
	return Deny, nil
}

func (grants) Scope(context.Context, store.Principal, store.OwnerFilter) (store.OwnerFilter, bool, error) {
	return store.OwnerFilter{}, false, nil
}
