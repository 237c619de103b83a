package chatkit_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/internal/testenv"
)

// put stores an item of ada's thread in a wire form. Its members stand in text.
func (g *rig) put(id, createdAt, text string) {
	g.t.Helper()
	it := testenv.Value(chat.ParseItem(`{"id":"` + id + `","created_at":"` + createdAt + `",` + text + `}`))(g.t)
	testenv.Must(g.t, g.base.AddThreadItem(ada, "thr", it)) // a row may be older than the guard, which refuses some of these
}

// shown returns the items that a page shows, by id, without the common members.
func shown(page object) map[string]string {
	all := map[string]string{}
	for _, row := range page["data"].([]any) {
		it := row.(object)
		id := it["id"].(string)
		for _, name := range []string{"id", "thread_id", "created_at"} {
			delete(it, name)
		}
		text, _ := json.Marshal(it)
		all[id] = string(text)
	}
	return all
}

// A page shows odd rows as well as possible, leaves out those without an understandable form, and logs each once.
func TestAnOddRowIsShownAndLoggedOnce(t *testing.T) {
	var log strings.Builder
	g := newRig(t, script{})
	g.h = chatkit.NewHandler(g.s, script{}, chatkit.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	g.newThread()
	const (
		input = `{"attachments":[],"content":[{"text":"hello","type":"input_text"}],"inference_options":{},"type":"user_message"}`
		heard = `{"content":[{"annotations":[],"text":"hello","type":"output_text"}],"type":"assistant_message"}`
		file  = `{"id":"atc","mime_type":"application/octet-stream","name":"atc","type":"file"}`
		image = `{"type":"image","id":"a","name":"n","mime_type":"image/png","preview_url":"u","metadata":{"k":"SECRET"}}`
	)
	rows := []struct{ text, want string }{
		{`"type":"user_message","content":"hello","attachments":[],"inference_options":{}`, input},
		{`"type":"user_message","content":["hello"],"attachments":{},"inference_options":[]`, input},
		{`"type":"user_message","content":{"text":"hello"},"attachments":5,"quoted_text":["x"]`,
			strings.Replace(input, `"type":"user_message"`, `"quoted_text":null,"type":"user_message"`, 1)},
		{`"type":"user_message","content":[{"text":"hello","type":7},1,null],"attachments":[1,null]`, input},
		{`"type":"user_message","content":[{"type":"input_text","text":"hello"}],"attachments":["atc"],"quoted_text":"q"`,
			strings.Replace(strings.Replace(input, `"attachments":[]`, `"attachments":[`+file+`]`, 1), `,"type":"user_message"`, `,"quoted_text":"q","type":"user_message"`, 1)},
		{`"type":"user_message","content":"hello","attachments":[` + image + `,"atc"]`,
			strings.Replace(input, `[]`, `[{"id":"a","mime_type":"image/png","name":"n","preview_url":"u","type":"image"},`+file+`]`, 1)},
		{`"type":"user_message","content":"hello","chatstore_sealed":"v1"`, ""},
		{`"type":"assistant_message","content":"hello"`, heard},
		{`"type":"assistant_message","content":[{"type":"output_text","text":"hello","annotations":"none"}]`, heard},
		{`"type":"assistant_message","content":7`, `{"content":[],"type":"assistant_message"}`},
		{`"type":"client_tool_call","status":5,"call_id":"c","name":"n","arguments":{}`, ""},
		{`"type":"widget","widget":"card","copy_text":7`, ""},
		{`"type":"workflow","workflow":{"tasks":[]}`, ""},
		{`"type":"task","task":"tea"`, ""},
	}
	for i, row := range rows {
		g.put(fmt.Sprint("odd", i), at(i).Format(time.RFC3339), row.text)
	}
	for range 2 {
		for _, page := range []func() object{
			func() object { _, v := g.ask("ada", "items.list", object{"thread_id": "thr", "limit": 100}); return v },
			func() object {
				_, v := g.ask("ada", "threads.get_by_id", object{"thread_id": "thr"})
				return v["items"].(object)
			},
		} {
			got := shown(page())
			for i, row := range rows {
				if got := got[fmt.Sprint("odd", i)]; got != row.want {
					t.Errorf("%s is shown as\n%s, want\n%s", row.text, got, row.want)
				}
			}
		}
	}
	for i, row := range rows {
		if n := strings.Count(log.String(), fmt.Sprintf(" thread=thr item=odd%d reason=", i)); n != 1 {
			t.Errorf("%s was logged %d times", row.text, n)
		}
	}
	if strings.Contains(log.String(), "hello") || strings.Contains(log.String(), "SECRET") {
		t.Errorf("the log has content:\n%s", log.String())
	}
}

// What a row of a known form lacks is filled in. That is no oddity.
func TestARowIsShownWhole(t *testing.T) {
	var log strings.Builder
	g := newRig(t, script{})
	g.h = chatkit.NewHandler(g.s, script{}, chatkit.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	g.newThread()
	rows := []struct{ text, want string }{
		{`"type":"user_message"`, `{"attachments":[],"content":[],"inference_options":{},"type":"user_message"}`},
		{`"type":"assistant_message","content":[null]`, `{"content":[{"annotations":[],"text":"","type":"output_text"}],"type":"assistant_message"}`},
		{`"type":"user_message","content":[{"text":"a"}],"attachments":null`,
			`{"attachments":[],"content":[{"text":"a","type":"input_text"}],"inference_options":{},"type":"user_message"}`},
		{`"type":"assistant_message","content":[{"text":"a"},{"text":"\u003cb\u003e","annotations":[{"source":{"type":"url","title":"t"}}]}]`,
			`{"content":[{"annotations":[],"text":"a","type":"output_text"},{"annotations":[{"source":{"title":"t","type":"url","url":""},` +
				`"type":"annotation"}],"text":"\u003cb\u003e","type":"output_text"}],"type":"assistant_message"}`},
		{`"type":"user_message","content":[{"type":"input_text","text":"a"}],"attachments":null,"inference_options":{}`,
			`{"attachments":[],"content":[{"text":"a","type":"input_text"}],"inference_options":{},"type":"user_message"}`},
		{`"type":"assistant_message","content":[{"type":"output_text","text":"a","annotations":[{"source":{"type":"file","title":"t","filename":"f"}}]}]`,
			`{"content":[{"annotations":[{"source":{"filename":"f","title":"t","type":"file"},"type":"annotation"}],"text":"a","type":"output_text"}],` +
				`"type":"assistant_message"}`},
		{`"type":"client_tool_call","name":"n"`, `{"arguments":{},"call_id":"","name":"n","status":"pending","type":"client_tool_call"}`},
		{`"type":"widget"`, `{"type":"widget","widget":{}}`},
		{`"type":"workflow","workflow":{"type":"custom","tasks":[{"type":"thought"}]}`, `{"type":"workflow","workflow":{"expanded":false,` +
			`"tasks":[{"content":"","status_indicator":"none","type":"thought"}],"type":"custom"}}`},
	}
	for i, row := range rows {
		g.put(fmt.Sprint("i", i), at(i).Format(time.RFC3339), row.text)
	}
	_, page := g.ask("ada", "items.list", object{"thread_id": "thr", "limit": 100})
	got := shown(page)
	for i, row := range rows {
		if got := got[fmt.Sprint("i", i)]; got != row.want {
			t.Errorf("%s is shown as\n%s, want\n%s", row.text, got, row.want)
		}
	}
	if log.Len() > 0 {
		t.Errorf("it was logged:\n%s", log.String())
	}

	// The schema has no such type. Its attachments are shown like others.
	g.put("new", "2001-01-01T00:00:00Z", `"type":"new_type","attachments":[{"id":"a","metadata":{"k":"SECRET"}},"b"]`)
	_, text := g.post(`{"type":"items.list","params":{"thread_id":"thr","limit":1}}`)
	if !strings.Contains(text, `"type":"new_type","attachments":[{"id":"a"},"b"]`) {
		t.Errorf("an item of an unknown type is shown as %s", text)
	}
}

func TestEventsHaveTheMembersOfTheProtocol(t *testing.T) {
	image := chat.Image{ID: "i", URL: "u"}
	for want, e := range map[string]chatkit.Event{
		`{"type":"client_effect","name":"e","data":{}}`:      chatkit.ClientEffect{Name: "e"},
		`{"type":"client_effect","name":"f","data":{"a":1}}`: chatkit.ClientEffect{Name: "f", Data: parse(t, `{"a":1}`)},
		`{"type":"generated_image.updated","image":{"id":"i","url":"u"}}`: chatkit.ItemUpdated{
			ItemID: "i1", Update: chatkit.ImageUpdated{Image: image}},
		`{"type":"generated_image.updated","image":{"id":"i","url":"u"},"progress":0}`: chatkit.ItemUpdated{
			ItemID: "i1", Update: chatkit.ImageUpdated{Image: image, Progress: new(0.0)}},
	} {
		g := newRig(t, script{respond: func(ctx context.Context, turn *chatkit.Turn) error { return turn.Emit(ctx, e) }})
		g.newThread(chat.GeneratedImage{})
		if _, answer := g.post(`{"type":"threads.add_user_message","params":{"thread_id":"thr","input":{"content":[{"text":"x"}]}}}`); !strings.Contains(answer, want) {
			t.Errorf("%s is not in\n%s", want, answer)
		}
	}
	g := newRig(t, script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
		return turn.Emit(ctx, chatkit.ClientEffect{Name: "e", Data: parse(t, `[]`)})
	}})
	wantTypes(t, g.stream("ada", "threads.create", object{"input": say("x")}), "thread.created thread.item.done stream_options error")
}

// The Python SDK stores all nulls and defaults. The Node SDK leaves absent members out. The rig checks the page.
func TestRowsOfTheSDKsAreShown(t *testing.T) {
	g := newRig(t, script{})
	g.newThread()
	rows := []string{
		`"type":"user_message","content":[{"type":"input_text","text":"a"},{"id":"t","type":"input_tag","text":"@ada","data":{},"group":null,` +
			`"interactive":false}],"attachments":[{"id":"a","name":"n","mime_type":"text/plain","upload_descriptor":null,"thread_id":null,` +
			`"metadata":null,"type":"file"}],"quoted_text":null,"inference_options":{"tool_choice":null,"model":null}`,
		`"type":"assistant_message","content":[{"annotations":[{"type":"annotation","source":{"title":"t","description":null,"timestamp":null,` +
			`"group":null,"type":"entity","id":"e","icon":null,"label":null,"inline_label":null,"interactive":false,"data":{},"preview":null},` +
			`"index":null}],"text":"a","type":"output_text"}]`,
		`"type":"client_tool_call","status":"pending","call_id":"c","name":"n","arguments":{"a":[null]},"output":null`,
		`"type":"widget","widget":{"type":"Card","children":[]},"copy_text":null`,
		`"type":"generated_image","image":null`,
		`"type":"structured_input","status":"pending","inputs":[{"type":"multiple_choice","id":"q","question":"?",` +
			`"options":[{"value":"a","description":null}],"multiple":false,"answer":null},{"type":"freeform","id":"f","question":"?"}]`,
		`"type":"task","task":{"status_indicator":"complete","type":"web_search","title":null,"title_query":null,"queries":[],"sources":[]}`,
		`"type":"workflow","workflow":{"type":"reasoning","tasks":[{"type":"image","status_indicator":"none","title":null}],` +
			`"summary":{"title":"s","icon":null},"expanded":false}`,
		`"type":"workflow","workflow":{"type":"reasoning","tasks":[],"summary":{"duration":3},"expanded":false}`,
		`"type":"end_of_turn"`,
	}
	for i, row := range rows {
		g.put(fmt.Sprint("i", i), "2026-01-02T03:04:05.678901", row)
	}
	if _, page := g.ask("ada", "items.list", object{"thread_id": "thr", "limit": 100}); len(page["data"].([]any)) != len(rows) {
		t.Errorf("%d of %d rows are shown", len(page["data"].([]any)), len(rows))
	}
}
