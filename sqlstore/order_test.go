package sqlstore_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/store"
)

// Items of equal times are listed in the order of their commits, so that a walk during writes meets every item. A sequence of
// the database gives its numbers out before the commit: then a walk could miss items.
func TestAWalkOverTiesBesideWritersMeetsEveryItem(t *testing.T) {
	const writers, each = 6, 60
	onEach(t, func(t *testing.T, open opener) {
		s := open(t, sqlstore.WithMaxConns(writers+1))
		must(t, s.SaveThread(t.Context(), thread("thr")))
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					if err := s.AddThreadItem(context.Background(), "thr", item(t, fmt.Sprintf("row_%d_%d", w, i))); err != nil {
						t.Errorf("add: %v", err)
					}
				}
			})
		}
		written := make(chan struct{})
		go func() { wg.Wait(); close(written) }()
		var (
			walked []string
			after  string
		)
		for last := false; ; {
			select {
			case <-written:
				last = true
			default:
			}
			q := store.PageQuery{Limit: 7, Order: store.OldestFirst, After: after}
			page := get[store.Page[chat.Item]](t)(s.LoadThreadItems(context.Background(), "thr", q))
			for _, it := range page.Data {
				after = it.ID
				walked = append(walked, after)
			}
			if len(page.Data) == 0 && last {
				break
			}
		}
		distinct := slices.Compact(slices.Sorted(slices.Values(walked)))
		if len(walked) != writers*each || len(distinct) != writers*each {
			t.Errorf("the walk met %d items, %d of them distinct, want %d", len(walked), len(distinct), writers*each)
		}
	})
}
