// Package chatkittest is a client of the ChatKit protocol, for tests.
package chatkittest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/internal/testenv"
)

// Object is a JSON object.
type Object = map[string]any

// NewRequest returns a request of the given type, for the endpoint at url.
func NewRequest(ctx context.Context, url, kind string, params any) (*http.Request, error) {
	body, err := json.Marshal(Object{"type": kind, "params": params})
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err == nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return r, err
}

// Answer reads a JSON answer.
func Answer(t testing.TB, res *http.Response) (v Object) {
	t.Helper()
	defer res.Body.Close()
	text := testenv.Value(io.ReadAll(res.Body))(t)
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%d, %v: %s", res.StatusCode, err, text)
	}
	return v
}

// Events yields the events of a stream. An error is the last value.
func Events(body io.Reader) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		lines := bufio.NewScanner(body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			line := lines.Text()
			if line == "" || line[0] == ':' {
				continue // the end of an event, or a comment
			}
			var e Object
			text, ok := strings.CutPrefix(line, "data: ")
			if err := json.Unmarshal([]byte(text), &e); !ok || err != nil {
				yield(nil, fmt.Errorf("not an event: %s", line))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(nil, err)
		}
	}
}

// Input returns the input of a user's message.
func Input(text string) Object {
	return Object{"content": []Object{{"type": "input_text", "text": text}}, "attachments": []string{}, "inference_options": Object{}}
}
