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
