package authz

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// Action is what the caller wants to do with a row.
type Action uint8

// The actions. If a policy refuses Write or Delete and allows Read, the caller gets [store.ErrDenied]. If it refuses Read too,
// the row is answered like a missing row.
const (
	Read   Action = iota // see the row, or a thread's items
	Write                // change the row, or add and change items of a thread
	Create               // insert a row for Request.Owner
	Delete               // delete the row, or an item of a thread (Request.Op says which)
	List                 // list threads; Policy.Scope decides it, so only a Denial has it
)

var actionNames = [...]string{Read: "read", Write: "write", Create: "create", Delete: "delete", List: "list"}

// String returns the action's name, such as "read".
func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return "unknown"
}

// Request is one question to a [Policy]. It has no content of a row.
type Request struct {
	Principal store.Principal // has a valid owner; do not change its Roles, which are shared
	Action    Action
	Op        store.Op
	// ThreadID is "" for attachments. With [Shared], calls on attachments also ask about the thread that an attachment names. For
	// a missing attachment it is then any id.
	ThreadID string
	// Owner is the owner of the stored row, or for Create of the new row. It is zero for a row without an owner and for a
	// missing row. The policy is asked about missing rows too, and its decision is ignored. So neither the time that a policy
	// takes nor its failure reveals which rows exist.
	Owner chat.Owner
}

// Decision is a policy's answer. Every value except Allow denies, including the zero value.
type Decision uint8

// The decisions.
const (
	Deny Decision = iota
	Allow
)

// Policy decides who may do what. The layer asks it on every call, so a change takes effect at once. It must be safe for
// concurrent use.
//
// An error or a panic denies the call with [store.ErrUnavailable]. The policy's own timeout does the same: choose one that is
// well below the callers' timeouts.
type Policy interface {
	// Decide answers one question about one row.
	Decide(context.Context, Request) (Decision, error)
	// Scope narrows a listing. f is the caller's filter, and never the zero filter. The base is called with the narrowed filter,
	// and its rows are checked against it. If ok is false or the narrowed filter is zero, the page is empty. Scope cannot
	// widen f.
	Scope(ctx context.Context, p store.Principal, f store.OwnerFilter) (narrowed store.OwnerFilter, ok bool, err error)
}

// OwnerOnly returns the policy that allows everything to a row's owner and nothing to other principals. An owner is a tenant
// and a subject: the same subject in another tenant is another owner.
func OwnerOnly() Policy { return ownerOnly{} }

type ownerOnly struct{}

func (p ownerOnly) Decide(_ context.Context, r Request) (Decision, error) { return p.of(&r), nil }

func (ownerOnly) of(r *Request) Decision {
	if r.Owner == r.Principal.Owner && !r.Owner.IsZero() {
		return Allow
	}
	return Deny
}

func (ownerOnly) Scope(_ context.Context, p store.Principal, f store.OwnerFilter) (store.OwnerFilter, bool, error) {
	own, ok := f.Intersect(store.OwnedBy(p.Owner))
	return own, ok, nil
}

// HasRole returns the policy that allows everything to principals with the role, on every row. This includes rows without an
// owner. It panics if role is empty.
func HasRole(role string) Policy {
	if role == "" {
		panic("authz.HasRole: the role is empty: name the role that may do everything")
	}
	return hasRole(role)
}

type hasRole string

func (role hasRole) Decide(_ context.Context, r Request) (Decision, error) {
	if slices.Contains(r.Principal.Roles, string(role)) {
		return Allow, nil
	}
	return Deny, nil
}

func (role hasRole) Scope(_ context.Context, p store.Principal, f store.OwnerFilter) (store.OwnerFilter, bool, error) {
	return f, slices.Contains(p.Roles, string(role)), nil
}

// TenantAdmin returns the policy that allows everything to principals with the role, on every row of their own tenant. A
// principal without a tenant gets nothing: rows without a tenant may be of unrelated owners. TenantAdmin panics if role is
// empty.
func TenantAdmin(role string) Policy {
	if role == "" {
		panic("authz.TenantAdmin: the role is empty: name the role of a tenant's administrators")
	}
	return tenantAdmin(role)
}

type tenantAdmin string

func (role tenantAdmin) covers(p store.Principal) bool {
	return p.Owner.Tenant != "" && slices.Contains(p.Roles, string(role))
}

func (role tenantAdmin) Decide(_ context.Context, r Request) (Decision, error) {
	if role.covers(r.Principal) && store.InTenant(r.Principal.Owner.Tenant).Match(r.Owner) {
		return Allow, nil
	}
	return Deny, nil
}

func (role tenantAdmin) Scope(_ context.Context, p store.Principal, f store.OwnerFilter) (store.OwnerFilter, bool, error) {
	if !role.covers(p) {
		return store.OwnerFilter{}, false, nil
	}
	both, ok := f.Intersect(store.InTenant(p.Owner.Tenant))
	return both, ok, nil
}

// AnyOf returns the policy that allows what at least one of the policies allows. It asks them in order and stops at the first
// that allows. It skips a policy that fails, and returns its error if no other policy allows. AnyOf() allows nothing. AnyOf
// panics if a policy is nil.
//
// A listing has one scope: the widest scope of the policies. If none contains all others, as with two tenants, it is the first
// scope or a wider one around it. The caller must then name the other tenant in the query. If a policy fails that might have
// widened the scope, the listing fails: a page that lacks rows would look complete.
func AnyOf(policies ...Policy) Policy {
	if slices.Contains(policies, nil) {
		panic("authz.AnyOf: a policy is nil: leave it out")
	}
	return anyOf(slices.Clone(policies))
}

type anyOf []Policy

func (ps anyOf) Decide(ctx context.Context, r Request) (Decision, error) {
	var errs []error
	for _, p := range ps {
		d, err := decide(ctx, p, &r)
		if err != nil {
			errs = append(errs, err)
		} else if d == Allow {
			return Allow, nil
		}
	}
	return Deny, errors.Join(errs...)
}

func (ps anyOf) Scope(ctx context.Context, who store.Principal, f store.OwnerFilter) (store.OwnerFilter, bool, error) {
	var (
		widest store.OwnerFilter
		found  bool
		errs   []error
	)
	for _, p := range ps {
		g, ok, err := scope(ctx, p, who, f)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !ok {
			continue
		}
		if both, meet := widest.Intersect(g); !found || meet && both == widest {
			widest, found = g, true
		}
	}
	if found && widest == f {
		return widest, true, nil // no failed policy could have widened it
	}
	return widest, found, errors.Join(errs...)
}

// decide asks p and turns a panic into an error. A policy that calls a Store must not do so with the caller's recorders and
// condition.
func decide(ctx context.Context, p Policy, r *Request) (d Decision, err error) {
	if o, ok := p.(ownerOnly); ok { // most stacks have this policy: do not copy the request
		return o.of(r), nil
	}
	defer recovered(&err)
	return p.Decide(layer.Own(ctx), *r)
}

// scope asks p and intersects its answer with f, so that a policy that ignores f does not widen the query. The zero filter,
// which means rows without an owner, is no scope.
func scope(ctx context.Context, p Policy, who store.Principal, f store.OwnerFilter) (g store.OwnerFilter, ok bool, err error) {
	defer recovered(&err)
	if g, ok, err = p.Scope(layer.Own(ctx), who, f); err != nil || !ok || g == (store.OwnerFilter{}) {
		return store.OwnerFilter{}, false, err
	}
	g, ok = g.Intersect(f)
	return g, ok, nil
}

// recovered turns a panic of a user's function into an error. Goexit goes on, and the layer does nothing more.
func recovered(err *error) {
	if v := recover(); v != nil {
		*err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
	}
}
