package chat_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
)

// TestFieldsOfGoldenThreads: threads are read as the SDKs write them. Absent and null members read alike.
func TestFieldsOfGoldenThreads(t *testing.T) {
	want := map[string]chat.Thread{
		"python": {ID: "thr_1", CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 123456000, time.UTC), Status: chat.Status{Type: "active"}, Metadata: js(`{}`)},
		"python locked": {ID: "thr_1", Title: "T", CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Status: chat.Status{Type: "locked"},
			AllowedImageDomains: js(`null`), Metadata: js(`{"n":12345678901234567890,"n":1.0}`)},
		"node": {ID: "thr_2", CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 678000000, time.UTC), Status: chat.Status{Type: "closed", Reason: "done"},
			AllowedImageDomains: js(`["a.example"]`), Metadata: js(`{"k":[1]}`)},
		"sparse":  {ID: "thr_3", CreatedAt: time.Date(2026, 1, 1, 21, 34, 5, 123456000, time.UTC), Status: chat.Status{Type: "active"}},
		"unknown": {ID: "thr_4", CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Status: chat.Status{Type: "archived", Reason: "r"}},
	}
	for name, text := range goldenThreads {
		got := must[chat.Thread](t)(chat.ParseThread(text))
		if diff := diffFields(want[name], got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}

// diffFields compares the exported fields without using Equal.
func diffFields(a, b chat.Thread) string {
	fields := func(t chat.Thread) []any {
		return []any{t.ID, t.Title, t.CreatedAt, t.Status, t.AllowedImageDomains.String(), t.Metadata.String(), t.Owner}
	}
	return cmp.Diff(fields(a), fields(b))
}

// TestThreadLiteral: a literal has valid JSON and reads back as Normalized returns it.
func TestThreadLiteral(t *testing.T) {
	for _, c := range []struct {
		thread chat.Thread
		want   string
	}{
		{chat.Thread{ID: "thr_1", CreatedAt: noon}, `{"id":"thr_1","title":null,"created_at":"2026-01-02T12:00:00Z","status":{"type":"active"},"metadata":{}}`},
		{chat.Thread{ID: "a\"b", Title: "T\n", CreatedAt: noon.Add(1500 * time.Nanosecond).In(time.FixedZone("", 3600)), Status: chat.Status{Type: "locked", Reason: "r"},
			AllowedImageDomains: js(`[ "a" ]`), Metadata: js(` {"n": 1.0} `), Owner: chat.Owner{Subject: "ada"}},
			`{"id":"a\"b","title":"T\n","created_at":"2026-01-02T12:00:00.000001Z","status":{"type":"locked","reason":"r"},"allowed_image_domains":[ "a" ],"metadata": {"n": 1.0} }`},
		{chat.Thread{ID: "x", CreatedAt: noon, Status: chat.Status{Type: "closed"}, AllowedImageDomains: js(`null`)},
			`{"id":"x","title":null,"created_at":"2026-01-02T12:00:00Z","status":{"type":"closed","reason":null},"allowed_image_domains":null,"metadata":{}}`},
	} {
		wantText(t, c.thread, c.want)
		n := must[chat.Thread](t)(c.thread.Normalized())
		wantText(t, n, c.want)
		if !n.Equal(c.thread) || n.CreatedAt.Location() != time.UTC || n.Owner != c.thread.Owner {
			t.Errorf("%#v: normalised to %#v", c.thread, n)
		}
		loaded := must[chat.Thread](t)(chat.ParseThread(n.JSON().String()))
		loaded.Owner = n.Owner
		if diff := diffFields(n, loaded); diff != "" || !loaded.Equal(n) {
			t.Errorf("read back: -normalised +loaded:\n%s", diff)
		}
		if again := must[chat.Thread](t)(n.Normalized()); !again.Equal(n) {
			t.Error("a second Normalized changes the thread")
		}
	}
}

// TestZeroStatusIsActive: this holds in JSON, in Equal and in Normalized.
func TestZeroStatusIsActive(t *testing.T) {
	for _, status := range []string{``, `,"status":null`, `,"status":{}`, `,"status":{"type":"active"}`, `,"status":{ "type" : "active", "since":9, "reason":"r" }`} {
		text := `{"id":"thr_1","created_at":"2026-01-02T03:04:05"` + status + `}`
		parsed := must[chat.Thread](t)(chat.ParseThread(text))
		if parsed.Status != (chat.Status{Type: "active"}) {
			t.Errorf("%s: read as %+v", text, parsed.Status)
		}
		zero := parsed
		zero.Status = chat.Status{}
		wantText(t, zero, text)
		if !zero.Equal(parsed) {
			t.Errorf("%s: not Equal", text)
		}
		n := must[chat.Thread](t)(zero.Normalized())
		if wantText(t, n, text); n.Status.Type != "active" {
			t.Errorf("%s: normalised to %+v", text, n.Status)
		}
	}
}

// TestOwnerIsNoPartOfTheJSON: the owner is neither written nor read.
func TestOwnerIsNoPartOfTheJSON(t *testing.T) {
	thread := must[chat.Thread](t)(chat.ParseThread(`{"id":"t","Owner":{"Subject":"eve"},"owner":"eve","created_at":"2026-01-02T03:04:05Z"}`))
	attach := must[chat.Attachment](t)(chat.ParseAttachment(`{"id":"t","Owner":{"Subject":"eve"},"owner":"eve","type":"file"}`))
	if !thread.Owner.IsZero() || !attach.Owner.IsZero() {
		t.Error("an owner was read from JSON")
	}
	thread.Owner, attach.Owner = chat.Owner{Tenant: "acme", Subject: "lovelace"}, chat.Owner{Tenant: "acme", Subject: "lovelace"}
	for _, v := range []value{thread, attach, chat.Thread{ID: "x", Owner: thread.Owner}} {
		if text := v.JSON().String(); strings.Contains(text, "lovelace") || strings.Contains(text, "acme") {
			t.Errorf("the owner was written: %s", text)
		}
	}
	other := thread
	other.Owner.Subject = "bob"
	if thread.Equal(other) {
		t.Error("threads of two owners are Equal")
	}
}

// TestSetFieldWins: only the member of the set field changes. A null or absent member is replaced or added.
func TestSetFieldWins(t *testing.T) {
	text := goldenThreads["unknown"] // title, status, domains absent or odd
	for _, c := range []struct {
		set  func(*chat.Thread)
		want *strings.Replacer
	}{
		{func(th *chat.Thread) { th.Title = "T" }, strings.NewReplacer(`null}`, `null,"title":"T"}`)},
		{func(th *chat.Thread) { th.ID = "x" }, strings.NewReplacer(`thr_4`, `x`)},
		{func(th *chat.Thread) { th.CreatedAt = noon }, strings.NewReplacer(`03:04:05`, `12:00:00`)},
		{func(th *chat.Thread) { th.Status = chat.Status{} }, strings.NewReplacer(`{"type":"archived","since":9,"reason":"r"}`, `{"type":"active","since":9,"reason":null}`)},
		{func(th *chat.Thread) { th.Metadata = js(`{ }`) }, strings.NewReplacer(`null}`, `{ }}`)},
		{func(th *chat.Thread) { th.AllowedImageDomains = js(`[]`) }, strings.NewReplacer(`null}`, `null,"allowed_image_domains":[]}`)},
		{func(th *chat.Thread) {}, strings.NewReplacer()},
		{func(th *chat.Thread) { th.CreatedAt = th.CreatedAt.In(time.FixedZone("", -3600)).Add(999) }, strings.NewReplacer()},
		{func(th *chat.Thread) { th.Owner = chat.Owner{Subject: "ada"} }, strings.NewReplacer()},
	} {
		th := must[chat.Thread](t)(chat.ParseThread(text))
		c.set(&th)
		want := c.want.Replace(text)
		wantText(t, th, want)
		wantText(t, must[chat.Thread](t)(th.Normalized()), want)
	}
	sparse, node := goldenThreads["sparse"], goldenThreads["node"] // sparse: an offset, and more digits than are stored
	wantSet(t, chat.ParseThread[string], sparse, func(th *chat.Thread) {
		th.CreatedAt = th.CreatedAt.In(time.FixedZone("", -3600)).Add(999)
	}, sparse)
	wantSet(t, chat.ParseThread[string], node, func(th *chat.Thread) { th.AllowedImageDomains, th.Metadata = chat.JSON{}, chat.JSON{} },
		strings.NewReplacer(`["a.example"]`, `null`, `{"k":[1]}`, `{}`).Replace(node))
	wantSet(t, chat.ParseThread[string], `{"title":"T"}`, func(th *chat.Thread) { th.Title = "" }, `{"title":null}`)
	wantSet(t, chat.ParseThread[string], `{ }`, func(th *chat.Thread) { th.Title, th.ID = "T", "i" }, `{"id":"i","title":"T" }`)
	wantSet(t, chat.ParseItem[string], `{"type":"x","thread_id":null}`, func(it *chat.Item) { it.ThreadID, it.CreatedAt = "thr_1", noon },
		`{"type":"x","thread_id":"thr_1","created_at":"2026-01-02T12:00:00Z"}`)
	wantSet(t, chat.ParseItem[string], `{"type":"x","thread_id":"y"}`, func(it *chat.Item) { it.ThreadID = "" },
		`{"type":"x","thread_id":""}`)
	file, image := goldenAttachments["python file"], goldenAttachments["node"]
	wantSet(t, chat.ParseAttachment[string], file, func(a *chat.Attachment) { a.ThreadID, a.ID = "thr_1", "b" },
		strings.NewReplacer(`"thread_id":null`, `"thread_id":"thr_1"`, `atc_1`, `b`).Replace(file))
	wantSet(t, chat.ParseAttachment[string], image, func(a *chat.Attachment) { a.ThreadID = "" },
		strings.Replace(image, `"thr_1"`, `null`, 1))
}

// wantSet checks the text of a parsed value after a field was set.
func wantSet[V value](t *testing.T, parse func(string) (V, error), text string, set func(*V), want string) {
	t.Helper()
	v := must[V](t)(parse(text))
	wantText(t, v, text)
	set(&v)
	wantText(t, v, want)
}

// TestAttachmentBody: the body is decoded on demand and written back member by member.
func TestAttachmentBody(t *testing.T) {
	a := must[chat.Attachment](t)(chat.ParseAttachment(goldenAttachments["python image"]))
	b := must[chat.AttachmentBody](t)(a.Decode())
	want := chat.AttachmentBody{Type: "image", Name: "a.png", MIMEType: "image/png", PreviewURL: "https://x.example/p",
		Upload: &chat.UploadDescriptor{URL: "https://x.example/up", Method: "put", Headers: map[string]string{"X-A": "1"}}}
	if diff := cmp.Diff(want, b, sameBody); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	b.Upload.Headers["X-A"] = "spoilt"
	if again := must[chat.AttachmentBody](t)(a.Decode()); again.Upload.Headers["X-A"] != "1" {
		t.Error("a decoded header map is shared")
	}
	b.Upload = nil
	a.Owner = chat.Owner{Subject: "ada"}
	done := must[chat.Attachment](t)(a.WithBody(b))
	wantText(t, done, strings.Replace(goldenAttachments["python image"], `{"url":"https://x.example/up","method":"put","headers":{"X-A":"1"}}`, `null`, 1))
	if done.Owner != a.Owner {
		t.Error("WithBody lost the owner")
	}

	node := must[chat.Attachment](t)(chat.ParseAttachment(goldenAttachments["node"]))
	nb := must[chat.AttachmentBody](t)(node.Decode())
	nb.Name, nb.Metadata = "b.png", js(`{"a":3}`)
	wantText(t, must[chat.Attachment](t)(node.WithBody(nb)), strings.NewReplacer(`a.png`, `b.png`, `{"a":1,"a":2}`, `{"a":3}`).Replace(goldenAttachments["node"]))

	wantText(t, must[chat.Attachment](t)(chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "file", Name: "a"})), `{"id":"atc_1","type":"file","name":"a","mime_type":""}`)
	wantText(t, must[chat.Attachment](t)(chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "image", Upload: &chat.UploadDescriptor{}})),
		`{"id":"atc_1","type":"image","name":"","mime_type":"","preview_url":"","upload_descriptor":{"url":"","method":"","headers":{}}}`)
	headers := map[string]string{"b": "2", "a": "1"}
	made := must[chat.Attachment](t)(chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "file", Upload: &chat.UploadDescriptor{Headers: headers}}))
	headers["a"] = "spoilt"
	wantText(t, made, `{"id":"atc_1","type":"file","name":"","mime_type":"","upload_descriptor":{"url":"","method":"","headers":{"a":"1","b":"2"}}}`)

	for field, b := range map[string]chat.AttachmentBody{
		"type: empty":                                {},
		"name: not valid UTF-8":                      {Type: "file", Name: "\xff"},
		"metadata: not an object":                    {Type: "file", Metadata: js(`[]`)},
		"upload_descriptor.headers: not valid UTF-8": {Type: "file", Upload: &chat.UploadDescriptor{Headers: map[string]string{"\xff": ""}}},
	} {
		refused(t, field)(chat.NewAttachment("atc_1", b))
		refused(t, field)(made.WithBody(b))
	}
	refused(t, "type: missing")(chat.Attachment{}.Decode())
	odd := must[chat.Attachment](t)(chat.ParseAttachment(`{"type":"file","upload_descriptor":{"headers":{"a":1}}}`))
	refused(t, "upload_descriptor.headers: not an object of strings")(odd.Decode())
}

type trap struct{ text, field string }

// traps are texts on which JSON parsers disagree or fail.
var traps = []trap{
	{``, "json: not valid"},
	{`null`, "json: not an object"},
	{`[]`, "json: not an object"},
	{`"x"`, "json: not an object"},
	{`{"type":"x"`, "json: not valid"},
	{`{"type":"x"}}`, "json: not valid"},
	{`{"type":"x",}`, "json: not valid"},
	{`{"type":"x" "a":1}`, "json: not valid"},
	{`{"type":"x","a":01}`, "json: not valid"},
	{`{"type":"x","a":1.}`, "json: not valid"},
	{`{"type":"x","a":.5}`, "json: not valid"},
	{`{"type":"x","a":+1}`, "json: not valid"},
	{`{"type":"x","a":1e}`, "json: not valid"},
	{`{"type":"x","a":-}`, "json: not valid"},
	{`{"type":"x","a":NaN}`, "json: not valid"},
	{`{"type":"x","a":tru}`, "json: not valid"},
	{`{"type":"x","a":"\x41"}`, "json: not valid"},
	{`{"type":"x","a":"\u12g4"}`, "json: not valid"},
	{`{"type":"x","a":"\u12"}`, "json: not valid"},
	{"{\"type\":\"x\",\"a\":\"\n\"}", "json: not valid"},
	{"{\"type\":\"x\"}\x00", "json: not valid"},
	{"\ufeff{\"type\":\"x\"}", "json: not valid"},
	{"{\"type\":\"x\",\"a\":\"\xff\"}", "json: not valid UTF-8"},
	{"{\"type\":\"x\",\"a\":\"\xed\xa0\x80\"}", "json: not valid UTF-8"},
	{`{"type":"x","type":"x"}`, "json: a repeated member name"},
	{`{"type":"x","t\u0079pe":"y"}`, "json: a repeated member name"},
	{`{"type":"x","id":"a","\u0069d":"b"}`, "json: a repeated member name"},
	{`{"type":"x","unknown":{"deep":[{"a":1,"a":1}]}}`, "json: a repeated member name"},
	{`{"type":"x","\ud800":1,"\ud801":1}`, "json: a repeated member name"},
	{`{"type":7}`, "type: not a string"},
	{`{"type":"x","id":7}`, "id: not a string"},
	{`{"type":"x","id":"\ud800"}`, "id: half a surrogate pair"},
	{`{"type":"x","id":"\udc00\ud800"}`, "id: half a surrogate pair"},
	{`{"type":"x","id":{"a":"b"}}`, "id: not a string"},
}

var itemTraps = []trap{
	{`{}`, "type: missing"},
	{`{"type":null}`, "type: missing"},
	{`{"Type":"x"}`, "type: missing"},
	{`{"type":"x","thread_id":7}`, "thread_id: not a string"},
	{`{"type":"x","created_at":1735787045}`, "created_at: not an RFC 3339 time"},
	{`{"type":"user_message","attachments":[{"id":"victim"}],"attachments":[]}`, "json: a repeated member name"},
	{`{"type":"user_message","attachments":[{"type":"file","id":"a","id":"victim"}]}`, "json: a repeated member name"},
	{`{"type":"user_message","attachments":[{"type":"file","upload_descriptor":{"headers":{"a":"1","a":"2"}}}]}`, "json: a repeated member name"},
	{`{"content":[{"text":"a","text":"b"}],"type":"user_message"}`, "json: a repeated member name"},
	{`{"type":"user_message","content":[{"group":{"a":1,"a":2}}]}`, "json: a repeated member name"},
	{`{"type":"user_message","inference_options":{"model":"a","model":"b"}}`, "json: a repeated member name"},
	{`{"type":"assistant_message","content":[{"annotations":[{"source":{"url":"a","url":"b"}}]}]}`, "json: a repeated member name"},
	{`{"type":"workflow","workflow":{"tasks":[{"a":1,"a":2}]}}`, "json: a repeated member name"},
	{`{"type":"end_of_turn","content":{"a":1,"a":2}}`, "json: a repeated member name"}, // content is free-form in hidden_context_item only
	{`{"type":"hidden_context_item","Content":{"a":1,"a":2}}`, "json: a repeated member name"},
}

var threadTraps = []trap{
	{`{"title":7}`, "title: not a string"},
	{`{"status":"active"}`, "status: not an object"},
	{`{"status":{"type":7}}`, "status.type: not a string"},
	{`{"status":{"type":"locked","reason":7}}`, "status.reason: not a string"},
	{`{"status":{"type":"locked","type":"active"}}`, "json: a repeated member name"},
	{`{"metadata":{},"metadata":{}}`, "json: a repeated member name"},
	{`{"Metadata":{"a":1,"a":2}}`, "json: a repeated member name"},
	{`{"created_at":"2026-13-01T00:00:00Z"}`, "created_at: not an RFC 3339 time"},
}

// TestParserTraps: a text that parsers read differently is refused by every function that parses.
func TestParserTraps(t *testing.T) {
	for _, trap := range append(traps, itemTraps...) {
		refused(t, trap.field)(chat.ParseItem(trap.text))
		it := chat.Item{ID: "before"}
		wantInvalid(t, it.UnmarshalJSON([]byte(trap.text)), trap.field)
		if err := json.Unmarshal([]byte(trap.text), &it); err == nil {
			t.Errorf("json.Unmarshal accepts %s", trap.text)
		}
		if it != (chat.Item{ID: "before"}) {
			t.Errorf("%s: a failed Unmarshal changed the item to %v", trap.text, it)
		}
		if trap.field == "json: not valid" || trap.field == "json: not valid UTF-8" {
			refused(t, trap.field)(chat.ParseJSON(trap.text))
		}
	}
	for _, trap := range traps {
		if !strings.HasPrefix(trap.field, "type") {
			refused(t, trap.field)(chat.ParseThread(trap.text))
			wantInvalid(t, new(chat.Thread).UnmarshalJSON([]byte(trap.text)), trap.field)
		}
		refused(t, trap.field)(chat.ParseAttachment(trap.text))
		wantInvalid(t, new(chat.Attachment).UnmarshalJSON([]byte(trap.text)), trap.field)
	}
	for _, trap := range threadTraps {
		refused(t, trap.field)(chat.ParseThread(trap.text))
	}
}

// TestFreeFormJSONMayRepeatNames: free-form JSON is kept as it is, also in attachments within messages.
func TestFreeFormJSONMayRepeatNames(t *testing.T) {
	const free = `{"a":1,"a":[{"b":1,"b":2}],"A":3}`
	for _, text := range []string{
		`{"type":"hidden_context_item","content":` + free + `}`,
		`{"content":[` + free + `],"type":"hidden_context_item"}`,
		`{"type":"client_tool_call","arguments":` + free + `,"output":[` + free + `]}`,
		`{"type":"widget","widget":` + free + `}`,
		`{"type":"user_message","content":[{"type":"input_tag","data":` + free + `}],"attachments":[{"type":"file","id":"a","metadata":` + free + `}]}`,
		`{"type":"assistant_message","content":[{"annotations":[{"source":{"type":"entity","data":` + free + `}}]}]}`,
		`{"type":"workflow","workflow":{"tasks":[{"sources":[{"data":` + free + `}]}]}}`,
	} {
		it := item(t, text)
		wantText(t, it, text)
		decode[chat.Body](t, it)
	}
	wantText(t, must[chat.Thread](t)(chat.ParseThread(`{"metadata":`+free+`}`)), `{"metadata":`+free+`}`)
	wantText(t, attachment(`{"type":"file","metadata":`+free+`}`), `{"type":"file","metadata":`+free+`}`)
}

// TestNamesDifferingInCaseAreOthers: in {"attachments":[victim],"ATTACHMENTS":[]} the attachments are [victim].
func TestNamesDifferingInCaseAreOthers(t *testing.T) {
	text := `{"type":"user_message","ATTACHMENTS":[],"attachments":[{"type":"file","id":"victim","ID":"mine"}],"Attachments":[],` +
		`"content":[{"TEXT":"no","text":"yes","Type":"input_tag"}],"inference_options":{"tool_choice":{"id":"a","Id":"b"},"MODEL":"m"},"ID":"x","Created_At":7}`
	it := item(t, text)
	m := decode[chat.UserMessage](t, it)
	if len(m.Attachments) != 1 || m.Attachments[0].ID != "victim" || m.Content[0].Text != "yes" || m.Content[0].Type != "input_text" ||
		m.InferenceOptions.ToolChoice.ID != "a" || m.InferenceOptions.Model != "" || it.ID != "" {
		t.Errorf("got %+v of %v", m, it)
	}
	wantText(t, it, text)
	th := must[chat.Thread](t)(chat.ParseThread(`{"id":"a","ID":"b","TITLE":"t","Status":{"type":"locked"}}`))
	if th.ID != "a" || th.Title != "" || th.Status.Type != "active" {
		t.Errorf("got %#v, title %q, %+v", th, th.Title, th.Status)
	}
}

// TestHostileTexts: deep nesting and 100,000s of names take time proportional to the size of the text.
func TestHostileTexts(t *testing.T) {
	nested := func(n int) string { return strings.Repeat(`{"a":[`, n/2) + strings.Repeat(`]}`, n/2) }
	if _, err := chat.ParseJSON(nested(1000)); err != nil {
		t.Error(err)
	}
	for _, n := range []int{1002, 1_000_000} {
		refused(t, "json: nested too deep")(chat.ParseJSON(nested(n)))
		refused(t, "json: nested too deep")(chat.ParseItem(`{"type":"x","a":` + nested(n) + `}`))
	}
	var b strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&b, `,"%d":{}`, i)
	}
	text := `{"type":"x"` + b.String() + `}`
	it := item(t, text)
	wantText(t, it, text)
	refused(t, "json: a repeated member name")(chat.ParseItem(`{"type":"x"` + b.String() + `,"77777":1}`))
	refused(t, "json: a repeated member name")(chat.ParseItem(`{"type":"hidden_context_item","x":{"":0` + b.String() + `,"99999":1}}`))
	free := `{"type":"hidden_context_item","content":{"":0` + b.String() + `,"99999":1}}`
	wantText(t, item(t, free), free)
}

// TestAmongManyNames: repeated names are found in objects of every size, without false alarms.
func TestAmongManyNames(t *testing.T) {
	for n := 1; n < 80; n++ {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"%d":{"%d":1,"x":{"y":2}},`, i, i)
		}
		text := `{` + b.String() + `"type":"x"}`
		it, err := chat.ParseItem(text)
		if err != nil {
			t.Fatalf("%d names: %v", n, err)
		}
		it.ID = "set"
		wantText(t, it, text[:len(text)-1]+`,"id":"set"}`)
		text = `{"type":"x","u":{` + b.String() + `"k":{"x":{"y":1},"y":{"y":2,"x":3}},"y":[{"x":4,"y":5},{"y":6}]}}`
		wantText(t, item(t, text), text)
		for _, again := range []int{0, n / 2, n - 1} {
			if _, err := chat.ParseItem(fmt.Sprintf(`{%s"type":"x","%d":1}`, b.String(), again)); err == nil {
				t.Errorf("%d names: the repetition of %d was not found", n, again)
			}
		}
	}
}

// TestTimes: every form of the SDKs and of RFC 3339 is read, in UTC and cut to microseconds.
func TestTimes(t *testing.T) {
	for text, want := range map[string]time.Time{
		"2026-01-02T12:00:00Z":                                 noon,
		"2026-01-02t12:00:00z":                                 noon,
		"2026-01-02 12:00:00":                                  noon,
		"2026-01-02T12:00:00":                                  noon,
		"2026-01-02T12:00:00.5":                                noon.Add(500 * time.Millisecond),
		"2026-01-02T12:00:00.123456":                           noon.Add(123456 * time.Microsecond),
		"2026-01-02T12:00:00.000000Z":                          noon,
		"2026-01-02T12:00:00.9999999999Z":                      noon.Add(999999 * time.Microsecond),
		"2026-01-02T12:00:00.678Z":                             noon.Add(678 * time.Millisecond),
		"2026-01-02T13:30:00+01:30":                            noon,
		"2026-01-01T23:00:00-13:00":                            noon,
		"2026-01-02T12:00:00.000001-00:00":                     noon.Add(time.Microsecond),
		"2024-02-29T00:00:00Z":                                 time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC),
		"0000-01-01T00:00:00Z":                                 time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC),
		"2026-01-02T12:00:00." + strings.Repeat("0", 99) + "Z": noon,
	} {
		full := `{"type":"x","created_at":"` + text + `"}`
		it, err := chat.ParseItem(full)
		if err != nil || !it.CreatedAt.Equal(want) || it.CreatedAt.Location() != time.UTC {
			t.Errorf("%s: got %v, %v, want %v", text, it.CreatedAt, err, want)
		}
		wantText(t, it, full)
	}
	for _, text := range []string{"", "2026", "2026-01-02", "2026-01-02T12:00", "2026-01-02T12:00:00.", "2026-01-02T12:00:00.Z", "2026-01-02T12:00:00,5Z", "2026-01-02T12:00:00+0100", "2026-01-02T12:00:00+1:00",
		"2026-01-02T12:00:00 Z", "2026-00-02T12:00:00Z", "2026-13-02T12:00:00Z", "2026-01-00T12:00:00Z", "2025-02-29T12:00:00Z", "2026-01-32T12:00:00Z", "2026-01-02T24:00:00Z", "2026-01-02T12:60:00Z",
		"2026-01-02T12:00:60Z", "2026-01-02T12:00:00+24:00", "2026-01-02T12:00:00+00:60", "-026-01-02T12:00:00Z", "+2026-01-02T12:00:00Z", "20260102T120000Z", "2026-01-02T12:00:00Zx", " 2026-01-02T12:00:00Z", "2026-01-02X12:00:00Z"} {
		refused(t, "created_at: not an RFC 3339 time")(chat.ParseItem(`{"type":"x","created_at":"` + text + `"}`))
	}
	for at, want := range map[time.Time]string{
		noon:                             "2026-01-02T12:00:00Z",
		noon.Add(120 * time.Millisecond): "2026-01-02T12:00:00.12Z",
		noon.Add(1999 * time.Nanosecond): "2026-01-02T12:00:00.000001Z",
		time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC):                   "0001-01-01T00:00:00.000001Z",
		time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC):      "9999-12-31T23:59:59.999999Z",
		time.Date(10000, 1, 1, 0, 30, 0, 0, time.FixedZone("", 3600)): "9999-12-31T23:30:00Z",
		time.Date(1969, 12, 31, 23, 59, 59, 1999, time.UTC):           "1969-12-31T23:59:59.000001Z",
	} {
		th := chat.Thread{ID: "x", CreatedAt: at}
		n, err := th.Normalized()
		if err != nil || !strings.Contains(n.JSON().String(), `"created_at":"`+want+`"`) {
			t.Errorf("%v: got %s, %v, want %s", at, n.JSON(), err, want)
		}
		if back := must[chat.Thread](t)(chat.ParseThread(n.JSON().String())); !back.CreatedAt.Equal(n.CreatedAt) {
			t.Errorf("%v: read back as %v", n.CreatedAt, back.CreatedAt)
		}
	}
}

// TestNoContentInTexts: fmt and slog print ids and types of a value, and no content.
func TestNoContentInTexts(t *testing.T) {
	const canary = "canary"
	th := chat.Thread{ID: "thr_1", Title: canary, CreatedAt: noon, Metadata: js(`{"k":"canary"}`), AllowedImageDomains: js(`["canary"]`), Status: chat.Status{Type: "locked", Reason: canary},
		Owner: chat.Owner{Tenant: canary, Subject: canary}}
	it := must[chat.Item](t)(chat.NewItem("msg_1", noon, chat.SDKHiddenContext{Content: canary}))
	a := must[chat.Attachment](t)(chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "file", Name: canary}))
	a.Owner = th.Owner
	var log bytes.Buffer
	for _, v := range []any{th, &th, it, &it, a, &a, []chat.Thread{th}, struct{ T chat.Thread }{th}} {
		for _, verb := range []string{"%v", "%+v", "%s", "%q", "%#v", "%x"} {
			if text := fmt.Sprintf(verb, v); strings.Contains(text, canary) || strings.Contains(text, "63616e617279") {
				t.Errorf("%s of %T: %s", verb, v, text)
			}
		}
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("x", "thread", th, "item", it, "attachment", a, "metadata", th.Metadata)
	}
	if strings.Contains(log.String(), canary) || !strings.Contains(log.String(), "thr_1") || !strings.Contains(log.String(), "sdk_hidden_context") {
		t.Errorf("logged %s", log.String())
	}
	if got, want := it.String()+" "+th.String()+" "+a.String(), `item "msg_1" (sdk_hidden_context) thread "thr_1" attachment "atc_1" (file)`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestEqual: equal values have the same JSON, byte for byte, and the same Owner.
func TestEqual(t *testing.T) {
	parse := must[chat.Item](t)
	it := parse(chat.ParseItem(`{"type":"x","id":"a","created_at":"2026-01-02T12:00:00Z"}`))
	same := it
	same.CreatedAt = noon.In(time.FixedZone("", 7200)).Add(5)
	other := it
	other.ID = "b"
	back := other
	back.ID = "a"
	for _, c := range []struct {
		b    chat.Item
		want bool
	}{
		{it, true}, {same, true}, {back, true}, {other, false}, {chat.Item{}, false},
		{parse(chat.ParseItem(`{"type":"x","id":"a","created_at":"2026-01-02T12:00:00Z"}`)), true},
		{parse(chat.ParseItem(`{"type":"x","id":"a","created_at":"2026-01-02T12:00:00"}`)), false},
		{parse(chat.ParseItem(`{"type":"x", "id":"a","created_at":"2026-01-02T12:00:00Z"}`)), false},
	} {
		if it.Equal(c.b) != c.want || c.b.Equal(it) != c.want {
			t.Errorf("%s and %s: Equal is not %v", it.JSON(), c.b.JSON(), c.want)
		}
	}
	a := attachment(goldenAttachments["node"])
	b := a
	b.ThreadID = "thr_2"
	if a.Equal(b) || !a.Equal(attachment(goldenAttachments["node"])) {
		t.Error("Equal is wrong about ThreadID or equal attachments")
	}
	b = a
	b.Owner.Subject = "ada"
	if a.Equal(b) {
		t.Error("attachments of two owners are Equal")
	}
}

// TestJSON covers the free-form type.
func TestJSON(t *testing.T) {
	var zero chat.JSON
	if b, err := json.Marshal(zero); string(b) != "null" || err != nil {
		t.Errorf("zero: %s, %v", b, err)
	}
	wantInvalid(t, zero.Decode(new(any)), "json: does not fit the Go value")
	data := []byte(` {"a":1.0,"a":12345678901234567890} `)
	j := must[chat.JSON](t)(chat.ParseJSON(data))
	clear(data)
	if j.String() != ` {"a":1.0,"a":12345678901234567890} ` || j.IsZero() || !j.Equal(j) || j.Equal(zero) {
		t.Errorf("got %q", j)
	}
	var m struct{ A json.Number }
	if err := j.Decode(&m); err != nil || m.A != "12345678901234567890" {
		t.Errorf("Decode: %v, %v", m, err)
	}
	if err := json.Unmarshal([]byte(`{"J":null,"K":[ 1 ]}`), &struct{ J, K *chat.JSON }{&j, &j}); err != nil || j.String() != `[ 1 ]` {
		t.Errorf("Unmarshal: %v, %v", j, err)
	}
	var k chat.JSON
	if err := json.Unmarshal([]byte(`null`), &k); err != nil || k.String() != "null" {
		t.Errorf("null: %q, %v", k, err)
	}
	wantInvalid(t, j.UnmarshalJSON([]byte(`{`)), "json: not valid")
	if j.String() != `[ 1 ]` {
		t.Errorf("a failed UnmarshalJSON changed the value: %s", j)
	}
}

// TestMarshalInOtherValues: encoding/json may change white space, but not the meaning.
func TestMarshalInOtherValues(t *testing.T) {
	it := item(t, goldenItems["python user_message spaced"])
	b := must[[]byte](t)(json.Marshal(map[string]any{"item": it}))
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(`{"item":`+goldenItems["python user_message spaced"]+`}`)); err != nil || compact.String() != string(b) {
		t.Errorf("got %s, want %s", b, compact.String())
	}
	for _, v := range []any{chat.Item{ID: "x"}, chat.Attachment{ID: "x"}} {
		if _, err := json.Marshal(v); !errors.Is(err, chat.ErrInvalid) {
			t.Errorf("%v: got %v, want ErrInvalid", v, err)
		}
	}
}
