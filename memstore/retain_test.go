package memstore_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/memstore"
)

// What is kept must not keep the texts that it was cut from: a request's body, or a version that was replaced.
func TestNothingKeepsTheCallersBuffers(t *testing.T) {
	const rows, megabyte = 64, 1 << 20
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	for name, fill := range map[string]func(s *memstore.Store, n int) error{
		"ids of deleted attachments": func(s *memstore.Store, n int) error {
			body := strings.Repeat("x", megabyte) + fmt.Sprintf("atc_%02d", n)
			id := body[megabyte:]
			a, err := chat.NewAttachment(strings.Clone(id), chat.AttachmentBody{Type: "file", Name: "a", MIMEType: "text/plain"})
			if err != nil {
				return err
			}
			if err := s.SaveAttachment(t.Context(), a); err != nil {
				return err
			}
			return s.DeleteAttachment(t.Context(), id)
		},
		"first versions of items": func(s *memstore.Store, n int) error {
			for _, size := range []int{megabyte, 1} {
				text := fmt.Sprintf(`{"id":"msg_%02d","created_at":"2026-01-02T12:00:00Z","type":"sdk_hidden_context","content":"%s"}`,
					n, strings.Repeat("x", size))
				it, err := chat.ParseItem(text)
				if err != nil {
					return err
				}
				if err := s.SaveItem(t.Context(), "thr_1", it); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := memstore.New()
			if err := s.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: noon}); err != nil {
				t.Fatal(err)
			}
			before := heap()
			for n := range rows {
				if err := fill(s, n); err != nil {
					t.Fatal(err)
				}
			}
			if kept := heap() - before; kept > rows*megabyte/4 {
				t.Errorf("%d rows of a few hundred bytes keep %d KiB", rows, kept>>10)
			}
			runtime.KeepAlive(s)
		})
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
