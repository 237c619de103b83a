// Package fleet checks a bus between caches with real processes. No read may be older than its bound, even if connections
// are cut and servers are killed. When the writing is over, all processes must agree with the base. Use it for a bus of your
// own. Package linear checks more, in virtual time, if the bus needs no server.
//
// A test program starts itself again as each of the processes:
//
//	func TestMain(m *testing.M) {
//		fleet.Worker(func(ctx context.Context, args []string) (store.Store, error) { return myStack(ctx, args[0]) })
//		os.Exit(m.Run())
//	}
//
//	func TestProcessesAgree(t *testing.T) {
//		fleet.Run(t, fleet.Fleet{Args: []string{dsn}, Bound: 5 * time.Second, Base: base, Disturb: disturbances})
//	}
//
// Each process writes a thread of its own and reads the threads of all processes. All processes must run on one machine,
// because times of its clock are compared.
package fleet

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/internal/report"
)

// Fleet configures [Run].
type Fleet struct {
	// Processes is the number of processes; 0 means 3.
	Processes int
	// Args are the arguments of the function passed to Worker, in each process. For "{process}" it gets its number, from 0.
	Args []string
	// Bound is the maximum age of a read.
	Bound time.Duration
	// Base is the Store that all processes write to.
	Base store.Store
	// Disturb has functions that disturb the running fleet: cut a connection, or restart a server. Before each of them, and
	// after the last, Run waits until each process has made 300 reads and 10 writes.
	Disturb []func()
}

const workerEnv = "CHATSTORE_FLEET_WORKER"

// A worker pauses for a random time up to the pace between two calls. It writes less often than it reads.
const (
	readPace  = time.Millisecond
	writePace = 10 * time.Millisecond
)

// Worker returns at once in an ordinary test process. In a process of a fleet, it works until Run ends the process, and does
// not return. Call it first in TestMain.
func Worker(open func(ctx context.Context, args []string) (store.Store, error)) {
	spec := os.Getenv(workerEnv)
	if spec == "" {
		return
	}
	var me, all int
	if _, err := fmt.Sscanf(spec, "%d/%d", &me, &all); err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(2)
	}
	s, err := open(context.Background(), os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(2)
	}
	w := &worker{s: s, me: me, all: all, out: json.NewEncoder(os.Stdout)}
	w.work(os.Stdin)
	if err := store.Close(s); err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(2)
	}
	os.Exit(0)
}

type worker struct {
	s       store.Store
	me, all int
	stop    atomic.Bool

	mu  sync.Mutex
	out *json.Encoder
}

func (w *worker) say(e event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.out.Encode(e)
}

func threadOf(i int) string { return fmt.Sprintf("thr_fleet_%d", i) }

// work follows the commands of Run: "stop" ends the writing, "read" asks for the last reads, and the end of input ends
// everything.
func (w *worker) work(in io.Reader) {
	ctx, end := context.WithCancel(context.Background())
	var writing, reading sync.WaitGroup
	writing.Go(func() { w.write(ctx) })
	for range 2 {
		reading.Go(func() { w.read(ctx) })
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		switch lines.Text() {
		case "stop":
			w.stop.Store(true)
			writing.Wait()
			w.say(event{Word: "stopped"})
		case "read":
			for i := range w.all {
				t, err := w.s.LoadThread(ctx, threadOf(i))
				w.say(event{Word: "last", Thread: i, N: number(t), Text: report.Error(err)})
			}
			w.say(event{Word: "hits", Hits: hits(w.s)})
		}
	}
	w.stop.Store(true)
	end()
	writing.Wait()
	reading.Wait()
}

func (w *worker) write(ctx context.Context) {
	for n := 1; !w.stop.Load(); n++ {
		call, cancel := context.WithTimeout(ctx, time.Second)
		err := w.s.SaveThread(call, chat.Thread{ID: threadOf(w.me), Title: strconv.Itoa(n), CreatedAt: time.Now()})
		cancel()
		if err == nil {
			w.say(event{Word: "wrote", Thread: w.me, N: n, At: time.Now().UnixNano()})
		}
		time.Sleep(rand.N(writePace)) // paces the load; nothing waits for it
	}
}

func (w *worker) read(ctx context.Context) {
	for ctx.Err() == nil {
		i := rand.N(w.all)
		call, cancel := context.WithTimeout(ctx, time.Second)
		begin := time.Now()
		t, err := w.s.LoadThread(call, threadOf(i))
		cancel()
		if err == nil {
			w.say(event{Word: "read", Thread: i, N: number(t), At: begin.UnixNano()})
		}
		time.Sleep(rand.N(readPace)) // paces the load; nothing waits for it
	}
}

// number returns the number of the write that saved a thread.
func number(t chat.Thread) int {
	n, _ := strconv.Atoi(t.Title)
	return n
}

func hits(s store.Store) (n int) {
	for r := range store.All[layer.StatsReporter](s) {
		for _, st := range r.AppendStats(nil) {
			if st.Name == "chatstore_cache_requests_total" && st.Labels[1].Value == "hit" {
				n += int(st.Value)
			}
		}
	}
	return n
}

// event is one message of a process.
type event struct {
	Word      string // wrote, read, stopped, last or hits
	Thread, N int    // the thread that was written or read, and the number of the write
	At        int64  // when a write returned, or a read began
	Hits      int    // cache hits
	Text      string // text of an error
	worker    int
}

// process is a worker, as the test sees it.
type process struct {
	in     io.WriteCloser
	said   chan event // events except "wrote" and "read"
	reads  atomic.Int64
	writes atomic.Int64
}

// Run runs the fleet. It fails the test in three cases:
//
//   - A read misses a write that was acknowledged more than Bound before the read began.
//   - A process does not read the rows of the base, Bound after the last write.
//   - The fleet made too few calls, or hit the caches too rarely, to prove anything.
func Run(t *testing.T, f Fleet) {
	t.Helper()
	if f.Processes == 0 {
		f.Processes = 3
	}
	var (
		mu     sync.Mutex
		events []event
		moved  = make(chan struct{}, 1)
		fleet  []*process
		ended  sync.WaitGroup
	)
	var patience <-chan time.Time // ends shortly before the deadline of go test
	if deadline, ok := t.Deadline(); ok {
		patience = time.After(time.Until(deadline) - 10*time.Second)
	}
	for i := range f.Processes {
		var args []string
		for _, arg := range f.Args {
			args = append(args, strings.ReplaceAll(arg, "{process}", strconv.Itoa(i)))
		}
		cmd := exec.Command(os.Args[0], args...)
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d/%d", workerEnv, i, f.Processes))
		cmd.Stderr = os.Stderr
		in, err1 := cmd.StdinPipe()
		out, err2 := cmd.StdoutPipe()
		if err := errors.Join(err1, err2, cmd.Start()); err != nil {
			t.Fatal(err)
		}
		p := &process{in: in, said: make(chan event, 2*f.Processes)}
		fleet = append(fleet, p)
		ended.Go(func() {
			for in := json.NewDecoder(out); ; {
				e := event{worker: i}
				if err := in.Decode(&e); err != nil {
					if !errors.Is(err, io.EOF) {
						t.Errorf("process %d wrote something that is not an event: %v", i, err)
						_ = cmd.Process.Kill()
					}
					break
				}
				switch e.Word {
				case "wrote", "read":
					mu.Lock()
					events = append(events, e)
					mu.Unlock()
					if e.Word == "read" {
						p.reads.Add(1)
					} else {
						p.writes.Add(1)
					}
					select {
					case moved <- struct{}{}:
					default:
					}
				default:
					p.said <- e
				}
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("process %d: %v", i, err)
			}
		})
	}
	defer ended.Wait()
	defer func() {
		for _, p := range fleet {
			_ = p.in.Close()
		}
	}()

	// busy waits until each process has made more reads and writes, however long that takes.
	busy := func() {
		t.Helper()
		const reads, writes = 300, 10
		type done struct{ reads, writes int64 }
		var from []done
		for _, p := range fleet {
			from = append(from, done{p.reads.Load(), p.writes.Load()})
		}
		for i, p := range fleet {
			for p.reads.Load() < from[i].reads+reads || p.writes.Load() < from[i].writes+writes {
				select {
				case <-moved:
				case <-patience:
					t.Fatalf("process %d made only %d reads and %d writes before the test's deadline", i, p.reads.Load()-from[i].reads, p.writes.Load()-from[i].writes)
				}
			}
		}
	}
	for _, disturb := range f.Disturb {
		busy()
		disturb()
	}
	busy()

	tell := func(word string) {
		for _, p := range fleet {
			_, _ = fmt.Fprintln(p.in, word)
		}
	}
	tell("stop")
	for _, p := range fleet {
		p.expect(t, patience, "stopped")
	}
	<-time.After(f.Bound) // the bus promises no earlier agreement
	tell("read")
	var hits int
	for _, p := range fleet {
		for range f.Processes {
			checkLast(t, f, p.expect(t, patience, "last"))
		}
		hits += p.expect(t, patience, "hits").Hits
	}
	for _, p := range fleet {
		_ = p.in.Close()
	}
	ended.Wait()
	check(t, f, events, hits)
}

// checkLast compares a read after all writes with the base.
func checkLast(t testing.TB, f Fleet, e event) {
	t.Helper()
	want, err := f.Base.LoadThread(t.Context(), threadOf(e.Thread))
	if err != nil || strconv.Itoa(e.N) != want.Title {
		t.Errorf("after all writes, process %d reads write %d of thread %d, error %s; the base has %q, error %s",
			e.worker, e.N, e.Thread, e.Text, want.Title, report.Error(err))
	}
}

// check looks for reads that were too old, and for too few calls.
func check(t testing.TB, f Fleet, events []event, hits int) {
	t.Helper()
	writes := make([][]event, f.Processes)
	var reads []event
	for _, e := range events {
		if e.Word == "wrote" {
			writes[e.Thread] = append(writes[e.Thread], e)
		} else {
			reads = append(reads, e)
		}
	}
	stale, oldest, foreign := 0, time.Duration(0), 0
	for _, r := range reads {
		all := writes[r.Thread]
		// missed is the first acknowledged write that the read did not see.
		missed, _ := slices.BinarySearchFunc(all, r.N+1, func(w event, n int) int { return w.N - n })
		if missed < len(all) {
			age := time.Duration(r.At - all[missed].At)
			oldest = max(oldest, age)
			if age > f.Bound {
				if stale++; stale <= 5 {
					t.Errorf("process %d read write %d of thread %d, %v after write %d was acknowledged: the bound is %v",
						r.worker, r.N, r.Thread, age, all[missed].N, f.Bound)
				}
			}
		}
		if r.worker != r.Thread && r.N > 1 {
			foreign++
		}
	}
	if stale > 0 {
		t.Errorf("%d of %d reads were too old", stale, len(reads))
	}
	total := 0
	for _, w := range writes {
		total += len(w)
	}
	t.Logf("%d processes: %d writes, %d reads, %d cache hits; the oldest read was %v old, the bound is %v",
		f.Processes, total, len(reads), hits, max(oldest, 0), f.Bound)
	if total < 10*f.Processes || hits < len(reads)/20 || foreign < len(reads)/10 {
		t.Errorf("too few calls to prove anything: %d writes, %d reads, %d hits, %d reads of other processes' threads", total, len(reads), hits, foreign)
	}
}

func (p *process) expect(t *testing.T, patience <-chan time.Time, word string) event {
	t.Helper()
	select {
	case e := <-p.said:
		if e.Word != word {
			t.Fatalf("process %d sent %q, want %q", e.worker, e.Word, word)
		}
		return e
	case <-patience:
		t.Fatalf("no process sent %q before the test's deadline", word)
		return event{}
	}
}
