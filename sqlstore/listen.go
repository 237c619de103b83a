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

	"github.com/chatstore/chatstore/bus"
)

// Bus returns a bus for the caches of all programs that use this database of PostgreSQL: triggers tell of every change, in the
// transaction that makes it, so that no writer can forget to, and none can be early. It listens on a connection of its own
// ([WithListenDSN]). Close it after the stacks that use it.
//
//	b, err := s.Bus()
//	stack := store.Wrap(s, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New(cache.WithBus(b)))
//
// A cached read is then at most as old as the bus's lease (bus.WithLease). One Bus serves any number of caches.
//
// It is [store.ErrInvalid] over SQLite, and where the triggers are switched off ([WithoutNotify]).
func (s *Store) Bus(ctx context.Context, opts ...bus.Option) (*bus.Bus, error) {
	e, ok := s.engine.(*postgresEngine)
	if !ok {
		return nil, invalid("Bus: SQLite tells nobody of changes: use package redisbus, or a short cache.WithTTL")
	}
	on, err := e.notifies(ctx)
	if err != nil {
		return nil, openError(ctx, e, err)
	}
	if !on {
		return nil, invalid("Bus: the database does not notify: WithoutNotify switched it off")
	}
	c := e.dsn.Copy()
	if e.cfg.listenDSN != "" {
		if c, err = pgx.ParseConfig(e.cfg.listenDSN); err != nil {
			return nil, invalid("WithListenDSN: cannot be parsed")
		}
	}
	// Waiting for a message is given up many times a second, and nothing to be cancelled at the server.
	c.BuildContextWatcherHandler = nil
	if plain, err := pgx.ParseConfig(""); err == nil {
		c.BuildContextWatcherHandler = plain.BuildContextWatcherHandler
	}
	c.RuntimeParams["application_name"] = "chatstore bus"
	return bus.New(listener{c, e.cfg.channel()}, append(slices.Clip(opts), bus.AnnouncedByBase())...), nil
}

// channel names the channel of a set of tables: no other, and not too long.
func (c config) channel() string {
	sum := sha256.Sum256([]byte(c.schema + "." + c.prefix))
	return "chatstore_" + hex.EncodeToString(sum[:8])
}

// notifications is how many triggers tell of changes: for three tables, of four kinds.
const notifications = 3 * 4

// notifies reports whether the triggers are there and on.
func (e *postgresEngine) notifies(ctx context.Context) (on bool, err error) {
	var n int
	err = e.db.QueryRowContext(ctx, `SELECT count(*) FROM pg_trigger WHERE tgname LIKE $1 AND tgenabled = 'O'
		AND tgrelid IN (to_regclass($2), to_regclass($3), to_regclass($4))`, e.cfg.prefix+`notify\_%`,
		e.cfg.qualified("threads"), e.cfg.qualified("items"), e.cfg.qualified("attachments")).Scan(&n)
	return n == notifications, err
}

// notify switches the triggers on or off.
func (e *postgresEngine) notify(ctx context.Context, on bool) error {
	if now, err := e.notifies(ctx); err != nil || now == on {
		return err
	}
	word := map[bool]string{true: "ENABLE", false: "DISABLE"}[on]
	for _, table := range []string{"threads", "items", "attachments"} {
		for _, event := range []string{"insert", "update", "delete", "truncate"} {
			text := fmt.Sprintf(`ALTER TABLE %s %s TRIGGER "%snotify_%s"`, e.cfg.qualified(table), word, e.cfg.prefix, event)
			if _, err := e.db.ExecContext(ctx, text); err != nil {
				return err
			}
		}
	}
	return nil
}

// listener is the transport of a Bus over LISTEN and NOTIFY.
type listener struct {
	cfg     *pgx.ConnConfig
	channel string
}

var _ bus.Transport = listener{}

func (l listener) Connect(ctx context.Context) (bus.Conn, error) {
	c, err := pgx.ConnectConfig(ctx, l.cfg)
	if err != nil {
		return nil, err
	}
	if _, err := c.Exec(ctx, `LISTEN "`+l.channel+`"`); err != nil {
		return nil, errors.Join(err, c.Close(ctx))
	}
	return listening{c, l.channel}, nil
}

// Publish has nothing to do: the triggers did.
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

// Send sends as part of the order of commits: what comes back has all of them before it that were acknowledged before.
func (l listening) Send(ctx context.Context, payload string) error {
	_, err := l.c.Exec(ctx, "SELECT pg_notify($1, $2)", l.channel, payload)
	return err
}

func (l listening) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return l.c.Close(ctx)
}
