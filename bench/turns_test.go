package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// tally counts the calls of a base.
type tally struct{ reads, writes atomic.Int64 }

func (c *tally) around(base store.Store) store.Store {
	return store.Wrap(base, layer.Intercept("count", layer.InterceptorFunc(
		func(ctx context.Context, call layer.Call, next func(context.Context) error) error {
			if call.Op.IsWrite() {
				c.writes.Add(1)
			} else {
				c.reads.Add(1)
			}
			return next(ctx)
		})))
}

// byKey is a typical handwritten cache: threads, items and pages in a peer's caches, each keyed by all arguments of the
// read. A write drops all entries of its thread. A load that overlaps the write can store a stale entry, which stays until
// the TTL.
type byKey struct {
	store.Store
	threads peer[chat.Thread]
	items   peer[chat.Item]
	pages   peer[store.Page[chat.Item]]

	mu   sync.Mutex
	keys map[string]map[string]store.PageQuery // keys of the cached pages, by thread
}

// asKey returns the key of a page or an item.
func asKey(threadID, rest string) string { return threadID + "|" + rest }

// newByKey returns a byKey over base, with the peer of index n.
func newByKey(base store.Store, n int) *byKey {
	c := &byKey{Store: base, keys: map[string]map[string]store.PageQuery{}}
	c.threads = peersOf[chat.Thread]()[n].new(sized(base.LoadThread, at.turnEntries))
	c.items = peersOf[chat.Item]()[n].new(sized(func(ctx context.Context, key string) (chat.Item, error) {
		threadID, id := cut(key)
		return base.LoadItem(ctx, threadID, id)
	}, at.turnEntries))
	c.pages = peersOf[store.Page[chat.Item]]()[n].new(sized(func(ctx context.Context, key string) (store.Page[chat.Item], error) {
		threadID, _ := cut(key)
		c.mu.Lock()
		q := c.keys[threadID][key]
		c.mu.Unlock()
		return base.LoadThreadItems(ctx, threadID, q)
	}, at.turnEntries))
	return c
}

func cut(key string) (threadID, rest string) {
	threadID, rest, _ = strings.Cut(key, "|")
	return threadID, rest
}

func (c *byKey) LoadThread(ctx context.Context, id string) (chat.Thread, error) {
	return c.threads.Get(ctx, id)
}

func (c *byKey) LoadItem(ctx context.Context, threadID, id string) (chat.Item, error) {
	return c.items.Get(ctx, asKey(threadID, id))
}

func (c *byKey) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
	key := asKey(threadID, fmt.Sprintf("%d|%d|%s", q.Limit, q.Order, q.After))
	c.mu.Lock()
	of := c.keys[threadID]
	if of == nil {
		of = map[string]store.PageQuery{}
		c.keys[threadID] = of
	}
	of[key] = q
	c.mu.Unlock()
	return c.pages.Get(ctx, key)
}

// wrote drops the entries that a write may have changed.
func (c *byKey) wrote(ctx context.Context, threadID, itemID string) {
	if itemID == "" { // the write changed only the thread
		c.threads.Delete(ctx, threadID)
		return
	}
	c.items.Delete(ctx, asKey(threadID, itemID))
	c.mu.Lock()
	of := c.keys[threadID]
	delete(c.keys, threadID)
	c.mu.Unlock()
	for key := range of {
		c.pages.Delete(ctx, key)
	}
}

func (c *byKey) SaveThread(ctx context.Context, t chat.Thread) error {
	defer c.wrote(ctx, t.ID, "")
	return c.Store.SaveThread(ctx, t)
}

func (c *byKey) AddThreadItem(ctx context.Context, threadID string, it chat.Item) error {
	defer c.wrote(ctx, threadID, it.ID)
	return c.Store.AddThreadItem(ctx, threadID, it)
}

func (c *byKey) SaveItem(ctx context.Context, threadID string, it chat.Item) error {
	defer c.wrote(ctx, threadID, it.ID)
	return c.Store.SaveItem(ctx, threadID, it)
}

func (c *byKey) DeleteThreadItem(ctx context.Context, threadID, id string) error {
	defer c.wrote(ctx, threadID, id)
	return c.Store.DeleteThreadItem(ctx, threadID, id)
}

func (c *byKey) Close() error {
	c.threads.Close()
	c.items.Close()
	c.pages.Close()
	return nil
}

// Each user has threadsOfEach threads, and each thread has itemsAtFirst items at first.
const (
	threadsOfEach = 2
	itemsAtFirst  = 24
)

// user makes a turn in one of its threads.
type user struct {
	store.Store
	owner  chat.Owner
	thread string
	said   *int
	newest map[string]string // newest item by thread, if known
	stale  *int              // number of stale pages
}

// load loads the thread.
func (u user) load(ctx context.Context) {
	_, err := u.LoadThread(ctx, u.thread)
	check(err)
}

// page loads a page of the thread, and counts it if it is stale.
func (u user) page(ctx context.Context, limit int, order store.Order) []chat.Item {
	p, err := u.LoadThreadItems(ctx, u.thread, store.PageQuery{Limit: limit, Order: order})
	if err != nil || len(p.Data) != limit { // every thread has more items
		panic(fmt.Sprintf("%d items, want %d, %v", len(p.Data), limit, err))
	}
	if newest := u.newest[u.thread]; order == store.NewestFirst && newest != "" && p.Data[0].ID != newest {
		*u.stale++
	}
	return p.Data
}

// say adds a message.
func (u user) say(ctx context.Context) {
	*u.said++
	it := message(1_000_000 + *u.said)
	u.newest[u.thread] = it.ID
	check(u.AddThreadItem(ctx, u.thread, it))
}

// answer is the assistant's part: it reads the newest items and adds a message.
func (u user) answer(ctx context.Context) {
	u.page(ctx, 20, store.NewestFirst)
	u.say(ctx)
}

// kindsOfTurns has the calls that a ChatKit server makes for each kind of request. Most kinds load the thread first. weight
// is the share in percent.
var kindsOfTurns = []struct {
	name   string
	weight int
	turn   func(ctx context.Context, u user)
}{
	{"a user's turn", 50, func(ctx context.Context, u user) {
		u.load(ctx)
		u.page(ctx, 20, store.NewestFirst) // is a tool call pending?
		u.say(ctx)
		u.answer(ctx)
	}},
	{"opening a thread", 20, func(ctx context.Context, u user) {
		u.load(ctx)
		u.page(ctx, 20, store.OldestFirst)
	}},
	{"listing threads", 15, func(ctx context.Context, u user) {
		p, err := u.LoadThreads(ctx, store.ThreadQuery{PageQuery: store.PageQuery{Limit: 20}, Owner: store.OwnedBy(u.owner)})
		if err != nil || len(p.Data) != threadsOfEach {
			panic(fmt.Sprintf("%d threads, %v", len(p.Data), err))
		}
	}},
	{"a tool's output", 10, func(ctx context.Context, u user) {
		u.load(ctx)
		pending := u.page(ctx, 1, store.NewestFirst)
		check(u.SaveItem(ctx, u.thread, pending[0]))
		u.page(ctx, 20, store.NewestFirst) // are others pending?
		u.answer(ctx)
	}},
	{"a retry", 5, func(ctx context.Context, u user) {
		u.load(ctx)
		items := u.page(ctx, 20, store.NewestFirst) // items after the message
		check(u.DeleteThreadItem(ctx, u.thread, items[0].ID))
		u.newest[u.thread] = items[1].ID
		_, err := u.LoadItem(ctx, u.thread, items[1].ID)
		check(err)
		u.answer(ctx)
	}},
}

// listing is the index of the kind that reads no thread.
const listing = 2

func kindOf(n int) int {
	for k, kind := range kindsOfTurns {
		if n < kind.weight {
			return k
		}
		n -= kind.weight
	}
	panic("the weights do not add up to 100")
}

// chatTurns measures section 2.
func chatTurns(tb testing.TB) []table {
	fill := func(base store.Store) {
		for u := range at.turnUsers {
			for n := range threadsOfEach {
				th := chat.Thread{ID: turnThread(u, n), Title: "A chat", CreatedAt: noon.Add(time.Duration(n) * time.Hour), Owner: turnOwner(u)}
				must(tb, base.SaveThread(tb.Context(), th))
				for i := range itemsAtFirst {
					must(tb, base.AddThreadItem(tb.Context(), th.ID, message(i)))
				}
			}
		}
		must(tb, store.Close(base))
	}
	dir := tb.TempDir()
	file := filepath.Join(dir, "chat.db")
	sqlite := func(path string) store.Store {
		return get[*sqlstore.Store](tb)(sqlstore.OpenSQLite(tb.Context(), path, sqlstore.WithDurability(sqlstore.SurvivesKill)))
	}
	fill(sqlite(file))
	text := get[[]byte](tb)(os.ReadFile(file))

	server := pgtest.Shared(tb)
	dsn := server.DSN(tb)
	postgres := func(dsn string) store.Store {
		return get[*sqlstore.Store](tb)(sqlstore.OpenPostgres(tb.Context(), dsn))
	}
	fill(postgres(dsn))
	return []table{
		turnsOver(tb, "SQLite", func(n int) store.Store {
			path := filepath.Join(dir, fmt.Sprintf("%d.db", n))
			must(tb, os.WriteFile(path, text, 0o600))
			return sqlite(path)
		}),
		turnsOver(tb, "PostgreSQL", func(int) store.Store { return postgres(server.Copy(tb, dsn)) }),
	}
}

func turnThread(user, n int) string { return fmt.Sprintf("thr_%04d_%d", user, n) }

func turnOwner(user int) chat.Owner {
	return chat.Owner{Tenant: "acme", Subject: fmt.Sprintf("user_%04d", user)}
}

// contender is a stack under test. All contenders make the same turns, each over a base of its own.
type contender struct {
	name  string
	calls tally
	store store.Store
	close func()

	rand  *rand.Rand
	users *rand.Zipf
	made  int
	last  map[string]int // last turn that read it, by thread

	said   int
	newest map[string]string
	stale  int
	// Counts by kind, and by whether the thread was cold.
	reads, turns [5][2]int64
	// Times by whether the thread was cold, one per part.
	times [2][]time.Duration
}

// part makes the turns of one part.
func (c *contender) part(ctx context.Context) {
	var spent [2]time.Duration
	var turns [2]int
	for range at.turnsOfAPart {
		// Recent users come back: the ranks drift slowly over the users.
		of := (int(c.users.Uint64()) + c.made/20) % at.turnUsers
		n := 0
		if c.rand.IntN(8) == 0 {
			n = 1
		}
		u := user{c.store, turnOwner(of), turnThread(of, n), &c.said, c.newest, &c.stale}
		kind, cold := kindOf(c.rand.IntN(100)), 0
		if last, ok := c.last[u.thread]; !ok || c.made-last > at.turnUsers {
			cold = 1
		}
		c.made++
		if kind != listing {
			c.last[u.thread] = c.made
		}
		before, begin := c.calls.reads.Load(), time.Now()
		kindsOfTurns[kind].turn(asCaller(ctx, u.owner), u)
		spent[cold] += time.Since(begin)
		turns[cold]++
		c.reads[kind][cold] += c.calls.reads.Load() - before
		c.turns[kind][cold]++
	}
	for cold, n := range turns {
		if n > 0 {
			c.times[cold] = append(c.times[cold], spent[cold]/time.Duration(n))
		}
	}
}

// export reads all items once. chatstore's layers store none of its answers. Peers have no such option.
func (c *contender) export(ctx context.Context) {
	ctx = store.WithNoStore(ctx)
	q := store.PageQuery{Limit: 100, Order: store.OldestFirst}
	for u := range at.turnUsers {
		for n := range threadsOfEach {
			_, err := c.store.LoadThreadItems(asCaller(ctx, turnOwner(u)), turnThread(u, n), q)
			check(err)
		}
	}
}

// turnsOver makes the same turns over each contender, with a base for each.
func turnsOver(tb testing.TB, name string, base func(n int) store.Store) table {
	ctx := tb.Context()
	var all []*contender
	join := func(name string, wrap func(base store.Store) store.Store) {
		r := rand.New(rand.NewPCG(3, 3))
		c := &contender{name: name, rand: r, users: rand.NewZipf(r, 1.2, 8, uint64(at.turnUsers-1)), last: map[string]int{}, newest: map[string]string{}}
		base := c.calls.around(base(len(all)))
		c.store = wrap(base)
		c.close = func() { must(tb, store.Close(c.store)) }
		if by, ok := c.store.(*byKey); ok {
			c.close = func() {
				must(tb, by.Close())
				must(tb, store.Close(base))
			}
		}
		all = append(all, c)
	}
	join("no cache", func(base store.Store) store.Store { return base })
	for n, p := range peersOf[chat.Thread]() {
		join(p.name+", by key", func(base store.Store) store.Store { return newByKey(base, n) })
	}
	join("**chatstore's cache**", func(base store.Store) store.Store {
		return store.Wrap(base, cache.New(cache.WithMaxEntries(at.turnEntries)))
	})
	join("**the recommended stack**", func(base store.Store) store.Store {
		return recommended(base, cache.WithMaxEntries(at.turnEntries))
	})
	for n := range at.turnParts {
		for _, c := range all {
			if n == at.turnParts/2 {
				c.export(ctx)
			}
			c.part(ctx)
		}
	}

	t := table{title: "Turns over " + name, head: []string{"base reads, warm / cold"},
		note: fmt.Sprintf("%s turns of %s users with %d threads each. Caches have room for half of the threads. An exporter reads everything once, in "+
			"the middle, under WithNoStore, which peers do not have. A thread is cold if none of the %s turns before read it. Times are medians of %d parts.",
			grouped(at.turnParts*at.turnsOfAPart), grouped(at.turnUsers), threadsOfEach, grouped(at.turnUsers), at.turnParts)}
	for _, k := range kindsOfTurns {
		t.head = append(t.head, k.name)
	}
	t.head = append(t.head, "all turns", "base writes", "stale pages", "time, warm", "time, cold")
	for _, c := range all {
		c.close()
		row := []string{c.name}
		var reads, turns [2]int64
		perTurn := func(reads, turns [2]int64) string {
			return fmt.Sprintf("%.2f / %.2f", float64(reads[0])/float64(turns[0]), float64(reads[1])/float64(turns[1]))
		}
		for k := range kindsOfTurns {
			for cold := range reads {
				reads[cold] += c.reads[k][cold]
				turns[cold] += c.turns[k][cold]
			}
			row = append(row, perTurn(c.reads[k], c.turns[k]))
		}
		t.rows = append(t.rows, append(row, perTurn(reads, turns), fmt.Sprintf("%.2f", float64(c.calls.writes.Load())/float64(c.made)), grouped(c.stale),
			nanos(median(c.times[0])), nanos(median(c.times[1]))))
	}
	return t
}
