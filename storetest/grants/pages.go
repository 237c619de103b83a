package grants

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
)

// model returns what SharedWith must list of these threads.
func (h *harness) model(p store.Principal, ids ...string) (want []sharing.Grant) {
	h.Helper()
	who := map[sharing.Grantee]bool{}
	for _, to := range sharing.GranteesOf(p) {
		who[to] = true
	}
	for _, id := range ids {
		var newest sharing.Grant
		for _, g := range h.all(h.grantees(id), store.MaxLimit) {
			if who[g.To] && (newest.ThreadID == "" || newest.Place().Compare(g.Place()) < 0) {
				newest = g
			}
		}
		if newest.ThreadID != "" {
			want = append(want, newest)
		}
	}
	return want
}

func pages(h *harness) {
	people := []store.Principal{h.bob, h.person(h.acme, h.ops), h.person(h.acme), h.person(h.mint.ID("bold"), h.eng)}
	var to []sharing.Grantee
	for _, p := range people {
		to = append(to, subject(p), tenant(p.Owner.Tenant))
	}
	to = append(to, group(h.acme, h.eng), group(h.acme, h.ops))
	ids := make([]string, 6)
	kept := map[string]map[sharing.Grantee]sharing.Role{}
	for i := range ids {
		ids[i] = h.thread(h.ada)
		kept[ids[i]] = map[sharing.Grantee]sharing.Role{}
	}
	random := rand.New(rand.NewPCG(1, 2))
	var last time.Time
	for range 60 {
		id, to := ids[random.IntN(len(ids))], to[random.IntN(len(to))]
		if random.IntN(5) == 0 {
			h.must("Revoke", h.s.Revoke(h.Context(), id, to))
			delete(kept[id], to)
			continue
		}
		role := sharing.Viewer + sharing.Role(random.IntN(2))
		h.grant(id, to, role)
		kept[id][to] = role
		if at := h.granted(id, to).At; at.Before(last) {
			h.Errorf("a later Grant has the earlier time %v, before %v", at, last)
		} else {
			last = at
		}
	}
	for _, id := range ids {
		var want []sharing.Grant
		for to, role := range kept[id] {
			g := h.granted(id, to)
			if g.Role != role {
				h.Errorf("the grant to %+v has role %d, want %d", to, g.Role, role)
			}
			want = append(want, g)
		}
		h.wantAll("Grantees", h.grantees(id), want)
	}
	for _, p := range people {
		h.wantAll("SharedWith", h.sharedWith(p), h.model(p, ids...))
	}
}

func ownThreads(h *harness) {
	id, own := h.thread(h.ada), h.thread(h.bob.Owner)
	for _, id := range []string{id, own} {
		h.grant(id, tenant(h.acme), sharing.Viewer)
	}
	h.grant(own, subject(h.bob), sharing.Editor)
	h.wantAll("SharedWith", h.sharedWith(h.bob), h.model(h.bob, id))
	h.wantAll("SharedWith", h.sharedWith(store.Principal{Owner: h.ada}), h.model(store.Principal{Owner: h.ada}, own))
	h.wantRole("Access does not look at the owner", h.bob, own, sharing.Editor, sharing.Editor)
	if a := h.access(store.Principal{Owner: h.ada}, h.thread(h.ada)); a != (sharing.Access{}) {
		h.Errorf("the owner's Access without grants is %+v, want zero", a)
	}
}

func limits(h *harness) {
	const n = store.MaxLimit + 1
	ids := make([]string, 21)
	for i := range ids {
		ids[i] = h.thread(h.ada)
		h.grant(ids[i], subject(h.bob), sharing.Viewer)
	}
	for i := range n {
		h.grant(ids[0], sharing.Grantee{Subject: fmt.Sprint("s", i)}, sharing.Viewer)
	}
	for _, c := range []struct {
		list        listing
		limit, want int
	}{
		{h.grantees(ids[0]), 0, store.DefaultLimit}, {h.sharedWith(h.bob), 0, store.DefaultLimit},
		{h.grantees(ids[0]), n + 1, store.MaxLimit}, {h.sharedWith(h.bob), n, len(ids)},
	} {
		p, err := c.list("", c.limit)
		h.must("a listing", err)
		if len(p.Data) != c.want {
			h.Errorf("a page with limit %d has %d grants, want %d", c.limit, len(p.Data), c.want)
		}
	}
}

// cursors revokes, and grants again, the last grant of a page.
func cursors(h *harness) {
	var ids []string
	thread := h.thread(h.ada)
	for range 5 {
		ids = append(ids, h.thread(h.ada))
		h.grant(ids[len(ids)-1], subject(h.bob), sharing.Viewer)
		h.grant(thread, subject(h.person(h.acme)), sharing.Viewer)
	}
	for name, list := range map[string]listing{"Grantees": h.grantees(thread), "SharedWith": h.sharedWith(h.bob)} {
		all := h.all(list, store.MaxLimit)
		p, err := list("", 2)
		h.must(name, err)
		for _, change := range []string{"", "revoked", "granted again"} {
			g := all[1]
			switch change {
			case "revoked":
				h.must("Revoke", h.s.Revoke(h.Context(), g.ThreadID, g.To))
			case "granted again":
				h.grant(g.ThreadID, g.To, sharing.Editor)
			}
			rest := h.all(func(after string, limit int) (store.Page[sharing.Grant], error) {
				if after == "" {
					after = p.After
				}
				return list(after, limit)
			}, 2)
			if fmt.Sprint(rest) != fmt.Sprint(all[2:]) {
				h.Errorf("%s: behind a grant that is %s\n\tgot  %v\n\twant %v", name, change, rest, all[2:])
			}
		}
	}
}
