package chatkit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/internal/chatkittest"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// waiting is a responder that says when it begins. It answers when it is let go.
func waiting() (r script, begun, letGo chan struct{}) {
	begun, letGo = make(chan struct{}, 100), make(chan struct{})
	return script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
		begun <- struct{}{}
		select {
		case <-letGo:
			return turn.Say(ctx, pieces("answer"))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}}, begun, letGo
}

func TestAUserCannotHoldEveryStreamSlot(t *testing.T) {
	r, begun, letGo := waiting()
	g := newRig(t, r, chatkit.WithMaxTurnsPerUser(2), chatkit.WithMaxTurns(3))
	start := func(user string) io.ReadCloser {
		t.Helper()
		res := g.request(t.Context(), user, "threads.create", object{"input": say("x")})
		if res.StatusCode != 200 {
			t.Fatalf("%s: %d %v", user, res.StatusCode, chatkittest.Answer(t, res))
		}
		<-begun
		return res.Body
	}
	running := []io.ReadCloser{start("ada"), start("ada")}
	res := g.request(t.Context(), "ada", "threads.create", object{"input": say("x")})
	if res.StatusCode == 200 {
		close(letGo)
		t.Fatal("the third runs")
	}
	if v := chatkittest.Answer(t, res); res.StatusCode != 429 || res.Header.Get("Retry-After") != "5" || v["error"].(object)["code"] != "limited" {
		t.Errorf("the third: %d, Retry-After %q, %v", res.StatusCode, res.Header.Get("Retry-After"), v)
	}
	running = append(running, start("grace"))
	close(letGo)
	for _, body := range running {
		_, err := io.Copy(io.Discard, body)
		testenv.Must(t, errors.Join(err, body.Close()))
	}
	for range 3 {
		g.stream("ada", "threads.create", object{"input": say("x")}) // there is room again
	}
}

func TestRequestsWithoutAPrincipalAreOfNoUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, begun, letGo := waiting()
		h := chatkit.NewHandler(memstore.New(), r, chatkit.WithMaxTurnsPerUser(1))
		for range 2 {
			req := testenv.Value(chatkittest.NewRequest(t.Context(), "/", "threads.create", object{"input": say("x")}))(t)
			go h.ServeHTTP(httptest.NewRecorder(), req)
		}
		synctest.Wait()
		if n := len(begun); n != 2 {
			t.Errorf("%d of 2 run", n)
		}
		close(letGo)
	})
}

// Who may not see a thread must not end its answer, with any request.
func TestAStrangerDoesNotEndTheOwnersAnswer(t *testing.T) {
	r, begun, letGo := waiting()
	r.act = func(context.Context, *chatkit.Turn, chatkit.Action) error { return nil }
	g := newRig(t, r)
	g.newThread(text("i1"), chat.StructuredInput{Status: "pending"}, chat.Widget{Widget: parse(t, `{"type":"Card"}`)})
	res := g.request(t.Context(), "ada", "threads.add_user_message", message("x"))
	defer res.Body.Close()
	<-begun
	testenv.Must(t, g.s.AddThreadItem(ada, "thr", newItem(t, "i9", 9, chat.ClientToolCall{Status: "pending", CallID: "c", Name: "n"})))
	for kind, more := range map[string]object{
		"threads.add_user_message":       {"input": say("x")},
		"threads.add_client_tool_output": {"result": object{}},
		"threads.add_structured_input":   {"item_id": "i2", "input": object{"status": "skipped"}},
		"threads.retry_after_item":       {"item_id": "i1"},
		"threads.custom_action":          {"item_id": "i3", "action": object{"type": "a"}},
		"threads.sync_custom_action":     {"action": object{"type": "a"}},
		"threads.update":                 {"title": "mine"},
	} {
		more["thread_id"] = "thr"
		want := 404
		if kind == "threads.sync_custom_action" {
			want = 501
		}
		g.want(want, "grace", kind, more)
	}
	// An action without a widget has only the thread to be refused for.
	g.want(404, "grace", "threads.custom_action", object{"thread_id": "thr", "action": object{"type": "a"}})
	close(letGo)
	for e := range events(t, res.Body) {
		if e["type"] == "error" {
			t.Errorf("the owner's answer ended: %v", e)
		}
	}
	g.wantStored("thr", "user_message structured_input widget client_tool_call user_message assistant_message")
}

// Proxies must pass each event on at once. So they may neither buffer nor compress.
func TestAStreamIsNotHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := chatkit.NewHandler(memstore.New(), script{respond: func(context.Context, *chatkit.Turn) error {
			time.Sleep(59 * time.Second)
			return nil
		}})
		req := testenv.Value(chatkittest.NewRequest(t.Context(), "/", "threads.create", object{"input": say("x")}))(t)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		header := w.Header()
		if header.Get("Cache-Control") != "no-store, no-transform" || header.Get("X-Accel-Buffering") != "no" {
			t.Errorf("headers: %v", header)
		}
		if n := strings.Count(w.Body.String(), ": still there\n\n"); n != 3 {
			t.Errorf("%d comments in 59 s of silence, want one every 15 s", n)
		}
	})
}

// logged has the lines of a log.
type logged struct{ bytes.Buffer }

func (l *logged) option() chatkit.Option {
	return chatkit.WithLogger(slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})))
}

// lines returns the level, the type, the code and the error of each line.
func (l *logged) lines(t *testing.T) (all [][4]string) {
	t.Helper()
	for d := json.NewDecoder(&l.Buffer); ; {
		var line struct{ Level, Type, Code, Error string }
		switch err := d.Decode(&line); err {
		case nil:
			all = append(all, [4]string{line.Level, line.Type, line.Code, line.Error})
		case io.EOF:
			return all
		default:
			t.Fatal(err)
		}
	}
}

func TestEachFailureIsLoggedOnceWithItsCause(t *testing.T) {
	cause := errors.New("dial tcp: refused")
	lost := &store.Error{Op: store.OpLoadThreads, Code: store.CodeUnavailable, Cause: cause}
	turn := func(err error) func(context.Context, *chatkit.Turn) error {
		return func(context.Context, *chatkit.Turn) error { return err }
	}
	for name, test := range map[string]struct {
		kind    string
		params  object
		respond func(context.Context, *chatkit.Turn) error
		want    [4]string
	}{
		"a turn": {"threads.create", object{"input": say("x")}, turn(cause), [4]string{"ERROR", "", "internal", "dial tcp: refused"}},
		"a turn by the store": {
			"threads.create", object{"input": say("x")}, turn(fmt.Errorf("reading: %w", lost)),
			[4]string{"WARN", "", "unavailable", "reading: load_threads: unavailable: dial tcp: refused"},
		},
		"a turn that says why": {
			"threads.create", object{"input": say("x")}, turn(fmt.Errorf("%w: %w", chatkit.Failure{Code: "custom", Message: "no model"}, cause)),
			[4]string{"WARN", "", "failed", "no model: dial tcp: refused"},
		},
		"a turn by an invalid value": {
			"threads.create", object{"input": say("x")}, turn(&chat.Error{Kind: "item", ID: "i1", Field: "content: missing"}),
			[4]string{"WARN", "", "invalid", `invalid: item "i1": content: missing`},
		},
		"a turn with a status": {
			"threads.create", object{"input": say("x")}, turn(chatkit.StatusError{Status: 400, Code: "invalid", Message: "no"}),
			[4]string{"WARN", "", "invalid", "no"},
		},
		"a panic": {
			"threads.create", object{"input": say("x")}, func(context.Context, *chatkit.Turn) error { panic("boom") },
			[4]string{"ERROR", "", "panic", "panic: panic: boom\ngoroutine"},
		},
		"an answer by the store": {"threads.list", nil, nil, [4]string{"WARN", "", "unavailable", "load_threads: unavailable: thread: dial tcp: refused"}},
		"a refusal: not found":   {"threads.add_user_message", message("x"), nil, [4]string{"DEBUG", "", "not_found", `load_thread: not found: thread "thr"`}},
		"a refusal: invalid":     {"threads.update", object{"thread_id": "thr"}, nil, [4]string{"DEBUG", "", "invalid", "title: missing"}},
		"a refusal: unsupported": {"input.transcribe", nil, nil, [4]string{"DEBUG", "", "not_supported", "input.transcribe: not supported"}},
		"a refusal: unknown":     {"secret", nil, nil, [4]string{"DEBUG", "unknown", "invalid", "type: not known"}},
	} {
		var log logged
		failing := layer.Intercept("failing", layer.InterceptorFunc(func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			if c.Op == store.OpLoadThreads {
				return lost
			}
			return next(ctx)
		}))
		g := unserved(t, store.Wrap(memstore.New(), failing), script{})
		g.h = chatkit.NewHandler(g.s, script{respond: test.respond}, log.option())
		g.call(t.Context(), test.kind, test.params)
		if test.want[1] == "" {
			test.want[1] = test.kind
		}
		lines := log.lines(t)
		if len(lines) == 1 && len(lines[0][3]) > len(test.want[3]) {
			lines[0][3] = lines[0][3][:len(test.want[3])] // the stack of a panic differs
		}
		if diff := cmp.Diff([][4]string{test.want}, lines); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Nobody must look after an answer that was stopped, or whose client left.
func TestAnAnswerThatSomebodyEndedIsNoFailure(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(g *rig, leave context.CancelFunc)
		want [][4]string
	}{
		"the client": {func(_ *rig, leave context.CancelFunc) { leave() }, nil},
		"the next message": {
			func(g *rig, _ context.CancelFunc) {
				g.call(g.t.Context(), "threads.add_user_message", message("second"))
			},
			[][4]string{{"DEBUG", "threads.add_user_message", "conflict", "another request has taken over the conversation"}},
		},
		"a stop": {
			func(g *rig, _ context.CancelFunc) {
				ctx, cancel := context.WithCancel(g.t.Context())
				cancel()
				_ = g.h.Shutdown(ctx)
			},
			[][4]string{{"DEBUG", "threads.add_user_message", "unavailable", "the server is stopping: try again"}},
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			var log logged
			g := unserved(t, memstore.New(), nil)
			g.newThread()
			g.h = chatkit.NewHandler(g.s, script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
				if m, _, _ := chat.DecodeItem[chat.UserMessage](turn.Message); m.Content[0].Text == "second" {
					return nil
				}
				<-ctx.Done()
				return ctx.Err()
			}}, log.option())
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			go g.call(ctx, "threads.add_user_message", message("first"))
			synctest.Wait()
			test.end(g, leave)
			synctest.Wait()
			if diff := cmp.Diff(test.want, log.lines(t)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		})
	}
}
