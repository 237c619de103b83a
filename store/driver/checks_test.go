package driver_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

var (
	checks = driver.Checks{Versions: true}
	noon   = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
)

// in has the arguments of every call; out has the results of Checks for them.
type in struct {
	checks                         driver.Checks
	ctx                            context.Context
	threadID, itemID, attachmentID string
	threads                        store.ThreadQuery
	items                          store.PageQuery
	thread                         chat.Thread
	item                           chat.Item
	attachment                     chat.Attachment
}

type out struct {
	threads    store.ThreadQuery
	items      store.PageQuery
	thread     driver.SaveThread
	item       driver.SaveItem
	attachment driver.SaveAttachment
	condition  driver.Condition // of a deletion
}

// fault makes the arguments invalid and names the expected error.
type fault struct {
	spoil           func(*in)
	kind, id, field string
}

var (
	badThreadID     = fault{func(in *in) { in.threadID = "t\n" }, store.RowThread, "t\n", "id: a control character"}
	badItemID       = fault{func(in *in) { in.itemID = "" }, store.RowItem, "", "id: empty"}
	badAttachmentID = fault{func(in *in) { in.attachmentID = "\xff" }, store.RowAttachment, "\xff", "id: not valid UTF-8"}
)

// badMode returns the fault of an unknown save mode.
func badMode(kind, id string) fault {
	return fault{func(in *in) { in.ctx = store.WithSaveMode(in.ctx, store.UpdateOnly+1) }, kind, id, "save mode: unknown"}
}

// badConditions returns the faults of [store.IfVersion] in a write. threadID is "" for an attachment.
func badConditions(kind, id, threadID string) []fault {
	none := func(in *in) { in.checks, in.ctx = driver.Checks{}, store.IfVersion(in.ctx, "thr_1", 7) }
	other := func(in *in) { in.ctx = store.IfVersion(in.ctx, "thr_2", 7) }
	wrong := "if_version: another thread's version"
	if threadID == "" {
		wrong = "if_version: attachments have no version"
	}
	return []fault{{none, kind, id, "if_version: this store keeps no versions"}, {other, kind, id, wrong}}
}

// call is a call of one op, with its faults in the order of the checks.
type call struct {
	check    func(*in, *out) error
	faults   []fault
	kind, id string // in the error for a done context
	want     func(*out)
}

// set stores the result of a call and returns its error.
func set[T any](to *T) func(v T, err error) error {
	return func(v T, err error) error {
		*to = v
		return err
	}
}

func ofThread(op store.Op) call {
	return call{
		check:  func(in *in, _ *out) error { return in.checks.Thread(in.ctx, op, in.threadID) },
		faults: []fault{badThreadID},
		kind:   store.RowThread, id: "thr_1",
	}
}

func ofItem(op store.Op) call {
	return call{
		check:  func(in *in, _ *out) error { return in.checks.Item(in.ctx, op, in.threadID, in.itemID) },
		faults: []fault{badThreadID, badItemID},
		kind:   store.RowItem, id: "msg_1",
	}
}

func ofAttachment(op store.Op, faults ...fault) call {
	return call{
		check:  func(in *in, _ *out) error { return in.checks.Attachment(in.ctx, op, in.attachmentID) },
		faults: append([]fault{badAttachmentID}, faults...),
		kind:   store.RowAttachment, id: "atc_1",
	}
}

func saveOfItem(op store.Op, mode store.SaveMode, faults ...fault) call {
	return call{
		check: func(in *in, out *out) error {
			return set(&out.item)(in.checks.SaveItem(in.ctx, op, in.threadID, in.item))
		},
		faults: append([]fault{
			badThreadID,
			{func(in *in) { in.item.ThreadID = "thr_2" }, store.RowItem, "msg_1", "thread_id: another thread's id"},
			{func(in *in) { in.item.CreatedAt = time.Time{} }, store.RowItem, "msg_1", "created_at: zero"},
		}, append(faults, badConditions(store.RowItem, "msg_1", "thr_1")...)...),
		kind: store.RowItem, id: "msg_1",
		want: func(out *out) { out.item.Mode = mode; out.item.Item = good().item },
	}
}

// good returns valid, normalised arguments.
func good() in {
	return in{
		checks: checks,
		ctx:    store.WithSaveMode(context.Background(), store.UpdateOnly), threadID: "thr_1", itemID: "msg_1", attachmentID: "atc_1",
		threads:    store.ThreadQuery{PageQuery: store.PageQuery{Limit: 7, After: "thr_0"}, Owner: store.InTenant("acme")},
		items:      store.PageQuery{Limit: 7, After: "msg_0", Order: store.OldestFirst},
		thread:     testenv.OrPanic(chat.Thread{ID: "thr_1", CreatedAt: noon}.Normalized()),
		item:       testenv.OrPanic(testenv.OrPanic(chat.NewItem("msg_1", noon, chat.EndOfTurn{})).Normalized("thr_1")),
		attachment: testenv.OrPanic(testenv.OrPanic(chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "file"})).Normalized()),
	}
}

var calls = map[store.Op]call{
	store.OpLoadThread: ofThread(store.OpLoadThread),
	store.OpDeleteThread: {
		check: func(in *in, out *out) error {
			return set(&out.condition)(in.checks.DeleteThread(in.ctx, in.threadID))
		},
		faults: append([]fault{badThreadID}, badConditions(store.RowThread, "thr_1", "thr_1")...),
		kind:   store.RowThread, id: "thr_1",
	},
	store.OpSaveThread: {
		check: func(in *in, out *out) error { return set(&out.thread)(in.checks.SaveThread(in.ctx, in.thread)) },
		faults: append([]fault{
			{func(in *in) { in.thread.Title = "\xff" }, store.RowThread, "thr_1", "title: not valid UTF-8"},
			badMode(store.RowThread, "thr_1"),
		}, badConditions(store.RowThread, "thr_1", "thr_1")...),
		kind: store.RowThread, id: "thr_1",
		want: func(out *out) { out.thread = driver.SaveThread{Thread: good().thread, Mode: store.UpdateOnly} },
	},
	store.OpLoadThreads: {
		check: func(in *in, out *out) error { return set(&out.threads)(in.checks.Threads(in.ctx, in.threads)) },
		faults: []fault{
			{func(in *in) { in.threads.Limit = -1 }, store.RowThread, "", "limit: negative"},
			{func(in *in) { in.threads.Order = 2 }, store.RowThread, "", "order: unknown"},
			{func(in *in) { in.threads.After = "\n" }, store.RowThread, "\n", "after: a control character"},
			{func(in *in) { in.threads.Owner = store.OwnedBy(chat.Owner{Tenant: "acme"}) }, store.RowThread, "", "owner: a tenant without a subject"},
		},
		kind: store.RowThread,
		want: func(out *out) { out.threads = good().threads },
	},
	store.OpLoadThreadItems: {
		check: func(in *in, out *out) error { return set(&out.items)(in.checks.Items(in.ctx, in.threadID, in.items)) },
		faults: []fault{
			badThreadID,
			{func(in *in) { in.items.Limit = -1 }, store.RowItem, "", "limit: negative"},
			{func(in *in) { in.items.Order = 2 }, store.RowItem, "", "order: unknown"},
			{func(in *in) { in.items.After = "\n" }, store.RowItem, "\n", "after: a control character"},
		},
		kind: store.RowThread, id: "thr_1",
		want: func(out *out) { out.items = good().items },
	},
	store.OpAddThreadItem: saveOfItem(store.OpAddThreadItem, store.InsertOnly),
	store.OpSaveItem:      saveOfItem(store.OpSaveItem, store.UpdateOnly, badMode(store.RowItem, "msg_1")),
	store.OpLoadItem:      ofItem(store.OpLoadItem),
	store.OpDeleteThreadItem: {
		check: func(in *in, out *out) error {
			return set(&out.condition)(in.checks.DeleteItem(in.ctx, in.threadID, in.itemID))
		},
		faults: append([]fault{badThreadID, badItemID}, badConditions(store.RowItem, "msg_1", "thr_1")...),
		kind:   store.RowItem, id: "msg_1",
	},
	store.OpSaveAttachment: {
		check: func(in *in, out *out) error {
			return set(&out.attachment)(in.checks.SaveAttachment(in.ctx, in.attachment))
		},
		faults: append([]fault{
			{func(in *in) { in.attachment.ThreadID = "\n" }, store.RowAttachment, "atc_1", "thread_id: a control character"},
			badMode(store.RowAttachment, "atc_1"),
		}, badConditions(store.RowAttachment, "atc_1", "")...),
		kind: store.RowAttachment, id: "atc_1",
		want: func(out *out) {
			out.attachment = driver.SaveAttachment{Attachment: good().attachment, Mode: store.UpdateOnly}
		},
	},
	store.OpLoadAttachment:   ofAttachment(store.OpLoadAttachment),
	store.OpDeleteAttachment: ofAttachment(store.OpDeleteAttachment, badConditions(store.RowAttachment, "atc_1", "")...),
}

// TestChecksFindTheFirstFault gives each call all faults and a done context, then removes the faults one by one, the first
// one first. The error is always about the first fault that is left, and about the context at the end.
func TestChecksFindTheFirstFault(t *testing.T) {
	done, cancel := context.WithCancel(t.Context())
	cancel()
	for _, op := range store.Ops() {
		t.Run(op.String(), func(t *testing.T) {
			c := calls[op]
			for i := range len(c.faults) + 1 {
				args, got := good(), out{}
				args.ctx = done
				want := store.Error{Op: op, Code: store.CodeCanceled, Kind: c.kind, ID: c.id}
				if i < len(c.faults) {
					f := c.faults[i]
					want = store.Error{Op: op, Code: store.CodeInvalid, Kind: f.kind, ID: f.id, Field: f.field}
				}
				for _, f := range c.faults[i:] {
					f.spoil(&args)
				}
				err := c.check(&args, &got)
				e, ok := err.(*store.Error)
				if !ok {
					t.Fatalf("got %v, want %v", err, &want)
				}
				if i == len(c.faults) { // TestDone checks the cause
					want.Cause = e.Cause
				}
				if *e != want || !store.IsDefinite(err) {
					t.Errorf("got %#v, want %#v", *e, want)
				}
				if got != (out{}) {
					t.Errorf("the call failed with %v, but returned %+v", err, got)
				}
			}
		})
	}
}

func TestChecksReturnGoodArgumentsNormalised(t *testing.T) {
	for _, op := range store.Ops() {
		t.Run(op.String(), func(t *testing.T) {
			c, want := calls[op], out{}
			if c.want != nil {
				c.want(&want)
			}
			normal, raw := good(), good()
			raw.thread = chat.Thread{ID: "thr_1", CreatedAt: noon.Add(999).In(time.FixedZone("", 3600))}
			raw.item = testenv.OrPanic(chat.NewItem("msg_1", noon, chat.EndOfTurn{}))
			raw.attachment = testenv.OrPanic(chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "file"}))
			for _, args := range []in{normal, raw} {
				var got out
				if err := c.check(&args, &got); err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("got %+v, %v, want %+v", got, err, want)
				}
			}
			var got out
			if n := testing.AllocsPerRun(100, func() { _ = c.check(&normal, &got) }); n != 0 {
				t.Errorf("%v allocations for normalised arguments", n)
			}
		})
	}
}

func TestQueries(t *testing.T) {
	for limit, want := range map[int]int{0: 20, 1: 1, 1000: 1000, 1001: 1000, 1 << 62: 1000} {
		in := store.PageQuery{Limit: limit, After: "x", Order: store.OldestFirst}
		items, err := checks.Items(t.Context(), "thr_1", in)
		threads, err2 := checks.Threads(t.Context(), store.ThreadQuery{PageQuery: in})
		attachments, err3 := checks.Attachments(t.Context(), store.ThreadQuery{PageQuery: in})
		if err := errors.Join(err, err2, err3); err != nil {
			t.Errorf("limit %d: %v", limit, err)
		}
		if in.Limit = want; items != in || threads.PageQuery != in || attachments.PageQuery != in {
			t.Errorf("limit %d: got %+v, %+v and %+v", limit, items, threads, attachments)
		}
	}
	for _, f := range []store.OwnerFilter{{}, store.AnyOwner(), store.InTenant(""), store.InTenant("t"), store.OwnedBy(chat.Owner{Subject: "s"})} {
		if q, err := checks.Threads(t.Context(), store.ThreadQuery{Owner: f}); err != nil || q.Owner != f || q.Limit != store.DefaultLimit {
			t.Errorf("%+v: got %+v, %v", f, q, err)
		}
	}
}

// TestConditions: a write of the thread gets the condition of its context, without an allocation. Reads ignore it, whatever
// it asks for, also in a store without versions.
func TestConditions(t *testing.T) {
	for _, op := range store.Ops() {
		if c := calls[op]; op.IsWrite() && c.kind != store.RowAttachment {
			args, got := good(), out{}
			args.ctx = store.IfVersion(args.ctx, "thr_1", 7)
			err := c.check(&args, &got)
			saves := []driver.Condition{got.thread.Condition, got.item.Condition, got.condition}
			if want := (driver.Condition{Version: 7, Set: true}); err != nil || !slices.Contains(saves, want) {
				t.Errorf("%s: got %+v, %v, want %+v", op, saves, err, want)
			}
			if n := testing.AllocsPerRun(100, func() { _ = c.check(&args, &got) }); n != 0 {
				t.Errorf("%s: %v allocations", op, n)
			}
			done, cancel := context.WithCancel(args.ctx)
			cancel()
			args.ctx = done
			if err := c.check(&args, &got); store.CodeOf(err) != store.CodeCanceled {
				t.Errorf("%s with a cancelled context: got %v", op, err)
			}
		} else if !op.IsWrite() {
			args := good()
			args.checks, args.ctx = driver.Checks{}, store.IfVersion(args.ctx, "thr_2", 7)
			if err := c.check(&args, new(out)); err != nil {
				t.Errorf("%s: %v", op, err)
			}
		}
	}
}

// TestConditionCheck: without a condition, every version is right. The error names the thread and the field, never a version.
func TestConditionCheck(t *testing.T) {
	for _, c := range []struct {
		cond    driver.Condition
		version uint64
		ok      bool
	}{
		{driver.Condition{}, 0, true},
		{driver.Condition{}, 7, true},
		{driver.Condition{Version: 3}, 7, true},
		{driver.Condition{Set: true}, 0, true},
		{driver.Condition{Set: true}, 1, false},
		{driver.Condition{Version: 7, Set: true}, 7, true},
		{driver.Condition{Version: 7, Set: true}, 6, false},
		{driver.Condition{Version: 7, Set: true}, 8, false},
		{driver.Condition{Version: 1 << 63, Set: true}, 1<<63 + 1, false},
	} {
		err := c.cond.Check(store.OpSaveItem, "thr_1", c.version)
		if c.ok {
			if err != nil {
				t.Errorf("%+v for version %d: %v", c.cond, c.version, err)
			}
			continue
		}
		want := store.Error{Op: store.OpSaveItem, Kind: store.RowThread, ID: "thr_1", Code: store.CodeConflict, Field: "if_version"}
		if e, ok := err.(*store.Error); !ok || *e != want {
			t.Errorf("%+v for version %d: got %v, want %v", c.cond, c.version, err, &want)
		}
	}
}

// TestSaveModes: a save has the mode of its context. AddThreadItem always inserts, even if the context's mode is invalid.
func TestSaveModes(t *testing.T) {
	for mode := store.Upsert; mode <= store.UpdateOnly+1; mode++ {
		var got out
		args := good()
		args.ctx = store.WithSaveMode(t.Context(), mode)
		if err := calls[store.OpAddThreadItem].check(&args, &got); err != nil || got.item.Mode != store.InsertOnly {
			t.Errorf("AddThreadItem in mode %d: mode %d, %v", mode, got.item.Mode, err)
		}
		if mode > store.UpdateOnly {
			return
		}
		for _, op := range []store.Op{store.OpSaveThread, store.OpSaveItem, store.OpSaveAttachment} {
			if err := calls[op].check(&args, &got); err != nil {
				t.Errorf("%s in mode %d: %v", op, mode, err)
			}
		}
		if got.thread.Mode != mode || got.item.Mode != mode || got.attachment.Mode != mode {
			t.Errorf("in mode %d: %+v", mode, got)
		}
	}
}

// TestDone: the error wraps the context's error, its cause, and ErrNotApplied.
func TestDone(t *testing.T) {
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		if err := driver.Done(ctx, store.OpLoadThread, store.RowThread, "x"); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a context that is not done", n)
	}
	reason := errors.New("the reason")
	canceled, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	plain, cancelPlain := context.WithCancel(t.Context())
	cancelPlain()
	late, cancelLate := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancelLate()
	for _, c := range []struct {
		ctx  context.Context
		code store.Code
		is   []error
	}{
		{canceled, store.CodeCanceled, []error{context.Canceled, reason, store.ErrNotApplied}},
		{plain, store.CodeCanceled, []error{context.Canceled, store.ErrNotApplied}},
		{late, store.CodeTimeout, []error{context.DeadlineExceeded, store.ErrNotApplied}},
	} {
		err := driver.Done(c.ctx, store.OpSaveItem, store.RowItem, "x")
		if e, ok := err.(*store.Error); !ok || e.Op != store.OpSaveItem || e.Kind != store.RowItem || e.ID != "x" {
			t.Errorf("got %#v", err)
		}
		if store.CodeOf(err) != c.code || !store.IsDefinite(err) {
			t.Errorf("got %v, code %v", err, store.CodeOf(err))
		}
		for _, is := range c.is {
			if !errors.Is(err, is) {
				t.Errorf("%v does not wrap %v", err, is)
			}
		}
		if strings.Contains(err.Error(), "reason") {
			t.Errorf("the cause is in the text: %v", err)
		}
	}
}

// TestChecksOfCapabilities: the calls of capabilities have their arguments checked, then the context. Their errors have no op.
func TestChecksOfCapabilities(t *testing.T) {
	done, cancel := context.WithCancel(t.Context())
	cancel()
	ada := chat.Owner{Tenant: "acme", Subject: "ada"}
	ids := slices.Repeat([]string{"thr_1"}, driver.MaxVersions+1)
	attachments := func(q store.ThreadQuery) func(context.Context) error {
		return func(ctx context.Context) error { _, err := checks.Attachments(ctx, q); return err }
	}
	for _, c := range []struct {
		check func(ctx context.Context) error
		field string // of the fault; "" if there is none
	}{
		{func(ctx context.Context) error { return checks.Owner(ctx, ada) }, ""},
		{func(ctx context.Context) error { return checks.Owner(ctx, chat.Owner{}) }, "owner: empty"},
		{func(ctx context.Context) error { return checks.Owner(ctx, chat.Owner{Tenant: "acme"}) }, "owner: a tenant without a subject"},
		{func(ctx context.Context) error { return checks.ThreadIDs(ctx, nil) }, ""},
		{func(ctx context.Context) error { return checks.ThreadIDs(ctx, ids[:driver.MaxVersions]) }, ""},
		{func(ctx context.Context) error { return checks.ThreadIDs(ctx, ids) }, "ids: more than 1000"},
		{func(ctx context.Context) error { return checks.ThreadIDs(ctx, []string{"thr_1", ""}) }, "id: empty"},
		{attachments(store.ThreadQuery{Owner: store.OwnedBy(ada)}), ""},
		{attachments(store.ThreadQuery{PageQuery: store.PageQuery{Limit: -1}}), "limit: negative"},
		{attachments(store.ThreadQuery{Owner: store.OwnedBy(chat.Owner{Tenant: "acme"})}), "owner: a tenant without a subject"},
	} {
		want, code := store.CodeInvalid, "invalid"
		err := c.check(t.Context())
		if c.field == "" {
			if want, code = store.CodeCanceled, "canceled"; err != nil {
				t.Errorf("valid arguments: got %v", err)
			}
		} else if store.CodeOf(err) != want {
			t.Errorf("got %v, want %s", err, c.field)
		}
		err = c.check(done)
		if e, ok := err.(*store.Error); !ok || e.Code != want || e.Op != 0 || e.Field != c.field || !strings.HasPrefix(err.Error(), code) {
			t.Errorf("after its context has ended: got %v, want %s %s", err, code, c.field)
		}
	}
}
