package store_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// Every row that can be stored can be listed.
func TestAPageOfTheDeepestRowsCanBeRead(t *testing.T) {
	const levels = 998 // 1,000 with the item and its content
	text := `{"id":"msg_1","thread_id":"thr_1","created_at":"2026-01-02T12:00:00Z","type":"hidden_context_item","content":` +
		strings.Repeat("[", levels+1) + strings.Repeat("]", levels+1) + `}`
	item, err := chat.ParseItem(text)
	must(t, err)
	if _, err := chat.ParseItem(strings.Replace(text, "[]", "[[]]", 1)); store.CodeOf(err) != store.CodeInvalid {
		t.Errorf("with one level more: got %v, want ErrInvalid", err)
	}
	out, err := store.Page[chat.Item]{Data: []chat.Item{item}}.MarshalJSON()
	must(t, err)
	var page store.Page[chat.Item]
	if err := page.UnmarshalJSON(out); err != nil || !page.Data[0].Equal(item) {
		t.Errorf("read back: %v", err)
	}
}

func TestAPageInALogHasNoContent(t *testing.T) {
	page := store.Page[chat.Thread]{Data: []chat.Thread{{ID: "thr_1", Title: "CANARY"}}, HasMore: true}
	for _, verb := range []string{"%v", "%+v", "%s", "%q", "%#v", "%x"} {
		if text := fmt.Sprintf(verb, page); strings.Contains(text, "CANARY") || strings.Contains(text, "43414e415259") {
			t.Errorf("%s: %s", verb, text)
		}
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("listed", "page", page)
	if strings.Contains(log.String(), "CANARY") || !strings.Contains(log.String(), `"rows":1`) {
		t.Errorf("logged %s", log.String())
	}
	var back map[string]any
	must(t, json.Unmarshal([]byte(log.String()), &back))
}

// Rows in a form that no encoder would write.
const (
	spaced = "\n{ \"id\" : \"msg_1\" ,\t\"type\":\"user_message\",\r\n \"content\":[ ], \"quoted_text\":\"q\" } "
	odd    = `{"type":"hologram.v2","id":"msg_\u0031","Type":"x","n":12345678901234567890,"s":"<ü\ud83d\ude00>","beams":[1.0,null]}`
)

// TestPageJSON: pages are written and read in the wire form, and rows are kept byte for byte.
func TestPageJSON(t *testing.T) {
	text := ` {"has_more" : true,"x":{},"data":[` + spaced + `, ` + odd + ` ],"after":"msg_\u0038"} `
	var p store.Page[chat.Item]
	data := []byte(text)
	must(t, p.UnmarshalJSON(data))
	clear(data)
	if len(p.Data) != 2 || !p.HasMore || p.After != "msg_8" {
		t.Fatalf("got %v", p)
	}
	for i, want := range []string{strings.TrimSpace(spaced), odd} {
		if got := p.Data[i].JSON().String(); got != want {
			t.Errorf("got row %s", got)
		}
	}
	out, err := p.MarshalJSON()
	if want := `{"data":[` + strings.TrimSpace(spaced) + `,` + odd + `],"has_more":true,"after":"msg_8"}`; err != nil || string(out) != want {
		t.Errorf("got %s, %v\nwant %s", out, err, want)
	}
	for _, empty := range []string{`{}`, `{"Data":[{"type":"x"}],"HAS_MORE":true,"After":"x"}`, `{"data":null,"has_more":null,"after":null}`, `{"data":[],"has_more":false}`} {
		var e store.Page[chat.Thread]
		if err := json.Unmarshal([]byte(empty), &e); err != nil || len(e.Data) != 0 || e.HasMore || e.After != "" {
			t.Errorf("%s: got %v, %v", empty, e, err)
		}
		if b, err := json.Marshal(e); err != nil || string(b) != `{"data":[],"has_more":false,"after":null}` {
			t.Errorf("%s: written as %s, %v", empty, b, err)
		}
	}
	var words store.Page[string]
	if err := json.Unmarshal([]byte(`{"data":["<a>","b"]}`), &words); err != nil || len(words.Data) != 2 {
		t.Errorf("got %v, %v", words, err)
	}
	if b, err := words.MarshalJSON(); err != nil || string(b) != `{"data":["<a>","b"],"has_more":false,"after":null}` {
		t.Errorf("got %s, %v", b, err)
	}
	for text, field := range map[string]string{
		`null`:                  "json: not an object",
		`{"data":{}}`:           "data: not an array",
		`{"data":[null]}`:       "data: a row does not fit",
		`{"data":[{"type":7}]}`: "data: a row does not fit",
		`{"data":[{"type":"x","id":"a","id":"b"}]}`: "data: a row does not fit",
		`{"has_more":1}`:             "has_more: not a boolean",
		`{"after":1}`:                "after: not a string",
		`{"after":"\ud800"}`:         "after: half a surrogate pair",
		`{"data":[],"data":[]}`:      "json: a repeated member name",
		`{"data":[],"d\u0061ta":[]}`: "json: a repeated member name",
	} {
		before := p
		err := p.UnmarshalJSON([]byte(text))
		if e, ok := err.(*store.Error); !ok || e.Code != store.CodeInvalid || e.Field != field || !store.IsDefinite(err) {
			t.Errorf("%s: got %v, want %s", text, err, field)
		}
		if len(p.Data) != len(before.Data) || p.After != before.After {
			t.Errorf("%s: the failed UnmarshalJSON changed the page", text)
		}
	}
	if _, err := (store.Page[chat.Item]{Data: []chat.Item{{}}}).MarshalJSON(); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("a zero item: got %v", err)
	}
}

func FuzzPageJSON(f *testing.F) {
	f.Add(`{"data":[` + spaced + `,` + odd + `],"has_more":true,"after":"x"}`)
	f.Add(`{"data":[],"Data":[1],"has_more":false,"after":null}`)
	f.Add(`{"data":[{"type":"x"},{"type":"y"}],"d\u0061ta":[]}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, text string) {
		var p store.Page[chat.Item]
		data := []byte(text)
		if err := p.UnmarshalJSON(data); err != nil {
			if !errors.Is(err, store.ErrInvalid) || p.Data != nil || p.HasMore || p.After != "" {
				t.Fatalf("got %v and the page %v, want ErrInvalid and the zero page", err, p)
			}
			return
		}
		if !json.Valid(data) || !utf8.ValidString(text) {
			t.Fatalf("%q was parsed, but is not valid JSON", text)
		}
		clear(data)
		var values map[string]json.RawMessage
		var after string
		var rows []json.RawMessage
		if err := json.Unmarshal([]byte(text), &values); err != nil || values == nil || names(t, text) != len(values) {
			t.Fatalf("%q was parsed, but is not an object or repeats a name: %v", text, err)
		}
		for name, part := range map[string]any{"after": &after, "data": &rows} {
			if value, ok := values[name]; ok {
				must(t, json.Unmarshal(value, part))
			}
		}
		if p.After != after {
			t.Fatalf("after: got %q, want %q", p.After, after)
		}
		same := func(it chat.Item, row json.RawMessage) bool { return it.JSON().String() == string(row) }
		if !slices.EqualFunc(p.Data, rows, same) {
			t.Fatalf("got %d rows, want %q", len(p.Data), rows)
		}
		out, err := p.MarshalJSON()
		must(t, err)
		var again store.Page[chat.Item]
		must(t, again.UnmarshalJSON(out))
		if twice, err := again.MarshalJSON(); err != nil || !bytes.Equal(out, twice) {
			t.Fatalf("got %q, %v, want %q", twice, err, out)
		}
	})
}

// names counts the names in the outermost object of a text, including repeated ones.
func names(t *testing.T, text string) (n int) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	_, err := dec.Token() // the brace
	for ; err == nil && dec.More(); n++ {
		var value json.RawMessage
		_, err = dec.Token()
		err = errors.Join(err, dec.Decode(&value))
	}
	must(t, err)
	return n
}
