package answer_test

import (
	"context"
	"encoding/json"
	"errors"
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
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/examples/chatserver/answer"
	"github.com/chatstore/chatstore/internal/chatkittest"
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
		return answer.NewOpenAI(srv.URL+"/v1", key+"\n", "small", append([]answer.OpenAIOption{answer.WithLogger(log)}, opts...)...)
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
		got = read(t, r)
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
		{"role": "user", "content": "[Context: She likes tea.]"},
		{"role": "assistant", "content": "[The tool clock is called with {}.]"},
		{"role": "user", "content": `[The tool's output: "noon"]`},
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

	if events := g.stream(t.Context(), "threads.custom_action", object{"action": object{"type": "press"}}, nil); types(events) != "stream_options error" {
		t.Errorf("an action: %v", events)
	}
}

func raw(t *testing.T, text string) chat.JSON {
	t.Helper()
	return testenv.Value(chat.ParseJSON(text))(t)
}

// replies returns an endpoint that always sends this body.
func replies(contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, body)
	}
}

const stream = "text/event-stream"

// An endpoint that fails leaves no message. The user and the log get the cause, without the key, the URL and the reply.
func TestOpenAIFails(t *testing.T) {
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "0")
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			fmt.Fprintf(w, `{"error":{"message":"the key %s is wrong","type":"a_type","param":"x","code":"c: %[1]s"}}`, key)
		}
	}
	busy := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(429)
		_, _ = io.WriteString(w, `{"error":"this request exceeds the token limit of a minute"}`)
	}
	for name, c := range map[string]struct {
		serve  http.HandlerFunc
		reason string
		told   string
		again  bool
	}{
		"400":            {status(400), `"status 400: a_type"`, "refused", false},
		"401":            {status(401), `"status 401: a_type"`, "not configured", false},
		"404":            {status(404), `"status 404: a_type"`, "not configured", false},
		"429":            {status(429), `"status 429: a_type"`, "busy", true},
		"429 for tokens": {busy, `"status 429"`, "busy", true},
		"500":            {status(500), `"status 500: a_type"`, "not available", true},
		"redirect":       {http.RedirectHandler("/elsewhere", http.StatusTemporaryRedirect).ServeHTTP, `"status 307"`, "not configured", false},
		"a page":         {replies("text/html; charset=utf-8", "<html>"+key), `"not a completion: text/html"`, "something else", false},
		"other JSON":     {replies("application/json", `{"ok":"`+key+`"}`), `"not a completion: application/json"`, "something else", false},
		"an odd type":    {replies(key, "hello"), `"not a completion: of an odd content type"`, "something else", false},
		"nothing":        {replies(stream, chunk("", "stop")+"data: [DONE]\n\n"), `"an empty answer"`, "said nothing", true},
		"blank":          {replies(stream, chunk(" \n ", "stop")), `"an empty answer"`, "said nothing", true},
		"an empty body":  {replies(stream, ""), `"an empty answer"`, "said nothing", true},
		"only a tool":    {replies(stream, `data: {"choices":[{"delta":{"tool_calls":[{"function":{"name":"f"}}]},"finish_reason":"tool_calls"}]}`), `"only a call of a tool"`, "tool", true},
		"an error event": {replies(stream, `data: {"error":{"message":"`+key+`","type":"server_error","code":503}}`), `"an error event: server_error, 503"`, "not available", true},
		"closed at once": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, `"the connection was closed"`, "cannot be reached", true},
		"closed later":   {func(w http.ResponseWriter, _ *http.Request) { cut(w) }, `"the connection was closed"`, "cut off", true},
	} {
		t.Run(name, func(t *testing.T) {
			g := model(t, c.serve)
			events := g.say("Good day")
			if types(events) != "error" {
				t.Errorf("events %s", types(events))
			}
			told, _ := events[len(events)-1]["message"].(string)
			if again := events[len(events)-1]["allow_retry"]; again != c.again || !strings.Contains(told, c.told) {
				t.Errorf("told %q, retry %v", told, again)
			}
			if log := g.log.String(); !strings.Contains(log, `"the model did not answer" reason=`+c.reason) {
				t.Errorf("%s is not in the log: %s", c.reason, log)
			}
			if all := fmt.Sprint(events) + g.log.String(); strings.Contains(all, key) || strings.Contains(all, "/v1") {
				t.Errorf("the key or the URL was revealed: %s", all)
			}
			g.wantStored("")
		})
	}
}

// A network's error is logged without the URL, which can have a password, and without the reply.
func TestOpenAIUnreachable(t *testing.T) {
	odd := network(func(*http.Request) (*http.Response, error) { return nil, fmt.Errorf("malformed HTTP response %q", key) })
	other := network(func(*http.Request) (*http.Response, error) { return nil, errors.New(key) })
	for reason, n := range map[string]http.RoundTripper{"connection refused": http.DefaultTransport, "malformed HTTP": odd, "*errors.errorString": other} {
		g := newRig(t, func(log *slog.Logger) chatkit.Responder {
			a := answer.NewOpenAI("http://ada:"+key+"@127.0.0.1:1/v1?api-key="+key, "", "small", answer.WithLogger(log))
			a.Through(n)
			return a
		})
		events := g.say("Good day")
		if types(events) != "error" || events[len(events)-1]["message"] != "The model cannot be reached." {
			t.Errorf("told %v", events)
		}
		if log := g.log.String(); !strings.Contains(log, reason) || strings.Contains(log, key) {
			t.Errorf("logged %s", log)
		}
	}
}

// Of an error's page only the beginning is read.
func TestOpenAILongRefusal(t *testing.T) {
	const most = 64 << 20
	written := 0
	over := make(chan struct{})
	g := model(t, func(w http.ResponseWriter, _ *http.Request) {
		defer close(over)
		w.WriteHeader(http.StatusBadRequest)
		for n, err := 0, error(nil); err == nil && written < most; written += n {
			n, err = w.Write(make([]byte, 1<<20))
		}
	})
	g.say("Good day")
	if <-over; written >= most {
		t.Errorf("%d bytes were read", written)
	}
}

// cut cuts the connection after the bytes written so far.
func cut(w http.ResponseWriter) {
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// What a model said is stored, if its answer is cut off, with a mark. The mark is not sent to the model.
func TestOpenAIKeepsWhatWasSaid(t *testing.T) {
	const (
		cutOff     = "[The answer was cut off.]"
		incomplete = "[The answer may be incomplete.]"
	)
	for name, c := range map[string]struct {
		reply, mark, reason string
		fails               bool
	}{
		"ends too early":             {chunk("Hel", ""), cutOff, "cut off before the end", true},
		"ends within a line":         {chunk("Hel", "") + `data: {"choices":[{"del`, cutOff, "cut off before the end", true},
		"ends within a character":    {chunk("Hel", "") + "data: {\"choices\":[{\"delta\":{\"content\":\"\xf0\x9f", cutOff, "cut off before the end", true},
		"ends with half a character": {chunk("Hel", "") + `data: {"choices":[{"index":0,"delta":{"content":"` + "\xf0\x9f" + `"}}]}` + "\n\n", cutOff, "cut off before the end", true},
		"ends with half a pair":      {chunk("Hel", "") + `data: {"choices":[{"index":0,"delta":{"content":"\ud83d"}}]}` + "\n\n", cutOff, "cut off before the end", true},
		"malformed":                  {chunk("Hel", "") + "data: {\"choices\":[{\n\n", cutOff, "malformed JSON", true},
		"breaks off":                 {chunk("Hel", "") + "CUT", cutOff, "the connection was closed", true},
		"an error event":             {chunk("Hel", "") + `data: {"error":{"message":"` + key + `"}}` + "\n\n", cutOff, "an error event", true},
		"an error by its name":       {chunk("Hel", "") + "event: error\ndata: {\"message\":\"x\",\"code\":\"overloaded\"}\n\n", cutOff, "an error event: overloaded", true},
		"an error's own field":       {chunk("Hel", "") + "error: {\"code\":500,\"message\":\"x\"}\n\n", cutOff, "an error event: 500", true},
		"an error without a field":   {chunk("Hel", "") + "{\"error\":\"x\"}\n", cutOff, "an error event", true},
		"an error as a reason":       {chunk("Hel", "") + chunk("", "error"), cutOff, "an error event", true},
		"an error of vLLM":           {chunk("Hel", "") + `data: {"object":"error","message":"x","type":"BadRequestError","code":400}` + "\n\ndata: [DONE]\n\n", cutOff, "an error event: BadRequestError, 400", true},
		"a line without end":         {chunk("Hel", "") + ": " + strings.Repeat("x", 9<<20) + "\n" + chunk("", "stop"), cutOff, "a reply that is too long", true},
		"data without end":           {chunk("Hel", "") + strings.Repeat("data: x"+strings.Repeat("x", 1<<20)+"\n", 9) + chunk("", "stop"), cutOff, "a reply that is too long", true},
		"no finish_reason":           {chunk("Hel", "") + "data: [DONE]\n\n", incomplete, "no finish_reason", false},
		"length":                     {chunk("Hel", "length") + "data: [DONE]\n\n", "[The answer reached the model's limit of length.]", "finish_reason length", false},
		"a filter":                   {chunk("Hel", "content_filter"), "[The answer was stopped by a content filter.]", "finish_reason content_filter", false},
	} {
		t.Run(name, func(t *testing.T) {
			var got asked
			g := model(t, func(w http.ResponseWriter, r *http.Request) {
				if got.Model == "" {
					got = read(t, r)
					body, breaks := strings.CutSuffix(c.reply, "CUT")
					if replies(stream, body)(w, r); breaks {
						cut(w)
					}
					return
				}
				got = read(t, r)
				replies(stream, chunk("Bye", "stop"))(w, r)
			})
			events := g.say("Good day")
			want := "added part.added part.text_delta part.done done"
			if c.fails {
				want += " error"
			}
			if types(events) != want {
				t.Errorf("events %s, want %s", types(events), want)
			}
			if said := spoken(last[chat.AssistantMessage](g)); said != "Hel\n\n"+c.mark || said != text(events) {
				t.Errorf("stored %q, sent %q, want the mark %q", said, text(events), c.mark)
			}
			if log := g.log.String(); !strings.Contains(log, c.reason) || strings.Contains(log, key) {
				t.Errorf("%q is not in the log: %s", c.reason, log)
			}
			if said := text(g.say("Go on")); said != "Bye" {
				t.Errorf("the next answer is %q", said)
			}
			if len(got.Messages) != 3 || got.Messages[1]["content"] != "Hel" {
				t.Errorf("the next turn sends %v", got.Messages)
			}
		})
	}
}

// read returns the question of a request to the endpoint.
func read(t *testing.T, r *http.Request) (q asked) {
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		t.Error(err)
	}
	return q
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
		"midway":  {slow{patience - 1, chunk("Hel", "")}, "added part.added part.text_delta part.done done error", 2*patience - 1},
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

// A reply that has a finish_reason and then hangs is complete.
func TestOpenAIFinishedButOpen(t *testing.T) {
	events, took := sayOver(t, slow{0, chunk("Hello", "stop")})
	if text(events) != "Hello" || events[len(events)-1]["type"] != "thread.item.done" || took != 2*time.Second {
		t.Errorf("said %q after %v: %v", text(events), took, events[len(events)-1])
	}
}

// Comments do not count as words.
func TestOpenAIKeepsSilent(t *testing.T) {
	comments := network(func(r *http.Request) (*http.Response, error) {
		body, said := io.Pipe()
		go func() {
			for {
				select {
				case <-time.After(time.Second):
					_, _ = io.WriteString(said, ": still there\n\n")
				case <-r.Context().Done():
					_ = said.CloseWithError(context.Cause(r.Context()))
					return
				}
			}
		}()
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {stream}}, Body: body}, nil
	})
	events, took := sayOver(t, comments)
	if end := events[len(events)-1]; end["message"] != "The model took too long to answer." || took != answer.DefaultPatience {
		t.Errorf("after %v: %v", took, end)
	}
}

// A conversation that begins with a command is named by the model's answer.
func TestOpenAITitle(t *testing.T) {
	for say, want := range map[string]string{"/help": "The help you asked for", "About tea": "About tea"} {
		g := model(t, replies(stream, chunk("\n## The help you asked for:\n- none", "stop")))
		g.say(say)
		if th := testenv.Value(g.s.LoadThread(t.Context(), g.thread))(t); th.Title != want {
			t.Errorf("%q: title %q, want %q", say, th.Title, want)
		}
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

// Reasoning is no answer: it does not count against the limit of an answer's text.
func TestLongReasoningIsFollowedByItsAnswer(t *testing.T) {
	t.Cleanup(answer.LimitText(256 << 10)) // the race detector makes 8 MiB slow
	much := strings.Repeat("x", 32<<10)
	reasoning := strings.Repeat(choices(`{"index":0,"delta":{"reasoning_content":"`+much+`"}}`), 9)
	g := model(t, replies(stream, reasoning+chunk("Hello", "stop")))
	if said := text(g.say("Good day")); said != "Hello" || strings.Contains(g.log.String(), "the model") {
		t.Errorf("said %.100q: %s", said, g.log)
	}
	g = model(t, replies(stream, strings.Repeat(chunk(much, ""), 12)+chunk("", "stop")))
	res := g.request(t.Context(), "threads.create", input("Good day"))
	defer res.Body.Close()
	sent := testenv.Value(io.ReadAll(res.Body))(t)
	if n := strings.Count(string(sent), much); n > 3*(8+1) || !strings.Contains(g.log.String(), `"the model's answer is incomplete" reason="a reply that is too long"`) {
		t.Errorf("said %d bytes: %.1000s", n, g.log)
	}
}
