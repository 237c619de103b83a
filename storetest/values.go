package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/rules"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/internal/call"
	"github.com/chatstore/chatstore/storetest/internal/report"
)

const (
	idRule        = "ids, tenant and subject are 1 to 256 bytes of valid UTF-8 without control characters, else ErrInvalid; a tenant without a subject is ErrInvalid"
	idBytesRule   = "ids are compared byte by byte: no case folding, no Unicode normalisation, no trimming (check the collation of your database)"
	payloadRule   = "a payload is valid JSON and valid UTF-8, kept byte for byte; members that no SDK knows survive"
	invalidRule   = "a payload that is not valid JSON, not valid UTF-8 or of the wrong shape is ErrInvalid, and nothing is saved"
	trapRule      = "member names are case-sensitive, and a repeated name outside free-form JSON is ErrInvalid: parsers disagree about both"
	timeRule      = "times are UTC, truncated to microseconds; zero or outside years 1 to 9999 is ErrInvalid"
	aliasingRule  = "a caller may change values that it saved or loaded: the store shares no slice or map with its callers"
	generatorRule = "generated ids are valid and distinct"
)

// badIDs are ids that every method refuses.
var badIDs = []struct{ what, id string }{
	{"that is empty", ""},
	{"of 257 bytes", strings.Repeat("x", chat.MaxIDBytes+1)},
	{"of 129 characters in 258 bytes", strings.Repeat("é", chat.MaxIDBytes/2+1)},
	{"with a NUL", "a\x00b"},
	{"with a newline", "a\nb"},
	{"with DEL", "a\x7fb"},
	{"with a C1 control character", "a\u0085b"},
	{"that is not UTF-8", "a\xff\xfeb"},
}

// refusesIDs checks that an op refuses every bad id. set puts the id into the call.
func refusesIDs(op store.Op, where string, set func(c *call.Call, id string)) check {
	return check{"bad ids are ErrInvalid: " + call.Method(op) + where, idRule, func(h *harness) {
		w := newWorld(h)
		for _, bad := range badIDs {
			c := w.calls(op)[0]
			if op == store.OpAddThreadItem || op == store.OpSaveItem {
				c.Item = h.item(at(2), "text")
			}
			set(&c, bad.id)
			o := h.ada.make(c)
			o.note = ", an id " + bad.what
			o.is(store.ErrInvalid)
		}
		w.check("after calls with bad ids")
	}}
}

// refusesCursors is refusesIDs for the cursor of a listing. There the empty id is valid: it means the first page.
func refusesCursors(op store.Op) check {
	return check{"bad cursors are ErrInvalid: " + call.Method(op), idRule, func(h *harness) {
		w := newWorld(h)
		for _, bad := range badIDs[1:] {
			c := w.calls(op)[0]
			c.Query.After = bad.id
			h.ada.make(c).is(store.ErrInvalid)
		}
	}}
}

func threadIDOf(c *call.Call, id string)     { c.Thread.ID = id }
func itemIDOf(c *call.Call, id string)       { c.Item.ID = id }
func attachmentIDOf(c *call.Call, id string) { c.Attachment.ID = id }

var idChecks = slices.Concat(
	[]check{
		refusesIDs(store.OpLoadThread, "", threadIDOf),
		refusesIDs(store.OpSaveThread, "", threadIDOf),
		refusesIDs(store.OpDeleteThread, "", threadIDOf),
		refusesIDs(store.OpLoadThreadItems, "", threadIDOf),
		refusesIDs(store.OpAddThreadItem, ", thread", threadIDOf),
		refusesIDs(store.OpAddThreadItem, ", item", itemIDOf),
		refusesIDs(store.OpSaveItem, ", thread", threadIDOf),
		refusesIDs(store.OpSaveItem, ", item", itemIDOf),
		refusesIDs(store.OpLoadItem, ", thread", threadIDOf),
		refusesIDs(store.OpLoadItem, ", item", itemIDOf),
		refusesIDs(store.OpDeleteThreadItem, ", thread", threadIDOf),
		refusesIDs(store.OpDeleteThreadItem, ", item", itemIDOf),
		refusesIDs(store.OpSaveAttachment, "", attachmentIDOf),
		refusesIDs(store.OpLoadAttachment, "", attachmentIDOf),
		refusesIDs(store.OpDeleteAttachment, "", attachmentIDOf),
	},
	[]check{
		refusesCursors(store.OpLoadThreadItems),
		refusesCursors(store.OpLoadThreads),
		{"a tenant without a subject is ErrInvalid", idRule, func(h *harness) {
			t, a := h.ada.thread(), h.ada.attachment("a.txt")
			t.Owner.Subject, a.Owner.Subject = "", ""
			h.ada.saveThread(t).is(store.ErrInvalid)
			h.ada.saveAttachment(a).is(store.ErrInvalid)
			h.ada.loadThread(t.ID).absent()
			h.ada.loadAttachment(a.ID).absent()
		}},
		{"a bad tenant or subject is ErrInvalid", idRule, func(h *harness) {
			for _, bad := range badIDs[1:] {
				for _, o := range []chat.Owner{{Tenant: bad.id, Subject: "ada"}, {Subject: bad.id}} {
					t, a := h.ada.thread(), h.ada.attachment("a.txt")
					t.Owner, a.Owner = o, o
					h.ada.saveThread(t).is(store.ErrInvalid)
					h.ada.saveAttachment(a).is(store.ErrInvalid)
				}
			}
		}},
	},
	allKinds("ids at the limits are kept", idRule, func(h *harness, k kind) {
		for _, tail := range []string{
			strings.Repeat("x", chat.MaxIDBytes), "日本語-ünïcødé-🙂", `"quoted" \back/slash`, "'; DROP TABLE threads; --",
			"%_*?[a-z]", "a:b/c d", "<&>", "\u2028", "\u202e", ".", "..",
		} {
			id := k.newID() + tail
			id = strings.ToValidUTF8(id[:min(len(id), chat.MaxIDBytes)], "")
			k.save(h.ada, id, h.ada.owner, "first").ok()
			k.wantText(h.ada, id, "after it was saved", "first")
			k.remove(h.ada, id).ok()
			k.load(h.ada, id).absent()
		}
	}),
	allKinds("ids that differ in a byte are two", idBytesRule, func(h *harness, k kind) {
		base := k.newID()
		ids := []string{base + "a", base + "A", base + "a ", " " + base + "a", base + "\u00e9", base + "e\u0301", base + "e", base + "ß", base + "ss"}
		for _, id := range ids {
			k.save(h.ada, id, h.ada.owner, id).is(nil)
		}
		for _, id := range ids {
			k.wantText(h.ada, id, "after saves of ids that differ from it in a few bytes", id)
		}
		k.remove(h.ada, ids[0]).ok()
		k.load(h.ada, ids[1]).is(nil)
	}),
	[]check{{"owners that differ in a byte are two", idBytesRule, func(h *harness) {
		base := h.mint.ID("u")
		users := []*user{h.user(chat.Owner{Tenant: "t" + base, Subject: "ada"}), h.user(chat.Owner{Tenant: "t" + base, Subject: "Ada"}),
			h.user(chat.Owner{Tenant: "t" + base, Subject: "ada "}), h.user(chat.Owner{Tenant: "T" + base, Subject: "ada"})}
		var want []string
		for _, u := range users {
			want = append(want, u.newThread().ID)
		}
		for i, u := range users {
			lists(u.threads(store.OwnedBy(u.owner), store.PageQuery{}), "", want[i:i+1])
		}
	}}},
)

// keepsItem checks that an item's JSON comes back byte for byte. THREAD and ITEM stand for the ids.
func keepsItem(name, text string) check {
	return check{name + " is kept byte for byte", payloadRule, func(h *harness) {
		t := h.ada.newThread()
		it := parsed[chat.Item](h, strings.NewReplacer("THREAD", t.ID, "ITEM", h.mint.ID("msg")).Replace(text))
		it.ThreadID = t.ID
		h.ada.addItem(t.ID, it).ok()
		wantItem := func(when string) {
			o := h.ada.loadItem(t.ID, it.ID)
			sameText(h, o.String()+when, it, o.ok())
			p := h.ada.items(t.ID, store.PageQuery{})
			for _, got := range p.ok().Data {
				sameText(h, p.String()+when, it, got)
			}
		}
		wantItem(" after AddThreadItem")
		h.ada.saveItem(t.ID, it).ok()
		wantItem(" after SaveItem")
	}}
}

// keepsThread is keepsItem for a thread. THREAD stands for its id.
func keepsThread(name, text string) check {
	return check{name + " is kept byte for byte", payloadRule, func(h *harness) {
		t := parsed[chat.Thread](h, strings.ReplaceAll(text, "THREAD", h.mint.ID("thr")))
		t.Owner = h.ada.owner
		for _, when := range []string{" after SaveThread", " after another SaveThread"} {
			h.ada.saveThread(t).ok()
			o := h.ada.loadThread(t.ID)
			sameText(h, o.String()+when, t, o.ok())
			p := h.ada.threads(store.OwnedBy(h.ada.owner), store.PageQuery{})
			for _, got := range p.ok().Data {
				sameText(h, p.String()+when, t, got)
			}
		}
	}}
}

// keepsAttachment is keepsItem for an attachment. ATTACHMENT stands for its id.
func keepsAttachment(name, text string) check {
	return check{name + " is kept byte for byte", payloadRule, func(h *harness) {
		a := parsed[chat.Attachment](h, strings.ReplaceAll(text, "ATTACHMENT", h.mint.ID("atc")))
		a.Owner = h.ada.owner
		for _, when := range []string{" after SaveAttachment", " after another SaveAttachment"} {
			h.ada.saveAttachment(a).ok()
			o := h.ada.loadAttachment(a.ID)
			sameText(h, o.String()+when, a, o.ok())
		}
	}}
}

// freeForm is JSON whose bytes would change if it were encoded again.
var freeForm = []struct{ what, text string }{
	{"big and odd numbers", `{"n":[12345678901234567890,-9007199254740993,1.0,1,1e3,1E+3,0.1000,-0,-0.0,1e400]}`},
	{"escapes", `"\u00e9 é \/ / \u003c < & \u2028 \ud83d\ude42 🙂 \"\\\b\f\n\r\t \u0000"`},
	{"repeated names in free-form JSON", `{"a":1,"a":2,"A":3}`},
}

// keepsFreeForm checks each freeForm in values of each kind.
func keepsFreeForm() []check {
	var all []check
	for _, f := range freeForm {
		all = append(all,
			keepsItem("an item with "+f.what, `{"id":"ITEM","thread_id":"THREAD","created_at":"2026-01-02T03:04:05Z",`+
				`"type":"hidden_context_item","content":`+f.text+`}`),
			keepsThread("a thread with "+f.what, `{"id":"THREAD","title":"t","created_at":"2026-01-02T03:04:05Z",`+
				`"status":{"type":"active"},"metadata":{"content":`+f.text+`}}`),
			keepsAttachment("an attachment with "+f.what, `{"id":"ATTACHMENT","type":"file","name":"a.txt","mime_type":"text/plain",`+
				`"metadata":{"content":`+f.text+`}}`),
		)
	}
	return all
}

// large is 256 KiB.
var large = strings.Repeat("0123456789abcdef", 1<<14)

var payloadChecks = slices.Concat(
	keepsFreeForm(),
	[]check{
		keepsItem("an item of the Python SDK", pythonItem),
		keepsItem("an item of the Node SDK", nodeItem),
		keepsItem("an item of an unknown type", `{"id":"ITEM","thread_id":"THREAD","created_at":"2026-01-02T03:04:05Z","type":"hologram.v2",`+
			`"projector":{"beams":[1,2,{"deep":[[]]}],"on":true},"note":null}`),
		keepsItem("an item with free key order and white space", "{ \"type\" : \"hidden_context_item\",\n\t\"content\": {\"z\":1, \"a\":2,\"m\" :3},\r\n"+
			" \"created_at\":\"2026-01-02T03:04:05Z\", \"thread_id\":\"THREAD\",\"id\":\"ITEM\" }"),
		keepsThread("a thread with free key order and white space", "{ \"title\" : \"t\",\n\t\"metadata\": {\"z\":1, \"a\":2,\"m\" :3},\r\n"+
			" \"created_at\":\"2026-01-02T03:04:05Z\", \"status\" :{ \"type\":\"active\" },\"id\":\"THREAD\" }"),
		keepsAttachment("an attachment with free key order and white space", "{ \"type\" : \"file\",\n\t\"metadata\": {\"z\":1, \"a\":2,\"m\" :3},\r\n"+
			" \"mime_type\":\"text/plain\", \"name\" :\"a.txt\",\"id\":\"ATTACHMENT\" }"),
		keepsThread("a thread of the Python SDK", pythonThread),
		keepsThread("a thread of the Node SDK", nodeThread),
		keepsThread("a thread with unknown fields", `{"id":"THREAD","created_at":"2026-01-02T03:04:05Z","title":"t","status":{"type":"active","since":9},`+
			`"metadata":{"z":12345678901234567890,"a":1.0, "m":null},"labels":["a","b"],"Title":"not the title"}`),
		keepsAttachment("an attachment of the Python SDK", pythonAttachment),
		keepsAttachment("an attachment of the Node SDK", nodeAttachment),
		{"every variant of items comes back", payloadRule, func(h *harness) {
			t := h.ada.newThread()
			file := h.ada.newAttachment("a.txt")
			var want []chat.Item
			for i, body := range variants {
				body = strings.ReplaceAll(body, "ATTACHMENT", file.ID)
				it := parsed[chat.Item](h, fmt.Sprintf(`{"id":%q,"thread_id":%q,"created_at":%q,%s`, h.mint.ID("msg"), t.ID, at(i).Format(time.RFC3339), body[1:]))
				h.ada.addItem(t.ID, it).ok()
				want = append(want, it)
			}
			wantItems(h, t.ID, "after one of each variant was added", want...)
			for _, it := range want {
				o := h.ada.loadItem(t.ID, it.ID)
				sameText(h, o.String(), it, o.ok())
			}
		}},
		{"an item of 256 KiB is kept", payloadRule, func(h *harness) {
			t := h.ada.newThread()
			it := h.item(at(1), large)
			it.ThreadID = t.ID
			h.ada.addItem(t.ID, it).ok()
			o := h.ada.loadItem(t.ID, it.ID)
			sameText(h, o.String(), it, o.ok())
		}},
		keepsThread("a thread of 256 KiB", `{"id":"THREAD","title":"t","created_at":"2026-01-02T03:04:05Z","status":{"type":"active"},`+
			`"metadata":{"content":"`+large+`"}}`),
		keepsAttachment("an attachment of 256 KiB", `{"id":"ATTACHMENT","type":"file","name":"a.txt","mime_type":"text/plain",`+
			`"metadata":{"content":"`+large+`"}}`),
		{"item types at the limits are kept", "an item's type is [a-z0-9_.]{1,64}", func(h *harness) {
			t := h.ada.newThread()
			for _, typ := range []string{"x", "a.b_c.9", strings.Repeat("t", 64)} {
				it := parsed[chat.Item](h, fmt.Sprintf(`{"id":%q,"thread_id":%q,"created_at":"2026-01-02T03:04:05Z","type":%q}`, h.mint.ID("msg"), t.ID, typ))
				h.ada.addItem(t.ID, it).ok()
				o := h.ada.loadItem(t.ID, it.ID)
				if got := o.ok().Type(); string(got) != typ {
					h.errorf("%s: got an item of type %q, want %q", o, got, typ)
				}
			}
		}},
		{"a bad item type is ErrInvalid", "an item's type is [a-z0-9_.]{1,64}, else ErrInvalid", func(h *harness) {
			t := h.ada.newThread()
			for _, typ := range []string{`""`, `"` + strings.Repeat("t", 65) + `"`, `"User_Message"`, `"a b"`, `"a-b"`, `"é"`, `"a\u0000"`, `7`, `null`} {
				refusesItem(h, t.ID, `{"id":"msg_1","created_at":"2026-01-02T03:04:05Z","type":`+typ+`}`)
			}
			refusesItem(h, t.ID, `{"id":"msg_1","created_at":"2026-01-02T03:04:05Z"}`)
			wantItems(h, t.ID, "after items of bad types")
		}},
		{"an item without a payload is ErrInvalid", invalidRule, func(h *harness) {
			t := h.ada.newThread()
			bare := chat.Item{ID: h.mint.ID("msg"), CreatedAt: at(1)}
			h.ada.addItem(t.ID, bare).is(store.ErrInvalid)
			h.ada.saveItem(t.ID, bare).is(store.ErrInvalid)
			wantItems(h, t.ID, "after items without a payload")
		}},
		{"a thread of the wrong shape is ErrInvalid", invalidRule, func(h *harness) {
			for _, wrong := range []struct {
				what   string
				change func(*chat.Thread)
			}{
				{"a title that is not UTF-8", func(t *chat.Thread) { t.Title = "a\xffb" }},
				{"metadata that is an array", func(t *chat.Thread) { t.Metadata = h.json(`[1]`) }},
				{"metadata that is a string", func(t *chat.Thread) { t.Metadata = h.json(`"m"`) }},
				{"image domains that are an object", func(t *chat.Thread) { t.AllowedImageDomains = h.json(`{}`) }},
				{"image domains that are numbers", func(t *chat.Thread) { t.AllowedImageDomains = h.json(`["a",1]`) }},
			} {
				t := h.ada.thread()
				wrong.change(&t)
				o := h.ada.saveThread(t)
				o.note = ", " + wrong.what
				o.is(store.ErrInvalid)
				h.ada.loadThread(t.ID).absent()
			}
		}},
		{"a refused save leaves the stored row", invalidRule, func(h *harness) {
			w := newWorld(h)
			t := w.thread
			t.Title = "changed\xff"
			h.ada.saveThread(t).is(store.ErrInvalid)
			it := rewritten(h, w.item, 1)
			it.CreatedAt = time.Time{}
			h.ada.saveItem(w.thread.ID, it).is(store.ErrInvalid)
			w.check("after saves that were ErrInvalid")
		}},
		{"names that differ in case are two", trapRule, func(h *harness) {
			t := h.ada.newThread()
			file := h.ada.newAttachment("a.txt")
			id := h.mint.ID("msg")
			it := parsed[chat.Item](h, fmt.Sprintf(`{"id":%q,"thread_id":%q,"created_at":"2026-01-02T03:04:05Z","type":"user_message",`+
				`"Type":"end_of_turn","ID":"msg_x","CREATED_AT":"1999-01-01T00:00:00Z","Thread_ID":"thr_x",`+
				`"content":[{"type":"input_text","text":"hello","TEXT":"bye"}],`+
				`"attachments":[{"type":"file","id":%q,"name":"a.txt","mime_type":"text/plain"}],"ATTACHMENTS":[],"inference_options":{}}`, id, t.ID, file.ID))
			h.ada.addItem(t.ID, it).ok()
			o := h.ada.loadItem(t.ID, id)
			got := o.ok()
			sameText(h, o.String(), it, got)
			if got.Type() != chat.TypeUserMessage || !got.CreatedAt.Equal(at(0)) || got.ThreadID != t.ID {
				h.errorf("%s: got type %q, created at %v, in %q, want user_message, %v, %q: a member whose name differs in case was taken for the field",
					o, got.Type(), got.CreatedAt, got.ThreadID, at(0), t.ID)
			}
		}},
		{"repeated names are ErrInvalid", trapRule, func(h *harness) {
			t := h.ada.newThread()
			for _, body := range []string{
				`"type":"user_message","content":[],"attachments":[{"type":"file","id":"atc_1","name":"n","mime_type":"m/m"}],"attachments":[]`,
				`"type":"end_of_turn","type":"user_message"`,
				`"type":"end_of_turn","id":"msg_2"`,
				`"type":"end_of_turn","t\u0079pe":"widget"`,
				`"type":"user_message","content":[{"type":"input_text","text":"a","text":"b"}],"attachments":[],"inference_options":{}`,
			} {
				refusesItem(h, t.ID, `{"id":"msg_1","created_at":"2026-01-02T03:04:05Z",`+body+`}`)
			}
			wantItems(h, t.ID, "after items with repeated names")
		}},
	},
)

// refusesItem wants ErrInvalid for an item with this text, either from the parser or from the Store.
func refusesItem(h *harness, threadID, text string) {
	h.t.Helper()
	var it chat.Item
	err := json.Unmarshal([]byte(text), &it)
	if err == nil {
		err = h.ada.addItem(threadID, it).err
	}
	if !errors.Is(err, store.ErrInvalid) {
		h.errorf("an item %s, parsed and added: got %s, want store.ErrInvalid", report.Abridged(text, 2000), report.Error(err))
	}
}

// comesBack saves a row created at in, and wants it loaded as created at want, in UTC.
func (l listing) comesBack(in, want time.Time) {
	l.h.t.Helper()
	id, saved := l.save(in)
	saved.ok()
	o := l.created(id)
	if got := o.ok(); !got.Equal(want) || got.Location() != time.UTC {
		l.h.errorf("%s of a row saved with CreatedAt %v: got %v, want %v", o, in, got, want)
	}
}

var timeChecks = slices.Concat(
	bothListings("microseconds are kept", timeRule, func(h *harness, l listing) {
		for _, us := range []int{1, 999, 123456, 999999} {
			t := at(0).Add(time.Duration(us) * time.Microsecond)
			l.comesBack(t, t)
		}
		var ids []string
		for _, us := range []int{2, 1, 0} {
			id, o := l.save(at(-9).Add(time.Duration(us) * time.Microsecond))
			o.ok()
			ids = append(ids, id)
		}
		slices.Reverse(ids)
		o := l.page(store.PageQuery{Order: store.OldestFirst})
		sameIDs(h, o.String()+" of rows a microsecond apart", ids, o.ok().Data[:min(3, len(o.val.Data))])
	}),
	bothListings("nanoseconds are cut off", timeRule, func(h *harness, l listing) {
		for _, ms := range []int{0, 5, 999} {
			t := at(0).Add(time.Duration(ms) * time.Millisecond)
			l.comesBack(t.Add(999*time.Nanosecond), t)
		}
	}),
	bothListings("nanoseconds before 1970 are cut off downwards", timeRule, func(h *harness, l listing) {
		t := time.Date(1969, 7, 20, 20, 17, 40, 0, time.UTC)
		l.comesBack(t.Add(999*time.Nanosecond), t)
	}),
	bothListings("a zone becomes UTC", timeRule, func(h *harness, l listing) {
		zone := time.FixedZone("somewhere", -(9*3600 + 1800))
		l.comesBack(at(0).In(zone), at(0))
	}),
	bothListings("zero is ErrInvalid", timeRule, func(h *harness, l listing) {
		id, o := l.save(time.Time{})
		o.is(store.ErrInvalid)
		l.created(id).absent()
	}),
	bothListings("years 1 to 9999 are kept", timeRule, func(h *harness, l listing) {
		for _, t := range []time.Time{
			time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC), time.Date(1582, 10, 10, 0, 0, 0, 0, time.UTC),
			time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC), time.Unix(0, 0).UTC(), time.Date(2400, 2, 29, 0, 0, 0, 0, time.UTC),
			time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		} {
			l.comesBack(t, t)
		}
	}),
	bothListings("other years are ErrInvalid", timeRule, func(h *harness, l listing) {
		for _, t := range []time.Time{
			time.Date(0, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
			time.Date(-5000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(99999, 1, 1, 0, 0, 0, 0, time.UTC),
			time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -3600)), // in UTC, the year 10000
		} {
			id, o := l.save(t)
			o.note = fmt.Sprintf(", created at %v", t)
			o.is(store.ErrInvalid)
			l.created(id).absent()
		}
	}),
	bothListings("the order is that of instants", timeRule, func(h *harness, l listing) {
		east := time.FixedZone("east", 10*3600)
		var ids []string
		for _, t := range []time.Time{at(1), at(0).In(east), at(-1), at(-100).In(east)} {
			id, o := l.save(t)
			o.ok()
			ids = append(ids, id)
		}
		slices.Reverse(ids)
		lists(l.page(store.PageQuery{Order: store.OldestFirst}), " of rows saved in several zones", ids)
	}),
	bothListings("rows of one microsecond are ties", timeRule, func(h *harness, l listing) {
		ids := sortedIDs([]string{l.newID(), l.newID(), l.newID()})
		for i, ns := range []int{900, 500, 100} {
			l.insert(ids[i], at(0).Add(time.Duration(ns))).ok()
		}
		lists(l.page(store.PageQuery{Order: store.OldestFirst}), " of rows with equal microseconds, want the order of equal times", ids)
	}),
)

var aliasingChecks = []check{
	{"a page of items is the caller's", aliasingRule, func(h *harness) {
		thread, its := itemsAt(h, 1, 2, 3, 4, 5)
		for _, q := range []store.PageQuery{{Order: store.OldestFirst}, {}, {Limit: 2}, {Limit: 2, After: its[3].ID}} {
			first := h.ada.items(thread, q)
			want := idsOf(first.ok().Data)
			scribble(first.val.Data, h.item(at(9), "scribble"))
			lists(h.ada.items(thread, q), " after the caller changed the page that it got before", want)
		}
		wantItems(h, thread, "after the caller changed its pages", its...)
	}},
	{"a page of threads is the caller's", aliasingRule, func(h *harness) {
		ts := threadsAt(h, 1, 2, 3)
		q := store.PageQuery{Order: store.OldestFirst}
		first := h.ada.threads(store.OwnedBy(h.ada.owner), q)
		scribble(first.ok().Data, h.ada.thread())
		wantThreads(h, "after the caller changed the page that it got before", ts...)
		wants(h.ada.loadThread(ts[0].ID), " after the caller changed its page", ts[0])
	}},
	{"bytes that were parsed are the caller's", aliasingRule, func(h *harness) {
		t := h.ada.thread()
		buf := []byte(`{"k":"value"}`)
		metadata, err := chat.ParseJSON(buf)
		t.Metadata = value(h, metadata, err)
		h.ada.saveThread(t).ok()
		overwrite(buf)

		text := h.item(at(1), "text").JSON().String()
		buf = []byte(text)
		var it chat.Item
		err = it.UnmarshalJSON(buf)
		it = value(h, it, err)
		it.ThreadID = t.ID
		h.ada.addItem(t.ID, it).ok()
		overwrite(buf)

		got := h.ada.loadThread(t.ID)
		if m := got.ok().Metadata.String(); m != `{"k":"value"}` {
			h.errorf("%s after the caller overwrote the bytes that it had parsed: got metadata %s", got, m)
		}
		o := h.ada.loadItem(t.ID, it.ID)
		var fresh chat.Item
		err = fresh.UnmarshalJSON([]byte(text))
		fresh = value(h, fresh, err)
		fresh.ThreadID = t.ID
		wants(o, " after the caller overwrote the bytes that it had parsed", fresh)
	}},
	{"an item's body is the caller's", aliasingRule, func(h *harness) {
		t := h.ada.newThread()
		body := chat.AssistantMessage{Content: []chat.AssistantContent{{Text: "kept"}}}
		it, err := chat.NewItem(h.mint.ID("msg"), at(1), body)
		it = value(h, it, err)
		it.ThreadID = t.ID
		h.ada.addItem(t.ID, it).ok()
		body.Content[0].Text = "scribble"
		for range 2 {
			o := h.ada.loadItem(t.ID, it.ID)
			got, ok, err := chat.DecodeItem[chat.AssistantMessage](o.ok())
			if err != nil || !ok || len(got.Content) != 1 || got.Content[0].Text != "kept" {
				h.fatalf("%s after the caller changed its saved and its decoded body: got %v, %t, error %s, want the text as saved", o, got, ok, report.Error(err))
			}
			got.Content[0].Text = "scribble"
		}
	}},
	{"an attachment's body is the caller's", aliasingRule, func(h *harness) {
		headers := map[string]string{"X-Key": "kept"}
		body := chat.AttachmentBody{Type: "file", Name: "a.txt", MIMEType: "text/plain",
			Upload: &chat.UploadDescriptor{URL: "https://example.com/up", Method: "PUT", Headers: headers}}
		a, err := chat.NewAttachment(h.mint.ID("atc"), body)
		a = value(h, a, err)
		a.Owner = h.ada.owner
		h.ada.saveAttachment(a).ok()
		headers["X-Key"], body.Upload.URL = "scribble", "scribble"
		for range 2 {
			o := h.ada.loadAttachment(a.ID)
			got, err := o.ok().Decode()
			if err != nil || got.Upload == nil || got.Upload.Headers["X-Key"] != "kept" || got.Upload.URL != "https://example.com/up" {
				h.fatalf("%s after the caller changed its saved and its decoded body: got %v, error %s, want the upload as saved", o, got, report.Error(err))
			}
			got.Upload.Headers["X-Key"], got.Upload.URL = "scribble", "scribble"
			clear(got.Upload.Headers)
		}
	}},
	{"a loaded value is the caller's", aliasingRule, func(h *harness) {
		w := newWorld(h)
		t := h.ada.loadThread(w.thread.ID).ok()
		t.Title, t.Metadata, t.Owner, t.CreatedAt = "scribble", h.json(`{"s":1}`), h.bob.owner, at(99)
		it := h.ada.loadItem(w.thread.ID, w.item.ID).ok()
		it.ID, it.CreatedAt = "scribble", at(99)
		a := h.ada.loadAttachment(w.attachment.ID).ok()
		a.Owner, a.ThreadID = h.bob.owner, "scribble"
		w.check("after the caller changed the values it had loaded")
	}},
	{"a principal's roles are the caller's", aliasingRule, func(h *harness) {
		roles := []string{"reader", "writer"}
		u := h.ada.in(store.WithPrincipal(h.t.Context(), store.Principal{Owner: h.ada.owner, Roles: roles}))
		w := newWorld(h)
		u.loadThread(w.thread.ID).ok()
		roles[0], roles[1] = "scribble", "scribble"
		u.loadThread(w.thread.ID).ok()
		p, _ := store.PrincipalFrom(u.ctx)
		if !slices.Equal(p.Roles, []string{"reader", "writer"}) {
			h.errorf("the principal's roles, after the caller changed the slice that it had passed: got %q, want the roles as passed", p.Roles)
		}
	}},
}

// scribble writes v into every element of a page, up to the slice's capacity.
func scribble[T any](page []T, v T) {
	page = page[:cap(page)]
	for i := range page {
		page[i] = v
	}
}

func overwrite(b []byte) {
	for i := range b {
		b[i] = 'x'
	}
}

// validID checks an id that the Store generated.
func validID(h *harness, what, id string) {
	h.t.Helper()
	if rules.IDFault(id) != "" {
		h.fatalf("%s: got %q, want a valid id", what, report.Abridged(id, 80))
	}
}

// generated checks the ids that gen makes.
func generated(h *harness, what string, gen func() string) {
	h.t.Helper()
	// Of a hundred ids with eight hexadecimal digits, as the SDKs have them, two are equal once in a million times. So one
	// repeat is forgiven.
	for range 2 {
		seen := make(map[string]bool)
		for range 100 {
			id := gen()
			validID(h, what, id)
			seen[id] = true
		}
		if len(seen) == 100 {
			return
		}
	}
	h.fatalf("%s: got a repeated id within 100 calls, in two attempts", what)
}

var generatorChecks = []check{
	{"thread ids", generatorRule, func(h *harness) {
		generated(h, "GenerateThreadID", func() string { return h.s.GenerateThreadID(h.ada.ctx) })
	}},
	{"item ids of every kind", generatorRule, func(h *harness) {
		t := h.ada.newThread()
		kinds := []chat.ItemKind{chat.KindMessage, chat.KindToolCall, chat.KindTask, chat.KindWorkflow,
			chat.KindAttachment, chat.KindSDKHiddenContext, "of_the_future"}
		for _, kind := range kinds {
			generated(h, fmt.Sprintf("GenerateItemID(%q)", kind), func() string { return h.s.GenerateItemID(h.ada.ctx, kind, t) })
		}
	}},
	{"generated ids can be saved", generatorRule, func(h *harness) {
		t := h.ada.thread()
		for range 3 { // a short id may be taken by chance
			t.ID = h.s.GenerateThreadID(h.ada.ctx)
			if o := h.ada.mode(store.InsertOnly).saveThread(t); !errors.Is(o.err, store.ErrConflict) {
				o.ok()
				break
			}
		}
		it := h.itemWithID(h.s.GenerateItemID(h.ada.ctx, chat.KindMessage, t), at(1), "text")
		h.ada.addItem(t.ID, it).ok()
		a := h.ada.attachment("a.txt")
		a.ID = h.s.GenerateItemID(h.ada.ctx, chat.KindAttachment, t)
		h.ada.mode(store.InsertOnly).saveAttachment(a).is(nil)
	}},
	{"a cancelled context still gets an id", "the generators return no error, so they always return a valid id", func(h *harness) {
		over, cancel := context.WithCancel(h.ada.ctx)
		cancel()
		validID(h, "GenerateThreadID with a cancelled context", h.s.GenerateThreadID(over))
		validID(h, "GenerateItemID with a cancelled context", h.s.GenerateItemID(over, chat.KindMessage, chat.Thread{}))
	}},
}
