package stacktest_test

// These tests check the resources of a stack. Its memory is at most a stated factor of the cache's bound. Its other resources do not
// grow with the number of calls.

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
)

// counted returns the sum of the statistics with the name that the layers of s report. If label is not empty, it adds only those
// with this value of a label.
func counted(s store.Store, name, label string) (sum int) {
	for r := range store.All[layer.StatsReporter](s) {
		for _, stat := range r.AppendStats(nil) {
			if stat.Name == name && (label == "" || slices.ContainsFunc(stat.Labels[:], func(l layer.Label) bool { return l.Value == label })) {
				sum += int(stat.Value)
			}
		}
	}
	return sum
}

// maker is a base that makes every row that is loaded and keeps nothing. So only the cache holds memory. Its writes succeed and do
// nothing.
type maker struct {
	store.Store                     // nil; the tests call no method of it
	size        func(id string) int // returns the size of the text in the row with the id
	rows        int                 // items of a thread
}

var filler = strings.Repeat("x", 1_000_000)

func (m *maker) LoadThread(_ context.Context, id string) (chat.Thread, error) {
	return chat.ParseThread(`{"id":"` + id + `","title":"` + filler[:m.size(id)] + `","created_at":"2026-01-02T12:00:00Z"}`)
}

func (m *maker) LoadItem(_ context.Context, threadID, id string) (chat.Item, error) {
	return chat.ParseItem(`{"id":"` + id + `","thread_id":"` + threadID + `","created_at":"2026-01-02T12:00:00Z",` +
		`"type":"sdk_hidden_context","content":"` + filler[:m.size(id)] + `"}`)
}

func (m *maker) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (p store.Page[chat.Item], err error) {
	for n := range min(m.rows, q.Limit) {
		it, err := m.LoadItem(ctx, threadID, fmt.Sprintf("msg_%s_%d", threadID, n))
		if err != nil {
			return p, err
		}
		p.Data = append(p.Data, it)
	}
	return p, nil
}

func (m *maker) LoadAttachment(_ context.Context, id string) (chat.Attachment, error) {
	return chat.ParseAttachment(`{"id":"` + id + `","type":"file","name":"` + filler[:m.size(id)] + `","mime_type":"text/plain"}`)
}

func (m *maker) SaveThread(context.Context, chat.Thread) error          { return nil }
func (m *maker) SaveItem(context.Context, string, chat.Item) error      { return nil }
func (m *maker) DeleteThreadItem(context.Context, string, string) error { return nil }
func (m *maker) SaveAttachment(context.Context, chat.Attachment) error  { return nil }

// between returns a function that maps ids to sizes from lo to hi. All orders of magnitude are equally likely, and an id always has
// the same size.
func between(lo, hi int) func(string) int {
	return func(id string) int {
		h := fnv.New64a()
		_, _ = h.Write([]byte(id))
		u := float64(h.Sum64()>>11) / (1 << 53)
		return int(float64(lo) * math.Pow(float64(hi)/float64(lo), u))
	}
}

// cutFrom returns s as a substring of a text that has n more bytes.
func cutFrom(n int, s string) string { return (strings.Repeat("x", n) + s)[n:] }

// TestTheHeapStaysWithinAFactorOfTheCachesBound checks that the cache counts all of its memory, for values of every size and source.
// The heap may exceed the count only because the allocator rounds up.
func TestTheHeapStaysWithinAFactorOfTheCachesBound(t *testing.T) {
	if testenv.Race {
		t.Skip("the race detector changes the heap")
	}
	const (
		bound   = 16 << 20
		small   = 2 << 20 // a bound that a few thousand small entries exceed
		mostly  = 1.1     // the usual factor, see cache.WithMaxBytes
		worst   = 1.3     // the factor for sizes that the allocator rounds up most
		quarter = 1 << 18
	)
	// thread loads the n-th thread, as the principal if there is one.
	thread := func(c session, n int, who ...store.Principal) error {
		for _, p := range who {
			c.ctx = store.WithPrincipal(c.ctx, p)
		}
		return errOf(c.LoadThread(c.ctx, fmt.Sprint("thr_", n)))
	}
	cut := func(prefix string, n int) string { return cutFrom(quarter, fmt.Sprint(prefix, n)) }
	for name, c := range map[string]struct {
		bound  int
		factor float64
		base   maker
		n      int
		call   func(c session, n int) error
	}{
		"from 10 bytes to 1 MB": {bound, mostly, maker{size: between(10, 1_000_000), rows: 5}, 1000, anything()},
		"a size that the allocator rounds up most": {bound, worst, maker{size: func(string) int { return 32<<10 - 50 }}, 600,
			func(c session, n int) error { return thread(c, n) }},
		"tiny threads": {small, mostly, maker{size: between(10, 11)}, 6000,
			func(c session, n int) error { return thread(c, n) }},
		"tiny items of pages larger than a window": {small, mostly, maker{size: between(10, 11), rows: 300}, 300,
			func(c session, n int) error {
				return errOf(c.LoadThreadItems(c.ctx, fmt.Sprint("thr_", n), store.PageQuery{Limit: 300}))
			}},
		"items loaded one by one": {small, mostly, maker{size: between(10, 300)}, 8000,
			func(c session, n int) error {
				return errOf(c.LoadItem(c.ctx, fmt.Sprint("thr_", n/10), fmt.Sprint("msg_", n)))
			}},
		"1 MB each": {bound, mostly, maker{size: between(900_000, 1_000_000)}, 40,
			func(c session, n int) error { return thread(c, n) }},
		"many principals": {small, mostly, maker{size: between(10, 11)}, 3000,
			func(c session, n int) error {
				return thread(c, n, store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: fmt.Sprint("user_", n)}, Roles: []string{
					strings.Repeat("a role as long as they come ", 8), strings.Repeat("and another of that kind ", 8)}})
			}},
		"many principals without roles": {small, mostly, maker{size: between(10, 11)}, 3000,
			func(c session, n int) error {
				return thread(c, n, store.Principal{Owner: chat.Owner{Subject: fmt.Sprint("user_", n)}})
			}},
		"ids cut from long texts": {small, mostly, maker{size: between(10, 100), rows: 1}, 100,
			func(c session, n int) error {
				return errors.Join(errOf(c.LoadThread(c.ctx, cut("thr_1_", n))),
					errOf(c.LoadThreadItems(c.ctx, cut("thr_2_", n), store.PageQuery{})),
					errOf(c.LoadItem(c.ctx, cut("thr_3_", n), cut("msg_", n))),
					errOf(c.LoadAttachment(c.ctx, cut("atc_", n))))
			}},
		"saved values cut from long texts": {small, mostly, maker{size: between(10, 100), rows: 1}, 50,
			func(c session, n int) error {
				id, it := fmt.Sprint("thr_", n), endOfTurn(fmt.Sprint("msg_", n))
				it.ThreadID = cutFrom(quarter, id)
				return errors.Join(errOf(c.LoadThreadItems(c.ctx, id, store.PageQuery{})),
					c.SaveThread(c.ctx, chat.Thread{ID: id, Title: cutFrom(quarter, "title"), CreatedAt: noon,
						Owner: chat.Owner{Tenant: cutFrom(quarter, "acme"), Subject: cutFrom(quarter, "ada")}}),
					c.SaveItem(c.ctx, id, it))
			}},
		"attachments cut from long messages": {small, mostly, maker{size: between(10, 100)}, 100,
			func(c session, n int) error {
				a := testenv.OrPanic(c.LoadAttachment(c.ctx, fmt.Sprint("atc_", n)))
				body := chat.UserMessage{QuotedText: filler[:quarter], Attachments: []chat.Attachment{a}}
				it := testenv.OrPanic(chat.NewItem("msg_1", noon, body))
				message, _, err := chat.DecodeItem[chat.UserMessage](it)
				return errors.Join(err, c.SaveAttachment(c.ctx, message.Attachments[0]))
			}},
	} {
		t.Run(name, func(t *testing.T) {
			s := store.Wrap(&c.base, cache.New(cache.WithMaxBytes(int64(c.bound)), cache.WithMaxEntries(1<<15), cache.WithSoleWriter()))
			defer store.Close(s)
			before := testenv.Heap()
			for n := range c.n {
				must(t, c.call(session{s, t.Context()}, n))
				if account := counted(s, "chatstore_cache_bytes", ""); n%100 == 0 && account > c.bound {
					t.Fatalf("after %d calls the cache counts %d bytes, the bound is %d", n, account, c.bound)
				}
			}
			account, held := counted(s, "chatstore_cache_bytes", ""), testenv.Heap()-before
			t.Logf("the cache counts %d KiB and the heap has %d KiB: factor %.3f", account>>10, held>>10, float64(held)/float64(account))
			if held > int(c.factor*float64(account))+64<<10 {
				t.Errorf("the cache counts %d KiB and the heap has %d KiB: more than %v times", account>>10, held>>10, c.factor)
			}
			if held < account-512<<10 { // the cache must not count too much, either
				t.Errorf("the cache counts %d KiB but the heap has only %d KiB", account>>10, held>>10)
			}
		})
	}
}

// anything returns a function that makes random calls of all kinds of which a cache keeps answers.
func anything() func(session, int) error {
	r := rand.New(rand.NewPCG(5, 5))
	return func(c session, n int) error {
		id := fmt.Sprint("thr_", r.IntN(300))
		switch text := filler[:between(10, 100_000)(fmt.Sprint(n))]; r.IntN(8) {
		case 2:
			return errOf(c.LoadThreadItems(c.ctx, id, store.PageQuery{}))
		case 3:
			return errOf(c.LoadItem(c.ctx, id, fmt.Sprint("msg_", r.IntN(50))))
		case 4:
			return errOf(c.LoadAttachment(c.ctx, "atc_"+id))
		case 5:
			return c.SaveThread(c.ctx, titled(id, text))
		case 6:
			at := noon.Add(time.Duration(n) * time.Second)
			it := testenv.OrPanic(chat.NewItem(fmt.Sprint("msg_", r.IntN(50)), at, chat.SDKHiddenContext{Content: text}))
			return c.SaveItem(c.ctx, id, it)
		case 7:
			return c.DeleteThreadItem(c.ctx, id, fmt.Sprintf("msg_%s_%d", id, r.IntN(5)))
		}
		return errOf(c.LoadThread(c.ctx, id))
	}
}

// TestAMillionCallsLeaveNothingBehind makes a million calls through the recommended stack, about few rows. Every hundred calls have
// a new stranger and a new id, and every thousand a fault. At the end there must be no more series, goroutines, files and memory
// than after a tenth of the calls. If the tests do not try all, there are 30,000 calls, compared with the first 20,000.
func TestAMillionCallsLeaveNothingBehind(t *testing.T) {
	few := tries(100_000, 20_000)
	calls := tries(10*few, few+few/2)
	const threads, items = 200, 10
	reg := prometheus.NewRegistry()
	spans := &spanCount{}
	// With a longer bound, most threads would always be in quarantine and never be cached.
	base := faulty.New(memstore.New(), faulty.WithLongestWrite(time.Millisecond))
	s := fullStack(base, reg, cache.New(cache.WithMaxBytes(1<<20), cache.WithMaxEntries(190)), tracing.WithTracerProvider(
		sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans), sdktrace.WithSampler(sdktrace.TraceIDRatioBased(0.1)))))
	t.Cleanup(func() { must(t, store.Close(s)) })
	base.Inject(faulty.Fault{When: everyThousandth(0), Do: faulty.FailAfter(nil)})
	base.Inject(faulty.Fault{When: everyThousandth(250), Do: faulty.Fail(io.EOF)})
	base.Inject(faulty.Fault{When: everyThousandth(500), Do: faulty.PanicAfter("boom")})

	ctx := store.WithPrincipal(t.Context(), ada)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	ids := make([]string, threads)
	for i := range ids {
		ids[i] = fmt.Sprint("thr_", i)
	}
	r := rand.New(rand.NewPCG(6, 6))
	failed := 0
	call := func(n int) {
		defer func() {
			if recover() != nil {
				failed++
			}
		}()
		c := ctx
		if n%1000 == 999 {
			c = gone
		}
		id, row := ids[r.IntN(threads)], r.IntN(items)
		switch n % 100 { // a new stranger, and a new id
		case 7:
			c = store.WithPrincipal(t.Context(), store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "stranger " + strconv.Itoa(n)}})
		case 57:
			id = "thr_none_" + strconv.Itoa(n)
		}
		var err error
		switch k := r.IntN(100); {
		case k < 65:
			_, err = s.LoadThread(c, id)
		case k < 80:
			_, err = s.LoadThreadItems(c, id, store.PageQuery{Limit: 6})
		case k < 87:
			_, err = s.LoadItem(c, id, "msg_"+strconv.Itoa(row))
		case k < 89:
			_, err = s.LoadAttachment(c, "atc_"+strconv.Itoa(row))
		case k < 90:
			_, err = s.LoadThreads(c, store.ThreadQuery{PageQuery: store.PageQuery{Limit: 3}})
		case n%50 == 7: // do not write with a new id: a store never forgets one
		case k < 93:
			err = s.SaveThread(c, titled(id, filler[:r.IntN(1000)]))
		case k < 96:
			err = s.SaveItem(c, id, hidden("msg_"+strconv.Itoa(row), r.IntN(1000)))
		case k < 97:
			err = s.DeleteThreadItem(c, id, "msg_"+strconv.Itoa(row))
		case k < 98:
			err = s.AddThreadItem(c, id, hidden("msg_"+strconv.Itoa(row), r.IntN(1000)))
		case k < 99:
			err = s.SaveAttachment(c, file("atc_"+strconv.Itoa(row)))
		case n%8 == 0: // rarely, because a deleted thread cannot be cached
			err = s.DeleteThread(c, id)
		}
		if store.CodeOf(err) > store.CodeConflict {
			failed++
		}
	}
	var first resources
	for n := range calls {
		call(n)
		if n == few {
			first = measured(t, reg)
		}
	}
	last := measured(t, reg)
	hits, evictions := counted(s, "chatstore_cache_requests_total", "hit"), counted(s, "chatstore_cache_evictions_total", "")
	if failed < calls/1000 || hits < calls/2 || evictions < calls/1000 {
		t.Errorf("%d calls had %d failures, %d hits and %d evictions: too few for this test", calls, failed, hits, evictions)
	}
	if last.series != first.series || last.goroutines > first.goroutines || last.files > first.files || spans.open.Load() != 0 {
		t.Errorf("after %d calls: %+v; after all: %+v, with %d open spans", few, first, last, spans.open.Load())
	}
	// Histograms still add buckets, up to a limit. A full run would notice one byte for each call.
	if last.heap-first.heap > 800<<10 {
		t.Errorf("the heap grew by %d KiB, from %d KiB", (last.heap-first.heap)>>10, first.heap>>10)
	}
}

// everyThousandth returns a function that is true for every thousandth base call, n calls earlier than the multiples of 1,000.
func everyThousandth(n int64) func(layer.Call) bool {
	var calls atomic.Int64
	return func(layer.Call) bool { return (calls.Add(1)+n)%1000 == 0 }
}

// resources are numbers that must not grow.
type resources struct {
	series, goroutines, files int
	heap                      int
}

func measured(t *testing.T, reg *prometheus.Registry) (r resources) {
	families, err := reg.Gather()
	must(t, err)
	for _, f := range families {
		r.series += len(f.Metric)
	}
	if files, err := os.ReadDir("/proc/self/fd"); err == nil { // Linux only
		r.files = len(files)
	}
	r.heap = testenv.Heap()
	r.goroutines = runtime.NumGoroutine()
	return r
}

func hidden(id string, size int) chat.Item {
	return testenv.OrPanic(chat.NewItem(id, noon, chat.SDKHiddenContext{Content: filler[:size]}))
}

func file(id string) chat.Attachment {
	return testenv.OrPanic(chat.NewAttachment(id, chat.AttachmentBody{Type: "file", Name: "a.txt", MIMEType: "text/plain"}))
}
