package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/internal/testenv"
)

// wantStatus makes a request that must have this status, and returns the answer.
func (c *client) wantStatus(t *testing.T, status int, method, path, body string) (v object) {
	t.Helper()
	res, text := c.do(t, method, path, body)
	if res.StatusCode != status {
		t.Errorf("%s %s %s: %d %s, want %d", method, path, body, res.StatusCode, text, status)
	}
	testenv.Must(t, json.Unmarshal([]byte(text), &v))
	return v
}

func TestAConversationIsSharedByItsOwnerAlone(t *testing.T) {
	srv := startAlone(t, nil)
	ada, grace := newClient(t, srv.url, "ada", testKey), newClient(t, srv.url, "grace", testKey)
	id := testenv.Value(ada.newThread(t.Context(), "our plan", func(object) {}))(t)
	path := "/shared/" + id
	say := func(c *client) error { return c.say(t.Context(), id, "hello", func(object) {}) }
	read := func(c *client) error { _, err := c.items(t.Context(), id); return err }
	refused := func(what string, err error, status string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), status) {
			t.Errorf("%s: %v, want %s", what, err, status)
		}
	}
	share := func(role string) {
		t.Helper()
		ada.wantStatus(t, 200, "PUT", path, fmt.Sprintf(`{"user":"grace","role":%q}`, role))
	}

	refused("a stranger reads", read(grace), "404")
	grace.wantStatus(t, 404, "GET", path, "")
	grace.wantStatus(t, 404, "PUT", path, `{"user":"grace","role":"editor"}`)
	for _, body := range []string{`{"user":"","role":"viewer"}`, `{"user":"grace","role":"owner"}`, `[`,
		`{"user":"grace","role":"viewer"} x`, `{"user":"ada","role":"viewer"}`, `{"user":"gr\nace","role":"viewer"}`} {
		ada.wantStatus(t, 400, "PUT", path, body)
	}

	share("viewer")
	testenv.Must(t, read(grace))
	refused("a viewer writes", say(grace), "403")
	grace.wantStatus(t, 403, "PUT", path, `{"user":"eve","role":"editor"}`)
	if v := grace.wantStatus(t, 200, "GET", path, ""); fmt.Sprint(v) != "map[by:ada role:viewer]" {
		t.Errorf("what a viewer sees of the sharing: %v", v)
	}
	if v := grace.wantStatus(t, 200, "GET", "/shared", ""); !strings.Contains(fmt.Sprint(v), "by:ada") || !strings.Contains(fmt.Sprint(v), "role:viewer") {
		t.Errorf("shared with grace: %v", v)
	}
	if v := ada.wantStatus(t, 200, "GET", path, ""); fmt.Sprint(v) != "map[by:ada data:[map[role:viewer user:grace]] role:owner]" {
		t.Errorf("shared by ada: %v", v)
	}

	share("editor")
	testenv.Must(t, say(grace))

	share("none")
	refused("a stranger reads again", read(grace), "404")
	grace.wantStatus(t, 404, "GET", path, "")
	if v := grace.wantStatus(t, 200, "GET", "/shared", ""); len(v["data"].([]any)) != 0 {
		t.Errorf("shared with grace at the end: %v", v)
	}
}
