// Several shows several processes that share one conversation. Start it in two terminals and type into either: both print
// the line. Each process reads through its own cache, and a write of one process invalidates the entries of the other.
//
//	go run ./examples/several -store 'postgres://localhost/chat'
//	go run ./examples/several -store chat.db -bus redis://localhost:6379
//	go run ./examples/several -store mysql://chat@localhost/chat -bus redis://localhost:6379
//
// Only PostgreSQL tells a program what to print. Over other databases it needs Redis.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/bus/pubsub"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/redisbus"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/store"
)

func main() {
	where := flag.String("store", "chat.db", "an SQLite file or the URL of a database")
	over := flag.String("bus", "", "the URL of a Redis server; without it, the notifications of PostgreSQL")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *where, *over, os.Stdin, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

const threadID = "thr_several"

// run adds every line of in to the conversation, and prints the conversation's newest item whenever it changes.
func run(ctx context.Context, where, over string, in io.Reader, out io.Writer) (err error) {
	base, b, err := open(ctx, where, over)
	if err != nil {
		return err
	}
	s := store.Wrap(base, cache.New(cache.WithBus(b)))
	defer func() { err = errors.Join(err, store.Close(s), b.Close()) }()

	// The first process creates the thread. The other one gets ErrConflict.
	thread := chat.Thread{ID: threadID, Title: "Several", CreatedAt: time.Now()}
	err = s.SaveThread(store.WithSaveMode(ctx, store.InsertOnly), thread)
	if err != nil && !errors.Is(err, store.ErrConflict) {
		return err
	}
	changed := make(chan struct{}, 1)
	signalled := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	defer b.Subscribe(ctx, func(bus.Change) { signalled() }, func(bool) { signalled() })()

	lines := make(chan string)
	go func() {
		defer close(lines)
		for scan := bufio.NewScanner(in); scan.Scan(); {
			lines <- scan.Text()
		}
	}()
	shown := ""
	for {
		select {
		case line, more := <-lines:
			if !more {
				return nil
			}
			body := chat.UserMessage{Content: []chat.UserContent{{Text: line}}}
			it, err := chat.NewItem(s.GenerateItemID(ctx, chat.KindMessage, thread), time.Now(), body)
			if err != nil {
				return err
			}
			if err := s.AddThreadItem(ctx, threadID, it); err != nil {
				return err
			}
			signalled()
		case <-changed:
			page, err := s.LoadThreadItems(ctx, threadID, store.PageQuery{Limit: 1})
			if err != nil || len(page.Data) == 0 || page.Data[0].ID == shown {
				continue // try again at the next change
			}
			shown = page.Data[0].ID
			if m, ok, err := chat.DecodeItem[chat.UserMessage](page.Data[0]); ok && err == nil {
				fmt.Fprintln(out, text(m))
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// open opens the store, and the bus that carries the changes of other processes.
func open(ctx context.Context, where, over string) (s *sqlstore.Store, b *pubsub.Bus, err error) {
	if !strings.ContainsAny(where, ":=") {
		where = "sqlite:" + where
	}
	if s, err = sqlstore.Open(ctx, where); err != nil {
		return nil, nil, err
	}
	if over == "" {
		b, err = s.Bus(ctx)
	} else {
		var o *redis.Options
		if o, err = redis.ParseURL(over); err == nil {
			o.ContextTimeoutEnabled = true
			b = redisbus.New(redis.NewClient(o))
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	return s, b, nil
}

func text(m chat.UserMessage) string {
	var parts []string
	for _, c := range m.Content {
		parts = append(parts, c.Text)
	}
	return strings.Join(parts, " ")
}
