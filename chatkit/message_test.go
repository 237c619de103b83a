package chatkit_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/internal/testenv"
)

// post sends the text of a request as ada, and returns the status and the answer, also of a stream.
func (g *rig) post(text string) (int, string) {
	g.t.Helper()
	req := testenv.Value(http.NewRequestWithContext(g.t.Context(), http.MethodPost, g.srv.URL, strings.NewReader(text)))(g.t)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Test-User", "ada")
	res := testenv.Value(g.srv.Client().Do(req))(g.t)
	defer res.Body.Close()
	return res.StatusCode, string(testenv.Value(io.ReadAll(res.Body))(g.t))
}

// A store takes half an emoji, as a front end that cuts a text at 100 characters sends it.
func TestRequestsTakeWhatTheStoreTakes(t *testing.T) {
	g := newRig(t, script{})
	g.newThread()
	half := "half \\ud83d"
	status, answer := g.post(`{"type":"threads.add_user_message","params":{"thread_id":"thr","input":{
		"content":[{"type":"input_text","text":"` + half + `"}],"attachments":[],"quoted_text":"` + half + `","inference_options":{"model":"` + half + `"}}}}`)
	if status != 200 || strings.Contains(answer, "error") {
		t.Fatalf("half an emoji: %d %s", status, answer)
	}
	stored := g.stored("thr")[0].JSON().String()
	if strings.Count(stored, half) != 3 || strings.Count(answer, half) != 3 {
		t.Errorf("half an emoji was not kept as it was:\nstored %s\nsent %s", stored, answer)
	}
	g.want(200, "ada", "threads.update", object{"thread_id": "thr", "title": "tea"})
	if status, answer := g.post(`{"type":"threads.update","params":{"thread_id":"thr","title":"` + half + `"}}`); status != 200 {
		t.Errorf("a title: %d %s", status, answer)
	}
}

// The reason of a refusal names what is wrong.
func TestARefusalHasTheRightReason(t *testing.T) {
	g := newRig(t, script{})
	g.newThread(text("1"))
	deep := strings.Repeat("[", 2000) + strings.Repeat("]", 2000)
	for name, test := range map[string]struct{ text, says string }{
		"not JSON":              {`{"type":`, "body: json: not valid"},
		"not UTF-8":             {"{\"type\":\"threads.list\",\"x\":\"\xff\"}", "body: json: not valid UTF-8"},
		"half an emoji, not":    {"{\"type\":\"threads.list\",\"x\":\"\xed\xa0\xbd\"}", "body: json: not valid UTF-8"},
		"a repeated name":       {`{"type":"threads.list","type":"threads.list"}`, "body: a repeated member name"},
		"repeated deep inside":  {`{"type":"threads.create","params":{"input":{"content":[{"text":"a","text":"b"}]}}}`, "body: a repeated member name"},
		"a wrong type":          {`{"type":"threads.list","params":{"limit":"1"}}`, `body: "/params/limit": wrong type`},
		"a number out of range": {`{"type":"threads.list","params":{"limit":99999999999999999999}}`, `body: "/params/limit": wrong type, or a number out of range`},
		"nested too deep":       {`{"type":"threads.add_client_tool_output","params":{"result":` + deep + `}}`, "body: json: nested too deep"},
		"metadata":              {`{"type":"threads.list","metadata":[]}`, "metadata: not an object"},
		"half of an id":         {`{"type":"threads.get_by_id","params":{"thread_id":"\ud83d"}}`, "an id: half a character"},
		"half of an item's id":  {`{"type":"items.feedback","params":{"thread_id":"thr","kind":"positive","item_ids":["i1","\udc00"]}}`, "an id: half a character"},
		"half of an attachment": {`{"type":"threads.create","params":{"input":{"content":[],"attachments":["\ud83d"]}}}`, "an id: half a character"},
		"quoted text":           {`{"type":"threads.create","params":{"input":{"content":[{"text":"a"}],"quoted_text":1}}}`, "quoted_text: not a string"},
	} {
		if status, answer := g.post(test.text); status != 400 || !strings.Contains(strings.ReplaceAll(answer, `\"`, `"`), test.says) {
			t.Errorf("%s: %d %s, want %s", name, status, answer, test.says)
		}
	}
}

func TestABlankMessageIsRefused(t *testing.T) {
	g := newRig(t, script{})
	g.newThread()
	g.attach(chat.JSON{})
	for name, test := range map[string]struct {
		content     []object
		attachments []string
		status      int
	}{
		"no part":            {[]object{}, nil, 400},
		"no text":            {[]object{{"type": "input_text", "text": ""}}, nil, 400},
		"white space":        {[]object{{"type": "input_text", "text": " \n"}, {"type": "input_text", "text": "\u00a0\t"}}, nil, 400},
		"a word":             {[]object{{"type": "input_text", "text": " "}, {"type": "input_text", "text": "a"}}, nil, 200},
		"a tag":              {[]object{{"type": "input_tag", "id": "t", "text": "", "data": object{}}}, nil, 200},
		"only an attachment": {[]object{}, []string{"atc"}, 200},
	} {
		for _, kind := range []string{"threads.create", "threads.add_user_message"} {
			g.writes()
			input := object{"content": test.content, "attachments": test.attachments, "inference_options": object{}}
			res := g.request(t.Context(), "ada", kind, object{"thread_id": "thr", "input": input})
			body := string(testenv.Value(io.ReadAll(res.Body))(t))
			res.Body.Close()
			if res.StatusCode != test.status {
				t.Errorf("%s, %s: %d %s", kind, name, res.StatusCode, body)
			}
			if w := g.writes(); res.StatusCode != 200 && (w != "" || !strings.Contains(body, `"invalid","message":"input.content: `)) {
				t.Errorf("%s, %s: wrote %q, says %s", kind, name, w, body)
			}
		}
	}
}

// A user's message is stored as the Python SDK stores it.
func TestAStoredMessageIsWhole(t *testing.T) {
	g := newRig(t, script{})
	g.newThread()
	g.attach(chat.JSON{})
	for name, test := range map[string]struct{ input, want string }{
		"no options":   {`{"content":[{"type":"input_text","text":"a"}]}`, `"inference_options":{}`},
		"null options": {`{"content":[{"type":"input_text","text":"a"}],"inference_options":null}`, `"inference_options":{}`},
		"options":      {`{"content":[{"type":"input_text","text":"a"}],"inference_options":{"x":1}}`, `"inference_options":{"x":1}`},
		"attachments":  {`{"content":[],"attachments":["atc"]}`, `"thread_id":"thr"}]`},
	} {
		before := len(g.stored("thr"))
		all := g.stream("ada", "threads.add_user_message", object{"thread_id": "thr", "input": parse(t, test.input)})
		if stored := g.stored("thr")[before].JSON().String(); !strings.Contains(stored, test.want) || strings.Contains(stored, "quoted_text") {
			t.Errorf("%s: stored %s, want %s", name, stored, test.want)
		}
		if name != "attachments" {
			continue
		}
		sent := all[0]["item"].(object)["attachments"].([]any)[0].(object)
		if sent["thread_id"] != "thr" {
			t.Errorf("the attachment was sent as %v", sent)
		}
	}
	if a := testenv.Value(g.s.LoadAttachment(ada, "atc"))(t); a.ThreadID != "thr" {
		t.Errorf("the attachment is stored in thread %q", a.ThreadID)
	}
}

// Content-Types differ in case and have parameters. Only what a page may show is an image.
func TestAnImageIsWhatAPageMayShow(t *testing.T) {
	g := newRig(t, script{}, chatkit.WithFiles(&files{}))
	for mimeType, want := range map[string]string{
		"image/png": "image/png", "image/PNG; charset=x": "image/png", "image/jpg": "image/jpeg", "IMAGE/JPEG": "image/jpeg",
		"image/gif": "image/gif", "image/webp": "image/webp", "image/avif": "image/avif",
		"image/svg+xml": "", "image/svg+xml;image/png": "", "image/tiff": "", "text/html": "", "image/": "", "image/png, text/html": "",
	} {
		if name, ok := chatkit.InlineImage(mimeType); name != want || ok != (want != "") {
			t.Errorf("InlineImage(%q) = %q, %v", mimeType, name, ok)
		}
		_, a := g.ask("ada", "attachments.create", object{"name": "n", "size": 1, "mime_type": mimeType})
		if _, preview := a["preview_url"]; preview != (want != "") || (a["type"] == "image") != (want != "") {
			t.Errorf("%q became %v", mimeType, a)
		}
		if want == "" {
			want = mimeType
		}
		if a["mime_type"] != want {
			t.Errorf("%q became %v", mimeType, a["mime_type"])
		}
	}
}
