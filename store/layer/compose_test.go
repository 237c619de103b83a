package layer_test

import (
	"testing"

	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

func TestALayerOfNothingIsRefused(t *testing.T) {
	for want, f := range map[string]func(){
		"layer.Observe: the Observer is nil":      func() { layer.Observe("o", nil) },
		"layer.Intercept: the Interceptor is nil": func() { layer.Intercept("i", nil) },
	} {
		testenv.Panics(t, want, f)
	}
}

// ring is an ordinary layer, wall a guard.
type ring struct {
	store.Store
	shared bool
}

func (r *ring) Unwrap() store.Store     { return r.Store }
func (r *ring) ShareBetweenPrincipals() { r.shared = true }

type wall struct {
	store.Store
	store.Barrier
}

func walled(next store.Store) store.Store { return &wall{next, store.NewBarrier(next)} }

func TestShareStopsAtTheNextBarrier(t *testing.T) {
	inside := &ring{Store: &spy.Base{}}
	between := &ring{Store: walled(inside)}
	outside := &ring{Store: between}
	layer.Share(outside)
	if !outside.shared || !between.shared || inside.shared {
		t.Errorf("outside %v, between %v, inside another guard %v", outside.shared, between.shared, inside.shared)
	}
}

func TestGuarded(t *testing.T) {
	for name, c := range map[string]struct {
		s    store.Store
		want bool
	}{
		"a base":          {&spy.Base{}, false},
		"a layer":         {&ring{Store: &spy.Base{}}, false},
		"a guard":         {walled(&spy.Base{}), true},
		"a layer's guard": {&ring{Store: walled(&spy.Base{})}, true},
		"a guard's layer": {walled(&ring{Store: &spy.Base{}}), true},
	} {
		if got := layer.Guarded(c.s); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
