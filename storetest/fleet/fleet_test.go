package fleet

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
)

// keeper records the failures of a check.
type keeper struct {
	testing.TB
	failures []string
}

func (k *keeper) Errorf(format string, args ...any) {
	k.failures = append(k.failures, fmt.Sprintf(format, args...))
}

// want fails the test unless the failures have exactly these texts.
func (k *keeper) want(t *testing.T, texts ...string) {
	t.Helper()
	if !slices.EqualFunc(k.failures, texts, strings.Contains) {
		t.Errorf("failures %q, want %q", k.failures, texts)
	}
}

const bound = 5 * time.Second

// past returns the time of an event.
func past(d time.Duration) int64 { return time.Unix(1e9, 0).Add(d).UnixNano() }

// log returns the events of two processes. Each writes its thread ten times, once a second, and then reads the tenth write
// of the other thread 100 times. That is just enough for the check.
func log() (events []event) {
	for n := 1; n <= 10; n++ {
		for i := range 2 {
			events = append(events, event{Word: "wrote", Thread: i, N: n, At: past(time.Duration(n) * time.Second), worker: i})
		}
	}
	for range 100 {
		for i := range 2 {
			events = append(events, event{Word: "read", Thread: 1 - i, N: 10, At: past(20 * time.Second), worker: i})
		}
	}
	return events
}

func TestCheckFails(t *testing.T) {
	// read is a read of thread 1 by process 0 that lacks the fourth write, made at second 4.
	read := func(n int, after time.Duration) event {
		return event{Word: "read", Thread: 1, N: n, At: past(4*time.Second + after)}
	}
	lost := slices.Clip(slices.DeleteFunc(log(), func(e event) bool { return e.Word == "wrote" && e.Thread == 1 && e.N == 4 }))
	// own returns a log in which all reads except some are of the reader's own thread.
	own := func(foreign int) []event {
		events, n := log(), 0
		for i, e := range events {
			if e.Word == "read" {
				if n++; n > foreign {
					events[i].Thread = e.worker
				}
			}
		}
		return events
	}
	const stale = "process 0 read write 3 of thread 1, 5.000000001s after write 4 was acknowledged: the bound is 5s"
	const few = "too few calls to prove anything: "
	for name, c := range map[string]struct {
		events []event
		hits   int
		want   []string
	}{
		"nothing is wrong":                 {log(), 10, nil},
		"a read exactly at the bound":      {append(log(), read(3, bound)), 11, nil},
		"a read past the bound":            {append(log(), read(3, bound+1)), 11, []string{stale, "1 of 201 reads were too old"}},
		"a read of the write":              {append(log(), read(4, bound/2)), 11, nil},
		"a read before the write":          {append(log(), read(3, -time.Second)), 11, nil},
		"a read that lacks an unknown one": {append(lost, read(3, bound)), 11, []string{few + "19 writes"}},
		"a read that lacks the one after":  {append(lost, read(3, bound+time.Second+1)), 11, []string{"5.000000001s after write 5", "1 of 201", few}},
		"a read of no row":                 {append(log(), read(0, bound)), 11, []string{"process 0 read write 0 of thread 1, 8s after write 1", "1 of 201"}},
		"more stale reads than are printed": {append(log(), slices.Repeat([]event{read(3, bound+1)}, 7)...), 11,
			[]string{stale, stale, stale, stale, stale, "7 of 207 reads"}},
		"a write too few":                  {lost, 10, []string{few + "19 writes, 200 reads, 10 hits, 200 reads of other processes' threads"}},
		"a hit too few":                    {log(), 9, []string{few + "20 writes, 200 reads, 9 hits"}},
		"just enough of what others wrote": {own(20), 10, nil},
		"too little of what others wrote":  {own(19), 10, []string{few + "20 writes, 200 reads, 10 hits, 19 reads of other processes' threads"}},
		"nothing happened":                 {nil, 0, []string{few + "0 writes, 0 reads"}},
	} {
		t.Run(name, func(t *testing.T) {
			k := &keeper{TB: t}
			check(k, Fleet{Processes: 2, Bound: bound}, c.events, c.hits)
			k.want(t, c.want...)
		})
	}
}

func TestCheckLastFails(t *testing.T) {
	base := memstore.New()
	testenv.Must(t, base.SaveThread(t.Context(), chat.Thread{ID: threadOf(1), Title: "7", CreatedAt: time.Now()}))
	for name, c := range map[string]struct {
		read event
		want []string
	}{
		"the base's write":             {event{Thread: 1, N: 7}, nil},
		"an older write":               {event{Thread: 1, N: 6, worker: 2}, []string{`after all writes, process 2 reads write 6 of thread 1, error ; the base has "7"`}},
		"a newer write":                {event{Thread: 1, N: 8}, []string{`reads write 8`}},
		"an error":                     {event{Thread: 1, Text: "gone"}, []string{`error gone; the base has "7"`}},
		"a thread that the base lacks": {event{Thread: 0}, []string{"not found"}},
	} {
		t.Run(name, func(t *testing.T) {
			k := &keeper{TB: t}
			checkLast(k, Fleet{Base: base}, c.read)
			k.want(t, c.want...)
		})
	}
}
