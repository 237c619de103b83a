package isolate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/internal/call"
	"github.com/chatstore/chatstore/storetest/internal/report"
	"github.com/chatstore/chatstore/storetest/internal/rows"
)

// The people of the traces. Those before root are compared.
const (
	ada = iota
	bob
	otherAda
	tess
	nobody
	root
	people
)

var (
	peopleNames = [people]string{"ada", "bob", "the other ada", "tess", "nobody", "root"}

	// Two threads of each owner, in the order of people, and one attachment.
	traceThreads     = []string{"thr_a1", "thr_a2", "thr_b1", "thr_b2", "thr_o1", "thr_o2"}
	traceAttachments = []string{"atc_a", "atc_b", "atc_o"}
	traceItems       = []string{"msg_1", "msg_2", "msg_3"} // the same in all threads
)

const (
	objects = 9 // the threads, then the attachments
	notAnID = "a\nb"
)

type objectSet [objects]bool

// owned returns what is who's by what they are, not by a part given to them.
func owned(who int) (own objectSet) {
	for o := range own {
		own[o] = mayAll(who, ownerOf(o))
	}
	return own
}

// mayAll reports whether who may do everything with what is owner's.
func mayAll(who, owner int) bool {
	return who == owner || who == root || who == tess && owner != otherAda
}

func ownerOf(object int) int {
	if object < len(traceThreads) {
		return object / 2
	}
	return object - len(traceThreads)
}

// step is one call, one change of the grants, or a wait.
type step struct {
	kind                          stepKind
	n                             int // of the step: what is written
	who, thread, item, attachment int
	with                          int // who makes the same read at once; alone, if it is who
	op                            store.Op
	role                          string // of granting: what who is made of the thread
	mode                          store.SaveMode
	odd                           oddity
	embeds                        bool
	query                         store.ThreadQuery
	claims                        bool // the id is the caller's from here on
}

type stepKind uint8

const (
	calling stepKind = iota
	granting
)

// oddity is what is unusual in a call.
type oddity uint8

const (
	badThreadID oddity = iota // or attachment id
	badItemID
	otherThreadsItem
	fresh
	noStore
	naming      // oneself the owner
	namingOther // the owner
	oddities
)

// part names who has a part in which thread.
type part struct{ who, thread int }

func (s step) part() part { return part{s.who, s.thread} }

// object is what a call or grant is about; !ok: a listing, or an id that is none.
func (s step) object() (o int, ok bool) {
	if s.op == store.OpLoadThreads || s.kind == calling && s.odd == badThreadID {
		return 0, false
	}
	if s.kind == calling && !s.ofThread() {
		return len(traceThreads) + s.attachment, true
	}
	return s.thread, true
}

// owner is whose the object is; nobody's is -1.
func (s step) owner() int {
	if o, ok := s.object(); ok {
		return ownerOf(o)
	}
	return -1
}

func (s step) ofThread() bool { return call.Call{Op: s.op}.OfThread() }

func (s step) isRead() bool { return !s.op.IsWrite() }

// by is the step as one of the two makes it, or for it to be made alone.
func (s step) by(who int) step {
	s.who, s.with = who, who
	return s
}

// read is the step, or a look at its thread in place of a write.
func (s step) read() step {
	if s.op.IsWrite() {
		s.op = store.OpLoadThread
	}
	return s
}

// takes reports whether the call would take the id of another.
func (s step) takes() bool {
	o, ok := s.object()
	return ok && s.kind == calling && (s.op == store.OpSaveThread || s.op == store.OpSaveAttachment) &&
		s.mode != store.UpdateOnly && ownerOf(o) != s.who
}

// embedded is the attachment that the call adds to a thread.
func (s step) embedded() (attachment int, ok bool) {
	return s.attachment, s.kind == calling && s.embeds && (s.op == store.OpAddThreadItem || s.op == store.OpSaveItem)
}

// A byte of a trace chooses from traceOps. 0 is a change of the grants, or a wait.
var traceOps = append(slices.Clone(store.Ops()), store.OpSaveThread, store.OpAddThreadItem, store.OpAddThreadItem, store.OpSaveItem, 0, 0, 0, 0)

const (
	stepBytes = 8
	mostSteps = 120
	usual     = byte(oddities) << 3 // nothing odd
)

func opByte(op store.Op) byte { return byte(slices.Index(traceOps, op)) }

// ownersStep is a call of the owner of an object, with nothing odd.
func ownersStep(op store.Op, object, item int) []byte {
	return []byte{byte(ownerOf(object)), byte(object), byte(item), 0, opByte(op), 1 | usual, 0, 0}
}

func saveOf(object int) store.Op {
	if object < len(traceThreads) {
		return store.OpSaveThread
	}
	return store.OpSaveAttachment
}

// parseTrace makes a trace of any data.
func parseTrace(data []byte) (trace []step) {
	var claimed objectSet
	add := func(s step) {
		s.n = len(trace)
		if o, ok := s.object(); ok && s.kind == calling && (s.op == store.OpSaveThread || s.op == store.OpSaveAttachment) && s.mode != store.UpdateOnly {
			switch {
			case claimed[o]:
			case ownerOf(o) != s.who:
				s.mode = store.UpdateOnly // or it would be theirs
			case s.odd != namingOther:
				s.claims, claimed[o] = true, true
			}
		}
		trace = append(trace, s)
	}
	for ; len(data) >= stepBytes && len(trace) < mostSteps; data = data[stepBytes:] {
		b := data[:stepBytes]
		s := step{who: int(b[0]) % people, thread: int(b[1]) % len(traceThreads), item: int(b[2]) % len(traceItems),
			attachment: int(b[3]) % len(traceAttachments), op: traceOps[int(b[4])%len(traceOps)]}
		if b[5]&1 != 0 && s.who < tess { // one's own, half of the time
			s.thread, s.attachment = 2*s.who+s.thread%2, s.who
		}
		s.mode = []store.SaveMode{store.Upsert, store.InsertOnly, store.UpdateOnly, store.Upsert}[b[5]>>1%4]
		s.odd = min(oddity(b[5]>>3), oddities)
		if s.with = s.who; s.op != 0 && s.isRead() && b[2]>>6 == 0 {
			s.with = int(b[3]) >> 4 % people
		}
		s.embeds = b[6]&1 != 0
		s.query = traceQuery(s.op, b[6], b[7])
		switch {
		case s.op != 0:
			add(s)
		case b[6]%4 != 3 && s.who != nobody && !owned(s.who)[s.thread]:
			add(step{kind: granting, odd: oddities, who: s.who, thread: s.thread, role: []string{"", "viewer", "editor"}[b[6]%4]}.by(s.who))
			s.op, s.odd = store.OpLoadThread, oddities // at once
			add(s)
		}
	}
	return trace
}

func traceQuery(op store.Op, a, b byte) (q store.ThreadQuery) {
	q.Limit, q.Order = []int{1, 2, 3, 1, 2, 3, 0, -1}[a%8], store.Order(a>>3%2)
	if a>>4%2 == 0 {
		cursors := append(slices.Clone(traceItems), traceThreads[0], notAnID)
		if op == store.OpLoadThreads {
			cursors = append(slices.Clone(traceThreads), traceItems[0], notAnID)
		}
		q.After = cursors[int(b)%len(cursors)]
	}
	switch b >> 5 {
	case 0, 1, 2:
	case 3:
		q.Owner = store.AnyOwner()
	case 4:
		q.Owner = store.InTenant("acme")
	default:
		q.Owner = store.OwnedBy(newStage("").principals[int(b)%people].Owner)
	}
	return q
}

// stage is where one play of a trace takes place. Its ids and owners end in a tag, which is not observed.
type stage struct {
	tag        string
	principals [people]store.Principal
}

func newStage(tag string) *stage {
	acme, corp := "acme"+tag, "corp"+tag
	return &stage{tag, [people]store.Principal{
		ada:      {Owner: chat.Owner{Tenant: acme, Subject: "ada"}},
		bob:      {Owner: chat.Owner{Tenant: acme, Subject: "bob"}},
		otherAda: {Owner: chat.Owner{Tenant: corp, Subject: "ada"}},
		tess:     {Owner: chat.Owner{Tenant: acme, Subject: "tess"}, Roles: []string{"tenant_admin"}},
		root:     {Owner: chat.Owner{Tenant: acme, Subject: "root"}, Roles: []string{"admin"}},
	}}
}

func (w *stage) threadID(i int) string     { return traceThreads[i] + w.tag }
func (w *stage) attachmentID(i int) string { return traceAttachments[i] + w.tag }

func (w *stage) grant(s step) grant { return grant{w.principals[s.who].Owner, w.threadID(s.thread)} }

// filter is the filter of this stage's owners.
func (w *stage) filter(f store.OwnerFilter) store.OwnerFilter {
	if o, ok := f.Owner(); ok {
		o.Tenant += w.tag
		return store.OwnedBy(o)
	}
	if tenant, ok := f.Tenant(); ok {
		return store.InTenant(tenant + w.tag)
	}
	return f
}

// call is the call of a step.
func (w *stage) call(s step) call.Call {
	c := call.Call{Op: s.op, By: w.principals[s.who], Mode: s.mode, Fresh: s.odd == fresh, NoStore: s.odd == noStore, Query: s.query}
	threadID, itemID, attachmentID := w.threadID(s.thread), traceItems[s.item], w.attachmentID(s.attachment)
	switch s.odd {
	case badThreadID:
		threadID, attachmentID = notAnID, notAnID
	case badItemID:
		itemID = notAnID
	}
	if slices.Contains(traceThreads, c.Query.After) {
		c.Query.After += w.tag
	}
	c.Query.Owner = w.filter(c.Query.Owner)
	c.Thread.ID, c.Item.ID, c.Attachment.ID = threadID, itemID, attachmentID
	switch s.op {
	case store.OpSaveThread:
		c.Thread = chat.Thread{ID: threadID, Title: fmt.Sprint(s.n, " of ", threadID), CreatedAt: rows.At(s.n % 3), Owner: w.named(s)}
	case store.OpAddThreadItem, store.OpSaveItem:
		c.Item = w.message(s, itemID, attachmentID)
	case store.OpSaveAttachment:
		c.Attachment = rows.Attachment(attachmentID, fmt.Sprint(s.n, " of ", attachmentID))
		c.Attachment.Owner = w.named(s)
	}
	return c
}

// do makes the call.
func (w *stage) do(ctx context.Context, on store.Store, s step) observation {
	c := w.call(s)
	var versions strings.Builder
	ctx = callctx.WithVersionRecorder(c.Context(ctx), func(id string, before, after uint64) {
		fmt.Fprintf(&versions, ", version of %s %d %d", id, before, after)
	})
	a := c.Make(ctx, on)
	o := observation{step: s, text: strings.Join(a.Rows(), " "), versions: w.untagged(versions.String()), code: a.Code}
	switch {
	case a.Err != nil:
		o.text += a.Err.Error()
		o.causes = w.untagged(report.Error(a.Err))
	case s.op == store.OpLoadThreads, s.op == store.OpLoadThreadItems:
		o.edges = w.untagged(a.Edges())
	case s.isRead() && o.text == "":
		o.text = "an empty row"
	}
	o.text = w.untagged(o.text)
	return o
}

// untagged is a text without this stage's tag.
func (w *stage) untagged(text string) string { return strings.ReplaceAll(text, w.tag, "") }

// other is who is named for the owner where that is another.
func (s step) other() int { return (s.who + 1) % tess }

// named is the owner that the caller names.
func (w *stage) named(s step) chat.Owner {
	switch s.odd {
	case naming:
		return w.principals[s.who].Owner
	case namingOther:
		return w.principals[s.other()].Owner
	}
	return chat.Owner{}
}

func (w *stage) message(s step, id, attachmentID string) chat.Item {
	body := chat.UserMessage{Content: []chat.UserContent{{Text: fmt.Sprint(s.n, " in ", w.threadID(s.thread))}}}
	if s.embeds && attachmentID != notAnID {
		body.Attachments = []chat.Attachment{rows.Attachment(attachmentID, "embedded")}
	}
	it := rows.Item(id, rows.At(s.n%3), body)
	if s.odd == otherThreadsItem {
		it.ThreadID = w.threadID((s.thread + 1) % len(traceThreads))
	}
	return it
}

// taken has everybody save under the ids of others that the trace has saved under, but for those who may.
func (w *stage) taken(ctx context.Context, s, base store.Store, trace []step, g *Grants) (wrong string) {
	for _, first := range trace {
		if !first.claims {
			continue
		}
		o, _ := first.object()
		load := step{op: store.OpLoadThread, thread: o, odd: oddities}
		if !first.ofThread() {
			load = step{op: store.OpLoadAttachment, attachment: first.attachment, odd: oddities}
		}
		was := w.do(ctx, base, load)
		for who := range nobody {
			save := first
			save = save.by(who)
			save.n, save.mode = first.n+who, store.SaveMode((first.n+who)%2) // Upsert or InsertOnly
			save.odd = []oddity{naming, oddities}[who%2]
			if owned(who)[o] || first.ofThread() && g.roles[w.grant(save)] != "" {
				continue
			}
			got := w.do(ctx, s, save)
			if now := w.do(ctx, base, load); got.code != store.CodeConflict || now != was {
				return fmt.Sprintf("after the trace, %s makes the call %s; that id is taken:\n  got %s, want a conflict\n  the base had %s\n  and now has  %s",
					peopleNames[who], save, got, was, now)
			}
		}
	}
	return ""
}

func (s step) String() string {
	who, thread := peopleNames[s.who], traceThreads[s.thread]
	switch {
	case s.kind == granting && s.role == "":
		return fmt.Sprintf("%s no longer has a part in %s", who, thread)
	case s.kind == granting:
		return fmt.Sprintf("%s is made %s of %s", who, s.role, thread)
	}
	if s.with != s.who {
		who += " and " + peopleNames[s.with] + ", at once"
	}
	c := newStage("").call(s)
	c.By = store.Principal{}
	text := who + ": " + c.String()
	if a, ok := s.embedded(); ok {
		text += ", with " + traceAttachments[a]
	}
	return text
}
