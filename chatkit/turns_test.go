package chatkit_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/internal/chatkittest"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// pieces yields texts.
func pieces(texts ...string) func(func(string, error) bool) {
	return func(yield func(string, error) bool) {
		for _, s := range texts {
			if !yield(s, nil) {
				return
			}
		}
	}
}

func TestAUserMessageIsStoredThenAnswered(t *testing.T) {
	g := newRig(t, script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
		m, ok, err := chat.DecodeItem[chat.UserMessage](turn.Message)
		if err != nil || !ok || m.Content[0].Text != "hello" || m.InferenceOptions.Model != "m" || m.QuotedText != "q" {
			t.Errorf("the turn's message: %v %v %v", m, ok, err)
		}
		past, err := turn.History(ctx, 10)
		if err != nil || itemTypes(past) != "user_message" {
			t.Errorf("history: %s, %v", itemTypes(past), err)
		}
		turn.Thread.Title = "Greeting"
		return turn.Say(ctx, pieces("one ", "two"))
	}})
	input := say("hello")
	input["quoted_text"], input["inference_options"] = "q", object{"model": "m", "unknown": []int{1}}
	all := g.stream("ada", "threads.create", object{"input": input})
	want := "thread.created thread.item.done stream_options thread.item.added thread.updated assistant_message.content_part.added " +
		"assistant_message.content_part.text_delta assistant_message.content_part.text_delta " +
		"assistant_message.content_part.done thread.item.done"
	wantTypes(t, all, want)
	if got := g.writes(); got != "save_thread save_thread add_thread_item save_thread add_thread_item" {
		t.Errorf("writes: %s", got)
	}
	id := all[0]["thread"].(object)["id"].(string)
	g.wantStored(id, "user_message assistant_message")
	items := g.stored(id)
	if !strings.Contains(items[0].JSON().String(), `"unknown":[1]`) {
		t.Errorf("members unknown to the server were not kept: %s", items[0].JSON())
	}
	answer, _, _ := chat.DecodeItem[chat.AssistantMessage](items[1])
	if answer.Content[0].Text != "one two" {
		t.Errorf("answer: %+v", answer)
	}
	done := all[len(all)-1]["item"].(object)
	if done["id"] != items[1].ID || done["content"].([]any)[0].(object)["text"] != "one two" {
		t.Errorf("the client got %v", done)
	}
	if thread, err := g.s.LoadThread(ada, id); err != nil || thread.Title != "Greeting" {
		t.Errorf("thread: %q, %v", thread.Title, err)
	}
}

// takenOnce generates an id that is taken, and then free ones.
type takenOnce struct{ ids []string }

func (d *takenOnce) GenerateThreadID(context.Context) string {
	id := d.ids[0]
	d.ids = d.ids[1:]
	return id
}

func (d *takenOnce) GenerateItemID(context.Context, chat.ItemKind, chat.Thread) string {
	return "msg_new"
}

func TestACollidingIDIsDrawnAgain(t *testing.T) {
	g := newRigOver(t, memstore.New(memstore.WithIDs(&takenOnce{[]string{"thr", "free"}})), script{})
	g.newThread(text("ada's own"))
	all := g.stream("ada", "threads.create", object{"input": say("hello")})
	if id := all[0]["thread"].(object)["id"]; id != "free" {
		t.Errorf("the new thread is %v", id)
	}
	if got := g.stored("thr"); len(got) != 1 {
		t.Errorf("the existing thread has %d items", len(got))
	}
}

// A responder emits events. The store must get these writes, and the client these events.
func TestEventsAreKeptAsTheSDKsKeepThem(t *testing.T) {
	task := chat.WorkflowItem{Workflow: chat.Workflow{Type: "custom"}}
	for name, test := range map[string]struct {
		emit           func(t *testing.T) []chatkit.Event
		writes, events string
	}{
		"announced": {func(t *testing.T) []chatkit.Event {
			return []chatkit.Event{chatkit.ItemAdded{Item: newItem(t, "x", 50, task)}, chatkit.ItemDone{Item: newItem(t, "x", 50, task)}}
		}, "add_thread_item", "thread.item.added thread.item.done"},
		"never announced": {func(t *testing.T) []chatkit.Event {
			return []chatkit.Event{chatkit.ItemDone{Item: newItem(t, "x", 50, task)}}
		}, "save_item", "thread.item.done"},
		"replaced": {func(t *testing.T) []chatkit.Event {
			return []chatkit.Event{chatkit.ItemReplaced{Item: newItem(t, "i1", 50, task)}}
		}, "save_item", "thread.item.replaced"},
		"removed": {func(t *testing.T) []chatkit.Event {
			return []chatkit.Event{chatkit.ItemRemoved{ItemID: "i1"}}
		}, "delete_thread_item", "thread.item.removed"},
		"announced and removed": {func(t *testing.T) []chatkit.Event {
			return []chatkit.Event{chatkit.ItemAdded{Item: newItem(t, "x", 50, task)}, chatkit.ItemRemoved{ItemID: "x"}}
		}, "", "thread.item.added thread.item.removed"},
		"for the moment": {func(t *testing.T) []chatkit.Event {
			return []chatkit.Event{
				chatkit.Progress{Text: "p"}, chatkit.Notice{Level: "info", Message: "m"},
				chatkit.ClientEffect{Name: "e", Data: parse(t, `{"a":1}`)},
			}
		}, "", "progress_update notice client_effect"},
		"updates": {func(t *testing.T) []chatkit.Event {
			image := newItem(t, "y", 50, chat.GeneratedImage{})
			widget := newItem(t, "w", 50, chat.Widget{Widget: parse(t, `{}`)})
			return []chatkit.Event{
				chatkit.ItemAdded{Item: newItem(t, "x", 50, task)}, chatkit.ItemAdded{Item: image}, chatkit.ItemAdded{Item: widget},
				chatkit.ItemUpdated{ItemID: "x", Update: chatkit.TaskAdded{Task: chat.Task{Type: "custom", Title: "a"}}},
				chatkit.ItemUpdated{ItemID: "x", Update: chatkit.TaskUpdated{Task: chat.Task{Type: "custom", Title: "b"}}},
				chatkit.ItemUpdated{ItemID: "y", Update: chatkit.ImageUpdated{Image: chat.Image{ID: "i"}, Progress: new(0.5)}},
				chatkit.ItemUpdated{ItemID: "w", Update: chatkit.WidgetTextDelta{ComponentID: "c", Delta: "d"}},
				chatkit.ItemUpdated{ItemID: "w", Update: chatkit.WidgetComponentUpdated{ComponentID: "c", Component: parse(t, `{}`)}},
				chatkit.ItemUpdated{ItemID: "w", Update: chatkit.WidgetRootUpdated{Widget: parse(t, `{}`)}},
			}
		}, "", "thread.item.added thread.item.added thread.item.added workflow.task.added workflow.task.updated generated_image.updated " +
			"widget.streaming_text.value_delta widget.component.updated widget.root.updated"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, script{act: func(ctx context.Context, turn *chatkit.Turn, a chatkit.Action) error {
				if a.Type != "go" || a.Payload.String() != `{"n":1}` {
					t.Errorf("action: %+v", a)
				}
				for _, e := range test.emit(t) {
					if err := turn.Emit(ctx, e); err != nil {
						return err
					}
				}
				return nil
			}})
			g.newThread(text("1"))
			all := g.stream("ada", "threads.custom_action", object{"thread_id": "thr", "action": object{"type": "go", "payload": object{"n": 1}}})
			wantTypes(t, all, "stream_options "+test.events)
			if got, want := g.writes(), strings.TrimSpace("save_thread "+test.writes); got != want { // the first is the fence
				t.Errorf("writes: %s, want %s", got, want)
			}
		})
	}
}

func TestTheNewestPendingToolCallGetsTheOutput(t *testing.T) {
	responded := 0
	g := newRig(t, script{respond: func(_ context.Context, turn *chatkit.Turn) error {
		if responded++; turn.Message.ID != "" {
			t.Error("an output has no message")
		}
		return nil
	}})
	call := chat.ClientToolCall{CallID: "c", Name: "n"}
	over := call
	over.Status = "completed"
	g.newThread(call, call, over, text("x"))
	all := g.stream("ada", "threads.add_client_tool_output", object{"thread_id": "thr", "result": object{"n": 1.5}})
	wantTypes(t, all, "thread.item.replaced thread.item.removed stream_options")
	got := load[chat.ClientToolCall](g, "i2")
	if got.Status != "completed" || got.Output.String() != `{"n":1.5}` || responded != 1 {
		t.Errorf("the call is %+v, responded %d times", got, responded)
	}
	if left := g.stored("thr"); len(left) != 3 || left[0].ID != "i2" {
		t.Errorf("an abandoned call still exists: %v", left)
	}
	g.want(409, "ada", "threads.add_client_tool_output", object{"thread_id": "thr", "result": 1}) // a second output
}

func TestAnUnansweredToolCallGoesWithTheNextMessage(t *testing.T) {
	g := newRig(t, script{})
	g.newThread(chat.ClientToolCall{CallID: "c", Name: "n"})
	all := g.stream("ada", "threads.add_user_message", message("never mind"))
	wantTypes(t, all, "thread.item.done thread.item.removed stream_options")
	g.wantStored("thr", "user_message")
}

func TestAFormIsAnsweredOnce(t *testing.T) {
	form := chat.StructuredInput{Inputs: []chat.Input{
		{Type: "multiple_choice", ID: "one", Question: "?", Options: []chat.InputOption{{Value: "a"}, {Value: "b"}}},
		{Type: "multiple_choice", ID: "many", Question: "?", Multiple: true, Options: []chat.InputOption{{Value: "a"}, {Value: "b"}}},
		{Type: "freeform", ID: "free", Question: "?"},
		{Type: "freeform", ID: "none", Question: "?"},
	}}
	g := newRig(t, script{})
	g.newThread(form, form)
	all := g.stream("ada", "threads.add_structured_input", object{"thread_id": "thr", "item_id": "i1", "input": object{
		"status": "answered",
		"answers": object{
			"one": object{"values": []string{"a", "b"}}, "many": object{"values": []string{"a", "b"}},
			"free": object{"values": []string{"x"}, "skipped": true}, "other": object{"values": []string{"x"}},
		},
	}})
	wantTypes(t, all, "thread.item.replaced stream_options")
	answered := load[chat.StructuredInput](g, "i1")
	var got []chat.InputAnswer
	for _, q := range answered.Inputs {
		got = append(got, *q.Answer)
	}
	skipped := chat.InputAnswer{Values: []string{}, Skipped: true}
	want := []chat.InputAnswer{{Values: []string{"a"}}, {Values: []string{"a", "b"}}, skipped, skipped}
	if diff := cmp.Diff(want, got); diff != "" || answered.Status != "answered" {
		t.Errorf("%s (-want +got)\n%s", answered.Status, diff)
	}
	skip := object{"thread_id": "thr", "item_id": "i1", "input": object{"status": "skipped"}}
	g.want(409, "ada", "threads.add_structured_input", skip) // a second time
	skip["item_id"] = "i2"
	g.stream("ada", "threads.add_structured_input", skip)
	if second := load[chat.StructuredInput](g, "i2"); second.Status != "skipped" || !second.Inputs[0].Answer.Skipped {
		t.Errorf("skipped: %+v", second)
	}
}

// before calls f before the calls of a base.
func before(base store.Store, f func(context.Context, layer.Call) error) store.Store {
	return store.Wrap(base, layer.Intercept("before", layer.InterceptorFunc(
		func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			if err := f(ctx, c); err != nil {
				return err
			}
			return next(ctx)
		})))
}

func TestOfTwoAnswersAtOnceOneIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := before(memstore.New(), func(_ context.Context, c layer.Call) error {
			if c.Op == store.OpSaveItem {
				time.Sleep(time.Second)
			}
			return nil
		})
		g := unserved(t, slow, script{})
		g.newThread(chat.StructuredInput{Inputs: []chat.Input{}}, chat.ClientToolCall{CallID: "c", Name: "n"})
		for kind, params := range map[string]object{
			"threads.add_client_tool_output": {"thread_id": "thr", "result": 1},
			"threads.add_structured_input":   {"thread_id": "thr", "item_id": "i1", "input": object{"status": "skipped"}},
		} {
			var taken atomic.Int64
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					switch status, text := g.call(t.Context(), kind, params); status {
					case 200:
						taken.Add(1)
					case 409:
					default:
						t.Errorf("%s: %d %s", kind, status, text)
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

// A stopped answer that is retried at once leaves nothing after the new answer.
func TestStoppedAndRetriedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := 0
		g := unserved(t, memstore.New(), script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
			if turns++; turns == 2 {
				return turn.Say(ctx, pieces("again"))
			}
			return turn.Say(ctx, func(yield func(string, error) bool) {
				_ = yield("half", nil)
				<-ctx.Done()
				time.Sleep(time.Second) // the responder notices slowly
				yield("", ctx.Err())
			})
		}})
		g.newThread(text("1"))
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { g.call(ctx, "threads.retry_after_item", object{"thread_id": "thr", "item_id": "i1"}) })
		synctest.Wait()
		stop()
		if status, text := g.call(t.Context(), "threads.retry_after_item", object{"thread_id": "thr", "item_id": "i1"}); status != 200 {
			t.Errorf("%d %s", status, text)
		}
		wg.Wait()
		g.wantStored("thr", "user_message assistant_message")
	})
}

// On one server, a conversation has one turn at a time. A new message ends the running answer, whose text is kept.
func TestANewMessageEndsTheAnswerBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := 0
		first := abandoned(nil)
		g := unserved(t, memstore.New(), script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
			if turns++; turns == 1 {
				return first.respond(ctx, turn)
			}
			return turn.Say(ctx, pieces("second"))
		}})
		g.newThread()
		var ended string
		var wg sync.WaitGroup
		wg.Go(func() { _, ended = g.call(t.Context(), "threads.add_user_message", message("1")) })
		synctest.Wait()
		if status, _ := g.call(t.Context(), "threads.add_user_message", object{"thread_id": "none", "input": say("2")}); status != 404 {
			t.Errorf("a missing thread: %d", status)
		}
		g.call(t.Context(), "threads.add_user_message", message("2"))
		wg.Wait()
		g.wantStored("thr", "user_message assistant_message user_message assistant_message")
		if !strings.Contains(ended, "another request has taken over") {
			t.Errorf("the first client got: %s", ended)
		}
	})
}

func TestARenameInMidTurnStays(t *testing.T) {
	begun, renamed := make(chan struct{}), make(chan struct{})
	g := newRig(t, script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
		close(begun)
		<-renamed
		turn.Thread.Title = "the beginning of the message"
		turn.Thread.Metadata = parse(t, `{"model":"m"}`)
		return turn.Say(ctx, pieces("x"))
	}})
	g.newThread()
	res := g.request(t.Context(), "ada", "threads.add_user_message", message("x"))
	defer res.Body.Close()
	<-begun
	g.want(200, "ada", "threads.update", object{"thread_id": "thr", "title": "mine"})
	close(renamed)
	_, _ = io.Copy(io.Discard, res.Body)
	if thread, err := g.s.LoadThread(ada, "thr"); err != nil || thread.Title != "mine" ||
		!strings.HasPrefix(thread.Metadata.String(), `{"model":"m","chatstore_turn":`) {
		t.Errorf("%q %s, %v", thread.Title, thread.Metadata, err)
	}
}

// A row that is deleted between a request's load and its save stays deleted.
func TestLateSavesBringNothingBack(t *testing.T) {
	for kind, test := range map[string]struct {
		op     store.Op
		params object
		status int
	}{
		"threads.update":                 {store.OpSaveThread, object{"title": "t"}, 404},
		"threads.sync_custom_action":     {store.OpSaveItem, object{"item_id": "i1", "action": object{"type": "a"}}, 404},
		"threads.add_client_tool_output": {store.OpSaveItem, object{"result": 1}, 409}, // none waits for an output
		"threads.add_structured_input":   {store.OpSaveItem, object{"item_id": "i2", "input": object{"status": "skipped"}}, 404},
		"threads.add_user_message":       {store.OpSaveAttachment, object{"input": object{"content": []any{}, "attachments": []string{"atc"}}}, 404},
	} {
		t.Run(kind, func(t *testing.T) {
			base := memstore.New()
			armed := false
			deleting := before(base, func(ctx context.Context, c layer.Call) error {
				if !armed || c.Op != test.op {
					return nil
				}
				var err error
				switch c.Op {
				case store.OpSaveThread:
					err = base.DeleteThread(ctx, "thr")
				case store.OpSaveItem:
					err = base.DeleteThreadItem(ctx, "thr", c.ItemID)
				case store.OpSaveAttachment:
					err = base.DeleteAttachment(ctx, "atc")
				}
				if err != nil {
					t.Error(err)
				}
				return nil
			})
			g := newRigOver(t, deleting, unchanging{})
			g.newThread(chat.Widget{Widget: parse(t, `{}`)}, chat.StructuredInput{}, chat.ClientToolCall{CallID: "c", Name: "n"})
			g.attach(chat.JSON{})
			armed = true
			test.params["thread_id"] = "thr"
			g.want(test.status, "ada", kind, test.params)
			armed = false
			page, err := base.LoadThreadItems(t.Context(), "thr", store.PageQuery{})
			_, noThread := base.LoadThread(t.Context(), "thr")
			_, noFile := base.LoadAttachment(t.Context(), "atc")
			back := map[store.Op]bool{
				store.OpSaveThread: noThread == nil, store.OpSaveItem: len(page.Data) != 2, store.OpSaveAttachment: noFile == nil,
			}
			if err != nil || back[test.op] {
				t.Errorf("the row is back: %v", err)
			}
		})
	}
}

// unchanging answers a waiting action with the unchanged widget.
type unchanging struct{ script }

func (unchanging) ActNow(_ context.Context, _ chat.Thread, a chatkit.Action) (chat.Item, error) {
	return a.Sender, nil
}

func TestRetryDeletesWhatFollows(t *testing.T) {
	g := newRig(t, script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
		if turn.Message.ID != "i1" {
			t.Errorf("answers %q", turn.Message.ID)
		}
		return turn.Say(ctx, pieces("again"))
	}})
	bodies := []chat.Body{text("1")}
	for range 120 { // more than a page
		bodies = append(bodies, chat.AssistantMessage{})
	}
	g.newThread(append(bodies, chat.SDKHiddenContext{Content: "c"})...)
	all := g.stream("ada", "threads.retry_after_item", object{"thread_id": "thr", "item_id": "i1"})
	if got := strings.Count(types(all), "thread.item.removed"); got != 120 {
		t.Errorf("the client got %d removals", got)
	}
	g.wantStored("thr", "user_message assistant_message")
}

func TestAClosedThreadTakesNoMessages(t *testing.T) {
	g := newRig(t, unchanging{})
	for _, typ := range []string{chat.StatusLocked, chat.StatusClosed} {
		g.save(chat.Thread{ID: typ, CreatedAt: at(0), Status: chat.Status{Type: typ, Reason: "r"}}, text("x"))
		for kind, params := range map[string]object{
			"threads.add_user_message": {"input": say("x")}, "threads.add_client_tool_output": {"result": 1},
			"threads.add_structured_input": {"item_id": "i1", "input": object{"status": "skipped"}},
			"threads.retry_after_item":     {"item_id": "i1"}, "threads.custom_action": {"action": object{"type": "a"}},
			"threads.sync_custom_action": {"action": object{"type": "a"}},
		} {
			params["thread_id"] = typ
			g.want(409, "ada", kind, params)
		}
	}
}

// A conversation that is deleted during a stream stays deleted, and the turn does not count as failed.
func TestAThreadDeletedInMidStreamStaysDeleted(t *testing.T) {
	var g *rig
	for name, then := range map[string]func(context.Context, *chatkit.Turn) error{
		"a changed title": func(_ context.Context, turn *chatkit.Turn) error { turn.Thread.Title = "t"; return nil },
		"an item":         func(ctx context.Context, turn *chatkit.Turn) error { return turn.Say(ctx, pieces("x")) },
	} {
		reg := prometheus.NewRegistry()
		g = newRig(t, script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
			if err := g.s.DeleteThread(ctx, turn.Thread.ID); err != nil {
				return err
			}
			return then(ctx, turn)
		}}, chatkit.WithRegisterer(reg))
		all := g.stream("ada", "threads.create", object{"input": say("x")})
		if last := all[len(all)-1]; last["type"] != "error" || last["allow_retry"] != false {
			t.Errorf("%s: the stream ends in %v", name, last)
		}
		id := all[0]["thread"].(object)["id"].(string)
		if _, err := g.s.LoadThread(ada, id); store.CodeOf(err) != store.CodeNotFound {
			t.Errorf("%s: the thread is back: %v", name, err)
		}
		for _, f := range testenv.Value(reg.Gather())(t) {
			for _, m := range f.GetMetric() {
				if f.GetName() == "chatkit_turns_total" && m.GetLabel()[0].GetValue() == "failed" && m.GetCounter().GetValue() != 0 {
					t.Errorf("%s: the turn counts as failed", name)
				}
			}
		}
	}
}

// abandoned streams a message up to its second piece, and waits there for the end of the context.
func abandoned(ended chan<- error) script {
	return script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
		err := turn.Say(ctx, func(yield func(string, error) bool) {
			_ = yield("half of ", nil) && yield("a message", nil)
			turn.Thread.Title = "kept"
			<-ctx.Done()
			yield("", ctx.Err())
		})
		if ended != nil {
			ended <- err
		}
		return err
	}}
}

func readUntil(t *testing.T, body io.Reader, typ string, n int) {
	t.Helper()
	for e := range events(t, body) {
		if strings.HasSuffix(types([]object{e}), typ) {
			if n--; n == 0 {
				return
			}
		}
	}
	t.Fatalf("the stream ended before its %s", typ)
}

func (g *rig) wantKept(id string) {
	g.t.Helper()
	g.wantStored(id, "user_message assistant_message sdk_hidden_context")
	m, _, err := chat.DecodeItem[chat.AssistantMessage](g.stored(id)[1])
	if err != nil || len(m.Content) != 1 || m.Content[0].Text != "half of a message" {
		g.t.Errorf("kept: %+v, %v", m, err)
	}
	if thread, err := g.s.LoadThread(ada, id); err != nil || thread.Title != "kept" {
		g.t.Errorf("the thread is %q, %v", thread.Title, err)
	}
}

func TestWhatAClientHasReadIsKeptWhenItGoes(t *testing.T) {
	g := newRig(t, abandoned(nil))
	g.newThread()
	ctx, cancel := context.WithCancel(t.Context())
	res := g.request(ctx, "ada", "threads.add_user_message", message("x"))
	readUntil(t, res.Body, "text_delta", 2)
	cancel()
	res.Body.Close()
	testenv.Must(t, g.h.Shutdown(t.Context())) // waits for the turn
	g.wantKept("thr")
}

// If a client leaves while an item is being saved, the whole item is kept.
func TestAnItemCutInItsSavingIsKeptWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, leave := context.WithCancel(t.Context())
		left := false
		leaving := before(memstore.New(), func(ctx context.Context, c layer.Call) error {
			if c.Op != store.OpAddThreadItem || c.ItemID != "whole" || left {
				return nil
			}
			left = true
			leave()
			return errors.Join(store.ErrNotApplied, ctx.Err())
		})
		g := unserved(t, leaving, script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
			begin := newItem(t, "whole", 1, chat.AssistantMessage{})
			end := newItem(t, "whole", 1, chat.AssistantMessage{Content: []chat.AssistantContent{{Text: "all of it"}}})
			return errors.Join(turn.Emit(ctx, chatkit.ItemAdded{Item: begin}), turn.Emit(ctx, chatkit.ItemDone{Item: end}))
		}})
		g.newThread()
		g.call(ctx, "threads.add_user_message", message("x"))
		if m := load[chat.AssistantMessage](g, "whole"); len(m.Content) != 1 || m.Content[0].Text != "all of it" {
			t.Errorf("kept: %+v", m)
		}
	})
}

// A client leaves, and the responder's turn ends: with an empty message, or as if the client had read everything.
func TestWhatATurnLeavesWithoutItsClient(t *testing.T) {
	for want, end := range map[string]func(context.Context, *chatkit.Turn, func()) error{
		"user_message sdk_hidden_context": func(ctx context.Context, turn *chatkit.Turn, begun func()) error {
			return turn.Say(ctx, func(yield func(string, error) bool) {
				_ = yield(" \n", nil)
				begun()
				<-ctx.Done()
				yield("", ctx.Err())
			})
		},
		"user_message": func(ctx context.Context, _ *chatkit.Turn, begun func()) error {
			begun()
			<-ctx.Done()
			return nil
		},
	} {
		begun := make(chan struct{})
		g := newRig(t, script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
			return end(ctx, turn, func() { close(begun) })
		}})
		g.newThread()
		ctx, leave := context.WithCancel(t.Context())
		res := g.request(ctx, "ada", "threads.add_user_message", message("x"))
		<-begun
		leave()
		res.Body.Close()
		testenv.Must(t, g.h.Shutdown(t.Context()))
		g.wantStored("thr", want)
	}
}

func TestShutdownFinishesStreams(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	g := newRig(t, script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
		close(begun)
		<-finish
		return turn.Say(ctx, pieces("whole"))
	}})
	g.newThread()
	res := g.request(t.Context(), "ada", "threads.add_user_message", message("x"))
	defer res.Body.Close()
	<-begun
	down := make(chan error)
	go func() { down <- g.h.Shutdown(context.Background()) }()
	for { // new streams are refused once the shutdown has begun
		if status, _ := g.ask("ada", "threads.add_user_message", object{"thread_id": "none", "input": say("x")}); status == 503 {
			break
		}
	}
	close(finish)
	readUntil(t, res.Body, "item.done", 2)
	if err := <-down; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if err := g.h.Shutdown(t.Context()); err == nil {
		t.Error("a second Shutdown returned no error")
	}
}

func TestShutdownKeepsWhatItCutsShort(t *testing.T) {
	ended := make(chan error, 1)
	g := newRig(t, abandoned(ended))
	g.newThread()
	res := g.request(t.Context(), "ada", "threads.add_user_message", message("x"))
	defer res.Body.Close()
	readUntil(t, res.Body, "text_delta", 2)
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if err := g.h.Shutdown(over); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v", err)
	}
	if err := <-ended; err == nil {
		t.Error("the responder's context did not end")
	}
	g.wantKept("thr")
	readUntil(t, res.Body, "error", 1) // the client learns that it may retry
}

func TestATurnEndsAtItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := unserved(t, memstore.New(), abandoned(nil), chatkit.WithTurnLimit(time.Minute))
		g.newThread()
		began := time.Now()
		_, body := g.call(t.Context(), "threads.add_user_message", message("x"))
		all := slices.Collect(events(t, strings.NewReader(body)))
		if last := all[len(all)-1]; last["type"] != "error" || !strings.Contains(last["message"].(string), "too long") {
			t.Errorf("the stream ends in %v", last)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("the stream ends after %v", took)
		}
		g.wantKept("thr")
	})
}

func TestARequestEndsAtItsLimit(t *testing.T) {
	stuck := layer.Intercept("stuck", layer.InterceptorFunc(func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
		if !c.Op.IsWrite() {
			<-ctx.Done()
		}
		return next(ctx)
	}))
	synctest.Test(t, func(t *testing.T) {
		g := unserved(t, store.Wrap(memstore.New(), stuck), script{}, chatkit.WithAnswerLimit(time.Second), chatkit.WithTurnLimit(time.Minute))
		for kind, limit := range map[string]time.Duration{
			"threads.get_by_id": time.Second, "threads.list": time.Second, "threads.add_user_message": time.Minute,
		} {
			began := time.Now()
			status, body := g.call(t.Context(), kind, message("x"))
			if took := time.Since(began); status != 504 || took != limit {
				t.Errorf("%s: %d after %v, %s", kind, status, took, body)
			}
		}
	})
}

func TestFailuresEndTheStreamAndNothingElse(t *testing.T) {
	for name, test := range map[string]struct {
		respond func(context.Context, *chatkit.Turn) error
		want    object
	}{
		"for the user": {
			func(context.Context, *chatkit.Turn) error { return chatkit.Failure{Code: "custom", Message: "no tea"} },
			object{"type": "error", "code": "custom", "message": "no tea", "allow_retry": false},
		},
		"of the server": {
			func(context.Context, *chatkit.Turn) error { return errors.New("password=hunter2") },
			object{"type": "error", "code": "stream.error", "allow_retry": true},
		},
		"panic": {
			func(context.Context, *chatkit.Turn) error { panic("password=hunter2") },
			object{"type": "error", "code": "stream.error", "allow_retry": true},
		},
		"an update of nothing": {
			func(ctx context.Context, turn *chatkit.Turn) error {
				return turn.Emit(ctx, chatkit.ItemUpdated{ItemID: "none", Update: chatkit.TextDelta{Delta: "x"}})
			},
			object{"type": "error", "code": "stream.error", "allow_retry": true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, script{respond: test.respond})
			g.newThread()
			all := g.stream("ada", "threads.add_user_message", message("x"))
			if diff := cmp.Diff(test.want, all[len(all)-1]); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			g.wantStored("thr", "user_message")
		})
	}
}

func TestTooManyTurnsAreRefused(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	g := newRig(t, script{respond: func(context.Context, *chatkit.Turn) error {
		begun <- struct{}{}
		<-finish
		return nil
	}}, chatkit.WithMaxTurns(1))
	g.newThread()
	params := message("x")
	res := g.request(t.Context(), "ada", "threads.add_user_message", params)
	<-begun
	g.want(503, "ada", "threads.add_user_message", params)
	close(finish)
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	go func() { <-begun }()
	g.stream("ada", "threads.add_user_message", params) // there is room again
}

// network is a network in memory. Its deadlines follow the clock of the bubble.
type network chan net.Conn

func (n network) Accept() (net.Conn, error) {
	c, ok := <-n
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (n network) Close() error   { close(n); return nil }
func (n network) Addr() net.Addr { return &net.TCPAddr{} }

func (n network) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	n <- server
	return client, nil
}

// Comments keep a silent stream alive, and it outlives the server's limits for a request.
func TestASilentStreamBeats(t *testing.T) { synctest.Test(t, testBeats) }

func testBeats(t *testing.T) {
	const beats = 5
	heard := make(chan struct{})
	h := chatkit.NewHandler(memstore.New(), script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
		select {
		case <-heard:
			return turn.Say(ctx, pieces("answer"))
		case <-ctx.Done():
			return ctx.Err()
		}
	}})
	listener := make(network)
	srv := &http.Server{Handler: h, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second}
	go func() { _ = srv.Serve(listener) }()
	defer srv.Close()
	client := http.Client{Transport: &http.Transport{DialContext: listener.dial}}
	defer client.CloseIdleConnections()
	req := testenv.Value(chatkittest.NewRequest(t.Context(), "http://server/", "threads.create", object{"input": say("x")}))(t)
	res := testenv.Value(client.Do(req))(t)
	defer res.Body.Close()
	var all strings.Builder
	buf := make([]byte, 1024)
	for told := false; ; {
		n, err := res.Body.Read(buf)
		all.Write(buf[:n])
		if strings.Count(all.String(), ": still there") >= beats && !told {
			told = true
			close(heard)
		}
		if err == io.EOF {
			break
		}
		testenv.Must(t, err)
	}
	if !strings.Contains(all.String(), `"text":"answer"`) {
		t.Errorf("the stream was cut short:\n%s", all.String())
	}
}
