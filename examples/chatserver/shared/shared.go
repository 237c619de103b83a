// Package shared lets users share their conversations: with whom, as what, and which ones are shared with them. The grants are in
// the store's database, and authz.Shared asks for them on every call.
package shared

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/examples/chatserver/identity"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
)

// Handlers has the handlers. Each needs the caller's [store.Principal] in the request's context. They are safe for concurrent use.
type Handlers struct {
	store  store.Store
	grants sharing.Grants
}

// New returns the handlers for the grants in g of the threads in s, the guarded stack.
func New(s store.Store, g sharing.Grants) *Handlers { return &Handlers{s, g} }

const (
	maxBody = 4 << 10 // bytes of a request
	maxRows = 100
)

// roleNames has the roles as the page names them.
var roleNames = map[sharing.Role]string{sharing.NoRole: "none", sharing.Viewer: "viewer", sharing.Editor: "editor"}

// row is a conversation of another user. Role is viewer or editor.
type row struct {
	ID        string    `json:"id"`
	Title     string    `json:"title,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	By        string    `json:"by"`
	Role      string    `json:"role"`
}

// grantee is a user with whom a conversation is shared.
type grantee struct {
	User string `json:"user"`
	Role string `json:"role"`
}

// List serves GET /shared: the conversations that others share with the caller, the last shared first. At most 100 are listed.
func (h *Handlers) List(w http.ResponseWriter, r *http.Request) {
	answer(w, func() (any, error) {
		rows := []row{}
		p, _ := store.PrincipalFrom(r.Context())
		page, err := h.grants.SharedWith(r.Context(), p, "", maxRows)
		if err != nil {
			return nil, err
		}
		for _, g := range page.Data {
			t, err := h.store.LoadThread(r.Context(), g.ThreadID)
			switch store.CodeOf(err) {
			case store.CodeOK:
				rows = append(rows, row{t.ID, t.Title, t.CreatedAt, t.Owner.Subject, roleNames[g.Role]})
			case store.CodeNotFound, store.CodeDenied: // ended since the listing
			default:
				return nil, err
			}
		}
		return map[string]any{"data": rows}, nil
	})
}

// access is what the caller may do with a conversation of user By. Role is owner, viewer or editor. Only the owner gets Data.
type access struct {
	By   string    `json:"by"`
	Role string    `json:"role"`
	Data []grantee `json:"data,omitempty"`
}

// Show serves GET /shared/{id}: the conversation's owner and the caller's role. The owner also gets the grantees.
func (h *Handlers) Show(w http.ResponseWriter, r *http.Request) {
	answer(w, func() (any, error) {
		p, _ := store.PrincipalFrom(r.Context())
		id := r.PathValue("id")
		t, err := h.store.LoadThread(r.Context(), id)
		if err != nil {
			return nil, err
		}
		if t.Owner != p.Owner {
			a, err := h.grants.Access(r.Context(), p, id)
			return access{By: t.Owner.Subject, Role: roleNames[a.Role]}, err
		}
		page, err := h.grants.Grantees(r.Context(), id, "", maxRows)
		if err != nil {
			return nil, err
		}
		users := []grantee{}
		for _, g := range page.Data {
			users = append(users, grantee{g.To.Subject, roleNames[g.Role]})
		}
		return access{t.Owner.Subject, "owner", users}, nil
	})
}

// Change serves PUT /shared/{id} with a grantee: it shares the caller's conversation, or ends that if the role is "none".
func (h *Handlers) Change(w http.ResponseWriter, r *http.Request) {
	answer(w, func() (any, error) {
		var to grantee
		text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err == nil {
			err = json.Unmarshal(text, &to)
		}
		if err != nil {
			return nil, chatkit.StatusError{Status: http.StatusBadRequest, Code: store.CodeInvalid.String(), Message: "body: want a user and a role"}
		}
		return map[string]any{}, h.change(r.Context(), r.PathValue("id"), to)
	})
}

func (h *Handlers) change(ctx context.Context, threadID string, to grantee) error {
	p, _ := store.PrincipalFrom(ctx)
	other := sharing.Grantee{Tenant: p.Owner.Tenant, Subject: to.User}
	if !identity.Valid(to.User) { // an empty name would mean all users
		return invalid(threadID, "user: missing, or not a name that a user can have")
	}
	if to.User == p.Owner.Subject {
		if t, err := h.store.LoadThread(ctx, threadID); err == nil && t.Owner == p.Owner {
			return invalid(threadID, "user: this is your own name")
		}
	}
	for role, name := range roleNames {
		switch {
		case name != to.Role:
		case role == sharing.NoRole:
			return sharing.Unshare(ctx, h.store, h.grants, threadID, other)
		default:
			return sharing.Share(ctx, h.store, h.grants, threadID, other, role)
		}
	}
	return invalid(threadID, "role: neither viewer, editor nor none")
}

func invalid(threadID, field string) error {
	return &store.Error{Op: store.OpSaveThread, Kind: store.RowThread, ID: threadID, Code: store.CodeInvalid, Field: field}
}

// answer sends what f returns as JSON.
func answer(w http.ResponseWriter, f func() (any, error)) {
	v, err := f()
	if err != nil {
		chatkit.WriteError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}
