package store

// JSON is an immutable JSON text, kept byte for byte. The zero JSON is absent.
type JSON struct{ s string }

// String returns the text.
func (j JSON) String() string { return j.s }

// IsZero reports whether j is absent.
func (j JSON) IsZero() bool { return j.s == "" }
