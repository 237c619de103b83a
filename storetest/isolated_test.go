package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

type newStack = func(store.Store, *Grants) store.Store

// leaks returns what the first trace that shows anything shows, and the trace.
func (c *isolated) leaks(t *testing.T) (data []byte, why string) {
	t.Helper()
	for seed := range uint64(c.traces) {
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

var roles = map[string]authz.Role{"viewer": authz.Viewer, "editor": authz.Editor}

func parts(g *Grants) authz.Policy {
	return authz.Grants(func(_ context.Context, p store.Principal, threadID string, _ chat.Owner) (authz.Role, error) {
		return roles[g.Role(p, threadID)], nil
	})
}

// twisted is a guarded stack in which f spoils a layer around the guard, or else beneath it.
func twisted(outside bool, f func(s *twist, next, base store.Store)) newStack {
	return func(base store.Store, g *Grants) store.Store {
		layer := func(next store.Store) store.Store {
			s := newTwist(next)
			f(s, next, base)
			return s
		}
		if outside {
			return layer(guarded(base, g))
		}
		return guarded(layer(base), g)
	}
}

func cachedOutside(ttl time.Duration) newStack {
	return func(base store.Store, g *Grants) store.Store {
		// A cache refuses to be put around a guard that it can see.
		unseen := struct{ store.Store }{store.Wrap(base, authz.New(rules(parts(g))))}
		return store.Wrap(unseen, cache.New(cache.WithTTL(ttl), cache.WithMaxEntries(8)))
	}
}

func cachedInside(opts ...authz.Option) newStack {
	return func(base store.Store, g *Grants) store.Store {
		return store.Wrap(base, authz.New(rules(parts(g)), opts...), cache.New(cache.WithMaxEntries(256)))
	}
}

func TestIsolatedPassesStacksThatIsolate(t *testing.T) {
	for _, c := range []struct {
		name  string
		stack newStack
		opts  []IsolatedOption
	}{
		{"a guard", guarded, []IsolatedOption{CountingCalls()}},
		{"a cache within a guard, apart", cachedInside(), []IsolatedOption{CountingOwnCalls()}},
		{"a guard that knows no parts", func(base store.Store, _ *Grants) store.Store {
			return store.Wrap(base, authz.New(authz.OwnerOnly()))
		}, []IsolatedOption{WithoutGrants()}},
		{"a cache around a guard", cachedOutside(time.Minute), []IsolatedOption{RevokedWithin(time.Minute)}},
	} {
		t.Run(c.name, func(t *testing.T) { Isolated(t, c.stack, append(c.opts, Traces(30))...) })
	}
}

func TestIsolatedFindsWhatLeaks(t *testing.T) {
	for _, c := range []struct {
		name  string
		stack newStack
		opts  []IsolatedOption
		want  string
	}{
		{"no guard", func(base store.Store, _ *Grants) store.Store { return base }, nil, "must not attach"},
		{"a part that is not given", func(base store.Store, _ *Grants) store.Store {
			return store.Wrap(base, authz.New(rules()))
		}, nil, "should be what the base has"},
		{"a part that is not taken back", func(base store.Store, g *Grants) store.Store {
			var had memory[authz.Role]
			return store.Wrap(base, authz.New(rules(authz.Grants(
				func(_ context.Context, p store.Principal, threadID string, _ chat.Owner) (authz.Role, error) {
					key := p.Owner.Tenant + p.Owner.Subject + threadID
					was, _ := had.get(key)
					role := max(was, roles[g.Role(p, threadID)])
					had.set(key, role)
					return role, nil
				}))))
		}, nil, "can tell"},
		{"an editor who may not write", func(base store.Store, g *Grants) store.Store {
			return store.Wrap(base, layer.Intercept("deaf", layer.InterceptorFunc(func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
				if p, ok := store.PrincipalFrom(ctx); ok && c.Op == store.OpSaveItem && g.Role(p, c.ThreadID) == "editor" {
					return store.ErrConflict
				}
				return next(ctx)
			})), authz.New(rules(parts(g))))
		}, nil, "should be done"},
		{"a viewer who may write", func(base store.Store, g *Grants) store.Store {
			return store.Wrap(base, authz.New(rules(authz.Grants(
				func(_ context.Context, p store.Principal, threadID string, _ chat.Owner) (authz.Role, error) {
					if g.Role(p, threadID) != "" {
						return authz.Editor, nil
					}
					return authz.NoRole, nil
				}))))
		}, nil, "should be denied"},
		{"tenants that are not told apart", func(base store.Store, g *Grants) store.Store {
			return store.Wrap(base, authz.New(rules(parts(g), subjectOnly{authz.OwnerOnly()})))
		}, nil, "must not attach"},
		{"a cache around the guard", cachedOutside(time.Minute), nil, "can tell"},
		{"a cache that answers for longer than is said", cachedOutside(time.Minute), []IsolatedOption{RevokedWithin(50 * time.Second)}, "can tell"},
		{"a shared cache, to whom counts", cachedInside(authz.ShareBelow()), []IsolatedOption{CountingOwnCalls()}, "can tell"},
		{"a cache of what is not theirs, to whom counts", cachedInside(), []IsolatedOption{CountingCalls()}, "can tell"},
		{"an error that names the owner", twisted(true, func(s *twist, next, base store.Store) {
			s.loadThread = func(ctx context.Context, id string) (chat.Thread, error) {
				t, err := next.LoadThread(ctx, id)
				if row, missing := base.LoadThread(ctx, id); err != nil && missing == nil {
					err = fmt.Errorf("%w: it is %s's", err, row.Owner.Subject)
				}
				return t, err
			}
		}), nil, "can tell"},
		{"a page that is filtered afterwards", twisted(true, func(s *twist, next, base store.Store) {
			s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
				p, ok := store.PrincipalFrom(ctx)
				if !ok || len(p.Roles) > 0 {
					return next.LoadThreads(ctx, q)
				}
				q.Owner = store.AnyOwner()
				page, err := base.LoadThreads(ctx, q)
				page.Data = slices.DeleteFunc(page.Data, func(t chat.Thread) bool { return t.Owner != p.Owner })
				return page, err
			}
		}), nil, "can tell"},
		{"a cursor of another's thread", guarded, []IsolatedOption{Over(func() store.Store {
			base := memstore.New()
			s, held := newTwist(base), map[string]bool{}
			s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
				held[it.ID] = true
				return base.AddThreadItem(ctx, threadID, it)
			}
			s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
				page, err := base.LoadThreadItems(ctx, threadID, q)
				if _, missing := base.LoadThread(ctx, threadID); missing == nil && errors.Is(err, store.ErrNotFound) && held[q.After] {
					q.After = ""
					return base.LoadThreadItems(ctx, threadID, q)
				}
				return page, err
			}
			return s
		})}, "can tell"},
		{"an attachment that one may not read", twisted(false, func(s *twist, next, _ store.Store) {
			s.loadAttachment = func(ctx context.Context, id string) (chat.Attachment, error) {
				a, err := next.LoadAttachment(ctx, id)
				if p, ok := store.PrincipalFrom(ctx); ok && err == nil {
					a.Owner = p.Owner
				}
				return a, err
			}
		}), nil, "must not attach"},
		{"versions of what is hidden", twisted(true, func(s *twist, next, base store.Store) {
			s.loadThread = func(ctx context.Context, id string) (chat.Thread, error) {
				_, _ = base.LoadThread(ctx, id)
				return next.LoadThread(ctx, id)
			}
		}), nil, "can tell"},
		{"another call of the base for what is there", twisted(true, func(s *twist, next, base store.Store) {
			s.loadAttachment = func(ctx context.Context, id string) (chat.Attachment, error) {
				if _, err := base.LoadAttachment(ctx, id); err == nil {
					_, _ = base.LoadAttachment(ctx, id)
				}
				return next.LoadAttachment(ctx, id)
			}
		}), []IsolatedOption{CountingCalls()}, "can tell"},
		{"a taken id that can be had", twisted(true, func(s *twist, next, base store.Store) {
			s.saveAttachment = func(ctx context.Context, a chat.Attachment) error {
				err := next.SaveAttachment(ctx, a)
				if errors.Is(err, store.ErrConflict) {
					return nil
				}
				return err
			}
		}), nil, "that id is taken"},
		{"a flight that strangers join", twisted(true, func(s *twist, next, _ store.Store) {
			var flights singleflight.Group
			s.loadThread = func(ctx context.Context, id string) (chat.Thread, error) {
				t, err, _ := flights.Do(id, func() (any, error) { return next.LoadThread(ctx, id) })
				return t.(chat.Thread), err
			}
		}), nil, "at once"},
		{"a hostile base that is believed", func(base store.Store, _ *Grants) store.Store { return store.Wrap(base, knownOnly) },
			[]IsolatedOption{OverHostile(func() store.Store { return memstore.New() })}, "must not attach"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, why := newIsolated(c.stack, c.opts).leaks(t)
			if !strings.Contains(why, c.want) {
				t.Errorf("got %q, want something that says %q", why, c.want)
			}
		})
	}
}

// knownOnly lets everybody pass who is known at all.
var knownOnly = layer.Intercept("known", layer.InterceptorFunc(func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
	if _, ok := store.PrincipalFrom(ctx); !ok {
		return store.ErrUnauthenticated
	}
	return next(ctx)
}))

// subjectOnly takes an owner of the same name in another tenant for the same.
type subjectOnly struct{ authz.Policy }

func (subjectOnly) Decide(_ context.Context, r authz.Request) (authz.Decision, error) {
	if r.Owner.Subject == r.Principal.Owner.Subject && r.Action == authz.Read {
		return authz.Allow, nil
	}
	return authz.Deny, nil
}

func TestAShortenedTraceStillLeaks(t *testing.T) {
	c := newIsolated(cachedOutside(time.Minute), nil)
	data, why := c.leaks(t)
	data, _ = c.shorten(t, data, why)
	// Somebody saves the thread, and the guest is let in, reads, and is shown out.
	trace := parseTrace(data)
	if why := c.leak(t, trace); why == "" || len(trace) > 6 {
		t.Errorf("got %q of the trace\n%s", why, traceText(trace))
	}
}

func TestAnyDataIsATrace(t *testing.T) {
	for _, data := range []string{"", "short", strings.Repeat("\xff", 4000)} {
		IsolatedTrace(t, []byte(data), guarded)
	}
}
