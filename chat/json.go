package chat

import (
	"encoding/json"
	"log/slog"
	"strings"

	"github.com/chatstore/chatstore/internal/jsondoc"
)

// JSON is an immutable JSON text, kept byte for byte: what of a value is free-form. The zero JSON is absent. It may be
// copied and shared freely, and compared with ==, which compares texts, not what they stand for.
type JSON struct{ s string }

// ParseJSON returns the text as JSON. It is [ErrInvalid] if the text is not one valid JSON value, not valid UTF-8, or nests
// deeper than 1,000 levels. Names may repeat. A []byte is copied, a string is not.
func ParseJSON[T ~string | ~[]byte](text T) (JSON, error) {
	j := JSON{string(text)}
	var s jsondoc.Scanner
	if _, _, fault := s.Scan(j.s); fault != "" {
		return JSON{}, &Error{Field: fault}
	}
	return j, nil
}

// String returns the text, "" for the zero JSON. It is content: not for logs.
func (j JSON) String() string { return j.s }

// LogValue returns the length of the text, and nothing of what it says.
func (j JSON) LogValue() slog.Value { return slog.GroupValue(slog.Int("bytes", len(j.s))) }

// IsZero reports whether j is absent.
func (j JSON) IsZero() bool { return j.s == "" }

// Equal reports whether the texts are equal, byte for byte.
func (j JSON) Equal(k JSON) bool { return j == k }

// Decode stores what the text stands for in the value that v points to, as json.Unmarshal does. What does not fit, and an
// absent JSON, is [ErrInvalid].
func (j JSON) Decode(v any) error {
	if err := json.Unmarshal([]byte(j.s), v); err != nil {
		return &Error{Field: "json: does not fit the Go value", Cause: err}
	}
	return nil
}

// MarshalJSON returns the text, or null for the zero JSON. encoding/json then compacts it; see String for the text itself.
func (j JSON) MarshalJSON() ([]byte, error) {
	if j.IsZero() {
		return []byte("null"), nil
	}
	return []byte(j.s), nil
}

// UnmarshalJSON keeps a copy of data, null too. It is [ErrInvalid] where ParseJSON is.
func (j *JSON) UnmarshalJSON(data []byte) error {
	k, err := ParseJSON(data)
	if err != nil {
		return err
	}
	*j = k
	return nil
}

// first returns the first byte of the value, which tells its kind; 0 for the zero JSON.
func (j JSON) first() byte {
	if s := strings.TrimLeft(j.s, " \t\r\n"); s != "" {
		return s[0]
	}
	return 0
}

// isNull reports whether j is absent or null.
func (j JSON) isNull() bool { return j.first() == 0 || j.first() == 'n' }
