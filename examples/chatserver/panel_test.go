package main

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/internal/testenv"
)

// rows has the ids of rows for one probe. own is a thread of the prober.
type rows struct{ own, thread, item, attachment string }

// missing returns ids of the same form that are not in use.
func (r rows) missing() rows {
	other := func(id string) string {
		last := "A"
		if strings.HasSuffix(id, last) {
			last = "B"
		}
		return id[:len(id)-1] + last
	}
	return rows{r.own, other(r.thread), other(r.item), other(r.attachment)}
}

// panelProbes has the requests with which a stranger may try whether a row exists.
func panelProbes() map[string]func(*testing.T, *client, rows) {
	ask := func(kind string, params func(rows) object) func(*testing.T, *client, rows) {
		return func(t *testing.T, c *client, r rows) {
			t.Helper()
			body := string(testenv.Value(json.Marshal(object{"type": kind, "params": params(r)}))(t))
			c.do(t, http.MethodPost, "/chatkit", body)
		}
	}
	// with returns params that name the thread and the item.
	with := func(more object) func(rows) object {
		return func(r rows) object {
			p := object{"thread_id": r.thread, "item_id": r.item, "item_ids": []string{r.item}}
			for name, value := range more {
				p[name] = value
			}
			return p
		}
	}
	attached := func(r rows) object {
		in := input("look")
		in["attachments"] = []string{r.attachment}
		return object{"thread_id": r.own, "input": in}
	}
	file := func(method string) func(*testing.T, *client, rows) {
		return func(t *testing.T, c *client, r rows) {
			t.Helper()
			c.do(t, method, "/files/"+r.attachment, "content")
		}
	}
	action := object{"action": object{"type": "press", "payload": object{}}}
	return map[string]func(*testing.T, *client, rows){
		"threads.get_by_id":              ask("threads.get_by_id", with(nil)),
		"items.list":                     ask("items.list", with(nil)),
		"items.list after an item":       ask("items.list", func(r rows) object { return object{"thread_id": r.own, "after": r.item} }),
		"threads.list after a thread":    ask("threads.list", func(r rows) object { return object{"after": r.thread} }),
		"items.feedback":                 ask("items.feedback", with(object{"kind": "positive"})),
		"threads.update":                 ask("threads.update", with(object{"title": "mine"})),
		"threads.delete":                 ask("threads.delete", with(nil)),
		"threads.add_user_message":       ask("threads.add_user_message", with(object{"input": input("hello")})),
		"threads.retry_after_item":       ask("threads.retry_after_item", with(nil)),
		"threads.custom_action":          ask("threads.custom_action", with(action)),
		"threads.sync_custom_action":     ask("threads.sync_custom_action", with(action)),
		"threads.add_client_tool_output": ask("threads.add_client_tool_output", with(object{"result": object{}})),
		"threads.add_structured_input":   ask("threads.add_structured_input", with(object{"input": object{"status": "skipped"}})),
		"a message with an attachment":   ask("threads.add_user_message", attached),
		"a thread with an attachment":    ask("threads.create", attached),
		"attachments.delete":             ask("attachments.delete", func(r rows) object { return object{"attachment_id": r.attachment} }),
		"GET /files/{id}":                file(http.MethodGet),
		"PUT /files/{id}":                file(http.MethodPut),
	}
}

// noise matches the durations of a user's own calls.
var noise = regexp.MustCompile(`("[a-z_]*ms"):[0-9.e-]+`)

// Two strangers make the same request, about rows that exist and about rows that do not. Their panels are equal, whether the
// rows are cached or not.
func TestThePanelTellsNothingOfForeignRows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start := func() *running {
		return startServer(t, func(c *config) { c.store, c.files = filepath.Join(dir, "chat.db"), filepath.Join(dir, "files") })
	}
	panel := func(c *client) string {
		_, text := c.do(t, http.MethodGet, "/panel", "")
		return noise.ReplaceAllString(text, "$1:0")
	}
	first := start()
	ada := newClient(t, first.url, "ada", testKey)
	all := map[string]rows{}
	for name := range panelProbes() {
		var r rows
		r.thread = testenv.Value(ada.newThread(t.Context(), "hello", func(it object) { r.item = it["id"].(string) }))(t)
		a := testenv.Value(ada.ask(t.Context(), "attachments.create", object{"name": "a.txt", "size": 7, "mime_type": "text/plain"}))(t)
		r.attachment = a["id"].(string)
		all[name] = r
	}
	testenv.Must(t, first.stop())

	srv := start() // with an empty cache
	ada = newClient(t, srv.url, "ada", testKey)
	for name, probe := range panelProbes() {
		grace, mallory := newClient(t, srv.url, name+" grace", testKey), newClient(t, srv.url, name+" mallory", testKey)
		exists := all[name]
		missing := exists.missing()
		exists.own = testenv.Value(grace.newThread(t.Context(), "hello", func(object) {}))(t)
		missing.own = testenv.Value(mallory.newThread(t.Context(), "hello", func(object) {}))(t)
		for _, cached := range []bool{false, true} {
			if cached {
				testenv.Value(ada.ask(t.Context(), "threads.get_by_id", object{"thread_id": exists.thread}))(t)
				testenv.Value(ada.ask(t.Context(), "items.feedback", object{"thread_id": exists.thread, "item_ids": []string{exists.item}, "kind": "positive"}))(t)
				ada.do(t, http.MethodGet, "/files/"+exists.attachment, "") // loads the attachment; it has no content
			}
			before := panel(grace)
			probe(t, grace, exists)
			probe(t, mallory, missing)
			got, want := panel(grace), panel(mallory)
			if got != want {
				t.Errorf("%s, cached: %v: the rows exist and are missing:\n%s", name, cached, cmp.Diff(got, want))
			}
			if got == before || !strings.Contains(got, `"hidden":true`) {
				t.Errorf("%s, cached: %v: the request was not hidden: %s", name, cached, got)
			}
		}
	}
}

func TestThePanelsSwitchIsGuarded(t *testing.T) {
	t.Parallel()
	srv := startServer(t, nil)
	ada, grace := newPage(t, srv.url, "ada"), newPage(t, srv.url, "grace")
	off := `{"cache": false}`
	if res, text := ada.do(t, http.MethodPost, "/panel", off, func(r *http.Request) {
		r.Header.Set("Origin", "https://elsewhere.example")
		r.Header.Set("Sec-Fetch-Site", "cross-site")
	}); res.StatusCode != http.StatusForbidden {
		t.Errorf("from another site's page: %d %s", res.StatusCode, text)
	}
	nobody := newClient(t, srv.url, "nobody", testKey)
	nobody.token = ""
	if res, text := nobody.do(t, http.MethodPost, "/panel", off); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a session: %d %s", res.StatusCode, text)
	}
	if res, text := grace.do(t, http.MethodPost, "/panel", off); res.StatusCode != http.StatusOK || !strings.Contains(text, `"cache":false`) {
		t.Errorf("grace's: %d %s", res.StatusCode, text)
	}
	if _, text := ada.do(t, http.MethodGet, "/panel", ""); !strings.Contains(text, `"cache":true`) {
		t.Errorf("ada's cache: %s", text)
	}
}
