package chat

import (
	"encoding/json"
	"log/slog"
	"strings"

	"github.com/chatstore/chatstore/internal/jsondoc"
)

// JSON is an immutable JSON text, kept byte for byte. It holds the free-form parts of a value. The zero JSON means an absent
// value. A JSON can be copied and shared. The operator == compares texts, not the values that they encode.
type JSON struct{ s string }

// ParseJSON returns the text as a JSON. The error is [ErrInvalid] if the text is not one valid JSON value, not valid UTF-8,
// or nested deeper than 1,000 levels. Names may repeat. A []byte is copied, a string is not.
func ParseJSON[T ~string | ~[]byte](text T) (JSON, error) {
	j := JSON{string(text)}
	var s jsondoc.Scanner
	if _, _, fault := s.Scan(j.s); fault != "" {
		return JSON{}, &Error{Field: fault}
	}
	return j, nil
}

// String returns the text, "" for the zero JSON. The text is content: keep it out of logs.
func (j JSON) String() string { return j.s }

// LogValue returns the length of the text in bytes, without content.
func (j JSON) LogValue() slog.Value { return slog.GroupValue(slog.Int("bytes", len(j.s))) }

// IsZero reports whether j is absent.
func (j JSON) IsZero() bool { return j.s == "" }

// Equal reports whether the texts are the same, byte for byte.
func (j JSON) Equal(k JSON) bool { return j == k }

// Decode decodes the text into the value that v points to, as json.Unmarshal does. Text that does not fit, and the zero
// JSON, is [ErrInvalid].
func (j JSON) Decode(v any) error {
	if err := json.Unmarshal([]byte(j.s), v); err != nil {
		return &Error{Field: "json: does not fit the Go value", Cause: err}
	}
	return nil
}

// MarshalJSON returns the text, or null for the zero JSON. encoding/json then compacts it; String returns the unchanged
// text.
func (j JSON) MarshalJSON() ([]byte, error) {
	if j.IsZero() {
		return []byte("null"), nil
	}
	return []byte(j.s), nil
}

// UnmarshalJSON keeps a copy of data, also of null. The error is [ErrInvalid] in the cases of [ParseJSON].
func (j *JSON) UnmarshalJSON(data []byte) error {
	k, err := ParseJSON(data)
	if err != nil {
		return err
	}
	*j = k
	return nil
}

// first returns the first byte of the value, which determines its kind; 0 for the zero JSON.
func (j JSON) first() byte {
	if s := strings.TrimLeft(j.s, " \t\r\n"); s != "" {
		return s[0]
	}
	return 0
}

// isNull reports whether j is absent or null.
func (j JSON) isNull() bool { return j.first() == 0 || j.first() == 'n' }
