package isolate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/singleflight"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/internal/call"
)

type newStack = func(store.Store, *Grants) store.Store

// leaks returns the first leak that a trace shows, and the trace.
func (c *check) leaks(t *testing.T) (data []byte, why string) {
	t.Helper()
	for seed := range uint64(c.Traces) {
		data := randomTrace(seed)
		if why := c.leak(t, parseTrace(data)); why != "" {
			return data, why
		}
	}
	return nil, ""
}

func guarded(base store.Store, g *Grants) store.Store {
	return store.Wrap(base, authz.New(rules(parts(g))))
}

func rules(more ...authz.Policy) authz.Policy {
	return authz.AnyOf(append(more, authz.OwnerOnly(), authz.HasRole("admin"), authz.TenantAdmin("tenant_admin"))...)
}

func parts(g *Grants) authz.Policy { return authz.Shared(g) }

// lookup is a sharing.Lookup made of one function.
type lookup func(ctx context.Context, p store.Principal, threadID string) (sharing.Access, error)

func (f lookup) Access(ctx context.Context, p store.Principal, threadID string) (sharing.Access, error) {
	return f(ctx, p, threadID)
}

// alsoAs returns the guarded stack in which each principal also has the access of another one, given by as.
func alsoAs(as func(store.Principal) store.Principal) newStack {
	return func(base store.Store, g *Grants) store.Store {
		return store.Wrap(base, authz.New(rules(authz.Shared(lookup(
			func(ctx context.Context, p store.Principal, threadID string) (sharing.Access, error) {
				a, err := g.Access(ctx, p, threadID)
				if other, _ := g.Access(ctx, as(p), threadID); other.Role > a.Role {
					a.Role = other.Role
				}
				return a, err
			})))))
	}
}

// twisted is a guarded stack in which one op is replaced, around the guard or beneath it.
func twisted(outside bool, op store.Op, do func(ctx context.Context, c call.Call, next, base store.Store) call.Answer) newStack {
	return func(base store.Store, g *Grants) store.Store {
		around := func(next store.Store) store.Store {
			return &call.Store{IDs: next, Do: func(ctx context.Context, c call.Call) call.Answer {
				if c.Op == op {
					return do(ctx, c, next, base)
				}
				return c.Make(ctx, next)
			}}
		}
		if outside {
			return around(guarded(base, g))
		}
		return guarded(around(base), g)
	}
}

func cachedOutside(base store.Store, g *Grants) store.Store {
	// The cache refuses to be put around a guard that it can see, so hide the guard.
	unseen := struct{ store.Store }{store.Wrap(base, authz.New(rules(parts(g))))}
	return store.Wrap(unseen, cache.New(cache.WithMaxEntries(8)))
}

func cachedInside(opts ...authz.Option) newStack {
	return func(base store.Store, g *Grants) store.Store {
		return store.Wrap(base, authz.New(rules(parts(g)), opts...), cache.New(cache.WithMaxEntries(256)))
	}
}

func TestPassesStacksThatIsolate(t *testing.T) {
	for _, c := range []struct {
		name  string
		stack newStack
		opts  Options
	}{
		{"a guard", guarded, Options{Counting: CountAll}},
		{"a cache within a guard, apart", cachedInside(), Options{Counting: CountOwn}},
		{"a guard with the grants of another place", func(base store.Store, g *Grants) store.Store {
			kept := sharing.New(base)
			g.KeepIn(kept)
			return store.Wrap(kept, authz.New(rules(authz.Shared(kept)), authz.ShareBelow()), cache.New(cache.WithMaxEntries(8)))
		}, Options{}},
		{"a guard that knows no parts", func(base store.Store, _ *Grants) store.Store {
			return store.Wrap(base, authz.New(authz.OwnerOnly()))
		}, Options{WithoutGrants: true}},
	} {
		c.opts.Traces = 30
		t.Run(c.name, func(t *testing.T) { Run(t, c.stack, c.opts) })
	}
}

func TestFindsWhatLeaks(t *testing.T) {
	for _, c := range []struct {
		name  string
		stack newStack
		opts  Options
		want  string
	}{
		{"no guard", func(base store.Store, _ *Grants) store.Store { return base }, Options{}, "must not attach"},
		{"a part that is not given", func(base store.Store, _ *Grants) store.Store {
			return store.Wrap(base, authz.New(rules()))
		}, Options{}, "should be the answer of the base"},
		{"a part that is not taken back", func(base store.Store, g *Grants) store.Store {
			var mu sync.Mutex
			had := map[string]sharing.Access{}
			return store.Wrap(base, authz.New(rules(authz.Shared(lookup(
				func(ctx context.Context, p store.Principal, threadID string) (sharing.Access, error) {
					key := p.Owner.Tenant + p.Owner.Subject + threadID
					a, err := g.Access(ctx, p, threadID)
					mu.Lock()
					defer mu.Unlock()
					if a.Role == sharing.NoRole {
						return had[key], err
					}
					had[key] = a
					return a, err
				})))))
		}, Options{}, "can tell"},
		{"an editor who may not write", func(base store.Store, g *Grants) store.Store {
			return store.Wrap(base, layer.Intercept("deaf", layer.InterceptorFunc(func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
				p, _ := store.PrincipalFrom(ctx)
				if a, _ := g.Access(ctx, p, c.ThreadID); a.Role == sharing.Editor && c.Op == store.OpSaveItem {
					return store.ErrConflict
				}
				return next(ctx)
			})), authz.New(rules(parts(g))))
		}, Options{}, "should succeed"},
		{"a viewer who may write", func(base store.Store, g *Grants) store.Store {
			return store.Wrap(base, authz.New(rules(authz.Shared(lookup(
				func(ctx context.Context, p store.Principal, threadID string) (sharing.Access, error) {
					a, err := g.Access(ctx, p, threadID)
					if a.Role != sharing.NoRole {
						a.Role = sharing.Editor
					}
					return a, err
				})))))
		}, Options{}, "should be denied"},
		{"a grant that is not checked", func(base store.Store, g *Grants) store.Store {
			return store.Wrap(base, authz.New(rules(authz.Shared(lookup(
				func(ctx context.Context, p store.Principal, threadID string) (sharing.Access, error) {
					a, err := g.Access(ctx, p, threadID)
					a.Role = max(a.Role, sharing.Viewer)
					return a, err
				})))))
		}, Options{}, "that id is taken"},
		{"a group of another tenant", alsoAs(func(p store.Principal) store.Principal {
			p.Owner.Tenant = strings.Replace(p.Owner.Tenant, "corp", "acme", 1)
			p.Owner.Subject = "somebody"
			return p
		}), Options{}, "can tell"},
		{"no tenant is any tenant", alsoAs(func(p store.Principal) store.Principal {
			if p.Owner.Tenant == "" {
				p.Owner.Tenant = "acme" + strings.TrimPrefix(p.Owner.Subject, "dan")
			}
			return p
		}), Options{}, "that id is taken"},
		{"an attachment of whom the thread's owner does not trust", func(base store.Store, g *Grants) store.Store {
			return store.Wrap(base, authz.New(rules(authz.Shared(lookup(
				func(ctx context.Context, p store.Principal, threadID string) (sharing.Access, error) {
					a, err := g.Access(ctx, p, threadID)
					a.Direct = sharing.Editor
					return a, err
				})))))
		}, Options{}, "can tell"},
		{"an attachment that its thread's readers do not get", func(base store.Store, g *Grants) store.Store {
			return store.Wrap(base, authz.New(rules(threadsOnly{parts(g)})))
		}, Options{}, "should be the answer of the base"},
		{"tenants that are not told apart", func(base store.Store, g *Grants) store.Store {
			return store.Wrap(base, authz.New(rules(parts(g), subjectOnly{authz.OwnerOnly()})))
		}, Options{}, "that id is taken"},
		{"a cache around the guard", cachedOutside, Options{}, "can tell"},
		{"a shared cache, to whom counts", cachedInside(authz.ShareBelow()), Options{Counting: CountOwn}, "can tell"},
		{"a cache of what is not theirs, to whom counts", cachedInside(), Options{Counting: CountAll}, "can tell"},
		{"an error that names the owner", twisted(true, store.OpLoadThread, func(ctx context.Context, c call.Call, next, base store.Store) call.Answer {
			a := c.Make(ctx, next)
			if row := c.Make(ctx, base); a.Err != nil && row.Err == nil {
				a.Err = fmt.Errorf("%w: it is %s's", a.Err, row.Thread.Owner.Subject)
			}
			return a
		}), Options{}, "can tell"},
		{"a page that is filtered afterwards", twisted(true, store.OpLoadThreads, func(ctx context.Context, c call.Call, next, base store.Store) call.Answer {
			p, ok := store.PrincipalFrom(ctx)
			if !ok || len(p.Roles) > 0 {
				return c.Make(ctx, next)
			}
			c.Query.Owner = store.AnyOwner()
			a := c.Make(ctx, base)
			a.Threads.Data = slices.DeleteFunc(a.Threads.Data, func(t chat.Thread) bool { return t.Owner != p.Owner })
			return a
		}), Options{}, "can tell"},
		{"a cursor of another's thread", guarded, Options{Base: func() store.Store {
			base, held := memstore.New(), map[string]bool{}
			return &call.Store{IDs: base, Do: func(ctx context.Context, c call.Call) call.Answer {
				a := c.Make(ctx, base)
				switch c.Op {
				case store.OpAddThreadItem:
					held[c.Item.ID] = true
				case store.OpLoadThreadItems:
					if _, missing := base.LoadThread(ctx, c.Thread.ID); missing == nil && errors.Is(a.Err, store.ErrNotFound) && held[c.Query.After] {
						c.Query.After = ""
						return c.Make(ctx, base)
					}
				}
				return a
			}}
		}}, "can tell"},
		{"an attachment that one may not read", twisted(false, store.OpLoadAttachment, func(ctx context.Context, c call.Call, next, _ store.Store) call.Answer {
			a := c.Make(ctx, next)
			if p, ok := store.PrincipalFrom(ctx); ok && a.Err == nil && a.Attachment.ThreadID == "" {
				a.Attachment.Owner = p.Owner
			}
			return a
		}), Options{}, "can tell"},
		{"versions of what is hidden", twisted(true, store.OpLoadThread, func(ctx context.Context, c call.Call, next, base store.Store) call.Answer {
			c.Make(ctx, base)
			return c.Make(ctx, next)
		}), Options{}, "can tell"},
		{"the version of a hidden or deleted thread", twisted(true, store.OpSaveThread, func(ctx context.Context, c call.Call, next, base store.Store) call.Answer {
			a := c.Make(ctx, next)
			var version uint64
			_, _ = base.LoadThread(callctx.WithVersionRecorder(ctx, func(_ string, _, v uint64) { version = v }), c.Thread.ID)
			if guess := callctx.Of(ctx).If; guess.Set && guess.Version != version && errors.Is(a.Err, store.ErrConflict) {
				a.Err = &store.Error{Op: c.Op, Kind: store.RowThread, ID: c.Thread.ID, Code: store.CodeConflict, Field: "if_version"}
			}
			return a
		}), Options{}, "can tell"},
		{"another call of the base for what is there", twisted(true, store.OpLoadAttachment, func(ctx context.Context, c call.Call, next, base store.Store) call.Answer {
			if c.Make(ctx, base).Err == nil {
				c.Make(ctx, base)
			}
			return c.Make(ctx, next)
		}), Options{Counting: CountAll}, "can tell"},
		{"a taken id that can be had", twisted(true, store.OpSaveAttachment, func(ctx context.Context, c call.Call, next, _ store.Store) call.Answer {
			a := c.Make(ctx, next)
			if errors.Is(a.Err, store.ErrConflict) {
				a.Err = nil
			}
			return a
		}), Options{}, "that id is taken"},
		{"a flight that strangers join", func(base store.Store, g *Grants) store.Store {
			var flights singleflight.Group
			return twisted(true, store.OpLoadThread, func(ctx context.Context, c call.Call, next, _ store.Store) call.Answer {
				a, _, _ := flights.Do(c.Thread.ID, func() (any, error) { return c.Make(ctx, next), nil })
				return a.(call.Answer)
			})(base, g)
		}, Options{}, "at the same time"},
		{"a hostile base that is believed", func(base store.Store, _ *Grants) store.Store { return store.Wrap(base, knownOnly) },
			Options{Hostile: true}, "must not attach"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, why := newCheck(c.stack, c.opts).leaks(t)
			if !strings.Contains(why, c.want) {
				t.Errorf("got %q, want a text with %q", why, c.want)
			}
		})
	}
}

// knownOnly lets every caller with a principal pass.
var knownOnly = layer.Intercept("known", layer.InterceptorFunc(func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
	if _, ok := store.PrincipalFrom(ctx); !ok {
		return store.ErrUnauthenticated
	}
	return next(ctx)
}))

// subjectOnly treats owners of the same name in two tenants as one.
type subjectOnly struct{ authz.Policy }

func (subjectOnly) Decide(_ context.Context, r authz.Request) (authz.Decision, error) {
	if r.Owner.Subject == r.Principal.Owner.Subject && r.Action == authz.Read {
		return authz.Allow, nil
	}
	return authz.Deny, nil
}

// threadsOnly does not ask a policy about attachments.
type threadsOnly struct{ authz.Policy }

func (p threadsOnly) Decide(ctx context.Context, r authz.Request) (authz.Decision, error) {
	if r.ThreadID == "" {
		return authz.Deny, nil
	}
	return p.Policy.Decide(ctx, r)
}

func TestAShortenedTraceStillLeaks(t *testing.T) {
	c := newCheck(cachedOutside, Options{})
	data, why := c.leaks(t)
	data, _ = c.shorten(t, data, why)
	// An owner saves the thread. The guest gets a role, reads, and loses the role.
	trace := parseTrace(data)
	if why := c.leak(t, trace); why == "" || len(trace) > 6 {
		t.Errorf("got %q for the trace\n%s", why, traceText(trace))
	}
}

func TestAnyDataIsATrace(t *testing.T) {
	for _, data := range []string{"", "short", strings.Repeat("\xff", 4000)} {
		Trace(t, []byte(data), guarded, Options{})
	}
}
