package chat

import (
	"log/slog"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/chatstore/chatstore/internal/jsondoc"
	"github.com/chatstore/chatstore/internal/rules"
)

// ItemType is the type of an item, the member "type" on the wire.
type ItemType string

// The item types with a typed [Body]. A store keeps items of all other types too.
const (
	TypeUserMessage      ItemType = "user_message"
	TypeAssistantMessage ItemType = "assistant_message"
	TypeClientToolCall   ItemType = "client_tool_call"
	TypeWidget           ItemType = "widget"
	TypeGeneratedImage   ItemType = "generated_image"
	TypeStructuredInput  ItemType = "structured_input"
	TypeTask             ItemType = "task"
	TypeWorkflow         ItemType = "workflow"
	TypeHiddenContext    ItemType = "hidden_context_item"
	TypeSDKHiddenContext ItemType = "sdk_hidden_context"
	TypeEndOfTurn        ItemType = "end_of_turn"
)

// Item is one item of a thread, such as a message, a tool call or a widget. Items can be copied and shared: apart from its
// exported fields, an Item is immutable. Create one with [NewItem], [ParseItem], or by decoding its JSON. Read its content
// with [DecodeItem].
//
// The fields may be set. They override the JSON that the item was parsed from. CreatedAt is stored in UTC, cut to
// microseconds.
type Item struct {
	ID        string
	ThreadID  string
	CreatedAt time.Time
	doc       *itemDoc
}

// itemDoc is an item's JSON and the values of its common members. It is immutable, and small, because caches hold many.
type itemDoc struct {
	text         string
	createdAt    int64 // in microseconds since 1970
	id, threadID part
	traits       *itemTraits
}

// part is a part of a document's text.
type part struct{ start, length uint32 }

// itemTraits are properties that most items of a type have in common. Other items have their own.
type itemTraits struct {
	typ          ItemType
	fault        string // the rule that the JSON breaks; "" if none
	id, threadID string // if they are not parts of the text, because they are escaped there
	extra        int    // bytes of the item's own traits, and of its strings that are not parts of the text
}

var commonTraits = func() map[ItemType]*itemTraits {
	all := map[ItemType]*itemTraits{}
	for typ := range bodyTypes {
		all[typ] = &itemTraits{typ: typ}
	}
	return all
}()

// split returns a part of text that equals s, at any place. If there is none, it returns s.
func split(text, s string) (part, string) {
	i := strings.Index(text, s)
	if i < 0 || uint64(i+len(s)) > math.MaxUint32 {
		return part{}, s
	}
	return part{uint32(i), uint32(len(s))}, ""
}

// join undoes split.
func (d *itemDoc) join(p part, s string) string {
	if s != "" {
		return s
	}
	return d.text[p.start:][:p.length]
}

// item returns the item whose fields have the document's values.
func (d *itemDoc) item() Item {
	return Item{d.join(d.id, d.traits.id), d.join(d.threadID, d.traits.threadID), time.UnixMicro(d.createdAt).UTC(), d}
}

// ParseItem parses an item in its wire form. It keeps the text byte for byte, including unknown members and types, white
// space, the order of members and large numbers. A []byte is copied. A string is not; it stays in memory as long as the
// item.
//
// The error is [ErrInvalid] if
//
//   - the text is not valid JSON (see [ParseJSON]) or not an object,
//   - id, thread_id or type is not a string, or created_at is not an RFC 3339 time,
//   - type is missing, or
//   - an object repeats a name outside free-form JSON. Free-form are the fields of type [JSON] in the item's [Body].
//
// Names are matched exactly, including case. ParseItem does not check the rules of ids and times; [Item.Normalized] does.
func ParseItem[T ~string | ~[]byte](text T) (Item, error) {
	d, fault := parseItemDoc(string(text))
	if fault != "" {
		return Item{}, &Error{Kind: kindItem, Field: fault}
	}
	return d.item(), nil
}

func parseItemDoc(text string) (*itemDoc, string) {
	var p jsondoc.Document
	if fault := p.Parse(text); fault != "" {
		return nil, fault
	}
	typ, fault := p.Word("type")
	if fault != "" {
		return nil, fault
	}
	if typ == "" {
		return nil, "type: missing"
	}
	own := itemTraits{typ: ItemType(typ)}
	common := commonTraits[own.typ]
	if common != nil {
		own.typ = common.typ // a part of the text would keep the text in memory
	}
	if repeatedWithin(&p, bodyTypes[own.typ]) {
		return nil, jsondoc.FaultRepeated
	}
	id, fault := p.Word("id")
	if fault != "" {
		return nil, fault
	}
	threadID, fault := p.Word("thread_id")
	if fault != "" {
		return nil, fault
	}
	at, fault := p.Time("created_at")
	if fault != "" {
		return nil, fault
	}
	d := &itemDoc{text: text, createdAt: at.UnixMicro(), traits: common}
	d.id, own.id = split(text, id)
	d.threadID, own.threadID = split(text, threadID)
	own.fault = rules.FirstOf(rules.Under("id", rules.IDFault(id)), rules.Under("type", rules.TypeFault(typ)), jsondoc.TimeFault(at))
	own.extra = p.Extra
	if common == nil || own != *common {
		d.traits = new(own)
		d.traits.extra += int(unsafe.Sizeof(own))
	}
	return d, ""
}

// NewItem returns an item with a copy of this body. Its ThreadID is empty; the store sets it. The error is [ErrInvalid] if
//
//   - the body is nil or breaks a rule of [Body],
//   - its type does not match [a-z0-9_.]{1,64},
//   - a text is not valid UTF-8, or
//   - a field that must be an object has another JSON value.
func NewItem(id string, at time.Time, body Body) (Item, error) {
	fail := func(fault string) (Item, error) {
		return Item{}, &Error{Kind: kindItem, ID: id, Field: fault}
	}
	v, fault := bodyValue(body)
	if fault != "" {
		return fail(fault)
	}
	typ := string(body.ItemType())
	if fault := rules.TypeFault(typ); fault != "" {
		return fail(rules.Under("type", fault))
	}
	b := append(make([]byte, 0, 256), `{"id":`...)
	b = jsondoc.AppendQuoted(b, id)
	b = append(b, `,"thread_id":"","created_at":`...)
	b = jsondoc.AppendTime(b, at)
	b = append(b, `,"type":`...)
	b = jsondoc.AppendQuoted(b, typ)
	if b, fault = appendMembers(b, v, 1); fault != "" {
		return fail(fault)
	}
	b = append(b, '}')
	d, fault := parseItemDoc(string(b))
	if fault != "" {
		return fail(fault)
	}
	return Item{id, "", jsondoc.WireTime(at), d}, nil
}

// bodyValue returns the struct of a body, following pointers.
func bodyValue(body Body) (v reflect.Value, fault string) {
	v = reflect.ValueOf(body)
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if !v.IsValid() || v.Kind() == reflect.Pointer {
		return v, "body: nil"
	}
	return v, bodyFault(v.Type())
}

// bodyFault returns why a type cannot be a body. A program's own Body may be any type.
func bodyFault(t reflect.Type) string {
	if t.Kind() != reflect.Struct {
		return "body: not a struct"
	}
	p := planOf(t)
	if p.embeds {
		return "body: has an embedded field"
	}
	for _, f := range p.fields {
		if slices.Contains(envelope, f.name) {
			return "body: has a field named id, thread_id, created_at or type"
		}
	}
	return ""
}

// envelope lists the members that belong to the item, not to its body.
var envelope = []string{"id", "thread_id", "created_at", "type"}

// Type returns the item's type, "" for the zero Item.
func (it Item) Type() ItemType {
	if it.doc == nil {
		return ""
	}
	return it.doc.traits.typ
}

// DecodeItem decodes the item's content into a T, one of the types that implement [Body]. With [Body] as T, it returns the
// struct for the item's type. For an item of another type, ok is false and err is nil. Content that does not fit T is
// [ErrInvalid], and so is a sealed row, with the member chatstore_sealed; the item stays usable. The result shares no mutable memory with the item.
func DecodeItem[T Body](item Item) (body T, ok bool, err error) {
	t := reflect.TypeFor[T]()
	if t.Kind() == reflect.Interface {
		variant, known := bodyTypes[item.Type()]
		if !known || !variant.Implements(t) {
			return body, false, nil
		}
		t = variant
	}
	v := reflect.New(t).Elem()
	s := v
	for s.Kind() == reflect.Pointer {
		s.Set(reflect.New(s.Type().Elem()))
		s = s.Elem()
	}
	if item.doc == nil || v.Interface().(Body).ItemType() != item.doc.traits.typ {
		return body, false, nil
	}
	fault := bodyFault(s.Type())
	if fault == "" {
		fault = decodeBody(s, item.doc.text)
	}
	if fault != "" {
		return body, false, &Error{Kind: kindItem, ID: item.ID, Field: fault}
	}
	return v.Interface().(T), true, nil
}

// WithBody returns a copy of the item with this body, which must have the item's type. It rewrites only members with a
// changed value, also in nested objects, and keeps members that the body's Go type does not know. A body of another type, or
// one that [NewItem] refuses, is [ErrInvalid].
func (it Item) WithBody(body Body) (Item, error) {
	fail := func(fault string) (Item, error) {
		return Item{}, &Error{Kind: kindItem, ID: it.ID, Field: fault}
	}
	v, fault := bodyValue(body)
	if fault != "" {
		return fail(fault)
	}
	if it.doc == nil || body.ItemType() != it.doc.traits.typ {
		return fail("type: the body has another type")
	}
	text, fault := mergeStruct(it.doc.text, v, 1)
	if fault != "" {
		return fail(fault)
	}
	if it.doc, fault = parseItemDoc(text); fault != "" {
		return fail(fault)
	}
	return it, nil
}

// agrees reports whether the fields have the document's values.
func (it *Item) agrees() bool {
	d := it.doc
	return it.ID == d.join(d.id, d.traits.id) && it.ThreadID == d.join(d.threadID, d.traits.threadID) && jsondoc.SameTime(it.CreatedAt, time.UnixMicro(d.createdAt))
}

// JSON returns the item in its wire form: the text that it was parsed from, byte for byte. Only the members of fields that were
// set to another value are rewritten. If none was, it returns the text without any work. The zero Item has no JSON.
func (it Item) JSON() JSON {
	if it.doc == nil {
		return JSON{}
	}
	if it.agrees() {
		return JSON{it.doc.text}
	}
	was := it.doc.item()
	var edits []jsondoc.Edit
	if it.ID != was.ID {
		edits = append(edits, jsondoc.Edit{Name: "id", Value: jsondoc.Quoted(it.ID)})
	}
	if it.ThreadID != was.ThreadID {
		edits = append(edits, jsondoc.Edit{Name: "thread_id", Value: jsondoc.Quoted(it.ThreadID)})
	}
	if !jsondoc.SameTime(it.CreatedAt, was.CreatedAt) {
		edits = append(edits, jsondoc.Edit{Name: "created_at", Value: string(jsondoc.AppendTime(nil, it.CreatedAt))})
	}
	return JSON{jsondoc.Splice(it.doc.text, edits)}
}

// Equal reports whether the items have the same JSON, byte for byte.
func (it Item) Equal(other Item) bool {
	return it.ID == other.ID && it.ThreadID == other.ThreadID && it.JSON() == other.JSON()
}

// Footprint returns the bytes of memory that the item uses besides the Item struct itself. It ignores the allocator's
// rounding and fields set after parsing or Normalized. It takes constant time. Copies share this memory.
func (it Item) Footprint() int {
	if it.doc == nil {
		return len(it.ID) + len(it.ThreadID)
	}
	return int(unsafe.Sizeof(*it.doc)) + len(it.doc.text) + it.doc.traits.extra
}

// String returns the item's id and type, without content.
func (it Item) String() string {
	return "item " + rules.QuoteID(it.ID) + " (" + rules.QuoteType(string(it.Type())) + ")"
}

// GoString returns the same text as String.
func (it Item) GoString() string { return it.String() }

// LogValue returns the item's id, thread and type.
func (it Item) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", it.ID), slog.String("thread_id", it.ThreadID), slog.String("type", string(it.Type())))
}

// MarshalJSON returns the same text as JSON; encoding/json then compacts it. The zero Item is [ErrInvalid].
func (it Item) MarshalJSON() ([]byte, error) {
	if it.doc == nil {
		return nil, &Error{Kind: kindItem, ID: it.ID, Field: "type: missing"}
	}
	return []byte(it.JSON().s), nil
}

// UnmarshalJSON parses a copy of data, as [ParseItem] does. After an error the item is unchanged.
func (it *Item) UnmarshalJSON(data []byte) error {
	parsed, err := ParseItem(data)
	if err != nil {
		return err
	}
	*it = parsed
	return nil
}
