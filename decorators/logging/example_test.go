package logging_test

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/logging"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// A program logs failures and slow calls. The line has the id of the thread, but not its title.
func Example() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr { // what differs from run to run
			if a.Key == slog.TimeKey || a.Key == "duration" {
				return slog.Attr{}
			}
			return a
		},
	}))
	s := store.Wrap(memstore.New(), logging.New(logger, logging.WithSample(0), logging.WithSlow(time.Minute)))

	ctx := context.Background()
	thread := chat.Thread{ID: "thr_1", Title: "Salary", CreatedAt: time.Now()}
	_ = s.SaveThread(ctx, thread)
	_ = s.SaveThread(store.WithSaveMode(ctx, store.InsertOnly), thread)
	_, _ = s.LoadThreadItems(ctx, "thr_1", store.PageQuery{Limit: -1})
	// Output:
	// level=INFO msg="chatstore call" operation=save_thread code=conflict thread_id=thr_1 outcome=not_applied
	// level=WARN msg="chatstore call" operation=load_thread_items code=invalid thread_id=thr_1 limit=-1
}
