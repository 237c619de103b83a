package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/internal/call"
)

// unversioned is a Store that reports no versions.
func unversioned() store.Store { return broken{ops: on(store.OpSaveThread, silent)}.open() }

func TestVersionsAreOptional(t *testing.T) {
	log := record(t.Context(), unversioned, []string{"Version"})
	if len(log.failed) > 0 || len(log.skipped) != len(versionChecks) {
		t.Errorf("a Store without versions: failed %v, skipped %d of %d checks", log.failed, len(log.skipped), len(versionChecks))
	}
}

func TestWithVersionsRequired(t *testing.T) {
	log := record(t.Context(), unversioned, []string{"Version"}, WithVersionsRequired())
	if len(log.failed) != len(versionChecks) {
		t.Errorf("a Store without versions, where they are required: failed %d of %d checks", len(log.failed), len(versionChecks))
	}
}

// guard gives owners access to their rows only, like package authz but simpler.
type guard struct {
	store.Store
	store.Barrier
}

func newGuard(base store.Store) store.Store {
	load := func(m *made) {
		p, ok := store.PrincipalFrom(m.ctx)
		a := m.make()
		if o := cmp.Or(a.Thread.Owner, a.Attachment.Owner); a.Err == nil && !ok {
			m.a = call.Answer{Err: store.ErrUnauthenticated}
		} else if a.Err == nil && p.Owner != o && !o.IsZero() {
			m.a = call.Answer{Err: store.ErrNotFound}
		}
	}
	save := func(m *made) {
		m.Thread.Owner, m.Attachment.Owner = cmp.Or(m.Thread.Owner, m.caller()), cmp.Or(m.Attachment.Owner, m.caller())
	}
	return guard{twisted(base, ops{store.OpLoadThread: load, store.OpLoadAttachment: load, store.OpSaveThread: save, store.OpSaveAttachment: save,
		store.OpLoadThreads: func(m *made) {
			p, ok := store.PrincipalFrom(m.ctx)
			if !ok {
				m.answer(call.Answer{Err: store.ErrUnauthenticated})
				return
			}
			if m.Query.Owner == (store.OwnerFilter{}) {
				m.Query.Owner = store.OwnedBy(p.Owner)
			}
			if m.Query.Owner, ok = m.Query.Owner.Intersect(store.OwnedBy(p.Owner)); !ok {
				m.answer(call.Answer{})
			}
		}}), store.NewBarrier(base)}
}

// A guarded Store passes. The checks that depend on a guard's decision are skipped by name.
func TestGuardedStore(t *testing.T) {
	log := record(t.Context(), func() store.Store { return newGuard(memstore.New()) }, nil)
	if len(log.failed) > 0 {
		t.Errorf("failed: %v", log.failed)
	}
	slices.Sort(log.skipped)
	want := []string{
		"Owner/attachments: an insert with the zero Owner is unowned",
		"Owner/attachments: claiming an unowned row is ErrConflict",
		"Owner/threads: an insert with the zero Owner is unowned",
		"Owner/threads: claiming an unowned row is ErrConflict",
		"OwnerFilter/AnyOwner lists all rows, also those without an owner",
		"OwnerFilter/InTenant lists every owner of the tenant",
		"OwnerFilter/InTenant of no name lists owners without a tenant",
		"OwnerFilter/the zero filter lists rows without an owner",
		"UsedID/attachments: a deleted id without an owner cannot be claimed",
		"UsedID/threads: a deleted id without an owner cannot be claimed",
	}
	if !slices.Equal(log.skipped, want) {
		t.Errorf("skipped:\n%s", strings.Join(log.skipped, "\n"))
	}
}

// A failure message has the call, the result, the wanted result and the rule.
func TestMessages(t *testing.T) {
	log := record(t.Context(), broken{ops: on(store.OpLoadItem, func(m *made) {
		if m.make().Err != nil {
			m.a.Err = context.Canceled
		}
	})}.open, []string{"LoadItem"})
	messages := log.failed["LoadItem/a missing item is ErrNotFound"]
	if len(messages) != 1 {
		t.Fatalf("messages: %q", messages)
	}
	for _, part := range []string{`LoadItem("thr_`, `", "msg_`, `got error "context canceled", want store.ErrNotFound`, "\n\tcontract: " + loadItemRule} {
		if !strings.Contains(messages[0], part) {
			t.Errorf("the message lacks %q:\n%s", part, messages[0])
		}
	}
}

func TestNilStoreIsAFailure(t *testing.T) {
	log := record(t.Context(), func() store.Store { return nil }, []string{"After"})
	if m := log.failed["After"]; len(m) != 1 || !strings.Contains(m[0], "open returned a nil Store") {
		t.Errorf("failed: %v", log.failed)
	}
}

type closing struct {
	store.Store
	closed *int
	err    error
}

func (c closing) Close() error {
	*c.closed++
	return c.err
}

func TestStoresAreClosedOnce(t *testing.T) {
	opened, closed := 0, 0
	log := record(t.Context(), func() store.Store {
		opened++
		return closing{twisted(memstore.New(), nil), &closed, nil}
	}, nil)
	if len(log.failed) > 0 || opened != len(suite) || closed != opened {
		t.Errorf("opened %d Stores for %d groups and closed %d: %v", opened, len(suite), closed, log.failed)
	}
	log = record(t.Context(), func() store.Store {
		return closing{twisted(memstore.New(), nil), &closed, context.Canceled}
	}, []string{"LoadItem"})
	if len(log.failed["LoadItem"]) != 1 {
		t.Errorf("a Close that fails: %v", log.failed)
	}
}

// A Store that does nothing fails nearly all checks. The printed part must stay readable.
func TestManyFailuresAreFew(t *testing.T) {
	nothing := func() store.Store {
		return &call.Store{IDs: memstore.New(), Do: func(context.Context, call.Call) call.Answer { return call.Answer{} }}
	}
	log := record(t.Context(), nothing, nil)
	lines, whole := 0, 0
	for path, messages := range log.failed {
		lines++ // the line with its name
		for _, m := range messages {
			if m != notPrinted {
				lines += 1 + strings.Count(m, "\n")
			}
			if strings.Contains(m, "contract: ") {
				whole++
			}
		}
		if n := len(messages); path != "" && n > mostOfCheck+1 && messages[mostOfCheck+1] != notPrinted {
			t.Errorf("%s says %d things", path, n)
		}
	}
	if len(log.failed) < 150 || whole != mostWhole || lines > 450 {
		t.Errorf("%d failed, %d of their failures are printed, in %d lines", len(log.failed), whole, lines)
	}
	if m := log.failed[""]; len(m) != 1 || !strings.Contains(m[0], fmt.Sprintf("%d checks failed. ", len(log.failed)-1)) {
		t.Errorf("the summary is %q", m)
	}
}

// The fault is often in the cause of an error, which the text of the error leaves out.
func TestMessagesSayTheCause(t *testing.T) {
	log := record(t.Context(), func() store.Store {
		return &call.Store{IDs: memstore.New(), Do: func(_ context.Context, c call.Call) call.Answer {
			return call.Answer{Err: &store.Error{Op: c.Op, Code: store.CodeUnavailable, Cause: errors.New("database is locked\x1b[2J")}}
		}}
	}, []string{"LoadItem"})
	want := `unavailable", caused by "database is locked\x1b[2J", want`
	if m := log.failed["LoadItem/a missing item is ErrNotFound"]; len(m) != 1 || !strings.Contains(m[0], want) {
		t.Errorf("the messages %q lack %q", m, want)
	}
}
