// Package memstore is a [store.Store] in memory. Use it in small programs, as a test double, and as the reference for a
// Store of your own.
//
//	s := memstore.New()
//	err := s.SaveThread(ctx, chat.Thread{ID: s.GenerateThreadID(ctx), CreatedAt: time.Now()})
//	page, err := s.LoadThreads(ctx, store.ThreadQuery{})
//
// All rows must fit into memory, and are lost when the process ends. With ids of [store.DefaultIDs], an item takes at most 350
// bytes beside its JSON, in threads of five items or more. Deletions leave something behind:
//
//   - A deleted item leaves its id and its place, until its thread is deleted: at most 200 bytes. So it is still a cursor.
//   - A deleted thread or attachment leaves its id, Owner, version and place: at most 350 bytes. So it is still a cursor, another
//     owner cannot take the id, and versions go on. An erased one leaves the same without the Owner.
//
// For a process that creates and deletes threads for months, use another Store.
//
// # Concurrency and cost
//
// A Store is safe for concurrent use, and every call is atomic. A page costs O(log n + limit) at any cursor, and a write
// O(log n) in any order of rows. Each owner and each tenant has an index of its threads and one of its attachments. A read of a
// thread waits only for writes of that thread, never for writes of another thread or for a listing. Calls do no I/O: they do not
// stop when their context ends.
//
// The capabilities of package driver cost more. EraseOwner looks at every id of the Store. Meanwhile saves, deletions and listings
// of threads and attachments wait, and so do calls on the erased threads. InactiveThreads looks at every thread of its listing
// until the page is full. Meanwhile saves and deletions of threads wait. ListTombstones looks at every id of its kind for a page.
//
// # Where the contract leaves a choice
//
//   - Saving a deleted id with a zero Owner restores its previous owner. An id without an owner never gets one.
//   - Every call on one thread reports the thread's version ([driver.ReportVersion]) if its arguments are valid and its context
//     has not ended. A call that changes nothing, such as a refused write, reports the same version before and after.
//   - EraseOwner reports no versions. Calls of ThreadVersions read one thread after another, not all in one snapshot.
//   - The epoch of versions is a random text, new for each Store.
package memstore

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// Store keeps all rows in memory. Create it with [New]; the zero Store is not usable. It must not be copied.
type Store struct {
	// Locks are taken in the order listings.mu, attachments.mu, thread.mu. Only EraseOwner holds the locks of several threads.
	// No caller's code runs under a lock.

	ids         store.IDGenerator
	epoch       string
	threads     sync.Map // id to *thread; entries are added under listings.mu and never removed
	listings    listings[chat.Thread]
	attachments attachments
}

var (
	_ store.Store         = (*Store)(nil)
	_ store.Named         = (*Store)(nil)
	_ store.HealthChecker = (*Store)(nil)
	_ driver.WriteBounder = (*Store)(nil)

	_ driver.AttachmentSwapper = (*Store)(nil)
	_ driver.Eraser            = (*Store)(nil)
	_ driver.VersionReader     = (*Store)(nil)
	_ driver.Inactive          = (*Store)(nil)
	_ driver.Tombstones        = (*Store)(nil)
)

var checks = driver.Checks{Versions: true}

// Option configures [New].
type Option func(*Store)

// WithIDs sets the generator of new ids; the default is [store.DefaultIDs]. Use [store.LongIDs] if ids must not be guessable.
// WithIDs panics if g is nil.
func WithIDs(g store.IDGenerator) Option {
	if g == nil {
		panic("memstore.WithIDs: the IDGenerator is nil: pass one, such as store.LongIDs{}")
	}
	return func(s *Store) { s.ids = g }
}

// New returns an empty Store. It need not be closed.
func New(opts ...Option) *Store {
	s := &Store{ids: store.DefaultIDs{}, epoch: rand.Text()}
	for _, o := range opts {
		o(s)
	}
	return s
}

// LayerName returns "memstore".
func (s *Store) LayerName() string { return "memstore" }

// CheckHealth returns nil: memory can always serve.
func (s *Store) CheckHealth(context.Context) error { return nil }

// LongestWrite returns 0: a write never outlives its call.
func (s *Store) LongestWrite() time.Duration { return 0 }

// GenerateThreadID returns an id for a new thread.
func (s *Store) GenerateThreadID(ctx context.Context) string { return s.ids.GenerateThreadID(ctx) }

// GenerateItemID returns an id for a new item of the given kind in thread.
func (s *Store) GenerateItemID(ctx context.Context, kind chat.ItemKind, thread chat.Thread) string {
	return s.ids.GenerateItemID(ctx, kind, thread)
}

func failed(op store.Op, code store.Code, kind, id string) error {
	return &store.Error{Op: op, Kind: kind, ID: id, Code: code}
}

// claim says who may use an id that is, or was, a row's. It outlives the row.
type claim struct {
	owner  chat.Owner
	erased bool // nobody may use the id again; it has no owner
}

// claimOf returns the claim of owner. It copies the strings: the caller may have cut them from a longer text, which would stay
// in memory.
func claimOf(o chat.Owner) claim {
	return claim{owner: chat.Owner{Tenant: strings.Clone(o.Tenant), Subject: strings.Clone(o.Subject)}}
}

// refusal returns the code with which the contract refuses a save, or CodeOK. there says whether the row exists. saved is the
// Owner that the save names.
func (c *claim) refusal(mode store.SaveMode, there bool, saved chat.Owner) store.Code {
	switch {
	case mode == store.UpdateOnly && !there:
		return store.CodeNotFound
	case mode == store.InsertOnly && there, c.erased:
		return store.CodeConflict
	case !saved.IsZero() && saved != c.owner:
		return store.CodeConflict
	}
	return store.CodeOK
}

// matches reports whether a listing with filter f has, or had, the row of the id. An erased id is in listings of all rows only.
func (c *claim) matches(f store.OwnerFilter) bool {
	return f.IsAny() || !c.erased && f.Match(c.owner)
}
