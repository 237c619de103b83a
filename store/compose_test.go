package store_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
)

// ring is a layer with every capability. It passes all calls to the embedded Store.
type ring struct {
	inner
	name string
	log  *[]string
	err  error
}

type inner = store.Store

func (r *ring) Unwrap() store.Store { return r.inner }
func (r *ring) LayerName() string   { return r.name }
func (r *ring) Close() error        { *r.log = append(*r.log, r.name); return r.err }
func (r *ring) AppendStats(dst []layer.Stat) []layer.Stat {
	return append(dst, layer.Stat{Name: r.name})
}
func (r *ring) CheckHealth(context.Context) error { return errors.New(r.name) }

// wall is a guard.
type wall struct {
	inner
	store.Barrier
}

func (*wall) LayerName() string { return "wall" }

var must = testenv.Must

func rung(name string, log *[]string) store.Middleware {
	return func(next store.Store) store.Store { return &ring{inner: next, name: name, log: log} }
}

func walled() store.Middleware {
	return func(next store.Store) store.Store { return &wall{next, store.NewBarrier(next)} }
}

func TestWrapPutsTheFirstOutermost(t *testing.T) {
	var log []string
	s := store.Wrap(&spy.Base{}, rung("a", &log), rung("b", &log), walled(), rung("c", &log))
	if got := store.Layers(s); !slices.Equal(got, []string{"a", "b", "wall", "c", "*spy.Base"}) {
		t.Errorf("Layers: %v", got)
	}
	if base := (&spy.Base{}); store.Wrap(base) != store.Store(base) {
		t.Error("Wrap without layers did not return the base")
	}
}

func TestWrapRefusesNil(t *testing.T) {
	for want, f := range map[string]func(){
		"base is nil":          func() { store.Wrap(nil) },
		"layer 1 is nil":       func() { store.Wrap(&spy.Base{}, walled(), nil) },
		"returned a nil Store": func() { store.Wrap(&spy.Base{}, func(store.Store) store.Store { return nil }) },
	} {
		func() {
			defer func() {
				if r := fmt.Sprint(recover()); !strings.Contains(r, want) {
					t.Errorf("panicked with %q, want %q", r, want)
				}
			}()
			f()
		}()
	}
}

type secret interface{ Secret() string }

type vault struct{ *spy.Base }

func (vault) Secret() string              { return "combination" }
func (vault) LongestWrite() time.Duration { return time.Hour }

func TestAsFindsCapabilitiesFromOutsideIn(t *testing.T) {
	var log []string
	s := store.Wrap(vault{&spy.Base{}}, rung("a", &log), rung("b", &log))
	if v, ok := store.As[secret](s); !ok || v.Secret() != "combination" {
		t.Error("As did not find the base's capability through two layers")
	}
	var names []string
	for r := range store.All[layer.StatsReporter](s) {
		names = append(names, r.AppendStats(nil)[0].Name)
	}
	if !slices.Equal(names, []string{"a", "b"}) {
		t.Errorf("All: %v", names)
	}
	if _, ok := store.As[secret](store.Wrap(&spy.Base{}, rung("a", &log))); ok {
		t.Error("As found a capability that no layer has")
	}
}

// The invariant of Barrier: only statistics, health and write bounds can be reached inside a guarded stack.
func TestBehindABarrierOnlyWhatCarriesNoDataIsFound(t *testing.T) {
	var log []string
	s := store.Wrap(vault{&spy.Base{}}, rung("out", &log), walled(), rung("in", &log))
	if _, ok := store.As[secret](s); ok {
		t.Error("As found a capability with data behind a barrier")
	}
	if _, ok := store.As[store.Unwrapper](store.Wrap(&spy.Base{}, walled(), rung("in", &log))); ok {
		t.Error("As found an Unwrapper behind a barrier")
	}
	if _, ok := store.As[store.Store](store.Wrap(&spy.Base{}, walled())); !ok {
		t.Error("As did not find the guard itself")
	}
	var names []string
	for r := range store.All[layer.StatsReporter](s) {
		names = append(names, r.AppendStats(nil)[0].Name)
		if _, ok := r.(store.Store); ok && names[len(names)-1] == "in" {
			t.Error("a StatsReporter behind the barrier is also a Store")
		}
	}
	if !slices.Equal(names, []string{"out", "in"}) {
		t.Errorf("statistics: %v", names)
	}
	h, ok := store.As[store.HealthChecker](store.Wrap(&spy.Base{}, walled(), rung("in", &log)))
	if !ok || h.CheckHealth(t.Context()).Error() != "in" {
		t.Error("As did not find the HealthChecker behind a barrier")
	}
	if _, ok := h.(store.Store); ok {
		t.Error("the HealthChecker behind the barrier is also a Store")
	}
	b, ok := store.As[driver.WriteBounder](s)
	if !ok || b.LongestWrite() != time.Hour {
		t.Error("As did not find the WriteBounder behind a barrier")
	}
	if _, ok := b.(store.Store); ok {
		t.Error("the WriteBounder behind the barrier is also a Store")
	}
	for i := range reflect.TypeFor[store.Barrier]().NumMethod() {
		t.Errorf("Barrier exports the method %s", reflect.TypeFor[store.Barrier]().Method(i).Name)
	}
}

func TestCloseClosesEachLayerOnceOutermostFirst(t *testing.T) {
	var log []string
	base := store.Wrap(&spy.Base{}, rung("base", &log))
	shared := store.Wrap(base, rung("shared", &log))
	a := store.Wrap(shared, rung("a1", &log), walled(), rung("a2", &log))
	b := store.Wrap(shared, rung("b1", &log))
	must(t, store.Close(a, b, a))
	if len(log) != 5 {
		t.Errorf("closed %v, want each layer once", log)
	}
	for _, pair := range [][2]string{{"a1", "a2"}, {"a2", "shared"}, {"b1", "shared"}, {"shared", "base"}} {
		if slices.Index(log, pair[0]) > slices.Index(log, pair[1]) {
			t.Errorf("closed %v, want %s before %s", log, pair[0], pair[1])
		}
	}
}

func TestCloseGoesOnAfterAnError(t *testing.T) {
	var log []string
	e1, e2 := errors.New("one"), errors.New("two")
	s := &ring{name: "a", log: &log, err: e1, inner: &ring{name: "b", log: &log, err: e2, inner: &spy.Base{}}}
	if err := store.Close(s); !errors.Is(err, e1) || !errors.Is(err, e2) || len(log) != 2 {
		t.Errorf("got %v after closing %v", err, log)
	}
	type odd struct {
		inner
		_ []int // not comparable
	}
	must(t, store.Close(odd{inner: &spy.Base{}}, odd{inner: &spy.Base{}}))
}

// panicking is a layer whose Close panics.
type panicking struct{ *ring }

func (panicking) Close() error { panic("close") }

func TestCloseGoesOnAfterAPanic(t *testing.T) {
	var log []string
	s := panicking{&ring{name: "a", log: &log, inner: &ring{name: "b", log: &log, inner: &spy.Base{}}}}
	defer func() {
		if r := recover(); r != "close" || !slices.Equal(log, []string{"b"}) {
			t.Errorf("recovered %v after closing %v", r, log)
		}
	}()
	_ = store.Close(s)
}
