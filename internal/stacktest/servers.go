// Package stacktest has tests of whole stacks that the tests of several bases share.
package stacktest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/metrics"
	"github.com/chatstore/chatstore/decorators/singleflight"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/store"
)

// TwoServersAnswerOneForm checks that of many answers to one form, exactly one is kept. Two servers have a stack of the
// recommended kind each, over the same rows. On each server two callers read a form and its thread under [store.WithVersions]
// and answer the form under [store.IfVersion]. All losers then read the winner's answer through their own server.
//
// The function calls base once for each server. All results must have the same rows. It closes the servers with their bases. It
// plays that many rounds with each kind of server: without caches, with them, and with caches on a bus.
func TwoServersAnswerOneForm(t *testing.T, base func(testing.TB) store.Store, rounds int) {
	for name, middle := range map[string]func(bus.Bus) store.Middleware{
		"without caches":    func(bus.Bus) store.Middleware { return nil },
		"with singleflight": func(bus.Bus) store.Middleware { return singleflight.New() },
		// Entries that never expire show that a conflict alone ends an outdated one.
		"with caches":          func(bus.Bus) store.Middleware { return cache.New(cache.WithTTL(0)) },
		"with caches on a bus": func(b bus.Bus) store.Middleware { return cache.New(cache.WithTTL(0), cache.WithBus(b)) },
	} {
		t.Run(name, func(t *testing.T) {
			wire := bus.Local()
			var servers, bases [2]store.Store
			for i := range servers {
				bases[i] = base(t)
				servers[i] = server(bases[i], middle(wire))
			}
			defer func() { testenv.Must(t, store.Close(servers[0], servers[1])) }()
			conflicts := 0
			for round := range rounds {
				f := newForm(t, servers[0])
				for _, s := range servers { // fill the caches
					testenv.Must(t, f.isPending(s))
				}
				if round%3 == 2 { // another process, which no bus knows
					testenv.Must(t, bases[0].SaveThread(f.ctx, chat.Thread{ID: f.threadID, Title: "renamed", CreatedAt: noon}))
				}
				conflicts += f.contest(t, servers, round%2 == 0)
				if t.Failed() {
					t.Fatalf("in round %d", round)
				}
			}
			if conflicts == 0 {
				t.Error("no answer met another version, so nothing was tested")
			}
		})
	}
}

// server returns a stack of the recommended kind with middle in the cache's place, or with nothing there.
func server(base store.Store, middle store.Middleware) store.Store {
	counted := func(name string) store.Middleware { return testenv.OrPanic(metrics.New(nil, metrics.WithLayer(name))) }
	layers := []store.Middleware{tracing.New(), counted("outer"), authz.New(authz.OwnerOnly(), authz.ShareBelow())}
	if middle != nil {
		layers = append(layers, middle)
	}
	return store.Wrap(base, append(layers, counted("inner"))...)
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// form is a form in a thread of its own, and the context of the user who answers it.
type form struct {
	ctx              context.Context
	threadID, itemID string
}

func newForm(t *testing.T, s store.Store) form {
	t.Helper()
	user := store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "ada"}}
	f := form{ctx: store.WithPrincipal(t.Context(), user), itemID: "form"}
	f.threadID = store.LongIDs{}.GenerateThreadID(f.ctx)
	testenv.Must(t, s.SaveThread(f.ctx, chat.Thread{ID: f.threadID, CreatedAt: noon}))
	questions := chat.StructuredInput{Status: "pending", Inputs: []chat.Input{{Type: "freeform", ID: "q", Question: "Who?"}}}
	testenv.Must(t, s.AddThreadItem(f.ctx, f.threadID, testenv.OrPanic(chat.NewItem(f.itemID, noon, questions))))
	return f
}

// read returns the stored form and its answer, which is "" while it is pending.
func (f form) read(ctx context.Context, s store.Store) (_ chat.StructuredInput, answer string, err error) {
	if _, err := s.LoadThread(ctx, f.threadID); err != nil {
		return chat.StructuredInput{}, "", err
	}
	it, err := s.LoadItem(ctx, f.threadID, f.itemID)
	if err != nil {
		return chat.StructuredInput{}, "", err
	}
	v, ok, err := chat.DecodeItem[chat.StructuredInput](it)
	if err != nil || !ok {
		return chat.StructuredInput{}, "", errors.Join(err, errors.New("the item is no form"))
	}
	if a := v.Inputs[0].Answer; a != nil {
		answer = a.Values[0]
	}
	return v, answer, nil
}

func (f form) isPending(s store.Store) error {
	_, answer, err := f.read(f.ctx, s)
	if err == nil && answer != "" {
		err = fmt.Errorf("a new form has the answer %q", answer)
	}
	return err
}

// mostTries bounds how often a caller reads the form again. Every conflict is of another version, and few writes are made.
const mostTries = 10

// answer answers the form under the version at which it is pending, and returns the answer that is stored at the end. A
// conflict makes it read again. It calls ready before its first write.
func (f form) answer(s store.Store, mine string, ready func()) (kept string, conflicts int, err error) {
	for range mostTries {
		ctx, versions := store.WithVersions(f.ctx)
		v, answer, err := f.read(ctx, s)
		if err != nil || answer != "" {
			return answer, conflicts, err
		}
		n, ok := versions.Of(f.threadID)
		if !ok {
			return "", conflicts, errors.New("the reads reported no version")
		}
		ready()
		v.Status, v.Inputs[0].Answer = "answered", &chat.InputAnswer{Values: []string{mine}}
		err = s.SaveItem(store.IfVersion(ctx, f.threadID, n), f.threadID, testenv.OrPanic(chat.NewItem(f.itemID, noon, v)))
		if err == nil {
			if after, _ := versions.Of(f.threadID); after != n+1 {
				return "", conflicts, fmt.Errorf("the write under version %d led to version %d", n, after)
			}
			return mine, conflicts, nil
		}
		if e, ok := errors.AsType[*store.Error](err); !ok || e.Code != store.CodeConflict || e.Field != "if_version" {
			return "", conflicts, err
		}
		conflicts++
	}
	return "", conflicts, fmt.Errorf("after %d conflicts the form is still pending", conflicts)
}

// contest lets two callers answer the form through each server. With together, all of them have read the form before the first
// write. It returns the number of conflicts.
func (f form) contest(t *testing.T, servers [2]store.Store, together bool) int {
	const callers = 2 * len(servers)
	var (
		wg, read  sync.WaitGroup
		conflicts atomic.Int64
		kept      [callers]string
	)
	name := func(i int) string { return fmt.Sprint("answer of caller ", i) }
	read.Add(callers)
	for i := range callers {
		s := servers[i%len(servers)]
		wg.Go(func() {
			done := sync.OnceFunc(read.Done)
			defer done()
			answer, n, err := f.answer(s, name(i), func() {
				done()
				if together {
					read.Wait()
				}
			})
			kept[i] = answer
			conflicts.Add(int64(n))
			if err != nil {
				t.Errorf("caller %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	winners := 0
	for i, answer := range kept {
		if answer == name(i) {
			winners++
		}
		if answer != kept[0] {
			t.Errorf("caller %d has %q, caller 0 has %q", i, answer, kept[0])
		}
	}
	if winners != 1 {
		t.Errorf("%d callers won, want one: %q", winners, kept)
	}
	for i, s := range servers {
		for _, ctx := range []context.Context{f.ctx, store.WithFresh(f.ctx)} {
			if _, answer, err := f.read(ctx, s); err != nil || answer != kept[0] {
				t.Errorf("server %d has the answer %q, %v, want %q", i, answer, err, kept[0])
			}
		}
	}
	n := int(conflicts.Load())
	if together && n < callers-1 {
		t.Errorf("%d conflicts, want at least one for each loser", n)
	}
	return n
}
