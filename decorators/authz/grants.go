package authz

import (
	"context"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// Role is what [Grants] gives a principal on one thread of somebody else's.
type Role uint8

// The roles.
const (
	NoRole Role = iota
	Viewer      // reads the thread and its items
	Editor      // also saves the thread and adds, saves and deletes its items; does not delete the thread
)

// Grants returns the policy of threads that are shared with others: f answers what a principal may do on a thread that is
// not theirs. It is asked on every call, so that a grant that is withdrawn ends at once.
//
// f is not asked about attachments: whoever may see a thread sees the messages in it, with what they say about their
// attachments, but not the stored attachments. Nor about one's own threads, about listings (granted threads are reached
// by id) or about who may create threads. For a missing thread, or one without an owner, f is called with the zero owner, so that
// the call takes as long as any; the answer is dropped. Grants panics if f is nil.
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
