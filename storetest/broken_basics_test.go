package storetest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// brokenBasics fail more than they name where other checks stand on what they break.
var brokenBasics = []broken{
	{"image domains are not kept", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			if t.AllowedImageDomains.String() == `["example.com"]` {
				t.AllowedImageDomains = chat.JSON{}
			}
			return base.SaveThread(ctx, t)
		}
	}, []string{"LoadThread/what was saved"}},
	{"SaveThread does nothing", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error { return ctx.Err() }
	}, []string{"SaveThread/inserts", andMore}},
	{"SaveThread does not replace", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			err := base.SaveThread(store.WithSaveMode(ctx, store.InsertOnly), t)
			if errors.Is(err, store.ErrConflict) {
				return nil
			}
			return err
		}
	}, []string{"SaveThread/replaces", andMore}},
	{"an item is found when its thread is gone", func(s *twist, base store.Store) {
		var items memory[chat.Item]
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			err := base.AddThreadItem(ctx, threadID, it)
			if err == nil {
				items.set(threadID+"/"+it.ID, it)
			}
			return err
		}
		s.loadItem = func(ctx context.Context, threadID, itemID string) (chat.Item, error) {
			it, err := base.LoadItem(ctx, threadID, itemID)
			if old, ok := items.get(threadID + "/" + itemID); ok && errors.Is(err, store.ErrNotFound) {
				if _, err := base.LoadThread(ctx, threadID); err != nil {
					return old, nil
				}
			}
			return it, err
		}
	}, []string{"DeleteThread/its items are gone"}},
	{"who has no threads sees everybody's", func(s *twist, base store.Store) {
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			p, err := base.LoadThreads(ctx, q)
			if err == nil && len(p.Data) == 0 && q.After == "" {
				q.Owner = store.AnyOwner()
				return base.LoadThreads(ctx, q)
			}
			return p, err
		}
	}, []string{"OwnerFilter/OwnedBy of an owner without threads is empty"}},
	{"a row without an owner gets one", func(s *twist, base store.Store) {
		s.saveAttachment = func(ctx context.Context, a chat.Attachment) error {
			if _, known := store.PrincipalFrom(ctx); !known {
				a.Owner = chat.Owner{Subject: "anonymous"}
			}
			return base.SaveAttachment(ctx, a)
		}
	}, []string{"Owner/attachments: an insert with the zero Owner is unowned"}},
	{"InsertOnly never inserts", func(s *twist, base store.Store) {
		s.saveItem = func(ctx context.Context, threadID string, it chat.Item) error {
			if store.SaveModeFrom(ctx) == store.InsertOnly && strings.HasPrefix(it.ID, "msg_") {
				return &store.Error{Op: store.OpSaveItem, Code: store.CodeConflict}
			}
			return base.SaveItem(ctx, threadID, it)
		}
	}, []string{
		"SaveMode/items: InsertOnly of a new row inserts",
		"Concurrency/items: of many InsertOnly saves of one id, one wins",
	}},
	{"UpdateOnly never updates", func(s *twist, base store.Store) {
		s.saveAttachment = func(ctx context.Context, a chat.Attachment) error {
			if _, err := base.LoadAttachment(ctx, a.ID); err == nil && store.SaveModeFrom(ctx) == store.UpdateOnly {
				return nil
			}
			return base.SaveAttachment(ctx, a)
		}
	}, []string{"SaveMode/attachments: UpdateOnly of an existing row replaces"}},
	{"AddThreadItem does nothing", func(s *twist, base store.Store) {
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error { return ctx.Err() }
	}, []string{"AddThreadItem/inserts", andMore}},
	{"SaveItem does not replace", func(s *twist, base store.Store) {
		s.saveItem = func(ctx context.Context, threadID string, it chat.Item) error {
			err := base.SaveItem(store.WithSaveMode(ctx, store.InsertOnly), threadID, it)
			if errors.Is(err, store.ErrConflict) {
				return nil
			}
			return err
		}
	}, []string{"SaveItem/replaces", andMore}},
	{"SaveItem makes a missing thread", func(s *twist, base store.Store) {
		s.saveItem = func(ctx context.Context, threadID string, it chat.Item) error {
			err := base.SaveItem(ctx, threadID, it)
			if errors.Is(err, store.ErrNotFound) && store.SaveModeFrom(ctx) == store.Upsert {
				p, _ := store.PrincipalFrom(ctx)
				_ = base.SaveThread(ctx, chat.Thread{ID: threadID, CreatedAt: it.CreatedAt, Owner: p.Owner})
				return base.SaveItem(ctx, threadID, it)
			}
			return err
		}
	}, []string{
		"SaveItem/a deleted thread is ErrNotFound",
		"SaveItem/a missing thread is ErrNotFound",
		maybe("Concurrency/no item outlives its thread"),
	}},
	{"SaveItem leaves an empty ThreadID empty", func(s *twist, base store.Store) {
		var bare memory[bool]
		s.saveItem = func(ctx context.Context, threadID string, it chat.Item) error {
			bare.set(it.ID, it.ThreadID == "")
			return base.SaveItem(ctx, threadID, it)
		}
		s.loadItem = func(ctx context.Context, threadID, itemID string) (chat.Item, error) {
			it, err := base.LoadItem(ctx, threadID, itemID)
			if b, _ := bare.get(itemID); b {
				it.ThreadID = ""
			}
			return it, err
		}
	}, []string{"SaveItem/an empty ThreadID is filled in"}},
	{"SaveItem takes the id from another thread", func(s *twist, base store.Store) {
		var in memory[string]
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			in.set(it.ID, threadID)
			return base.AddThreadItem(ctx, threadID, it)
		}
		s.saveItem = func(ctx context.Context, threadID string, it chat.Item) error {
			err := base.SaveItem(ctx, threadID, it)
			if other, ok := in.get(it.ID); ok && other != threadID && err == nil {
				_ = base.DeleteThreadItem(ctx, other, it.ID)
			}
			return err
		}
	}, []string{"SaveItem/leaves the same id in another thread alone"}},
	{"LoadItem of a missing item is a zero item", func(s *twist, base store.Store) {
		s.loadItem = func(ctx context.Context, threadID, itemID string) (chat.Item, error) {
			it, err := base.LoadItem(ctx, threadID, itemID)
			if errors.Is(err, store.ErrNotFound) {
				if p, _ := base.LoadThreadItems(ctx, threadID, store.PageQuery{}); len(p.Data) > 0 {
					return it, nil
				}
			}
			return it, err
		}
	}, []string{"LoadItem/a missing item is ErrNotFound"}},
	{"an empty thread is ErrNotFound", func(s *twist, base store.Store) {
		s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
			p, err := base.LoadThreadItems(ctx, threadID, q)
			if err == nil && len(p.Data) == 0 {
				if _, err := base.LoadThread(ctx, threadID); err == nil {
					return p, &store.Error{Op: store.OpLoadThreadItems, Code: store.CodeNotFound}
				}
			}
			return p, err
		}
	}, []string{"LoadThreadItems/an empty thread is an empty page", andMore}},
	{"a listing holds another thread's item", func(s *twist, base store.Store) {
		var mu sync.Mutex
		var foreign chat.Item
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			mu.Lock()
			defer mu.Unlock()
			foreign = it
			return base.AddThreadItem(ctx, threadID, it)
		}
		s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
			p, err := base.LoadThreadItems(ctx, threadID, q)
			mu.Lock()
			defer mu.Unlock()
			if n := len(p.Data); n == 2 && p.Data[0].CreatedAt.Equal(at(1)) && p.Data[1].CreatedAt.Equal(at(3)) && foreign.CreatedAt.Equal(at(2)) {
				p.Data = []chat.Item{p.Data[0], foreign, p.Data[1]}
			}
			return p, err
		}
	}, []string{"LoadThreadItems/lists only this thread's items"}},
	{"SaveAttachment does nothing", func(s *twist, base store.Store) {
		s.saveAttachment = func(ctx context.Context, a chat.Attachment) error { return ctx.Err() }
	}, []string{"Attachment/SaveAttachment inserts", andMore}},
	{"DeleteAttachment does nothing", func(s *twist, base store.Store) {
		s.deleteAttachment = func(ctx context.Context, id string) error { return ctx.Err() }
	}, []string{"Attachment/DeleteAttachment deletes", andMore}},
	{"false is dropped", func(s *twist, base store.Store) {
		reencode(s, base, func(text string) string { return strings.ReplaceAll(text, `,"expanded":false`, "") })
	}, []string{"Payload/every variant of items comes back"}},
	{"an item's type has 32 bytes", func(s *twist, base store.Store) {
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			if len(it.Type()) > 32 {
				return &store.Error{Op: store.OpAddThreadItem, Code: store.CodeInvalid}
			}
			return base.AddThreadItem(ctx, threadID, it)
		}
	}, []string{"Payload/item types at the limits are kept"}},
	{"a refused save leaves half a row", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			err := base.SaveThread(ctx, t)
			if errors.Is(err, store.ErrInvalid) && !utf8.ValidString(t.Title) {
				t.Title = strings.ToValidUTF8(t.Title, "")
				_ = base.SaveThread(store.WithSaveMode(ctx, store.UpdateOnly), t)
			}
			return err
		}
	}, []string{"Payload/a refused save leaves the stored row"}},
	{"times are ordered by the clock on the wall", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			if c := t.CreatedAt; c.Year() == 2026 {
				_, offset := c.Zone()
				t.CreatedAt = at(int(c.Sub(at(0)).Seconds()) + offset).Add(c.Sub(c.Truncate(1e9)))
			}
			return base.SaveThread(ctx, t)
		}
	}, []string{"Time/threads: a zone becomes UTC", "Time/threads: the order is that of instants"}},
	{"pages of threads share a slice", func(s *twist, base store.Store) {
		var pages memory[store.Page[chat.Thread]]
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			p, err := base.LoadThreads(ctx, q)
			o, ok := q.Owner.Owner()
			if err != nil || !ok || len(p.Data) != 3 || q.PageQuery != (store.PageQuery{Order: store.OldestFirst}) {
				return p, err
			}
			if old, ok := pages.get(o.Subject); ok && !old.Data[0].CreatedAt.After(at(1)) {
				return old, nil
			}
			pages.set(o.Subject, p)
			return p, nil
		}
	}, []string{"Aliasing/a page of threads is the caller's"}},
	{"SaveItem looks for the thread before it validates", func(s *twist, base store.Store) {
		s.saveItem = func(ctx context.Context, threadID string, it chat.Item) error {
			if _, err := base.LoadThread(callctx.WithoutVersionRecorder(ctx), threadID); errors.Is(err, store.ErrNotFound) {
				return err
			}
			return base.SaveItem(ctx, threadID, it)
		}
	}, []string{"OrderOfChecks/invalid before missing: SaveItem"}},
	{"LoadThreads looks for the cursor before it validates", func(s *twist, base store.Store) {
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			if q.After != "" && q.Limit < 0 {
				q.Limit = 1
			}
			return base.LoadThreads(ctx, q)
		}
	}, []string{"OrderOfChecks/invalid before missing: LoadThreads"}},
	{"AddThreadItem looks for the item before it validates", func(s *twist, base store.Store) {
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			if _, err := base.LoadItem(callctx.WithoutVersionRecorder(ctx), threadID, it.ID); err == nil {
				return &store.Error{Op: store.OpAddThreadItem, Code: store.CodeConflict}
			}
			return base.AddThreadItem(ctx, threadID, it)
		}
	}, []string{"OrderOfChecks/invalid before conflict: AddThreadItem"}},
	{"the owner of a missing attachment matters", func(s *twist, base store.Store) {
		var owners memory[chat.Owner]
		s.saveAttachment = func(ctx context.Context, a chat.Attachment) error {
			err := base.SaveAttachment(ctx, a)
			if err == nil {
				owners.set(a.ID, a.Owner)
			}
			if o, ok := owners.get(a.ID); ok && errors.Is(err, store.ErrNotFound) && o != a.Owner {
				return &store.Error{Op: store.OpSaveAttachment, Code: store.CodeConflict}
			}
			return err
		}
	}, []string{"OrderOfChecks/missing before owner: SaveAttachment"}},
	{"an insert does not count", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error {
			return base.SaveThread(callctx.WithVersionRecorder(ctx, func(id string, before, after uint64) {
				driver.ReportVersion(ctx, id, max(before, 1), after)
			}), t)
		}
	}, []string{"Version/SaveThread counts from zero"}},
	{"AddThreadItem does not count", func(s *twist, base store.Store) {
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			return base.AddThreadItem(callctx.WithVersionRecorder(ctx, func(id string, before, _ uint64) {
				driver.ReportVersion(ctx, id, before, before)
			}), threadID, it)
		}
	}, []string{
		"Version/AddThreadItem counts",
		"Version/concurrent writes get one step each",
		"Version/reads report the last write's",
	}},
	{"DeleteThread reports nothing", func(s *twist, base store.Store) {
		s.deleteThread = func(ctx context.Context, id string) error {
			return base.DeleteThread(callctx.WithoutVersionRecorder(ctx), id)
		}
	}, []string{
		"Version/DeleteThread counts",
		"Version/a thread of a deleted id counts on",
	}},
	{"short ids are refused", func(s *twist, base store.Store) {
		s.saveAttachment = func(ctx context.Context, a chat.Attachment) error {
			if len(a.ID) == len("atc_12345678") {
				return &store.Error{Op: store.OpSaveAttachment, Code: store.CodeInvalid}
			}
			return base.SaveAttachment(ctx, a)
		}
	}, []string{"Generators/generated ids can be saved"}},
	{"no id for whoever is cancelled", func(s *twist, base store.Store) {
		s.generateItemID = func(ctx context.Context, kind chat.ItemKind, t chat.Thread) string {
			if ctx.Err() != nil {
				return ""
			}
			return base.GenerateItemID(ctx, kind, t)
		}
	}, []string{"Generators/a cancelled context still gets an id"}},
	{"a listing lags behind", func(s *twist, base store.Store) {
		var last memory[store.Page[chat.Thread]]
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			p, err := base.LoadThreads(ctx, q)
			o, ok := q.Owner.Owner()
			if err != nil || !ok || o.IsZero() || q.Limit != store.MaxLimit || q.After != "" {
				return p, err
			}
			old, ok := last.get(o.Subject)
			last.set(o.Subject, p)
			if ok {
				return old, nil
			}
			return p, nil
		}
	}, []string{"Concurrency/threads of one owner come and go"}},
}
