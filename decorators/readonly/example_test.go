package readonly_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/readonly"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// An operator makes a running program read-only. Its callers can show their users why.
func Example() {
	var sw readonly.Switch
	s := store.Wrap(memstore.New(), readonly.New(&sw))
	ctx := context.Background()
	if err := s.SaveThread(ctx, chat.Thread{ID: "thr_1", Title: "Hello", CreatedAt: time.Now()}); err != nil {
		log.Fatal(err)
	}

	sw.Refuse("We are moving to a new database.")
	err := s.DeleteThread(ctx, "thr_1")
	fmt.Println(err)
	if refused, ok := errors.AsType[*readonly.Error](err); ok {
		fmt.Println(refused.Reason)
	}
	thread, err := s.LoadThread(ctx, "thr_1")
	fmt.Println(thread.Title, err)

	sw.Allow()
	fmt.Println(s.DeleteThread(ctx, "thr_1"))
	// Output:
	// delete_thread: unavailable: thread "thr_1"
	// We are moving to a new database.
	// Hello <nil>
	// <nil>
}
