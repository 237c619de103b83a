package sqlstore_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/store"
)

// bare makes the calls of a Store with the driver alone: one connection with kept statements, and values that are parsed or
// made, as a Store must.
type bare struct {
	c                                        *sqlite.Conn
	load, page, begin, touch, insert, commit *sqlite.Stmt
}

func newBare(b *testing.B, path string, s *sqlstore.Store) *bare {
	c := raw(b, path)
	execute(b, c, "PRAGMA foreign_keys = on; PRAGMA synchronous = NORMAL")
	prepare := func(text string) *sqlite.Stmt { return get[*sqlite.Stmt](b)(c.Prepare(text)) }
	load, page, touch, insert := sqlstore.BareTexts(s)
	return &bare{c, prepare(load), prepare(page), prepare("BEGIN IMMEDIATE"), prepare(touch), prepare(insert), prepare("COMMIT")}
}

func (d *bare) loadThread(id string) (th chat.Thread, err error) {
	defer func() { _ = d.load.Reset() }()
	d.load.BindText(1, id)
	if ok, err := d.load.Step(); !ok {
		return th, cmp.Or(err, store.ErrNotFound)
	}
	th, err = chat.ParseThread(d.load.ColumnText(4))
	th.Owner = chat.Owner{Tenant: d.load.ColumnText(0), Subject: d.load.ColumnText(1)}
	return th, err
}

func (d *bare) loadItems(id string, limit int) (all []chat.Item, err error) {
	defer func() { _ = d.page.Reset() }()
	d.page.BindText(1, id)
	d.page.BindInt64(2, int64(limit)+1)
	all = make([]chat.Item, 0, limit)
	for {
		ok, err := d.page.Step()
		if !ok {
			return all, err
		}
		doc, id, at, place := d.page.ColumnText(1), d.page.ColumnText(2), d.page.ColumnInt64(3), d.page.ColumnInt64(4)
		if len(all) == limit {
			continue
		}
		it, err := chat.ParseItem(doc)
		if err != nil || id == "" || at == 0 || place == 0 {
			return nil, err
		}
		all = append(all, it)
	}
}

func (d *bare) addItem(threadID string, it chat.Item) error {
	var err error
	step := func(s *sqlite.Stmt) {
		for ok := true; ok && err == nil; {
			ok, err = s.Step()
		}
		_ = s.Reset()
	}
	it, err = it.Normalized(threadID)
	step(d.begin)
	d.touch.BindText(1, threadID)
	step(d.touch)
	d.insert.BindText(1, threadID)
	d.insert.BindText(2, it.ID)
	d.insert.BindInt64(3, it.CreatedAt.UnixMicro())
	d.insert.BindText(4, it.JSON().String())
	step(d.insert)
	step(d.commit)
	return err
}

// BenchmarkOverTheDriver makes calls of a Store and of its driver alone in turns, on files of equal contents. ratio is the one
// of the medians.
//
//	go test -run '^$' -bench OverTheDriver -benchtime 5000x .
func BenchmarkOverTheDriver(b *testing.B) {
	open := func(name string) (*sqlstore.Store, string) {
		path := filepath.Join(b.TempDir(), name)
		s := closing(b)(sqlstore.OpenSQLite(b.Context(), path, sqlstore.WithDurability(sqlstore.SurvivesKill)))
		for _, id := range []string{"thr_1", "thr_2"} {
			th := thread(id)
			th.Owner = ada
			must(b, s.SaveThread(b.Context(), th))
		}
		for i := range 1000 {
			must(b, s.AddThreadItem(b.Context(), "thr_1", answer(b, fmt.Sprintf("msg_%d", i), i)))
		}
		return s, path
	}
	s, _ := open("store.db")
	other, path := open("bare.db")
	d := newBare(b, path, other)
	added := 0
	for _, name := range []string{"", " with a context"} {
		ctx := context.Background()
		if name != "" {
			ctx = b.Context()
		}
		// The driver's own way to obey a context.
		obeying := func(f func() error) error {
			if done := ctx.Done(); done != nil {
				d.c.SetInterrupt(done)
				defer d.c.SetInterrupt(nil)
			}
			return f()
		}
		for _, c := range []struct {
			name        string
			store, bare func(new chat.Item) error
		}{
			{"load", func(chat.Item) error { return errOf(s.LoadThread(ctx, "thr_1")) }, func(chat.Item) error { return errOf(d.loadThread("thr_1")) }},
			{"page of 20", func(chat.Item) error {
				p, err := s.LoadThreadItems(ctx, "thr_1", store.PageQuery{Limit: 20})
				return errors.Join(err, twenty(p.Data))
			}, func(chat.Item) error {
				all, err := d.loadItems("thr_1", 20)
				return errors.Join(err, twenty(all))
			}},
			{"add", func(it chat.Item) error { return s.AddThreadItem(ctx, "thr_2", it) },
				func(it chat.Item) error { return d.addItem("thr_2", it) }},
		} {
			b.Run(c.name+name, func(b *testing.B) {
				var took [2][]time.Duration
				for b.Loop() {
					added++
					it := answer(b, fmt.Sprintf("new_%d", added), added)
					for k, call := range []func(chat.Item) error{c.store, func(it chat.Item) error { return obeying(func() error { return c.bare(it) }) }} {
						begin := time.Now()
						err := call(it)
						took[k] = append(took[k], time.Since(begin))
						must(b, err)
					}
				}
				for k := range took {
					slices.Sort(took[k])
				}
				median := func(k int) float64 { return float64(took[k][len(took[k])/2].Nanoseconds()) / 1000 }
				b.ReportMetric(median(0), "store-µs")
				b.ReportMetric(median(1), "bare-µs")
				b.ReportMetric(median(0)/median(1), "ratio")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

func twenty(all []chat.Item) error {
	if len(all) != 20 {
		return fmt.Errorf("%d items", len(all))
	}
	return nil
}

// answer is an item of usual length.
func answer(b *testing.B, id string, n int) chat.Item {
	b.Helper()
	body := chat.AssistantMessage{Content: []chat.AssistantContent{{Text: strings.Repeat("Words of an answer. ", 12)}}}
	return get[chat.Item](b)(chat.NewItem(id, noon.Add(time.Duration(n)*time.Millisecond), body))
}
