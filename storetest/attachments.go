package storetest

import (
	"github.com/chatstore/chatstore/store"
)

const attachmentRule = "SaveAttachment inserts or replaces; of a missing attachment, LoadAttachment returns ErrNotFound and DeleteAttachment nil"

var attachmentChecks = []check{
	{"SaveAttachment inserts", attachmentRule, func(h *harness) {
		a := h.ada.newAttachment("a.txt")
		wants(h.ada.loadAttachment(a.ID), "", a)
	}},
	{"SaveAttachment replaces", attachmentRule, func(h *harness) {
		a := h.ada.newAttachment("a.txt")
		h.ada.loadAttachment(a.ID).ok() // so that a cache holds the old row
		b := h.ada.attachment("b.txt")
		b.ID, b.ThreadID = a.ID, h.ada.newThread().ID
		h.ada.saveAttachment(b).ok()
		wants(h.ada.loadAttachment(a.ID), " after a second SaveAttachment", b)
	}},
	{"LoadAttachment of a missing one is ErrNotFound", attachmentRule, func(h *harness) {
		h.ada.loadAttachment(h.mint.ID("atc")).is(store.ErrNotFound)
	}},
	{"DeleteAttachment deletes", attachmentRule, func(h *harness) {
		a, kept := h.ada.newAttachment("a.txt"), h.ada.newAttachment("b.txt")
		h.ada.loadAttachment(a.ID).ok()
		h.ada.deleteAttachment(a.ID).ok()
		h.ada.loadAttachment(a.ID).absent()
		h.ada.loadAttachment(kept.ID).is(nil)
	}},
	{"DeleteAttachment of a missing one is nil", attachmentRule, func(h *harness) {
		h.ada.deleteAttachment(h.mint.ID("atc")).is(nil)
		a := h.ada.newAttachment("a.txt")
		h.ada.deleteAttachment(a.ID).ok()
		h.ada.deleteAttachment(a.ID).is(nil)
	}},
	{"threads and attachments have separate ids", attachmentRule, func(h *harness) {
		t := h.ada.newThread()
		a := h.bob.attachment("a.txt")
		a.ID = t.ID
		h.bob.saveAttachment(a).is(nil)
		h.ada.deleteThread(t.ID).ok()
		h.bob.loadAttachment(a.ID).is(nil)
	}},
}
