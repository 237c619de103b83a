package lifecycle

import (
	"encoding/json"
	"strings"

	"github.com/chatstore/chatstore/chat"
)

// format is the number of the format of files, in their first line. A program refuses files of a higher format.
const format = 1

// line is one line of a file: the header, a row or the trailer.
type line struct {
	Format     int             `json:"chatstore_export"`
	Thread     json.RawMessage `json:"thread"`
	Item       json.RawMessage `json:"item"`
	Attachment json.RawMessage `json:"attachment"`
	Owner      chat.Owner      `json:"owner"` // of a thread or an attachment
	End        *trailer        `json:"end"`
}

type trailer struct {
	Counts
	SHA256 string `json:"sha256"` // of all lines before this one
}

// Counts has numbers of rows.
type Counts struct {
	Threads     int64 `json:"threads"`
	Items       int64 `json:"items"`
	Attachments int64 `json:"attachments"`
}

// appendRow appends the line of a row. Its document is in it byte for byte, or as a JSON string if it has line breaks or white
// space around it.
func appendRow(b []byte, kind string, doc chat.JSON, o chat.Owner) []byte {
	b = append(b, `{"`...)
	b = append(b, kind...)
	b = append(b, `":`...)
	if text := doc.String(); strings.ContainsAny(text, "\r\n") || strings.TrimSpace(text) != text {
		b = appendJSON(b, text)
	} else {
		b = append(b, text...)
	}
	if !o.IsZero() {
		b = append(b, `,"owner":`...)
		b = appendJSON(b, map[string]string{"tenant": o.Tenant, "subject": o.Subject})
	}
	return append(b, "}\n"...)
}

// appendJSON appends v, which has a JSON form.
func appendJSON(b []byte, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return append(b, text...)
}
