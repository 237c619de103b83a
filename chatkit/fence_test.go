package chatkit_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
)

// slowTalker says a word, and another one when it is told to go on or its turn ends.
type slowTalker struct {
	script
	goOn chan struct{}
}

func newSlowTalker() *slowTalker {
	s := &slowTalker{goOn: make(chan struct{})}
	s.respond = func(ctx context.Context, turn *chatkit.Turn) error {
		return turn.Say(ctx, func(yield func(string, error) bool) {
			_ = yield("one ", nil)
			select {
			case <-s.goOn:
				yield("two", nil)
			case <-ctx.Done():
				yield("", ctx.Err())
			}
		})
	}
	return s
}

// begin makes a request that is still answered when begin returns. ended waits for its end and returns the answer.
func (g *rig) begin(kind string, params any) (ended func() string) {
	g.t.Helper()
	var wg sync.WaitGroup
	var text string
	wg.Go(func() { _, text = g.call(g.t.Context(), kind, params) })
	synctest.Wait()
	return func() string { wg.Wait(); return text }
}

// wantCall makes a request that must have this status.
func (g *rig) wantCall(status int, kind string, params any) {
	g.t.Helper()
	if got, text := g.call(g.t.Context(), kind, params); got != status {
		g.t.Errorf("%s: %d %s, want %d", kind, got, text, status)
	}
}

func TestARenameAtAnotherServerDoesNotEndTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, talker := memstore.New(), newSlowTalker()
		a, b := unserved(t, base, talker), unserved(t, base, script{})
		a.newThread()
		ended := a.begin("threads.add_user_message", message("1"))
		for _, title := range []string{"x", "mine"} {
			b.wantCall(200, "threads.update", object{"thread_id": "thr", "title": title})
		}
		close(talker.goOn)
		if text := ended(); strings.Contains(text, `"error"`) {
			t.Errorf("the turn has failed: %s", text)
		}
		a.wantStored("thr", "user_message assistant_message")
		if th := testenv.Value(base.LoadThread(t.Context(), "thr"))(t); th.Title != "mine" {
			t.Errorf("title %q", th.Title)
		}
	})
}

// A rename that read the thread before a turn began must not undo the turn's fence.
func TestALateRenameDoesNotEndTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, talker := memstore.New(), newSlowTalker()
		slow := before(base, func(_ context.Context, c layer.Call) error {
			if c.Op == store.OpSaveThread {
				time.Sleep(time.Second)
			}
			return nil
		})
		a, b := unserved(t, base, talker), unserved(t, slow, script{})
		a.newThread()
		renamed := b.begin("threads.update", object{"thread_id": "thr", "title": "mine"})
		ended := a.begin("threads.add_user_message", message("1"))
		renamed()
		close(talker.goOn)
		if text := ended(); strings.Contains(text, `"error"`) {
			t.Errorf("the turn has failed: %s", text)
		}
		if th := testenv.Value(base.LoadThread(t.Context(), "thr"))(t); th.Title != "mine" || !strings.Contains(th.Metadata.String(), `"epoch":1`) {
			t.Errorf("title %q, metadata %s", th.Title, th.Metadata)
		}
	})
}

// The older turn notices within seconds, also between two words. It keeps what it said, before the newer message.
func TestAMessageAtAnotherServerEndsTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, talker := memstore.New(), newSlowTalker()
		a, b := unserved(t, base, talker), unserved(t, base, script{})
		a.newThread()
		ended := a.begin("threads.add_user_message", message("1"))
		began := time.Now()
		b.wantCall(200, "threads.add_user_message", message("2"))
		text := ended()
		if took := time.Since(began); took > 10*time.Second || !strings.Contains(text, "another request has taken over") {
			t.Errorf("after %v: %s", took, text)
		}
		a.wantStored("thr", "user_message assistant_message user_message")
	})
}

// What a turn said before it noticed lies before the newer message, though it was said later.
func TestASupersededAnswerComesBeforeTheNewerMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := memstore.New()
		a, b := unserved(t, base, script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
			time.Sleep(time.Second)
			return turn.Say(ctx, func(yield func(string, error) bool) {
				_ = yield("late", nil)
				<-ctx.Done()
				yield("", ctx.Err())
			})
		}}), unserved(t, base, script{})
		a.newThread()
		ended := a.begin("threads.add_user_message", message("1"))
		time.Sleep(time.Second / 2)
		b.wantCall(200, "threads.add_user_message", message("2"))
		ended()
		a.wantStored("thr", "user_message assistant_message user_message")
	})
}

func TestATurnGetsNoHistoryOfALaterOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := memstore.New()
		a, b := unserved(t, base, script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
			time.Sleep(time.Second)
			past, err := turn.History(ctx, 10)
			if err == nil {
				t.Errorf("the turn of the first message gets %s", itemTypes(past))
			}
			return err
		}}), unserved(t, base, script{})
		a.newThread()
		ended := a.begin("threads.add_user_message", message("1"))
		b.wantCall(200, "threads.add_user_message", message("2"))
		if text := ended(); !strings.Contains(text, "another request has taken over") {
			t.Errorf("the turn goes on: %s", text)
		}
	})
}

func TestARetryOfADeletedMessageEndsNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, talker := memstore.New(), newSlowTalker()
		a, b := unserved(t, base, talker), unserved(t, before(base, func(_ context.Context, c layer.Call) error {
			if c.Op == store.OpSaveThread { // the message was there
				time.Sleep(time.Second)
			}
			return nil
		}), script{})
		a.newThread(text("1"), text("2"))
		late := b.begin("threads.retry_after_item", object{"thread_id": "thr", "item_id": "i2"})
		ended := a.begin("threads.retry_after_item", object{"thread_id": "thr", "item_id": "i1"})
		if text := late(); !strings.Contains(text, "not_found") {
			t.Errorf("the retry of a deleted message: %s", text)
		}
		close(talker.goOn)
		if text := ended(); strings.Contains(text, `"error"`) {
			t.Errorf("the turn has failed: %s", text)
		}
		a.wantStored("thr", "user_message assistant_message")
	})
}

// The answer of the server whose turn is over must not lie beside the answer of the retry.
func TestARetryAtAnotherServerCutsTheTurnAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, talker := memstore.New(), newSlowTalker()
		a, b := unserved(t, base, talker), unserved(t, base, script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
			return turn.Say(ctx, pieces("again"))
		}})
		a.newThread(text("1"))
		ended := a.begin("threads.retry_after_item", object{"thread_id": "thr", "item_id": "i1"})
		b.wantCall(200, "threads.retry_after_item", object{"thread_id": "thr", "item_id": "i1"})
		b.wantCall(200, "threads.add_user_message", message("2")) // the retry is not the newest turn
		ended()
		a.wantStored("thr", "user_message assistant_message user_message assistant_message")
	})
}

// If the thread was deleted and made again, it is another one.
func TestATurnLeavesNothingInAnotherThreadOfTheSameID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, talker := memstore.New(), newSlowTalker()
		a := unserved(t, base, talker)
		a.newThread()
		ended := a.begin("threads.add_user_message", message("1"))
		testenv.Must(t, a.s.DeleteThread(ada, "thr"))
		a.newThread()
		if text := ended(); !strings.Contains(text, `"error"`) {
			t.Errorf("the turn goes on: %s", text)
		}
		a.wantStored("thr", "")
	})
}

func TestOfTwoAnswersAtTwoServersOneIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := memstore.New()
		slow := before(base, func(_ context.Context, c layer.Call) error {
			if c.Op == store.OpSaveItem {
				time.Sleep(time.Second)
			}
			return nil
		})
		servers := []*rig{unserved(t, slow, script{}), unserved(t, slow, script{})}
		servers[0].newThread(chat.StructuredInput{Inputs: []chat.Input{}}, chat.ClientToolCall{CallID: "c", Name: "n"})
		for kind, params := range map[string]object{
			"threads.add_client_tool_output": {"thread_id": "thr", "result": 1},
			"threads.add_structured_input":   {"thread_id": "thr", "item_id": "i1", "input": object{"status": "skipped"}},
		} {
			var taken atomic.Int64
			var wg sync.WaitGroup
			for _, g := range servers {
				wg.Go(func() {
					if status, _ := g.call(t.Context(), kind, params); status == 200 {
						taken.Add(1)
					}
				})
			}
			wg.Wait()
			if taken.Load() != 1 {
				t.Errorf("%s: %d were taken", kind, taken.Load())
			}
		}
	})
}

// pressed answers a waiting action by replacing the widget.
type pressed struct {
	script
	wait chan struct{}
}

func (p pressed) ActNow(_ context.Context, th chat.Thread, a chatkit.Action) (chat.Item, error) {
	<-p.wait
	if !th.Metadata.IsZero() && th.Metadata.String() != "{}" {
		return chat.Item{}, errors.New("the responder sees the fence")
	}
	return a.Sender.WithBody(chat.Widget{Widget: a.Payload})
}

func TestOfTwoWaitingActionsAtTwoServersOneIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, wait := memstore.New(), make(chan struct{})
		a, b := unserved(t, base, pressed{wait: wait}), unserved(t, base, pressed{wait: wait})
		a.newThread(chat.Widget{Widget: parse(t, `{}`)})
		a.wantCall(200, "threads.add_user_message", message("1")) // which leaves a fence
		press := object{"thread_id": "thr", "item_id": "i1", "action": object{"type": "press", "payload": object{"by": "a"}}}
		first := a.begin("threads.sync_custom_action", press)
		press["action"] = object{"type": "press", "payload": object{"by": "b"}}
		second := b.begin("threads.sync_custom_action", press)
		close(wait)
		if texts := first() + second(); strings.Count(texts, "updated_item") != 1 || strings.Count(texts, "conflict") != 1 {
			t.Errorf("the servers answer %s", texts)
		}
	})
}

// stale is a store whose cache does not hear of other servers. It answers with the page that it loaded first.
type stale struct {
	store.Store
	page *store.Page[chat.Item]
}

func (s *stale) LoadThreadItems(ctx context.Context, id string, q store.PageQuery) (store.Page[chat.Item], error) {
	if s.page != nil && !callctx.Of(ctx).Fresh {
		driver.ReportVersion(ctx, id, 1, 1)
		return *s.page, nil
	}
	page, err := s.Store.LoadThreadItems(ctx, id, q)
	if s.page == nil {
		s.page = &page
	}
	return page, err
}

func TestATurnSeesWhatOtherServersHaveSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := memstore.New()
		var seen string
		b := unserved(t, &stale{Store: base}, script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
			past, err := turn.History(ctx, 10)
			seen = itemTypes(past)
			return err
		}})
		a := unserved(t, base, script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
			return turn.Say(ctx, pieces("hello"))
		}})
		a.newThread()
		b.wantCall(200, "threads.get_by_id", object{"thread_id": "thr"})
		a.wantCall(200, "threads.add_user_message", message("1"))
		b.wantCall(200, "threads.add_user_message", message("2"))
		if seen != "user_message assistant_message user_message" {
			t.Errorf("the turn saw %s", seen)
		}
	})
}

// Over a store without versions, the rule holds on one server. It leaves no fence.
func TestAStoreWithoutVersionsHasNoFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, talker := spy.Unversioned(memstore.New()), newSlowTalker()
		g := unserved(t, base, talker)
		g.newThread()
		first := g.begin("threads.add_user_message", message("1"))
		second := g.begin("threads.add_user_message", message("2"))
		close(talker.goOn)
		first()
		if text := second(); strings.Contains(text, `"error"`) {
			t.Errorf("the second turn has failed: %s", text)
		}
		g.wantStored("thr", "user_message assistant_message sdk_hidden_context user_message assistant_message")
		if th := testenv.Value(base.LoadThread(t.Context(), "thr"))(t); th.Metadata.String() != "{}" {
			t.Errorf("metadata %s", th.Metadata)
		}
	})
}

// The times of messages go up with the turns, whatever the clocks of two servers say.
func TestAServerWhoseClockIsBehindOrdersItsTurnsLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := unserved(t, memstore.New(), script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
			return turn.Say(ctx, pieces("hello"))
		}})
		g.save(chat.Thread{ID: "thr", CreatedAt: at(0), Metadata: parse(t,
			`{"a": 1.0, "chatstore_turn": {"turn": "x", "epoch": 7, "at": "2040-01-02T03:04:05Z"}, "b": [ ]}`)})
		g.wantCall(200, "threads.add_user_message", message("1"))
		g.wantCall(200, "threads.add_user_message", message("2"))
		g.wantStored("thr", "user_message assistant_message user_message assistant_message")
		last := time.Date(2040, 1, 2, 3, 4, 5, 0, time.UTC)
		for _, it := range g.stored("thr") {
			if it.CreatedAt.Before(last) {
				t.Errorf("an item of %v comes after %v", it.CreatedAt, last)
			}
			last = it.CreatedAt
		}
		th := testenv.Value(g.base.LoadThread(t.Context(), "thr"))(t)
		if text := th.Metadata.String(); !strings.HasPrefix(text, `{"a": 1.0, "chatstore_turn": {`) ||
			!strings.HasSuffix(text, `, "b": [ ]}`) || !strings.Contains(text, `"epoch":9`) {
			t.Errorf("metadata %s", text)
		}
	})
}
