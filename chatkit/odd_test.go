package chatkit

import (
	"strconv"
	"testing"
)

func TestOddItemsAreRememberedUpToALimit(t *testing.T) {
	var o oddItems
	for i := range maxOdd {
		if id := strconv.Itoa(i); !o.first("thr", id) || o.first("thr", id) {
			t.Fatalf("item %s: wrong answer", id)
		}
	}
	if o.first("thr", "0") || !o.first("th", "r0") || len(o.logged) > maxOdd {
		t.Errorf("%d items are remembered, at most %d are allowed", len(o.logged), maxOdd)
	}
}
