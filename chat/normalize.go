package chat

import (
	"github.com/chatstore/chatstore/internal/jsondoc"
	"github.com/chatstore/chatstore/internal/rules"
)

// Normalized returns the thread as it is stored and read back: with CreatedAt in UTC, cut to microseconds, the zero Status
// as active, and its final JSON. A thread that breaks a rule is [ErrInvalid]. For a thread in this form, Normalized does not
// allocate.
func (t Thread) Normalized() (Thread, error) {
	fail := func(fault string) (Thread, error) {
		return Thread{}, &Error{Kind: kindThread, ID: t.ID, Field: fault}
	}
	if fault := rules.OwnerFault(t.Owner.Tenant, t.Owner.Subject); fault != "" {
		return fail(fault)
	}
	if t.doc == nil || !t.agrees() {
		fault := rules.FirstOf(rules.Under("id", rules.IDFault(t.ID)), rules.Under("title", rules.UTF8Fault(t.Title)), jsondoc.TimeFault(t.CreatedAt),
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

// Normalized returns the item as it is stored in the thread and read back. ThreadID is filled in. CreatedAt is in UTC, cut to
// microseconds. The JSON is final. An item that breaks a rule, or has the ThreadID of another thread, is
// [ErrInvalid]. For an item in this form, Normalized does not allocate.
func (it Item) Normalized(threadID string) (Item, error) {
	fail := func(fault string) (Item, error) { return Item{}, &Error{Kind: kindItem, ID: it.ID, Field: fault} }
	if fault := rules.IDFault(threadID); fault != "" {
		return Item{}, &Error{Kind: kindThread, ID: threadID, Field: rules.Under("id", fault)}
	}
	if it.doc == nil {
		return fail("type: missing")
	}
	if it.ThreadID == "" {
		it.ThreadID = threadID
	}
	if it.ThreadID != threadID {
		return fail("thread_id: another thread's id")
	}
	if !it.agrees() {
		if fault := rules.FirstOf(rules.Under("id", rules.IDFault(it.ID)), jsondoc.TimeFault(it.CreatedAt)); fault != "" {
			return fail(fault)
		}
		d, fault := parseItemDoc(it.JSON().s)
		if fault != "" {
			return fail(fault)
		}
		it.doc = d
	}
	if it.doc.traits.fault != "" {
		return fail(it.doc.traits.fault)
	}
	return it.doc.item(), nil
}

// Normalized returns the attachment as it is stored and read back, with its final JSON. An attachment that breaks a rule is
// [ErrInvalid]. For an attachment in this form, Normalized does not allocate.
func (a Attachment) Normalized() (Attachment, error) {
	fail := func(fault string) (Attachment, error) {
		return Attachment{}, &Error{Kind: kindAttachment, ID: a.ID, Field: fault}
	}
	if fault := rules.OwnerFault(a.Owner.Tenant, a.Owner.Subject); fault != "" {
		return fail(fault)
	}
	if a.doc == nil {
		return fail(rules.FirstOf(rules.Under("id", rules.IDFault(a.ID)), "type: missing"))
	}
	if !a.agrees() {
		if fault := rules.FirstOf(rules.Under("id", rules.IDFault(a.ID)), threadIDFault(a.ThreadID)); fault != "" {
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
