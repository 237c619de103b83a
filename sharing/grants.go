package sharing

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
)

var checks Checks

// lock locks m.mu and returns the records that f finds. It waits until no call that ends one of them is running. f is called
// with m.mu locked. After an error, m.mu is not locked.
func (m *memory) lock(ctx context.Context, f func() []*record) ([]*record, error) {
	for {
		m.mu.Lock()
		found := f()
		i := slices.IndexFunc(found, func(r *record) bool { return m.endings(r, (*ending).isRunning) != nil })
		if i < 0 {
			return found, nil
		}
		over := m.endings(found[i], (*ending).isRunning).over
		m.mu.Unlock()
		select {
		case <-over:
		case <-ctx.Done():
			return nil, driver.Done(ctx, 0, store.RowThread, found[i].ThreadID)
		}
	}
}

// Grant reads the thread from the base and adds the grant. It begins again if the thread may have been deleted meanwhile.
func (m *memory) Grant(ctx context.Context, g Grant) error {
	if err := checks.Grant(ctx, g); err != nil {
		return err
	}
	failed := func(code store.Code, cause error) error {
		return &store.Error{Kind: store.RowThread, ID: g.ThreadID, Code: code, Cause: errors.Join(store.ErrNotApplied, cause)}
	}
	for {
		m.mu.Lock()
		ended := *m.ended(g.ThreadID)
		m.mu.Unlock()
		reading, versions := store.WithVersions(store.WithFresh(layer.Own(ctx)))
		t, err := m.LoadThread(reading, g.ThreadID)
		if err != nil {
			return failed(store.CodeOf(err), err)
		}
		if err := checks.Owner(g, t.Owner); err != nil {
			return err
		}
		g.Version, _ = versions.Of(g.ThreadID)
		g.At = time.Now().UTC().Truncate(time.Microsecond)
		r := &record{g, t.Owner}
		if _, err := m.lock(ctx, func() []*record { return []*record{r} }); err != nil {
			return err
		}
		current, doubtful := ended == *m.ended(g.ThreadID), m.endings(r, (*ending).isDoubtful) != nil
		if current && !doubtful {
			m.put(r)
		}
		m.mu.Unlock()
		switch {
		case doubtful:
			return failed(store.CodeUnavailable, nil)
		case current:
			return nil
		}
	}
}

// Revoke removes the grant.
func (m *memory) Revoke(ctx context.Context, threadID string, to Grantee) error {
	if err := checks.Grant(ctx, Grant{ThreadID: threadID, To: to, Role: Viewer}); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.threads[threadID][to]; r != nil {
		m.remove(r)
	}
	return nil
}

// Access returns what p may do with the thread.
func (m *memory) Access(ctx context.Context, p store.Principal, threadID string) (a Access, err error) {
	if err := (driver.Checks{}).Thread(ctx, 0, threadID); err != nil {
		return Access{}, err
	}
	found, err := m.lock(ctx, func() (found []*record) {
		for _, to := range GranteesOf(p) {
			if r := m.threads[threadID][to]; r != nil {
				found = append(found, r)
			}
		}
		return found
	})
	if err != nil {
		return Access{}, err
	}
	m.mu.Unlock()
	for _, r := range found {
		a = a.With(r.Grant)
	}
	return a, nil
}

// Grantees returns a page of the thread's grants.
func (m *memory) Grantees(ctx context.Context, threadID, after string, limit int) (store.Page[Grant], error) {
	place, limit, err := checks.Grantees(ctx, threadID, after, limit)
	if err != nil {
		return store.Page[Grant]{}, err
	}
	return m.page(ctx, place, limit, func(yield func(*record)) {
		for _, r := range m.threads[threadID] {
			yield(r)
		}
	})
}

// SharedWith returns a page of the grants to p.
func (m *memory) SharedWith(ctx context.Context, p store.Principal, after string, limit int) (store.Page[Grant], error) {
	place, limit, err := checks.SharedWith(ctx, after, limit)
	if err != nil {
		return store.Page[Grant]{}, err
	}
	return m.page(ctx, place, limit, func(yield func(*record)) {
		newest := map[string]*record{}
		for _, to := range GranteesOf(p) {
			for id, r := range m.grantees[to] {
				if n := newest[id]; r.owner != p.Owner && (n == nil || n.Place().Compare(r.Place()) < 0) {
					newest[id] = r
				}
			}
		}
		for _, r := range newest {
			yield(r)
		}
	})
}

// page returns the page behind the place of the records that all yields.
func (m *memory) page(ctx context.Context, after Place, limit int, all func(yield func(*record))) (p store.Page[Grant], err error) {
	rows, err := m.lock(ctx, func() (rows []*record) {
		all(func(r *record) {
			if after == (Place{}) || r.Place().Compare(after) < 0 {
				rows = append(rows, r)
			}
		})
		slices.SortFunc(rows, func(a, b *record) int { return b.Place().Compare(a.Place()) })
		return rows[:min(len(rows), limit+1)]
	})
	if err != nil {
		return p, err
	}
	m.mu.Unlock()
	if len(rows) > limit {
		rows = rows[:limit]
		p.HasMore, p.After = true, rows[limit-1].Place().String()
	}
	for _, r := range rows {
		p.Data = append(p.Data, r.Grant)
	}
	return p, nil
}
