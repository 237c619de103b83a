package readonly_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/readonly"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest"
)

// isRefused checks the error of a refused write.
func isRefused(t *testing.T, err error, op store.Op, reason string) {
	t.Helper()
	e, _ := errors.AsType[*store.Error](err)
	if e == nil || e.Op != op || store.CodeOf(err) != store.CodeUnavailable || !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("%s: got %#v", op, err)
	}
	if !errors.Is(err, store.ErrNotApplied) || !store.IsDefinite(err) {
		t.Errorf("%s: the outcome of %v is unknown", op, err)
	}
	if r, ok := errors.AsType[*readonly.Error](err); !ok || r.Reason != reason {
		t.Errorf("%s: the reason is %+v, want %q", op, r, reason)
	}
}

func TestEveryWriteIsRefusedWithTheReason(t *testing.T) {
	var sw readonly.Switch
	base := &spy.Base{}
	s := store.Wrap(base, readonly.New(&sw))
	for _, reason := range []string{"moving", "moving until 14:00", ""} {
		sw.Refuse(reason)
		for _, op := range store.Ops() {
			before := len(base.Calls())
			err := spy.CallOp(t.Context(), s, op)
			calls := len(base.Calls()) - before
			switch {
			case op.IsWrite():
				isRefused(t, err, op, reason)
				if calls != 0 {
					t.Errorf("%s was refused, but the base was called", op)
				}
			case err != nil || calls != 1:
				t.Errorf("%s: %d calls of the base, and the error %v", op, calls, err)
			}
		}
	}
	sw.Allow()
	for _, op := range store.Ops() {
		if err := spy.CallOp(t.Context(), s, op); err != nil {
			t.Errorf("after Allow, %s: %v", op, err)
		}
	}
}

func TestEveryMethodReachesTheBaseOnce(t *testing.T) {
	methods := reflect.TypeFor[store.Store]()
	for m := range methods.Methods() {
		ctx := store.WithSaveMode(t.Context(), store.UpdateOnly)
		if inner := spy.Through(ctx, t, readonly.New(new(readonly.Switch)), m); inner != ctx {
			t.Errorf("%s: the base got another context", m.Name)
		}
	}
}

func TestAWriteThatBeginsAfterRefuseIsRefused(t *testing.T) {
	for range 200 {
		var sw readonly.Switch
		s := store.Wrap(&spy.Base{Forget: true}, readonly.New(&sw))
		var refusing atomic.Bool
		var begun, ended sync.WaitGroup
		for range 4 {
			begun.Add(1)
			ended.Go(func() {
				begun.Done()
				for last := false; !last; runtime.Gosched() {
					last = refusing.Load()
					if err := s.DeleteThread(t.Context(), "thr_1"); err == nil && last {
						t.Error("a write that began after Refuse had returned was made")
					}
				}
			})
		}
		begun.Wait()
		sw.Refuse("moving") // while the writers write
		isRefused(t, s.DeleteThread(t.Context(), "thr_1"), store.OpDeleteThread, "moving")
		refusing.Store(true)
		ended.Wait()
	}
}

func TestReadonlyAllocatesNothing(t *testing.T) {
	var sw readonly.Switch
	base := &spy.Base{Forget: true}
	s := store.Wrap(base, readonly.New(&sw))
	for _, refusing := range []bool{false, true} {
		for _, op := range store.Ops() {
			if refusing && op.IsWrite() {
				continue
			}
			without := testing.AllocsPerRun(100, func() { _ = spy.CallOp(t.Context(), base, op) })
			if n := testing.AllocsPerRun(100, func() { _ = spy.CallOp(t.Context(), s, op) }); n != without {
				t.Errorf("refusing %v, %s: %v allocations, %v without the layer", refusing, op, n, without)
			}
		}
		sw.Refuse("moving")
	}
}

func TestReadonlyKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store {
		return store.Wrap(memstore.New(), readonly.New(new(readonly.Switch)))
	}, storetest.WithVersionsRequired(), storetest.WithCapabilitiesRequired())
}

var ada = chat.Owner{Tenant: "acme", Subject: "ada"}

func TestEraseOwnerIsRefused(t *testing.T) {
	var sw readonly.Switch
	base := memstore.New()
	s := store.Wrap(base, readonly.New(&sw))
	ctx := t.Context()
	testenv.Must(t, s.SaveThread(ctx, chat.Thread{ID: "thr_1", CreatedAt: time.Now(), Owner: ada}))
	early, ok := store.As[driver.Eraser](s)
	if !ok {
		t.Fatal("the base's Eraser is not found")
	}
	sw.Refuse("moving")
	late, _ := store.As[driver.Eraser](s)
	for _, e := range []driver.Eraser{early, late} {
		_, err := e.EraseOwner(ctx, ada)
		isRefused(t, err, 0, "moving")
		if _, err := base.LoadThread(ctx, "thr_1"); err != nil {
			t.Fatal("EraseOwner was refused, but the thread is gone:", err)
		}
	}
	sw.Allow()
	if erased, err := early.EraseOwner(ctx, ada); err != nil || !slices.Equal(erased.Threads, []string{"thr_1"}) {
		t.Errorf("after Allow: %+v %v", erased, err)
	}
}

func TestSwapAttachmentIsRefused(t *testing.T) {
	var sw readonly.Switch
	base := memstore.New()
	var inner readonly.Switch
	s := store.Wrap(base, readonly.New(&sw), readonly.New(&inner))
	ctx := t.Context()
	file := func(name string) chat.Attachment {
		return testenv.OrPanic(chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "file", Name: name, MIMEType: "text/plain"}))
	}
	testenv.Must(t, s.SaveAttachment(ctx, file("a.txt")))
	stored := testenv.OrPanic(s.LoadAttachment(ctx, "atc_1"))
	swapper, ok := store.As[driver.AttachmentSwapper](s)
	if !ok {
		t.Fatal("the base's AttachmentSwapper is not found")
	}
	inner.Refuse("inner") // one switch is enough, and the outer layer's is asked first
	isRefused(t, swapper.SwapAttachment(ctx, stored.JSON(), file("b.txt")), 0, "inner")
	sw.Refuse("moving")
	isRefused(t, swapper.SwapAttachment(ctx, stored.JSON(), file("b.txt")), 0, "moving")
	inner.Allow()
	isRefused(t, swapper.SwapAttachment(ctx, stored.JSON(), file("b.txt")), 0, "moving")
	if kept := testenv.OrPanic(base.LoadAttachment(ctx, "atc_1")); !kept.Equal(stored) {
		t.Error("SwapAttachment was refused, but the attachment has changed")
	}
	sw.Allow()
	testenv.Must(t, swapper.SwapAttachment(ctx, stored.JSON(), file("b.txt")))
}

// A capability of another type that also erases cannot be put behind the layer, so it is not found.
func TestAWriterInDisguiseIsNotFound(t *testing.T) {
	type eraserAndMore interface {
		driver.Eraser
		driver.VersionReader
	}
	base := memstore.New()
	if _, ok := store.As[eraserAndMore](base); !ok {
		t.Fatal("the base is none")
	}
	s := store.Wrap(base, readonly.New(new(readonly.Switch)))
	if _, ok := store.As[eraserAndMore](s); ok {
		t.Error("EraseOwner is found past the layer")
	}
	if _, ok := store.As[*memstore.Store](s); ok {
		t.Error("the base itself is found past the layer")
	}
}

// A base's capabilities for reading must be found, because a move compares versions and attachments.
func TestReadingCapabilitiesAreFound(t *testing.T) {
	var sw readonly.Switch
	base := memstore.New()
	s := store.Wrap(base, readonly.New(&sw))
	sw.Refuse("moving")
	lister, _ := store.As[driver.AttachmentLister](s)
	versions, _ := store.As[driver.VersionReader](s)
	inactive, _ := store.As[driver.Inactive](s)
	bound, _ := store.As[driver.WriteBounder](s)
	for _, found := range []any{lister, versions, inactive, bound} {
		if found != any(base) {
			t.Errorf("found %T, want the base", found)
		}
	}
}

// ledger is a base's Grants, which records its calls.
type ledger struct{ calls []string }

func (l *ledger) called(call string, args ...any) {
	l.calls = append(l.calls, call+fmt.Sprint(args...))
}

func (l *ledger) Access(_ context.Context, p store.Principal, threadID string) (sharing.Access, error) {
	l.called("Access", p, threadID)
	return sharing.Access{Role: sharing.Viewer}, store.ErrDenied
}

func (l *ledger) Grant(_ context.Context, g sharing.Grant) error {
	l.called("Grant", g)
	return store.ErrDenied
}

func (l *ledger) Revoke(_ context.Context, threadID string, to sharing.Grantee) error {
	l.called("Revoke", threadID, to)
	return store.ErrDenied
}

func (l *ledger) Grantees(_ context.Context, threadID, after string, limit int) (store.Page[sharing.Grant], error) {
	l.called("Grantees", threadID, after, limit)
	return store.Page[sharing.Grant]{After: "grantees"}, store.ErrDenied
}

func (l *ledger) SharedWith(_ context.Context, p store.Principal, after string, limit int) (store.Page[sharing.Grant], error) {
	l.called("SharedWith", p, after, limit)
	return store.Page[sharing.Grant]{After: "shared"}, store.ErrDenied
}

// callAll makes a call of every method of g, and returns the answers.
func callAll(ctx context.Context, g sharing.Grants) (answers []any) {
	add := func(call ...any) { answers = append(answers, call) }
	add(g.Access(ctx, store.Principal{Owner: ada}, "thr_1"))
	add(g.Grantees(ctx, "thr_2", "after", 7))
	add(g.SharedWith(ctx, store.Principal{Owner: ada}, "after", 8))
	answers = append(answers, g.Grant(ctx, sharing.Grant{ThreadID: "thr_3", Role: sharing.Editor}),
		g.Revoke(ctx, "thr_4", sharing.Grantee{Subject: "bob"}))
	return answers
}

// sharingBase is a base with grants, which cannot erase.
type sharingBase struct {
	*spy.Base
	*ledger
}

func TestGrantsAreRefused(t *testing.T) {
	if n := reflect.TypeFor[sharing.Grants]().NumMethod(); n != 5 {
		t.Fatalf("Grants has %d methods, want 5: does a new one write?", n)
	}
	var sw readonly.Switch
	base := &sharingBase{&spy.Base{}, &ledger{}}
	s := store.Wrap(base, readonly.New(&sw))
	g, ok := store.As[sharing.Grants](s)
	if !ok || g == sharing.Grants(base) {
		t.Fatalf("found %T, want the layer", g)
	}
	want := callAll(t.Context(), &ledger{})
	if got := callAll(t.Context(), g); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	pure := &ledger{}
	callAll(t.Context(), pure)
	if diff := cmp.Diff(pure.calls, base.ledger.calls); diff != "" {
		t.Errorf("the base's Grants got other calls (-want +got):\n%s", diff)
	}

	base.ledger.calls = nil
	sw.Refuse("moving")
	got := callAll(t.Context(), g)
	if !reflect.DeepEqual(got[:3], want[:3]) {
		t.Errorf("while writes are refused, the reads answer %v, want %v", got[:3], want[:3])
	}
	for _, refused := range got[3:] {
		isRefused(t, refused.(error), 0, "moving")
	}
	if diff := cmp.Diff(pure.calls[:3], base.ledger.calls); diff != "" {
		t.Errorf("the base's Grants got other calls (-want +got):\n%s", diff)
	}
}

// A layer has the capabilities of its base, and no others.
func TestTheLayerHasTheCapabilitiesOfItsBase(t *testing.T) {
	for _, tt := range []struct {
		name            string
		base            store.Store
		erases, sharing bool
	}{
		{"neither", &spy.Base{}, false, false},
		{"Eraser", memstore.New(), true, false},
		{"Grants", &sharingBase{&spy.Base{}, &ledger{}}, false, true},
		{"both", &struct {
			*memstore.Store
			*ledger
		}{memstore.New(), &ledger{}}, true, true},
		{"behind a guard", store.Wrap(memstore.New(), authz.New(authz.OwnerOnly())), false, false},
	} {
		var sw readonly.Switch
		s := store.Wrap(tt.base, readonly.New(&sw))
		sw.Refuse("moving")
		e, erases := store.As[driver.Eraser](s)
		g, shares := store.As[sharing.Grants](s)
		if erases != tt.erases || shares != tt.sharing {
			t.Errorf("%s: finds an Eraser: %v, Grants: %v", tt.name, erases, shares)
		}
		if erases {
			_, err := e.EraseOwner(t.Context(), ada)
			isRefused(t, err, 0, "moving")
		}
		if shares {
			isRefused(t, g.Grant(t.Context(), sharing.Grant{ThreadID: "thr_1"}), 0, "moving")
		}
		isRefused(t, s.DeleteThread(t.Context(), "thr_1"), store.OpDeleteThread, "moving")
		if got, want := store.Layers(s), append([]string{"readonly"}, store.Layers(tt.base)...); !slices.Equal(got, want) {
			t.Errorf("%s: the layers are %v, want %v", tt.name, got, want)
		}
		if r, ok := s.(layer.StatsReporter); !ok || r.AppendStats(nil)[0].Value != 1 {
			t.Errorf("%s: no statistics", tt.name)
		}
	}
}

func TestTheGaugeSaysWhetherWritesAreRefused(t *testing.T) {
	var sw readonly.Switch
	r := store.Wrap(&spy.Base{}, readonly.New(&sw)).(layer.StatsReporter)
	check := func(want float64) {
		t.Helper()
		stats := r.AppendStats(nil)
		if len(stats) != 1 || stats[0].Name != "chatstore_readonly_active" || stats[0].Counter || stats[0].Value != want {
			t.Errorf("%+v, want %v", stats, want)
		}
	}
	check(0)
	sw.Refuse("")
	check(1)
	sw.Allow()
	check(0)
}

func TestMisusePanicsWithASentence(t *testing.T) {
	testenv.Panics(t, "readonly.New: the Switch is nil: pass new(readonly.Switch)", func() { readonly.New(nil) })
}
