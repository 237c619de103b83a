// Package storetest is the conformance suite for a [store.Store]. Use it in the tests of your own Store, or of a layer
// around one. One call runs it:
//
//	func TestConformance(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) store.Store { return mystore.New() })
//	}
//
// The suite checks every promise of the contract:
//
//   - pages and cursors, limits, order and ties
//   - owners, used ids, save modes, and what a write may change
//   - JSON byte for byte, times, and that values are not shared
//   - the order of checks, cancelled contexts, errors, and thread versions
//   - the capabilities of a base that package driver defines, where [store.As] finds them
//   - all of this from many goroutines
//
// Run it under the race detector. It checks neither speed nor recovery after a crash.
//
// [Random] finds faults that show only in a combination of calls: it compares random calls with a model of the contract.
// Other checks have packages of their own:
//
//   - linear checks the reads of a layer that caches or shares them, with concurrent clients.
//   - isolate checks that a guard hides each principal's rows from the others.
//   - grants checks a Store that keeps grants of threads (package sharing).
//   - faulty makes a Store fail on chosen calls.
//   - fleet checks a bus between several processes.
//
// # How to read a failure
//
// A subtest is named after the promise that it checks, as in TestConformance/After/items:_unknown_cursor_is_ErrNotFound. A
// message has the call, the result, the wanted result, and the rule of the contract. An error is printed with its causes.
// Each group prints its first failures, and how many it does not print. go test -run 'TestConformance/^After$' prints all.
//
// One broken promise can fail checks in many groups: compare the first failure of each group before you look for the cause. A
// check can also fail because of the rows of earlier checks. If a listing returned such rows, the message has a note.
//
// # What Run asks of the Store
//
// The Store need not be empty: ids and owners are new in each run. Every call is made as the owner of the row, so a guarded
// Store (package authz) passes too. Checks that depend on a guard's decision, such as who sees rows without an owner, are
// skipped under a guard, and the log says so. A Store without thread versions must refuse writes under [store.IfVersion].
package storetest

import (
	"context"
	"slices"
	"testing"

	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/internal/report"
	"github.com/chatstore/chatstore/storetest/internal/rows"
)

// Run checks the Store that open returns against the contract, in subtests named after the promises. The subtests form
// groups. For each group, Run calls open once, with the group's t. When the group is done, Run closes that Store with
// [store.Close]. open may return a Store with the rows of earlier groups.
func Run(t *testing.T, open func(t *testing.T) store.Store, opts ...Option) {
	t.Helper()
	if selectsPart(testRun(), t.Name()) {
		opts = append(slices.Clone(opts), printAll)
	}
	run(goTest{t}, func(t tb) store.Store { return open(t.(goTest).T) }, opts...)
}

// Option changes what [Run] requires.
type Option func(*config)

type config struct {
	requireVersions     bool
	requireCapabilities bool
	printAll            bool
}

// WithVersionsRequired makes Run fail if the Store reports no thread versions. Without this option, such a Store passes and
// the checks of versions are skipped.
func WithVersionsRequired() Option { return func(c *config) { c.requireVersions = true } }

// WithCapabilitiesRequired makes Run fail if the base lacks a capability of package driver that Run checks. Without this
// option, the checks of such a capability are skipped.
func WithCapabilitiesRequired() Option { return func(c *config) { c.requireCapabilities = true } }

// printAll makes Run print every failure.
func printAll(c *config) { c.printAll = true }

// check is one promise of the contract.
type check struct {
	name string // name of the subtest
	rule string // the rule of the contract, in one sentence; it ends every failure message
	run  func(*harness)
}

// group is a row of the contract, or a few related rows.
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
	{"IfVersion", conditionChecks},
	{"Capabilities", capabilityChecks},
	{"Generators", generatorChecks},
	{"Concurrency", concurrencyChecks},
}

func run(t tb, open func(tb) store.Store, opts ...Option) {
	t.Helper()
	var cfg config
	for _, o := range opts {
		o(&cfg)
	}
	ids, failures := rows.NewMint(), &failures{all: cfg.printAll, checks: make(map[string]bool)}
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
					c.run(newHarness(t, s, failures, name, c.rule, cfg, ids))
				})
			}
			failures.endGroup(t)
		})
	}
	failures.summary(t)
}

// tb is the part of *testing.T that the suite uses. The suite's own tests implement it to watch the suite fail.
type tb interface {
	Helper()
	Name() string
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
