package sharing

import (
	"context"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// Share grants the caller's thread. s is the guarded stack, and ctx has the principal, who must own the thread. A thread that
// the caller cannot read is [store.ErrNotFound], and another owner's is [store.ErrDenied]. Without a principal, the error is
// [store.ErrUnauthenticated].
func Share(ctx context.Context, s store.Store, g Grants, threadID string, to Grantee, role Role) error {
	grant := Grant{ThreadID: threadID, To: to, Role: role}
	if err := checks.Grant(ctx, grant); err != nil {
		return err
	}
	p, err := caller(ctx, threadID)
	if err != nil {
		return err
	}
	if err := owns(ctx, s, p, threadID); err != nil {
		return err
	}
	grant.By = p.Owner
	return g.Grant(ctx, grant)
}

// Unshare revokes a grant of the caller's thread, with the rules of [Share]. A subject may also revoke the grant to itself.
func Unshare(ctx context.Context, s store.Store, g Grants, threadID string, from Grantee) error {
	if err := checks.Grant(ctx, Grant{ThreadID: threadID, To: from, Role: Viewer}); err != nil {
		return err
	}
	p, err := caller(ctx, threadID)
	if err != nil {
		return err
	}
	if from.Subject == "" || from.Tenant != p.Owner.Tenant || from.Subject != p.Owner.Subject {
		if err := owns(ctx, s, p, threadID); err != nil {
			return err
		}
	}
	return g.Revoke(ctx, threadID, from)
}

// List returns a page of the threads that are shared with the caller, the last granted first. It loads each through s, the
// guarded stack. A thread that cannot be read any more is left out, so a page may be short. limit and after are as for
// [Grants]. Without a principal, the error is [store.ErrUnauthenticated].
func List(ctx context.Context, s store.Store, g Grants, after string, limit int) (store.Page[chat.Thread], error) {
	if _, _, err := checks.SharedWith(ctx, after, limit); err != nil {
		return store.Page[chat.Thread]{}, err
	}
	p, err := caller(ctx, "")
	if err != nil {
		return store.Page[chat.Thread]{}, err
	}
	grants, err := g.SharedWith(ctx, p, after, limit)
	if err != nil {
		return store.Page[chat.Thread]{}, err
	}
	ctx, _ = store.WithVersions(ctx) // authz compares them with the grant's, and reads once
	page := store.Page[chat.Thread]{HasMore: grants.HasMore, After: grants.After}
	for _, grant := range grants.Data {
		switch t, err := s.LoadThread(ctx, grant.ThreadID); store.CodeOf(err) {
		case store.CodeOK:
			page.Data = append(page.Data, t)
		case store.CodeNotFound, store.CodeDenied: // revoked or deleted meanwhile
		default:
			return store.Page[chat.Thread]{}, err
		}
	}
	return page, nil
}

// caller returns the principal of ctx, who must be able to own rows.
func caller(ctx context.Context, threadID string) (store.Principal, error) {
	p, ok := layer.HintsFor(ctx, 0).Owner()
	if !ok {
		return p, &store.Error{Kind: store.RowThread, ID: threadID, Code: store.CodeUnauthenticated}
	}
	return p, nil
}

// owns returns nil if p owns the thread.
func owns(ctx context.Context, s store.Store, p store.Principal, threadID string) error {
	t, err := s.LoadThread(ctx, threadID)
	if err != nil {
		return err
	}
	if t.Owner != p.Owner {
		return &store.Error{Kind: store.RowThread, ID: threadID, Code: store.CodeDenied}
	}
	return nil
}
