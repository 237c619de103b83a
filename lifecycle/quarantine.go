package lifecycle

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// Quarantine sets an unreadable row aside, so that lists without it work again. It writes the row to w as it is stored, and then
// deletes it through s, so that caches drop it. A thread's items are written and deleted with it; its grants end. w gets a file in
// the form of [Export], so use a new file for each row. If w has a method Sync, as an os.File has, it is called before the deletion.
// s is the stack inside of a guard, such as authz.
//
// When a lost key is back, [Import] the file at the base, beneath package encrypt. Then the row reads as before, byte for byte. An
// item stands behind others of its time, and a cache shows it when its entry expires. An item's file has the thread's row too. If
// that has changed since, Import finds a conflict: save the item alone.
//
// Import refuses a file with a damaged document. A person mends the text and saves the row. The file has such a text as a JSON
// string; if it is not UTF-8, in base64 in a member such as thread_base64.
//
// A row that can be read by now is [store.ErrConflict]. So is a thread or an item if the thread is written meanwhile. Nothing is
// deleted then, nor after an error of w. After any other error of the deletion, keep the file: the row may be gone. An attachment
// has no version, so a save of it meanwhile is lost. The base must be a [driver.RawReader] that no guard hides, else the error is
// [errors.ErrUnsupported].
func Quarantine(ctx context.Context, w io.Writer, s store.Store, u Unreadable) error {
	if !slices.Contains([]string{store.RowThread, store.RowItem, store.RowAttachment}, u.Kind) {
		return &store.Error{Code: store.CodeInvalid, Field: "kind: unknown"}
	}
	raw, ok := store.As[driver.RawReader](s)
	if !ok {
		return fmt.Errorf("lifecycle: the store cannot read a row as it is stored: %w", errors.ErrUnsupported)
	}
	ctx, versions := reading(ctx)
	row, err := listing{u.Kind, u.ThreadID}.load(ctx, s, u.ID) // it finds no item without a text; its raw row is found
	if err == nil && row.id != "" {
		err = &store.Error{Kind: u.Kind, ID: u.ID, Code: store.CodeConflict, Cause: errors.New("lifecycle: the row can be read")}
	}
	if code := store.CodeOf(err); code != store.CodeOK && code != store.CodeInternal {
		return err
	}
	if err = newExporter(w).all(func(e *exporter) error { return e.raw(ctx, raw, u) }); err != nil {
		return err
	}
	if f, ok := w.(interface{ Sync() error }); ok {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	thread := cmp.Or(u.ThreadID, u.ID)
	if n, ok := versions.Of(thread); ok { // not of an attachment
		ctx = store.IfVersion(ctx, thread, n)
	}
	return listing{u.Kind, u.ThreadID}.remove(ctx, s, u.ID)
}

// raw writes a row as it is stored.
func (e *exporter) raw(ctx context.Context, r driver.RawReader, u Unreadable) error {
	kind, id, read := store.RowThread, cmp.Or(u.ThreadID, u.ID), r.RawThread
	if u.Kind == store.RowAttachment {
		kind, id, read = u.Kind, u.ID, r.RawAttachment
	}
	owner, doc, err := read(ctx, id)
	if err == nil {
		err = e.write(rawLine(kind, doc, owner))
	}
	if err != nil {
		return err
	}
	if kind == store.RowAttachment {
		e.counts.Attachments++
		return nil
	}
	e.counts.Threads++
	for it, err := range rows(ctx, store.OldestFirst, func(ctx context.Context, q store.PageQuery) (store.Page[driver.RawItem], error) {
		return r.RawItems(ctx, id, q)
	}) {
		if err == nil && (u.Kind == store.RowThread || it.ID == u.ID) {
			err = e.write(rawLine(store.RowItem, it.Document, chat.Owner{}))
			e.counts.Items++
		}
		if err != nil {
			return err
		}
	}
	if u.Kind == store.RowItem && e.counts.Items == 0 {
		return &store.Error{Kind: u.Kind, ID: u.ID, Code: store.CodeNotFound}
	}
	return nil
}

// rawLine returns the line of a row with any text as its document.
func rawLine(kind, text string, o chat.Owner) []byte {
	doc, err := chat.ParseJSON(text)
	if err != nil || text[0] == '"' {
		if !utf8.ValidString(text) {
			kind, text = kind+"_base64", base64.StdEncoding.EncodeToString([]byte(text))
		}
		doc, _ = chat.ParseJSON(appendJSON(nil, text))
	}
	return appendRow(nil, kind, doc, o)
}
