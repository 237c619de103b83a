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

// load writes items into the thread "thr_1" and reads it, until end. It notes how each write ended.
type load struct {
	s    store.Store
	stop context.CancelFunc
	wg   sync.WaitGroup
	more chan struct{} // an attempt has ended

	newest atomic.Uint64 // the highest version that an ended call has reported

	mu                     sync.Mutex
	acknowledged, denied   []string
	unknown                int
	lastBefore, firstAfter time.Time // the acknowledgements around the last gap that mark began
	marked                 bool
}

// start starts a load of some writers and two readers on s.
func start(t *testing.T, s store.Store, writers int) *load {
	t.Helper()
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	ctx, stop := context.WithCancel(t.Context())
	l := &load{s: s, stop: stop, more: make(chan struct{}, 1)}
	t.Cleanup(func() { // after a failure
		l.stop()
		l.wg.Wait()
	})
	for w := range writers {
		l.wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				l.write(t, fmt.Sprintf("msg_%d_%d", w, i))
			}
		})
	}
	for range 2 {
		l.wg.Go(func() {
			for ctx.Err() == nil {
				err := l.call(t, func(ctx context.Context) error { return errOf(s.LoadThread(ctx, "thr_1")) })
				if err != nil {
					time.Sleep(5 * time.Millisecond) // spares the processor
				}
			}
		})
	}
	return l
}

// call makes a call whose version must not be older than those of the calls that ended before.
func (l *load) call(t *testing.T, f func(context.Context) error) error {
	before := l.newest.Load()
	var version uint64
	err := f(callctx.WithVersionRecorder(t.Context(), func(_ string, _, after uint64) { version = after }))
	if err != nil {
		return err
	}
	if version < before {
		t.Errorf("a call reports version %d after version %d", version, before)
	}
	for old := l.newest.Load(); old < version && !l.newest.CompareAndSwap(old, version); old = l.newest.Load() {
	}
	return nil
}

func (l *load) write(t *testing.T, id string) {
	err := l.call(t, func(ctx context.Context) error { return l.s.AddThreadItem(ctx, "thr_1", item(t, id)) })
	now := time.Now()
	l.mu.Lock()
	switch {
	case err == nil:
		l.acknowledged = append(l.acknowledged, id)
		if !l.marked {
			l.lastBefore = now
		} else if l.firstAfter.IsZero() {
			l.firstAfter = now
		}
	case store.IsDefinite(err):
		l.denied = append(l.denied, id)
	default:
		l.unknown++
	}
	l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	if err != nil {
		time.Sleep(5 * time.Millisecond) // paces the load, because a starting server needs the processor
	}
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acknowledged)
}

// await waits for n more acknowledged writes.
func (l *load) await(t *testing.T, n int) {
	t.Helper()
	limit := time.After(time.Minute)
	for from := l.count(); l.count() < from+n; {
		select {
		case <-l.more:
		case <-limit:
			t.Fatal("a minute passed without enough acknowledged writes")
		}
	}
}

// mark says that an outage begins now. The next acknowledgement ends it.
func (l *load) mark() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.marked, l.firstAfter = true, time.Time{}
}

// end stops the load and compares what it noted with the rows of s.
func (l *load) end(t *testing.T, s store.Store) {
	t.Helper()
	l.stop()
	l.wg.Wait()
	whole(t, s, l.acknowledged)
	for _, id := range l.denied {
		if _, err := s.LoadItem(t.Context(), "thr_1", id); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s exists, but its error says that it was not applied: %v", id, err)
		}
	}
	t.Logf("%d acknowledged, %d not applied, %d unknown", len(l.acknowledged), len(l.denied), l.unknown)
}
