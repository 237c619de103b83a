package sqlstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
)

const crashEnv = "CHATSTORE_CRASH_FILE"

// writeUntilKilled is the killed process. It writes items into the file and prints the acknowledged ones.
func writeUntilKilled() {
	path := os.Getenv(crashEnv)
	if path == "" {
		return
	}
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "crash:", err)
			os.Exit(2)
		}
	}
	ctx := context.Background()
	open := sqlstore.OpenSQLite
	if strings.HasPrefix(path, "chat@") {
		open = sqlstore.OpenMySQL
	}
	s, err := open(ctx, path)
	fail(err)
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := 0; ; i++ {
				body := chat.SDKHiddenContext{Content: strings.Repeat("x", 3000)}
				it, err := chat.NewItem(fmt.Sprintf("msg_%d_%d_%d", os.Getpid(), w, i), noon, body)
				fail(err)
				fail(s.AddThreadItem(ctx, "thr_1", it))
				fmt.Println(it.ID)
			}
		})
	}
	wg.Wait()
}

// whole checks that every acknowledged item exists, and that each write is whole: the item together with its version.
func whole(t *testing.T, s store.Store, threadID string, acknowledged []string) {
	t.Helper()
	there := map[string]bool{}
	var version uint64
	ctx := callctx.WithVersionRecorder(t.Context(), func(_ string, _, after uint64) { version = after })
	for after := ""; ; {
		p := get[store.Page[chat.Item]](t)(s.LoadThreadItems(ctx, threadID, store.PageQuery{Limit: 1000, Order: store.OldestFirst, After: after}))
		for _, it := range p.Data {
			there[it.ID] = true
		}
		if after = p.After; !p.HasMore {
			break
		}
	}
	for _, id := range acknowledged {
		if !there[id] {
			t.Errorf("%s of %s was acknowledged and is lost", id, threadID)
		}
	}
	if version != uint64(1+len(there)) { // saving the thread was the first change
		t.Errorf("%s: version %d after the thread and %d items", threadID, version, len(there))
	}
}

// A program is killed during its writes, again and again. Another program that has the file open continues.
func TestNothingAcknowledgedIsLostWhenAProcessIsKilled(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "chat.db")
		killWriters(t, path, closing(t)(sqlstore.OpenSQLite(t.Context(), path)))
	})
	t.Run("mariadb", func(t *testing.T) {
		dsn := mysqltest.Shared(t).DSN(t)
		killWriters(t, dsn, openMySQL(t, dsn))
	})
}

func killWriters(t *testing.T, path string, s *sqlstore.Store) {
	kills := tries(20, 5)
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	var acknowledged []string
	for round := range kills {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashEnv+"="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(t, errors.Join(err, cmd.Start()))
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			acknowledged = append(acknowledged, lines.Text())
			if n == 3+round {
				must(t, cmd.Process.Kill()) // SIGKILL; lines still in the pipe are acknowledged too
			}
		}
		err = cmd.Wait()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("the writer ended by itself: %v", err)
		}
		own := item(t, fmt.Sprintf("msg_own_%d", round))
		must(t, s.AddThreadItem(t.Context(), "thr_1", own))
		acknowledged = append(acknowledged, own.ID)
		whole(t, s, "thr_1", acknowledged)
	}
	t.Logf("%d acknowledged writes, %d kills", len(acknowledged), kills)
}

// The server is stopped and crashes under load. The program continues with the same Store.
func TestNothingAcknowledgedIsLostWhenTheServerRestarts(t *testing.T) {
	t.Parallel()
	restart := func(t *testing.T, s *sqlstore.Store, restart func(testing.TB, syscall.Signal), signals ...syscall.Signal) {
		early := s.LayerName() == "mysql" // InnoDB shows a commit before it is on disk
		if testenv.Full {
			signals = append(signals, signals[0], signals[0])
		}
		l := startOver(t, s, 4, early)
		for _, sig := range signals {
			l.await(t, 100)
			restart(t, sig)
		}
		l.await(t, 100)
		l.end(t, s)
		t.Logf("%d restarts", len(signals))
	}
	hasty := sqlstore.WithRetryFor(50 * time.Millisecond)
	t.Run("postgres", func(t *testing.T) {
		disk := fast
		if testenv.Full {
			disk = nil
		}
		srv := pgtest.Start(t, disk...)
		restart(t, openPG(t, srv.DSN(t), hasty), srv.Restart, syscall.SIGQUIT, syscall.SIGINT)
	})
	t.Run("mariadb", func(t *testing.T) {
		srv := mysqltest.Start(t)
		restart(t, openMySQL(t, srv.DSN(t), hasty), srv.Restart, syscall.SIGKILL, syscall.SIGTERM)
	})
}

// The disk of PostgreSQL fills up under load, and has room again later.
func TestNothingAcknowledgedIsLostWhenTheDiskIsFull(t *testing.T) {
	t.Parallel()
	srv, disk := pgtest.StartOnDisk(t, 160)
	s := openPG(t, srv.DSN(t), sqlstore.WithRetryFor(50*time.Millisecond))
	l := start(t, s, 4)
	for range tries(5, 1) {
		l.await(t, 100)
		disk.Fill(t)
		for from := l.failed(); l.failed() < from+50; {
			<-l.more
		}
		disk.Free(t)
		srv.Restart(t, syscall.SIGINT) // it may have ended
	}
	l.await(t, 100)
	l.end(t, s)
}
