package sqlstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/readonly"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// The processes of a move. moveEnv has the role, then the SQLite file, and for the copier the PostgreSQL database and the journal.
const moveEnv = "CHATSTORE_MOVE"

func moveWorker() {
	args := strings.Split(os.Getenv(moveEnv), "\n")
	work := map[string]func(context.Context, []string) error{"writer": moveWriter, "copier": moveCopier}[args[0]]
	if work == nil {
		return
	}
	if err := work(context.Background(), args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, args[0], err, causeOf(err))
		os.Exit(2)
	}
	os.Exit(0)
}

// moveWriter is a process of the service. For each line "write" it makes some writes, and it prints the acknowledged items. At
// "refuse" it refuses writes, and prints "refused" when those that began before have returned.
func moveWriter(ctx context.Context, args []string) error {
	base, err := sqlstore.OpenSQLite(ctx, args[0], sqlstore.WithDurability(sqlstore.SurvivesKill), patient)
	if err != nil {
		return err
	}
	var sw readonly.Switch
	s := store.Wrap(base, readonly.New(&sw))
	turns := make(chan struct{}, 10_000)
	failed := make(chan error, 2)
	var wg sync.WaitGroup
	for w := range cap(failed) {
		wg.Go(func() {
			for n := 0; ; n++ {
				if n%5 == 0 {
					if _, more := <-turns; !more {
						return
					}
				}
				err := moveWrite(ctx, s, fmt.Sprintf("msg_%d_%d_%d", os.Getpid(), w, n))
				if _, refused := errors.AsType[*readonly.Error](err); refused {
					return
				} else if err != nil {
					failed <- err
					return
				}
			}
		})
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if lines.Text() == "write" {
			turns <- struct{}{}
			turns <- struct{}{}
			continue
		}
		sw.Refuse("The service moves.")
		close(turns)
		wg.Wait()
		close(failed)
		fmt.Println("refused")
		return <-failed
	}
	return nil
}

// moveWrite makes a write. No thread named thr_ is ever deleted.
func moveWrite(ctx context.Context, s store.Store, id string) error {
	owner := chat.Owner{Tenant: "acme", Subject: fmt.Sprint("subject", rand.IntN(3))}
	n := rand.IntN(20)
	stays, comes, file := fmt.Sprint("thr_", n), fmt.Sprint("vol_", n), fmt.Sprint("atc_", n)
	owned := chat.Owner{Tenant: "acme", Subject: fmt.Sprint("subject", n%3)}
	grants, _ := store.As[sharing.Grants](s)
	to := sharing.Grantee{Tenant: "acme", Subject: fmt.Sprint("friend", rand.IntN(3))}
	var err error
	switch rand.IntN(12) {
	case 0:
		err = s.SaveThread(ctx, chat.Thread{ID: comes, CreatedAt: noon.Add(time.Duration(rand.IntN(3)) * time.Second), Owner: owned})
	case 1:
		err = s.DeleteThread(ctx, comes)
	case 2:
		err = s.SaveThread(ctx, chat.Thread{ID: stays, CreatedAt: noon, Title: id, Owner: owned})
	case 3:
		a := testenv.OrPanic(chat.NewAttachment(file, chat.AttachmentBody{Type: "file", Name: id, MIMEType: "text/plain"}))
		a.Owner = owned
		err = s.SaveAttachment(ctx, a)
	case 4:
		err = s.DeleteAttachment(ctx, file)
	case 5:
		err = grants.Grant(ctx, sharing.Grant{ThreadID: stays, To: to, Role: sharing.Role(1 + rand.IntN(2)), By: owner})
	case 6:
		err = grants.Revoke(ctx, stays, to)
	case 7:
		err = s.AddThreadItem(ctx, comes, testenv.OrPanic(chat.NewItem(id, noon, chat.EndOfTurn{})))
	default:
		err = s.AddThreadItem(ctx, stays, testenv.OrPanic(chat.NewItem(id, noon, chat.EndOfTurn{})))
		if err == nil {
			fmt.Println("item", stays, id)
		}
	}
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}

// moveCopier copies. It prints "looked" for each thread, "fence" when the service must stand still, and "moved" at the end.
func moveCopier(ctx context.Context, args []string) error {
	from, err := sqlstore.OpenSQLite(ctx, args[0], patient)
	if err != nil {
		return err
	}
	// The bound of an abandoned write is 8.5 seconds.
	to, err := sqlstore.OpenPostgres(ctx, args[1], patient, sqlstore.WithStatementTimeout(3*time.Second), sqlstore.WithLockTimeout(500*time.Millisecond))
	if err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	_, err = lifecycle.Copy(ctx, to, from, lifecycle.WithJournal(args[2]),
		lifecycle.WithProgress(func(lifecycle.Counts) { fmt.Println("looked") }),
		lifecycle.WithFence(func(context.Context) error {
			fmt.Println("fence")
			if !in.Scan() {
				return io.ErrUnexpectedEOF
			}
			return nil
		}))
	if err == nil {
		fmt.Println("moved")
	}
	return err
}

// moving is a process of a move.
type moving struct {
	cmd   *exec.Cmd
	in    io.Writer
	lines *bufio.Scanner
}

func startMoving(t *testing.T, args ...string) *moving {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), moveEnv+"="+strings.Join(args, "\n"))
	cmd.Stderr = os.Stderr
	in := get[io.WriteCloser](t)(cmd.StdinPipe())
	out := get[io.ReadCloser](t)(cmd.StdoutPipe())
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // if it still runs
		_ = cmd.Wait()
	})
	return &moving{cmd, in, bufio.NewScanner(out)}
}

func (m *moving) say(line string) { _, _ = fmt.Fprintln(m.in, line) } // a killed process does not hear it

// movedRows returns all of a store, in the order of listings.
func movedRows(t *testing.T, s *sqlstore.Store) (all []string) {
	t.Helper()
	for th, err := range lifecycle.Threads(t.Context(), s, store.AnyOwner()) {
		must(t, err)
		all = append(all, fmt.Sprint("thread ", th.JSON(), th.Owner))
		for it, err := range lifecycle.Items(t.Context(), s, th.ID) {
			must(t, err)
			all = append(all, fmt.Sprint("item ", th.ID, " ", it.ID, " ", it.JSON()))
		}
		for _, g := range get[store.Page[sharing.Grant]](t)(s.Grantees(t.Context(), th.ID, "", 1000)).Data {
			all = append(all, fmt.Sprint("grant ", th.ID, g.To, g.Role, g.By))
		}
	}
	for a, err := range lifecycle.Attachments(t.Context(), s, store.AnyOwner()) {
		must(t, err)
		all = append(all, fmt.Sprint("attachment ", a.JSON(), a.Owner))
	}
	for _, kind := range []string{store.RowThread, store.RowAttachment} {
		for _, d := range get[store.Page[driver.Tombstone]](t)(s.ListTombstones(t.Context(), kind, store.PageQuery{Limit: 1000, Order: store.OldestFirst})).Data {
			all = append(all, fmt.Sprint("deleted ", kind, d))
		}
	}
	return all
}

// A service of three writing processes moves from SQLite to PostgreSQL. In one run a writer is killed in the middle, in the other
// the copier, which then begins again.
func TestALiveServiceMovesFromSQLiteToPostgres(t *testing.T) {
	t.Parallel()
	for round := range tries(2, 1) {
		for _, killed := range []string{"writer", "copier"} {
			t.Run(fmt.Sprint("the ", killed, " is killed, ", round), func(t *testing.T) {
				t.Parallel()
				move(t, killed)
			})
		}
	}
}

func move(t *testing.T, killed string) {
	dir := t.TempDir()
	path, dsn := filepath.Join(dir, "chat.db"), pgtest.Shared(t).DSN(t)
	from := closing(t)(sqlstore.OpenSQLite(t.Context(), path, sqlstore.WithDurability(sqlstore.SurvivesKill), patient))
	for i := range 20 {
		id := fmt.Sprint("thr_", i)
		must(t, from.SaveThread(t.Context(), chat.Thread{ID: id, CreatedAt: noon, Owner: chat.Owner{Tenant: "acme", Subject: fmt.Sprint("subject", i%3)}}))
		for n := range 5 {
			must(t, from.AddThreadItem(t.Context(), id, item(t, fmt.Sprint("msg_", n))))
		}
	}
	var (
		writers      []*moving
		wg           sync.WaitGroup
		mu           sync.Mutex
		acknowledged []string
		refused      = make(chan string, 3)
	)
	for range cap(refused) {
		w := startMoving(t, "writer", path)
		writers = append(writers, w)
		wg.Go(func() {
			last := ""
			for w.lines.Scan() {
				if last = w.lines.Text(); last != "refused" {
					mu.Lock()
					acknowledged = append(acknowledged, last)
					mu.Unlock()
				}
			}
			refused <- last // a process that is killed writes no more either
		})
	}
	args := []string{"copier", path, dsn, filepath.Join(dir, "journal")}
	copier, looked, moved, stopped := startMoving(t, args...), 0, false, 0
	for !moved {
		if !copier.lines.Scan() {
			t.Fatal("the copier ended by itself")
		}
		switch line := copier.lines.Text(); line {
		case "looked", "fence":
			for _, w := range writers {
				w.say("write")
			}
			if looked++; looked == 15 && killed == "writer" {
				must(t, writers[0].cmd.Process.Kill())
			} else if looked == 15 {
				must(t, copier.cmd.Process.Kill())
				_ = copier.cmd.Wait()
				copier = startMoving(t, args...)
			}
			if line == "fence" {
				for _, w := range writers {
					w.say("refuse")
				}
				for range writers {
					if <-refused == "refused" {
						stopped++
					}
				}
				wg.Wait()
				copier.say("fenced")
			}
		case "moved":
			moved = true
		}
	}
	if want := map[string]int{"writer": 2, "copier": 3}[killed]; stopped != want {
		t.Errorf("%d writers refused writes, want %d", stopped, want)
	}
	to := openPG(t, dsn)
	rows := movedRows(t, to)
	if d := cmp.Diff(movedRows(t, from), rows); d != "" {
		t.Errorf("(-source +target):\n%s", d)
	}
	for _, it := range acknowledged {
		if !slices.ContainsFunc(rows, func(row string) bool { return strings.HasPrefix(row, it+" ") }) {
			t.Errorf("%s was acknowledged and is lost", it)
		}
	}
	t.Logf("%d rows, %d acknowledged items", len(rows), len(acknowledged))
}

// BenchmarkCopy copies threads of ten items, and then the same threads with a journal that knows them.
func BenchmarkCopy(b *testing.B) {
	const threads = 1000
	source := memstore.New()
	for i := range threads {
		id := fmt.Sprintf("thr_%d", i)
		must(b, source.SaveThread(b.Context(), thread(id)))
		for n := range 10 {
			it := get[chat.Item](b)(chat.NewItem(fmt.Sprint("msg_", n), noon, chat.SDKHiddenContext{Content: strings.Repeat("x", 500)}))
			must(b, source.AddThreadItem(b.Context(), id, it))
		}
	}
	dsn := pgtest.Shared(b).DSN(b)
	for _, to := range []struct {
		name string
		open opener
	}{{"sqlite", sqliteFile}, {"postgres", postgres(dsn)}} {
		b.Run(to.name, func(b *testing.B) {
			var first, again time.Duration
			for range b.N {
				s, journal := to.open(b), lifecycle.WithJournal(filepath.Join(b.TempDir(), "journal"))
				for _, took := range []*time.Duration{&first, &again} {
					begin := time.Now()
					get[lifecycle.Copied](b)(lifecycle.Copy(b.Context(), s, source, journal))
					*took += time.Since(begin)
				}
			}
			b.ReportMetric(threads*float64(b.N)/first.Seconds(), "threads/s")
			b.ReportMetric(threads*11*float64(b.N)/first.Seconds(), "rows/s")
			b.ReportMetric(threads*float64(b.N)/again.Seconds(), "known-threads/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}
