package main

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/chatstore/chatstore/examples/chatserver/identity"
	"github.com/chatstore/chatstore/internal/testenv"
)

// program is the server in its own process.
type program struct {
	*exec.Cmd
	url string
}

func startProgram(t *testing.T, dir string) *program {
	t.Helper()
	self := testenv.Value(os.Executable())(t)
	cmd := exec.Command(self)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), childArgs+"="+strings.Join([]string{"-addr", "127.0.0.1:0", "-pace", "100us"}, "\n"))
	cmd.Stderr = os.Stderr
	out := testenv.Value(cmd.StdoutPipe())(t)
	testenv.Must(t, cmd.Start())
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	_, rest, ok := strings.Cut(line, "chatserver: ")
	if err != nil || !ok {
		t.Fatalf("the program says %q, %v", line, err)
	}
	return &program{cmd, strings.Fields(rest)[0]}
}

// A server is killed during streams, again and again. Items that a client got as done must exist afterwards.
func TestWhatWasDoneIsThereAfterAKill(t *testing.T) {
	t.Parallel()
	const kills, users, until = 5, 8, 60
	dir := t.TempDir()
	key := testenv.Value(identity.KeyFile(filepath.Join(dir, "chatserver.key")))(t)
	finished := map[string][]string{} // finished items, by thread
	owner := map[string]string{}
	for range kills {
		p := startProgram(t, dir)
		enough := make(chan struct{})
		var mu sync.Mutex
		var seen atomic.Int64
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		for n := range users {
			user := string(rune('a' + n))
			c := newClient(t, p.url, user, key)
			wg.Go(func() {
				var ids []string
				done := func(it object) {
					ids = append(ids, it["id"].(string))
					if seen.Add(1) == until {
						close(enough)
					}
				}
				// This loop ends with an error when the server is killed.
				thread, err := c.newThread(ctx, "/long 50", done)
				for err == nil {
					err = c.say(ctx, thread, "/long 50", done)
				}
				if len(ids) > 0 {
					mu.Lock()
					defer mu.Unlock()
					finished[thread], owner[thread] = ids, user
				}
			})
		}
		<-enough
		_ = p.Process.Kill()
		_ = p.Wait()
		wg.Wait()
		cancel()
	}
	p := startProgram(t, dir)
	items := 0
	for thread, ids := range finished {
		kept, err := newClient(t, p.url, owner[thread], key).items(t.Context(), thread)
		if err != nil {
			t.Fatalf("thread %s: %v", thread, err)
		}
		there := itemIDs(kept)
		for _, id := range ids {
			if items++; !slices.Contains(there, id) {
				t.Errorf("thread %s: item %s was done, but is gone", thread, id)
			}
		}
	}
	if items < kills*until {
		t.Errorf("only %d items were seen", items)
	}
	t.Logf("%d items in %d threads, %d kills", items, len(finished), kills)
}
