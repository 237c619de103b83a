package store

import (
	"encoding/json"
	"log/slog"
	"strings"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/jsondoc"
)

// Page is one page of a listing. After is the id of the last row if HasMore, which is the cursor of the next page; otherwise
// it is "". The JSON of a Page has the form of the ChatKit SDKs: {"data": […], "has_more": …, "after": … or null}.
type Page[T any] struct {
	Data    []T
	HasMore bool
	After   string
}

// LogValue returns the number of rows and HasMore, without content.
func (p Page[T]) LogValue() slog.Value {
	return slog.GroupValue(slog.Int("rows", len(p.Data)), slog.Bool("has_more", p.HasMore))
}

// MarshalJSON writes the page: a row with a JSON method as just that text, an empty Data as [], an empty After as null. Note that
// json.Marshal compacts the result and escapes it for HTML. Call this method to keep rows byte for byte.
func (p Page[T]) MarshalJSON() ([]byte, error) {
	b := append(make([]byte, 0, 512), `{"data":[`...)
	for i := range p.Data {
		if i > 0 {
			b = append(b, ',')
		}
		switch row := any(&p.Data[i]).(type) {
		case interface{ JSON() chat.JSON }:
			j := row.JSON()
			if j.IsZero() {
				return nil, &Error{Code: CodeInvalid, Field: "data: a row without JSON"}
			}
			b = append(b, j.String()...)
		default:
			text, err := jsondoc.Marshal(row)
			if err != nil {
				return nil, err
			}
			b = append(b, text...)
		}
	}
	b = append(b, `],"has_more":`...)
	if p.HasMore {
		b = append(b, "true"...)
	} else {
		b = append(b, "false"...)
	}
	b = append(b, `,"after":`...)
	b = append(b, jsondoc.QuotedOrNull(p.After)...)
	return append(b, '}'), nil
}

// UnmarshalJSON reads a page. Rows keep their JSON byte for byte, as with [chat.ParseItem]. Names are matched exactly, and
// unknown members are ignored. An absent or null member is zero. A repeated name, or a value that does not fit, is
// [ErrInvalid]. After an error the page is unchanged.
func (p *Page[T]) UnmarshalJSON(data []byte) error {
	fail := func(fault string, cause error) error {
		return &Error{Code: CodeInvalid, Field: fault, Cause: cause}
	}
	var doc jsondoc.Document
	doc.Slack = jsondoc.PageDepth
	fault := doc.Parse(string(data))
	if fault != "" {
		return fail(fault, nil)
	}
	var read Page[T]
	if read.After, fault = doc.Word("after"); fault != "" {
		return fail(fault, nil)
	}
	read.After = strings.Clone(read.After) // do not keep the whole text in memory
	switch more, _ := doc.Value("has_more"); more {
	case "true":
		read.HasMore = true
	case "", "false":
	default:
		return fail("has_more: not a boolean", nil)
	}
	if rows, ok := doc.Value("data"); ok {
		elems, ok := jsondoc.MembersOf(rows, '[')
		if !ok {
			return fail("data: not an array", nil)
		}
		read.Data = make([]T, len(elems))
		for i, e := range elems {
			if err := json.Unmarshal([]byte(rows[e.Start:e.End]), &read.Data[i]); err != nil {
				return fail("data: a row does not fit", err)
			}
		}
	}
	*p = read
	return nil
}
