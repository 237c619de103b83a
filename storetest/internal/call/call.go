// Package call describes a call of a Store as a value. The value can be made, printed, and given to a model of the contract.
package call

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/internal/report"
	"github.com/chatstore/chatstore/storetest/internal/rows"
)

// Call is a call of any op: its arguments and the values in its context.
type Call struct {
	Op         store.Op
	Thread     chat.Thread       // the row for SaveThread, otherwise only its ID
	Item       chat.Item         // the row for AddThreadItem and SaveItem, otherwise only its ID
	Attachment chat.Attachment   // the row for SaveAttachment, otherwise only its ID
	Query      store.ThreadQuery // for listings; a listing of items has no Owner

	By             store.Principal
	Mode           store.SaveMode
	IfThread       string // the thread of a condition; "" if there is none
	IfVersion      uint64
	Fresh, NoStore bool
	End            Ending
}

// Ending says how the context ended before the call.
type Ending uint8

// The zero Ending means that the context has not ended.
const (
	Live Ending = iota
	Cancelled
	Late
)

// Err returns the error of a context with this ending.
func (e Ending) Err() error { return [...]error{nil, context.Canceled, context.DeadlineExceeded}[e] }

// Context returns the context of the call, below ctx.
func (c Call) Context(ctx context.Context) context.Context {
	if !c.By.Owner.IsZero() {
		ctx = store.WithPrincipal(ctx, c.By)
	}
	if c.Mode != store.Upsert {
		ctx = store.WithSaveMode(ctx, c.Mode)
	}
	if c.IfThread != "" {
		ctx = store.IfVersion(ctx, c.IfThread, c.IfVersion)
	}
	if c.Fresh {
		ctx = store.WithFresh(ctx)
	}
	if c.NoStore {
		ctx = store.WithNoStore(ctx)
	}
	cancel := func() {}
	switch c.End {
	case Cancelled:
		ctx, cancel = context.WithCancel(ctx)
	case Late:
		ctx, cancel = context.WithDeadline(ctx, time.Unix(0, 0))
	}
	cancel()
	return ctx
}

// Make makes the call with ctx, which the caller gets from [Call.Context].
func (c Call) Make(ctx context.Context, s store.Store) (a Answer) {
	switch c.Op {
	case store.OpLoadThread:
		a.Thread, a.Err = s.LoadThread(ctx, c.Thread.ID)
	case store.OpSaveThread:
		a.Err = s.SaveThread(ctx, c.Thread)
	case store.OpDeleteThread:
		a.Err = s.DeleteThread(ctx, c.Thread.ID)
	case store.OpLoadThreads:
		a.Threads, a.Err = s.LoadThreads(ctx, c.Query)
	case store.OpLoadThreadItems:
		a.Items, a.Err = s.LoadThreadItems(ctx, c.Thread.ID, c.Query.PageQuery)
	case store.OpAddThreadItem:
		a.Err = s.AddThreadItem(ctx, c.Thread.ID, c.Item)
	case store.OpSaveItem:
		a.Err = s.SaveItem(ctx, c.Thread.ID, c.Item)
	case store.OpLoadItem:
		a.Item, a.Err = s.LoadItem(ctx, c.Thread.ID, c.Item.ID)
	case store.OpDeleteThreadItem:
		a.Err = s.DeleteThreadItem(ctx, c.Thread.ID, c.Item.ID)
	case store.OpSaveAttachment:
		a.Err = s.SaveAttachment(ctx, c.Attachment)
	case store.OpLoadAttachment:
		a.Attachment, a.Err = s.LoadAttachment(ctx, c.Attachment.ID)
	case store.OpDeleteAttachment:
		a.Err = s.DeleteAttachment(ctx, c.Attachment.ID)
	default:
		panic("storetest: no call of " + c.Op.String())
	}
	a.Code = store.CodeOf(a.Err)
	if e, ok := errors.AsType[*store.Error](a.Err); ok && a.Code == store.CodeConflict {
		a.Field = e.Field
	}
	return a
}

// OfThread reports whether the call names a thread.
func (c Call) OfThread() bool { return c.Op != store.OpLoadThreads && !c.OfAttachment() }

// OfAttachment reports whether the call is about an attachment.
func (c Call) OfAttachment() bool {
	return c.Op == store.OpSaveAttachment || c.Op == store.OpLoadAttachment || c.Op == store.OpDeleteAttachment
}

// String returns the call with the title, text or name of its row.
func (c Call) String() string { return c.text(false) }

// Whole returns the call with complete ids and the JSON of its row.
func (c Call) Whole() string { return c.text(true) }

func (c Call) text(whole bool) string {
	var args []string
	add := func(format string, a ...any) { args = append(args, fmt.Sprintf(format, a...)) }
	short := func(id string) string {
		if whole {
			return id
		}
		return report.Abridged(id, 80)
	}
	id := func(id string) { add("%q", short(id)) }
	if c.OfThread() {
		id(c.Thread.ID)
	}
	switch c.Op {
	case store.OpLoadThreads, store.OpLoadThreadItems:
		if c.Op == store.OpLoadThreads {
			add("%s", filter(c.Query.Owner))
		}
		add("limit %d", c.Query.Limit)
		add("%s", Order(c.Query.Order))
		if c.Query.After != "" {
			add("after %q", short(c.Query.After))
		}
	case store.OpLoadItem, store.OpDeleteThreadItem, store.OpAddThreadItem, store.OpSaveItem:
		id(c.Item.ID)
	case store.OpSaveAttachment, store.OpLoadAttachment, store.OpDeleteAttachment:
		id(c.Attachment.ID)
	}
	switch c.Op {
	case store.OpSaveThread:
		add("%s", words(whole, c.Thread.JSON(), fmt.Sprintf("%q", c.Thread.Title)))
		add("of %s", Owner(c.Thread.Owner))
	case store.OpSaveAttachment:
		add("%s", words(whole, c.Attachment.JSON(), "a file"))
		add("of %s", Owner(c.Attachment.Owner))
	case store.OpAddThreadItem, store.OpSaveItem:
		add("%s", words(whole, c.Item.JSON(), message(c.Item)))
		if of := c.Item.ThreadID; of != "" && of != c.Thread.ID {
			add("of %q", short(of))
		}
	}
	text := Method(c.Op) + "(" + strings.Join(args, ", ") + ")"
	if !c.By.Owner.IsZero() {
		text += " by " + Owner(c.By.Owner)
	}
	switch {
	case c.Mode == store.InsertOnly:
		text += ", insert only"
	case c.Mode == store.UpdateOnly:
		text += ", update only"
	case c.Mode > store.UpdateOnly:
		text += ", unknown save mode"
	}
	switch {
	case c.IfThread != "" && c.IfThread == c.Thread.ID:
		text += fmt.Sprintf(", if version %d", c.IfVersion)
	case c.IfThread != "":
		text += fmt.Sprintf(", if version %d of %q", c.IfVersion, short(c.IfThread))
	}
	if c.Fresh {
		text += ", fresh"
	}
	if c.NoStore {
		text += ", no store"
	}
	return text + [...]string{"", ", cancelled", ", past its deadline"}[c.End]
}

func words(whole bool, json chat.JSON, brief string) string {
	if whole {
		return json.String()
	}
	return brief
}

func message(it chat.Item) string {
	return fmt.Sprintf("at %s %q", it.CreatedAt.Format("04:05.999999999"), report.Abridged(rows.Text(it), 80))
}

// Method returns the name of an op's method: LoadThread for load_thread.
func Method(op store.Op) (name string) {
	for word := range strings.SplitSeq(op.String(), "_") {
		name += strings.ToUpper(word[:1]) + word[1:]
	}
	return name
}

// Order returns the order in words.
func Order(o store.Order) string {
	switch o {
	case store.NewestFirst:
		return "newest first"
	case store.OldestFirst:
		return "oldest first"
	}
	return "an unknown order"
}

// Owner returns a printable owner.
func Owner(o chat.Owner) string {
	if o.IsZero() {
		return "no owner"
	}
	if o.Tenant == "" {
		return fmt.Sprintf("subject %q", o.Subject)
	}
	return fmt.Sprintf("tenant %q, subject %q", o.Tenant, o.Subject)
}

// filter returns the Go expression of a filter.
func filter(f store.OwnerFilter) string {
	if f.IsAny() {
		return "AnyOwner()"
	}
	if tenant, ok := f.Tenant(); ok {
		return fmt.Sprintf("InTenant(%q)", tenant)
	}
	if o, _ := f.Owner(); !o.IsZero() {
		return fmt.Sprintf("OwnedBy(%s)", Owner(o))
	}
	return "OwnerFilter{}"
}

// Answer is the result of a call.
type Answer struct {
	Thread     chat.Thread
	Item       chat.Item
	Attachment chat.Attachment
	Threads    store.Page[chat.Thread]
	Items      store.Page[chat.Item]
	Err        error // always nil in answers of a model
	Code       store.Code
	Field      string // of the error, if it is a conflict
}

// Equal reports whether two answers have the same code and the same rows, including owners, with equal JSON bytes.
func (a Answer) Equal(b Answer) bool {
	return a.Code == b.Code && equalThreads(a.Thread, b.Thread) && equalItems(a.Item, b.Item) && a.Attachment.Equal(b.Attachment) &&
		equalPages(a.Items, b.Items, equalItems) && equalPages(a.Threads, b.Threads, equalThreads)
}

func equalPages[T any](a, b store.Page[T], equal func(a, b T) bool) bool {
	return a.HasMore == b.HasMore && a.After == b.After && slices.EqualFunc(a.Data, b.Data, equal)
}

func equalThreads(a, b chat.Thread) bool {
	return a.Equal(b) && a.Owner == b.Owner && a.JSON() == b.JSON() && equalTimes(a.CreatedAt, b.CreatedAt)
}

func equalItems(a, b chat.Item) bool { return a.Equal(b) && equalTimes(a.CreatedAt, b.CreatedAt) }

func equalTimes(a, b time.Time) bool { return a.Equal(b) && a.Location() == b.Location() }

// Came returns a short text about the result of the call.
func (c Call) Came(a Answer) string {
	if c.Op.IsWrite() && a.Code == store.CodeOK {
		return "ok"
	}
	return a.String()
}

// String returns a short text about the answer of a read.
func (a Answer) String() string {
	switch {
	case a.Err != nil:
		return a.Code.String() + ", error " + report.Error(a.Err)
	case a.Code != store.CodeOK:
		return strings.TrimSpace(a.Code.String() + " " + a.Field)
	case a.Thread.ID != "":
		return fmt.Sprintf("%q", a.Thread.Title)
	case a.Item.ID != "":
		return a.Item.ID + " " + message(a.Item)
	case a.Attachment.ID != "":
		return "a file"
	}
	var of []string
	for _, t := range a.Threads.Data {
		of = append(of, t.ID)
	}
	for _, it := range a.Items.Data {
		of = append(of, it.ID+" "+message(it))
	}
	if a.Items.HasMore || a.Threads.HasMore {
		of = append(of, "more after "+a.Items.After+a.Threads.After)
	}
	return "[" + strings.Join(of, ", ") + "]"
}

// Rows returns the rows of the answer, one line each.
func (a Answer) Rows() (lines []string) {
	for _, t := range append([]chat.Thread{a.Thread}, a.Threads.Data...) {
		if t != (chat.Thread{}) {
			lines = append(lines, fmt.Sprintf("%q of %s at %v: %s", t.ID, Owner(t.Owner), t.CreatedAt, t.JSON()))
		}
	}
	for _, it := range append([]chat.Item{a.Item}, a.Items.Data...) {
		if it != (chat.Item{}) {
			lines = append(lines, fmt.Sprintf("%q in %q at %v: %s", it.ID, it.ThreadID, it.CreatedAt, it.JSON()))
		}
	}
	if at := a.Attachment; at != (chat.Attachment{}) {
		lines = append(lines, fmt.Sprintf("%q of %s: %s", at.ID, Owner(at.Owner), at.JSON()))
	}
	return lines
}

// Edges returns how many rows a page has, and its cursor.
func (a Answer) Edges() string {
	return fmt.Sprintf("%d rows, more %t, after %q", len(a.Threads.Data)+len(a.Items.Data), a.Threads.HasMore || a.Items.HasMore,
		a.Threads.After+a.Items.After)
}
