// Package testenv has what this repository's tests share. It tells them where they run: with the race detector or without, how
// much to try, and where the programs are. Its other functions end a test on an error, or measure the heap.
package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// Full reports whether the tests are asked for all that they can try, which takes minutes: CHATSTORE_FULL=1, as .ci/run sets
// it. Otherwise they try a part of it.
var Full = os.Getenv("CHATSTORE_FULL") == "1"

// Program returns the path of a program. Where it is missing the test is skipped as [Missing] does, naming the Debian package
// that has it.
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

// Value returns the value of a call, and ends the test if the call failed: Value(os.Getwd())(t).
func Value[V any](v V, err error) func(testing.TB) V {
	return func(t testing.TB) V {
		t.Helper()
		Must(t, err)
		return v
	}
}

// OrPanic returns the value of a call, and panics if the call failed: for values that are made without a test.
func OrPanic[V any](v V, err error) V {
	if err != nil {
		panic(err)
	}
	return v
}

// Panics fails the test unless f panics with a text that begins with want.
func Panics(t testing.TB, want string, f func()) {
	t.Helper()
	defer func() {
		if got := fmt.Sprint(recover()); !strings.HasPrefix(got, want) {
			t.Errorf("panicked with %q, want %q", got, want)
		}
	}()
	f()
}

// Heap returns how many bytes of the heap are in use.
func Heap() int {
	for range 3 { // what finalizers, pools and package unique hold is freed later
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
