package docs

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/bus/pubsub"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/store"
)

// TestPagesHaveTheRightNumbers compares numbers on pages with the code's constants.
func TestPagesHaveTheRightNumbers(t *testing.T) {
	methods := reflect.TypeFor[store.Store]().NumMethod()
	words := map[int]string{12: "twelve", 14: "fourteen"}
	for page, facts := range map[string][]string{
		"../README.md": {
			fmt.Sprintf("%d MiB for %d,000 entries", cache.DefaultMaxBytes>>20, cache.DefaultMaxEntries/1000),
			fmt.Sprintf("within %.0f minutes (the TTL)", cache.DefaultTTL.Minutes()),
			fmt.Sprintf("%s methods, %s if you embed", words[methods], words[methods-reflect.TypeFor[store.DefaultIDs]().NumMethod()]),
		},
		"operate.md": {
			fmt.Sprintf("the lease: %.0f s, or `pubsub.WithLease`", pubsub.DefaultLease.Seconds()),
			fmt.Sprintf("Ids have at most %d bytes, a page at most %d,000 rows", chat.MaxIDBytes, store.MaxLimit/1000),
		},
		"architecture.md": {
			fmt.Sprintf("1 to %d bytes of valid UTF-8", chat.MaxIDBytes),
			fmt.Sprintf("0 means %d. Above %d,000 means", store.DefaultLimit, store.MaxLimit/1000),
			fmt.Sprintf("`store.Store` has %s methods", words[methods]),
		},
	} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, fact := range facts {
			if !strings.Contains(string(text), fact) {
				t.Errorf("%s lacks %q", page, fact)
			}
		}
	}
}
