package chat_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/chatstore/chatstore/chat"
)

// One text of each variant, as the SDKs write it. The Python SDK writes all nulls and defaults, naive or Z times, and 0 or 6
// fraction digits. The Node SDK writes .mmmZ and leaves out null members.
var goldenItems = map[string]string{
	"python user_message": `{"id":"msg_1a2b3c4d","thread_id":"thr_1","created_at":"2026-01-02T03:04:05.123456","type":"user_message",` +
		`"content":[{"type":"input_text","text":"Grüße & <b>\u00fc\ud83d\ude00</b>"},{"type":"input_tag","id":"e_1","text":"@ada","data":{"n":12345678901234567890,"n":1.0},"group":null,"interactive":false}],` +
		`"attachments":[{"id":"atc_1","name":"a.pdf","mime_type":"application/pdf","upload_descriptor":null,"type":"file"}],"quoted_text":null,` +
		`"inference_options":{"tool_choice":null,"model":null}}`,
	"python user_message spaced": "\n{ \"id\" : \"msg_1\" ,\t\"thread_id\":\"thr_1\", \"created_at\":\"2026-01-02T03:04:05Z\", \"type\":\"user_message\",\r\n" +
		` "content":[ ], "attachments":[], "quoted_text":"q", "inference_options":{"tool_choice":{"id":"search"},"model":"m"} } `,
	"python assistant_message": `{"id":"msg_2","thread_id":"thr_1","created_at":"2026-01-02T03:04:05","type":"assistant_message","content":[{"annotations":[` +
		`{"type":"annotation","source":{"title":"T","description":null,"timestamp":null,"group":null,"type":"url","url":"https://x.example","attribution":null},"index":3},` +
		`{"type":"annotation","source":{"title":"F","description":null,"timestamp":null,"group":null,"type":"file","filename":"f.txt"},"index":null},` +
		`{"type":"annotation","source":{"title":"E","description":null,"timestamp":null,"group":null,"type":"entity","id":"e_1","icon":"book","label":null,"inline_label":null,"interactive":true,"data":{"k":1e400},"preview":null},"index":null}` +
		`],"text":"hello","type":"output_text"}]}`,
	"python client_tool_call": `{"id":"tc_1","thread_id":"thr_1","created_at":"2026-01-02T03:04:05+00:00","type":"client_tool_call","status":"pending","call_id":"c_1","name":"pick","arguments":{"a":[1.0,1,null]},"output":null}`,
	"python widget":           `{"id":"msg_3","thread_id":"thr_1","created_at":"2026-01-02T03:04:05Z","type":"widget","widget":{"type":"Card","children":[{"type":"Text","value":"x","value":"y"}]},"copy_text":null}`,
	"python generated_image":  `{"id":"msg_4","thread_id":"thr_1","created_at":"2026-01-02T03:04:05.000001Z","type":"generated_image","image":null}`,
	"python task":             `{"id":"tsk_1","thread_id":"thr_1","created_at":"2026-01-02T03:04:05Z","type":"task","task":{"status_indicator":"complete","type":"web_search","title":null,"title_query":"q","queries":["a","b"],"sources":[{"title":"T","description":null,"timestamp":null,"group":null,"type":"url","url":"u","attribution":null}]}}`,
	"python workflow":         `{"id":"wf_1","thread_id":"thr_1","created_at":"2026-01-02T03:04:05Z","type":"workflow","workflow":{"type":"reasoning","tasks":[{"status_indicator":"none","type":"thought","title":null,"content":"hm"},{"status_indicator":"none","type":"custom","title":"t","icon":null,"content":null}],"summary":{"duration":12},"expanded":false}}`,
	"python hidden_context":   `{"id":"msg_5","thread_id":"thr_1","created_at":"2026-01-02T03:04:05Z","type":"hidden_context_item","content":{"a":1,"a":2,"A":"\ud800"}}`,
	"python sdk_hidden":       `{"id":"shcx_1","thread_id":"thr_1","created_at":"2026-01-02T03:04:05Z","type":"sdk_hidden_context","content":"\u0000"}`,
	"python end_of_turn":      `{"id":"msg_6","thread_id":"thr_1","created_at":"2026-01-02T03:04:05Z","type":"end_of_turn"}`,
	"node user_message":       `{"type":"user_message","id":"msg_7","thread_id":"thr_1","created_at":"2026-01-02T03:04:05.678Z","content":[{"type":"input_text","text":"hi"}],"attachments":[{"type":"image","id":"atc_2","mime_type":"image/png","name":"a.png","preview_url":"https://x.example/a.png","upload_url":"https://x.example/up"}],"inference_options":{}}`,
	"node structured_input":   `{"type":"structured_input","id":"msg_8","thread_id":"thr_1","created_at":"2026-01-02T03:04:05.000Z","status":"answered","inputs":[{"type":"multiple_choice","id":"q1","question":"Which?","options":[{"value":"a"},{"value":"b"}],"multiple":false,"answer":{"values":["a"],"skipped":false}},{"type":"freeform","id":"q2","question":"Why?","description":"in short"}]}`,
	"node generated_image":    `{"type":"generated_image","id":"msg_9","thread_id":"thr_1","created_at":"2026-01-02T03:04:05.000Z","image":{"id":"img_1","url":"https://x.example/i.png"}}`,
	"node file task":          `{"type":"task","id":"tsk_2","thread_id":"thr_1","created_at":"2026-01-02T03:04:05.000Z","task":{"type":"file","status_indicator":"loading","sources":[{"type":"file","title":"F","filename":"f"}]}}`,
	"unknown type":            `{"id":"msg_10","thread_id":"thr_1","created_at":"2026-01-02T03:04:05Z","type":"hologram.v2","beams":[1,2,{"deep":[[]]}],"Type":"x","on":true}`,
}

var goldenThreads = map[string]string{
	"python": `{"title":null,"id":"thr_1","created_at":"2026-01-02T03:04:05.123456","status":{"type":"active"},"metadata":{}}`,
	"python locked": `{"title":"T","id":"thr_1","created_at":"2026-01-02T03:04:05Z","status":{"type":"locked","reason":null},"allowed_image_domains":null,"metadata":{"n":12345678901234567890,"n":1.0},` +
		`"items":{"data":[],"has_more":false,"after":null}}`,
	"node":    `{"id":"thr_2","created_at":"2026-01-02T03:04:05.678Z","status":{"type":"closed","reason":"done"},"allowed_image_domains":["a.example"],"metadata":{"k":[1]}}`,
	"sparse":  `{"id":"thr_3","created_at":"2026-01-02T03:04:05.123456789+05:30"}`,
	"unknown": " {\"id\":\"thr_4\",\n\"created_at\":\"2026-01-02T03:04:05Z\", \"Title\":\"not the title\",\"status\":{\"type\":\"archived\",\"since\":9,\"reason\":\"r\"},\"metadata\":null}\n",
}

var goldenAttachments = map[string]string{
	"python file":  `{"id":"atc_1","name":"a.pdf","mime_type":"application/pdf","upload_descriptor":null,"thread_id":null,"metadata":null,"type":"file"}`,
	"python image": `{"id":"atc_2","name":"a.png","mime_type":"image/png","upload_descriptor":{"url":"https://x.example/up","method":"put","headers":{"X-A":"1"}},"type":"image","preview_url":"https://x.example/p"}`,
	"node":         `{"type":"image","id":"atc_3","mime_type":"image/png","name":"a.png","preview_url":"p","upload_url":"https://x.example/up","metadata":{"a":1,"a":2},"thread_id":"thr_1"}`,
	"unknown type": `{"type":"video","id":"atc_4","frames":12345678901234567890}`,
}

// value is the common interface of threads, items and attachments.
type value interface {
	JSON() chat.JSON
	Footprint() int
	String() string
	MarshalJSON() ([]byte, error)
}

// TestGoldenKeptByteForByte: the text survives every way of parsing, Normalized, and parsing again.
func TestGoldenKeptByteForByte(t *testing.T) {
	inThread := func(it chat.Item) (chat.Item, error) { return it.Normalized("thr_1") }
	keptByteForByte(t, "", goldenItems, chat.ParseItem[string], inThread)
	keptByteForByte(t, "thread ", goldenThreads, chat.ParseThread[string], chat.Thread.Normalized)
	keptByteForByte(t, "attachment ", goldenAttachments, chat.ParseAttachment[string], chat.Attachment.Normalized)
}

func keptByteForByte[V value, P interface {
	*V
	json.Unmarshaler
}](t *testing.T, kind string, golden map[string]string, parse func(string) (V, error), normalize func(V) (V, error)) {
	for name, text := range golden {
		t.Run(kind+name, func(t *testing.T) {
			v := must[V](t)(parse(text))
			wantText(t, v, text)
			wantText(t, must[V](t)(normalize(v)), text)
			data := []byte(text)
			if err := P(&v).UnmarshalJSON(data); err != nil {
				t.Fatal(err)
			}
			clear(data) // the value must not point into it
			wantText(t, v, text)
			out, err := v.MarshalJSON()
			if err != nil || string(out) != text {
				t.Errorf("MarshalJSON: got %s, %v, want %s", out, err, text)
			}
			if v.Footprint() < len(text) {
				t.Errorf("Footprint: got %d for a text of %d bytes", v.Footprint(), len(text))
			}
		})
	}
}

func wantText(t *testing.T, v value, want string) {
	t.Helper()
	if got := v.JSON().String(); got != want {
		t.Errorf("JSON:\n got %s\nwant %s", got, want)
	}
}

func wantInvalid(t *testing.T, err error, field string) {
	t.Helper()
	if e, ok := errors.AsType[*chat.Error](err); !ok || !errors.Is(err, chat.ErrInvalid) {
		t.Errorf("got %v, want a chat.Error: %s", err, field)
	} else if e.Field != field {
		t.Errorf("got field %q, want %q", e.Field, field)
	}
}

// refused checks that a call fails with the error of wantInvalid.
func refused(t *testing.T, field string) func(_ any, err error) {
	t.Helper()
	return func(_ any, err error) {
		t.Helper()
		wantInvalid(t, err, field)
	}
}

// wantWith checks the text of an item with another body and returns the item.
func wantWith(t *testing.T, it chat.Item, b chat.Body, text string) chat.Item {
	t.Helper()
	with := must[chat.Item](t)(it.WithBody(b))
	wantText(t, with, text)
	return with
}

func item(t *testing.T, text string) chat.Item {
	t.Helper()
	return must[chat.Item](t)(chat.ParseItem(text))
}

func decode[T chat.Body](t *testing.T, it chat.Item) T {
	t.Helper()
	b, ok, err := chat.DecodeItem[T](it)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	return b
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
