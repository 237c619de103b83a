package generation

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestAWriteMovesTheCounterTwiceAndIsInProgressBetween(t *testing.T) {
	tab := New(1)
	s := tab.Slot(0, "a")
	before := tab.Begin(s)
	during := tab.Load(s)
	tab.End(s)
	after := tab.Load(s)
	if !before.Idle() || during.Idle() || !after.Idle() {
		t.Errorf("idle before, during, after: %v %v %v; want true false true", before.Idle(), during.Idle(), after.Idle())
	}
	if before == after {
		t.Error("a write left the counter unchanged, so an old value would still be current")
	}
	if after != before.AfterWrite() {
		t.Errorf("AfterWrite returned %x, but the counter is %x", before.AfterWrite(), after)
	}
}

func TestAfterWriteForetellsNothingWhenWritesMeet(t *testing.T) {
	tab := New(1)
	s := tab.Slot(0, "a")
	first := tab.Begin(s)
	second := tab.Begin(s)
	if second.Idle() {
		t.Error("the second write saw no write in progress")
	}
	tab.End(s)
	if w := tab.Load(s); w == first.AfterWrite() {
		t.Error("the counter equals the first write's AfterWrite, although another write was in progress")
	}
	tab.End(s)
	if w := tab.Load(s); !w.Idle() || w == first.AfterWrite() || w == second.AfterWrite() {
		t.Errorf("after both writes: %x, AfterWrite returned %x and %x", w, first.AfterWrite(), second.AfterWrite())
	}
}

func TestABumpMovesTheCounterAlsoDuringAWrite(t *testing.T) {
	tab := New(4)
	s := tab.Slot(0, "a")
	before := tab.Begin(s)
	tab.Bump(s)
	tab.End(s)
	if tab.Load(s) == before.AfterWrite() {
		t.Error("the counter lost the Bump")
	}
	all := make([]Counter, 4)
	for i := range all {
		all[i] = tab.Load(Slot(i))
	}
	tab.BumpAll()
	for i := range all {
		if tab.Load(Slot(i)) == all[i] {
			t.Errorf("BumpAll did not change counter %d", i)
		}
	}
}

func TestQuarantineKeepsTheCounterInProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab := New(1)
		s := tab.Slot(0, "a")
		tab.Begin(s)
		tab.EndUnknown(s, time.Minute)
		time.Sleep(30 * time.Second) // on the bubble's clock
		tab.Begin(s)
		tab.EndUnknown(s, time.Minute) // extends
		if tab.Quarantined() != 1 {
			t.Errorf("%d quarantines, want one per counter", tab.Quarantined())
		}
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if tab.Load(s).Idle() {
			t.Error("the quarantine ended at its first end")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !tab.Load(s).Idle() || tab.Quarantined() != 0 {
			t.Error("the quarantine did not end")
		}
	})
}

func TestAShorterQuarantineDoesNotShortenALongerOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab := New(1)
		tab.Begin(0)
		tab.EndUnknown(0, time.Minute)
		tab.Begin(0)
		tab.EndUnknown(0, time.Second)
		time.Sleep(50 * time.Second)
		synctest.Wait()
		if tab.Load(0).Idle() {
			t.Error("the quarantine ended early")
		}
		tab.Close()
	})
}

func TestCloseEndsQuarantinesAndLeavesNoTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab := New(1)
		tab.Begin(0)
		tab.EndUnknown(0, time.Hour)
		tab.Close()
		if !tab.Load(0).Idle() {
			t.Error("the write is still in progress after Close")
		}
		w := tab.Load(0)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if tab.Load(0) != w {
			t.Error("a timer fired after Close")
		}
		tab.Begin(0)
		tab.EndUnknown(0, time.Hour)
		if !tab.Load(0).Idle() {
			t.Error("a closed table began a quarantine")
		}
	})
}

func TestKindsHaveIndependentCounters(t *testing.T) {
	tab := New(1 << 16)
	same := 0
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		if tab.Slot(0, id) == tab.Slot(1, id) {
			same++
		}
	}
	if same == 8 {
		t.Error("an id has the same counter for every kind")
	}
}

func TestCountersUnderRace(t *testing.T) {
	tab := New(2)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				s := tab.Slot(0, "x")
				tab.Begin(s)
				tab.End(s)
			}
		})
	}
	wg.Wait()
	for i := range 2 {
		if !tab.Load(Slot(i)).Idle() {
			t.Errorf("counter %d still has a write in progress", i)
		}
	}
}
