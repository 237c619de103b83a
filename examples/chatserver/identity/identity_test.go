package identity_test

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/examples/chatserver/identity"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/store"
)

var key = bytes.Repeat([]byte("k"), 32)

func newIssuer(t *testing.T, key []byte) *identity.Issuer {
	t.Helper()
	return testenv.Value(identity.New(key, false))(t)
}

func bearer(token string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/chatkit", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

func session(token string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/chatkit", nil)
	r.AddCookie(&http.Cookie{Name: "chatserver", Value: token})
	return r
}

func sessionToken(t *testing.T, i *identity.Issuer) string {
	t.Helper()
	w := httptest.NewRecorder()
	testenv.Must(t, i.SignIn(w, "ada"))
	c := w.Result().Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode {
		t.Errorf("scripts can read the cookie, or other sites can send it: %+v", c)
	}
	return c.Value
}

func signed(t *testing.T, method jwt.SigningMethod, key any, claims jwt.Claims) string {
	t.Helper()
	return testenv.Value(jwt.NewWithClaims(method, claims).SignedString(key))(t)
}

func TestOnlyWhatWasSignedHereSaysWhoItIs(t *testing.T) {
	i := newIssuer(t, key)
	token := testenv.Value(i.Token("ada", time.Hour))(t)
	old := testenv.Value(i.Token("ada", -time.Second))(t)
	strange := testenv.Value(newIssuer(t, bytes.Repeat([]byte("x"), 32)).Token("ada", time.Hour))(t)
	later := jwt.NewNumericDate(time.Now().Add(time.Hour))
	claims := jwt.RegisteredClaims{Subject: "ada", Audience: jwt.ClaimStrings{"chatserver bearer"}, ExpiresAt: later}
	endless, nobody := claims, claims
	endless.ExpiresAt, nobody.Subject = nil, ""
	if user, err := i.User(bearer(signed(t, jwt.SigningMethodHS256, key, claims))); user != "ada" || err != nil {
		t.Fatalf("the valid token: %q, %v", user, err)
	}
	bare := httptest.NewRequest(http.MethodPost, "/chatkit", nil)
	for _, h := range []string{"X-User-Id", "X-Forwarded-User", "From", "Cookie"} {
		bare.Header.Set(h, "ada")
	}
	basic := bearer("")
	basic.SetBasicAuth("ada", "ada")
	both := session(sessionToken(t, i))
	both.Header.Set("Authorization", "Bearer nonsense")

	for name, test := range map[string]struct {
		r    *http.Request
		user string
	}{
		"a bearer token":                        {bearer(token), "ada"},
		"a session":                             {session(sessionToken(t, i)), "ada"},
		"a session used as a bearer token":      {bearer(sessionToken(t, i)), ""},
		"a bearer token used as a session":      {session(token), ""},
		"past its time":                         {bearer(old), ""},
		"another key's":                         {bearer(strange), ""},
		"changed":                               {bearer(token[:len(token)-4] + "AAAA"), ""},
		"signed by nobody":                      {bearer(signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims)), ""},
		"of another method":                     {bearer(signed(t, jwt.SigningMethodHS512, key, claims)), ""},
		"without an end":                        {bearer(signed(t, jwt.SigningMethodHS256, key, endless)), ""},
		"of nobody":                             {bearer(signed(t, jwt.SigningMethodHS256, key, nobody)), ""},
		"nothing":                               {bearer(""), ""},
		"headers that anybody can set":          {bare, ""},
		"a password":                            {basic, ""},
		"a wrong bearer beside a right session": {both, ""},
	} {
		user, err := i.User(test.r)
		if user != test.user {
			t.Errorf("%s: user %q, want %q", name, user, test.user)
		}
		if test.user == "" && !errors.Is(err, store.ErrUnauthenticated) {
			t.Errorf("%s: %v, want ErrUnauthenticated", name, err)
		}
	}
}

func TestRequirePutsThePrincipalIntoTheContext(t *testing.T) {
	i := newIssuer(t, key)
	token, _ := i.Token("ada", time.Hour)
	var got store.Principal
	refused := 0
	h := i.Require(func(http.ResponseWriter, error) { refused++ },
		http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got, _ = store.PrincipalFrom(r.Context()) }))
	h.ServeHTTP(httptest.NewRecorder(), bearer(token))
	if want := (chat.Owner{Tenant: identity.Tenant, Subject: "ada"}); got.Owner != want || refused != 0 {
		t.Errorf("%+v, %d refused", got, refused)
	}
	got = store.Principal{}
	h.ServeHTTP(httptest.NewRecorder(), bearer("nonsense"))
	if got.Owner != (chat.Owner{}) || refused != 1 {
		t.Errorf("%+v passed, %d refused", got, refused)
	}
}

func TestASignedOutClientHasNoSession(t *testing.T) {
	w := httptest.NewRecorder()
	newIssuer(t, key).SignOut(w)
	if c := w.Result().Cookies()[0]; c.MaxAge >= 0 || c.Value != "" {
		t.Errorf("%+v", c)
	}
}

func TestTheKeyIsMadeOnceAndForItsOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	keys := make([][]byte, 8)
	var wg sync.WaitGroup
	for n := range keys {
		wg.Go(func() {
			var err error
			if keys[n], err = identity.KeyFile(path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		if len(k) != 32 || !bytes.Equal(k, keys[0]) {
			t.Fatalf("keys differ: %d bytes", len(k))
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if rest, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".key-*")); len(rest) > 0 {
		t.Errorf("left behind: %v", rest)
	}
}

func TestBadKeysAndNamesAreRefused(t *testing.T) {
	if _, err := identity.New(key[:31], false); err == nil {
		t.Error("a short key was accepted")
	}
	for _, user := range []string{"", strings.Repeat("a", 257)} {
		if _, err := newIssuer(t, key).Token(user, time.Hour); err == nil {
			t.Errorf("a name of %d bytes was accepted", len(user))
		}
	}
}
