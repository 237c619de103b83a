package chat

import (
	"encoding"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/chatstore/chatstore/internal/jsondoc"
	"github.com/chatstore/chatstore/internal/rules"
)

// wireField describes how a field of a body is read and written. Bodies are read and written here, member by member, with
// exact names. encoding/json cannot do it: it accepts {"ATTACHMENTS":[]} for attachments, and the last of two equal names
// wins. Nor can it rewrite a single member. It handles only values of foreign types.
//
// The field's name comes from its json tag. The chat tag has these options:
//
//	on=a|b     written if the struct's type is a or b, otherwise only if set
//	default=x  the value of an absent member, also written for ""
//	required   "" is ErrInvalid
//	object     a JSON that must be an object; an absent one is written as {}
type wireField struct {
	name      string
	index     int
	omitEmpty bool
	on        []string
	def       string
	required  bool
	object    bool
}

// plan describes how a struct type is read and written.
type plan struct {
	fields []wireField
	embeds bool // has an embedded field: encoding/json would promote its members
	typ    int  // index in fields of "type", or -1
	id     int  // index in fields of "id", or -1
}

var (
	plans sync.Map // reflect.Type to *plan

	jsonType   = reflect.TypeFor[JSON]()
	threadType = reflect.TypeFor[struct { // where a thread's JSON is free-form
		Metadata JSON `json:"metadata"`
	}]()
	attachmentType = reflect.TypeFor[Attachment]()
	jsonForeign    = reflect.TypeFor[json.Unmarshaler]()
	textForeign    = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func planOf(t reflect.Type) *plan {
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	p := &plan{typ: -1, id: -1}
	for i := range t.NumField() {
		sf := t.Field(i)
		p.embeds = p.embeds || sf.Anonymous
		name, opts, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if !sf.IsExported() || name == "-" && opts == "" {
			continue
		}
		if name == "" {
			name = sf.Name
		}
		f := wireField{name: name, index: i}
		f.omitEmpty = slices.ContainsFunc(strings.Split(opts, ","), func(o string) bool {
			return o == "omitempty" || o == "omitzero"
		})
		for opt := range strings.SplitSeq(sf.Tag.Get("chat"), ",") {
			key, val, _ := strings.Cut(opt, "=")
			switch key {
			case "on":
				f.on = strings.Split(val, "|")
			case "default":
				f.def = val
			case "required":
				f.required = true
			case "object":
				f.object = true
			}
		}
		switch name {
		case "type":
			p.typ = len(p.fields)
		case "id":
			p.id = len(p.fields)
		}
		p.fields = append(p.fields, f)
	}
	plans.Store(t, p)
	return p
}

// kind is the way in which values of a Go type are read and written.
type kind uint8

const (
	foreignKind kind = iota // by encoding/json
	jsonKind
	attachmentKind
	structKind
	pointerKind
	sliceKind
	mapKind // map[string]string
	stringKind
	boolKind
	intKind
)

func kindOf(t reflect.Type) kind {
	switch t {
	case jsonType:
		return jsonKind
	case attachmentType:
		return attachmentKind
	}
	if p := reflect.PointerTo(t); p.Implements(jsonForeign) || p.Implements(textForeign) {
		return foreignKind
	}
	switch t.Kind() {
	case reflect.Struct:
		if !planOf(t).embeds {
			return structKind
		}
	case reflect.Pointer:
		return pointerKind
	case reflect.Slice:
		if t.Elem().Kind() != reflect.Uint8 {
			return sliceKind
		}
	case reflect.Map:
		if t == reflect.TypeFor[map[string]string]() {
			return mapKind
		}
	case reflect.String:
		return stringKind
	case reflect.Bool:
		return boolKind
	case reflect.Int, reflect.Int64:
		return intKind
	}
	return foreignKind
}

func decodeStruct(v reflect.Value, text string) (fault string) {
	members, ok := jsondoc.MembersOf(text, '{')
	if !ok {
		return "not an object"
	}
	return decodeMembers(v, text, members)
}

// decodeBody reads the body of an item or an attachment. It refuses a sealed one, which would look like an empty one.
func decodeBody(v reflect.Value, text string) (fault string) {
	members, _ := jsondoc.MembersOf(text, '{')
	if _, sealed := jsondoc.Find(text, members, rules.Sealed); sealed {
		return rules.Sealed + ": read it through decorators/encrypt"
	}
	return decodeMembers(v, text, members)
}

func decodeMembers(v reflect.Value, text string, members []jsondoc.Member) (fault string) {
	for _, f := range planOf(v.Type()).fields {
		if fault := decodeMember(v, f, text, members); fault != "" {
			return rules.Under(f.name, fault)
		}
	}
	return ""
}

func decodeMember(v reflect.Value, f wireField, text string, members []jsondoc.Member) (fault string) {
	fv := v.Field(f.index)
	fv.SetZero()
	if value, ok := jsondoc.Find(text, members, f.name); ok {
		fault = decodeValue(fv, value)
	}
	if f.def != "" && fv.Kind() == reflect.String && fv.Len() == 0 {
		fv.SetString(f.def)
	}
	return fault
}

// decodeValue reads text, a valid JSON value, into v. Null sets v to its zero value.
func decodeValue(v reflect.Value, text string) (fault string) {
	if text == "null" {
		v.SetZero()
		return ""
	}
	switch kindOf(v.Type()) {
	case jsonKind:
		v.Set(reflect.ValueOf(JSON{text}))
	case attachmentKind:
		a, err := ParseAttachment(strings.Clone(text)) // a clone: the attachment must not keep the item's text in memory
		if err != nil {
			return "not an attachment"
		}
		v.Set(reflect.ValueOf(a))
	case structKind:
		return decodeStruct(v, text)
	case pointerKind:
		v.Set(reflect.New(v.Type().Elem()))
		return decodeValue(v.Elem(), text)
	case sliceKind:
		elems, ok := jsondoc.MembersOf(text, '[')
		if !ok {
			return "not an array"
		}
		s := reflect.MakeSlice(v.Type(), len(elems), len(elems))
		for i, e := range elems {
			if fault := decodeValue(s.Index(i), text[e.Start:e.End]); fault != "" {
				return fault
			}
		}
		v.Set(s)
	case mapKind:
		members, ok := jsondoc.MembersOf(text, '{')
		if !ok {
			return "not an object"
		}
		m := make(map[string]string, len(members))
		for _, e := range members {
			s, ok, _ := jsondoc.Unquote(text[e.Start:e.End])
			if !ok {
				return "not an object of strings"
			}
			m[e.Name] = s
		}
		v.Set(reflect.ValueOf(m))
	case stringKind:
		s, ok, _ := jsondoc.Unquote(text)
		if !ok {
			return "not a string"
		}
		v.SetString(s)
	case boolKind:
		if text != "true" && text != "false" {
			return "not a boolean"
		}
		v.SetBool(text == "true")
	case intKind:
		n, ok := parseInt(text)
		if !ok || v.OverflowInt(n) {
			return "not an integer"
		}
		v.SetInt(n)
	default:
		if json.Unmarshal([]byte(text), v.Addr().Interface()) != nil {
			return "does not fit the Go type"
		}
	}
	return ""
}

// parseInt reads an integer. It also accepts forms such as 3.0 and 3e2.
func parseInt(text string) (int64, bool) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, true
	}
	const exact = 1 << 53
	x, err := strconv.ParseFloat(text, 64)
	if err != nil || x != float64(int64(x)) || x <= -exact || x >= exact {
		return 0, false
	}
	return int64(x), true
}

// sameValue reports whether a and b are written alike. A nil slice equals an empty one, a null JSON equals an absent one.
func sameValue(a, b reflect.Value, f wireField) bool {
	switch kindOf(a.Type()) {
	case jsonKind:
		return wireJSON(a, f) == wireJSON(b, f)
	case attachmentKind:
		return a.Interface().(Attachment).JSON() == b.Interface().(Attachment).JSON()
	case structKind:
		return !slices.ContainsFunc(planOf(a.Type()).fields, func(f wireField) bool {
			return !sameValue(a.Field(f.index), b.Field(f.index), f)
		})
	case pointerKind:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		return sameValue(a.Elem(), b.Elem(), f)
	case sliceKind:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !sameValue(a.Index(i), b.Index(i), f) {
				return false
			}
		}
		return true
	case mapKind:
		return maps.Equal(a.Interface().(map[string]string), b.Interface().(map[string]string))
	case stringKind:
		return orDefault(a, f) == orDefault(b, f)
	case boolKind:
		return a.Bool() == b.Bool()
	case intKind:
		return a.Int() == b.Int()
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

func orDefault(v reflect.Value, f wireField) string {
	if v.Len() == 0 {
		return f.def
	}
	return v.String()
}

// wireJSON returns the text for a field of type JSON.
func wireJSON(v reflect.Value, f wireField) string {
	j := v.Interface().(JSON)
	switch {
	case !j.isNull():
		return strings.Trim(j.s, " \t\r\n")
	case f.object:
		return "{}"
	}
	return "null"
}

func appendStruct(b []byte, v reflect.Value, depth int) (_ []byte, fault string) {
	b = append(b, '{')
	n := len(b)
	if b, fault = appendMembers(b, v, depth); fault != "" {
		return nil, fault
	}
	if len(b) > n {
		b = slices.Delete(b, n, n+1) // the comma before the first member
	}
	return append(b, '}'), ""
}

// appendMembers appends the members of a struct, each after a comma.
func appendMembers(b []byte, v reflect.Value, depth int) (_ []byte, fault string) {
	p := planOf(v.Type())
	for _, f := range p.fields {
		fv := v.Field(f.index)
		if (f.omitEmpty || f.on != nil) && isEmpty(fv) && !p.calls(f, v) {
			continue
		}
		b = append(b, ',')
		b = jsondoc.AppendQuoted(b, f.name)
		b = append(b, ':')
		if b, fault = appendValue(b, fv, f, depth); fault != "" {
			return nil, rules.Under(f.name, fault)
		}
	}
	return b, ""
}

// calls reports whether the type of v requires the member f.
func (p *plan) calls(f wireField, v reflect.Value) bool {
	return p.typ >= 0 && slices.Contains(f.on, orDefault(v.Field(p.fields[p.typ].index), p.fields[p.typ]))
}

func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	}
	return v.IsZero()
}

func appendValue(b []byte, v reflect.Value, f wireField, depth int) (_ []byte, fault string) {
	if depth > jsondoc.MaxDepth {
		return nil, rules.FaultDeep
	}
	switch kindOf(v.Type()) {
	case jsonKind:
		if j := v.Interface().(JSON); f.object && !j.isNull() && j.first() != '{' {
			return nil, "not an object"
		}
		return append(b, wireJSON(v, f)...), ""
	case attachmentKind:
		j := v.Interface().(Attachment).JSON()
		if j.IsZero() {
			return nil, "an attachment without a body"
		}
		return append(b, j.s...), ""
	case structKind:
		return appendStruct(b, v, depth+1)
	case pointerKind:
		if v.IsNil() {
			return append(b, "null"...), ""
		}
		return appendValue(b, v.Elem(), f, depth+1)
	case sliceKind:
		b = append(b, '[')
		for i := range v.Len() {
			if i > 0 {
				b = append(b, ',')
			}
			if b, fault = appendValue(b, v.Index(i), f, depth+1); fault != "" {
				return nil, fault
			}
		}
		return append(b, ']'), ""
	case mapKind:
		m := v.Interface().(map[string]string)
		b = append(b, '{')
		for i, key := range slices.Sorted(maps.Keys(m)) {
			if !utf8.ValidString(key) || !utf8.ValidString(m[key]) {
				return nil, "not valid UTF-8"
			}
			if i > 0 {
				b = append(b, ',')
			}
			b = jsondoc.AppendQuoted(b, key)
			b = append(b, ':')
			b = jsondoc.AppendQuoted(b, m[key])
		}
		return append(b, '}'), ""
	case stringKind:
		s := orDefault(v, f)
		switch {
		case !utf8.ValidString(s):
			return nil, "not valid UTF-8"
		case f.required && s == "":
			return nil, "empty"
		}
		return jsondoc.AppendQuoted(b, s), ""
	case boolKind:
		return strconv.AppendBool(b, v.Bool()), ""
	case intKind:
		return strconv.AppendInt(b, v.Int(), 10), ""
	}
	text, err := jsondoc.Marshal(v.Interface())
	if err != nil {
		return nil, "cannot be encoded as JSON"
	}
	return append(b, text...), ""
}

// mergeStruct returns old, an object's text, with the members rewritten whose value in v has changed. It keeps members that
// v's type does not know.
func mergeStruct(old string, v reflect.Value, depth int) (_ string, fault string) {
	edits, fault := mergeMembers(old, v, depth)
	if fault != "" || len(edits) == 0 {
		return old, fault
	}
	return jsondoc.Splice(old, edits), ""
}

func mergeMembers(old string, v reflect.Value, depth int) (edits []jsondoc.Edit, fault string) {
	if depth > jsondoc.MaxDepth {
		return nil, rules.FaultDeep
	}
	members, ok := jsondoc.MembersOf(old, '{')
	if !ok {
		return nil, "not an object"
	}
	was := reflect.New(v.Type()).Elem()
	p := planOf(v.Type())
	for _, f := range p.fields {
		misfit := decodeMember(was, f, old, members) != ""
		ov, nv := was.Field(f.index), v.Field(f.index)
		if !misfit && sameValue(ov, nv, f) {
			continue
		}
		var value string
		text, there := jsondoc.Find(old, members, f.name)
		switch {
		case (f.omitEmpty || f.on != nil) && isEmpty(nv) && nullable(nv) && !p.calls(f, v):
			value = "null"
		case there && !misfit:
			value, fault = mergeValue(text, ov, nv, f, depth+1)
		default:
			value, fault = encodeValue(nv, f, depth+1)
		}
		if fault != "" {
			return nil, rules.Under(f.name, fault)
		}
		edits = append(edits, jsondoc.Edit{Name: f.name, Value: value})
	}
	return edits, ""
}

// nullable reports whether an optional v that became empty is written as null.
func nullable(v reflect.Value) bool {
	switch kindOf(v.Type()) {
	case stringKind, pointerKind, structKind, jsonKind:
		return true
	}
	return false
}

func encodeValue(v reflect.Value, f wireField, depth int) (string, string) {
	b, fault := appendValue(nil, v, f, depth)
	return string(b), fault
}

// mergeValue returns the text of nv. It keeps the old text except for changed members, at any depth.
func mergeValue(old string, ov, nv reflect.Value, f wireField, depth int) (_ string, fault string) {
	switch kindOf(nv.Type()) {
	case structKind:
		if alike(ov, nv) && old[0] == '{' {
			return mergeStruct(old, nv, depth)
		}
	case pointerKind:
		if !ov.IsNil() && !nv.IsNil() {
			return mergeValue(old, ov.Elem(), nv.Elem(), f, depth+1)
		}
	case sliceKind:
		if old[0] == '[' {
			return mergeSlice(old, ov, nv, f, depth)
		}
	}
	return encodeValue(nv, f, depth)
}

// alike reports whether two structs are versions of one thing: type and id are the same. Unknown members of one attachment
// or source must not end up in another.
func alike(a, b reflect.Value) bool {
	p := planOf(a.Type())
	for _, i := range []int{p.typ, p.id} {
		if i >= 0 && !sameValue(a.Field(p.fields[i].index), b.Field(p.fields[i].index), p.fields[i]) {
			return false
		}
	}
	return true
}

// mergeSlice merges the elements one by one if none was added or removed. Otherwise it keeps the equal elements at both
// ends. It merges the elements between them in pairs, from the front, and encodes the rest anew.
func mergeSlice(old string, ov, nv reflect.Value, f wireField, depth int) (_ string, fault string) {
	elems, _ := jsondoc.MembersOf(old, '[')
	text := func(i int) string { return old[elems[i].Start:elems[i].End] }
	var b strings.Builder
	if ov.Len() == nv.Len() {
		done := 0
		for i, e := range elems {
			value := text(i)
			if !sameValue(ov.Index(i), nv.Index(i), f) {
				if value, fault = mergeValue(value, ov.Index(i), nv.Index(i), f, depth+1); fault != "" {
					return "", fault
				}
			}
			b.WriteString(old[done:e.Start])
			b.WriteString(value)
			done = e.End
		}
		b.WriteString(old[done:])
		return b.String(), ""
	}
	head, tail := 0, 0
	for head < ov.Len() && head < nv.Len() && sameValue(ov.Index(head), nv.Index(head), f) {
		head++
	}
	for tail < ov.Len()-head && tail < nv.Len()-head && sameValue(ov.Index(ov.Len()-1-tail), nv.Index(nv.Len()-1-tail), f) {
		tail++
	}
	b.WriteByte('[')
	for i := range nv.Len() {
		var value string
		switch {
		case i < head:
			value = text(i)
		case i >= nv.Len()-tail:
			value = text(i - nv.Len() + ov.Len())
		case i < ov.Len()-tail: // changed, while elements behind it were added or removed
			value, fault = mergeValue(text(i), ov.Index(i), nv.Index(i), f, depth+1)
		default:
			value, fault = encodeValue(nv.Index(i), f, depth+1)
		}
		if fault != "" {
			return "", fault
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(value)
	}
	b.WriteByte(']')
	return b.String(), ""
}

// repeats reports whether an object in text repeats a name outside the free-form JSON of t. A nil t has no free-form JSON.
func repeats(text string, t reflect.Type) bool {
	if t != nil {
		switch kindOf(t) {
		case jsonKind:
			return false
		case pointerKind:
			return repeats(text, t.Elem())
		case attachmentKind:
			return repeats(text, reflect.TypeFor[AttachmentBody]())
		case structKind:
			if members, ok := jsondoc.MembersOf(text, '{'); ok {
				return membersRepeat(text, members, t)
			}
		case sliceKind:
			if elems, ok := jsondoc.MembersOf(text, '['); ok {
				return slices.ContainsFunc(elems, func(e jsondoc.Member) bool { return repeats(text[e.Start:e.End], t.Elem()) })
			}
		}
	}
	var s jsondoc.Scanner
	s.Scan(text)
	return s.Dup > 0
}

func membersRepeat(text string, members []jsondoc.Member, t reflect.Type) bool {
	p := planOf(t)
	seen := make(map[string]struct{}, len(members))
	for _, m := range members {
		if _, ok := seen[m.Name]; ok {
			return true
		}
		seen[m.Name] = struct{}{}
		var ft reflect.Type
		if i := slices.IndexFunc(p.fields, func(f wireField) bool { return f.name == m.Name }); i >= 0 {
			ft = t.Field(p.fields[i].index).Type
		}
		if repeats(text[m.Start:m.End], ft) {
			return true
		}
	}
	return false
}

// repeatedWithin reports whether an object below the document's own members repeats a name outside free-form JSON. The
// struct type t says where JSON is free-form; a nil t means nowhere.
func repeatedWithin(d *jsondoc.Document, t reflect.Type) bool {
	return d.Dup > 0 && (t == nil || repeats(d.Text, t))
}
