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
	newest  int64 // of a thread: when its newest item was created, or itself
	// The place in the order of the listing. Listings without a CreatedAt leave at at zero, and those whose last key is the
	// id leave place at zero.
	at, place int64

	created int64 // of a tombstone, whose listing is not in the order of times
	state   int   // of a tombstone
}

// list reads the page for q. It reads one row more than the page needs. columns returns where to scan the columns of a row. The
// last column is left out: it says whether the cursor exists. value returns the value of a row of the page.
func list[T any](ctx context.Context, s *Store, c call, all pages, q store.PageQuery, args []any,
	columns func(*row) []any, value func(*row) (T, error)) (store.Page[T], error) {
	cursed := 0
	args = append(slices.Clip(args), q.Limit+1)
	if q.After != "" {
		cursed = 1
		args = append(args, q.After)
	}
	var (
		rows  []row
		found int
	)
	at, err := s.place(ctx, c, all, args, q.After)
	if err != nil {
		return store.Page[T]{}, err
	}
	args = append(args, at...)
	err = s.read(ctx, c, func() step {
		rows = make([]row, 0, min(q.Limit+1, 32))
		var r row
		into := append(columns(&r), &found)
		return step{all.texts[q.Order][cursed], args, func(scan func(...any) error) error {
			err := scan(into...)
			if err == nil && r.id != "" {
				rows = append(rows, r)
			}
			return err
		}}
	})
	if err == nil && q.After != "" && found == 0 {
		err = noPlace(c, q.After)
	}
	if err != nil {
		return store.Page[T]{}, err
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

// place looks up the place of the cursor, if there is one and the page's statement does not.
func (s *Store) place(ctx context.Context, c call, all pages, args []any, after string) ([]any, error) {
	if after == "" || all.place == "" {
		return nil, nil
	}
	at := make([]any, all.order)
	into := make([]any, all.order)
	for n := range at {
		into[n] = &at[n]
	}
	var found bool
	withoutLimit := append(slices.Clip(args[:len(args)-2]), after)
	err := s.read(ctx, c, func() step { return step{all.place, withoutLimit, maybe(&found, into...)} })
	if err == nil && !found {
		err = noPlace(c, after)
	}
	return at, err
}

// noPlace is the error for a cursor that was never in the listing.
func noPlace(c call, after string) error {
	c.id = after
	if c.op == store.OpLoadThreadItems {
		c.kind = store.RowItem
	}
	return c.error(store.CodeNotFound, nil)
}
