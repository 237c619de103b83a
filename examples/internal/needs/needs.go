// Package needs finds the programs that tests of the examples need.
package needs

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Program returns where a program is. Without it the test is skipped, and fails if CHATSTORE_REQUIRE_SERVERS is 1.
func Program(t testing.TB, name, debianPackage string) string {
	t.Helper()
	bin, err := exec.LookPath(name)
	if err != nil {
		Missing(t, name+" is not installed (on Debian, the package "+debianPackage+")")
	}
	return bin
}

// Missing skips the test, or fails it if CHATSTORE_REQUIRE_SERVERS is 1.
func Missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CHATSTORE_REQUIRE_SERVERS") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// Redis returns the URL of a Redis of the test's own, which ends with the test.
func Redis(t testing.TB) string {
	t.Helper()
	bin := Program(t, "redis-server", "redis-server")
	dir, err := os.MkdirTemp("", "redis") // short: the path of a socket has an end
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	redis := exec.Command(bin, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", dir)
	if err := redis.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = redis.Process.Kill(), redis.Wait() })
	return "unix://" + socket
}
