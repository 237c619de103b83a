package chat

// Owner says whose a row is. The zero Owner is nobody: an unowned row. A Tenant without a Subject is ErrInvalid. The two
// fields are never joined into one string.
type Owner struct{ Tenant, Subject string }

// IsZero reports whether o is nobody.
func (o Owner) IsZero() bool { return o == Owner{} }
