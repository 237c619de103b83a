// Package memstore is a [store.Store] in memory: the embedded default of a small program, the double in a test, and the
// reference for whoever writes a Store of their own.
//
//	s := memstore.New()
//	err := s.SaveThread(ctx, chat.Thread{ID: s.GenerateThreadID(ctx), CreatedAt: time.Now()})
//	page, err := s.LoadThreads(ctx, store.ThreadQuery{})
//
// Use it where what is kept may be lost with the process and fits into memory. It never forgets an id: a deleted thread or
// attachment leaves its id, Owner and version behind, some 200 bytes each, so that nobody else can take the id and
// no version comes twice. A process that makes and deletes threads for months wants another Store.
//
// # Concurrency and cost
//
// A Store is safe for concurrent use, and every call is atomic. A page costs O(log n + limit) wherever it begins, and a
// write O(log n), in whatever order rows come. Each owner's and each tenant's threads have an index of their own. Whoever
// reads a thread waits for writers of that thread only, never for those of another or for a listing. Calls do no I/O, so a
// context that ends after the call has begun does not end it.
//
// # Where the contract leaves a choice
//
// A save with the zero Owner names no other owner, so that of a deleted id revives the row as the Owner's it was left
// by, and an id that was nobody's stays nobody's. Versions are reported (see [driver.ReportVersion]) by every call on
// one thread that was valid and not cancelled: before equals after where nothing was changed, be it that there was nothing
// to delete or that the write was refused.
package memstore

import (
	"context"
	"sync"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// Store keeps everything in memory. Make one with [New]; the zero Store is not ready for use. It must not be copied.
//
// Locks are taken in the order listings.mu, thread.mu; attachments.mu stands alone. Nothing that a caller passed in runs
// under a lock.
type Store struct {
	ids         store.IDGenerator
	threads     sync.Map // id to *thread; added to under listings.mu, never taken from
	listings    listings
	attachments attachments
}

var (
	_ store.Store         = (*Store)(nil)
	_ store.Named         = (*Store)(nil)
	_ store.HealthChecker = (*Store)(nil)
	_ driver.WriteBounder = (*Store)(nil)
)

var checks driver.Checks

// Option changes what [New] makes.
type Option func(*Store)

// WithIDs draws new ids from g; without it, from [store.DefaultIDs]. Use [store.LongIDs] where ids must not be guessable.
// WithIDs panics if g is nil.
func WithIDs(g store.IDGenerator) Option {
	if g == nil {
		panic("memstore.WithIDs: the IDGenerator is nil: pass one, such as store.LongIDs{}")
	}
	return func(s *Store) { s.ids = g }
}

// New returns an empty Store. There is nothing to close.
func New(opts ...Option) *Store {
	s := &Store{ids: store.DefaultIDs{}}
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

// refusal is the contract's word on a save: a row is there or not, its id is owner's or was, and the save is of a row of
// saved's in the given mode.
func refusal(mode store.SaveMode, there bool, owner, saved chat.Owner) store.Code {
	switch {
	case mode == store.UpdateOnly && !there:
		return store.CodeNotFound
	case mode == store.InsertOnly && there:
		return store.CodeConflict
	case !saved.IsZero() && saved != owner:
		return store.CodeConflict
	}
	return store.CodeOK
}
