package isolate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/internal/call"
	"github.com/chatstore/chatstore/storetest/internal/report"
	"github.com/chatstore/chatstore/storetest/internal/rows"
)

// The principals of the traces. The observations of those before root are compared.
const (
	ada = iota
	bob
	otherAda
	tess
	dan
	nobody
	root
	people
)

// Those to whom a thread can be granted are the principals and these.
const (
	staffOfAcme = people + iota
	staffOfCorp
	allOfAcme
	allOfCorp
	grantees
)

// covers reports whether a grant to the grantee is one to who.
func covers(to, who int) bool {
	switch to {
	case staffOfAcme:
		return who == bob
	case staffOfCorp:
		return who == otherAda
	case allOfAcme:
		return who == ada || who == bob || who == tess || who == root
	case allOfCorp:
		return who == otherAda
	}
	return to == who
}

// staff is a role and the group of those who have it. Its members in one tenant are no members in another.
const staff = "staff"

var (
	peopleNames = [people]string{"ada", "bob", "the other ada", "tess", "dan", "nobody", "root"}

	// Each owner, in the order of principals, has two threads and one attachment.
	traceThreads     = []string{"thr_a1", "thr_a2", "thr_b1", "thr_b2", "thr_o1", "thr_o2"}
	traceAttachments = []string{"atc_a", "atc_b", "atc_o"}
	traceItems       = []string{"msg_1", "msg_2", "msg_3"} // the same in all threads
)

const (
	objects = 9 // threads first, then attachments
	notAnID = "a\nb"
)

type objectSet [objects]bool

// owned returns the objects that who may use without a grant.
func owned(who int) (own objectSet) {
	for o := range own {
		own[o] = mayAll(who, ownerOf(o))
	}
	return own
}

// mayAll reports whether who may do everything with the objects of owner.
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
	n                             int // number of the step; written rows contain it
	who, thread, item, attachment int
	with                          int // a second principal who makes the same read at once; equal to who if there is none
	op                            store.Op
	to                            int          // the grantee of a grant
	role                          sharing.Role // the new role of a grant
	names                         bool         // a saved attachment names the thread
	mode                          store.SaveMode
	odd                           oddity
	embeds                        bool
	conditional                   bool // the write is made under a version, which the caller may have guessed
	version                       uint64
	query                         store.ThreadQuery
	claims                        bool // this save makes the caller the owner of the id
}

type stepKind uint8

const (
	calling stepKind = iota
	granting
)

// oddity is the unusual part of a call.
type oddity uint8

const (
	badThreadID oddity = iota // or attachment id
	badItemID
	otherThreadsItem
	fresh
	noStore
	naming      // the save names the caller as the owner
	namingOther // the save names another principal as the owner
	oddities
)

// part is a grantee and a thread, for roles.
type part struct{ to, thread int }

func (s step) part() part { return part{s.to, s.thread} }

// edits reports whether one of the roles makes who an editor of the thread.
func edits(roles map[part]sharing.Role, who, thread int) bool {
	for to := range grantees {
		if covers(to, who) && roles[part{to, thread}] == sharing.Editor {
			return true
		}
	}
	return false
}

// object returns the object of a call or grant. ok is false for a listing and for an invalid id.
func (s step) object() (o int, ok bool) {
	if s.op == store.OpLoadThreads || s.kind == calling && s.odd == badThreadID {
		return 0, false
	}
	if s.kind == calling && !s.ofThread() {
		return len(traceThreads) + s.attachment, true
	}
	return s.thread, true
}

// owner returns the owner of the object, or -1.
func (s step) owner() int {
	if o, ok := s.object(); ok {
		return ownerOf(o)
	}
	return -1
}

func (s step) ofThread() bool { return call.Call{Op: s.op}.OfThread() }

func (s step) isRead() bool { return !s.op.IsWrite() }

// by returns the step made by who alone.
func (s step) by(who int) step {
	s.who, s.with = who, who
	return s
}

// read returns the step, or for a write a read of its thread or attachment.
func (s step) read() step {
	switch {
	case !s.op.IsWrite():
	case s.ofThread():
		s.op = store.OpLoadThread
	default:
		s.op = store.OpLoadAttachment
	}
	return s
}

// naming reports whether the call saves an attachment that names the thread.
func (s step) naming() bool { return s.kind == calling && s.op == store.OpSaveAttachment && s.names }

// takes reports whether the call tries to take the id of another owner.
func (s step) takes() bool {
	o, ok := s.object()
	return ok && s.kind == calling && (s.op == store.OpSaveThread || s.op == store.OpSaveAttachment) &&
		s.mode != store.UpdateOnly && ownerOf(o) != s.who
}

// embedded returns the attachment that the call adds to a message.
func (s step) embedded() (attachment int, ok bool) {
	return s.attachment, s.kind == calling && s.embeds && (s.op == store.OpAddThreadItem || s.op == store.OpSaveItem)
}

// A byte of a trace chooses from traceOps. 0 is a change of the grants, or a no-op.
var traceOps = append(slices.Clone(store.Ops()), store.OpSaveThread, store.OpAddThreadItem, store.OpAddThreadItem, store.OpSaveItem, 0, 0, 0, 0)

const (
	stepBytes = 8
	mostSteps = 120
	usual     = byte(oddities) << 3 // no oddity
)

func opByte(op store.Op) byte { return byte(slices.Index(traceOps, op)) }

// ownersStep returns the bytes of a call by the owner of an object, without oddities.
func ownersStep(op store.Op, object, item int) []byte {
	return []byte{byte(ownerOf(object)), byte(object), byte(item), 0, opByte(op), 1 | usual, 0, 0}
}

func saveOf(object int) store.Op {
	if object < len(traceThreads) {
		return store.OpSaveThread
	}
	return store.OpSaveAttachment
}

// parseTrace derives a trace from any data.
func parseTrace(data []byte) (trace []step) {
	var claimed objectSet
	add := func(s step) {
		s.n = len(trace)
		if o, ok := s.object(); ok && s.kind == calling && (s.op == store.OpSaveThread || s.op == store.OpSaveAttachment) && s.mode != store.UpdateOnly {
			switch {
			case claimed[o]:
			case ownerOf(o) != s.who:
				s.mode = store.UpdateOnly // an insert would take the id
			case s.odd != namingOther:
				s.claims, s.conditional, s.names, claimed[o] = true, false, false, true
			}
		}
		trace = append(trace, s)
	}
	for ; len(data) >= stepBytes && len(trace) < mostSteps; data = data[stepBytes:] {
		b := data[:stepBytes]
		s := step{who: int(b[0]) % people, thread: int(b[1]) % len(traceThreads), item: int(b[2]) % len(traceItems),
			attachment: int(b[3]) % len(traceAttachments), op: traceOps[int(b[4])%len(traceOps)]}
		if b[5]&1 != 0 && s.who < tess { // half of the calls are on the caller's own objects
			s.thread, s.attachment = 2*s.who+s.thread%2, s.who
		}
		s.mode = []store.SaveMode{store.Upsert, store.InsertOnly, store.UpdateOnly, store.Upsert}[b[5]>>1%4]
		s.odd = min(oddity(b[5]>>3), oddities)
		if s.with = s.who; s.op != 0 && s.isRead() && b[2]>>6 == 0 {
			s.with = int(b[3]) >> 4 % people
		}
		s.embeds, s.names = b[6]&1 != 0, b[6]&3 == 3
		s.conditional, s.version = s.op.IsWrite() && b[7]&7 == 7, uint64(b[7]>>3%8)
		s.query = traceQuery(s.op, b[6], b[7])
		switch {
		case s.op != 0:
			add(s)
		case b[6]%4 != 3 && s.who != nobody && !owned(s.who)[s.thread]:
			to := s.who
			if b[3]%4 == 3 { // a group of the owner's tenant, or a tenant
				group := staffOfAcme
				if ownerOf(s.thread) == otherAda {
					group = staffOfCorp
				}
				to = []int{group, allOfAcme, allOfCorp}[b[3]>>2%3]
			}
			add(step{kind: granting, odd: oddities, to: to, thread: s.thread, role: sharing.Role(b[6] % 4)}.by(s.who))
			s.op, s.odd = store.OpLoadThread, oddities // immediately after the grant
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

// stage has the ids and owners of one play of a trace. They end in a tag, which observations leave out.
type stage struct {
	tag        string
	principals [people]store.Principal
}

func newStage(tag string) *stage {
	acme, corp := "acme"+tag, "corp"+tag
	return &stage{tag, [people]store.Principal{
		ada:      {Owner: chat.Owner{Tenant: acme, Subject: "ada"}},
		bob:      {Owner: chat.Owner{Tenant: acme, Subject: "bob"}, Roles: []string{staff}},
		otherAda: {Owner: chat.Owner{Tenant: corp, Subject: "ada"}, Roles: []string{staff}},
		dan:      {Owner: chat.Owner{Subject: "dan" + tag}, Roles: []string{staff}},
		tess:     {Owner: chat.Owner{Tenant: acme, Subject: "tess"}, Roles: []string{"tenant_admin"}},
		root:     {Owner: chat.Owner{Tenant: acme, Subject: "root"}, Roles: []string{"admin"}},
	}}
}

func (w *stage) threadID(i int) string     { return traceThreads[i] + w.tag }
func (w *stage) attachmentID(i int) string { return traceAttachments[i] + w.tag }

// grantee returns those whom covers knows by the number.
func (w *stage) grantee(to int) sharing.Grantee {
	switch to {
	case staffOfAcme:
		return sharing.Grantee{Tenant: w.principals[ada].Owner.Tenant, Group: staff}
	case staffOfCorp:
		return sharing.Grantee{Tenant: w.principals[otherAda].Owner.Tenant, Group: staff}
	case allOfAcme:
		return sharing.Grantee{Tenant: w.principals[ada].Owner.Tenant}
	case allOfCorp:
		return sharing.Grantee{Tenant: w.principals[otherAda].Owner.Tenant}
	}
	return sharing.Grantee{Tenant: w.principals[to].Owner.Tenant, Subject: w.principals[to].Owner.Subject}
}

// filter returns the filter with this stage's owners.
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

// call returns the call of a step.
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
	if s.conditional {
		c.IfThread, c.IfVersion = w.threadID(s.thread), s.version
	}
	c.Thread.ID, c.Item.ID, c.Attachment.ID = threadID, itemID, attachmentID
	switch s.op {
	case store.OpSaveThread:
		c.Thread = chat.Thread{ID: threadID, Title: fmt.Sprint(s.n, " of ", threadID), CreatedAt: rows.At(s.n % 3), Owner: w.named(s)}
	case store.OpAddThreadItem, store.OpSaveItem:
		c.Item = w.message(s, itemID, attachmentID)
	case store.OpSaveAttachment:
		c.Attachment = rows.Attachment(attachmentID, fmt.Sprint(s.n, " of ", attachmentID))
		c.Attachment.Owner = w.named(s)
		if s.naming() {
			c.Attachment.ThreadID = threadID
		}
	}
	return c
}

// do makes the call of a step.
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

// untagged returns a text without this stage's tag.
func (w *stage) untagged(text string) string { return strings.ReplaceAll(text, w.tag, "") }

// other returns the principal that a save with namingOther names.
func (s step) other() int { return (s.who + 1) % tess }

// named returns the owner that the call names.
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

// taken makes saves under all ids that the trace has used, by every principal who must not know that they are used. Each must
// conflict and change nothing.
func (p *play) taken(ctx context.Context, trace []step) (wrong string) {
	for _, first := range trace {
		if !first.claims {
			continue
		}
		o, _ := first.object()
		load := step{op: store.OpLoadThread, thread: o, odd: oddities}
		if !first.ofThread() {
			load = step{op: store.OpLoadAttachment, attachment: first.attachment, odd: oddities}
		}
		was := p.do(ctx, p.base, load)
		for who := range nobody {
			save := first
			save = save.by(who)
			save.n, save.mode = first.n+who, store.SaveMode((first.n+who)%2) // Upsert or InsertOnly
			save.odd, save.names = []oddity{naming, oddities}[who%2], false
			if owned(who)[o] || p.part(ctx, save) {
				continue
			}
			got := p.do(ctx, p.stack, save)
			if now := p.do(ctx, p.base, load); got.code != store.CodeConflict || now != was {
				return fmt.Sprintf("after the trace, %s makes the call %s; that id is taken:\n  got %s, want store.ErrConflict\n  the base had %s\n  and now has  %s",
					peopleNames[who], save, got, was, now)
			}
		}
	}
	return ""
}

var roleNames = map[sharing.Role]string{sharing.Viewer: "viewer", sharing.Editor: "editor"}

func (s step) String() string {
	who, thread := peopleNames[s.who], traceThreads[s.thread]
	switch {
	case s.kind == granting && s.role == sharing.NoRole:
		return fmt.Sprintf("%v no longer has a role in %s", newStage("").grantee(s.to), thread)
	case s.kind == granting:
		return fmt.Sprintf("%v gets the role %s in %s", newStage("").grantee(s.to), roleNames[s.role], thread)
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
	if s.naming() {
		text += ", in " + thread
	}
	return text
}
