package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/store"
)

const sdkDir = "testdata/sdk"

// The SDK whose Store this project implements, chatkit-node-backend-sdk, works over the server's stack. The folder
// testdata/sdk has a ChatKitServer for Node, a Store that calls the stack through sdkBridge, and a script. The script makes
// every request.
func TestNodeSDK(t *testing.T) {
	t.Parallel()
	node := findNode(t)
	file := filepath.Join(t.TempDir(), "chat.db")
	base := openSDKBase(t, file)
	registry := prometheus.NewRegistry()
	provider := sdktrace.NewTracerProvider()
	defer func() { _ = provider.Shutdown(context.Background()) }()
	stack := testenv.Value(wrap(base, nil, registry, provider))(t)
	bridge := newSDKBridge(stack)
	server := httptest.NewServer(bridge)
	t.Cleanup(server.Close)

	saved := runDriver(t, node, server.URL)
	server.Close()

	t.Run("every method of the Store was called", func(t *testing.T) {
		for _, method := range sdkMethods {
			if bridge.calls[method] == 0 {
				t.Errorf("%s: never", method)
			}
		}
	})
	t.Run("no answer names an owner", func(t *testing.T) {
		for _, answer := range bridge.answers {
			if strings.Contains(answer, sdkTenant) || strings.Contains(answer, sdkSuffix) {
				t.Errorf("the bridge answered %s", answer)
			}
		}
	})
	t.Run("the cache saved reads", func(t *testing.T) {
		outer, inner := reads(t, registry, "outer"), reads(t, registry, "inner")
		if inner == 0 || inner >= outer {
			t.Errorf("%v reads, %v of them by the base", outer, inner)
		}
		t.Logf("%v reads, %v of them by the base", outer, inner)
	})
	t.Run("nothing failed", func(t *testing.T) {
		for n := range store.NumCodes {
			switch code := store.Code(n); code {
			case store.CodeOK, store.CodeNotFound, store.CodeConflict, store.CodeInvalid, store.CodeUnauthenticated:
			default:
				if n := sum(t, registry, "chatstore_operations_total", "code", code.String()); n > 0 {
					t.Errorf("%v calls ended as %v", n, code)
				}
			}
		}
	})
	testenv.Must(t, store.Close(stack))
	testenv.Must(t, base.Close())

	t.Run("the file has what the SDK saved, byte for byte", func(t *testing.T) {
		stored := readBase(t, openSDKBase(t, file), saved)
		if diff := cmp.Diff(saved, stored); diff != "" {
			t.Errorf("(-last saved by the SDK, +stored)\n%s", diff)
		}
	})
}

// findNode returns a Node for the driver. Without Node or the SDK, the test is skipped; with CHATSTORE_REQUIRE_SERVERS=1 it
// fails.
func findNode(t *testing.T) string {
	t.Helper()
	node := testenv.Program(t, "node", "nodejs, version 20 or later")
	version, err := exec.Command(node, "--version").Output()
	if err != nil {
		t.Fatalf("%s --version: %v", node, err)
	}
	text := strings.TrimSpace(string(version))
	major, _, _ := strings.Cut(strings.TrimPrefix(text, "v"), ".")
	if n, err := strconv.Atoi(major); err != nil || n < 20 {
		testenv.Missing(t, "node is "+text+", want 20 or later (Debian package nodejs)")
	}
	var wanted struct{ Dependencies map[string]string }
	testenv.Must(t, readJSON(sdkDir+"/package.json", &wanted))
	const sdk = "chatkit-node-backend-sdk"
	var installed struct{ Version string }
	err = readJSON(sdkDir+"/node_modules/"+sdk+"/package.json", &installed)
	if errors.Is(err, os.ErrNotExist) || err == nil && installed.Version != wanted.Dependencies[sdk] {
		testenv.Missing(t, sdk+" "+wanted.Dependencies[sdk]+" is not installed: npm ci --prefix examples/chatserver/"+sdkDir)
	}
	testenv.Must(t, err)
	return node
}

func readJSON(file string, v any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

func openSDKBase(t *testing.T, file string) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.OpenSQLite(t.Context(), file, sqlstore.WithIDs(&repeatingIDs{}),
		sqlstore.WithDurability(sqlstore.SurvivesKill))
	testenv.Must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// repeatingIDs generates the id of every third thread twice, to cause collisions.
type repeatingIDs struct {
	store.LongIDs
	mu    sync.Mutex
	drawn int
	last  string
}

func (r *repeatingIDs) GenerateThreadID(ctx context.Context) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.drawn++; r.drawn%3 != 0 {
		r.last = r.LongIDs.GenerateThreadID(ctx)
	}
	return r.last
}

// runDriver runs the script, with each step as a subtest. It returns the JSON of the rows that the SDK saved and did not
// delete, by the names of nameOf.
func runDriver(t *testing.T, node, url string) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	scripts := testenv.Value(filepath.Glob(sdkDir + "/*.mjs"))(t)
	for _, script := range scripts { // reading the files makes go test run again when they change
		testenv.Value(os.ReadFile(script))(t)
	}
	cmd := exec.CommandContext(ctx, node, "driver.mjs", url)
	cmd.Dir = sdkDir
	cmd.WaitDelay = hang
	var logged strings.Builder
	cmd.Stderr = &logged
	out := testenv.Value(cmd.StdoutPipe())(t)
	testenv.Must(t, cmd.Start())
	var rows map[string]string
	lines := json.NewDecoder(out)
	var err error
	for {
		var line struct {
			Step, Error string
			Rows        map[string]string
		}
		if err = lines.Decode(&line); err != nil {
			break
		}
		if line.Rows != nil {
			rows = line.Rows
			continue
		}
		t.Run(line.Step, func(t *testing.T) {
			if line.Error != "" {
				t.Error(line.Error)
			}
		})
	}
	if err != io.EOF {
		t.Errorf("the driver's output: %v", err)
		_ = cmd.Process.Kill()
	}
	if err := cmd.Wait(); err != nil || t.Failed() || rows == nil {
		t.Fatalf("the driver: %v, %d rows\n%s", err, len(rows), logged.String())
	}
	return rows
}

// nameOf names a row as the driver does.
func nameOf(owner chat.Owner, kind string, ids ...string) string {
	user := strings.TrimSuffix(owner.Subject, sdkSuffix)
	return strings.Join(append([]string{user, kind}, ids...), " ")
}

// readBase returns every thread and item in base, and the attachments that are named in wanted, because attachments cannot
// be listed.
func readBase(t *testing.T, base store.Store, wanted map[string]string) map[string]string {
	t.Helper()
	ctx := t.Context()
	rows := map[string]string{}
	threads, err := base.LoadThreads(ctx, store.ThreadQuery{
		PageQuery: store.PageQuery{Limit: store.MaxLimit},
		Owner:     store.AnyOwner(),
	})
	if err != nil || threads.HasMore {
		t.Fatalf("a page of %d threads, more: %v, %v", len(threads.Data), threads.HasMore, err)
	}
	for _, th := range threads.Data {
		rows[nameOf(th.Owner, "thread", th.ID)] = th.JSON().String()
		items, err := base.LoadThreadItems(ctx, th.ID, store.PageQuery{Limit: store.MaxLimit})
		if err != nil || items.HasMore {
			t.Fatalf("a page of %d items, more: %v, %v", len(items.Data), items.HasMore, err)
		}
		for _, it := range items.Data {
			rows[nameOf(th.Owner, "item", th.ID, it.ID)] = it.JSON().String()
		}
	}
	for name := range wanted {
		if words := strings.Split(name, " "); words[1] == "attachment" {
			a, err := base.LoadAttachment(ctx, words[2])
			if err != nil {
				t.Error(err)
			}
			rows[nameOf(a.Owner, "attachment", a.ID)] = a.JSON().String()
		}
	}
	return rows
}
