package chat

import "github.com/chatstore/chatstore/internal/rules"

// MaxIDBytes is the maximum length of an id, a tenant and a subject, in bytes.
const MaxIDBytes = rules.MaxIDBytes

// Owner is the owner of a row. The zero Owner means that the row has none. A Tenant without a Subject is [ErrInvalid].
// Owners are compared as two fields, never as one joined string.
type Owner struct{ Tenant, Subject string }

// IsZero reports whether o is the zero Owner.
func (o Owner) IsZero() bool { return o == Owner{} }
