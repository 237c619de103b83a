package store_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/chatstore/chatstore/store"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func js(text string) store.JSON {
	j, err := store.ParseJSON(text)
	if err != nil {
		panic(err)
	}
	return j
}

func ptr[T any](v T) *T { return &v }

var sameBody = cmp.Options{cmp.AllowUnexported(store.JSON{}), cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b store.Attachment) bool { return a.Equal(b) })}

var pdf = `{"id":"atc_1","name":"a.pdf","mime_type":"application/pdf","upload_descriptor":null,"type":"file"}`

func attachment(text string) store.Attachment {
	a, err := store.ParseAttachment(text)
	if err != nil {
		panic(err)
	}
	return a
}

// TestDecodeItemReadsEveryVariant: what the SDKs write is read, also with all nulls, and with nothing but what must be.
func TestDecodeItemReadsEveryVariant(t *testing.T) {
	want := map[string]store.Body{
		"python user_message": store.UserMessage{
			Content: []store.UserContent{
				{Type: "input_text", Text: "Grüße & <b>ü😀</b>"},
				{Type: "input_tag", ID: "e_1", Text: "@ada", Data: js(`{"n":12345678901234567890,"n":1.0}`)},
			},
			Attachments: []store.Attachment{attachment(pdf)},
		},
		"python user_message spaced": store.UserMessage{QuotedText: "q",
			InferenceOptions: store.InferenceOptions{ToolChoice: &store.ToolChoice{ID: "search"}, Model: "m"}},
		"python assistant_message": store.AssistantMessage{Content: []store.AssistantContent{{Type: "output_text", Text: "hello", Annotations: []store.Annotation{
			{Type: "annotation", Source: store.Source{Type: "url", Title: "T", URL: "https://x.example"}, Index: ptr(3)},
			{Type: "annotation", Source: store.Source{Type: "file", Title: "F", Filename: "f.txt"}},
			{Type: "annotation", Source: store.Source{Type: "entity", Title: "E", ID: "e_1", Icon: "book", Interactive: true, Data: js(`{"k":1e400}`)}},
		}}}},
		"python client_tool_call": store.ClientToolCall{Status: "pending", CallID: "c_1", Name: "pick", Arguments: js(`{"a":[1.0,1,null]}`)},
		"python widget":           store.Widget{Widget: js(`{"type":"Card","children":[{"type":"Text","value":"x","value":"y"}]}`)},
		"python generated_image":  store.GeneratedImage{},
		"python task": store.TaskItem{Task: store.Task{Type: "web_search", StatusIndicator: "complete", TitleQuery: "q", Queries: []string{"a", "b"},
			Sources: []store.Source{{Type: "url", Title: "T", URL: "u"}}}},
		"python workflow": store.WorkflowItem{Workflow: store.Workflow{Type: "reasoning", Summary: &store.WorkflowSummary{Duration: ptr(12)}, Tasks: []store.Task{
			{Type: "thought", StatusIndicator: "none", Content: "hm"}, {Type: "custom", StatusIndicator: "none", Title: "t"}}}},
		"python hidden_context": store.HiddenContextItem{Content: js(`{"a":1,"a":2,"A":"\ud800"}`)},
		"python sdk_hidden":     store.SDKHiddenContext{Content: "\x00"},
		"python end_of_turn":    store.EndOfTurn{},
		"node user_message": store.UserMessage{Content: []store.UserContent{{Type: "input_text", Text: "hi"}},
			Attachments: []store.Attachment{attachment(`{"type":"image","id":"atc_2","mime_type":"image/png","name":"a.png","preview_url":"https://x.example/a.png","upload_url":"https://x.example/up"}`)}},
		"node structured_input": store.StructuredInput{Status: "answered", Inputs: []store.Input{
			{Type: "multiple_choice", ID: "q1", Question: "Which?", Options: []store.InputOption{{Value: "a"}, {Value: "b"}}, Answer: &store.InputAnswer{Values: []string{"a"}}},
			{Type: "freeform", ID: "q2", Question: "Why?", Description: "in short"}}},
		"node generated_image": store.GeneratedImage{Image: &store.Image{ID: "img_1", URL: "https://x.example/i.png"}},
		"node file task":       store.TaskItem{Task: store.Task{Type: "file", StatusIndicator: "loading", Sources: []store.Source{{Type: "file", Title: "F", Filename: "f"}}}},
	}
	for name, text := range goldenItems {
		t.Run(name, func(t *testing.T) {
			it := must[store.Item](t)(store.ParseItem(text))
			got, ok, err := store.DecodeItem[store.Body](it)
			if err != nil || ok != (want[name] != nil) {
				t.Fatalf("DecodeItem: %v, %v", ok, err)
			}
			if diff := cmp.Diff(want[name], got, sameBody); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if !ok {
				return
			}
			// The body that was read is the body that is there: nothing to write.
			same := must[store.Item](t)(it.WithBody(got))
			wantText(t, same, text)
			// And a new item of it reads the same.
			made := must[store.Item](t)(store.NewItem("msg_1", noon, got))
			again, _, err := store.DecodeItem[store.Body](made)
			if diff := cmp.Diff(got, again, sameBody); err != nil || diff != "" {
				t.Errorf("a new item of it: %v, -want +got:\n%s", err, diff)
			}
		})
	}
}

// TestNewItemWritesTheWireShape: members that a variant must have are there, also when empty.
func TestNewItemWritesTheWireShape(t *testing.T) {
	for _, c := range []struct {
		body store.Body
		want string
	}{
		{store.UserMessage{}, `"user_message","content":[],"attachments":[],"inference_options":{}`},
		{store.UserMessage{
			Content:     []store.UserContent{{Text: "<&\u2028\x00\"\\\n\r\t\x7f"}, {Type: "input_tag", Text: "t"}},
			Attachments: []store.Attachment{attachment(pdf)}, QuotedText: "q",
			InferenceOptions: store.InferenceOptions{ToolChoice: &store.ToolChoice{}, Model: "m"},
		}, `"user_message","content":[{"type":"input_text","text":"<&` + "\u2028" + `\u0000\"\\\n\r\t` + "\x7f" + `"},{"type":"input_tag","id":"","text":"t","data":{}}],` +
			`"attachments":[` + pdf + `],"quoted_text":"q","inference_options":{"tool_choice":{"id":""},"model":"m"}`},
		{store.AssistantMessage{Content: []store.AssistantContent{{Annotations: []store.Annotation{{Source: store.Source{Type: "url"}}, {Source: store.Source{Type: "file"}, Index: ptr(0)}, {Source: store.Source{Type: "entity"}}}}}},
			`"assistant_message","content":[{"type":"output_text","text":"","annotations":[{"type":"annotation","source":{"type":"url","title":"","url":""}},` +
				`{"type":"annotation","source":{"type":"file","title":"","filename":""},"index":0},{"type":"annotation","source":{"type":"entity","title":"","id":"","data":{}}}]}]`},
		{store.ClientToolCall{}, `"client_tool_call","status":"pending","call_id":"","name":"","arguments":{}`},
		{store.ClientToolCall{Status: "completed", Arguments: js(` {"a": 1} `), Output: js(`[1.0]`)}, `"client_tool_call","status":"completed","call_id":"","name":"","arguments":{"a": 1},"output":[1.0]`},
		{store.Widget{CopyText: "c"}, `"widget","widget":{},"copy_text":"c"`},
		{store.GeneratedImage{}, `"generated_image"`},
		{store.GeneratedImage{Image: &store.Image{}}, `"generated_image","image":{"id":"","url":""}`},
		{store.StructuredInput{Inputs: []store.Input{{Type: "multiple_choice"}, {Type: "freeform", Answer: &store.InputAnswer{}}}},
			`"structured_input","status":"pending","inputs":[{"type":"multiple_choice","id":"","question":"","options":[]},{"type":"freeform","id":"","question":"","answer":{"values":[],"skipped":false}}]`},
		{store.TaskItem{Task: store.Task{Type: "web_search"}}, `"task","task":{"type":"web_search","status_indicator":"none","queries":[],"sources":[]}`},
		{store.TaskItem{Task: store.Task{Type: "thought"}}, `"task","task":{"type":"thought","status_indicator":"none","content":""}`},
		{store.WorkflowItem{Workflow: store.Workflow{Type: "custom", Summary: &store.WorkflowSummary{Duration: ptr(0)}}}, `"workflow","workflow":{"type":"custom","tasks":[],"summary":{"duration":0},"expanded":false}`},
		{store.HiddenContextItem{}, `"hidden_context_item","content":null`},
		{store.HiddenContextItem{Content: js(`"x"`)}, `"hidden_context_item","content":"x"`},
		{store.SDKHiddenContext{}, `"sdk_hidden_context","content":""`},
		{store.EndOfTurn{}, `"end_of_turn"`},
		{&store.EndOfTurn{}, `"end_of_turn"`},
	} {
		it := must[store.Item](t)(store.NewItem("msg_1", noon, c.body))
		wantText(t, it, `{"id":"msg_1","thread_id":"","created_at":"2026-01-02T12:00:00Z","type":`+c.want+`}`)
		it = must[store.Item](t)(store.NormalizeItem(store.OpAddThreadItem, "thr_1", it))
		wantText(t, it, `{"id":"msg_1","thread_id":"thr_1","created_at":"2026-01-02T12:00:00Z","type":`+c.want+`}`)
	}
}

type mine struct {
	Score float64           `json:"score"`
	When  time.Time         `json:"when,omitzero"`
	Any   map[string]any    `json:"any,omitempty"`
	Raw   []byte            `json:"raw,omitempty"`
	Next  *mine             `json:"next,omitempty"`
	Tags  map[string]string `json:"tags"`
	Case  string
	Skip  string `json:"-"`
	n     int
}

func (mine) ItemType() store.ItemType { return "acme.score" }

type notAStruct []int

func (notAStruct) ItemType() store.ItemType { return "acme.list" }

type thief struct {
	ID string `json:"id"`
}

func (thief) ItemType() store.ItemType { return "acme.thief" }

type typed struct{ typ store.ItemType }

func (b typed) ItemType() store.ItemType { return b.typ }

// TestBodiesOfOnesOwn: a program's own struct is a body like those here.
func TestBodiesOfOnesOwn(t *testing.T) {
	body := mine{Score: 1.5, When: noon, Any: map[string]any{"k": "<v>"}, Raw: []byte("abc"), Next: &mine{Score: 2}, Tags: map[string]string{"b": "2", "a": "1"}, Case: "c", n: 1}
	it := must[store.Item](t)(store.NewItem("x_1", noon, body))
	wantText(t, it, `{"id":"x_1","thread_id":"","created_at":"2026-01-02T12:00:00Z","type":"acme.score","score":1.5,"when":"2026-01-02T12:00:00Z","any":{"k":"<v>"},"raw":"YWJj",`+
		`"next":{"score":2,"tags":{},"Case":""},"tags":{"a":"1","b":"2"},"Case":"c"}`)
	got, ok, err := store.DecodeItem[*mine](it)
	body.n = 0
	if diff := cmp.Diff(&body, got, cmp.AllowUnexported(mine{}), cmpopts.EquateEmpty()); !ok || err != nil || diff != "" {
		t.Errorf("%v, %v, -want +got:\n%s", ok, err, diff)
	}
	got.Next.Score = 3
	changed := must[store.Item](t)(it.WithBody(got))
	wantText(t, changed, strings.Replace(it.JSON().String(), `"score":2`, `"score":3`, 1))

	ring := &mine{}
	ring.Next = ring
	for _, c := range []struct {
		body  store.Body
		field string
	}{
		{nil, "body: nil"},
		{(*mine)(nil), "body: nil"},
		{notAStruct{1}, "body: not a struct"},
		{thief{}, "body: has a member of the item's own"},
		{typed{""}, "type: empty"},
		{typed{"Aa"}, "type: not of a-z, 0-9, _ and ."},
		{typed{store.ItemType(strings.Repeat("x", 65))}, "type: longer than 64 bytes"},
		{mine{Any: map[string]any{"f": func() {}}}, "any: no JSON can be made of it"},
		{store.SDKHiddenContext{Content: "a\xff"}, "content: not valid UTF-8"},
		{store.TaskItem{}, "task.type: empty"},
		{store.WorkflowItem{Workflow: store.Workflow{Type: "custom", Tasks: []store.Task{{Type: "file", Sources: []store.Source{{}}}}}}, "workflow.tasks.sources.type: empty"},
		{store.Widget{Widget: js(`[1]`)}, "widget: not an object"},
		{store.UserMessage{Attachments: []store.Attachment{{ID: "atc_1"}}}, "attachments: an attachment without a body"},
		{store.HiddenContextItem{Content: js(strings.Repeat("[", 1000) + strings.Repeat("]", 1000))}, "json: nested too deep"},
	} {
		_, err := store.NewItem("x_1", noon, c.body)
		wantInvalid(t, err, c.field)
	}
	_, err = store.NewItem("x_1", noon, ring)
	wantInvalid(t, err, "body: nested too deep")
	_, err = it.WithBody(ring)
	wantInvalid(t, err, "body: nested too deep")
	if _, ok, err := store.DecodeItem[notAStruct](must[store.Item](t)(store.ParseItem(`{"type":"acme.list"}`))); ok || !errors.Is(err, store.ErrInvalid) {
		t.Errorf("decoding no struct: got %v, %v, want ErrInvalid", ok, err)
	}
}

// TestDecodeItemOfAnotherType: ok is false, and that is no error.
func TestDecodeItemOfAnotherType(t *testing.T) {
	it := must[store.Item](t)(store.NewItem("msg_1", noon, store.EndOfTurn{}))
	if _, ok, err := store.DecodeItem[store.UserMessage](it); ok || err != nil {
		t.Errorf("got %v, %v", ok, err)
	}
	if _, ok, err := store.DecodeItem[*store.UserMessage](it); ok || err != nil {
		t.Errorf("a pointer: got %v, %v", ok, err)
	}
	if b, ok, err := store.DecodeItem[*store.EndOfTurn](it); !ok || err != nil || b == nil {
		t.Errorf("a pointer: got %v, %v", ok, err)
	}
	for _, it := range []store.Item{{}, must[store.Item](t)(store.ParseItem(`{"type":"x"}`))} {
		if _, ok, err := store.DecodeItem[store.Body](it); ok || err != nil {
			t.Errorf("%v: got %v, %v", it, ok, err)
		}
	}
}

// TestDecodeItemThatDoesNotFit: ErrInvalid that names the member, and not a word of its content.
func TestDecodeItemThatDoesNotFit(t *testing.T) {
	for text, field := range map[string]string{
		`{"type":"user_message","content":"secret"}`:                                                 "content: not an array",
		`{"type":"user_message","content":[{"text":7}]}`:                                             "content.text: not a string",
		`{"type":"user_message","content":[7]}`:                                                      "content: not an object",
		`{"type":"user_message","attachments":[{"id":"a"}]}`:                                         "attachments: not an attachment",
		`{"type":"user_message","content":[{"interactive":"yes"}]}`:                                  "content.interactive: not a boolean",
		`{"type":"user_message","inference_options":[]}`:                                             "inference_options: not an object",
		`{"type":"workflow","workflow":{"summary":{"duration":1.5}}}`:                                "workflow.summary.duration: not an integer",
		`{"type":"workflow","workflow":{"summary":{"duration":1e300}}}`:                              "workflow.summary.duration: not an integer",
		`{"type":"task","task":{"queries":["a",1]}}`:                                                 "task.queries: not a string",
		`{"type":"sdk_hidden_context","content":{"a":1}}`:                                            "content: not a string",
		`{"type":"assistant_message","content":[{"annotations":[{"source":{"title":["secret"]}}]}]}`: "content.annotations.source.title: not a string",
	} {
		it := must[store.Item](t)(store.ParseItem(text))
		_, ok, err := store.DecodeItem[store.Body](it)
		if ok {
			t.Errorf("%s: ok", text)
		}
		wantInvalid(t, err, field)
		wantText(t, it, text)
	}
	for _, text := range []string{`9007199254740993.0`, `-9007199254740993.0`} { // no float64 is that
		it := must[store.Item](t)(store.ParseItem(`{"type":"workflow","workflow":{"summary":{"duration":` + text + `}}}`))
		_, _, err := store.DecodeItem[store.WorkflowItem](it)
		wantInvalid(t, err, "workflow.summary.duration: not an integer")
	}
	for _, text := range []string{`12`, `12.0`, `1.2e1`, `120e-1`} {
		it := must[store.Item](t)(store.ParseItem(`{"type":"workflow","workflow":{"summary":{"duration":` + text + `}}}`))
		if b, _, err := store.DecodeItem[store.WorkflowItem](it); err != nil || *b.Workflow.Summary.Duration != 12 {
			t.Errorf("a duration of %s: got %v, %v", text, b, err)
		}
	}
}

// TestWithBodyWritesOnlyWhatChanged: every other byte stays, in nested objects too.
func TestWithBodyWritesOnlyWhatChanged(t *testing.T) {
	t.Run("client tool call", func(t *testing.T) {
		text := ` {"x":{"n":1.0}, "type":"client_tool_call","status" : "pending","call_id":"c","name":"n","arguments":{ "a" : 1 },"output":null,"future":[ 1 ],"id":"tc_1"}`
		it := must[store.Item](t)(store.ParseItem(text))
		call, _, err := store.DecodeItem[store.ClientToolCall](it)
		if err != nil {
			t.Fatal(err)
		}
		call.Status, call.Output = "completed", js(`{"r":1.0}`)
		it = must[store.Item](t)(it.WithBody(call))
		wantText(t, it, strings.NewReplacer(`"pending"`, `"completed"`, `"output":null`, `"output":{"r":1.0}`).Replace(text))
		call.Output = store.JSON{}
		it = must[store.Item](t)(it.WithBody(&call))
		wantText(t, it, strings.Replace(text, `"pending"`, `"completed"`, 1))
	})
	t.Run("workflow", func(t *testing.T) {
		text := `{"type":"workflow","workflow":{"type":"custom","glow":true,"tasks":[ {"type":"custom","title":"a","k":1} ,{"type":"thought","content":"b","k":2}, {"type":"custom","title":"c","k":3}],"expanded":false}}`
		it := must[store.Item](t)(store.ParseItem(text))
		for _, c := range []struct {
			change func(*store.Workflow)
			want   *strings.Replacer
		}{
			{func(w *store.Workflow) { w.Expanded = true }, strings.NewReplacer(`false`, `true`)},
			{func(w *store.Workflow) { w.Tasks[1].StatusIndicator = "complete" }, strings.NewReplacer(`"k":2}`, `"k":2,"status_indicator":"complete"}`)},
			{func(w *store.Workflow) { w.Tasks[1] = store.Task{Type: "image"} }, strings.NewReplacer( // another thing: nothing of the old one
				`{"type":"thought","content":"b","k":2}`, `{"type":"image","status_indicator":"none"}`)},
			{func(w *store.Workflow) { w.Tasks = w.Tasks[1:] }, strings.NewReplacer(` {"type":"custom","title":"a","k":1} ,`, ``, `, {`, `,{`)},
			{func(w *store.Workflow) { w.Tasks = append(w.Tasks, store.Task{Type: "image", Title: "d"}) }, strings.NewReplacer(
				`[ {`, `[{`, `} ,{`, `},{`, `, {`, `,{`, `"k":3}`, `"k":3},{"type":"image","status_indicator":"none","title":"d"}`)},
			{func(w *store.Workflow) { w.Summary = &store.WorkflowSummary{Title: "s"} }, strings.NewReplacer(`false}`, `false,"summary":{"title":"s"}}`)},
			{func(w *store.Workflow) { w.Tasks = nil }, strings.NewReplacer(text[strings.Index(text, "[ {"):strings.Index(text, "]")+1], `[]`)},
		} {
			b, _, err := store.DecodeItem[store.WorkflowItem](it)
			if err != nil {
				t.Fatal(err)
			}
			c.change(&b.Workflow)
			wantText(t, must[store.Item](t)(it.WithBody(b)), c.want.Replace(text))
		}
	})
	t.Run("attachments of a message", func(t *testing.T) {
		node := goldenItems["node user_message"]
		it := must[store.Item](t)(store.ParseItem(node))
		b, _, err := store.DecodeItem[store.UserMessage](it)
		if err != nil {
			t.Fatal(err)
		}
		b.Attachments = append(b.Attachments, attachment(pdf))
		wantText(t, must[store.Item](t)(it.WithBody(b)), strings.Replace(node, `/up"}]`, `/up"},`+pdf+`]`, 1))
		b.Attachments = b.Attachments[1:]
		if got := must[store.Item](t)(it.WithBody(b)).JSON().String(); strings.Contains(got, "upload_url") {
			t.Errorf("what was known of one attachment is now another's: %s", got)
		}
	})
	t.Run("optional members", func(t *testing.T) {
		text := goldenItems["python user_message spaced"]
		it := must[store.Item](t)(store.ParseItem(text))
		b, _, err := store.DecodeItem[store.UserMessage](it)
		if err != nil {
			t.Fatal(err)
		}
		b.QuotedText, b.InferenceOptions.ToolChoice = "", nil
		it = must[store.Item](t)(it.WithBody(b))
		wantText(t, it, strings.NewReplacer(`"q"`, `null`, `{"id":"search"}`, `null`).Replace(text))
		if got, _, err := store.DecodeItem[store.UserMessage](it); err != nil || !cmp.Equal(b, got, sameBody) {
			t.Errorf("read back: %v, %s", err, cmp.Diff(b, got, sameBody))
		}
	})
	t.Run("a member that did not fit", func(t *testing.T) {
		it := must[store.Item](t)(store.ParseItem(`{"type":"task","task":7,"x":1}`))
		wantText(t, must[store.Item](t)(it.WithBody(store.TaskItem{Task: store.Task{Type: "image"}})), `{"type":"task","task":{"type":"image","status_indicator":"none"},"x":1}`)
	})
	t.Run("an array that did not fit", func(t *testing.T) {
		it := must[store.Item](t)(store.ParseItem(`{"type":"user_message","content":[7], "x":1}`))
		wantText(t, must[store.Item](t)(it.WithBody(store.UserMessage{})), `{"type":"user_message","content":[], "x":1}`)
	})
	t.Run("set fields go along", func(t *testing.T) {
		it := must[store.Item](t)(store.ParseItem(`{"type":"end_of_turn","id":"a","x":1}`))
		it.ID = "b"
		it = must[store.Item](t)(it.WithBody(store.EndOfTurn{}))
		if wantText(t, it, `{"type":"end_of_turn","id":"b","x":1}`); it.ID != "b" {
			t.Errorf("got id %q", it.ID)
		}
	})
}

// TestWithBodyOfAnotherType is refused, whatever the type.
func TestWithBodyOfAnotherType(t *testing.T) {
	it := must[store.Item](t)(store.NewItem("msg_1", noon, store.EndOfTurn{}))
	for _, c := range []struct {
		it    store.Item
		body  store.Body
		field string
	}{
		{it, store.UserMessage{}, "type: the body is of another"},
		{store.Item{}, store.EndOfTurn{}, "type: the body is of another"},
		{it, nil, "body: nil"},
		{it, (*store.EndOfTurn)(nil), "body: nil"},
	} {
		_, err := c.it.WithBody(c.body)
		wantInvalid(t, err, c.field)
	}
	bad := must[store.Item](t)(store.NewItem("msg_1", noon, store.SDKHiddenContext{}))
	_, err := bad.WithBody(store.SDKHiddenContext{Content: "\xff"})
	wantInvalid(t, err, "content: not valid UTF-8")
}

// TestBodiesShareNothing: what is done to a body, before or after, is not done to the item.
func TestBodiesShareNothing(t *testing.T) {
	body := store.AssistantMessage{Content: []store.AssistantContent{{Text: "a", Annotations: []store.Annotation{{Source: store.Source{Type: "url"}, Index: ptr(1)}}}}}
	it := must[store.Item](t)(store.NewItem("msg_1", noon, body))
	text := strings.Clone(it.JSON().String())
	spoil := func(b store.AssistantMessage) {
		*b.Content[0].Annotations[0].Index = 99
		b.Content[0].Annotations[0].Source.URL = "spoilt"
		b.Content[0].Text = "spoilt"
		b.Content[0] = store.AssistantContent{}
	}
	spoil(body)
	wantText(t, it, text)
	one, _, err := store.DecodeItem[store.AssistantMessage](it)
	if err != nil {
		t.Fatal(err)
	}
	two, _, _ := store.DecodeItem[store.AssistantMessage](it)
	with := must[store.Item](t)(it.WithBody(one))
	spoil(one)
	wantText(t, it, text)
	wantText(t, with, text)
	if two.Content[0].Text != "a" || *two.Content[0].Annotations[0].Index != 1 {
		t.Errorf("one body changed another: %+v", two)
	}
}

// TestWithBodyWritesWhatNewItemWrites: an emptied member that its type calls for is written as NewItem writes it: null is for members that may be left out.
func TestWithBodyWritesWhatNewItemWrites(t *testing.T) {
	task := func(task store.Task) store.Body { return store.TaskItem{Task: task} }
	source := func(s store.Source) store.Body {
		return store.AssistantMessage{Content: []store.AssistantContent{{Annotations: []store.Annotation{{Source: s}}}}}
	}
	for name, c := range map[string]struct{ full, emptied store.Body }{
		"thought":    {task(store.Task{Type: "thought", Content: "hm"}), task(store.Task{Type: "thought"})},
		"url":        {source(store.Source{Type: "url", URL: "https://example.com"}), source(store.Source{Type: "url"})},
		"file":       {source(store.Source{Type: "file", Filename: "a.txt"}), source(store.Source{Type: "file"})},
		"entity":     {source(store.Source{Type: "entity", ID: "e", Data: js(`{"a":1}`)}), source(store.Source{Type: "entity"})},
		"web search": {task(store.Task{Type: "web_search", Queries: []string{"q"}, Sources: []store.Source{{Type: "url"}}}), task(store.Task{Type: "web_search"})},
		"choice": {store.StructuredInput{Inputs: []store.Input{{Type: "multiple_choice", Options: []store.InputOption{{Value: "a"}}}}},
			store.StructuredInput{Inputs: []store.Input{{Type: "multiple_choice"}}}},
		"tag": {store.UserMessage{Content: []store.UserContent{{Type: "input_tag", ID: "t", Data: js(`{"a":1}`)}}},
			store.UserMessage{Content: []store.UserContent{{Type: "input_tag", ID: "t"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			full := must[store.Item](t)(store.NewItem("x_1", noon, c.full))
			got := must[store.Item](t)(full.WithBody(c.emptied))
			if want := must[store.Item](t)(store.NewItem("x_1", noon, c.emptied)); !got.Equal(want) {
				t.Errorf("WithBody: %s\nNewItem:  %s", got.JSON(), want.JSON())
			}
		})
	}
	image := must[store.Attachment](t)(store.NewAttachment("atc_1", store.AttachmentBody{Type: "image", PreviewURL: "u"}))
	got := must[store.Attachment](t)(image.WithBody(store.AttachmentBody{Type: "image"}))
	if want := must[store.Attachment](t)(store.NewAttachment("atc_1", store.AttachmentBody{Type: "image"})); !got.Equal(want) {
		t.Errorf("WithBody: %s\nNewAttachment: %s", got.JSON(), want.JSON())
	}
}

// TestWithBodyKeepsUnknownMembersWhereOneChangesAndAnotherComes: or goes.
func TestWithBodyKeepsUnknownMembersWhereOneChangesAndAnotherComes(t *testing.T) {
	it := must[store.Item](t)(store.ParseItem(`{"id":"x_1","created_at":"2026-01-02T12:00:00Z","type":"assistant_message",` +
		`"content":[{"type":"output_text","text":"a","annotations":[],"logprobs":[1]}]}`))
	body, _, err := store.DecodeItem[store.AssistantMessage](it)
	if err != nil {
		t.Fatal(err)
	}
	body.Content[0].Text = "b"
	body.Content = append(body.Content, store.AssistantContent{Type: "output_text", Text: "more"})
	got := must[store.Item](t)(it.WithBody(body))
	want := `"content":[{"type":"output_text","text":"b","annotations":[],"logprobs":[1]},` +
		`{"type":"output_text","text":"more","annotations":[]}]`
	if !strings.Contains(got.JSON().String(), want) {
		t.Errorf("got %s\nwant %s", got.JSON(), want)
	}
	body.Content[0].Text, body.Content = "c", body.Content[:1]
	got = must[store.Item](t)(got.WithBody(body))
	if want := `"content":[{"type":"output_text","text":"c","annotations":[],"logprobs":[1]}]`; !strings.Contains(got.JSON().String(), want) {
		t.Errorf("got %s\nwant %s", got.JSON(), want)
	}
}

// TestABodyWithAnEmbeddedFieldIsRefused: and within a body, encoding/json writes and reads a struct that has one.
func TestABodyWithAnEmbeddedFieldIsRefused(t *testing.T) {
	_, err := store.NewItem("x_1", noon, embedding{})
	wantInvalid(t, err, "body: has an embedded field")

	body := embedder{embedding{Name: "n", Image: store.Image{ID: "i", URL: "u"}}}
	it := must[store.Item](t)(store.NewItem("x_1", noon, body))
	wantText(t, it, `{"id":"x_1","thread_id":"","created_at":"2026-01-02T12:00:00Z","type":"acme.embedder","e":{"id":"i","url":"u","name":"n"}}`)
	if got, ok, err := store.DecodeItem[embedder](it); got != body || !ok || err != nil {
		t.Errorf("got %+v, %v, %v", got, ok, err)
	}
}

type embedding struct {
	store.Image
	Name string `json:"name"`
}

func (embedding) ItemType() store.ItemType { return "acme.embedding" }

type embedder struct {
	E embedding `json:"e"`
}

func (embedder) ItemType() store.ItemType { return "acme.embedder" }
