package isolate

import (
	"context"
	"slices"

	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
)

// Grants has the grants of a trace. It changes only between calls, so a stack may read it during any call.
type Grants struct {
	given map[string]map[sharing.Grantee]sharing.Access // by thread
	kept  sharing.Grants
}

// Access returns what p may do with the thread by the grants, with the rules of [sharing.Lookup].
func (g *Grants) Access(_ context.Context, p store.Principal, threadID string) (all sharing.Access, _ error) {
	for to, a := range g.given[threadID] {
		if to.Tenant != p.Owner.Tenant {
			continue
		}
		switch {
		case to.Subject != "":
			if to.Subject != p.Owner.Subject {
				continue
			}
			all.Direct = a.Role
		case to.Tenant == "", to.Group != "" && !slices.Contains(p.Roles, to.Group):
			continue
		}
		all.Role, all.Version = max(all.Role, a.Role), max(all.Version, a.Version)
	}
	return all, nil
}

// KeepIn makes the trace's grants in kept too, from now on. Call it while the stack is made, to check a stack that reads its grants
// from there. Deleting a thread must end its grants in kept.
func (g *Grants) KeepIn(kept sharing.Grants) { g.kept = kept }

// change makes or revokes the grant of a step. As by [sharing.Grants], a missing thread is not granted.
func (p *play) change(ctx context.Context, s step) error {
	id, to := p.threadID(s.thread), p.grantee(s.to)
	if s.role == sharing.NoRole {
		delete(p.grants.given[id], to)
		if p.grants.kept != nil {
			return p.grants.kept.Revoke(ctx, id, to)
		}
		return nil
	}
	var version uint64
	ctx = callctx.WithVersionRecorder(ctx, func(_ string, _, v uint64) { version = v })
	if t, err := p.base.LoadThread(ctx, id); err != nil || t.ID != id {
		return nil
	}
	if p.grants.given[id] == nil {
		p.grants.given[id] = map[sharing.Grantee]sharing.Access{}
	}
	p.grants.given[id][to] = sharing.Access{Role: s.role, Version: version}
	if p.grants.kept != nil {
		return p.grants.kept.Grant(ctx, sharing.Grant{ThreadID: id, To: to, Role: s.role})
	}
	return nil
}

// end ends the grants of the step's thread if the thread is gone.
func (p *play) end(ctx context.Context, s step) {
	id := p.threadID(s.thread)
	if t, err := p.base.LoadThread(ctx, id); err != nil || t.ID != id {
		delete(p.grants.given, id)
	}
}

// access returns what who may do with the thread by grants. It is zero for who needs none.
func (p *play) access(who, thread int) sharing.Access {
	if owned(who)[thread] {
		return sharing.Access{}
	}
	a, _ := p.grants.Access(context.Background(), p.principals[who], p.threadID(thread))
	return a
}

// role returns the role that the caller has in the thread of the step.
func (p *play) role(s step) sharing.Role {
	if s.kind == granting || s.ofThread() {
		return p.access(s.who, s.thread).Role
	}
	return sharing.NoRole
}

// byThread reports whether who may read another owner's attachment because it belongs to a thread that they may read.
func (p *play) byThread(ctx context.Context, who, attachment int) bool {
	a, err := p.base.LoadAttachment(ctx, p.attachmentID(attachment))
	if err != nil || a.ID != p.attachmentID(attachment) || owned(who)[len(traceThreads)+attachment] {
		return false
	}
	thread := slices.IndexFunc(traceThreads, func(id string) bool { return a.ThreadID == id+p.tag })
	if thread < 0 || !owned(who)[thread] && p.access(who, thread).Role == sharing.NoRole {
		return false
	}
	t, err := p.base.LoadThread(ctx, a.ThreadID)
	by, _ := p.grants.Access(ctx, store.Principal{Owner: a.Owner}, a.ThreadID)
	return err == nil && (t.Owner == a.Owner || by.Direct == sharing.Editor)
}

// part reports whether the answer of the call can depend on a grant.
func (p *play) part(ctx context.Context, s step) bool {
	if !s.ofThread() && s.op != store.OpLoadThreads && p.byThread(ctx, s.who, s.attachment) {
		return true
	}
	if a, ok := s.embedded(); ok && p.byThread(ctx, s.who, a) {
		return true
	}
	return p.role(s) != sharing.NoRole || s.naming() && p.access(s.who, s.thread).Role != sharing.NoRole
}
