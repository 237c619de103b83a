package authz_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
)

// mixingUp is a base that returns rows that were not requested.
type mixingUp struct {
	store.Store
	thread     func(chat.Thread) chat.Thread
	item       func(chat.Item) chat.Item
	attachment func(chat.Attachment) chat.Attachment
	threads    func(store.ThreadQuery) store.ThreadQuery
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

// TestStrayRowsAreWithheld checks a base that returns another row than requested, even one of the caller's own. The call ends
// with an internal error and no value, it is counted, and no row is written.
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
		call func(caller) (any, error)
	}{
		{"LoadThread", otherThread, func(c caller) (any, error) { return c.LoadThread(c.ctx, thr) }},
		{"SaveThread", otherThread, func(c caller) (any, error) { return nil, c.SaveThread(c.ctx, thread(thr, ada)) }},
		{"DeleteThread", otherThread, func(c caller) (any, error) { return nil, c.DeleteThread(c.ctx, thr) }},
		{"LoadThreads", everybodys, func(c caller) (any, error) { return c.LoadThreads(c.ctx, store.ThreadQuery{}) }},
		{"LoadThreadItems, the thread", otherThread,
			func(c caller) (any, error) { return c.LoadThreadItems(c.ctx, thr, store.PageQuery{}) }},
		{"LoadThreadItems, an item of another thread", itemOfOther,
			func(c caller) (any, error) { return c.LoadThreadItems(c.ctx, thr, store.PageQuery{}) }},
		{"LoadThreadItems, an item of no thread", itemOfNone,
			func(c caller) (any, error) { return c.LoadThreadItems(c.ctx, thr, store.PageQuery{}) }},
		{"AddThreadItem", otherThread,
			func(c caller) (any, error) { return nil, c.AddThreadItem(c.ctx, thr, message("msg_new")) }},
		{"LoadItem, the thread", otherThread, func(c caller) (any, error) { return c.LoadItem(c.ctx, thr, msg) }},
		{"LoadItem, another item", otherItem, func(c caller) (any, error) { return c.LoadItem(c.ctx, thr, msg) }},
		{"LoadItem, of another thread", itemOfOther, func(c caller) (any, error) { return c.LoadItem(c.ctx, thr, msg) }},
		{"DeleteThreadItem", otherThread, func(c caller) (any, error) { return nil, c.DeleteThreadItem(c.ctx, thr, msg) }},
		{"SaveItem, the stored item", itemOfOther,
			func(c caller) (any, error) { return nil, c.SaveItem(c.ctx, thr, message(msg, atc)) }},
		{"SaveItem, another stored item", otherItem,
			func(c caller) (any, error) { return nil, c.SaveItem(c.ctx, thr, message(msg, atc)) }},
		{"SaveItem, the attachment", otherAttachment,
			func(c caller) (any, error) { return nil, c.SaveItem(c.ctx, thr, message("msg_new", atc)) }},
		{"LoadAttachment", otherAttachment, func(c caller) (any, error) { return c.LoadAttachment(c.ctx, atc) }},
		{"SaveAttachment", otherAttachment,
			func(c caller) (any, error) { return nil, c.SaveAttachment(c.ctx, attachment(atc, ada)) }},
		{"DeleteAttachment", otherAttachment, func(c caller) (any, error) { return nil, c.DeleteAttachment(c.ctx, atc) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, authz.OwnerOnly())
			m := &mixingUp{Store: layer.Intercept("spy", w.spy)(w.base)}
			c.mix(m)
			s := store.Wrap(m, authz.New(authz.OwnerOnly()))
			value, err := c.call(caller{Store: s, ctx: as(t, ada)})
			if value != nil && !reflect.ValueOf(value).IsZero() {
				t.Error("a value came with the error")
			}
			if err == nil || store.CodeOf(err) != store.CodeInternal {
				t.Errorf("got error %v, want an internal one", err)
			}
			w.notWritten(t)
			if value == nil && !store.IsDefinite(err) { // so a cache outside need not hold the thread back
				t.Errorf("the error does not say that nothing was written: %v", err)
			}
			if got := stat(t, s, "chatstore_authz_stray_rows_total"); got != 1 {
				t.Errorf("counted %v stray rows, want 1", got)
			}
			unchanged(t, w)
		})
	}
}

// over returns a guarded store over a base with the fault, and the base.
func over(t *testing.T, fault faulty.Fault) (store.Store, *faulty.Store) {
	t.Helper()
	f := faulty.New(newWorld(t, authz.OwnerOnly()).base)
	f.Inject(fault)
	return store.Wrap(f, authz.New(authz.OwnerOnly())), f
}

// writes makes a call of every write op as ada.
func writes(t *testing.T, s store.Store) []error {
	ctx := as(t, ada)
	return []error{
		s.SaveThread(ctx, thread(thr, ada)), s.SaveThread(ctx, thread(noThr, ada)), s.DeleteThread(ctx, thr),
		s.AddThreadItem(ctx, thr, message("msg_new")), s.SaveItem(ctx, thr, message(msg)),
		s.DeleteThreadItem(ctx, thr, msg), s.SaveAttachment(ctx, attachment(atc, ada)), s.DeleteAttachment(ctx, atc),
	}
}

// saveNamed saves a message that names an attachment, so that the layer loads the stored item and the attachment too.
func saveNamed(t *testing.T, s store.Store) []error {
	return []error{s.SaveItem(as(t, ada), thr, message("msg_new", atc))}
}

// TestFailedLookIsNotApplied checks a write for which the layer could not load the stored row. Its error says that nothing was
// written, and does not have the text of the base's error.
func TestFailedLookIsNotApplied(t *testing.T) {
	wordy := &store.Error{Code: store.CodeUnavailable, ID: canary, Cause: errors.New(canary)}
	for _, c := range []struct {
		look  store.Op // the load that fails; zero: all calls
		base  error
		want  error
		write func(*testing.T, store.Store) []error
	}{
		{0, wordy, store.ErrUnavailable, writes},
		{0, context.DeadlineExceeded, context.DeadlineExceeded, writes},
		{store.OpLoadItem, wordy, store.ErrUnavailable, saveNamed},
		{store.OpLoadAttachment, wordy, store.ErrUnavailable, saveNamed},
	} {
		s, base := over(t, faulty.Fault{Op: c.look, Do: faulty.Fail(c.base)})
		for _, err := range c.write(t, s) {
			wants(t, err, c.want)
			if !store.IsDefinite(err) || strings.Contains(err.Error(), canary) {
				t.Errorf("%v failed: got %v, definite %v", c.look, err, store.IsDefinite(err))
			}
		}
		if base.Writes() > 0 || c.look != 0 && base.Calls(c.look) == 0 {
			t.Errorf("%v fails: the base got %d of these calls and %d writes, want some and none", c.look, base.Calls(c.look), base.Writes())
		}
	}
}

// TestUnknownOutcomeStaysUnknown checks that an unknown outcome of a base's write does not become definite in this layer.
func TestUnknownOutcomeStaysUnknown(t *testing.T) {
	for _, c := range []struct {
		base     error
		code     store.Code
		definite bool
	}{
		{errors.New(canary), store.CodeInternal, false},
		{&store.Error{Code: store.CodeUnavailable}, store.CodeUnavailable, false},
		{errors.Join(store.ErrUnavailable, store.ErrNotApplied), store.CodeUnavailable, true},
		{errors.Join(&store.Error{Code: store.CodeConflict}, store.ErrUnavailable), store.CodeUnavailable, false},
		{store.ErrConflict, store.CodeConflict, true},
	} {
		s, _ := over(t, faulty.Fault{When: func(c layer.Call) bool { return c.Op.IsWrite() }, Do: faulty.Fail(c.base)})
		for _, err := range writes(t, s) {
			if err == nil || store.CodeOf(err) != c.code || store.IsDefinite(err) != c.definite {
				t.Errorf("got %v (%v, definite %v) for the base's %v", err, store.CodeOf(err), store.IsDefinite(err), c.base)
			}
			if err != nil && strings.Contains(err.Error(), canary) {
				t.Errorf("the error has the base's text: %v", err)
			}
		}
	}
}

// TestBasesFieldSurvives checks that the caller learns why a stricter base refuses an argument.
func TestBasesFieldSurvives(t *testing.T) {
	s, _ := over(t, faulty.Fault{Do: faulty.Fail(&store.Error{Code: store.CodeInvalid, Field: "id: not a UUID"})})
	_, err := s.LoadThread(as(t, ada), thr)
	wants(t, err, store.ErrInvalid)
	if !strings.HasSuffix(err.Error(), "id: not a UUID") {
		t.Errorf("got %v", err)
	}
}

// TestValueWithAnErrorIsDropped checks that a row that a base returns beside an error reaches neither the policy nor the caller.
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
