package storetest

import (
	"math"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/rules"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/internal/call"
	"github.com/chatstore/chatstore/storetest/internal/rows"
)

func pick[T any](rt *rapid.T, from ...T) T { return rapid.SampledFrom(from).Draw(rt, "") }

// once is true in one of n cases.
func once(rt *rapid.T, n int) bool { return rapid.IntRange(1, n).Draw(rt, "") == n }

// drawn is a call with a short GoString, because fail prints the calls itself.
type drawn struct{ call.Call }

// GoString is the text that rapid prints.
func (d drawn) GoString() string { return d.Op.String() }

// call is a generator of calls.
func (q *sequence) call() *rapid.Generator[drawn] {
	return rapid.Custom(func(rt *rapid.T) drawn {
		return drawn{drawing{sequence: q, rt: rt, odd: once(rt, 4)}.call(pick(rt, randomOps...))}
	})
}

// drawing draws one call. An odd call may have invalid arguments or a context that is over. Often it has both, because the
// order of these checks is part of the contract.
type drawing struct {
	*sequence
	rt  *rapid.T
	odd bool
}

var randomOps = []store.Op{
	store.OpLoadThreadItems, store.OpLoadThreadItems, store.OpLoadThreadItems, store.OpLoadThreadItems, store.OpLoadThread,
	store.OpLoadItem, store.OpLoadItem, store.OpLoadThreads, store.OpLoadThreads,
	store.OpAddThreadItem, store.OpAddThreadItem, store.OpAddThreadItem, store.OpSaveItem, store.OpSaveItem, store.OpSaveItem,
	store.OpDeleteThreadItem, store.OpDeleteThreadItem, store.OpSaveThread, store.OpSaveThread, store.OpDeleteThread,
	store.OpSaveAttachment, store.OpSaveAttachment, store.OpLoadAttachment, store.OpLoadAttachment, store.OpDeleteAttachment,
}

func (d drawing) call(op store.Op) call.Call {
	c := call.Call{Op: op}
	switch op {
	case store.OpLoadThreads:
		c.Query.PageQuery = d.page(d.threadIDs)
		c.By.Owner, c.Query.Owner = d.listing()
	case store.OpSaveAttachment, store.OpLoadAttachment, store.OpDeleteAttachment:
		id := d.id(d.attachmentIDs)
		c.By.Owner = d.caller(d.attachmentIDs, id)
		c.Attachment.ID = id
		if op == store.OpSaveAttachment {
			c.Attachment = d.attachment(id, c.By.Owner)
		}
	default:
		id := d.id(d.threadIDs)
		if !d.model.Threads[id].Exists && once(d.rt, 2) {
			op = store.OpSaveThread // a missing thread allows little else
		}
		c.Op, c.By.Owner, c.Thread.ID = op, d.caller(d.threadIDs, id), id
		switch op {
		case store.OpSaveThread:
			c.Thread = d.thread(id, c.By.Owner)
		case store.OpAddThreadItem, store.OpSaveItem:
			c.Item = d.item(id, d.id(d.itemIDs))
		case store.OpLoadItem, store.OpDeleteThreadItem:
			c.Item.ID = d.id(d.itemIDs)
		case store.OpLoadThreadItems:
			c.Query.PageQuery = d.page(d.itemIDs)
		}
	}
	switch op {
	case store.OpSaveThread, store.OpSaveItem, store.OpSaveAttachment, store.OpAddThreadItem:
		if once(d.rt, 3) {
			c.Mode = pick(d.rt, store.InsertOnly, store.UpdateOnly)
		}
		if op != store.OpAddThreadItem && d.odd && once(d.rt, 3) {
			c.Mode = unknownMode
		}
	}
	if !op.IsWrite() {
		c.Fresh, c.NoStore = once(d.rt, 10), once(d.rt, 10)
	}
	if d.odd && once(d.rt, 2) {
		c.End = pick(d.rt, call.Cancelled, call.Late)
	}
	// Reads ignore a condition. Layers above a Store without versions do not know that it must refuse, and may answer first.
	if (d.reports || d.silent && !d.model.Guarded && c.End == call.Live) && once(d.rt, 5) {
		c.IfThread, c.IfVersion = d.condition(c.Thread.ID)
	}
	return c
}

// condition draws a condition: mostly the thread's version, but also another version or another thread.
func (d drawing) condition(threadID string) (of string, version uint64) {
	if threadID == "" || d.odd && once(d.rt, 3) {
		threadID = pick(d.rt, d.threadIDs...)
	}
	v := d.model.Threads[threadID].Version
	return threadID, pick(d.rt, v, v, v, v-1, v+1, 0)
}

// id draws one of the ids. In an odd call it may be an invalid id.
func (d drawing) id(from []string) string {
	if d.odd && once(d.rt, 3) {
		return pick(d.rt, badIDs...).id
	}
	return pick(d.rt, from...)
}

// caller draws the caller. Behind a guard it is always the owner, because the guard decides what others may do.
func (d drawing) caller(ids []string, id string) chat.Owner {
	if d.model.Guarded {
		return d.ownerOf(ids, id)
	}
	if once(d.rt, 2) {
		return pick(d.rt, d.owners...)
	}
	if t := d.model.Threads[id]; t.Used {
		return t.Owner
	}
	return d.model.Attachments[id].Owner
}

// listing draws a caller and the owner filter of a listing.
func (d drawing) listing() (chat.Owner, store.OwnerFilter) {
	by := pick(d.rt, d.owners...)
	if d.odd && once(d.rt, 3) {
		return by, pick(d.rt, store.OwnedBy(chat.Owner{Tenant: "t"}), store.OwnedBy(chat.Owner{Subject: "a\nb"}), store.InTenant("\xff"))
	}
	if d.model.Guarded {
		return by, pick(d.rt, store.OwnerFilter{}, store.OwnedBy(by))
	}
	filters := []store.OwnerFilter{store.InTenant(d.owners[0].Tenant)}
	for _, o := range d.owners {
		if !o.IsZero() {
			filters = append(filters, store.OwnedBy(o))
		}
	}
	ours := len(filters)
	filters = append(filters, store.OwnerFilter{}, store.AnyOwner(), store.InTenant(""))
	// The drawn values must not depend on rows that the Store held before. Otherwise a failure could not be repeated.
	i := rapid.IntRange(0, len(filters)-1).Draw(d.rt, "")
	if !d.empty && i >= ours {
		i = 0
	}
	return by, filters[i]
}

func (d drawing) page(cursors []string) store.PageQuery {
	limits := []int{0, 1, 2, 3, 4, 5, 6, 10, 20, 24, 50, 1000, 1001, math.MaxInt}
	if d.calm {
		limits = limits[:4]
	}
	q := store.PageQuery{Limit: pick(d.rt, limits...), Order: pick(d.rt, store.OldestFirst, store.NewestFirst)}
	if once(d.rt, 2) {
		q.After = d.id(cursors)
	}
	if d.odd && once(d.rt, 3) {
		q.Limit = pick(d.rt, -1, math.MinInt)
	}
	if d.odd && once(d.rt, 6) {
		q.Order = store.OldestFirst + 1
	}
	return q
}

// time draws one of a few times, so that many are equal. Some are equal only in UTC, or once they are cut to microseconds.
func (d drawing) time() time.Time {
	if d.odd && once(d.rt, 3) {
		return pick(d.rt, time.Time{}, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(0, 12, 31, 0, 0, 0, 0, time.UTC))
	}
	if once(d.rt, 20) {
		return pick(d.rt, time.Date(1969, 7, 20, 20, 17, 40, 999, time.UTC), time.Date(1, 1, 1, 0, 0, 0, 1e3, time.UTC),
			time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC))
	}
	t := rows.At(rapid.IntRange(0, 3).Draw(d.rt, "")).Add(pick[time.Duration](d.rt, 0, 0, 0, 999, 1000, 1001, 123456789))
	if once(d.rt, 10) {
		t = t.In(time.FixedZone("", -(9*3600 + 1800)))
	}
	return t
}

// content is part of saved rows. No error may contain it.
const content = "no error has this"

// owner draws the owner that a save names.
func (d drawing) owner(caller chat.Owner) chat.Owner {
	if d.odd && once(d.rt, 3) {
		return pick(d.rt, chat.Owner{Tenant: "t"}, chat.Owner{Subject: "a\nb"}, chat.Owner{Tenant: "\xff", Subject: "s"})
	}
	if once(d.rt, 4) {
		return chat.Owner{}
	}
	return caller
}

// fill puts the ids that are valid into one of the suite's texts.
func fill(text, thread, item, attachment string) string {
	ok := func(id string) string {
		if rules.IDFault(id) != "" {
			return "bad"
		}
		return id
	}
	return strings.NewReplacer("THREAD", ok(thread), "ITEM", ok(item), "ATTACHMENT", ok(attachment)).Replace(text)
}

// parse parses one of the suite's texts. Package chat must accept it.
func parse[T any](rt *rapid.T, parse func(string) (T, error), text string) T {
	v, err := parse(text)
	if err != nil {
		rt.Fatalf("package chat refuses %s: %v", text, err)
	}
	return v
}

// These texts come in addition to those of the SDKs. A missing date is set. No other byte changes.
var (
	threadTexts = append([]string{`{}`, pythonThread, nodeThread,
		" { \"status\" :{ \"type\":\"locked\", \"more\":1 },\n\t\"new\":[ 1.0 ], \"id\":\"THREAD\", \"created_at\":\"2026-01-02T03:04:05Z\" } "},
		eachFreeForm(`{"id":"THREAD","created_at":"2026-01-02T03:04:05Z","status":{"type":"active"},"metadata":{"content":FREE}}`)...)
	itemTexts = slices.Concat([]string{`{"type":"end_of_turn"}`}, variants, []string{pythonItem, nodeItem,
		" { \"type\":\"new.kind\",\n\t\"x\" : [1.0, null], \"id\":\"ITEM\", \"thread_id\":\"THREAD\", \"created_at\":\"2026-01-02T03:04:05Z\" } "},
		eachFreeForm(`{"id":"ITEM","thread_id":"THREAD","created_at":"2026-01-02T03:04:05Z","type":"hidden_context_item","content":FREE}`))
	itemTextsWithoutAttachments = slices.DeleteFunc(slices.Clone(itemTexts), func(text string) bool { return strings.Contains(text, "ATTACHMENT") })
	attachmentTexts             = append([]string{pythonAttachment, nodeAttachment, ` {"type":"file", "x":1.0,` + "\n" + `"y" : null}`},
		eachFreeForm(`{"id":"ATTACHMENT","type":"file","name":"a.txt","mime_type":"text/plain","metadata":{"content":FREE}}`)...)
)

func eachFreeForm(text string) []string {
	var all []string
	for _, f := range freeForm {
		all = append(all, strings.Replace(text, "FREE", f.text, 1))
	}
	return all
}

// thread draws a row to save. Often it is the stored row, unchanged or with one field set, as a server would save it.
func (d drawing) thread(id string, by chat.Owner) chat.Thread {
	var t chat.Thread
	old := d.model.Threads[id]
	if old.Exists && once(d.rt, 2) {
		t = old.Row
	} else {
		t = parse(d.rt, chat.ParseThread[string], fill(pick(d.rt, threadTexts...), id, "", ""))
	}
	t.ID, t.Owner = id, d.owner(by)
	if t.CreatedAt.IsZero() || once(d.rt, 2) {
		t.CreatedAt = d.time()
	}
	if once(d.rt, 3) {
		t.Title = pick(d.rt, "", content, "b\u2028\"\\")
	}
	if once(d.rt, 6) {
		t.Status = chat.Status{Type: "closed", Reason: content}
	}
	if once(d.rt, 6) {
		t.AllowedImageDomains = parse(d.rt, chat.ParseJSON[string], pick(d.rt, `["example.com"]`, `[ "a.example" ]`, `null`))
	}
	if d.odd && once(d.rt, 2) {
		switch pick(d.rt, 1, 2, 3) {
		case 1:
			t.Title = "\xff"
		case 2:
			t.Metadata = parse(d.rt, chat.ParseJSON[string], `[1]`)
		default:
			t.Status.Type = content
		}
	}
	return t
}

// item draws a row to save, as thread does.
func (d drawing) item(threadID, id string) chat.Item {
	if d.odd && once(d.rt, 4) {
		return chat.Item{ID: id, CreatedAt: d.time()} // has no payload
	}
	var it chat.Item
	if old, err := d.model.Threads[threadID].Item(id); err == nil && once(d.rt, 2) {
		it = old
	} else {
		texts := itemTexts
		if d.model.Guarded { // the guard decides which attachments a message may have
			texts = itemTextsWithoutAttachments
		}
		it = parse(d.rt, chat.ParseItem[string], fill(pick(d.rt, texts...), threadID, id, d.attachmentIDs[0]))
	}
	it.ID = id
	if it.CreatedAt.IsZero() || once(d.rt, 2) {
		it.CreatedAt = d.time()
	}
	if once(d.rt, 4) {
		it.ThreadID = ""
	}
	if d.odd && once(d.rt, 4) {
		it.ThreadID = d.id(d.threadIDs)
	}
	return it
}

// attachment draws a row to save, as thread does.
func (d drawing) attachment(id string, by chat.Owner) chat.Attachment {
	if d.odd && once(d.rt, 4) {
		return chat.Attachment{ID: id, Owner: by} // has no payload
	}
	var a chat.Attachment
	if old := d.model.Attachments[id]; old.Exists && once(d.rt, 2) {
		a = old.Row
	} else {
		a = parse(d.rt, chat.ParseAttachment[string], fill(pick(d.rt, attachmentTexts...), "", "", id))
	}
	a.ID, a.Owner = id, d.owner(by)
	if once(d.rt, 3) {
		a.ThreadID = pick(d.rt, append([]string{""}, d.threadIDs...)...)
	}
	return a
}
