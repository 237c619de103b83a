package sqlstore_test

import (
	"context"
	"testing"

	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

func TestNobodyLearnsOfOthers(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open opener) {
		storetest.Isolated(t, func(base store.Store, g *storetest.Grants) store.Store {
			part := authz.Grants(func(_ context.Context, p store.Principal, threadID string, _ store.Owner) (authz.Role, error) {
				return map[string]authz.Role{"viewer": authz.Viewer, "editor": authz.Editor}[g.Role(p, threadID)], nil
			})
			return store.Wrap(base, authz.New(authz.AnyOf(authz.OwnerOnly(), authz.HasRole("admin"), part), authz.ShareBelow()),
				cache.New(cache.WithMaxEntries(8)))
		}, storetest.Over(func() store.Store { return open(t) }), storetest.Traces(12))
	})
}
