package chat

import (
	"log/slog"
	"reflect"
	"unsafe"

	"github.com/chatstore/chatstore/internal/jsondoc"
	"github.com/chatstore/chatstore/internal/rules"
)

// UploadDescriptor tells the client how to upload an attachment's content. Method is an HTTP method.
type UploadDescriptor struct {
	URL     string            `json:"url"`
	Method  string            `json:"method"`
	Headers map[string]string `json:"headers"`
}

// AttachmentBody is the description of the file in an [Attachment]. [Attachment.Decode] returns a new copy each time. Type
// is file or image. Only images have a PreviewURL. Upload is nil after the upload. Metadata is a free-form object.
type AttachmentBody struct {
	Type       string            `json:"type" chat:"required"`
	Name       string            `json:"name"`
	MIMEType   string            `json:"mime_type"`
	PreviewURL string            `json:"preview_url,omitempty" chat:"on=image"`
	Upload     *UploadDescriptor `json:"upload_descriptor,omitempty"`
	Metadata   JSON              `json:"metadata,omitempty" chat:"object"`
}

// Attachment describes a file or an image that a user attaches to messages. It does not hold the file's content. Attachments
// can be copied and shared: apart from its exported fields, an Attachment is immutable. Create one with [NewAttachment],
// [ParseAttachment], or by decoding its JSON.
//
// The fields may be set. They override the JSON that the attachment was parsed from. Owner is storage data and not part of
// the JSON.
type Attachment struct {
	ID       string
	ThreadID string // the thread it was sent in; "" until it is sent
	Owner    Owner
	doc      *attachmentDoc
}

// attachmentDoc is an attachment's JSON and the values of its common members. It is immutable.
type attachmentDoc struct {
	text         string
	id, threadID string
	typ          string
	fault        string // the rule that the JSON breaks; "" if none
	extra        int    // bytes of strings that are not part of text
}

// ParseAttachment parses an attachment in its wire form. It keeps the text byte for byte, as [ParseItem] does. Its Owner is
// zero. The error is [ErrInvalid] if
//
//   - the text is not valid JSON (see [ParseJSON]) or not an object,
//   - id, thread_id or type is not a string,
//   - type is missing, or
//   - an object repeats a name outside metadata.
func ParseAttachment[T ~string | ~[]byte](text T) (Attachment, error) {
	d, fault := parseAttachmentDoc(string(text))
	if fault != "" {
		return Attachment{}, &Error{Kind: kindAttachment, Field: fault}
	}
	return Attachment{ID: d.id, ThreadID: d.threadID, doc: d}, nil
}

func parseAttachmentDoc(text string) (*attachmentDoc, string) {
	var p jsondoc.Document
	if fault := p.Parse(text); fault != "" {
		return nil, fault
	}
	if repeatedWithin(&p, reflect.TypeFor[AttachmentBody]()) {
		return nil, jsondoc.FaultRepeated
	}
	d := &attachmentDoc{text: text}
	fault := ""
	if d.typ, fault = p.Word("type"); fault != "" {
		return nil, fault
	}
	if d.typ == "" {
		return nil, "type: missing"
	}
	if d.id, fault = p.Word("id"); fault != "" {
		return nil, fault
	}
	if d.threadID, fault = p.Word("thread_id"); fault != "" {
		return nil, fault
	}
	d.extra = p.Extra
	d.fault = rules.FirstOf(rules.Under("id", rules.IDFault(d.id)), threadIDFault(d.threadID), rules.Under("type", rules.TypeFault(d.typ)))
	return d, ""
}

// threadIDFault returns what is wrong with an attachment's thread id. An empty one is valid.
func threadIDFault(id string) string {
	if id == "" {
		return ""
	}
	return rules.Under("thread_id", rules.IDFault(id))
}

// NewAttachment returns an attachment with a copy of this body. The error is [ErrInvalid] if the body has no Type, text that
// is not valid UTF-8, or Metadata that is not an object.
func NewAttachment(id string, b AttachmentBody) (Attachment, error) {
	fail := func(fault string) (Attachment, error) {
		return Attachment{}, &Error{Kind: kindAttachment, ID: id, Field: fault}
	}
	text := append(make([]byte, 0, 256), `{"id":`...)
	text = jsondoc.AppendQuoted(text, id)
	text, fault := appendMembers(text, reflect.ValueOf(b), 1)
	if fault != "" {
		return fail(fault)
	}
	d, fault := parseAttachmentDoc(string(append(text, '}')))
	if fault != "" {
		return fail(fault)
	}
	return Attachment{ID: id, doc: d}, nil
}

// Decode returns the attachment's body. The error is [ErrInvalid] for JSON that does not fit, for a sealed row, with the
// member chatstore_sealed, and for the zero Attachment.
func (a Attachment) Decode() (AttachmentBody, error) {
	var b AttachmentBody
	fault := "type: missing"
	if a.doc != nil {
		fault = decodeBody(reflect.ValueOf(&b).Elem(), a.doc.text)
	}
	if fault != "" {
		return AttachmentBody{}, &Error{Kind: kindAttachment, ID: a.ID, Field: fault}
	}
	return b, nil
}

// WithBody returns a copy of the attachment with this body. It rewrites only members with a changed value and keeps members
// that [AttachmentBody] does not know. A body that [NewAttachment] refuses is [ErrInvalid].
func (a Attachment) WithBody(b AttachmentBody) (Attachment, error) {
	if a.doc == nil {
		n, err := NewAttachment(a.ID, b)
		a.doc = n.doc
		return a, err
	}
	text, fault := mergeStruct(a.doc.text, reflect.ValueOf(b), 1)
	if fault == "" {
		a.doc, fault = parseAttachmentDoc(text)
	}
	if fault != "" {
		return Attachment{}, &Error{Kind: kindAttachment, ID: a.ID, Field: fault}
	}
	return a, nil
}

// agrees reports whether the fields have the document's values.
func (a *Attachment) agrees() bool { return a.ID == a.doc.id && a.ThreadID == a.doc.threadID }

// JSON returns the attachment in its wire form: the text that it was parsed from, byte for byte. Only the
// members of fields that were set to another value are rewritten. If none was, it returns the text without any work. The zero Attachment has no JSON.
func (a Attachment) JSON() JSON {
	if a.doc == nil {
		return JSON{}
	}
	if a.agrees() {
		return JSON{a.doc.text}
	}
	var edits []jsondoc.Edit
	if a.ID != a.doc.id {
		edits = append(edits, jsondoc.Edit{Name: "id", Value: jsondoc.Quoted(a.ID)})
	}
	if a.ThreadID != a.doc.threadID {
		edits = append(edits, jsondoc.Edit{Name: "thread_id", Value: jsondoc.QuotedOrNull(a.ThreadID)})
	}
	return JSON{jsondoc.Splice(a.doc.text, edits)}
}

// Equal reports whether the attachments have the same Owner and the same JSON, byte for byte.
func (a Attachment) Equal(other Attachment) bool {
	return a.Owner == other.Owner && a.ID == other.ID && a.ThreadID == other.ThreadID && a.JSON() == other.JSON()
}

// Footprint returns the bytes of memory that the attachment uses besides the Attachment struct itself. It ignores the
// allocator's rounding and fields set after parsing or Normalized. It takes constant time. Copies share this memory.
func (a Attachment) Footprint() int {
	n := len(a.Owner.Tenant) + len(a.Owner.Subject)
	if a.doc == nil {
		return n + len(a.ID) + len(a.ThreadID)
	}
	return n + int(unsafe.Sizeof(*a.doc)) + len(a.doc.text) + a.doc.extra
}

// Type returns the type on the wire, file or image. It is "" for the zero Attachment.
func (a Attachment) Type() string {
	if a.doc == nil {
		return ""
	}
	return a.doc.typ
}

// String returns the attachment's id and type, without content.
func (a Attachment) String() string {
	return "attachment " + rules.QuoteID(a.ID) + " (" + rules.QuoteType(a.Type()) + ")"
}

// GoString returns the same text as String.
func (a Attachment) GoString() string { return a.String() }

// LogValue returns the attachment's id and type.
func (a Attachment) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", a.ID), slog.String("type", a.Type()))
}

// MarshalJSON returns the same text as JSON; encoding/json then compacts it. The zero Attachment is [ErrInvalid].
func (a Attachment) MarshalJSON() ([]byte, error) {
	if a.doc == nil {
		return nil, &Error{Kind: kindAttachment, ID: a.ID, Field: "type: missing"}
	}
	return []byte(a.JSON().s), nil
}

// UnmarshalJSON parses a copy of data, as [ParseAttachment] does. After an error the attachment is unchanged.
func (a *Attachment) UnmarshalJSON(data []byte) error {
	parsed, err := ParseAttachment(data)
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}
