package logging_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/logging"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest"
)

// line is a written line. Its attributes are the JSON values as text.
type line struct {
	level slog.Level
	msg   string
	attrs map[string]string
	text  string
	ctx   context.Context
}

// recorder is a Handler that keeps the lines from a level on.
type recorder struct {
	slog.Handler // a JSONHandler that writes to text
	mu           sync.Mutex
	text         bytes.Buffer
	lines        []line
}

// record returns a logger that keeps the lines from level on, and the recorder.
func record(level slog.Level) (*slog.Logger, *recorder) {
	r := &recorder{}
	r.Handler = slog.NewJSONHandler(&r.text, &slog.HandlerOptions{Level: level})
	return slog.New(r), r
}

func (r *recorder) Handle(ctx context.Context, rec slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text.Reset()
	if err := r.Handler.Handle(ctx, rec); err != nil {
		return err
	}
	l := line{level: rec.Level, msg: rec.Message, attrs: map[string]string{}, text: r.text.String(), ctx: ctx}
	rec.Attrs(func(a slog.Attr) bool {
		if _, twice := l.attrs[a.Key]; twice {
			panic("the attribute " + a.Key + " is there twice")
		}
		l.attrs[a.Key] = a.Value.String()
		return true
	})
	r.lines = append(r.lines, l)
	return nil
}

func (r *recorder) take() []line {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.lines
	r.lines = nil
	return l
}

func one(t *testing.T, r *recorder) line {
	t.Helper()
	l := r.take()
	if len(l) != 1 {
		t.Fatalf("%d lines, want 1: %v", len(l), l)
	}
	return l[0]
}

// failing returns a base that answers every call with err.
func failing(err error) store.Store {
	return &spy.Base{Do: func(context.Context, store.Op) error { return err }}
}

func TestEveryMethodReachesTheBaseOnceWithOneLine(t *testing.T) {
	methods := reflect.TypeFor[store.Store]()
	for m := range methods.Methods() {
		t.Run(m.Name, func(t *testing.T) {
			logger, r := record(slog.LevelDebug)
			ctx := store.WithSaveMode(t.Context(), store.UpdateOnly)
			if inner := spy.Through(ctx, t, logging.New(logger), m); inner != ctx {
				t.Error("the base got another context than the caller's")
			}
			if strings.HasPrefix(m.Name, "Generate") {
				if l := r.take(); len(l) != 0 {
					t.Errorf("lines for a method that generates ids: %v", l)
				}
				return
			}
			l := one(t, r)
			if got := strings.ReplaceAll(l.attrs["operation"], "_", ""); got != strings.ToLower(m.Name) || l.msg != "chatstore call" {
				t.Errorf("got the line %s", l.text)
			}
			if l.ctx != ctx { // from which a handler takes the trace id
				t.Error("the handler got another context than the caller's")
			}
		})
	}
}

func TestTheCodeDecidesTheLevel(t *testing.T) {
	want := map[store.Code]slog.Level{
		store.CodeOK: slog.LevelInfo, store.CodeNotFound: slog.LevelInfo, store.CodeConflict: slog.LevelInfo,
		store.CodeCanceled: slog.LevelInfo,
		store.CodeInvalid:  slog.LevelWarn, store.CodeUnauthenticated: slog.LevelWarn, store.CodeDenied: slog.LevelWarn,
		store.CodeLimited: slog.LevelWarn,
		store.CodeTimeout: slog.LevelError, store.CodeUnavailable: slog.LevelError, store.CodeInternal: slog.LevelError,
		store.CodePanic: slog.LevelError,
	}
	if len(want) != store.NumCodes {
		t.Fatalf("%d codes, want %d", len(want), store.NumCodes)
	}
	for _, op := range store.Ops() {
		for _, o := range spy.Outcomes() {
			t.Run(op.String()+"/"+o.Name, func(t *testing.T) {
				logger, r := record(slog.LevelInfo)
				o.Through(t, logging.New(logger), op) // also checks that a panic goes on
				l := one(t, r)
				if l.attrs["code"] != o.Code.String() || l.level != want[o.Code] {
					t.Errorf("%s: the line is at %v: %s", o.Code, l.level, l.text)
				}
				if o.Code != store.CodeOK && l.attrs["rows"] != "" {
					t.Error("rows is set though no page was returned")
				}
			})
		}
	}
}

func TestAttributesOfEachOp(t *testing.T) {
	thread := map[string]string{"thread_id": "thr_1"}
	item := map[string]string{"thread_id": "thr_1", "item_id": "msg_1"}
	saved := map[string]string{"thread_id": "thr_1", "item_id": "msg_1", "item_type": "user_message"}
	attachment := map[string]string{"attachment_id": "atc_1"}
	want := map[store.Op]map[string]string{
		store.OpLoadThread: thread, store.OpSaveThread: thread, store.OpDeleteThread: thread,
		store.OpLoadThreads:     {"limit": "7", "rows": "2", "has_more": "false"},
		store.OpLoadThreadItems: {"thread_id": "thr_1", "limit": "3", "rows": "3", "has_more": "true"},
		store.OpAddThreadItem:   saved, store.OpSaveItem: saved,
		store.OpLoadItem: item, store.OpDeleteThreadItem: item,
		store.OpSaveAttachment: attachment, store.OpLoadAttachment: attachment, store.OpDeleteAttachment: attachment,
	}
	for _, op := range store.Ops() {
		logger, r := record(slog.LevelInfo)
		s := store.Wrap(&spy.Base{}, logging.New(logger))
		testenv.Must(t, spy.CallOp(store.WithPrincipal(t.Context(), spy.Person), s, op))
		got := one(t, r).attrs
		if d, err := time.ParseDuration(got["duration"]); err != nil || d < 0 {
			t.Errorf("%s: duration %q", op, got["duration"])
		}
		delete(got, "duration")
		expected := maps.Clone(want[op])
		expected["operation"], expected["code"] = op.String(), "ok"
		if diff := cmp.Diff(expected, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", op, diff)
		}
	}
}

func TestAFailedWriteSaysWhetherItMayStillTakeEffect(t *testing.T) {
	for _, tt := range []struct {
		do   func(context.Context, store.Op) error
		want string
	}{
		{func(context.Context, store.Op) error { return nil }, ""},
		{func(context.Context, store.Op) error { return store.ErrConflict }, "not_applied"},
		{func(context.Context, store.Op) error { return errors.Join(context.Canceled, store.ErrNotApplied) }, "not_applied"},
		{func(context.Context, store.Op) error { return context.Canceled }, "unknown"},
		{func(context.Context, store.Op) error { return io.EOF }, "unknown"},
		{func(context.Context, store.Op) error { panic("boom") }, "unknown"},
	} {
		for _, op := range store.Ops() {
			logger, r := record(slog.LevelInfo)
			_, _ = spy.Try(t.Context(), store.Wrap(&spy.Base{Do: tt.do}, logging.New(logger)), op)
			want := tt.want
			if !op.IsWrite() {
				want = ""
			}
			if l := one(t, r); l.attrs["outcome"] != want {
				t.Errorf("%s: outcome %q, want %q: %s", op, l.attrs["outcome"], want, l.text)
			}
		}
	}
}

// slow returns a base whose calls take d. It needs a synctest bubble.
func slow(d time.Duration) store.Store {
	return &spy.Base{Do: func(context.Context, store.Op) error { time.Sleep(d); return nil }}
}

func TestSlowCallsAreWarnings(t *testing.T) {
	for _, tt := range []struct {
		opts []logging.Option
		took time.Duration
		want slog.Level
	}{
		{nil, logging.DefaultSlow - 1, slog.LevelInfo},
		{nil, logging.DefaultSlow, slog.LevelWarn},
		{[]logging.Option{logging.WithSlow(time.Minute)}, time.Minute - 1, slog.LevelInfo},
		{[]logging.Option{logging.WithSlow(time.Minute)}, time.Minute, slog.LevelWarn},
		{[]logging.Option{logging.WithSlow(0)}, 0, slog.LevelWarn},
		{[]logging.Option{logging.WithSlow(math.MaxInt64)}, time.Hour, slog.LevelInfo},
	} {
		synctest.Test(t, func(t *testing.T) {
			logger, r := record(slog.LevelInfo)
			testenv.Must(t, spy.CallOp(t.Context(), store.Wrap(slow(tt.took), logging.New(logger, tt.opts...)), store.OpLoadThread))
			if l := one(t, r); l.level != tt.want || l.attrs["duration"] != tt.took.String() {
				t.Errorf("a call of %v: %v %s", tt.took, l.level, l.text)
			}
		})
	}
}

func TestASlowFailureIsStillAnError(t *testing.T) {
	logger, r := record(slog.LevelInfo)
	_ = spy.CallOp(t.Context(), store.Wrap(failing(store.ErrUnavailable), logging.New(logger, logging.WithSlow(0))), store.OpLoadThread)
	if l := one(t, r); l.level != slog.LevelError {
		t.Error(l.level)
	}
}

func TestSuccessesAreSampled(t *testing.T) {
	const calls = 10_000
	for rate, bounds := range map[float64][2]int{ // of 0.3, the bounds are 21 standard deviations away
		0: {0, 0}, 0.3: {2000, 4000}, 1: {calls, calls},
	} {
		logger, r := record(slog.LevelInfo)
		s := store.Wrap(&spy.Base{Forget: true}, logging.New(logger, logging.WithSample(rate), logging.WithSlow(time.Hour)))
		for range calls {
			testenv.Must(t, spy.CallOp(t.Context(), s, store.OpLoadThread))
		}
		if n := len(r.take()); n < bounds[0] || n > bounds[1] {
			t.Errorf("rate %v: %d lines of %d", rate, n, calls)
		}
	}
}

func TestFailuresAndSlowCallsAreNeverSampledAway(t *testing.T) {
	logger, r := record(slog.LevelInfo)
	n := 0
	for _, o := range spy.Outcomes() {
		if o.Code == store.CodeOK {
			continue
		}
		for _, op := range store.Ops() {
			o.Through(t, logging.New(logger, logging.WithSample(0)), op)
			n++
		}
	}
	synctest.Test(t, func(t *testing.T) {
		for _, op := range store.Ops() {
			testenv.Must(t, spy.CallOp(t.Context(), store.Wrap(slow(time.Second), logging.New(logger, logging.WithSample(0))), op))
			n++
		}
	})
	if l := r.take(); len(l) != n {
		t.Errorf("%d lines, want %d", len(l), n)
	}
}

func TestNoContentAboveDebug(t *testing.T) {
	// The logger is enabled for Debug: another handler may still take only the lines above it.
	logger, r := record(slog.LevelDebug)
	layer := logging.New(logger)
	base := memstore.New()
	spy.Conversation(t.Context(), t, layer(base), base)
	for _, do := range spy.Leaks() {
		for _, op := range store.Ops() {
			_, _ = spy.Try(store.WithPrincipal(t.Context(), spy.Person), store.Wrap(&spy.Base{Do: do}, layer), op)
		}
	}
	seen := map[string]bool{}
	for _, l := range r.take() {
		if l.level <= slog.LevelDebug {
			continue
		}
		seen[l.attrs["operation"]] = true
		if strings.Contains(l.text, spy.Canary) || strings.Contains(fmt.Sprint(l.attrs), spy.Canary) {
			t.Errorf("a line at %v has content: %s", l.level, l.text)
		}
	}
	if len(seen) != len(store.Ops()) {
		t.Errorf("lines of %d ops, want all", len(seen))
	}
}

func TestCausesAreOnlyInALineAtDebug(t *testing.T) {
	cause := fmt.Errorf("reading a row: %w", errors.Join(io.EOF, errors.New("host db.test")))
	err := &store.Error{Op: store.OpSaveItem, Kind: store.RowItem, ID: "msg_1", Code: store.CodeUnavailable, Cause: cause}
	for _, level := range []slog.Level{slog.LevelInfo, slog.LevelDebug} {
		logger, r := record(level)
		if got := spy.CallOp(t.Context(), store.Wrap(failing(err), logging.New(logger)), store.OpSaveItem); got != err {
			t.Fatal(got)
		}
		lines := r.take()
		if lines[0].level != slog.LevelError || lines[0].attrs["causes"] != "" {
			t.Errorf("the first line: %s", lines[0].text)
		}
		if level == slog.LevelInfo {
			if len(lines) != 1 {
				t.Errorf("%d lines without Debug", len(lines))
			}
			continue
		}
		if len(lines) != 2 || lines[1].level != slog.LevelDebug || lines[1].msg != "chatstore error" {
			t.Fatalf("got the lines %v", lines)
		}
		var parsed struct{ Causes []string }
		testenv.Must(t, json.Unmarshal([]byte(lines[1].text), &parsed))
		want := []string{
			`*store.Error: save_item: unavailable: item "msg_1"`,
			"*errors.errorString: unavailable",
			"*fmt.wrapError: reading a row: EOF\nhost db.test",
			"*errors.joinError: EOF\nhost db.test",
			"*errors.errorString: EOF",
			"*errors.errorString: host db.test",
		}
		if diff := cmp.Diff(want, parsed.Causes); diff != "" {
			t.Errorf("causes (-want +got):\n%s", diff)
		}
		delete(lines[1].attrs, "causes")
		if diff := cmp.Diff(lines[0].attrs, lines[1].attrs); diff != "" {
			t.Errorf("the two lines of the call differ:\n%s", diff)
		}
	}
}

func TestHostileIDsAreLeftOut(t *testing.T) {
	for name, id := range map[string]string{
		"huge": strings.Repeat("x", 1<<20), "not UTF-8": "thr_\xff", "newline": "thr_1\nlevel=ERROR msg=forged", "escape": "\x1b[2J",
		"empty": "",
	} {
		logger, r := record(slog.LevelInfo)
		s := store.Wrap(&spy.Base{}, logging.New(logger))
		_, _ = s.LoadItem(t.Context(), id, id)
		_, _ = s.LoadAttachment(t.Context(), id)
		_ = s.SaveItem(t.Context(), id, testenv.OrPanic(chat.NewItem("msg_1", time.Now(), chat.EndOfTurn{})))
		for _, l := range r.take() {
			keys := slices.Sorted(maps.Keys(l.attrs))
			want := []string{"code", "duration", "operation"}
			if l.attrs["operation"] == "save_item" {
				want = []string{"code", "duration", "item_id", "item_type", "operation"}
			}
			if !slices.Equal(keys, want) {
				t.Errorf("%s: attributes %v, want %v", name, keys, want)
			}
		}
	}
}

func TestALineThatIsNotWrittenCostsNoAllocation(t *testing.T) {
	above, _ := record(slog.LevelError + 1)
	warn, _ := record(slog.LevelWarn)
	info, _ := record(slog.LevelInfo)
	for name, layer := range map[string]store.Middleware{
		"disabled":    logging.New(above),
		"Warn":        logging.New(warn, logging.WithSlow(time.Hour)),
		"sampled out": logging.New(info, logging.WithSample(0), logging.WithSlow(time.Hour)),
	} {
		base := &spy.Base{Forget: true}
		s := store.Wrap(base, layer)
		ctx := store.WithPrincipal(t.Context(), spy.Person)
		for _, op := range store.Ops() {
			without := testing.AllocsPerRun(100, func() { _ = spy.CallOp(ctx, base, op) })
			if n := testing.AllocsPerRun(100, func() { _ = spy.CallOp(ctx, s, op) }); n != without {
				t.Errorf("%s, %s: %v allocations, %v without the layer", name, op, n, without)
			}
		}
	}
}

// Without End, layer.Observe does not read the clock.
func TestADisabledLoggerEndsNoCall(t *testing.T) {
	h := &broken{enabled: func(l slog.Level) bool { return false }}
	s := store.Wrap(&spy.Base{}, logging.New(slog.New(h)))
	testenv.Must(t, spy.CallOp(t.Context(), s, store.OpSaveThread))
	if !slices.Equal(h.asked, []slog.Level{slog.LevelError}) {
		t.Errorf("the handler was asked about %v, want only Error, once", h.asked)
	}
}

// broken is a handler that panics, at the latest in Handle.
type broken struct {
	slog.Handler
	enabled func(slog.Level) bool
	asked   []slog.Level
}

func (h *broken) Enabled(_ context.Context, l slog.Level) bool {
	h.asked = append(h.asked, l)
	return h.enabled(l)
}

func (h *broken) Handle(context.Context, slog.Record) error { panic("a bug of the handler") }

func TestAPanickingHandlerFailsNoCall(t *testing.T) {
	for name, enabled := range map[string]func(slog.Level) bool{
		"Handle":  func(slog.Level) bool { return true },
		"Enabled": func(slog.Level) bool { panic("a bug of the handler") },
		"Enabled at the end": func(l slog.Level) bool {
			if l != slog.LevelError {
				panic("a bug of the handler")
			}
			return true
		},
	} {
		for _, o := range spy.Outcomes() {
			if name == "Enabled at the end" && o.Code != store.CodeOK {
				continue
			}
			mw := logging.New(slog.New(&broken{enabled: enabled}))
			do := o.Do
			o.Do = func(ctx context.Context, op store.Op) error {
				if ctx != t.Context() {
					t.Errorf("%s: the base got the context %v", name, ctx)
				}
				return do(ctx, op)
			}
			o.Through(t, mw, store.OpSaveThread) // the call's error, and the base's panic, are as without the layer
			r, ok := store.As[layer.StatsReporter](store.Wrap(&spy.Base{}, mw))
			if !ok {
				t.Fatal("the layer has no statistics")
			}
			stats := r.AppendStats(nil)
			if len(stats) != 1 || stats[0].Name != "chatstore_logging_lost_total" || stats[0].Value != 1 || !stats[0].Counter {
				t.Errorf("%s, %s: %+v, want one lost line", name, o.Name, stats)
			}
		}
	}
}

// panicky is an error that cannot be printed.
type panicky struct{}

func (panicky) Error() string { panic("no text") }

func TestAnErrorWithoutATextIsLogged(t *testing.T) {
	logger, r := record(slog.LevelDebug)
	_ = spy.CallOp(t.Context(), store.Wrap(failing(panicky{}), logging.New(logger)), store.OpSaveThread)
	lines := r.take()
	if len(lines) != 2 || !strings.Contains(lines[1].attrs["causes"], "panicky") {
		t.Errorf("got the lines %v", lines)
	}
}

func TestConcurrentCalls(t *testing.T) {
	logger, r := record(slog.LevelDebug)
	s := store.Wrap(&spy.Base{Forget: true}, logging.New(logger))
	var wg sync.WaitGroup
	const callers = 8
	for range callers {
		wg.Go(func() {
			for _, op := range store.Ops() {
				if err := spy.CallOp(t.Context(), s, op); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(r.take()); n != callers*len(store.Ops()) {
		t.Errorf("%d lines", n)
	}
}

func TestLoggingKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store {
		return store.Wrap(memstore.New(), logging.New(slog.New(slog.NewTextHandler(io.Discard, nil))))
	}, storetest.WithVersionsRequired())
}

func TestMisusePanicsWithASentence(t *testing.T) {
	testenv.Panics(t, "logging.New: the logger is nil: pass slog.Default()", func() { logging.New(nil) })
	testenv.Panics(t, "logging.WithSlow: the duration is negative", func() { logging.WithSlow(-1) })
	for _, rate := range []float64{-0.1, 1.1, math.NaN()} {
		testenv.Panics(t, "logging.WithSample: the rate must be between 0 and 1", func() { logging.WithSample(rate) })
	}
}
