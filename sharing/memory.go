package sharing

import (
	"context"
	"hash/maphash"
	"maps"
	"sync"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// Store is a [store.Store] that keeps grants of its threads, such as *sqlstore.Store.
type Store interface {
	store.Store
	Grants
}

// New returns base with grants, which it keeps in memory. Put it at the bottom of a stack, for one process: every deletion must
// go through it. If base is a driver.Eraser, so is the Store. New panics if base is nil.
//
// While a thread is being deleted, calls that need its grants wait. If the outcome is unknown, the grants end. The deletion may
// still take effect, so Grant returns [store.ErrUnavailable] for the time of the base's driver.WriteBounder, or a minute.
func New(base store.Store) Store {
	if base == nil {
		panic("sharing.New: base is nil: pass the Store whose threads are shared")
	}
	m := &memory{
		Store: base, longest: time.Minute, seed: maphash.MakeSeed(), ends: map[any]*ending{},
		threads: map[string]map[Grantee]*record{}, grantees: map[Grantee]map[string]*record{},
	}
	if b, ok := store.As[driver.WriteBounder](base); ok {
		m.longest = b.LongestWrite()
	}
	if e, ok := store.As[driver.Eraser](base); ok {
		return &erasing{m, e}
	}
	return m
}

// memory is a Store around another one.
type memory struct {
	store.Store
	longest time.Duration // an abandoned write may take effect so long
	seed    maphash.Seed

	mu       sync.Mutex
	threads  map[string]map[Grantee]*record // the records by thread and grantee
	grantees map[Grantee]map[string]*record // the same by grantee and thread
	ends     map[any]*ending                // by what is deleted: a thread's id or a chat.Owner
	counts   [256]uint64                    // how often threads with this hash have been deleted
}

// record is a grant with the owner of its thread, which never changes. It is replaced, not changed.
type record struct {
	Grant
	owner chat.Owner
}

// ending has the calls that delete a thread, or erase an owner.
type ending struct {
	running int
	over    chan struct{} // closed when none is running
	// One with an unknown outcome may take effect until doubt, or until all of pending are closed.
	doubt   time.Time
	pending []<-chan struct{}
}

func (e *ending) isRunning() bool { return e.running > 0 }

func (e *ending) isDoubtful() bool {
	for _, ended := range e.pending {
		select {
		case <-ended:
		default:
			return true
		}
	}
	return time.Now().Before(e.doubt)
}

var (
	_ store.Unwrapper = (*memory)(nil)
	_ store.Named     = (*memory)(nil)
	_ driver.Eraser   = (*erasing)(nil)
)

// Unwrap returns the base.
func (m *memory) Unwrap() store.Store { return m.Store }

// LayerName returns "sharing".
func (m *memory) LayerName() string { return "sharing" }

// DeleteThread deletes the thread and ends its grants.
func (m *memory) DeleteThread(ctx context.Context, threadID string) error {
	return m.end(ctx, threadID, func(ctx context.Context) error { return m.Store.DeleteThread(ctx, threadID) }, func() {
		*m.ended(threadID)++
		for _, r := range m.threads[threadID] {
			m.remove(r)
		}
	})
}

// erasing is a memory around a base that can erase owners.
type erasing struct {
	*memory
	base driver.Eraser
}

// EraseOwner erases the owner, ends the grants of its threads and to its subject, and removes its name from others.
func (m *erasing) EraseOwner(ctx context.Context, owner chat.Owner) (erased driver.Erased, err error) {
	erase := func(ctx context.Context) (err error) {
		erased, err = m.base.EraseOwner(ctx, owner)
		return err
	}
	err = m.end(ctx, owner, erase, func() {
		for i := range m.counts {
			m.counts[i]++
		}
		subject := Grantee{Tenant: owner.Tenant, Subject: owner.Subject}
		for _, all := range m.threads {
			for _, r := range all {
				switch {
				case r.owner == owner, r.To == subject:
					m.remove(r)
				case r.By == owner:
					unnamed := *r
					unnamed.By = chat.Owner{}
					m.put(&unnamed)
				}
			}
		}
	})
	return erased, err
}

// end makes a call that ends the grants of key, which is a thread's id or an owner. Then it calls clear with m.mu locked, except
// after a definite failure.
func (m *memory) end(ctx context.Context, key any, call func(context.Context) error, clear func()) (err error) {
	m.mu.Lock()
	e := m.ends[key]
	if e == nil {
		e = &ending{over: make(chan struct{})}
		m.ends[key] = e
	}
	e.running++
	m.mu.Unlock()

	unsettled := false // a layer beneath says so: see layer.ReportUnsettled
	ctx = callctx.With(ctx, func(d *callctx.Data) {
		outer := d.Unsettled
		d.Unsettled = callctx.UnsettledFunc(func(ended <-chan struct{}) {
			if outer != nil {
				outer.RecordUnsettled(ended)
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			if unsettled = true; ended != nil {
				e.pending = append(e.pending, ended)
			}
		})
	})
	unknown := true // unless the call returns: it may panic
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if unknown || unsettled {
			e.doubt = time.Now().Add(m.longest)
		}
		if unknown || unsettled || err == nil {
			clear()
		}
		if e.running--; e.running == 0 {
			close(e.over)
			e.over = make(chan struct{})
		}
		maps.DeleteFunc(m.ends, func(_ any, e *ending) bool { return !e.isRunning() && !e.isDoubtful() })
	}()
	err = call(ctx)
	unknown = !store.IsDefinite(err)
	return err
}

// endings returns what ends the record and is in the given state, or nil.
func (m *memory) endings(r *record, is func(*ending) bool) *ending {
	for _, key := range [...]any{r.ThreadID, r.owner} {
		if e := m.ends[key]; e != nil && is(e) {
			return e
		}
	}
	return nil
}

// ended returns the counter of deletions for the thread.
func (m *memory) ended(threadID string) *uint64 {
	return &m.counts[maphash.String(m.seed, threadID)%uint64(len(m.counts))]
}

func (m *memory) put(r *record) {
	if m.threads[r.ThreadID] == nil {
		m.threads[r.ThreadID] = map[Grantee]*record{}
	}
	if m.grantees[r.To] == nil {
		m.grantees[r.To] = map[string]*record{}
	}
	m.threads[r.ThreadID][r.To], m.grantees[r.To][r.ThreadID] = r, r
}

func (m *memory) remove(r *record) {
	delete(m.threads[r.ThreadID], r.To)
	if len(m.threads[r.ThreadID]) == 0 {
		delete(m.threads, r.ThreadID)
	}
	delete(m.grantees[r.To], r.ThreadID)
	if len(m.grantees[r.To]) == 0 {
		delete(m.grantees, r.To)
	}
}
