package chat

import (
	"log/slog"
	"time"
	"unsafe"

	"github.com/chatstore/chatstore/internal/jsondoc"
	"github.com/chatstore/chatstore/internal/rules"
)

// Status says whether a thread accepts messages. Type is active, locked or closed. Reason explains to the user why a thread
// is locked or closed. The zero Status means active. An active Status has no Reason: it is stored and read back as
// Status{Type: "active"}.
type Status struct{ Type, Reason string }

// The types of a [Status].
const (
	StatusActive = "active"
	StatusLocked = "locked"
	StatusClosed = "closed"
)

// wire returns the status in the form in which it is read back.
func (s Status) wire() Status {
	if s == (Status{}) || s.Type == StatusActive {
		return Status{Type: StatusActive}
	}
	return s
}

func (s Status) fault() string {
	s = s.wire()
	if fault := rules.TypeFault(s.Type); fault != "" {
		return "status.type: " + fault
	}
	return rules.Under("status.reason", rules.UTF8Fault(s.Reason))
}

func (s Status) append(b []byte) []byte {
	s = s.wire()
	b = append(b, `{"type":`...)
	b = jsondoc.AppendQuoted(b, s.Type)
	switch {
	case s.Reason != "":
		b = append(b, `,"reason":`...)
		b = jsondoc.AppendQuoted(b, s.Reason)
	case s.Type != StatusActive:
		b = append(b, `,"reason":null`...)
	}
	return append(b, '}')
}

// Thread is a conversation, without its items. Threads can be copied and shared: apart from its exported fields, a Thread is
// immutable. Create one as a literal, with [ParseThread], or by decoding its JSON.
//
// The fields may be set. They override the JSON that the thread was parsed from. CreatedAt is stored in UTC, cut to
// microseconds. AllowedImageDomains is absent, null or an array of strings. Metadata is absent or a free-form object; a
// literal without Metadata is stored with {}. An empty Title is null on the wire.
//
// Owner is storage data. It is not part of the thread's JSON: it is neither read from it nor written to it.
type Thread struct {
	ID                  string
	Title               string
	CreatedAt           time.Time
	Status              Status
	AllowedImageDomains JSON
	Metadata            JSON
	Owner               Owner
	doc                 *threadDoc
}

// threadDoc is a thread's JSON and the values of its known members. It is immutable.
type threadDoc struct {
	text      string
	id, title string
	createdAt time.Time
	status    Status
	domains   JSON
	metadata  JSON
	fault     string // the rule that the JSON breaks; "" if none
	extra     int    // bytes of strings that are not part of text
}

// ParseThread parses a thread in its wire form. It keeps the text byte for byte, including unknown members (such as the
// first items in a ChatKit response), white space, the order of members and large numbers. A []byte is copied. A string is
// not; it stays in memory as long as the thread. Its Owner is zero.
//
// The error is [ErrInvalid] if
//
//   - the text is not valid JSON (see [ParseJSON]) or not an object,
//   - id or title is not a string, created_at is not an RFC 3339 time, or status is not an object, or
//   - an object repeats a name outside metadata.
//
// Names are matched exactly, including case. ParseThread does not check the rules of ids and times; [Thread.Normalized]
// does.
func ParseThread[T ~string | ~[]byte](text T) (Thread, error) {
	d, fault := parseThreadDoc(string(text))
	if fault != "" {
		return Thread{}, &Error{Kind: kindThread, Field: fault}
	}
	t := Thread{doc: d}
	t.adopt()
	return t, nil
}

func parseThreadDoc(text string) (*threadDoc, string) {
	var p jsondoc.Document
	if fault := p.Parse(text); fault != "" {
		return nil, fault
	}
	if repeatedWithin(&p, threadType) {
		return nil, jsondoc.FaultRepeated
	}
	d := &threadDoc{text: text}
	fault := ""
	if d.id, fault = p.Word("id"); fault != "" {
		return nil, fault
	}
	if d.title, fault = p.Str("title"); fault != "" {
		return nil, fault
	}
	if d.createdAt, fault = p.Time("created_at"); fault != "" {
		return nil, fault
	}
	if d.status, fault = statusOf(&p); fault != "" {
		return nil, fault
	}
	if value, ok := jsondoc.Find(text, p.Members.All(), "allowed_image_domains"); ok {
		d.domains = JSON{value}
	}
	if value, ok := p.Value("metadata"); ok {
		d.metadata = JSON{value}
	}
	d.extra = p.Extra
	d.fault = rules.FirstOf(rules.Under("id", rules.IDFault(d.id)), jsondoc.TimeFault(d.createdAt), d.status.fault(),
		domainsFault(d.domains), metadataFault(d.metadata))
	return d, ""
}

// statusOf reads a thread's status. It ignores the reason of an active one.
func statusOf(thread *jsondoc.Document) (st Status, fault string) {
	st.Type = StatusActive
	value, ok := thread.Value("status")
	if !ok {
		return st, ""
	}
	var p jsondoc.Document
	if fault := p.Parse(value); fault != "" {
		return st, "status: not an object"
	}
	typ, fault := p.Word("type")
	if typ != "" {
		st.Type = typ
	}
	if st.Type != StatusActive && fault == "" {
		st.Reason, fault = p.Str("reason")
	}
	thread.Extra += p.Extra
	return st, rules.Under("status", fault)
}

func domainsFault(j JSON) string {
	if j.isNull() {
		return ""
	}
	s := jsondoc.Scanner{Collect: true}
	start, _, _ := s.Scan(j.s)
	if j.s[start] != '[' {
		return "allowed_image_domains: not an array of strings"
	}
	for _, e := range s.Members.All() {
		if j.s[e.Start] != '"' {
			return "allowed_image_domains: not an array of strings"
		}
	}
	return ""
}

func metadataFault(j JSON) string {
	if c := j.first(); c != 0 && c != '{' {
		return "metadata: not an object"
	}
	return ""
}

// adopt sets the fields to the document's values.
func (t *Thread) adopt() {
	d := t.doc
	t.ID, t.Title, t.CreatedAt, t.Status = d.id, d.title, d.createdAt, d.status
	t.AllowedImageDomains, t.Metadata = d.domains, d.metadata
}

// agrees reports whether the fields have the document's values.
func (t *Thread) agrees() bool {
	d := t.doc
	return t.ID == d.id && t.Title == d.title && jsondoc.SameTime(t.CreatedAt, d.createdAt) && t.Status.wire() == d.status &&
		t.AllowedImageDomains == d.domains && t.Metadata == d.metadata
}

// JSON returns the thread in its wire form: the text that it was parsed from, byte for byte. Only the members of fields
// that were set to another value are rewritten. If none was, it returns the text without any work. For a literal it writes new JSON.
func (t Thread) JSON() JSON {
	if t.doc == nil {
		return t.write()
	}
	if t.agrees() {
		return JSON{t.doc.text}
	}
	var edits []jsondoc.Edit
	if t.ID != t.doc.id {
		edits = append(edits, jsondoc.Edit{Name: "id", Value: jsondoc.Quoted(t.ID)})
	}
	if t.Title != t.doc.title {
		edits = append(edits, jsondoc.Edit{Name: "title", Value: jsondoc.QuotedOrNull(t.Title)})
	}
	if !jsondoc.SameTime(t.CreatedAt, t.doc.createdAt) {
		edits = append(edits, jsondoc.Edit{Name: "created_at", Value: string(jsondoc.AppendTime(nil, t.CreatedAt))})
	}
	if t.Status.wire() != t.doc.status {
		edits = append(edits, jsondoc.Edit{Name: "status", Value: t.mergedStatus()})
	}
	if t.AllowedImageDomains != t.doc.domains {
		edits = append(edits, jsondoc.Edit{Name: "allowed_image_domains", Value: orElse(t.AllowedImageDomains, "null")})
	}
	if t.Metadata != t.doc.metadata {
		edits = append(edits, jsondoc.Edit{Name: "metadata", Value: orElse(t.Metadata, "{}")})
	}
	return JSON{jsondoc.Splice(t.doc.text, edits)}
}

// mergedStatus returns the JSON of the new status. It keeps other members of the document's status.
func (t *Thread) mergedStatus() string {
	s := t.Status.wire()
	thread, _ := jsondoc.MembersOf(t.doc.text, '{')
	old, _ := jsondoc.Find(t.doc.text, thread, "status")
	members, ok := jsondoc.MembersOf(old, '{')
	if !ok {
		return string(s.append(nil))
	}
	var edits []jsondoc.Edit
	if s.Type != t.doc.status.Type {
		edits = append(edits, jsondoc.Edit{Name: "type", Value: jsondoc.Quoted(s.Type)})
	}
	reason := jsondoc.QuotedOrNull(s.Reason)
	was, there := jsondoc.Find(old, members, "reason")
	same := !there && s.Type == StatusActive || was == reason
	if there && !same {
		text, isString, _ := jsondoc.Unquote(was)
		same = isString && text == s.Reason
	}
	if !same {
		edits = append(edits, jsondoc.Edit{Name: "reason", Value: reason})
	}
	return jsondoc.Splice(old, edits)
}

func (t *Thread) write() JSON {
	b := append(make([]byte, 0, 256), `{"id":`...)
	b = jsondoc.AppendQuoted(b, t.ID)
	b = append(b, `,"title":`...)
	b = append(b, jsondoc.QuotedOrNull(t.Title)...)
	b = append(b, `,"created_at":`...)
	b = jsondoc.AppendTime(b, t.CreatedAt)
	b = append(b, `,"status":`...)
	b = t.Status.append(b)
	if !t.AllowedImageDomains.IsZero() {
		b = append(b, `,"allowed_image_domains":`...)
		b = append(b, t.AllowedImageDomains.s...)
	}
	b = append(b, `,"metadata":`...)
	b = append(b, orElse(t.Metadata, "{}")...)
	return JSON{string(append(b, '}'))}
}

func orElse(j JSON, absent string) string {
	if j.IsZero() {
		return absent
	}
	return j.s
}

// Equal reports whether the threads have the same Owner and the same JSON, byte for byte.
func (t Thread) Equal(other Thread) bool {
	return t.Owner == other.Owner && t.ID == other.ID && t.Title == other.Title && t.JSON() == other.JSON()
}

// Footprint returns the bytes of memory that the thread uses besides the Thread struct itself. It ignores the allocator's
// rounding and fields set after parsing or Normalized. It takes constant time. Copies share this memory.
func (t Thread) Footprint() int {
	n := len(t.Owner.Tenant) + len(t.Owner.Subject)
	if t.doc == nil {
		return n + len(t.ID) + len(t.Title) + len(t.Status.Type) + len(t.Status.Reason) +
			len(t.AllowedImageDomains.s) + len(t.Metadata.s)
	}
	return n + int(unsafe.Sizeof(*t.doc)) + len(t.doc.text) + t.doc.extra
}

// String returns the thread's id, without content.
func (t Thread) String() string { return "thread " + rules.QuoteID(t.ID) }

// GoString returns the same text as String.
func (t Thread) GoString() string { return t.String() }

// LogValue returns the thread's id.
func (t Thread) LogValue() slog.Value { return slog.GroupValue(slog.String("id", t.ID)) }

// MarshalJSON returns the same text as JSON; encoding/json then compacts it.
func (t Thread) MarshalJSON() ([]byte, error) { return []byte(t.JSON().s), nil }

// UnmarshalJSON parses a copy of data, as [ParseThread] does. After an error the thread is unchanged.
func (t *Thread) UnmarshalJSON(data []byte) error {
	parsed, err := ParseThread(data)
	if err != nil {
		return err
	}
	*t = parsed
	return nil
}
