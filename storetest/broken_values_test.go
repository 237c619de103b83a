package storetest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/rules"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/storetest/internal/call"
	"github.com/chatstore/chatstore/storetest/internal/rows"
)

// reencodes changes an item's JSON before it is saved.
func reencodes(f func(text string) string) func() ops {
	save := func(m *made) {
		var out chat.Item
		if it := m.Item; out.UnmarshalJSON([]byte(f(it.JSON().String()))) == nil {
			out.ID, out.ThreadID, out.CreatedAt = it.ID, it.ThreadID, it.CreatedAt
			m.Item = out
		}
	}
	return func() ops { return ops{store.OpAddThreadItem: save, store.OpSaveItem: save} }
}

func replaces(old, new string) func() ops {
	return reencodes(func(text string) string { return strings.ReplaceAll(text, old, new) })
}

var brokenValues = []broken{
	{"JSON is compacted", reencodes(func(text string) string {
		var b bytes.Buffer
		if err := json.Compact(&b, []byte(text)); err != nil {
			return text
		}
		return b.String()
	}), []string{"Payload/an item with free key order and white space is kept byte for byte"}},
	{"big integers are floats", replaces("[12345678901234567890,", "[12345678901234567000,"),
		[]string{"Payload/an item with big and odd numbers is kept byte for byte"}},
	{"escapes are normalised", replaces(`\/`, `/`), []string{"Payload/an item with escapes is kept byte for byte"}},
	{"a repeated name is dropped", replaces(`{"a":1,"a":2,`, `{"a":2,`),
		[]string{"Payload/an item with repeated names in free-form JSON is kept byte for byte"}},
	{"unknown members of items are dropped", replaces(`,"note":null`, ``), []string{"Payload/an item of an unknown type is kept byte for byte"}},
	{"nulls are dropped", replaces(`,"quoted_text":null`, ``), []string{"Payload/an item of the Python SDK is kept byte for byte"}},
	{"JSON is escaped for HTML", replaces(`</b>`, `\u003c/b>`), []string{"Payload/an item of the Node SDK is kept byte for byte"}},
	{"false is dropped", replaces(`,"expanded":false`, ""), []string{"Payload/every variant of items comes back"}},
	{"threads are kept as their fields", on(store.OpSaveThread, func(m *made) {
		t := m.Thread
		m.Thread = chat.Thread{ID: t.ID, Title: t.Title, CreatedAt: t.CreatedAt, Status: t.Status,
			AllowedImageDomains: t.AllowedImageDomains, Metadata: t.Metadata, Owner: t.Owner}
	}), []string{
		"Payload/a thread of the Node SDK is kept byte for byte",
		"Payload/a thread of the Python SDK is kept byte for byte",
		"Payload/a thread with free key order and white space is kept byte for byte",
		"Payload/a thread with unknown fields is kept byte for byte",
	}},
	{"attachments are kept as their fields", on(store.OpSaveAttachment, func(m *made) {
		a := m.Attachment
		if body, err := a.Decode(); err == nil {
			if b, err := chat.NewAttachment(a.ID, body); err == nil {
				b.ThreadID, b.Owner = a.ThreadID, a.Owner
				m.Attachment = b
			}
		}
	}), []string{
		"Payload/an attachment of the Node SDK is kept byte for byte",
		"Payload/an attachment of the Python SDK is kept byte for byte",
		"Payload/an attachment with free key order and white space is kept byte for byte",
	}},
	{"a payload has a column's size", refuses(store.OpAddThreadItem, func(m *made) bool { return len(m.Item.JSON().String()) > 1<<16 }),
		[]string{"Payload/an item of 256 KiB is kept"}},
	{"an item's type has 32 bytes", refuses(store.OpAddThreadItem, func(m *made) bool { return len(m.Item.Type()) > 32 }),
		[]string{"Payload/item types at the limits are kept"}},
	{"names are matched in any case", reencodes(func(text string) string {
		var doc struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal([]byte(text), &doc); err != nil || doc.Type != "end_of_turn" {
			return text
		}
		return strings.ReplaceAll(text, "user_message", doc.Type)
	}), []string{"Payload/names that differ in case are two"}},
	{"an item without a payload gets one", on(store.OpAddThreadItem, func(m *made) {
		if m.Item.JSON().IsZero() {
			m.Item, _ = chat.NewItem(m.Item.ID, m.Item.CreatedAt, chat.EndOfTurn{})
		}
	}), []string{"Payload/an item without a payload is ErrInvalid"}},
	{"metadata of any shape is taken", on(store.OpSaveThread, func(m *made) {
		if strings.HasPrefix(m.Thread.Metadata.String(), "[1") {
			m.Thread.Metadata = chat.JSON{}
		}
	}), []string{"Payload/a thread of the wrong shape is ErrInvalid"}},
	{"a refused save leaves half a row", on(store.OpSaveThread, func(m *made) {
		if refused := m.make(); m.ends(store.ErrInvalid) && !utf8.ValidString(m.Thread.Title) {
			m.Thread.Title = strings.ToValidUTF8(m.Thread.Title, "")
			m.mode(store.UpdateOnly)
			m.make()
			m.a = refused
		}
	}), []string{"Payload/a refused save leaves the stored row"}},
	{"times are cut to milliseconds", on(store.OpSaveThread, func(m *made) {
		m.Thread.CreatedAt = m.Thread.CreatedAt.Truncate(time.Millisecond)
	}), []string{"Time/threads: microseconds are kept"}},
	{"nanoseconds are kept", func() ops {
		var created memory[time.Time]
		return ops{store.OpAddThreadItem: func(m *made) {
			created.set(m.Item.ID, m.Item.CreatedAt)
		}, store.OpLoadItem: func(m *made) {
			m.make()
			if t, ok := created.get(m.Item.ID); ok && t.Year() > 1970 && t.Truncate(time.Microsecond).Equal(m.a.Item.CreatedAt) {
				m.a.Item.CreatedAt = t.UTC()
			}
		}}
	}, []string{"Time/items: nanoseconds are cut off"}},
	{"nanoseconds are cut off towards 1970", on(store.OpSaveThread, func(m *made) {
		if t := &m.Thread; t.CreatedAt.Year() == 1969 {
			t.CreatedAt = time.UnixMicro(t.CreatedAt.UnixNano() / 1000)
		}
	}), []string{"Time/threads: nanoseconds before 1970 are cut off downwards"}},
	{"the zone is kept", func() ops {
		var zone memory[*time.Location]
		return ops{store.OpSaveThread: func(m *made) {
			zone.set(m.Thread.ID, m.Thread.CreatedAt.Location())
		}, store.OpLoadThread: func(m *made) {
			m.make()
			if z, ok := zone.get(m.Thread.ID); ok {
				m.a.Thread.CreatedAt = m.a.Thread.CreatedAt.In(z)
			}
		}}
	}, []string{"Time/threads: a zone becomes UTC"}},
	{"times are ordered by the clock on the wall", on(store.OpSaveThread, func(m *made) {
		if c := m.Thread.CreatedAt; c.Year() == 2026 {
			_, offset := c.Zone()
			m.Thread.CreatedAt = at(int(c.Sub(at(0)).Seconds()) + offset).Add(c.Sub(c.Truncate(1e9)))
		}
	}), []string{"Time/threads: a zone becomes UTC", "Time/threads: the order is that of instants"}},
	{"a zero time is now", on(store.OpSaveThread, func(m *made) {
		if m.Thread.CreatedAt.IsZero() {
			m.Thread.CreatedAt = at(0)
		}
	}), []string{"Time/threads: zero is ErrInvalid"}},
	{"years wrap", on(store.OpAddThreadItem, func(m *made) {
		if m.Item.CreatedAt.UTC().Year() > 9999 {
			m.Item.CreatedAt = at(0)
		}
	}), []string{"Time/items: other years are ErrInvalid"}},
	{"times before 1970 are refused", refuses(store.OpSaveThread, func(m *made) bool {
		y := m.Thread.CreatedAt.Year()
		return y > 0 && y < 1970 && !m.Thread.CreatedAt.IsZero()
	}), []string{"Time/threads: nanoseconds before 1970 are cut off downwards", "Time/threads: years 1 to 9999 are kept"}},
	{"nanoseconds order ties", func() ops {
		var ns memory[int]
		return ops{store.OpAddThreadItem: func(m *made) {
			ns.set(m.Item.ID, m.Item.CreatedAt.Nanosecond())
		}, store.OpLoadThreadItems: func(m *made) {
			if m.make(); m.Query.PageQuery == (store.PageQuery{Order: store.OldestFirst}) {
				slices.SortStableFunc(m.a.Items.Data, func(a, b chat.Item) int {
					x, _ := ns.get(a.ID)
					y, _ := ns.get(b.ID)
					return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(x, y))
				})
			}
		}}
	}, []string{"Time/items: rows of one microsecond are ties"}},
	{"pages share a slice", func() ops {
		var pages memory[store.Page[chat.Item]]
		return ops{store.OpLoadThreadItems: func(m *made) {
			if m.make(); m.a.Err != nil || m.Query.Limit > 10 {
				return
			}
			key := fmt.Sprint(m.Thread.ID, m.Query.PageQuery)
			if old, ok := pages.get(key); ok && len(old.Data) == len(m.a.Items.Data) && len(old.Data) == 2 {
				m.a.Items = old
			}
			pages.set(key, m.a.Items)
		}}
	}, []string{"Aliasing/a page of items is the caller's"}},
	{"pages of threads share a slice", func() ops {
		var pages memory[store.Page[chat.Thread]]
		return ops{store.OpLoadThreads: func(m *made) {
			m.make()
			o, ok := m.Query.Owner.Owner()
			if m.a.Err != nil || !ok || len(m.a.Threads.Data) != 3 || m.Query.PageQuery != (store.PageQuery{Order: store.OldestFirst}) {
				return
			}
			if old, ok := pages.get(o.Subject); ok && !old.Data[0].CreatedAt.After(at(1)) {
				m.a.Threads = old
				return
			}
			pages.set(o.Subject, m.a.Threads)
		}}
	}, []string{"Aliasing/a page of threads is the caller's"}},
	{"bad ids are taken", on(store.OpLoadThread, func(m *made) {
		m.Thread.ID = cmp.Or(m.Thread.ID, "empty")
	}), []string{"ID/bad ids are ErrInvalid: LoadThread"}},
	{"a long id is cut off", on(store.OpSaveAttachment, func(m *made) {
		m.Attachment.ID = m.Attachment.ID[:min(len(m.Attachment.ID), chat.MaxIDBytes)]
	}), []string{"ID/bad ids are ErrInvalid: SaveAttachment"}},
	{"ids are at most 64 bytes", refuses(store.OpSaveAttachment, func(m *made) bool { return len(m.Attachment.ID) > 64 }),
		[]string{"ID/attachments: ids at the limits are kept"}},
	{"ids are folded", func() ops {
		fold := func(m *made) {
			if utf8.ValidString(m.Attachment.ID) {
				m.Attachment.ID = strings.ToLower(m.Attachment.ID)
			}
			m.make()
		}
		return ops{store.OpSaveAttachment: fold, store.OpLoadAttachment: fold, store.OpDeleteAttachment: fold}
	}, []string{"ID/attachments: ids that differ in a byte are two"}},
	{"a tenant without a subject is unowned", on(store.OpSaveThread, func(m *made) {
		if m.Thread.Owner.Subject == "" {
			m.Thread.Owner.Tenant = ""
		}
	}), []string{"ID/a tenant without a subject is ErrInvalid"}},
	{"subjects are trimmed", on(store.OpLoadThreads, func(m *made) {
		if o, ok := m.Query.Owner.Owner(); ok {
			o.Subject = strings.TrimSpace(o.Subject)
			m.Query.Owner = store.OwnedBy(o)
		}
	}), []string{"ID/owners that differ in a byte are two"}},
	{"short ids are refused", refuses(store.OpSaveAttachment, func(m *made) bool { return len(m.Attachment.ID) == len("atc_12345678") }),
		[]string{"Generators/generated ids can be saved"}},
}

var brokenIDs = []broken{
	{"every thread gets the same id", on(0, func(m *made) { m.Thread.ID = "thr_1" }), []string{"Generators/thread ids"}},
	{"ids of unknown kinds are empty", on(0, func(m *made) {
		if m.kind == "of_the_future" {
			m.Item.ID = ""
		}
	}), []string{"Generators/item ids of every kind"}},
	{"no id for whoever is cancelled", on(0, func(m *made) {
		if m.ctx.Err() != nil {
			m.Item.ID = ""
		}
	}), []string{"Generators/a cancelled context still gets an id"}},
}

// refuses makes calls invalid if a condition holds.
func refuses(op store.Op, bad func(m *made) bool) func() ops {
	return on(op, func(m *made) {
		if bad(m) {
			m.fail(store.CodeInvalid)
		}
	})
}

var brokenCalls = []broken{
	{"existence comes before validation", on(store.OpAddThreadItem, threadFirst), []string{"OrderOfChecks/invalid before missing: AddThreadItem"}},
	{"SaveItem looks for the thread before it validates", on(store.OpSaveItem, threadFirst), []string{"OrderOfChecks/invalid before missing: SaveItem"}},
	{"LoadThreads looks for the cursor before it validates", on(store.OpLoadThreads, func(m *made) {
		if m.Query.After != "" && m.Query.Limit < 0 {
			m.Query.Limit = 1
		}
	}), []string{"OrderOfChecks/invalid before missing: LoadThreads"}},
	{"AddThreadItem looks for the item before it validates", on(store.OpAddThreadItem, func(m *made) {
		if m.stored().Err == nil {
			m.fail(store.CodeConflict)
		}
	}), []string{"OrderOfChecks/invalid before conflict: AddThreadItem"}},
	{"ownership comes before existence", ownerFirst(store.OpSaveThread), []string{"OrderOfChecks/missing before owner: SaveThread"}},
	{"the owner of a missing attachment matters", ownerFirst(store.OpSaveAttachment), []string{"OrderOfChecks/missing before owner: SaveAttachment"}},
	{"ownership comes before validation", on(store.OpSaveThread, func(m *made) {
		old := m.stored()
		if old.Err == nil && !m.Thread.Owner.IsZero() && old.Thread.Owner != m.Thread.Owner && m.Thread.Title == "\xff" {
			m.fail(store.CodeConflict)
		}
	}), []string{"OrderOfChecks/invalid before owner: SaveThread"}},
	{"a cancelled context reads on", on(store.OpLoadItem, deaf), []string{"CancelledContext/LoadItem"}},
	{"a deadline is not heeded", on(store.OpLoadThreads, func(m *made) {
		if errors.Is(m.ctx.Err(), context.DeadlineExceeded) {
			m.ctx = context.WithoutCancel(m.ctx)
		}
	}), []string{"CancelledContext/LoadThreads"}},
	{"a cancelled write is done", on(store.OpSaveAttachment, func(m *made) {
		over := m.ctx.Err()
		deaf(m)
		m.a.Err = errors.Join(m.a.Err, over)
	}), []string{"CancelledContext/SaveAttachment"}},
	{"a cancellation is not wrapped", on(store.OpDeleteThread, func(m *made) {
		if err := m.make().Err; err != nil && errors.Is(err, m.ctx.Err()) {
			m.a.Err = errors.New("interrupted")
		}
	}), []string{"CancelledContext/DeleteThread"}},
	{"errors quote content", on(store.OpSaveThread, func(m *made) {
		if err := m.make().Err; err != nil {
			m.a.Err = fmt.Errorf("saving %q: %w", m.Thread.Title, err)
		}
	}), []string{"Errors/texts are free of content"}},
	{"a conflict names the owner", on(store.OpSaveAttachment, func(m *made) {
		err := m.make().Err
		if old := m.stored(); err != nil && old.Err == nil {
			m.a.Err = fmt.Errorf("of %s: %w", old.Attachment.Owner.Subject, err)
		}
	}), []string{"Errors/texts do not say whose a row is"}},
	{"a missing row is an error of its own", on(store.OpLoadItem, func(m *made) {
		if m.make(); m.ends(store.ErrNotFound) && errors.Is(m.thread(m.Thread.ID).Err, store.ErrNotFound) {
			m.a.Err = errors.New("sql: no rows in result set")
		}
	}), []string{"LoadItem/a missing thread is ErrNotFound"}},
	{"an error is of two classes", on(store.OpAddThreadItem, func(m *made) {
		if m.make(); m.ends(store.ErrConflict) {
			m.a.Err = fmt.Errorf("%w: %w", store.ErrNotFound, store.ErrConflict)
		}
	}), []string{
		"AddThreadItem/an equal item again is ErrConflict",
		"AddThreadItem/an existing id is ErrConflict",
		"AddThreadItem/an existing id is ErrConflict under any save mode",
	}},
	{"it panics", on(store.OpDeleteAttachment, func(m *made) {
		if strings.Contains(m.Attachment.ID, "\x00") {
			panic("NUL")
		}
	}), []string{"ID/bad ids are ErrInvalid: DeleteAttachment"}},
}

func threadFirst(m *made) {
	if t := m.thread(m.Thread.ID); errors.Is(t.Err, store.ErrNotFound) {
		m.answer(t)
	}
}

// ownerFirst makes a save of a missing row conflict if its id belongs to another owner.
func ownerFirst(op store.Op) func() ops {
	return func() ops {
		var owners memory[chat.Owner]
		return ops{op: func(m *made) {
			id, owner := m.Thread.ID+m.Attachment.ID, m.Thread.Owner
			if m.OfAttachment() {
				owner = m.Attachment.Owner
			}
			if m.make().Err == nil {
				owners.set(id, owner)
			}
			if o, ok := owners.get(id); ok && m.ends(store.ErrNotFound) && o != owner {
				m.fail(store.CodeConflict)
			}
		}}
	}
}

// hear makes the call and passes its versions to f instead of the caller.
func (m *made) hear(f func(id string, before, after uint64)) {
	m.answer(m.Make(callctx.WithVersionRecorder(m.quiet(), f), m.base))
}

var brokenVersions = []broken{
	{"the version restarts with a thread made anew", func() ops {
		var since memory[uint64]
		return ops{store.OpSaveThread: func(m *made) {
			m.hear(func(id string, before, after uint64) {
				n, _ := since.get(id)
				driver.ReportVersion(m.ctx, id, before-n, after-n)
			})
		}, store.OpDeleteThread: func(m *made) {
			m.hear(func(id string, before, after uint64) {
				since.set(id, after)
				driver.ReportVersion(m.ctx, id, before, after)
			})
		}}
	}, []string{"Version/a thread of a deleted id counts on"}},
	{"SaveItem does not count", on(store.OpSaveItem, countsNothing), []string{"Version/SaveItem counts"}},
	{"AddThreadItem does not count", on(store.OpAddThreadItem, countsNothing), []string{
		"Version/AddThreadItem counts",
		"Version/concurrent writes get one step each",
		"Version/reads report the last write's",
	}},
	{"an insert does not count", on(store.OpSaveThread, func(m *made) {
		m.hear(func(id string, before, after uint64) { driver.ReportVersion(m.ctx, id, max(before, 1), after) })
	}), []string{"Version/SaveThread counts from zero"}},
	{"DeleteThread reports nothing", on(store.OpDeleteThread, silent), []string{
		"Version/DeleteThread counts",
		"Version/a thread of a deleted id counts on",
	}},
	{"DeleteThreadItem reports nothing", on(store.OpDeleteThreadItem, silent), []string{"Version/DeleteThreadItem counts"}},
	{"LoadItem reports nothing", on(store.OpLoadItem, silent), []string{
		"IfVersion/WithVersions has the lowest version that was read",
		"Version/reads report the last write's",
	}},
	{"a refused write counts", on(store.OpAddThreadItem, func(m *made) {
		if m.make(); m.ends(store.ErrConflict) {
			_ = m.base.AddThreadItem(m.quiet(), m.Thread.ID, rows.Message("dummy", at(0), ""))
			_ = m.base.DeleteThreadItem(m.quiet(), m.Thread.ID, "dummy")
		}
	}), []string{"Version/a failed write does not count"}},
	{"one counter serves all threads", on(store.OpDeleteThread, func(m *made) {
		m.make()
		q := store.ThreadQuery{Owner: store.OwnedBy(m.caller()), PageQuery: store.PageQuery{Limit: 2}}
		rest, _ := m.base.LoadThreads(m.quiet(), q)
		for _, t := range rest.Data {
			_ = m.base.SaveThread(m.quiet(), t)
		}
	}), []string{"Version/another thread's writes do not count"}},
	{"the version is read after the rows", on(store.OpLoadThreadItems, func(m *made) {
		silent(m)
		if m.a.Err == nil {
			runtime.Gosched()
			_, _ = m.base.LoadThread(m.ctx, m.Thread.ID)
		}
	}), []string{"Version/a read's version is that of its rows"}},
	{"the version is read before the write", on(store.OpAddThreadItem, func(m *made) {
		var before uint64
		_, _ = m.base.LoadThread(callctx.WithVersionRecorder(m.ctx, func(_ string, v, _ uint64) { before = v }), m.Thread.ID)
		runtime.Gosched()
		silent(m)
		if m.a.Err == nil {
			driver.ReportVersion(m.ctx, m.Thread.ID, before, before+1)
		}
	}), []string{"Version/concurrent writes get one step each"}},
}

func countsNothing(m *made) {
	m.hear(func(id string, before, _ uint64) { driver.ReportVersion(m.ctx, id, before, before) })
}

func silent(m *made) { m.answer(m.Make(m.quiet(), m.base)) }

func deaf(m *made) {
	m.ctx = context.WithoutCancel(m.ctx)
	m.make()
}

// deafToCancellation are stores with one op that ignores its context.
func deafToCancellation() (all []broken) {
	for _, op := range []store.Op{store.OpLoadThread, store.OpSaveThread, store.OpLoadThreadItems, store.OpAddThreadItem, store.OpSaveItem,
		store.OpDeleteThreadItem, store.OpLoadAttachment, store.OpDeleteAttachment} {
		all = append(all, broken{call.Method(op) + " is deaf to cancellation", on(op, deaf), []string{"CancelledContext/" + call.Method(op)}})
	}
	return all
}

// good replaces a bad id by a valid one that no row has.
func good(id *string) {
	if rules.IDFault(*id) != "" {
		*id = "good"
	}
}

// takingBadIDs are stores with one op that accepts bad ids.
func takingBadIDs() []broken {
	goodThread := func(m *made) { good(&m.Thread.ID) }
	goodItem := func(m *made) {
		good(&m.Item.ID)
		m.make()
	}
	goodCursor := func(m *made) {
		if m.Query.After != "" {
			good(&m.Query.After)
		}
	}
	var all []broken
	for _, c := range []struct {
		leaf string
		op   store.Op
		do   func(m *made)
	}{
		{"ids are ErrInvalid: SaveThread", store.OpSaveThread, goodThread},
		{"ids are ErrInvalid: DeleteThread", store.OpDeleteThread, goodThread},
		{"ids are ErrInvalid: LoadThreadItems", store.OpLoadThreadItems, goodThread},
		{"cursors are ErrInvalid: LoadThreadItems", store.OpLoadThreadItems, goodCursor},
		{"cursors are ErrInvalid: LoadThreads", store.OpLoadThreads, goodCursor},
		{"ids are ErrInvalid: AddThreadItem, thread", store.OpAddThreadItem, goodThread},
		{"ids are ErrInvalid: AddThreadItem, item", store.OpAddThreadItem, func(m *made) {
			bad := m.Item.ID
			if goodItem(m); bad != m.Item.ID && m.a.Err == nil {
				m.a.Err = m.base.DeleteThreadItem(m.ctx, m.Thread.ID, m.Item.ID)
			}
		}},
		{"ids are ErrInvalid: SaveItem, thread", store.OpSaveItem, goodThread},
		{"ids are ErrInvalid: SaveItem, item", store.OpSaveItem, goodItem},
		{"ids are ErrInvalid: LoadItem, thread", store.OpLoadItem, goodThread},
		{"ids are ErrInvalid: DeleteThreadItem, thread", store.OpDeleteThreadItem, goodThread},
		{"ids are ErrInvalid: LoadAttachment", store.OpLoadAttachment, func(m *made) {
			good(&m.Attachment.ID)
		}},
	} {
		all = append(all, broken{"bad " + c.leaf + " not", on(c.op, c.do), []string{"ID/bad " + c.leaf}})
	}
	return append(all,
		broken{"LoadItem takes bad item ids", on(store.OpLoadItem, goodItem),
			[]string{"ID/bad ids are ErrInvalid: LoadItem, item", "OrderOfChecks/invalid before missing: LoadItem"}},
		broken{"DeleteThreadItem takes bad item ids", on(store.OpDeleteThreadItem, goodItem),
			[]string{"ID/bad ids are ErrInvalid: DeleteThreadItem, item", "OrderOfChecks/invalid before missing: DeleteThreadItem"}},
		broken{"a bad tenant or subject is good", on(store.OpSaveThread, func(m *made) {
			if m.Thread.Owner.Subject != "" {
				good(&m.Thread.Owner.Subject)
			}
		}), []string{"ID/a bad tenant or subject is ErrInvalid"}},
	)
}

// contextFirst are stores with one op that checks its context before its arguments.
func contextFirst() (all []broken) {
	first := func(m *made) {
		if err := m.ctx.Err(); err != nil {
			m.answer(call.Answer{Err: err})
		}
	}
	for _, op := range store.Ops() {
		all = append(all, broken{call.Method(op) + " looks at its context first", on(op, first), []string{"OrderOfChecks/invalid before context: " + call.Method(op)}})
	}
	return append(all,
		broken{"SaveThread looks at its context before the save mode", on(store.OpSaveThread, func(m *made) {
			if m.Mode == unknownMode {
				first(m)
				return
			}
		}), []string{"OrderOfChecks/invalid before context: SaveThread"}},
		broken{"LoadThreadItems looks at its context before the query", on(store.OpLoadThreadItems, func(m *made) {
			if rules.IDFault(m.Thread.ID) != "" {
				m.fail(store.CodeInvalid)
				return
			}
			first(m)
		}), []string{"OrderOfChecks/invalid before context: LoadThreadItems"}},
	)
}

// reencoding are stores that change the bytes of threads or of attachments.
func reencoding() (all []broken) {
	saveThread := func(m *made, f func(text string) string) {
		var out chat.Thread
		if text := m.Thread.JSON().String(); f(text) != text && out.UnmarshalJSON([]byte(f(text))) == nil {
			out.Owner = m.Thread.Owner
			m.Thread = out
		}
	}
	saveAttachment := func(m *made, f func(text string) string) {
		var out chat.Attachment
		if text := m.Attachment.JSON().String(); f(text) != text && out.UnmarshalJSON([]byte(f(text))) == nil {
			out.Owner = m.Attachment.Owner
			m.Attachment = out
		}
	}
	for _, k := range []struct {
		name string
		op   store.Op
		save func(m *made, f func(text string) string)
	}{{"a thread", store.OpSaveThread, saveThread}, {"an attachment", store.OpSaveAttachment, saveAttachment}} {
		for _, c := range []struct{ promise, old, new, leaf string }{
			{"newlines are spaces", "\n", " ", "with free key order and white space"},
			{"big integers are floats", "[12345678901234567890,", "[12345678901234567000,", "with big and odd numbers"},
			{"escapes are normalised", `\/`, `/`, "with escapes"},
			{"a repeated name is dropped", `{"a":1,"a":2,`, `{"a":2,`, "with repeated names in free-form JSON"},
			{"a long text is cut off", large, large[1:], "of 256 KiB"},
		} {
			all = append(all, broken{c.promise + " in " + k.name, on(k.op, func(m *made) {
				k.save(m, func(text string) string { return strings.ReplaceAll(text, c.old, c.new) })
			}), []string{"Payload/" + k.name + " " + c.leaf + " is kept byte for byte"}})
		}
		all = append(all, broken{"a replace compacts " + k.name, func() ops {
			var seen memory[bool]
			return ops{k.op: func(m *made) {
				defer seen.set(m.Thread.JSON().String()+m.Attachment.JSON().String(), true)
				_, again := seen.get(m.Thread.JSON().String() + m.Attachment.JSON().String())
				k.save(m, func(text string) string {
					if again {
						return strings.ReplaceAll(text, "\n", "")
					}
					return text
				})
			}}
		}, []string{"Payload/" + k.name + " with free key order and white space is kept byte for byte"}})
	}
	return all
}
