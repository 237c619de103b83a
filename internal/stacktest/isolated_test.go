package stacktest_test

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/storetest/isolate"
)

// policy allows access to owners, administrators and principals to whom g grants a thread.
func policy(g *isolate.Grants) authz.Policy {
	return authz.AnyOf(authz.OwnerOnly(), authz.HasRole("admin"), authz.TenantAdmin("tenant_admin"), authz.Shared(g))
}

// arrangement describes a stack and its promises.
type arrangement struct {
	layers  []string // names, the first outermost
	share   bool
	entries int // of the cache; zero means few
	opts    isolate.Options
}

func (a arrangement) String() string {
	name := strings.Join(a.layers, ", ")
	if a.share {
		name += ", sharing below"
	}
	if a.entries > 0 {
		name += ", with a larger cache"
	}
	return name
}

func (a arrangement) stack(base store.Store, g *isolate.Grants) store.Store {
	size := cache.WithMaxEntries(cmp.Or(a.entries, 8))
	return parts{policy: policy(g), share: a.share, cache: []cache.Option{size}}.wrap(base, a.layers...)
}

// arrangements returns the stacks to check: authz alone, and in every order with a cache, a singleflight layer, and both. If there
// are layers below authz, it returns the stack with and without sharing. The last two stacks have a cache that is larger than a
// trace, and all layers of the recommended stack.
func arrangements() (all []arrangement) {
	for _, others := range [][]string{nil, {"cache"}, {"singleflight"}, {"cache", "singleflight"}} {
		for _, layers := range permutations(append([]string{"authz"}, others...)) {
			if refused(layers) {
				continue
			}
			a := arrangement{layers: layers}
			if !slices.Contains(layers, "cache") {
				a.opts.Counting = isolate.CountAll
			}
			all = append(all, a)
			if layers[len(layers)-1] != "authz" {
				a.share = true
				all = append(all, a)
			}
		}
	}
	return append(all,
		arrangement{layers: []string{"authz", "cache"}, entries: 256, opts: isolate.Options{Counting: isolate.CountOwn}},
		arrangement{layers: []string{"tracing", "metrics", "authz", "cache", "metrics"}, share: true})
}

func TestNobodyLearnsOfOthers(t *testing.T) {
	for _, a := range arrangements() {
		t.Run(a.String(), func(t *testing.T) {
			t.Parallel()
			a.opts.Traces = tries(50, 25)
			isolate.Run(t, a.stack, a.opts)
		})
	}
}

func TestNobodyIsShownWhatAHostileBaseHandsOut(t *testing.T) {
	for _, a := range arrangements() {
		t.Run(a.String(), func(t *testing.T) {
			t.Parallel()
			a.opts.Base, a.opts.Hostile, a.opts.Traces = hostile, true, tries(200, 40)
			isolate.Run(t, a.stack, a.opts)
		})
	}
}

// FuzzIsolated chooses an arrangement by the first byte.
func FuzzIsolated(f *testing.F) {
	all := arrangements()
	r := rand.New(rand.NewPCG(0, 0))
	for i := range all {
		data := make([]byte, 500)
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		f.Add(append([]byte{byte(i)}, data...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			return
		}
		a := all[int(data[0])%len(all)]
		isolate.Trace(t, data[1:], a.stack, a.opts)
	})
}

// hostileBase ignores the filter of a listing and returns the threads of all owners. For a missing row it returns another row:
// for items always, for threads and attachments every third time. (Otherwise no thread or attachment could be saved.)
type hostileBase struct {
	store.Store
	*hostilities
}

type hostilities struct {
	mu          sync.Mutex
	calls       int
	attachments []string
}

func hostile() store.Store { return hostileBase{memstore.New(), new(hostilities)} }

// sometimes returns others every third time, and otherwise nil.
func (h *hostilities) sometimes(others []string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.calls++; h.calls%3 > 0 {
		return nil
	}
	return others
}

func (h hostileBase) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	q.Owner, q.After = store.AnyOwner(), ""
	return h.Store.LoadThreads(ctx, q)
}

// insteadOf returns load(id), or if that finds nothing, load of the first of the others that is found.
func insteadOf[T any](id string, others []string, load func(string) (T, bool, error)) (T, error) {
	v, ok, err := load(id)
	for _, other := range others {
		if ok {
			break
		}
		v, ok, err = load(other)
	}
	return v, err
}

// threads returns the ids of all threads.
func (h hostileBase) threads(ctx context.Context) (ids []string) {
	p, err := h.Store.LoadThreads(ctx, store.ThreadQuery{Owner: store.AnyOwner()})
	if err != nil {
		panic(err)
	}
	for _, t := range p.Data {
		ids = append(ids, t.ID)
	}
	return ids
}

func (h hostileBase) LoadThread(ctx context.Context, id string) (chat.Thread, error) {
	return insteadOf(id, h.sometimes(h.threads(ctx)), func(id string) (chat.Thread, bool, error) {
		t, err := h.Store.LoadThread(ctx, id)
		return t, err == nil, err
	})
}

func (h hostileBase) LoadItem(ctx context.Context, threadID, itemID string) (chat.Item, error) {
	return insteadOf(threadID, h.threads(ctx), func(id string) (chat.Item, bool, error) {
		it, err := h.Store.LoadItem(ctx, id, itemID)
		return it, err == nil, err
	})
}

func (h hostileBase) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
	return insteadOf(threadID, h.threads(ctx), func(id string) (store.Page[chat.Item], bool, error) {
		p, err := h.Store.LoadThreadItems(ctx, id, q)
		return p, err == nil && len(p.Data) > 0, err
	})
}

func (h hostileBase) SaveAttachment(ctx context.Context, a chat.Attachment) error {
	h.mu.Lock()
	h.attachments = append(h.attachments, a.ID)
	h.mu.Unlock()
	return h.Store.SaveAttachment(ctx, a)
}

func (h hostileBase) LoadAttachment(ctx context.Context, id string) (chat.Attachment, error) {
	h.mu.Lock()
	others := slices.Clone(h.attachments)
	h.mu.Unlock()
	return insteadOf(id, h.sometimes(others), func(id string) (chat.Attachment, bool, error) {
		a, err := h.Store.LoadAttachment(ctx, id)
		return a, err == nil, err
	})
}

// TestTheCachesForgetAnErasedOwner follows the steps of [driver.Eraser], for a thread that step 1 has not found.
func TestTheCachesForgetAnErasedOwner(t *testing.T) {
	base, wire := memstore.New(), bus.Local()
	inside, other := store.Wrap(base, cache.New(cache.WithBus(wire))), store.Wrap(base, cache.New(cache.WithBus(wire)))
	defer store.Close(inside, other)
	s := store.Wrap(other, authz.New(authz.OwnerOnly())) // of another process than the one that erases
	owner := chat.Owner{Tenant: "acme", Subject: "ada"}
	ctx := store.WithPrincipal(t.Context(), store.Principal{Owner: owner})
	must(t, s.SaveThread(ctx, titled("thr_1", "x")))
	must(t, s.SaveAttachment(ctx, testenv.OrPanic(chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "file", Name: "x", MIMEType: "text/plain"}))))
	held := func(in store.Store) (n int) {
		if _, err := in.LoadThread(ctx, "thr_1"); err == nil {
			n++
		}
		if _, err := in.LoadAttachment(ctx, "atc_1"); err == nil {
			n++
		}
		return n
	}
	held(s)
	eraser, _ := store.As[driver.Eraser](base)
	erased, err := eraser.EraseOwner(ctx, owner)
	must(t, err)
	if held(s) != 2 {
		t.Fatal("the other cache does not hold the erased rows: this test shows nothing")
	}
	for _, id := range erased.Threads {
		must(t, inside.DeleteThread(ctx, id))
	}
	for _, id := range erased.Attachments {
		must(t, inside.DeleteAttachment(ctx, id))
	}
	for name, in := range map[string]store.Store{"the erasing process": inside, "the other process": s} {
		if n := held(in); n != 0 {
			t.Errorf("%s still answers %d erased rows", name, n)
		}
	}
}
