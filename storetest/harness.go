package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/internal/call"
	"github.com/chatstore/chatstore/storetest/internal/report"
	"github.com/chatstore/chatstore/storetest/internal/rows"
)

// harness is the environment of one check: the Store, two users, and methods that report failures.
type harness struct {
	t    tb
	s    store.Store
	name string // name of the check
	rule string
	cfg  config
	*failures
	mint *rows.Mint

	saved   sync.Map                 // ids of the rows that the check has saved
	foreign atomic.Pointer[store.Op] // a listing that returned rows of earlier checks, or nil

	ada, bob *user // two owners of different tenants, new in each check
}

func newHarness(t tb, s store.Store, of *failures, name, rule string, cfg config, m *rows.Mint) *harness {
	h := &harness{t: t, s: s, name: name, rule: rule, cfg: cfg, failures: of, mint: m}
	h.ada = h.user(chat.Owner{Tenant: m.ID("acme"), Subject: m.ID("ada")})
	h.bob = h.user(chat.Owner{Tenant: m.ID("bold"), Subject: m.ID("bob")})
	return h
}

// errorf reports a failure and the rule it breaks. It is safe to call from any goroutine.
func (h *harness) errorf(format string, args ...any) {
	h.t.Helper()
	if h.failures.print(h.name) {
		h.t.Errorf("%s", h.message(format, args...))
	} else {
		h.t.Fail()
	}
}

// fatalf is errorf, and ends the check. Call it only from the check's own goroutine.
func (h *harness) fatalf(format string, args ...any) {
	h.t.Helper()
	h.errorf(format, args...)
	h.t.FailNow()
}

// bare skips a check whose result depends on a guard.
func (h *harness) bare() {
	h.t.Helper()
	if layer.Guarded(h.s) {
		h.t.Skipf("skipped: a guard decides who sees what; run the suite on the Store beneath it too")
	}
}

// value fails the check if package chat could not build a value. That is no fault of the Store.
func value[T any](h *harness, v T, err error) T {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("package chat refuses a value that the check needs: error %s", report.Error(err))
	}
	return v
}

// wants compares a row with Equal, and prints a difference field by field. It ignores the Owner: other checks compare it.
func wants[T interface{ Equal(T) bool }](o outcome[T], when string, want T) {
	o.h.t.Helper()
	got := o.ok()
	switch want := any(want).(type) {
	case chat.Thread:
		any(&got).(*chat.Thread).Owner = want.Owner
	case chat.Attachment:
		any(&got).(*chat.Attachment).Owner = want.Owner
	}
	if otherRow(o.h, o.String()+when, want, got) {
		return
	}
	if !want.Equal(got) {
		o.h.errorf("%s%s: the value differs from the saved one (-want +got):\n%s", o, when, cmp.Diff(view(want), view(got)))
	}
}

// lists compares the ids of a page.
func lists[T any](o outcome[store.Page[T]], when string, want []string) {
	o.h.t.Helper()
	sameIDs(o.h, o.String()+when, want, idsOf(o.ok().Data))
}

// sameText compares the JSON of two rows byte for byte.
func sameText[T interface{ JSON() chat.JSON }](h *harness, what string, want, got T) {
	h.t.Helper()
	if otherRow(h, what, want, got) {
		return
	}
	if w, g := want.JSON().String(), got.JSON().String(); w != g {
		h.errorf("%s: the JSON differs from the saved bytes (keep x.JSON() as text: do not re-encode it or use a JSON column "+
			"type that normalises)\n\twant %s\n\tgot  %s", what, report.Abridged(w, 2000), report.Abridged(g, 2000))
	}
}

// otherRow reports whether two rows have different ids. That is a failure, and the other parts need no comparison.
func otherRow(h *harness, what string, want, got any) bool {
	h.t.Helper()
	w, g := idOf(want), idOf(got)
	if w != g {
		h.errorf("%s: got another row: id %q, want %q", what, report.Abridged(g, 80), report.Abridged(w, 80))
	}
	return w != g
}

// sameIDs compares the ids of a listing.
func sameIDs(h *harness, what string, want, got []string) {
	h.t.Helper()
	// Copies, so that nil and empty are equal.
	if d := cmp.Diff(append([]string{}, want...), append([]string{}, got...)); d != "" {
		h.errorf("%s: wrong rows or order (-want +got):\n%s", what, d)
	}
}

// view returns the parts of a value for cmp.Diff, because values of package chat print without content.
func view(v any) map[string]string {
	switch v := v.(type) {
	case chat.Thread:
		return map[string]string{"ID": v.ID, "CreatedAt": v.CreatedAt.String(), "Owner": call.Owner(v.Owner), "JSON": v.JSON().String()}
	case chat.Item:
		return map[string]string{"ID": v.ID, "ThreadID": v.ThreadID, "CreatedAt": v.CreatedAt.String(), "JSON": v.JSON().String()}
	case chat.Attachment:
		return map[string]string{"ID": v.ID, "ThreadID": v.ThreadID, "Owner": call.Owner(v.Owner), "JSON": v.JSON().String()}
	}
	return map[string]string{"value": fmt.Sprint(v)}
}

// idsOf returns the ids of threads or items. Strings are ids already.
func idsOf[T any](values []T) (ids []string) {
	for _, row := range values {
		ids = append(ids, idOf(row))
	}
	return ids
}

func idOf(row any) string {
	switch row := row.(type) {
	case chat.Thread:
		return row.ID
	case chat.Item:
		return row.ID
	case chat.Attachment:
		return row.ID
	}
	return row.(string)
}

// at is n seconds after a fixed time.
var at = rows.At

// item returns a new item of a simple kind, in no thread yet.
func (h *harness) item(created time.Time, text string) chat.Item {
	h.t.Helper()
	return h.itemWithID(h.mint.ID("msg"), created, text)
}

func (h *harness) itemWithID(id string, created time.Time, text string) chat.Item {
	h.t.Helper()
	return rows.Message(id, created, text)
}

// parsed returns a value of package chat, parsed from JSON.
func parsed[T any](h *harness, text string) T {
	h.t.Helper()
	var v T
	err := json.Unmarshal([]byte(text), &v)
	return value(h, v, err)
}

func (h *harness) json(text string) chat.JSON {
	h.t.Helper()
	j, err := chat.ParseJSON(text)
	return value(h, j, err)
}

// parallel runs n functions at once, waits for all of them, and reports their errors. They must not call fatalf.
func (h *harness) parallel(n int, f func(i int) error) {
	h.t.Helper()
	var wg sync.WaitGroup
	begin := make(chan struct{})
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() {
			<-begin
			errs[i] = f(i)
		})
	}
	close(begin)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		h.errorf("%v", err)
	}
}

// outcome is the result of a call. It can describe itself and check itself.
type outcome[T any] struct {
	h    *harness
	call call.Call
	note string // an unusual condition of the call that its arguments do not show; of a capability, the whole call
	val  T
	err  error
}

func (o outcome[T]) String() string {
	if o.call.Op == 0 {
		return o.note
	}
	return o.call.String() + o.note
}

// with returns the outcome with only a part of its value.
func with[T, U any](o outcome[T], val U) outcome[U] {
	return outcome[U]{o.h, o.call, o.note, val, o.err}
}

// ok returns the value; an error ends the check.
func (o outcome[T]) ok() T {
	o.h.t.Helper()
	if o.err != nil {
		o.h.fatalf("%s: got error %s, want none", o, report.Error(o.err))
	}
	return o.val
}

// is wants an error that wraps want, and for which store.CodeOf returns the code of want.
func (o outcome[T]) is(want error) {
	o.h.t.Helper()
	if err := o.check(want); err != nil {
		o.h.errorf("%v", err)
	}
}

// check is like is, for goroutines other than the check's own.
func (o outcome[T]) check(want error) error {
	if want == nil && o.err != nil {
		return fmt.Errorf("%s: got error %s, want none", o, report.Error(o.err))
	}
	if o.err == nil && want != nil {
		return fmt.Errorf("%s: got no error, want %s", o, sentinelName(want))
	}
	if !errors.Is(o.err, want) {
		return fmt.Errorf("%s: got error %s, want %s (wrapped, so that errors.Is finds it)", o, report.Error(o.err), sentinelName(want))
	}
	if got := store.CodeOf(o.err); got != store.CodeOf(want) {
		return fmt.Errorf("%s: got an error for which errors.Is finds %s but store.CodeOf returns %s: wrap one sentinel only", o, sentinelName(want), got)
	}
	return nil
}

// absent wants no row. Other checks say which error a load returns then.
func (o outcome[T]) absent() {
	o.h.t.Helper()
	if err := o.checkAbsent(); err != nil {
		o.h.errorf("%v", err)
	}
}

// checkAbsent is absent, for goroutines other than the check's own.
func (o outcome[T]) checkAbsent() error {
	if o.err == nil && !reflect.ValueOf(o.val).IsZero() {
		return fmt.Errorf("%s: got a row, want none", o)
	}
	return nil
}

func sentinelName(err error) string {
	switch err {
	case store.ErrNotFound:
		return "store.ErrNotFound"
	case store.ErrConflict:
		return "store.ErrConflict"
	case store.ErrInvalid:
		return "store.ErrInvalid"
	}
	return fmt.Sprintf("%q", err)
}

// user makes calls as one principal and owns the rows that it creates.
type user struct {
	h     *harness
	owner chat.Owner
	ctx   context.Context
}

func (h *harness) user(o chat.Owner) *user {
	ctx := h.t.Context()
	if !o.IsZero() {
		ctx = store.WithPrincipal(ctx, store.Principal{Owner: o})
	}
	return &user{h: h, owner: o, ctx: ctx}
}

// nobody creates rows without an owner. Call bare first.
func (h *harness) nobody() *user { return h.user(chat.Owner{}) }

// in returns the same user with another context.
func (u *user) in(ctx context.Context) *user {
	v := *u
	v.ctx = ctx
	return &v
}

func (u *user) mode(m store.SaveMode) *user { return u.in(store.WithSaveMode(u.ctx, m)) }

// thread returns a new thread of the user, not saved yet.
func (u *user) thread() chat.Thread {
	return chat.Thread{
		ID:        u.h.mint.ID("thr"),
		Title:     "a title",
		CreatedAt: at(0),
		Status:    chat.Status{Type: "active"},
		Owner:     u.owner,
	}
}

// newThread saves a new thread.
func (u *user) newThread() chat.Thread {
	u.h.t.Helper()
	t := u.thread()
	u.saveThread(t).ok()
	return t
}

// newItem adds a new item to a thread.
func (u *user) newItem(threadID string, created time.Time) chat.Item {
	u.h.t.Helper()
	it := u.h.item(created, "text")
	it.ThreadID = threadID
	u.addItem(threadID, it).ok()
	return it
}

// attachment returns a new attachment of the user, not saved yet.
func (u *user) attachment(name string) chat.Attachment {
	u.h.t.Helper()
	a := rows.Attachment(u.h.mint.ID("atc"), name)
	a.Owner = u.owner
	return a
}

func (u *user) newAttachment(name string) chat.Attachment {
	u.h.t.Helper()
	a := u.attachment(name)
	u.saveAttachment(a).ok()
	return a
}

type none = struct{}

// makes makes a call. part picks the value out of the answer.
func makes[T any](u *user, c call.Call, part func(call.Answer) T) outcome[T] {
	c.Mode = store.SaveModeFrom(u.ctx)
	if cond := callctx.Of(u.ctx).If; cond.Set {
		c.IfThread, c.IfVersion = cond.ThreadID, cond.Version
	}
	u.h.noteSave(c)
	a := c.Make(u.ctx, u.h.s)
	u.h.noteListing(c, a)
	return outcome[T]{h: u.h, call: c, val: part(a), err: a.Err}
}

func (h *harness) noteSave(c call.Call) {
	switch c.Op {
	case store.OpSaveThread:
		h.saved.Store(c.Thread.ID, true)
	case store.OpAddThreadItem, store.OpSaveItem:
		h.saved.Store(c.Item.ID, true)
	}
}

// noteListing notes that a listing has rows which only an earlier check can have saved. Owners and tenants are new in each
// check, but the other filters match rows of earlier checks.
func (h *harness) noteListing(c call.Call, a call.Answer) {
	owner, _ := c.Query.Owner.Owner()
	tenant, _ := c.Query.Owner.Tenant()
	if c.Op == store.OpLoadThreads && owner.IsZero() && tenant == "" {
		return
	}
	for _, id := range append(idsOf(a.Threads.Data), idsOf(a.Items.Data)...) {
		if _, ok := h.saved.Load(id); !ok {
			h.foreign.Store(&c.Op)
			return
		}
	}
}

func nothing(call.Answer) none { return none{} }

func (u *user) loadThread(id string) outcome[chat.Thread] {
	c := call.Call{Op: store.OpLoadThread, Thread: chat.Thread{ID: id}}
	return makes(u, c, func(a call.Answer) chat.Thread { return a.Thread })
}

func (u *user) saveThread(t chat.Thread) outcome[none] {
	return makes(u, call.Call{Op: store.OpSaveThread, Thread: t}, nothing)
}

func (u *user) deleteThread(id string) outcome[none] {
	return makes(u, call.Call{Op: store.OpDeleteThread, Thread: chat.Thread{ID: id}}, nothing)
}

func (u *user) threads(f store.OwnerFilter, q store.PageQuery) outcome[store.Page[chat.Thread]] {
	c := call.Call{Op: store.OpLoadThreads, Query: store.ThreadQuery{PageQuery: q, Owner: f}}
	return makes(u, c, func(a call.Answer) store.Page[chat.Thread] { return a.Threads })
}

// onItem makes a call on an item, or on the items, of a thread.
func onItem[T any](u *user, op store.Op, threadID string, it chat.Item, q store.PageQuery, part func(call.Answer) T) outcome[T] {
	c := call.Call{Op: op, Thread: chat.Thread{ID: threadID}, Item: it, Query: store.ThreadQuery{PageQuery: q}}
	return makes(u, c, part)
}

func (u *user) items(threadID string, q store.PageQuery) outcome[store.Page[chat.Item]] {
	return onItem(u, store.OpLoadThreadItems, threadID, chat.Item{}, q, func(a call.Answer) store.Page[chat.Item] { return a.Items })
}

func (u *user) addItem(threadID string, it chat.Item) outcome[none] {
	return onItem(u, store.OpAddThreadItem, threadID, it, store.PageQuery{}, nothing)
}

func (u *user) saveItem(threadID string, it chat.Item) outcome[none] {
	return onItem(u, store.OpSaveItem, threadID, it, store.PageQuery{}, nothing)
}

func (u *user) loadItem(threadID, itemID string) outcome[chat.Item] {
	return onItem(u, store.OpLoadItem, threadID, chat.Item{ID: itemID}, store.PageQuery{}, func(a call.Answer) chat.Item { return a.Item })
}

func (u *user) deleteItem(threadID, itemID string) outcome[none] {
	return onItem(u, store.OpDeleteThreadItem, threadID, chat.Item{ID: itemID}, store.PageQuery{}, nothing)
}

func (u *user) saveAttachment(a chat.Attachment) outcome[none] {
	return makes(u, call.Call{Op: store.OpSaveAttachment, Attachment: a}, nothing)
}

func (u *user) loadAttachment(id string) outcome[chat.Attachment] {
	c := call.Call{Op: store.OpLoadAttachment, Attachment: chat.Attachment{ID: id}}
	return makes(u, c, func(a call.Answer) chat.Attachment { return a.Attachment })
}

func (u *user) deleteAttachment(id string) outcome[none] {
	return makes(u, call.Call{Op: store.OpDeleteAttachment, Attachment: chat.Attachment{ID: id}}, nothing)
}
