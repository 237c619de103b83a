package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/chat"
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
	log := record(t.Context(), unversioned, []string{"Version"}, WithVersionsRequired(), printAll)
	if len(log.failed) != len(versionChecks) {
		t.Errorf("a Store without versions, where they are required: failed %d of %d checks", len(log.failed), len(versionChecks))
	}
}

func TestCapabilitiesAreOptional(t *testing.T) {
	without := func() store.Store { return twisted(memstore.New(), nil) }
	log := record(t.Context(), without, []string{"Capabilities"})
	if len(log.failed) > 0 || len(log.skipped) != len(capabilityChecks) {
		t.Errorf("a Store without capabilities: failed %v, skipped %d of %d checks", log.failed, len(log.skipped), len(capabilityChecks))
	}
	log = record(t.Context(), without, []string{"Capabilities"}, WithCapabilitiesRequired(), printAll)
	if len(log.failed) != len(capabilityChecks) {
		t.Errorf("a Store without capabilities, where they are required: failed %d of %d checks", len(log.failed), len(capabilityChecks))
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
	log.skipped = slices.DeleteFunc(log.skipped, func(path string) bool { return strings.HasPrefix(path, "Capabilities/") })
	want := []string{
		"After/threads: a deleted thread is a cursor of the filters that its owner matches",
		"IfVersion/the version comes before the save mode of a deleted thread, and before the owner",
		"Owner/attachments: an insert with the zero Owner is unowned",
		"Owner/attachments: another owner's UpdateOnly save is ErrConflict",
		"Owner/attachments: claiming an unowned row is ErrConflict",
		"Owner/threads: an insert with the zero Owner is unowned",
		"Owner/threads: another owner's UpdateOnly save is ErrConflict",
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
	lines, whole := 0, make(map[string]int)
	for path, messages := range log.failed {
		lines++ // the line with its name
		group, _, _ := strings.Cut(path, "/")
		for _, m := range messages {
			if m != notPrinted {
				lines += 1 + strings.Count(m, "\n")
			}
			if strings.Contains(m, "contract: ") {
				whole[group]++
			}
		}
	}
	if len(log.failed) < 150 || lines > 450 {
		t.Errorf("%d failed, and their failures have %d lines", len(log.failed), lines)
	}
	for _, g := range suite {
		if messages := log.failed[g.name]; len(messages) > 0 && (whole[g.name] < 1 || whole[g.name] > mostOfGroup) {
			t.Errorf("group %s fails and prints %d failures", g.name, whole[g.name])
		}
	}
}

// ignoresOwners is a Store whose LoadThreads ignores the owner filter.
func ignoresOwners() store.Store {
	return broken{ops: on(store.OpLoadThreads, func(m *made) { m.Query.Owner = store.AnyOwner() })}.open()
}

// Each failing group prints its first failure, and says how to print the others.
func TestEveryGroupPrintsItsFirstFailure(t *testing.T) {
	log := record(t.Context(), ignoresOwners, nil)
	checks, groups, hidden := 0, 0, 0
	for _, g := range suite {
		printed, silent := 0, 0
		for _, c := range g.checks {
			messages := log.failed[g.name+"/"+c.name]
			if len(messages) == 0 {
				continue
			}
			checks++
			for _, m := range messages {
				if m == notPrinted {
					silent++
				} else {
					printed++
				}
			}
			if printed == 0 {
				t.Errorf("%s/%s fails first in its group, and prints nothing", g.name, c.name)
			}
		}
		if printed > 0 {
			groups++
		}
		hidden += silent
		want := ""
		if silent > 0 {
			want = fmt.Sprintf("failures of this group that are not printed: %d. To print them, run the group alone: -run '^TestRecorded$/^%s$'",
				silent, strings.ReplaceAll(g.name, ".", `\.`))
		}
		if got := strings.Join(slices.DeleteFunc(log.failed[g.name], func(m string) bool { return m == notPrinted }), "\n"); got != want {
			t.Errorf("group %s says %q, want %q", g.name, got, want)
		}
	}
	want := fmt.Sprintf("failed checks: %d, in %d groups. Failures that are not printed: %d. ", checks, groups, hidden)
	if m := log.failed[""]; groups < 10 || len(m) != 1 || !strings.HasPrefix(m[0], want) {
		t.Errorf("the summary is %q, want %q", m, want)
	}
}

// A group that runs alone prints all failures. A failure that depends on rows of earlier checks says so.
func TestPrintAll(t *testing.T) {
	log := record(t.Context(), ignoresOwners, []string{"ID", "OwnerFilter"}, printAll)
	const note = "\n\tnote: LoadThreads listed rows that this check did not save"
	for path, messages := range log.failed {
		if slices.Contains(messages, notPrinted) {
			t.Errorf("%s does not print all failures: %q", path, messages)
		}
	}
	if m := log.failed["ID/bad ids are ErrInvalid: DeleteAttachment"]; len(m) == 0 || !strings.Contains(m[0], note) {
		t.Errorf("messages without a note about rows of earlier checks: %q", m)
	}
	// This is the first check of its group, so all rows are its own.
	if m := log.failed["OwnerFilter/OwnedBy lists one owner's"]; len(m) != 1 || strings.Contains(m[0], note) {
		t.Errorf("messages about rows of this check: %q", m)
	}
}

func TestSelectsPart(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"", "TestX", false},
		{"TestX", "TestX", false},
		{"^TestX$/^ID$", "TestX", true},
		{"TestX/mem", "TestX/mem", false},
		{"TestX/mem/ID", "TestX/mem", true},
	} {
		if got := selectsPart(c.pattern, c.name); got != c.want {
			t.Errorf("selectsPart(%q, %q) is %t", c.pattern, c.name, got)
		}
	}
}

// A row with another id is not reported as changed JSON.
func TestAnotherRow(t *testing.T) {
	log := record(t.Context(), func() store.Store {
		var saved chat.Thread
		return broken{ops: func() ops {
			return ops{
				store.OpSaveThread: func(m *made) { saved = cmp.Or(saved, m.Thread) },
				store.OpLoadThread: func(m *made) { m.Thread.ID = saved.ID },
			}
		}}.open()
	}, []string{"SaveThread", "Payload"}, printAll)
	for _, path := range []string{"SaveThread/replaces", "Payload/a thread of the Node SDK is kept byte for byte"} {
		messages := log.failed[path]
		if len(messages) == 0 || !strings.Contains(messages[0], `got another row: id "thr_`) || strings.Contains(messages[0], "-want") || strings.Contains(messages[0], "re-encode") {
			t.Errorf("%s: %q", path, messages)
		}
	}
}

// A message names limits, orders and owners in words.
func TestMessagesUseWords(t *testing.T) {
	log := record(t.Context(), func() store.Store {
		return twisted(memstore.New(), ops{
			store.OpLoadThreads:    func(m *made) { m.Query.Limit = 1 },
			store.OpLoadAttachment: func(m *made) { m.make(); m.a.Attachment.Owner = chat.Owner{} },
		})
	}, []string{"Limit", "Owner"}, printAll)
	for path, want := range map[string]string{
		"Limit/threads: zero is 20":                     `"), limit 0, newest first)`,
		"Owner/attachments: a loaded row has its Owner": `got no owner, want tenant "acme_`,
	} {
		if m := log.failed[path]; len(m) == 0 || !strings.Contains(m[0], want) {
			t.Errorf("%s: %q, want %q", path, m, want)
		}
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
