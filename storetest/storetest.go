// Package storetest checks what a [store.Store] must do: a conformance suite for anybody who writes a Store, or a layer around
// one. One call runs it:
//
//	func TestConformance(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) store.Store { return mystore.New() })
//	}
//
// It checks every promise of the contract: pages and cursors, order and ties, owners and used ids, save modes, what a write may
// touch, limits, the order of checks, JSON byte for byte, aliasing, times, cancelled contexts, errors, and thread versions. Then it
// checks them from many goroutines. Run it under the race detector. It checks neither speed nor what survives a crash.
//
// [Random] finds what [Run] cannot ask for one promise at a time: it compares random calls with a model of the contract. The
// other checks have packages of their own:
//
//   - linear lets clients read and write at once through a layer that holds or shares what it reads.
//   - isolate plays what several principals do through a guard.
//   - faulty makes a Store fail as one chooses.
//   - fleet runs several processes around a bus.
//
// # How to read a failure
//
// A subtest is named after the promise that it checks, as in TestConformance/After/items:_unknown_cursor_is_ErrNotFound. A
// message has the call, what came of it, what should have, and the rule of the contract. An error is printed with its causes. Mend
// the first failing subtest first: a Store that breaks one promise mostly fails one subtest. Of many failures only the first
// are printed.
//
// # What Run asks of the Store
//
// Rows that other tests left behind do no harm: ids and owners are new in each run. Every call is made as the owner of the row,
// so a guarded Store (package authz) passes too. What a guard decides, such as who sees rows without an owner, is skipped there,
// and the log says so. Thread versions are checked if the Store reports any.
package storetest

import (
	"context"
	"testing"

	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/internal/report"
	"github.com/chatstore/chatstore/storetest/internal/rows"
)

// Run checks the Store that open returns against the contract, in subtests named after the promises. It calls open once for
// each group of them, with that group's t, and closes what it got, with [store.Close], when the group is done. The rows of
// earlier groups may still be there.
func Run(t *testing.T, open func(t *testing.T) store.Store, opts ...Option) {
	t.Helper()
	run(goTest{t}, func(t tb) store.Store { return open(t.(goTest).T) }, opts...)
}

// Option changes what [Run] asks for.
type Option func(*config)

type config struct {
	requireVersions bool
}

// WithVersionsRequired makes it a failure when the Store reports no thread versions. Without it, such a Store passes and the
// checks of versions are skipped.
func WithVersionsRequired() Option { return func(c *config) { c.requireVersions = true } }

// check is one promise of the contract.
type check struct {
	name string // of the subtest
	rule string // what the contract says, in one sentence: the end of every failure message
	run  func(*harness)
}

// group is a row of the contract, or a few that belong together.
type group struct {
	name   string
	checks []check
}

var suite = []group{
	{"After", afterChecks},
	{"Page.After", pageAfterChecks},
	{"Order", orderChecks},
	{"Limit", limitChecks},
	{"LoadThread", loadThreadChecks},
	{"SaveThread", saveThreadChecks},
	{"DeleteThread", deleteThreadChecks},
	{"OwnerFilter", ownerFilterChecks},
	{"Owner", ownerChecks},
	{"UsedID", usedIDChecks},
	{"SaveMode", saveModeChecks},
	{"AddThreadItem", addThreadItemChecks},
	{"SaveItem", saveItemChecks},
	{"LoadItem", loadItemChecks},
	{"LoadThreadItems", loadThreadItemsChecks},
	{"DeleteThreadItem", deleteThreadItemChecks},
	{"Attachment", attachmentChecks},
	{"ID", idChecks},
	{"Payload", payloadChecks},
	{"Time", timeChecks},
	{"Aliasing", aliasingChecks},
	{"OrderOfChecks", orderOfChecksChecks},
	{"CancelledContext", cancelledChecks},
	{"Errors", errorChecks},
	{"Version", versionChecks},
	{"Generators", generatorChecks},
	{"Concurrency", concurrencyChecks},
}

func run(t tb, open func(tb) store.Store, opts ...Option) {
	t.Helper()
	var cfg config
	for _, o := range opts {
		o(&cfg)
	}
	ids, failures := rows.NewMint(), &failures{checks: make(map[string]int)}
	for _, g := range suite {
		t.Run(g.name, func(t tb) {
			s := open(t)
			if s == nil {
				t.Fatalf("open returned a nil Store: return one that is ready for use")
			}
			t.Cleanup(func() {
				if err := store.Close(s); err != nil {
					t.Errorf("store.Close: got error %s, want none", report.Error(err))
				}
			})
			for _, c := range g.checks {
				name := g.name + "/" + c.name
				t.Run(c.name, func(t tb) {
					defer failures.end(t, name)
					c.run(newHarness(t, s, failures, name, c.rule, cfg, ids))
				})
			}
		})
	}
	failures.summary(t)
}

// tb is what the suite asks of a *testing.T, so that its own tests can watch it fail.
type tb interface {
	Helper()
	Context() context.Context
	Cleanup(func())
	Fail()
	FailNow()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Run(name string, f func(tb)) bool
}

type goTest struct{ *testing.T }

func (t goTest) Run(name string, f func(tb)) bool {
	t.Helper()
	return t.T.Run(name, func(t *testing.T) { f(goTest{t}) })
}
