package chat

import "github.com/chatstore/chatstore/internal/rules"

// MaxIDBytes is the most bytes that an id, a tenant or a subject may have.
const MaxIDBytes = rules.MaxIDBytes

// Owner says whose a row is. The zero Owner is nobody: an unowned row. A Tenant without a Subject is ErrInvalid. The two
// fields are never joined into one string.
type Owner struct{ Tenant, Subject string }

// IsZero reports whether o is nobody.
func (o Owner) IsZero() bool { return o == Owner{} }
