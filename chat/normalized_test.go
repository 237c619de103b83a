package chat_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/chatstore/chatstore/chat"
)

var idFaults = []struct{ id, fault string }{
	{"", "empty"},
	{strings.Repeat("x", 257), "longer than 256 bytes"},
	{strings.Repeat("é", 129), "longer than 256 bytes"},
	{"a\x00b", "a control character"},
	{"a\nb", "a control character"},
	{"\x7f", "a control character"},
	{"a\u0085b", "a control character"},
	{"a\xffb", "not valid UTF-8"},
	{"\xed\xa0\x80", "not valid UTF-8"},
}

var goodIDs = []string{"x", " ", "thr_1a2b3c4d", strings.Repeat("x", 256), strings.Repeat("é", 128), "a/b:c", "日本", "\u2028", "\ufffd", "🙂", "~"}

// TestIDs: every id of a value has 1 to 256 bytes of valid UTF-8 without control characters.
func TestIDs(t *testing.T) {
	for _, c := range idFaults {
		refused(t, "id: "+c.fault)(chat.Thread{ID: c.id, CreatedAt: noon}.Normalized())
		it := must[chat.Item](t)(chat.NewItem(c.id, noon, chat.EndOfTurn{}))
		_, err := it.Normalized("thr_1")
		wantInvalid(t, err, "id: "+c.fault)
		if e, ok := errors.AsType[*chat.Error](err); !ok || e.Kind != "item" || e.ID != c.id {
			t.Errorf("got %#v", err)
		}
		a := must[chat.Attachment](t)(chat.NewAttachment(c.id, chat.AttachmentBody{Type: "file"}))
		refused(t, "id: "+c.fault)(a.Normalized())
		if c.id != "" {
			for field, owner := range map[string]chat.Owner{"owner.subject: ": {Subject: c.id}, "owner.tenant: ": {Tenant: c.id, Subject: "s"}} {
				refused(t, field+c.fault)(chat.Thread{ID: "x", CreatedAt: noon, Owner: owner}.Normalized())
				a := must[chat.Attachment](t)(chat.NewAttachment("x", chat.AttachmentBody{Type: "file"}))
				a.Owner = owner
				refused(t, field+c.fault)(a.Normalized())
			}
			a.ID, a.ThreadID = "atc_1", c.id
			refused(t, "thread_id: "+c.fault)(a.Normalized())
		}
	}
	for _, id := range goodIDs {
		th, err := chat.Thread{ID: id, CreatedAt: noon, Owner: chat.Owner{Tenant: id, Subject: id}}.Normalized()
		if err != nil || th.ID != id || must[chat.Thread](t)(chat.ParseThread(th.JSON().String())).ID != id {
			t.Errorf("%q: %v, %v", id, th, err)
		}
	}
}

// TestIDsInTheJSON: an invalid id in the JSON is refused like an invalid field.
func TestIDsInTheJSON(t *testing.T) {
	for text, field := range map[string]string{
		`{"type":"x","created_at":"2026-01-02T03:04:05Z"}`:                "id: empty",
		`{"type":"x","id":"a\u0000","created_at":"2026-01-02T03:04:05Z"}`: "id: a control character",
		`{"type":"X","id":"a","created_at":"2026-01-02T03:04:05Z"}`:       "type: has other characters than a-z, 0-9, _ and .",
		`{"type":"x","id":"a"}`: "created_at: zero",
		`{"type":"x","id":"a","created_at":"0000-12-31T23:59:59Z"}`:                               "created_at: outside the years 1 to 9999",
		`{"type":"x","id":"a","created_at":"9999-12-31T23:59:59-00:01"}`:                          "created_at: outside the years 1 to 9999",
		`{"type":"x","id":"a","created_at":"2026-01-02T03:04:05Z","thread_id":"thr_2"}`:           "thread_id: another thread's id",
		`{"type":"` + strings.Repeat("x", 65) + `","id":"a","created_at":"2026-01-02T03:04:05Z"}`: "type: longer than 64 bytes",
	} {
		refused(t, field)(item(t, text).Normalized("thr_1"))
		refused(t, field)(item(t, strings.Replace(text, `"type":"x"`, `"type":"end_of_turn"`, 1)).Normalized("thr_1"))
	}
	for text, field := range map[string]string{
		`{"created_at":"2026-01-02T03:04:05Z"}`: "id: empty",
		`{"id":"a"}`:                            "created_at: zero",
		`{"id":"a","created_at":"2026-01-02T03:04:05Z","metadata":[]}`:                      "metadata: not an object",
		`{"id":"a","created_at":"2026-01-02T03:04:05Z","allowed_image_domains":["a",null]}`: "allowed_image_domains: not an array of strings",
		`{"id":"a","created_at":"2026-01-02T03:04:05Z","allowed_image_domains":"a"}`:        "allowed_image_domains: not an array of strings",
		`{"id":"a","created_at":"2026-01-02T03:04:05Z","status":{"type":"A"}}`:              "status.type: has other characters than a-z, 0-9, _ and .",
	} {
		refused(t, field)(must[chat.Thread](t)(chat.ParseThread(text)).Normalized())
	}
	for text, field := range map[string]string{
		`{"type":"file"}`: "id: empty",
		`{"type":"file","id":"a","thread_id":"\n"}`: "thread_id: a control character",
		`{"type":"FILE","id":"a"}`:                  "type: has other characters than a-z, 0-9, _ and .",
	} {
		refused(t, field)(must[chat.Attachment](t)(chat.ParseAttachment(text)).Normalized())
	}
}

// TestEscapedIDs: an id may be escaped in the JSON, also if its type is known.
func TestEscapedIDs(t *testing.T) {
	for _, typ := range []string{"x", "end_of_turn"} {
		text := `{"type":"` + typ + `","id":"\u006dsg_1","thread_id":"\u0074hr_1","created_at":"2026-01-02T03:04:05Z"}`
		it := must[chat.Item](t)(item(t, text).Normalized("thr_1"))
		if it.ID != "msg_1" || it.ThreadID != "thr_1" || it.JSON().String() != text {
			t.Errorf("got id %q, thread %q, JSON %s", it.ID, it.ThreadID, it.JSON())
		}
	}
}

// TestNormalizedRefuses: fields that break a rule are refused.
func TestNormalizedRefuses(t *testing.T) {
	for field, set := range map[string]func(*chat.Thread){
		"title: not valid UTF-8":                                   func(th *chat.Thread) { th.Title = "a\xff" },
		"created_at: zero":                                         func(th *chat.Thread) { th.CreatedAt = time.Time{}.Add(999) },
		"created_at: outside the years 1 to 9999":                  func(th *chat.Thread) { th.CreatedAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"status.type: empty":                                       func(th *chat.Thread) { th.Status = chat.Status{Reason: "r"} },
		"status.type: has other characters than a-z, 0-9, _ and .": func(th *chat.Thread) { th.Status = chat.Status{Type: "Locked"} },
		"status.reason: not valid UTF-8":                           func(th *chat.Thread) { th.Status = chat.Status{Type: "locked", Reason: "\xff"} },
		"metadata: not an object":                                  func(th *chat.Thread) { th.Metadata = js(` null`) },
		"allowed_image_domains: not an array of strings":           func(th *chat.Thread) { th.AllowedImageDomains = js(`{}`) },
		"owner: a tenant without a subject":                        func(th *chat.Thread) { th.Owner = chat.Owner{Tenant: "t"} },
		"json: nested too deep": func(th *chat.Thread) {
			th.Metadata = js(strings.Repeat(`{"a":`, 999) + `{}` + strings.Repeat(`}`, 999))
		},
	} {
		for _, th := range []chat.Thread{{ID: "thr_1", CreatedAt: noon}, must[chat.Thread](t)(chat.ParseThread(goldenThreads["node"]))} {
			set(&th)
			refused(t, field)(th.Normalized())
		}
	}
	it := must[chat.Item](t)(must[chat.Item](t)(chat.NewItem("msg_1", noon, chat.EndOfTurn{})).Normalized("thr_1"))
	it.CreatedAt = time.Unix(noon.Unix()+18_446_744_073_709, 551_616_000) // 2^64 microseconds later
	refused(t, "created_at: outside the years 1 to 9999")(it.Normalized("thr_1"))
	refused(t, "type: missing")(chat.Item{ID: "msg_1", CreatedAt: noon}.Normalized("thr_1"))
	refused(t, "type: missing")(chat.Attachment{ID: "atc_1"}.Normalized())
	a := must[chat.Attachment](t)(chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "file"}))
	a.Owner.Tenant = "t"
	refused(t, "owner: a tenant without a subject")(a.Normalized())
}

// TestThreadIDIsFilledIn: an empty ThreadID is set, and nothing else changes.
func TestThreadIDIsFilledIn(t *testing.T) {
	for text, want := range map[string]string{
		`{"id":"a","type":"x", "created_at":"2026-01-02T03:04:05.000"}`:                     `{"id":"a","type":"x", "created_at":"2026-01-02T03:04:05.000","thread_id":"thr_1"}`,
		`{"thread_id" : null,"id":"a","type":"x","created_at":"2026-01-02T03:04:05"} `:      `{"thread_id" : "thr_1","id":"a","type":"x","created_at":"2026-01-02T03:04:05"} `,
		`{"thread_id":"","id":"a","type":"x","created_at":"2026-01-02T03:04:05"}`:           `{"thread_id":"thr_1","id":"a","type":"x","created_at":"2026-01-02T03:04:05"}`,
		`{"thread_id":"thr\u005f1","id":"a","type":"x","created_at":"2026-01-02T03:04:05"}`: `{"thread_id":"thr\u005f1","id":"a","type":"x","created_at":"2026-01-02T03:04:05"}`,
	} {
		it := must[chat.Item](t)(item(t, text).Normalized("thr_1"))
		if wantText(t, it, want); it.ThreadID != "thr_1" {
			t.Errorf("got %q", it.ThreadID)
		}
	}
}

// TestNormalizedItemIsAsItReadsBack: the fields are normalised too, for every time zone and fraction.
func TestNormalizedItemIsAsItReadsBack(t *testing.T) {
	text := `{"id":"a","type":"x","thread_id":"thr_1","created_at":"2026-01-02T12:00:00.000"}`
	it := item(t, text)
	for _, at := range []time.Time{noon.In(time.FixedZone("", 3600)), noon.Add(999)} {
		it.CreatedAt = at
		n := must[chat.Item](t)(it.Normalized("thr_1"))
		if wantText(t, n, text); n.CreatedAt != noon {
			t.Errorf("created at %v: got %v, want %v", at, n.CreatedAt, noon)
		}
	}
	it.CreatedAt = noon.Add(time.Second + 999).In(time.FixedZone("", 3600))
	n := must[chat.Item](t)(it.Normalized("thr_1"))
	if wantText(t, n, strings.Replace(text, "00.000", "01Z", 1)); n.CreatedAt != noon.Add(time.Second) {
		t.Errorf("got %v", n.CreatedAt)
	}
}

// TestHotPathsDoNotAllocate: cached reads and saves of loaded values do not allocate here.
func TestHotPathsDoNotAllocate(t *testing.T) {
	th := must[chat.Thread](t)(chat.Thread{ID: "thr_1", Title: "T", CreatedAt: noon, Owner: chat.Owner{Tenant: "acme", Subject: "ada"}}.Normalized())
	it := must[chat.Item](t)(item(t, goldenItems["python assistant_message"]).Normalized("thr_1"))
	a := must[chat.Attachment](t)(chat.ParseAttachment(goldenAttachments["python image"]))
	active := th
	active.Status = chat.Status{}
	text, data := it.JSON().String(), []byte(it.JSON().String())
	for name, c := range map[string]struct {
		f    func() error
		want float64
	}{
		"JSON of the zero status": {func() error { _ = active.JSON(); return nil }, 0},
		"JSON": {func() error {
			if th.JSON().IsZero() || it.JSON().IsZero() || a.JSON().IsZero() {
				return errors.New("no JSON")
			}
			return nil
		}, 0},
		"Thread.Normalized":     {func() error { _, err := th.Normalized(); return err }, 0},
		"Item.Normalized":       {func() error { _, err := it.Normalized("thr_1"); return err }, 0},
		"Attachment.Normalized": {func() error { _, err := a.Normalized(); return err }, 0},
		"Equal": {func() error {
			if !th.Equal(th) || !it.Equal(it) || !a.Equal(a) {
				return errors.New("not equal")
			}
			return nil
		}, 0},
		// A parse allocates the document and, for bytes, their copy.
		"ParseItem of a string": {func() error { _, err := chat.ParseItem(text); return err }, 1},
		"ParseItem of bytes":    {func() error { _, err := chat.ParseItem(data); return err }, 2},
		"ParseThread":           {func() error { _, err := chat.ParseThread(th.JSON().String()); return err }, 1},
		"ParseAttachment":       {func() error { _, err := chat.ParseAttachment(a.JSON().String()); return err }, 1},
		"ParseJSON":             {func() error { _, err := chat.ParseJSON(text); return err }, 0},
	} {
		if n := testing.AllocsPerRun(100, func() {
			if err := c.f(); err != nil {
				t.Error(err)
			}
		}); n > c.want {
			t.Errorf("%s: %v allocations, want %v", name, n, c.want)
		}
	}
}

func genJSON(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(r *rapid.T) string {
		leaf := []string{`null`, `true`, `1.0`, `12345678901234567890`, `"\u0041\ud83d\ude00"`, `"ä"`, `{}`, `[ ]`, `-0`, `1e400`, `"\ud800"`}
		n := rapid.IntRange(0, 3).Draw(r, "kind")
		if depth == 0 || n < 2 {
			return rapid.SampledFrom(leaf).Draw(r, "leaf")
		}
		var b strings.Builder
		size := rapid.IntRange(0, 3).Draw(r, "size")
		for i := range size {
			if i > 0 {
				b.WriteString(rapid.SampledFrom([]string{",", " ,\n"}).Draw(r, "comma"))
			}
			if n == 2 {
				b.WriteString(`"k` + string(rune('a'+i)) + `" :`)
			}
			b.WriteString(genJSON(depth-1).Draw(r, "value"))
		}
		if n == 2 {
			return "{" + b.String() + "}"
		}
		return "[" + b.String() + "]"
	})
}

// TestSplicesOnlyWhatIsSet changes random fields of random threads. A set member has its new value and every other byte
// stays. A normalised thread reads back unchanged. Setting the fields back restores the text.
func TestSplicesOnlyWhatIsSet(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		space := rapid.SampledFrom([]string{"", " ", "\n\t"})
		values := map[string]*rapid.Generator[string]{
			"id":                    rapid.SampledFrom([]string{`"a"`, `"\u0061"`}),
			"title":                 rapid.SampledFrom([]string{`null`, `""`, `"T"`, `"\u0054\n"`}),
			"created_at":            rapid.SampledFrom([]string{`"2026-01-02T03:04:05"`, `"2026-01-02T03:04:05.123456789+02:00"`}),
			"status":                rapid.SampledFrom([]string{`null`, `{"type":"active"}`, `{"type":"locked","reason":"r","x":1}`}),
			"allowed_image_domains": rapid.SampledFrom([]string{`null`, `[]`, `["a"]`}),
			"metadata":              rapid.SampledFrom([]string{`null`, `{}`, `{"a":1,"a":2}`}),
			"x":                     genJSON(3), "ID": genJSON(2), "items": genJSON(3), "\\u0079": genJSON(1),
		}
		names := rapid.Permutation([]string{"id", "title", "created_at", "status", "allowed_image_domains", "metadata", "x", "ID", "items", `\u0079`}).Draw(r, "names")
		names = names[:rapid.IntRange(0, len(names)).Draw(r, "members")]
		type part struct{ name, before, value, after string }
		var parts []part
		for i, name := range names {
			comma := ","
			if i == len(names)-1 {
				comma = ""
			}
			parts = append(parts, part{name, space.Draw(r, "s1") + `"` + name + `"` + space.Draw(r, "s2") + ":" + space.Draw(r, "s3"), values[name].Draw(r, name), comma})
		}
		end := space.Draw(r, "end")
		join := func(parts []part) string {
			text := "{"
			for _, p := range parts {
				text += p.before + p.value + p.after
			}
			return text + end + "}"
		}
		text := join(parts)
		th, err := chat.ParseThread(text)
		if err != nil {
			r.Fatalf("%s: %v", text, err)
		}
		was := th
		if got := th.JSON().String(); got != text {
			r.Fatalf("untouched: got %s, want %s", got, text)
		}
		set := map[string]string{}
		changes := []struct {
			name, value string
			set         func()
		}{
			{"id", `"new\"id"`, func() { th.ID = `new"id` }},
			{"title", `"new <ü>"`, func() { th.Title = "new <ü>" }},
			{"created_at", `"2026-01-02T12:00:00.5Z"`, func() { th.CreatedAt = noon.Add(500 * time.Millisecond) }},
			{"status", `{"type":"closed","reason":"why"}`, func() { th.Status = chat.Status{Type: "closed", Reason: "why"} }},
			{"allowed_image_domains", `[ "b" ]`, func() { th.AllowedImageDomains = js(`[ "b" ]`) }},
			{"metadata", `{"n":1.0}`, func() { th.Metadata = js(`{"n":1.0}`) }},
		}
		for _, c := range changes {
			if rapid.Bool().Draw(r, "set "+c.name) {
				set[c.name] = c.value
				c.set()
			}
		}
		changed := slices.Clone(parts)
		for i, p := range changed {
			if v, ok := set[p.name]; ok {
				if strings.Contains(p.value, `"x":1`) && p.name == "status" { // other members of the status stay
					v = strings.TrimSuffix(v, "}") + `,"x":1}`
				}
				changed[i].value = v
				delete(set, p.name)
			}
		}
		tail := end + "}"
		want, comma := strings.TrimSuffix(join(changed), tail), ","
		if len(parts) == 0 {
			comma = ""
		}
		for _, c := range changes {
			if v, ok := set[c.name]; ok {
				want += comma + `"` + c.name + `":` + v
				comma = ","
			}
		}
		want += tail
		if got := th.JSON().String(); got != want {
			r.Fatalf("\n got %s\nwant %s", got, want)
		}
		if n, err := th.Normalized(); err == nil {
			again, err := n.Normalized()
			loaded, err2 := chat.ParseThread(n.JSON().String())
			if err != nil || err2 != nil || !again.Equal(n) || !loaded.Equal(n) || diffFields(loaded, n) != "" || n.JSON().String() != want {
				r.Fatalf("normalised %s: %v, %v, again %s, loaded %s", n.JSON(), err, err2, again.JSON(), loaded.JSON())
			}
		}
		th.ID, th.Title, th.CreatedAt, th.Status, th.AllowedImageDomains, th.Metadata = was.ID, was.Title, was.CreatedAt, was.Status, was.AllowedImageDomains, was.Metadata
		if got := th.JSON().String(); got != text {
			r.Fatalf("set back: got %s, want %s", got, text)
		}
	})
}

// TestASetStatusKeepsWhatItDoesNotKnow: unknown members of the status stay, and so do the bytes of unchanged ones.
func TestASetStatusKeepsWhatItDoesNotKnow(t *testing.T) {
	parse := func(status string) chat.Thread {
		return must[chat.Thread](t)(chat.ParseThread(`{"id":"thr_1","created_at":"2026-01-02T12:00:00Z","status":` + status + `}`))
	}
	for _, c := range []struct {
		old  string
		set  chat.Status
		want string
	}{
		{`{"type":"locked","reason":"r","until":2027}`, chat.Status{Type: "locked", Reason: "x"}, `{"type":"locked","reason":"x","until":2027}`},
		{`{"type":"locked","reason":"r","until":2027}`, chat.Status{Type: "active", Reason: "r"}, `{"type":"active","reason":null,"until":2027}`},
		{`{ "type":"\u006cocked","reason":"r" }`, chat.Status{Type: "locked", Reason: "x"}, `{ "type":"\u006cocked","reason":"x" }`},
		{`{"type":"locked","reason":"\u0072"}`, chat.Status{Type: "closed", Reason: "r"}, `{"type":"closed","reason":"\u0072"}`},
		{`{"type":"active","reason":"old"}`, chat.Status{Type: "locked"}, `{"type":"locked","reason":null}`},
		{`{"type":"active"}`, chat.Status{Type: "closed"}, `{"type":"closed","reason":null}`},
		{`null`, chat.Status{Type: "locked", Reason: "x"}, `{"type":"locked","reason":"x"}`},
	} {
		th := parse(c.old)
		th.Status = c.set
		th, err := th.Normalized()
		if want := parse(c.want); err != nil || !th.Equal(want) || th.Status != want.Status {
			t.Errorf("%s set to %+v: got %s, %v; want %s", c.old, c.set, th.JSON(), err, want.JSON())
		}
	}
	// Setting only Type to active removes the reason.
	th := parse(`{"type":"active"}`)
	th.Status = chat.Status{Type: "active", Reason: "left over"}
	if n, err := th.Normalized(); err != nil || n.Status != (chat.Status{Type: "active"}) {
		t.Errorf("got %+v, %v", n.Status, err)
	}
}
