package cache_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// moment is a thread in a base, from a time on.
type moment struct {
	at          time.Time
	version     uint64
	title, text string // of the thread, and of its only item
}

// history is a base that remembers all its states. Its calls are slow. It can be restored, and its nodes can lag.
type history struct {
	store.Store
	slow  time.Duration // most of a delay, in each direction
	lag   time.Duration // of reads and polls
	fails float64       // share of the polls

	mu    sync.Mutex
	r     *rand.Rand
	epoch int
	past  map[string][]moment
	texts int
}

func newHistory(seed uint64) *history {
	h := &history{Store: memstore.New(), r: rand.New(rand.NewPCG(seed, 1)), past: map[string][]moment{}}
	for i := range 3 {
		id := fmt.Sprint("thr_", i)
		h.past[id] = []moment{{time.Now(), 1, h.text(), h.text()}}
	}
	return h
}

// random returns a number from 0 to 1.
func (h *history) random() float64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.r.Float64()
}

// text returns a new text. The caller holds h.mu, here and in the next functions.
func (h *history) text() string {
	h.texts++
	return fmt.Sprint(h.texts)
}

func (h *history) now(id string) moment { return h.past[id][len(h.past[id])-1] }

// seen returns the thread as a node that lags has it.
func (h *history) seen(id string) moment {
	i := len(h.past[id]) - 1
	for i > 0 && h.past[id][i].at.After(time.Now().Add(-h.lag)) {
		i--
	}
	return h.past[id][i]
}

// restore makes all threads those of a backup. Others have written since, so a version is often that of another state.
func (h *history) restore() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.epoch++
	for id := range h.past {
		version := max(1, h.now(id).version-uint64(h.r.IntN(3)))
		h.past[id] = append(h.past[id], moment{time.Now(), version, h.text(), h.text()})
	}
}

// wait waits for the way to the base or back.
func (h *history) wait(ctx context.Context) error {
	h.mu.Lock()
	d := 1 + time.Duration(h.r.Int64N(int64(h.slow)))
	if h.r.IntN(8) == 0 {
		d *= 6
	}
	h.mu.Unlock()
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// call does f at one instant.
func (h *history) call(ctx context.Context, f func()) error {
	if err := h.wait(ctx); err != nil {
		return err
	}
	h.mu.Lock()
	f()
	h.mu.Unlock()
	return h.wait(ctx)
}

func (h *history) read(ctx context.Context, id string) (m moment, err error) {
	err = h.call(ctx, func() {
		m = h.seen(id)
		driver.ReportVersion(ctx, id, m.version, m.version)
	})
	return m, err
}

func (h *history) write(ctx context.Context, id string, change func(*moment)) error {
	return h.call(ctx, func() {
		m := h.now(id)
		driver.ReportVersion(ctx, id, m.version, m.version+1)
		m.at, m.version = time.Now(), m.version+1
		change(&m)
		h.past[id] = append(h.past[id], m)
	})
}

func (h *history) LoadThread(ctx context.Context, id string) (chat.Thread, error) {
	m, err := h.read(ctx, id)
	return thread(id, m.title, chat.Owner{}), err
}

func (h *history) LoadItem(ctx context.Context, id, itemID string) (chat.Item, error) {
	m, err := h.read(ctx, id)
	return said(id, m.text), err
}

func (h *history) LoadThreadItems(ctx context.Context, id string, _ store.PageQuery) (store.Page[chat.Item], error) {
	m, err := h.read(ctx, id)
	return store.Page[chat.Item]{Data: []chat.Item{said(id, m.text)}}, err
}

func (h *history) SaveThread(ctx context.Context, th chat.Thread) error {
	return h.write(ctx, th.ID, func(m *moment) { m.title = th.Title })
}

func (h *history) SaveItem(ctx context.Context, id string, it chat.Item) error {
	return h.write(ctx, id, func(m *moment) { m.text = textOf(it) })
}

func (h *history) ThreadVersions(ctx context.Context, ids []string) (epoch string, versions []uint64, err error) {
	fails := h.random() < h.fails
	err = h.call(ctx, func() {
		epoch = fmt.Sprint(h.epoch)
		for _, id := range ids {
			versions = append(versions, h.seen(id).version)
		}
	})
	if fails {
		return "", nil, errors.New("no answer")
	}
	return epoch, versions, err
}

func said(id, text string) chat.Item {
	it := testenv.OrPanic(chat.NewItem("msg_1", noon, chat.UserMessage{Content: []chat.UserContent{{Text: text}}}))
	it.ThreadID = id
	return it
}

func textOf(it chat.Item) string {
	body, _, err := chat.DecodeItem[chat.UserMessage](it)
	return testenv.OrPanic(body, err).Content[0].Text
}

// held reports whether a text of the thread was current at some time from begin on.
func (h *history) held(id, text string, of func(moment) string, begin time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	past := h.past[id]
	i := len(past) - 1
	for ; i > 0 && past[i].at.After(begin); i-- {
	}
	return slices.ContainsFunc(past[i:], func(m moment) bool { return of(m) == text })
}

// play plays one history of three caches over h, whose clients read and write. It returns the reads that were older than the lease,
// and the number of hits.
func (h *history) play(t *testing.T, every time.Duration, restores bool) (stale []string, hits float64) {
	var mu sync.Mutex
	h.slow = every / 3
	who := []store.Principal{ada, bob}
	var caches []store.Store
	for i := range 3 {
		caches = append(caches, store.Wrap(h, cache.New(cache.WithRevalidation(every), cache.WithMaxEntries(2+3*i), cache.WithWindow(1),
			cache.WithQuarantine(every/10), cache.Jitter(h.random), quiet)))
	}
	client := func(n uint64) {
		h.mu.Lock()
		r := rand.New(rand.NewPCG(h.r.Uint64(), n))
		h.mu.Unlock()
		for range 30 {
			time.Sleep(time.Duration(r.Int64N(int64(every))))
			ctx, cancel := store.WithPrincipal(t.Context(), who[r.IntN(2)]), context.CancelFunc(func() {})
			if r.IntN(10) == 0 {
				ctx, cancel = context.WithTimeout(ctx, time.Duration(r.Int64N(int64(every))))
			}
			s, id := caches[r.IntN(len(caches))], fmt.Sprint("thr_", r.IntN(3))
			h.mu.Lock()
			text := h.text()
			h.mu.Unlock()
			begin, got, of := time.Now(), "", func(m moment) string { return m.text }
			var err error
			switch n := r.IntN(20); {
			case n < 2:
				err = s.SaveThread(ctx, thread(id, text, chat.Owner{}))
			case n < 4:
				err = s.SaveItem(ctx, id, said(id, text))
			case n < 10:
				of = func(m moment) string { return m.title }
				var th chat.Thread
				th, err = s.LoadThread(ctx, id)
				got = th.Title
			case n < 14:
				var it chat.Item
				if it, err = s.LoadItem(ctx, id, "msg_1"); err == nil {
					got = textOf(it)
				}
			default:
				var page store.Page[chat.Item]
				if page, err = s.LoadThreadItems(ctx, id, newest(1)); err == nil {
					got = textOf(page.Data[0])
				}
			}
			if err == nil && got != "" && !h.held(id, got, of, begin.Add(-2*every)) {
				mu.Lock()
				stale = append(stale, fmt.Sprintf("%v: %q of %s was read from cache %d", begin, got, id, slices.Index(caches, s)))
				mu.Unlock()
			}
			cancel()
		}
	}
	var clients sync.WaitGroup
	for n := range 5 {
		clients.Go(func() { client(uint64(n)) })
	}
	if restores {
		clients.Go(func() {
			for range 3 {
				time.Sleep(6 * every)
				h.restore()
			}
		})
	}
	clients.Wait()
	for _, s := range caches {
		hits += stat(s, "chatstore_cache_requests_total", "hit")
	}
	must(t, store.Close(caches...))
	return stale, hits
}

// TestNoHitIsOlderThanTheLease plays random histories. In the last scenario, a node of the base lags: then reads are older, and the
// test must notice.
func TestNoHitIsOlderThanTheLease(t *testing.T) {
	const every = 10 * time.Millisecond
	n := 60
	if testenv.Full {
		n = 2000
	}
	if testenv.Race {
		n /= 6
	}
	for _, c := range []struct {
		name     string
		set      func(*history)
		restores bool
		lags     bool
	}{
		{name: "polls are answered", set: func(*history) {}},
		{name: "some polls fail", set: func(h *history) { h.fails = 0.3 }},
		{name: "the base is restored", set: func(*history) {}, restores: true},
		{name: "a node lags", set: func(h *history) { h.lag = 2 * every }, lags: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var hits float64
			late := 0
			for seed := range n {
				synctest.Test(t, func(t *testing.T) {
					h := newHistory(uint64(seed))
					c.set(h)
					stale, some := h.play(t, every, c.restores)
					hits += some
					late += len(stale)
					if len(stale) > 0 && !c.lags {
						t.Errorf("history %d: %q", seed, stale)
					}
				})
			}
			t.Logf("%d histories, %v hits, %d reads older than the lease", n, hits, late)
			if hits < float64(5*n) {
				t.Errorf("%v hits in %d histories prove nothing", hits, n)
			}
			if c.lags && late == 0 {
				t.Error("the histories do not show that the node lags")
			}
		})
	}
}
