package sqlstore

import (
	"cmp"
	"context"
	"slices"

	"github.com/chatstore/chatstore/store"
)

// listing is a page as the database returns it.
type listing[T any] struct {
	rows  []row[T]
	found int // 1 if the cursor exists, or if there is none
}

// row is a row of a listing. A page without rows has one row without an id: its outer part.
type row[T any] struct {
	val T
	id  string
	// The place in the order of the listing. Listings without a CreatedAt leave at at zero, and those whose last key is the
	// id leave place at zero.
	at, place int64
}

// load reads the page for q. It reads one row more than the page needs.
func (l *listing[T]) load(ctx context.Context, s *Store, c call, all pages, q store.PageQuery, args []any,
	scan func(func(...any) error) (row[T], error)) (store.Page[T], error) {
	text := all[q.Order][0]
	args = append(slices.Clip(args), q.Limit+1)
	if q.After != "" {
		text = all[q.Order][1]
		args = append(args, q.After)
	}
	err := s.read(ctx, c, func() step {
		*l = listing[T]{}
		return step{text, args, func(columns func(...any) error) error {
			r, err := scan(columns)
			if err == nil && r.id != "" {
				l.rows = append(l.rows, r)
			}
			return err
		}}
	})
	if err != nil {
		return store.Page[T]{}, err
	}
	return l.page(c, q)
}

// page returns the page for q.
func (l *listing[T]) page(c call, q store.PageQuery) (store.Page[T], error) {
	if q.After != "" && l.found == 0 {
		c.id = q.After
		if c.op == store.OpLoadThreadItems {
			c.kind = store.RowItem
		}
		return store.Page[T]{}, c.error(store.CodeNotFound, nil)
	}
	// SQL does not guarantee the order of joined rows, though both databases keep it.
	slices.SortStableFunc(l.rows, func(a, b row[T]) int {
		by := cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.place, b.place), cmp.Compare(a.id, b.id))
		if q.Order == store.NewestFirst {
			return -by
		}
		return by
	})
	var p store.Page[T]
	if len(l.rows) > q.Limit {
		l.rows = l.rows[:q.Limit]
		p.HasMore, p.After = true, l.rows[q.Limit-1].id
	}
	for _, r := range l.rows {
		p.Data = append(p.Data, r.val)
	}
	return p, nil
}
