package chatkit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
)

// versatile is a Responder with all hooks. Each call adds a line to heard, with the request's metadata.
type versatile struct {
	heard []string
	err   error
}

func (v *versatile) hear(ctx context.Context, call string) error {
	v.heard = append(v.heard, call+" "+chatkit.MetadataFrom(ctx).String())
	return v.err
}

func (v *versatile) Respond(ctx context.Context, _ *chatkit.Turn) error {
	return v.hear(ctx, "respond")
}

func (v *versatile) Act(ctx context.Context, _ *chatkit.Turn, a chatkit.Action) error {
	return v.hear(ctx, "act")
}

func (v *versatile) ActNow(ctx context.Context, _ chat.Thread, _ chatkit.Action) (chat.Item, error) {
	return chat.Item{}, v.hear(ctx, "act now")
}

func (v *versatile) Transcribe(ctx context.Context, audio []byte, mimeType string) (string, error) {
	return "good morning", v.hear(ctx, fmt.Sprintf("transcribe %q of %s", audio, mimeType))
}

func (v *versatile) TakeFeedback(ctx context.Context, threadID string, itemIDs []string, kind string) error {
	return v.hear(ctx, fmt.Sprint("feedback ", threadID, itemIDs, kind))
}

func TestMetadataReachesTheResponder(t *testing.T) {
	v := &versatile{}
	g := newRig(t, v)
	g.newThread(text("1"))
	for _, test := range []struct{ kind, params, call string }{
		{"threads.create", `{"input":{"content":[{"text":"x"}]}}`, "respond"},
		{"threads.add_user_message", `{"thread_id":"thr","input":{"content":[{"text":"x"}]}}`, "respond"},
		{"threads.custom_action", `{"thread_id":"thr","action":{"type":"a"}}`, "act"},
		{"threads.sync_custom_action", `{"thread_id":"thr","action":{"type":"a"}}`, "act now"},
		{"items.feedback", `{"thread_id":"thr","item_ids":["i1"],"kind":"negative"}`, "feedback thr[i1]negative"},
		{"input.transcribe", `{"audio_base64":"AP8=","mime_type":"audio/webm;codecs=opus"}`, `transcribe "\x00\xff" of audio/webm;codecs=opus`},
	} {
		for metadata, want := range map[string]string{`,"metadata":{"a":[1]}`: ` {"a":[1]}`, `,"metadata":{}`: " {}", `,"metadata":null`: " ", "": " "} {
			v.heard = nil
			status, answer := g.post(`{"type":"` + test.kind + `","params":` + test.params + metadata + `}`)
			if got := strings.Join(v.heard, ", "); status != 200 || got != test.call+want {
				t.Errorf("%s%s: %d %s, heard %q, want %q", test.kind, metadata, status, answer, got, test.call+want)
			}
		}
	}
}

func TestSpeechBecomesText(t *testing.T) {
	v := &versatile{}
	g := newRig(t, v, chatkit.WithMaxBody(200))
	audio := object{"audio_base64": "AP8=", "mime_type": "audio/webm"}
	if status, a := g.ask("ada", "input.transcribe", audio); status != 200 || a["text"] != "good morning" {
		t.Errorf("%d %v", status, a)
	}
	v.heard = nil
	for name, test := range map[string]struct {
		params object
		status int
	}{
		"no base64":      {object{"audio_base64": "*", "mime_type": "audio/webm"}, 400},
		"nothing":        {object{"audio_base64": "", "mime_type": "audio/webm"}, 400},
		"no type":        {object{"audio_base64": "AP8="}, 400},
		"beyond a limit": {object{"audio_base64": strings.Repeat("A", 200), "mime_type": "audio/webm"}, 413},
	} {
		if status, a := g.ask("ada", "input.transcribe", test.params); status != test.status || len(v.heard) > 0 {
			t.Errorf("%s: %d %v, heard %q", name, status, a, v.heard)
		}
	}
	v.err = chatkit.Failure{Code: "custom", Message: "too quiet"}
	if status, a := g.ask("ada", "input.transcribe", audio); status != 502 || a["error"].(object)["message"] != "too quiet" {
		t.Errorf("a failure: %d %v", status, a)
	}
	v.err = errors.New("secret")
	if status, a := g.ask("ada", "input.transcribe", audio); status != 500 || strings.Contains(fmt.Sprint(a), "secret") {
		t.Errorf("an error: %d %v", status, a)
	}
	newRig(t, script{}).want(501, "ada", "input.transcribe", audio)
}

// Only opinions of items that the caller may read reach the responder.
func TestFeedbackIsCheckedFirst(t *testing.T) {
	v := &versatile{}
	g := newRig(t, v)
	g.newThread(text("1"))
	for name, test := range map[string]struct {
		user   string
		params object
		status int
	}{
		"another user":  {"grace", object{"thread_id": "thr", "item_ids": []string{"i1"}, "kind": "positive"}, 404},
		"another item":  {"ada", object{"thread_id": "thr", "item_ids": []string{"i1", "i2"}, "kind": "positive"}, 404},
		"no item":       {"ada", object{"thread_id": "thr", "item_ids": []string{}, "kind": "positive"}, 400},
		"another kind":  {"ada", object{"thread_id": "thr", "item_ids": []string{"i1"}, "kind": "neutral"}, 400},
		"an opinion":    {"ada", object{"thread_id": "thr", "item_ids": []string{"i1"}, "kind": "positive"}, 200},
		"a bad opinion": {"ada", object{"thread_id": "thr", "item_ids": []string{"i1"}, "kind": "negative"}, 200},
	} {
		v.heard = nil
		g.want(test.status, test.user, "items.feedback", test.params)
		if (len(v.heard) > 0) != (test.status == 200) {
			t.Errorf("%s: heard %q", name, v.heard)
		}
	}
}
