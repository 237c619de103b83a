package sqlstore

import (
	"cmp"
	"context"
	"slices"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// row is a row of a listing. A page without rows has one row without an id: its outer part.
type row struct {
	owner   chat.Owner
	doc, id string
	version uint64
	// The place in the order of the listing. Listings without a CreatedAt leave at at zero, and those whose last key is the
	// id leave place at zero.
	at, place int64
}

// list reads the page for q. It reads one row more than the page needs. columns returns where to scan the columns of a row. The
// last column is left out: it says whether the cursor exists. value returns the value of a row of the page.
func list[T any](ctx context.Context, s *Store, c call, all pages, q store.PageQuery, args []any,
	columns func(*row) []any, value func(*row) (T, error)) (store.Page[T], error) {
	text := all[q.Order][0]
	args = append(slices.Clip(args), q.Limit+1)
	if q.After != "" {
		text = all[q.Order][1]
		args = append(args, q.After)
	}
	var (
		rows  []row
		found int
	)
	err := s.read(ctx, c, func() step {
		rows = make([]row, 0, min(q.Limit+1, 32))
		var r row
		into := append(columns(&r), &found)
		return step{text, args, func(scan func(...any) error) error {
			err := scan(into...)
			if err == nil && r.id != "" {
				rows = append(rows, r)
			}
			return err
		}}
	})
	if err != nil {
		return store.Page[T]{}, err
	}
	if q.After != "" && found == 0 {
		c.id = q.After
		if c.op == store.OpLoadThreadItems {
			c.kind = store.RowItem
		}
		return store.Page[T]{}, c.error(store.CodeNotFound, nil)
	}
	// SQL does not guarantee the order of joined rows, though both databases keep it.
	slices.SortStableFunc(rows, func(a, b row) int {
		by := cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.place, b.place), cmp.Compare(a.id, b.id))
		if q.Order == store.NewestFirst {
			return -by
		}
		return by
	})
	var p store.Page[T]
	if len(rows) > q.Limit {
		rows = rows[:q.Limit]
		p.HasMore, p.After = true, rows[q.Limit-1].id
	}
	p.Data = slices.Grow(p.Data, len(rows))
	for i := range rows {
		v, err := value(&rows[i])
		if err != nil {
			return store.Page[T]{}, err
		}
		p.Data = append(p.Data, v)
	}
	return p, nil
}
