package guides_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// claims are the contents of a token.
type claims struct {
	jwt.RegisteredClaims
	Tenant string   `json:"tenant"`
	Groups []string `json:"groups"`
}

// roleOf maps groups of the identity provider to roles. Other groups give no role.
var roleOf = map[string]string{"chat-admins": "admin", "chat-auditors": "auditor"}

// authenticated calls next with the principal of the verified claims. It answers a request without them with 401.
func authenticated(verify func(*http.Request) (claims, error), next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := verify(r)
		if err != nil || c.Tenant == "" || c.Subject == "" {
			http.Error(w, "unauthenticated", http.StatusUnauthorized)
			return
		}
		p := store.Principal{Owner: chat.Owner{Tenant: c.Tenant, Subject: c.Subject}}
		for _, group := range c.Groups {
			if role, ok := roleOf[group]; ok {
				p.Roles = append(p.Roles, role)
			}
		}
		next.ServeHTTP(w, r.WithContext(store.WithPrincipal(r.Context(), p)))
	})
}

// bearerClaims returns a function that verifies the bearer token of a request: its signature, expiry, issuer and audience.
func bearerClaims(key []byte) func(*http.Request) (claims, error) {
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired(),
		jwt.WithIssuer("https://login.example"), jwt.WithAudience("chat"))
	return func(r *http.Request) (c claims, err error) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		_, err = parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return key, nil })
		return c, err
	}
}

// A server answers each user with their own threads only.
func Example_accessClaims() {
	s := store.Wrap(memstore.New(), authz.New(authz.OwnerOnly()))
	_ = s.SaveThread(asUser("acme", "ada"), accessThread("thr_1"))

	key := []byte("a secret of at least 32 bytes....")
	h := authenticated(bearerClaims(key), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		thread, err := s.LoadThread(r.Context(), "thr_1")
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		p, _ := store.PrincipalFrom(r.Context())
		fmt.Fprintln(w, thread.ID, p.Roles)
	}))
	get := func(who, token string) {
		r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
		r.Header.Set("Authorization", "Bearer "+token)
		h.ServeHTTP(w, r)
		fmt.Println(who, w.Code, strings.TrimSpace(w.Body.String()))
	}
	good := claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: "https://login.example", Audience: jwt.ClaimStrings{"chat"}, Subject: "ada",
			ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Minute)),
		},
		Tenant: "acme",
	}
	sign := func(key []byte, change func(*claims)) string {
		c := good
		change(&c)
		token, _ := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(key)
		return token
	}
	unsigned, _ := jwt.NewWithClaims(jwt.SigningMethodNone, good).SignedString(jwt.UnsafeAllowNoneSignatureType)

	get("ada:", sign(key, func(*claims) {}))
	get("ada, with groups:", sign(key, func(c *claims) { c.Groups = []string{"chat-admins", "kitchen"} }))
	get("eve:", sign(key, func(c *claims) { c.Subject = "eve" }))
	get("ada of another tenant:", sign(key, func(c *claims) { c.Tenant = "evil" }))
	get("no token:", "")
	get("expired:", sign(key, func(c *claims) { c.ExpiresAt = jwt.NewNumericDate(time.Now().Add(-time.Minute)) }))
	get("for another service:", sign(key, func(c *claims) { c.Audience = jwt.ClaimStrings{"mail"} }))
	get("no tenant:", sign(key, func(c *claims) { c.Tenant = "" }))
	get("another key:", sign([]byte("not the secret of the provider..."), func(*claims) {}))
	get("not signed:", unsigned)
	// Output:
	// ada: 200 thr_1 []
	// ada, with groups: 200 thr_1 [admin]
	// eve: 404 load_thread: not found: thread "thr_1"
	// ada of another tenant: 404 load_thread: not found: thread "thr_1"
	// no token: 401 unauthenticated
	// expired: 401 unauthenticated
	// for another service: 401 unauthenticated
	// no tenant: 401 unauthenticated
	// another key: 401 unauthenticated
	// not signed: 401 unauthenticated
}

// asUser returns the context of a user's calls.
func asUser(tenant, subject string, roles ...string) context.Context {
	return store.WithPrincipal(context.Background(), store.Principal{Owner: chat.Owner{Tenant: tenant, Subject: subject}, Roles: roles})
}

func accessThread(id string) chat.Thread {
	return chat.Thread{ID: id, CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
}

// share lets another subject of the caller's tenant read the caller's thread.
func share(ctx context.Context, users store.Store, grants sharing.Grants, threadID, subject string) error {
	caller, _ := store.PrincipalFrom(ctx)
	to := sharing.Grantee{Tenant: caller.Owner.Tenant, Subject: subject}
	return sharing.Share(ctx, users, grants, threadID, to, sharing.Viewer)
}

// viewOnly allows what another policy allows, except changes.
type viewOnly struct{ authz.Policy }

func (v viewOnly) Decide(ctx context.Context, r authz.Request) (authz.Decision, error) {
	if r.Action != authz.Read {
		return authz.Deny, nil
	}
	return v.Policy.Decide(ctx, r)
}

// auditTo returns a function for authz.WithAudit that logs each denial.
func auditTo(log *slog.Logger) func(context.Context, authz.Denial) {
	return func(ctx context.Context, d authz.Denial) {
		who := d.Request.Principal.Owner
		log.WarnContext(ctx, "denied", "tenant", who.Tenant, "subject", who.Subject, "op", d.Request.Op.String(),
			"kind", d.Kind, "id", d.ID, "reason", d.Reason.String(), "answer", d.Code.String())
	}
}

// Owners, shared threads, administrators and auditors use one stack, and jobs another.
func Example_accessPolicies() {
	base := sharing.New(memstore.New()) // sqlstore keeps grants itself
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	policy := authz.AnyOf(authz.OwnerOnly(), authz.Shared(base),
		authz.TenantAdmin("admin"), viewOnly{authz.TenantAdmin("auditor")})
	cached := store.Wrap(base, cache.New())
	users := store.Wrap(cached, authz.New(policy, authz.ShareBelow(), authz.WithAudit(auditTo(log))))
	jobs := cached // no authz: for code that acts for no user
	defer store.Close(users, jobs)

	_ = users.SaveThread(asUser("acme", "ada"), accessThread("thr_1"))
	try := func(who string, ctx context.Context) {
		_, err := users.LoadThread(ctx, "thr_1")
		page, listErr := users.LoadThreads(ctx, store.ThreadQuery{Owner: store.AnyOwner()})
		saveErr := users.SaveThread(store.WithSaveMode(ctx, store.UpdateOnly), accessThread("thr_1"))
		fmt.Println(who, "loads:", store.CodeOf(err), "saves:", store.CodeOf(saveErr), "lists:", len(page.Data), store.CodeOf(listErr))
	}
	ada, bob, eli := asUser("acme", "ada"), sharing.Grantee{Tenant: "acme", Subject: "bob"}, sharing.Grantee{Tenant: "acme", Subject: "eli"}
	_ = share(ada, users, base, "thr_1", "bob")
	_ = sharing.Share(ada, users, base, "thr_1", eli, sharing.Editor)
	try("owner", asUser("acme", "ada"))
	try("viewer", asUser("acme", "bob"))
	try("editor", asUser("acme", "eli"))
	try("admin", asUser("acme", "joe", "admin"))
	try("auditor", asUser("acme", "kim", "auditor"))
	try("stranger", asUser("acme", "eve"))
	try("other tenant", asUser("evil", "eve"))
	try("admin of it", asUser("evil", "zoe", "admin"))
	list, err := sharing.List(asUser("acme", "bob"), users, base, "", 20)
	fmt.Println("shared with the viewer:", len(list.Data), err)
	_ = sharing.Unshare(ada, users, base, "thr_1", bob)
	try("viewer after revocation", asUser("acme", "bob"))
	fmt.Println("editor:", users.DeleteThread(asUser("acme", "eli"), "thr_1"))

	scan := store.WithNoStore(context.Background()) // a scan must not fill the cache
	page, _ := jobs.LoadThreads(scan, store.ThreadQuery{Owner: store.AnyOwner()})
	for _, thread := range page.Data {
		fmt.Println("job:", thread.ID, "of", thread.Owner.Subject, jobs.DeleteThread(scan, thread.ID))
	}
	_, err = users.LoadThread(asUser("acme", "ada"), "thr_1")
	fmt.Println("owner:", err)
	// Output:
	// owner loads: ok saves: ok lists: 1 ok
	// viewer loads: ok saves: denied lists: 0 ok
	// editor loads: ok saves: ok lists: 0 ok
	// admin loads: ok saves: ok lists: 1 ok
	// auditor loads: ok saves: denied lists: 1 ok
	// stranger loads: not_found saves: not_found lists: 0 ok
	// other tenant loads: not_found saves: not_found lists: 0 ok
	// admin of it loads: not_found saves: not_found lists: 0 ok
	// shared with the viewer: 1 <nil>
	// viewer after revocation loads: not_found saves: not_found lists: 0 ok
	// editor: delete_thread: denied: thread "thr_1"
	// job: thr_1 of ada <nil>
	// owner: load_thread: not found: thread "thr_1"
}

// Each denial is a line of the log, and a missing row is none.
func Example_accessAudit() {
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	s := store.Wrap(memstore.New(), authz.New(authz.OwnerOnly(), authz.WithAudit(auditTo(log))))

	_ = s.SaveThread(asUser("acme", "ada"), accessThread("thr_1"))
	_, _ = s.LoadThread(asUser("acme", "eve"), "thr_1")
	_ = s.DeleteThread(asUser("acme", "eve"), "thr_1")
	_, _ = s.LoadThread(asUser("acme", "eve"), "thr_missing")
	// Output:
	// level=WARN msg=denied tenant=acme subject=eve op=load_thread kind=thread id=thr_1 reason=hidden answer=not_found
	// level=WARN msg=denied tenant=acme subject=eve op=delete_thread kind=thread id=thr_1 reason=hidden answer=ok
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// accessPage returns the text of the guide.
func accessPage(t *testing.T) string {
	t.Helper()
	return string(testenv.Value(os.ReadFile("../../docs/access.md"))(t))
}

// policyFunc is a policy made of one function. It lists nothing.
type policyFunc func(context.Context) (authz.Decision, error)

func (f policyFunc) Decide(ctx context.Context, _ authz.Request) (authz.Decision, error) {
	return f(ctx)
}
func (f policyFunc) Scope(context.Context, store.Principal, store.OwnerFilter) (store.OwnerFilter, bool, error) {
	return store.OwnerFilter{}, false, nil
}

// strayBase answers with a row that was not asked for.
type strayBase struct{ store.Store }

func (strayBase) LoadThread(context.Context, string) (chat.Thread, error) {
	return accessThread("thr_other"), nil
}
func (b strayBase) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	q.Owner = store.AnyOwner()
	return b.Store.LoadThreads(ctx, q)
}

func TestAccessFailsClosedAsThePageSays(t *testing.T) {
	base := memstore.New()
	saved := accessThread("thr_1")
	saved.Owner = chat.Owner{Tenant: "acme", Subject: "ada"}
	testenv.Must(t, base.SaveThread(t.Context(), saved))
	testenv.Must(t, base.SaveThread(t.Context(), accessThread("thr_old")))

	load := func(ctx context.Context, s store.Store, id string) error {
		_, err := s.LoadThread(ctx, id)
		return err
	}
	with := func(p authz.Policy) store.Store { return store.Wrap(base, authz.New(p)) }
	own, ada := with(authz.OwnerOnly()), asUser("acme", "ada")
	admin := with(authz.AnyOf(authz.OwnerOnly(), authz.TenantAdmin("admin")))
	failing := with(policyFunc(func(context.Context) (authz.Decision, error) { return authz.Allow, errors.New("no database") }))
	panicking := with(policyFunc(func(context.Context) (authz.Decision, error) { panic("a bug") }))
	slow := with(policyFunc(func(ctx context.Context) (authz.Decision, error) {
		ctx, cancel := context.WithTimeout(ctx, time.Microsecond)
		defer cancel()
		<-ctx.Done()
		return authz.Allow, ctx.Err()
	}))
	wrong := with(policyFunc(func(context.Context) (authz.Decision, error) { return 7, nil }))
	stray := store.Wrap(strayBase{base}, authz.New(authz.OwnerOnly()))
	_, strayList := stray.LoadThreads(ada, store.ThreadQuery{})

	for row, errs := range map[string][]error{
		"no principal, or one without a subject, or with an id of more than 256 bytes; roles don't matter | `unauthenticated`": {
			load(t.Context(), own, "thr_1"), load(asUser("acme", ""), own, "thr_1"), load(asUser("acme", "", "admin"), admin, "thr_1"),
			load(asUser("acme", strings.Repeat("a", 257)), own, "thr_1"), load(asUser(strings.Repeat("a", 257), "joe", "admin"), admin, "thr_1"),
		},
		"the policy fails, panics or reaches its own timeout | `unavailable`, and nothing is written": {
			load(ada, failing, "thr_1"), load(ada, panicking, "thr_1"), load(ada, slow, "thr_1"),
		},
		"a thread is loaded, and the policy returns anything but `Allow` | `not_found`":                                      {load(ada, wrong, "thr_1")},
		"a thread without an owner is loaded, or the administrator has no tenant (`OwnerOnly`, `TenantAdmin`) | `not_found`": {load(asUser("acme", "joe", "admin"), admin, "thr_old"), load(asUser("", "joe", "admin"), admin, "thr_1")},
		"the base answers with another row, or ignores the filter of a listing | `internal`":                                 {load(ada, stray, "thr_1"), strayList},
	} {
		err := sameCode(t, errs...)
		if !strings.Contains(row, "`"+store.CodeOf(err).String()+"`") {
			t.Errorf("%s: %v", row, err)
		}
		if !strings.Contains(accessPage(t), "| "+row+" |") {
			t.Errorf("the page lacks | %s |", row)
		}
	}

	// A write is not made if the policy fails, and the error says so.
	err := slow.DeleteThread(ada, "thr_1")
	if !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, store.ErrNotApplied) || load(ada, own, "thr_1") != nil {
		t.Errorf("a delete whose policy failed: %v", err)
	}
	testenv.Panics(t, "authz.New: the policy is nil", func() { authz.New(nil) })
	testenv.Panics(t, "cache.New: around a guard", func() { store.Wrap(base, cache.New(), authz.New(authz.OwnerOnly())) })
}

// askingBase refuses calls without a principal.
type askingBase struct{ store.Store }

func (b askingBase) LoadThread(ctx context.Context, id string) (chat.Thread, error) {
	if _, ok := store.PrincipalFrom(ctx); !ok {
		return chat.Thread{}, store.ErrUnauthenticated
	}
	return b.Store.LoadThread(ctx, id)
}

// With ShareBelow a base that looks at the principal gets none. Without it, each principal has cache entries of their own.
func TestAccessShareBelow(t *testing.T) {
	for _, test := range []struct {
		what string
		opts []authz.Option
		base func(store.Store) store.Store
		code store.Code
		want float64 // entries
	}{
		{"shared", []authz.Option{authz.ShareBelow()}, func(s store.Store) store.Store { return s }, store.CodeOK, 1},
		{"not shared", nil, func(s store.Store) store.Store { return s }, store.CodeOK, 2},
		{"shared, base asks", []authz.Option{authz.ShareBelow()}, func(s store.Store) store.Store { return askingBase{s} }, store.CodeUnauthenticated, 0},
		{"not shared, base asks", nil, func(s store.Store) store.Store { return askingBase{s} }, store.CodeOK, 2},
	} {
		base := memstore.New()
		saved := accessThread("thr_1")
		saved.Owner = chat.Owner{Tenant: "acme", Subject: "ada"}
		testenv.Must(t, base.SaveThread(t.Context(), saved))
		s := store.Wrap(test.base(base), authz.New(authz.AnyOf(authz.OwnerOnly(), authz.TenantAdmin("admin")), test.opts...), cache.New())
		for _, ctx := range []context.Context{asUser("acme", "ada"), asUser("acme", "joe", "admin")} {
			if _, err := s.LoadThread(ctx, "thr_1"); store.CodeOf(err) != test.code {
				t.Errorf("%s: %v", test.what, err)
			}
		}
		for r := range store.All[layer.StatsReporter](s) {
			for _, stat := range r.AppendStats(nil) {
				if stat.Name == "chatstore_cache_entries" && stat.Value != test.want {
					t.Errorf("%s: %v entries, want %v", test.what, stat.Value, test.want)
				}
			}
		}
		testenv.Must(t, store.Close(s))
	}
}

// A stranger gets the same answer for thr_1, which is ada's, as for thr_2, which does not exist. The exception is an insert.
func TestAccessHidesRowsAsThePageSays(t *testing.T) {
	item := testenv.Value(chat.NewItem("msg_1", accessThread("").CreatedAt, chat.EndOfTurn{}))(t)
	for row, call := range map[string]func(ctx context.Context, s store.Store, id string) error{
		"loads, and saves of items | `not_found`": func(ctx context.Context, s store.Store, id string) error {
			_, err1 := s.LoadThread(ctx, id)
			_, err2 := s.LoadItem(ctx, id, "msg_1")
			_, err3 := s.LoadAttachment(ctx, id)
			return sameCode(t, err1, err2, err3, s.AddThreadItem(ctx, id, item), s.SaveItem(ctx, id, item))
		},
		"`SaveThread` and `SaveAttachment` with `UpdateOnly` | `not_found`": func(ctx context.Context, s store.Store, id string) error {
			ctx = store.WithSaveMode(ctx, store.UpdateOnly)
			return sameCode(t, s.SaveThread(ctx, accessThread(id)), s.SaveAttachment(ctx, anAttachment(t, id)))
		},
		"`LoadThreadItems` | `ok`, an empty page; with a cursor `not_found`": func(ctx context.Context, s store.Store, id string) error {
			page, err := s.LoadThreadItems(ctx, id, store.PageQuery{})
			if len(page.Data) > 0 {
				t.Errorf("a stranger got items: %v", page)
			}
			if _, err := s.LoadThreadItems(ctx, id, store.PageQuery{After: "msg_1"}); store.CodeOf(err) != store.CodeNotFound {
				t.Errorf("a page after a cursor: %v", err)
			}
			return err
		},
		"deletes | `ok`, and nothing is deleted": func(ctx context.Context, s store.Store, id string) error {
			return sameCode(t, s.DeleteThreadItem(ctx, id, "msg_1"), s.DeleteThread(ctx, id), s.DeleteAttachment(ctx, id))
		},
		"`SaveThread` and `SaveAttachment` otherwise | `conflict`; a missing row is inserted": func(ctx context.Context, s store.Store, id string) error {
			return sameCode(t, s.SaveThread(ctx, accessThread(id)), s.SaveAttachment(ctx, anAttachment(t, id)))
		},
	} {
		base := memstore.New()
		s := store.Wrap(base, authz.New(authz.OwnerOnly()))
		ada, eve := asUser("acme", "ada"), asUser("acme", "eve")
		testenv.Must(t, s.SaveThread(ada, accessThread("thr_1")))
		testenv.Must(t, s.AddThreadItem(ada, "thr_1", item))
		testenv.Must(t, s.SaveAttachment(ada, anAttachment(t, "thr_1")))
		hidden, missing := call(eve, s, "thr_1"), call(eve, s, "thr_2")
		if !strings.Contains(row, "`"+store.CodeOf(hidden).String()+"`") {
			t.Errorf("%s: %v", row, hidden)
		}
		same := strings.ReplaceAll(fmt.Sprint(hidden), "thr_1", "thr_2") == fmt.Sprint(missing)
		if inserts := strings.HasSuffix(row, "inserted"); same == inserts {
			t.Errorf("%s: a hidden row is %v, a missing one %v", row, hidden, missing)
		}
		if !strings.Contains(accessPage(t), "| "+row+" |") {
			t.Errorf("the page lacks | %s |", row)
		}
		if _, err := s.LoadItem(ada, "thr_1", "msg_1"); err != nil {
			t.Errorf("%s: ada's item: %v", row, err)
		}
		if _, err := s.LoadAttachment(ada, "thr_1"); err != nil {
			t.Errorf("%s: ada's attachment: %v", row, err)
		}
	}
}

func anAttachment(t *testing.T, id string) chat.Attachment {
	t.Helper()
	return testenv.Value(chat.ParseAttachment([]byte(`{"type":"file","id":"` + id + `","name":"a.txt","mime_type":"text/plain"}`)))(t)
}

// sameCode returns the first error, if all have its code.
func sameCode(t *testing.T, errs ...error) error {
	t.Helper()
	for _, err := range errs {
		if store.CodeOf(err) != store.CodeOf(errs[0]) {
			t.Errorf("%v has another code than %v", err, errs[0])
		}
	}
	return errs[0]
}

// A listing never has more than the caller's own, or their tenant's.
func TestAccessListings(t *testing.T) {
	s := store.Wrap(memstore.New(), authz.New(authz.AnyOf(authz.OwnerOnly(), authz.TenantAdmin("admin"))))
	for id, ctx := range map[string]context.Context{"thr_a": asUser("acme", "ada"), "thr_b": asUser("acme", "bob"), "thr_e": asUser("evil", "ada")} {
		testenv.Must(t, s.SaveThread(ctx, accessThread(id)))
	}
	for _, test := range []struct {
		what string
		ctx  context.Context
		f    store.OwnerFilter
		want int
	}{
		{"a user's zero filter", asUser("acme", "ada"), store.OwnerFilter{}, 1},
		{"a user's AnyOwner", asUser("acme", "ada"), store.AnyOwner(), 1},
		{"a user's InTenant", asUser("acme", "ada"), store.InTenant("acme"), 1},
		{"a user's OwnedBy of another", asUser("acme", "ada"), store.OwnedBy(chat.Owner{Tenant: "acme", Subject: "bob"}), 0},
		{"an administrator's zero filter", asUser("acme", "joe", "admin"), store.OwnerFilter{}, 0},
		{"an administrator's AnyOwner", asUser("acme", "joe", "admin"), store.AnyOwner(), 2},
		{"an administrator's InTenant of another", asUser("acme", "joe", "admin"), store.InTenant("evil"), 0},
	} {
		page, err := s.LoadThreads(test.ctx, store.ThreadQuery{Owner: test.f})
		if err != nil || len(page.Data) != test.want {
			t.Errorf("%s: %d threads, %v; want %d", test.what, len(page.Data), err, test.want)
		}
	}

	// An id is taken for all tenants, also after its deletion.
	err := s.SaveThread(asUser("evil", "eve"), accessThread("thr_a"))
	if !errors.Is(err, store.ErrConflict) {
		t.Errorf("an id of another tenant: %v", err)
	}
	testenv.Must(t, s.DeleteThread(asUser("acme", "ada"), "thr_a"))
	if err := s.SaveThread(asUser("evil", "eve"), accessThread("thr_a")); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a deleted id of another tenant: %v", err)
	}
	testenv.Must(t, s.SaveThread(asUser("acme", "ada"), accessThread("thr_a")))
}

// A grant shows the thread and its attachments, and ends with the thread.
func TestAccessShared(t *testing.T) {
	base := sharing.New(memstore.New())
	s := store.Wrap(base, authz.New(authz.AnyOf(authz.OwnerOnly(), authz.Shared(base))))
	ada, bob := asUser("acme", "ada"), asUser("acme", "bob")
	testenv.Must(t, s.SaveThread(ada, accessThread("thr_1")))
	testenv.Must(t, sharing.Share(ada, s, base, "thr_1", sharing.Grantee{Tenant: "acme", Subject: "bob"}, sharing.Viewer))
	inThread, private := anAttachment(t, "atc_1"), anAttachment(t, "atc_2")
	inThread.ThreadID = "thr_1"
	testenv.Must(t, s.SaveAttachment(ada, inThread))
	testenv.Must(t, s.SaveAttachment(ada, private))
	if _, err := s.LoadAttachment(bob, "atc_1"); err != nil {
		t.Errorf("an attachment of the shared thread: %v", err)
	}
	if _, err := s.LoadAttachment(bob, "atc_2"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("another attachment of the owner: %v", err)
	}
	testenv.Must(t, s.DeleteThread(ada, "thr_1"))
	testenv.Must(t, s.SaveThread(ada, accessThread("thr_1")))
	_, threadErr := s.LoadThread(bob, "thr_1")
	_, attachmentErr := s.LoadAttachment(bob, "atc_1")
	if !errors.Is(threadErr, store.ErrNotFound) || !errors.Is(attachmentErr, store.ErrNotFound) {
		t.Errorf("after the thread was deleted and made again: %v, %v", threadErr, attachmentErr)
	}
}

// Work that goes on after the request keeps the user's principal.
func TestAccessAfterTheRequest(t *testing.T) {
	s := store.Wrap(memstore.New(), authz.New(authz.OwnerOnly()))
	ctx, cancel := context.WithCancel(asUser("acme", "ada"))
	cancel()
	if err := s.SaveThread(ctx, accessThread("thr_1")); !errors.Is(err, context.Canceled) {
		t.Errorf("a call of a cancelled request: %v", err)
	}
	testenv.Must(t, s.SaveThread(context.WithoutCancel(ctx), accessThread("thr_1")))
}

// The statements of the page give rows without an owner to a user.
func TestAccessOldRows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "chat.db")
	base := testenv.Value(sqlstore.OpenSQLite(t.Context(), path))(t)
	testenv.Must(t, base.SaveThread(t.Context(), accessThread("thr_1")))
	testenv.Must(t, base.SaveAttachment(t.Context(), anAttachment(t, "atc_1")))
	ada := asUser("acme", "ada")
	owned := accessThread("thr_1")
	owned.Owner = chat.Owner{Tenant: "acme", Subject: "ada"}
	if err := base.SaveThread(t.Context(), owned); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a save that gives a row an owner: %v", err)
	}
	s := store.Wrap(base, authz.New(authz.OwnerOnly()))
	operator := store.Wrap(base, authz.New(authz.HasRole("operator")))
	if _, err := operator.LoadThread(asUser("acme", "joe", "operator"), "thr_1"); err != nil {
		t.Errorf("an operator, before: %v", err)
	}
	if _, err := s.LoadThread(ada, "thr_1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a thread without an owner: %v", err)
	}

	statements := regexp.MustCompile("(?s)```sql\n(.*?)```").FindStringSubmatch(accessPage(t))
	if statements == nil {
		t.Fatal("the page has no SQL")
	}
	db := testenv.Value(sql.Open("sqlite", path))(t)
	if _, err := db.ExecContext(t.Context(), statements[1]); err != nil {
		t.Fatal(err)
	}
	testenv.Must(t, db.Close())
	if thread, err := s.LoadThread(ada, "thr_1"); err != nil || thread.Owner != owned.Owner {
		t.Errorf("afterwards: %v, %v", thread.Owner, err)
	}
	if _, err := s.LoadAttachment(ada, "atc_1"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	testenv.Must(t, store.Close(s))
}
