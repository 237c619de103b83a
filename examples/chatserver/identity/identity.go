// Package identity says who makes a request: by a session cookie, which a page gets when somebody signs in, or by a bearer
// token, which a program is given. Both are signed (JSON Web Tokens, HMAC-SHA256), so a header that anybody can set says
// nothing; neither can take the other's place.
//
// It is for a demonstration and for tools of one's own: a site with real users puts its identity provider in this place.
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

	"github.com/golang-jwt/jwt/v5"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// Issuer signs and checks. It is safe for concurrent use.
type Issuer struct {
	key    []byte
	secure bool
	parser *jwt.Parser
}

// The audiences: what a token is good for.
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

// New returns an Issuer with a secret of at least 32 bytes. secure: cookies are for https alone.
func New(key []byte, secure bool) (*Issuer, error) {
	if len(key) < keyBytes {
		return nil, fmt.Errorf("identity: a key of %d bytes: it takes at least %d", len(key), keyBytes)
	}
	// Without the list of methods a token could choose its own, "none" among them.
	parser := jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithExpirationRequired())
	return &Issuer{key, secure, parser}, nil
}

// KeyFile returns the key kept in a file, which is made, for its owner alone to read, where there is none.
func KeyFile(path string) ([]byte, error) {
	key := make([]byte, keyBytes)
	_, _ = rand.Read(key) // never fails
	// Whole or not at all, and never over another's: two programs may start at once.
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

// Token returns a bearer token for a user, good for this long.
func (i *Issuer) Token(user string, life time.Duration) (string, error) {
	return i.sign(user, forBearer, life)
}

func (i *Issuer) sign(user, audience string, life time.Duration) (string, error) {
	if user == "" || len(user) > maxSubject {
		return "", fmt.Errorf("identity: a user's name has 1 to %d bytes", maxSubject)
	}
	now := time.Now()
	return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
		Subject:   user,
		Audience:  jwt.ClaimStrings{audience},
		IssuedAt:  jwt.NewNumericDate(now),
		ExpiresAt: jwt.NewNumericDate(now.Add(life)),
	}).SignedString(i.key)
}

// SignIn gives the client a session.
func (i *Issuer) SignIn(w http.ResponseWriter, user string) error {
	token, err := i.sign(user, forSession, sessionLife)
	if err != nil {
		return err
	}
	http.SetCookie(w, i.cookie(token, cookieMaxAge))
	return nil
}

// SignOut takes the session from the client.
func (i *Issuer) SignOut(w http.ResponseWriter) { http.SetCookie(w, i.cookie("", -1)) }

func (i *Issuer) cookie(value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: cookieName, Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: i.secure, SameSite: http.SameSiteStrictMode,
	}
}

// User returns who makes the request, or [store.ErrUnauthenticated]. A bearer token, where there is one, counts alone.
func (i *Issuer) User(r *http.Request) (string, error) {
	if h := r.Header.Get("Authorization"); h != "" {
		scheme, token, _ := strings.Cut(h, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return "", store.ErrUnauthenticated
		}
		return i.check(strings.TrimSpace(token), forBearer)
	}
	c, err := r.Cookie(cookieName)
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
	if err == nil && claims.Subject == "" {
		err = jwt.ErrTokenInvalidSubject
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", store.ErrUnauthenticated, err)
	}
	return claims.Subject, nil
}

// Require lets a request pass with the [store.Principal] of who makes it in its context, and has refuse answer any other.
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

// Tenant is that of all users.
const Tenant = "demo"
