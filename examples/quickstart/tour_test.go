package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace/noop"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// files returns the text of the built-in conversations.
func files(t testing.TB) (all [][]byte) {
	t.Helper()
	for _, name := range testenv.Value(fs.Glob(builtin, "testdata/*.json"))(t) {
		all = append(all, testenv.Value(fs.ReadFile(builtin, name))(t))
	}
	return all
}

// replayed is the replay of all built-in conversations.
type replayed struct {
	all           []transcript
	text          string // text of all files
	cached, plain *stack
	base          store.Store
	audit         auditLog
	turns         map[string][]turn // by file
	ctx           context.Context   // context of the owner
}

func replayAll(t *testing.T) *replayed {
	t.Helper()
	r := &replayed{base: memstore.New(), turns: map[string][]turn{}, ctx: store.WithPrincipal(t.Context(), ada)}
	r.all, r.text = testenv.Value(readTranscripts("", ""))(t), string(bytes.Join(files(t), nil))
	silent := noop.NewTracerProvider()
	r.cached = testenv.Value(newStack(r.base, true, silent, r.audit.record))(t)
	r.plain = testenv.Value(newStack(memstore.New(), false, silent, nil))(t)
	t.Cleanup(func() { _ = store.Close(r.cached.Store, r.plain.Store) })
	for _, tr := range r.all {
		r.turns[tr.name] = testenv.Value(replay(r.ctx, tr, r.cached, r.plain, silent.Tracer("")))(t)
	}
	return r
}

func TestATurnOnAWarmThreadCostsTheBaseNoRead(t *testing.T) {
	r := replayAll(t)
	for name, turns := range r.turns {
		for i, m := range turns {
			warm := i >= 2 // after the creation and the first request
			if warm && m.base.reads != 0 {
				t.Errorf("%s: request %d (%s): %d reads of the base, want none", name, i, m.request, m.base.reads)
			}
			if warm && m.plain.reads < 3 {
				t.Errorf("%s: request %d (%s): %d reads without the cache: the comparison shows nothing", name, i, m.request, m.plain.reads)
			}
			if m.base.writes != m.plain.writes {
				t.Errorf("%s: request %d: %d writes with the cache, %d without", name, i, m.base.writes, m.plain.writes)
			}
		}
	}
}

func TestEveryItemComesBackByteForByte(t *testing.T) {
	r := replayAll(t)
	for _, tr := range r.all {
		f := testenv.Value(compare(r.ctx, tr, r.cached))(t)
		if f.same != f.items || len(f.changed) > 0 {
			t.Errorf("%s: %d of %d items are unchanged; changed: %q", tr.name, f.same, f.items, f.changed)
		}
		// The parser may be wrong, so compare with the text of the file, too.
		for _, s := range []store.Store{r.cached, r.base} {
			p := testenv.Value(s.LoadThreadItems(r.ctx, tr.thread.ID, store.PageQuery{Limit: store.MaxLimit}))(t)
			for _, it := range p.Data {
				if !strings.Contains(r.text, it.JSON().String()) {
					t.Errorf("%s: item %q is not in the file as it came back", tr.name, it.ID)
				}
			}
		}
	}
}

func TestCompareSeesAChange(t *testing.T) {
	r := replayAll(t)
	end := r.all[0].requests[0].steps[len(r.all[0].requests[0].steps)-1].item
	changed := testenv.Value(chat.ParseItem(strings.Replace(end.JSON().String(), `"type"`, ` "type"`, 1)))(t)
	testenv.Must(t, r.cached.SaveItem(r.ctx, r.all[0].thread.ID, changed))
	if f, err := compare(r.ctx, r.all[0], r.cached); err != nil || len(f.changed) != 1 || f.changed[0] != end.ID {
		t.Errorf("got %q, %v; want %q", f.changed, err, end.ID)
	}
}

func TestTheTranscriptsHaveEveryVariant(t *testing.T) {
	r := replayAll(t)
	seen := map[string]bool{}
	saw := func(parts ...string) { seen[strings.Join(parts, " ")] = true }
	for _, tr := range r.all {
		for _, a := range tr.attachments {
			body := testenv.Value(a.Decode())(t)
			saw("attachment", body.Type)
		}
		for _, q := range tr.requests {
			saw("request", q.kind)
			for _, s := range q.steps {
				see(t, s.item, saw)
			}
		}
	}
	for _, want := range []string{
		"attachment image", "attachment file",
		"request user message", "request tool output", "request answers", "request other",
		"user_message", "content input_text", "content input_tag", "attachments", "quoted_text", "tool_choice", "model",
		"assistant_message", "source url", "source file", "source entity",
		"client_tool_call pending", "client_tool_call completed",
		"widget", "generated_image",
		"structured_input pending", "structured_input answered", "structured_input skipped",
		"input multiple_choice", "input freeform",
		"task image", "workflow reasoning", "workflow custom",
		"step custom", "step web_search", "step thought", "step file", "step image",
		"summary duration", "summary title",
		"hidden_context_item", "sdk_hidden_context", "end_of_turn", "seat_map",
	} {
		if !seen[want] {
			t.Errorf("no %s in them", want)
		}
	}
	contains(t, r.text, "12345678901234567890", "4.50", "null", "🌿")
}

// see notes the variants that an item has.
func see(t *testing.T, it chat.Item, saw func(...string)) {
	t.Helper()
	saw(string(it.Type()))
	body, ok, err := chat.DecodeItem[chat.Body](it)
	if err != nil {
		t.Fatalf("%v: %v", it, err)
	}
	if !ok {
		return
	}
	switch b := body.(type) {
	case chat.UserMessage:
		for _, c := range b.Content {
			saw("content", c.Type)
		}
		if len(b.Attachments) > 0 {
			saw("attachments")
		}
		if b.QuotedText != "" {
			saw("quoted_text")
		}
		if b.InferenceOptions.ToolChoice != nil {
			saw("tool_choice")
		}
		if b.InferenceOptions.Model != "" {
			saw("model")
		}
	case chat.AssistantMessage:
		for _, c := range b.Content {
			for _, a := range c.Annotations {
				saw("source", a.Source.Type)
			}
		}
	case chat.ClientToolCall:
		saw("client_tool_call", b.Status)
	case chat.StructuredInput:
		saw("structured_input", b.Status)
		for _, in := range b.Inputs {
			saw("input", in.Type)
		}
	case chat.TaskItem:
		saw("task", b.Task.Type)
	case chat.WorkflowItem:
		saw("workflow", b.Workflow.Type)
		for _, task := range b.Workflow.Tasks {
			saw("step", task.Type)
		}
		if s := b.Workflow.Summary; s != nil && s.Duration != nil {
			saw("summary", "duration")
		} else if s != nil {
			saw("summary", "title")
		}
	}
}

func TestAStrangerIsRefusedEverything(t *testing.T) {
	r := replayAll(t)
	got := testenv.Value(refusals(store.WithPrincipal(t.Context(), mallory), r.cached, r.all[0]))(t)
	if len(got) != 11 {
		t.Errorf("%d kinds of call, want 11", len(got))
	}
	for _, g := range got {
		switch {
		case g.call == "save_thread":
			if g.theirs != "conflict" {
				t.Errorf("%s: got %q, want a conflict", g.call, g.theirs)
			}
		case g.theirs != g.absent:
			t.Errorf("%s: %q on another user's thread, %q on a missing one", g.call, g.theirs, g.absent)
		case g.theirs != "not_found" && g.theirs != "ok, nothing":
			t.Errorf("%s: got %q", g.call, g.theirs)
		}
	}
	if len(r.audit.lines) == 0 || !strings.HasPrefix(r.audit.lines[0], "acme/mallory tried to read thread \"thr_5ba1c0de\" of acme/ada: hidden") {
		t.Errorf("audit log: %q", r.audit.lines)
	}
	if f, err := compare(r.ctx, r.all[0], r.cached); err != nil || f.same != f.items {
		t.Errorf("afterwards %d of %d items are the same, %v", f.same, f.items, err)
	}
}

func TestAStampedeIsOneCall(t *testing.T) {
	r := replayAll(t)
	var out strings.Builder
	testenv.Must(t, stampedes(t.Context(), &out, r.all[0], r.base))
	var got []string
	for line := range strings.Lines(out.String()) {
		if before, ok := strings.CutSuffix(line, " calls of the base\n"); ok {
			fields := strings.Fields(before)
			got = append(got, fields[len(fields)-1])
		}
	}
	if want := []string{fmt.Sprint(readers), "1", "1"}; strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("calls of the base: %v, want %v (no layer, singleflight, cache)", got, want)
	}
}

func TestAStampedeThatCannotLoadSaysSo(t *testing.T) {
	_, err := stampede(t.Context(), memstore.New(), "thr_none", 3, func(int) store.Principal { return ada })
	if store.CodeOf(err) != store.CodeNotFound {
		t.Errorf("got %v, want not found", err)
	}
}

func TestTheTourIsFitToRead(t *testing.T) {
	out := succeed(t)
	for line := range strings.Lines(out) {
		if n := utf8.RuneCountInString(line); n > 120 {
			t.Errorf("%d columns: %s", n, line)
		}
		if strings.TrimRight(line, " \n") != strings.TrimRight(line, "\n") {
			t.Errorf("spaces at the end: %q", line)
		}
	}
	contains(t, out,
		"tracing → metrics(outer) → authz → cache → metrics(inner) → memstore",
		"33 of 33 items came back byte for byte",
		"signed out, load_thread   unauthenticated",
		"    load_thread  ", "cache.result=miss", "cache.result=hit",
		`operations_total{code="ok",layer="inner",operation="add_thread_item"}`,
		"25 of the 25 items of the owner's thread are unchanged.")
}

func contains(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in\n%s", w, text)
		}
	}
}

func succeed(t *testing.T, args ...string) string {
	t.Helper()
	var out, complaint bytes.Buffer
	if code := command(t.Context(), args, &out, &complaint); code != 0 || complaint.Len() > 0 {
		t.Fatalf("exit code %d: %s", code, &complaint)
	}
	return out.String()
}

// minimal is the smallest transcript of a user: an array, no list of attachments, an item without thread_id.
const minimal = `{
	"id": "thr_mine", "created_at": "2026-05-01T16:00:00+02:00",
	"items": [
		{"id": "msg_1", "type": "user_message", "created_at": "2026-05-01T16:00:00Z",
		 "content": [{"type": "input_text", "text": "Tea?"}],
		 "attachments": [{"id": "atc_mine", "type": "file", "name": "tea.pdf", "mime_type": "application/pdf"}],
		 "inference_options": {}},
		{"id": "tc_1", "type": "client_tool_call", "created_at": "2026-05-01T16:00:01Z", "call_id": "c", "name": "kettle", "arguments": {}},
		{"id": "tc_1", "type": "client_tool_call", "created_at": "2026-05-01T16:00:01Z", "status": "completed",
		 "call_id": "c", "name": "kettle", "arguments": {}, "output": "on"}
	]
}`

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	testenv.Must(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

func TestATranscriptOfOnesOwn(t *testing.T) {
	out := succeed(t, "-transcript", write(t, t.TempDir(), "mine.json", minimal))
	contains(t, out, "thread thr_mine", "2 of 2 items came back", "client_tool_call*", "atc_mine")
	if strings.Contains(out, "balcony") {
		t.Error("the built-in conversations are replayed too")
	}
}

func TestAFolderOfTranscripts(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.json", minimal)
	write(t, dir, "b.json", `{"id": "thr_empty", "created_at": "2026-05-01T16:00:00Z"}`)
	write(t, dir, "c.json", `{"id": "thr_page", "created_at": "2026-05-01T16:00:00Z", "items": {"data": []}, "attachments": null}`)
	write(t, dir, "notes.txt", "not read")
	out := succeed(t, "-dir", dir)
	contains(t, out, "thread thr_mine", "thread thr_empty", "thread thr_page")
}

func TestManyTranscriptsDoNotFloodTheScreen(t *testing.T) {
	dir := t.TempDir()
	for i := range 50 {
		write(t, dir, fmt.Sprintf("%03d.json", i), fmt.Sprintf(`{"id": "thr_%d", "created_at": "2026-05-01T16:00:00Z"}`, i))
	}
	out := succeed(t, "-dir", dir)
	if n := strings.Count(out, "\n"); n > 300 || !strings.Contains(out, "40 more requests") {
		t.Errorf("%d lines:\n%s", n, out)
	}
}

func TestBadInputNamesTheFileAndTheItem(t *testing.T) {
	thread := func(items string) string {
		return `{"id": "thr_1", "created_at": "2026-05-01T16:00:00Z", "items": ` + items + `}`
	}
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"empty", "", []string{"bad.json: line 1"}},
		{"cut off", "{\n\"id\": \"thr_1\",\n", []string{"bad.json: line 3"}},
		{"more behind it", "{}\n{}", []string{"bad.json: line 2"}},
		{"an array", "[]", []string{"bad.json: not a JSON object"}},
		{"null", "null", []string{"bad.json: null"}},
		{"no id", `{"created_at": "2026-05-01T16:00:00Z"}`, []string{"bad.json: the thread", "id"}},
		{"no time", `{"id": "thr_1"}`, []string{"bad.json: the thread", "created_at"}},
		{"items twice", `{"id": "thr_1", "items": [], "items": []}`, []string{`bad.json: "items" is a repeated member`}},
		{"a title that is a number", `{"id": "thr_1", "title": 7}`, []string{"bad.json: the thread", "title"}},
		{"items are a text", thread(`"none"`), []string{"bad.json: items: neither an array nor a page"}},
		{"a page without data", thread(`{"has_more": false}`), []string{"bad.json: items: neither"}},
		{"an item that is a number", thread(`[7]`), []string{"bad.json: item 1:"}},
		{"an item without a type", thread(`[{"id": "msg_1", "created_at": "2026-05-01T16:00:00Z"}]`),
			[]string{`bad.json: item 1 ("msg_1")`, "type"}},
		{"an item without a time", thread(`[{"id": "msg_1", "type": "end_of_turn"}]`),
			[]string{`bad.json: item 1 ("msg_1")`, "created_at"}},
		{"an item of another thread", thread(`[
			{"id": "msg_1", "type": "end_of_turn", "created_at": "2026-05-01T16:00:00Z"},
			{"id": "msg_2", "thread_id": "thr_2", "type": "end_of_turn", "created_at": "2026-05-01T16:00:00Z"}]`),
			[]string{`bad.json: item 2 ("msg_2")`, "thread_id"}},
		{"a message whose content is a text", thread(`[
			{"id": "msg_1", "type": "user_message", "created_at": "2026-05-01T16:00:00Z", "content": "Tea?"}]`),
			[]string{`bad.json: item 1 ("msg_1")`, "content"}},
		{"an attachment without an id", `{"id": "thr_1", "created_at": "2026-05-01T16:00:00Z",
			"attachments": [{"type": "file", "name": "a", "mime_type": "b"}]}`, []string{"bad.json: attachment", "id"}},
		{"an attachment twice", `{"id": "thr_1", "created_at": "2026-05-01T16:00:00Z", "attachments": [
			{"id": "atc_1", "type": "file", "name": "a", "mime_type": "b"},
			{"id": "atc_1", "type": "file", "name": "a", "mime_type": "b"}]}`, []string{`bad.json: attachment "atc_1"`, "conflict"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := write(t, t.TempDir(), "bad.json", tt.text)
			for _, args := range [][]string{{"-transcript", file}, {"-dir", filepath.Dir(file)}} {
				fail(t, 1, args, tt.want...)
			}
		})
	}
}

// fail wants an exit code and one line of complaint that contains want.
func fail(t *testing.T, code int, args []string, want ...string) {
	t.Helper()
	var out, complaint bytes.Buffer
	if got := command(t.Context(), args, &out, &complaint); got != code {
		t.Errorf("exit code %d, want %d", got, code)
	}
	contains(t, complaint.String(), want...)
	if code == 1 && strings.Count(complaint.String(), "\n") != 1 {
		t.Errorf("got %q, want one line", &complaint)
	}
}

func TestBadArguments(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	testenv.Must(t, os.Mkdir(empty, 0o700))
	fail(t, 1, []string{"-transcript", filepath.Join(dir, "none.json")}, "none.json")
	fail(t, 1, []string{"-transcript", dir}, dir)
	fail(t, 1, []string{"-dir", filepath.Join(dir, "none")}, "none")
	fail(t, 1, []string{"-dir", empty}, empty+": the folder has no *.json")
	fail(t, 1, []string{"-dir", write(t, dir, "file.json", minimal)}, "file.json")
	fail(t, 1, []string{"-dir", dir, "-transcript", "x.json"}, "exclude each other")
	fail(t, 1, []string{"mine.json"}, "-transcript")
	fail(t, 2, []string{"-colour"}, "flag provided but not defined")

	write(t, dir, "same.json", minimal)
	fail(t, 1, []string{"-dir", dir}, "same.json", `"thr_mine"`, "is also in", "file.json")
}

// For any content of a file, reading and replaying it ends without a panic. The result is a replay or an error that names
// the file.
func FuzzTranscript(f *testing.F) {
	for _, text := range files(f) {
		f.Add(text)
	}
	f.Add([]byte(minimal))
	f.Add([]byte(`{"id":"a","created_at":"2026-05-01T16:00:00Z","items":[{"id":"b","type":"x","created_at":"2026-05-01T16:00:00Z"},null]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		tr, err := parseTranscript("f.json", text)
		if err == nil {
			ctx := store.WithPrincipal(t.Context(), ada)
			s := server{memstore.New(), noop.NewTracerProvider().Tracer("")}
			err = s.create(ctx, tr)
			for _, r := range tr.requests {
				if err == nil {
					err = s.serve(ctx, tr, r)
				}
			}
		}
		if err != nil && !strings.HasPrefix(err.Error(), "f.json: ") {
			t.Errorf("%v: does not name the file", err)
		}
	})
}
