package storetest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chatstore/chatstore/store"
)

// notPrinted stands for a failure without a message.
const notPrinted = "not printed"

// recorder is a tb that records failures, so that tests can watch the suite fail.
type recorder struct {
	ctx  context.Context
	path string
	log  *recording

	mu       sync.Mutex
	messages []string
	cleanups []func()
}

// recording is the result of a whole run: messages and skip reasons by the path of the subtest.
type recording struct {
	only []string // paths of groups and checks to run; nil means all

	mu      sync.Mutex
	failed  map[string][]string
	skipped []string
}

// record runs the suite, or only the groups and checks of these paths, on the stores that open returns.
func record(ctx context.Context, open func() store.Store, only []string, opts ...Option) *recording {
	log := &recording{only: only, failed: make(map[string][]string)}
	root := &recorder{ctx: ctx, log: log}
	root.Run("", func(t tb) { run(t, func(tb) store.Store { return open() }, opts...) })
	return log
}

// skips reports whether the group or check of this path is not to run.
func (l *recording) skips(path string) bool {
	return path != "" && l.only != nil && !slices.ContainsFunc(l.only, func(p string) bool {
		return p == path || strings.HasPrefix(p, path+"/") || strings.HasPrefix(path, p+"/")
	})
}

func (r *recorder) Helper()                  {}
func (r *recorder) Name() string             { return strings.TrimSuffix("TestRecorded/"+r.path, "/") }
func (r *recorder) Context() context.Context { return r.ctx }
func (r *recorder) Cleanup(f func())         { r.cleanups = append(r.cleanups, f) }

func (r *recorder) Fail()    { r.Errorf(notPrinted) }
func (r *recorder) FailNow() { runtime.Goexit() }
func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Skipf(string, ...any) {
	r.log.mu.Lock()
	r.log.skipped = append(r.log.skipped, r.path)
	r.log.mu.Unlock()
	runtime.Goexit()
}

// Run runs f in its own goroutine, because Fatalf and Skipf end it.
func (r *recorder) Run(name string, f func(tb)) bool {
	sub := &recorder{ctx: r.ctx, log: r.log, path: name}
	if r.path != "" {
		sub.path = r.path + "/" + name
	}
	if r.log.skips(sub.path) {
		return true
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				sub.Errorf("panic: %v", p)
			}
			for _, cleanup := range slices.Backward(sub.cleanups) {
				cleanup()
			}
		}()
		f(sub)
	}()
	<-done
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	if len(sub.messages) > 0 {
		r.log.failed[sub.path] = sub.messages
		return false
	}
	return true
}

func TestSubtestNames(t *testing.T) {
	seen := make(map[string]bool)
	for _, g := range suite {
		if len(g.checks) == 0 {
			t.Errorf("group %q has no checks", g.name)
		}
		for _, c := range g.checks {
			name := g.name + "/" + c.name
			if seen[name] {
				t.Errorf("two checks are called %q", name)
			}
			seen[name] = true
			if c.rule == "" || c.run == nil {
				t.Errorf("check %q has no rule or no function", name)
			}
		}
	}
}
