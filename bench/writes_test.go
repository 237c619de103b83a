package bench

import (
	"fmt"
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

const (
	writers      = 16  // concurrent ones
	writesOfARun = 100 // writes after each read of a page
)

// writePrice measures section 7.
func writePrice(tb testing.TB) []table {
	ctx := asCaller(tb.Context(), owner)
	kinds := []struct {
		name string
		new  func(base store.Store) store.Store
	}{
		{"the base alone", func(base store.Store) store.Store { return base }},
		{"golang-lru, entries dropped by hand", func(base store.Store) store.Store { return newByKey(base, indexOfLRU) }},
		{"**chatstore's cache**", func(base store.Store) store.Store { return store.Wrap(base, cache.New()) }},
		{"**the recommended stack**", func(base store.Store) store.Store { return recommended(base) }},
	}
	items := make([]chat.Item, at.warmItems)
	for i := range items {
		items[i] = message(i)
	}
	var stacks []store.Store
	for _, k := range kinds {
		base := memstore.New()
		fill(tb, base, writers, at.warmItems)
		s := k.new(base)
		defer func() { must(tb, store.Close(s)) }()
		stacks = append(stacks, s)
	}
	// against returns the entrants. Each worker writes to the thread that of returns. The thread is cached, because it was
	// read before.
	against := func(of func(worker int) string) (entrants []entrant) {
		for i, k := range kinds {
			s := stacks[i]
			entrants = append(entrants, entrant{k.name, func(worker, _ int) {
				id := of(worker)
				_, err := s.LoadThreadItems(ctx, id, store.PageQuery{})
				check(err)
				for n := range writesOfARun {
					check(s.SaveItem(ctx, id, items[n%len(items)]))
				}
			}})
		}
		return entrants
	}
	own := func(worker int) string { return threadID(worker) }
	one := func(int) string { return threadID(0) }
	alone, apart, together := compare(against(one), 1, 1), compare(against(own), 2, writers), compare(against(one), 2, writers)
	t := table{
		title: "SaveItem in a cached thread", note: "Over a store in memory. The newest page is read before every hundred writes.",
		head: []string{"", "alone", "added", "allocations", fmt.Sprintf("%d writers, own threads", writers), fmt.Sprintf("%d writers, one thread", writers)},
	}
	for i, k := range kinds {
		t.rows = append(t.rows, []string{k.name, nanos(alone[i].call / writesOfARun), nanos((alone[i].call - alone[0].call) / writesOfARun),
			fmt.Sprintf("%.1f", alone[i].allocs/writesOfARun), nanos(apart[i].call / writesOfARun), nanos(together[i].call / writesOfARun)})
	}
	return []table{t}
}
