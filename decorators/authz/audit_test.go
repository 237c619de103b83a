package authz_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// stat returns the sum of a statistic over all series whose labels have the given values.
func stat(t testing.TB, s store.Store, name string, labels ...string) float64 {
	t.Helper()
	if w, ok := s.(world); ok {
		s = w.Store
	}
	r, ok := store.As[layer.StatsReporter](s)
	if !ok {
		t.Fatal("no statistics")
	}
	sum, found := 0.0, false
	for _, st := range r.AppendStats(nil) {
		match := st.Name == name
		for i, l := range labels {
			match = match && st.Labels[i].Value == l
		}
		if match {
			sum, found = sum+st.Value, true
		}
	}
	if !found {
		t.Errorf("no series %s%v", name, labels)
	}
	return sum
}

// TestEveryDenialIsAudited checks that each denial is audited with the question, the row, the reason and the caller's code, and
// that other calls are not audited.
func TestEveryDenialIsAudited(t *testing.T) {
	adas := func(a authz.Action, op store.Op, who chat.Owner) authz.Request {
		return authz.Request{Principal: store.Principal{Owner: who}, Action: a, Op: op, ThreadID: thr, Owner: ada}
	}
	attachments := func(a authz.Action, op store.Op) authz.Request {
		return authz.Request{Principal: store.Principal{Owner: eve}, Action: a, Op: op, Owner: ada}
	}
	denial := func(r authz.Request, kind, id string, reason authz.Reason, code store.Code) []authz.Denial {
		return []authz.Denial{{Request: r, Kind: kind, ID: id, Reason: reason, Code: code}}
	}
	adasThreads, allThreads := store.ThreadQuery{Owner: store.OwnedBy(ada)}, store.ThreadQuery{Owner: store.AnyOwner()}
	const kt, ki, ka, hidden = store.RowThread, store.RowItem, store.RowAttachment, authz.ReasonHidden
	for _, c := range []struct {
		name string
		who  chat.Owner
		call func(c caller) error
		want []authz.Denial
	}{
		{"LoadThread", eve, func(c caller) error { return errOf(c.LoadThread(c.ctx, thr)) },
			denial(adas(authz.Read, store.OpLoadThread, eve), kt, thr, hidden, store.CodeNotFound)},
		{"LoadThread, absent", eve, func(c caller) error { return errOf(c.LoadThread(c.ctx, noThr)) }, nil},
		{"LoadThread, own", ada, func(c caller) error { return errOf(c.LoadThread(c.ctx, thr)) }, nil},
		{"LoadThread, no principal", chat.Owner{}, func(c caller) error { return errOf(c.LoadThread(c.ctx, thr)) },
			denial(authz.Request{Action: authz.Read, Op: store.OpLoadThread}, kt, thr, authz.ReasonUnauthenticated, store.CodeUnauthenticated)},
		{"SaveThread", eve, func(c caller) error { return c.SaveThread(c.ctx, thread(thr, chat.Owner{})) },
			denial(adas(authz.Write, store.OpSaveThread, eve), kt, thr, hidden, store.CodeConflict)},
		{"SaveThread, update only", eve, func(c caller) error {
			return c.SaveThread(store.WithSaveMode(c.ctx, store.UpdateOnly), thread(thr, chat.Owner{}))
		}, denial(adas(authz.Write, store.OpSaveThread, eve), kt, thr, hidden, store.CodeNotFound)},
		{"SaveThread, for another", eve, func(c caller) error { return c.SaveThread(c.ctx, thread(noThr, ada)) },
			denial(authz.Request{Principal: store.Principal{Owner: eve}, Action: authz.Create, Op: store.OpSaveThread, ThreadID: noThr, Owner: ada}, kt, noThr, authz.ReasonCreate, store.CodeDenied)},
		{"SaveThread, viewer", bob, func(c caller) error { return c.SaveThread(c.ctx, thread(thr, chat.Owner{})) },
			denial(adas(authz.Write, store.OpSaveThread, bob), kt, thr, authz.ReasonReadOnly, store.CodeDenied)},
		{"DeleteThread", eve, func(c caller) error { return c.DeleteThread(c.ctx, thr) },
			denial(adas(authz.Delete, store.OpDeleteThread, eve), kt, thr, hidden, store.CodeOK)},
		{"DeleteThread, viewer", bob, func(c caller) error { return c.DeleteThread(c.ctx, thr) },
			denial(adas(authz.Delete, store.OpDeleteThread, bob), kt, thr, authz.ReasonReadOnly, store.CodeDenied)},
		{"LoadThreads", eve, func(c caller) error { return errOf(c.LoadThreads(c.ctx, adasThreads)) },
			denial(authz.Request{Principal: store.Principal{Owner: eve}, Action: authz.List, Op: store.OpLoadThreads}, kt, "", authz.ReasonScope, store.CodeOK)},
		{"LoadThreads, narrowed", eve, func(c caller) error { return errOf(c.LoadThreads(c.ctx, allThreads)) }, nil},
		{"LoadThreadItems", eve, func(c caller) error { return errOf(c.LoadThreadItems(c.ctx, thr, store.PageQuery{})) },
			denial(adas(authz.Read, store.OpLoadThreadItems, eve), kt, thr, hidden, store.CodeOK)},
		{"LoadThreadItems, after", eve,
			func(c caller) error { return errOf(c.LoadThreadItems(c.ctx, thr, store.PageQuery{After: msg})) },
			denial(adas(authz.Read, store.OpLoadThreadItems, eve), kt, thr, hidden, store.CodeNotFound)},
		{"AddThreadItem", eve, func(c caller) error { return c.AddThreadItem(c.ctx, thr, message("msg_new")) },
			denial(adas(authz.Write, store.OpAddThreadItem, eve), kt, thr, hidden, store.CodeNotFound)},
		{"AddThreadItem, viewer", bob, func(c caller) error { return c.AddThreadItem(c.ctx, thr, message("msg_new")) },
			denial(adas(authz.Write, store.OpAddThreadItem, bob), kt, thr, authz.ReasonReadOnly, store.CodeDenied)},
		{"AddThreadItem, attachment", eve, func(c caller) error { return c.AddThreadItem(c.ctx, eveThr, message("msg_new", atc)) },
			denial(attachments(authz.Read, store.OpAddThreadItem), ka, atc, hidden, store.CodeNotFound)},
		{"SaveItem", eve, func(c caller) error { return c.SaveItem(c.ctx, thr, message(msg)) },
			denial(adas(authz.Write, store.OpSaveItem, eve), kt, thr, hidden, store.CodeNotFound)},
		{"LoadItem", eve, func(c caller) error { return errOf(c.LoadItem(c.ctx, thr, msg)) },
			denial(adas(authz.Read, store.OpLoadItem, eve), ki, msg, hidden, store.CodeNotFound)},
		{"DeleteThreadItem", eve, func(c caller) error { return c.DeleteThreadItem(c.ctx, thr, msg) },
			denial(adas(authz.Delete, store.OpDeleteThreadItem, eve), ki, msg, hidden, store.CodeOK)},
		{"SaveAttachment", eve, func(c caller) error { return c.SaveAttachment(c.ctx, attachment(atc, chat.Owner{})) },
			denial(attachments(authz.Write, store.OpSaveAttachment), ka, atc, hidden, store.CodeConflict)},
		{"LoadAttachment", eve, func(c caller) error { return errOf(c.LoadAttachment(c.ctx, atc)) },
			denial(attachments(authz.Read, store.OpLoadAttachment), ka, atc, hidden, store.CodeNotFound)},
		{"DeleteAttachment", eve, func(c caller) error { return c.DeleteAttachment(c.ctx, atc) },
			denial(attachments(authz.Delete, store.OpDeleteAttachment), ka, atc, hidden, store.CodeOK)},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []authz.Denial
			w := newWorld(t, granting("bob", sharing.Viewer), authz.WithAudit(func(_ context.Context, d authz.Denial) { got = append(got, d) }))
			ctx := t.Context()
			if !c.who.IsZero() {
				ctx = as(t, c.who)
			}
			before := stat(t, w, "chatstore_authz_decisions_total", "deny")
			err := c.call(caller{Store: w, ctx: ctx})
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("audited (-want +got):\n%s", d)
			}
			if text := fmt.Sprintf("%+v %v", got, err); strings.Contains(text, canary) {
				t.Errorf("content in %s", text)
			}
			if n := stat(t, w, "chatstore_authz_decisions_total", "deny") - before; n != float64(len(c.want)) {
				t.Errorf("counted %v denials, want %d", n, len(c.want))
			}
			for _, d := range c.want {
				if d.Code != store.CodeOf(err) {
					t.Errorf("the audit has the code %v, the caller got the error %v", d.Code, err)
				}
				if n := stat(t, w, "chatstore_authz_decisions_total", "deny", d.Reason.String()); n != 1 {
					t.Errorf("counted %v denials for %v, want 1", n, d.Reason)
				}
			}
		})
	}
}

// TestPolicyFailureIsAudited checks that a failure of the policy is audited like any denial, without content.
func TestPolicyFailureIsAudited(t *testing.T) {
	for _, p := range []authz.Policy{failing{errors.New(canary)}, panicking{}} {
		var got []authz.Denial
		w := newWorld(t, p, authz.WithAudit(func(_ context.Context, d authz.Denial) { got = append(got, d) }))
		_, err := w.LoadThread(as(t, ada), thr)
		_, err2 := w.LoadThreads(as(t, ada), store.ThreadQuery{})
		err3 := w.SaveThread(as(t, ada), thread(noThr, ada))
		for i, err := range []error{err, err2, err3} {
			if strings.Contains(err.Error(), canary) {
				t.Errorf("content in %v", err)
			}
			if len(got) != 3 || got[i].Reason != authz.ReasonPolicyFailed || got[i].Code != store.CodeUnavailable {
				t.Errorf("audited %+v", got)
			}
		}
		if strings.Contains(fmt.Sprintf("%+v", got), canary) {
			t.Errorf("content in %+v", got)
		}
	}
}

// TestAuditPanicChangesNoAnswer checks that a panic of the audit function changes no answer and is counted.
func TestAuditPanicChangesNoAnswer(t *testing.T) {
	for _, p := range probes() {
		w := newWorld(t, authz.OwnerOnly())
		silent := store.Wrap(w.base, authz.New(authz.OwnerOnly()))
		loud := store.Wrap(w.base, authz.New(authz.OwnerOnly(), authz.WithAudit(func(context.Context, authz.Denial) { panic(canary) })))
		v, err := p.call(caller{silent, as(t, eve), there})
		v2, err2 := p.call(caller{loud, as(t, eve), there})
		if fmt.Sprintf("%#v", v) != fmt.Sprintf("%#v", v2) || fmt.Sprint(err) != fmt.Sprint(err2) {
			t.Errorf("%v %s: got %v, %v; without the panic %v, %v", p.op, p.name, v2, err2, v, err)
		}
		unchanged(t, w)
		denied := stat(t, loud, "chatstore_authz_decisions_total", "deny")
		if n := stat(t, loud, "chatstore_authz_audit_panics_total"); n != denied {
			t.Errorf("%v %s: counted %v panics for %v denials", p.op, p.name, n, denied)
		}
	}
}

// TestStatistics checks that all series exist from the start, keep their order, and count.
func TestStatistics(t *testing.T) {
	w := newWorld(t, authz.OwnerOnly())
	r, _ := store.As[layer.StatsReporter](w.Store)
	names := func() (names []string) {
		for _, s := range r.AppendStats(nil) {
			if !s.Counter || s.Help == "" {
				t.Errorf("%+v: want a counter with a help text", s)
			}
			names = append(names, fmt.Sprint(s.Name, s.Labels))
		}
		return names
	}
	first := names()
	_, _ = w.LoadThread(as(t, ada), thr)
	_, _ = w.LoadThread(as(t, eve), thr)
	_, _ = w.LoadThread(as(t, eve), noThr)
	_, _ = w.LoadThread(t.Context(), thr)
	if d := cmp.Diff(first, names()); d != "" {
		t.Errorf("the series changed:\n%s", d)
	}
	for _, c := range [][]string{{"allow", "policy"}, {"deny", "hidden"}, {"none", "absent"}, {"deny", "unauthenticated"}} {
		if n := stat(t, w, "chatstore_authz_decisions_total", c...); n != 1 {
			t.Errorf("%v: counted %v, want 1", c, n)
		}
	}
	if n := stat(t, w, "chatstore_authz_decisions_total"); n != 4 {
		t.Errorf("counted %v decisions, want 4", n)
	}
}
