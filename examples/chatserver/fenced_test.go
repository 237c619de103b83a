package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
)

// gated answers a message in two pieces. Between them it waits for the message's gate, if there is one. It asks the client
// for a tool if the message begins with "call", and answers when it gets the output.
type gated struct{ gates sync.Map } // chan struct{} by the message's text; only the first answer waits

func (g *gated) Respond(ctx context.Context, turn *chatkit.Turn) error {
	text, err := lastMessage(ctx, turn)
	if err != nil {
		return err
	}
	if turn.Message.ID != "" && strings.HasPrefix(text, "call") {
		it, err := turn.NewItem(ctx, chat.ClientToolCall{Status: "pending", CallID: text, Name: "look", Arguments: testenv.OrPanic(chat.ParseJSON("{}"))})
		if err != nil {
			return err
		}
		return errors.Join(turn.Emit(ctx, chatkit.ItemAdded{Item: it}), turn.Emit(ctx, chatkit.ItemDone{Item: it}))
	}
	gate, first := g.gates.LoadAndDelete(text) // before the client sees a word, and retries
	return turn.Say(ctx, func(yield func(string, error) bool) {
		if !yield("answer to "+text, nil) {
			return
		}
		if first {
			select {
			case <-gate.(chan struct{}):
			case <-ctx.Done():
			}
		}
		yield(", in full", nil)
	})
}

func (g *gated) Act(context.Context, *chatkit.Turn, chatkit.Action) error { return nil }

// lastMessage returns the text that a turn answers.
func lastMessage(ctx context.Context, turn *chatkit.Turn) (string, error) {
	past, err := turn.History(ctx, 20)
	if err != nil {
		return "", err
	}
	for i := len(past) - 1; i >= 0; i-- {
		m, ok, err := chat.DecodeItem[chat.UserMessage](past[i])
		if err != nil {
			return "", err
		}
		if ok && (turn.Message.ID == "" || past[i].ID == turn.Message.ID) {
			return m.Content[0].Text, nil
		}
	}
	return "", errors.New("the history has no message")
}

// said is a message of the test's user.
type said struct {
	text  string
	id    string // "" until the server has stored it
	whole bool   // the answer's stream ended without an error
}

// talk is a conversation with servers that take turns, whatever the request.
type talk struct {
	t       *testing.T
	user    string
	servers []*client
	gates   *sync.Map
	thread  string

	mu   sync.Mutex
	n    int
	said []*said
}

func (k *talk) next() *client {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.n++
	return k.servers[k.n%len(k.servers)]
}

// new returns the next message. A gate holds its first answer until the gate is closed.
func (k *talk) new(kind string, gate chan struct{}) *said {
	k.mu.Lock()
	defer k.mu.Unlock()
	m := &said{text: fmt.Sprintf("%s %d of %s;", kind, len(k.said), k.user)}
	k.said = append(k.said, m)
	if gate != nil {
		k.gates.Store(m.text, gate)
	}
	return m
}

// stream sends a request whose answer belongs to a message. It calls during after the first piece.
func (k *talk) stream(ctx context.Context, kind string, params object, m *said, during func()) {
	k.t.Helper()
	params["thread_id"] = k.thread
	err := k.next().stream(ctx, kind, params, func(e object) {
		it, _ := e["item"].(object)
		update, _ := e["update"].(object)
		switch {
		case e["type"] == "thread.item.done" && it["type"] == "user_message":
			m.id = it["id"].(string)
		case update["type"] == "assistant_message.content_part.text_delta" && during != nil:
			during()
			during = nil
		}
	})
	m.whole = err == nil
	if err != nil && ctx.Err() == nil && !strings.Contains(err.Error(), "taken over") {
		k.t.Errorf("%s for %q: %v", kind, m.text, err)
	}
}

func (k *talk) say(ctx context.Context, m *said, during func()) {
	k.t.Helper()
	k.stream(ctx, "threads.add_user_message", object{"input": input(m.text)}, m, during)
}

func (k *talk) retry(ctx context.Context, m *said) {
	k.t.Helper()
	k.stream(ctx, "threads.retry_after_item", object{"item_id": m.id}, m, nil)
}

// steps are what a user can do, also in the middle of an answer. Each sends one or two messages.
var steps = []func(context.Context, *talk){
	func(ctx context.Context, k *talk) { k.say(ctx, k.new("plain", nil), nil) },
	func(ctx context.Context, k *talk) { // the next message comes during an answer
		gate := make(chan struct{})
		k.say(ctx, k.new("slow", gate), func() {
			k.say(ctx, k.new("plain", nil), func() { close(gate) })
		})
	},
	func(ctx context.Context, k *talk) { // two messages at once
		var wg sync.WaitGroup
		for range 2 {
			m := k.new("at once", nil)
			wg.Go(func() { k.say(ctx, m, nil) })
		}
		wg.Wait()
	},
	func(ctx context.Context, k *talk) { // a retry when the answer has ended
		m := k.new("plain", nil)
		k.say(ctx, m, nil)
		k.retry(ctx, m)
	},
	func(ctx context.Context, k *talk) { // a retry during the answer
		gate, m := make(chan struct{}), k.new("slow", nil)
		k.gates.Store(m.text, gate)
		again := *m
		k.say(ctx, m, func() {
			again.id = m.id
			k.retry(ctx, &again)
			close(gate)
		})
		m.whole = again.whole
	},
	func(ctx context.Context, k *talk) { // the user stops an answer
		stopped, stop := context.WithCancel(ctx)
		k.say(stopped, k.new("slow", make(chan struct{})), stop)
	},
	func(ctx context.Context, k *talk) { // a rename during an answer does not end it
		gate := make(chan struct{})
		m := k.new("slow", gate)
		k.say(ctx, m, func() {
			if _, err := k.next().ask(ctx, "threads.update", object{"thread_id": k.thread, "title": m.text}); err != nil {
				k.t.Error(err)
			}
			close(gate)
		})
		if !m.whole {
			k.t.Errorf("a rename ended the answer to %q", m.text)
		}
	},
	func(ctx context.Context, k *talk) { // both servers get an output of one tool call
		m := k.new("call", nil)
		k.say(ctx, m, nil)
		refused := make(chan bool, 2)
		for range cap(refused) {
			c := k.next()
			go func() {
				err := c.stream(ctx, "threads.add_client_tool_output", object{"thread_id": k.thread, "result": object{}}, func(object) {})
				if err != nil && !strings.Contains(err.Error(), "no tool call waits") {
					k.t.Error(err)
				}
				refused <- err != nil
			}()
		}
		if a, b := <-refused, <-refused; a == b {
			k.t.Errorf("two outputs of %q: refused %v and %v", m.text, a, b)
		}
	},
}

// wrong returns what is wrong with the stored conversation: each message that was stored is there once. Behind it is its
// answer, one and whole, unless another request has ended that.
func (k *talk) wrong(items []object) string {
	answers := map[string][]string{} // by the message's id
	texts := map[string]string{}
	message := ""
	for _, it := range items {
		content, _ := it["content"].([]any)
		switch it["type"] {
		case "user_message":
			message = it["id"].(string)
			if _, again := texts[message]; again {
				return "stored twice: " + message
			}
			texts[message] = content[0].(object)["text"].(string)
		case "assistant_message":
			answers[message] = append(answers[message], content[0].(object)["text"].(string))
		}
	}
	for _, m := range k.said {
		if m.id == "" {
			continue // refused
		}
		got, whole := answers[m.id], "answer to "+m.text+", in full"
		switch {
		case texts[m.id] != m.text:
			return "lost: " + m.text
		case len(got) > 1, m.whole && len(got) == 0, m.whole && got[0] != whole, len(got) == 1 && !strings.HasPrefix(whole, got[0]):
			return fmt.Sprintf("%q (answered: %v) has the answers %q", m.text, m.whole, got)
		}
		delete(texts, m.id)
	}
	if len(texts) > 0 {
		return fmt.Sprintf("stored, but not acknowledged: %v", texts)
	}
	return ""
}

// Two servers share one database behind a client that sends each request to the next server.
func TestTwoServersAnswerOncePerMessage(t *testing.T) {
	t.Run("postgres", func(t *testing.T) { testAnswersOnce(t, pgtest.Shared(t).DSN(t), 200) })
	t.Run("mariadb", func(t *testing.T) { testAnswersOnce(t, mysqltest.URL(mysqltest.Shared(t).DSN(t)), 80) })
}

func testAnswersOnce(t *testing.T, dsn string, messages int) {
	users := 4
	if testenv.Full {
		messages = 1000
	}
	files, responder := t.TempDir(), &gated{}
	both := func(c *config) { c.store, c.files, c.responder = dsn, files, responder }
	servers := []*running{startServer(t, both), startServer(t, both)}
	var wg sync.WaitGroup
	for n := range users {
		k := &talk{t: t, user: fmt.Sprint("user ", n), gates: &responder.gates}
		for _, srv := range servers {
			k.servers = append(k.servers, newClient(t, srv.url, k.user, testKey))
		}
		wg.Go(func() {
			ctx := t.Context()
			id, err := k.servers[0].newThread(ctx, "hello", func(object) {})
			if err != nil {
				t.Error(err)
				return
			}
			k.thread = id
			for i := n; len(k.said) < messages/users && !t.Failed(); i++ {
				steps[i%len(steps)](ctx, k)
			}
			for _, c := range k.servers {
				// A server keeps what a stopped answer said after its client has left, and shows other servers' writes a moment later.
				eventually(t, func() string {
					items, err := c.items(ctx, id)
					if err != nil {
						return err.Error()
					}
					return k.wrong(items[2:])
				})
			}
		})
	}
	wg.Wait()
}
