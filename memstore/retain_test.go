package memstore_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
)

// Stored strings must not keep longer texts in memory, such as a request's body or a replaced item.
func TestNothingKeepsTheCallersBuffers(t *testing.T) {
	const rows, megabyte = 64, 1 << 20
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	for name, fill := range map[string]func(s *memstore.Store, n int){
		"ids of deleted attachments": func(s *memstore.Store, n int) {
			body := strings.Repeat("x", megabyte) + fmt.Sprintf("atc_%02d", n)
			id := body[megabyte:]
			must(t, s.SaveAttachment(t.Context(), attachment(t, strings.Clone(id), chat.Owner{})))
			must(t, s.DeleteAttachment(t.Context(), id))
		},
		"first versions of items": func(s *memstore.Store, n int) {
			for _, size := range []int{megabyte, 1} {
				text := fmt.Sprintf(`{"id":"msg_%02d","created_at":"2026-01-02T12:00:00Z","type":"sdk_hidden_context","content":"%s"}`,
					n, strings.Repeat("x", size))
				must(t, s.SaveItem(t.Context(), "thr_1", testenv.Value(chat.ParseItem(text))(t)))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := memstore.New()
			must(t, s.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: noon}))
			before := testenv.Heap()
			for n := range rows {
				fill(s, n)
			}
			if kept := testenv.Heap() - before; kept > rows*megabyte/4 {
				t.Errorf("%d rows of a few hundred bytes keep %d KiB in memory", rows, kept>>10)
			}
			runtime.KeepAlive(s)
		})
	}
}

// The package comment has these numbers.
const (
	mostPerItem      = 350 // bytes beside the item's JSON
	mostPerGoneItem  = 200 // bytes, until the thread is deleted
	mostPerTombstone = 350 // bytes of the id of a deleted thread or attachment
)

// An item takes a bounded amount of memory beside its JSON. A deleted item, and the id of a deleted row, take less.
func TestRowsTakeLittleMemory(t *testing.T) {
	if testenv.Race {
		t.Skip("under the race detector, memory has other sizes")
	}
	owner := chat.Owner{Tenant: "tenant_01234567", Subject: "user_0123456789abcdef"}
	begin := chat.Thread{ID: "thr_01234567", CreatedAt: at(0), Owner: owner}
	id := func(i int) string { return fmt.Sprintf("msg_%08x", i) }
	for _, order := range []int{1, -1} { // oldest first, newest first
		for _, n := range []int{10_000, 30_000} { // the tables of a map are full at different numbers
			s, ctx := memstore.New(), t.Context()
			must(t, s.SaveThread(ctx, begin))
			before, text := testenv.Heap(), make([]int, n)
			for i := range n {
				body := chat.UserMessage{Content: []chat.UserContent{{Text: "a question"}}}
				must(t, s.AddThreadItem(ctx, begin.ID, testenv.Value(chat.NewItem(id(i), at(i*order), body))(t)))
				text[i] = len(testenv.Value(s.LoadItem(ctx, begin.ID, id(i)))(t).JSON().String())
			}
			used := func(payload []int) int {
				sum := testenv.Heap() - before
				for _, bytes := range payload {
					sum -= bytes
				}
				return sum
			}
			if got := used(text) / n; got > mostPerItem {
				t.Errorf("%d items: got %d bytes each beside the JSON, want at most %d", n, got, mostPerItem)
			}
			for i := range n / 2 {
				must(t, s.DeleteThreadItem(ctx, begin.ID, id(i)))
			}
			if got := used(text[n/2:]) / n; got > mostPerItem {
				t.Errorf("%d items, half of them deleted: got %d bytes each beside the JSON of the others, want at most %d", n, got, mostPerItem)
			}
			for i := n / 2; i < n; i++ {
				must(t, s.DeleteThreadItem(ctx, begin.ID, id(i)))
			}
			if got := used(nil) / n; got > mostPerGoneItem {
				t.Errorf("%d deleted items: got %d bytes each, want at most %d", n, got, mostPerGoneItem)
			}
			must(t, s.DeleteThread(ctx, begin.ID))
			if got := used(nil); got > n {
				t.Errorf("a deleted thread of %d deleted items: got %d bytes, want less than a byte for each", n, got)
			}
			runtime.KeepAlive(s)
		}
	}
	for kind, each := range map[string]func(s *memstore.Store, id string){
		"threads": func(s *memstore.Store, id string) {
			must(t, s.SaveThread(t.Context(), chat.Thread{ID: id, CreatedAt: at(0), Owner: owner}))
			must(t, s.AddThreadItem(t.Context(), id, item(t, "msg_1", 1)))
			must(t, s.DeleteThread(t.Context(), id))
		},
		"attachments": func(s *memstore.Store, id string) {
			must(t, s.SaveAttachment(t.Context(), attachment(t, id, owner)))
			must(t, s.DeleteAttachment(t.Context(), id))
		},
	} {
		const n = 10_000
		s := memstore.New()
		before := testenv.Heap()
		for i := range n {
			each(s, fmt.Sprintf("id_%08x", i))
		}
		if got := (testenv.Heap() - before) / n; got > mostPerTombstone {
			t.Errorf("deleted %s: got %d bytes each, want at most %d", kind, got, mostPerTombstone)
		}
		runtime.KeepAlive(s)
	}
}
