package encrypt_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/encrypt"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// The base never sees the title. The keyset is new here; a service reads its own with keyset.Read.
func Example() {
	handle, err := keyset.NewHandle(aead.XChaCha20Poly1305KeyTemplate())
	if err != nil {
		log.Fatal(err)
	}
	key, err := aead.New(handle)
	if err != nil {
		log.Fatal(err)
	}
	base := memstore.New() // or sqlstore, or a store of your own
	s := store.Wrap(base, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New(), encrypt.New(key))
	defer store.Close(s)

	ada := chat.Owner{Tenant: "acme", Subject: "ada"}
	ctx := store.WithPrincipal(context.Background(), store.Principal{Owner: ada})
	if err := s.SaveThread(ctx, chat.Thread{ID: "thr_1", Title: "My salary", CreatedAt: time.Now(), Owner: ada}); err != nil {
		log.Fatal(err)
	}
	opened, err := s.LoadThread(ctx, "thr_1")
	if err != nil {
		log.Fatal(err)
	}
	stored, err := base.LoadThread(ctx, "thr_1")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("opened %q, stored %q\n", opened.Title, stored.Title)
	// Output: opened "My salary", stored ""
}

// A new key has been added to every process as a secondary key, then made the primary one, and LongestWrite has passed.
func ExampleReencrypt() {
	ctx := context.Background()
	keys := keyset.NewManager()
	old, err := keys.Add(aead.XChaCha20Poly1305KeyTemplate())
	if err != nil {
		log.Fatal(err)
	}
	if err := keys.SetPrimary(old); err != nil {
		log.Fatal(err)
	}
	base := memstore.New()
	s := store.Wrap(base, encrypt.New(aeadOf(keys)))
	if err := s.SaveThread(ctx, chat.Thread{ID: "thr_1", CreatedAt: time.Now()}); err != nil {
		log.Fatal(err)
	}

	primary, err := keys.Add(aead.XChaCha20Poly1305KeyTemplate())
	if err != nil {
		log.Fatal(err)
	}
	if err := keys.SetPrimary(primary); err != nil {
		log.Fatal(err)
	}
	walk, err := encrypt.Reencrypt(ctx, base, aeadOf(keys), encrypt.WithPrimary(primary))
	if err != nil {
		log.Fatal(err)
	}
	if err := keys.Disable(old); err != nil {
		log.Fatal(err)
	}
	verify, err := encrypt.Reencrypt(ctx, base, aeadOf(keys), encrypt.WithPrimary(primary))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("walk: %d of %d saved\nverify: %d of %d saved\n", walk.Saved, walk.Opened, verify.Saved, verify.Opened)
	// Output:
	// walk: 1 of 1 saved
	// verify: 0 of 1 saved
}

func aeadOf(keys *keyset.Manager) tink.AEAD {
	handle, err := keys.Handle()
	if err != nil {
		log.Fatal(err)
	}
	key, err := aead.New(handle)
	if err != nil {
		log.Fatal(err)
	}
	return key
}
