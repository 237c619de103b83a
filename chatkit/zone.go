package chatkit

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/chatstore/chatstore/internal/jsondoc"
	"github.com/chatstore/chatstore/store"
)

// WithZone sets the time zone of stored times that have none. The Python SDK stores the local time of its server so. The default
// is UTC. Such times are shown in UTC, and the rows of a page are in the order of the right times. Which rows a page has is up to
// the store, which reads times without a zone as UTC.
func WithZone(zone *time.Location) Option { return func(c *config) { c.zone = zone } }

// isNaive reports whether the member created_at of a row is a time without a zone.
func isNaive(row string, members []jsondoc.Member) bool {
	value, _ := jsondoc.Find(row, members, "created_at")
	const date = len(`"2006-01-02`)
	return strings.HasPrefix(value, `"`) && len(value) > date && !strings.ContainsAny(value[date:], "Zz+-")
}

// inZone returns the time at which a clock in zone shows what a clock in UTC shows at t. A nil zone means UTC.
func inZone(t time.Time, zone *time.Location) time.Time {
	year, month, day := t.UTC().Date()
	hour, minute, second := t.UTC().Clock()
	return time.Date(year, month, day, hour, minute, second, t.Nanosecond(), cmp.Or(zone, time.UTC)).UTC()
}

// sorted returns the rows of a page in the order of their times. The store has sorted them too, but reads times without a zone
// as UTC.
func sorted[T any](rows []T, order store.Order, at func(T) time.Time) []any {
	slices.SortStableFunc(rows, func(a, b T) int {
		if order == store.NewestFirst {
			a, b = b, a
		}
		return at(a).Compare(at(b))
	})
	all := []any{}
	for _, row := range rows {
		all = append(all, row)
	}
	return all
}
