package chatkit_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/store"
)

// at is before every now, including those of bubbles (the year 2000).
func at(second int) time.Time { return time.Date(1999, 1, 2, 3, 4, second, 0, time.UTC) }

func text(s string) chat.UserMessage {
	return chat.UserMessage{Content: []chat.UserContent{{Text: s}}}
}

func parse(t *testing.T, s string) chat.JSON {
	t.Helper()
	return testenv.Value(chat.ParseJSON(s))(t)
}

func ids(v any) string {
	var all []string
	for _, row := range v.([]any) {
		all = append(all, row.(object)["id"].(string))
	}
	return strings.Join(all, " ")
}

func TestThreadsAndItemsArePaged(t *testing.T) {
	g := newRig(t, script{})
	g.newThread(text("1"), chat.HiddenContextItem{Content: parse(t, `"secret"`)}, text("3"), chat.SDKHiddenContext{Content: "secret"}, text("5"))

	_, thread := g.ask("ada", "threads.get_by_id", object{"thread_id": "thr"})
	if got := ids(thread["items"].(object)["data"]); got != "i1 i3 i5" {
		t.Errorf("get_by_id: items %s", got)
	}

	// A page may be short, but its cursor stays right: no item is lost or repeated.
	var seen []string
	after := ""
	for range 10 {
		_, page := g.ask("ada", "items.list", object{"thread_id": "thr", "limit": 2, "after": after})
		seen = append(seen, ids(page["data"]))
		if page["has_more"] == false {
			break
		}
		after = page["after"].(string)
	}
	if diff := cmp.Diff([]string{"i5", "i3", "i1"}, seen); diff != "" {
		t.Errorf("items.list (-want +got)\n%s", diff)
	}
	_, page := g.ask("ada", "items.list", object{"thread_id": "thr", "order": "asc"})
	if got := ids(page["data"]); got != "i1 i3 i5" {
		t.Errorf("items.list asc: %s", got)
	}

	for i := range 110 {
		testenv.Must(t, g.s.AddThreadItem(ada, "thr", newItem(t, fmt.Sprint("x", i), 20, text("x"))))
	}
	if _, page := g.ask("ada", "items.list", object{"thread_id": "thr", "limit": 1000}); len(page["data"].([]any)) != 100 {
		t.Errorf("a page of %d items", len(page["data"].([]any)))
	}

	for i := range 3 {
		testenv.Must(t, g.s.SaveThread(ada, chat.Thread{ID: fmt.Sprint("t", i), CreatedAt: at(10 + i)}))
	}
	_, first := g.ask("ada", "threads.list", object{"limit": 2})
	_, second := g.ask("ada", "threads.list", object{"limit": 2, "after": first["after"]})
	if got := ids(first["data"]) + " | " + ids(second["data"]); got != "t2 t1 | t0 thr" {
		t.Errorf("threads.list: %s", got)
	}
	if _, more := second["after"]; more || second["has_more"] != false {
		t.Errorf("the last page: %v", second)
	}
}

// No answer and no event has data that the client must not see.
func TestHiddenThingsAreNeverSent(t *testing.T) {
	const secret = "SECRET"
	hide := parse(t, `{"k":"`+secret+`"}`)
	g := newRig(t, script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
		hidden, err := turn.NewItem(ctx, chat.HiddenContextItem{Content: hide})
		if err != nil {
			return err
		}
		for _, e := range []chatkit.Event{
			chatkit.ItemAdded{Item: hidden}, chatkit.ItemDone{Item: hidden}, chatkit.ItemReplaced{Item: hidden},
			chatkit.ItemRemoved{ItemID: hidden.ID}, chatkit.ItemDone{Item: hidden},
			chatkit.ItemUpdated{ItemID: hidden.ID, Update: chatkit.WidgetRootUpdated{Widget: hide}},
			chatkit.ItemReplaced{Item: turn.Message},
		} {
			if err := turn.Emit(ctx, e); err != nil {
				return err
			}
		}
		turn.Thread.Metadata, turn.Thread.Title = hide, "t"
		return nil
	}})
	g.attach(hide)
	input := say("hello")
	input["attachments"] = []string{"atc", "atc"} // named twice, sent once
	res := g.request(t.Context(), "ada", "threads.create", object{"input": input})
	defer res.Body.Close()
	sent := testenv.Value(io.ReadAll(res.Body))(t)
	threads := testenv.Value(g.s.LoadThreads(ada, store.ThreadQuery{}))(t)
	id := threads.Data[0].ID
	g.wantStored(id, "user_message hidden_context_item")
	answers := string(sent)
	for _, kind := range []string{"threads.get_by_id", "items.list", "threads.list"} {
		_, v := g.ask("ada", kind, object{"thread_id": id})
		text, _ := json.Marshal(v)
		answers += string(text)
	}
	for _, word := range []string{secret, "metadata", "hidden", "subject", "owner", "tenant"} {
		if strings.Contains(strings.ToLower(answers), strings.ToLower(word)) {
			t.Errorf("%q was sent:\n%s", word, answers)
		}
	}
	if m, _, err := chat.DecodeItem[chat.UserMessage](g.stored(id)[0]); err != nil || len(m.Attachments) != 1 {
		t.Errorf("the message has %d attachments, %v", len(m.Attachments), err)
	}
	if !strings.Contains(answers, `"atc"`) || !strings.Contains(answers, `"title":"t"`) {
		t.Errorf("visible items are missing:\n%s", answers)
	}
	if stored, err := g.s.LoadAttachment(ada, "atc"); err != nil || stored.ThreadID != id || !strings.Contains(stored.JSON().String(), secret) {
		t.Errorf("the attachment is stored as %s of thread %q, %v", stored.JSON(), stored.ThreadID, err)
	}
}

func TestAThreadIsRenamedAndDeleted(t *testing.T) {
	g := newRig(t, script{})
	g.newThread(text("1"))
	if status, v := g.ask("ada", "threads.update", object{"thread_id": "thr", "title": "Tea"}); status != 200 || v["title"] != "Tea" {
		t.Errorf("update: %d %v", status, v)
	}
	if thread, err := g.s.LoadThread(ada, "thr"); err != nil || thread.Title != "Tea" {
		t.Errorf("stored: %q, %v", thread.Title, err)
	}
	if status, v := g.ask("ada", "threads.delete", object{"thread_id": "thr"}); status != 200 || len(v) != 0 {
		t.Errorf("delete: %d %v", status, v)
	}
	g.want(404, "ada", "threads.get_by_id", object{"thread_id": "thr"})
}

// Every request about another user's thread gets the same answer as one about a missing thread.
func TestOthersFindNothing(t *testing.T) {
	g := newRig(t, script{})
	g.newThread(text("1"), chat.ClientToolCall{CallID: "c", Name: "n"}, chat.StructuredInput{})
	for kind, params := range map[string]object{
		"threads.get_by_id":              {},
		"threads.update":                 {"title": "mine"},
		"items.list":                     {},
		"items.feedback":                 {"item_ids": []string{"i1"}, "kind": "positive"},
		"threads.add_user_message":       {"input": say("x")},
		"threads.add_client_tool_output": {"result": object{}},
		"threads.add_structured_input":   {"item_id": "i3", "input": object{"status": "skipped"}},
		"threads.retry_after_item":       {"item_id": "i1"},
		"threads.custom_action":          {"item_id": "i1", "action": object{"type": "a"}},
	} {
		params["thread_id"] = "thr"
		status, theirs := g.ask("grace", kind, params)
		params["thread_id"] = "thx"
		_, nobodys := g.ask("grace", kind, params)
		same := strings.ReplaceAll(fmt.Sprint(nobodys), "thx", "thr")
		if status != 404 || fmt.Sprint(theirs) != same {
			t.Errorf("%s: %d %v, but for a missing thread: %v", kind, status, theirs, nobodys)
		}
		if w := g.writes(); w != "" {
			t.Errorf("%s wrote: %s", kind, w)
		}
	}
	if _, v := g.ask("grace", "threads.list", object{}); len(v["data"].([]any)) != 0 {
		t.Errorf("threads.list: %v", v)
	}
	g.want(401, "", "threads.list", object{})
}

func TestBadRequestsAreRefusedAndChangeNothing(t *testing.T) {
	g := newRig(t, script{}, chatkit.WithMaxBody(4<<10))
	g.newThread(text("1"), chat.Widget{Widget: parse(t, `{}`)}, chat.StructuredInput{Inputs: []chat.Input{
		{Type: "multiple_choice", ID: "q", Question: "?", Options: []chat.InputOption{{Value: "a"}, {Value: "b"}}},
	}})
	many := slices.Repeat([]string{"i1"}, 101)
	for name, test := range map[string]struct {
		kind   string
		params object
		status int
		says   string
	}{
		"unknown type":        {"threads.explode", object{}, 400, "type: not known"},
		"transcription":       {"input.transcribe", object{"audio_base64": "x"}, 501, "transcribe"},
		"no files":            {"attachments.create", object{"name": "a", "mime_type": "b"}, 501, "attachments"},
		"no such action":      {"threads.sync_custom_action", object{"thread_id": "thr", "action": object{"type": "a"}}, 501, "action"},
		"order":               {"items.list", object{"thread_id": "thr", "order": "up"}, 400, "order"},
		"limit":               {"items.list", object{"thread_id": "thr", "limit": -1}, 400, "limit"},
		"limit of a type":     {"items.list", object{"thread_id": "thr", "limit": "x"}, 400, "limit"},
		"cursor":              {"items.list", object{"thread_id": "thr", "after": "i9"}, 404, "i9"},
		"no thread":           {"threads.get_by_id", object{}, 400, "id"},
		"a long thread id":    {"threads.get_by_id", object{"thread_id": strings.Repeat("x", 257)}, 400, "id"},
		"no title":            {"threads.update", object{"thread_id": "thr"}, 400, "title"},
		"a long title":        {"threads.update", object{"thread_id": "thr", "title": strings.Repeat("x", 1001)}, 400, "title"},
		"kind of feedback":    {"items.feedback", object{"thread_id": "thr", "item_ids": []string{"i1"}, "kind": "so-so"}, 400, "kind"},
		"much feedback":       {"items.feedback", object{"thread_id": "thr", "item_ids": many, "kind": "positive"}, 400, "item_ids"},
		"feedback on nothing": {"items.feedback", object{"thread_id": "thr", "item_ids": []string{"i9"}, "kind": "positive"}, 404, "i9"},
		"no input":            {"threads.create", object{}, 400, "input"},
		"input of a type":     {"threads.create", object{"input": []int{}}, 400, "input"},
		"no content":          {"threads.create", object{"input": object{}}, 400, "content"},
		"content of a type":   {"threads.create", object{"input": object{"content": "hello"}}, 400, "content"},
		"a part of a type":    {"threads.create", object{"input": object{"content": []object{{"text": 1}}}}, 400, "content"},
		"many attachments":    {"threads.create", object{"input": object{"content": []any{}, "attachments": many[:11]}}, 400, "attachments"},
		"unknown attachment":  {"threads.create", object{"input": object{"content": []any{}, "attachments": many[:1]}}, 404, "i1"},
		"null content":        {"threads.create", object{"input": object{"content": nil}}, 400, "content"},
		"no result":           {"threads.add_client_tool_output", object{"thread_id": "thr"}, 400, "result"},
		"no such option": {"threads.add_structured_input", object{"thread_id": "thr", "item_id": "i3", "input": object{
			"status": "answered", "answers": object{"q": object{"values": []string{"c"}}}}}, 400, "option"},
		"no tool call":         {"threads.add_client_tool_output", object{"thread_id": "thr", "result": 1}, 409, "tool call"},
		"no form":              {"threads.add_structured_input", object{"thread_id": "thr", "item_id": "i1", "input": object{"status": "skipped"}}, 400, "item_id"},
		"status of a form":     {"threads.add_structured_input", object{"thread_id": "thr", "item_id": "i1", "input": object{"status": "x"}}, 400, "status"},
		"retry after nothing":  {"threads.retry_after_item", object{"thread_id": "thr", "item_id": "i9"}, 404, "i9"},
		"retry after a widget": {"threads.retry_after_item", object{"thread_id": "thr", "item_id": "i2"}, 400, "item_id"},
		"no action":            {"threads.custom_action", object{"thread_id": "thr"}, 400, "action"},
		"action of no widget":  {"threads.custom_action", object{"thread_id": "thr", "item_id": "i1", "action": object{"type": "a"}}, 400, "item_id"},
		"a large body":         {"threads.create", object{"input": say(strings.Repeat("x", 5<<10))}, 413, "bytes"},
	} {
		status, v := g.ask("ada", test.kind, test.params)
		e, _ := v["error"].(object)
		message, _ := e["message"].(string)
		if status != test.status || !strings.Contains(message, test.says) || e["code"] == "" {
			t.Errorf("%s: %d %v, want %d and a text with %q", name, status, v, test.status, test.says)
		}
		if w := g.writes(); w != "" {
			t.Errorf("%s: wrote %s", name, w)
		}
	}
}

func TestOnlyJSONIsRead(t *testing.T) {
	g := newRig(t, script{})
	for name, test := range map[string]struct {
		typ, body string
		status    int
	}{
		"a form":       {"application/x-www-form-urlencoded", `{"type":"threads.list"}`, 415},
		"plain text":   {"text/plain", `{"type":"threads.list"}`, 415},
		"no type":      {"", `{"type":"threads.list"}`, 415},
		"half of it":   {"application/json", `{"type":"threads.list"`, 400},
		"an array":     {"application/json", `[]`, 400},
		"two":          {"application/json", `{"type":"threads.list"} {}`, 400},
		"nothing":      {"application/json", ``, 400},
		"a type twice": {"application/json", `{"type":"threads.list","type":"threads.delete","params":{"thread_id":"thr"}}`, 400},
		"another case": {"application/json", `{"TYPE":"threads.list","params":{}}`, 400},
		"an id twice":  {"application/json", `{"type":"threads.get_by_id","params":{"thread_id":"a","thread_id":"thr"}}`, 400},
		"both cases":   {"application/json", `{"type":"threads.list","TYPE":"threads.explode","params":{}}`, 200},
		"no UTF-8":     {"application/json", "{\"type\":\"threads.list\",\"params\":{\"after\":\"\xff\"}}", 400},
		"with charset": {"application/json; charset=utf-8", `{"type":"threads.list","params":{}}`, 200},
	} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, g.srv.URL, strings.NewReader(test.body))
		req.Header.Set("Content-Type", test.typ)
		req.Header.Set("Test-User", "ada")
		res := testenv.Value(g.srv.Client().Do(req))(t)
		res.Body.Close()
		if res.StatusCode != test.status {
			t.Errorf("%s: %d, want %d", name, res.StatusCode, test.status)
		}
	}
}

// files is a Files that records its calls.
type files struct{ deleted []string }

func (f *files) Create(_ context.Context, id string, _ int64, b chat.AttachmentBody) (chat.AttachmentBody, error) {
	b.PreviewURL = "/up/" + id // also if it is no image
	b.Metadata = testenv.OrPanic(chat.ParseJSON(`{"secret":1}`))
	b.Upload = &chat.UploadDescriptor{URL: "/up/" + id, Method: "PUT", Headers: map[string]string{}}
	return b, nil
}

func (f *files) Delete(_ context.Context, id string) error {
	f.deleted = append(f.deleted, id)
	return nil
}

func TestAttachmentsAreTheirOwnersAlone(t *testing.T) {
	kept := &files{}
	g := newRig(t, script{}, chatkit.WithFiles(kept))
	_, a := g.ask("ada", "attachments.create", object{"name": "cat.png", "size": 10, "mime_type": "image/png"})
	id := a["id"].(string)
	if a["type"] != "image" || a["name"] != "cat.png" || a["upload_descriptor"].(object)["url"] != "/up/"+id || a["metadata"] != nil {
		t.Errorf("created: %v", a)
	}
	input := say("look")
	input["attachments"] = []string{id}
	g.want(404, "grace", "threads.create", object{"input": input})
	if page, _ := g.base.LoadThreads(context.Background(), store.ThreadQuery{Owner: store.AnyOwner()}); len(page.Data) != 0 {
		t.Error("a thread was created for a refused message")
	}
	g.want(409, "ada", "threads.create", object{"input": input})            // not uploaded yet
	g.want(200, "grace", "attachments.delete", object{"attachment_id": id}) // as for a missing attachment
	if len(kept.deleted) != 0 {
		t.Fatal("another user deleted the file")
	}
	g.want(200, "ada", "attachments.delete", object{"attachment_id": id})
	if len(kept.deleted) != 1 {
		t.Errorf("deleted: %v", kept.deleted)
	}
	if _, err := g.s.LoadAttachment(ada, id); store.CodeOf(err) != store.CodeNotFound {
		t.Errorf("the row is still there: %v", err)
	}
}
