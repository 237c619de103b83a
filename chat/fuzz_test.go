package chat_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/chatstore/chatstore/chat"
)

// wantSameVerdict compares ParseJSON with encoding/json. ParseJSON is stricter about UTF-8 and depth only.
func wantSameVerdict(t *testing.T, text string) (valid bool) {
	t.Helper()
	_, err := chat.ParseJSON(text)
	e, ok := errors.AsType[*chat.Error](err)
	if err != nil && (!ok || !errors.Is(err, chat.ErrInvalid)) {
		t.Fatalf("got %v, want ErrInvalid", err)
	}
	if ok && e.Field == "json: nested too deep" && strings.Count(text, "[")+strings.Count(text, "{") > 1000 {
		return false
	}
	if want := json.Valid([]byte(text)) && utf8.ValidString(text); (err == nil) != want {
		t.Fatalf("%q: ParseJSON returns %v, but valid should be %v", text, err, want)
	}
	return err == nil
}

// members reads the outermost object of a valid text with encoding/json's tokens. It returns the last value of each name and
// whether a name is repeated.
func members(t *testing.T, text string) (values map[string]json.RawMessage, repeated bool) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return nil, false
	}
	values = map[string]json.RawMessage{}
	for dec.More() {
		name := must[json.Token](t)(dec.Token())
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			t.Fatal(err)
		}
		_, ok := values[name.(string)]
		repeated = repeated || ok
		values[name.(string)] = v
	}
	return values, repeated
}

// wantMember compares a string with encoding/json's value of the member with exactly that name.
func wantMember(t *testing.T, values map[string]json.RawMessage, name, got string) {
	t.Helper()
	var want string
	if raw, ok := values[name]; ok {
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatalf("%s is %s, but was read as %q", name, raw, got)
		}
	}
	if got != want {
		t.Fatalf("%s: got %q, want %q", name, got, want)
	}
}

// isInvalid reports whether there is an error, which must be ErrInvalid.
func isInvalid(t *testing.T, err error) bool {
	t.Helper()
	if err != nil && !errors.Is(err, chat.ErrInvalid) {
		t.Fatalf("got %v, want ErrInvalid", err)
	}
	return err != nil
}

// fuzzed checks the properties of every parsed value.
func fuzzed(t *testing.T, text string, v value, err error) (values map[string]json.RawMessage, ok bool) {
	t.Helper()
	valid := wantSameVerdict(t, text)
	if isInvalid(t, err) {
		return nil, false
	}
	if !valid {
		t.Fatalf("%q was parsed, but is not valid JSON", text)
	}
	if got := v.JSON().String(); got != text {
		t.Fatalf("got %q, want %q", got, text)
	}
	values, repeated := members(t, text)
	if values == nil || repeated {
		t.Fatalf("%q was parsed, but is not an object or repeats a name", text)
	}
	if out, err := json.Marshal(v); err != nil || !json.Valid(out) {
		t.Fatalf("Marshal: %q, %v", out, err)
	}
	if v.Footprint() < len(text) || !utf8.ValidString(v.String()) {
		t.Fatalf("footprint %d, %q", v.Footprint(), v.String())
	}
	return values, true
}

func seed(f *testing.F, golden map[string]string, traps ...[]trap) {
	for _, text := range golden {
		f.Add(text)
	}
	for _, trap := range slices.Concat(traps...) {
		f.Add(trap.text)
	}
}

func FuzzItemJSON(f *testing.F) {
	seed(f, goldenItems, traps, itemTraps)
	f.Fuzz(func(t *testing.T, text string) {
		it, err := chat.ParseItem(text)
		values, ok := fuzzed(t, text, it, err)
		if !ok {
			return
		}
		wantMember(t, values, "id", it.ID)
		wantMember(t, values, "thread_id", it.ThreadID)
		wantMember(t, values, "type", string(it.Type()))
		decodes[chat.UserMessage](t, it)
		decodes[chat.AssistantMessage](t, it)
		decodes[chat.ClientToolCall](t, it)
		decodes[chat.Widget](t, it)
		decodes[chat.GeneratedImage](t, it)
		decodes[chat.StructuredInput](t, it)
		decodes[chat.TaskItem](t, it)
		decodes[chat.WorkflowItem](t, it)
		decodes[chat.HiddenContextItem](t, it)
		decodes[chat.SDKHiddenContext](t, it)
		decodes[*chat.EndOfTurn](t, it)
		if b, ok, err := chat.DecodeItem[chat.Body](it); ok {
			if made, err := chat.NewItem("msg_1", noon, b); err == nil {
				decodes[chat.Body](t, made)
			}
		} else {
			isInvalid(t, err)
		}
		n, err := it.Normalized("thr_1")
		if isInvalid(t, err) {
			return
		}
		again, err := chat.ParseItem(n.JSON().String())
		if err != nil || !again.Equal(n) || again.ID != n.ID || again.ThreadID != "thr_1" || !again.CreatedAt.Equal(n.CreatedAt) {
			t.Fatalf("%q reads back as %q, %v", n.JSON(), again.JSON(), err)
		}
	})
}

// decodes decodes an item as T and writes the body back. No byte may change.
func decodes[T chat.Body](t *testing.T, it chat.Item) {
	t.Helper()
	text := it.JSON().String()
	b, ok, err := chat.DecodeItem[T](it)
	if err != nil && (ok || !errors.Is(err, chat.ErrInvalid)) {
		t.Fatalf("%T: %v, %v", b, ok, err)
	}
	if !ok {
		return
	}
	if with, err := it.WithBody(b); err != nil || with.JSON().String() != text {
		t.Fatalf("%T written back: %q, %v, want %q", b, with.JSON(), err, text)
	}
}

func FuzzThreadJSON(f *testing.F) {
	seed(f, goldenThreads, traps, threadTraps)
	f.Fuzz(func(t *testing.T, text string) {
		th, err := chat.ParseThread(text)
		values, ok := fuzzed(t, text, th, err)
		if !ok {
			return
		}
		wantMember(t, values, "id", th.ID)
		wantMember(t, values, "title", th.Title)
		if !th.Owner.IsZero() {
			t.Fatal("a parsed thread has an owner")
		}
		if n, err := th.Normalized(); err == nil && n.JSON().String() != text {
			t.Fatalf("normalised to %q, was %q", n.JSON(), text)
		}
		th.Title, th.CreatedAt = "set\n", noon
		n, err := th.Normalized()
		if isInvalid(t, err) {
			return
		}
		again, err := chat.ParseThread(n.JSON().String())
		if err != nil || !again.Equal(n) || diffFields(again, n) != "" || again.Title != "set\n" || !again.CreatedAt.Equal(noon) {
			t.Fatalf("%q reads back as %q, %v", n.JSON(), again.JSON(), err)
		}
	})
}

func FuzzAttachmentJSON(f *testing.F) {
	seed(f, goldenAttachments, traps)
	f.Fuzz(func(t *testing.T, text string) {
		a, err := chat.ParseAttachment(text)
		values, ok := fuzzed(t, text, a, err)
		if !ok {
			return
		}
		wantMember(t, values, "id", a.ID)
		wantMember(t, values, "thread_id", a.ThreadID)
		b, err := a.Decode()
		if isInvalid(t, err) {
			return
		}
		if with, err := a.WithBody(b); err != nil || with.JSON().String() != text {
			t.Fatalf("written back: %q, %v, want %q", with.JSON(), err, text)
		}
		a.ThreadID = "thr_1"
		if n, err := a.Normalized(); err == nil {
			again, err := chat.ParseAttachment(n.JSON().String())
			if err != nil || !again.Equal(n) || again.ThreadID != "thr_1" {
				t.Fatalf("%q reads back as %q, %v", n.JSON(), again.JSON(), err)
			}
		}
	})
}
