package answer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// endpoint is an HTTP API for chat completions, such as OpenAI's. It is safe for concurrent use.
type endpoint struct {
	client *http.Client
	url    string
	key    string
	log    *slog.Logger
}

// question is the body of a request.
type question struct {
	Model    string    `json:"model"`
	Messages []message `json:"messages"`
	Stream   bool      `json:"stream,omitempty"`
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

func newEndpoint(baseURL, key string) *endpoint {
	e := &endpoint{url: baseURL, key: key}
	// A redirect could send the conversation to another host.
	e.client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if u, err := url.Parse(baseURL); err == nil {
		e.url = u.JoinPath("chat/completions").String() // keeps the query, which Azure needs
	}
	return e
}

const (
	maxReply   = 256 << 20 // bytes of a reply: most may be reasoning
	maxRefusal = 64 << 10  // bytes of an error's text
	maxDelay   = 2 * time.Second
)

// maxText limits an answer, a line, and a reply that is no stream, in bytes. Tests change it.
var maxText = 8 << 20

// ask sends a question and returns the successful response, whose body is not read. If the first request fails in a way that
// may pass, ask sends a second one. Any other status than 200 to 299 is a *refused.
func (e *endpoint) ask(ctx context.Context, q question) (*http.Response, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	for again := false; ; again = true {
		res, err := e.post(ctx, body)
		delay := maxDelay / 4
		if err == nil {
			if res.StatusCode/100 == 2 {
				return res, nil
			}
			var busy bool
			busy, delay, err = refusalOf(res, delay)
			again = again || !busy
		}
		if again || ctx.Err() != nil {
			return nil, err
		}
		e.log.WarnContext(ctx, "the model is asked once more", "reason", unreached(err, ""))
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (e *endpoint) post(ctx context.Context, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "text/event-stream, application/json")
	if e.key != "" {
		req.Header.Set("Authorization", "Bearer "+e.key)
	}
	return e.client.Do(req)
}

// refused is an error that the endpoint reports. It does not keep the endpoint's sentence, which may repeat the request.
type refused struct {
	status   int      // 0 for an error within a stream
	words    []string // the error's type and code
	tooLong  bool     // the conversation is longer than the model's context
	noStream bool     // the endpoint does not stream
}

func (r *refused) Error() string {
	what := "an error event"
	if r.status != 0 {
		what = fmt.Sprintf("status %d", r.status)
	}
	if len(r.words) > 0 {
		what += ": " + strings.Join(r.words, ", ")
	}
	return what
}

// refusalOf reads and closes a response that is no success. busy says that a second request may succeed, after the delay.
func refusalOf(res *http.Response, delay time.Duration) (busy bool, _ time.Duration, _ *refused) {
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, maxRefusal))
	r := readError(text)
	r.status = res.StatusCode
	client := r.status < http.StatusInternalServerError
	r.tooLong = (r.tooLong || r.status == http.StatusRequestEntityTooLarge || client && longText.Match(text)) &&
		r.status != http.StatusTooManyRequests // that counts the tokens of a minute
	r.noStream = r.noStream || (client || r.status == http.StatusNotImplemented) && streamText.Match(text)
	if n, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil {
		delay = min(max(time.Duration(n)*time.Second, 0), maxDelay)
	}
	busy = !r.tooLong && !r.noStream && (r.status == http.StatusTooManyRequests || r.status >= http.StatusInternalServerError)
	return busy, delay, r
}

// Endpoints name a conversation that is too long in many ways.
var (
	longCode = regexp.MustCompile(`(?i)^(context_length_exceeded|exceed_context_size_error|context_window_exceeded|string_above_max_length)$`)
	longText = regexp.MustCompile(`(?i)context (length|size|window)|maximum context|(prompt|input|request) is too (long|large)|` +
		`too many (input )?tokens|reduce the length|input token count|inputs.{1,40}tokens|exceeds? .*(token|context) (limit|size|length)`)
	streamText = regexp.MustCompile(`(?i)stream.{0,40}not (supported|available)`)
	plainWord  = regexp.MustCompile(`^([A-Za-z_]{1,40}|[0-9]{1,5})$`)
)

// readError reads an error's text. Its forms are {"error":{…}}, {"error":"…"}, [{"error":{…}}], and an object with the members
// of an error.
func readError(text []byte) *refused {
	var v any
	_ = json.Unmarshal(text, &v) // an error in another form has no words
	if all, ok := v.([]any); ok && len(all) > 0 {
		v = all[0]
	}
	members, _ := v.(map[string]any)
	sentence := fmt.Sprint(members["message"])
	switch inner := members["error"].(type) {
	case map[string]any:
		members, sentence = inner, fmt.Sprint(inner["message"])
	case string:
		sentence = inner
	}
	r := &refused{noStream: members["param"] == "stream", tooLong: longText.MatchString(sentence)}
	for _, name := range []string{"type", "code"} {
		word := fmt.Sprint(members[name])
		r.tooLong = r.tooLong || longCode.MatchString(word)
		if members[name] != nil && plainWord.MatchString(word) {
			r.words = append(r.words, word)
		}
	}
	return r
}
