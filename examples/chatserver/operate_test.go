package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	_ "time/tzdata"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/examples/chatserver/identity"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/store"
)

// commanded is the program with flags, in the current folder, and a client.
type commanded struct {
	*client
	said, errs output
	lines      *bufio.Reader
}

// next returns the next URL that the program prints.
func (p *commanded) next(t *testing.T) (url string) {
	t.Helper()
	line, err := p.lines.ReadString('\n')
	if err != nil {
		t.Fatalf("%v, %s", err, &p.errs)
	}
	_, rest, _ := strings.Cut(line, "chatserver: ")
	return strings.Fields(rest)[0]
}

// runProgram starts the program, with a client of ada, and stops it with the test.
func runProgram(t *testing.T, args ...string) *commanded {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	read, write := io.Pipe()
	p := &commanded{lines: bufio.NewReader(read)}
	ended := make(chan int, 1)
	go func() {
		ended <- command(ctx, args, write, &p.errs)
		_ = write.Close()
	}()
	t.Cleanup(func() {
		cancel()
		go func() { _, _ = io.Copy(&p.said, p.lines) }()
		if code := <-ended; code != 0 {
			t.Errorf("%q: %d, %s", args, code, &p.errs)
		}
	})
	p.client = newClient(t, p.next(t), "ada", testenv.Value(os.ReadFile("chatserver.key"))(t))
	return p
}

// A counter of /metrics tells whether a conversation exists.
func TestMetricsAreNotForStrangers(t *testing.T) {
	t.Chdir(t.TempDir())
	for args, want := range map[string]int{
		"-addr=127.0.0.1:0": 200, "-addr=127.0.0.1:0 -url=http://chat.example": 404, "-addr=0.0.0.0:0": 404,
		"-addr=127.0.0.1:0 -metrics=127.0.0.1:0": 404,
	} {
		p := runProgram(t, strings.Fields(args)...)
		var at string
		if strings.Contains(args, "-metrics") {
			at = p.next(t) // only then the server serves, because the test reads its lines
		}
		status, text := p.get(t, "/metrics")
		if status != want || strings.Contains(text, "chatstore_operations_total") != (want == 200) {
			t.Errorf("%s: %d %.300s", args, status, text)
		}
		if p.url = at; at == "" {
			continue
		}
		if status, text := p.get(t, ""); status != 200 || !strings.Contains(text, "chatstore_operations_total") {
			t.Errorf("%s: %d %.300s", p.url, status, text)
		}
		if res, _ := p.do(t, http.MethodGet, "", "", func(r *http.Request) { r.Host = "evil.example" }); res.StatusCode != 421 {
			t.Errorf("a foreign host name: %d", res.StatusCode)
		}
		if status, _ := p.get(t, "/../session"); status != 404 {
			t.Errorf("another path: %d", status)
		}
	}
}

// Each of these flags reaches the part of the program that it is about.
func TestFlagsReachTheirParts(t *testing.T) {
	t.Chdir(t.TempDir())
	s := testenv.Value(sqlstore.Open(t.Context(), "sqlite:chatserver.db"))(t)
	p := store.Principal{Owner: chat.Owner{Tenant: identity.Tenant, Subject: "ada"}}
	naive := testenv.Value(chat.ParseThread(`{"id":"thr","created_at":"2026-07-01T12:30:00","status":{"type":"active"},"metadata":{}}`))(t)
	naive.Owner = p.Owner
	testenv.Must(t, errors.Join(s.SaveThread(store.WithPrincipal(t.Context(), p), naive), s.Close()))
	c := runProgram(t, "-addr=127.0.0.1:0", "-quota=1", "-zone=Asia/Tokyo")
	create := func(size int) error {
		_, err := c.ask(t.Context(), "attachments.create", object{"name": "a", "size": size, "mime_type": "text/plain"})
		return err
	}
	testenv.Must(t, create(1<<20))
	if err := create(1); err == nil || !strings.Contains(err.Error(), "more than 1048576 bytes together") {
		t.Errorf("-quota=1: %v", err)
	}
	v, err := c.ask(t.Context(), "threads.get_by_id", object{"thread_id": "thr"})
	if v["created_at"] != "2026-07-01T03:30:00Z" {
		t.Errorf("-zone=Asia/Tokyo: %v, %v", v, err)
	}
}

// Everybody on the machine could read the conversations. SQLite gives the files beside it the rights of the database.
func TestTheDatabaseIsForItsServerAlone(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, where := range []string{"chatserver.db", "sqlite:a.db", "sqlite://" + filepath.Join(t.TempDir(), "b.db")} {
		p := runProgram(t, "-addr=127.0.0.1:0", "-store", where)
		testenv.Value(p.newThread(t.Context(), "hello", func(object) {}))(t)
		_, path, _ := strings.Cut(where, "//")
		path = cmp.Or(path, strings.TrimPrefix(where, "sqlite:"))
		for _, end := range []string{"", "-wal", "-shm"} {
			if info, err := os.Stat(path + end); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", path+end, info, err)
			}
		}
	}
	if info, err := os.Stat(":memory:"); err == nil {
		t.Errorf("there is a file %s", info.Name())
	}
}
