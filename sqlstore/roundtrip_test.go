package sqlstore_test

import (
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
)

// itemsPerThread is the number of items of each thread of a round trip.
const itemsPerThread = 10

// Rows go from memory through SQLite, PostgreSQL, MariaDB and a file back into memory. Their bytes, owners, orders and cursors are the same.
func TestRowsSurviveTheRoundTrip(t *testing.T) { roundTrip(t, lightly(500, 100)) }

// BenchmarkRoundTrip makes the round trip with b.N threads of ten items, and reports the rows per second of each part.
//
//	go test -run '^$' -bench RoundTrip -benchtime 200000x -timeout 2h .
func BenchmarkRoundTrip(b *testing.B) {
	for part, rate := range roundTrip(b, b.N) {
		b.ReportMetric(rate, part+"-rows/s")
	}
	b.ReportMetric(0, "ns/op")
}

func roundTrip(t testing.TB, threads int) (rates map[string]float64) {
	ctx := t.Context()
	first, last := memstore.New(), memstore.New()
	lite, pg, my := sqliteFile(t), openPG(t, pgtest.Shared(t).DSN(t)), openMySQL(t, mysqltest.Shared(t).DSN(t))
	fillRows(t, first, threads)
	rows := float64(threads * (itemsPerThread + 1))
	rates = map[string]float64{}
	measure := func(part string, f func() error) {
		begun := time.Now()
		must(t, f())
		rates[part] = rows / time.Since(begun).Seconds()
	}
	measure("memstore-sqlite", func() error { return errOf(lifecycle.Copy(ctx, lite, first)) })
	measure("sqlite-postgres", func() error { return errOf(lifecycle.Copy(ctx, pg, lite, lifecycle.WithParallel(4))) })
	measure("postgres-mariadb", func() error { return errOf(lifecycle.Copy(ctx, my, pg, lifecycle.WithParallel(4))) })
	file := get[*os.File](t)(os.Create(filepath.Join(t.TempDir(), "export.jsonl")))
	defer file.Close()
	measure("export", func() error { return errOf(lifecycle.Export(ctx, file, my, store.AnyOwner())) })
	must(t, errOf(file.Seek(0, 0)))
	measure("import", func() error { return errOf(lifecycle.Import(ctx, last, file)) })
	measure("verify", func() error {
		for d, err := range lifecycle.Verify(ctx, my, lite) {
			must(t, err)
			t.Errorf("MariaDB and SQLite differ: %+v", d)
		}
		return nil
	})
	sameRows(t, first, last)
	return rates
}

// fillRows saves threads whose documents, owners and orders are hard to keep.
func fillRows(t testing.TB, s store.Store, threads int) {
	t.Helper()
	ctx := context.Background()
	start := time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC)
	for i := range threads {
		id := fmt.Sprintf("thr_%x", uint32(i)*2654435761) // in no order
		at := start.Add(time.Duration(i/7) * time.Millisecond)
		text := fmt.Sprintf(`{ "metadata": {"n":1.50, "n":1e2, "x":"\u0000\ud83d"}, "id":%q, "title":"Ünïcödé 🫖 %d", "created_at":%q,
			"status":{"type":"active"}, "unknown":[ ] }`, id, i, at.Format(time.RFC3339Nano))
		th := get[chat.Thread](t)(chat.ParseThread(text))
		if i%5 > 0 {
			th.Owner = chat.Owner{Tenant: fmt.Sprint("tenant ", i%3), Subject: fmt.Sprint("ädä ", i%11)}
		}
		must(t, s.SaveThread(ctx, th))
		for k := range itemsPerThread {
			text := fmt.Sprintf(`{"type":"assistant_message","id":"msg_%x","thread_id":%q,"created_at":%q,"content":[
				{"type":"output_text","text":"%s \"🫖\" \u00e9","annotations":[]}],"unknown":{"a":%d.0}}`, uint32(k*7919+i), id,
				at.Add(time.Duration(k/4)*time.Second).Format(time.RFC3339Nano), strings.Repeat("tea ", 20+k*5), k)
			must(t, s.AddThreadItem(ctx, id, get[chat.Item](t)(chat.ParseItem(text))))
		}
		if i%10 == 0 {
			a := get[chat.Attachment](t)(chat.ParseAttachment(fmt.Sprintf(
				`{"type":"file","id":"atc_%x", "name":"tea.txt","mime_type":"text/plain"}`, uint32(i)*2246822519)))
			a.Owner = th.Owner
			must(t, s.SaveAttachment(ctx, a))
		}
		if i%20 == 0 {
			must(t, s.DeleteThreadItem(ctx, id, fmt.Sprintf("msg_%x", uint32(7919+i))))
		}
	}
}

// sameRows fails the test unless both stores have the same rows in the same orders, and answer the same to cursors.
func sameRows(t testing.TB, a, b store.Store) {
	t.Helper()
	ctx := context.Background()
	n := 0
	for want, got := range pairs(t, lifecycle.Threads(ctx, a, store.AnyOwner()), lifecycle.Threads(ctx, b, store.AnyOwner())) {
		if want.JSON() != got.JSON() || want.Owner != got.Owner {
			t.Fatalf("thread %d is %v of %v, was %v of %v", n, got.JSON(), got.Owner, want.JSON(), want.Owner)
		}
		last := chat.Item{}
		for want, got := range pairs(t, lifecycle.Items(ctx, a, want.ID), lifecycle.Items(ctx, b, want.ID)) {
			if want.JSON() != got.JSON() {
				t.Fatalf("an item of %s is %v, was %v", want.ThreadID, got.JSON(), want.JSON())
			}
			last = want
		}
		if n++; n%97 != 1 {
			continue
		}
		for _, order := range []store.Order{store.OldestFirst, store.NewestFirst} {
			q := store.PageQuery{Limit: 3, Order: order, After: want.ID}
			for _, f := range []store.OwnerFilter{store.AnyOwner(), store.OwnedBy(want.Owner)} {
				p := get[store.Page[chat.Thread]](t)(a.LoadThreads(ctx, store.ThreadQuery{PageQuery: q, Owner: f}))
				r := get[store.Page[chat.Thread]](t)(b.LoadThreads(ctx, store.ThreadQuery{PageQuery: q, Owner: f}))
				samePage(t, p, r, chat.Thread.JSON)
			}
			q.After = last.ID
			p := get[store.Page[chat.Item]](t)(a.LoadThreadItems(ctx, want.ID, q))
			r := get[store.Page[chat.Item]](t)(b.LoadThreadItems(ctx, want.ID, q))
			samePage(t, p, r, chat.Item.JSON)
		}
	}
	for want, got := range pairs(t, lifecycle.Attachments(ctx, a, store.AnyOwner()), lifecycle.Attachments(ctx, b, store.AnyOwner())) {
		if want.JSON() != got.JSON() || want.Owner != got.Owner {
			t.Fatalf("an attachment is %v of %v, was %v of %v", got.JSON(), got.Owner, want.JSON(), want.Owner)
		}
	}
}

func samePage[T any](t testing.TB, p, r store.Page[T], doc func(T) chat.JSON) {
	t.Helper()
	if len(p.Data) != len(r.Data) || p.HasMore != r.HasMore || p.After != r.After {
		t.Fatalf("a page has %d rows, more %v, after %q; was %d, %v, %q", len(r.Data), r.HasMore, r.After, len(p.Data), p.HasMore, p.After)
	}
	for i := range p.Data {
		if doc(p.Data[i]) != doc(r.Data[i]) {
			t.Fatalf("row %d of a page is %v, was %v", i, doc(r.Data[i]), doc(p.Data[i]))
		}
	}
}

// pairs returns the rows of both sequences side by side. It fails the test if one has more.
func pairs[T any](t testing.TB, a, b iter.Seq2[T, error]) iter.Seq2[T, T] {
	return func(yield func(T, T) bool) {
		next, stop := iter.Pull2(b)
		defer stop()
		for v, err := range a {
			must(t, err)
			w, err, ok := next()
			must(t, err)
			if !ok {
				t.Fatalf("there is nothing where %v was", v)
			}
			if !yield(v, w) {
				return
			}
		}
		if v, _, ok := next(); ok {
			t.Fatalf("there is %v, which was not there", v)
		}
	}
}
