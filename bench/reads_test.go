package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// reader answers warm reads.
type reader interface {
	LoadThread(ctx context.Context, id string) (chat.Thread, error)
	LoadThreadItems(ctx context.Context, id string, q store.PageQuery) (store.Page[chat.Item], error)
}

// throughPeers reads through two caches of a peer: threads by id, and pages by thread id. The only page is the newest 20
// items.
type throughPeers struct {
	threads peer[chat.Thread]
	pages   peer[store.Page[chat.Item]]
}

func (p throughPeers) LoadThread(ctx context.Context, id string) (chat.Thread, error) {
	return p.threads.Get(ctx, id)
}

func (p throughPeers) LoadThreadItems(ctx context.Context, id string, _ store.PageQuery) (store.Page[chat.Item], error) {
	return p.pages.Get(ctx, id)
}

// warmReads measures section 1.
func warmReads(tb testing.TB) (tables []table) {
	ctx := asCaller(tb.Context(), owner)
	rows := memstore.New()
	fill(tb, rows, at.warmThreads, at.warmItems)
	var calls tally
	base := calls.around(rows)
	ids := make([]string, at.warmThreads)
	for n := range ids {
		ids[n] = threadID(n)
	}
	type named struct {
		name   string
		reader reader
	}
	var readers []named
	threads := peersOf[chat.Thread]()
	pages := peersOf[store.Page[chat.Item]]()
	for i := range threads {
		p := throughPeers{
			threads[i].new(sized(base.LoadThread, 2*at.warmThreads)),
			pages[i].new(sized(func(ctx context.Context, id string) (store.Page[chat.Item], error) {
				return base.LoadThreadItems(ctx, id, store.PageQuery{})
			}, 2*at.warmThreads)),
		}
		defer p.threads.Close()
		defer p.pages.Close()
		readers = append(readers, named{threads[i].name, p})
	}
	alone := store.Wrap(base, cache.New())
	stack := recommended(base)
	u := newUsual(base, rows, 4*at.warmThreads)
	readers = append(readers, named{"**chatstore's cache**", alone}, named{"**the recommended stack**", stack},
		named{"the same stack, typical, by hand", u})

	works := []struct {
		name string
		call func(r reader, id string)
	}{
		{"LoadThread", func(r reader, id string) {
			if t, err := r.LoadThread(ctx, id); err != nil || t.ID != id {
				panic(fmt.Sprint("read ", t, err))
			}
		}},
		{"page of the newest 20 items", func(r reader, id string) {
			if p, err := r.LoadThreadItems(ctx, id, store.PageQuery{}); err != nil || len(p.Data) != 20 || !p.HasMore {
				panic(fmt.Sprint("read ", len(p.Data), err))
			}
		}},
	}
	keys := zipf(at.warmThreads, 1<<14)
	for _, w := range works {
		var entrants []entrant
		for _, r := range readers {
			for before := int64(-1); before != calls.reads.Load(); { // ristretto sets values later or drops them
				before = calls.reads.Load()
				for _, id := range ids {
					w.call(r.reader, id)
				}
			}
			entrants = append(entrants, entrant{r.name, func(worker, n int) { w.call(r.reader, ids[keys[(worker*1021+n)%len(keys)]]) }})
		}
		before := calls.reads.Load()
		one, two, many := compare(entrants, 1, 1), compare(entrants, 2, 2), compare(entrants, 2, 16)
		if loaded := calls.reads.Load() - before; loaded > 0 {
			tb.Fatalf("%s: %d reads missed the cache", w.name, loaded)
		}
		t := table{title: "A warm " + w.name, head: []string{"", "1 goroutine", "relative to golang-lru", "allocations", "2 on 2 processors", "relative to one",
			"16 on 2"}}
		for i, r := range readers {
			t.rows = append(t.rows, []string{r.name, nanos(one[i].call), times(one[i].call, one[indexOfLRU].call), fmt.Sprintf("%.1f", one[i].allocs),
				nanos(two[i].call), times(two[i].call, one[i].call), nanos(many[i].call)})
		}
		tables = append(tables, t)
	}
	must(tb, store.Close(stack, alone))
	return tables
}

// zipf draws ranks below n. A few ranks come often.
func zipf(n, draws int) []int {
	z := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 1, uint64(n-1))
	ranks := make([]int, draws)
	for i := range ranks {
		ranks[i] = int(z.Uint64())
	}
	return ranks
}
