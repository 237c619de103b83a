package bench

import (
	"context"
	"math"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	_ "unsafe"

	"golang.org/x/arch/x86/x86asm"

	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// writesOf has what one call wrote to memory.
type writesOf struct {
	instructions int
	locked       int             // atomic read-modify-writes
	lines        map[uint64]bool // the cache lines
}

// sharedBy runs a stack's warm LoadThread once in each of two goroutines on two processors, instruction by instruction. It
// returns the writes of the first, and the number of cache lines that both have written.
func sharedBy(tb testing.TB, stack string) (first writesOf, shared int) {
	runtime.LockOSThread() // ptrace belongs to a thread
	defer runtime.UnlockOSThread()
	shared = math.MaxInt
	for range 4 { // two goroutines can have the same stripe of a counter by chance
		c := exec.Command(os.Args[0], "-test.run", "^TestStepped$")
		c.Env = append(os.Environ(), "CHATSTORE_STEPPED="+stack, "GODEBUG=asyncpreemptoff=1", "GOGC=off", "GOMAXPROCS=2")
		c.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
		c.Stderr = os.Stderr
		if err := c.Start(); err != nil {
			tb.Skip("no ptrace here: ", err)
		}
		calls := stepped(tb, c.Process.Pid)
		if len(calls) != 2 {
			tb.Fatalf("%s: stepped through %d calls, want 2", stack, len(calls))
		}
		both := 0
		for line := range calls[0].lines {
			if calls[1].lines[line] {
				both++
			}
		}
		if both < shared {
			first, shared = calls[0], both
		}
	}
	return first, shared
}

// stepped steps through the calls between two breakpoints of a child and its threads, until it ends.
func stepped(tb testing.TB, child int) (calls []writesOf) {
	var status syscall.WaitStatus
	get[int](tb)(syscall.Wait4(child, &status, 0, nil))
	must(tb, syscall.PtraceSetOptions(child, syscall.PTRACE_O_TRACECLONE))
	resume := func(thread, signal int) {
		if err := syscall.PtraceCont(thread, signal); err != syscall.ESRCH { // the end of the child ends its threads
			must(tb, err)
		}
	}
	resume(child, 0)
	for {
		thread := get[int](tb)(syscall.Wait4(-1, &status, syscall.WALL, nil))
		switch {
		case status.Exited() || status.Signaled():
			if thread == child { // all others have ended
				return calls
			}
		case status.StopSignal() == syscall.SIGTRAP && status.TrapCause() == 0:
			calls = append(calls, step(tb, thread))
			resume(thread, 0)
		case status.StopSignal() == syscall.SIGTRAP || status.StopSignal() == syscall.SIGSTOP: // a new thread
			resume(thread, 0)
		default:
			resume(thread, int(status.StopSignal()))
		}
	}
}

// step steps through a thread's call until the next breakpoint.
func step(tb testing.TB, thread int) writesOf {
	call := writesOf{lines: map[uint64]bool{}}
	var regs syscall.PtraceRegs
	text := make([]byte, 16)
	for {
		must(tb, syscall.PtraceGetRegs(thread, &regs))
		get[int](tb)(syscall.PtracePeekText(thread, uintptr(regs.Rip), text))
		if text[0] == 0xcc { // the breakpoint at the end, which is skipped
			regs.Rip++
			must(tb, syscall.PtraceSetRegs(thread, &regs))
			return call
		}
		call.instructions++
		if in, err := x86asm.Decode(text, 64); err == nil { // it does not know wide vectors, which copy and clear new memory
			if m, ok := in.Args[0].(x86asm.Mem); ok && writesTo(in.Op) {
				if in.Op == x86asm.XCHG || in.Prefix[0]&0xff == x86asm.PrefixLOCK {
					call.locked++
				}
				call.lines[addressOf(m, in, &regs)/64] = true
			}
		}
		must(tb, syscall.PtraceSingleStep(thread))
		var status syscall.WaitStatus
		get[int](tb)(syscall.Wait4(thread, &status, syscall.WALL, nil))
	}
}

// writesTo reports whether an instruction writes to its first operand, if that is in memory.
func writesTo(op x86asm.Op) bool {
	switch op {
	case x86asm.CMP, x86asm.TEST, x86asm.NOP, x86asm.CALL, x86asm.JMP, x86asm.PUSH, x86asm.BT, x86asm.LEA, x86asm.MUL, x86asm.DIV, x86asm.IMUL, x86asm.IDIV,
		x86asm.PREFETCHNTA, x86asm.PREFETCHT0, x86asm.UCOMISD, x86asm.COMISD:
		return false
	}
	return true
}

// addressOf returns the address of an operand.
func addressOf(m x86asm.Mem, in x86asm.Inst, r *syscall.PtraceRegs) uint64 {
	general := [...]uint64{r.Rax, r.Rcx, r.Rdx, r.Rbx, r.Rsp, r.Rbp, r.Rsi, r.Rdi, r.R8, r.R9, r.R10, r.R11, r.R12, r.R13, r.R14, r.R15}
	value := func(reg x86asm.Reg) uint64 {
		switch {
		case reg == x86asm.RIP:
			return r.Rip + uint64(in.Len)
		case reg >= x86asm.RAX && reg <= x86asm.R15:
			return general[reg-x86asm.RAX]
		}
		return 0
	}
	a := value(m.Base) + uint64(m.Scale)*value(m.Index) + uint64(m.Disp)
	if m.Segment == x86asm.FS {
		a += r.Fs_base
	}
	return a
}

// steppedStacks returns the stacks that are stepped through, by name.
func steppedStacks(base store.Store) map[string]loadThread {
	return map[string]loadThread{
		"a mutex":               newPlain(sized(base.LoadThread, 10)).Get,
		"golang-lru":            newLRU(sized(base.LoadThread, 10)).Get,
		"chatstore's cache":     store.Wrap(base, cache.New()).LoadThread,
		"the recommended stack": recommended(base).LoadThread,
	}
}

// TestStepped is the child: two goroutines read one warm thread, and each reads once between breakpoints.
func TestStepped(t *testing.T) {
	name := os.Getenv("CHATSTORE_STEPPED")
	if name == "" {
		t.Skip("TestAHitWritesToNoSharedLine and the section on processors start it")
	}
	base := memstore.New()
	fill(t, base, 1, 0)
	ctx, id, load := asCaller(t.Context(), owner), threadID(0), steppedStacks(base)[name]
	var turn atomic.Int32
	together(2, func(w int) {
		runtime.LockOSThread()
		warm(ctx, load, id)
		turn.Add(1)
		for turn.Load() < int32(2+w) { // both are warm, and the other is not stepped through
		}
		procPin() // stepping takes longer than the scheduler's slice of time
		runtime.Breakpoint()
		_, _ = load(ctx, id)
		runtime.Breakpoint()
		procUnpin()
		turn.Add(1)
		for turn.Load() < 4 { // stay on this processor
		}
	})
}

//go:linkname procPin runtime.procPin
func procPin() int

//go:linkname procUnpin runtime.procUnpin
func procUnpin()

func warm(ctx context.Context, load loadThread, id string) {
	for range 1000 {
		_, err := load(ctx, id)
		check(err)
	}
}

// A hit must not write to memory that hits on other processors write to. A lock, a shared counter or a list of recently used
// entries would do so.
func TestAHitWritesToNoSharedLine(t *testing.T) {
	if testenv.Race {
		t.Skip("the race detector writes to memory of its own")
	}
	if _, shared := sharedBy(t, "a mutex"); shared == 0 {
		t.Fatal("the lines that a mutex shares were not seen")
	}
	for name := range steppedStacks(memstore.New()) {
		first, shared := sharedBy(t, name)
		t.Logf("%s: %d instructions, %d locked, %d lines, %d shared", name, first.instructions, first.locked, len(first.lines), shared)
		if name == "chatstore's cache" && shared > 0 {
			t.Errorf("two hits write to %d lines both", shared)
		}
	}
}
