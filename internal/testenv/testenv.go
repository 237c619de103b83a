// Package testenv has helpers that all tests of this repository share. It says whether the race detector is on, how much a test
// tries, and where programs are. Other functions end a test on an error or measure the heap.
package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// Full reports whether CHATSTORE_FULL=1 is set, as .ci/run does. Tests then try all of their cases, which takes minutes. Otherwise
// they try a part.
var Full = os.Getenv("CHATSTORE_FULL") == "1"

// Program returns the path of a program. If the program is not installed, it calls [Missing] and names the Debian package.
func Program(t testing.TB, name, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, name+" is not installed (on Debian, the package "+debianPackage+")")
	}
	return path
}

// Missing skips a test that cannot run on this machine. With CHATSTORE_REQUIRE_SERVERS=1 it fails the test.
func Missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CHATSTORE_REQUIRE_SERVERS") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// Must ends the test if err is not nil.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Value returns the value of a call and ends the test if the call failed. Use it as in Value(os.Getwd())(t).
func Value[V any](v V, err error) func(testing.TB) V {
	return func(t testing.TB) V {
		t.Helper()
		Must(t, err)
		return v
	}
}

// OrPanic returns the value of a call and panics if the call failed. Use it where there is no testing.TB.
func OrPanic[V any](v V, err error) V {
	if err != nil {
		panic(err)
	}
	return v
}

// Panics fails the test unless f panics with a value whose text begins with want.
func Panics(t testing.TB, want string, f func()) {
	t.Helper()
	defer func() {
		if got := fmt.Sprint(recover()); !strings.HasPrefix(got, want) {
			t.Errorf("panicked with %q, want %q", got, want)
		}
	}()
	f()
}

// Heap returns the number of bytes of live heap objects.
func Heap() int {
	for range 3 { // finalizers, pools and package unique free their objects only in later collections
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
