package authz

import (
	"context"

	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// Reason says why a call was denied.
type Reason uint8

// The reasons.
const (
	ReasonUnauthenticated Reason = iota // no principal, or one that cannot own rows
	ReasonHidden                        // the caller may not read the row, and got the answer of a missing row
	ReasonReadOnly                      // the caller may read the row, but not do this
	ReasonCreate                        // the caller may not create the row
	ReasonScope                         // the caller may list none of the threads in the query
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

// String returns the reason's name, such as "read_only". It is the label reason of chatstore_authz_decisions_total.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "unknown"
}

// Denial is one denied call, for an audit log. It has ids, and no content of a row.
type Denial struct {
	Request Request // the denied question; its Owner is the row's, if the row exists
	Kind    string  // of the row: store.RowThread, RowItem or RowAttachment
	ID      string  // of the row, as the caller passed it; "" for listings
	Reason  Reason
	// Code is the code of the caller's answer. For a hidden row it is not_found, conflict or ok.
	Code store.Code
}

// deny counts and audits a denial. answered is the code of the caller's answer.
func (l *guarded) deny(ctx context.Context, c *call, reason Reason, answered store.Code) {
	l.counts.denied[reason].Add(1)
	if l.audit == nil {
		return
	}
	defer func() {
		if recover() != nil {
			l.counts.auditPanics.Add(1)
		}
	}()
	l.audit(layer.Own(ctx), Denial{Request: c.Request, Kind: c.kind, ID: c.id, Reason: reason, Code: answered})
}
