package sqlstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chatstore/chatstore/bus/pubsub"
	"github.com/chatstore/chatstore/store"
)

// Bus returns a bus for the caches of all programs that use this PostgreSQL database. Triggers announce every change, in the
// transaction that makes it. So no writer can forget an announcement or send it too early. The Bus listens on a connection
// of its own ([WithListenDSN]). Close the Bus after the stacks that use it.
//
//	b, err := s.Bus(ctx)
//	stack := store.Wrap(s, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New(cache.WithBus(b)))
//
// With a Bus, a cached read is at most as old as the lease of the Bus ([pubsub.WithLease]). One Bus serves any number of
// caches. While the triggers are disabled, reads bypass the caches.
//
// Bus returns [store.ErrInvalid] for SQLite, behind a pooler without [WithListenDSN], and if the triggers are disabled
// ([WithoutNotify]).
func (s *Store) Bus(ctx context.Context, opts ...pubsub.Option) (*pubsub.Bus, error) {
	e, ok := s.engine.(*postgresEngine)
	if !ok {
		return nil, invalid("Bus: SQLite does not announce changes: use package redisbus, or a short cache.WithTTL")
	}
	if e.cfg.pooler && e.cfg.listenDSN == "" {
		return nil, invalid("Bus: LISTEN does not work through a pooler: give a direct connection with WithListenDSN")
	}
	if !s.calls.TryRLock() {
		return nil, call{}.error(store.CodeUnavailable, errClosed)
	}
	defer s.calls.RUnlock()
	text, args := e.cfg.notifies()
	var on bool
	if err := e.db.QueryRowContext(ctx, text, args...).Scan(&on); err != nil {
		return nil, openError(ctx, e, err)
	}
	if !on {
		return nil, invalid("Bus: the triggers that announce changes are disabled (WithoutNotify)")
	}
	c := e.dsn.Copy()
	if e.cfg.listenDSN != "" {
		var err error
		if c, err = pgx.ParseConfig(e.cfg.listenDSN); err != nil {
			return nil, invalid("WithListenDSN: cannot be parsed")
		}
	}
	// Receive is cancelled many times a second. No statement runs then, so the server needs no cancel request.
	c.BuildContextWatcherHandler = nil
	if plain, err := pgx.ParseConfig(""); err == nil {
		c.BuildContextWatcherHandler = plain.BuildContextWatcherHandler
	}
	c.RuntimeParams["application_name"] = "chatstore bus"
	primaryOnly(c)
	return pubsub.New(listener{c, e.cfg}, append(slices.Clip(opts), pubsub.WithAnnouncingBase())...), nil
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

// notify enables or disables all triggers.
func (e *postgresEngine) notify(ctx context.Context, on bool) error {
	text, args := e.cfg.notifies()
	var now bool
	if err := e.db.QueryRowContext(ctx, text, args...).Scan(&now); err != nil || now == on {
		return err
	}
	tx, err := e.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // no-op after a commit
	// Programs with different options take turns: the last one wins.
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", e.cfg.channel()); err != nil {
		return err
	}
	word := map[bool]string{true: "ENABLE", false: "DISABLE"}[on]
	for _, table := range []string{"threads", "items", "attachments"} {
		for _, event := range []string{"insert", "update", "delete", "truncate"} {
			text := fmt.Sprintf(`ALTER TABLE %s %s TRIGGER "%snotify_%s"`, e.cfg.qualified(table), word, e.cfg.prefix, event)
			if _, err := tx.ExecContext(ctx, text); err != nil {
				return err
			}
		}
	}
	if !on {
		if _, err := tx.ExecContext(ctx, "SELECT pg_notify($1, $2)", e.cfg.channel(), switchedOff); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// listener is the transport of a Bus over LISTEN and NOTIFY.
type listener struct {
	dsn *pgx.ConnConfig
	cfg config
}

var _ pubsub.Transport = listener{}

func (l listener) Connect(ctx context.Context) (pubsub.Conn, error) {
	c, err := pgx.ConnectConfig(ctx, l.dsn)
	if err != nil {
		return nil, err
	}
	if _, err := c.Exec(ctx, `LISTEN "`+l.cfg.channel()+`"`); err != nil {
		return nil, errors.Join(err, c.Close(ctx))
	}
	// LISTEN comes first, so that a later switchedOff is not missed.
	text, args := l.cfg.notifies()
	var on bool
	if err := c.QueryRow(ctx, text, args...).Scan(&on); err != nil {
		return nil, errors.Join(err, c.Close(ctx))
	}
	if !on {
		return nil, errors.Join(errors.New("sqlstore: the triggers that announce changes are disabled"), c.Close(ctx))
	}
	return listening{c, l.cfg.channel()}, nil
}

// Publish does nothing: the triggers announce changes.
func (l listener) Publish(context.Context, string) error { return nil }

type listening struct {
	c       *pgx.Conn
	channel string
}

func (l listening) Receive(ctx context.Context) (string, error) {
	n, err := l.c.WaitForNotification(ctx)
	if err != nil {
		return "", err
	}
	return n.Payload, nil
}

// Send sends through the database, in the order of commits: the message comes after the notifications of all writes that
// were acknowledged before the call.
func (l listening) Send(ctx context.Context, payload string) error {
	_, err := l.c.Exec(ctx, "SELECT pg_notify($1, $2)", l.channel, payload)
	return err
}

func (l listening) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return l.c.Close(ctx)
}
