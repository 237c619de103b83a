// Command looks is a program of another module. It asks for everything that it can name behind a guard, and prints what it gets.
package main

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
)

// guard is a guard written outside of the module.
type guard struct {
	store.Barrier
	store.Store
}

// secret is a base with secret data and several capabilities.
type secret struct{ store.Store }

func (secret) Dump() string                            { return "all that is stored" }
func (secret) CheckHealth(context.Context) error       { return nil }
func (secret) ShareBetweenPrincipals()                 {}
func (secret) RewritesValues()                         {}
func (secret) LongestWrite() time.Duration             { return time.Minute }
func (secret) AppendStats(s []layer.Stat) []layer.Stat { return append(s, layer.Stat{Name: "n"}) }

// bounder has the methods of driver.WriteBounder, but is another type.
type bounder interface{ LongestWrite() time.Duration }

type dumper interface{ Dump() string }

func report[T any](name string, s store.Store) {
	got, ok := store.As[T](s)
	_, dumps := any(got).(dumper)
	_, stores := any(got).(store.Store)
	methods := 0
	if ok {
		methods = reflect.TypeOf(got).NumMethod()
	}
	fmt.Printf("%s: found %t, methods %d, dumps %t, is a store %t\n", name, ok, methods, ok && dumps, ok && stores)
}

func main() {
	base := secret{memstore.New()}
	s := guard{store.NewBarrier(base), base}
	report[driver.WriteBounder]("WriteBounder", s)
	report[layer.StatsReporter]("StatsReporter", s)
	report[store.HealthChecker]("HealthChecker", s)
	report[layer.Sharer]("Sharer", s)
	report[layer.Rewriter]("Rewriter", s)
	report[bounder]("the same methods", s)
	report[interface{ LongestWrite() time.Duration }]("an unnamed type of the same methods", s)
	report[dumper]("Dump", s)
	report[interface {
		store.Store
		Dump() string
	}]("Store and Dump", s)
	report[secret]("the base's type", s)
	n := 0
	for range store.All[store.Store](s) {
		n++
	}
	fmt.Println("stores seen:", n)
}
