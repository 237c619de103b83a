package sharing_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
)

// guarded is a stack that shows a principal its own threads and those with a grant to it. Package authz cannot be imported here.
func guarded(g sharing.Store) store.Store {
	return store.Wrap(g, layer.Intercept("guard", layer.InterceptorFunc(func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
		p, _ := store.PrincipalFrom(ctx)
		t, err := g.LoadThread(ctx, c.ThreadID)
		if err == nil && t.Owner != p.Owner {
			var a sharing.Access
			if a, err = g.Access(ctx, p, c.ThreadID); err == nil && a.Role == sharing.NoRole {
				err = &store.Error{Op: c.Op, Kind: store.RowThread, ID: c.ThreadID, Code: store.CodeNotFound}
			}
		}
		if err != nil {
			return err
		}
		return next(ctx)
	})))
}

// as returns a context of the principal.
func as(t *testing.T, o chat.Owner, roles ...string) context.Context {
	return store.WithPrincipal(t.Context(), store.Principal{Owner: o, Roles: roles})
}

var cleo = chat.Owner{Tenant: "acme", Subject: "cleo"}

func TestOnlyTheOwnerShares(t *testing.T) {
	g, _ := faults(t) // bob can read thr_1
	s := guarded(g)
	toCleo := sharing.Grantee{Tenant: "acme", Subject: "cleo"}
	for name, c := range map[string]struct {
		ctx  context.Context
		id   string
		to   sharing.Grantee
		role sharing.Role
		want store.Code
	}{
		"the owner":               {as(t, ada), "thr_1", toCleo, sharing.Editor, store.CodeOK},
		"a viewer":                {as(t, bob.Owner), "thr_1", toCleo, sharing.Viewer, store.CodeDenied},
		"a stranger":              {as(t, chat.Owner{Tenant: "acme", Subject: "dan"}), "thr_1", toCleo, sharing.Viewer, store.CodeNotFound},
		"a missing thread":        {as(t, ada), "thr_9", toCleo, sharing.Viewer, store.CodeNotFound},
		"no principal":            {t.Context(), "thr_1", toCleo, sharing.Viewer, store.CodeUnauthenticated},
		"no subject":              {as(t, chat.Owner{Tenant: "acme"}), "thr_1", toCleo, sharing.Viewer, store.CodeUnauthenticated},
		"bad arguments are first": {t.Context(), "thr_1", toCleo, sharing.NoRole, store.CodeInvalid},
		"another tenant's group":  {as(t, ada), "thr_1", sharing.Grantee{Tenant: "bold", Group: "eng"}, sharing.Viewer, store.CodeInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			if err := sharing.Share(c.ctx, s, g, c.id, c.to, c.role); store.CodeOf(err) != c.want {
				t.Errorf("Share: %v, want %v", err, c.want)
			}
		})
	}
	p, err := g.Grantees(t.Context(), "thr_1", "", 0)
	must(t, err)
	if len(p.Data) != 2 || p.Data[0].To != toCleo || p.Data[0].By != ada || p.Data[0].Role != sharing.Editor {
		t.Errorf("got %+v", p.Data)
	}
}

func TestTheOwnerOrTheSubjectItselfUnshares(t *testing.T) {
	for name, c := range map[string]struct {
		ctx  context.Context
		from sharing.Grantee
		want store.Code
	}{
		"the owner":                  {as(t, ada), toB, store.CodeOK},
		"the subject":                {as(t, bob.Owner), toB, store.CodeOK},
		"another reader":             {as(t, cleo), toB, store.CodeDenied},
		"a stranger":                 {as(t, chat.Owner{Tenant: "acme", Subject: "dan"}), toB, store.CodeNotFound},
		"a namesake":                 {as(t, chat.Owner{Tenant: "bold", Subject: "bob"}), toB, store.CodeNotFound},
		"a member of the group":      {as(t, bob.Owner, "eng"), sharing.Grantee{Tenant: "acme", Group: "eng"}, store.CodeDenied},
		"no principal":               {t.Context(), toB, store.CodeUnauthenticated},
		"a namesake without subject": {as(t, chat.Owner{Tenant: "acme"}), sharing.Grantee{Tenant: "acme"}, store.CodeUnauthenticated},
		"bad arguments are first":    {t.Context(), sharing.Grantee{}, store.CodeInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			g, _ := faults(t)
			for _, to := range []sharing.Grantee{{Tenant: "acme", Subject: "cleo"}, {Tenant: "acme", Group: "eng"}} {
				must(t, g.Grant(t.Context(), sharing.Grant{ThreadID: "thr_1", To: to, Role: sharing.Viewer}))
			}
			if err := sharing.Unshare(c.ctx, guarded(g), g, "thr_1", c.from); store.CodeOf(err) != c.want {
				t.Errorf("Unshare: %v, want %v", err, c.want)
			}
			p, err := g.Grantees(t.Context(), "thr_1", "", 0)
			must(t, err)
			if left := len(p.Data); (left == 2) != (c.want == store.CodeOK) {
				t.Errorf("%d grants are left", left)
			}
		})
	}
}

// A thread that is revoked between the two calls of List is left out, and the next page begins behind it.
func TestListLeavesOutWhatCannotBeRead(t *testing.T) {
	f := faulty.New(memstore.New())
	g := sharing.New(f)
	for i := range 7 {
		id := fmt.Sprintf("thr_%d", i)
		must(t, g.SaveThread(t.Context(), chat.Thread{ID: id, CreatedAt: time.Now(), Owner: ada}))
		must(t, g.Grant(t.Context(), sharing.Grant{ThreadID: id, To: toB, Role: sharing.Viewer}))
	}
	s := guarded(g)
	f.Inject(faulty.Fault{Op: store.OpLoadThread, When: func(c layer.Call) bool { return c.ThreadID == "thr_5" || c.ThreadID == "thr_1" },
		Do: faulty.Fail(&store.Error{Code: store.CodeNotFound})})
	f.Inject(faulty.Fault{Op: store.OpLoadThread, When: func(c layer.Call) bool { return c.ThreadID == "thr_2" }, Do: faulty.Fail(&store.Error{Code: store.CodeDenied})})
	var got []string
	for after := ""; ; {
		p, err := sharing.List(as(t, bob.Owner), s, g, after, 2)
		must(t, err)
		var ids []string
		for _, th := range p.Data {
			ids = append(ids, th.ID)
		}
		got = append(got, fmt.Sprint(ids))
		if after = p.After; !p.HasMore {
			break
		}
	}
	if want := "[[thr_6] [thr_4 thr_3] [] [thr_0]]"; fmt.Sprint(got) != want {
		t.Errorf("pages: %v, want %s", got, want)
	}
}

func TestListFailsOnOtherErrors(t *testing.T) {
	g, f := faults(t)
	s := guarded(g)
	if _, err := sharing.List(t.Context(), s, g, "", 0); !errors.Is(err, store.ErrUnauthenticated) {
		t.Errorf("without a principal: %v", err)
	}
	if _, err := sharing.List(as(t, bob.Owner), s, g, "x", 0); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("another After: %v", err)
	}
	f.Inject(faulty.Fault{Op: store.OpLoadThread, Do: faulty.Fail(nil)})
	if p, err := sharing.List(as(t, bob.Owner), s, g, "", 0); !errors.Is(err, store.ErrUnavailable) || len(p.Data) > 0 {
		t.Errorf("an unavailable base: %+v, %v", p, err)
	}
}

func TestGranteesOf(t *testing.T) {
	subject := sharing.Grantee{Tenant: "acme", Subject: "ada"}
	for _, c := range []struct {
		p    store.Principal
		want []sharing.Grantee
	}{
		{store.Principal{Owner: ada, Roles: []string{"ops", "eng", "ops", "", "a\x00"}}, []sharing.Grantee{
			subject, {Tenant: "acme"}, {Tenant: "acme", Group: "eng"}, {Tenant: "acme", Group: "ops"},
		}},
		{store.Principal{Owner: ada}, []sharing.Grantee{subject, {Tenant: "acme"}}},
		{store.Principal{Owner: chat.Owner{Subject: "ada"}, Roles: []string{"eng"}}, []sharing.Grantee{{Subject: "ada"}}},
		{store.Principal{Owner: chat.Owner{Tenant: "acme"}, Roles: []string{"eng"}}, nil},
		{store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "\xff"}, Roles: []string{"eng"}}, nil},
	} {
		if got := sharing.GranteesOf(c.p); !slices.Equal(got, c.want) {
			t.Errorf("%+v: got %v, want %v", c.p, got, c.want)
		}
	}
}
