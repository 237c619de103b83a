package main

import (
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/sqlstore/pgtest"
)

// Two servers on one PostgreSQL, behind a client that goes round: what one writes the other shows.
func TestTwoServersShowTheSame(t *testing.T) {
	dsn := pgtest.Shared(t).DSN(t)
	noLeaks(t)
	files := t.TempDir()
	both := func(c *config) { c.store, c.files = dsn, files }
	servers := []*running{startServer(t, both), startServer(t, both)}
	var turn atomic.Int64
	c := newClient(t, "", "ada", testKey)
	next := func() *client {
		c.url = servers[turn.Add(1)%2].url
		return c
	}
	// Both have what they show in their caches: each looks before the other writes.
	ctx := t.Context()
	var told []string
	done := func(it object) { told = append(told, it["id"].(string)) }
	id, err := next().newThread(ctx, "hello", done)
	if err != nil {
		t.Fatal(err)
	}
	for range 30 {
		if err := next().say(ctx, id, "and on", done); err != nil {
			t.Fatal(err)
		}
		for range servers {
			kept, err := next().items(ctx, id)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(told, itemIDs(kept)); diff != "" {
				t.Fatalf("(-told, +shown)\n%s", diff)
			}
		}
		next() // so that either writes
	}
	if _, err := next().ask(ctx, "threads.update", object{"thread_id": id, "title": "Renamed"}); err != nil {
		t.Fatal(err)
	}
	for range servers {
		if v, err := next().ask(ctx, "threads.get_by_id", object{"thread_id": id}); err != nil || v["title"] != "Renamed" {
			t.Errorf("%v, %v", v["title"], err)
		}
	}
	if _, err := next().ask(ctx, "threads.delete", object{"thread_id": id}); err != nil {
		t.Fatal(err)
	}
	for range servers {
		if _, err := next().ask(ctx, "threads.get_by_id", object{"thread_id": id}); err == nil {
			t.Error("a deleted thread is still shown")
		}
	}
	if hits := servers[0].sum(t, "chatstore_cache_requests_total", "result", "hit"); hits == 0 {
		t.Error("no read was answered by a cache: this test shows nothing")
	}
}
