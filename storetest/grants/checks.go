package grants

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
)

// check is a promise of sharing.Grants.
type check struct {
	name string
	run  func(*harness)
}

var checks = []check{
	{"a subject", aSubject},
	{"a group is of the owner's tenant", aGroup},
	{"a tenant", aTenant},
	{"a principal that cannot own rows has no access", nobody},
	{"Access has the highest role and version", highest},
	{"Grant fills in At and Version", filledIn},
	{"Grant replaces the grant to the same grantee", replaced},
	{"Grant of a missing thread is ErrNotFound", missing},
	{"bad arguments are ErrInvalid", invalid},
	{"Revoke", revoked},
	{"pages have every grant once, the newest first", pages},
	{"SharedWith leaves out the caller's own threads", ownThreads},
	{"a limit of 0 means 20, and above 1,000 means 1,000", limits},
	{"a cursor outlives its grant", cursors},
	{"a deletion ends the grants", deletion},
	{"a failed deletion ends none", failedDeletion},
	{"erasing an owner", erasing},
	{"texts are kept as they are", hostile},
	{"a cancelled context is an error, and nothing is done", cancelled},
	{"no grant survives a deletion at the same time", concurrent},
}

func aSubject(h *harness) {
	id, other := h.thread(h.ada), h.thread(h.ada)
	cleo := h.person(h.acme, h.eng)
	namesake, alone := h.bob, h.bob
	namesake.Owner.Tenant, alone.Owner.Tenant = h.mint.ID("bold"), ""
	h.grant(id, subject(h.bob), sharing.Viewer)
	h.wantRole("granted", h.bob, id, sharing.Viewer, sharing.Viewer)
	h.wantRole("another thread", h.bob, other, 0, 0)
	for _, p := range []store.Principal{cleo, namesake, alone, {Owner: h.ada}} {
		h.wantRole("granted to bob", p, id, 0, 0)
	}
	h.grant(id, subject(alone), sharing.Editor) // of no tenant
	h.wantRole("of no tenant", alone, id, sharing.Editor, sharing.Editor)
	h.wantRole("of no tenant", h.bob, id, sharing.Viewer, sharing.Viewer)
}

func aGroup(h *harness) {
	id := h.thread(h.ada)
	h.grant(id, group(h.acme, h.eng), sharing.Editor)
	h.wantRole("has the role", h.bob, id, sharing.Editor, 0)
	bold := h.mint.ID("bold")
	for _, p := range []store.Principal{
		h.person(h.acme), h.person(h.acme, h.ops), h.person(bold, h.eng), h.person("", h.eng), h.person(h.eng),
	} {
		h.wantRole("is not in the group", p, id, 0, 0)
	}
	namesake := h.bob // a subject with the name of the group
	namesake.Owner.Subject, namesake.Roles = h.eng, nil
	h.wantRole("is not in the group", namesake, id, 0, 0)
	err := h.s.Grant(h.Context(), sharing.Grant{ThreadID: id, To: group(bold, h.eng), Role: sharing.Viewer})
	h.wantErr("Grant to a group of another tenant", err, store.CodeInvalid)
	untenanted := h.thread(chat.Owner{Subject: h.mint.ID("solo")})
	err = h.s.Grant(h.Context(), sharing.Grant{ThreadID: untenanted, To: group(h.acme, h.eng), Role: sharing.Viewer})
	h.wantErr("Grant to a group of an owner without a tenant", err, store.CodeInvalid)
}

func aTenant(h *harness) {
	id := h.thread(h.ada)
	bold := h.mint.ID("bold")
	h.grant(id, tenant(h.acme), sharing.Viewer)
	h.wantRole("of the tenant", h.bob, id, sharing.Viewer, 0)
	h.wantRole("of the tenant, without roles", h.person(h.acme), id, sharing.Viewer, 0)
	h.wantRole("of another tenant", h.person(bold, h.eng, h.acme), id, 0, 0)
	h.wantRole("of no tenant", h.person("", h.acme), id, 0, 0)
	h.grant(id, tenant(bold), sharing.Editor) // it need not be the owner's
	h.wantRole("of another tenant", h.person(bold), id, sharing.Editor, 0)
}

func nobody(h *harness) {
	id := h.thread(h.ada)
	h.grant(id, tenant(h.acme), sharing.Editor)
	h.grant(id, group(h.acme, h.eng), sharing.Editor)
	for _, o := range []chat.Owner{
		{}, {Tenant: h.acme}, {Tenant: h.acme, Subject: "a\x00b"}, {Tenant: h.acme, Subject: "\xff"}, {Tenant: h.acme + "\n", Subject: "a"},
	} {
		p := store.Principal{Owner: o, Roles: []string{h.eng}}
		h.wantRole("cannot own rows", p, id, 0, 0)
		h.wantAll("cannot own rows", h.sharedWith(p), nil)
	}
	odd := h.person(h.acme, "", "a\x00b", "\xff", strings.Repeat("x", 300), h.eng, h.eng)
	h.wantRole("roles that are no ids", odd, id, sharing.Editor, 0)
	h.wantAll("roles that are no ids", h.sharedWith(odd), h.model(odd, id))
}

func highest(h *harness) {
	id := h.thread(h.ada)
	h.grant(id, group(h.acme, h.eng), sharing.Editor)
	h.save(id, h.ada)
	h.grant(id, tenant(h.acme), sharing.Viewer)
	h.save(id, h.ada)
	h.grant(id, subject(h.bob), sharing.Viewer)
	version := h.version(id)
	h.save(id, h.ada)
	h.grant(id, subject(h.person(h.acme)), sharing.Editor) // somebody else's
	if a, want := h.access(h.bob, id), (sharing.Access{Role: sharing.Editor, Direct: sharing.Viewer, Version: version}); a != want {
		h.Errorf("Access is %+v, want %+v", a, want)
	}
}

func filledIn(h *harness) {
	id := h.thread(h.ada)
	h.save(id, h.ada)
	begin, version := time.Now().Truncate(time.Microsecond), h.version(id)
	odd := sharing.Grant{ThreadID: id, To: subject(h.bob), Role: sharing.Viewer, By: h.ada, Version: 99, At: begin.Add(-time.Hour)}
	h.must("Grant", h.s.Grant(h.Context(), odd))
	g := h.granted(id, subject(h.bob))
	want := sharing.Grant{ThreadID: id, To: subject(h.bob), Role: sharing.Viewer, By: h.ada, At: g.At, Version: version}
	if !same(g, want) {
		h.Errorf("got %+v, want %+v", g, want)
	}
	if g.At.Before(begin) || g.At.After(time.Now()) || g.At.Location() != time.UTC || g.At.Nanosecond()%1000 != 0 {
		h.Errorf("At is %v, want the time of the call, in UTC and microseconds", g.At)
	}
	if n := h.version(id); n != version {
		h.Errorf("Grant changed the thread's version from %d to %d", version, n)
	}
}

func replaced(h *harness) {
	id := h.thread(h.ada)
	h.grant(id, subject(h.bob), sharing.Editor)
	first := h.granted(id, subject(h.bob))
	h.save(id, h.ada)
	by := h.person(h.acme).Owner
	h.must("Grant", h.s.Grant(h.Context(), sharing.Grant{ThreadID: id, To: subject(h.bob), Role: sharing.Viewer, By: by}))
	second := h.granted(id, subject(h.bob))
	if second.Role != sharing.Viewer || second.By != by || second.Version != h.version(id) || second.At.Before(first.At) {
		h.Errorf("after a second Grant: got %+v, the first was %+v", second, first)
	}
	h.wantAll("after a second Grant", h.grantees(id), []sharing.Grant{second})
	h.wantAll("after a second Grant", h.sharedWith(h.bob), []sharing.Grant{second})
	h.wantRole("after a second Grant", h.bob, id, sharing.Viewer, sharing.Viewer)
}

func invalid(h *harness) {
	id := h.thread(h.ada)
	long := strings.Repeat("x", 257)
	good := sharing.Grant{ThreadID: id, To: subject(h.bob), Role: sharing.Viewer, By: h.ada}
	refused := func(what string, err error) {
		h.Helper()
		h.wantErr(what, err, store.CodeInvalid)
		if e, ok := errors.AsType[*store.Error](err); !ok || e.Code != store.CodeInvalid || e.Field == "" {
			h.Errorf("%s: the error is no *store.Error with a Field: %#v", what, err)
		}
	}
	for _, bad := range []string{"", "a\x00b", "a\n", "\xff", long} {
		g := good
		g.ThreadID = bad
		refused("Grant with a bad id", h.s.Grant(h.Context(), g))
		refused("Revoke with a bad id", h.s.Revoke(h.Context(), bad, g.To))
		_, err := h.s.Access(h.Context(), h.bob, bad)
		refused("Access with a bad id", err)
		_, err = h.s.Grantees(h.Context(), bad, "", 1)
		refused("Grantees with a bad id", err)
		if bad != "" {
			for _, to := range []sharing.Grantee{
				{Tenant: bad, Subject: "bob"}, {Tenant: h.acme, Subject: bad}, group(h.acme, bad), group(bad, h.eng), tenant(bad),
			} {
				g := good
				g.To = to
				refused("Grant to a bad grantee", h.s.Grant(h.Context(), g))
				refused("Revoke from a bad grantee", h.s.Revoke(h.Context(), id, to))
			}
			g = good
			g.By.Subject = bad
			refused("Grant by a bad owner", h.s.Grant(h.Context(), g))
		}
	}
	for _, to := range []sharing.Grantee{{}, group("", h.eng), {Tenant: h.acme, Subject: "bob", Group: h.eng}} {
		g := good
		g.To = to
		refused("Grant to a bad grantee", h.s.Grant(h.Context(), g))
		refused("Revoke from a bad grantee", h.s.Revoke(h.Context(), id, to))
	}
	for _, role := range []sharing.Role{sharing.NoRole, sharing.Editor + 1, 255} {
		g := good
		g.Role = role
		refused("Grant of a bad role", h.s.Grant(h.Context(), g))
	}
	h.grant(id, good.To, sharing.Viewer)
	h.grant(id, tenant(h.acme), sharing.Viewer)
	p, err := h.s.Grantees(h.Context(), id, "", 1)
	h.must("Grantees", err)
	for _, after := range []string{"x", id, p.After + "A", p.After[:len(p.After)-1], p.After + "\n", p.After + "\r\n", "\x00", " "} {
		for _, list := range []listing{h.grantees(id), h.sharedWith(h.bob)} {
			_, err := list(after, 1)
			refused(fmt.Sprintf("After %q", after), err)
		}
	}
	for _, list := range []listing{h.grantees(id), h.sharedWith(h.bob)} {
		_, err := list("", -1)
		refused("a negative limit", err)
	}
	h.wantRole("after refused calls", h.bob, id, sharing.Viewer, sharing.Viewer)
}

func revoked(h *harness) {
	id, other := h.thread(h.ada), h.thread(h.ada)
	for _, to := range []sharing.Grantee{subject(h.bob), group(h.acme, h.eng), tenant(h.acme)} {
		h.grant(id, to, sharing.Editor)
	}
	h.grant(other, subject(h.bob), sharing.Viewer)
	for _, step := range []struct {
		from         sharing.Grantee
		role, direct sharing.Role
	}{
		{group(h.acme, h.ops), sharing.Editor, sharing.Editor}, // there is none
		{subject(h.bob), sharing.Editor, 0}, {subject(h.bob), sharing.Editor, 0},
		{tenant(h.acme), sharing.Editor, 0}, {group(h.acme, h.eng), 0, 0},
	} {
		h.must("Revoke", h.s.Revoke(h.Context(), id, step.from))
		h.wantRole(fmt.Sprintf("after Revoke from %+v", step.from), h.bob, id, step.role, step.direct)
	}
	h.wantAll("after all were revoked", h.grantees(id), nil)
	h.wantRole("another thread", h.bob, other, sharing.Viewer, sharing.Viewer)
}
