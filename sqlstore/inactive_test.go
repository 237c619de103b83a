package sqlstore_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// idle fills the tables with %[4]d threads, one for each second of 1970, of 1,000 owners in 10 tenants. Each has one item of
// its own time, and those whose number is not a multiple of %[2]d have another of 1971.
const idle = `
INSERT INTO %[1]sthreads (id, tenant, subject, created_at, version, places, state, doc)
	WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < %[4]d)
	SELECT 'thr_' || n, 'tenant' || (n %% 10), 'subject' || (n %% 1000), n * CAST(1000000 AS bigint), 3, 2, 0,
		'{"id":"thr_' || n || '","created_at":"' || %[3]s || '","status":{"type":"active"}}' FROM g;
INSERT INTO %[1]sitems (thread_id, id, created_at, place, doc) SELECT id, 'msg_1', created_at, 1, '{}' FROM %[1]sthreads;
INSERT INTO %[1]sitems (thread_id, id, created_at, place, doc)
	SELECT id, 'msg_2', CAST(31536000000000 AS bigint), 2, '{}' FROM %[1]sthreads WHERE CAST(created_at / 1000000 AS bigint) %% %[2]d <> 0;
ANALYZE`

// fillIdle fills the tables of s.
func fillIdle(t testing.TB, s *sqlstore.Store, threads, modulus int) {
	t.Helper()
	date := `to_char(to_timestamp(n) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')`
	if s.LayerName() == "sqlite" {
		date = `strftime('%Y-%m-%dT%H:%M:%SZ', n, 'unixepoch')`
	}
	must(t, sqlstore.Exec(s, fmt.Sprintf(idle, sqlstore.DefaultPrefix, modulus, date, threads)))
}

// year is the begin of 1971.
var year = time.Unix(31_536_000, 0)

// Between inactive threads are more active ones than a statement looks at.
func TestInactiveThreadsAreFoundBehindManyActiveOnes(t *testing.T) {
	for _, s := range []*sqlstore.Store{sqliteFile(t), openPG(t, pgtest.Shared(t).DSN(t))} {
		fillIdle(t, s, 5000, 2100)
		for order, want := range map[store.Order][]string{store.OldestFirst: {"thr_2100", "thr_4200"}, store.NewestFirst: {"thr_4200", "thr_2100"}} {
			for limit := 1; limit <= 3; limit++ {
				var got []string
				q := store.PageQuery{Limit: limit, Order: order}
				for more := true; more; {
					p := get[store.Page[driver.ThreadVersion]](t)(s.InactiveThreads(t.Context(), year, store.ThreadQuery{PageQuery: q, Owner: store.AnyOwner()}))
					for _, th := range p.Data {
						got = append(got, th.ID)
					}
					if len(p.Data) > limit || p.HasMore && len(p.Data) < limit {
						t.Errorf("%s: a page of %d has %d threads", s.LayerName(), limit, len(p.Data))
					}
					more, q.After = p.HasMore, p.After
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s, %v, pages of %d: %v, want %v", s.LayerName(), order, limit, got, want)
				}
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		wantErr(t, errOf(s.InactiveThreads(ctx, year, store.ThreadQuery{Owner: store.AnyOwner()})), store.CodeCanceled)
	}
}

// BenchmarkInactive measures a page of 100 inactive threads among a million: at the begin, in the middle and near the end of a walk.
// It also measures a dry run of Prune. With active=99%, 990,000 threads are active, so a page looks at 10,000.
//
//	go test -run '^$' -bench Inactive -benchtime 1x -timeout 1h .
func BenchmarkInactive(b *testing.B) {
	ctx := context.Background()
	for _, engine := range []string{"sqlite", "postgres"} {
		for share, modulus := range map[string]int{"none": 1, "99%": 100, "all": 2_000_000} {
			b.Run(fmt.Sprintf("%s/active=%s", engine, share), func(b *testing.B) {
				var s *sqlstore.Store
				if engine == "sqlite" {
					s = closing(b)(sqlstore.OpenSQLite(ctx, filepath.Join(b.TempDir(), "chat.db"), sqlstore.WithDurability(sqlstore.SurvivesKill)))
				} else {
					s = openPG(b, pgtest.Start(b, fast...).DSN(b), sqlstore.WithStatementTimeout(time.Hour))
				}
				fillIdle(b, s, 1_000_000, modulus)
				page := func(f store.OwnerFilter, after string) float64 {
					begin := time.Now()
					q := store.ThreadQuery{PageQuery: store.PageQuery{Limit: 100, Order: store.OldestFirst, After: after}, Owner: f}
					get[store.Page[driver.ThreadVersion]](b)(s.InactiveThreads(ctx, year, q))
					return float64(time.Since(begin).Microseconds()) / 1000
				}
				for b.Loop() {
					for name, f := range map[string]store.OwnerFilter{"any": store.AnyOwner(), "tenant": store.InTenant("tenant0"),
						"owner": store.OwnedBy(chat.Owner{Tenant: "tenant0", Subject: "subject0"})} {
						for at, after := range map[string]string{"begin": "", "middle": "thr_500000", "end": "thr_985000"} {
							b.ReportMetric(page(f, after), fmt.Sprintf("ms/page-%s-%s", name, at))
						}
					}
					for name, opt := range map[string]lifecycle.Option{"inactive": lifecycle.WithInactive(time.Since(year) + time.Hour), "newest": lifecycle.WithNewest(100)} {
						begin := time.Now()
						done := get[lifecycle.Pruned](b)(lifecycle.Prune(ctx, s, store.AnyOwner(), lifecycle.WithDryRun(), opt))
						b.Logf("a dry run, %s: %+v in %v", name, done, time.Since(begin))
						b.ReportMetric(time.Since(begin).Seconds(), "s/dry-"+name)
					}
					b.ReportMetric(0, "ns/op")
				}
			})
		}
	}
}
