package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
)

// engines are the compared stores. The servers are reached by a unix socket. No store waits for the disk, because that would
// hide everything else.
func engines(b *testing.B) map[string]*sqlstore.Store {
	b.Helper()
	return map[string]*sqlstore.Store{"sqlite": sqliteFile(b), "postgres": openPG(b, pgtest.Shared(b).DSN(b)),
		"mariadb": mysqlOn(mysqltest.Shared(b).DSN(b))(b)}
}

// fill puts n items into a thread, with SQL.
func fill(b *testing.B, s *sqlstore.Store, threadID string, n int) {
	b.Helper()
	ctx := context.Background()
	must(b, s.SaveThread(ctx, thread(threadID)))
	doc := get[chat.Item](b)(item(b, "msg_@").Normalized(threadID)).JSON().String()
	numbers, analyze := fmt.Sprintf("WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < %d)", n), "ANALYZE"
	if s.LayerName() == "mysql" {
		numbers, analyze = fmt.Sprintf("WITH g AS (SELECT seq AS n FROM seq_1_to_%d)", n), "ANALYZE TABLE "+sqlstore.Table(s, "items")
	}
	must(b, sqlstore.Exec(s, fmt.Sprintf(`INSERT INTO %s (thread_id, id, created_at, place, doc)
		%s SELECT '%s', concat('msg_', n), n, n, replace('%s', '@', concat(n)) FROM g`,
		sqlstore.Table(s, "items"), numbers, threadID, strings.ReplaceAll(doc, "'", "''"))))
	must(b, sqlstore.Exec(s, analyze))
}

// BenchmarkPage reads pages of 20 at the newest end, the middle and the oldest end of two threads, in turns. One thread has
// a million items, the other a hundred. 1M/100 is the ratio of their times.
//
//	go test -run '^$' -bench Page -benchtime 2000x .
func BenchmarkPage(b *testing.B) {
	for name, s := range engines(b) {
		sizes := [2]int{1_000_000, 100}
		for _, n := range sizes {
			fill(b, s, fmt.Sprintf("thr_%d", n), n)
		}
		for place, at := range map[string]func(n, i int) int{
			"newest": func(n, i int) int { return n - i },
			"middle": func(n, i int) int { return n/2 + i },
			"oldest": func(_, i int) int { return 21 + i },
		} {
			b.Run(name+"/"+place, func(b *testing.B) {
				var took [2]time.Duration
				for i := 0; b.Loop(); i++ {
					for k, n := range sizes {
						q := store.PageQuery{Limit: 20, After: fmt.Sprintf("msg_%d", at(n, i%30))}
						begin := time.Now()
						p, err := s.LoadThreadItems(context.Background(), fmt.Sprintf("thr_%d", n), q)
						took[k] += time.Since(begin)
						if err != nil || len(p.Data) != 20 {
							b.Fatalf("%d items, %v", len(p.Data), err)
						}
					}
				}
				b.ReportMetric(float64(took[0])/float64(took[1]), "1M/100")
				b.ReportMetric(float64(took[0].Microseconds())/float64(b.N), "µs/page")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// BenchmarkOperations makes each call on all engines, alone and under the recommended stack, in turns. Times in µs are per
// call. postgres/sqlite is the ratio of the engines' times, and stack/… the ratio with and without the stack.
//
//	go test -run '^$' -bench Operations -benchtime 1000x .
func BenchmarkOperations(b *testing.B) {
	ctx := store.WithPrincipal(context.Background(), store.Principal{Owner: ada})
	names := []string{"sqlite", "postgres", "mariadb"}
	bases := engines(b)
	var stacks []store.Store
	for _, name := range names {
		stacks = append(stacks, bases[name])
	}
	for _, name := range names {
		stacks = append(stacks, recommended(b, bases[name]))
	}
	for k, s := range stacks {
		th := thread(fmt.Sprintf("thr_%d", k))
		th.Owner = ada
		must(b, s.SaveThread(ctx, th))
		for i := range 100 {
			must(b, s.AddThreadItem(ctx, th.ID, item(b, fmt.Sprintf("msg_%d", i))))
		}
		a := get[chat.Attachment](b)(chat.NewAttachment(fmt.Sprintf("atc_%d", k), chat.AttachmentBody{Type: "file", Name: "a", MIMEType: "text/plain"}))
		a.Owner = ada
		must(b, s.SaveAttachment(ctx, a))
	}
	calls := []struct {
		name string
		call func(s store.Store, k, i int) error
	}{
		{"load_thread", func(s store.Store, k, _ int) error { return errOf(s.LoadThread(ctx, fmt.Sprintf("thr_%d", k))) }},
		{"load_thread_items", func(s store.Store, k, _ int) error {
			return errOf(s.LoadThreadItems(ctx, fmt.Sprintf("thr_%d", k), store.PageQuery{}))
		}},
		{"load_item", func(s store.Store, k, i int) error {
			return errOf(s.LoadItem(ctx, fmt.Sprintf("thr_%d", k), fmt.Sprintf("msg_%d", i%100)))
		}},
		{"load_threads", func(s store.Store, _, _ int) error {
			return errOf(s.LoadThreads(ctx, store.ThreadQuery{Owner: store.OwnedBy(ada)}))
		}},
		{"load_attachment", func(s store.Store, k, _ int) error { return errOf(s.LoadAttachment(ctx, fmt.Sprintf("atc_%d", k))) }},
		{"save_thread", func(s store.Store, k, i int) error {
			th := thread(fmt.Sprintf("thr_%d", k))
			th.Title = fmt.Sprint(i)
			return s.SaveThread(ctx, th)
		}},
		{"save_thread (new)", func(s store.Store, k, i int) error {
			return s.SaveThread(ctx, thread(fmt.Sprintf("new_%d_%d", k, i)))
		}},
		{"delete_thread", func(s store.Store, k, i int) error { return s.DeleteThread(ctx, fmt.Sprintf("new_%d_%d", k, i)) }},
		{"add_thread_item", func(s store.Store, k, i int) error {
			return s.AddThreadItem(ctx, fmt.Sprintf("thr_%d", k), item(b, fmt.Sprintf("new_%d", i)))
		}},
		{"save_item", func(s store.Store, k, i int) error {
			return s.SaveItem(ctx, fmt.Sprintf("thr_%d", k), item(b, fmt.Sprintf("msg_%d", i%100)))
		}},
		{"delete_thread_item", func(s store.Store, k, i int) error {
			return s.DeleteThreadItem(ctx, fmt.Sprintf("thr_%d", k), fmt.Sprintf("new_%d", i))
		}},
		{"save_attachment", func(s store.Store, k, i int) error {
			a, err := chat.NewAttachment(fmt.Sprintf("new_%d_%d", k, i), chat.AttachmentBody{Type: "file", Name: "a", MIMEType: "text/plain"})
			return errors.Join(err, s.SaveAttachment(ctx, a))
		}},
		{"delete_attachment", func(s store.Store, k, i int) error { return s.DeleteAttachment(ctx, fmt.Sprintf("new_%d_%d", k, i)) }},
	}
	for _, c := range calls {
		b.Run(c.name, func(b *testing.B) {
			took := make([]time.Duration, len(stacks))
			for i := 0; b.Loop(); i++ {
				for k, s := range stacks {
					begin := time.Now()
					err := c.call(s, k, i)
					took[k] += time.Since(begin)
					must(b, err)
				}
			}
			for k, name := range names {
				b.ReportMetric(float64(took[k].Microseconds())/float64(b.N), name+"-µs")
				b.ReportMetric(float64(took[k+len(names)])/float64(took[k]), "stack/"+name)
				if k > 0 {
					b.ReportMetric(float64(took[k])/float64(took[0]), name+"/sqlite")
				}
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
