package sqlstore

import (
	"context"
	"encoding/json"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

var (
	_ driver.AttachmentLister = (*Store)(nil)
	_ driver.Eraser           = (*Store)(nil)
	_ driver.VersionReader    = (*Store)(nil)
	_ driver.Inactive         = (*Store)(nil)
)

// ListAttachments lists the attachments that q.Owner matches, in the order of their ids.
func (s *Store) ListAttachments(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Attachment], error) {
	c := call{kind: store.RowAttachment}
	q, err := checks.Attachments(ctx, q)
	if err != nil {
		return store.Page[chat.Attachment]{}, err
	}
	kind, args := filterOf(q.Owner)
	return list(ctx, s, c, s.sql.filePages[kind], q.PageQuery, args, func(r *row) []any {
		return []any{&r.owner.Tenant, &r.owner.Subject, &r.doc, &r.id}
	}, func(r *row) (chat.Attachment, error) {
		a, err := chat.ParseAttachment(r.doc)
		if err != nil {
			return a, call{c.op, c.kind, r.id}.error(store.CodeInternal, err)
		}
		a.Owner = r.owner
		return a, nil
	})
}

// InactiveThreads lists the threads that q.Owner matches and that have no item since before, with their versions.
func (s *Store) InactiveThreads(ctx context.Context, before time.Time, q store.ThreadQuery) (store.Page[driver.ThreadVersion], error) {
	c := call{op: store.OpLoadThreads, kind: store.RowThread}
	q, err := checks.Threads(ctx, q)
	if err != nil {
		return store.Page[driver.ThreadVersion]{}, err
	}
	kind, args := filterOf(q.Owner)
	return list(ctx, s, c, s.sql.idlePages[kind], q.PageQuery, append(args, before.UnixMicro()), func(r *row) []any {
		return []any{&r.id, &r.version, &r.at}
	}, func(r *row) (driver.ThreadVersion, error) {
		return driver.ThreadVersion{ID: r.id, Version: r.version}, nil
	})
}

// ThreadVersions returns the versions of the threads. For PostgreSQL, the epoch changes at a failover, and if another database
// or another table takes the place of this one, as after most restores. For SQLite, each Store has an epoch of its own.
func (s *Store) ThreadVersions(ctx context.Context, ids []string) (epoch string, versions []uint64, err error) {
	c := call{kind: store.RowThread}
	if err := checks.ThreadIDs(ctx, ids); err != nil {
		return "", nil, err
	}
	list, err := json.Marshal(append([]string{}, ids...)) // not null
	if err != nil {
		return "", nil, c.error(store.CodeInternal, err)
	}
	found := make(map[string]uint64, len(ids))
	err = s.try(ctx, c, false, func() (bool, error) {
		clear(found)
		before, table := s.engine.epoch(), ""
		err := s.engine.read(ctx, step{s.sql.versionsOf, []any{string(list)}, func(scan func(...any) error) error {
			var (
				id      string
				version uint64
			)
			err := scan(&table, &id, &version)
			found[id] = version
			return err
		}})
		if err == nil && s.engine.epoch() != before {
			err = errMoved
		}
		epoch = before + table
		return true, err
	})
	if err != nil {
		return "", nil, err
	}
	versions = make([]uint64, len(ids))
	for i, id := range ids {
		versions[i] = found[id]
	}
	return epoch, versions, nil
}

// EraseOwner erases all rows of the owner, in one transaction. It ends the grants of its threads and to its subject, and removes
// its name from others.
func (s *Store) EraseOwner(ctx context.Context, owner chat.Owner) (driver.Erased, error) {
	if err := checks.Owner(ctx, owner); err != nil {
		return driver.Erased{}, err
	}
	var e driver.Erased
	err := s.write(ctx, call{}, func(ctx context.Context, tx tx) error {
		e = driver.Erased{}
		args := []any{owner.Tenant, owner.Subject}
		noting := func(live *[]string) func(scan func(...any) error) error {
			return func(scan func(...any) error) error {
				var (
					id      string
					hadText int
				)
				err := scan(&id, &hadText)
				if hadText == 0 {
					e.Deleted++
				} else {
					*live = append(*live, id)
				}
				return err
			}
		}
		return tx.run(ctx,
			step{s.sql.eraseThreads, args, noting(&e.Threads)},
			step{s.sql.eraseItems, args, nil}, step{s.sql.eraseGone, args, nil}, step{s.sql.forgetThreads, args, nil},
			step{s.sql.eraseFiles, args, noting(&e.Attachments)}, step{s.sql.forgetFiles, args, nil},
			step{s.sql.eraseTo, args, nil}, step{s.sql.eraseBy, args, nil})
	})
	if err != nil {
		return driver.Erased{}, err
	}
	return e, nil
}
