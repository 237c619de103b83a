package storetest

import (
	"context"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// leaks returns what the first trace that shows anything shows.
func leaks(t *testing.T, newStack func(store.Store, *Grants) store.Store, opts ...IsolatedOption) string {
	t.Helper()
	c := newIsolated(newStack, opts)
	for seed := range uint64(c.traces) {
		if why := c.leak(t, randomTrace(seed)); why != "" {
			return why
		}
	}
	return ""
}

func TestIsolatedFindsThatNobodyGuards(t *testing.T) {
	why := leaks(t, func(base store.Store, _ *Grants) store.Store { return base })
	if !strings.Contains(why, "can tell what others do") && !strings.Contains(why, "saves under") {
		t.Errorf("got %q", why)
	}
}

func TestIsolatedFindsThatAPartIsNotGiven(t *testing.T) {
	why := leaks(t, func(base store.Store, _ *Grants) store.Store {
		return store.Wrap(base, authz.New(authz.AnyOf(authz.OwnerOnly(), authz.HasRole("admin"))))
	})
	if !strings.Contains(why, "has a part in the thread") {
		t.Errorf("got %q", why)
	}
}

func TestAnyDataIsATrace(t *testing.T) {
	for _, data := range []string{"", "short", strings.Repeat("\xff", 4000)} {
		IsolatedTrace(t, []byte(data), func(store.Store, *Grants) store.Store { return memstoreOfNobody() })
	}
}

// memstoreOfNobody answers all alike, since it never has anything: nobody can tell anything by it.
func memstoreOfNobody() store.Store { return nothing{memstore.New()} }

type nothing struct{ store.Store }

func (nothing) SaveThread(context.Context, store.Thread) error          { return nil }
func (nothing) SaveAttachment(context.Context, store.Attachment) error  { return nil }
func (nothing) AddThreadItem(context.Context, string, store.Item) error { return nil }
func (nothing) SaveItem(context.Context, string, store.Item) error      { return nil }
