package storetest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/internal/call"
)

// broken is a Store that breaks one promise, and the subtests that must fail then. No others may fail.
type broken struct {
	promise string
	ops     func() ops // returns the ops of a new Store
	fails   []string
}

// ops are the ops that differ from those of the base. 0 stands for generating an id. opening stands for a change of the Store's
// capabilities. A Store has capabilities only if its ops have an opening.
type ops map[store.Op]func(m *made)

func on(op store.Op, do func(m *made)) func() ops { return func() ops { return ops{op: do} } }

// made is one call on a broken Store. It can change the call and the answer.
type made struct {
	ctx  context.Context
	base store.Store
	call.Call
	a    call.Answer
	done bool          // the call was answered; otherwise it is still made
	kind chat.ItemKind // kind of a generated id
	can  *capabilities // of the new Store
}

// make makes the call on the base in its current form.
func (m *made) make() call.Answer {
	m.answer(m.Make(m.ctx, m.base))
	return m.a
}

func (m *made) answer(a call.Answer) { m.a, m.done = a, true }

func (m *made) ends(with error) bool { return errors.Is(m.a.Err, with) }

func (m *made) fail(c store.Code) { m.answer(call.Answer{Err: &store.Error{Op: m.Op, Code: c}}) }

// forgive makes the call and hides one error.
func (m *made) forgive(err error) {
	if m.make(); m.ends(err) {
		m.a.Err = nil
	}
}

func (m *made) mode(mode store.SaveMode) { m.Mode, m.ctx = mode, store.WithSaveMode(m.ctx, mode) }

// knownMode treats an unknown save mode as Upsert.
func (m *made) knownMode() {
	if m.Mode > store.UpdateOnly {
		m.mode(store.Upsert)
	}
}

// quiet returns a context for calls whose versions the caller does not get.
func (m *made) quiet() context.Context { return callctx.WithoutVersionRecorder(m.ctx) }

func (m *made) caller() chat.Owner {
	p, _ := store.PrincipalFrom(m.ctx)
	return p.Owner
}

// stored returns the row that the call is about.
func (m *made) stored() call.Answer {
	c := m.Call
	switch c.Op = store.OpLoadItem; m.Op {
	case store.OpSaveAttachment, store.OpLoadAttachment, store.OpDeleteAttachment:
		c.Op = store.OpLoadAttachment
	case store.OpSaveThread, store.OpLoadThread, store.OpDeleteThread:
		c.Op = store.OpLoadThread
	}
	return c.Make(m.quiet(), m.base)
}

func (m *made) thread(id string) call.Answer {
	return call.Call{Op: store.OpLoadThread, Thread: chat.Thread{ID: id}}.Make(m.quiet(), m.base)
}

func (m *made) item(threadID, id string) call.Answer {
	return call.Call{Op: store.OpLoadItem, Thread: chat.Thread{ID: threadID}, Item: chat.Item{ID: id}}.Make(m.quiet(), m.base)
}

func (m *made) items(threadID string) []chat.Item {
	p, _ := m.base.LoadThreadItems(m.quiet(), threadID, store.PageQuery{Limit: store.MaxLimit})
	return p.Data
}

// place returns a unique name of an item among all threads.
func (m *made) place() string { return m.Thread.ID + "/" + m.Item.ID }

// generator generates the ids of a Store. do may change them.
type generator struct {
	store.Store
	do func(m *made)
}

func (g generator) GenerateThreadID(ctx context.Context) string {
	m := &made{ctx: ctx}
	m.Thread.ID = g.Store.GenerateThreadID(ctx)
	g.do(m)
	return m.Thread.ID
}

func (g generator) GenerateItemID(ctx context.Context, kind chat.ItemKind, t chat.Thread) string {
	m := &made{ctx: ctx, kind: kind}
	m.Item.ID = g.Store.GenerateItemID(ctx, kind, t)
	g.do(m)
	return m.Item.ID
}

const opening store.Op = 255

// twisted is a Store over base with some ops replaced.
func twisted(base store.Store, of ops) store.Store {
	ids := base
	if do := of[0]; do != nil {
		ids = generator{base, do}
	}
	s := &call.Store{IDs: ids, Do: func(ctx context.Context, c call.Call) call.Answer {
		do := of[c.Op]
		if do == nil {
			return c.Make(ctx, base)
		}
		m := &made{ctx: ctx, base: base, Call: c}
		m.Mode = store.SaveModeFrom(ctx)
		if do(m); !m.done {
			m.make()
		}
		return m.a
	}}
	do := of[opening]
	if do == nil {
		return s // without capabilities, so that these checks are skipped
	}
	b := base.(*memstore.Store)
	can := &capabilities{b.ListAttachments, b.SwapAttachment, b.EraseOwner, b.ThreadVersions, b.InactiveThreads, b.ListTombstones}
	do(&made{base: base, can: can})
	return capableStore{s, can}
}

// open returns a new broken Store.
func (b broken) open() store.Store { return twisted(memstore.New(), b.ops()) }

// andMore stands for further subtests that depend on the broken promise.
const andMore = "…"

// maybe marks a subtest that fails only for some schedules of its goroutines.
func maybe(path string) string { return "?" + path }

// TestBrokenStores shows that each promise has its check, and that a failure names the broken promise.
func TestBrokenStores(t *testing.T) {
	if log := record(t.Context(), func() store.Store { return twisted(memstore.New(), nil) }, nil); len(log.failed) > 0 {
		t.Fatalf("the suite fails on a Store that keeps every promise: %v", log.failed)
	}
	for i, b := range append(allBroken(), brokenCapabilities...) {
		t.Run(b.promise, func(t *testing.T) {
			t.Parallel()
			var must, may []string
			more := false
			for _, path := range b.fails {
				if chance, ok := strings.CutPrefix(path, "?"); ok {
					may = append(may, chance)
				} else if path == andMore {
					more = true
				} else {
					must = append(must, path)
				}
			}
			slices.Sort(must)
			// Run the subtests that must fail. Run a third of the others. The race detector makes this slow, and finds
			// nothing here that it does not find in TestMemstore.
			var groups []string
			for g, group := range suite {
				named := slices.ContainsFunc(must, func(path string) bool { return strings.HasPrefix(path, group.name+"/") })
				if named || !testenv.Race && (testenv.Full || (i+g)%3 == 0 && !testing.Short()) {
					groups = append(groups, group.name)
				}
			}
			failed := make(map[string][]string)
			// A race does not always show on a busy machine, so try again what did not fail.
			only := groups
			for range 100 {
				maps.Copy(failed, record(t.Context(), b.open, only, printAll).failed)
				only = slices.DeleteFunc(slices.Clone(must), func(path string) bool { return failed[path] != nil })
				if len(only) == 0 {
					break
				}
			}
			// Conditions are checked with all kinds of writes, so other faults fail those checks too.
			ofCondition := func(path string) bool { return strings.HasPrefix(path, "IfVersion/") }
			conditions := !slices.ContainsFunc(must, ofCondition)
			got := slices.DeleteFunc(slices.Sorted(maps.Keys(failed)), func(path string) bool {
				return slices.Contains(may, path) || more && !slices.Contains(must, path) || conditions && ofCondition(path)
			})
			if d := gocmp.Diff(must, got); d != "" {
				t.Errorf("subtests that failed (-want +got):\n%s", d)
				for _, path := range got {
					if !slices.Contains(must, path) {
						t.Logf("%s: %s", path, failed[path][0])
					}
				}
			}
		})
	}
}

func allBroken() []broken {
	return slices.Concat(brokenPages, brokenThreads, brokenItems, brokenAttachments, brokenOwners, brokenValues, brokenCalls,
		brokenVersions, brokenConditions(), brokenIDs, brokenRaces, brokenModes, brokenCancellations, deafToCancellation(), takingBadIDs(), contextFirst(), reencoding())
}

// unbreakable are checks that no Store can fail while packages chat and store keep these promises. They are there in case
// that changes.
var unbreakable = []string{
	"Payload/a bad item type is ErrInvalid",
	"Payload/repeated names are ErrInvalid",
	"Aliasing/bytes that were parsed are the caller's",
	"Aliasing/an item's body is the caller's",
	"Aliasing/an attachment's body is the caller's",
	"Aliasing/a loaded value is the caller's",
	"Aliasing/a principal's roles are the caller's",
}

// TestEveryCheckCanFail wants a broken store for each check. For a check of several kinds of rows, one of them is enough.
func TestEveryCheckCanFail(t *testing.T) {
	check := func(path string) string {
		group, name, _ := strings.Cut(path, "/")
		for _, kind := range []string{"items: ", "threads: ", "attachments: "} {
			name = strings.TrimPrefix(name, kind)
		}
		return group + "/" + name
	}
	fails := make(map[string]bool)
	for _, b := range append(allBroken(), brokenCapabilities...) {
		for _, path := range b.fails {
			fails[check(path)] = true
		}
	}
	for _, g := range suite {
		for _, c := range g.checks {
			if path := g.name + "/" + c.name; !fails[check(path)] && !slices.Contains(unbreakable, path) {
				t.Errorf("no broken store fails %q", path)
			}
		}
	}
}

// memory is what a broken store remembers of ids.
type memory[T any] struct{ m sync.Map }

func (m *memory[T]) set(id string, v T) { m.m.Store(id, v) }
func (m *memory[T]) get(id string) (v T, ok bool) {
	x, ok := m.m.Load(id)
	if ok {
		v = x.(T)
	}
	return v, ok
}
