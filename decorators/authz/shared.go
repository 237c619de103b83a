package authz

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// Shared returns the policy for shared threads: a viewer reads the thread and its items, an editor also changes them. An editor
// does not delete the thread. Shared allows owners nothing: combine it with [OwnerOnly] by [AnyOf]. The sections Listings, Shared
// threads and Attachments of [New] say what follows from it.
//
// Shared asks l on every call, so a revoked grant ends at once. An error of l denies the call, as any policy's error. Shared asks
// l about missing threads and threads without an owner too, and ignores the answer. So response times do not reveal which threads
// exist. It does not ask l about the caller's own threads, new threads or listings.
//
// A policy of yours around Shared must pass on the context and must not keep the decisions. Without the context of a call through
// New's layer, Shared returns an error.
//
// l must be safe for concurrent use. Shared panics if l is nil.
func Shared(l sharing.Lookup) Policy {
	if l == nil {
		panic("authz.Shared: the lookup is nil: pass the Store of sharing.New, or a lookup of your own grants")
	}
	return shared{l}
}

type shared struct{ grants sharing.Lookup }

var errNoLayer = errors.New("authz: Shared was asked without the context of the layer's question")

func (s shared) Decide(ctx context.Context, r Request) (Decision, error) {
	if r.Owner == r.Principal.Owner {
		return Deny, nil
	}
	t, _ := ctx.Value(toldKey{}).(*told)
	if t == nil {
		return Deny, errNoLayer // nobody would compare the versions
	}
	t.hear(s.grants, 0)
	if r.ThreadID == "" || r.Action == Create {
		return Deny, nil
	}
	a, err := s.grants.Access(ctx, r.Principal, r.ThreadID)
	if err != nil || r.Owner.IsZero() {
		return Deny, err
	}
	may := false
	switch a.Role {
	case sharing.Editor:
		may = r.Action == Read || r.Action == Write || r.Op == store.OpDeleteThreadItem
	case sharing.Viewer:
		may = r.Action == Read
	}
	if !may {
		return Deny, nil
	}
	t.hear(nil, a.Version)
	return Allow, nil
}

func (shared) Scope(context.Context, store.Principal, store.OwnerFilter) (store.OwnerFilter, bool, error) {
	return store.OwnerFilter{}, false, nil
}

// mayShare reports whether p can contain Shared. A policy of another package can.
func mayShare(p Policy) bool {
	switch p := p.(type) {
	case ownerOnly, hasRole, tenantAdmin:
		return false
	case anyOf:
		return slices.ContainsFunc(p, mayShare)
	}
	return true
}

// told is the context of a question to a policy. It collects what Shared tells the layer: a Decision has no place for it.
type told struct {
	context.Context
	mu      sync.Mutex
	grants  []sharing.Lookup // of each Shared that was asked
	version uint64           // the highest version of the grants that allowed the call
}

type toldKey struct{}

func (t *told) Value(key any) any {
	if key == (toldKey{}) {
		return t
	}
	return t.Context.Value(key)
}

func (t *told) hear(l sharing.Lookup, version uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l != nil {
		t.grants = append(t.grants, l)
	}
	t.version = max(t.version, version)
}

// lookups returns the lookups of each Shared that was asked. It is empty if t is nil.
func (t *told) lookups() []sharing.Lookup {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.grants)
}

// least returns the lowest version of the thread that the caller may see; 0 means any.
func (t *told) least() uint64 {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.version
}

// ask asks the policy about c.
func (l *guarded) ask(ctx context.Context, c *call, r *Request) (Decision, error) {
	if c.told == nil && l.mayShare && r.Owner != r.Principal.Owner { // owners need no grant, and pay for none
		c.told = &told{Context: layer.Own(ctx)}
	}
	if c.told != nil {
		ctx = c.told
	}
	return decide(ctx, l.policy, r)
}

// since makes a read of c's thread. If a grant allows the call, a row that may be older than the grant is read again, past all
// caches. A cache can have rows that the owner had deleted before the grant. The read of the thread's owner before it needs no such
// care: an id keeps its owner.
func since[T any](ctx context.Context, c *call, read func(context.Context) (T, error)) (T, error) {
	least := c.told.least()
	if least == 0 {
		return read(ctx)
	}
	versions := new(coherence.Recorder)
	v, err := read(versions.Listen(ctx))
	if err == nil && !reached(versions, c.ThreadID, least) {
		versions = new(coherence.Recorder)
		v, err = read(versions.Listen(store.WithFresh(ctx)))
	}
	if !c.Op.IsWrite() && (err == nil || c.Op != store.OpLoadThread) { // the version of a missing thread is secret
		coherence.Forward(c.hints, versions.Reports())
	}
	return v, err
}

// reached reports whether r heard a version of the thread, and none lower than least.
func reached(r *coherence.Recorder, threadID string, least uint64) (ok bool) {
	if r == nil {
		return false
	}
	for _, v := range r.Reports() {
		if v.ThreadID == threadID {
			if v.After < least {
				return false
			}
			ok = true
		}
	}
	return ok
}
