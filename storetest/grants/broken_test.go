package grants

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/storetest/internal/rows"
)

func TestGrantsInMemory(t *testing.T) {
	Run(t, func(*testing.T) sharing.Store { return sharing.New(memstore.New()) })
}

// In a bubble the clock stands still, so all grants have one time. The order is that of threads and grantees then.
func TestGrantsOfOneTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sharing.New(memstore.New())
		for _, c := range checks {
			if why := watch(t.Context(), c, s); why != "" {
				t.Errorf("%s: %s", c.name, why)
			}
		}
	})
}

// broken is a Store that breaks one promise.
type broken struct {
	sharing.Store
	base *memstore.Store

	grant  func(b *broken, ctx context.Context, g sharing.Grant) error
	revoke func(b *broken, ctx context.Context, id string, to sharing.Grantee) error
	access func(b *broken, ctx context.Context, p store.Principal, id string) (sharing.Access, error)
	listed func(b *broken, ctx context.Context, q query) (store.Page[sharing.Grant], error)
	delete func(b *broken, ctx context.Context, id string) error
	erase  func(b *broken, ctx context.Context, o chat.Owner) (driver.Erased, error)
}

// query is a call of SharedWith, or of Grantees if it has an id.
type query struct {
	p     *store.Principal
	id    string
	after string
	limit int
}

func (b *broken) page(ctx context.Context, q query) (store.Page[sharing.Grant], error) {
	if q.p == nil {
		return b.Store.Grantees(ctx, q.id, q.after, q.limit)
	}
	return b.Store.SharedWith(ctx, *q.p, q.after, q.limit)
}

func (b *broken) Grant(ctx context.Context, g sharing.Grant) error {
	if b.grant != nil {
		return b.grant(b, ctx, g)
	}
	return b.Store.Grant(ctx, g)
}

func (b *broken) Revoke(ctx context.Context, id string, to sharing.Grantee) error {
	if b.revoke != nil {
		return b.revoke(b, ctx, id, to)
	}
	return b.Store.Revoke(ctx, id, to)
}

func (b *broken) Access(ctx context.Context, p store.Principal, id string) (sharing.Access, error) {
	if b.access != nil {
		return b.access(b, ctx, p, id)
	}
	return b.Store.Access(ctx, p, id)
}

func (b *broken) list(ctx context.Context, q query) (store.Page[sharing.Grant], error) {
	if b.listed != nil {
		return b.listed(b, ctx, q)
	}
	return b.page(ctx, q)
}

func (b *broken) Grantees(ctx context.Context, id, after string, limit int) (store.Page[sharing.Grant], error) {
	return b.list(ctx, query{id: id, after: after, limit: limit})
}

func (b *broken) SharedWith(ctx context.Context, p store.Principal, after string, limit int) (store.Page[sharing.Grant], error) {
	return b.list(ctx, query{p: &p, after: after, limit: limit})
}

func (b *broken) DeleteThread(ctx context.Context, id string) error {
	if b.delete != nil {
		return b.delete(b, ctx, id)
	}
	return b.Store.DeleteThread(ctx, id)
}

func (b *broken) EraseOwner(ctx context.Context, o chat.Owner) (driver.Erased, error) {
	if b.erase != nil {
		return b.erase(b, ctx, o)
	}
	e, _ := store.As[driver.Eraser](store.Store(b.Store))
	return e.EraseOwner(ctx, o)
}

// of returns all grants of the thread.
func (b *broken) of(id string) []sharing.Grant {
	p, _ := b.Store.Grantees(context.Background(), id, "", store.MaxLimit)
	return p.Data
}

// gives makes Access add the grants that f accepts.
func gives(f func(p store.Principal, to sharing.Grantee) bool) broken {
	return broken{access: func(b *broken, ctx context.Context, p store.Principal, id string) (sharing.Access, error) {
		a, err := b.Store.Access(ctx, p, id)
		for _, g := range b.of(id) {
			if err == nil && f(p, g.To) {
				a = a.With(g)
			}
		}
		return a, err
	}}
}

// alters changes the pages.
func alters(f func(q query, p *store.Page[sharing.Grant])) broken {
	return broken{listed: func(b *broken, ctx context.Context, q query) (store.Page[sharing.Grant], error) {
		p, err := b.page(ctx, q)
		if err == nil {
			f(q, &p)
		}
		return p, err
	}}
}

// asks changes the queries.
func asks(f func(q *query)) broken {
	return broken{listed: func(b *broken, ctx context.Context, q query) (store.Page[sharing.Grant], error) {
		f(&q)
		return b.page(ctx, q)
	}}
}

// answers changes what Access returns.
func answers(f func(a *sharing.Access)) broken {
	return broken{access: func(b *broken, ctx context.Context, p store.Principal, id string) (sharing.Access, error) {
		a, err := b.Store.Access(ctx, p, id)
		f(&a)
		return a, err
	}}
}

// grants changes what is granted.
func grants(f func(ctx context.Context, b *broken, g *sharing.Grant) (context.Context, error)) broken {
	return broken{grant: func(b *broken, ctx context.Context, g sharing.Grant) error {
		ctx, err := f(ctx, b, &g)
		if err != nil {
			return err
		}
		return b.Store.Grant(ctx, g)
	}}
}

// brokenStores says which check must fail on which broken Store.
var brokenStores = []struct {
	what, fails string
	broken
}{
	{"a subject of another tenant", "a subject", gives(func(p store.Principal, to sharing.Grantee) bool {
		return to.Subject == p.Owner.Subject && to.Subject != ""
	})},
	{"a group of another tenant", "a group is of the owner's tenant", gives(func(p store.Principal, to sharing.Grantee) bool { return slices.Contains(p.Roles, to.Group) })},
	{"a subject with a group's name", "a group is of the owner's tenant", gives(func(p store.Principal, to sharing.Grantee) bool {
		return p.Owner.Tenant == to.Tenant && to.Group == p.Owner.Subject
	})},
	{"every tenant", "a tenant", gives(func(_ store.Principal, to sharing.Grantee) bool { return to.Subject == "" && to.Group == "" })},
	{"a principal without a subject", "a principal that cannot own rows has no access", broken{access: func(b *broken, ctx context.Context, p store.Principal, id string) (sharing.Access, error) {
		p.Owner.Subject += "x"
		return b.Store.Access(ctx, p, id)
	}}},
	{"the own grant wins", "Access has the highest role and version", answers(func(a *sharing.Access) {
		if a.Direct > 0 {
			a.Role = a.Direct
		}
	})},
	{"a low version", "Access has the highest role and version", answers(func(a *sharing.Access) { a.Version = min(a.Version, 1) })},
	{"no direct role", "Access has the highest role and version", answers(func(a *sharing.Access) { a.Direct = 0 })},
	{"no version", "Grant fills in At and Version", alters(func(_ query, p *store.Page[sharing.Grant]) {
		for i := range p.Data {
			p.Data[i].Version = 0
		}
	})},
	{"local time", "Grant fills in At and Version", alters(func(_ query, p *store.Page[sharing.Grant]) {
		for i := range p.Data {
			p.Data[i].At = p.Data[i].At.In(time.FixedZone("", 3600))
		}
	})},
	{"a change of the thread", "Grant fills in At and Version", grants(func(ctx context.Context, b *broken, g *sharing.Grant) (context.Context, error) {
		t, err := b.LoadThread(ctx, g.ThreadID)
		if err == nil {
			err = errors.Join(b.Store.Grant(ctx, *g), b.SaveThread(ctx, t))
		}
		return ctx, err
	})},
	{"the first Grant stays", "Grant replaces the grant to the same grantee", broken{grant: func(b *broken, ctx context.Context, g sharing.Grant) error {
		for _, old := range b.of(g.ThreadID) {
			if old.To == g.To {
				return nil
			}
		}
		return b.Store.Grant(ctx, g)
	}}},
	{"a missing thread is nil", "Grant of a missing thread is ErrNotFound", broken{grant: func(b *broken, ctx context.Context, g sharing.Grant) error {
		err := b.Store.Grant(ctx, g)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	}}},
	{"an unowned thread", "Grant of a missing thread is ErrNotFound", broken{grant: func(b *broken, ctx context.Context, g sharing.Grant) error {
		err := b.Store.Grant(ctx, g)
		if e, ok := errors.AsType[*store.Error](err); ok && strings.Contains(e.Field, "without an owner") {
			return nil
		}
		return err
	}}},
	{"unknown roles", "bad arguments are ErrInvalid", grants(func(ctx context.Context, _ *broken, g *sharing.Grant) (context.Context, error) {
		g.Role = min(g.Role, sharing.Editor)
		return ctx, nil
	})},
	{"negative limits", "bad arguments are ErrInvalid", asks(func(q *query) { q.limit = max(q.limit, 0) })},
	{"any cursor", "bad arguments are ErrInvalid", broken{listed: func(b *broken, ctx context.Context, q query) (store.Page[sharing.Grant], error) {
		p, err := b.page(ctx, q)
		if errors.Is(err, store.ErrInvalid) && q.after != "" {
			q.after = ""
			p, err = b.page(ctx, q)
		}
		return p, err
	}}},
	{"revoking nothing is an error", "Revoke", broken{revoke: func(b *broken, ctx context.Context, id string, to sharing.Grantee) error {
		if !slices.ContainsFunc(b.of(id), func(g sharing.Grant) bool { return g.To == to }) {
			return &store.Error{Code: store.CodeNotFound}
		}
		return b.Store.Revoke(ctx, id, to)
	}}},
	{"revoking all", "Revoke", broken{revoke: func(b *broken, ctx context.Context, id string, to sharing.Grantee) error {
		for _, g := range b.of(id) {
			if err := b.Store.Revoke(ctx, id, g.To); err != nil {
				return err
			}
		}
		return b.Store.Revoke(ctx, id, to)
	}}},
	{"the oldest first", "pages have every grant once, the newest first", alters(func(_ query, p *store.Page[sharing.Grant]) { slices.Reverse(p.Data) })},
	{"the last page is lost", "pages have every grant once, the newest first", alters(func(q query, p *store.Page[sharing.Grant]) {
		if q.after != "" && len(p.Data) == 1 {
			*p = store.Page[sharing.Grant]{}
		}
	})},
	{"an After without more", "pages have every grant once, the newest first", alters(func(_ query, p *store.Page[sharing.Grant]) {
		if n := len(p.Data); n > 0 {
			p.After = p.Data[n-1].Place().String()
		}
	})},
	{"not the groups", "pages have every grant once, the newest first", asks(func(q *query) {
		if q.p != nil {
			q.p.Roles = nil
		}
	})},
	{"all grants of a thread", "pages have every grant once, the newest first", broken{listed: func(b *broken, ctx context.Context, q query) (store.Page[sharing.Grant], error) {
		p, err := b.page(ctx, q)
		if q.p != nil && len(p.Data) > 0 && !p.HasMore {
			p.Data = append(p.Data, b.of(p.Data[0].ThreadID)...)
		}
		return p, err
	}}},
	{"own threads too", "SharedWith leaves out the caller's own threads", broken{listed: func(b *broken, ctx context.Context, q query) (store.Page[sharing.Grant], error) {
		p, err := b.page(ctx, q)
		if q.p != nil && q.after == "" {
			own, _ := b.LoadThreads(ctx, store.ThreadQuery{Owner: store.OwnedBy(q.p.Owner)})
			for _, t := range own.Data {
				p.Data = append(b.of(t.ID), p.Data...)
			}
		}
		return p, err
	}}},
	{"a default of 50", "a limit of 0 means 20, and above 1,000 means 1,000", asks(func(q *query) {
		if q.limit == 0 {
			q.limit = 50
		}
	})},
	{"more than 1,000", "a limit of 0 means 20, and above 1,000 means 1,000", broken{listed: func(b *broken, ctx context.Context, q query) (store.Page[sharing.Grant], error) {
		p, err := b.page(ctx, q)
		if q.limit > store.MaxLimit && p.HasMore {
			q.after = p.After
			more, _ := b.page(ctx, q)
			p.Data = append(p.Data, more.Data...)
		}
		return p, err
	}}},
	{"a cursor must be there", "a cursor outlives its grant", broken{listed: func(b *broken, ctx context.Context, q query) (store.Page[sharing.Grant], error) {
		there := q.after == ""
		for _, g := range b.all(q) {
			there = there || g.Place().String() == q.after
		}
		if !there {
			q.after = ""
		}
		return b.page(ctx, q)
	}}},
	{"grants stay", "a deletion ends the grants", broken{delete: func(b *broken, ctx context.Context, id string) error { return b.base.DeleteThread(ctx, id) }}},
	{"grants end first", "a failed deletion ends none", broken{delete: func(b *broken, ctx context.Context, id string) error {
		for _, g := range b.of(id) {
			_ = b.Store.Revoke(context.WithoutCancel(ctx), id, g.To)
		}
		return b.Store.DeleteThread(ctx, id)
	}}},
	{"only rows are erased", "erasing an owner", broken{erase: func(b *broken, ctx context.Context, o chat.Owner) (driver.Erased, error) {
		return b.base.EraseOwner(ctx, o)
	}}},
	{"By stays", "erasing an owner", broken{listed: func(b *broken, ctx context.Context, q query) (store.Page[sharing.Grant], error) {
		p, err := b.page(ctx, q)
		for i, g := range p.Data {
			if g.By.IsZero() {
				p.Data[i].By = chat.Owner{Subject: "somebody"}
			}
		}
		return p, err
	}}},
	{"spaces are trimmed", "texts are kept as they are", broken{
		grant: func(b *broken, ctx context.Context, g sharing.Grant) error {
			g.To.Group = strings.TrimSpace(g.To.Group)
			return b.Store.Grant(ctx, g)
		},
	}},
	{"groups without case", "texts are kept as they are", gives(func(p store.Principal, to sharing.Grantee) bool {
		return p.Owner.Tenant == to.Tenant && to.Group != "" && slices.ContainsFunc(p.Roles, func(r string) bool { return strings.EqualFold(r, to.Group) })
	})},
	{"contexts are ignored", "a cancelled context is an error, and nothing is done", grants(func(ctx context.Context, _ *broken, _ *sharing.Grant) (context.Context, error) {
		return context.WithoutCancel(ctx), nil
	})},
	{"contexts come first", "a cancelled context is an error, and nothing is done", broken{revoke: func(b *broken, ctx context.Context, id string, to sharing.Grantee) error {
		if err := driver.Done(ctx, 0, "", ""); err != nil {
			return err
		}
		return b.Store.Revoke(ctx, id, to)
	}}},
	{"grants are read before the deletion", "no grant survives a deletion at the same time", broken{delete: func(b *broken, ctx context.Context, id string) error {
		all := b.of(id)
		time.Sleep(time.Millisecond)
		err := b.base.DeleteThread(ctx, id)
		for _, g := range all {
			err = errors.Join(err, b.Store.Revoke(ctx, id, g.To))
		}
		return err
	}}},
}

// all returns all grants of a listing.
func (b *broken) all(q query) (all []sharing.Grant) {
	q.after, q.limit = "", store.MaxLimit
	p, _ := b.page(context.Background(), q)
	return p.Data
}

// recorder is a tb that notes the first failure.
type recorder struct {
	ctx context.Context
	mu  sync.Mutex
	why string
}

func (r *recorder) Helper()                  {}
func (r *recorder) Context() context.Context { return r.ctx }
func (r *recorder) Skipf(string, ...any)     { runtime.Goexit() }
func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.why == "" {
		r.why = fmt.Sprintf(format, args...)
	}
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// watch returns why the check fails on the Store, or "".
func watch(ctx context.Context, c check, s sharing.Store) string {
	r := &recorder{ctx: ctx}
	var done sync.WaitGroup
	done.Go(func() { c.run(newHarness(r, s, rows.NewMint())) })
	done.Wait()
	return r.why
}

func TestEveryCheckCanFail(t *testing.T) {
	covered := map[string]bool{}
	for _, b := range brokenStores {
		t.Run(b.what, func(t *testing.T) {
			i := slices.IndexFunc(checks, func(c check) bool { return c.name == b.fails })
			if i < 0 {
				t.Fatalf("there is no check %q", b.fails)
			}
			covered[b.fails] = true
			s := b.broken
			s.base = memstore.New()
			s.Store = sharing.New(s.base)
			for range 100 { // a race does not always show
				if why := watch(t.Context(), checks[i], &s); why != "" {
					t.Log(why)
					return
				}
			}
			t.Errorf("the check %q passes", b.fails)
		})
	}
	whole := broken{base: memstore.New()}
	whole.Store = sharing.New(whole.base)
	for _, c := range checks {
		if !covered[c.name] {
			t.Errorf("no broken Store fails the check %q", c.name)
		}
		if why := watch(t.Context(), c, &whole); why != "" {
			t.Errorf("%s: an unbroken Store fails: %s", c.name, why)
		}
	}
}
