package authz

import (
	"context"

	"github.com/chatstore/chatstore/store"
)

// Reason says why a call was denied.
type Reason uint8

// The reasons.
const (
	ReasonUnauthenticated Reason = iota // no principal, or one that cannot own rows
	ReasonHidden                        // the row may not be read, and was treated as absent
	ReasonReadOnly                      // the row may be read but not this
	ReasonCreate                        // no such row may be created
	ReasonScope                         // nothing of what was listed may be listed
	ReasonPolicyFailed                  // the policy returned an error or panicked
)

var reasonNames = [...]string{
	ReasonUnauthenticated: "unauthenticated",
	ReasonHidden:          "hidden",
	ReasonReadOnly:        "read_only",
	ReasonCreate:          "create",
	ReasonScope:           "scope",
	ReasonPolicyFailed:    "policy_failed",
}

// String returns the reason's word, such as "read_only", as it is in chatstore_authz_decisions_total.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "unknown"
}

// Denial is one denied call, for an audit log. It has ids and nothing of a row's content.
type Denial struct {
	Request Request // the question that was answered with no; its Owner is that of the row, if there is one
	Kind    string  // of the row: store.RowThread, RowItem or RowAttachment
	ID      string  // of the row, as the caller named it; "" for listings
	Reason  Reason
	// Code is what the caller was told: not_found or ok for a hidden row, for example.
	Code store.Code
}

// deny counts and audits a denial.
func (l *guarded) deny(ctx context.Context, c *call, reason Reason, told store.Code) {
	l.counts.denied[reason].Add(1)
	if l.audit == nil {
		return
	}
	defer func() {
		if recover() != nil {
			l.counts.auditPanics.Add(1)
		}
	}()
	l.audit(ctx, Denial{Request: c.Request, Kind: c.kind, ID: c.id, Reason: reason, Code: told})
}
