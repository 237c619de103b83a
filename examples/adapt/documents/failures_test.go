package documents_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/examples/adapt/documents"
	"github.com/chatstore/chatstore/examples/adapt/internal/outcomes"
	"github.com/chatstore/chatstore/store"
)

// stepDB is a DB that takes each step by step.
type stepDB struct {
	documents.DB
	step outcomes.Step
}

func (db stepDB) Get(ctx context.Context, key string) (text []byte, revision uint64, err error) {
	err = db.step("get "+key, func() (err error) {
		text, revision, err = db.DB.Get(ctx, key)
		return err
	})
	return text, revision, err
}

func (db stepDB) Put(ctx context.Context, key string, text []byte, ifRevision uint64) error {
	return db.step(outcomes.Commit, func() error { return db.DB.Put(ctx, key, text, ifRevision) })
}

func (db stepDB) List(ctx context.Context, prefix string) (texts [][]byte, err error) {
	err = db.step("list", func() (err error) {
		texts, err = db.DB.List(ctx, prefix)
		return err
	})
	return texts, err
}

// TestOutcomes includes a lost Put: its outcome is unknown, and no second Put follows.
func TestOutcomes(t *testing.T) {
	outcomes.Test(t, func(_ *testing.T, step outcomes.Step) store.Store {
		return documents.New(stepDB{newMemory(), step})
	})
}

// cutCtx is a context that ends after some looks at it.
type cutCtx struct {
	context.Context
	looks int
}

func (c *cutCtx) Err() error {
	if c.looks--; c.looks < 0 {
		return context.Canceled
	}
	return nil
}

func TestACancelledCallNeverHasAnUnknownOutcome(t *testing.T) {
	for looks := 0; ; looks++ {
		s := documents.New(newMemory())
		err := s.SaveThread(&cutCtx{t.Context(), looks}, thread)
		_, found := s.LoadThread(t.Context(), thread.ID)
		switch {
		case err == nil && found == nil:
			return
		case store.CodeOf(err) != store.CodeCanceled || !errors.Is(err, store.ErrNotApplied) || !errors.Is(found, store.ErrNotFound):
			t.Fatalf("a context that ends at look %d: got error %v, and then %v, want a cancellation and no thread", looks, err, found)
		}
	}
}

var thread = chat.Thread{ID: "thr_1", CreatedAt: time.Unix(1_700_000_000, 0), Owner: chat.Owner{Tenant: "acme", Subject: "ada"}}

// silentDB never answers a Put.
type silentDB struct{ documents.DB }

func (silentDB) Put(ctx context.Context, _ string, _ []byte, _ uint64) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestAPutWithoutAnAnswerHasAnUnknownOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		db := newMemory()
		if err := documents.New(db).SaveThread(ctx, thread); err != nil {
			t.Fatal(err)
		}
		err := documents.New(silentDB{db}).DeleteThread(ctx, thread.ID)
		if store.CodeOf(err) != store.CodeUnavailable || store.IsDefinite(err) {
			t.Errorf("got error %v, want an unknown outcome", err)
		}
	})
}

// TestADatabaseClientMustNotRetryPut shows what its own second attempt does to a write that took effect.
func TestADatabaseClientMustNotRetryPut(t *testing.T) {
	s := documents.New(stepDB{newMemory(), func(name string, do func() error) error {
		err := do()
		if name == outcomes.Commit {
			err = do()
		}
		return err
	}})
	err := s.SaveThread(store.WithSaveMode(t.Context(), store.InsertOnly), thread)
	if _, found := s.LoadThread(t.Context(), thread.ID); found != nil || !errors.Is(err, store.ErrConflict) {
		t.Errorf("got error %v, and then %v, want %v for a thread that was saved", err, found, store.ErrConflict)
	}
}

func TestADocumentThatCannotBeParsedIsInternal(t *testing.T) {
	db := newMemory()
	s := documents.New(db)
	if err := db.Put(t.Context(), "thread/thr_1", []byte("{"), 0); err != nil {
		t.Fatal(err)
	}
	_, load := s.LoadThread(t.Context(), "thr_1")
	_, list := s.LoadThreads(t.Context(), store.ThreadQuery{Owner: store.AnyOwner()})
	save := s.SaveThread(t.Context(), thread)
	for name, err := range map[string]error{"LoadThread": load, "LoadThreads": list, "SaveThread": save} {
		if store.CodeOf(err) != store.CodeInternal || !errors.Is(err, store.ErrNotApplied) {
			t.Errorf("%s: got error %v, want code internal and ErrNotApplied", name, err)
		}
	}
}
