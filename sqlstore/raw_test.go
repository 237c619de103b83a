package sqlstore_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// damaged are texts that are no rows. SQLite keeps the last, which is not UTF-8.
var damaged = []string{`{"id":`, ``, `"text"`, `{"id": 5}`, "{\n}\u2028<&", "null", "\xff{}\x01"}

// Damaged rows are found, read as they are stored, and set aside. The lists then work again, and healthy rows stay.
func TestDamagedRowsAreFoundAndSetAside(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		ctx, s := t.Context(), open(t)
		texts := damaged
		if s.LayerName() == "postgres" {
			texts = texts[:len(texts)-1]
		}
		damage := func(table, id, text string) {
			literal := "'" + text + "'"
			if s.LayerName() == "sqlite" {
				literal = fmt.Sprintf("CAST(x'%x' AS TEXT)", text)
			}
			must(t, sqlstore.Exec(s, fmt.Sprintf("UPDATE %s SET doc = %s WHERE id = '%s'", sqlstore.Table(s, table), literal, id)))
		}
		must(t, s.SaveThread(ctx, thread("thr_good")))
		must(t, s.AddThreadItem(ctx, "thr_good", item(t, "msg_good")))
		want := map[string]string{}
		for i, text := range texts {
			th := thread(fmt.Sprint("thr_", i))
			body := chat.AttachmentBody{Type: "file", Name: "a", MIMEType: "a/b"}
			file := get[chat.Attachment](t)(chat.NewAttachment(fmt.Sprint("atc_", i), body))
			th.Owner, file.Owner = chat.Owner{Subject: "ada"}, chat.Owner{Subject: "ada"}
			must(t, s.SaveThread(ctx, th))
			must(t, s.AddThreadItem(ctx, th.ID, item(t, "msg_in")))
			must(t, s.AddThreadItem(ctx, "thr_good", item(t, fmt.Sprint("msg_", i))))
			must(t, s.SaveAttachment(ctx, file))
			for table, id := range map[string]string{"threads": th.ID, "items": fmt.Sprint("msg_", i), "attachments": file.ID} {
				damage(table, id, text)
				want[id] = text
			}
		}
		var raw driver.RawReader = s
		recorded, versions := store.WithVersions(ctx)
		page := get[store.Page[driver.RawItem]](t)(raw.RawItems(recorded, "thr_good", store.PageQuery{Limit: 2, Order: store.OldestFirst}))
		first := driver.RawItem{ID: "msg_0", Document: texts[0]}
		if n, ok := versions.Of("thr_good"); !ok || n != uint64(len(texts)+2) || !page.HasMore || page.Data[1] != first {
			t.Errorf("got %v at version %d", page, n)
		}
		for u, err := range lifecycle.Scan(ctx, s, store.AnyOwner()) {
			must(t, err)
			text, ok := want[u.ID]
			delete(want, u.ID)
			var file bytes.Buffer
			must(t, lifecycle.Quarantine(ctx, &file, s, u))
			if line := lineOf(file.String(), u.Kind); !ok || documentOf(t, line, u.Kind) != text {
				t.Errorf("%v: got %s, want %q", u, line, text)
			}
			if u.Kind == store.RowThread && !strings.Contains(file.String(), `"id":"msg_in"`) {
				t.Errorf("the items of %v are not in %s", u, file.String())
			}
			if u.Kind != store.RowItem && !strings.Contains(lineOf(file.String(), u.Kind), `"owner":{"subject":"ada","tenant":""}`) {
				t.Errorf("the owner of %v is not in %s", u, file.String())
			}
		}
		if len(want) > 0 {
			t.Errorf("not found: %v", want)
		}
		threads := get[store.Page[chat.Thread]](t)(s.LoadThreads(ctx, store.ThreadQuery{Owner: store.AnyOwner()}))
		items := get[store.Page[chat.Item]](t)(s.LoadThreadItems(ctx, "thr_good", store.PageQuery{}))
		if len(threads.Data) != 1 || len(items.Data) != 1 {
			t.Errorf("%d threads and %d items are left", len(threads.Data), len(items.Data))
		}
	})
}

// lineOf returns the last line of a file that has a row of this kind.
func lineOf(file, kind string) (line string) {
	for l := range strings.Lines(file) {
		if strings.HasPrefix(l, `{"`+kind) {
			line = l
		}
	}
	return line
}

// documentOf returns the document in a line, byte for byte.
func documentOf(t *testing.T, line, kind string) string {
	var members map[string]json.RawMessage
	must(t, json.Unmarshal([]byte(line), &members))
	if text, ok := members[kind+"_base64"]; ok {
		var coded string
		must(t, json.Unmarshal(text, &coded))
		return string(get[[]byte](t)(base64.StdEncoding.DecodeString(coded)))
	}
	text := string(members[kind])
	if strings.HasPrefix(text, `"`) {
		must(t, json.Unmarshal([]byte(text), &text))
	}
	return text
}

func TestRawReadsOfMissingRows(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		ctx, s := t.Context(), open(t)
		must(t, s.SaveThread(ctx, thread("thr_1")))
		must(t, s.DeleteThread(ctx, "thr_1"))
		for _, id := range []string{"thr_1", "thr_2"} {
			_, _, err := s.RawThread(ctx, id)
			wantErr(t, err, store.CodeNotFound)
			_, _, err = s.RawAttachment(ctx, id)
			wantErr(t, err, store.CodeNotFound)
			if p := get[store.Page[driver.RawItem]](t)(s.RawItems(ctx, id, store.PageQuery{})); len(p.Data) > 0 {
				t.Error(p)
			}
		}
		_, _, err := s.RawThread(ctx, "")
		wantErr(t, err, store.CodeInvalid)
		_, _, err = s.RawAttachment(ctx, "")
		wantErr(t, err, store.CodeInvalid)
		_, err = s.RawItems(ctx, "", store.PageQuery{})
		wantErr(t, err, store.CodeInvalid)
	})
}
