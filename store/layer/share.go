package layer

import "github.com/chatstore/chatstore/store"

// Sharer is implemented by layers that keep principals apart.
type Sharer interface {
	// ShareBetweenPrincipals says, before the first call, that every caller may get what the layer holds: a layer above decides
	// who may see it.
	ShareBetweenPrincipals()
}

// Share asks every [Sharer] in s to share between principals, down to the first [store.Barrier]: what lies within another
// guard is that guard's to decide.
func Share(s store.Store) {
	for sh := range store.All[Sharer](s) {
		sh.ShareBetweenPrincipals()
	}
}

// Guarded reports whether a layer of s is a [store.Barrier].
func Guarded(s store.Store) bool {
	seen := 0
	for range store.All[store.Store](s) {
		seen++
	}
	return seen < len(store.Layers(s))
}
