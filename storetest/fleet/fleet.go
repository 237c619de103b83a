// Package fleet checks with real processes what a bus between caches promises: no read is older than its bound, even when
// connections are cut and servers killed. All agree with the base once the writing is over. Use it for a bus of your own. Package
// linear checks more, in virtual time, of a cache whose bus needs no server.
//
// A test program runs itself again as each of the processes:
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
// Each process writes a thread of its own, and reads everybody's. All must be on one machine: their clock is compared.
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
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/internal/report"
)

// Fleet says what to run.
type Fleet struct {
	// Processes is how many there are; 0 means 3.
	Processes int
	// Args are for the function that Worker was given, in each process.
	Args []string
	// Bound is how old a read may be.
	Bound time.Duration
	// Base is where the processes write to in the end.
	Base store.Store
	// Disturb are what is done to the fleet while it works: a cut connection, a restarted server. Before each, and after the
	// last, Run waits until each process has made some hundred reads and some writes.
	Disturb []func()
}

const workerEnv = "CHATSTORE_FLEET_WORKER"

// pace is the longest pause of a worker between two calls. It writes less often than it reads.
const (
	readPace  = time.Millisecond
	writePace = 10 * time.Millisecond
)

// Worker returns at once, unless the process is one of a fleet: then it works until told to end, and does not return.
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

// work obeys: "stop" ends the writing and "end" everything; what is read last is read in between.
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
		time.Sleep(rand.N(writePace)) // a load, not a wait
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
		time.Sleep(rand.N(readPace)) // a load, not a wait
	}
}

// number is the number of the write that a thread is of.
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

// event is what a process says.
type event struct {
	Word      string // wrote, read, stopped, last or hits
	Thread, N int    // that was written or read, and the number of the write
	At        int64  // when a write had returned, or a read began
	Hits      int    // of the caches
	Text      string // of an error
	worker    int
}

// process is a worker, seen from the test.
type process struct {
	in     io.WriteCloser
	said   chan event // what is not "wrote" or "read"
	reads  atomic.Int64
	writes atomic.Int64
}

// Run runs the fleet. It fails the test when a read lacks a write that was acknowledged Bound before the read began. It fails when,
// Bound after the last write, a process does not read what the base has. It fails when the fleet did too little to tell.
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
	var patience <-chan time.Time // until shortly before go test's own
	if deadline, ok := t.Deadline(); ok {
		patience = time.After(time.Until(deadline) - 10*time.Second)
	}
	for i := range f.Processes {
		cmd := exec.Command(os.Args[0], f.Args...)
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
						t.Errorf("process %d says what is no event: %v", i, err)
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

	// busy waits until each process has read and written more, however long that takes.
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
					t.Fatalf("process %d has made %d reads and %d writes before the test's time was up", i, p.reads.Load()-from[i].reads, p.writes.Load()-from[i].writes)
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
	<-time.After(f.Bound) // this is the promise: no sooner need they agree
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

// checkLast compares a read that came after all writes with the base.
func checkLast(t testing.TB, f Fleet, e event) {
	t.Helper()
	want, err := f.Base.LoadThread(t.Context(), threadOf(e.Thread))
	if err != nil || strconv.Itoa(e.N) != want.Title {
		t.Errorf("process %d reads write %d of thread %d in the end, error %s; the base has %q, error %s",
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
		// The first acknowledged write that the read did not have.
		missed, _ := slices.BinarySearchFunc(all, r.N+1, func(w event, n int) int { return w.N - n })
		if missed < len(all) {
			age := time.Duration(r.At - all[missed].At)
			oldest = max(oldest, age)
			if age > f.Bound {
				if stale++; stale <= 5 {
					t.Errorf("process %d read write %d of thread %d, %v after write %d of it was acknowledged: the bound is %v",
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
	t.Logf("%d processes: %d writes, %d reads, %d of them answered by caches; the oldest was %v old, allowed are %v",
		f.Processes, total, len(reads), hits, max(oldest, 0), f.Bound)
	if total < 10*f.Processes || hits < len(reads)/20 || foreign < len(reads)/10 {
		t.Errorf("too little happened to tell: %d writes, %d reads, %d hits, %d reads of what others wrote", total, len(reads), hits, foreign)
	}
}

func (p *process) expect(t *testing.T, patience <-chan time.Time, word string) event {
	t.Helper()
	select {
	case e := <-p.said:
		if e.Word != word {
			t.Fatalf("process %d says %q, want %q", e.worker, e.Word, word)
		}
		return e
	case <-patience:
		t.Fatalf("no process says %q before the test's time is up", word)
		return event{}
	}
}
