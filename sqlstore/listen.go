package sqlstore

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/chatstore/chatstore/bus/pubsub"
	"github.com/chatstore/chatstore/store"
)

// Bus returns a bus for the caches of all programs that use this PostgreSQL database. Triggers announce every change, in the
// transaction that makes it. So no writer can forget an announcement or send it too early. The triggers are off in a new
// database, because NOTIFY makes commits wait for each other (the README has figures). The first Bus switches them on, for all
// programs, and logs that. It needs the rights of the tables' owner for that.
//
// The Bus listens on a connection of its own ([WithListenDSN]). It sends its heartbeats through the connections of the Store.
// So they come back only if both lead to one database. Close the Bus after the stacks that use it.
//
//	b, err := s.Bus(ctx)
//	stack := store.Wrap(s, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New(cache.WithBus(b)))
//
// With a Bus, a cached read is at most as old as the lease of the Bus ([pubsub.WithLease]). One Bus serves any number of
// caches. While the triggers are disabled, reads bypass the caches.
//
// Bus returns [store.ErrInvalid] for other databases than PostgreSQL, behind a pooler without [WithListenDSN], with [WithoutNotify], and if the triggers
// are off and the role may not switch them on.
func (s *Store) Bus(ctx context.Context, opts ...pubsub.Option) (*pubsub.Bus, error) {
	e, ok := s.engine.(*postgresEngine)
	if !ok {
		return nil, invalid("Bus: only PostgreSQL announces changes: use cache.WithRevalidation, or package redisbus")
	}
	if e.cfg.pooler && e.cfg.listenDSN == "" {
		return nil, invalid("Bus: LISTEN does not work through a pooler: give a direct connection with WithListenDSN")
	}
	if !s.calls.TryRLock() {
		return nil, call{}.error(store.CodeUnavailable, errClosed)
	}
	defer s.calls.RUnlock()
	if err := e.announce(ctx); err != nil {
		return nil, err
	}
	c := e.dsn.Copy()
	if e.cfg.listenDSN != "" {
		var err error
		if c, err = pgx.ParseConfig(e.cfg.listenDSN); err != nil {
			return nil, invalid("WithListenDSN: cannot be parsed")
		}
	}
	c.RuntimeParams["application_name"] = "chatstore bus"
	primaryOnly(c)
	return pubsub.New(&listener{e: e, dsn: c}, append(slices.Clip(opts), pubsub.WithAnnouncingBase())...), nil
}

// channel returns the channel of one set of tables: unique, and short enough for PostgreSQL.
func (c config) channel() string {
	sum := sha256.Sum256([]byte(c.schema + "." + c.prefix))
	return "chatstore_" + hex.EncodeToString(sum[:8])
}

// notifications is the number of triggers: four for each of three tables.
const notifications = 3 * 4

// notifies returns a query that reports whether all triggers exist and are enabled.
func (c config) notifies() (text string, args []any) {
	return `SELECT count(*) = $5 FROM pg_trigger WHERE tgname LIKE $1 AND tgenabled = 'O'
		AND tgrelid IN (to_regclass($2), to_regclass($3), to_regclass($4))`,
		[]any{c.prefix + `notify\_%`, c.qualified("threads"), c.qualified("items"), c.qualified("attachments"), notifications}
}

// switchedOff is sent to listeners when the triggers are disabled. A bus cannot decode it, so it reconnects. Connect then
// fails until the triggers are enabled again.
const switchedOff = "switched off"

// announcing reports whether all triggers are enabled.
func (e *postgresEngine) announcing(ctx context.Context, run func(context.Context, step) error) (on bool, err error) {
	text, args := e.cfg.notifies()
	err = run(ctx, step{text, args, only(&on)})
	return on, err
}

// announce enables the triggers if they are not.
func (e *postgresEngine) announce(ctx context.Context) error {
	if e.cfg.silent {
		return invalid("Bus: the triggers that announce changes are disabled (WithoutNotify)")
	}
	on, err := e.announcing(ctx, e.read)
	if err == nil && !on {
		err = e.notify(ctx, true)
	}
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok && pe.Code == "42501" { // insufficient_privilege
		return &store.Error{Code: store.CodeInvalid, Field: "Bus: the triggers are off, and only the tables' owner may switch them on", Cause: err}
	}
	if err != nil {
		return openError(ctx, e, err)
	}
	if !on {
		slog.Info("sqlstore: switched on the triggers that announce changes, for all programs of this database", "channel", e.cfg.channel())
	}
	return nil
}

// notify enables or disables all triggers. While ALTER TABLE waits for the writers, later writers wait for it. So it waits
// only for a moment at a time, and tries again.
func (e *postgresEngine) notify(ctx context.Context, on bool) error {
	for end := time.Now().Add(e.cfg.retryFor); ; {
		if now, err := e.announcing(ctx, e.read); err != nil || now == on {
			return err
		}
		err := e.alter(ctx, func(ctx context.Context, db script) error {
			run := func(ctx context.Context, st step) error { return db.run(ctx, st) }
			if now, err := e.announcing(ctx, run); err != nil || now == on { // another program was first
				return err
			}
			return e.switchTriggers(ctx, db, on)
		})
		pe, _ := errors.AsType[*pgconn.PgError](err)
		if busy := pe != nil && (pe.Code == "55P03" || pe.Code == "40P01"); !busy || time.Now().After(end) {
			return err
		}
		select {
		case <-time.After(longestPause/2 + rand.N(longestPause)):
		case <-ctx.Done():
			return err
		}
	}
}

func (e *postgresEngine) switchTriggers(ctx context.Context, db script, on bool) error {
	text, word := "SET LOCAL lock_timeout = "+millis(longestPause), map[bool]string{true: "ENABLE", false: "DISABLE"}[on]
	for _, table := range []string{"threads", "items", "attachments"} {
		for _, event := range []string{"insert", "update", "delete", "truncate"} {
			text += fmt.Sprintf(`; ALTER TABLE %s %s TRIGGER "%snotify_%s"`, e.cfg.qualified(table), word, e.cfg.prefix, event)
		}
	}
	if err := db.exec(ctx, text); err != nil || on {
		return err
	}
	return db.run(ctx, step{sendText, []any{e.cfg.channel(), switchedOff}, nil})
}

// sendText sends a message to the listeners.
const sendText = "SELECT pg_notify($1, $2)"

// listener is the transport of a Bus over LISTEN and NOTIFY.
type listener struct {
	e   *postgresEngine
	dsn *pgx.ConnConfig
}

var _ pubsub.Transport = (*listener)(nil)

func (l *listener) Connect(ctx context.Context) (pubsub.Conn, error) {
	c, err := l.e.connect(ctx, l.dsn)
	if err != nil {
		return nil, reasonOf(err, "the server cannot be reached")
	}
	if err := l.listen(ctx, c); err != nil {
		_ = c.Close(ctx) // the error before says more
		if errors.Is(err, errDisabled) {
			return nil, err
		}
		return nil, reasonOf(err, "the connection was lost")
	}
	return &listening{e: l.e, c: c}, nil
}

func (l *listener) listen(ctx context.Context, c *pgx.Conn) error {
	if _, err := l.e.greet(ctx, c); err != nil {
		return err
	}
	if _, err := c.Exec(ctx, `LISTEN "`+l.e.cfg.channel()+`"`); err != nil {
		return err
	}
	// LISTEN comes first, so that a later switchedOff is not missed.
	on, err := l.e.announcing(ctx, func(ctx context.Context, st step) error {
		rows, err := c.Query(ctx, st.text, st.args...)
		if err != nil {
			return err
		}
		return eachRow(rows, st)
	})
	if err == nil && !on {
		err = errDisabled
	}
	return err
}

var errDisabled = errors.New("sqlstore: the triggers that announce changes are disabled")

// reasonOf returns an error that can be logged: the server's own text may repeat the password.
func reasonOf(err error, otherwise string) error { return errors.New(cmp.Or(Reason(err), otherwise)) }

// Publish does nothing: the triggers announce changes.
func (l *listener) Publish(context.Context, string) error { return nil }

type listening struct {
	e     *postgresEngine
	c     *pgx.Conn
	beats sync.WaitGroup // heartbeats under way, at most one
	busy  atomic.Bool
}

func (l *listening) Receive(ctx context.Context) (string, error) {
	n, err := l.c.WaitForNotification(ctx)
	if err != nil {
		return "", reasonOf(err, "the connection was lost")
	}
	return n.Payload, nil
}

// Send sends a heartbeat through a connection of the pool, in the order of commits: the message comes after the notifications
// of all writes that were acknowledged before the call. It does not wait. While the pool has no connection for the heartbeat,
// others are left out, and the lease ends by itself.
func (l *listening) Send(ctx context.Context, payload string) error {
	if l.e.closing.Err() != nil { // the Store is closed, and reads nothing any more
		_, err := l.c.Exec(ctx, sendText, l.e.cfg.channel(), payload)
		return err
	}
	if !l.busy.CompareAndSwap(false, true) {
		return nil
	}
	end, _ := ctx.Deadline()
	l.beats.Go(func() {
		defer l.busy.Store(false)
		ctx, cancel := context.WithDeadline(l.e.closing, end)
		defer cancel()
		_ = l.e.read(ctx, step{sendText, []any{l.e.cfg.channel(), payload}, nil})
	})
	return nil
}

func (l *listening) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	defer l.beats.Wait()
	return l.c.Close(ctx)
}
