// Package identity authenticates requests. A page has a session cookie, which it gets when a user signs in. A program has a
// bearer token. Both are signed JSON Web Tokens (HMAC-SHA256), and one cannot be used as the other.
//
// The package is for demonstrations and internal tools. A site with real users should use an identity provider instead.
package identity

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// Issuer signs and checks tokens. It is safe for concurrent use.
type Issuer struct {
	key    []byte
	secure bool
	site   http.SameSite
	parser *jwt.Parser
}

// A token is valid for one audience.
const (
	forSession = "chatserver session"
	forBearer  = "chatserver bearer"
)

const (
	cookieName   = "chatserver"
	sessionLife  = 12 * time.Hour
	keyBytes     = 32
	maxSubject   = chat.MaxIDBytes
	cookieMaxAge = int(sessionLife / time.Second)
)

// Option configures an [Issuer].
type Option func(*Issuer)

// WithCrossSite lets pages of other sites send the session cookie (SameSite=None). The caller must refuse the requests of
// pages that it does not trust. It has no effect unless cookies are for https only, because browsers refuse such cookies
// otherwise.
func WithCrossSite() Option {
	return func(i *Issuer) {
		if i.secure {
			i.site = http.SameSiteNoneMode
		}
	}
}

// New returns an Issuer with a secret of at least 32 bytes. If secure, its cookies are for https only. By default, only
// pages of the same site can send them (SameSite=Strict).
func New(key []byte, secure bool, opts ...Option) (*Issuer, error) {
	if len(key) < keyBytes {
		return nil, fmt.Errorf("identity: the key has %d bytes, want at least %d", len(key), keyBytes)
	}
	// Without this list a token could choose its own method, even "none".
	parser := jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithExpirationRequired())
	i := &Issuer{key, secure, http.SameSiteStrictMode, parser}
	for _, o := range opts {
		o(i)
	}
	return i, nil
}

// KeyFile returns the key in a file. If the file is missing, it creates one with a random key that only its owner can read.
func KeyFile(path string) ([]byte, error) {
	if key, err := os.ReadFile(path); !errors.Is(err, fs.ErrNotExist) {
		return key, err // the folder may be read-only
	}
	key := make([]byte, keyBytes)
	_, _ = rand.Read(key) // never fails
	// The link makes the file appear whole and never replaces an existing one, because two programs may start at once.
	fresh, err := os.CreateTemp(filepath.Dir(path), ".key-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(fresh.Name())
	_, err = fresh.Write(key)
	if err := errors.Join(err, fresh.Sync(), fresh.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(fresh.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.ReadFile(path)
}

// Token returns a bearer token for a user. It expires after life.
func (i *Issuer) Token(user string, life time.Duration) (string, error) {
	return i.sign(user, forBearer, life)
}

func (i *Issuer) sign(user, audience string, life time.Duration) (string, error) {
	if !Valid(user) {
		return "", fmt.Errorf("identity: a user's name must have 1 to %d bytes of valid UTF-8 without control characters", maxSubject)
	}
	now := time.Now()
	return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
		Subject:   user,
		Audience:  jwt.ClaimStrings{audience},
		IssuedAt:  jwt.NewNumericDate(now),
		ExpiresAt: jwt.NewNumericDate(now.Add(life)),
	}).SignedString(i.key)
}

// Valid reports whether a text can be a user's name: 1 to 256 bytes of UTF-8, without control characters. Package json replaces what is not UTF-8, and half of a surrogate pair, by
// U+FFFD. So different users could get one name: no name has this character.
func Valid(user string) bool {
	return user != "" && len(user) <= maxSubject && utf8.ValidString(user) && !strings.ContainsRune(user, utf8.RuneError) &&
		!strings.ContainsFunc(user, unicode.IsControl)
}

// SignIn gives the client a session cookie.
func (i *Issuer) SignIn(w http.ResponseWriter, user string) error {
	token, err := i.sign(user, forSession, sessionLife)
	if err != nil {
		return err
	}
	http.SetCookie(w, i.cookie(token, cookieMaxAge))
	return nil
}

// SignOut deletes the client's session cookie.
func (i *Issuer) SignOut(w http.ResponseWriter) { http.SetCookie(w, i.cookie("", -1)) }

func (i *Issuer) cookie(value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: i.cookieName(), Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: i.secure, SameSite: i.site,
	}
}

// cookieName returns the cookie's name. Browsers take a cookie with the prefix from this host alone. Otherwise another host of its
// domain could choose the user.
func (i *Issuer) cookieName() string {
	if i.secure {
		return "__Host-" + cookieName
	}
	return cookieName
}

// User returns the user of a request, or [store.ErrUnauthenticated]. If there is an Authorization header, the cookie is
// ignored.
func (i *Issuer) User(r *http.Request) (string, error) {
	if h := r.Header.Get("Authorization"); h != "" {
		scheme, token, _ := strings.Cut(h, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return "", store.ErrUnauthenticated
		}
		return i.check(strings.TrimSpace(token), forBearer)
	}
	c, err := r.Cookie(i.cookieName())
	if err != nil {
		return "", store.ErrUnauthenticated
	}
	return i.check(c.Value, forSession)
}

func (i *Issuer) check(token, audience string) (string, error) {
	var claims jwt.RegisteredClaims
	_, err := i.parser.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return i.key, nil })
	if err == nil && (len(claims.Audience) != 1 || claims.Audience[0] != audience) {
		err = jwt.ErrTokenInvalidAudience
	}
	if err == nil && !Valid(claims.Subject) {
		err = jwt.ErrTokenInvalidSubject
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", store.ErrUnauthenticated, err)
	}
	return claims.Subject, nil
}

// Require calls next for an authenticated request, with the user's [store.Principal] in the context. For any other request
// it calls refuse.
func (i *Issuer) Require(refuse func(http.ResponseWriter, error), next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, err := i.User(r)
		if err != nil {
			refuse(w, err)
			return
		}
		p := store.Principal{Owner: chat.Owner{Tenant: Tenant, Subject: user}}
		next.ServeHTTP(w, r.WithContext(store.WithPrincipal(r.Context(), p)))
	})
}

// Tenant is the tenant of all users.
const Tenant = "demo"
