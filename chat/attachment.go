package chat

import (
	"log/slog"
	"reflect"
	"unsafe"

	"github.com/chatstore/chatstore/internal/jsondoc"
	"github.com/chatstore/chatstore/internal/rules"
)

// UploadDescriptor says how the client uploads an attachment's content. Method is an HTTP method.
type UploadDescriptor struct {
	URL     string            `json:"url"`
	Method  string            `json:"method"`
	Headers map[string]string `json:"headers"`
}

// AttachmentBody is what an [Attachment] says of the file. It is decoded on demand, so that nothing in it is shared. Type is
// file, or image, which has a PreviewURL. Upload is nil once the content is there. Metadata is an object, free-form.
type AttachmentBody struct {
	Type       string            `json:"type" chat:"required"`
	Name       string            `json:"name"`
	MIMEType   string            `json:"mime_type"`
	PreviewURL string            `json:"preview_url,omitempty" chat:"on=image"`
	Upload     *UploadDescriptor `json:"upload_descriptor,omitempty"`
	Metadata   JSON              `json:"metadata,omitempty" chat:"object"`
}

// Attachment is a file or an image that a user attaches to messages: its description, not its content. It is a small value
// to be copied and shared: what it holds beside its fields is immutable. It is made by [NewAttachment], by
// [ParseAttachment], or by decoding its JSON.
//
// The fields may be set, and win over the JSON that the attachment came from. Owner is storage data, no part of the JSON.
type Attachment struct {
	ID       string
	ThreadID string // of the thread it was sent in; "" before that
	Owner    Owner
	doc      *attachmentDoc
}

// attachmentDoc is an attachment's JSON and what its envelope says. It is never changed.
type attachmentDoc struct {
	text         string
	id, threadID string
	typ          string
	fault        string // the rule that it breaks, "" for none
	extra        int    // bytes of strings that are no part of text
}

// ParseAttachment returns the attachment whose wire JSON text is, and keeps the text byte for byte, as [ParseItem] does. Its
// Owner is zero. It is [ErrInvalid] if the text is not valid JSON (see [ParseJSON]) or no object; if id, thread_id or type
// is there and is not a string; if type is missing; and if a name is repeated in any object outside of metadata.
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

// threadIDFault says what is wrong with the thread of an attachment, which may have none.
func threadIDFault(id string) string {
	if id == "" {
		return ""
	}
	return rules.Under("thread_id", rules.IDFault(id))
}

// NewAttachment returns an attachment with this body. A body that no valid JSON can be made of is [ErrInvalid]: no Type,
// text that is not UTF-8, Metadata that is not an object. The body is copied.
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

// Decode reads the attachment's body. What does not fit, and the zero Attachment, is [ErrInvalid].
func (a Attachment) Decode() (AttachmentBody, error) {
	var b AttachmentBody
	fault := "type: missing"
	if a.doc != nil {
		fault = decodeStruct(reflect.ValueOf(&b).Elem(), a.doc.text)
	}
	if fault != "" {
		return AttachmentBody{}, &Error{Kind: kindAttachment, ID: a.ID, Field: fault}
	}
	return b, nil
}

// WithBody returns the attachment with this body in place of its own. Only members whose value is another than before are
// written; what [AttachmentBody] does not know stays as it is. It is [ErrInvalid] for a body that [NewAttachment] refuses.
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

// agrees reports whether the fields say what the document says.
func (a *Attachment) agrees() bool { return a.ID == a.doc.id && a.ThreadID == a.doc.threadID }

// JSON returns the attachment in the wire's form: the text it came from, byte for byte, with those of its members changed
// whose field was set to another value. It costs nothing while no field was. The zero Attachment has no JSON.
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

// Footprint returns the bytes of memory that the attachment holds beside the Attachment struct itself, not counting what
// the allocator rounds up and fields set since it was parsed or normalised. It is constant work. Copies share what they
// hold.
func (a Attachment) Footprint() int {
	n := len(a.Owner.Tenant) + len(a.Owner.Subject)
	if a.doc == nil {
		return n + len(a.ID) + len(a.ThreadID)
	}
	return n + int(unsafe.Sizeof(*a.doc)) + len(a.doc.text) + a.doc.extra
}

// Type returns the wire's type, file or image; "" for the zero Attachment.
func (a Attachment) Type() string {
	if a.doc == nil {
		return ""
	}
	return a.doc.typ
}

// String returns the attachment's id and type, never content.
func (a Attachment) String() string {
	return "attachment " + rules.QuoteID(a.ID) + " (" + rules.QuoteType(a.Type()) + ")"
}

// GoString returns what String does.
func (a Attachment) GoString() string { return a.String() }

// LogValue returns the attachment's id and type.
func (a Attachment) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", a.ID), slog.String("type", a.Type()))
}

// MarshalJSON returns what JSON does, which encoding/json then compacts. The zero Attachment is [ErrInvalid].
func (a Attachment) MarshalJSON() ([]byte, error) {
	if a.doc == nil {
		return nil, &Error{Kind: kindAttachment, ID: a.ID, Field: "type: missing"}
	}
	return []byte(a.JSON().s), nil
}

// UnmarshalJSON makes the attachment what [ParseAttachment] returns for data, which is copied. An error leaves it as it was.
func (a *Attachment) UnmarshalJSON(data []byte) error {
	parsed, err := ParseAttachment(data)
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}
