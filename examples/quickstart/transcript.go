package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/chatstore/chatstore/chat"
)

//go:embed testdata/*.json
var builtin embed.FS

// transcript is one conversation, in chronological order.
type transcript struct {
	name        string // of the file
	thread      chat.Thread
	attachments []chat.Attachment // uploads of the client
	requests    []request
}

// request has the items that one request to a chat server adds to the thread.
type request struct {
	kind  string
	steps []step
}

// step is one save of an item, either new or in a later state.
type step struct {
	n      int // number in the file, from 1
	item   chat.Item
	update bool
}

func (s step) String() string { return fmt.Sprintf("item %d (%q)", s.n, s.item.ID) }

// readTranscripts reads the file, every *.json of the folder, or the built-in transcripts.
func readTranscripts(file, dir string) ([]transcript, error) {
	var (
		fsys  fs.FS = builtin
		root        = "testdata"
		shown       = func(name string) string { return path.Base(name) }
	)
	switch {
	case file != "" && dir != "":
		return nil, errors.New("-transcript and -dir exclude each other: use only one")
	case file != "":
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		t, err := parseTranscript(file, text)
		return []transcript{t}, err
	case dir != "":
		fsys, root = os.DirFS(dir), "."
		shown = func(name string) string { return path.Join(dir, name) }
	}
	names, err := fs.Glob(fsys, path.Join(root, "*.json"))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		if _, err := os.ReadDir(dir); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%s: the folder has no *.json", dir)
	}
	var (
		all  []transcript
		seen = map[string]string{}
	)
	for _, name := range names {
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", shown(name), err)
		}
		t, err := parseTranscript(shown(name), text)
		if err != nil {
			return nil, err
		}
		if first, ok := seen[t.thread.ID]; ok {
			return nil, fmt.Errorf("%s: thread %q is also in %s", t.name, t.thread.ID, first)
		}
		seen[t.thread.ID] = t.name
		all = append(all, t)
	}
	return all, nil
}

// parseTranscript parses the form that the command's documentation describes. Its errors name the file and the faulty part.
func parseTranscript(name string, text []byte) (transcript, error) {
	t := transcript{name: name}
	document, members, err := split(text, "items", "attachments")
	if err != nil {
		return t, fmt.Errorf("%s: %w", name, err)
	}
	if t.thread, err = chat.ParseThread(document); err != nil {
		return t, fmt.Errorf("%s: the thread: %w", name, err)
	}
	if _, err := t.thread.Normalized(); err != nil {
		return t, fmt.Errorf("%s: the thread: %w", name, err)
	}
	attachments, err := list(members["attachments"])
	if err != nil {
		return t, fmt.Errorf("%s: attachments: %w", name, err)
	}
	uploaded := map[string]bool{}
	for i, raw := range attachments {
		a, err := chat.ParseAttachment(raw)
		if err != nil {
			return t, fmt.Errorf("%s: attachment %d%s: %w", name, i+1, idIn(raw), err)
		}
		t.attachments = append(t.attachments, a)
		uploaded[a.ID] = true
	}
	items, err := list(members["items"])
	if err != nil {
		return t, fmt.Errorf("%s: items: %w", name, err)
	}
	steps := make([]step, 0, len(items))
	for i, raw := range items {
		it, err := chat.ParseItem(raw)
		if err != nil {
			return t, fmt.Errorf("%s: item %d%s: %w", name, i+1, idIn(raw), err)
		}
		if it, err = it.Normalized(t.thread.ID); err != nil {
			return t, fmt.Errorf("%s: item %d%s: %w", name, i+1, idIn(raw), err)
		}
		// An export may lack the list of attachments. Take them from the messages.
		body, _, err := chat.DecodeItem[chat.UserMessage](it)
		if err != nil {
			return t, fmt.Errorf("%s: item %d%s: %w", name, i+1, idIn(raw), err)
		}
		for _, a := range body.Attachments {
			if !uploaded[a.ID] {
				t.attachments = append(t.attachments, a)
				uploaded[a.ID] = true
			}
		}
		steps = append(steps, step{n: i + 1, item: it})
	}
	t.requests = requests(steps)
	return t, nil
}

// split removes the named members from a JSON object and returns them. The rest keeps its order and its text.
func split(text []byte, names ...string) (rest []byte, taken map[string]json.RawMessage, err error) {
	var whole map[string]json.RawMessage
	if err := json.Unmarshal(text, &whole); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			return nil, nil, fmt.Errorf("line %d: %w", 1+bytes.Count(text[:syntax.Offset], []byte("\n")), err)
		}
		return nil, nil, errors.New("not a JSON object: a transcript is a thread, {\"id\": …, \"items\": …}")
	}
	if whole == nil {
		return nil, nil, errors.New("null: a transcript is a thread, {\"id\": …, \"items\": …}")
	}
	taken = map[string]json.RawMessage{}
	members := json.NewDecoder(bytes.NewReader(text))
	_, _ = members.Token() // the opening brace; the text was valid above
	rest = append(rest, '{')
	for members.More() {
		token, err := members.Token()
		if err != nil {
			return nil, nil, err
		}
		var value json.RawMessage
		if err := members.Decode(&value); err != nil {
			return nil, nil, err
		}
		member := token.(string)
		if slices.Contains(names, member) {
			if _, ok := taken[member]; ok {
				return nil, nil, fmt.Errorf("%q is a repeated member", member)
			}
			taken[member] = value
			continue
		}
		quoted, err := json.Marshal(member)
		if err != nil {
			return nil, nil, err
		}
		if len(rest) > 1 {
			rest = append(rest, ',')
		}
		rest = append(append(append(rest, quoted...), ':'), value...)
	}
	return append(rest, '}'), taken, nil
}

// list reads an array, or a page whose data is an array.
func list(text json.RawMessage) ([]json.RawMessage, error) {
	var array []json.RawMessage
	if len(text) == 0 || json.Unmarshal(text, &array) == nil {
		return array, nil
	}
	var page map[string]json.RawMessage
	if err := json.Unmarshal(text, &page); err != nil || json.Unmarshal(page["data"], &array) != nil {
		return nil, errors.New("neither an array nor a page, {\"data\": […]}")
	}
	return array, nil
}

// idIn returns the id of an item for an error. The item may be invalid.
func idIn(raw json.RawMessage) string {
	var v struct{ ID string }
	if json.Unmarshal(raw, &v) != nil || v.ID == "" {
		return ""
	}
	return fmt.Sprintf(" (%q)", v.ID)
}

// requests groups the items by the requests that saved them.
func requests(steps []step) []request {
	var (
		all   []request
		known = map[string]bool{}
		ended = true
	)
	for _, s := range steps {
		s.update = known[s.item.ID]
		known[s.item.ID] = true
		kind := ""
		switch t := s.item.Type(); {
		case t == chat.TypeUserMessage:
			kind = "user message"
		case t == chat.TypeClientToolCall && s.update:
			kind = "tool output"
		case t == chat.TypeStructuredInput && s.update:
			kind = "answers"
		case ended:
			kind = "other"
		}
		if kind != "" {
			all = append(all, request{kind: kind})
		}
		last := &all[len(all)-1]
		last.steps = append(last.steps, s)
		ended = s.item.Type() == chat.TypeEndOfTurn
	}
	return all
}

// types returns the types of the request's items, updates with a star.
func (r request) types() []string {
	var types []string
	for _, s := range r.steps {
		name := strings.TrimSuffix(string(s.item.Type()), "_item")
		if s.update {
			name += "*"
		}
		types = append(types, name)
	}
	return types
}
