package storetest

import (
	"context"
	"errors"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

var brokenAttachments = []broken{
	{"SaveAttachment keeps no ThreadID in a replace", func(s *twist, base store.Store) {
		s.saveAttachment = func(ctx context.Context, a chat.Attachment) error {
			if _, err := base.LoadAttachment(ctx, a.ID); err == nil {
				a.ThreadID = ""
			}
			return base.SaveAttachment(ctx, a)
		}
	}, []string{"Attachment/SaveAttachment replaces"}},
	{"LoadAttachment of a missing one is a zero attachment", func(s *twist, base store.Store) {
		s.loadAttachment = func(ctx context.Context, id string) (chat.Attachment, error) {
			a, err := base.LoadAttachment(ctx, id)
			if errors.Is(err, store.ErrNotFound) {
				err = nil
			}
			return a, err
		}
	}, []string{"Attachment/LoadAttachment of a missing one is ErrNotFound"}},
	{"DeleteAttachment of a missing one is ErrNotFound", func(s *twist, base store.Store) {
		s.deleteAttachment = func(ctx context.Context, id string) error {
			if _, err := base.LoadAttachment(ctx, id); errors.Is(err, store.ErrNotFound) {
				return err
			}
			return base.DeleteAttachment(ctx, id)
		}
	}, []string{"Attachment/DeleteAttachment of a missing one is nil"}},
	{"DeleteThread deletes the attachment of its id", func(s *twist, base store.Store) {
		s.deleteThread = func(ctx context.Context, id string) error {
			return errors.Join(base.DeleteThread(ctx, id), base.DeleteAttachment(ctx, id))
		}
	}, []string{"Attachment/ids of threads and attachments are apart"}},
}

// deafToCancellation are stores of which one op does not look at its context.
func deafToCancellation() []broken {
	deaf := context.WithoutCancel
	twists := map[string]func(s *twist, base store.Store){
		"LoadThread": func(s *twist, base store.Store) {
			s.loadThread = func(ctx context.Context, id string) (chat.Thread, error) { return base.LoadThread(deaf(ctx), id) }
		},
		"SaveThread": func(s *twist, base store.Store) {
			s.saveThread = func(ctx context.Context, t chat.Thread) error { return base.SaveThread(deaf(ctx), t) }
		},
		"LoadThreadItems": func(s *twist, base store.Store) {
			s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
				return base.LoadThreadItems(deaf(ctx), threadID, q)
			}
		},
		"AddThreadItem": func(s *twist, base store.Store) {
			s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
				return base.AddThreadItem(deaf(ctx), threadID, it)
			}
		},
		"SaveItem": func(s *twist, base store.Store) {
			s.saveItem = func(ctx context.Context, threadID string, it chat.Item) error {
				return base.SaveItem(deaf(ctx), threadID, it)
			}
		},
		"DeleteThreadItem": func(s *twist, base store.Store) {
			s.deleteItem = func(ctx context.Context, threadID, itemID string) error {
				return base.DeleteThreadItem(deaf(ctx), threadID, itemID)
			}
		},
		"LoadAttachment": func(s *twist, base store.Store) {
			s.loadAttachment = func(ctx context.Context, id string) (chat.Attachment, error) {
				return base.LoadAttachment(deaf(ctx), id)
			}
		},
		"DeleteAttachment": func(s *twist, base store.Store) {
			s.deleteAttachment = func(ctx context.Context, id string) error { return base.DeleteAttachment(deaf(ctx), id) }
		},
	}
	var all []broken
	for op, f := range twists {
		all = append(all, broken{op + " is deaf to cancellation", f, []string{"CancelledContext/" + op}})
	}
	return all
}

// takingBadIDs are stores of which one op takes a bad id for a good one that nobody has.
func takingBadIDs() []broken {
	good := func(id string) string {
		if store.CodeOf(driver.Checks{}.Thread(context.Background(), store.OpLoadThread, id)) == store.CodeInvalid {
			return "good"
		}
		return id
	}
	twists := map[string]func(s *twist, base store.Store){
		"ids are ErrInvalid: SaveThread": func(s *twist, base store.Store) {
			s.saveThread = func(ctx context.Context, t chat.Thread) error {
				t.ID = good(t.ID)
				return base.SaveThread(ctx, t)
			}
		},
		"ids are ErrInvalid: DeleteThread": func(s *twist, base store.Store) {
			s.deleteThread = func(ctx context.Context, id string) error { return base.DeleteThread(ctx, good(id)) }
		},
		"ids are ErrInvalid: LoadThreadItems": func(s *twist, base store.Store) {
			s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
				return base.LoadThreadItems(ctx, good(threadID), q)
			}
		},
		"cursors are ErrInvalid: LoadThreadItems": func(s *twist, base store.Store) {
			s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
				if q.After != "" {
					q.After = good(q.After)
				}
				return base.LoadThreadItems(ctx, threadID, q)
			}
		},
		"cursors are ErrInvalid: LoadThreads": func(s *twist, base store.Store) {
			s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
				if q.After != "" {
					q.After = good(q.After)
				}
				return base.LoadThreads(ctx, q)
			}
		},
		"ids are ErrInvalid: AddThreadItem, thread": func(s *twist, base store.Store) {
			s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
				return base.AddThreadItem(ctx, good(threadID), it)
			}
		},
		"ids are ErrInvalid: AddThreadItem, item": func(s *twist, base store.Store) {
			s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
				bad := good(it.ID) != it.ID
				it.ID = good(it.ID)
				err := base.AddThreadItem(ctx, threadID, it)
				if bad && err == nil {
					err = base.DeleteThreadItem(ctx, threadID, it.ID)
				}
				return err
			}
		},
		"ids are ErrInvalid: SaveItem, thread": func(s *twist, base store.Store) {
			s.saveItem = func(ctx context.Context, threadID string, it chat.Item) error {
				return base.SaveItem(ctx, good(threadID), it)
			}
		},
		"ids are ErrInvalid: SaveItem, item": func(s *twist, base store.Store) {
			s.saveItem = func(ctx context.Context, threadID string, it chat.Item) error {
				it.ID = good(it.ID)
				return base.SaveItem(ctx, threadID, it)
			}
		},
		"ids are ErrInvalid: LoadItem, thread": func(s *twist, base store.Store) {
			s.loadItem = func(ctx context.Context, threadID, itemID string) (chat.Item, error) {
				return base.LoadItem(ctx, good(threadID), itemID)
			}
		},
		"ids are ErrInvalid: DeleteThreadItem, thread": func(s *twist, base store.Store) {
			s.deleteItem = func(ctx context.Context, threadID, itemID string) error {
				return base.DeleteThreadItem(ctx, good(threadID), itemID)
			}
		},
		"ids are ErrInvalid: LoadAttachment": func(s *twist, base store.Store) {
			s.loadAttachment = func(ctx context.Context, id string) (chat.Attachment, error) {
				return base.LoadAttachment(ctx, good(id))
			}
		},
	}
	var all []broken
	for leaf, f := range twists {
		all = append(all, broken{"bad " + leaf + " not", f, []string{"ID/bad " + leaf}})
	}
	return append(all,
		broken{"LoadItem takes bad item ids", func(s *twist, base store.Store) {
			s.loadItem = func(ctx context.Context, threadID, itemID string) (chat.Item, error) {
				return base.LoadItem(ctx, threadID, good(itemID))
			}
		}, []string{"ID/bad ids are ErrInvalid: LoadItem, item", "OrderOfChecks/invalid before missing: LoadItem"}},
		broken{"DeleteThreadItem takes bad item ids", func(s *twist, base store.Store) {
			s.deleteItem = func(ctx context.Context, threadID, itemID string) error {
				return base.DeleteThreadItem(ctx, threadID, good(itemID))
			}
		}, []string{"ID/bad ids are ErrInvalid: DeleteThreadItem, item", "OrderOfChecks/invalid before missing: DeleteThreadItem"}},
		broken{"a bad tenant or subject is good", func(s *twist, base store.Store) {
			s.saveThread = func(ctx context.Context, t chat.Thread) error {
				if t.Owner.Subject != "" {
					t.Owner.Subject = good(t.Owner.Subject)
				}
				return base.SaveThread(ctx, t)
			}
		}, []string{"ID/a bad tenant or subject is ErrInvalid"}},
	)
}
