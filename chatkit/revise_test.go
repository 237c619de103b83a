package chatkit_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// acted notes that a waiting action was carried out.
type acted struct {
	*slowTalker
	done bool
}

func (a *acted) ActNow(context.Context, chat.Thread, chatkit.Action) (chat.Item, error) {
	a.done = true
	return chat.Item{}, nil
}

// Who may read a thread, and not write to it, cannot end the answer to its owner, nor carry out an action.
func TestAReaderDoesNotEndTheOwnersAnswer(t *testing.T) {
	for kind, params := range map[string]object{
		"threads.add_user_message":   {"input": say("x")},
		"threads.retry_after_item":   {"item_id": "i1"},
		"threads.custom_action":      {"action": object{"type": "a"}},
		"threads.sync_custom_action": {"action": object{"type": "a"}},
	} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base, talker := sharing.New(memstore.New()), &acted{slowTalker: newSlowTalker()}
				s := store.Wrap(base, authz.New(authz.AnyOf(authz.OwnerOnly(), authz.Shared(base))))
				g := &rig{t: t, base: base, s: s, h: chatkit.NewHandler(s, talker, chatkit.WithLogger(slog.New(slog.DiscardHandler)))}
				g.newThread(text("1"))
				testenv.Must(t, sharing.Share(ada, s, base, "thr", sharing.Grantee{Tenant: "t", Subject: "grace"}, sharing.Viewer))
				ended := g.begin("threads.add_user_message", message("2"))
				params["thread_id"] = "thr"
				if status, text := g.callAs(t.Context(), "grace", kind, params); status != 403 {
					t.Errorf("grace: %d %s", status, text)
				}
				close(talker.goOn)
				if text := ended(); strings.Contains(text, `"error"`) {
					t.Errorf("the owner's answer has ended: %s", text)
				}
				if talker.done {
					t.Error("the action was carried out")
				}
			})
		})
	}
}

// A responder's changes of the thread are stored in whatever form the metadata was, also if the responder then fails.
func TestChangesOfTheThreadAreStored(t *testing.T) {
	for _, before := range []string{"", "{}", "{ }", `{"a":1 }`, `{"a": 1, "b": [ 2 ]}`} {
		g := newRig(t, script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
			for _, metadata := range []string{`{"n": 1}`, `{"n":2}`} {
				turn.Thread.Metadata = parse(t, metadata)
				if err := turn.Emit(ctx, chatkit.Progress{Text: "x"}); err != nil {
					return err
				}
			}
			turn.Thread.Status = chat.Status{Type: chat.StatusLocked, Reason: "full"}
			turn.Thread.AllowedImageDomains = parse(t, `["img.example"]`)
			turn.Thread.Metadata = parse(t, `{"n":3}`)
			return chatkit.Failure{Code: "custom", Message: "no"}
		}})
		th := chat.Thread{ID: "thr", CreatedAt: at(0)}
		if before != "" {
			th.Metadata = parse(t, before)
		}
		g.save(th)
		g.stream("ada", "threads.add_user_message", message("1"))
		got := testenv.Value(g.s.LoadThread(ada, "thr"))(t)
		if !strings.HasPrefix(got.Metadata.String(), `{"n":3,"chatstore_turn":`) || got.Status.Type != chat.StatusLocked ||
			got.AllowedImageDomains.String() != `["img.example"]` {
			t.Errorf("metadata was %q: %s, %v, %s", before, got.Metadata, got.Status, got.AllowedImageDomains)
		}
	}
}

// A message comes after what it answers, though the clock of its server is behind.
func TestAMessageIsLaterThanTheItemsBeforeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := unserved(t, memstore.New(), script{})
		g.newThread()
		it := testenv.Value(chat.NewItem("ahead", time.Now().Add(time.Hour), chat.AssistantMessage{}))(t)
		testenv.Must(t, g.s.AddThreadItem(ada, "thr", it))
		g.wantCall(200, "threads.add_user_message", message("1"))
		g.wantStored("thr", "assistant_message user_message")
	})
}

// A revision waits for no other thread.
func TestThreadsDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slow chan struct{}
		base := before(memstore.New(), func(_ context.Context, c layer.Call) error {
			if c.ThreadID == "thr" && slow != nil {
				<-slow
			}
			return nil
		})
		g := unserved(t, base, script{})
		for n := range 100 {
			testenv.Must(t, g.s.SaveThread(ada, chat.Thread{ID: fmt.Sprint("t", n), CreatedAt: at(0)}))
		}
		testenv.Must(t, g.s.SaveThread(ada, chat.Thread{ID: "thr", CreatedAt: at(0)}))
		slow = make(chan struct{})
		renamed := g.begin("threads.update", object{"thread_id": "thr", "title": "x"})
		began := time.Now()
		for n := range 100 {
			g.wantCall(200, "threads.update", object{"thread_id": fmt.Sprint("t", n), "title": "x"})
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("waited for %v", took)
		}
		close(slow)
		renamed()
	})
}

// Two revisions of a thread on one server do not mix, also over a store without versions.
func TestRenamesOfAStoreWithoutVersionsKeepTheResponderChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := before(spy.Unversioned(memstore.New()), func(_ context.Context, c layer.Call) error {
			if c.Op == store.OpSaveThread {
				time.Sleep(time.Second)
			}
			return nil
		})
		g := unserved(t, base, script{respond: func(_ context.Context, turn *chatkit.Turn) error {
			turn.Thread.Metadata = parse(t, `{"n":1}`)
			return nil
		}})
		g.newThread()
		var wg sync.WaitGroup
		wg.Go(func() { g.wantCall(200, "threads.update", object{"thread_id": "thr", "title": "mine"}) })
		wg.Go(func() { g.wantCall(200, "threads.add_user_message", message("1")) })
		wg.Wait()
		if th := testenv.Value(base.LoadThread(ada, "thr"))(t); th.Title != "mine" || th.Metadata.String() != `{"n":1}` {
			t.Errorf("title %q, metadata %s", th.Title, th.Metadata)
		}
	})
}

// Over a store whose conditional writes never succeed, a request pauses between its tries.
func TestConflictsAreNotTriedInATightLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		g := unserved(t, before(memstore.New(), func(_ context.Context, c layer.Call) error {
			if c.Op != store.OpSaveThread {
				return nil
			}
			if tries++; tries == 1 {
				return nil // newThread
			}
			return &store.Error{Op: c.Op, Code: store.CodeConflict, Field: "if_version"}
		}), script{})
		g.newThread()
		g.wantCall(504, "threads.update", object{"thread_id": "thr", "title": "x"})
		if tries < 10 || tries > 1000 {
			t.Errorf("%d tries in 30 s", tries)
		}
	})
}

// Shutdown ends a turn whose store does not answer when it begins.
func TestShutdownEndsATurnThatCannotBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := false
		g := unserved(t, before(memstore.New(), func(ctx context.Context, c layer.Call) error {
			if hangs {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}), script{})
		g.newThread()
		hangs = true
		ended := g.begin("threads.add_user_message", message("1"))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		_ = g.h.Shutdown(ctx) // its time is over
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("Shutdown took %v", took)
		}
		ended()
	})
}

// A turn ends soon after its thread was deleted, also between two words.
func TestATurnEndsWhenItsThreadIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := unserved(t, memstore.New(), newSlowTalker())
		g.newThread()
		ended := g.begin("threads.add_user_message", message("1"))
		testenv.Must(t, g.s.DeleteThread(ada, "thr"))
		began := time.Now()
		if text := ended(); time.Since(began) > 10*time.Second || !strings.Contains(text, "deleted") {
			t.Errorf("after %v: %s", time.Since(began), text)
		}
	})
}
