package memstore_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

func Example() {
	ctx := context.Background()
	s := memstore.New(memstore.WithIDs(store.LongIDs{}))

	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	thread := chat.Thread{
		ID: "thr_1", Title: "Night trains", CreatedAt: created, Owner: chat.Owner{Tenant: "acme", Subject: "ada"},
	}
	if err := s.SaveThread(store.WithSaveMode(ctx, store.InsertOnly), thread); err != nil {
		fmt.Println(err)
	}
	for i := range 3 {
		item, err := chat.NewItem(fmt.Sprintf("msg_%d", i), created.Add(time.Duration(i)*time.Second), chat.EndOfTurn{})
		if err != nil {
			fmt.Println(err)
		}
		if err := s.AddThreadItem(ctx, thread.ID, item); err != nil {
			fmt.Println(err)
		}
	}

	page, err := s.LoadThreadItems(ctx, thread.ID, store.PageQuery{Limit: 2})
	fmt.Println(page.Data[0].ID, page.Data[1].ID, page.HasMore, page.After, err)

	thread.Owner = chat.Owner{Tenant: "acme", Subject: "bob"}
	err = s.SaveThread(ctx, thread)
	fmt.Println(err, errors.Is(err, store.ErrConflict))
	// Output:
	// msg_2 msg_1 true msg_1 <nil>
	// save_thread: conflict: thread "thr_1" true
}
