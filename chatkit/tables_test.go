package chatkit

import (
	"encoding/json"
	"iter"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/internal/testenv"
)

func readFile(t *testing.T, name string) string {
	t.Helper()
	return string(testenv.Value(os.ReadFile(name))(t))
}

// typesIn returns the types of events or updates that event.go defines.
func typesIn(t *testing.T, method string) (all []string) {
	pattern := regexp.MustCompile(`\) ` + method + `\(\) string\s+\{ return "([^"]+)" \}`)
	for _, m := range pattern.FindAllStringSubmatch(readFile(t, "event.go"), -1) {
		all = append(all, m[1])
	}
	return all
}

// defined returns what the schema defines of a kind, by type, with the members other than type.
func defined(t *testing.T, kind string) map[string][]string {
	var schema struct {
		Defs map[string]struct{ Properties map[string]any } `json:"$defs"`
	}
	testenv.Must(t, json.Unmarshal([]byte(readFile(t, "testdata/schemas/chatkit.json")), &schema))
	all := map[string][]string{}
	for name, def := range schema.Defs {
		if name, ok := strings.CutPrefix(name, kind+"."); ok {
			delete(def.Properties, "type")
			all[name] = slices.Sorted(maps.Keys(def.Properties))
		}
	}
	return all
}

// table returns the names in the second column of a table in the README, by the name in the first one.
func table(t *testing.T, heading string) map[string][]string {
	_, section, _ := strings.Cut(readFile(t, "README.md"), "\n### "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n### ")
	all := map[string][]string{}
	for line := range strings.Lines(section) {
		if cells := strings.Split(line, "|"); len(cells) == 8 && strings.HasPrefix(cells[1], " `") {
			names := strings.FieldsFunc(cells[2], func(r rune) bool { return r == ' ' || r == '`' })
			slices.Sort(names)
			all[strings.Trim(cells[1], " `")] = names
		}
	}
	return all
}

// members yields the names of all members that a schema allows.
func members(schema any) iter.Seq[string] {
	return func(yield func(string) bool) {
		var walk func(v any) bool
		walk = func(v any) bool {
			switch v := v.(type) {
			case map[string]any:
				properties, _ := v["properties"].(map[string]any)
				for name := range properties {
					if !yield(name) {
						return false
					}
				}
				for _, v := range v {
					if !walk(v) {
						return false
					}
				}
			case []any:
				return !slices.ContainsFunc(v, func(v any) bool { return !walk(v) })
			}
			return true
		}
		walk(schema)
	}
}

// Each type of events, updates and requests in the code is in the schema and in the README, with the same members.
func TestTheTablesAreComplete(t *testing.T) {
	same := func(what string, want, got []string) {
		t.Helper()
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, slices.Compact(got)); diff != "" || len(want) == 0 {
			t.Errorf("%s (-want +got)\n%s", what, diff)
		}
	}
	for heading, kind := range map[string]string{"Events": "event", "Updates": "update", "Items": "item"} {
		if diff := cmp.Diff(defined(t, kind), table(t, heading)); diff != "" {
			t.Errorf("%s (-schema +README)\n%s", heading, diff)
		}
		if kind != "item" {
			same("the schema's "+kind+"s", typesIn(t, kind+"Type"), slices.Collect(maps.Keys(defined(t, kind))))
		}
	}

	var schema any
	testenv.Must(t, json.Unmarshal([]byte(readFile(t, "testdata/schemas/chatkit.json")), &schema))
	readme := readFile(t, "README.md")
	for name := range members(schema) {
		if !strings.Contains(readme, "`"+name+"`") {
			t.Errorf("README.md does not name the member %s", name)
		}
	}

	plain, events := table(t, "Requests answered with JSON"), table(t, "Requests answered with events")
	same("requests answered with JSON", slices.Collect(maps.Keys(answers)), slices.Collect(maps.Keys(plain)))
	same("requests answered with events", slices.Collect(maps.Keys(streams)), slices.Collect(maps.Keys(events)))
	same("the schema's answers", slices.Collect(maps.Keys(answers)), slices.Collect(maps.Keys(defined(t, "answer"))))
	var known, named []string
	for f := range reflect.TypeFor[params]().Fields() {
		known = append(known, f.Tag.Get("json"))
	}
	for _, t := range []map[string][]string{plain, events} {
		for _, names := range t {
			named = append(named, names...)
		}
	}
	same("params", known, named)
}
