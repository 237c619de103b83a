package authz_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// names are the ids that a probe uses.
type names struct{ thr, msg, atc string }

var (
	there   = names{thr, msg, atc}
	nowhere = names{noThr, noMsg, noAtc}
)

// caller is a store, a caller's context and the ids that the caller uses.
type caller struct {
	store.Store
	ctx context.Context
	names
}

// atVersion returns the caller's context under the version that ada's thread has after seed.
func (c caller) atVersion() context.Context { return store.IfVersion(c.ctx, c.thr, 2) }

func errOf[T any](_ T, err error) error { return err }

// probe is a call that a stranger makes, once on ada's rows and once on missing rows.
type probe struct {
	op   store.Op
	name string
	want error // the class of the answer
	call func(caller) (any, error)
}

func probes() []probe {
	updateOnly := func(ctx context.Context) context.Context { return store.WithSaveMode(ctx, store.UpdateOnly) }
	insertOnly := func(ctx context.Context) context.Context { return store.WithSaveMode(ctx, store.InsertOnly) }
	return []probe{
		{store.OpLoadThread, "", store.ErrNotFound, func(c caller) (any, error) { return c.LoadThread(c.ctx, c.thr) }},
		{store.OpLoadThread, "fresh", store.ErrNotFound,
			func(c caller) (any, error) { return c.LoadThread(store.WithFresh(c.ctx), c.thr) }},
		{store.OpSaveThread, "update only", store.ErrNotFound,
			func(c caller) (any, error) { return nil, c.SaveThread(updateOnly(c.ctx), thread(c.thr, chat.Owner{})) }},
		{store.OpSaveThread, "update only, with its owner", store.ErrNotFound,
			func(c caller) (any, error) { return nil, c.SaveThread(updateOnly(c.ctx), thread(c.thr, ada)) }},
		{store.OpSaveThread, "for its owner", store.ErrDenied,
			func(c caller) (any, error) { return nil, c.SaveThread(c.ctx, thread(c.thr, ada)) }},
		{store.OpDeleteThread, "", nil, func(c caller) (any, error) { return nil, c.DeleteThread(c.ctx, c.thr) }},
		{store.OpLoadThreads, "its owner's", nil, func(c caller) (any, error) {
			who := ada
			if c.names == nowhere {
				who.Subject = "nobody"
			}
			return c.LoadThreads(c.ctx, store.ThreadQuery{Owner: store.OwnedBy(who)})
		}},
		{store.OpLoadThreads, "own, after it", store.ErrNotFound, func(c caller) (any, error) {
			return c.LoadThreads(c.ctx, store.ThreadQuery{PageQuery: store.PageQuery{After: c.thr}})
		}},
		{store.OpLoadThreads, "its owner's, after it", store.ErrNotFound, func(c caller) (any, error) {
			return c.LoadThreads(c.ctx, store.ThreadQuery{PageQuery: store.PageQuery{After: c.thr}, Owner: store.OwnedBy(ada)})
		}},
		{store.OpLoadThreads, "every owner's, after it", store.ErrNotFound, func(c caller) (any, error) {
			return c.LoadThreads(c.ctx, store.ThreadQuery{PageQuery: store.PageQuery{After: c.thr}, Owner: store.AnyOwner()})
		}},
		{store.OpLoadThreadItems, "", nil,
			func(c caller) (any, error) {
				return c.LoadThreadItems(c.ctx, c.thr, store.PageQuery{Order: store.OldestFirst})
			}},
		{store.OpLoadThreadItems, "after one", store.ErrNotFound,
			func(c caller) (any, error) { return c.LoadThreadItems(c.ctx, c.thr, store.PageQuery{After: c.msg}) }},
		{store.OpLoadThreadItems, "own, after one of it", store.ErrNotFound,
			func(c caller) (any, error) { return c.LoadThreadItems(c.ctx, eveThr, store.PageQuery{After: c.msg}) }},
		{store.OpAddThreadItem, "", store.ErrNotFound,
			func(c caller) (any, error) { return nil, c.AddThreadItem(c.ctx, c.thr, message("msg_new")) }},
		{store.OpAddThreadItem, "with the id of one of its items", store.ErrNotFound,
			func(c caller) (any, error) { return nil, c.AddThreadItem(c.ctx, c.thr, message(c.msg)) }},
		{store.OpAddThreadItem, "with the caller's own attachment", store.ErrNotFound,
			func(c caller) (any, error) { return nil, c.AddThreadItem(c.ctx, c.thr, message(c.msg, eveAtc)) }},
		{store.OpAddThreadItem, "own thread, with its attachment", store.ErrNotFound, func(c caller) (any, error) {
			return nil, c.AddThreadItem(c.ctx, eveThr, message("msg_new", eveAtc, c.atc, "atc_else"))
		}},
		{store.OpSaveItem, "", store.ErrNotFound,
			func(c caller) (any, error) { return nil, c.SaveItem(c.ctx, c.thr, message(c.msg, c.atc)) }},
		{store.OpSaveItem, "update only", store.ErrNotFound,
			func(c caller) (any, error) { return nil, c.SaveItem(updateOnly(c.ctx), c.thr, message(c.msg)) }},
		{store.OpSaveItem, "insert only", store.ErrNotFound,
			func(c caller) (any, error) { return nil, c.SaveItem(insertOnly(c.ctx), c.thr, message(c.msg)) }},
		{store.OpSaveItem, "own message, with its attachment", store.ErrNotFound,
			func(c caller) (any, error) { return nil, c.SaveItem(c.ctx, eveThr, message(eveMsg, eveAtc, c.atc)) }},
		{store.OpLoadItem, "", store.ErrNotFound, func(c caller) (any, error) { return c.LoadItem(c.ctx, c.thr, c.msg) }},
		{store.OpLoadItem, "through the caller's own thread", store.ErrNotFound,
			func(c caller) (any, error) { return c.LoadItem(c.ctx, eveThr, c.msg) }},
		{store.OpDeleteThreadItem, "", nil,
			func(c caller) (any, error) { return nil, c.DeleteThreadItem(c.ctx, c.thr, c.msg) }},
		{store.OpSaveThread, "update only, at its version", store.ErrNotFound,
			func(c caller) (any, error) {
				return nil, c.SaveThread(updateOnly(c.atVersion()), thread(c.thr, chat.Owner{}))
			}},
		{store.OpDeleteThread, "at its version", nil, func(c caller) (any, error) { return nil, c.DeleteThread(c.atVersion(), c.thr) }},
		{store.OpAddThreadItem, "at its version", store.ErrNotFound,
			func(c caller) (any, error) { return nil, c.AddThreadItem(c.atVersion(), c.thr, message("msg_new")) }},
		{store.OpSaveItem, "at its version", store.ErrNotFound,
			func(c caller) (any, error) { return nil, c.SaveItem(c.atVersion(), c.thr, message(c.msg)) }},
		{store.OpDeleteThreadItem, "at its version", nil,
			func(c caller) (any, error) { return nil, c.DeleteThreadItem(c.atVersion(), c.thr, c.msg) }},
		{store.OpSaveAttachment, "update only", store.ErrNotFound,
			func(c caller) (any, error) {
				return nil, c.SaveAttachment(updateOnly(c.ctx), attachment(c.atc, chat.Owner{}))
			}},
		{store.OpSaveAttachment, "for its owner", store.ErrDenied,
			func(c caller) (any, error) { return nil, c.SaveAttachment(c.ctx, attachment(c.atc, ada)) }},
		{store.OpLoadAttachment, "", store.ErrNotFound, func(c caller) (any, error) { return c.LoadAttachment(c.ctx, c.atc) }},
		{store.OpDeleteAttachment, "", nil, func(c caller) (any, error) { return nil, c.DeleteAttachment(c.ctx, c.atc) }},
	}
}

// observed is everything that a caller can learn from a call.
type observed struct {
	Value  string
	Code   store.Code
	Text   string
	Is     []error  // the sentinels that errors.Is finds
	Causes []string // the texts of all errors that Unwrap leads to
	Base   []string // the ops of the base's calls
	Policy []string // the questions to the policy, without the owner

	Versions []string // the reported versions of threads that are not the caller's
}

var sentinels = []error{store.ErrNotFound, store.ErrConflict, store.ErrInvalid, store.ErrUnauthenticated, store.ErrDenied,
	store.ErrLimited, store.ErrUnavailable, store.ErrNotApplied}

func causes(err error) []string {
	var texts []string
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		texts = append(append(texts, e.Unwrap().Error()), causes(e.Unwrap())...)
	case interface{ Unwrap() []error }:
		for _, c := range e.Unwrap() {
			texts = append(append(texts, c.Error()), causes(c)...)
		}
	}
	return texts
}

// wordy makes a base's errors say too much, as a third party's base might.
func wordy(ctx context.Context, c layer.Call, next func(context.Context) error) error {
	err := next(ctx)
	if err == nil {
		return nil
	}
	return fmt.Errorf("SELECT on shard 7 for %s/%s/%s said %s: %w", c.ThreadID, c.ItemID, c.AttachmentID, canary, errors.Join(err, errors.New(canary)))
}

// refusing is a base that itself denies loads of ada's rows, and so reveals that they exist.
type refusing struct{ store.Store }

func (r refusing) LoadThread(ctx context.Context, id string) (chat.Thread, error) {
	t, err := r.Store.LoadThread(ctx, id)
	if err == nil && t.Owner == ada {
		return t, &store.Error{Op: store.OpLoadThread, Code: store.CodeDenied}
	}
	return t, err
}

func (r refusing) LoadAttachment(ctx context.Context, id string) (chat.Attachment, error) {
	a, err := r.Store.LoadAttachment(ctx, id)
	if err == nil && a.Owner == ada {
		return a, &store.Error{Op: store.OpLoadAttachment, Code: store.CodeDenied}
	}
	return a, err
}

// asking records the questions to the policy.
type asking struct {
	authz.Policy
	mu   sync.Mutex
	asks []string
}

func (p *asking) Decide(ctx context.Context, r authz.Request) (authz.Decision, error) {
	p.mu.Lock()
	p.asks = append(p.asks, fmt.Sprintf("%v by %v on %q", r.Action, r.Op, r.ThreadID))
	p.mu.Unlock()
	return p.Policy.Decide(ctx, r)
}

// TestStrangerCannotTellHiddenFromAbsent checks the main promise of this package. Each probe gets the same value, code and error
// text for ada's rows as for missing rows. The calls of the base and the questions to the policy are the same too.
func TestStrangerCannotTellHiddenFromAbsent(t *testing.T) {
	bases := map[string]func(store.Store) store.Store{
		"memstore": func(s store.Store) store.Store { return s },
		"wordy":    layer.Intercept("wordy", layer.InterceptorFunc(wordy)),
		"refusing": func(s store.Store) store.Store { return refusing{s} },
	}
	tables := map[string]authz.Policy{
		"owner only":  authz.OwnerOnly(),
		"grants":      granting("bob", sharing.Editor),
		"other roles": authz.AnyOf(authz.TenantAdmin("admin"), authz.HasRole("operator"), authz.OwnerOnly()),
		"failing grants": sharedBy(func(context.Context, store.Principal, string) (sharing.Access, error) {
			return roleOf(sharing.Editor), errors.New(canary)
		}),
	}
	for _, p := range probes() {
		for base, wrap := range bases {
			for policy, table := range tables {
				t.Run(fmt.Sprintf("%v/%s/%s/%s", p.op, p.name, base, policy), func(t *testing.T) {
					ask := func(n names) observed {
						w := newWorld(t, authz.OwnerOnly())
						asked := &asking{Policy: table}
						s := store.Wrap(w.base, authz.New(asked), layer.Intercept("spy", w.spy), wrap)
						var got observed
						v, err := p.call(caller{s, callctx.WithVersionRecorder(as(t, eve, "admin"), func(id string, before, after uint64) {
							if id != eveThr {
								got.Versions = append(got.Versions, fmt.Sprintf("%s from %d to %d", id, before, after))
							}
						}), n})
						if policy != "failing grants" {
							wants(t, err, p.want)
						}
						got.Value, got.Code = fmt.Sprintf("%#v", v), store.CodeOf(err)
						if err != nil {
							got.Text, got.Causes = err.Error(), causes(err)
						}
						for _, s := range sentinels {
							if errors.Is(err, s) {
								got.Is = append(got.Is, s)
							}
						}
						for _, op := range w.spy.ops() {
							got.Base = append(got.Base, op.String())
						}
						got.Policy = asked.asks
						if policy != "failing grants" && strings.Contains(fmt.Sprintf("%+v", got), canary) {
							t.Errorf("%s is in the answer:\n%+v", canary, got)
						}
						unchanged(t, w)
						return got
					}
					same := strings.NewReplacer("nowhere", "there")
					hidden, absent := ask(there), ask(nowhere)
					absent.Text = same.Replace(absent.Text)
					for _, list := range [][]string{absent.Causes, absent.Policy, absent.Versions} {
						for i := range list {
							list[i] = same.Replace(list[i])
						}
					}
					// No policy here panics: the stack in its error would differ.
					if d := cmp.Diff(absent, hidden, cmp.Comparer(func(a, b error) bool { return a == b })); d != "" {
						t.Errorf("a stranger can tell (-absent +hidden):\n%s", d)
					}
				})
			}
		}
	}
}

// unchanged fails the test unless ada's rows are as seed made them.
func unchanged(t *testing.T, w world) {
	t.Helper()
	ctx := t.Context()
	if got, err := w.base.LoadThread(ctx, thr); err != nil || !got.Equal(thread(thr, ada)) {
		t.Errorf("ada's thread is now %v, %v", got, err)
	}
	if page, err := w.base.LoadThreadItems(ctx, thr, store.PageQuery{}); err != nil || len(page.Data) != 1 || page.Data[0].ID != msg {
		t.Errorf("ada's items are now %v, %v", page.Data, err)
	}
	if got, err := w.base.LoadAttachment(ctx, atc); err != nil || got.Owner != ada {
		t.Errorf("ada's attachment is now %v, %v", got, err)
	}
}

// TestProbesCoverEveryOp checks that the table above has a probe for every op.
func TestProbesCoverEveryOp(t *testing.T) {
	for _, op := range store.Ops() {
		if !slices.ContainsFunc(probes(), func(p probe) bool { return p.op == op }) {
			t.Errorf("no probe for %v", op)
		}
	}
}

// TestSaveUnderTakenID checks that a stranger gets the same conflict for the id of an existing row as for that of a deleted row.
func TestSaveUnderTakenID(t *testing.T) {
	w := newWorld(t, authz.OwnerOnly())
	must(t, w.base.SaveThread(t.Context(), thread("thr_gone", ada)))
	must(t, w.base.DeleteThread(t.Context(), "thr_gone"))
	must(t, w.base.SaveAttachment(t.Context(), attachment("atc_gone", ada)))
	must(t, w.base.DeleteAttachment(t.Context(), "atc_gone"))
	for _, owner := range []chat.Owner{{}, eve} {
		for _, mode := range []store.SaveMode{store.Upsert, store.InsertOnly} {
			ctx := store.WithSaveMode(as(t, eve), mode)
			var texts []string
			for _, id := range []string{thr, "thr_gone"} {
				err := w.SaveThread(ctx, thread(id, owner))
				wants(t, err, store.ErrConflict)
				texts = append(texts, strings.ReplaceAll(err.Error(), id, "ID"))
			}
			for _, id := range []string{atc, "atc_gone"} {
				err := w.SaveAttachment(ctx, attachment(id, owner))
				wants(t, err, store.ErrConflict)
				texts = append(texts, strings.ReplaceAll(err.Error(), id, "ID"))
			}
			if texts[0] != texts[1] || texts[2] != texts[3] {
				t.Errorf("the texts differ: %q", texts)
			}
		}
	}
	unchanged(t, w)
	wants(t, errOf(w.base.LoadThread(t.Context(), "thr_gone")), store.ErrNotFound)
}

// TestWhoMayNotCreateCannotProbeByCreating checks that a caller who may not create rows is denied in the same way for used and
// for free ids.
func TestWhoMayNotCreateCannotProbeByCreating(t *testing.T) {
	w := newWorld(t, policyFunc(func(_ context.Context, r authz.Request) (authz.Decision, error) {
		if r.Owner == r.Principal.Owner && r.Action == authz.Read {
			return authz.Allow, nil
		}
		return authz.Deny, nil
	}))
	for _, n := range []names{there, nowhere} {
		wants(t, w.SaveThread(as(t, eve), thread(n.thr, chat.Owner{})), store.ErrDenied)
		wants(t, w.SaveAttachment(as(t, eve), attachment(n.atc, chat.Owner{})), store.ErrDenied)
	}
	unchanged(t, w)
}
