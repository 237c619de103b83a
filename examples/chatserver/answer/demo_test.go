package answer_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/examples/chatserver/answer"
	"github.com/chatstore/chatstore/internal/testenv"
)

func demo(opts ...answer.Option) func(*slog.Logger) chatkit.Responder {
	return func(*slog.Logger) chatkit.Responder {
		return answer.NewDemo(append([]answer.Option{answer.WithPace(0)}, opts...)...)
	}
}

// The rig checks each event against the schema. So all commands must be tried.
func TestCommands(t *testing.T) {
	tried := map[string]bool{}
	const message = "added part.added part.text_delta part.done done"
	for _, c := range []struct{ say, events, stored, text string }{
		{"hello there", message, "assistant_message", "You said: hello there\n\nTry /help."},
		{"/nonsense", message, "assistant_message", "You said: /nonsense"},
		{"/help", message, "assistant_message", "- `/workflow`: steps"},
		{"/LONG\n3", message, "assistant_message", "Time passes, the "},
		{"/widget", "done", "widget", ""},
		{"/workflow", "added " + strings.Repeat("task.added task.updated ", 3) + "done " + message, "workflow assistant_message", "tea"},
		{"/tool", "done", "client_tool_call", ""},
		{"/form", "done", "structured_input", ""},
		{"/image", "added image.updated done", "generated_image", ""},
		{"/sources", "added part.added part.text_delta part.annotation_added part.done done", "assistant_message", "Water"},
		{"/title Tea", message, "assistant_message", "“Tea”"},
		{"/lock", message, "assistant_message", "Goodbye."},
		{"/hidden \"a\"\tb \x01", message, "hidden_context_item assistant_message", "I'll remember."},
		{"/notice", "notice", "", ""},
		{"/progress", "progress_update " + message, "assistant_message", "cup"},
		{"/effect", "client_effect", "", ""},
		{"/remove", "done removed", "", ""},
		{"/fail", "error", "", ""},
		{"/panic", "error", "", ""},
	} {
		name, _, _ := strings.Cut(strings.ToLower(c.say), "\n")
		tried[strings.Fields(name)[0]] = true
		t.Run(c.say, func(t *testing.T) {
			g := newRig(t, demo())
			got := g.say(c.say)
			if want := strings.TrimSpace(c.events); types(got) != want {
				t.Errorf("events\n %s, want\n %s", types(got), want)
			}
			g.wantStored(c.stored)
			if !strings.Contains(text(got), c.text) {
				t.Errorf("said %q, want %q in it", text(got), c.text)
			}
			if _, failed := got[len(got)-1]["code"]; !failed && text(got) != "" && text(got) != spoken(last[chat.AssistantMessage](g)) {
				t.Error("the stored item differs from the streamed one")
			}
		})
	}
	named := 0
	for line := range strings.Lines(text(newRig(t, demo()).say("/help"))) {
		if item, found := strings.CutPrefix(line, "- `"); found {
			named++
			if name := item[:strings.IndexAny(item, "` ")]; !tried[name] {
				t.Errorf("%s was not tried", name)
			}
		}
	}
	if named == 0 {
		t.Error("/help names no command")
	}
}

func TestEcho(t *testing.T) {
	g := newRig(t, demo())
	a := testenv.Value(chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "file", Name: "tea.txt", MIMEType: "text/plain"}))(t)
	testenv.Must(t, g.s.SaveAttachment(t.Context(), a))
	g.say("one")
	got := text(g.say("two", object{"quoted_text": "said before", "attachments": []string{"atc_1"}}))
	for _, want := range []string{"You said: two", "“said before”", "tea.txt (text/plain)", "message 2", "“one”"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
}

func TestTitle(t *testing.T) {
	g := newRig(t, demo())
	title := func(g *rig) string { return testenv.Value(g.s.LoadThread(t.Context(), g.thread))(t).Title }
	g.say("about  " + strings.Repeat("ä", 100))
	if want := "about " + strings.Repeat("ä", 53) + "…"; title(g) != want {
		t.Errorf("title %q, want %q", title(g), want)
	}
	g.say("another")
	if !strings.HasPrefix(title(g), "about") {
		t.Errorf("the second message made the title %q", title(g))
	}
	g.say("/title Tea")
	if title(g) != "Tea" {
		t.Errorf("title %q, want Tea", title(g))
	}
	g.say("/lock")
	if code, _ := g.ask("threads.add_user_message", input("more")); code != 409 {
		t.Errorf("a locked thread answers %d", code)
	}
}

// A conversation that begins with a command is named by the answer, or by the next message if the answer has no text.
func TestTitleOfACommand(t *testing.T) {
	for _, c := range []struct {
		say  []string
		want string
	}{
		{[]string{"/help"}, "I repeat what you say, and I know these commands"},
		{[]string{"/long 9"}, "Time passes, the kettle hums, and every word that"},
		{[]string{"/workflow"}, "The tea is ready."},
		{[]string{"/nonsense"}, "You said: /nonsense"},
		{[]string{"/widget"}, ""},
		{[]string{"/widget", "/fail", "about tea"}, "about tea"},
		{[]string{"/title Tea"}, "Tea"},
	} {
		g := newRig(t, demo())
		for _, text := range c.say {
			g.say(text)
		}
		if th := testenv.Value(g.s.LoadThread(t.Context(), g.thread))(t); th.Title != c.want {
			t.Errorf("%q: title %q, want %q", c.say, th.Title, c.want)
		}
	}
}

func TestFailures(t *testing.T) {
	g := newRig(t, demo())
	for say, want := range map[string]object{
		"/fail":       {"code": "custom", "message": "The kettle is broken.", "allow_retry": false},
		"/fail retry": {"code": "custom", "message": "The kettle is broken.", "allow_retry": true},
		"/panic":      {"code": "stream.error", "message": nil, "allow_retry": true},
	} {
		got := g.say(say)[0]
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%s: %s is %v, want %v", say, k, got[k], v)
			}
		}
	}
	if got := text(g.say("still there?")); !strings.Contains(got, "still there?") {
		t.Errorf("after a panic: %q", got)
	}
}

func TestTool(t *testing.T) {
	g := newRig(t, demo())
	g.say("/form")
	form := g.items()[1]
	g.say("/tool")
	call := last[chat.ClientToolCall](g)
	if call.Name != "get_local_time" || call.Status != "pending" || call.CallID == "" {
		t.Errorf("call %+v", call)
	}
	got := text(g.stream(t.Context(), "threads.add_client_tool_output", object{"result": "12:30"}, nil))
	if got != "Your browser says: 12:30" {
		t.Errorf("said %q", got)
	}
	// The form is older than the tool's output, which was answered already.
	answers := object{"drink": object{"values": []string{"Tea"}}, "with": object{"values": []string{"Milk", "Sugar"}}}
	got = text(g.stream(t.Context(), "threads.add_structured_input",
		object{"item_id": form.ID, "input": object{"status": "answered", "answers": answers}}, nil))
	if want := "Thank you. Tea or coffee? Tea. With what? Milk and Sugar. Anything else? no answer."; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
}

func TestActions(t *testing.T) {
	g := newRig(t, demo())
	g.say("/widget")
	id := g.items()[1].ID
	press := func(times int) object {
		return object{"item_id": id, "action": object{"type": "press", "payload": object{"times": times}}}
	}
	shows := func(want string) {
		t.Helper()
		if w := last[chat.Widget](g); !strings.Contains(w.Widget.String(), want) {
			t.Errorf("%q is not in %s", want, w.Widget)
		}
	}
	shows("pressed 0 times")
	if got := types(g.stream(t.Context(), "threads.custom_action", press(1), nil)); got != "stream_options replaced" {
		t.Errorf("events %s", got)
	}
	shows("pressed 1 times")
	code, got := g.ask("threads.sync_custom_action", press(2))
	if item, ok := got["updated_item"].(object); code != 200 || !ok || item["id"] != id {
		t.Errorf("%d %v", code, got)
	}
	shows("pressed 2 times")

	other := object{"item_id": id, "action": object{"type": "dance"}}
	if got := types(g.stream(t.Context(), "threads.custom_action", other, nil)); got != "stream_options error" {
		t.Errorf("an unknown action: %s", got)
	}
	if code, got := g.ask("threads.sync_custom_action", other); code != 200 || got["updated_item"] != nil {
		t.Errorf("an unknown action: %d %v", code, got)
	}
	wrong := object{"item_id": id, "action": object{"type": "press", "payload": object{"times": "many"}}}
	if code, _ := g.ask("threads.sync_custom_action", wrong); code != 400 {
		t.Errorf("a payload of another kind: %d", code)
	}
	shows("pressed 2 times")
}

func TestLongIsBounded(t *testing.T) {
	g := newRig(t, demo())
	for say, want := range map[string]int{"/long 0": 200, "/long many": 200, "/long 20001": 20_000} {
		if got := len(strings.Fields(text(g.say(say)))); got != want {
			t.Errorf("%s: %d words, want %d", say, got, want)
		}
	}
}

// A client that goes away keeps the words it has read, for any pace of the answer.
func TestLongCancelled(t *testing.T) {
	for name, pace := range map[string]time.Duration{"quick": 0, "slow": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, demo(answer.WithPace(pace)))
			read := g.sayAndLeave("/long 20000", func(read []object) bool { return len(text(read)) > 50 })
			m, _, err := chat.DecodeItem[chat.AssistantMessage](g.items()[1])
			testenv.Must(t, err)
			if got := spoken(m); !strings.HasPrefix(got, text(read)) || len(strings.Fields(got)) == 20_000 {
				t.Errorf("%d bytes were kept and %d were read", len(got), len(text(read)))
			}
		})
	}
}

// The pace is one timer per word, and the end of the context cuts it short.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := answer.NewDemo(answer.WithPace(time.Hour))
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Minute)
		defer cancel()
		began := time.Now()
		if err := answer.Wait(a, ctx, 1); err != nil || time.Since(began) != time.Hour {
			t.Errorf("%v after %v, want an hour", err, time.Since(began))
		}
		if err := answer.Wait(a, ctx, 1); err != context.DeadlineExceeded || time.Since(began) != 90*time.Minute {
			t.Errorf("%v after %v, want the deadline's", err, time.Since(began))
		}
	})
}
