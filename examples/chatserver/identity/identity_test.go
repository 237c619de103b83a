package identity_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
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
	for _, user := range []string{"", strings.Repeat("a", 257), "a\xff", "a\xed\xa0\xbd", "a\ufffd", "a\n", "\x00", "a\u0085"} {
		if _, err := newIssuer(t, key).Token(user, time.Hour); err == nil {
			t.Errorf("the name %q was accepted", user)
		}
	}
}

// Package json reads each of these subjects as the same text. Another issuer with the same key may have signed them.
func TestSubjectsThatAreNotUTF8AreNoUser(t *testing.T) {
	head := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`))
	for subject, ok := range map[string]bool{
		"ada": true, `ad\u00e1`: true, `\ud83d\ude00`: true,
		"a\xff": false, "a\xfe": false, `a\ud83d`: false, `a\ude00`: false, "a\ufffd": false, `a\ufffd`: false, strings.Repeat("a", 257): false,
	} {
		claims := fmt.Sprintf(`{"sub":"%s","aud":["chatserver bearer"],"exp":%d}`, subject, time.Now().Add(time.Hour).Unix())
		token := head + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(token))
		token += "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
		if user, err := newIssuer(t, key).User(bearer(token)); (err == nil) != ok || !ok && !errors.Is(err, store.ErrUnauthenticated) {
			t.Errorf("%q is %q, %v", subject, user, err)
		}
	}
}

// A cookie that a network can read is no secret. One that needs https is lost over http.
func TestCookiesAreSecureIfTheServerIs(t *testing.T) {
	for _, test := range []struct {
		secure bool
		opts   []identity.Option
		site   http.SameSite
	}{
		{false, nil, http.SameSiteStrictMode},
		{true, nil, http.SameSiteStrictMode},
		{false, []identity.Option{identity.WithCrossSite()}, http.SameSiteStrictMode},
		{true, []identity.Option{identity.WithCrossSite()}, http.SameSiteNoneMode},
	} {
		i := testenv.Value(identity.New(key, test.secure, test.opts...))(t)
		w := httptest.NewRecorder()
		testenv.Must(t, i.SignIn(w, "ada"))
		i.SignOut(w)
		for _, c := range w.Result().Cookies() {
			if c.Name != map[bool]string{false: "chatserver", true: "__Host-chatserver"}[test.secure] || c.Path != "/" || c.Domain != "" {
				t.Errorf("%+v: another host of the domain can set the cookie %v", test, c)
			}
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.AddCookie(c)
			if user, err := i.User(r); c.Value != "" && user != "ada" {
				t.Errorf("%+v: %q, %v", test, user, err)
			}
			if c.Secure != test.secure || c.SameSite != test.site || !c.HttpOnly {
				t.Errorf("%+v: %v", test, c)
			}
		}
	}
}

// The folder of a key may be read-only, as the secrets of containers are.
func TestAnExistingKeyNeedsNoNewFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	testenv.Must(t, os.WriteFile(path, key, 0o400))
	before := testenv.Value(os.Stat(dir))(t).ModTime()
	if got, err := identity.KeyFile(path); err != nil || !bytes.Equal(got, key) {
		t.Errorf("%q, %v", got, err)
	}
	if after := testenv.Value(os.Stat(dir))(t).ModTime(); after != before {
		t.Error("a file was made beside the key")
	}
}
