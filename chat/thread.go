package chat

import (
	"log/slog"
	"time"
	"unsafe"

	"github.com/chatstore/chatstore/internal/jsondoc"
	"github.com/chatstore/chatstore/internal/rules"
)

// Status says whether a thread takes messages. Type is active, locked or closed; Reason, of the latter two, is shown to
// the user. The zero Status is active, and an active one has no Reason: both are stored and read back as
// Status{Type: "active"}.
type Status struct{ Type, Reason string }

// The types of a [Status].
const (
	StatusActive = "active"
	StatusLocked = "locked"
	StatusClosed = "closed"
)

// wire returns the status as it is read back.
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

// Thread is a conversation, without its items. It is a value to be copied and shared: what it holds beside its fields is
// immutable. It is made as a literal, by [ParseThread], or by decoding its JSON.
//
// The fields may be set, and win over the JSON that the thread came from. CreatedAt is stored in UTC, cut to microseconds.
// AllowedImageDomains is absent, null or an array of strings, Metadata is absent or an object of any content: a literal
// without one is stored with {}. An empty Title is null on the wire.
//
// Owner is storage data. It is no part of the thread's JSON, neither read from it nor written to it.
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

// threadDoc is a thread's JSON and what it says. It is never changed.
type threadDoc struct {
	text      string
	id, title string
	createdAt time.Time
	status    Status
	domains   JSON
	metadata  JSON
	fault     string // the rule that it breaks, "" for none
	extra     int    // bytes of strings that are no part of text
}

// ParseThread returns the thread whose wire JSON text is, and keeps the text byte for byte: members that this package does
// not know (a ChatKit response has the thread's first items), space, the order of members, numbers of any size. A []byte is
// copied, a string is not, and stays in memory as long as the thread does. Its Owner is zero.
//
// It is [ErrInvalid] if the text is not valid JSON (see [ParseJSON]) or no object; if id, title, created_at or status is
// there and is not of its kind; and if a name is repeated in any object outside of metadata. Names are matched exactly: what
// differs in case is another member. Limits of ids and the like are [Thread.Normalized]'s to check.
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

// statusOf reads a thread's status. An active one has no reason.
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

// adopt sets the fields to what the document says.
func (t *Thread) adopt() {
	d := t.doc
	t.ID, t.Title, t.CreatedAt, t.Status = d.id, d.title, d.createdAt, d.status
	t.AllowedImageDomains, t.Metadata = d.domains, d.metadata
}

// agrees reports whether the fields say what the document says.
func (t *Thread) agrees() bool {
	d := t.doc
	return t.ID == d.id && t.Title == d.title && jsondoc.SameTime(t.CreatedAt, d.createdAt) && t.Status.wire() == d.status &&
		t.AllowedImageDomains == d.domains && t.Metadata == d.metadata
}

// JSON returns the thread in the wire's form: the text it came from, byte for byte, with those of its members changed whose
// field was set to another value. It costs nothing while no field was. A literal's JSON is written anew.
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

// mergedStatus returns the JSON of the status that was set, with the members that the document's has beside.
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

// Footprint returns the bytes of memory that the thread holds beside the Thread struct itself, not counting what the
// allocator rounds up and fields set since it was parsed or normalised. It is constant work. Copies share what they hold.
func (t Thread) Footprint() int {
	n := len(t.Owner.Tenant) + len(t.Owner.Subject)
	if t.doc == nil {
		return n + len(t.ID) + len(t.Title) + len(t.Status.Type) + len(t.Status.Reason) +
			len(t.AllowedImageDomains.s) + len(t.Metadata.s)
	}
	return n + int(unsafe.Sizeof(*t.doc)) + len(t.doc.text) + t.doc.extra
}

// String returns the thread's id, never content.
func (t Thread) String() string { return "thread " + rules.QuoteID(t.ID) }

// GoString returns what String does.
func (t Thread) GoString() string { return t.String() }

// LogValue returns the thread's id.
func (t Thread) LogValue() slog.Value { return slog.GroupValue(slog.String("id", t.ID)) }

// MarshalJSON returns what JSON does, which encoding/json then compacts.
func (t Thread) MarshalJSON() ([]byte, error) { return []byte(t.JSON().s), nil }

// UnmarshalJSON makes the thread what [ParseThread] returns for data, which is copied. An error leaves it as it was.
func (t *Thread) UnmarshalJSON(data []byte) error {
	parsed, err := ParseThread(data)
	if err != nil {
		return err
	}
	*t = parsed
	return nil
}
