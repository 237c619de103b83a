package authz_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
)

var actions = []authz.Action{authz.Read, authz.Write, authz.Create, authz.Delete}

// failing is a policy that fails on every question.
type failing struct{ err error }

func (p failing) Decide(context.Context, authz.Request) (authz.Decision, error) {
	return authz.Allow, p.err // the decision beside an error must be ignored
}

func (p failing) Scope(context.Context, store.Principal, store.OwnerFilter) (store.OwnerFilter, bool, error) {
	return store.AnyOwner(), true, p.err
}

// panicking is a policy that panics on every question.
type panicking struct{}

func (panicking) Decide(context.Context, authz.Request) (authz.Decision, error) { panic(canary) }

func (panicking) Scope(context.Context, store.Principal, store.OwnerFilter) (store.OwnerFilter, bool, error) {
	panic(canary)
}

// scoping is a fixed answer to Scope. It denies everything else.
type scoping struct {
	filter store.OwnerFilter
	ok     bool
}

func (scoping) Decide(context.Context, authz.Request) (authz.Decision, error) { return authz.Deny, nil }

func (p scoping) Scope(context.Context, store.Principal, store.OwnerFilter) (store.OwnerFilter, bool, error) {
	return p.filter, p.ok, nil
}

func TestPolicies(t *testing.T) {
	nobody, tenantless := chat.Owner{}, chat.Owner{Subject: "ada"}
	for _, c := range []struct {
		name   string
		policy authz.Policy
		who    store.Principal
		owner  chat.Owner
		allows bool
	}{
		{"owner only: the owner", authz.OwnerOnly(), store.Principal{Owner: ada}, ada, true},
		{"owner only: another subject", authz.OwnerOnly(), store.Principal{Owner: bob}, ada, false},
		{"owner only: the same subject of another tenant", authz.OwnerOnly(), store.Principal{Owner: chat.Owner{Tenant: "evil", Subject: "ada"}}, ada, false},
		{"owner only: the same subject without a tenant", authz.OwnerOnly(), store.Principal{Owner: tenantless}, ada, false},
		{"owner only: a row without an owner", authz.OwnerOnly(), store.Principal{Owner: ada}, nobody, false},
		{"owner only: no principal, a row without an owner", authz.OwnerOnly(), store.Principal{}, nobody, false},
		{"role: with it", authz.HasRole("op"), store.Principal{Owner: eve, Roles: []string{"a", "op"}}, ada, true},
		{"role: with it, a row without an owner", authz.HasRole("op"), store.Principal{Owner: eve, Roles: []string{"op"}}, nobody, true},
		{"role: without it", authz.HasRole("op"), store.Principal{Owner: eve, Roles: []string{"o", "OP", "op "}}, ada, false},
		{"role: without it, own row", authz.HasRole("op"), store.Principal{Owner: ada}, ada, false},
		{"admin: of the tenant", authz.TenantAdmin("admin"), store.Principal{Owner: bob, Roles: []string{"admin"}}, ada, true},
		{"admin: of another tenant", authz.TenantAdmin("admin"), store.Principal{Owner: eve, Roles: []string{"admin"}}, ada, false},
		{"admin: without the role", authz.TenantAdmin("admin"), store.Principal{Owner: bob}, ada, false},
		{"admin: a row without an owner", authz.TenantAdmin("admin"), store.Principal{Owner: bob, Roles: []string{"admin"}}, nobody, false},
		{"admin: without a tenant", authz.TenantAdmin("admin"), store.Principal{Owner: chat.Owner{Subject: "x"}, Roles: []string{"admin"}}, tenantless, false},
		{"any of nothing", authz.AnyOf(), store.Principal{Owner: ada}, ada, false},
		{"any of: the second allows", authz.AnyOf(authz.HasRole("op"), authz.OwnerOnly()), store.Principal{Owner: ada}, ada, true},
		{"any of: none allows", authz.AnyOf(authz.HasRole("op"), authz.OwnerOnly()), store.Principal{Owner: eve}, ada, false},
		{"any of: a failure before one that allows", authz.AnyOf(failing{errors.New("x")}, panicking{}, authz.OwnerOnly()), store.Principal{Owner: ada}, ada, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, a := range actions {
				got, err := c.policy.Decide(t.Context(), authz.Request{Principal: c.who, Action: a, Op: store.OpLoadThread, ThreadID: thr, Owner: c.owner})
				if err != nil || (got == authz.Allow) != c.allows {
					t.Errorf("%v: got %v, %v, want allowed %v", a, got, err, c.allows)
				}
			}
		})
	}
}

func TestScopes(t *testing.T) {
	tenantless := chat.Owner{Subject: "x"}
	type answer struct {
		Filter store.OwnerFilter
		OK     bool
	}
	none := answer{}
	opaque := cmp.Comparer(func(a, b store.OwnerFilter) bool { return a == b })
	anyOf := authz.AnyOf(authz.OwnerOnly(), authz.TenantAdmin("admin"), authz.HasRole("op"))
	for _, c := range []struct {
		name   string
		policy authz.Policy
		who    store.Principal
		asked  store.OwnerFilter
		want   answer
	}{
		{"owner: every owner's", authz.OwnerOnly(), store.Principal{Owner: ada}, store.AnyOwner(), answer{store.OwnedBy(ada), true}},
		{"owner: the tenant's", authz.OwnerOnly(), store.Principal{Owner: ada}, store.InTenant("acme"), answer{store.OwnedBy(ada), true}},
		{"owner: another tenant's", authz.OwnerOnly(), store.Principal{Owner: ada}, store.InTenant("evil"), none},
		{"owner: another owner's", authz.OwnerOnly(), store.Principal{Owner: ada}, store.OwnedBy(bob), none},
		{"role: every owner's", authz.HasRole("op"), store.Principal{Owner: ada, Roles: []string{"op"}}, store.AnyOwner(), answer{store.AnyOwner(), true}},
		{"admin: every owner's", authz.TenantAdmin("admin"), store.Principal{Owner: ada, Roles: []string{"admin"}}, store.AnyOwner(), answer{store.InTenant("acme"), true}},
		{"admin: one of the tenant's", authz.TenantAdmin("admin"), store.Principal{Owner: ada, Roles: []string{"admin"}}, store.OwnedBy(bob), answer{store.OwnedBy(bob), true}},
		{"admin: one of another tenant's", authz.TenantAdmin("admin"), store.Principal{Owner: ada, Roles: []string{"admin"}}, store.OwnedBy(eve), none},
		{"admin: without a tenant", authz.TenantAdmin("admin"), store.Principal{Owner: tenantless, Roles: []string{"admin"}}, store.AnyOwner(), none},
		{"admin: without the role", authz.TenantAdmin("admin"), store.Principal{Owner: ada}, store.AnyOwner(), none},
		{"grants", granting("ada", sharing.Editor), store.Principal{Owner: ada}, store.OwnedBy(bob), none},
		{"any of: only the owner's", anyOf, store.Principal{Owner: ada}, store.AnyOwner(), answer{store.OwnedBy(ada), true}},
		{"any of: the tenant's is wider", anyOf, store.Principal{Owner: ada, Roles: []string{"admin"}}, store.AnyOwner(), answer{store.InTenant("acme"), true}},
		{"any of: every owner's is widest", anyOf, store.Principal{Owner: ada, Roles: []string{"admin", "op"}}, store.AnyOwner(), answer{store.AnyOwner(), true}},
		{"any of: only a later scope has common rows", anyOf, store.Principal{Owner: ada, Roles: []string{"admin"}}, store.OwnedBy(bob), answer{store.OwnedBy(bob), true}},
		{"any of: the widest first", authz.AnyOf(authz.HasRole("op"), authz.OwnerOnly()), store.Principal{Owner: ada, Roles: []string{"op"}}, store.AnyOwner(), answer{store.AnyOwner(), true}},
		{"any of: scopes without common rows", authz.AnyOf(scoping{store.InTenant("x"), true}, scoping{store.InTenant("y"), true}), store.Principal{Owner: ada}, store.AnyOwner(), answer{store.InTenant("x"), true}},
		{"any of: the zero filter is no scope", authz.AnyOf(scoping{store.OwnerFilter{}, true}, authz.OwnerOnly()), store.Principal{Owner: ada}, store.AnyOwner(), answer{store.OwnedBy(ada), true}},
		{"any of: one that ignores the query", authz.AnyOf(scoping{store.AnyOwner(), true}), store.Principal{Owner: ada}, store.OwnedBy(ada), answer{store.OwnedBy(ada), true}},
		{"any of nothing", authz.AnyOf(), store.Principal{Owner: ada}, store.AnyOwner(), none},
		{"any of: a failure that could not have widened it", authz.AnyOf(failing{errors.New("x")}, authz.OwnerOnly()), store.Principal{Owner: ada}, store.OwnedBy(ada), answer{store.OwnedBy(ada), true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, ok, err := c.policy.Scope(t.Context(), c.who, c.asked)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				f = store.OwnerFilter{}
			}
			if d := cmp.Diff(c.want, answer{f, ok}, opaque); d != "" {
				t.Errorf("wrong scope (-want +got):\n%s\nwant %v, got %v", d, c.want, answer{f, ok})
			}
		})
	}
}

// TestScopeThatMayLackRowsFails checks that a listing fails if a failed policy might have added rows.
func TestScopeThatMayLackRowsFails(t *testing.T) {
	for name, p := range map[string]authz.Policy{
		"error": failing{errors.New(canary)},
		"panic": panicking{},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, authz.AnyOf(authz.OwnerOnly(), p))
			wants(t, errOf(w.LoadThreads(as(t, ada), store.ThreadQuery{Owner: store.AnyOwner()})), store.ErrUnavailable)
			page, err := w.LoadThreads(as(t, ada), store.ThreadQuery{})
			if err != nil || len(page.Data) != 1 {
				t.Errorf("own threads: got %v, %v", page.Data, err)
			}
		})
	}
}

// TestRolesOfShared checks which calls each role allows.
func TestRolesOfShared(t *testing.T) {
	type outcomes map[string]error
	calls := func(t *testing.T, s store.Store, ctx context.Context) outcomes {
		got := outcomes{}
		_, got["LoadThread"] = s.LoadThread(ctx, thr)
		page, err := s.LoadThreadItems(ctx, thr, store.PageQuery{})
		if err == nil && len(page.Data) == 0 {
			err = store.ErrNotFound // an empty page for a hidden thread
		}
		got["LoadThreadItems"] = err
		_, got["LoadItem"] = s.LoadItem(ctx, thr, msg)
		got["AddThreadItem"] = s.AddThreadItem(ctx, thr, message("msg_new"))
		got["SaveItem"] = s.SaveItem(ctx, thr, message(msg, atc))
		got["SaveThread"] = s.SaveThread(ctx, thread(thr, chat.Owner{}))
		got["DeleteThreadItem"] = s.DeleteThreadItem(ctx, thr, msg)
		got["DeleteThread"] = s.DeleteThread(ctx, thr)
		_, got["LoadAttachment"] = s.LoadAttachment(ctx, atc)
		got["DeleteAttachment"] = s.DeleteAttachment(ctx, atc)
		page2, err := s.LoadThreads(ctx, store.ThreadQuery{Owner: store.AnyOwner()})
		if err == nil && len(page2.Data) > 0 {
			err = fmt.Errorf("lists %v", page2.Data)
		}
		got["LoadThreads"] = err
		return got
	}
	for role, want := range map[sharing.Role]outcomes{
		sharing.NoRole: {"LoadThread": store.ErrNotFound, "LoadThreadItems": store.ErrNotFound, "LoadItem": store.ErrNotFound,
			"AddThreadItem": store.ErrNotFound, "SaveItem": store.ErrNotFound, "SaveThread": store.ErrConflict, "DeleteThreadItem": nil,
			"DeleteThread": nil, "LoadAttachment": store.ErrNotFound, "DeleteAttachment": nil, "LoadThreads": nil},
		sharing.Viewer: {"LoadThread": nil, "LoadThreadItems": nil, "LoadItem": nil,
			"AddThreadItem": store.ErrDenied, "SaveItem": store.ErrDenied, "SaveThread": store.ErrDenied, "DeleteThreadItem": store.ErrDenied,
			"DeleteThread": store.ErrDenied, "LoadAttachment": store.ErrNotFound, "DeleteAttachment": nil, "LoadThreads": nil},
		sharing.Editor: {"LoadThread": nil, "LoadThreadItems": nil, "LoadItem": nil,
			"AddThreadItem": nil, "SaveItem": nil, "SaveThread": nil, "DeleteThreadItem": nil,
			"DeleteThread": store.ErrDenied, "LoadAttachment": store.ErrNotFound, "DeleteAttachment": nil, "LoadThreads": nil},
		sharing.Role(9): {"LoadThread": store.ErrNotFound, "LoadThreadItems": store.ErrNotFound, "LoadItem": store.ErrNotFound,
			"AddThreadItem": store.ErrNotFound, "SaveItem": store.ErrNotFound, "SaveThread": store.ErrConflict, "DeleteThreadItem": nil,
			"DeleteThread": nil, "LoadAttachment": store.ErrNotFound, "DeleteAttachment": nil, "LoadThreads": nil},
	} {
		t.Run(fmt.Sprint(role), func(t *testing.T) {
			w := newWorld(t, granting("bob", role))
			for call, err := range calls(t, w, as(t, bob)) {
				if !errors.Is(err, want[call]) {
					t.Errorf("%s: got %v, want %v", call, err, want[call])
				}
			}
			got, err := w.base.LoadThread(t.Context(), thr)
			if err != nil || got.Owner != ada {
				t.Errorf("the thread is now %v of %v, %v", got, got.Owner, err)
			}
			if _, err := w.base.LoadAttachment(t.Context(), atc); err != nil {
				t.Errorf("the attachment: %v", err)
			}
		})
	}
}

// TestWithdrawnGrantEndsAtOnce checks that the policy is asked on every call.
func TestWithdrawnGrantEndsAtOnce(t *testing.T) {
	var role atomic.Uint32
	w := newWorld(t, sharedBy(func(context.Context, store.Principal, string) (sharing.Access, error) {
		return roleOf(sharing.Role(role.Load())), nil
	}))
	for _, c := range []struct {
		role        sharing.Role
		read, write error
	}{
		{sharing.NoRole, store.ErrNotFound, store.ErrNotFound},
		{sharing.Editor, nil, nil},
		{sharing.Viewer, nil, store.ErrDenied},
		{sharing.NoRole, store.ErrNotFound, store.ErrNotFound},
	} {
		role.Store(uint32(c.role))
		wants(t, errOf(w.LoadThread(as(t, bob), thr)), c.read)
		wants(t, w.SaveItem(as(t, bob), thr, message(msg)), c.write)
	}
}

// TestZeroDecisionIsDeny checks that every decision except Allow denies.
func TestZeroDecisionIsDeny(t *testing.T) {
	for _, d := range []authz.Decision{0, 2, 255} {
		w := newWorld(t, policyFunc(func(context.Context, authz.Request) (authz.Decision, error) { return d, nil }))
		wants(t, errOf(w.LoadThread(as(t, ada), thr)), store.ErrNotFound)
	}
}

// TestFailingPolicyDenies checks that every failure of a policy is ErrUnavailable, for existing and for missing rows, and that
// nothing is written.
func TestFailingPolicyDenies(t *testing.T) {
	for name, p := range map[string]authz.Policy{
		"error":         failing{errors.New(canary)},
		"panic":         panicking{},
		"timeout":       failing{context.DeadlineExceeded},
		"not found":     failing{store.ErrNotFound}, // from the policy's own store
		"nested, panic": authz.AnyOf(authz.AnyOf(panicking{}, authz.HasRole("none"))),
	} {
		for _, pr := range probes() {
			t.Run(fmt.Sprintf("%s/%v/%s", name, pr.op, pr.name), func(t *testing.T) {
				for _, n := range []names{there, nowhere} {
					w := newWorld(t, p)
					_, err := pr.call(caller{w, as(t, ada), n})
					wants(t, err, store.ErrUnavailable)
					for _, s := range sentinels {
						if want := s == store.ErrUnavailable || s == store.ErrNotApplied; errors.Is(err, s) != want {
							t.Errorf("errors.Is(err, %v) is %v", s, !want)
						}
					}
					if !store.IsDefinite(err) {
						t.Error("the error does not say that nothing was written")
					}
					if errors.Is(err, context.DeadlineExceeded) {
						t.Error("errors.Is takes the policy's timeout for the caller's")
					}
					unchanged(t, w)
					w.notWritten(t)
				}
			})
		}
	}
}

// TestAbsentRowsAreAbsentWhateverThePolicySays checks that the policy's decision about a missing row is ignored.
func TestAbsentRowsAreAbsentWhateverThePolicySays(t *testing.T) {
	for name, actions := range map[string][]authz.Action{"all": actions, "read only": {authz.Read}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, policyFunc(func(_ context.Context, r authz.Request) (authz.Decision, error) {
				if slices.Contains(actions, r.Action) {
					return authz.Allow, nil
				}
				return authz.Deny, nil
			}))
			ctx := as(t, eve)
			wants(t, errOf(w.LoadThread(ctx, noThr)), store.ErrNotFound)
			wants(t, w.AddThreadItem(ctx, noThr, message(msg)), store.ErrNotFound)
			wants(t, w.SaveThread(store.WithSaveMode(ctx, store.UpdateOnly), thread(noThr, chat.Owner{})), store.ErrNotFound)
			wants(t, w.DeleteThread(ctx, noThr), nil)
			wants(t, w.DeleteAttachment(ctx, noAtc), nil)
			w.notWritten(t)
		})
	}
}

// TestFailedReadQuestionDenies checks a failure of the second question, which is whether the caller may at least read the row.
func TestFailedReadQuestionDenies(t *testing.T) {
	p := policyFunc(func(_ context.Context, r authz.Request) (authz.Decision, error) {
		if r.Action == authz.Read {
			return authz.Allow, errors.New(canary)
		}
		return authz.Deny, nil
	})
	for _, id := range []string{thr, noThr} {
		w := newWorld(t, p)
		wants(t, w.DeleteThread(as(t, ada), id), store.ErrUnavailable)
		wants(t, w.SaveThread(as(t, ada), thread(id, chat.Owner{})), store.ErrUnavailable)
	}
}

// TestFailedCreateQuestionDenies checks that nothing is inserted if the policy fails on Create.
func TestFailedCreateQuestionDenies(t *testing.T) {
	w := newWorld(t, policyFunc(func(_ context.Context, r authz.Request) (authz.Decision, error) {
		if r.Action == authz.Create {
			return authz.Allow, errors.New(canary)
		}
		return authz.Deny, nil
	}))
	wants(t, w.SaveThread(as(t, ada), thread(noThr, chat.Owner{})), store.ErrUnavailable)
	wants(t, errOf(w.base.LoadThread(t.Context(), noThr)), store.ErrNotFound)
}

// TestCallerWhoLeavesDuringThePolicy checks that a caller whose context ends during the policy gets the context's error.
func TestCallerWhoLeavesDuringThePolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, policyFunc(func(ctx context.Context, _ authz.Request) (authz.Decision, error) {
			<-ctx.Done()
			return authz.Allow, ctx.Err()
		}))
		ctx, cancel := context.WithTimeout(as(t, ada), time.Second)
		defer cancel()
		err := w.DeleteThread(ctx, thr)
		if !errors.Is(err, context.DeadlineExceeded) || store.CodeOf(err) != store.CodeTimeout {
			t.Errorf("got %v", err)
		}
		unchanged(t, w)
	})
}

// TestGoexitInPolicy checks that Goexit ends only the goroutine: the call writes nothing, and the next call works.
func TestGoexitInPolicy(t *testing.T) {
	exit := atomic.Bool{}
	exit.Store(true)
	w := newWorld(t, policyFunc(func(context.Context, authz.Request) (authz.Decision, error) {
		if exit.Load() {
			runtime.Goexit()
		}
		return authz.Allow, nil
	}))
	done, returned := make(chan struct{}), false
	go func() {
		defer close(done)
		_ = w.DeleteThread(as(t, ada), thr)
		returned = true
	}()
	<-done
	if returned {
		t.Error("the call returned")
	}
	unchanged(t, w)
	exit.Store(false)
	must(t, w.DeleteThread(as(t, ada), thr))
}

func TestConstructionMisusePanics(t *testing.T) {
	for want, f := range map[string]func(){
		"authz.New: the policy is nil: ":         func() { authz.New(nil) },
		"authz.AnyOf: a policy is nil: ":         func() { authz.AnyOf(authz.OwnerOnly(), nil) },
		"authz.HasRole: the role is empty: ":     func() { authz.HasRole("") },
		"authz.TenantAdmin: the role is empty: ": func() { authz.TenantAdmin("") },
		"authz.Shared: the lookup is nil: ":      func() { authz.Shared(nil) },
	} {
		t.Run(want, func(t *testing.T) { testenv.Panics(t, want, f) })
	}
}

// TestPoliciesAreFixed checks that AnyOf copies its arguments.
func TestPoliciesAreFixed(t *testing.T) {
	list := []authz.Policy{authz.HasRole("none")}
	p := authz.AnyOf(list...)
	list[0] = authz.OwnerOnly()
	if d, _ := p.Decide(t.Context(), authz.Request{Principal: store.Principal{Owner: ada}, Owner: ada}); d != authz.Deny {
		t.Error("the policy changed with the slice that AnyOf got")
	}
}
