package store

import (
	"context"
	"errors"
	"unicode"
	"unicode/utf8"
)

// The checks of the contract, once for all. Every backend and layer calls them first, in this order: CheckID or Normalize…,
// CheckSaveMode, CheckContext. What they return is an [*Error] with CodeInvalid, unless said otherwise, whose Field is
// constant text.

// MaxIDBytes is the most bytes that an id, a tenant or a subject may have.
const MaxIDBytes = 256

// maxTypeBytes is the most bytes that an item's type may have.
const maxTypeBytes = 64

// CheckContext returns nil while ctx is not done, and otherwise an error that [CodeOf] calls canceled or timeout, and that
// wraps the context's error, its cause, and [ErrNotApplied]: it is called before anything is done.
func CheckContext(ctx context.Context, op Op, kind, id string) error {
	err := ctx.Err()
	if err == nil {
		return nil
	}
	e := &Error{Op: op, Kind: kind, ID: id, Code: CodeCanceled}
	if errors.Is(err, context.DeadlineExceeded) {
		e.Code = CodeTimeout
	}
	if cause := context.Cause(ctx); cause != nil && cause != err {
		e.Cause = errors.Join(err, ErrNotApplied, cause)
	} else {
		e.Cause = errors.Join(err, ErrNotApplied)
	}
	return e
}

// CheckID refuses an id of a row that is not 1 to [MaxIDBytes] bytes of valid UTF-8 without control characters. kind is
// [KindOfThread], [KindOfItem] or [KindOfAttachment].
func CheckID(op Op, kind, id string) error {
	if fault := idFault(id); fault != "" {
		return refuse(op, kind, id, under("id", fault))
	}
	return nil
}

// CheckSaveMode refuses a [SaveMode] that there is none of.
func CheckSaveMode(ctx context.Context, op Op, kind, id string) error {
	if SaveModeFrom(ctx) > UpdateOnly {
		return refuse(op, kind, id, "save mode: unknown")
	}
	return nil
}

// NormalizeThread checks the thread and returns it as it is stored and read back: times in UTC and cut to microseconds,
// the zero Status as active, and its JSON final. It is no work, and no allocation, for a thread that is so already.
func NormalizeThread(op Op, t Thread) (Thread, error) {
	fail := func(fault string) (Thread, error) { return Thread{}, refuse(op, KindOfThread, t.ID, fault) }
	if fault := ownerFault(t.Owner); fault != "" {
		return fail(fault)
	}
	if t.doc == nil || !t.agrees() {
		fault := firstOf(under("id", idFault(t.ID)), under("title", utf8Fault(t.Title)), timeFault(t.CreatedAt),
			t.Status.fault(), domainsFault(t.AllowedImageDomains), metadataFault(t.Metadata))
		if fault != "" {
			return fail(fault)
		}
		d, fault := parseThreadDoc(t.JSON().s)
		if fault != "" {
			return fail(fault)
		}
		t.doc = d
	}
	if t.doc.fault != "" {
		return fail(t.doc.fault)
	}
	t.adopt()
	return t, nil
}

// NormalizeItem checks an item that is to be saved in a thread and returns it as it is stored and read back: the ThreadID
// filled in, CreatedAt in UTC and cut to microseconds, its JSON final. Another thread's ThreadID is ErrInvalid. It is no
// work, and no allocation, for an item that is so already.
func NormalizeItem(op Op, threadID string, it Item) (Item, error) {
	fail := func(fault string) (Item, error) { return Item{}, refuse(op, KindOfItem, it.ID, fault) }
	if err := CheckID(op, KindOfThread, threadID); err != nil {
		return Item{}, err
	}
	if it.doc == nil {
		return fail("type: missing")
	}
	if it.ThreadID == "" {
		it.ThreadID = threadID
	}
	if it.ThreadID != threadID {
		return fail("thread_id: another thread's")
	}
	if !it.agrees() {
		if fault := firstOf(under("id", idFault(it.ID)), timeFault(it.CreatedAt)); fault != "" {
			return fail(fault)
		}
		d, fault := parseItemDoc(it.JSON().s)
		if fault != "" {
			return fail(fault)
		}
		it.doc = d
	}
	if it.doc.fault != "" {
		return fail(it.doc.fault)
	}
	return Item{it.doc.id, it.doc.threadID, it.doc.createdAt, it.doc}, nil
}

// NormalizeAttachment checks the attachment and returns it as it is stored and read back, its JSON final. It is no work,
// and no allocation, for an attachment that is so already.
func NormalizeAttachment(op Op, a Attachment) (Attachment, error) {
	fail := func(fault string) (Attachment, error) { return Attachment{}, refuse(op, KindOfAttachment, a.ID, fault) }
	if fault := ownerFault(a.Owner); fault != "" {
		return fail(fault)
	}
	if a.doc == nil {
		return fail(firstOf(under("id", idFault(a.ID)), "type: missing"))
	}
	if !a.agrees() {
		if fault := firstOf(under("id", idFault(a.ID)), threadIDFault(a.ThreadID)); fault != "" {
			return fail(fault)
		}
		d, fault := parseAttachmentDoc(a.JSON().s)
		if fault != "" {
			return fail(fault)
		}
		a.doc = d
	}
	if a.doc.fault != "" {
		return fail(a.doc.fault)
	}
	return Attachment{a.doc.id, a.doc.threadID, a.Owner, a.doc}, nil
}

// NormalizeQuery checks a page query and returns it with its Limit between 1 and [MaxLimit]. kind is that of the rows
// listed.
func NormalizeQuery(op Op, kind string, q PageQuery) (PageQuery, error) {
	switch {
	case q.Limit < 0:
		return PageQuery{}, refuse(op, kind, "", "limit: negative")
	case q.Limit == 0:
		q.Limit = DefaultLimit
	case q.Limit > MaxLimit:
		q.Limit = MaxLimit
	}
	if q.Order > OldestFirst {
		return PageQuery{}, refuse(op, kind, "", "order: unknown")
	}
	if q.After != "" {
		if fault := idFault(q.After); fault != "" {
			return PageQuery{}, refuse(op, kind, q.After, under("after", fault))
		}
	}
	return q, nil
}

// NormalizeThreadQuery is [NormalizeQuery] for a listing of threads, and checks the owner asked for.
func NormalizeThreadQuery(q ThreadQuery) (ThreadQuery, error) {
	page, err := NormalizeQuery(OpLoadThreads, KindOfThread, q.PageQuery)
	if err != nil {
		return ThreadQuery{}, err
	}
	q.PageQuery = page
	fault := ""
	if tenant, ok := q.Owner.Tenant(); ok {
		fault = partFault("owner.tenant", tenant)
	} else {
		fault = ownerFault(q.Owner.owner)
	}
	if fault != "" {
		return ThreadQuery{}, refuse(OpLoadThreads, KindOfThread, "", fault)
	}
	return q, nil
}

func refuse(op Op, kind, id, fault string) error {
	return &Error{Op: op, Kind: kind, ID: id, Code: CodeInvalid, Field: fault}
}

// idFault returns what is wrong with an id, for all but odd ids in one walk over its bytes.
func idFault(id string) string {
	if id == "" {
		return "empty"
	}
	if len(id) > MaxIDBytes {
		return "longer than 256 bytes"
	}
	for i := range len(id) {
		if c := id[i]; c-' ' >= 0x7f-' ' {
			return textFault(id)
		}
	}
	return ""
}

func textFault(s string) string {
	if !utf8.ValidString(s) {
		return "not valid UTF-8"
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return "a control character"
		}
	}
	return ""
}

// ownerFault returns what is wrong with an owner. The zero one is nobody, which is fine.
func ownerFault(o Owner) string {
	if o.Subject == "" {
		if o.Tenant != "" {
			return "owner: a tenant without a subject"
		}
		return ""
	}
	if fault := partFault("owner.tenant", o.Tenant); fault != "" {
		return fault
	}
	return partFault("owner.subject", o.Subject)
}

func partFault(name, part string) string {
	if part == "" {
		return ""
	}
	return under(name, idFault(part))
}

func utf8Fault(s string) string {
	if utf8.ValidString(s) {
		return ""
	}
	return "not valid UTF-8"
}

// typeFault returns what is wrong with the type of an item: it is [a-z0-9_.]{1,64}.
func typeFault(t string) string {
	if t == "" {
		return "empty"
	}
	if len(t) > maxTypeBytes {
		return "longer than 64 bytes"
	}
	for i := range len(t) {
		switch c := t[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_', c == '.':
		default:
			return "not of a-z, 0-9, _ and ."
		}
	}
	return ""
}
