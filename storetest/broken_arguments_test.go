package storetest

import (
	"context"
	"errors"
	"strings"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

var brokenModes = []broken{
	{"an unknown mode of threads is an upsert", func(s *twist, base store.Store) {
		s.saveThread = func(ctx context.Context, t chat.Thread) error { return base.SaveThread(knownMode(ctx), t) }
	}, []string{"SaveMode/threads: an unknown mode is ErrInvalid"}},
	{"an unknown mode of items is an upsert", func(s *twist, base store.Store) {
		s.saveItem = func(ctx context.Context, threadID string, it chat.Item) error {
			return base.SaveItem(knownMode(ctx), threadID, it)
		}
	}, []string{"SaveMode/items: an unknown mode is ErrInvalid"}},
	{"an unknown mode of attachments is refused too late", func(s *twist, base store.Store) {
		s.saveAttachment = func(ctx context.Context, a chat.Attachment) error {
			_, err := driver.Checks{}.SaveAttachment(ctx, a)
			if err != nil {
				_ = base.SaveAttachment(knownMode(ctx), a)
				return err
			}
			return base.SaveAttachment(ctx, a)
		}
	}, []string{"SaveMode/attachments: an unknown mode is ErrInvalid"}},
	{"AddThreadItem heeds UpdateOnly", func(s *twist, base store.Store) {
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			if _, err := base.LoadItem(callctx.WithoutVersionRecorder(ctx), threadID, it.ID); errors.Is(err, store.ErrNotFound) &&
				store.SaveModeFrom(ctx) == store.UpdateOnly {
				return err
			}
			return base.AddThreadItem(ctx, threadID, it)
		}
	}, []string{"AddThreadItem/inserts under any save mode"}},
	{"AddThreadItem replaces under UpdateOnly", func(s *twist, base store.Store) {
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			err := base.AddThreadItem(ctx, threadID, it)
			if errors.Is(err, store.ErrConflict) && store.SaveModeFrom(ctx) == store.UpdateOnly {
				return base.SaveItem(ctx, threadID, it)
			}
			return err
		}
	}, []string{"AddThreadItem/an existing id is ErrConflict under any save mode"}},
}

// knownMode takes an unknown save mode for Upsert.
func knownMode(ctx context.Context) context.Context {
	if store.SaveModeFrom(ctx) > store.UpdateOnly {
		return store.WithSaveMode(ctx, store.Upsert)
	}
	return ctx
}

// brokenCancellations look at their context only where there is something to do.
var brokenCancellations = []broken{
	{"DeleteThread of a missing one is deaf", func(s *twist, base store.Store) {
		s.deleteThread = func(ctx context.Context, id string) error {
			if _, err := base.LoadThread(deafReader(ctx), id); errors.Is(err, store.ErrNotFound) {
				return base.DeleteThread(context.WithoutCancel(ctx), id)
			}
			return base.DeleteThread(ctx, id)
		}
	}, []string{"CancelledContext/DeleteThread"}},
	{"DeleteThreadItem of a missing one is deaf", func(s *twist, base store.Store) {
		s.deleteItem = func(ctx context.Context, threadID, itemID string) error {
			if _, err := base.LoadItem(deafReader(ctx), threadID, itemID); errors.Is(err, store.ErrNotFound) {
				return base.DeleteThreadItem(context.WithoutCancel(ctx), threadID, itemID)
			}
			return base.DeleteThreadItem(ctx, threadID, itemID)
		}
	}, []string{"CancelledContext/DeleteThreadItem"}},
	{"DeleteAttachment of a missing one is deaf", func(s *twist, base store.Store) {
		s.deleteAttachment = func(ctx context.Context, id string) error {
			if _, err := base.LoadAttachment(deafReader(ctx), id); errors.Is(err, store.ErrNotFound) {
				return nil
			}
			return base.DeleteAttachment(ctx, id)
		}
	}, []string{"CancelledContext/DeleteAttachment"}},
	{"AddThreadItem looks for the thread before the context", func(s *twist, base store.Store) {
		s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
			if _, err := base.LoadThread(deafReader(ctx), threadID); errors.Is(err, store.ErrNotFound) {
				return base.AddThreadItem(context.WithoutCancel(ctx), threadID, it)
			}
			return base.AddThreadItem(ctx, threadID, it)
		}
	}, []string{"CancelledContext/AddThreadItem"}},
	{"LoadThreads with a cursor is deaf", func(s *twist, base store.Store) {
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			if q.After != "" {
				ctx = context.WithoutCancel(ctx)
			}
			return base.LoadThreads(ctx, q)
		}
	}, []string{"CancelledContext/LoadThreads"}},
	{"LoadThreads looks for the cursor before the context", func(s *twist, base store.Store) {
		s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
			if p, err := base.LoadThreads(deafReader(ctx), q); errors.Is(err, store.ErrNotFound) {
				return p, err
			}
			return base.LoadThreads(ctx, q)
		}
	}, []string{"CancelledContext/LoadThreads"}},
	{"LoadThreadItems with a cursor is deaf", func(s *twist, base store.Store) {
		s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
			if q.After != "" {
				ctx = context.WithoutCancel(ctx)
			}
			return base.LoadThreadItems(ctx, threadID, q)
		}
	}, []string{"CancelledContext/LoadThreadItems"}},
}

// deafReader is for a look at what is stored that the caller hears nothing of.
func deafReader(ctx context.Context) context.Context {
	return callctx.WithoutVersionRecorder(context.WithoutCancel(ctx))
}

// contextFirst are stores of which one op looks at its context before its arguments.
func contextFirst() []broken {
	// first calls f unless ctx is over.
	first := func(ctx context.Context, f func() error) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return f()
	}
	twists := map[string]func(s *twist, base store.Store){
		"LoadThread": func(s *twist, base store.Store) {
			s.loadThread = func(ctx context.Context, id string) (t chat.Thread, err error) {
				err = first(ctx, func() error { t, err = base.LoadThread(ctx, id); return err })
				return t, err
			}
		},
		"SaveThread": func(s *twist, base store.Store) {
			s.saveThread = func(ctx context.Context, t chat.Thread) error {
				return first(ctx, func() error { return base.SaveThread(ctx, t) })
			}
		},
		"DeleteThread": func(s *twist, base store.Store) {
			s.deleteThread = func(ctx context.Context, id string) error {
				return first(ctx, func() error { return base.DeleteThread(ctx, id) })
			}
		},
		"LoadThreads": func(s *twist, base store.Store) {
			s.loadThreads = func(ctx context.Context, q store.ThreadQuery) (p store.Page[chat.Thread], err error) {
				err = first(ctx, func() error { p, err = base.LoadThreads(ctx, q); return err })
				return p, err
			}
		},
		"LoadThreadItems": func(s *twist, base store.Store) {
			s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (p store.Page[chat.Item], err error) {
				err = first(ctx, func() error { p, err = base.LoadThreadItems(ctx, threadID, q); return err })
				return p, err
			}
		},
		"AddThreadItem": func(s *twist, base store.Store) {
			s.addItem = func(ctx context.Context, threadID string, it chat.Item) error {
				return first(ctx, func() error { return base.AddThreadItem(ctx, threadID, it) })
			}
		},
		"SaveItem": func(s *twist, base store.Store) {
			s.saveItem = func(ctx context.Context, threadID string, it chat.Item) error {
				return first(ctx, func() error { return base.SaveItem(ctx, threadID, it) })
			}
		},
		"LoadItem": func(s *twist, base store.Store) {
			s.loadItem = func(ctx context.Context, threadID, itemID string) (it chat.Item, err error) {
				err = first(ctx, func() error { it, err = base.LoadItem(ctx, threadID, itemID); return err })
				return it, err
			}
		},
		"DeleteThreadItem": func(s *twist, base store.Store) {
			s.deleteItem = func(ctx context.Context, threadID, itemID string) error {
				return first(ctx, func() error { return base.DeleteThreadItem(ctx, threadID, itemID) })
			}
		},
		"SaveAttachment": func(s *twist, base store.Store) {
			s.saveAttachment = func(ctx context.Context, a chat.Attachment) error {
				return first(ctx, func() error { return base.SaveAttachment(ctx, a) })
			}
		},
		"LoadAttachment": func(s *twist, base store.Store) {
			s.loadAttachment = func(ctx context.Context, id string) (a chat.Attachment, err error) {
				err = first(ctx, func() error { a, err = base.LoadAttachment(ctx, id); return err })
				return a, err
			}
		},
		"DeleteAttachment": func(s *twist, base store.Store) {
			s.deleteAttachment = func(ctx context.Context, id string) error {
				return first(ctx, func() error { return base.DeleteAttachment(ctx, id) })
			}
		},
	}
	var all []broken
	for op, f := range twists {
		all = append(all, broken{op + " looks at its context first", f, []string{"OrderOfChecks/invalid before context: " + op}})
	}
	return append(all,
		broken{"SaveThread looks at its context before the save mode", func(s *twist, base store.Store) {
			s.saveThread = func(ctx context.Context, t chat.Thread) error {
				if store.SaveModeFrom(ctx) == unknownMode {
					return first(ctx, func() error { return base.SaveThread(ctx, t) })
				}
				return base.SaveThread(ctx, t)
			}
		}, []string{"OrderOfChecks/invalid before context: SaveThread"}},
		broken{"LoadThreadItems looks at its context before the query", func(s *twist, base store.Store) {
			s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (p store.Page[chat.Item], err error) {
				if err := (driver.Checks{}).Thread(context.WithoutCancel(ctx), store.OpLoadThreadItems, threadID); err != nil {
					return p, err
				}
				err = first(ctx, func() error { p, err = base.LoadThreadItems(ctx, threadID, q); return err })
				return p, err
			}
		}, []string{"OrderOfChecks/invalid before context: LoadThreadItems"}},
	)
}

// reencoding are stores that keep other bytes of threads, or of attachments, than were saved.
func reencoding() []broken {
	kinds := []struct {
		name  string
		twist func(s *twist, base store.Store, f func(text string) string)
	}{
		{"a thread", func(s *twist, base store.Store, f func(text string) string) {
			s.saveThread = func(ctx context.Context, t chat.Thread) error {
				var out chat.Thread
				if text := t.JSON().String(); f(text) != text && out.UnmarshalJSON([]byte(f(text))) == nil {
					out.Owner = t.Owner
					t = out
				}
				return base.SaveThread(ctx, t)
			}
		}},
		{"an attachment", func(s *twist, base store.Store, f func(text string) string) {
			s.saveAttachment = func(ctx context.Context, a chat.Attachment) error {
				var out chat.Attachment
				if text := a.JSON().String(); f(text) != text && out.UnmarshalJSON([]byte(f(text))) == nil {
					out.Owner = a.Owner
					a = out
				}
				return base.SaveAttachment(ctx, a)
			}
		}},
	}
	changes := []struct{ promise, old, new, leaf string }{
		{"newlines are spaces", "\n", " ", "with free key order and white space"},
		{"big integers are floats", "[12345678901234567890,", "[12345678901234567000,", "with big and odd numbers"},
		{"escapes are normalised", `\/`, `/`, "with escapes"},
		{"a repeated name is dropped", `{"a":1,"a":2,`, `{"a":2,`, "with repeated names in free-form JSON"},
		{"a long text is cut off", large, large[1:], "of 256 KiB"},
	}
	var all []broken
	for _, k := range kinds {
		for _, c := range changes {
			all = append(all, broken{c.promise + " in " + k.name, func(s *twist, base store.Store) {
				k.twist(s, base, func(text string) string { return strings.ReplaceAll(text, c.old, c.new) })
			}, []string{"Payload/" + k.name + " " + c.leaf + " is kept byte for byte"}})
		}
		all = append(all, broken{"a replace compacts " + k.name, func(s *twist, base store.Store) {
			var seen memory[bool]
			k.twist(s, base, func(text string) string {
				if _, again := seen.get(text); again {
					return strings.ReplaceAll(text, "\n", "")
				}
				return text
			})
			save, saveAttachment := s.saveThread, s.saveAttachment
			s.saveThread = func(ctx context.Context, t chat.Thread) error {
				defer seen.set(t.JSON().String(), true)
				return save(ctx, t)
			}
			s.saveAttachment = func(ctx context.Context, a chat.Attachment) error {
				defer seen.set(a.JSON().String(), true)
				return saveAttachment(ctx, a)
			}
		}, []string{"Payload/" + k.name + " with free key order and white space is kept byte for byte"}})
	}
	return all
}
