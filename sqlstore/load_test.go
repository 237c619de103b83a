package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
)

// load writes items into threads and reads the threads, until end. Each thread has two writers and a reader.
type load struct {
	s       store.Store
	stop    context.CancelFunc
	wg      sync.WaitGroup
	more    chan struct{} // a write has ended
	threads []*loaded

	mu                    sync.Mutex
	acknowledged, unknown int
	gaveUp                map[string]int // causes of errors of reads, and of writes that were not applied
	last                  time.Time      // the last acknowledgement
	gap                   time.Duration  // the longest time without one since mark
}

// loaded is a thread under load.
type loaded struct {
	id     string
	newest atomic.Uint64 // the highest version that an ended call has reported
	early  bool          // a read may report a version that a crash takes away; no write has been acknowledged then

	acknowledged, denied []string // guarded by load.mu
}

// start starts a load of several threads on s.
func start(t *testing.T, s store.Store, threads int) *load {
	t.Helper()
	return startOver(t, s, threads, false)
}

func startOver(t *testing.T, s store.Store, threads int, early bool) *load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &load{s: s, stop: stop, more: make(chan struct{}, 1), gaveUp: map[string]int{}}
	t.Cleanup(func() { // after a failure
		l.stop()
		l.wg.Wait()
	})
	for n := range threads {
		th := &loaded{id: fmt.Sprint("thr_", n), early: early}
		must(t, s.SaveThread(ctx, thread(th.id)))
		l.threads = append(l.threads, th)
	}
	for _, th := range l.threads {
		for w := range 2 {
			l.wg.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					l.write(t, th, fmt.Sprintf("msg_%d_%d", w, i))
				}
			})
		}
		l.wg.Go(func() {
			for ctx.Err() == nil {
				if err := th.call(t, false, func(ctx context.Context) error { return errOf(s.LoadThread(ctx, th.id)) }); err != nil {
					l.mu.Lock()
					l.gaveUp[fmt.Sprint(causeOf(err))]++
					l.mu.Unlock()
				}
				time.Sleep(time.Millisecond) // paces the load
			}
		})
	}
	return l
}

// call makes a call whose version must not be older than those of the calls that ended before.
func (th *loaded) call(t *testing.T, writes bool, f func(context.Context) error) error {
	before := th.newest.Load()
	var version uint64
	err := f(callctx.WithVersionRecorder(t.Context(), func(_ string, _, after uint64) { version = after }))
	if err != nil {
		return err
	}
	if version < before {
		t.Errorf("%s: a call reports version %d after version %d", th.id, version, before)
	}
	if th.early && !writes {
		return nil
	}
	for old := th.newest.Load(); old < version && !th.newest.CompareAndSwap(old, version); old = th.newest.Load() {
	}
	return nil
}

func (l *load) write(t *testing.T, th *loaded, id string) {
	err := th.call(t, true, func(ctx context.Context) error { return l.s.AddThreadItem(ctx, th.id, item(t, id)) })
	now := time.Now()
	l.mu.Lock()
	switch {
	case err == nil:
		th.acknowledged = append(th.acknowledged, id)
		l.acknowledged++
		l.gap, l.last = max(l.gap, now.Sub(l.last)), now
	case store.IsDefinite(err):
		th.denied = append(th.denied, id)
		l.gaveUp[fmt.Sprint(causeOf(err))]++
	default:
		l.unknown++
	}
	l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	time.Sleep(5 * time.Millisecond) // paces the load, because a starting server needs the processor
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acknowledged
}

// await waits for n more acknowledged writes.
func (l *load) await(t *testing.T, n int) {
	t.Helper()
	limit := time.After(time.Minute)
	for from := l.count(); l.count() < from+n; {
		select {
		case <-l.more:
		case <-limit:
			t.Fatalf("%d of %d writes were acknowledged within a minute", l.count()-from, n)
		}
	}
}

// failed returns the number of writes that were not acknowledged.
func (l *load) failed() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, th := range l.threads {
		n += len(th.denied)
	}
	return n + l.unknown
}

// mark says that an outage may begin.
func (l *load) mark() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gap = 0
}

// end stops the load and compares what it noted with the rows of s.
func (l *load) end(t *testing.T, s store.Store) {
	t.Helper()
	l.stop()
	l.wg.Wait()
	denied := 0
	for _, th := range l.threads {
		whole(t, s, th.id, th.acknowledged)
		for _, id := range th.denied {
			if _, err := s.LoadItem(t.Context(), th.id, id); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s of %s exists, but its error says that it was not applied: %v", id, th.id, err)
			}
		}
		denied += len(th.denied)
	}
	t.Logf("%d acknowledged, %d not applied, %d unknown", l.acknowledged, denied, l.unknown)
}

// patient checks that the store, which is patient, has retried all that can be retried: every call but those in COMMIT.
func (l *load) patient(t *testing.T) {
	t.Helper()
	for cause, n := range l.gaveUp {
		t.Errorf("%d calls were not retried: %s", n, cause)
	}
}
