package chatkit

import (
	"context"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/memstore"
)

// A retry of an earlier message covers the later ones. The oldest are forgotten.
func TestAFenceRemembersRetries(t *testing.T) {
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	message := func(minute int) chat.Item {
		return chat.Item{ID: "m", CreatedAt: noon.Add(time.Duration(minute) * time.Minute)}
	}
	f := fence{}
	for _, minute := range []int{1, 5, 9, 5} {
		f = f.next(message(minute), nil)
	}
	if len(f.Cuts) != 2 || f.Cuts[0] != (cut{1, noon.Add(time.Minute)}) || f.Cuts[1] != (cut{4, noon.Add(5 * time.Minute)}) {
		t.Errorf("retries of minutes 1, 5, 9 and 5: %v", f.Cuts)
	}
	for name, c := range map[string]struct {
		mine   fence
		spared bool
	}{
		"before both messages":              {fence{Epoch: 0, At: noon}, true},
		"behind the first message":          {fence{Epoch: 0, At: noon.Add(2 * time.Minute)}, false},
		"between them, and after its retry": {fence{Epoch: 2, At: noon.Add(2 * time.Minute)}, true},
		"behind the second message":         {fence{Epoch: 2, At: noon.Add(6 * time.Minute)}, false},
		"of the second message":             {fence{Epoch: 2, At: noon.Add(5 * time.Minute)}, false},
		"after all retries":                 {fence{Epoch: 4, At: noon.Add(6 * time.Minute)}, false}, // it is the newest turn
	} {
		if got := f.spares(c.mine); got != c.spared {
			t.Errorf("%s: %v", name, got)
		}
	}
	for minute := range 20 {
		f = f.next(message(20+minute), nil)
	}
	if len(f.Cuts) != maxCuts || f.Cuts[maxCuts-1].Epoch != f.Epoch {
		t.Errorf("after 20 more: %v", f.Cuts)
	}
}

// Two turns of one epoch are two turns: a thread may have been made again.
func TestAFenceIsOneTurns(t *testing.T) {
	a, b := fence{}.next(chat.Item{}, nil), fence{}.next(chat.Item{}, nil)
	if a.is(b) || !a.is(a) || a.Epoch != b.Epoch {
		t.Errorf("%v and %v", a, b)
	}
}

// Of two requests at one server, the one whose fence is newer answers, whichever comes first to the running turns.
func TestAnOlderRequestDoesNotEndANewerTurn(t *testing.T) {
	h := NewHandler(memstore.New(), nil)
	older := &claim{h: h, thread: chat.Thread{ID: "thr"}, version: 6}
	newer := &claim{h: h, thread: chat.Thread{ID: "thr"}, version: 7}
	ctx, err := newer.takeOver(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	context.AfterFunc(ctx, newer.release) // as a turn does that was ended
	if _, err := older.takeOver(t.Context()); err != errSuperseded || ctx.Err() != nil {
		t.Errorf("the older request: %v; the newer turn: %v", err, ctx.Err())
	}
}
