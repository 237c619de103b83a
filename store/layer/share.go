package layer

import "github.com/chatstore/chatstore/store"

// Sharer is implemented by a layer that keeps principals apart, such as a cache.
type Sharer interface {
	// ShareBetweenPrincipals makes the layer share its entries between all principals. A layer above calls it before the first
	// call; that layer decides who may see a row.
	ShareBetweenPrincipals()
}

// Share calls every [Sharer] in s, down to the first [store.Barrier]. A guard decides for itself about the layers inside it.
func Share(s store.Store) {
	for sh := range store.All[Sharer](s) {
		sh.ShareBetweenPrincipals()
	}
}

// Guarded reports whether s has a [store.Barrier].
func Guarded(s store.Store) bool {
	seen := 0
	for range store.All[store.Store](s) {
		seen++
	}
	return seen < len(store.Layers(s))
}
