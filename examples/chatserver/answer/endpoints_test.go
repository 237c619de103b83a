package answer_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/examples/chatserver/answer"
	"github.com/chatstore/chatstore/internal/chatkittest"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
)

// choices returns events with these choices, of one member each.
func choices(all ...string) string {
	var b strings.Builder
	for _, c := range all {
		fmt.Fprintf(&b, "data: {\"choices\":[%s]}\n\n", c)
	}
	return b.String()
}

const (
	stop = `{"index":0,"delta":{},"finish_reason":"stop"}`
	done = "data: [DONE]\n\n"
)

// Endpoints differ in how they send text. The text is shown and stored, and nothing else.
func TestEndpointsShowText(t *testing.T) {
	hello := chunk("Hel", "") + chunk("lo", "") + chunk("", "stop") + done
	for name, c := range map[string]struct{ kind, reply string }{
		"as OpenAI":             {stream, hello},
		"CRLF":                  {stream, strings.ReplaceAll(hello, "\n", "\r\n")},
		"no space after data:":  {stream, strings.ReplaceAll(hello, "data: ", "data:")},
		"single line ends":      {stream, strings.ReplaceAll(hello, "\n\n", "\n")},
		"no line end at last":   {stream, strings.TrimRight(hello, "\n")},
		"a byte order mark":     {stream, "\xef\xbb\xbf" + hello},
		"another content type":  {"text/plain", hello},
		"no [DONE]":             {stream, strings.TrimSuffix(hello, done)},
		"fields and comments":   {stream, ": OPENROUTER PROCESSING\n\nid: 1\nretry: 5\n" + strings.ReplaceAll(hello, "data:", "event: message\ndata:")},
		"data in several lines": {stream, "data: {\"choices\":\ndata: [{\"delta\":{\"content\":\"Hello\"}}]}\n\n" + choices(stop)},
		"Azure's first and last": {stream, choices("") + `data: {"choices":[],"prompt_filter_results":[]}` + "\n\n" + choices(
			`{"index":0,"content_filter_results":{},"finish_reason":null}`) + hello},
		"usage at the end": {stream, chunk("Hello", "stop") + "data: {\"choices\":[],\"usage\":{\"total_tokens\":3}}\n\n" + done},
		"choices are null": {stream, "data: {\"choices\":null}\n\n" + hello},
		"a role and null":  {stream, choices(`{"index":0,"delta":{"role":"assistant","content":null}}`) + hello},
		"delta is null":    {stream, choices(`{"index":0,"delta":null}`) + hello},
		"error is null":    {stream, strings.ReplaceAll(hello, `"object"`, `"error":null,"object"`)},
		"finish_reason is empty": {stream, choices(`{"index":0,"delta":{"content":"Hel"},"finish_reason":""}`,
			`{"index":0,"delta":{"content":"lo"},"finish_reason":""}`, stop)},
		"Gemini's finishReason": {stream, choices(`{"delta":{"content":"Hello"},"finish_reason":null,"finishReason":"stop"}`)},
		"a reason in each":      {stream, chunk("Hel", "stop") + chunk("lo", "stop")},
		"no index":              {stream, choices(`{"delta":{"content":"Hello"},"finish_reason":"stop"}`)},
		"another index":         {stream, strings.ReplaceAll(hello, `"index":0`, `"index":1`)},
		"two choices":           {stream, choices(`{"index":0,"delta":{"content":"Hello"}},{"index":1,"delta":{"content":"Bonjour"}}`, stop)},
		"parts": {stream, choices(`{"delta":{"content":[{"type":"text","text":"Hel"},{"type":"reference","text":"x"}]}}`,
			`{"delta":{"content":["lo",null,3,{"type":"image_url","image_url":{"url":"x"}},{"type":"text","text":null}]}}`, `{"finish_reason":"stop"}`)},
		"one part":                       {stream, choices(`{"delta":{"content":{"type":"text","text":"Hello"}},"finish_reason":"stop"}`)},
		"thinking parts":                 {stream, choices(`{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"Hm"}]}]}}`) + strings.ReplaceAll(hello, `"index":0,`, "")},
		"reasoning":                      {stream, choices(`{"index":0,"delta":{"reasoning_content":"Hm","reasoning":"Hm","content":""}}`) + hello},
		"<think>":                        {stream, chunk("\n<th", "") + chunk("ink>Hm, <think", "") + chunk("> </thi", "") + chunk("nk>\n\n", "") + hello},
		"<think> twice":                  {stream, chunk("<think></think><think>Hm</think>", "") + hello},
		"empty lines first":              {stream, chunk("\n", "") + chunk("\n\n", "") + hello},
		"a refusal":                      {stream, choices(`{"delta":{"refusal":"Hello"},"finish_reason":"stop"}`)},
		"a tool beside":                  {stream, choices(`{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{}"}}]}}`) + hello},
		"older completions":              {stream, choices(`{"text":"Hel"}`, `{"text":"lo","finish_reason":"stop"}`)},
		"messages so far":                {stream, choices(`{"message":{"content":"Hel"}}`, `{"message":{"content":"Hello"},"finish_reason":"stop"}`)},
		"both":                           {stream, choices(`{"delta":{"content":"Hel"},"message":{"content":"Hel"}}`, `{"delta":{"content":"lo"},"message":{"content":"Hello"}}`, `{"delta":{"content":""},"message":{"content":"Hello"},"finish_reason":"stop"}`)},
		"a message unlike what was said": {stream, choices(`{"delta":{"content":"Hello"}}`, `{"message":{"content":"Bye, and more"},"finish_reason":"stop"}`)},
		"a message at the end":           {stream, choices(`{"delta":{"content":"Hel"}}`, `{"message":{"content":"Hello"},"finish_reason":"stop"}`)},
		"members of odd types":           {stream, choices(`{"delta":{"content":"Hello","tool_calls":{}},"logprobs":3,"finish_reason":7}`, `{"delta":"x"}`, stop)},
		"no stream":                      {"application/json", "\n" + `{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}]}`},
		"no stream, no reason":           {"text/plain", `{"choices":[{"message":{"content":[{"type":"text","text":"Hello"}]}}]}`},
		"no stream, <think>":             {"application/json", `{"choices":[{"message":{"content":"<think>Hm</think>\nHello"}}]}`},
		"a JSON document each":           {"application/x-ndjson", strings.ReplaceAll(strings.TrimSuffix(hello, done), "data: ", "")},
	} {
		t.Run(name, func(t *testing.T) {
			g := model(t, replies(c.kind, c.reply))
			events := g.say("Good day")
			if types(events) != "added part.added part.text_delta part.done done" {
				t.Fatalf("events %s: %s", types(events), g.log)
			}
			if said := spoken(last[chat.AssistantMessage](g)); said != "Hello" || text(events) != "Hello" {
				t.Errorf("stored %q, sent %q", said, text(events))
			}
		})
	}
}

// A character that is cut in two between events is joined.
func TestEndpointsJoinCharacters(t *testing.T) {
	var all []string
	for _, half := range []string{`\\a`, "\xf0", "\x9f\x98", "\x80", `\ud83d`, ``, `\ude00`, `\\ud83d`, `\\\\\ud83d`, `\ude00`, "\xc3", "\xa9 \xff.", `\ud83d`, `x\"`} {
		all = append(all, `{"delta":{"content":"`+half+`"}}`)
	}
	g := model(t, replies(stream, choices(append(all, `{"delta":{},"finish_reason":"stop"}`)...)))
	g.say("Good day")
	if got, want := spoken(last[chat.AssistantMessage](g)), `\a😀😀\ud83d\\😀é `+"\ufffd.\ufffdx\""; got != want {
		t.Errorf("stored %q, want %q", got, want)
	}
}

// network is a network to an endpoint. Its time passes in a synctest bubble.
type network func(*http.Request) (*http.Response, error)

func (n network) RoundTrip(r *http.Request) (*http.Response, error) { return n(r) }

func response(code int, body string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: code, Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

// sayOver says Good day over a network, within a bubble. It returns the events and the time that they took.
func sayOver(t *testing.T, n http.RoundTripper, opts ...answer.OpenAIOption) (events []object, took time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		a := answer.NewOpenAI("http://model/v1?api-version=1", key, "small", append(opts, answer.WithLogger(slog.New(slog.DiscardHandler)))...)
		a.Through(n)
		h := chatkit.NewHandler(memstore.New(), a)
		w, began := httptest.NewRecorder(), time.Now()
		h.ServeHTTP(w, testenv.Value(chatkittest.NewRequest(t.Context(), "/", "threads.create", input("Good day")))(t))
		took = time.Since(began)
		for e, err := range chatkittest.Events(w.Body) {
			testenv.Must(t, err)
			events = append(events, e)
		}
	})
	return events, took
}

// A request that fails at first is sent once more, after a short time.
func TestEndpointIsAskedOnceMore(t *testing.T) {
	ok := func() *http.Response { return response(200, chunk("Hello", "stop")+done, "Content-Type", stream) }
	for name, c := range map[string]struct {
		first  func() (*http.Response, error)
		asked  int
		took   time.Duration
		answer string
	}{
		"at once":     {func() (*http.Response, error) { return ok(), nil }, 1, 0, "Hello"},
		"no network":  {func() (*http.Response, error) { return nil, io.ErrUnexpectedEOF }, 2, time.Second / 2, "Hello"},
		"503":         {func() (*http.Response, error) { return response(503, ""), nil }, 2, time.Second / 2, "Hello"},
		"429":         {func() (*http.Response, error) { return response(429, "", "Retry-After", "1"), nil }, 2, time.Second, "Hello"},
		"429, later":  {func() (*http.Response, error) { return response(429, "", "Retry-After", "3600"), nil }, 2, 2 * time.Second, "Hello"},
		"429, odd":    {func() (*http.Response, error) { return response(429, "", "Retry-After", "-1"), nil }, 2, 0, "Hello"},
		"400":         {func() (*http.Response, error) { return response(400, ""), nil }, 1, 0, ""},
		"said before": {func() (*http.Response, error) { return response(200, chunk("Hel", ""), "Content-Type", stream), nil }, 1, 0, "Hel\n\n[The answer was cut off.]"},
	} {
		t.Run(name, func(t *testing.T) {
			var bodies []string
			events, took := sayOver(t, network(func(r *http.Request) (*http.Response, error) {
				if r.URL.String() != "http://model/v1/chat/completions?api-version=1" {
					t.Errorf("asked %s", r.URL)
				}
				bodies = append(bodies, string(testenv.Value(io.ReadAll(r.Body))(t)))
				if len(bodies) == 1 {
					return c.first()
				}
				return ok(), nil
			}))
			if text(events) != c.answer || took != c.took {
				t.Errorf("said %q after %v, want %q after %v", text(events), took, c.answer, c.took)
			}
			if len(bodies) != c.asked || bodies[0] != bodies[len(bodies)-1] {
				t.Errorf("asked %q, want %d times the same", bodies, c.asked)
			}
		})
	}
}

// An endpoint that refuses to stream is asked for a whole answer.
func TestEndpointRefusesToStream(t *testing.T) {
	for body, code := range map[string]int{
		`{"error":{"message":"x","type":"invalid_request_error","param":"stream","code":"unsupported_value"}}`: 400,
		`{"detail":"Streaming is not supported for this model"}`:                                               422,
		"stream: not available": 501,
	} {
		asked := 0
		g := model(t, func(w http.ResponseWriter, r *http.Request) {
			if asked++; read(t, r).Stream {
				w.WriteHeader(code)
				_, _ = io.WriteString(w, body)
				return
			}
			replies("application/json", `{"choices":[{"message":{"content":"Hello"}}]}`)(w, r)
		})
		if said := text(g.say("Good day")); said != "Hello" || asked != 2 {
			t.Errorf("%s: said %q after %d requests", body, said, asked)
		}
	}
}

// A conversation that is longer than the model's context is cut to its newest turns, so that later turns work.
func TestEndpointHasShortContext(t *testing.T) {
	long := strings.Repeat("x", 1000)
	for name, refusal := range map[string]struct {
		code       int
		kind, body string
	}{
		"OpenAI":     {400, "application/json", `{"error":{"message":"x","type":"invalid_request_error","code":"context_length_exceeded"}}`},
		"vLLM":       {400, "application/json", `{"object":"error","message":"This model's maximum context length is 4096 tokens. However, you requested 4201.","type":"BadRequestError","code":400}`},
		"llama.cpp":  {400, "application/json", `{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error"}}`},
		"LM Studio":  {200, stream, "event: error\ndata: {\"error\":{\"message\":\"Trying to keep the first 9 tokens when context the overflows. However, the model is loaded with context length of only 4 tokens\"}}\n\n"},
		"Anthropic":  {400, "application/json", `{"error":{"type":"invalid_request_error","message":"prompt is too long: 9 tokens > 4 maximum"}}`},
		"Gemini":     {400, "application/json", `[{"error":{"code":400,"message":"The input token count (9) exceeds the maximum number of tokens allowed (4).","status":"INVALID_ARGUMENT"}}]`},
		"TGI":        {422, "application/json", "{\"error\":\"Input validation error: `inputs` must have less than 4 tokens. Given: 9\",\"error_type\":\"validation\"}"},
		"Mistral":    {400, "application/json", `{"object":"error","message":"Prompt contains 9 tokens and 0 draft tokens, too large for model with 4 maximum context length","type":"invalid_request_error","code":"3051"}`},
		"FastAPI":    {400, "application/json", `{"detail":"This model's maximum context length is 4 tokens."}`},
		"FastAPI's":  {422, "application/json", `{"detail":[{"msg":"the prompt is too long"}]}`},
		"plain text": {400, "text/plain", "Requested tokens (9) exceed context window of 4"},
		"a proxy":    {413, "text/html", "<html>413</html>"},
		"Groq":       {413, "application/json", `{"error":{"message":"Request too large for model x","type":"minute","code":"rate_limit_exceeded"}}`},
		"OpenRouter": {400, "application/json", `{"error":{"message":"Provider returned error","code":400,"metadata":{"raw":"{\"message\":\"maximum context length\"}"}}}`},
		"a gateway":  {500, "application/json", `{"error":"the input length exceeds the context length"}`},
	} {
		t.Run(name, func(t *testing.T) {
			requests := 0
			var got asked
			g := model(t, func(w http.ResponseWriter, r *http.Request) {
				requests++
				got = read(t, r)
				size := 0
				for _, m := range got.Messages {
					size += len(m["content"].(string))
				}
				if size > 2500 {
					w.Header().Set("Content-Type", refusal.kind)
					w.WriteHeader(refusal.code)
					_, _ = io.WriteString(w, refusal.body)
					return
				}
				replies(stream, chunk("Yes", "stop"))(w, r)
			})
			for range 8 {
				if said := text(g.say(long)); said != "Yes" {
					t.Fatalf("said %q: %s", said, g.log)
				}
			}
			if requests > 30 || got.Messages[0]["role"] != "user" {
				t.Errorf("%d requests; the last has %v first", requests, got.Messages[0]["role"])
			}
			requests = 0
			events := g.say(strings.Repeat(long, 3))
			if m, _ := events[0]["message"].(string); types(events) != "error" || events[0]["allow_retry"] != false || !strings.Contains(m, "too long") {
				t.Errorf("too long alone: %v", events)
			}
			if requests > 5 || len(got.Messages) != 1 {
				t.Errorf("%d requests for one message, the last with %d", requests, len(got.Messages))
			}
			if said := text(g.say("And a short one?")); said != "Yes" {
				t.Errorf("afterwards it said %q", said)
			}
			if log := g.log.String(); !strings.Contains(log, "less of the conversation") || strings.Contains(log, "tokens") {
				t.Errorf("logged %s", log)
			}
		})
	}
}

// One message takes a few requests at most, however long the conversation is.
func TestEndpointIsAskedFewTimes(t *testing.T) {
	requests := 0
	g := model(t, func(w http.ResponseWriter, r *http.Request) {
		if requests++; len(read(t, r).Messages) > 2 {
			w.WriteHeader(400)
			_, _ = io.WriteString(w, `{"error":{"code":"context_length_exceeded"}}`)
			return
		}
		replies(stream, chunk("Yes", "stop"))(w, r)
	})
	g.say("one")
	for range 45 {
		for _, b := range []chat.Body{chat.UserMessage{Content: []chat.UserContent{{Text: "and"}}}, chat.AssistantMessage{Content: []chat.AssistantContent{{Text: "Yes"}}}} {
			it := testenv.Value(chat.NewItem(g.s.GenerateItemID(t.Context(), chat.KindMessage, chat.Thread{}), time.Now(), b))(t)
			testenv.Must(t, g.s.AddThreadItem(t.Context(), g.thread, it))
		}
	}
	requests = 0
	if said := text(g.say("and")); said != "Yes" || requests != 5 {
		t.Errorf("said %q after %d requests, want 5", said, requests)
	}
}

// Of a conversation that is longer than the limit, whole turns are left out from the front.
func TestOpenAIContext(t *testing.T) {
	var got asked
	g := model(t, func(w http.ResponseWriter, r *http.Request) {
		got = read(t, r)
		replies(stream, chunk("12345", "stop"))(w, r)
	}, answer.WithContext(40), answer.WithInstructions(strings.Repeat("i", 100)))
	for i, want := range []int{2, 4, 6, 6} { // two turns of 15 bytes fit, and the question
		if g.say(strings.Repeat("x", 10)); len(got.Messages) != want {
			t.Errorf("turn %d sends %d messages, want %d", i+1, len(got.Messages), want)
		}
	}
	if g.say(strings.Repeat("x", 40)); len(got.Messages) != 2 {
		t.Errorf("a message that just fits is sent with %d", len(got.Messages))
	}
	got = asked{}
	events := g.say(strings.Repeat("x", 41))
	if types(events) != "error" || events[0]["allow_retry"] != false || got.Messages != nil {
		t.Errorf("too long: %v", events)
	}
	if said := text(g.say("short")); said != "12345" {
		t.Errorf("after a message that is too long: %q", said)
	}
}

// A message without text is no long message. With an attachment it has something to say to the model.
func TestOpenAIBlankMessage(t *testing.T) {
	var got asked
	g := model(t, func(w http.ResponseWriter, r *http.Request) {
		got = read(t, r)
		replies(stream, chunk("Thanks", "stop"))(w, r)
	})
	a := testenv.Value(chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "file", Name: "tea.txt", MIMEType: "text/plain"}))(t)
	testenv.Must(t, g.s.SaveAttachment(t.Context(), a))
	g.say("", object{"attachments": []string{"atc_1"}})
	if want := "[attached: tea.txt (text/plain)]"; len(got.Messages) != 1 || got.Messages[0]["content"] != want {
		t.Errorf("sent %v, want %s", got.Messages, want)
	}
	// Package chatkit refuses a blank message, but a store can have one.
	g.say("more")
	items := g.items()
	blank := testenv.Value(items[len(items)-2].WithBody(chat.UserMessage{Content: []chat.UserContent{{Text: " \n"}}}))(t)
	testenv.Must(t, g.s.SaveItem(t.Context(), g.thread, blank))
	got = asked{}
	events := g.stream(t.Context(), "threads.retry_after_item", object{"item_id": blank.ID}, nil)
	end := events[len(events)-1]
	if end["type"] != "error" || end["message"] != "The message has no text for the model." || end["allow_retry"] != false || got.Messages != nil {
		t.Errorf("a blank message: %v, sent %v", end, got.Messages)
	}
}
