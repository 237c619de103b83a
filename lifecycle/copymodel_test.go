package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
)

// contents returns all of a store: the rows in the order of listings, grants and tombstones.
func contents(t testing.TB, s store.Store) (all []string) {
	t.Helper()
	ctx := context.Background()
	for th, err := range Threads(ctx, s, store.AnyOwner()) {
		testenv.Must(t, err)
		all = append(all, fmt.Sprint("thread ", th.JSON(), th.Owner))
		for it, err := range Items(ctx, s, th.ID) {
			testenv.Must(t, err)
			all = append(all, fmt.Sprint("item of ", th.ID, it.JSON()))
		}
		if g, ok := store.As[sharing.Grants](s); ok {
			for _, g := range testenv.Value(grantees(ctx, g, th.ID))(t) {
				all = append(all, fmt.Sprint("grant ", g))
			}
		}
	}
	for a, err := range Attachments(ctx, s, store.AnyOwner()) {
		testenv.Must(t, err)
		all = append(all, fmt.Sprint("attachment ", a.JSON(), a.Owner))
	}
	return append(all, buried(t, s)...)
}

// buried returns the tombstones.
func buried(t testing.TB, s store.Store) (all []string) {
	t.Helper()
	for _, kind := range []string{store.RowThread, store.RowAttachment} {
		for d, err := range tombstonesOf(t.Context(), s, kind) {
			testenv.Must(t, err)
			if d.Erased {
				d.CreatedAt = time.Time{} // it may be the place that the row had when it was copied
			}
			all = append(all, fmt.Sprint(kind, " ", d.ID, " deleted ", d.Owner, d.CreatedAt, d.Erased))
		}
	}
	return all
}

// chance is a random source for several goroutines.
type chance struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (c *chance) n(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.r.IntN(n)
}

func (c *chance) one(in int) bool { return c.n(in) == 0 }

// flaky is a store whose writes fail with unknown outcomes, before, after, or late: within the bound. Its reads fail too.
type flaky struct {
	store.Store
	sharing.Grants
	driver.Eraser
	c     *chance
	bound time.Duration
	calm  bool
}

func (f *flaky) Unwrap() store.Store { return f.Store }

func (f *flaky) try(ctx context.Context, write func(context.Context) error) error {
	if f.calm || !f.c.one(15) {
		return write(ctx)
	}
	switch f.c.n(3) {
	case 0:
		return store.ErrUnavailable
	case 1:
		return errors.Join(write(ctx), store.ErrUnavailable)
	}
	late := callctx.WithoutVersionRecorder(context.WithoutCancel(ctx))
	time.AfterFunc(time.Duration(f.c.n(int(f.bound))), func() { _ = write(late) })
	return store.ErrUnavailable
}

func (f *flaky) Grant(ctx context.Context, g sharing.Grant) error {
	return f.try(ctx, func(ctx context.Context) error { return f.Grants.Grant(ctx, g) })
}

func (f *flaky) Revoke(ctx context.Context, id string, to sharing.Grantee) error {
	return f.try(ctx, func(ctx context.Context) error { return f.Grants.Revoke(ctx, id, to) })
}

func (f *flaky) EraseOwner(ctx context.Context, o chat.Owner) (driver.Erased, error) {
	return driver.Erased{}, f.try(ctx, func(ctx context.Context) error { return errOf(f.Eraser.EraseOwner(ctx, o)) })
}

func newFlaky(base sharing.Store, c *chance, bound time.Duration) *flaky {
	f := &flaky{Grants: base, Eraser: base.(driver.Eraser), c: c, bound: bound}
	s := faulty.New(base, faulty.WithLongestWrite(bound))
	s.Inject(faulty.Fault{When: func(c layer.Call) bool { return c.Op.IsWrite() },
		Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			return f.try(ctx, next)
		}})
	s.Inject(faulty.Fault{When: func(layer.Call) bool { return !f.calm && c.one(300) }, Do: faulty.Fail(nil)})
	f.Store = s
	return f
}

// writer makes one random write to s.
func writer(t testing.TB, s sharing.Store, c *chance) {
	ctx := context.Background()
	at := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC).Add(time.Duration(c.n(3)) * time.Second)
	who := func(n int) chat.Owner {
		return []chat.Owner{{Subject: "ada"}, {Subject: "bob"}, {Tenant: "x", Subject: "ada"}, {}}[n%4]
	}
	n := c.n(8)
	thread, file, to := fmt.Sprint("thr_", n), fmt.Sprint("atc_", n), sharing.Grantee{Subject: fmt.Sprint("friend", c.n(3))}
	var err error
	switch k := c.n(40); {
	case k < 8:
		err = s.SaveThread(ctx, chat.Thread{ID: thread, CreatedAt: at, Title: fmt.Sprint(c.n(3)), Owner: who(n)})
	case k < 10:
		err = s.DeleteThread(ctx, thread)
	case k < 22:
		err = s.SaveItem(ctx, thread, testenv.OrPanic(chat.NewItem(fmt.Sprint("msg_", c.n(5)), at, chat.SDKHiddenContext{Content: fmt.Sprint(c.n(3))})))
	case k < 24:
		err = s.DeleteThreadItem(ctx, thread, fmt.Sprint("msg_", c.n(5)))
	case k < 30:
		a := testenv.OrPanic(chat.NewAttachment(file, chat.AttachmentBody{Type: "file", Name: fmt.Sprint(c.n(3)), MIMEType: "text/plain"}))
		a.Owner = who(n)
		err = s.SaveAttachment(ctx, a)
	case k < 32:
		err = s.DeleteAttachment(ctx, file)
	case k < 36:
		err = s.Grant(ctx, sharing.Grant{ThreadID: thread, To: to, Role: sharing.Role(1 + c.n(2)), By: who(c.n(4))})
	case k < 38:
		err = s.Revoke(ctx, thread, to)
	case k == 38:
		_, err = s.(driver.Eraser).EraseOwner(ctx, who(c.n(3)))
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrInvalid) {
		t.Error(err)
	}
}

// as returns a capability, which s must have.
func as[T any](s store.Store) T {
	for v := range store.All[T](s) {
		return v
	}
	panic("the store lacks a capability")
}

// namedStill returns the ids of src that are erased, while dst keeps a name, because the owner has other rows there.
func namedStill(t testing.TB, src, dst store.Store) (allowed []string) {
	names := map[chat.Owner]bool{}
	gone := map[string]bool{}
	for _, kind := range []string{store.RowThread, store.RowAttachment} {
		for d, err := range tombstonesOf(t.Context(), src, kind) {
			testenv.Must(t, err)
			gone[kind+d.ID] = d.Erased
		}
	}
	for th := range Threads(t.Context(), dst, store.AnyOwner()) {
		names[th.Owner] = true
	}
	for a := range Attachments(t.Context(), dst, store.AnyOwner()) {
		names[a.Owner] = true
	}
	for range 2 { // first the names, then their ids
		for _, kind := range []string{store.RowThread, store.RowAttachment} {
			for d := range tombstonesOf(t.Context(), dst, kind) {
				if !d.Owner.IsZero() && !gone[kind+d.ID] {
					names[d.Owner] = true
				} else if names[d.Owner] && gone[kind+d.ID] {
					allowed = append(allowed, kind+" "+d.ID+" deleted ")
				}
			}
		}
	}
	return allowed
}

// Several writers change the source while it is copied. Their writes are late too, up to the source's bound. Writes to the target
// fail with unknown outcomes, or are late, and the copier ends and begins again. Behind the fence, the target is the source.
func TestTheTargetIsTheSourceBehindTheFence(t *testing.T) {
	seeds := uint64(300)
	if testenv.Full && !testenv.Race {
		seeds = 2000
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			c := &chance{r: rand.New(rand.NewPCG(seed, 0))}
			src, dst := sharing.New(memstore.New()), sharing.New(memstore.New())
			const fromBound, toBound = 10 * time.Second, 7 * time.Second
			var mu sync.Mutex
			refused := false
			write := func() {
				mu.Lock()
				defer mu.Unlock()
				switch {
				case refused:
				case c.one(10):
					time.AfterFunc(time.Duration(c.n(int(fromBound))), func() { writer(t, src, c) })
				default:
					writer(t, src, c)
				}
			}
			for range 60 {
				write()
			}
			to := newFlaky(dst, c, toBound)
			busy := func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
				for c.one(6) {
					write()
				}
				return next(ctx)
			}
			source := faulty.New(src, faulty.WithLongestWrite(fromBound))
			source.Inject(faulty.Fault{Do: func(ctx context.Context, call layer.Call, next func(context.Context) error) error {
				if !to.calm && c.one(300) {
					return store.ErrUnavailable
				}
				return errors.Join(busy(ctx, call, next), nil)
			}})
			opts := []Option{WithParallel(1 + c.n(3)), WithFence(func(context.Context) error {
				mu.Lock()
				defer mu.Unlock()
				refused = true
				return nil
			})}
			// Some stores have fewer capabilities.
			type limited struct {
				store.Store
				driver.AttachmentLister
				driver.WriteBounder
				sharing.Grants
			}
			var target, copied store.Store = to, source
			noTombstones, noVersions := c.one(5), c.one(5)
			if noTombstones {
				target = limited{to, as[driver.AttachmentLister](to), as[driver.WriteBounder](to), to}
			}
			if noVersions {
				copied = struct {
					limited
					driver.Tombstones
				}{limited{source, as[driver.AttachmentLister](src), source, src}, as[driver.Tombstones](src)}
			}
			journal := c.one(2)
			if journal {
				opts = append(opts, WithJournal(filepath.Join(t.TempDir(), "journal")))
			}
			for try := 0; ; try++ {
				to.calm = try > 20
				ctx, cancel := context.WithCancel(t.Context())
				if c.one(2) && !to.calm {
					time.AfterFunc(time.Duration(c.n(int(20*time.Second))), cancel)
				}
				_, err := Copy(ctx, target, copied, opts...)
				cancel()
				if err == nil {
					break
				}
				if errors.Is(err, errors.ErrUnsupported) || try > 40 {
					t.Fatalf("seed %d: %v", seed, err)
				}
				if !journal {
					time.Sleep(toBound)
				}
			}
			time.Sleep(time.Minute) // nothing comes later
			allowed := namedStill(t, src, dst)
			without := func(all []string) []string {
				return slices.DeleteFunc(all, func(row string) bool {
					return noTombstones && strings.Contains(row, " deleted ") || slices.ContainsFunc(allowed, func(head string) bool { return strings.HasPrefix(row, head) })
				})
			}
			if d := cmp.Diff(without(contents(t, src)), without(contents(t, dst))); d != "" {
				t.Fatalf("seed %d (-source +target):\n%s", seed, d)
			}
		})
	}
}
