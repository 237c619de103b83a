package sqlstore

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/chatstore/chatstore/store"
)

// Package net goes by the clock, and may fail to connect a moment before the context says that its deadline has passed.
func TestADeadlineIsATimeoutAlsoBeforeTheContextSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		s := &Store{engine: &postgresEngine{}}
		err := s.try(ahead{late}, call{op: store.OpLoadThread}, func() (bool, error) { return true, &pgconn.ConnectError{} })
		if code := store.CodeOf(err); code != store.CodeTimeout {
			t.Errorf("got %v", code)
		}
	})
}

// ahead is a context whose deadline passes before it ends.
type ahead struct{ context.Context }

func (a ahead) Deadline() (time.Time, bool) {
	end, ok := a.Context.Deadline()
	return end.Add(-time.Millisecond), ok
}
