package chatkit_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
)

// Each call of the store fails once, in each way. The next message is answered at once, and nothing is left of the failed request.
func TestAFailureOfAnyCallLeavesNothingBehind(t *testing.T) {
	faults := map[string]func(cancel func()) layer.InterceptorFunc{
		"fails":              func(func()) layer.InterceptorFunc { return faulty.Fail(store.ErrUnavailable) },
		"fails after it":     func(func()) layer.InterceptorFunc { return faulty.FailAfter(store.ErrUnavailable) },
		"panics":             func(func()) layer.InterceptorFunc { return faulty.Panic("p") },
		"panics after it":    func(func()) layer.InterceptorFunc { return faulty.PanicAfter("p") },
		"ends the goroutine": func(func()) layer.InterceptorFunc { return faulty.Goexit() },
		"hangs": func(cancel func()) layer.InterceptorFunc {
			return func(ctx context.Context, _ layer.Call, _ func(context.Context) error) error {
				time.AfterFunc(time.Second, cancel)
				<-ctx.Done()
				return ctx.Err()
			}
		},
	}
	requests := map[string]object{
		"threads.add_user_message":       message("new"),
		"threads.add_client_tool_output": {"thread_id": "thr", "result": 1},
		"threads.add_structured_input":   {"thread_id": "thr", "item_id": "i2", "input": object{"status": "skipped"}},
		"threads.retry_after_item":       {"thread_id": "thr", "item_id": "i1"},
		"threads.create":                 {"input": say("new")},
	}
	for _, versions := range []bool{true, false} {
		for how, fault := range faults {
			for kind, params := range requests {
				t.Run(fmt.Sprintf("versions %v, %s, %s", versions, how, kind), func(t *testing.T) {
					for skip, hit := 0, true; hit; skip++ {
						synctest.Test(t, func(t *testing.T) { hit = failOnce(t, versions, fault, skip, kind, params) })
						if skip == 0 && !hit {
							t.Error("no call has failed")
						}
					}
				})
			}
		}
	}
}

// failOnce makes a request whose call number skip of the store fails. hit reports whether there was one.
func failOnce(t *testing.T, versions bool, fault func(func()) layer.InterceptorFunc, skip int, kind string, params object) (hit bool) {
	var base store.Store = memstore.New()
	if !versions {
		base = spy.Unversioned(base)
	}
	f := faulty.New(base)
	g := &rig{t: t, base: base, s: base, h: chatkit.NewHandler(f, script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
		turn.Thread.Title += "x"
		if _, err := turn.History(ctx, 5); err != nil {
			return err
		}
		return turn.Say(ctx, pieces("answer ", "end"))
	}}, chatkit.WithLogger(slog.New(slog.DiscardHandler)))}
	g.newThread(text("first"), chat.StructuredInput{Inputs: []chat.Input{}}, chat.ClientToolCall{CallID: "c", Name: "n"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	do := fault(cancel)
	f.Inject(faulty.Fault{Skip: skip, Times: 1, Do: func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
		hit = true
		return do(ctx, c, next)
	}})
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done() // also after Goexit
		g.call(ctx, kind, params)
	}()
	time.Sleep(20 * time.Second)
	f.Reset()
	began := time.Now()
	status, text := g.call(t.Context(), "threads.add_user_message", message("last"))
	if status != 200 || strings.Contains(text, `"error"`) || time.Since(began) > time.Second {
		t.Errorf("call %d: after %v the next message gets %d %s", skip, time.Since(began), status, text)
	}
	wg.Wait()
	if left := g.h.Left(); left != "" {
		t.Errorf("call %d: left are %s", skip, left)
	}
	if items := g.stored("thr"); !strings.HasSuffix(itemTypes(items), "user_message assistant_message") || strings.Contains(fmt.Sprint(items), "pending") {
		t.Errorf("call %d: stored are %s", skip, itemTypes(items))
	}
	return hit
}

// A panic of the store between two words is not the end of the program.
func TestAPanicOfTheStoreBetweenTwoWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var panics atomic.Bool
		talker := newSlowTalker()
		g := unserved(t, before(memstore.New(), func(context.Context, layer.Call) error {
			if panics.Load() {
				panic("store")
			}
			return nil
		}), talker)
		g.newThread()
		ended := g.begin("threads.add_user_message", message("1"))
		panics.Store(true)
		time.Sleep(6 * time.Second)
		panics.Store(false)
		close(talker.goOn)
		if text := ended(); strings.Contains(text, `"error"`) {
			t.Errorf("the turn has ended: %s", text)
		}
	})
}

// A responder that does not notice the end of its turn holds the next message up for seconds only.
func TestAResponderThatHangsDoesNotHoldUpTheNextMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := 0
		g := unserved(t, memstore.New(), script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
			if turns++; turns > 1 {
				return turn.Say(ctx, pieces("second"))
			}
			return turn.Say(ctx, func(yield func(string, error) bool) {
				_ = yield("half", nil)
				time.Sleep(4 * time.Minute)
				_ = yield("late", nil)
			})
		}})
		g.newThread()
		ended := g.begin("threads.add_user_message", message("1"))
		began := time.Now()
		g.wantCall(200, "threads.add_user_message", message("2"))
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("the next message took %v", took)
		}
		ended()
		g.wantStored("thr", "user_message assistant_message user_message assistant_message")
		if left := g.h.Left(); left != "" {
			t.Errorf("left are %s", left)
		}
	})
}

// What a client has read is kept, even if the responder swallows the end of its turn.
func TestAResponderThatSwallowsTheEndKeepsWhatItSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		talker := newSlowTalker()
		g := unserved(t, memstore.New(), script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
			_ = talker.respond(ctx, turn)
			return nil
		}})
		g.newThread()
		first := g.begin("threads.add_user_message", message("1"))
		second := g.begin("threads.add_user_message", message("2"))
		first()
		close(talker.goOn)
		second()
		g.wantStored("thr", "user_message assistant_message user_message assistant_message")
	})
}

// A lost fence, after another program's save or a deletion, ends the running turn and not the next one.
func TestALostFenceDoesNotRefuseTheNextMessage(t *testing.T) {
	for name, lose := range map[string]func(*rig) error{
		"deleted and made again": func(g *rig) error {
			err := g.s.DeleteThread(ada, "thr")
			g.newThread()
			return err
		},
		"saved by another program": func(g *rig) error { return g.s.SaveThread(ada, chat.Thread{ID: "thr", CreatedAt: at(0)}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				turns, talker := 0, newSlowTalker()
				g := unserved(t, memstore.New(), script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
					if turns++; turns == 3 {
						return talker.respond(ctx, turn)
					}
					return turn.Say(ctx, pieces("answer"))
				}})
				g.newThread()
				g.wantCall(200, "threads.add_user_message", message("1"))
				g.wantCall(200, "threads.add_user_message", message("2"))
				ended := g.begin("threads.add_user_message", message("3"))
				testenv.Must(t, lose(g))
				g.wantCall(200, "threads.add_user_message", message("4"))
				ended()
			})
		})
	}
}

// A responder that ends its goroutine holds no slot, so Shutdown returns.
func TestShutdownAfterAResponderEndedItsGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := unserved(t, memstore.New(), script{respond: func(context.Context, *chatkit.Turn) error { runtime.Goexit(); return nil }})
		g.newThread()
		var wg sync.WaitGroup
		wg.Add(1)
		go func() {
			defer wg.Done()
			g.call(t.Context(), "threads.add_user_message", message("1"))
		}()
		wg.Wait()
		testenv.Must(t, g.h.Shutdown(t.Context()))
	})
}
