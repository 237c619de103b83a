package memstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// A user begins a thread, and reads its newest messages. Another user does not see the thread.
func Example() {
	base := memstore.New(memstore.WithIDs(store.LongIDs{}))
	s := store.Wrap(base, authz.New(authz.OwnerOnly()))
	defer store.Close(s)

	ada := store.WithPrincipal(context.Background(), store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "ada"}})
	thread := chat.Thread{ID: s.GenerateThreadID(ada), Title: "Night trains", CreatedAt: time.Now()}
	if err := s.SaveThread(store.WithSaveMode(ada, store.InsertOnly), thread); err != nil {
		log.Fatal(err)
	}
	for i := range 3 {
		body := chat.UserMessage{Content: []chat.UserContent{{Text: fmt.Sprintf("question %d", i)}}}
		item, err := chat.NewItem(s.GenerateItemID(ada, chat.KindMessage, thread), time.Now(), body)
		if err != nil {
			log.Fatal(err)
		}
		if err := s.AddThreadItem(ada, thread.ID, item); err != nil {
			log.Fatal(err)
		}
	}

	page, err := s.LoadThreadItems(ada, thread.ID, store.PageQuery{Limit: 2}) // newest first
	if err != nil {
		log.Fatal(err)
	}
	for _, item := range page.Data {
		if message, ok, err := chat.DecodeItem[chat.UserMessage](item); ok && err == nil {
			fmt.Println(message.Content[0].Text)
		}
	}
	fmt.Println("more:", page.HasMore)

	bob := store.WithPrincipal(context.Background(), store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "bob"}})
	_, err = s.LoadThread(bob, thread.ID)
	fmt.Println("hidden from bob:", errors.Is(err, store.ErrNotFound))
	// Output:
	// question 2
	// question 1
	// more: true
	// hidden from bob: true
}
