package authz_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
)

// versionOf returns the version of ada's thread, or of the deleted one.
func versionOf(t *testing.T, w world) uint64 {
	t.Helper()
	ctx, read := store.WithVersions(t.Context())
	_, _ = w.base.LoadThread(ctx, thr)
	n, ok := read.Of(thr)
	if !ok {
		t.Fatal("the base reports no versions")
	}
	return n
}

// field returns the Field of err.
func field(err error) string {
	if e, ok := errors.AsType[*store.Error](err); ok {
		return e.Field
	}
	return ""
}

// conditional are the writes of ada's thread and its items.
var conditional = map[string]func(context.Context, store.Store) error{
	"SaveThread":       func(ctx context.Context, s store.Store) error { return s.SaveThread(ctx, thread(thr, chat.Owner{})) },
	"DeleteThread":     func(ctx context.Context, s store.Store) error { return s.DeleteThread(ctx, thr) },
	"AddThreadItem":    func(ctx context.Context, s store.Store) error { return s.AddThreadItem(ctx, thr, message("msg_new")) },
	"SaveItem":         func(ctx context.Context, s store.Store) error { return s.SaveItem(ctx, thr, message(msg, atc)) },
	"DeleteThreadItem": func(ctx context.Context, s store.Store) error { return s.DeleteThreadItem(ctx, thr, msg) },
}

func TestAWriteUnderAVersionReachesTheBase(t *testing.T) {
	for name, write := range conditional {
		for _, by := range []chat.Owner{ada, bob} {
			w := newWorld(t, authz.AnyOf(granting("bob", sharing.Editor), authz.HasRole("deleter")))
			ctx, n := as(t, by, "deleter"), versionOf(t, w)
			err := write(store.IfVersion(ctx, thr, n+1), w)
			wants(t, err, store.ErrConflict)
			if e, ok := errors.AsType[*store.Error](err); !ok || e.Field != "if_version" || e.Kind != store.RowThread || e.ID != thr {
				t.Errorf("%s by %s at another version: got %v, want the thread and if_version", name, by.Subject, err)
			}
			if got := versionOf(t, w); got != n {
				t.Errorf("%s by %s at another version was applied", name, by.Subject)
			}
			ctx, read := store.WithVersions(ctx)
			_, _ = w.LoadThread(ctx, thr)
			must(t, write(store.IfVersion(ctx, thr, n), w))
			if got, ok := read.Of(thr); got != n+1 || !ok {
				t.Errorf("%s by %s: after the write the version is %d, %t, want %d", name, by.Subject, got, ok, n+1)
			}
		}
	}
}

// TestWhoMayOnlyReadIsDeniedAtEveryVersion checks that a viewer's writes have one answer, whatever their condition is.
func TestWhoMayOnlyReadIsDeniedAtEveryVersion(t *testing.T) {
	w := newWorld(t, granting("bob", sharing.Viewer))
	n := versionOf(t, w)
	for name, write := range conditional {
		for v := range n + 2 {
			if err := write(store.IfVersion(as(t, bob), thr, v), w); store.CodeOf(err) != store.CodeDenied || field(err) != "" {
				t.Errorf("%s at version %d of %d: got %v, want denied", name, v, n, err)
			}
		}
	}
	w.notWritten(t)
}

// TestAnOwnersSaveUnderAVersion checks the save of a thread that is live, deleted or new. It meets the version of the id: that of
// the deleted thread, or 0.
func TestAnOwnersSaveUnderAVersion(t *testing.T) {
	const plain = "conflict"
	for _, c := range []struct {
		name   string
		mode   store.SaveMode
		before func(world, *testing.T) // the state
		during func(world, *testing.T) // runs after the look, before the save
		is     int                     // the condition's distance to the version before the call
		want   string
		calls  int // of the base
	}{
		{"live", store.Upsert, nil, nil, 0, "ok", 2},
		{"live, another version", store.Upsert, nil, nil, 1, "conflict, if_version", 2},
		{"live, version 0", store.Upsert, nil, nil, -100, "conflict, if_version", 2},
		{"live, InsertOnly", store.InsertOnly, nil, nil, 0, plain, 2},
		{"live, InsertOnly, another version", store.InsertOnly, nil, nil, 1, "conflict, if_version", 2},
		{"deleted", store.Upsert, world.gone, nil, 0, "ok", 2},
		{"deleted after the look, InsertOnly", store.InsertOnly, nil, world.gone, 1, "ok", 2},
		{"deleted, InsertOnly", store.InsertOnly, world.gone, nil, 0, "ok", 2},
		{"deleted, UpdateOnly", store.UpdateOnly, world.gone, nil, 0, "not_found", 1},
		{"deleted, version of the live thread", store.Upsert, world.gone, nil, -1, plain, 2},
		{"deleted, version 0", store.Upsert, world.gone, nil, -100, plain, 2},
		{"deleted after the look", store.Upsert, nil, world.gone, 1, "ok", 4},
		{"deleted after the look, version of the live thread", store.Upsert, nil, world.gone, 0, "conflict, if_version", 2},
		{"made again after the look", store.Upsert, world.gone, world.there, 0, plain, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, authz.OwnerOnly())
			if c.before != nil {
				c.before(w, t)
			}
			is := max(int(versionOf(t, w))+c.is, 0)
			if c.during != nil {
				w.spy.once(store.OpSaveThread, func() { c.during(w, t) })
			}
			err := w.SaveThread(store.IfVersion(store.WithSaveMode(as(t, ada), c.mode), thr, uint64(is)), thread(thr, ada))
			got := store.CodeOf(err).String()
			if f := field(err); f != "" {
				got += ", " + f
			}
			if ops := w.spy.ops(); got != c.want || len(ops) != c.calls {
				t.Errorf("got %s and the base's calls %v, want %s and %d calls", got, ops, c.want, c.calls)
			}
		})
	}
}

// gone deletes ada's thread, and there saves it.
func (w world) gone(t *testing.T)  { must(t, w.base.DeleteThread(t.Context(), thr)) }
func (w world) there(t *testing.T) { must(t, w.base.SaveThread(t.Context(), thread(thr, ada))) }

func TestANewThreadIsSavedUnderVersion0(t *testing.T) {
	w := newWorld(t, authz.OwnerOnly())
	err := w.SaveThread(store.IfVersion(as(t, ada), noThr, 1), thread(noThr, ada))
	wants(t, err, store.ErrConflict)
	must(t, w.SaveThread(store.IfVersion(as(t, ada), noThr, 0), thread(noThr, ada)))
}

// TestAStrangerCannotFindAVersionByTrying checks that a stranger's save has the same answer at every version, and costs the same
// calls of the base. That holds for ada's thread, for a thread that she has deleted, and for one that she makes at the same time.
func TestAStrangerCannotFindAVersionByTrying(t *testing.T) {
	for _, state := range []string{"live", "deleted", "made after the look"} {
		for _, mode := range []store.SaveMode{store.Upsert, store.InsertOnly, store.UpdateOnly} {
			t.Run(fmt.Sprintf("%s, mode %d", state, mode), func(t *testing.T) {
				type learned struct {
					Text  string
					Code  store.Code
					Calls []store.Op
				}
				seen := map[uint64]learned{}
				for v := range uint64(6) {
					w, id := newWorld(t, authz.OwnerOnly()), thr
					switch n := versionOf(t, w); {
					case n+1 > 4:
						t.Fatalf("the thread has version %d: try more versions", n)
					case state == "deleted":
						w.gone(t)
					case state == "made after the look":
						id = noThr
						w.spy.once(store.OpSaveThread, func() { must(t, w.base.SaveThread(t.Context(), thread(id, ada))) })
					}
					ctx, read := store.WithVersions(store.WithSaveMode(as(t, eve), mode))
					err := w.SaveThread(store.IfVersion(ctx, id, v), thread(id, chat.Owner{}))
					if err == nil {
						t.Fatalf("the save at version %d was applied", v)
					}
					seen[v] = learned{err.Error(), store.CodeOf(err), w.spy.ops()}
					if n, ok := read.Of(id); ok {
						t.Errorf("a refused save reported the version %d", n)
					}
				}
				for v := range seen {
					if d := cmp.Diff(seen[0], seen[v]); d != "" {
						t.Errorf("a stranger can tell version %d from version 0 (-0 +%d):\n%s", v, v, d)
					}
				}
			})
		}
	}
}

// TestARefusedWriteReportsNoVersion checks that only successful writes and reads report versions.
func TestARefusedWriteReportsNoVersion(t *testing.T) {
	for name, write := range conditional {
		w := newWorld(t, authz.OwnerOnly())
		ctx, read := store.WithVersions(as(t, ada))
		wants(t, write(store.IfVersion(ctx, thr, 100), w), store.ErrConflict)
		if n, ok := read.Of(thr); ok {
			t.Errorf("%s: the refused write reported the version %d", name, n)
		}
	}
}

// TestAConditionIsForTheCallersWriteOnly checks who does not get the caller's condition and recorder: the reads of this layer, the
// policy and the audit function. A policy may read and write a Store.
func TestAConditionIsForTheCallersWriteOnly(t *testing.T) {
	w := newWorld(t, authz.OwnerOnly())
	look := func(who string, ctx context.Context) {
		if d := callctx.Of(ctx); d.If.Set || d.Versions != nil {
			t.Errorf("%s has the caller's condition or recorder", who)
		}
	}
	policy := policyFunc(func(ctx context.Context, r authz.Request) (authz.Decision, error) {
		look("the policy", ctx)
		return authz.OwnerOnly().Decide(ctx, r)
	})
	audit := authz.WithAudit(func(ctx context.Context, _ authz.Denial) { look("the audit function", ctx) })
	s := store.Wrap(w.base, authz.New(policy, audit), layer.Intercept("looking", layer.InterceptorFunc(
		func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			if !c.Op.IsWrite() {
				look(c.Op.String(), ctx)
			}
			return next(ctx)
		})))
	for _, who := range []chat.Owner{ada, eve} {
		for _, write := range conditional {
			ctx, _ := store.WithVersions(as(t, who))
			_ = write(store.IfVersion(ctx, thr, 100), s)
		}
	}
	ctx, _ := store.WithVersions(as(t, eve))
	_, err := s.LoadThreads(store.IfVersion(ctx, thr, 1), store.ThreadQuery{})
	must(t, err)
}

// TestALimitIsTheAnswer checks a base that limits the caller's call, or the layer's read of the row's owner. The call has the
// limit's code and time, and the row does not pass for a missing one.
func TestALimitIsTheAnswer(t *testing.T) {
	limited := errors.Join(&store.Error{Code: store.CodeLimited, ID: canary, RetryAfter: 7 * time.Second, Cause: errors.New(canary)},
		errors.New(canary))
	testALimitIsTheAnswer(t, limited)
	testALimitIsTheAnswer(t, &store.Error{Op: store.OpSaveItem, Cause: limited}) // its code is its cause's
}

func testALimitIsTheAnswer(t *testing.T, limited error) {
	check := func(err error) {
		t.Helper()
		wants(t, err, store.ErrLimited)
		e, ok := errors.AsType[*store.Error](err)
		if !ok || e.RetryAfter != 7*time.Second || !store.IsDefinite(err) {
			t.Errorf("got %#v, want it definite and to retry after 7 s", err)
		}
		if err != nil && (strings.Contains(err.Error(), canary) || strings.Contains(fmt.Sprint(causes(err)), canary)) {
			t.Errorf("the error has the base's text: %v, causes %v", err, causes(err))
		}
	}
	for _, only := range []string{"all calls", "reads", "writes"} {
		s, base := over(t, faulty.Fault{Do: faulty.Fail(limited), When: func(c layer.Call) bool {
			return only == "all calls" || c.Op.IsWrite() == (only == "writes")
		}})
		for _, err := range writes(t, s) {
			check(err)
		}
		if base.Writes() > 0 && only != "writes" {
			t.Errorf("%s are limited: a write reached the base", only)
		}
		if only == "writes" {
			continue
		}
		ctx := as(t, ada)
		for _, err := range []error{
			errOf(s.LoadThread(ctx, thr)), errOf(s.LoadThreads(ctx, store.ThreadQuery{})), errOf(s.LoadItem(ctx, thr, msg)),
			errOf(s.LoadThreadItems(ctx, thr, store.PageQuery{})), errOf(s.LoadAttachment(ctx, atc)),
		} {
			check(err)
		}
		for _, look := range []store.Op{store.OpLoadItem, store.OpLoadAttachment} {
			s, _ := over(t, faulty.Fault{Op: look, Do: faulty.Fail(limited)})
			check(saveNamed(t, s)[0])
		}
	}
}
