package jsondoc

import (
	"bytes"
	"encoding/json"
)

// Marshal is json.Marshal without the escaping of <, > and &.
func Marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), err
}

// Quoted returns s as a JSON string.
func Quoted(s string) string { return string(AppendQuoted(make([]byte, 0, len(s)+2), s)) }

// QuotedOrNull returns s as a JSON string, or null for "".
func QuotedOrNull(s string) string {
	if s == "" {
		return "null"
	}
	return Quoted(s)
}
