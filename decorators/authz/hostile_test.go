package authz_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// mixingUp is a base that answers with rows that were not asked for.
type mixingUp struct {
	store.Store
	thread     func(chat.Thread) chat.Thread
	item       func(chat.Item) chat.Item
	attachment func(chat.Attachment) chat.Attachment
	threads    func(store.ThreadQuery) store.ThreadQuery
	writes     int
}

func (m *mixingUp) LoadThread(ctx context.Context, id string) (chat.Thread, error) {
	t, err := m.Store.LoadThread(ctx, id)
	if m.thread != nil {
		t = m.thread(t)
	}
	return t, err
}

func (m *mixingUp) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	if m.threads != nil {
		q = m.threads(q)
	}
	return m.Store.LoadThreads(ctx, q)
}

func (m *mixingUp) LoadThreadItems(ctx context.Context, id string, q store.PageQuery) (store.Page[chat.Item], error) {
	page, err := m.Store.LoadThreadItems(ctx, id, q)
	for i := range page.Data {
		if m.item != nil && i == len(page.Data)-1 {
			page.Data[i] = m.item(page.Data[i])
		}
	}
	return page, err
}

func (m *mixingUp) LoadItem(ctx context.Context, threadID, itemID string) (chat.Item, error) {
	it, err := m.Store.LoadItem(ctx, threadID, itemID)
	if m.item != nil {
		it = m.item(it)
	}
	return it, err
}

func (m *mixingUp) LoadAttachment(ctx context.Context, id string) (chat.Attachment, error) {
	a, err := m.Store.LoadAttachment(ctx, id)
	if m.attachment != nil {
		a = m.attachment(a)
	}
	return a, err
}

func (m *mixingUp) SaveThread(ctx context.Context, t chat.Thread) error {
	m.writes++
	return m.Store.SaveThread(ctx, t)
}

func (m *mixingUp) DeleteThread(ctx context.Context, id string) error {
	m.writes++
	return m.Store.DeleteThread(ctx, id)
}

func (m *mixingUp) AddThreadItem(ctx context.Context, id string, it chat.Item) error {
	m.writes++
	return m.Store.AddThreadItem(ctx, id, it)
}

func (m *mixingUp) SaveItem(ctx context.Context, id string, it chat.Item) error {
	m.writes++
	return m.Store.SaveItem(ctx, id, it)
}

func (m *mixingUp) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	m.writes++
	return m.Store.DeleteThreadItem(ctx, threadID, itemID)
}

func (m *mixingUp) SaveAttachment(ctx context.Context, a chat.Attachment) error {
	m.writes++
	return m.Store.SaveAttachment(ctx, a)
}

func (m *mixingUp) DeleteAttachment(ctx context.Context, id string) error {
	m.writes++
	return m.Store.DeleteAttachment(ctx, id)
}

// TestStrayRowsAreWithheld: a base that answers with another row than was asked for is not believed, whoever owns that row: an
// internal error, counted, no value, and nothing written.
func TestStrayRowsAreWithheld(t *testing.T) {
	otherThread := func(m *mixingUp) {
		m.thread = func(v chat.Thread) chat.Thread { v.ID = "thr_other"; return v }
	}
	otherItem := func(m *mixingUp) { m.item = func(v chat.Item) chat.Item { v.ID = "msg_other"; return v } }
	itemOfOther := func(m *mixingUp) { m.item = func(v chat.Item) chat.Item { v.ThreadID = "thr_other"; return v } }
	itemOfNone := func(m *mixingUp) { m.item = func(v chat.Item) chat.Item { v.ThreadID = ""; return v } }
	otherAttachment := func(m *mixingUp) {
		m.attachment = func(v chat.Attachment) chat.Attachment { v.ID = "atc_other"; return v }
	}
	everybodys := func(m *mixingUp) {
		m.threads = func(q store.ThreadQuery) store.ThreadQuery { q.Owner = store.AnyOwner(); return q }
	}
	for _, c := range []struct {
		name string
		mix  func(*mixingUp)
		call func(ctx context.Context, s store.Store) (value bool, err error)
	}{
		{"LoadThread", otherThread, func(ctx context.Context, s store.Store) (bool, error) {
			v, err := s.LoadThread(ctx, thr)
			return v.ID != "" || v.Title != "", err
		}},
		{"SaveThread", otherThread, func(ctx context.Context, s store.Store) (bool, error) {
			return false, s.SaveThread(ctx, thread(thr, ada))
		}},
		{"DeleteThread", otherThread, func(ctx context.Context, s store.Store) (bool, error) {
			return false, s.DeleteThread(ctx, thr)
		}},
		{"LoadThreads", everybodys, func(ctx context.Context, s store.Store) (bool, error) {
			v, err := s.LoadThreads(ctx, store.ThreadQuery{})
			return v.Data != nil, err
		}},
		{"LoadThreadItems, the thread", otherThread, func(ctx context.Context, s store.Store) (bool, error) {
			v, err := s.LoadThreadItems(ctx, thr, store.PageQuery{})
			return v.Data != nil, err
		}},
		{"LoadThreadItems, an item of another thread", itemOfOther, func(ctx context.Context, s store.Store) (bool, error) {
			v, err := s.LoadThreadItems(ctx, thr, store.PageQuery{})
			return v.Data != nil, err
		}},
		{"LoadThreadItems, an item of no thread", itemOfNone, func(ctx context.Context, s store.Store) (bool, error) {
			v, err := s.LoadThreadItems(ctx, thr, store.PageQuery{})
			return v.Data != nil, err
		}},
		{"AddThreadItem", otherThread, func(ctx context.Context, s store.Store) (bool, error) {
			return false, s.AddThreadItem(ctx, thr, message(t, "msg_new"))
		}},
		{"LoadItem, the thread", otherThread, func(ctx context.Context, s store.Store) (bool, error) {
			v, err := s.LoadItem(ctx, thr, msg)
			return v.ID != "", err
		}},
		{"LoadItem, another item", otherItem, func(ctx context.Context, s store.Store) (bool, error) {
			v, err := s.LoadItem(ctx, thr, msg)
			return v.ID != "", err
		}},
		{"LoadItem, of another thread", itemOfOther, func(ctx context.Context, s store.Store) (bool, error) {
			v, err := s.LoadItem(ctx, thr, msg)
			return v.ID != "", err
		}},
		{"DeleteThreadItem", otherThread, func(ctx context.Context, s store.Store) (bool, error) {
			return false, s.DeleteThreadItem(ctx, thr, msg)
		}},
		{"SaveItem, the stored item", itemOfOther, func(ctx context.Context, s store.Store) (bool, error) {
			return false, s.SaveItem(ctx, thr, message(t, msg, atc))
		}},
		{"SaveItem, another stored item", otherItem, func(ctx context.Context, s store.Store) (bool, error) {
			return false, s.SaveItem(ctx, thr, message(t, msg, atc))
		}},
		{"SaveItem, the attachment", otherAttachment, func(ctx context.Context, s store.Store) (bool, error) {
			return false, s.SaveItem(ctx, thr, message(t, "msg_new", atc))
		}},
		{"LoadAttachment", otherAttachment, func(ctx context.Context, s store.Store) (bool, error) {
			v, err := s.LoadAttachment(ctx, atc)
			return v.ID != "", err
		}},
		{"SaveAttachment", otherAttachment, func(ctx context.Context, s store.Store) (bool, error) {
			return false, s.SaveAttachment(ctx, attachment(t, atc, ada))
		}},
		{"DeleteAttachment", otherAttachment, func(ctx context.Context, s store.Store) (bool, error) {
			return false, s.DeleteAttachment(ctx, atc)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, authz.OwnerOnly())
			m := &mixingUp{Store: w.base}
			c.mix(m)
			s := store.Wrap(m, authz.New(authz.OwnerOnly()))
			value, err := c.call(as(t, ada), s)
			if value {
				t.Error("a value came with the error")
			}
			if err == nil || store.CodeOf(err) != store.CodeInternal {
				t.Errorf("got error %v, want an internal one", err)
			}
			if m.writes > 0 {
				t.Errorf("%d writes reached the base", m.writes)
			}
			if got := stat(t, s, "chatstore_authz_stray_rows_total"); got != 1 {
				t.Errorf("counted %v stray rows, want 1", got)
			}
			unchanged(t, w)
		})
	}
}

// TestStrayRowFailsWriteAsNotApplied: a cache outside need not hold the thread back.
func TestStrayRowFailsWriteAsNotApplied(t *testing.T) {
	w := newWorld(t, authz.OwnerOnly())
	s := store.Wrap(&mixingUp{Store: w.base, thread: func(v chat.Thread) chat.Thread { v.ID = "thr_other"; return v }},
		authz.New(authz.OwnerOnly()))
	if err := s.DeleteThread(as(t, ada), thr); !store.IsDefinite(err) {
		t.Errorf("%v: is not known to have done nothing", err)
	}
}

// TestFailedLookIsNotApplied: a write whose look at the stored row failed has done nothing, and says so; what it says is in this
// layer's words.
func TestFailedLookIsNotApplied(t *testing.T) {
	secret := errors.New(canary)
	for _, c := range []struct {
		base error
		want error
	}{
		{&store.Error{Code: store.CodeUnavailable, ID: canary, Cause: secret}, store.ErrUnavailable},
		{context.DeadlineExceeded, context.DeadlineExceeded},
	} {
		w := newWorld(t, authz.OwnerOnly())
		s := store.Wrap(w.base, authz.New(authz.OwnerOnly()), layer.Intercept("failing", layer.InterceptorFunc(
			func(ctx context.Context, call layer.Call, next func(context.Context) error) error {
				if call.Op.IsWrite() {
					t.Errorf("%v reached the base", call.Op)
				}
				return c.base
			})))
		ctx := as(t, ada)
		for _, err := range []error{
			s.SaveThread(ctx, thread(thr, ada)), s.DeleteThread(ctx, thr), s.AddThreadItem(ctx, thr, message(t, "msg_new")),
			s.SaveItem(ctx, thr, message(t, msg)), s.DeleteThreadItem(ctx, thr, msg), s.SaveAttachment(ctx, attachment(t, atc, ada)),
			s.DeleteAttachment(ctx, atc),
		} {
			wants(t, err, c.want)
			if !store.IsDefinite(err) {
				t.Errorf("%v: is not known to have done nothing", err)
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("the base's words: %v", err)
			}
		}
	}
}

// The same of the looks at the stored item, and at what it names.
func TestFailedLookAtAnAttachmentIsNotApplied(t *testing.T) {
	for _, failing := range []store.Op{store.OpLoadItem, store.OpLoadAttachment} {
		w := newWorld(t, authz.OwnerOnly())
		looked := false
		s := store.Wrap(w.base, authz.New(authz.OwnerOnly()), layer.Intercept("failing", layer.InterceptorFunc(
			func(ctx context.Context, call layer.Call, next func(context.Context) error) error {
				if call.Op.IsWrite() {
					t.Errorf("%v reached the base, though %v fails", call.Op, failing)
				}
				if call.Op != failing {
					return next(ctx)
				}
				looked = true
				return &store.Error{Code: store.CodeUnavailable, ID: canary, Cause: errors.New(canary)}
			})))
		err := s.SaveItem(as(t, ada), thr, message(t, "msg_new", atc))
		wants(t, err, store.ErrUnavailable)
		if !looked || !store.IsDefinite(err) || strings.Contains(err.Error(), canary) {
			t.Errorf("%v failed (%v): got %v, definite %v", failing, looked, err, store.IsDefinite(err))
		}
	}
}

// TestUnknownOutcomeStaysUnknown: what a write of the base left open is not made definite on the way.
func TestUnknownOutcomeStaysUnknown(t *testing.T) {
	for _, c := range []struct {
		base     error
		definite bool
	}{
		{errors.New(canary), false},
		{&store.Error{Code: store.CodeUnavailable}, false},
		{errors.Join(store.ErrUnavailable, store.ErrNotApplied), true},
		{store.ErrConflict, true},
	} {
		w := newWorld(t, authz.OwnerOnly())
		s := store.Wrap(w.base, authz.New(authz.OwnerOnly()), layer.Intercept("failing", layer.InterceptorFunc(
			func(ctx context.Context, call layer.Call, next func(context.Context) error) error {
				if call.Op.IsWrite() {
					return c.base
				}
				return next(ctx)
			})))
		ctx := as(t, ada)
		for _, err := range []error{
			s.SaveThread(ctx, thread(thr, ada)), s.SaveThread(ctx, thread(noThr, ada)), s.DeleteThread(ctx, thr),
			s.AddThreadItem(ctx, thr, message(t, "msg_new")), s.SaveItem(ctx, thr, message(t, msg)),
			s.DeleteThreadItem(ctx, thr, msg), s.SaveAttachment(ctx, attachment(t, atc, ada)), s.DeleteAttachment(ctx, atc),
		} {
			if err == nil || store.CodeOf(err) != store.CodeOf(c.base) || store.IsDefinite(err) != c.definite {
				t.Errorf("got %v (%v, definite %v) for the base's %v", err, store.CodeOf(err), store.IsDefinite(err), c.base)
			}
			if err != nil && strings.Contains(err.Error(), canary) {
				t.Errorf("the base's words: %v", err)
			}
		}
	}
}

// TestBasesFieldSurvives: what a stricter base has against an argument is the caller's to know.
func TestBasesFieldSurvives(t *testing.T) {
	w := newWorld(t, authz.OwnerOnly())
	s := store.Wrap(w.base, authz.New(authz.OwnerOnly()), layer.Intercept("strict", layer.InterceptorFunc(
		func(context.Context, layer.Call, func(context.Context) error) error {
			return &store.Error{Code: store.CodeInvalid, Field: "id: not a UUID"}
		})))
	_, err := s.LoadThread(as(t, ada), thr)
	wants(t, err, store.ErrInvalid)
	if !strings.HasSuffix(err.Error(), "id: not a UUID") {
		t.Errorf("got %v", err)
	}
}

// TestValueWithAnErrorIsDropped: a base that returns a row beside not found has not found it, for the policy too.
func TestValueWithAnErrorIsDropped(t *testing.T) {
	w := newWorld(t, authz.OwnerOnly())
	s := store.Wrap(refusing{w.base}, authz.New(policyFunc(func(_ context.Context, r authz.Request) (authz.Decision, error) {
		if !r.Owner.IsZero() {
			t.Errorf("the policy was asked about a row of %v", r.Owner)
		}
		return authz.Allow, nil
	})))
	v, err := s.LoadThread(as(t, ada), thr)
	wants(t, err, store.ErrNotFound)
	if v.ID != "" {
		t.Errorf("got %v", v)
	}
	a, err := s.LoadAttachment(as(t, ada), atc)
	wants(t, err, store.ErrNotFound)
	if a.ID != "" {
		t.Errorf("got %v", a.ID)
	}
}
