package identity_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/chatstore/chatstore/examples/chatserver/identity"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/store"
)

// A token is refused unless it was signed here. An accepted token may differ from the signed one in its encoding, but not in
// its content.
func FuzzToken(f *testing.F) {
	issuer := testenv.Value(identity.New(key, false))(f)
	good := testenv.Value(issuer.Token("ada", 1_000_000*time.Hour))(f)
	unsigned := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.RegisteredClaims{Subject: "ada"})
	none := testenv.Value(unsigned.SignedString(jwt.UnsafeAllowNoneSignatureType))(f)
	head, rest, _ := strings.Cut(good, ".")
	claims, signature, _ := strings.Cut(rest, ".")
	for _, token := range []string{good, none, "", "..", head + "..", head + "." + claims + ".", head + "." + claims + "." + signature[1:],
		good + "=", good + " ", " " + good, good + "." + good, strings.ToUpper(good), "e30." + claims + "." + signature, head + ".e30." + signature} {
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		user, err := issuer.User(bearer(token))
		if (err == nil) != (user != "") || err != nil && !errors.Is(err, store.ErrUnauthenticated) {
			t.Fatalf("%q: %q, %v", token, user, err)
		}
		// Each process of a fuzz run has another good token, because it contains its time. So look at the signature.
		if err == nil && (user != "ada" || !signedByKey(token)) {
			t.Fatalf("%q is %q", token, user)
		}
		if user, err := issuer.User(session(token)); err == nil {
			t.Fatalf("as a session, %q is %q", token, user)
		}
	})
}

// signedByKey reports whether a token's last part is the HMAC of the rest. HTTP itself removes spaces around a header's
// value.
func signedByKey(token string) bool {
	token = strings.TrimSpace(token)
	dot := strings.LastIndexByte(token, '.')
	signature, err := base64.RawURLEncoding.DecodeString(token[dot+1:])
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(token[:dot]))
	return err == nil && hmac.Equal(signature, mac.Sum(nil))
}
