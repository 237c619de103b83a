package sqlstore

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
)

var _ sharing.Store = (*Store)(nil)

// grantStatements has the texts of the statements for grants.
type grantStatements struct {
	claim, grant, revoke, access, grantees string
	eraseTo, eraseBy                       string
	sharedWith                             func(grantees int) string
}

func grantStatementsFor(d dialect, q func(string) string) grantStatements {
	// A principal is $1 and $2, its tenant and subject, and $3, its groups. The group '' is the tenant.
	const (
		columns = `g.thread_id, g.tenant, g.subject, g.grp, g.role, g.by_tenant, g.by_subject, g.granted_at, g.version`
		newest  = ` ORDER BY g.granted_at DESC, g.thread_id DESC LIMIT $4`
	)
	newer := func(to string) string {
		return ` AND NOT EXISTS (SELECT 1 FROM {grants} h` + d.using(`PRIMARY`) + ` WHERE h.thread_id = g.thread_id AND h.tenant = $1 AND ` + to + `
			AND ` + d.beyond(`h.granted_at, h.subject, h.grp`, `>`, `g.granted_at`, `g.subject`, `g.grp`) + `)`
	}
	// sharedTo returns the grants to one grantee.
	sharedTo := func(subject, group, groups string) string {
		return `FROM {grants} g` + d.using(`by_grantee`) + ` WHERE ` + d.plain(`g.tenant`) + ` = $1 AND ` + d.plain(`g.subject`) + ` = ` + subject + ` AND ` + d.plain(`g.grp`) + ` = ` + group + `
			AND ` + d.beyond(`g.granted_at, g.thread_id`, `<`, `$5`, `$6`) + `
			AND NOT EXISTS (SELECT 1 FROM {threads} t` + d.using(`PRIMARY`) + ` WHERE t.id = g.thread_id AND t.tenant = $1 AND t.subject = $2)` +
			newer(`h.subject = $2 AND h.grp = ''`) + newer(`h.subject = '' AND `+groups) + newest
	}
	// Each grantee that the principal is has a range of an index. At most $4 rows of each are sorted.
	sharedWith := func(grantees int) string {
		// A variable has all groups, because the text would be as long as the square of their number.
		const inGroups = `locate(concat(0x00, h.grp, 0x00), @chatstore_groups) > 0`
		one := `(SELECT ` + columns + ` ` + sharedTo(`$2`, `''`, inGroups) + `)`
		for n := range grantees - 1 {
			one += ` UNION ALL (SELECT ` + columns + ` ` + sharedTo(`''`, fmt.Sprintf(`$3.%d`, n), inGroups) + `)`
		}
		return q(`SET @chatstore_groups = $3.*; SELECT ` + columns + ` FROM (` + one + `) g` + newest)
	}
	if !d.mysql {
		text := q(`SELECT ` + columns + ` FROM (SELECT $2 || '' AS subject, '' AS grp UNION ALL SELECT '', value FROM ` + d.groups + `) p
			` + strings.ReplaceAll(d.lateral, "{rows}", sharedTo(`p.subject`, `p.grp`, `h.grp IN (SELECT value FROM `+d.groups+`)`)) + newest)
		sharedWith = func(int) string { return text }
	}
	// It changes the thread's row, so a deletion comes before or after the grant. A deletion under REPEATABLE READ, or at another node
	// of a cluster, would pass a mere lock and miss the grant.
	claimed := `places`
	if d.mysql { // which writes nothing if all values are as before
		claimed = `places + 1`
	}
	return grantStatements{
		claim: q(`UPDATE {threads} SET places = ` + claimed + ` WHERE id = $1 AND state = 0`),
		grant: q(`INSERT INTO {grants} (thread_id, tenant, subject, grp, role, by_tenant, by_subject, granted_at, version)
			SELECT id, $2, $3, $4, CAST($5 AS {bigint}), $6, $7, CAST($8 AS {bigint}), version FROM {threads}
			WHERE ` + mayGrant + d.onConflict(`thread_id, tenant, subject, grp`, `role`, `by_tenant`, `by_subject`, `granted_at`, `version`) +
			d.changed(`{threads}`, mayGrant, `version`)),
		revoke: q(`DELETE FROM {grants} WHERE thread_id = $1 AND tenant = $2 AND subject = $3 AND grp = $4`),
		// It reads all groups that the thread is granted to: that is faster than to look for each group of a principal.
		access: q(`SELECT subject, grp, role, version FROM {grants} WHERE thread_id = $1 AND tenant = $2 AND subject = $3 AND grp = ''
			UNION ALL SELECT subject, grp, role, version FROM {grants} WHERE thread_id = $1 AND tenant = $2 AND subject = ''`),
		grantees: q(`SELECT ` + columns + ` FROM {grants} g` + d.using(`by_time`) + ` WHERE ` + d.plain(`thread_id`) + ` = $1 AND ` +
			d.beyond(`granted_at, tenant, subject, grp`, `<`, `$3`, `$4`, `$5`, `$6`) + `
			ORDER BY granted_at DESC, tenant DESC, subject DESC, grp DESC LIMIT $2`),
		sharedWith: sharedWith,
		eraseTo:    q(`DELETE FROM {grants} WHERE ` + d.plain(`tenant`) + ` = $1 AND ` + d.plain(`subject`) + ` = $2`),
		eraseBy:    q(`UPDATE {grants} SET by_tenant = '', by_subject = '' WHERE by_tenant = $1 AND by_subject = $2 AND by_subject <> ''`),
	}
}

// mayGrant finds the thread that a grant is for.
const mayGrant = `id = $1 AND state = 0 AND subject <> '' AND ($4 = '' OR tenant = $2)`

var grantChecks sharing.Checks

// Grant adds a grant, or replaces the one to the same grantee.
func (s *Store) Grant(ctx context.Context, g sharing.Grant) error {
	c := call{kind: store.RowThread, id: g.ThreadID}
	if err := grantChecks.Grant(ctx, g); err != nil {
		return err
	}
	return s.write(ctx, c, func(ctx context.Context, tx tx) error {
		var (
			found   bool
			version uint64
			was     threadState
		)
		args := []any{g.ThreadID, g.To.Tenant, g.To.Subject, g.To.Group, int(g.Role), g.By.Tenant, g.By.Subject, time.Now().UnixMicro()}
		claim := step{s.sql.claim, []any{g.ThreadID}, nil}
		if err := tx.run(ctx, claim, step{s.sql.grant, args, maybe(&found, &version)}); err != nil || found {
			return err
		}
		if err := tx.run(ctx, was.load(s, g.ThreadID)); err != nil {
			return err
		}
		if was.state != live {
			return refused{c.error(store.CodeNotFound, nil)}
		}
		if err := grantChecks.Owner(g, was.owner); err != nil {
			return refused{err}
		}
		return errMoved
	})
}

// Revoke removes the grant to this grantee, if there is one.
func (s *Store) Revoke(ctx context.Context, threadID string, to sharing.Grantee) error {
	if err := grantChecks.Grant(ctx, sharing.Grant{ThreadID: threadID, To: to, Role: sharing.Viewer}); err != nil {
		return err
	}
	return s.write(ctx, call{kind: store.RowThread, id: threadID}, func(ctx context.Context, tx tx) error {
		return tx.run(ctx, step{s.sql.revoke, []any{threadID, to.Tenant, to.Subject, to.Group}, nil})
	})
}

// Access returns what p may do with the thread by grants. It is one statement.
func (s *Store) Access(ctx context.Context, p store.Principal, threadID string) (a sharing.Access, err error) {
	if err := checks.Thread(ctx, 0, threadID); err != nil {
		return a, err
	}
	who := sharing.GranteesOf(p)
	if who == nil {
		return a, nil
	}
	err = s.read(ctx, call{kind: store.RowThread, id: threadID}, func() step {
		a = sharing.Access{}
		return step{s.sql.access, []any{threadID, p.Owner.Tenant, p.Owner.Subject}, func(scan func(...any) error) error {
			g, role := sharing.Grant{To: sharing.Grantee{Tenant: p.Owner.Tenant}}, 0
			err := scan(&g.To.Subject, &g.To.Group, &role, &g.Version)
			if g.Role = sharing.Role(role); slices.Contains(who, g.To) {
				a = a.With(g)
			}
			return err
		}}
	})
	if err != nil {
		return sharing.Access{}, err
	}
	return a, nil
}

// Grantees returns a page of the thread's grants, the newest first.
func (s *Store) Grantees(ctx context.Context, threadID, after string, limit int) (store.Page[sharing.Grant], error) {
	place, limit, err := grantChecks.Grantees(ctx, threadID, after, limit)
	if err != nil {
		return store.Page[sharing.Grant]{}, err
	}
	to := place.To
	return s.grants(ctx, threadID, s.sql.grantees, limit, threadID, limit+1, micros(place), to.Tenant, to.Subject, to.Group)
}

// SharedWith returns a page of the grants to p, its groups and its tenant, the newest first.
func (s *Store) SharedWith(ctx context.Context, p store.Principal, after string, limit int) (store.Page[sharing.Grant], error) {
	place, limit, err := grantChecks.SharedWith(ctx, after, limit)
	who := sharing.GranteesOf(p)
	if err != nil || who == nil {
		return store.Page[sharing.Grant]{}, err
	}
	var groups []string // the group "" is the tenant
	for _, to := range who[1:] {
		groups = append(groups, to.Group)
	}
	return s.grants(ctx, "", s.sql.sharedWith(len(who)), limit, p.Owner.Tenant, p.Owner.Subject, s.sql.list(groups), limit+1, micros(place), place.ThreadID)
}

// micros returns the time of a cursor. Without a cursor it is later than all others.
func micros(after sharing.Place) int64 {
	if after == (sharing.Place{}) {
		return math.MaxInt64
	}
	return after.At
}

// grants reads a page of grants.
func (s *Store) grants(ctx context.Context, threadID, text string, limit int, args ...any) (p store.Page[sharing.Grant], err error) {
	err = s.read(ctx, call{kind: store.RowThread, id: threadID}, func() step {
		p = store.Page[sharing.Grant]{}
		return step{text, args, func(scan func(...any) error) error {
			var g sharing.Grant
			var role int
			var at int64
			err := scan(&g.ThreadID, &g.To.Tenant, &g.To.Subject, &g.To.Group, &role, &g.By.Tenant, &g.By.Subject, &at, &g.Version)
			g.Role, g.At = sharing.Role(role), time.UnixMicro(at).UTC()
			p.Data = append(p.Data, g)
			return err
		}}
	})
	if err != nil {
		return store.Page[sharing.Grant]{}, err
	}
	if len(p.Data) > limit {
		p.Data = p.Data[:limit]
		p.HasMore, p.After = true, p.Data[limit-1].Place().String()
	}
	return p, nil
}
