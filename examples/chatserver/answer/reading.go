package answer

import (
	"bytes"
	"cmp"
	"mime"
	"net/http"
)

// reading is the state of reading a reply. It yields the pieces of the first choice.
type reading struct {
	yield func(string, error) bool
	kind  string // the reply's content type

	speech
	known  bool   // a part of the reply is one of a completion
	index  string // of the choice that is read
	calls  bool   // the model calls a tool
	finish string // why the model ended, "" if it did not
	done   bool   // the reply ended as agreed
	broken error  // why the reply is incomplete
	over   bool   // the rest of the reply does not matter
	left   bool   // the consumer wants no more
}

// take reads an event.
func (r *reading) take(e event) {
	if string(bytes.TrimSpace(e.data)) == end {
		r.known, r.done, r.over = true, true, true
		return
	}
	c, err := e.chunk()
	r.known = r.known || c.Choices != nil
	if err != nil {
		r.broken, r.over = err, true
		return
	}
	for _, o := range c.Choices {
		index := string(o.Index)
		if index == "" || index == "null" {
			index = "0"
		}
		if r.index = cmp.Or(r.index, index); r.index != index {
			continue
		}
		for _, m := range []*delta{o.Delta, o.Message} {
			r.calls = r.calls || m != nil && len(m.ToolCalls) > 0
		}
		if !r.pass(r.hear(o)) {
			return
		}
		if r.said.Len() > maxText {
			r.broken, r.over = errTooMuch, true
			return
		}
		if r.finish == "" {
			r.finish = o.FinishReason + o.Finished
		}
		if r.finish == "" && e.document && o.Message != nil {
			r.finish = "stop"
		}
	}
}

// pass yields a piece, unless it is empty.
func (r *reading) pass(piece string) bool {
	if piece != "" && !r.yield(piece, nil) {
		r.left, r.over = true, true
	}
	return !r.left
}

// end yields text that is held back. It returns why the answer is empty or incomplete.
func (r *reading) end() error {
	if r.left {
		return nil
	}
	if rest := r.rest(); rest != "" {
		r.said.WriteString(rest)
		if !r.pass(rest) {
			return nil
		}
	}
	switch {
	case r.broken != nil && r.finish == "":
		return r.broken
	case !r.known && r.kind != "text/event-stream":
		return foreign(r.kind)
	case r.said.Len() == 0 && r.calls:
		return errTool
	case r.said.Len() == 0:
		return errNothing
	case r.finish != "":
		return shortened(r.finish)
	case r.done:
		return errUnsaid
	}
	return errCut
}

func contentType(res *http.Response) string {
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	return kind
}
