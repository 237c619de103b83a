package chat

import (
	"log/slog"
	"reflect"
	"slices"
	"time"
	"unsafe"

	"github.com/chatstore/chatstore/internal/jsondoc"
	"github.com/chatstore/chatstore/internal/rules"
)

// ItemType is the wire's "type".
type ItemType string

// The item types that have a typed [Body]. Items of any other type are kept just as well.
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

var itemTypes = [...]ItemType{
	TypeUserMessage, TypeAssistantMessage, TypeClientToolCall, TypeWidget, TypeGeneratedImage, TypeStructuredInput,
	TypeTask, TypeWorkflow, TypeHiddenContext, TypeSDKHiddenContext, TypeEndOfTurn,
}

// Item is an item of a thread: a message, a tool call, a widget, … It is a small value to be copied and shared: what it
// holds beside its fields is immutable. It is made by [NewItem], by [ParseItem], or by decoding its JSON; [DecodeItem] reads
// its content.
//
// The fields may be set, and win over the JSON that the item came from. CreatedAt is stored in UTC, cut to microseconds.
type Item struct {
	ID        string
	ThreadID  string
	CreatedAt time.Time
	doc       *itemDoc
}

// itemDoc is an item's JSON and what its envelope says. It is never changed.
type itemDoc struct {
	text      string
	typ       ItemType
	id        string
	threadID  string
	createdAt time.Time
	fault     string // the rule that it breaks, "" for none
	extra     int    // bytes of strings that are no part of text
}

// ParseItem returns the item whose wire JSON text is, and keeps the text byte for byte: members and types that this package
// does not know, space, the order of members, numbers of any size. A []byte is copied, a string is not, and stays in memory
// as long as the item does.
//
// It is [ErrInvalid] if the text is not valid JSON (see [ParseJSON]) or no object; if id, thread_id, type or created_at is
// there and is not a string of its kind; if type is missing; and if a name is repeated in any object outside of free-form
// JSON, which is what the [Body] of the item's type holds as [JSON]. Names are matched exactly: what differs in case is
// another member. Limits of ids and the like are [Item.Normalized]'s to check.
func ParseItem[T ~string | ~[]byte](text T) (Item, error) {
	d, fault := parseItemDoc(string(text))
	if fault != "" {
		return Item{}, &Error{Kind: kindItem, Field: fault}
	}
	return Item{d.id, d.threadID, d.createdAt, d}, nil
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
	d := &itemDoc{text: text, typ: knownType(typ)}
	if repeatedWithin(&p, bodyTypes[d.typ]) {
		return nil, jsondoc.FaultRepeated
	}
	if d.id, fault = p.Word("id"); fault != "" {
		return nil, fault
	}
	if d.threadID, fault = p.Word("thread_id"); fault != "" {
		return nil, fault
	}
	if d.createdAt, fault = p.Time("created_at"); fault != "" {
		return nil, fault
	}
	d.extra = p.Extra
	d.fault = rules.FirstOf(rules.Under("id", rules.IDFault(d.id)), rules.Under("type", rules.TypeFault(string(d.typ))), jsondoc.TimeFault(d.createdAt))
	return d, ""
}

// knownType returns the constant for a type that has one, which keeps no document in memory.
func knownType(typ string) ItemType {
	for _, known := range itemTypes {
		if string(known) == typ {
			return known
		}
	}
	return ItemType(typ)
}

// NewItem returns an item with this body. Its ThreadID is empty: the store fills it in. A body that no valid JSON can be
// made of is [ErrInvalid]: nil, a type that is not [a-z0-9_.]{1,64}, text that is not UTF-8, a JSON that is not an object
// where one is due. The body is copied: changing it later does not change the item.
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

// bodyValue returns the struct that a body is.
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

// bodyFault returns what is wrong with a type as a body: a user's own may be anything.
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
			return "body: has a member of the item's own"
		}
	}
	return ""
}

// envelope are the members that are the item's own.
var envelope = []string{"id", "thread_id", "created_at", "type"}

// Type returns the wire's type, "" for the zero Item.
func (it Item) Type() ItemType {
	if it.doc == nil {
		return ""
	}
	return it.doc.typ
}

// DecodeItem reads the item's content as a T: one of the variants, or [Body] for the variant that the item's type has. ok is
// false, without an error, for an item of another type. Content that does not fit T is [ErrInvalid]; the item itself is
// none the worse for it. What is returned shares nothing that can be changed with the item.
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
	if item.doc == nil || v.Interface().(Body).ItemType() != item.doc.typ {
		return body, false, nil
	}
	fault := bodyFault(s.Type())
	if fault == "" {
		fault = decodeStruct(s, item.doc.text)
	}
	if fault != "" {
		return body, false, &Error{Kind: kindItem, ID: item.ID, Field: fault}
	}
	return v.Interface().(T), true, nil
}

// WithBody returns the item with this body in place of its own, which must be of the same type. Only members whose value
// is another than before are written, in nested objects too; what the type of body does not know stays as it is. It is
// [ErrInvalid] for a body of another type, or one that [NewItem] refuses.
func (it Item) WithBody(body Body) (Item, error) {
	fail := func(fault string) (Item, error) {
		return Item{}, &Error{Kind: kindItem, ID: it.ID, Field: fault}
	}
	v, fault := bodyValue(body)
	if fault != "" {
		return fail(fault)
	}
	if it.doc == nil || body.ItemType() != it.doc.typ {
		return fail("type: the body is of another")
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

// agrees reports whether the fields say what the document says.
func (it *Item) agrees() bool {
	return it.ID == it.doc.id && it.ThreadID == it.doc.threadID && jsondoc.SameTime(it.CreatedAt, it.doc.createdAt)
}

// JSON returns the item in the wire's form: the text it came from, byte for byte, with those of its members changed whose
// field was set to another value. It costs nothing while no field was. The zero Item has no JSON.
func (it Item) JSON() JSON {
	if it.doc == nil {
		return JSON{}
	}
	if it.agrees() {
		return JSON{it.doc.text}
	}
	var edits []jsondoc.Edit
	if it.ID != it.doc.id {
		edits = append(edits, jsondoc.Edit{Name: "id", Value: jsondoc.Quoted(it.ID)})
	}
	if it.ThreadID != it.doc.threadID {
		edits = append(edits, jsondoc.Edit{Name: "thread_id", Value: jsondoc.Quoted(it.ThreadID)})
	}
	if !jsondoc.SameTime(it.CreatedAt, it.doc.createdAt) {
		edits = append(edits, jsondoc.Edit{Name: "created_at", Value: string(jsondoc.AppendTime(nil, it.CreatedAt))})
	}
	return JSON{jsondoc.Splice(it.doc.text, edits)}
}

// Equal reports whether the items have the same JSON, byte for byte.
func (it Item) Equal(other Item) bool {
	return it.ID == other.ID && it.ThreadID == other.ThreadID && it.JSON() == other.JSON()
}

// Footprint returns the bytes of memory that the item holds beside the Item struct itself, not counting what the allocator
// rounds up and fields set since it was parsed or normalised. It is constant work. Copies share what they hold.
func (it Item) Footprint() int {
	if it.doc == nil {
		return len(it.ID) + len(it.ThreadID)
	}
	return int(unsafe.Sizeof(*it.doc)) + len(it.doc.text) + it.doc.extra
}

// String returns the item's id and type, never content.
func (it Item) String() string {
	return "item " + rules.QuoteID(it.ID) + " (" + rules.QuoteType(string(it.Type())) + ")"
}

// GoString returns what String does.
func (it Item) GoString() string { return it.String() }

// LogValue returns the item's id, thread and type.
func (it Item) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", it.ID), slog.String("thread_id", it.ThreadID), slog.String("type", string(it.Type())))
}

// MarshalJSON returns what JSON does, which encoding/json then compacts. The zero Item is [ErrInvalid].
func (it Item) MarshalJSON() ([]byte, error) {
	if it.doc == nil {
		return nil, &Error{Kind: kindItem, ID: it.ID, Field: "type: missing"}
	}
	return []byte(it.JSON().s), nil
}

// UnmarshalJSON makes the item what [ParseItem] returns for data, which is copied. An error leaves it as it was.
func (it *Item) UnmarshalJSON(data []byte) error {
	parsed, err := ParseItem(data)
	if err != nil {
		return err
	}
	*it = parsed
	return nil
}
