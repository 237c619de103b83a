package chatkit

import (
	"encoding/json"
	"testing"
)

// An accepted request means the same to every case-sensitive parser: no repeated name, and no name in another case, changes
// it.
func FuzzRequest(f *testing.F) {
	for _, text := range []string{
		`{"type":"threads.list","params":{"limit":2,"order":"asc","after":"thr_1"}}`,
		`{"type":"threads.create","params":{"input":{"content":[],"attachments":[],"inference_options":{}}}}`,
		`{"type":"threads.list","TYPE":"threads.delete"}`, `{"type":"a","type":"b"}`, `{"type":1}`, `{"params":null}`, `[]`, `null`, ``,
		`{"type":"threads.update","params":{"thread_id":"a","Thread_ID":"b","title":"\ud800"}}`, "\xef\xbb\xbf{}", `{"type":"a"} {}`,
		`{"type":"\u0074hreads.list","params":{"limit":1e3}}`, `{"type":"x","params":{"limit":99999999999999999999}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var req request
		if decode("body", text, &req) != nil {
			return
		}
		var m map[string]any
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatalf("accepted %q, which is not an object: %v", text, err)
		}
		wantMember(t, m, "type", req.Type)
		if params, ok := m["params"].(map[string]any); ok {
			wantMember(t, params, "thread_id", req.Params.ThreadID)
			wantMember(t, params, "after", req.Params.After)
			wantMember(t, params, "attachment_id", req.Params.AttachmentID)
		}
	})
}

func wantMember(t *testing.T, m map[string]any, name, got string) {
	t.Helper()
	if want, _ := m[name].(string); got != want {
		t.Fatalf("%s is %q, but was read as %q", name, want, got)
	}
}
