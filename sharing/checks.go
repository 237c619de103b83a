package sharing

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/rules"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// Checks checks the arguments of calls, for those who implement [Grants]. A bad argument is [store.ErrInvalid]. The context
// comes last: see driver.Done.
type Checks struct{}

// Grant checks a call of Grant. Revoke has the same checks, for a Grant with a Role.
func (Checks) Grant(ctx context.Context, g Grant) error {
	fault := rules.FirstOf(rules.Under("id", rules.IDFault(g.ThreadID)), g.To.fault(), rules.OwnerFault(g.By.Tenant, g.By.Subject))
	if fault == "" && g.Role != Viewer && g.Role != Editor {
		fault = "role: unknown"
	}
	if fault != "" {
		return invalid(g.ThreadID, fault)
	}
	return driver.Done(ctx, 0, store.RowThread, g.ThreadID)
}

// Owner checks whether a thread of this owner can have the grant.
func (Checks) Owner(g Grant, owner chat.Owner) error {
	switch {
	case owner.IsZero():
		return invalid(g.ThreadID, "a thread without an owner")
	case g.To.Group != "" && g.To.Tenant != owner.Tenant:
		return invalid(g.ThreadID, "to.group: of another tenant than the owner's")
	}
	return nil
}

// Grantees checks a call of Grantees. It returns the place that after means, and the limit between 1 and [store.MaxLimit].
func (Checks) Grantees(ctx context.Context, threadID, after string, limit int) (Place, int, error) {
	return page(ctx, threadID, rules.Under("id", rules.IDFault(threadID)), after, limit)
}

// SharedWith checks a call of SharedWith, as Grantees does.
func (Checks) SharedWith(ctx context.Context, after string, limit int) (Place, int, error) {
	return page(ctx, "", "", after, limit)
}

func page(ctx context.Context, threadID, fault, after string, limit int) (Place, int, error) {
	place, ok := parsePlace(after)
	switch {
	case fault != "":
	case limit < 0:
		fault = "limit: negative"
	case limit == 0:
		limit = store.DefaultLimit
	}
	if fault == "" && !ok {
		fault = "after: not the After of a page"
	}
	if fault != "" {
		return Place{}, 0, invalid(threadID, fault)
	}
	return place, min(limit, store.MaxLimit), driver.Done(ctx, 0, store.RowThread, threadID)
}

func invalid(threadID, fault string) error {
	return &store.Error{Kind: store.RowThread, ID: threadID, Code: store.CodeInvalid, Field: fault}
}

func (g Grantee) fault() string {
	switch {
	case g.Subject != "" && g.Group != "":
		return "to: a subject and a group"
	case g.Subject == "" && g.Tenant == "":
		return "to: no subject and no tenant"
	}
	return rules.FirstOf(rules.PartFault("to.tenant", g.Tenant), rules.PartFault("to.subject", g.Subject), rules.PartFault("to.group", g.Group))
}

// GranteesOf returns the grantees that p is: first its subject, then its tenant, and a group for each of its roles. There is none for a
// principal that cannot own rows, and no group for a role that is not a valid id. Each is there once.
func GranteesOf(p store.Principal) []Grantee {
	tenant, subject := p.Owner.Tenant, p.Owner.Subject
	if subject == "" || rules.OwnerFault(tenant, subject) != "" {
		return nil
	}
	all := []Grantee{{Tenant: tenant, Subject: subject}}
	if tenant == "" {
		return all
	}
	all = append(all, Grantee{Tenant: tenant})
	for _, role := range slices.Compact(slices.Sorted(slices.Values(p.Roles))) {
		if rules.IDFault(role) == "" {
			all = append(all, Grantee{Tenant: tenant, Group: role})
		}
	}
	return all
}

// With returns what a and g give together.
func (a Access) With(g Grant) Access {
	if g.To.Subject != "" {
		a.Direct = g.Role
	}
	return Access{Role: max(a.Role, g.Role), Direct: a.Direct, Version: max(a.Version, g.Version)}
}

// Place is the place of a grant in a listing. The zero Place is none.
type Place struct {
	At       int64 // in microseconds since 1970
	ThreadID string
	To       Grantee
}

// Place returns the place of g.
func (g Grant) Place() Place { return Place{g.At.UnixMicro(), g.ThreadID, g.To} }

// Compare orders places by time, then thread, then grantee. Texts compare as bytes. Listings have the highest place first.
func (p Place) Compare(q Place) int {
	return cmp.Or(cmp.Compare(p.At, q.At), strings.Compare(p.ThreadID, q.ThreadID), strings.Compare(p.To.Tenant, q.To.Tenant),
		strings.Compare(p.To.Subject, q.To.Subject), strings.Compare(p.To.Group, q.To.Group))
}

// String returns the After of a page that ends at p.
func (p Place) String() string {
	text, _ := json.Marshal(p) // cannot fail
	return base64.RawURLEncoding.EncodeToString(text)
}

func parsePlace(after string) (p Place, ok bool) {
	if after == "" {
		return Place{}, true
	}
	text, err := base64.RawURLEncoding.DecodeString(after)
	if err != nil || json.Unmarshal(text, &p) != nil {
		return Place{}, false
	}
	return p, p.String() == after && rules.IDFault(p.ThreadID) == "" && p.To.fault() == ""
}
