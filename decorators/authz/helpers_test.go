package authz_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// ada owns the seeded rows; bob is in her tenant, eve in another.
var (
	ada = chat.Owner{Tenant: "acme", Subject: "ada"}
	bob = chat.Owner{Tenant: "acme", Subject: "bob"}
	eve = chat.Owner{Tenant: "evil", Subject: "eve"}
)

func as(t testing.TB, o chat.Owner, roles ...string) context.Context {
	return store.WithPrincipal(t.Context(), store.Principal{Owner: o, Roles: roles})
}

// The ids of ada's rows, of missing rows and of eve's rows. A test replaces "nowhere" by "there" to compare texts.
const (
	thr, msg, atc          = "thr_there", "msg_there", "atc_there"
	noThr, noMsg, noAtc    = "thr_nowhere", "msg_nowhere", "atc_nowhere"
	eveThr, eveMsg, eveAtc = "thr_eve", "msg_eve", "atc_eve"
)

// canary is in every content field of every value, and in the base's errors.
const canary = "c4n4ry"

func when() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func thread(id string, o chat.Owner) chat.Thread {
	return chat.Thread{ID: id, Title: canary, CreatedAt: when(), Status: chat.Status{Type: "locked", Reason: canary}, Owner: o}
}

// message is a user message that names the attachments.
func message(id string, attachments ...string) chat.Item {
	list := []string{}
	for _, a := range attachments {
		list = append(list, fmt.Sprintf(`{"type":"file","id":%q,"name":%q,"mime_type":"text/plain"}`, a, canary))
	}
	return testenv.OrPanic(chat.ParseItem(fmt.Sprintf(`{"id":%q,"created_at":"2026-01-02T03:04:05Z","type":"user_message",`+
		`"content":[{"type":"input_text","text":%q}],"attachments":[%s],"quoted_text":null,"inference_options":{}}`,
		id, canary, strings.Join(list, ","))))
}

func attachment(id string, o chat.Owner) chat.Attachment {
	a := testenv.OrPanic(chat.NewAttachment(id, chat.AttachmentBody{Type: "file", Name: canary, MIMEType: "text/plain"}))
	a.Owner = o
	return a
}

// seed saves for ada and for eve a thread, a message in it, and an attachment.
func seed(t testing.TB, s store.Store) {
	t.Helper()
	for _, r := range []struct {
		owner         chat.Owner
		thr, msg, atc string
	}{{ada, thr, msg, atc}, {eve, eveThr, eveMsg, eveAtc}} {
		must(t, s.SaveThread(t.Context(), thread(r.thr, r.owner)))
		must(t, s.SaveAttachment(t.Context(), attachment(r.atc, r.owner)))
		must(t, s.AddThreadItem(t.Context(), r.thr, message(r.msg, r.atc)))
	}
}

var must = testenv.Must

// wants fails the test unless err is class, for errors.Is and by its code.
func wants(t testing.TB, err, class error) {
	t.Helper()
	if class == nil && err == nil {
		return
	}
	if !errors.Is(err, class) || store.CodeOf(err) != store.CodeOf(class) {
		t.Errorf("got error %v (%v), want %v", err, store.CodeOf(err), class)
	}
}

// recorder records the calls of the base, and can run a function just before a call.
type recorder struct {
	mu     sync.Mutex
	calls  []call
	before map[store.Op]func() // each runs once
}

type call struct {
	op    store.Op
	mode  store.SaveMode
	fresh bool
}

func (s *recorder) Intercept(ctx context.Context, c layer.Call, next func(context.Context) error) error {
	s.mu.Lock()
	s.calls = append(s.calls, call{c.Op, store.SaveModeFrom(ctx), layer.HintsFor(ctx, c.Op).Fresh()})
	f := s.before[c.Op]
	delete(s.before, c.Op)
	s.mu.Unlock()
	if f != nil {
		f()
	}
	return next(ctx)
}

// once runs f just before the next call of op reaches the base.
func (s *recorder) once(op store.Op, f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.before == nil {
		s.before = map[store.Op]func(){}
	}
	s.before[op] = f
}

// take returns the calls since the last take.
func (s *recorder) take() []call {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

// ops returns the ops of the calls since the last take.
func (s *recorder) ops() (ops []store.Op) {
	for _, c := range s.take() {
		ops = append(ops, c.op)
	}
	return ops
}

// world is a guarded memstore with the rows of seed.
type world struct {
	store.Store // guarded
	base        store.Store
	spy         *recorder
}

func newWorld(t testing.TB, p authz.Policy, opts ...authz.Option) world {
	t.Helper()
	w := world{base: memstore.New(), spy: &recorder{}}
	seed(t, w.base)
	w.Store = store.Wrap(w.base, authz.New(p, opts...), layer.Intercept("spy", w.spy))
	return w
}

// calls fails the test unless the base got exactly these calls since the last take.
func (w world) calls(t testing.TB, want ...store.Op) {
	t.Helper()
	if d := cmp.Diff(want, w.spy.ops()); d != "" {
		t.Errorf("the base's calls (-want +got):\n%s", d)
	}
}

// notWritten fails the test if a write reached the base since the last take.
func (w world) notWritten(t testing.TB) {
	t.Helper()
	if ops := w.spy.ops(); slices.ContainsFunc(ops, store.Op.IsWrite) {
		t.Errorf("a write reached the base: %v", ops)
	}
}

// policyFunc is the policy of one function. It lists nothing.
type policyFunc func(ctx context.Context, r authz.Request) (authz.Decision, error)

func (f policyFunc) Decide(ctx context.Context, r authz.Request) (authz.Decision, error) {
	return f(ctx, r)
}

func (f policyFunc) Scope(context.Context, store.Principal, store.OwnerFilter) (store.OwnerFilter, bool, error) {
	return store.OwnerFilter{}, false, nil
}

// lookup is a sharing.Lookup made of one function.
type lookup func(ctx context.Context, p store.Principal, threadID string) (sharing.Access, error)

func (f lookup) Access(ctx context.Context, p store.Principal, threadID string) (sharing.Access, error) {
	return f(ctx, p, threadID)
}

// roleOf is the access of a direct grant of the role, which asks for no version.
func roleOf(r sharing.Role) sharing.Access { return sharing.Access{Role: r, Direct: r} }

// granting returns a policy that allows owners everything, and grants role to the subject on every thread.
func granting(subject string, role sharing.Role) authz.Policy {
	return sharedBy(func(_ context.Context, p store.Principal, _ string) (sharing.Access, error) {
		if p.Owner.Subject == subject {
			return roleOf(role), nil
		}
		return sharing.Access{}, nil
	})
}

// sharedBy returns a policy that allows owners everything, and others what f grants them.
func sharedBy(f lookup) authz.Policy { return authz.AnyOf(authz.OwnerOnly(), authz.Shared(f)) }
