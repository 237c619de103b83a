// Package testenv tells this repository's tests where they run: with the race detector or without, how much they are asked to
// try, and where the programs are that they need.
package testenv

import (
	"os"
	"os/exec"
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
