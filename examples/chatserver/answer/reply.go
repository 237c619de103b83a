package answer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"iter"
	"net/http"
)

// event is a part of a reply: the data of a server-sent event, or a JSON document.
type event struct {
	data     []byte
	isError  bool
	document bool // the reply is JSON instead of a stream
}

// events yields the parts of a reply in either form. It stops at the end of the reply, or after an error.
func events(body io.ReadCloser) iter.Seq2[event, error] {
	return func(yield func(event, error) bool) {
		r := bufio.NewReader(http.MaxBytesReader(nil, body, maxReply))
		first, err := firstByte(r)
		switch {
		case err == io.EOF:
		case err != nil:
			yield(event{}, err)
		case first == '{' || first == '[':
			documents(http.MaxBytesReader(nil, io.NopCloser(r), int64(maxText)), yield)
		default:
			serverSent(r, yield)
		}
	}
}

// firstByte returns the first byte after white space and a byte order mark. It leaves the byte unread.
func firstByte(r *bufio.Reader) (byte, error) {
	for {
		b, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		if bytes.IndexByte([]byte(" \t\r\n\xef\xbb\xbf"), b) < 0 {
			return b, r.UnreadByte()
		}
	}
}

func documents(r io.Reader, yield func(event, error) bool) {
	for d := json.NewDecoder(r); ; {
		var data json.RawMessage
		err := d.Decode(&data)
		if err == io.EOF || !yield(event{data: data, document: true}, err) || err != nil {
			return
		}
	}
}

// readLine reads a line with its end. A line that is too long comes in parts.
func readLine(r *bufio.Reader) (line []byte, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if line = append(line, part...); err != bufio.ErrBufferFull || len(line) > maxText {
			return line, err
		}
	}
}

// serverSent reads events. Most endpoints send a line of data each, and some leave out the empty line between events. So a line
// that is complete is an event.
func serverSent(r *bufio.Reader, yield func(event, error) bool) {
	var e event
	for {
		line, err := readLine(r)
		if len(e.data)+len(line) > maxText {
			err = errTooMuch
		}
		if err != nil && err != io.EOF {
			yield(event{}, err)
			return
		}
		line = bytes.TrimRight(line, "\r\n")
		name, value, _ := bytes.Cut(line, []byte(":"))
		whole := len(line) == 0 && len(e.data) > 0
		switch {
		case string(name) == "event":
			e.isError = string(bytes.TrimSpace(value)) == "error"
		case bytes.HasPrefix(line, []byte("{")): // some proxies send an error without a field
			value = line
			fallthrough
		case string(name) == "data", string(name) == "error": // an older llama.cpp has a field for errors
			e.isError = e.isError || string(name) == "error"
			whole = len(e.data) == 0 && isWhole(value)
			e.data = append(append(e.data, value...), '\n')
		}
		if (whole || err == io.EOF && isWhole(e.data)) && !yield(e, nil) {
			return
		}
		if whole || len(line) == 0 {
			e = event{}
		}
		if err == io.EOF {
			return
		}
	}
}

const end = "[DONE]"

func isWhole(data []byte) bool { return string(bytes.TrimSpace(data)) == end || json.Valid(data) }

// chunk is what an event says: a part of a completion, or a whole one.
type chunk struct {
	Object  string          `json:"object"`
	Error   json.RawMessage `json:"error"`
	Choices []choice        `json:"choices"`
}

type choice struct {
	Index        json.RawMessage `json:"index"`
	Delta        *delta          `json:"delta"`
	Message      *delta          `json:"message"`
	Text         json.RawMessage `json:"text"` // of the older completions
	FinishReason string          `json:"finish_reason"`
	Finished     string          `json:"finishReason"` // Gemini
	Error        json.RawMessage `json:"error"`
}

type delta struct {
	Content   json.RawMessage `json:"content"`
	Refusal   json.RawMessage `json:"refusal"`
	ToolCalls []any           `json:"tool_calls"`
}

// chunk decodes the event. Members of another type count as absent. The error is a *refused if the event is an error.
func (e event) chunk() (chunk, error) {
	var c chunk
	err := json.Unmarshal(e.data, &c)
	if _, wrongType := err.(*json.UnmarshalTypeError); err != nil && !wrongType {
		return c, errMalformed
	}
	failed := e.isError || c.Object == "error" || isSet(c.Error)
	for _, o := range c.Choices {
		failed = failed || isSet(o.Error) || o.FinishReason == "error"
	}
	if failed {
		return c, readError(e.data)
	}
	return c, nil
}

// isSet reports whether a member is there and has a content.
func isSet(member json.RawMessage) bool {
	switch string(member) {
	case "", "null", "false", "{}", "[]", `""`:
		return false
	}
	return true
}
