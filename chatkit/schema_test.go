package chatkit_test

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/chatstore/chatstore/internal/testenv"
)

// schemas compiles the schema of events, or of the answers to a type of requests.
var schemas = struct {
	sync.Mutex
	*jsonschema.Compiler
}{Compiler: func() *jsonschema.Compiler {
	text := testenv.OrPanic(os.ReadFile("testdata/schemas/chatkit.json"))
	doc := testenv.OrPanic(jsonschema.UnmarshalJSON(bytes.NewReader(text)))
	c := jsonschema.NewCompiler()
	if err := c.AddResource("chatkit.json", doc); err != nil {
		panic(err)
	}
	return c
}()}

// check checks an event, or with a type of requests, the answer to one.
func check(request string, v any) error {
	loc := "chatkit.json"
	if request != "" {
		loc += "#/$defs/answer." + request
	}
	schemas.Lock()
	s, err := schemas.Compile(loc)
	schemas.Unlock()
	if err != nil {
		return err
	}
	return s.Validate(v)
}

// The rigs of this package check all events and answers that their tests get.
func TestTheSchemaRefusesWrongEvents(t *testing.T) {
	const (
		item = `{"id":"i","thread_id":"t","created_at":"2026-01-02T03:04:05Z","type":"assistant_message","content":[]}`
		user = `{"id":"i","thread_id":"t","created_at":"2026-01-02T03:04:05Z","type":"user_message","content":[` +
			`{"type":"input_text","text":"x"}],"attachments":[{"type":"file","id":"a","name":"n","mime_type":"m"}],"inference_options":{}}`
		thread = `{"id":"t","created_at":"2026-01-02T03:04:05Z","status":{"type":"active"},"items":{"data":[],"has_more":false}}`
	)
	for name, test := range map[string]struct{ right, old, new string }{
		"an unknown type":          {`{"type":"progress_update","text":"x"}`, `progress_update`, `progress`},
		"a new member":             {`{"type":"progress_update","text":"x"}`, `"x"`, `"x","more":1`},
		"a missing member":         {`{"type":"thread.item.removed","item_id":"i"}`, `,"item_id":"i"`, ``},
		"a wrong type":             {`{"type":"thread.item.removed","item_id":"i"}`, `"i"`, `1`},
		"a level of a notice":      {`{"type":"notice","level":"info","message":"m"}`, `info`, `error`},
		"no data of an effect":     {`{"type":"client_effect","name":"n","data":{}}`, `{}}`, `null}`},
		"a code of an error":       {`{"type":"error","code":"custom","allow_retry":false}`, `custom`, `internal`},
		"a new member in an item":  {`{"type":"thread.item.done","item":` + item + `}`, `[]`, `[],"metadata":{}`},
		"an unknown type of item":  {`{"type":"thread.item.done","item":` + item + `}`, `assistant_message`, `message`},
		"content as a string":      {`{"type":"thread.item.done","item":` + item + `}`, `[]`, `"text"`},
		"a time without a zone":    {`{"type":"thread.item.done","item":` + item + `}`, `05Z`, `05`},
		"an attachment as an id":   {`{"type":"thread.item.done","item":` + user + `}`, `{"type":"file","id":"a","name":"n","mime_type":"m"}`, `"a"`},
		"metadata":                 {`{"type":"thread.item.done","item":` + user + `}`, `"name":"n"`, `"name":"n","metadata":{}`},
		"an image not to be seen":  {`{"type":"thread.item.done","item":` + user + `}`, `"type":"file"`, `"type":"image"`},
		"no options":               {`{"type":"thread.item.done","item":` + user + `}`, `,"inference_options":{}`, ``},
		"the metadata of a thread": {`{"type":"thread.created","thread":` + thread + `}`, `"id":"t"`, `"id":"t","metadata":{}`},
		"an unknown update": {`{"type":"thread.item.updated","item_id":"i","update":{"type":"widget.root.updated","widget":{}}}`,
			`widget.root`, `widget.top`},
		"progress as null": {`{"type":"thread.item.updated","item_id":"i","update":{"type":"generated_image.updated",` +
			`"image":{"id":"i","url":"u"},"progress":1}}`, `1}`, `null}`},
	} {
		decoded := func(text string) any { return testenv.Value(jsonschema.UnmarshalJSON(strings.NewReader(text)))(t) }
		if err := check("", decoded(test.right)); err != nil {
			t.Errorf("%s: the right event is refused: %v", name, err)
		}
		if strings.Count(test.right, test.old) != 1 || check("", decoded(strings.Replace(test.right, test.old, test.new, 1))) == nil {
			t.Errorf("%s: the wrong event is accepted", name)
		}
	}
}
