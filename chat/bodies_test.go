package chat_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/chatstore/chatstore/chat"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func js(text string) chat.JSON {
	j, err := chat.ParseJSON(text)
	if err != nil {
		panic(err)
	}
	return j
}

func ptr[T any](v T) *T { return &v }

var sameBody = cmp.Options{cmp.AllowUnexported(chat.JSON{}), cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b chat.Attachment) bool { return a.Equal(b) })}

var pdf = `{"id":"atc_1","name":"a.pdf","mime_type":"application/pdf","upload_descriptor":null,"type":"file"}`

func attachment(text string) chat.Attachment {
	a, err := chat.ParseAttachment(text)
	if err != nil {
		panic(err)
	}
	return a
}

// TestDecodeItemReadsEveryVariant: every variant is read as the SDKs write it, also with every optional member null or
// absent.
func TestDecodeItemReadsEveryVariant(t *testing.T) {
	want := map[string]chat.Body{
		"python user_message": chat.UserMessage{
			Content: []chat.UserContent{
				{Type: "input_text", Text: "Grüße & <b>ü😀</b>"},
				{Type: "input_tag", ID: "e_1", Text: "@ada", Data: js(`{"n":12345678901234567890,"n":1.0}`)},
			},
			Attachments: []chat.Attachment{attachment(pdf)},
		},
		"python user_message spaced": chat.UserMessage{QuotedText: "q",
			InferenceOptions: chat.InferenceOptions{ToolChoice: &chat.ToolChoice{ID: "search"}, Model: "m"}},
		"python assistant_message": chat.AssistantMessage{Content: []chat.AssistantContent{{Type: "output_text", Text: "hello", Annotations: []chat.Annotation{
			{Type: "annotation", Source: chat.Source{Type: "url", Title: "T", URL: "https://x.example"}, Index: ptr(3)},
			{Type: "annotation", Source: chat.Source{Type: "file", Title: "F", Filename: "f.txt"}},
			{Type: "annotation", Source: chat.Source{Type: "entity", Title: "E", ID: "e_1", Icon: "book", Interactive: true, Data: js(`{"k":1e400}`)}},
		}}}},
		"python client_tool_call": chat.ClientToolCall{Status: "pending", CallID: "c_1", Name: "pick", Arguments: js(`{"a":[1.0,1,null]}`)},
		"python widget":           chat.Widget{Widget: js(`{"type":"Card","children":[{"type":"Text","value":"x","value":"y"}]}`)},
		"python generated_image":  chat.GeneratedImage{},
		"python task": chat.TaskItem{Task: chat.Task{Type: "web_search", StatusIndicator: "complete", TitleQuery: "q", Queries: []string{"a", "b"},
			Sources: []chat.Source{{Type: "url", Title: "T", URL: "u"}}}},
		"python workflow": chat.WorkflowItem{Workflow: chat.Workflow{Type: "reasoning", Summary: &chat.WorkflowSummary{Duration: ptr(12)}, Tasks: []chat.Task{
			{Type: "thought", StatusIndicator: "none", Content: "hm"}, {Type: "custom", StatusIndicator: "none", Title: "t"}}}},
		"python hidden_context": chat.HiddenContextItem{Content: js(`{"a":1,"a":2,"A":"\ud800"}`)},
		"python sdk_hidden":     chat.SDKHiddenContext{Content: "\x00"},
		"python end_of_turn":    chat.EndOfTurn{},
		"node user_message": chat.UserMessage{Content: []chat.UserContent{{Type: "input_text", Text: "hi"}},
			Attachments: []chat.Attachment{attachment(`{"type":"image","id":"atc_2","mime_type":"image/png","name":"a.png","preview_url":"https://x.example/a.png","upload_url":"https://x.example/up"}`)}},
		"node structured_input": chat.StructuredInput{Status: "answered", Inputs: []chat.Input{
			{Type: "multiple_choice", ID: "q1", Question: "Which?", Options: []chat.InputOption{{Value: "a"}, {Value: "b"}}, Answer: &chat.InputAnswer{Values: []string{"a"}}},
			{Type: "freeform", ID: "q2", Question: "Why?", Description: "in short"}}},
		"node generated_image": chat.GeneratedImage{Image: &chat.Image{ID: "img_1", URL: "https://x.example/i.png"}},
		"node file task":       chat.TaskItem{Task: chat.Task{Type: "file", StatusIndicator: "loading", Sources: []chat.Source{{Type: "file", Title: "F", Filename: "f"}}}},
	}
	for name, text := range goldenItems {
		t.Run(name, func(t *testing.T) {
			it := item(t, text)
			got, ok, err := chat.DecodeItem[chat.Body](it)
			if err != nil || ok != (want[name] != nil) {
				t.Fatalf("DecodeItem: %v, %v", ok, err)
			}
			if diff := cmp.Diff(want[name], got, sameBody); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if !ok {
				return
			}
			// Writing the decoded body back changes nothing.
			wantWith(t, it, got, text)
			// A new item with this body decodes to the same body.
			made := must[chat.Item](t)(chat.NewItem("msg_1", noon, got))
			if diff := cmp.Diff(got, decode[chat.Body](t, made), sameBody); diff != "" {
				t.Errorf("a new item with this body: -want +got:\n%s", diff)
			}
		})
	}
}

// TestNewItemWritesTheWireShape: required members are written even if they are empty.
func TestNewItemWritesTheWireShape(t *testing.T) {
	for _, c := range []struct {
		body chat.Body
		want string
	}{
		{chat.UserMessage{}, `"user_message","content":[],"attachments":[],"inference_options":{}`},
		{chat.UserMessage{
			Content:     []chat.UserContent{{Text: "<&\u2028\x00\"\\\n\r\t\x7f"}, {Type: "input_tag", Text: "t"}},
			Attachments: []chat.Attachment{attachment(pdf)}, QuotedText: "q",
			InferenceOptions: chat.InferenceOptions{ToolChoice: &chat.ToolChoice{}, Model: "m"},
		}, `"user_message","content":[{"type":"input_text","text":"<&` + "\u2028" + `\u0000\"\\\n\r\t` + "\x7f" + `"},{"type":"input_tag","id":"","text":"t","data":{}}],` +
			`"attachments":[` + pdf + `],"quoted_text":"q","inference_options":{"tool_choice":{"id":""},"model":"m"}`},
		{chat.AssistantMessage{Content: []chat.AssistantContent{{Annotations: []chat.Annotation{{Source: chat.Source{Type: "url"}}, {Source: chat.Source{Type: "file"}, Index: ptr(0)}, {Source: chat.Source{Type: "entity"}}}}}},
			`"assistant_message","content":[{"type":"output_text","text":"","annotations":[{"type":"annotation","source":{"type":"url","title":"","url":""}},` +
				`{"type":"annotation","source":{"type":"file","title":"","filename":""},"index":0},{"type":"annotation","source":{"type":"entity","title":"","id":"","data":{}}}]}]`},
		{chat.ClientToolCall{}, `"client_tool_call","status":"pending","call_id":"","name":"","arguments":{}`},
		{chat.ClientToolCall{Status: "completed", Arguments: js(` {"a": 1} `), Output: js(`[1.0]`)}, `"client_tool_call","status":"completed","call_id":"","name":"","arguments":{"a": 1},"output":[1.0]`},
		{chat.Widget{CopyText: "c"}, `"widget","widget":{},"copy_text":"c"`},
		{chat.GeneratedImage{}, `"generated_image"`},
		{chat.GeneratedImage{Image: &chat.Image{}}, `"generated_image","image":{"id":"","url":""}`},
		{chat.StructuredInput{Inputs: []chat.Input{{Type: "multiple_choice"}, {Type: "freeform", Answer: &chat.InputAnswer{}}}},
			`"structured_input","status":"pending","inputs":[{"type":"multiple_choice","id":"","question":"","options":[]},{"type":"freeform","id":"","question":"","answer":{"values":[],"skipped":false}}]`},
		{chat.TaskItem{Task: chat.Task{Type: "web_search"}}, `"task","task":{"type":"web_search","status_indicator":"none","queries":[],"sources":[]}`},
		{chat.TaskItem{Task: chat.Task{Type: "thought"}}, `"task","task":{"type":"thought","status_indicator":"none","content":""}`},
		{chat.WorkflowItem{Workflow: chat.Workflow{Type: "custom", Summary: &chat.WorkflowSummary{Duration: ptr(0)}}}, `"workflow","workflow":{"type":"custom","tasks":[],"summary":{"duration":0},"expanded":false}`},
		{chat.HiddenContextItem{}, `"hidden_context_item","content":null`},
		{chat.HiddenContextItem{Content: js(`"x"`)}, `"hidden_context_item","content":"x"`},
		{chat.SDKHiddenContext{}, `"sdk_hidden_context","content":""`},
		{chat.EndOfTurn{}, `"end_of_turn"`},
		{&chat.EndOfTurn{}, `"end_of_turn"`},
	} {
		it := must[chat.Item](t)(chat.NewItem("msg_1", noon, c.body))
		wantText(t, it, `{"id":"msg_1","thread_id":"","created_at":"2026-01-02T12:00:00Z","type":`+c.want+`}`)
		it = must[chat.Item](t)(it.Normalized("thr_1"))
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

func (mine) ItemType() chat.ItemType { return "acme.score" }

type notAStruct []int

func (notAStruct) ItemType() chat.ItemType { return "acme.list" }

type thief struct {
	ID string `json:"id"`
}

func (thief) ItemType() chat.ItemType { return "acme.thief" }

type typed struct{ typ chat.ItemType }

func (b typed) ItemType() chat.ItemType { return b.typ }

// TestBodiesOfOnesOwn: a program's own struct works as a body.
func TestBodiesOfOnesOwn(t *testing.T) {
	body := mine{Score: 1.5, When: noon, Any: map[string]any{"k": "<v>"}, Raw: []byte("abc"), Next: &mine{Score: 2}, Tags: map[string]string{"b": "2", "a": "1"}, Case: "c", n: 1}
	it := must[chat.Item](t)(chat.NewItem("x_1", noon, body))
	wantText(t, it, `{"id":"x_1","thread_id":"","created_at":"2026-01-02T12:00:00Z","type":"acme.score","score":1.5,"when":"2026-01-02T12:00:00Z","any":{"k":"<v>"},"raw":"YWJj",`+
		`"next":{"score":2,"tags":{},"Case":""},"tags":{"a":"1","b":"2"},"Case":"c"}`)
	got, ok, err := chat.DecodeItem[*mine](it)
	body.n = 0
	if diff := cmp.Diff(&body, got, cmp.AllowUnexported(mine{}), cmpopts.EquateEmpty()); !ok || err != nil || diff != "" {
		t.Errorf("%v, %v, -want +got:\n%s", ok, err, diff)
	}
	got.Next.Score = 3
	wantWith(t, it, got, strings.Replace(it.JSON().String(), `"score":2`, `"score":3`, 1))

	ring := &mine{}
	ring.Next = ring
	for _, c := range []struct {
		body  chat.Body
		field string
	}{
		{nil, "body: nil"},
		{(*mine)(nil), "body: nil"},
		{notAStruct{1}, "body: not a struct"},
		{thief{}, "body: has a field named id, thread_id, created_at or type"},
		{typed{""}, "type: empty"},
		{typed{"Aa"}, "type: has other characters than a-z, 0-9, _ and ."},
		{typed{chat.ItemType(strings.Repeat("x", 65))}, "type: longer than 64 bytes"},
		{mine{Any: map[string]any{"f": func() {}}}, "any: cannot be encoded as JSON"},
		{chat.SDKHiddenContext{Content: "a\xff"}, "content: not valid UTF-8"},
		{chat.TaskItem{}, "task.type: empty"},
		{chat.WorkflowItem{Workflow: chat.Workflow{Type: "custom", Tasks: []chat.Task{{Type: "file", Sources: []chat.Source{{}}}}}}, "workflow.tasks.sources.type: empty"},
		{chat.Widget{Widget: js(`[1]`)}, "widget: not an object"},
		{chat.UserMessage{Attachments: []chat.Attachment{{ID: "atc_1"}}}, "attachments: an attachment without a body"},
		{chat.HiddenContextItem{Content: js(strings.Repeat("[", 1000) + strings.Repeat("]", 1000))}, "json: nested too deep"},
	} {
		refused(t, c.field)(chat.NewItem("x_1", noon, c.body))
	}
	refused(t, "body: nested too deep")(chat.NewItem("x_1", noon, ring))
	refused(t, "body: nested too deep")(it.WithBody(ring))
	if _, ok, err := chat.DecodeItem[notAStruct](item(t, `{"type":"acme.list"}`)); ok || !errors.Is(err, chat.ErrInvalid) {
		t.Errorf("decoding into a type that is no struct: got %v, %v, want ErrInvalid", ok, err)
	}
}

// TestDecodeItemOfAnotherType: ok is false and err is nil.
func TestDecodeItemOfAnotherType(t *testing.T) {
	it := must[chat.Item](t)(chat.NewItem("msg_1", noon, chat.EndOfTurn{}))
	if _, ok, err := chat.DecodeItem[chat.UserMessage](it); ok || err != nil {
		t.Errorf("got %v, %v", ok, err)
	}
	if _, ok, err := chat.DecodeItem[*chat.UserMessage](it); ok || err != nil {
		t.Errorf("a pointer: got %v, %v", ok, err)
	}
	if b, ok, err := chat.DecodeItem[*chat.EndOfTurn](it); !ok || err != nil || b == nil {
		t.Errorf("a pointer: got %v, %v", ok, err)
	}
	for _, it := range []chat.Item{{}, item(t, `{"type":"x"}`)} {
		if _, ok, err := chat.DecodeItem[chat.Body](it); ok || err != nil {
			t.Errorf("%v: got %v, %v", it, ok, err)
		}
	}
}

// TestDecodeItemThatDoesNotFit: the error is ErrInvalid and names the member, but not its content.
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
		`{"type":"workflow","workflow":{"summary":{"duration":9007199254740993.0}}}`:                 "workflow.summary.duration: not an integer", // not exact as a float64
		`{"type":"workflow","workflow":{"summary":{"duration":-9007199254740993.0}}}`:                "workflow.summary.duration: not an integer",
		`{"type":"task","task":{"queries":["a",1]}}`:                                                 "task.queries: not a string",
		`{"type":"sdk_hidden_context","content":{"a":1}}`:                                            "content: not a string",
		`{"type":"assistant_message","content":[{"annotations":[{"source":{"title":["secret"]}}]}]}`: "content.annotations.source.title: not a string",
	} {
		it := item(t, text)
		_, ok, err := chat.DecodeItem[chat.Body](it)
		if wantInvalid(t, err, field); ok {
			t.Errorf("%s: ok", text)
		}
		wantText(t, it, text)
	}
	for _, text := range []string{`12`, `12.0`, `1.2e1`, `120e-1`} {
		it := item(t, `{"type":"workflow","workflow":{"summary":{"duration":`+text+`}}}`)
		if got := *decode[chat.WorkflowItem](t, it).Workflow.Summary.Duration; got != 12 {
			t.Errorf("a duration of %s: got %v", text, got)
		}
	}
}

// TestWithBodyWritesOnlyWhatChanged: every other byte stays, also in nested objects.
func TestWithBodyWritesOnlyWhatChanged(t *testing.T) {
	t.Run("client tool call", func(t *testing.T) {
		text := ` {"x":{"n":1.0}, "type":"client_tool_call","status" : "pending","call_id":"c","name":"n","arguments":{ "a" : 1 },"output":null,"future":[ 1 ],"id":"tc_1"}`
		it := item(t, text)
		call := decode[chat.ClientToolCall](t, it)
		call.Status, call.Output = "completed", js(`{"r":1.0}`)
		it = wantWith(t, it, call, strings.NewReplacer(
			`"pending"`, `"completed"`, `"output":null`, `"output":{"r":1.0}`).Replace(text))
		call.Output = chat.JSON{}
		wantWith(t, it, &call, strings.Replace(text, `"pending"`, `"completed"`, 1))
	})
	t.Run("workflow", func(t *testing.T) {
		text := `{"type":"workflow","workflow":{"type":"custom","glow":true,"tasks":[ {"type":"custom","title":"a","k":1} ,{"type":"thought","content":"b","k":2}, {"type":"custom","title":"c","k":3}],"expanded":false}}`
		it := item(t, text)
		for _, c := range []struct {
			change func(*chat.Workflow)
			want   *strings.Replacer
		}{
			{func(w *chat.Workflow) { w.Expanded = true }, strings.NewReplacer(`false`, `true`)},
			{func(w *chat.Workflow) { w.Tasks[1].StatusIndicator = "complete" }, strings.NewReplacer(`"k":2}`, `"k":2,"status_indicator":"complete"}`)},
			{func(w *chat.Workflow) { w.Tasks[1] = chat.Task{Type: "image"} }, strings.NewReplacer( // another task: it keeps nothing of the old one
				`{"type":"thought","content":"b","k":2}`, `{"type":"image","status_indicator":"none"}`)},
			{func(w *chat.Workflow) { w.Tasks = w.Tasks[1:] }, strings.NewReplacer(` {"type":"custom","title":"a","k":1} ,`, ``, `, {`, `,{`)},
			{func(w *chat.Workflow) { w.Tasks = append(w.Tasks, chat.Task{Type: "image", Title: "d"}) }, strings.NewReplacer(
				`[ {`, `[{`, `} ,{`, `},{`, `, {`, `,{`, `"k":3}`, `"k":3},{"type":"image","status_indicator":"none","title":"d"}`)},
			{func(w *chat.Workflow) { w.Summary = &chat.WorkflowSummary{Title: "s"} }, strings.NewReplacer(`false}`, `false,"summary":{"title":"s"}}`)},
			{func(w *chat.Workflow) { w.Tasks = nil }, strings.NewReplacer(text[strings.Index(text, "[ {"):strings.Index(text, "]")+1], `[]`)},
		} {
			b := decode[chat.WorkflowItem](t, it)
			c.change(&b.Workflow)
			wantWith(t, it, b, c.want.Replace(text))
		}
	})
	t.Run("attachments of a message", func(t *testing.T) {
		node := goldenItems["node user_message"]
		it := item(t, node)
		b := decode[chat.UserMessage](t, it)
		b.Attachments = append(b.Attachments, attachment(pdf))
		wantWith(t, it, b, strings.Replace(node, `/up"}]`, `/up"},`+pdf+`]`, 1))
		b.Attachments = b.Attachments[1:]
		if got := must[chat.Item](t)(it.WithBody(b)).JSON().String(); strings.Contains(got, "upload_url") {
			t.Errorf("an attachment has unknown members of another one: %s", got)
		}
	})
	t.Run("optional members", func(t *testing.T) {
		text := goldenItems["python user_message spaced"]
		it := item(t, text)
		b := decode[chat.UserMessage](t, it)
		b.QuotedText, b.InferenceOptions.ToolChoice = "", nil
		it = wantWith(t, it, b, strings.NewReplacer(`"q"`, `null`, `{"id":"search"}`, `null`).Replace(text))
		if diff := cmp.Diff(b, decode[chat.UserMessage](t, it), sameBody); diff != "" {
			t.Errorf("read back: %s", diff)
		}
	})
	t.Run("a member that did not fit", func(t *testing.T) {
		it := item(t, `{"type":"task","task":7,"x":1}`)
		wantWith(t, it, chat.TaskItem{Task: chat.Task{Type: "image"}},
			`{"type":"task","task":{"type":"image","status_indicator":"none"},"x":1}`)
	})
	t.Run("an array that did not fit", func(t *testing.T) {
		it := item(t, `{"type":"user_message","content":[7], "x":1}`)
		wantWith(t, it, chat.UserMessage{}, `{"type":"user_message","content":[], "x":1}`)
	})
	t.Run("set fields go along", func(t *testing.T) {
		it := item(t, `{"type":"end_of_turn","id":"a","x":1}`)
		it.ID = "b"
		if it = wantWith(t, it, chat.EndOfTurn{}, `{"type":"end_of_turn","id":"b","x":1}`); it.ID != "b" {
			t.Errorf("got id %q", it.ID)
		}
	})
}

// TestWithBodyOfAnotherType: a body of another type is refused.
func TestWithBodyOfAnotherType(t *testing.T) {
	it := must[chat.Item](t)(chat.NewItem("msg_1", noon, chat.EndOfTurn{}))
	for _, c := range []struct {
		it    chat.Item
		body  chat.Body
		field string
	}{
		{it, chat.UserMessage{}, "type: the body has another type"},
		{chat.Item{}, chat.EndOfTurn{}, "type: the body has another type"},
		{it, nil, "body: nil"},
		{it, (*chat.EndOfTurn)(nil), "body: nil"},
	} {
		refused(t, c.field)(c.it.WithBody(c.body))
	}
	bad := must[chat.Item](t)(chat.NewItem("msg_1", noon, chat.SDKHiddenContext{}))
	refused(t, "content: not valid UTF-8")(bad.WithBody(chat.SDKHiddenContext{Content: "\xff"}))
}

// TestBodiesShareNothing: changes to a body, before or after the call, do not change the item.
func TestBodiesShareNothing(t *testing.T) {
	body := chat.AssistantMessage{Content: []chat.AssistantContent{{Text: "a", Annotations: []chat.Annotation{{Source: chat.Source{Type: "url"}, Index: ptr(1)}}}}}
	it := must[chat.Item](t)(chat.NewItem("msg_1", noon, body))
	text := strings.Clone(it.JSON().String())
	spoil := func(b chat.AssistantMessage) {
		*b.Content[0].Annotations[0].Index = 99
		b.Content[0].Annotations[0].Source.URL = "spoilt"
		b.Content[0].Text = "spoilt"
		b.Content[0] = chat.AssistantContent{}
	}
	spoil(body)
	wantText(t, it, text)
	one := decode[chat.AssistantMessage](t, it)
	two := decode[chat.AssistantMessage](t, it)
	with := must[chat.Item](t)(it.WithBody(one))
	spoil(one)
	wantText(t, it, text)
	wantText(t, with, text)
	if two.Content[0].Text != "a" || *two.Content[0].Annotations[0].Index != 1 {
		t.Errorf("one body changed another: %+v", two)
	}
}

// TestWithBodyWritesWhatNewItemWrites: WithBody writes an emptied required member as NewItem does. Only optional members
// become null.
func TestWithBodyWritesWhatNewItemWrites(t *testing.T) {
	task := func(task chat.Task) chat.Body { return chat.TaskItem{Task: task} }
	source := func(s chat.Source) chat.Body {
		return chat.AssistantMessage{Content: []chat.AssistantContent{{Annotations: []chat.Annotation{{Source: s}}}}}
	}
	for name, c := range map[string]struct{ full, emptied chat.Body }{
		"thought":    {task(chat.Task{Type: "thought", Content: "hm"}), task(chat.Task{Type: "thought"})},
		"url":        {source(chat.Source{Type: "url", URL: "https://example.com"}), source(chat.Source{Type: "url"})},
		"file":       {source(chat.Source{Type: "file", Filename: "a.txt"}), source(chat.Source{Type: "file"})},
		"entity":     {source(chat.Source{Type: "entity", ID: "e", Data: js(`{"a":1}`)}), source(chat.Source{Type: "entity"})},
		"web search": {task(chat.Task{Type: "web_search", Queries: []string{"q"}, Sources: []chat.Source{{Type: "url"}}}), task(chat.Task{Type: "web_search"})},
		"choice": {chat.StructuredInput{Inputs: []chat.Input{{Type: "multiple_choice", Options: []chat.InputOption{{Value: "a"}}}}},
			chat.StructuredInput{Inputs: []chat.Input{{Type: "multiple_choice"}}}},
		"tag": {chat.UserMessage{Content: []chat.UserContent{{Type: "input_tag", ID: "t", Data: js(`{"a":1}`)}}},
			chat.UserMessage{Content: []chat.UserContent{{Type: "input_tag", ID: "t"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			full := must[chat.Item](t)(chat.NewItem("x_1", noon, c.full))
			got := must[chat.Item](t)(full.WithBody(c.emptied))
			if want := must[chat.Item](t)(chat.NewItem("x_1", noon, c.emptied)); !got.Equal(want) {
				t.Errorf("WithBody: %s\nNewItem:  %s", got.JSON(), want.JSON())
			}
		})
	}
	image := must[chat.Attachment](t)(chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "image", PreviewURL: "u"}))
	got := must[chat.Attachment](t)(image.WithBody(chat.AttachmentBody{Type: "image"}))
	if want := must[chat.Attachment](t)(chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "image"})); !got.Equal(want) {
		t.Errorf("WithBody: %s\nNewAttachment: %s", got.JSON(), want.JSON())
	}
}

// TestWithBodyKeepsUnknownMembersWhereOneChangesAndAnotherComes: the same holds if another element is removed.
func TestWithBodyKeepsUnknownMembersWhereOneChangesAndAnotherComes(t *testing.T) {
	text := `{"id":"x_1","created_at":"2026-01-02T12:00:00Z","type":"assistant_message",` +
		`"content":[{"type":"output_text","text":"a","annotations":[],"logprobs":[1]}]}`
	it := item(t, text)
	body := decode[chat.AssistantMessage](t, it)
	body.Content[0].Text = "b"
	body.Content = append(body.Content, chat.AssistantContent{Type: "output_text", Text: "more"})
	it = wantWith(t, it, body, strings.NewReplacer(
		`"a"`, `"b"`, `]}]`, `]},{"type":"output_text","text":"more","annotations":[]}]`).Replace(text))
	body.Content[0].Text, body.Content = "c", body.Content[:1]
	wantWith(t, it, body, strings.Replace(text, `"a"`, `"c"`, 1))
}

// TestABodyWithAnEmbeddedFieldIsRefused: within a body, encoding/json writes and reads a struct with an embedded field.
func TestABodyWithAnEmbeddedFieldIsRefused(t *testing.T) {
	refused(t, "body: has an embedded field")(chat.NewItem("x_1", noon, embedding{}))

	body := embedder{embedding{Name: "n", Image: chat.Image{ID: "i", URL: "u"}}}
	it := must[chat.Item](t)(chat.NewItem("x_1", noon, body))
	wantText(t, it, `{"id":"x_1","thread_id":"","created_at":"2026-01-02T12:00:00Z","type":"acme.embedder","e":{"id":"i","url":"u","name":"n"}}`)
	if got := decode[embedder](t, it); got != body {
		t.Errorf("got %+v", got)
	}
}

type embedding struct {
	chat.Image
	Name string `json:"name"`
}

func (embedding) ItemType() chat.ItemType { return "acme.embedding" }

type embedder struct {
	E embedding `json:"e"`
}

func (embedder) ItemType() chat.ItemType { return "acme.embedder" }
