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

// Rows of equal times are listed in the order of their commits, so that a walk during writes meets every row. A sequence of
// the database gives its numbers out before the commit: then a walk could miss rows.
func TestAWalkOverTiesBesideWritersMeetsEveryRow(t *testing.T) {
	const writers, each = 6, 60
	onEach(t, func(t *testing.T, open opener) {
		s := open(t, sqlstore.WithMaxConns(writers+1))
		must(t, s.SaveThread(t.Context(), thread("thr")))
		for name, c := range map[string]struct {
			add  func(id string) error
			page func(after string) ([]string, error)
		}{
			"threads": {
				func(id string) error {
					th := thread(id)
					th.Owner = chat.Owner{Subject: "ada"}
					return s.SaveThread(context.Background(), th)
				},
				func(after string) ([]string, error) {
					q := store.ThreadQuery{PageQuery: store.PageQuery{Limit: 7, Order: store.OldestFirst, After: after}, Owner: store.OwnedBy(chat.Owner{Subject: "ada"})}
					p, err := s.LoadThreads(context.Background(), q)
					return ids(p, func(th chat.Thread) string { return th.ID }), err
				},
			},
			"items": {
				func(id string) error { return s.AddThreadItem(context.Background(), "thr", item(t, id)) },
				func(after string) ([]string, error) {
					p, err := s.LoadThreadItems(context.Background(), "thr", store.PageQuery{Limit: 7, Order: store.OldestFirst, After: after})
					return ids(p, func(it chat.Item) string { return it.ID }), err
				},
			},
		} {
			t.Run(name, func(t *testing.T) {
				var wg sync.WaitGroup
				for w := range writers {
					wg.Go(func() {
						for i := range each {
							if err := c.add(fmt.Sprintf("row_%d_%d", w, i)); err != nil {
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
					page, err := c.page(after)
					must(t, err)
					if walked = append(walked, page...); len(page) > 0 {
						after = page[len(page)-1]
					} else if last {
						break
					}
				}
				distinct := slices.Compact(slices.Sorted(slices.Values(walked)))
				if len(walked) != writers*each || len(distinct) != writers*each {
					t.Errorf("the walk met %d rows, %d of them distinct, want %d", len(walked), len(distinct), writers*each)
				}
			})
		}
	})
}

func ids[T any](p store.Page[T], id func(T) string) (all []string) {
	for _, v := range p.Data {
		all = append(all, id(v))
	}
	return all
}
