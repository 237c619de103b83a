package store_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A program of another module finds behind a guard only capabilities without data, each in a wrapper.
func TestAnotherModuleReachesNothingPastABarrier(t *testing.T) {
	dir := outsider(t)
	out, err := goIn(dir, "run", "./looks")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const want = `WriteBounder: found true, methods 1, dumps false, is a store false
StatsReporter: found true, methods 1, dumps false, is a store false
HealthChecker: found true, methods 1, dumps false, is a store false
Sharer: found false, methods 0, dumps false, is a store false
Rewriter: found false, methods 0, dumps false, is a store false
the same methods: found false, methods 0, dumps false, is a store false
an unnamed type of the same methods: found false, methods 0, dumps false, is a store false
Dump: found false, methods 0, dumps false, is a store false
Store and Dump: found false, methods 0, dumps false, is a store false
the base's type: found false, methods 0, dumps false, is a store false
stores seen: 1
`
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error("(-want, +got)\n" + diff)
	}
	out, err = goIn(dir, "build", "./imports")
	if err == nil || !strings.Contains(out, "use of internal package github.com/chatstore/chatstore/internal/confine not allowed") {
		t.Errorf("a program that imports internal/confine: %v\n%s", err, out)
	}
}

// outsider makes a module of testdata/outsider that uses this module's folder. It returns the module's folder.
func outsider(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("..")
	must(t, err)
	dir := t.TempDir()
	must(t, os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "outsider"))))
	for _, name := range []string{"go.mod", "go.sum"} { // so that the build downloads nothing
		text, err := os.ReadFile(filepath.Join(root, name))
		must(t, err)
		if name == "go.mod" {
			const ours = "github.com/chatstore/chatstore"
			text = regexp.MustCompile(`(?m)^module .*$`).ReplaceAll(text, []byte("module example.com/outsider\n\nrequire "+ours+" v0.0.0\n\nreplace "+ours+" => "+root))
		}
		must(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	return dir
}

func goIn(dir string, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false -mod=mod")
	out, err := cmd.CombinedOutput()
	return string(out), err
}
