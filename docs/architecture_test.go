// Package docs has the tests of the pages in this folder.
package docs

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/chatstore/chatstore/"

// TestPackagesImportWhatThePageSays compares the imports of every package with the table of packages in architecture.md.
func TestPackagesImportWhatThePageSays(t *testing.T) {
	page, err := os.ReadFile("architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := arrows(string(page))
	for pkg, imports := range imports(t, "..") {
		name := pkg
		for _, folder := range []string{"examples", "bench"} { // programs, which import whatever they need
			if strings.HasPrefix(pkg+"/", folder+"/") {
				name = folder
			}
		}
		want, ok := listed[name]
		switch {
		case !ok:
			t.Errorf("architecture.md has no row for %s, which imports %v", pkg, imports)
		case !slices.Contains(want, "all"):
			if diff := cmp.Diff(want, imports); diff != "" {
				t.Errorf("%s (-architecture.md, +its imports)\n%s", pkg, diff)
			}
		}
	}
	for name := range listed {
		if _, err := os.Stat(filepath.Join("..", name)); err != nil {
			t.Errorf("architecture.md has a row for %s, which is not there", name)
		}
	}
}

// TestGoDocFitsOnAScreen keeps the documentation of each package short enough to be read whole.
func TestGoDocFitsOnAScreen(t *testing.T) {
	for pkg := range imports(t, "..") {
		if strings.Contains("/"+pkg+"/", "/internal/") || strings.HasPrefix(pkg, "examples") {
			continue
		}
		most := 60
		if pkg == "chat" || pkg == "store" {
			most = 75
		}
		cmd := exec.Command("go", "doc", ".")
		cmd.Dir = filepath.Join("..", pkg)
		out, err := cmd.CombinedOutput()
		if lines := strings.Count(string(out), "\n"); err != nil || lines > most {
			t.Errorf("go doc %s prints %d lines, more than %d; %v", pkg, lines, most, err)
		}
	}
}

var quoted = regexp.MustCompile("`([^`]+)`")

// arrows reads the rows of the table | package | for | imports |.
func arrows(page string) map[string][]string {
	all := map[string][]string{}
	_, table, _ := strings.Cut(page, "| package | for | imports |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			continue
		}
		imports := []string{}
		for _, m := range quoted.FindAllStringSubmatch(cells[3], -1) {
			imports = append(imports, m[1])
		}
		if strings.TrimSpace(cells[3]) == "all" {
			imports = append(imports, "all")
		}
		slices.Sort(imports)
		for _, m := range quoted.FindAllStringSubmatch(cells[1], -1) {
			all[m[1]] = imports
		}
	}
	return all
}

// imports returns, of each package below root, which of this repository's packages its code imports, but not its tests.
func imports(t *testing.T, root string) map[string][]string {
	t.Helper()
	all := map[string]map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && path != root && (name == "testdata" || strings.HasPrefix(name, ".")) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		pkg, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		pkg = filepath.ToSlash(pkg)
		if all[pkg] == nil {
			all[pkg] = map[string]bool{}
		}
		for _, i := range file.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			if ours, ok := strings.CutPrefix(name, module); ok {
				all[pkg][ours] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sorted := map[string][]string{}
	for pkg, names := range all {
		sorted[pkg] = slices.AppendSeq([]string{}, maps.Keys(names))
		slices.Sort(sorted[pkg])
	}
	return sorted
}
