package bench

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"gonum.org/v1/plot/plotter"
	_ "modernc.org/sqlite"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
)

// multiply copies a row that the store has written, because a million calls would take minutes. It makes a thread of n
// items; multiplyThreads makes n threads of one owner.
const multiply = `
INSERT INTO %[1]sitems (thread_id, id, created_at, place, doc)
	WITH RECURSIVE g(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM g WHERE n < %[2]d)
	SELECT thread_id, 'msg_' || n, created_at + n, place + n, doc FROM %[1]sitems CROSS JOIN g WHERE thread_id = 'thr_of_%[2]d_items'`

const multiplyThreads = `
INSERT INTO %[1]sthreads (id, tenant, subject, created_at, version, places, state, doc)
	WITH RECURSIVE g(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM g WHERE n < %[2]d)
	SELECT id || '_' || n, tenant, %[3]s, created_at + n, version, places, state, doc FROM %[1]sthreads CROSS JOIN g WHERE id = 'thr_of_one_of_%[2]d'`

func ownerOf(threads int) chat.Owner {
	return chat.Owner{Tenant: "acme", Subject: fmt.Sprintf("has_%d", threads)}
}

// backend is a base to fill. open returns a new one, and its database if it has one.
type backend struct {
	name string
	open func() (store.Store, *sql.DB)
}

func backends(tb testing.TB) []backend {
	dir, files := tb.TempDir(), 0
	return []backend{
		{"in memory", func() (store.Store, *sql.DB) { return memstore.New(), nil }},
		{"SQLite", func() (store.Store, *sql.DB) {
			files++
			path := filepath.Join(dir, fmt.Sprintf("%d.db", files))
			s := get[*sqlstore.Store](tb)(sqlstore.OpenSQLite(tb.Context(), path, sqlstore.WithDurability(sqlstore.SurvivesKill)))
			return s, get[*sql.DB](tb)(sql.Open("sqlite", path))
		}},
		{"PostgreSQL", func() (store.Store, *sql.DB) {
			dsn := pgtest.Shared(tb).DSN(tb)
			s := get[*sqlstore.Store](tb)(sqlstore.OpenPostgres(tb.Context(), dsn))
			return s, get[*sql.DB](tb)(sql.Open("pgx", dsn))
		}},
	}
}

// growth measures section 6.
func growth(tb testing.TB) (tables []table) {
	items := table{title: "The newest 20 items of a thread", head: []string{"items in the thread"}}
	threads := table{title: "The newest 20 threads of an owner", head: []string{"threads of the owner"}}
	var itemCosts, threadCosts [][]measured
	for _, backend := range backends(tb) {
		base, db := backend.open()
		grow(tb, base, db)
		var pages, lists []entrant
		for _, n := range at.threadSizes {
			id := fmt.Sprintf("thr_of_%d_items", n)
			pages = append(pages, entrant{id, func(int, int) {
				if p, err := base.LoadThreadItems(tb.Context(), id, store.PageQuery{}); err != nil || len(p.Data) != 20 {
					panic(fmt.Sprint("read ", len(p.Data), err))
				}
			}})
		}
		for _, n := range at.ownerSizes {
			q := store.ThreadQuery{Owner: store.OwnedBy(ownerOf(n))}
			lists = append(lists, entrant{fmt.Sprint(n), func(int, int) {
				if p, err := base.LoadThreads(tb.Context(), q); err != nil || len(p.Data) != min(20, n) {
					panic(fmt.Sprint("listed ", len(p.Data), err))
				}
			}})
		}
		itemCosts, threadCosts = append(itemCosts, compare(pages, 2, 1)), append(threadCosts, compare(lists, 2, 1))
		items.head, threads.head = append(items.head, backend.name, "relative to smallest"), append(threads.head, backend.name, "relative to smallest")
		must(tb, store.Close(base))
		if db != nil {
			must(tb, db.Close())
		}
	}
	items.against(at.threadSizes, itemCosts)
	threads.against(at.ownerSizes, threadCosts)
	draw := func(file, title, x string, sizes []int, costs [][]measured) *picture {
		p := &picture{file: file, title: title, x: x, y: "µs a page", ticks: sizes}
		for n, of := range costs {
			l := line{name: items.head[1+2*n]}
			for i, c := range of {
				l.points = append(l.points, plotter.XY{X: float64(sizes[i]), Y: c.call / 1e3})
			}
			p.lines = append(p.lines, l)
		}
		return p
	}
	items.picture = draw("growth-items", items.title, items.head[0], at.threadSizes, itemCosts)
	threads.picture = draw("growth-threads", threads.title, threads.head[0], at.ownerSizes, threadCosts)
	return []table{items, threads, residents(tb), besideTheCollector(tb), inMemory(tb), fewOfMany(tb)}
}

// against adds a row for each size, with the times of each backend.
func (t *table) against(sizes []int, costs [][]measured) {
	for i, n := range sizes {
		row := []string{grouped(n)}
		for _, of := range costs {
			row = append(row, nanos(of[i].call), times(of[i].call, of[0].call))
		}
		t.rows = append(t.rows, row)
	}
}

// grow fills a base with threads and owners of all sizes. With a db it uses SQL.
func grow(tb testing.TB, base store.Store, db *sql.DB) {
	ctx := tb.Context()
	first := message(0)
	for _, n := range at.threadSizes {
		th := chat.Thread{ID: fmt.Sprintf("thr_of_%d_items", n), CreatedAt: noon, Owner: owner}
		must(tb, base.SaveThread(ctx, th))
		must(tb, base.AddThreadItem(ctx, th.ID, first))
		if db != nil {
			get[sql.Result](tb)(db.ExecContext(ctx, fmt.Sprintf(multiply, sqlstore.DefaultPrefix, n)))
			continue
		}
		for i := 1; i < n; i++ {
			must(tb, base.AddThreadItem(ctx, th.ID, message(i)))
		}
	}
	for _, n := range at.ownerSizes {
		growOwners(tb, base, db, n, n)
	}
	if db != nil {
		get[sql.Result](tb)(db.ExecContext(ctx, "ANALYZE"))
	}
}

// growOwners makes n threads, each threads per owner.
func growOwners(tb testing.TB, base store.Store, db *sql.DB, n, each int) {
	th := chat.Thread{ID: fmt.Sprintf("thr_of_one_of_%d", n), CreatedAt: noon, Owner: ownerOf(n)}
	must(tb, base.SaveThread(tb.Context(), th))
	if db != nil {
		subject := "subject"
		if each < n {
			subject = fmt.Sprintf("subject || '_' || n / %d", each)
		}
		get[sql.Result](tb)(db.ExecContext(tb.Context(), fmt.Sprintf(multiplyThreads, sqlstore.DefaultPrefix, n, subject)))
		return
	}
	for i := 1; i < n; i++ {
		th.ID = fmt.Sprintf("thr_of_one_of_%d_%d", n, i)
		if each < n {
			th.Owner.Subject = fmt.Sprintf("%s_%d", ownerOf(n).Subject, i/each)
		}
		must(tb, base.SaveThread(tb.Context(), th))
	}
}

// residents measures a hit in caches of different sizes, and their memory.
func residents(tb testing.TB) table {
	t := table{title: "A cache hit, by number of cached threads", head: []string{"threads", "LoadThread", "relative to golang-lru", "golang-lru", "heap per thread"},
		note: "Each thread is read equally often. The heap includes the threads' texts, and tables for twice as many entries."}
	counts := at.residents
	var entrants, lrus []entrant
	var heaps []int
	for _, n := range counts {
		base := anyThread{memstore.New()}
		before := testenv.Heap()
		s := store.Wrap(base, cache.New(roomFor(n)...))
		defer func() { must(tb, store.Close(s)) }()
		ids := make([]string, n)
		for i := range ids {
			ids[i] = threadID(i)
			get[chat.Thread](tb)(s.LoadThread(tb.Context(), ids[i]))
		}
		heaps = append(heaps, (testenv.Heap()-before)/n)
		lru := newLRU(source[chat.Thread]{load: base.LoadThread, entries: 2 * n})
		for _, id := range ids {
			get[chat.Thread](tb)(lru.Get(tb.Context(), id))
		}
		keys := rand.New(rand.NewPCG(5, 5)).Perm(n)
		through := func(load loadThread) entrant {
			return entrant{fmt.Sprint(n), func(_, i int) {
				if th, err := load(tb.Context(), ids[keys[i%len(keys)]]); err != nil || th.ID != ids[keys[i%len(keys)]] {
					panic(fmt.Sprint("read ", th, err))
				}
			}}
		}
		entrants, lrus = append(entrants, through(s.LoadThread)), append(lrus, through(lru.Get))
	}
	costs := compare(append(entrants, lrus...), 2, 1)
	for i, n := range counts {
		t.rows = append(t.rows, []string{grouped(n), nanos(costs[i].call), times(costs[i].call, costs[len(counts)+i].call),
			nanos(costs[len(counts)+i].call), fmt.Sprintf("%d bytes", heaps[i])})
	}
	return t
}

// anyThread is a base that has every thread. It returns new copies each time, as a database does.
type anyThread struct{ store.Store }

func (anyThread) LoadThread(_ context.Context, id string) (chat.Thread, error) {
	t := chat.Thread{ID: id, Title: "A chat about budgets", CreatedAt: noon}
	t, err := chat.ParseThread(t.JSON().String())
	t.Owner = chat.Owner{Tenant: strings.Clone(owner.Tenant), Subject: strings.Clone(owner.Subject)}
	return t, err
}

// roomFor returns options for a cache that evicts none of n threads.
func roomFor(n int) []cache.Option {
	return []cache.Option{cache.WithMaxEntries(2 * n), cache.WithMaxBytes(4 << 30), cache.WithTTL(24 * time.Hour)}
}

// garbage is the memory that a server allocates to answer a request.
const garbage = 4 << 10

// besideTheCollector measures the garbage collector while the largest number of resident threads is read.
func besideTheCollector(tb testing.TB) table {
	n := slices.Max(at.residents)
	t := table{title: fmt.Sprintf("The garbage collector beside %s resident threads", grouped(n)),
		head: []string{"", "heap", "collections", "share of the processors", "processor time of one", "longest pause"},
		note: fmt.Sprintf("Two goroutines read threads at random, %s times in sum. Each read allocates %s bytes, as a server's answer would.",
			grouped(at.answers), grouped(garbage))}
	ids := make([]string, n)
	for i := range ids {
		ids[i] = threadID(i)
	}
	for _, l := range loaders(2*n, roomFor(n)...) {
		if !slices.Contains([]string{"map and mutex", "golang-lru", "otter v2", "**chatstore's cache**"}, l.name) {
			continue
		}
		empty := testenv.Heap()
		of := l.new(anyThread{memstore.New()})
		for _, id := range ids {
			get[chat.Thread](tb)(of.load(tb.Context(), id))
		}
		heap, before := testenv.Heap()-empty, collections()
		together(2, func(w int) {
			r := rand.New(rand.NewPCG(7, uint64(w)))
			for range at.answers / 2 {
				id := ids[r.IntN(n)]
				if th, err := of.load(tb.Context(), id); err != nil || th.ID != id {
					panic(fmt.Sprint("read ", th, err))
				}
				answers[w] = make([]byte, garbage)
			}
		})
		after := collections()
		of.close()
		cycles, cpu := after.cycles-before.cycles, after.cpu-before.cpu
		t.rows = append(t.rows, []string{l.name, mebibytes(heap), fmt.Sprint(cycles), fmt.Sprintf("%.1f %%", 100*cpu/(after.busy-before.busy)),
			nanos(1e9 * cpu / float64(cycles)), nanos(after.longestPause(before))})
	}
	return t
}

// answers has the last answer of each worker, so that the compiler allocates them.
var answers [2][]byte

// inMemory measures stores in memory by their number of items.
func inMemory(tb testing.TB) table {
	t := table{title: "A store in memory, by number of items", head: []string{"items", "threads", "newest 20 of any thread", "heap per item", "longest pause"},
		note: "The pause is the longest one of the garbage collector while the items are added."}
	for _, n := range at.stored {
		for _, threads := range []int{1, n / 20} {
			empty, before := testenv.Heap(), collections()
			s := memstore.New()
			fill(tb, s, threads, n/threads)
			after, heap := collections(), testenv.Heap()-empty
			r := rand.New(rand.NewPCG(9, 9))
			cost := compare([]entrant{{"", func(int, int) {
				p, err := s.LoadThreadItems(tb.Context(), threadID(r.IntN(threads)), store.PageQuery{})
				if err != nil || len(p.Data) != 20 {
					panic(fmt.Sprint("read ", len(p.Data), err))
				}
			}}}, 2, 1)
			t.rows = append(t.rows, []string{grouped(n), grouped(threads), nanos(cost[0].call), fmt.Sprintf("%d bytes", heap/n), nanos(after.longestPause(before))})
		}
	}
	return t
}

// fewOfMany measures an owner's list of ten threads through authz, while other owners have many threads.
func fewOfMany(tb testing.TB) table {
	t := table{title: "A caller's ten threads, listed through authz", head: []string{"threads of other owners"}, note: "Every other owner has twenty threads."}
	counts := at.others
	ctx := asCaller(tb.Context(), ownerOf(10))
	var costs [][]measured
	for _, backend := range backends(tb) {
		t.head = append(t.head, backend.name, "relative to fewest")
		var entrants []entrant
		for _, n := range counts {
			base, db := backend.open()
			defer func() { must(tb, store.Close(base)) }()
			growOwners(tb, base, db, 10, 10)
			growOwners(tb, base, db, n, 20)
			if db != nil {
				get[sql.Result](tb)(db.ExecContext(ctx, "ANALYZE"))
				must(tb, db.Close())
			}
			s := store.Wrap(base, authz.New(authz.OwnerOnly()))
			entrants = append(entrants, entrant{fmt.Sprint(n), func(int, int) {
				if p, err := s.LoadThreads(ctx, store.ThreadQuery{}); err != nil || len(p.Data) != 10 {
					panic(fmt.Sprint("listed ", len(p.Data), err))
				}
			}})
		}
		costs = append(costs, compare(entrants, 2, 1))
	}
	t.against(counts, costs)
	return t
}

// grouped returns a number with commas between thousands.
func grouped(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", grouped(n/1000), n%1000)
}
