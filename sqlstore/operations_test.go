package sqlstore_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
)

// operations are the calls of package lifecycle that change a store, or read all of it. Each may be repeated after a failure.
var operations = map[string]func(ctx context.Context, s store.Store) error{
	"Export": func(ctx context.Context, s store.Store) error {
		_, err := lifecycle.Export(ctx, io.Discard, s, store.AnyOwner())
		return err
	},
	"Import": func(ctx context.Context, s store.Store) error {
		from := memstore.New()
		some(from)
		var file bytes.Buffer
		if _, err := lifecycle.Export(context.Background(), &file, from, store.AnyOwner()); err != nil {
			return err
		}
		_, err := lifecycle.Import(ctx, s, bytes.NewReader(file.Bytes()))
		return err
	},
	"Erase": func(ctx context.Context, s store.Store) error {
		_, err := lifecycle.Erase(ctx, s, canary)
		return err
	},
	"Prune": func(ctx context.Context, s store.Store) error {
		_, err := lifecycle.Prune(ctx, s, store.AnyOwner(), lifecycle.WithInactive(time.Hour),
			lifecycle.WithHold(func(_ context.Context, th chat.Thread) (bool, error) { return th.ID == "thr_1", nil }))
		return err
	},
	"PruneAttachments": func(ctx context.Context, s store.Store) error {
		_, err := lifecycle.PruneAttachments(ctx, s, store.AnyOwner(), time.Nanosecond)
		return err
	},
	"Fork": func(ctx context.Context, s store.Store) error {
		_, err := lifecycle.Fork(store.WithPrincipal(ctx, store.Principal{Owner: forker}), s, "thr_0", "")
		return err
	},
}

var forker = chat.Owner{Tenant: "acme", Subject: "forker"}

// some saves threads of two owners with items and attachments, and uploads without a message.
func some(s store.Store) {
	ctx := context.Background()
	for i := range 6 {
		o := []chat.Owner{canary, {Tenant: "acme", Subject: "bob"}}[i%2]
		id := fmt.Sprint("thr_", i)
		a := testenv.OrPanic(chat.NewAttachment(fmt.Sprint("atc_", i), chat.AttachmentBody{Type: "file", Name: "a.txt", MIMEType: "text/plain"}))
		unsent := testenv.OrPanic(chat.NewAttachment(fmt.Sprint("unsent_", i), chat.AttachmentBody{Type: "file", Name: "a.txt", MIMEType: "text/plain"}))
		a.Owner, unsent.Owner = o, o
		err := errors.Join(s.SaveThread(ctx, chat.Thread{ID: id, CreatedAt: noon.Add(-time.Duration(i) * time.Second), Owner: o}),
			s.SaveAttachment(ctx, a), s.SaveAttachment(ctx, unsent),
			s.AddThreadItem(ctx, id, testenv.OrPanic(chat.NewItem("msg_1", noon, chat.UserMessage{Attachments: []chat.Attachment{a}}))),
			s.AddThreadItem(ctx, id, testenv.OrPanic(chat.NewItem("msg_2", noon, chat.EndOfTurn{}))))
		if err != nil {
			panic(err)
		}
	}
}

// result returns what an operation has left: the rows of an export, or the complete forks.
func result(t *testing.T, name string, s store.Store) string {
	t.Helper()
	if name == "Fork" {
		forks := 0
		for th, err := range lifecycle.Threads(t.Context(), s, store.OwnedBy(forker)) {
			must(t, err)
			if th.Status.Type == chat.StatusActive {
				forks++
				if p := get[store.Page[chat.Item]](t)(s.LoadThreadItems(t.Context(), th.ID, store.PageQuery{})); len(p.Data) != 2 {
					t.Errorf("a fork that is not locked has %d items", len(p.Data))
				}
			}
		}
		return fmt.Sprint(min(forks, 1), " forks") // a process that was killed after its last write has made one more
	}
	var file strings.Builder
	get[lifecycle.Counts](t)(lifecycle.Export(t.Context(), &file, s, store.AnyOwner()))
	lines := strings.SplitAfter(file.String(), "\n")
	again := s.SaveThread(t.Context(), chat.Thread{ID: "thr_0", CreatedAt: noon, Owner: canary})
	return strings.Join(lines[1:len(lines)-2], "") + fmt.Sprint(name == "Erase" && store.CodeOf(again) == store.CodeConflict)
}

// undisturbed runs the operation over an empty memory store, and returns the number of its calls and what it leaves.
func undisturbed(t *testing.T, name string) (calls int, left string) {
	t.Helper()
	base := memstore.New()
	if name != "Import" {
		some(base)
	}
	f := faulty.New(base, faulty.WithLongestWrite(time.Nanosecond))
	must(t, operations[name](t.Context(), f))
	return f.Total(), result(t, name, base)
}

// One call of the store fails: it is not made, or its answer is lost, or the context ends. After that, the same operation leaves what it
// would have left at once.
func TestOperationsGoOnAfterAFailure(t *testing.T) {
	t.Parallel()
	lost := func(context.CancelFunc) layer.InterceptorFunc { return faulty.FailAfter(store.ErrUnavailable) }
	fails := map[string]func(context.CancelFunc) layer.InterceptorFunc{
		"is not made":      func(context.CancelFunc) layer.InterceptorFunc { return faulty.Fail(store.ErrUnavailable) },
		"loses its answer": lost,
		"is cancelled": func(cancel context.CancelFunc) layer.InterceptorFunc {
			return func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
				cancel()
				return next(ctx)
			}
		},
	}
	onEach(t, func(t *testing.T, open opener) {
		for name, run := range operations {
			calls, want := undisturbed(t, name)
			for fail, do := range fails {
				for i := range lightly(3, 2) {
					k := calls * (2*i + 1) / (2 * lightly(3, 2))
					base := open(t)
					if name != "Import" {
						some(base)
					}
					f := faulty.New(base, faulty.WithLongestWrite(time.Nanosecond))
					ctx, cancel := context.WithCancel(t.Context())
					f.Inject(faulty.Fault{Skip: k, Times: 1, Do: do(cancel)})
					err := run(ctx, f)
					cancel()
					if f.Reset(); err == nil {
						t.Errorf("%s: call %d of %d %s, and no error", name, k, calls, fail)
					}
					must(t, run(t.Context(), f))
					if got := result(t, name, base); got != want {
						t.Errorf("%s: call %d %s: left\n%s\nwant\n%s", name, k, fail, got, want)
					}
				}
			}
		}
	})
}

const operationEnv = "CHATSTORE_OPERATION"

// atErase is the call of EraseOwner.
const atErase = -1

// erasing says so when it erases the canary, and waits behind.
type erasing struct{ *sqlstore.Store }

func (e erasing) EraseOwner(ctx context.Context, o chat.Owner) (driver.Erased, error) {
	if o != canary {
		return e.Store.EraseOwner(ctx, o) // Erase tries whether it may
	}
	fmt.Println("now")
	_, _ = e.Store.EraseOwner(ctx, o)
	select {}
}

// operateUntilKilled is the killed process. It runs an operation up to its k-th call, says so, makes the call, and waits.
func operateUntilKilled() {
	args := strings.Split(os.Getenv(operationEnv), "\n")
	if len(args) != 4 {
		return
	}
	ctx := context.Background()
	open, k := sqlstore.OpenSQLite, testenv.OrPanic(strconv.Atoi(args[3]))
	if args[0] == "postgres" {
		open = sqlstore.OpenPostgres
	}
	var n atomic.Int64
	var base store.Store = testenv.OrPanic(open(ctx, args[1]))
	if k == atErase {
		base = erasing{base.(*sqlstore.Store)}
	}
	s := store.Wrap(faulty.New(base, faulty.WithLongestWrite(time.Nanosecond)),
		layer.Intercept("doomed", layer.InterceptorFunc(func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			if n.Add(1) != int64(k)+1 {
				return next(ctx)
			}
			fmt.Println("now")
			_ = next(ctx)
			select {}
		})))
	fmt.Fprintln(os.Stderr, "the operation ended:", operations[args[2]](ctx, s))
	os.Exit(2)
}

// A process is killed in the middle of an operation. Another process goes on, and leaves what the first would have left.
func TestOperationsGoOnAfterTheProcessWasKilled(t *testing.T) {
	t.Parallel()
	for engine, dsn := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "chat.db") },
		"postgres": func(t *testing.T) string { return pgtest.Shared(t).DSN(t) },
	} {
		for _, name := range slices.Sorted(maps.Keys(operations)) {
			calls, want := undisturbed(t, name)
			var ks []int
			for i := range lightly(4, 2) {
				ks = append(ks, calls*(2*i+1)/(2*lightly(4, 2)))
			}
			if name == "Erase" {
				ks = append(ks, atErase)
			}
			for _, k := range ks {
				t.Run(fmt.Sprintf("%s/%s/call %d of %d", engine, name, k, calls), func(t *testing.T) {
					dsn := dsn(t)
					open, theirs := sqlstore.OpenSQLite, dsn
					if engine == "postgres" {
						open, theirs = sqlstore.OpenPostgres, dsn+" application_name=doomed"
					}
					s := closing(t)(open(t.Context(), dsn, patient))
					if name != "Import" {
						some(s)
					}
					cmd := exec.Command(os.Args[0])
					cmd.Env = append(os.Environ(), operationEnv+"="+strings.Join([]string{engine, theirs, name, fmt.Sprint(k)}, "\n"))
					cmd.Stderr = os.Stderr
					out, err := cmd.StdoutPipe()
					must(t, errors.Join(err, cmd.Start()))
					if !bufio.NewScanner(out).Scan() {
						t.Error("the process ended by itself")
					}
					must(t, cmd.Process.Kill())
					err = cmd.Wait()
					if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
						t.Fatalf("it was not killed: %v", err)
					}
					f := faulty.New(s, faulty.WithLongestWrite(time.Nanosecond))
					if engine == "postgres" { // its last write may still be under way
						pgtest.Await(t, dsn, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'doomed' AND datname = current_database())")
					}
					must(t, operations[name](t.Context(), f))
					if got := result(t, name, s); got != want {
						t.Errorf("left\n%s\nwant\n%s", got, want)
					}
				})
			}
		}
	}
}
