package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// harness is what a check works with: the Store, two users, and ways to say what went wrong.
type harness struct {
	t    tb
	s    store.Store
	rule string
	cfg  config
	mint *mint

	ada, bob *user // two owners of different tenants, new in each check
}

func newHarness(t tb, s store.Store, rule string, cfg config, m *mint) *harness {
	h := &harness{t: t, s: s, rule: rule, cfg: cfg, mint: m}
	h.ada = h.user(chat.Owner{Tenant: m.id("acme"), Subject: m.id("ada")})
	h.bob = h.user(chat.Owner{Tenant: m.id("bold"), Subject: m.id("bob")})
	return h
}

// errorf reports a failure and the rule it breaks. It may be called from any goroutine.
func (h *harness) errorf(format string, args ...any) {
	h.t.Helper()
	h.t.Errorf("%s\n\tcontract: %s", fmt.Sprintf(format, args...), h.rule)
}

// fatalf is errorf where the check cannot go on. Only for the check's own goroutine.
func (h *harness) fatalf(format string, args ...any) {
	h.t.Helper()
	h.t.Fatalf("%s\n\tcontract: %s", fmt.Sprintf(format, args...), h.rule)
}

// bare skips a check of rows that a guard would decide about.
func (h *harness) bare() {
	h.t.Helper()
	if layer.Guarded(h.s) {
		h.t.Skipf("skipped: a guard decides who sees what; run the suite on the Store beneath it too")
	}
}

// value fails the check where building a value, not the Store, went wrong.
func value[T any](h *harness, v T, err error) T {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("package store refuses a value that the check needs: %v", err)
	}
	return v
}

// same compares by the values' own Equal and shows a difference field by field.
func same[T interface{ Equal(T) bool }](h *harness, what string, want, got T) {
	h.t.Helper()
	if !want.Equal(got) {
		h.errorf("%s is not what was saved (-want +got):\n%s", what, cmp.Diff(view(want), view(got)))
	}
}

// sameThread is same for threads without their Owner, which has checks of its own.
func sameThread(h *harness, what string, want, got chat.Thread) {
	h.t.Helper()
	got.Owner = want.Owner
	same(h, what, want, got)
}

// sameAttachment is same for attachments without their Owner, which has checks of its own.
func sameAttachment(h *harness, what string, want, got chat.Attachment) {
	h.t.Helper()
	got.Owner = want.Owner
	same(h, what, want, got)
}

// sameText compares JSON byte for byte.
func sameText(h *harness, what string, want, got chat.JSON) {
	h.t.Helper()
	if w, g := want.String(), got.String(); w != g {
		h.errorf("%s came back with other bytes than were saved (keep x.JSON() as text: no re-encoding, no JSON column "+
			"type that normalises)\n\twant %s\n\tgot  %s", what, abridged(w), abridged(g))
	}
}

func abridged(s string) string {
	if len(s) > 2000 {
		return fmt.Sprintf("%s… (%d bytes)", s[:2000], len(s))
	}
	return s
}

// sameIDs compares the ids of a listing.
func sameIDs(h *harness, what string, want, got []string) {
	h.t.Helper()
	// Copies, so that nil and empty are equal.
	if d := cmp.Diff(append([]string{}, want...), append([]string{}, got...)); d != "" {
		h.errorf("%s: wrong rows or order (-want +got):\n%s", what, d)
	}
}

// view is a value as its parts, for cmp.Diff: values of package store print without content.
func view(v any) map[string]string {
	switch v := v.(type) {
	case chat.Thread:
		return map[string]string{"ID": v.ID, "CreatedAt": v.CreatedAt.String(), "Owner": fmt.Sprintf("%+v", v.Owner), "JSON": v.JSON().String()}
	case chat.Item:
		return map[string]string{"ID": v.ID, "ThreadID": v.ThreadID, "CreatedAt": v.CreatedAt.String(), "JSON": v.JSON().String()}
	case chat.Attachment:
		return map[string]string{"ID": v.ID, "ThreadID": v.ThreadID, "Owner": fmt.Sprintf("%+v", v.Owner), "JSON": v.JSON().String()}
	}
	return map[string]string{"value": fmt.Sprint(v)}
}

func threadIDs(ts []chat.Thread) []string {
	var ids []string
	for _, t := range ts {
		ids = append(ids, t.ID)
	}
	return ids
}

func itemIDs(its []chat.Item) []string {
	var ids []string
	for _, it := range its {
		ids = append(ids, it.ID)
	}
	return ids
}

// at is n seconds after a fixed time.
func at(n int) time.Time {
	return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(n) * time.Second)
}

// item returns a new item of a simple kind, in no thread yet.
func (h *harness) item(created time.Time, text string) chat.Item {
	h.t.Helper()
	return h.itemWithID(h.mint.id("msg"), created, text)
}

func (h *harness) itemWithID(id string, created time.Time, text string) chat.Item {
	h.t.Helper()
	return h.parseItem(fmt.Sprintf(`{"id":%q,"created_at":%q,"type":"assistant_message",`+
		`"content":[{"type":"output_text","text":%q,"annotations":[]}]}`, id, created.Format(time.RFC3339Nano), text))
}

func (h *harness) parseItem(text string) chat.Item {
	h.t.Helper()
	var it chat.Item
	err := json.Unmarshal([]byte(text), &it)
	return value(h, it, err)
}

func (h *harness) parseThread(text string) chat.Thread {
	h.t.Helper()
	var t chat.Thread
	err := json.Unmarshal([]byte(text), &t)
	return value(h, t, err)
}

func (h *harness) parseAttachment(text string) chat.Attachment {
	h.t.Helper()
	var a chat.Attachment
	err := json.Unmarshal([]byte(text), &a)
	return value(h, a, err)
}

func (h *harness) json(text string) chat.JSON {
	h.t.Helper()
	j, err := chat.ParseJSON(text)
	return value(h, j, err)
}

// parallel runs n functions at once, reports what they return, and waits for them all. They must not call fatalf.
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

// outcome is what a call returned, and the words to say so.
type outcome[T any] struct {
	h    *harness
	op   string
	args []any
	val  T
	err  error
}

func (o outcome[T]) String() string {
	args := make([]string, len(o.args))
	for i, a := range o.args {
		switch a := a.(type) {
		case string:
			args[i] = fmt.Sprintf("%q", abridgedID(a))
		default:
			args[i] = fmt.Sprintf("%+v", a)
		}
	}
	return o.op + "(" + strings.Join(args, ", ") + ")"
}

func abridgedID(id string) string {
	if len(id) > 80 {
		return fmt.Sprintf("%s… (%d bytes)", id[:80], len(id))
	}
	return id
}

// ok returns the value; an error ends the check.
func (o outcome[T]) ok() T {
	o.h.t.Helper()
	if o.err != nil {
		o.h.fatalf("%s: got error %q, want none", o, o.err)
	}
	return o.val
}

// is wants an error of want's class: the sentinel for errors.Is, and no other for CodeOf.
func (o outcome[T]) is(want error) {
	o.h.t.Helper()
	if err := o.check(want); err != nil {
		o.h.errorf("%v", err)
	}
}

// check is is for other goroutines than the check's own.
func (o outcome[T]) check(want error) error {
	if want == nil && o.err != nil {
		return fmt.Errorf("%s: got error %q, want none", o, o.err)
	}
	if o.err == nil && want != nil {
		return fmt.Errorf("%s: got no error, want %s", o, sentinelName(want))
	}
	if !errors.Is(o.err, want) {
		return fmt.Errorf("%s: got error %q, want %s: wrap it, so that errors.Is finds it", o, o.err, sentinelName(want))
	}
	if got := store.CodeOf(o.err); got != store.CodeOf(want) {
		return fmt.Errorf("%s: got an error that is %s and, for store.CodeOf, %s: wrap one sentinel only", o, sentinelName(want), got)
	}
	return nil
}

// absent wants no row. Which error says so is for the checks of the loads themselves.
func (o outcome[T]) absent() {
	o.h.t.Helper()
	if err := o.checkAbsent(); err != nil {
		o.h.errorf("%v", err)
	}
}

// checkAbsent is absent for other goroutines than the check's own.
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

// user makes calls as one principal, who owns the rows that they make.
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

// nobody makes rows without an owner: only after bare.
func (h *harness) nobody() *user { return h.user(chat.Owner{}) }

// in is the same user with another context.
func (u *user) in(ctx context.Context) *user {
	v := *u
	v.ctx = ctx
	return &v
}

func (u *user) mode(m store.SaveMode) *user { return u.in(store.WithSaveMode(u.ctx, m)) }

// thread returns a new thread of the user's that is not saved yet.
func (u *user) thread() chat.Thread {
	return chat.Thread{
		ID:        u.h.mint.id("thr"),
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

// attachment returns a new attachment of the user's that is not saved yet.
func (u *user) attachment(name string) chat.Attachment {
	u.h.t.Helper()
	a, err := chat.NewAttachment(u.h.mint.id("atc"), chat.AttachmentBody{Type: "file", Name: name, MIMEType: "text/plain"})
	a.Owner = u.owner
	return value(u.h, a, err)
}

func (u *user) newAttachment(name string) chat.Attachment {
	u.h.t.Helper()
	a := u.attachment(name)
	u.saveAttachment(a).ok()
	return a
}

type none = struct{}

func (u *user) loadThread(id string) outcome[chat.Thread] {
	t, err := u.h.s.LoadThread(u.ctx, id)
	return outcome[chat.Thread]{u.h, "LoadThread", []any{id}, t, err}
}

func (u *user) saveThread(t chat.Thread) outcome[none] {
	err := u.h.s.SaveThread(u.ctx, t)
	return outcome[none]{u.h, "SaveThread", append([]any{t.ID}, u.saveArgs(t.Owner)...), none{}, err}
}

func (u *user) deleteThread(id string) outcome[none] {
	return outcome[none]{u.h, "DeleteThread", []any{id}, none{}, u.h.s.DeleteThread(u.ctx, id)}
}

func (u *user) threads(f store.OwnerFilter, q store.PageQuery) outcome[store.Page[chat.Thread]] {
	p, err := u.h.s.LoadThreads(u.ctx, store.ThreadQuery{PageQuery: q, Owner: f})
	return outcome[store.Page[chat.Thread]]{u.h, "LoadThreads", []any{q, filterName(f)}, p, err}
}

func (u *user) items(threadID string, q store.PageQuery) outcome[store.Page[chat.Item]] {
	p, err := u.h.s.LoadThreadItems(u.ctx, threadID, q)
	return outcome[store.Page[chat.Item]]{u.h, "LoadThreadItems", []any{threadID, q}, p, err}
}

func (u *user) addItem(threadID string, it chat.Item) outcome[none] {
	return outcome[none]{u.h, "AddThreadItem", []any{threadID, it.ID}, none{}, u.h.s.AddThreadItem(u.ctx, threadID, it)}
}

func (u *user) saveItem(threadID string, it chat.Item) outcome[none] {
	err := u.h.s.SaveItem(u.ctx, threadID, it)
	return outcome[none]{u.h, "SaveItem", append([]any{threadID, it.ID}, u.saveArgs(chat.Owner{})...), none{}, err}
}

func (u *user) loadItem(threadID, itemID string) outcome[chat.Item] {
	it, err := u.h.s.LoadItem(u.ctx, threadID, itemID)
	return outcome[chat.Item]{u.h, "LoadItem", []any{threadID, itemID}, it, err}
}

func (u *user) deleteItem(threadID, itemID string) outcome[none] {
	return outcome[none]{u.h, "DeleteThreadItem", []any{threadID, itemID}, none{}, u.h.s.DeleteThreadItem(u.ctx, threadID, itemID)}
}

func (u *user) saveAttachment(a chat.Attachment) outcome[none] {
	err := u.h.s.SaveAttachment(u.ctx, a)
	return outcome[none]{u.h, "SaveAttachment", append([]any{a.ID}, u.saveArgs(a.Owner)...), none{}, err}
}

func (u *user) loadAttachment(id string) outcome[chat.Attachment] {
	a, err := u.h.s.LoadAttachment(u.ctx, id)
	return outcome[chat.Attachment]{u.h, "LoadAttachment", []any{id}, a, err}
}

func (u *user) deleteAttachment(id string) outcome[none] {
	return outcome[none]{u.h, "DeleteAttachment", []any{id}, none{}, u.h.s.DeleteAttachment(u.ctx, id)}
}

// saveArgs is what matters of a save beside the id.
func (u *user) saveArgs(o chat.Owner) []any {
	var args []any
	if !o.IsZero() {
		args = append(args, o)
	}
	switch store.SaveModeFrom(u.ctx) {
	case store.InsertOnly:
		args = append(args, saveModeName("InsertOnly"))
	case store.UpdateOnly:
		args = append(args, saveModeName("UpdateOnly"))
	case store.Upsert: // which goes without saying
	default:
		args = append(args, saveModeName("an unknown save mode"))
	}
	return args
}

type saveModeName string

type filterName store.OwnerFilter

func (f filterName) String() string {
	filter := store.OwnerFilter(f)
	if filter.IsAny() {
		return "AnyOwner()"
	}
	if tenant, ok := filter.Tenant(); ok {
		return fmt.Sprintf("InTenant(%q)", tenant)
	}
	if o, _ := filter.Owner(); !o.IsZero() {
		return fmt.Sprintf("OwnedBy(%+v)", o)
	}
	return "OwnerFilter{}"
}
