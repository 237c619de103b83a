package sharing_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest"
	"github.com/chatstore/chatstore/storetest/faulty"
	"github.com/chatstore/chatstore/storetest/linear"
)

var (
	must = testenv.Must
	ada  = chat.Owner{Tenant: "acme", Subject: "ada"}
	bob  = store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "bob"}}
	toB  = sharing.Grantee{Tenant: "acme", Subject: "bob"}

	viewer = sharing.Grant{ThreadID: "thr_1", To: toB, Role: sharing.Viewer, By: ada}
)

func TestAStoreWithGrantsConforms(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return sharing.New(memstore.New()) },
		storetest.WithVersionsRequired(), storetest.WithCapabilitiesRequired())
}

func TestRandomCalls(t *testing.T) {
	storetest.Random(t, func(*testing.T) store.Store { return sharing.New(memstore.New()) }, storetest.WithOneIn(4))
}

// A cache around it stays right.
func TestAroundACacheItIsLinearizable(t *testing.T) {
	linear.Run(t, func(base store.Store) store.Store { return sharing.New(cache.New()(base)) }, linear.WithHistories(20))
	linear.Run(t, func(base store.Store) store.Store { return cache.New()(sharing.New(base)) }, linear.WithHistories(20))
}

// The version that a grant stores must not be that of an old answer, nor reach the caller as that of a read.
func TestGrantReadsFreshAndTellsTheCallerNoVersion(t *testing.T) {
	g, f := faults(t)
	f.Inject(faulty.Fault{Op: store.OpLoadThread, Do: func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
		if !layer.HintsFor(ctx, c.Op).Fresh() {
			t.Error("Grant may get a cached answer")
		}
		return next(ctx)
	}})
	ctx, read := store.WithVersions(t.Context())
	must(t, g.Grant(ctx, viewer))
	if n, ok := read.Of("thr_1"); ok {
		t.Errorf("the caller got the version %d", n)
	}
}

// bare hides the capabilities of a Store.
type bare struct{ store.Store }

func TestABaseThatCannotEraseStillCannot(t *testing.T) {
	if _, ok := store.As[driver.Eraser](sharing.New(bare{memstore.New()})); ok {
		t.Error("the Store has an EraseOwner without a base for it")
	}
	e, _ := store.As[driver.Eraser](sharing.New(memstore.New()))
	if _, ok := e.(sharing.Grants); !ok {
		t.Errorf("a %T erases, and leaves the grants", e)
	}
}

func TestNewPanicsWithoutABase(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	sharing.New(nil)
}

// faults returns a Store with a thread that is shared with bob, and its base.
func faults(t *testing.T) (sharing.Store, *faulty.Store) {
	t.Helper()
	f := faulty.New(memstore.New(), faulty.WithLongestWrite(time.Minute))
	g := sharing.New(f)
	must(t, g.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: time.Now(), Owner: ada}))
	must(t, g.Grant(t.Context(), viewer))
	return g, f
}

func wantRole(t *testing.T, g sharing.Grants, want sharing.Role) {
	t.Helper()
	if a, err := g.Access(t.Context(), bob, "thr_1"); err != nil || a.Role != want {
		t.Errorf("Access: %+v, %v, want role %d", a, err, want)
	}
}

// While a deletion runs, nobody gets a role. Then its outcome decides.
func TestADeletionEndsTheGrantsUnlessItHasDefinitelyFailed(t *testing.T) {
	for name, c := range map[string]struct {
		do   layer.InterceptorFunc
		want sharing.Role
	}{
		"success":          {faulty.Delay(context.Cause), sharing.NoRole},
		"definite failure": {faulty.Fail(errors.Join(store.ErrUnavailable, store.ErrNotApplied)), sharing.Viewer},
		"unknown outcome":  {faulty.Fail(nil), sharing.NoRole},
		"one attempt unknown": {func(ctx context.Context, _ layer.Call, _ func(context.Context) error) error {
			layer.ReportUnsettled(ctx)
			return store.ErrNotApplied // of the last attempt
		}, sharing.NoRole},
		"panic":  {faulty.Panic("base"), sharing.NoRole},
		"goexit": {faulty.Goexit(), sharing.NoRole},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, f := faults(t)
				leave := make(chan struct{})
				f.Inject(faulty.Fault{Op: store.OpDeleteThread, Do: func(ctx context.Context, l layer.Call, next func(context.Context) error) error {
					defer func() { <-leave }()
					return c.do(ctx, l, next)
				}})
				go func() {
					defer func() { _ = recover() }()
					_ = g.DeleteThread(t.Context(), "thr_1")
				}()
				synctest.Wait()

				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				a, errA := g.Access(ctx, bob, "thr_1")
				_, errG := g.Grantees(ctx, "thr_1", "", 0)
				_, errS := g.SharedWith(ctx, bob, "", 0)
				for _, err := range []error{errA, errG, errS} {
					if store.CodeOf(err) != store.CodeTimeout || a != (sharing.Access{}) {
						t.Errorf("during the deletion: %+v, %v", a, err)
					}
				}
				go func() {
					time.Sleep(time.Second)
					close(leave)
				}()
				wantRole(t, g, c.want) // waits for the outcome
			})
		})
	}
}

// A deletion may take effect later in three cases: its outcome is unknown, a layer beneath has repeated it, or the base still
// watches it. It must not meet a newer grant.
func TestNoGrantWhileADeletionMayTakeEffect(t *testing.T) {
	ended := make(chan struct{})
	for name, c := range map[string]struct {
		do      func(ctx context.Context) error
		pending bool
	}{
		"unknown outcome": {func(context.Context) error { return store.ErrUnavailable }, false},
		"unsettled": {func(ctx context.Context) error {
			layer.ReportUnsettled(ctx)
			return nil
		}, false},
		"pending": {func(ctx context.Context) error {
			driver.ReportPending(ctx, ended)
			return store.ErrUnavailable
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, f := faults(t)
				ended = make(chan struct{})
				f.Inject(faulty.Fault{Op: store.OpDeleteThread, Times: 1, Do: func(ctx context.Context, _ layer.Call, _ func(context.Context) error) error {
					return c.do(ctx)
				}})
				reports := 0
				_ = g.DeleteThread(spy.WithUnsettledRecorder(t.Context(), func(<-chan struct{}) { reports++ }), "thr_1")
				if want := 1; name != "unknown outcome" && reports != want {
					t.Errorf("the caller got %d reports, want %d", reports, want)
				}
				must(t, g.DeleteThread(t.Context(), "thr_2")) // others do not end it
				wait := func() {
					t.Helper()
					if err := g.Grant(t.Context(), viewer); !errors.Is(err, store.ErrUnavailable) || !store.IsDefinite(err) {
						t.Errorf("Grant: %v", err)
					}
				}
				wait()
				time.Sleep(time.Minute)
				if c.pending {
					wait()
					close(ended)
				}
				must(t, g.Grant(t.Context(), viewer))
			})
		})
	}
}

// A Grant has read the thread when it is deleted, and perhaps made again. It must not share what it has not read.
func TestAGrantDoesNotPassADeletion(t *testing.T) {
	eraser := func(g sharing.Store) driver.Eraser {
		e, _ := store.As[driver.Eraser](g)
		return e
	}
	for name, c := range map[string]struct {
		meanwhile func(ctx context.Context, g sharing.Store) error
		want      store.Code
		version   uint64
	}{
		"deletion": {func(ctx context.Context, g sharing.Store) error { return g.DeleteThread(ctx, "thr_1") }, store.CodeNotFound, 0},
		"deletion and a new thread": {func(ctx context.Context, g sharing.Store) error {
			return errors.Join(g.DeleteThread(ctx, "thr_1"), g.SaveThread(ctx, chat.Thread{ID: "thr_1", CreatedAt: time.Now()}))
		}, store.CodeOK, 3},
		"erasure": {func(ctx context.Context, g sharing.Store) error {
			_, err := eraser(g).EraseOwner(ctx, ada)
			return err
		}, store.CodeNotFound, 0},
	} {
		t.Run(name, func(t *testing.T) {
			g, f := faults(t)
			f.Inject(faulty.Fault{Op: store.OpLoadThread, Times: 1, Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
				return errors.Join(next(ctx), c.meanwhile(t.Context(), g))
			}})
			if err := g.Grant(t.Context(), viewer); store.CodeOf(err) != c.want {
				t.Errorf("Grant: %v, want %v", err, c.want)
			}
			if a, err := g.Access(t.Context(), bob, "thr_1"); err != nil || a.Version != c.version {
				t.Errorf("Access: %+v, %v, want version %d", a, err, c.version)
			}
		})
	}
}

// A deletion takes effect in the base, the id is used again, and only then the deletion returns. A Grant of the new thread stays.
func TestAGrantOfTheNextThreadWaitsForTheDeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, f := faults(t)
		f.Inject(faulty.Fault{Op: store.OpDeleteThread, Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			err := next(ctx)
			time.Sleep(time.Second)
			return err
		}})
		go func() { _ = g.DeleteThread(t.Context(), "thr_1") }()
		synctest.Wait()
		must(t, g.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: time.Now()}))
		must(t, g.Grant(t.Context(), viewer))
		wantRole(t, g, sharing.Viewer)
	})
}
