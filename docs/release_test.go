package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReleaseRefuses tries .ci/release where it must change nothing. The rest of it is tried by .ci/run.
func TestReleaseRefuses(t *testing.T) {
	dir := t.TempDir()
	git := func(args ...string) {
		t.Helper()
		run := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@localhost"}, args...)...)
		run.Dir = dir
		if out, err := run.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args, err, out)
		}
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	script, err := os.ReadFile("../.ci/release")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, ".ci"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(".ci/release", string(script))
	write("go.mod", "module example.com/m\n\ngo 1.26.0\n\nrequire example.com/n v0.1.0\n")
	write("CHANGELOG.md", `
## [0.9.0] - 2026-12-01
## [0.8.0] - 2026-12-01, nearly
## [0.7.0] - 2026-02-30
## [0.6.0] - 2026-04-31
## [0.5.0] - 2026-12-00
## [0.4.0] - 2026-99-99
## [0.3.0] - unreleased
## [0.2.0] - 2026-11-29
`)
	git("init", "-q")
	git("add", "-A")
	git("commit", "-q", "-m", "all")
	git("tag", "v0.2.0")
	origin := filepath.Join(t.TempDir(), "origin")
	git("init", "-q", "--bare", origin)
	git("remote", "add", "origin", origin)

	refused := func(want string, args ...string) {
		t.Helper()
		run := exec.Command(filepath.Join(dir, ".ci/release"), args...)
		run.Env = append(os.Environ(), "GOFLAGS=-mod=vendor", "GO111MODULE=off") // which must not matter
		if out, err := run.CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
			t.Errorf("release %s: %v, and printed %q, want %q", args, err, out, want)
		}
	}
	refused("usage")
	refused("usage", "v0.3.0", "-push")
	for _, version := range []string{"0.3.0", "v0.3", "v0.03.0", "v2.0.0", "v0.3.0-01", "v0.3.0+build", "v0.3.0 "} {
		refused("want a semantic version", version)
	}
	refused("no section", "v0.1.0")
	refused("no section", "v0.3.0-rc.1")
	refused("no date", "-push", "v0.3.0")
	for _, version := range []string{"v0.4.0", "v0.5.0", "v0.6.0", "v0.7.0", "v0.8.0"} {
		refused("no date", version)
		refused("no date", "-push", version)
	}
	refused("no branch of origin", "-push", "v0.9.0")
	git("push", "-q", "origin", "HEAD:refs/heads/main")
	git("commit", "-q", "--allow-empty", "-m", "not pushed")
	refused("no branch of origin", "-push", "v0.9.0")
	git("push", "-q", "origin", "HEAD:refs/heads/next")
	refused("there are tags", "-push", "v0.2.0") // so a branch of any name will do
	refused("there are tags", "v0.2.0")
	write("new", "")
	refused("uncommitted changes", "v0.3.0")

	shallow := filepath.Join(t.TempDir(), "shallow")
	git("clone", "-q", "--depth", "1", "file://"+origin, shallow, "--branch", "next")
	dir = shallow
	refused("shallow", "v0.9.0")
}
