package chatkit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
)

// An accepted request means the same to every case-sensitive parser: no repeated name, and no name in another case, changes
// it.
func FuzzRequest(f *testing.F) {
	for _, text := range []string{
		`{"type":"threads.list","params":{"limit":2,"order":"asc","after":"thr_1"}}`,
		`{"type":"threads.create","params":{"input":{"content":[],"attachments":[],"inference_options":{}}}}`,
		`{"type":"threads.list","TYPE":"threads.delete"}`, `{"type":"a","type":"b"}`, `{"type":1}`, `{"params":null}`, `[]`, `null`, ``,
		`{"type":"threads.update","params":{"thread_id":"a","Thread_ID":"b","title":"\ud800"}}`, "\xef\xbb\xbf{}", `{"type":"a"} {}`,
		`{"type":"\u0074hreads.list","params":{"limit":1e3}}`, `{"type":"x","params":{"limit":99999999999999999999}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var req request
		if decode("body", text, &req) != nil {
			return
		}
		var m map[string]any
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatalf("accepted %q, which is not an object: %v", text, err)
		}
		wantMember(t, m, "type", req.Type)
		if params, ok := m["params"].(map[string]any); ok {
			wantMember(t, params, "thread_id", req.Params.ThreadID)
			wantMember(t, params, "after", req.Params.After)
			wantMember(t, params, "attachment_id", req.Params.AttachmentID)
		}
	})
}

func wantMember(t *testing.T, m map[string]any, name, got string) {
	t.Helper()
	if want, _ := m[name].(string); got != want {
		t.Fatalf("%s is %q, but was read as %q", name, want, got)
	}
}

// listener is a Responder with all hooks. It says nothing.
type listener struct{}

func (listener) Respond(context.Context, *Turn) error     { return nil }
func (listener) Act(context.Context, *Turn, Action) error { return nil }

func (listener) ActNow(context.Context, chat.Thread, Action) (chat.Item, error) {
	return chat.Item{}, nil
}

func (listener) Transcribe(context.Context, []byte, string) (string, error)   { return "", nil }
func (listener) TakeFeedback(context.Context, string, []string, string) error { return nil }
func (listener) Create(_ context.Context, _ string, _ int64, b chat.AttachmentBody) (chat.AttachmentBody, error) {
	return b, nil
}
func (listener) Delete(context.Context, string) error { return nil }

// Any text is answered without a panic or an internal error. Text that encoding/json takes, and that repeats no name, is not
// refused as JSON. Other text is refused, for the right reason.
func FuzzAnswer(f *testing.F) {
	for kind := range answers {
		f.Add([]byte(`{"type":"` + kind + `","params":{"thread_id":"thr","item_id":"i","item_ids":["i"],"kind":"positive","title":"t"}}`))
	}
	for kind := range streams {
		f.Add([]byte(`{"type":"` + kind + `","params":{"thread_id":"thr","item_id":"i","result":{},"input":{"content":[{"text":"a"}]}}}`))
	}
	for _, text := range []string{
		`{"type":"threads.create","params":{"input":{"content":[{"text":"\ud83d"}],"quoted_text":"\udc00"}},"metadata":{"\ud800":1}}`,
		`{"type":"threads.create","params":{"input":{"content":[{"text":"a","text":"b"}]}}}`,
		`{"type":"threads.create","params":{"input":{"content":"a","inference_options":[]}}}`,
		`{"type":"threads.add_structured_input","params":{"thread_id":"thr","item_id":"i","input":{"status":"answered","answers":{"q":{"values":["\ud83d"]}}}}}`,
		`{"type":"input.transcribe","params":{"audio_base64":"AP8=","mime_type":"audio/webm"},"metadata":[]}`,
		`{"type":"attachments.create","params":{"name":"\ud83d","mime_type":"image/PNG; a","size":1e400}}`,
		`{"type":"threads.list","params":{"limit":-1,"after":"\ud83d"}}`, "{\"type\":\"threads.list\",\"params\":{\"after\":\"\xff\"}}",
		`{"a":` + strings.Repeat("[", 1100) + strings.Repeat("]", 1100) + `}`, `{"a":1}}`, `{"type":null,"params":null,"metadata":null}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s := memstore.New()
		th := chat.Thread{ID: "thr", CreatedAt: now()}
		testenv.Must(t, s.SaveThread(t.Context(), th))
		form := chat.StructuredInput{Inputs: []chat.Input{{Type: "freeform", ID: "q"}}}
		testenv.Must(t, s.AddThreadItem(t.Context(), "thr", testenv.Value(chat.NewItem("i", now(), form))(t)))
		h := NewHandler(s, listener{}, WithFiles(listener{}), WithLogger(slog.New(slog.DiscardHandler)))
		r := httptest.NewRequest("POST", "/", bytes.NewReader(text))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		answer := w.Body.String()
		if w.Code >= 500 || strings.Contains(answer, `"type":"error"`) {
			t.Fatalf("%q: %d %s", text, w.Code, answer)
		}
		want := ""
		switch {
		case !utf8.Valid(text):
			want = "json: not valid UTF-8"
		case !json.Valid(text):
			want = "json: "
		case repeats(json.NewDecoder(bytes.NewReader(text))):
			want = "a repeated member name"
		}
		if refused := w.Code == 400 && strings.Contains(answer, `"code":"invalid"`); want != "" && (!refused || !strings.Contains(answer, want)) {
			t.Fatalf("%q: %d %s, want %q", text, w.Code, answer, want)
		}
		if want != "" {
			return
		}
		for _, wrong := range []string{"json: not valid", "a repeated member name"} {
			if strings.Contains(answer, wrong) {
				t.Fatalf("%q: %d %s", text, w.Code, answer)
			}
		}
	})
}

// repeats reports whether an object in valid JSON repeats a name.
func repeats(d *json.Decoder) bool {
	type object struct {
		names map[string]bool // nil for an array
		value bool            // a value comes next
	}
	d.UseNumber()
	var open []object
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return false
		}
		if err != nil {
			panic(err)
		}
		var top *object
		if len(open) > 0 {
			top = &open[len(open)-1]
		}
		if name, ok := token.(string); ok && top != nil && top.names != nil && !top.value {
			if top.names[name] {
				return true
			}
			top.names[name], top.value = true, true
			continue
		}
		switch token {
		case json.Delim('{'):
			open = append(open, object{names: map[string]bool{}})
		case json.Delim('['):
			open = append(open, object{})
		case json.Delim('}'), json.Delim(']'):
			if open = open[:len(open)-1]; len(open) > 0 {
				open[len(open)-1].value = false
			}
		default:
			if top != nil {
				top.value = false
			}
		}
	}
}
