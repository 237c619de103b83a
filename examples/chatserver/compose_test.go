package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/chatstore/chatstore/internal/testenv"
)

// composeFile has the parts of a compose file that observability/compose.yaml uses. Others are refused as unknown.
type composeFile struct {
	Name     string
	Services map[string]composeService
	Volumes  map[string]any
}

type composeService struct {
	Image       string
	Build       struct{ Context, Dockerfile string }
	User        string
	Command     []string
	Environment map[string]string
	Volumes     []string
	Ports       []string
	DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
	Healthcheck struct {
		Test              []string
		Interval, Timeout string
		Retries           int
	}
	Restart string
}

func readYAML(t *testing.T, name string, strict bool, v any) (text string) {
	t.Helper()
	read := testenv.Value(os.ReadFile(filepath.Join(observability, name)))(t)
	d := yaml.NewDecoder(strings.NewReader(string(read)))
	d.KnownFields(strict)
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(read)
}

// No test starts the containers. This one compares the files with each other, with the repository and with the program's flags.
func TestComposeFileFitsTheProgram(t *testing.T) {
	t.Parallel()
	var c composeFile
	all := readYAML(t, "compose.yaml", true, &c)
	want := []string{"chatserver", "grafana", "postgres", "prometheus", "tempo"}
	var got []string
	for name, s := range c.Services {
		got = append(got, name)
		c.checkService(t, name, s)
	}
	if slices.Sort(got); !slices.Equal(want, got) {
		t.Errorf("the services are %v, want %v", got, want)
	}

	args := c.Services["chatserver"].Command
	if len(args) == 0 {
		t.Error("chatserver has no flags")
	}
	if code := command(context.Background(), append(slices.Clone(args), "-h"), io.Discard, io.Discard); code != 0 {
		t.Errorf("chatserver refuses the flags %q", args)
	}
	if code := command(context.Background(), []string{"-no-such-flag", "-h"}, io.Discard, io.Discard); code == 0 {
		t.Error("chatserver takes any flag, so the check above proves nothing")
	}

	// Addresses in all files name a service, and the ports are those of its other users.
	for _, name := range []string{"prometheus.yml", "tempo.yaml", "datasources.yaml", "dashboards.yaml"} {
		all += readYAML(t, name, false, &map[string]any{})
	}
	listens := map[string]string{"chatserver": "8080 9464", "postgres": "5432", "prometheus": "9090", "tempo": "3200 4318", "grafana": "3000"}
	addresses := regexp.MustCompile(`(?://(?:[^@/\s]*@)?|targets: \[)([a-z]+):(\d+)`).FindAllStringSubmatch(all, -1)
	if len(addresses) < 5 {
		t.Errorf("only %d addresses were found", len(addresses))
	}
	for _, a := range addresses {
		if !slices.Contains(strings.Fields(listens[a[1]]), a[2]) {
			t.Errorf("no service listens at %s:%s", a[1], a[2])
		}
	}
	for _, must := range []string{"-addr=0.0.0.0:8080", "-metrics=0.0.0.0:9464", "http_listen_port: 3200", "endpoint: 0.0.0.0:4318", "--enable-feature=exemplar-storage",
		"path: " + mounted(c.Services["grafana"], "dashboard.json")} {
		if !strings.Contains(all, must) {
			t.Errorf("the files lack %q", must)
		}
	}
}

// mounted returns the folder in the container of a mounted file.
func mounted(s composeService, file string) string {
	for _, v := range s.Volumes {
		if parts := strings.Split(v, ":"); parts[0] == "./"+file {
			return filepath.Dir(parts[1])
		}
	}
	return file + ", which is not mounted"
}

var pinned = regexp.MustCompile(`^[a-z/]+:v?\d+\.\d+`)

func (c composeFile) checkService(t *testing.T, name string, s composeService) {
	t.Helper()
	switch {
	case s.Build.Dockerfile != "":
		dockerfile := testenv.Value(os.ReadFile(filepath.Join(observability, s.Build.Context, s.Build.Dockerfile)))(t)
		for _, from := range regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(string(dockerfile), -1) {
			if !pinned.MatchString(from[1]) {
				t.Errorf("the Dockerfile of %s begins with %s, which is not a version", name, from[1])
			}
		}
		for _, path := range regexp.MustCompile(`\s\./\S+`).FindAllString(string(dockerfile), -1) {
			if _, err := os.Stat(filepath.Join(observability, s.Build.Context, strings.TrimSpace(path))); err != nil {
				t.Errorf("the Dockerfile of %s: %v", name, err)
			}
		}
	case !pinned.MatchString(s.Image):
		t.Errorf("%s has the image %q, which is not a version", name, s.Image)
	}
	for _, p := range s.Ports {
		if host, _, err := net.SplitHostPort(p[:max(0, strings.LastIndex(p, ":"))]); err != nil || host != "127.0.0.1" {
			t.Errorf("%s: port %s is open to other machines", name, p)
		}
	}
	for _, v := range s.Volumes {
		parts := strings.Split(v, ":")
		if _, ok := c.Volumes[parts[0]]; ok {
			continue
		}
		if st, err := os.Stat(filepath.Join(observability, parts[0])); err != nil || !st.Mode().IsRegular() || len(parts) != 3 || parts[2] != "ro" {
			t.Errorf("%s: the volume %s is neither known nor a file that is mounted for reading (%v)", name, v, err)
		}
	}
	for other, d := range s.DependsOn {
		on, ok := c.Services[other]
		if !ok {
			t.Errorf("%s depends on %s, which is no service", name, other)
		}
		if d.Condition == "service_healthy" && len(on.Healthcheck.Test) == 0 {
			t.Errorf("%s waits for the health of %s, which has no healthcheck", name, other)
		}
	}
	if len(s.Healthcheck.Test) == 0 && name != "tempo" {
		t.Errorf("%s has no healthcheck", name)
	}
	for key, value := range s.Environment {
		if regexp.MustCompile(`PASSWORD|SECRET|TOKEN|KEY`).MatchString(key) && value != "demo" {
			t.Errorf("%s: %s has a value of its own", name, key)
		}
	}
	for _, arg := range s.Command {
		if file, ok := strings.CutPrefix(strings.TrimLeft(arg, "-"), "config.file="); ok && !strings.Contains(fmt.Sprint(s.Volumes), ":"+file+":ro") {
			t.Errorf("%s: no file is mounted at %s", name, file)
		}
	}
}
