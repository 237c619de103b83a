package sqlstore

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/chatstore/chatstore/store"
)

// Package net compares the deadline with the clock, and may fail a moment before the context reports its end.
func TestADeadlineIsATimeoutAlsoBeforeTheContextSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		s := &Store{engine: &postgresEngine{}}
		err := s.try(ahead{late}, call{op: store.OpLoadThread}, false, func() (bool, error) { return true, &pgconn.ConnectError{} })
		if code := store.CodeOf(err); code != store.CodeTimeout {
			t.Errorf("got %v", code)
		}
	})
}

// A call that fails temporarily is retried with growing pauses until WithRetryFor ends.
func TestACallIsTriedAgainForAsLongAsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const retryFor = 3 * time.Second
		s := &Store{engine: &postgresEngine{}, cfg: config{retryFor: retryFor}}
		c := call{op: store.OpSaveThread}
		var at []time.Time
		busy := func() (bool, error) {
			at = append(at, time.Now())
			return true, &pgconn.PgError{Code: "40001", SeverityUnlocalized: "ERROR"}
		}
		began := time.Now()
		err := s.try(t.Context(), c, true, busy)
		if !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, store.ErrNotApplied) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took < retryFor || took > retryFor+2*longestPause {
			t.Errorf("given up after %v, want %v", took, retryFor)
		}
		want := firstPause
		for i := 1; i < len(at); i++ {
			if d := at[i].Sub(at[i-1]); d < want/2 || d > want*3/2 {
				t.Errorf("pause %d took %v, want %v, half more or less", i, d, want)
			}
			want = min(2*want, longestPause)
		}

		tries := 0
		err = s.try(t.Context(), c, true, func() (bool, error) {
			if tries++; tries == 20 {
				return true, nil
			}
			return busy()
		})
		if err != nil || tries != 20 {
			t.Errorf("a call that succeeds at last: %v after %d tries", err, tries)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if err := s.try(ctx, c, true, busy); store.CodeOf(err) != store.CodeTimeout || time.Since(began) != time.Second {
			t.Errorf("with a deadline of a second: %v after %v", err, time.Since(began))
		}

		tries = 0
		_ = s.try(t.Context(), c, true, func() (bool, error) { tries++; _, err := busy(); return false, err })
		if tries != 1 {
			t.Errorf("%d tries of a write with an unknown outcome", tries)
		}
	})
}

// ahead is a context that ends after its deadline.
type ahead struct{ context.Context }

func (a ahead) Deadline() (time.Time, bool) {
	end, ok := a.Context.Deadline()
	return end.Add(-time.Millisecond), ok
}
