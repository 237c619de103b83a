package grants

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// This file has the checks of how grants end, and of hostile arguments.

func missing(h *harness) {
	deleted := h.thread(h.ada)
	h.must("DeleteThread", h.s.DeleteThread(h.Context(), deleted))
	for _, id := range []string{h.mint.ID("thr"), deleted} {
		h.wantErr("Grant", h.s.Grant(h.Context(), sharing.Grant{ThreadID: id, To: subject(h.bob), Role: sharing.Viewer}), store.CodeNotFound)
		h.must("Revoke", h.s.Revoke(h.Context(), id, subject(h.bob)))
		h.wantAll("a missing thread", h.grantees(id), nil)
		h.wantRole("a missing thread", h.bob, id, 0, 0)
	}
	unowned := h.thread(chat.Owner{})
	for _, to := range []sharing.Grantee{subject(h.bob), tenant(h.acme), group(h.acme, h.eng)} {
		err := h.s.Grant(h.Context(), sharing.Grant{ThreadID: unowned, To: to, Role: sharing.Viewer})
		h.wantErr("Grant of a thread without an owner", err, store.CodeInvalid)
	}
}

func deletion(h *harness) {
	id, other := h.thread(h.ada), h.thread(h.ada)
	all := []sharing.Grantee{subject(h.bob), group(h.acme, h.eng), tenant(h.acme)}
	for _, to := range all {
		h.grant(id, to, sharing.Editor)
	}
	h.grant(other, subject(h.bob), sharing.Viewer)
	h.must("DeleteThread", h.s.DeleteThread(h.Context(), id))
	gone := func(when string) {
		h.Helper()
		h.wantRole(when, h.bob, id, 0, 0)
		h.wantAll(when, h.grantees(id), nil)
		h.wantAll(when, h.sharedWith(h.bob), h.model(h.bob, other))
	}
	gone("after DeleteThread")
	h.save(id, h.ada)
	gone("when the thread was made again")
	h.grant(id, subject(h.bob), sharing.Viewer)
	h.wantRole("granted again", h.bob, id, sharing.Viewer, sharing.Viewer)
	h.wantRole("another thread", h.bob, other, sharing.Viewer, sharing.Viewer)
}

func failedDeletion(h *harness) {
	id := h.thread(h.ada)
	h.grant(id, subject(h.bob), sharing.Viewer)
	ctx, cancel := context.WithCancel(h.Context())
	cancel()
	h.wantErr("DeleteThread in a cancelled context", h.s.DeleteThread(ctx, id), store.CodeCanceled)
	if n := h.version(id); n > 0 {
		err := h.s.DeleteThread(store.IfVersion(h.Context(), id, n+7), id)
		h.wantErr("DeleteThread under another version", err, store.CodeConflict)
	}
	h.wantRole("after a failed deletion", h.bob, id, sharing.Viewer, sharing.Viewer)
	h.wantAll("after a failed deletion", h.sharedWith(h.bob), h.model(h.bob, id))
}

func erasing(h *harness) {
	e, ok := store.As[driver.Eraser](h.s)
	if !ok {
		h.Skipf("skipped: the Store is no driver.Eraser")
	}
	cleo := h.person(h.acme)
	mine, bobs := h.thread(h.ada), h.thread(h.bob.Owner)
	own := h.thread(cleo.Owner)
	h.grant(own, subject(h.bob), sharing.Viewer)
	h.grant(mine, subject(cleo), sharing.Viewer)
	h.grant(mine, tenant(h.acme), sharing.Viewer)
	h.must("Grant", h.s.Grant(h.Context(), sharing.Grant{ThreadID: bobs, To: tenant(h.acme), Role: sharing.Editor, By: cleo.Owner}))
	_, err := e.EraseOwner(h.Context(), chat.Owner{})
	h.wantErr("EraseOwner of nobody", err, store.CodeInvalid)
	kept := h.granted(mine, tenant(h.acme))
	_, err = e.EraseOwner(h.Context(), cleo.Owner)
	h.must("EraseOwner", err)
	h.wantRole("a thread of the erased owner", h.bob, own, 0, 0)
	h.wantAll("a thread of the erased owner", h.grantees(own), nil)
	h.wantRole("granted to the erased owner and to its tenant", cleo, mine, sharing.Viewer, 0)
	h.wantAll("granted to the erased owner and to its tenant", h.grantees(mine), []sharing.Grant{kept})
	if g := h.granted(bobs, tenant(h.acme)); g.By != (chat.Owner{}) || g.Role != sharing.Editor {
		h.Errorf("a grant by the erased owner is %+v, want it without By", g)
	}
	err = h.s.Grant(h.Context(), sharing.Grant{ThreadID: own, To: subject(h.bob), Role: sharing.Viewer})
	h.wantErr("Grant of an erased thread", err, store.CodeNotFound)
}

func hostile(h *harness) {
	texts := []string{
		`'; DROP TABLE "x" --`, "100%_", "\U0001F600\u00e9", `\`, `","`, "a b ", "A", "a", "null", "\u202e", "$1", "{threads}",
		strings.Repeat("x", 256),
	}
	run := h.mint.ID("")
	var want []sharing.Grant
	id := h.thread(h.ada)
	for i, text := range texts {
		name := text
		if len(text) < 200 {
			name += run
		}
		p := store.Principal{Owner: chat.Owner{Tenant: name, Subject: name}, Roles: []string{text}}
		thread := (text + strings.Repeat(run, 9))[:100+i]
		if i == 2 {
			thread = text + run
		}
		h.save(thread, chat.Owner{Tenant: name, Subject: "owner"})
		for _, to := range []sharing.Grantee{subject(p), group(name, text), tenant(name)} {
			role := sharing.Viewer
			if to.Group != "" {
				role = sharing.Editor
			}
			h.must("Grant", h.s.Grant(h.Context(), sharing.Grant{ThreadID: thread, To: to, Role: role, By: p.Owner}))
			if g := h.granted(thread, to); g.By != p.Owner || g.ThreadID != thread {
				h.Errorf("got %+v", g)
			}
		}
		h.grant(id, subject(p), sharing.Viewer)
		want = append(want, h.granted(id, subject(p)))
		h.wantRole(fmt.Sprintf("with the text %q", text), p, thread, sharing.Editor, sharing.Viewer)
		h.wantAll("SharedWith", h.sharedWith(p), h.model(p, thread, id))
		for _, other := range texts {
			if other != text {
				h.wantRole("another role", h.person(name, other), thread, sharing.Viewer, 0)
				h.wantRole("another tenant", h.person(other+run, text), thread, 0, 0)
			}
		}
		h.must("Revoke", h.s.Revoke(h.Context(), thread, subject(p)))
		h.wantRole("revoked", p, thread, sharing.Editor, 0)
	}
	h.wantAll("Grantees", h.grantees(id), want)
}

func cancelled(h *harness) {
	id := h.thread(h.ada)
	h.grant(id, subject(h.bob), sharing.Viewer)
	cause := errors.New("cause")
	ctx, cancel := context.WithCancelCause(h.Context())
	cancel(cause)
	_, access := h.s.Access(ctx, h.bob, id)
	_, grantees := h.s.Grantees(ctx, id, "", 1)
	_, shared := h.s.SharedWith(ctx, h.bob, "", 1)
	grant := h.s.Grant(ctx, sharing.Grant{ThreadID: id, To: tenant(h.acme), Role: sharing.Viewer})
	revoke := h.s.Revoke(ctx, id, subject(h.bob))
	for name, err := range map[string]error{"Access": access, "Grantees": grantees, "SharedWith": shared, "Grant": grant, "Revoke": revoke} {
		h.wantErr(name, err, store.CodeCanceled)
		if !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
			h.Errorf("%s: the error does not wrap context.Canceled and the cause: %v", name, err)
		}
	}
	for _, err := range []error{grant, revoke} {
		if !errors.Is(err, store.ErrNotApplied) {
			h.Errorf("the error does not wrap store.ErrNotApplied: %v", err)
		}
	}
	h.wantErr("bad arguments come first", h.s.Revoke(ctx, id, sharing.Grantee{}), store.CodeInvalid)
	_, err := h.s.Grantees(ctx, id, "", -1)
	h.wantErr("bad arguments come first", err, store.CodeInvalid)
	err = h.s.Grant(ctx, sharing.Grant{ThreadID: h.mint.ID("thr"), To: tenant(h.acme), Role: sharing.Viewer})
	h.wantErr("the context comes before the thread", err, store.CodeCanceled)
	h.wantAll("after cancelled calls", h.grantees(id), []sharing.Grant{h.granted(id, subject(h.bob))})
}

func concurrent(h *harness) {
	for range 30 {
		id := h.thread(h.ada)
		var all sync.WaitGroup
		for _, to := range []sharing.Grantee{subject(h.bob), group(h.acme, h.eng), tenant(h.acme)} {
			all.Go(func() {
				for range 5 {
					err := h.s.Grant(h.Context(), sharing.Grant{ThreadID: id, To: to, Role: sharing.Viewer, By: h.ada})
					if err != nil && !errors.Is(err, store.ErrNotFound) {
						h.Errorf("Grant: %v", err)
					}
					a, err := h.s.Access(h.Context(), h.bob, id)
					if err != nil || a.Role > sharing.Viewer {
						h.Errorf("Access: %+v, %v", a, err)
					}
				}
			})
		}
		all.Go(func() {
			if err := h.s.DeleteThread(h.Context(), id); err != nil {
				h.Errorf("DeleteThread: %v", err)
			}
		})
		all.Wait()
		h.wantRole("granted while it was deleted", h.bob, id, 0, 0)
		h.wantAll("granted while it was deleted", h.grantees(id), nil)
	}
	h.wantAll("granted while they were deleted", h.sharedWith(h.bob), nil)
}
