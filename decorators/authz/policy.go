package authz

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// Action is what is asked of an owner's rows; the policy never sees content.
type Action uint8

// The actions. Where an action is refused but Read is not, the caller is told so ([store.ErrDenied]); where Read is refused
// too, the row is as good as absent.
const (
	Read   Action = iota // see the row, or a thread's items
	Write                // change the row, or add and change items of a thread
	Create               // insert a row that will be Request.Owner's
	Delete               // delete the row, or an item of a thread (Request.Op says which)
	List                 // list threads: decided by Policy.Scope, and seen in a Denial only
)

var actionNames = [...]string{Read: "read", Write: "write", Create: "create", Delete: "delete", List: "list"}

// String returns the action's word, such as "read".
func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return "unknown"
}

// Request is one question to a [Policy]. It has nothing of a row's content.
type Request struct {
	Principal store.Principal // with a valid owner; its Roles are shared: do not change them
	Action    Action
	Op        store.Op
	ThreadID  string // "" for attachments
	// Owner is the stored row's owner, or for Create the owner that the row would have. It is zero for a row without an owner,
	// and for a missing row. The policy is asked about a missing row too, and the answer is dropped: so neither the time
	// that a policy takes nor its failure tells which rows exist.
	Owner chat.Owner
}

// Decision is a policy's answer. The zero Decision is Deny, and so is every value but Allow.
type Decision uint8

// The decisions.
const (
	Deny Decision = iota
	Allow
)

// Policy decides who may do what. It is asked on every call, so that what it withdraws is withdrawn at once, and from many
// goroutines. An error or a panic denies the call with [store.ErrUnavailable]; so does a policy's own time-out: give up
// well before the callers do.
type Policy interface {
	Decide(context.Context, Request) (Decision, error)
	// Scope narrows a listing. f is the caller's filter, and never the zero filter. The base is asked with the narrowed filter,
	// and its rows are checked against it. Without ok, or with the zero filter, the page is empty.
	Scope(ctx context.Context, p store.Principal, f store.OwnerFilter) (narrowed store.OwnerFilter, ok bool, err error)
}

// OwnerOnly returns the policy that allows everything to a row's owner and nothing to anybody else. An owner is a tenant
// and a subject: the same subject in another tenant is another owner.
func OwnerOnly() Policy { return ownerOnly{} }

type ownerOnly struct{}

func (ownerOnly) Decide(_ context.Context, r Request) (Decision, error) {
	if r.Owner == r.Principal.Owner && !r.Owner.IsZero() {
		return Allow, nil
	}
	return Deny, nil
}

func (ownerOnly) Scope(_ context.Context, p store.Principal, f store.OwnerFilter) (store.OwnerFilter, bool, error) {
	own, ok := f.Intersect(store.OwnedBy(p.Owner))
	return own, ok, nil
}

// HasRole returns the policy that allows everything, on every row, to principals with the role: also on rows that belong to
// nobody. It panics if role is empty.
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

// TenantAdmin returns the policy that allows everything, on every row of their own tenant, to principals with the role. A
// principal without a tenant is nobody's administrator: rows without a tenant have no more than that in common. It panics
// if role is empty.
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

// AnyOf returns the policy that allows what any of the policies allows. They are asked in order and the first that allows
// wins. One that fails is passed over: it could only have allowed more. Its error counts if nobody else allows. AnyOf of
// nothing allows nothing. It panics on a nil policy.
//
// A listing has one scope: the widest of theirs. Where none contains the others (two tenants, say), it is the first one
// that was found, and the caller must name what is wanted in the query. If a policy failed that might have widened the
// scope, the listing fails, as a page that lacks rows would pass for the whole.
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
		return widest, true, nil // nobody could have widened it
	}
	return widest, found, errors.Join(errs...)
}

// decide asks p; a panic is an error.
func decide(ctx context.Context, p Policy, r *Request) (d Decision, err error) {
	defer recovered(&err)
	return p.Decide(ctx, *r)
}

// scope asks p and keeps to its narrowing of f, whatever it says: a policy that ignores f must not widen what was asked.
// The zero filter, of rows that belong to nobody, is no scope.
func scope(ctx context.Context, p Policy, who store.Principal, f store.OwnerFilter) (g store.OwnerFilter, ok bool, err error) {
	defer recovered(&err)
	if g, ok, err = p.Scope(ctx, who, f); err != nil || !ok || g == (store.OwnerFilter{}) {
		return store.OwnerFilter{}, false, err
	}
	g, ok = g.Intersect(f)
	return g, ok, nil
}

// recovered makes a panic of a user's function an error. Goexit goes on: nothing that the layer would do comes after it.
func recovered(err *error) {
	if v := recover(); v != nil {
		*err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
	}
}
