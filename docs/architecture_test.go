// Package docs has the tests of the pages in this folder.
package docs

import (
	"go/parser"
	"go/token"
	"io/fs"
	"iter"
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

// TestPackagesImportWhatThePageSays compares the imports of every package with the table of packages in architecture.md, and the
// picture with both.
func TestPackagesImportWhatThePageSays(t *testing.T) {
	page, err := os.ReadFile("architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	listed, all := table(string(page)), imports(t, "..")
	for pkg, imports := range all {
		name := pkg
		for _, folder := range []string{"examples", "bench"} { // programs, which import whatever they need
			if within(pkg, folder) {
				name = folder
			}
		}
		want, ok := listed[name]
		switch {
		case !ok:
			t.Errorf("architecture.md has no row for %s, which imports %v", pkg, imports.ours)
		case !slices.Contains(want, "all"):
			if diff := cmp.Diff(want, imports.ours); diff != "" {
				t.Errorf("%s (-architecture.md, +its imports)\n%s", pkg, diff)
			}
		}
	}
	for name := range listed {
		if _, ok := all[name]; !ok && name != "examples" {
			t.Errorf("architecture.md has a row for %s, which is no package", name)
		}
	}
	arrows := picture(string(page))
	if len(arrows) == 0 {
		t.Error("architecture.md has no picture")
	}
	for _, arrow := range arrows {
		drawn := false
		for pkg, imports := range all {
			drawn = drawn || within(pkg, arrow[0]) && slices.ContainsFunc(imports.ours, func(to string) bool { return within(to, arrow[1]) })
		}
		if !drawn {
			t.Errorf("the picture has an arrow from %s to %s, which is no import", arrow[0], arrow[1])
		}
	}
}

// within reports whether a package is the folder or below it.
func within(pkg, folder string) bool { return strings.HasPrefix(pkg+"/", folder+"/") }

// TestTheRulesOfThePageHold checks the rules that architecture.md lists beneath its table.
func TestTheRulesOfThePageHold(t *testing.T) {
	light := []string{"chat", "store", "store/driver", "store/layer", "bus"}
	for pkg, imports := range imports(t, "..") {
		if slices.Contains(light, pkg) && len(imports.foreign) > 0 {
			t.Errorf("%s imports %v, which are not of the standard library", pkg, imports.foreign)
		}
		for _, to := range imports.ours {
			switch {
			case within(pkg, "decorators") && (within(to, "decorators") || to == "memstore" || to == "sqlstore"):
				t.Errorf("the decorator %s imports %s, another decorator or a base", pkg, to)
			case pkg == "store/driver" && to == "store/layer":
				t.Errorf("%s imports %s", pkg, to)
			}
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

// table reads the rows of the table | package | for | imports |.
func table(page string) map[string][]string {
	all := map[string][]string{}
	_, text, _ := strings.Cut(page, "| package | for | imports |\n")
	text, _, _ = strings.Cut(text, "\n\n")
	for line := range strings.Lines(text) {
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

var (
	node  = regexp.MustCompile(`(\w+)\["([^"]+)"\]`)
	arrow = regexp.MustCompile(`(?m)^ *(\w+)(?:\[[^]]*\])? --> (\w+)`)
)

// picture returns the arrows of the page's picture, as folders.
func picture(page string) (arrows [][2]string) {
	_, text, _ := strings.Cut(page, "```mermaid\n")
	text, _, _ = strings.Cut(text, "```")
	folders := map[string]string{}
	for _, m := range node.FindAllStringSubmatch(text, -1) {
		folders[m[1]] = m[2]
	}
	for _, m := range arrow.FindAllStringSubmatch(text, -1) {
		arrows = append(arrows, [2]string{folders[m[1]], folders[m[2]]})
	}
	return arrows
}

// imported is what a package's code imports, but not its tests: of this repository, and from elsewhere.
type imported struct{ ours, foreign []string }

// imports returns what each package below root imports.
func imports(t *testing.T, root string) map[string]imported {
	t.Helper()
	all := map[string]imported{}
	for path := range walk(t, root) {
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, path), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		pkg := filepath.ToSlash(filepath.Dir(path))
		found := all[pkg]
		for _, i := range file.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if ours, ok := strings.CutPrefix(name, module); ok {
				found.ours = append(found.ours, ours)
			} else if first, _, _ := strings.Cut(name, "/"); strings.Contains(first, ".") {
				found.foreign = append(found.foreign, name)
			}
		}
		all[pkg] = found
	}
	for pkg, found := range all {
		slices.Sort(found.ours)
		found.ours = append([]string{}, slices.Compact(found.ours)...)
		all[pkg] = found
	}
	return all
}

// walk returns the files below root, relative to it. It leaves out testdata, and folders that begin with a dot.
func walk(t *testing.T, root string) iter.Seq[string] {
	return func(yield func(string) bool) {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			switch name := d.Name(); {
			case err != nil:
				return err
			case !d.IsDir():
				path, err := filepath.Rel(root, path)
				if err == nil && !yield(path) {
					err = filepath.SkipAll
				}
				return err
			case path != root && (name == "testdata" || strings.HasPrefix(name, ".")):
				return filepath.SkipDir
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}
