package chatkit_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/internal/chatkittest"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// TestTurnsOfSeveralServers runs random requests for one thread at three servers of one store, in virtual time. Each call of the
// store takes some time before and after it applies. Afterwards the thread must look as if one server had served everything.
func TestTurnsOfSeveralServers(t *testing.T) {
	histories := 60
	switch {
	case testenv.Full && !testenv.Race:
		histories = 2000
	case testenv.Full:
		histories = 100
	}
	for name, kinds := range map[string][]string{
		"messages":      {"message"},
		"retries":       {"message", "retry"},
		"renames":       {"message", "rename", "rename", "rename"},
		"tools":         {"message", "tool", "output", "output", "output"},
		"of everything": {"message", "retry", "rename", "tool", "output", "output", "leave"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(histories) {
				synctest.Test(t, func(t *testing.T) { newHistory(t, seed).run(kinds) })
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		})
	}
}

// history is the requests of one run, and what became of them.
type history struct {
	t       *testing.T
	base    store.Store
	servers []*chatkit.Handler

	mu       sync.Mutex
	rnd      *rand.Rand
	requests []*modelRequest
	turns    []*modelTurn
}

// modelRequest is one request.
type modelRequest struct {
	kind    string
	item    string // the message of a retry, or the message that the request has stored
	title   string // of a rename
	call    string // that got the output
	status  int
	epoch   uint64 // of its turn; 0 if none began
	whole   bool   // the stream ended without an error
	left    bool   // its client went away
	said    string // what the client has read of the answer
	applied bool   // the rename
}

// modelTurn is one call of the responder.
type modelTurn struct {
	request *modelRequest
	name    string // the first word of what it says
	after   string // the message that it answers
}

func newHistory(t *testing.T, seed uint64) *history {
	h := &history{t: t, base: memstore.New(), rnd: rand.New(rand.NewPCG(seed, 19))}
	for range 3 {
		h.servers = append(h.servers, chatkit.NewHandler(slowStore{h.base, h}, script{respond: h.respond},
			chatkit.WithLogger(slog.New(slog.DiscardHandler))))
	}
	return h
}

func (h *history) n(n int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rnd.IntN(n)
}

func (h *history) sleep(most time.Duration) { time.Sleep(time.Duration(h.n(int(most)))) }

type requestKey struct{}

func requestOf(ctx context.Context) *modelRequest {
	r, _ := ctx.Value(requestKey{}).(*modelRequest)
	return r
}

func (h *history) run(kinds []string) {
	testenv.Must(h.t, h.base.SaveThread(h.t.Context(), chat.Thread{ID: "thr", CreatedAt: time.Now()}))
	var wg sync.WaitGroup
	for range 4 + h.n(8) {
		kind := kinds[h.n(len(kinds))]
		wg.Go(func() { h.request(kind) })
		if h.n(3) > 0 { // else: at once
			h.sleep(4 * time.Second)
		}
	}
	wg.Wait()
	h.check()
}

// request makes one request at one of the servers.
func (h *history) request(kind string) {
	r := &modelRequest{kind: kind}
	ctx, leave := context.WithCancel(context.WithValue(h.t.Context(), requestKey{}, r))
	defer leave()
	params := object{"thread_id": "thr"}
	typ := "threads.add_user_message"
	switch kind {
	case "message", "tool":
		params["input"] = say(kind)
	case "leave":
		params["input"] = say("message")
		r.left = true
		after := time.Duration(h.n(int(6 * time.Second)))
		defer time.AfterFunc(after, leave).Stop()
	case "retry":
		typ = "threads.retry_after_item"
		var of []string
		for _, it := range h.stored() {
			if it.Type() == chat.TypeUserMessage {
				of = append(of, it.ID)
			}
		}
		if len(of) == 0 {
			return
		}
		r.item = of[h.n(len(of))]
		params["item_id"] = r.item
	case "rename":
		typ = "threads.update"
		r.title = fmt.Sprint("title ", h.n(1_000_000))
		params["title"] = r.title
	case "output":
		typ = "threads.add_client_tool_output"
		params["result"] = h.n(1_000_000)
	}
	h.mu.Lock()
	h.requests = append(h.requests, r)
	h.mu.Unlock()
	req := testenv.Value(chatkittest.NewRequest(ctx, "/", typ, params))(h.t)
	w := httptest.NewRecorder()
	h.servers[h.n(len(h.servers))].ServeHTTP(w, req)
	r.status = w.Code
	if w.Header().Get("Content-Type") != "text/event-stream" {
		_, _ = io.Copy(io.Discard, w.Body)
		return
	}
	r.whole = true
	for e := range events(h.t, w.Body) {
		u, _ := e["update"].(object)
		it, _ := e["item"].(object)
		switch {
		case e["type"] == "error":
			r.whole = false
		case u["delta"] != nil:
			r.said += u["delta"].(string)
		case it["type"] == "user_message" && e["type"] == "thread.item.done":
			r.item = it["id"].(string)
		case it["type"] == "client_tool_call" && e["type"] == "thread.item.replaced":
			r.call = it["id"].(string)
		}
	}
}

// respond is the responder of all servers. It says its name, some words, and "end".
func (h *history) respond(ctx context.Context, turn *chatkit.Turn) error {
	past, err := turn.History(ctx, 100)
	if err != nil {
		return err
	}
	m := &modelTurn{request: requestOf(ctx)}
	text := ""
	for _, it := range past {
		if body, ok, _ := chat.DecodeItem[chat.UserMessage](it); ok {
			m.after, text = it.ID, body.Content[0].Text
		}
	}
	if id := turn.Message.ID; id != "" && id != m.after {
		h.t.Errorf("the answer to %s is given another's history, up to %s", id, m.after)
	}
	h.mu.Lock()
	m.name = fmt.Sprintf("t%d ", len(h.turns))
	h.turns = append(h.turns, m)
	h.mu.Unlock()
	if h.n(2) == 0 && turn.Thread.Title == "" {
		turn.Thread.Title = "by the turn"
	}
	if text == "tool" && turn.Message.ID != "" {
		call, err := turn.NewItem(ctx, chat.ClientToolCall{CallID: m.name, Name: "n"})
		if err != nil {
			return err
		}
		return turn.Emit(ctx, chatkit.ItemDone{Item: call})
	}
	return turn.Say(ctx, func(yield func(string, error) bool) {
		for i := range 1 + h.n(6) {
			word := fmt.Sprintf("w%d ", i)
			if i == 0 {
				word = m.name
			}
			if !yield(word, nil) {
				return
			}
			select {
			case <-time.After(time.Duration(h.n(int(3 * time.Second)))):
			case <-ctx.Done():
				yield("", ctx.Err())
				return
			}
		}
		yield("end", nil)
	})
}

func (h *history) stored() []chat.Item {
	q := store.PageQuery{Order: store.OldestFirst, Limit: 1000}
	return testenv.Value(h.base.LoadThreadItems(h.t.Context(), "thr", q))(h.t).Data
}

// slowStore is the store of one server. Its calls take time before and after they apply.
type slowStore struct {
	store.Store
	h *history
}

func slowly[T any](s slowStore, f func() (T, error)) (T, error) {
	s.h.sleep(20 * time.Millisecond)
	defer s.h.sleep(20 * time.Millisecond)
	return f()
}

func slowWrite(s slowStore, f func() error) error {
	_, err := slowly(s, func() (struct{}, error) { return struct{}{}, f() })
	return err
}

func (s slowStore) LoadThread(ctx context.Context, id string) (chat.Thread, error) {
	return slowly(s, func() (chat.Thread, error) { return s.Store.LoadThread(ctx, id) })
}

func (s slowStore) LoadItem(ctx context.Context, id, itemID string) (chat.Item, error) {
	return slowly(s, func() (chat.Item, error) { return s.Store.LoadItem(ctx, id, itemID) })
}

func (s slowStore) LoadThreadItems(ctx context.Context, id string, q store.PageQuery) (store.Page[chat.Item], error) {
	return slowly(s, func() (store.Page[chat.Item], error) { return s.Store.LoadThreadItems(ctx, id, q) })
}

func (s slowStore) AddThreadItem(ctx context.Context, id string, it chat.Item) error {
	return slowWrite(s, func() error { return s.Store.AddThreadItem(ctx, id, it) })
}

func (s slowStore) SaveItem(ctx context.Context, id string, it chat.Item) error {
	return slowWrite(s, func() error { return s.Store.SaveItem(ctx, id, it) })
}

func (s slowStore) DeleteThreadItem(ctx context.Context, id, itemID string) error {
	return slowWrite(s, func() error { return s.Store.DeleteThreadItem(ctx, id, itemID) })
}

// SaveThread also notes the epochs of turns, and sees each change of the thread's row.
func (s slowStore) SaveThread(ctx context.Context, now chat.Thread) error {
	return slowWrite(s, func() error {
		s.h.mu.Lock()
		defer s.h.mu.Unlock()
		before, err := s.Store.LoadThread(context.Background(), now.ID)
		if err != nil {
			return err
		}
		if err := s.Store.SaveThread(ctx, now); err != nil {
			return err
		}
		r := requestOf(ctx)
		old, epoch := epochOf(before), epochOf(now)
		if r.kind == "rename" {
			r.applied = true
			if epoch != old {
				s.h.t.Errorf("a rename sets the epoch from %d to %d", old, epoch)
			}
			return nil
		}
		if epoch > old {
			r.epoch = epoch
		}
		if epoch != r.epoch || epoch < old {
			s.h.t.Errorf("the turn of epoch %d saves epoch %d over %d", r.epoch, epoch, old)
		}
		if now.Title != before.Title && before.Title != "" {
			s.h.t.Errorf("the title %q is lost", before.Title)
		}
		return nil
	})
}

func epochOf(t chat.Thread) uint64 {
	var m struct {
		Turn struct {
			Epoch uint64 `json:"epoch"`
		} `json:"chatstore_turn"`
	}
	_ = t.Metadata.Decode(&m) // absent: no turn has begun
	return m.Turn.Epoch
}

// check looks at the thread when all requests have ended.
func (h *history) check() {
	items := h.stored()
	defer func() {
		if h.t.Failed() {
			h.tell(items)
		}
	}()
	at := map[string]int{} // places of messages
	for i, it := range items {
		if it.Type() == chat.TypeUserMessage {
			at[it.ID] = i
		}
	}
	texts := map[string]string{} // of answers, by the turn's name
	complete := map[string]int{} // answers of messages
	latest := ""                 // the message above
	for _, it := range items {
		switch body := testenv.Value(decoded(it))(h.t).(type) {
		case chat.UserMessage:
			latest = it.ID
		case chat.SDKHiddenContext:
			stopped := slices.ContainsFunc(h.requests, func(r *modelRequest) bool { return (r.item == latest || r.kind == "output") && !r.whole }) ||
				slices.ContainsFunc(h.turns, func(m *modelTurn) bool { return m.after == latest && !m.request.whole })
			if !stopped {
				h.t.Errorf("a note behind %s, whose turns all ended whole", latest)
			}
		case chat.AssistantMessage:
			text := body.Content[0].Text
			name, _, _ := strings.Cut(text, " ")
			i := slices.IndexFunc(h.turns, func(m *modelTurn) bool { return m.name == name+" " })
			if i < 0 {
				h.t.Errorf("%q is nobody's", text)
				continue
			}
			m := h.turns[i]
			texts[m.name] = text
			if m.after != latest {
				h.t.Errorf("%q answers %s and lies behind %s", text, m.after, latest)
			}
			if strings.HasSuffix(text, "end") && (m.request.kind == "message" || m.request.kind == "retry") {
				complete[latest]++
			}
		}
	}
	for id, n := range complete {
		if n > 1 {
			h.t.Errorf("%d answers of %s", n, id)
		}
	}
	var newest uint64
	taken := map[string]int{}
	for _, r := range h.requests {
		newest = max(newest, r.epoch)
		if r.call != "" {
			taken[r.call]++
		}
	}
	for id, n := range taken {
		if n > 1 {
			h.t.Errorf("%d outputs of call %s were taken", n, id)
		}
	}
	for _, r := range h.requests {
		if r.epoch == newest && r.epoch > 0 && !r.left && !r.whole {
			h.t.Errorf("the newest turn, of %s, did not end whole: %d", r.kind, r.status)
		}
		if r.kind == "rename" && r.status != 200 {
			h.t.Errorf("a rename: %d", r.status)
		}
	}
	for _, m := range h.turns {
		r := m.request
		if r.epoch == 0 {
			h.t.Errorf("%s answers without a fence", m.name)
			continue
		}
		cut, done := h.cutAway(m, at)
		if texts[m.name] != "" && done {
			h.t.Errorf("%q was cut away by a retry", texts[m.name])
		}
		if r.said == "" || cut {
			continue
		}
		if !strings.HasPrefix(texts[m.name], r.said) {
			h.t.Errorf("the client read %q, stored is %q", r.said, texts[m.name])
		}
		if r.whole && !strings.HasSuffix(texts[m.name], "end") {
			h.t.Errorf("%q ended whole", texts[m.name])
		}
	}
}

// cutAway reports whether a later retry began to remove what the turn has said, and whether it removed all of that. The next
// message may end a retry in between.
func (h *history) cutAway(m *modelTurn, at map[string]int) (began, done bool) {
	place, ok := at[m.after]
	if !ok {
		return true, false
	}
	for _, r := range h.requests {
		from, ok := at[r.item]
		if r.kind == "retry" && r.epoch > m.request.epoch && ok && from <= place {
			began = true
			done = done || slices.ContainsFunc(h.turns, func(m *modelTurn) bool { return m.request == r })
		}
	}
	return began, done
}

func decoded(it chat.Item) (chat.Body, error) {
	body, _, err := chat.DecodeItem[chat.Body](it)
	return body, err
}

// tell logs a failed history.
func (h *history) tell(items []chat.Item) {
	for _, r := range h.requests {
		h.t.Logf("epoch %d: %s of %s, %d, whole %v, left %v, said %q", r.epoch, r.kind, r.item, r.status, r.whole, r.left, r.said)
	}
	for _, it := range items {
		h.t.Logf("%s %v %s", it.CreatedAt.Format("05.000000"), it.Type(), it.JSON())
	}
}
