package sqlstore

import (
	"context"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

var (
	_ driver.AttachmentSwapper = (*Store)(nil)
	_ driver.Scrubber          = (*Store)(nil)
	_ driver.Eraser            = (*Store)(nil)
	_ driver.VersionReader     = (*Store)(nil)
	_ driver.Inactive          = (*Store)(nil)
	_ driver.Tombstones        = (*Store)(nil)
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

// mostLooks is how many threads a statement of InactiveThreads looks at, at most. So one that finds only active threads ends within
// the statement timeout, however many there are.
const mostLooks = 1000

// InactiveThreads lists the threads that q.Owner matches and that have no item since before, with their versions. Each statement
// looks at up to 1,000 threads. A page takes as many statements as it needs.
func (s *Store) InactiveThreads(ctx context.Context, before time.Time, q store.ThreadQuery) (store.Page[driver.ThreadVersion], error) {
	c := call{op: store.OpLoadThreads, kind: store.RowThread}
	q, err := checks.Threads(ctx, q)
	if err != nil {
		return store.Page[driver.ThreadVersion]{}, err
	}
	type candidate struct {
		driver.ThreadVersion
		busy bool
	}
	kind, args := filterOf(q.Owner)
	args = append(args, before.UnixMicro())
	var page store.Page[driver.ThreadVersion]
	for looks := (store.PageQuery{Limit: q.Limit + 1, Order: q.Order, After: q.After}); ; looks.Limit = min(2*looks.Limit, mostLooks) {
		p, err := list(ctx, s, c, s.sql.idlePages[kind], looks, args, func(r *row) []any {
			return []any{&r.id, &r.version, &r.at, &r.newest}
		}, func(r *row) (candidate, error) {
			return candidate{driver.ThreadVersion{ID: r.id, Version: r.version}, r.newest >= before.UnixMicro()}, nil
		})
		if err != nil {
			return store.Page[driver.ThreadVersion]{}, err
		}
		for _, t := range p.Data {
			switch {
			case t.busy:
			case len(page.Data) == q.Limit:
				page.HasMore, page.After = true, page.Data[q.Limit-1].ID
				return page, nil
			default:
				page.Data = append(page.Data, t.ThreadVersion)
			}
		}
		if !p.HasMore {
			return page, nil
		}
		looks.After = p.After
	}
}

// ListTombstones lists the deleted and erased ids. It walks the primary key, also over the live rows between two tombstones.
func (s *Store) ListTombstones(ctx context.Context, kind string, q store.PageQuery) (store.Page[driver.Tombstone], error) {
	q, err := checks.Tombstones(ctx, kind, q)
	if err != nil {
		return store.Page[driver.Tombstone]{}, err
	}
	all := s.sql.goneThreads
	if kind == store.RowAttachment {
		all = s.sql.goneFiles
	}
	return list(ctx, s, call{kind: kind}, all, q, nil, func(r *row) []any {
		return []any{&r.owner.Tenant, &r.owner.Subject, &r.id, &r.created, &r.state}
	}, func(r *row) (driver.Tombstone, error) {
		t := driver.Tombstone{ID: r.id, Owner: r.owner, Erased: r.state == erased}
		if kind == store.RowThread {
			t.CreatedAt = time.UnixMicro(r.created).UTC()
		}
		return t, nil
	})
}

// ThreadVersions returns the versions of the threads. For PostgreSQL, the epoch changes at a failover, and if another database
// or another table takes the place of this one, as after most restores. For MySQL, it changes at another server, and if the table was
// made anew; for a cluster only at another cluster, and with [NewMySQL] not even then. For SQLite, each Store has an epoch of its own.
func (s *Store) ThreadVersions(ctx context.Context, ids []string) (epoch string, versions []uint64, err error) {
	c := call{kind: store.RowThread}
	if err := checks.ThreadIDs(ctx, ids); err != nil {
		return "", nil, err
	}
	found := make(map[string]uint64, len(ids))
	err = s.try(ctx, c, false, func() (bool, error) {
		clear(found)
		before, table := s.engine.epoch(), ""
		err := s.engine.read(ctx, step{s.sql.versionsOf, []any{s.sql.list(ids)}, func(scan func(...any) error) error {
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
		return tx.run(ctx, written(
			step{s.sql.eraseThreads, args, noting(&e.Threads)}, step{s.sql.eraseItems, args, nil}, step{s.sql.eraseGone, args, nil},
			step{s.sql.eraseGrants, args, nil}, step{s.sql.forgetThreads, args, nil},
			step{s.sql.eraseFiles, args, noting(&e.Attachments)}, step{s.sql.forgetFiles, args, nil},
			step{s.sql.eraseTo, args, nil}, step{s.sql.eraseBy, args, nil})...)
	})
	if err != nil {
		return driver.Erased{}, err
	}
	return e, nil
}

// Scrub rebuilds a SQLite file with VACUUM, so that no deleted text stays in it. Meanwhile all writers wait, and those of other Stores
// may fail. VACUUM needs room for two more copies of the file, and its time grows with the file. Old pages stay in the WAL until a
// checkpoint truncates it, which Scrub tries once.
//
// For servers it does nothing. In PostgreSQL, deleted rows stay in the files until VACUUM has freed their place and other rows have
// taken it, or until VACUUM FULL. In MySQL they stay until other rows have taken their place, or until OPTIMIZE TABLE, and in the binary log
// until it is purged. No query and no dump shows them.
func (s *Store) Scrub(ctx context.Context) error {
	if err := driver.Done(ctx, 0, "", ""); err != nil {
		return err
	}
	return s.try(ctx, call{}, false, func() (bool, error) { return true, s.engine.scrub(ctx) })
}
