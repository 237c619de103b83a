package main

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/redisbus/redistest"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
)

// Two servers share one database, behind a client that alternates between them. Each shows the other's writes.
func TestTwoServersShowTheSame(t *testing.T) {
	t.Run("over PostgreSQL's notifications", func(t *testing.T) {
		dsn := pgtest.Shared(t).DSN(t)
		testTwoServers(t, 30, func(c *config) { c.store = dsn })
	})
	t.Run("through a pooler", func(t *testing.T) {
		dsn := pgtest.Shared(t).DSN(t)
		pooled := pgtest.StartPooler(t, dsn, "default_pool_size = 5").DSN
		testTwoServers(t, 30, func(c *config) { c.store, c.pooler, c.listen = pooled, true, dsn })
	})
	t.Run("over Redis", func(t *testing.T) {
		dsn, redis := pgtest.Shared(t).DSN(t), redistest.Start(t).URL()
		testTwoServers(t, 30, func(c *config) { c.store, c.bus = dsn, redis })
	})
	t.Run("by polls of MariaDB", func(t *testing.T) {
		url := mysqltest.URL(mysqltest.Shared(t).DSN(t))
		testTwoServers(t, 3, func(c *config) { c.store = url }) // a poll a second
	})
	t.Run("by polls of MariaDB, and over Redis", func(t *testing.T) {
		url, redis := mysqltest.URL(mysqltest.Shared(t).DSN(t)), redistest.Start(t).URL()
		testTwoServers(t, 30, func(c *config) { c.store, c.bus = url, redis })
	})
}

func testTwoServers(t *testing.T, rounds int, change func(*config)) {
	files := t.TempDir()
	both := func(c *config) {
		c.files = files
		change(c)
	}
	servers := []*running{startAlone(t, both), startServer(t, both)}
	var turn atomic.Int64
	c := newClient(t, "", "ada", testKey)
	next := func() *client {
		c.url = servers[turn.Add(1)%2].url
		return c
	}
	// shown waits until neither server has a fault in its answers.
	shown := func(wrong func(reader *client) string) {
		t.Helper()
		for range servers {
			reader := *next()
			eventually(t, func() string { return wrong(&reader) })
		}
	}
	// Both servers hold the answers in their caches, because each reads before the other writes.
	ctx := t.Context()
	var told []string
	done := func(it object) { told = append(told, it["id"].(string)) }
	id := testenv.Value(next().newThread(ctx, "hello", done))(t)
	for range rounds {
		testenv.Must(t, next().say(ctx, id, "and on", done))
		shown(func(reader *client) string { return cmp.Diff(told, itemIDs(testenv.Value(reader.items(ctx, id))(t))) })
		next() // alternate the writer
	}
	testenv.Value(next().ask(ctx, "threads.update", object{"thread_id": id, "title": "Renamed"}))(t)
	shown(func(reader *client) string {
		v, err := reader.ask(ctx, "threads.get_by_id", object{"thread_id": id})
		if err != nil || v["title"] != "Renamed" {
			return fmt.Sprint("not renamed: ", v["title"], err)
		}
		return ""
	})
	testenv.Value(next().ask(ctx, "threads.delete", object{"thread_id": id}))(t)
	shown(func(reader *client) string {
		if _, err := reader.ask(ctx, "threads.get_by_id", object{"thread_id": id}); err == nil {
			return "a deleted thread is still shown"
		}
		return ""
	})
	if hits := sum(t, servers[0].registry, "chatstore_cache_requests_total", "result", "hit"); hits == 0 {
		t.Error("no cache hit: the test proves nothing")
	}
}
