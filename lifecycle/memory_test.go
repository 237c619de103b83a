package lifecycle_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/store"
)

// synthetic is a store of many threads, the last of which is long. It makes rows when it is asked, and forgets what it gets.
type synthetic struct {
	store.Store
	threads, items, last int
	saved                lifecycle.Counts
	calls, highest       int // the highest heap that was seen
}

// sample looks at the heap in some of the calls.
func (s *synthetic) sample() {
	if s.calls++; s.calls%(1+s.threads*s.items/50) == 0 {
		s.highest = max(s.highest, testenv.Heap())
	}
}

func (s *synthetic) thread(n int) chat.Thread {
	return testenv.OrPanic(chat.Thread{ID: fmt.Sprint("thr_", n), CreatedAt: noon.Add(time.Duration(n) * time.Second)}.Normalized())
}

func (s *synthetic) LoadThread(_ context.Context, id string) (chat.Thread, error) {
	n := 0
	_, err := fmt.Sscanf(id, "thr_%d", &n)
	return s.thread(n), err
}

func (s *synthetic) LoadThreads(_ context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	return page(q.PageQuery, "thr_", s.threads, s.thread), nil
}

func (s *synthetic) LoadThreadItems(_ context.Context, id string, q store.PageQuery) (store.Page[chat.Item], error) {
	s.sample()
	n := s.items
	if id == fmt.Sprint("thr_", s.threads-1) {
		n = s.last
	}
	return page(q, "msg_", n, func(n int) chat.Item {
		it := testenv.OrPanic(chat.NewItem(fmt.Sprint("msg_", n), noon, chat.EndOfTurn{}))
		return testenv.OrPanic(it.Normalized(id))
	}), nil
}

func page[T any](q store.PageQuery, prefix string, rows int, row func(int) T) (p store.Page[T]) {
	n := -1
	if q.After != "" {
		testenv.OrPanic(fmt.Sscanf(q.After, prefix+"%d", &n))
	}
	for n++; n < rows && len(p.Data) < q.Limit; n++ {
		p.Data = append(p.Data, row(n))
	}
	if p.HasMore = n < rows; p.HasMore {
		p.After = fmt.Sprint(prefix, n-1)
	}
	return p
}

func (s *synthetic) SaveThread(context.Context, chat.Thread) error {
	s.saved.Threads++
	return nil
}

func (s *synthetic) AddThreadItem(context.Context, string, chat.Item) error {
	s.sample()
	s.saved.Items++
	return nil
}

// The same heap holds while a hundred thousand rows pass, and, with CHATSTORE_FULL=1, while two million do.
func TestExportAndImportNeedConstantMemory(t *testing.T) {
	s := &synthetic{threads: 100, items: 500, last: 50_000}
	if testenv.Full && !testenv.Race {
		s.threads, s.items = 2000, 1000
	}
	file := testenv.Value(os.Create(filepath.Join(t.TempDir(), "export.jsonl")))(t)
	defer file.Close()
	before := testenv.Heap()
	want := lifecycle.Counts{Threads: int64(s.threads), Items: int64((s.threads-1)*s.items + s.last)}
	counts, err := lifecycle.Export(t.Context(), file, s, store.AnyOwner(), lifecycle.WithoutAttachments())
	testenv.Must(t, err)
	if counts != want {
		t.Errorf("exported %+v, want %+v", counts, want)
	}
	testenv.OrPanic(file.Seek(0, 0))
	_, err = lifecycle.Import(t.Context(), s, file)
	testenv.Must(t, err)
	if s.saved != want {
		t.Errorf("imported %+v, want %+v", s.saved, want)
	}
	if s.highest == 0 || s.highest > before+4<<20 {
		t.Errorf("the heap grew from %d to %d bytes, in %d calls", before, s.highest, s.calls)
	}
}
