package storetest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/chatstore/chatstore/internal/testenv"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// broken is a Store with one promise broken, and the subtests that say so: no others may fail.
type broken struct {
	promise string
	twist   func(s *twist, base store.Store)
	fails   []string
}

// andMore stands for subtests that need what is broken for something else.
const andMore = "…"

// maybe marks a subtest that fails or not, as the goroutines meet.
func maybe(path string) string { return "?" + path }

// TestBrokenStores shows that each promise has its check, and that a failure names what is broken.
func TestBrokenStores(t *testing.T) {
	if log := record(t.Context(), func() store.Store { return newTwist(memstore.New()) }, nil); len(log.failed) > 0 {
		t.Fatalf("the suite fails on a Store that keeps every promise: %v", log.failed)
	}
	for i, b := range allBroken() {
		t.Run(b.promise, func(t *testing.T) {
			t.Parallel()
			var must, may []string
			more := false
			for _, path := range b.fails {
				if chance, ok := strings.CutPrefix(path, "?"); ok {
					may = append(may, chance)
				} else if path == andMore {
					more = true
				} else {
					must = append(must, path)
				}
			}
			slices.Sort(must)
			// Those that must fail, and of the others each a third of the time. The race detector makes this slow, and finds
			// nothing here that it doesn't find in TestMemstore.
			var groups []string
			for g, group := range suite {
				named := slices.ContainsFunc(must, func(path string) bool { return strings.HasPrefix(path, group.name+"/") })
				if named || testenv.Full || (i+g)%3 == 0 && !testenv.Race && !testing.Short() {
					groups = append(groups, group.name)
				}
			}
			failed := make(map[string][]string)
			// A race is lost by chance: on a busy machine not at once, but soon.
			for range 100 {
				maps.Copy(failed, record(t.Context(), brokenBy(b.twist), groups).failed)
				groups = nil
				for _, path := range must {
					if failed[path] == nil {
						group, _, _ := strings.Cut(path, "/")
						groups = append(groups, group)
					}
				}
				if groups == nil {
					break
				}
			}
			got := slices.DeleteFunc(slices.Sorted(maps.Keys(failed)), func(path string) bool {
				return slices.Contains(may, path) || more && !slices.Contains(must, path)
			})
			if d := gocmp.Diff(must, got); d != "" {
				t.Errorf("subtests that failed (-want +got):\n%s", d)
				for _, path := range got {
					if !slices.Contains(must, path) {
						t.Logf("%s: %s", path, failed[path][0])
					}
				}
			}
		})
	}
}

func allBroken() []broken {
	return slices.Concat(brokenBasics, brokenPages, brokenThreads, brokenItems, brokenAttachments, brokenOwners, brokenValues, brokenCalls,
		brokenVersions, brokenRaces, brokenModes, brokenCancellations, deafToCancellation(), takingBadIDs(), contextFirst(), reencoding())
}

// unbreakable are checks that no Store can fail as long as package store is what it is: here to notice when it is not.
var unbreakable = []string{
	"Payload/a bad item type is ErrInvalid",
	"Payload/repeated names are ErrInvalid",
	"Aliasing/bytes that were parsed are the caller's",
	"Aliasing/an item's body is the caller's",
	"Aliasing/an attachment's body is the caller's",
	"Aliasing/a loaded value is the caller's",
	"Aliasing/a principal's roles are the caller's",
}

// TestEveryCheckCanFail wants a broken store for each check. Of a check that is made of several kinds of rows, one will do.
func TestEveryCheckCanFail(t *testing.T) {
	check := func(path string) string {
		group, name, _ := strings.Cut(path, "/")
		for _, kind := range []string{"items: ", "threads: ", "attachments: "} {
			name = strings.TrimPrefix(name, kind)
		}
		return group + "/" + name
	}
	fails := make(map[string]bool)
	for _, b := range allBroken() {
		for _, path := range b.fails {
			fails[check(path)] = true
		}
	}
	for _, g := range suite {
		for _, c := range g.checks {
			if path := g.name + "/" + c.name; !fails[check(path)] && !slices.Contains(unbreakable, path) {
				t.Errorf("no broken store fails %q", path)
			}
		}
	}
}

// memory is what a broken store remembers of ids.
type memory[T any] struct{ m sync.Map }

func (m *memory[T]) set(id string, v T) { m.m.Store(id, v) }
func (m *memory[T]) get(id string) (v T, ok bool) {
	x, ok := m.m.Load(id)
	if ok {
		v = x.(T)
	}
	return v, ok
}

var brokenPages = []broken{
	{"items: an unknown cursor restarts at page one", func(s *twist, base store.Store) {
		s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
			p, err := base.LoadThreadItems(ctx, threadID, q)
			if errors.Is(err, store.ErrNotFound) {
				q.After = ""
				return base.LoadThreadItems(ctx, threadID, q)
			}
			return p, err
		}
	}, []string{
		"After/items: unknown cursor is ErrNotFound",
		"After/items: a deleted row as cursor is ErrNotFound",
		"After/items: another thread's item as cursor is ErrNotFound",
		"LoadThreadItems/a missing thread with After is ErrNotFound",
	}},
	{"threads: an unknown cursor is the end", func(s *twist, base store.Store) {
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			p, err := base.LoadThreads(ctx, q)
			if errors.Is(err, store.ErrNotFound) {
				if _, err := base.LoadThread(ctx, q.After); err != nil {
					return store.Page[chat.Thread]{}, nil
				}
			}
			return p, err
		}
	}, []string{
		"After/threads: unknown cursor is ErrNotFound",
		"After/threads: a deleted row as cursor is ErrNotFound",
	}},
	{"threads: another owner's thread is a cursor", func(s *twist, base store.Store) {
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			p, err := base.LoadThreads(ctx, q)
			if errors.Is(err, store.ErrNotFound) {
				if _, err := base.LoadThread(ctx, q.After); err == nil {
					return store.Page[chat.Thread]{}, nil
				}
			}
			return p, err
		}
	}, []string{"After/threads: another owner's thread as cursor is ErrNotFound"}},
	{"items: a cursor is inclusive", func(s *twist, base store.Store) {
		s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
			p, err := base.LoadThreadItems(ctx, threadID, q)
			if q.After != "" && err == nil && q.Limit == 0 {
				it, _ := base.LoadItem(ctx, threadID, q.After)
				p.Data = slices.Insert(p.Data, 0, it)
			}
			return p, err
		}
	}, []string{"After/items: a page begins behind the cursor"}},
	{"items: created_at > ? drops ties", func(s *twist, base store.Store) {
		s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
			p, err := base.LoadThreadItems(ctx, threadID, q)
			if err != nil || q.After == "" || q.Order != store.OldestFirst {
				return p, err
			}
			last, _ := base.LoadItem(ctx, threadID, q.After)
			n := len(p.Data)
			p.Data = slices.DeleteFunc(p.Data, func(it chat.Item) bool { return !it.CreatedAt.After(last.CreatedAt) })
			if n > 0 && len(p.Data) == 0 {
				p.HasMore, p.After = false, ""
			}
			return p, err
		}
	}, []string{
		"Order/items: ties by pages of 1, 3 and 7, oldest first",
		"Order/items: ties while others are added, oldest first",
		"Concurrency/a walk over ties while rows are added",
	}},
	{"threads: created_at < ? drops ties", func(s *twist, base store.Store) {
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			p, err := base.LoadThreads(ctx, q)
			if err != nil || q.After == "" || q.Order != store.NewestFirst {
				return p, err
			}
			last, _ := base.LoadThread(ctx, q.After)
			n := len(p.Data)
			p.Data = slices.DeleteFunc(p.Data, func(t chat.Thread) bool { return !t.CreatedAt.Before(last.CreatedAt) })
			if n > 0 && len(p.Data) == 0 {
				p.HasMore, p.After = false, ""
			}
			return p, err
		}
	}, []string{
		"Order/threads: ties by pages of 1, 3 and 7, newest first",
		"Order/threads: ties while others are added, newest first",
	}},
	{"items: pages are offsets", func(s *twist, base store.Store) {
		// After names a row, but the page begins where the row stood when its page was read.
		var place memory[int]
		s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
			offset, known := place.get(threadID + q.After + q.Order.String())
			if q.After != "" && !known || q.Limit <= 0 {
				return base.LoadThreadItems(ctx, threadID, q)
			}
			all, err := base.LoadThreadItems(ctx, threadID, store.PageQuery{Limit: store.MaxLimit, Order: q.Order})
			if err != nil || all.HasMore || offset > len(all.Data) {
				return base.LoadThreadItems(ctx, threadID, q)
			}
			rest := all.Data[offset:]
			p := store.Page[chat.Item]{Data: rest[:min(q.Limit, len(rest))], HasMore: len(rest) > q.Limit}
			if p.HasMore {
				p.After = p.Data[q.Limit-1].ID
				place.set(threadID+p.After+q.Order.String(), offset+q.Limit)
			}
			return p, nil
		}
	}, []string{
		"Order/items: ties while others are added, newest first",
		maybe("Concurrency/a walk over ties while rows are added"),
	}},
	{"items: After is set on the last page", func(s *twist, base store.Store) {
		s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
			p, err := base.LoadThreadItems(ctx, threadID, q)
			if n := len(p.Data); n > 0 {
				p.After = p.Data[n-1].ID
			}
			return p, err
		}
	}, []string{"Page.After/items: empty when there is no more"}},
	{"threads: a full page claims that there is more", func(s *twist, base store.Store) {
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			p, err := base.LoadThreads(ctx, q)
			if n := len(p.Data); n > 0 && n == q.Limit {
				p.HasMore, p.After = true, p.Data[n-1].ID
			}
			return p, err
		}
	}, []string{"Page.After/threads: empty when there is no more"}},
	{"items: After is the first row's id", func(s *twist, base store.Store) {
		s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
			p, err := base.LoadThreadItems(ctx, threadID, q)
			if p.HasMore && len(p.Data) == 4 {
				p.After = p.Data[0].ID
			}
			return p, err
		}
	}, []string{"Page.After/items: the last row's id when there is more"}},
	{"items: ties are ordered by id", func(s *twist, base store.Store) {
		s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
			p, err := base.LoadThreadItems(ctx, threadID, q)
			if q.Limit == 50 && q.Order == store.OldestFirst {
				slices.SortStableFunc(p.Data, func(a, b chat.Item) int {
					return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
				})
			}
			return p, err
		}
	}, []string{
		"Order/items: equal times by insertion",
		"Order/items: newest first is the exact reverse",
	}},
	{"threads: newest first keeps ties oldest first", func(s *twist, base store.Store) {
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			p, err := base.LoadThreads(ctx, q)
			if q.Order == store.NewestFirst && q.Limit == 50 {
				slices.Reverse(p.Data)
				slices.SortStableFunc(p.Data, func(a, b chat.Thread) int { return b.CreatedAt.Compare(a.CreatedAt) })
			}
			return p, err
		}
	}, []string{"Order/threads: newest first is the exact reverse"}},
	{"threads: the order is that of insertion", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			if t.CreatedAt.Nanosecond() == 0 && t.CreatedAt.After(at(0)) && t.CreatedAt.Before(at(5)) {
				t.CreatedAt = at(1)
			}
			return base.SaveThread(ctx, t)
		}
	}, []string{"Order/threads: by CreatedAt"}},
	{"items: a negative limit is the default", func(s *twist, base store.Store) {
		s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
			q.Limit = max(q.Limit, 0)
			return base.LoadThreadItems(ctx, threadID, q)
		}
	}, []string{
		"Limit/items: negative is ErrInvalid",
		"OrderOfChecks/invalid before missing: LoadThreadItems",
	}},
	{"threads: a negative limit is none", func(s *twist, base store.Store) {
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			if q.Limit < 0 && q.After == "" {
				q.Limit = store.MaxLimit
			}
			return base.LoadThreads(ctx, q)
		}
	}, []string{"Limit/threads: negative is ErrInvalid"}},
	{"items: a limit has no bound", func(s *twist, base store.Store) {
		s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
			p, err := base.LoadThreadItems(ctx, threadID, q)
			if q.Limit > store.MaxLimit && p.HasMore {
				q.After = p.After
				rest, _ := base.LoadThreadItems(ctx, threadID, q)
				p.Data, p.HasMore, p.After = append(p.Data, rest.Data...), rest.HasMore, rest.After
			}
			return p, err
		}
	}, []string{"Limit/items: above 1000 is 1000"}},
	{"threads: the default limit is 50", func(s *twist, base store.Store) {
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			if q.Limit == 0 {
				q.Limit = 50
			}
			return base.LoadThreads(ctx, q)
		}
	}, []string{"Limit/threads: zero is 20"}},
	{"items: a page has one row too many", func(s *twist, base store.Store) {
		s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
			if q.Limit == 24 {
				q.Limit++
			}
			return base.LoadThreadItems(ctx, threadID, q)
		}
	}, []string{"Limit/items: is kept"}},
}

var brokenThreads = []broken{
	{"LoadThread of a missing thread is a zero thread", func(s *twist, base store.Store) {
		s.loadThread = func(ctx context.Context, id string) (chat.Thread, error) {
			t, err := base.LoadThread(ctx, id)
			if errors.Is(err, store.ErrNotFound) {
				return chat.Thread{}, nil
			}
			return t, err
		}
	}, []string{"LoadThread/a missing thread is ErrNotFound"}},
	{"SaveThread drops the items", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			err := base.SaveThread(ctx, t)
			if err == nil {
				ctx := callctx.WithoutVersionRecorder(ctx)
				p, _ := base.LoadThreadItems(ctx, t.ID, store.PageQuery{Limit: store.MaxLimit})
				for _, it := range p.Data {
					_ = base.DeleteThreadItem(ctx, t.ID, it.ID)
				}
			}
			return err
		}
	}, []string{
		"Concurrency/writers of many threads do not meet",
		"SaveThread/items survive a replace",
	}},
	{"SaveThread merges metadata", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			if old, err := base.LoadThread(callctx.WithoutVersionRecorder(ctx), t.ID); err == nil && t.Metadata.IsZero() {
				t.Metadata = old.Metadata
			}
			return base.SaveThread(ctx, t)
		}
	}, []string{"SaveThread/a replace clears what the new value lacks"}},
	{"SaveThread does not move the thread", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			if old, err := base.LoadThread(callctx.WithoutVersionRecorder(ctx), t.ID); err == nil && !t.CreatedAt.IsZero() {
				t.CreatedAt = old.CreatedAt
			}
			return base.SaveThread(ctx, t)
		}
	}, []string{"SaveThread/a new CreatedAt moves it"}},
	{"SaveThread puts a replaced thread behind its ties", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			if _, err := base.LoadThread(callctx.WithoutVersionRecorder(ctx), t.ID); err == nil && t.CreatedAt.Equal(at(1)) {
				_ = base.DeleteThread(callctx.WithoutVersionRecorder(ctx), t.ID)
			}
			return base.SaveThread(ctx, t)
		}
	}, []string{"SaveThread/a replace keeps the place among ties"}},
	{"DeleteThread leaves the thread in listings", func(s *twist, base store.Store) {
		var deleted memory[chat.Thread]
		s.deleteThread = func(ctx context.Context, id string) error {
			p, _ := store.PrincipalFrom(ctx)
			q := store.ThreadQuery{Owner: store.OwnedBy(p.Owner)}
			if l, err := base.LoadThreads(ctx, q); err == nil && len(l.Data) == 2 && id == l.Data[1].ID && l.Data[0].CreatedAt.Equal(at(0)) {
				deleted.set(p.Owner.Subject, l.Data[1])
			}
			return base.DeleteThread(ctx, id)
		}
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			l, err := base.LoadThreads(ctx, q)
			p, _ := store.PrincipalFrom(ctx)
			if t, ok := deleted.get(p.Owner.Subject); ok && err == nil && len(l.Data) == 1 {
				l.Data = append(l.Data, t)
			}
			return l, err
		}
	}, []string{"DeleteThread/the thread is gone"}},
	{"DeleteThread of a missing thread is ErrNotFound", func(s *twist, base store.Store) {
		s.deleteThread = func(ctx context.Context, id string) error {
			if _, err := base.LoadThread(callctx.WithoutVersionRecorder(ctx), id); errors.Is(err, store.ErrNotFound) {
				return err
			}
			return base.DeleteThread(ctx, id)
		}
	}, []string{"DeleteThread/a missing thread is nil"}},
	{"DeleteThread leaves the items behind", func(s *twist, base store.Store) {
		var left memory[[]chat.Item]
		s.deleteThread = func(ctx context.Context, id string) error {
			if p, err := base.LoadThreadItems(ctx, id, store.PageQuery{Limit: store.MaxLimit}); err == nil && len(p.Data) > 0 {
				left.set(id, p.Data)
			}
			return base.DeleteThread(ctx, id)
		}
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			err := base.SaveThread(ctx, t)
			if its, ok := left.get(t.ID); ok && err == nil {
				for _, it := range its {
					_ = base.SaveItem(callctx.WithoutVersionRecorder(ctx), t.ID, it)
				}
			}
			return err
		}
	}, []string{
		"DeleteThread/its items do not come back with a new thread of that id",
		maybe("Concurrency/no item outlives its thread"),
	}},
	{"DeleteThread takes attachments along", func(s *twist, base store.Store) {
		var of memory[string]
		s.saveAttachment = func(ctx context.Context, a chat.Attachment) error {
			if a.ThreadID != "" {
				of.set(a.ThreadID, a.ID)
			}
			return base.SaveAttachment(ctx, a)
		}
		s.deleteThread = func(ctx context.Context, id string) error {
			if a, ok := of.get(id); ok {
				_ = base.DeleteAttachment(ctx, a)
			}
			return base.DeleteThread(ctx, id)
		}
	}, []string{"DeleteThread/attachments stay"}},
}

var brokenItems = []broken{
	{"AddThreadItem replaces", func(s *twist, base store.Store) { s.addItem = base.SaveItem }, []string{
		"AddThreadItem/an equal item again is ErrConflict",
		"AddThreadItem/an existing id is ErrConflict",
		"AddThreadItem/an existing id is ErrConflict under any save mode",
		"AddThreadItem/inserts under any save mode",
		"Concurrency/of many adding one id, one does",
	}},
	{"AddThreadItem keeps an equal item", func(s *twist, base store.Store) {
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			old, found := base.LoadItem(callctx.WithoutVersionRecorder(ctx), threadID, it.ID)
			err := base.AddThreadItem(ctx, threadID, it)
			if found == nil && old.Equal(it) && errors.Is(err, store.ErrConflict) {
				return nil
			}
			return err
		}
	}, []string{"AddThreadItem/an equal item again is ErrConflict"}},
	{"AddThreadItem makes a missing thread", func(s *twist, base store.Store) {
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			err := base.AddThreadItem(ctx, threadID, it)
			if errors.Is(err, store.ErrNotFound) {
				p, _ := store.PrincipalFrom(ctx)
				_ = base.SaveThread(callctx.WithoutVersionRecorder(ctx), chat.Thread{ID: threadID, CreatedAt: it.CreatedAt, Owner: p.Owner,
					Status: chat.Status{Type: "active"}})
				return base.AddThreadItem(ctx, threadID, it)
			}
			return err
		}
	}, []string{
		"AddThreadItem/a deleted thread is ErrNotFound",
		"AddThreadItem/a missing thread is ErrNotFound",
		maybe("Concurrency/no item outlives its thread"),
	}},
	{"AddThreadItem never frees a deleted id", func(s *twist, base store.Store) {
		var deleted memory[bool]
		s.deleteItem = func(ctx context.Context, threadID, itemID string) error {
			deleted.set(threadID+"/"+itemID, true)
			return base.DeleteThreadItem(ctx, threadID, itemID)
		}
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			if _, ok := deleted.get(threadID + "/" + it.ID); ok {
				return &store.Error{Op: store.OpAddThreadItem, Code: store.CodeConflict}
			}
			return base.AddThreadItem(ctx, threadID, it)
		}
	}, []string{"AddThreadItem/a deleted item's id is free"}},
	{"AddThreadItem leaves an empty ThreadID empty", func(s *twist, base store.Store) {
		var bare memory[bool]
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			err := base.AddThreadItem(ctx, threadID, it)
			if err == nil {
				bare.set(it.ID, it.ThreadID == "")
			}
			return err
		}
		s.loadItem = func(ctx context.Context, threadID, itemID string) (chat.Item, error) {
			it, err := base.LoadItem(ctx, threadID, itemID)
			if b, _ := bare.get(itemID); b {
				it.ThreadID = ""
			}
			return it, err
		}
	}, []string{"AddThreadItem/an empty ThreadID is filled in"}},
	{"AddThreadItem takes another thread's item", func(s *twist, base store.Store) {
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			it.ThreadID = threadID
			return base.AddThreadItem(ctx, threadID, it)
		}
	}, []string{"AddThreadItem/another thread's ThreadID is ErrInvalid"}},
	{"SaveItem takes another thread's item", func(s *twist, base store.Store) {
		s.saveItem = func(ctx context.Context, threadID string, it chat.Item) error {
			it.ThreadID = threadID
			return base.SaveItem(ctx, threadID, it)
		}
	}, []string{"SaveItem/another thread's ThreadID is ErrInvalid"}},
	{"item ids are unique among all threads", func(s *twist, base store.Store) {
		var in memory[string]
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			if other, ok := in.get(it.ID); ok && other != threadID {
				if _, err := base.LoadItem(callctx.WithoutVersionRecorder(ctx), other, it.ID); err == nil {
					return &store.Error{Op: store.OpAddThreadItem, Code: store.CodeConflict}
				}
			}
			in.set(it.ID, threadID)
			return base.AddThreadItem(ctx, threadID, it)
		}
	}, []string{
		"AddThreadItem/the same id in two threads is two rows",
		"DeleteThread/another thread's items stay",
	}},
	{"SaveItem does not insert", func(s *twist, base store.Store) {
		s.saveItem = func(ctx context.Context, threadID string, it chat.Item) error {
			if it.CreatedAt.Equal(at(2)) {
				ctx = store.WithSaveMode(ctx, store.UpdateOnly)
			}
			return base.SaveItem(ctx, threadID, it)
		}
	}, []string{
		"SaveItem/inserts",
		"Version/SaveItem counts",
	}},
	{"SaveItem moves a replaced item behind its ties", func(s *twist, base store.Store) {
		s.saveItem = func(ctx context.Context, threadID string, it chat.Item) error {
			p, err := base.LoadThreadItems(callctx.WithoutVersionRecorder(ctx), threadID, store.PageQuery{})
			if err == nil && len(p.Data) == 3 && it.CreatedAt.Equal(at(1)) && store.SaveModeFrom(ctx) == store.Upsert {
				_ = base.DeleteThreadItem(callctx.WithoutVersionRecorder(ctx), threadID, it.ID)
			}
			return base.SaveItem(ctx, threadID, it)
		}
	}, []string{"SaveItem/a replace keeps the place among ties"}},
	{"SaveItem keeps the old CreatedAt", func(s *twist, base store.Store) {
		s.saveItem = func(ctx context.Context, threadID string, it chat.Item) error {
			if old, err := base.LoadItem(callctx.WithoutVersionRecorder(ctx), threadID, it.ID); err == nil && !it.CreatedAt.IsZero() {
				it.CreatedAt = old.CreatedAt
			}
			return base.SaveItem(ctx, threadID, it)
		}
	}, []string{"SaveItem/a new CreatedAt moves it"}},
	{"LoadItem ignores the thread", func(s *twist, base store.Store) {
		var in memory[string]
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			in.set(it.ID, threadID)
			return base.AddThreadItem(ctx, threadID, it)
		}
		s.loadItem = func(ctx context.Context, threadID, itemID string) (chat.Item, error) {
			it, err := base.LoadItem(ctx, threadID, itemID)
			if other, ok := in.get(itemID); ok && errors.Is(err, store.ErrNotFound) {
				return base.LoadItem(ctx, other, itemID)
			}
			return it, err
		}
	}, []string{"LoadItem/through the wrong thread is ErrNotFound"}},
	{"LoadThreadItems of a missing thread is ErrNotFound", func(s *twist, base store.Store) {
		s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
			p, err := base.LoadThreadItems(ctx, threadID, q)
			if len(p.Data) == 0 && err == nil {
				if _, err := base.LoadThread(callctx.WithoutVersionRecorder(ctx), threadID); err != nil {
					return p, err
				}
			}
			return p, err
		}
	}, []string{"LoadThreadItems/a missing thread is an empty page"}},
	{"DeleteThreadItem of a missing item is ErrNotFound", func(s *twist, base store.Store) {
		s.deleteItem = func(ctx context.Context, threadID, itemID string) error {
			if _, err := base.LoadItem(callctx.WithoutVersionRecorder(ctx), threadID, itemID); errors.Is(err, store.ErrNotFound) {
				return err
			}
			return base.DeleteThreadItem(ctx, threadID, itemID)
		}
	}, []string{
		"DeleteThreadItem/a missing item is nil",
		"DeleteThreadItem/a missing thread is nil",
	}},
	{"DeleteThreadItem ignores the thread", func(s *twist, base store.Store) {
		var in memory[string]
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			in.set(it.ID, threadID)
			return base.AddThreadItem(ctx, threadID, it)
		}
		s.deleteItem = func(ctx context.Context, threadID, itemID string) error {
			_, err := base.LoadItem(callctx.WithoutVersionRecorder(ctx), threadID, itemID)
			if other, ok := in.get(itemID); ok && errors.Is(err, store.ErrNotFound) {
				return base.DeleteThreadItem(ctx, other, itemID)
			}
			return base.DeleteThreadItem(ctx, threadID, itemID)
		}
	}, []string{"DeleteThreadItem/through the wrong thread deletes nothing"}},
	{"DeleteThreadItem leaves the item in listings", func(s *twist, base store.Store) {
		var deleted memory[bool]
		s.deleteItem = func(ctx context.Context, threadID, itemID string) error {
			it, err := base.LoadItem(callctx.WithoutVersionRecorder(ctx), threadID, itemID)
			if err == nil && it.CreatedAt.Equal(at(2)) {
				deleted.set(threadID+"/"+itemID, true)
				return nil
			}
			return base.DeleteThreadItem(ctx, threadID, itemID)
		}
		s.loadItem = func(ctx context.Context, threadID, itemID string) (chat.Item, error) {
			if _, ok := deleted.get(threadID + "/" + itemID); ok {
				return chat.Item{}, &store.Error{Op: store.OpLoadItem, Code: store.CodeNotFound}
			}
			return base.LoadItem(ctx, threadID, itemID)
		}
	}, []string{
		"After/items: a deleted row as cursor is ErrNotFound",
		"DeleteThreadItem/the item is gone",
	}},
}

var brokenOwners = []broken{
	{"only the JSON is kept", func(s *twist, base store.Store) {
		s.loadThread = func(ctx context.Context, id string) (chat.Thread, error) {
			t, err := base.LoadThread(ctx, id)
			t.Owner = chat.Owner{}
			return t, err
		}
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			p, err := base.LoadThreads(ctx, q)
			for i := range p.Data {
				p.Data[i].Owner = chat.Owner{}
			}
			return p, err
		}
		s.loadAttachment = func(ctx context.Context, id string) (chat.Attachment, error) {
			a, err := base.LoadAttachment(ctx, id)
			a.Owner = chat.Owner{}
			return a, err
		}
	}, []string{
		"Owner/attachments: a replace with the zero Owner keeps the stored one",
		"Owner/attachments: what is loaded has its Owner",
		"Owner/threads: a replace with the zero Owner keeps the stored one",
		"Owner/threads: what is listed has its Owner",
		"Owner/threads: what is loaded has its Owner",
		"UsedID/attachments: a save with the zero Owner does not free a deleted id",
		"UsedID/threads: a save with the zero Owner does not free a deleted id",
	}},
	{"listings lack the Owner", func(s *twist, base store.Store) {
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			p, err := base.LoadThreads(ctx, q)
			for i := range p.Data {
				p.Data[i].Owner = chat.Owner{}
			}
			return p, err
		}
	}, []string{"Owner/threads: what is listed has its Owner"}},
	{"a replace with the zero Owner clears it", func(s *twist, base store.Store) {
		var cleared memory[bool]
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			_, found := base.LoadThread(callctx.WithoutVersionRecorder(ctx), t.ID)
			err := base.SaveThread(ctx, t)
			if err == nil && found == nil && t.Owner.IsZero() {
				cleared.set(t.ID, true)
			}
			return err
		}
		s.loadThread = func(ctx context.Context, id string) (chat.Thread, error) {
			t, err := base.LoadThread(ctx, id)
			if _, ok := cleared.get(id); ok {
				t.Owner = chat.Owner{}
			}
			return t, err
		}
	}, []string{"Owner/threads: a replace with the zero Owner keeps the stored one"}},
	{"a save by another owner overwrites", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			err := base.SaveThread(ctx, t)
			if old, _ := base.LoadThread(callctx.WithoutVersionRecorder(ctx), t.ID); errors.Is(err, store.ErrConflict) && !old.Owner.IsZero() &&
				store.SaveModeFrom(ctx) == store.Upsert && old.Owner != t.Owner {
				t.Owner = old.Owner
				return base.SaveThread(ctx, t)
			}
			return err
		}
	}, []string{
		"Owner/threads: another owner's save is ErrConflict",
		"Owner/threads: of two racing first saves exactly one wins",
		"UsedID/threads: a save with the zero Owner does not free a deleted id",
		maybe("Concurrency/threads: delete and recreate let no other owner in"),
	}},
	{"only the subject is compared", func(s *twist, base store.Store) {
		s.saveAttachment = func(ctx context.Context, a chat.Attachment) error {
			err := base.SaveAttachment(ctx, a)
			if old, _ := base.LoadAttachment(ctx, a.ID); errors.Is(err, store.ErrConflict) && old.Owner.Subject == a.Owner.Subject &&
				store.SaveModeFrom(ctx) == store.Upsert {
				a.Owner = old.Owner
				return base.SaveAttachment(ctx, a)
			}
			return err
		}
	}, []string{"Owner/attachments: another owner's save is ErrConflict"}},
	{"an unowned row can be claimed", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			err := base.SaveThread(ctx, t)
			old, found := base.LoadThread(callctx.WithoutVersionRecorder(ctx), t.ID)
			if errors.Is(err, store.ErrConflict) && found == nil && old.Owner.IsZero() {
				return nil
			}
			return err
		}
	}, []string{"Owner/threads: claiming an unowned row is ErrConflict"}},
	{"the owner is read, then written", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			_, found := base.LoadThread(callctx.WithoutVersionRecorder(ctx), t.ID)
			runtime.Gosched()
			err := base.SaveThread(ctx, t)
			if winner, now := base.LoadThread(callctx.WithoutVersionRecorder(ctx), t.ID); errors.Is(err, store.ErrConflict) &&
				errors.Is(found, store.ErrNotFound) && now == nil && store.SaveModeFrom(ctx) == store.Upsert && winner.Owner != t.Owner {
				return nil
			}
			return err
		}
	}, []string{
		"Owner/threads: of two racing first saves exactly one wins",
		maybe("Concurrency/threads: delete and recreate let no other owner in"),
	}},
	{"a deletion forgets the owner", func(s *twist, base store.Store) {
		s.saveAttachment = func(ctx context.Context, a chat.Attachment) error {
			err := base.SaveAttachment(ctx, a)
			if _, found := base.LoadAttachment(ctx, a.ID); errors.Is(err, store.ErrConflict) && errors.Is(found, store.ErrNotFound) {
				return nil
			}
			return err
		}
	}, []string{
		"UsedID/attachments: another owner's save under a deleted id is ErrConflict",
		"UsedID/attachments: nobody's deleted id cannot be claimed",
		maybe("Concurrency/attachments: delete and recreate let no other owner in"),
	}},
	{"the owner cannot use a deleted id again", func(s *twist, base store.Store) {
		var deleted memory[bool]
		s.deleteAttachment = func(ctx context.Context, id string) error {
			deleted.set(id, true)
			return base.DeleteAttachment(ctx, id)
		}
		s.saveAttachment = func(ctx context.Context, a chat.Attachment) error {
			if _, ok := deleted.get(a.ID); ok && store.SaveModeFrom(ctx) == store.Upsert {
				return &store.Error{Op: store.OpSaveAttachment, Code: store.CodeConflict}
			}
			return base.SaveAttachment(ctx, a)
		}
	}, []string{
		"Concurrency/attachments: delete and recreate let no other owner in",
		"UsedID/attachments: its owner may use a deleted id again",
	}},
	{"InsertOnly is ignored", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			if store.SaveModeFrom(ctx) == store.InsertOnly {
				ctx = store.WithSaveMode(ctx, store.Upsert)
			}
			return base.SaveThread(ctx, t)
		}
	}, []string{
		"Concurrency/threads: of many InsertOnly saves of one id, one wins",
		"SaveMode/threads: InsertOnly of an existing row is ErrConflict",
	}},
	{"UpdateOnly is ignored", func(s *twist, base store.Store) {
		s.saveItem = func(ctx context.Context, threadID string, it chat.Item) error {
			if store.SaveModeFrom(ctx) == store.UpdateOnly {
				ctx = store.WithSaveMode(ctx, store.Upsert)
			}
			return base.SaveItem(ctx, threadID, it)
		}
	}, []string{
		"SaveMode/items: UpdateOnly of a deleted row is ErrNotFound",
		"SaveMode/items: UpdateOnly of a missing row is ErrNotFound",
	}},
	{"UpdateOnly revives what was deleted", func(s *twist, base store.Store) {
		var deleted memory[bool]
		s.deleteAttachment = func(ctx context.Context, id string) error {
			deleted.set(id, true)
			return base.DeleteAttachment(ctx, id)
		}
		s.saveAttachment = func(ctx context.Context, a chat.Attachment) error {
			err := base.SaveAttachment(ctx, a)
			if _, ok := deleted.get(a.ID); ok && errors.Is(err, store.ErrNotFound) {
				if again := base.SaveAttachment(store.WithSaveMode(ctx, store.Upsert), a); again == nil {
					return nil
				}
			}
			return err
		}
	}, []string{"SaveMode/attachments: UpdateOnly of a deleted row is ErrNotFound"}},
	{"the zero filter lists everything", func(s *twist, base store.Store) {
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			if q.Owner == (store.OwnerFilter{}) {
				q.Owner = store.AnyOwner()
			}
			return base.LoadThreads(ctx, q)
		}
	}, []string{"OwnerFilter/the zero filter lists rows without an owner"}},
	{"InTenant of no name lists everything", func(s *twist, base store.Store) {
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			if q.Owner == store.InTenant("") {
				q.Owner = store.AnyOwner()
			}
			return base.LoadThreads(ctx, q)
		}
	}, []string{"OwnerFilter/InTenant of no name lists owners without a tenant"}},
	{"InTenant lists the caller's own", func(s *twist, base store.Store) {
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			if tenant, ok := q.Owner.Tenant(); ok && tenant != "" {
				p, _ := store.PrincipalFrom(ctx)
				q.Owner = store.OwnedBy(p.Owner)
			}
			return base.LoadThreads(ctx, q)
		}
	}, []string{"OwnerFilter/InTenant lists every owner of the tenant"}},
	{"AnyOwner omits rows without an owner", func(s *twist, base store.Store) {
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			p, err := base.LoadThreads(ctx, q)
			if q.Owner.IsAny() {
				p.Data = slices.DeleteFunc(p.Data, func(t chat.Thread) bool { return t.Owner.IsZero() })
			}
			return p, err
		}
	}, []string{"OwnerFilter/AnyOwner lists everybody's and nobody's"}},
	{"OwnedBy ignores the subject", func(s *twist, base store.Store) {
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			if o, ok := q.Owner.Owner(); ok && o.Tenant != "" {
				q.Owner = store.InTenant(o.Tenant)
			}
			return base.LoadThreads(ctx, q)
		}
	}, []string{
		"ID/owners that differ in a byte are two",
		"OwnerFilter/OwnedBy keeps tenant and subject apart",
		"OwnerFilter/OwnedBy lists one owner's",
	}},
	{"tenant and subject are joined", func(s *twist, base store.Store) {
		// The colliding owners share one thread in listings.
		key := func(o chat.Owner) string { return o.Tenant + o.Subject }
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			o, ok := q.Owner.Owner()
			if !ok || o.IsZero() || q.Limit != 0 || q.After != "" || q.Order != store.NewestFirst {
				return base.LoadThreads(ctx, q)
			}
			q.Owner, q.Limit = store.AnyOwner(), store.MaxLimit
			p, err := base.LoadThreads(ctx, q)
			p.Data = slices.DeleteFunc(p.Data, func(t chat.Thread) bool { return key(t.Owner) != key(o) })
			if len(p.Data) > 20 {
				p.Data, p.HasMore, p.After = p.Data[:20], true, p.Data[19].ID
			}
			return p, err
		}
	}, []string{"OwnerFilter/OwnedBy keeps tenant and subject apart"}},
	{"pages are filtered afterwards", func(s *twist, base store.Store) {
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			filter := q.Owner
			if o, ok := filter.Owner(); !ok || o.IsZero() || q.Limit != 10 {
				return base.LoadThreads(ctx, q)
			}
			q.Owner = store.AnyOwner()
			p, err := base.LoadThreads(ctx, q)
			p.Data = slices.DeleteFunc(p.Data, func(t chat.Thread) bool { return !filter.Match(t.Owner) })
			return p, err
		}
	}, []string{"OwnerFilter/a page holds what the filter says, and no fewer"}},
}

// reencode replaces an item's JSON on its way in.
func reencode(s *twist, base store.Store, f func(text string) string) {
	change := func(it chat.Item) chat.Item {
		var out chat.Item
		if err := out.UnmarshalJSON([]byte(f(it.JSON().String()))); err != nil {
			return it
		}
		out.ID, out.ThreadID, out.CreatedAt = it.ID, it.ThreadID, it.CreatedAt
		return out
	}
	s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
		return base.AddThreadItem(ctx, threadID, change(it))
	}
	s.saveItem = func(ctx context.Context, threadID string, it chat.Item) error {
		return base.SaveItem(ctx, threadID, change(it))
	}
}

var brokenValues = []broken{
	{"JSON is compacted", func(s *twist, base store.Store) {
		reencode(s, base, func(text string) string {
			var b bytes.Buffer
			if err := json.Compact(&b, []byte(text)); err != nil {
				return text
			}
			return b.String()
		})
	}, []string{"Payload/an item with free key order and white space is kept byte for byte"}},
	{"big integers are floats", func(s *twist, base store.Store) {
		reencode(s, base, func(text string) string {
			return strings.ReplaceAll(text, "[12345678901234567890,", "[12345678901234567000,")
		})
	}, []string{"Payload/an item with big and odd numbers is kept byte for byte"}},
	{"escapes are normalised", func(s *twist, base store.Store) {
		reencode(s, base, func(text string) string { return strings.ReplaceAll(text, `\/`, `/`) })
	}, []string{"Payload/an item with escapes is kept byte for byte"}},
	{"a repeated name is dropped", func(s *twist, base store.Store) {
		reencode(s, base, func(text string) string { return strings.ReplaceAll(text, `{"a":1,"a":2,`, `{"a":2,`) })
	}, []string{"Payload/an item with repeated names in free-form JSON is kept byte for byte"}},
	{"unknown members of items are dropped", func(s *twist, base store.Store) {
		reencode(s, base, func(text string) string { return strings.ReplaceAll(text, `,"note":null`, ``) })
	}, []string{"Payload/an item of an unknown type is kept byte for byte"}},
	{"nulls are dropped", func(s *twist, base store.Store) {
		reencode(s, base, func(text string) string { return strings.ReplaceAll(text, `,"quoted_text":null`, ``) })
	}, []string{"Payload/an item of the Python SDK is kept byte for byte"}},
	{"JSON is escaped for HTML", func(s *twist, base store.Store) {
		reencode(s, base, func(text string) string { return strings.ReplaceAll(text, `</b>`, `\u003c/b>`) })
	}, []string{"Payload/an item of the Node SDK is kept byte for byte"}},
	{"threads are kept as their fields", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			return base.SaveThread(ctx, chat.Thread{ID: t.ID, Title: t.Title, CreatedAt: t.CreatedAt, Status: t.Status,
				AllowedImageDomains: t.AllowedImageDomains, Metadata: t.Metadata, Owner: t.Owner})
		}
	}, []string{
		"Payload/a thread of the Node SDK is kept byte for byte",
		"Payload/a thread of the Python SDK is kept byte for byte",
		"Payload/a thread with free key order and white space is kept byte for byte",
		"Payload/a thread with unknown fields is kept byte for byte",
	}},
	{"attachments are kept as their fields", func(s *twist, base store.Store) {
		s.saveAttachment = func(ctx context.Context, a chat.Attachment) error {
			b, err := a.Decode()
			if err != nil {
				return base.SaveAttachment(ctx, a)
			}
			c, err := chat.NewAttachment(a.ID, b)
			if err != nil {
				return base.SaveAttachment(ctx, a)
			}
			c.ThreadID, c.Owner = a.ThreadID, a.Owner
			return base.SaveAttachment(ctx, c)
		}
	}, []string{
		"Payload/an attachment of the Node SDK is kept byte for byte",
		"Payload/an attachment of the Python SDK is kept byte for byte",
		"Payload/an attachment with free key order and white space is kept byte for byte",
	}},
	{"a payload has a column's size", func(s *twist, base store.Store) {
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			if len(it.JSON().String()) > 1<<16 {
				return &store.Error{Op: store.OpAddThreadItem, Code: store.CodeInvalid}
			}
			return base.AddThreadItem(ctx, threadID, it)
		}
	}, []string{"Payload/an item of 256 KiB is kept"}},
	{"names are matched in any case", func(s *twist, base store.Store) {
		reencode(s, base, func(text string) string {
			var doc struct {
				Type string `json:"type"`
			}
			if err := json.Unmarshal([]byte(text), &doc); err != nil || doc.Type != "end_of_turn" {
				return text
			}
			return strings.ReplaceAll(text, "user_message", doc.Type)
		})
	}, []string{"Payload/names that differ in case are two"}},
	{"an item without a payload gets one", func(s *twist, base store.Store) {
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			if it.JSON().IsZero() {
				it, _ = chat.NewItem(it.ID, it.CreatedAt, chat.EndOfTurn{})
			}
			return base.AddThreadItem(ctx, threadID, it)
		}
	}, []string{"Payload/an item without a payload is ErrInvalid"}},
	{"metadata of any shape is taken", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			if strings.HasPrefix(t.Metadata.String(), "[1") {
				t.Metadata = chat.JSON{}
			}
			return base.SaveThread(ctx, t)
		}
	}, []string{"Payload/a thread of the wrong shape is ErrInvalid"}},
	{"times are cut to milliseconds", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			t.CreatedAt = t.CreatedAt.Truncate(time.Millisecond)
			return base.SaveThread(ctx, t)
		}
	}, []string{"Time/threads: microseconds are kept"}},
	{"nanoseconds are kept", func(s *twist, base store.Store) {
		var created memory[time.Time]
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			created.set(it.ID, it.CreatedAt)
			return base.AddThreadItem(ctx, threadID, it)
		}
		s.loadItem = func(ctx context.Context, threadID, itemID string) (chat.Item, error) {
			it, err := base.LoadItem(ctx, threadID, itemID)
			if t, ok := created.get(itemID); ok && t.Year() > 1970 && t.Truncate(time.Microsecond).Equal(it.CreatedAt) {
				it.CreatedAt = t.UTC()
			}
			return it, err
		}
	}, []string{"Time/items: nanoseconds are cut off"}},
	{"nanoseconds are cut off towards 1970", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			if ns := t.CreatedAt.UnixNano(); t.CreatedAt.Year() == 1969 {
				t.CreatedAt = time.UnixMicro(ns / 1000)
			}
			return base.SaveThread(ctx, t)
		}
	}, []string{"Time/threads: nanoseconds before 1970 are cut off downwards"}},
	{"the zone is kept", func(s *twist, base store.Store) {
		var zone memory[*time.Location]
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			zone.set(t.ID, t.CreatedAt.Location())
			return base.SaveThread(ctx, t)
		}
		s.loadThread = func(ctx context.Context, id string) (chat.Thread, error) {
			t, err := base.LoadThread(ctx, id)
			if z, ok := zone.get(id); ok {
				t.CreatedAt = t.CreatedAt.In(z)
			}
			return t, err
		}
	}, []string{"Time/threads: a zone becomes UTC"}},
	{"a zero time is now", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			if t.CreatedAt.IsZero() {
				t.CreatedAt = at(0)
			}
			return base.SaveThread(ctx, t)
		}
	}, []string{"Time/threads: zero is ErrInvalid"}},
	{"years wrap", func(s *twist, base store.Store) {
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			if it.CreatedAt.UTC().Year() > 9999 {
				it.CreatedAt = at(0)
			}
			return base.AddThreadItem(ctx, threadID, it)
		}
	}, []string{"Time/items: other years are ErrInvalid"}},
	{"times before 1970 are refused", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			if y := t.CreatedAt.Year(); y > 0 && y < 1970 && !t.CreatedAt.IsZero() {
				return &store.Error{Op: store.OpSaveThread, Code: store.CodeInvalid}
			}
			return base.SaveThread(ctx, t)
		}
	}, []string{
		"Time/threads: nanoseconds before 1970 are cut off downwards",
		"Time/threads: years 1 to 9999 are kept",
	}},
	{"nanoseconds order ties", func(s *twist, base store.Store) {
		var ns memory[int]
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			ns.set(it.ID, it.CreatedAt.Nanosecond())
			return base.AddThreadItem(ctx, threadID, it)
		}
		s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
			p, err := base.LoadThreadItems(ctx, threadID, q)
			if q == (store.PageQuery{Order: store.OldestFirst}) {
				slices.SortStableFunc(p.Data, func(a, b chat.Item) int {
					x, _ := ns.get(a.ID)
					y, _ := ns.get(b.ID)
					return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(x, y))
				})
			}
			return p, err
		}
	}, []string{"Time/items: rows of one microsecond are ties"}},
	{"pages share a slice", func(s *twist, base store.Store) {
		type request struct {
			threadID string
			q        store.PageQuery
		}
		var mu sync.Mutex
		pages := make(map[request]store.Page[chat.Item])
		s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
			p, err := base.LoadThreadItems(ctx, threadID, q)
			if err != nil || q.Limit > 10 {
				return p, err
			}
			mu.Lock()
			defer mu.Unlock()
			key := request{threadID, q}
			if old, ok := pages[key]; ok && len(old.Data) == len(p.Data) && len(p.Data) == 2 {
				return old, nil
			}
			pages[key] = p
			return p, nil
		}
	}, []string{"Aliasing/a page of items is the caller's"}},
	{"bad ids are taken", func(s *twist, base store.Store) {
		s.loadThread = func(ctx context.Context, id string) (chat.Thread, error) {
			if id == "" {
				id = "empty"
			}
			return base.LoadThread(ctx, id)
		}
	}, []string{"ID/bad ids are ErrInvalid: LoadThread"}},
	{"a long id is cut off", func(s *twist, base store.Store) {
		cut := func(id string) string { return id[:min(len(id), chat.MaxIDBytes)] }
		s.saveAttachment = func(ctx context.Context, a chat.Attachment) error {
			a.ID = cut(a.ID)
			return base.SaveAttachment(ctx, a)
		}
	}, []string{"ID/bad ids are ErrInvalid: SaveAttachment"}},
	{"ids are at most 64 bytes", func(s *twist, base store.Store) {
		s.saveAttachment = func(ctx context.Context, a chat.Attachment) error {
			if len(a.ID) > 64 {
				return &store.Error{Op: store.OpSaveAttachment, Code: store.CodeInvalid}
			}
			return base.SaveAttachment(ctx, a)
		}
	}, []string{"ID/attachments: ids at the limits are kept"}},
	{"ids are folded", func(s *twist, base store.Store) {
		fold := func(id string) string {
			if !utf8.ValidString(id) {
				return id
			}
			return strings.ToLower(id)
		}
		s.saveAttachment = func(ctx context.Context, a chat.Attachment) error {
			a.ID = fold(a.ID)
			return base.SaveAttachment(ctx, a)
		}
		s.loadAttachment = func(ctx context.Context, id string) (chat.Attachment, error) {
			return base.LoadAttachment(ctx, fold(id))
		}
		s.deleteAttachment = func(ctx context.Context, id string) error { return base.DeleteAttachment(ctx, fold(id)) }
	}, []string{"ID/attachments: ids that differ in a byte are two"}},
	{"a tenant without a subject is unowned", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			if t.Owner.Subject == "" {
				t.Owner.Tenant = ""
			}
			return base.SaveThread(ctx, t)
		}
	}, []string{"ID/a tenant without a subject is ErrInvalid"}},
	{"subjects are trimmed", func(s *twist, base store.Store) {
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			if o, ok := q.Owner.Owner(); ok {
				o.Subject = strings.TrimSpace(o.Subject)
				q.Owner = store.OwnedBy(o)
			}
			return base.LoadThreads(ctx, q)
		}
	}, []string{"ID/owners that differ in a byte are two"}},
	{"every thread gets the same id", func(s *twist, base store.Store) {
		s.generateThreadID = func(context.Context) string { return "thr_1" }
	}, []string{"Generators/thread ids"}},
	{"ids of unknown kinds are empty", func(s *twist, base store.Store) {
		s.generateItemID = func(ctx context.Context, kind chat.ItemKind, t chat.Thread) string {
			if kind == "of_the_future" {
				return ""
			}
			return base.GenerateItemID(ctx, kind, t)
		}
	}, []string{"Generators/item ids of every kind"}},
}

var brokenCalls = []broken{
	{"existence comes before validation", func(s *twist, base store.Store) {
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			if _, err := base.LoadThread(callctx.WithoutVersionRecorder(ctx), threadID); errors.Is(err, store.ErrNotFound) {
				return err
			}
			return base.AddThreadItem(ctx, threadID, it)
		}
	}, []string{"OrderOfChecks/invalid before missing: AddThreadItem"}},
	{"ownership comes before existence", func(s *twist, base store.Store) {
		var owners memory[chat.Owner]
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			err := base.SaveThread(ctx, t)
			if err == nil {
				owners.set(t.ID, t.Owner)
			}
			if o, ok := owners.get(t.ID); ok && errors.Is(err, store.ErrNotFound) && o != t.Owner {
				return &store.Error{Op: store.OpSaveThread, Code: store.CodeConflict}
			}
			return err
		}
	}, []string{"OrderOfChecks/missing before owner: SaveThread"}},
	{"ownership comes before validation", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			old, err := base.LoadThread(callctx.WithoutVersionRecorder(ctx), t.ID)
			if err == nil && !t.Owner.IsZero() && old.Owner != t.Owner && t.Title == "\xff" {
				return &store.Error{Op: store.OpSaveThread, Code: store.CodeConflict}
			}
			return base.SaveThread(ctx, t)
		}
	}, []string{"OrderOfChecks/invalid before owner: SaveThread"}},
	{"a cancelled context reads on", func(s *twist, base store.Store) {
		s.loadItem = func(ctx context.Context, threadID, itemID string) (chat.Item, error) {
			return base.LoadItem(context.WithoutCancel(ctx), threadID, itemID)
		}
	}, []string{"CancelledContext/LoadItem"}},
	{"a deadline is not heeded", func(s *twist, base store.Store) {
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				ctx = context.WithoutCancel(ctx)
			}
			return base.LoadThreads(ctx, q)
		}
	}, []string{"CancelledContext/LoadThreads"}},
	{"a cancelled write is done", func(s *twist, base store.Store) {
		s.saveAttachment = func(ctx context.Context, a chat.Attachment) error {
			return errors.Join(base.SaveAttachment(context.WithoutCancel(ctx), a), ctx.Err())
		}
	}, []string{"CancelledContext/SaveAttachment"}},
	{"a cancellation is not wrapped", func(s *twist, base store.Store) {
		s.deleteThread = func(ctx context.Context, id string) error {
			err := base.DeleteThread(ctx, id)
			if err != nil && errors.Is(err, ctx.Err()) {
				return errors.New("interrupted")
			}
			return err
		}
	}, []string{"CancelledContext/DeleteThread"}},
	{"errors quote content", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			if err := base.SaveThread(ctx, t); err != nil {
				return fmt.Errorf("saving %q: %w", t.Title, err)
			}
			return nil
		}
	}, []string{"Errors/texts are free of content"}},
	{"a conflict names the owner", func(s *twist, base store.Store) {
		s.saveAttachment = func(ctx context.Context, a chat.Attachment) error {
			err := base.SaveAttachment(ctx, a)
			if old, found := base.LoadAttachment(ctx, a.ID); err != nil && found == nil {
				return fmt.Errorf("of %s: %w", old.Owner.Subject, err)
			}
			return err
		}
	}, []string{"Errors/texts do not say whose a row is"}},
	{"a missing row is an error of its own", func(s *twist, base store.Store) {
		s.loadItem = func(ctx context.Context, threadID, itemID string) (chat.Item, error) {
			it, err := base.LoadItem(ctx, threadID, itemID)
			if _, there := base.LoadThread(ctx, threadID); errors.Is(err, store.ErrNotFound) && errors.Is(there, store.ErrNotFound) {
				return it, errors.New("sql: no rows in result set")
			}
			return it, err
		}
	}, []string{"LoadItem/a missing thread is ErrNotFound"}},
	{"an error is of two classes", func(s *twist, base store.Store) {
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			err := base.AddThreadItem(ctx, threadID, it)
			if errors.Is(err, store.ErrConflict) {
				return fmt.Errorf("%w: %w", store.ErrNotFound, store.ErrConflict)
			}
			return err
		}
	}, []string{
		"AddThreadItem/an equal item again is ErrConflict",
		"AddThreadItem/an existing id is ErrConflict",
		"AddThreadItem/an existing id is ErrConflict under any save mode",
	}},
	{"it panics", func(s *twist, base store.Store) {
		s.deleteAttachment = func(ctx context.Context, id string) error {
			if strings.Contains(id, "\x00") {
				panic("NUL")
			}
			return base.DeleteAttachment(ctx, id)
		}
	}, []string{"ID/bad ids are ErrInvalid: DeleteAttachment"}},
}

var brokenVersions = []broken{
	{"the version restarts with a thread made anew", func(s *twist, base store.Store) {
		var since memory[uint64]
		shift := func(ctx context.Context, id string) context.Context {
			return callctx.WithVersionRecorder(callctx.WithoutVersionRecorder(ctx), func(id string, before, after uint64) {
				n, _ := since.get(id)
				driver.ReportVersion(ctx, id, before-n, after-n)
			})
		}
		s.saveThread = func(ctx context.Context, t chat.Thread) error { return base.SaveThread(shift(ctx, t.ID), t) }
		s.deleteThread = func(ctx context.Context, id string) error {
			var last uint64
			err := base.DeleteThread(callctx.WithVersionRecorder(ctx, func(_ string, before, after uint64) {
				last = after
				driver.ReportVersion(ctx, id, before, after)
			}), id)
			since.set(id, last)
			return err
		}
	}, []string{"Version/a thread of a deleted id counts on"}},
	{"SaveItem does not count", func(s *twist, base store.Store) {
		s.saveItem = func(ctx context.Context, threadID string, it chat.Item) error {
			return base.SaveItem(callctx.WithVersionRecorder(ctx, func(id string, before, _ uint64) {
				driver.ReportVersion(ctx, id, before, before)
			}), threadID, it)
		}
	}, []string{"Version/SaveItem counts"}},
	{"DeleteThreadItem reports nothing", func(s *twist, base store.Store) {
		s.deleteItem = func(ctx context.Context, threadID, itemID string) error {
			return base.DeleteThreadItem(callctx.WithoutVersionRecorder(ctx), threadID, itemID)
		}
	}, []string{"Version/DeleteThreadItem counts"}},
	{"LoadItem reports nothing", func(s *twist, base store.Store) {
		s.loadItem = func(ctx context.Context, threadID, itemID string) (chat.Item, error) {
			return base.LoadItem(callctx.WithoutVersionRecorder(ctx), threadID, itemID)
		}
	}, []string{"Version/reads report the last write's"}},
	{"a refused write counts", func(s *twist, base store.Store) {
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			err := base.AddThreadItem(ctx, threadID, it)
			if errors.Is(err, store.ErrConflict) {
				ctx = callctx.WithoutVersionRecorder(ctx)
				dummy, _ := chat.NewItem("dummy", at(0), chat.EndOfTurn{})
				_ = base.AddThreadItem(ctx, threadID, dummy)
				_ = base.DeleteThreadItem(ctx, threadID, dummy.ID)
			}
			return err
		}
	}, []string{"Version/a failed write does not count"}},
	{"one counter serves all threads", func(s *twist, base store.Store) {
		s.deleteThread = func(ctx context.Context, id string) error {
			err := base.DeleteThread(ctx, id)
			if p, ok := store.PrincipalFrom(ctx); ok {
				ctx = callctx.WithoutVersionRecorder(ctx)
				q := store.ThreadQuery{Owner: store.OwnedBy(p.Owner), PageQuery: store.PageQuery{Limit: 2}}
				rest, _ := base.LoadThreads(ctx, q)
				for _, t := range rest.Data {
					_ = base.SaveThread(ctx, t)
				}
			}
			return err
		}
	}, []string{"Version/another thread's writes do not count"}},
	{"the version is read after the rows", func(s *twist, base store.Store) {
		s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
			p, err := base.LoadThreadItems(callctx.WithoutVersionRecorder(ctx), threadID, q)
			if err == nil {
				runtime.Gosched()
				_, _ = base.LoadThread(ctx, threadID)
			}
			return p, err
		}
	}, []string{"Version/a read's version is that of its rows"}},
	{"the version is read before the write", func(s *twist, base store.Store) {
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			var before uint64
			_, _ = base.LoadThread(callctx.WithVersionRecorder(ctx, func(_ string, v, _ uint64) { before = v }), threadID)
			runtime.Gosched()
			err := base.AddThreadItem(callctx.WithoutVersionRecorder(ctx), threadID, it)
			if err == nil {
				driver.ReportVersion(ctx, threadID, before, before+1)
			}
			return err
		}
	}, []string{"Version/concurrent writes get one step each"}},
}

var brokenRaces = []broken{
	{"AddThreadItem looks, then adds", func(s *twist, base store.Store) {
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			_, found := base.LoadItem(callctx.WithoutVersionRecorder(ctx), threadID, it.ID)
			runtime.Gosched()
			err := base.AddThreadItem(ctx, threadID, it)
			if errors.Is(err, store.ErrConflict) && errors.Is(found, store.ErrNotFound) {
				return nil
			}
			return err
		}
	}, []string{"Concurrency/of many adding one id, one does"}},
	{"InsertOnly looks, then inserts", func(s *twist, base store.Store) {
		s.saveAttachment = func(ctx context.Context, a chat.Attachment) error {
			_, found := base.LoadAttachment(ctx, a.ID)
			runtime.Gosched()
			if store.SaveModeFrom(ctx) == store.InsertOnly && errors.Is(found, store.ErrNotFound) {
				ctx = store.WithSaveMode(ctx, store.Upsert)
			}
			return base.SaveAttachment(ctx, a)
		}
	}, []string{"Concurrency/attachments: of many InsertOnly saves of one id, one wins"}},
	{"UpdateOnly looks, then saves", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			if store.SaveModeFrom(ctx) == store.UpdateOnly {
				if _, err := base.LoadThread(callctx.WithoutVersionRecorder(ctx), t.ID); err == nil {
					runtime.Gosched()
					ctx = store.WithSaveMode(ctx, store.Upsert)
				}
			}
			return base.SaveThread(ctx, t)
		}
	}, []string{"Concurrency/no update resurrects a deleted thread"}},
	{"a late item outlives its thread", func(s *twist, base store.Store) {
		// What a table of items without a foreign key does.
		var orphan memory[chat.Item]
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			_, found := base.LoadThread(callctx.WithoutVersionRecorder(ctx), threadID)
			runtime.Gosched()
			err := base.AddThreadItem(ctx, threadID, it)
			if found == nil && errors.Is(err, store.ErrNotFound) {
				orphan.set(threadID, it)
				return nil
			}
			return err
		}
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			err := base.SaveThread(ctx, t)
			if it, ok := orphan.get(t.ID); ok && err == nil {
				_ = base.AddThreadItem(callctx.WithoutVersionRecorder(ctx), t.ID, it)
			}
			return err
		}
	}, []string{"Concurrency/no item outlives its thread"}},
	{"a read lags behind a write", func(s *twist, base store.Store) {
		var before memory[chat.Item]
		s.saveItem = func(ctx context.Context, threadID string, it chat.Item) error {
			old, err := base.LoadItem(callctx.WithoutVersionRecorder(ctx), threadID, it.ID)
			if err == nil && it.CreatedAt.Equal(at(0)) {
				before.set(it.ID, old)
			}
			return base.SaveItem(ctx, threadID, it)
		}
		s.loadItem = func(ctx context.Context, threadID, itemID string) (chat.Item, error) {
			it, err := base.LoadItem(ctx, threadID, itemID)
			if old, ok := before.get(itemID); ok && err == nil {
				return old, nil
			}
			return it, err
		}
	}, []string{
		"Concurrency/many writers and readers of one thread",
		"Concurrency/writers of many threads do not meet",
	}},
}
