package guides_test

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// shards has a handler for each database. Each is over a whole stack, with a cache of its own.
type shards []http.Handler

// ServeHTTP serves a request in the database of the caller's tenant. An authenticated principal is in its context.
func (s shards) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p, ok := store.PrincipalFrom(r.Context())
	if !ok {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	s[crc32.ChecksumIEEE([]byte(p.Owner.Tenant))%uint32(len(s))].ServeHTTP(w, r)
}

// Each tenant's threads are in one database.
func TestTenantsAreSpreadOverDatabases(t *testing.T) {
	var (
		bases    [3]store.Store
		handlers shards
	)
	for n := range bases {
		bases[n] = memstore.New()
		h := chatkit.NewHandler(store.Wrap(bases[n], authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New()), quiet{})
		t.Cleanup(func() { testenv.Must(t, h.Shutdown(context.Background())) })
		handlers = append(handlers, h)
	}
	server := httptest.NewServer(signedIn(handlers))
	defer server.Close()
	ask := func(tenant string) string {
		t.Helper()
		r := testenv.Value(http.NewRequest("POST", server.URL, strings.NewReader(`{"type": "threads.list", "params": {}}`)))(t)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Tenant", tenant)
		resp := testenv.Value(http.DefaultClient.Do(r))(t)
		text := testenv.Value(io.ReadAll(resp.Body))(t)
		testenv.Must(t, resp.Body.Close())
		return string(text)
	}
	if got := ask(""); got != "" {
		t.Errorf("without a user: %s", got)
	}
	home := map[int]bool{}
	for n := range 9 {
		tenant := fmt.Sprint("tenant_", n)
		th := chat.Thread{ID: "thr_" + tenant, Title: "tea of " + tenant, CreatedAt: operateThread.CreatedAt, Owner: chat.Owner{Tenant: tenant, Subject: "ada"}}
		k := int(crc32.ChecksumIEEE([]byte(tenant))) % len(bases)
		home[k] = true
		testenv.Must(t, bases[k].SaveThread(t.Context(), th))
		if got := ask(tenant); !strings.Contains(got, th.Title) || strings.Count(got, "tea of") != 1 {
			t.Errorf("the threads of %s are %s", tenant, got)
		}
	}
	if len(home) != len(bases) {
		t.Errorf("the tenants are in %d databases", len(home))
	}
}

// signedIn believes the header. A program authenticates the request here.
func signedIn(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		if tenant := r.Header.Get("Tenant"); tenant != "" {
			ctx = store.WithPrincipal(ctx, store.Principal{Owner: chat.Owner{Tenant: tenant, Subject: "ada"}})
		}
		h.ServeHTTP(w, r.WithContext(ctx))
	})
}

// quiet is an assistant that says nothing.
type quiet struct{}

func (quiet) Respond(context.Context, *chatkit.Turn) error             { return nil }
func (quiet) Act(context.Context, *chatkit.Turn, chatkit.Action) error { return nil }
