package answer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/examples/chatserver/answer"
	"github.com/chatstore/chatstore/examples/chatserver/chatkit"
	"github.com/chatstore/chatstore/examples/chatserver/internal/chatkittest"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
)

const key = "sk-very-secret"

// chunk returns one line of a streamed completion.
func chunk(delta, finish string) string {
	f := "null"
	if finish != "" {
		f = fmt.Sprintf("%q", finish)
	}
	return fmt.Sprintf(`data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":%q},"finish_reason":%s}]}`+"\n\n", delta, f)
}

// model runs an endpoint, and an assistant that uses it.
func model(t *testing.T, serve http.HandlerFunc, opts ...answer.OpenAIOption) *rig {
	t.Helper()
	srv := httptest.NewServer(serve)
	t.Cleanup(srv.Close)
	return newRig(t, func(log *slog.Logger) chatkit.Responder {
		return answer.NewOpenAI(srv.URL+"/v1", key, "small", append([]answer.OpenAIOption{answer.WithLogger(log)}, opts...)...)
	})
}

type asked struct {
	Model    string   `json:"model"`
	Stream   bool     `json:"stream"`
	Messages []object `json:"messages"`
}

func TestOpenAI(t *testing.T) {
	var got asked
	g := model(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/chat/completions" || r.Header.Get("Authorization") != "Bearer "+key {
			t.Errorf("%s, Authorization %q", r.URL.Path, r.Header.Get("Authorization"))
		}
		got = asked{}
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, chunk("", "")+": a comment\n\n"+chunk("Hel", "")+chunk("lo", "")+chunk("", "stop")+"data: [DONE]\n\n")
	}, answer.WithModels("large"), answer.WithInstructions("Be brief."))

	events := g.say("Good day", object{"inference_options": object{"model": "large"}})
	if text(events) != "Hello" || types(events) != "added part.added part.text_delta part.done done" {
		t.Errorf("%q: %s", text(events), types(events))
	}
	if got.Model != "large" || !got.Stream {
		t.Errorf("asked %+v", got)
	}
	for _, b := range []chat.Body{
		chat.HiddenContextItem{Content: raw(t, `"She likes tea."`)},
		chat.ClientToolCall{Status: "completed", CallID: "c1", Name: "clock", Arguments: raw(t, `{}`), Output: raw(t, `"noon"`)},
		chat.ClientToolCall{Status: "pending", CallID: "c2", Name: "clock"},
		chat.Widget{Widget: raw(t, `{"type":"Card"}`), CopyText: "A card"},
	} {
		it, err := chat.NewItem(g.s.GenerateItemID(t.Context(), chat.KindMessage, chat.Thread{}), time.Now(), b)
		if err == nil {
			err = g.s.AddThreadItem(t.Context(), g.thread, it)
		}
		testenv.Must(t, err)
	}
	g.say("And?", object{"quoted_text": "Hello", "inference_options": object{"model": "unlisted"}})
	want := asked{"small", true, []object{
		{"role": "system", "content": "Be brief."},
		{"role": "user", "content": "Good day"},
		{"role": "assistant", "content": "Hello"},
		{"role": "system", "content": "She likes tea."},
		{"role": "assistant", "tool_calls": []any{
			object{"id": "c1", "type": "function", "function": object{"name": "clock", "arguments": "{}"}},
		}},
		{"role": "tool", "tool_call_id": "c1", "content": `"noon"`},
		{"role": "assistant", "content": "[A widget is shown: A card]"},
		{"role": "user", "content": "> Hello\n\nAnd?"},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	th, err := g.s.LoadThread(t.Context(), g.thread)
	if err != nil || th.Title != "Good day" {
		t.Errorf("title %q, %v", th.Title, err)
	}

	// If a conversation is too long, the oldest items are left out. A single message that is too long is refused.
	g.say(strings.Repeat("x", 128<<10-4))
	if len(got.Messages) != 2 || got.Messages[0]["role"] != "system" {
		t.Errorf("%d messages", len(got.Messages))
	}
	if events := g.say(strings.Repeat("x", 128<<10+1)); types(events) != "error" || events[0]["allow_retry"] != false {
		t.Errorf("too long: %v", events)
	}
	if events := g.stream(t.Context(), "threads.custom_action", object{"action": object{"type": "press"}}, nil); types(events) != "stream_options error" {
		t.Errorf("an action: %v", events)
	}
}

func raw(t *testing.T, text string) chat.JSON {
	t.Helper()
	return testenv.Value(chat.ParseJSON(text))(t)
}

func TestOpenAIFails(t *testing.T) {
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Should-Retry", "false")
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			fmt.Fprintf(w, `{"error":{"message":"the key %s is wrong","type":"t","code":"c"}}`, key)
		}
	}
	says := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, body)
		}
	}
	begun := "added part.added part.text_delta error"
	for name, c := range map[string]struct {
		serve          http.HandlerFunc
		events, reason string
		again          bool
	}{
		"400":               {status(400), "error", "status 400", false},
		"401":               {status(401), "error", "status 401", false},
		"404":               {status(404), "error", "status 404", false},
		"429":               {status(429), "error", "status 429", true},
		"500":               {status(500), "error", "status 500", true},
		"redirect":          {http.RedirectHandler("/elsewhere", http.StatusTemporaryRedirect).ServeHTTP, "error", "an empty answer", true},
		"a page":            {says("<html>hello</html>"), "error", "an empty answer", true},
		"nothing":           {says(chunk("", "stop") + "data: [DONE]\n\n"), "error", "an empty answer", true},
		"malformed":         {says(chunk("Hel", "") + "data: {\"choices\":[{\n\n"), begun, "SyntaxError", true},
		"an error event":    {says(chunk("Hel", "") + `data: {"error":{"message":"` + key + `"}}` + "\n\n"), begun, "an error event", true},
		"ends too early":    {says(chunk("Hel", "")), begun, "cut off", true},
		"endless":           {says(chunk("Hel", "") + strings.Repeat(": "+strings.Repeat("x", 1<<20)+"\n", 9) + chunk("", "stop")), begun, "cut off", true},
		"connection is cut": {func(w http.ResponseWriter, r *http.Request) { says(chunk("Hel", ""))(w, r); cut(w) }, begun, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			g := model(t, c.serve)
			events := g.say("Good day")
			if types(events) != c.events {
				t.Errorf("events %s, want %s", types(events), c.events)
			}
			end := events[len(events)-1]
			if end["code"] != "custom" || end["message"] == "" || end["allow_retry"] != c.again {
				t.Errorf("told %v", end)
			}
			if log := g.log.String(); !strings.Contains(log, "the model did not answer") || !strings.Contains(log, c.reason) {
				t.Errorf("%q is not in the log: %s", c.reason, log)
			}
			if all := fmt.Sprint(events) + g.log.String(); strings.Contains(all, key) || strings.Contains(all, "/v1") {
				t.Errorf("the key or the URL was revealed: %s", all)
			}
			g.wantStored("")
		})
	}
}

// cut cuts the connection after the bytes written so far.
func cut(w http.ResponseWriter) {
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// slow is an endpoint that sends its first words after some time, and then nothing more.
type slow struct {
	after time.Duration
	words string
}

func (s slow) RoundTrip(req *http.Request) (*http.Response, error) {
	body, said := io.Pipe()
	go func() {
		time.Sleep(s.after)
		_, _ = io.WriteString(said, s.words)
		<-req.Context().Done()
		_ = said.CloseWithError(context.Cause(req.Context()))
	}()
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: body, Request: req}, nil
}

// An endpoint that falls silent is given up, before its first word or after it. The time starts again with each word.
func TestOpenAISilent(t *testing.T) {
	const patience = 2 * time.Minute
	for name, c := range map[string]struct {
		endpoint slow
		events   string
		within   time.Duration
	}{
		"at once": {slow{}, "error", patience},
		"midway":  {slow{patience - 1, chunk("Hel", "")}, "added part.added part.text_delta error", 2*patience - 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := answer.NewOpenAI("http://model/v1", key, "small", answer.WithPatience(patience), answer.WithLogger(slog.New(slog.DiscardHandler)))
				a.Through(c.endpoint)
				h := chatkit.NewHandler(memstore.New(), a)
				w, began := httptest.NewRecorder(), time.Now()
				h.ServeHTTP(w, testenv.Value(chatkittest.NewRequest(t.Context(), "/", "threads.create", input("Good day")))(t))
				if took := time.Since(began); took != c.within {
					t.Errorf("given up after %v, want %v", took, c.within)
				}
				var events []object
				for e, err := range chatkittest.Events(w.Body) {
					testenv.Must(t, err)
					events = append(events, e)
				}
				if _, got, _ := strings.Cut(types(events), "stream_options "); got != c.events {
					t.Errorf("events %s, want %s", got, c.events)
				}
				if end := events[len(events)-1]; end["message"] != "The model took too long to answer." || end["allow_retry"] != true {
					t.Errorf("told %v", end)
				}
			})
		})
	}
}

func TestOpenAICancelled(t *testing.T) {
	over := make(chan struct{})
	g := model(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(over)
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, chunk("Hel", ""))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	// The request to the endpoint ends with the client's request. Otherwise this would hang.
	g.sayAndLeave("Good day", func(read []object) bool { return text(read) == "Hel" })
	<-over
	if strings.Contains(g.log.String(), "the model did not answer") {
		t.Errorf("the log blames the model for a client that left: %s", g.log)
	}
}
