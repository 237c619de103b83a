package storetest

import (
	"runtime"

	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/storetest/internal/call"
)

// condition returns the condition of a write.
func (m *made) condition() callctx.Condition { return callctx.Of(m.ctx).If }

// unconditional makes the call without its condition.
func (m *made) unconditional() {
	m.ctx = callctx.With(m.ctx, func(d *callctx.Data) { d.If = callctx.Condition{} })
	m.make()
}

// version returns the version of the thread.
func (m *made) version() (v uint64) {
	ctx := callctx.WithVersionRecorder(m.ctx, func(_ string, _, after uint64) { v = after })
	_, _ = m.base.LoadThread(ctx, m.Thread.ID)
	return v
}

// stale reports whether the call has a condition for its thread that does not hold.
func (m *made) stale() bool {
	c := m.condition()
	return c.ThreadID == m.Thread.ID && m.ctx.Err() == nil && c.Version != m.version()
}

func (m *made) refuse() {
	m.answer(call.Answer{Err: &store.Error{Op: m.Op, Code: store.CodeConflict, Field: "if_version"}})
}

// brokenConditions has stores that break the rules of store.IfVersion.
func brokenConditions() []broken {
	all := []broken{
		{"without versions, conditions are ignored", func() ops {
			forgets := func(m *made) {
				m.ctx = m.quiet()
				m.unconditional()
			}
			of := ops{}
			for _, op := range store.Ops() {
				of[op] = forgets
			}
			return of
		}, []string{"IfVersion/obeyed, or refused by a Store without versions"}},
		{"SaveThread looks at the version before its arguments", on(store.OpSaveThread, func(m *made) {
			if m.thread(m.Thread.ID).Err == nil && m.stale() {
				m.refuse()
			}
		}), []string{"IfVersion/the version comes after the arguments and the context"}},
		{"AddThreadItem looks at the id before the version", on(store.OpAddThreadItem, func(m *made) {
			if m.stored().Err == nil {
				m.unconditional()
			}
		}), []string{"IfVersion/the version comes before the save mode and the id"}},
		{"SaveItem looks at the save mode before the version", on(store.OpSaveItem, func(m *made) {
			if m.Mode == store.UpdateOnly && m.stored().Err != nil {
				m.unconditional()
			}
		}), []string{"IfVersion/the version comes before the save mode and the id"}},
		{"DeleteThreadItem looks at the id before the version", on(store.OpDeleteThreadItem, func(m *made) {
			if m.stale() && m.stored().Err != nil {
				m.unconditional()
			}
		}), []string{"IfVersion/the version comes before the save mode and the id"}},
		{"SaveThread looks at the owner before the version", on(store.OpSaveThread, func(m *made) {
			if o := m.stored().Thread.Owner; !o.IsZero() && !m.Thread.Owner.IsZero() && m.Thread.Owner != o {
				m.unconditional()
			}
		}), []string{"IfVersion/the version comes before the save mode of a deleted thread, and before the owner"}},
		{"SaveThread looks at the save mode before the version", on(store.OpSaveThread, func(m *made) {
			if m.Mode == store.UpdateOnly && m.stored().Err != nil {
				m.unconditional()
			}
		}), []string{"IfVersion/the version comes before the save mode of a deleted thread, and before the owner"}},
		{"the version of a missing thread is checked", on(store.OpAddThreadItem, func(m *made) {
			if m.thread(m.Thread.ID).Err != nil && m.stale() {
				m.refuse()
			}
		}), []string{"IfVersion/a missing thread answers as without a condition"}},
		{"the deletion of a missing thread has a condition", on(store.OpDeleteThread, func(m *made) {
			if m.stored().Err != nil && m.stale() {
				m.refuse()
			}
		}), []string{"IfVersion/a missing thread answers as without a condition"}},
		{"a new id has every version", on(store.OpSaveThread, func(m *made) {
			if m.condition().ThreadID == m.Thread.ID && m.version() == 0 {
				m.unconditional()
			}
		}), []string{"IfVersion/a new id has version 0", maybe("IfVersion/of concurrent saves of a new id, one applies")}},
		{"a deleted id has version 0 too", on(store.OpSaveThread, func(m *made) {
			if c := m.condition(); c.ThreadID == m.Thread.ID && c.Version == 0 && m.stored().Err != nil && m.version() > 0 {
				m.unconditional()
			}
		}), []string{"IfVersion/a deleted id keeps its version"}},
		{"another thread's version is no condition", on(store.OpSaveItem, func(m *made) {
			if c := m.condition(); c.Set && c.ThreadID != m.Thread.ID {
				m.unconditional()
			}
		}), []string{"IfVersion/an attachment or another thread is ErrInvalid"}},
		{"an attachment has no condition", on(store.OpSaveAttachment, (*made).unconditional),
			[]string{"IfVersion/an attachment or another thread is ErrInvalid"}},
		{"a read has a condition", on(store.OpLoadThread, func(m *made) {
			if m.stale() {
				m.refuse()
			}
		}), []string{"IfVersion/reads are not affected", andMore}},
		{"AddThreadItem reports the version before another's write", on(store.OpAddThreadItem, func(m *made) {
			m.hear(func(id string, before, after uint64) { driver.ReportVersion(m.ctx, id, before-1, after) })
		}), []string{"IfVersion/WithVersions stays at what was read before another's write", andMore}},
	}
	for _, do := range threadWrites {
		op := map[string]store.Op{"SaveThread": store.OpSaveThread, "AddThreadItem": store.OpAddThreadItem, "SaveItem": store.OpSaveItem,
			"DeleteThreadItem": store.OpDeleteThreadItem, "DeleteThread": store.OpDeleteThread}[do.name]
		looks := broken{do.name + " looks at the version, then writes", on(op, func(m *made) {
			c := m.condition()
			if c.Set && c.ThreadID == m.Thread.ID && m.Mode <= store.UpdateOnly && !m.stale() {
				runtime.Gosched()
				m.unconditional()
			}
		}), []string{"IfVersion/of concurrent calls of " + do.name + " and AddThreadItem, one applies"}}
		switch op {
		case store.OpSaveThread:
			looks.fails = append(looks.fails, "IfVersion/of concurrent saves of a new id, one applies")
		case store.OpAddThreadItem:
			for _, other := range threadWrites {
				if other.name != do.name {
					looks.fails = append(looks.fails, maybe("IfVersion/of concurrent calls of "+other.name+" and AddThreadItem, one applies"))
				}
			}
		}
		all = append(all, looks,
			broken{do.name + " ignores the version", on(op, func(m *made) {
				if c := m.condition(); c.ThreadID == m.Thread.ID {
					m.unconditional()
				}
			}), []string{"IfVersion/" + do.name + " is refused at another version", "IfVersion/obeyed, or refused by a Store without versions", andMore}},
			broken{do.name + " takes an older version", on(op, func(m *made) {
				if c := m.condition(); c.ThreadID == m.Thread.ID && c.Version < m.version() {
					m.unconditional()
				}
			}), []string{"IfVersion/" + do.name + " is refused at another version", andMore}},
			broken{do.name + " says conflict without a reason", on(op, func(m *made) {
				if m.make(); m.a.Field != "" {
					m.fail(store.CodeConflict)
				}
			}), []string{"IfVersion/" + do.name + " is refused at another version", andMore}},
			broken{do.name + " refuses every condition", on(op, func(m *made) {
				if m.condition().ThreadID == m.Thread.ID && (m.Op == store.OpSaveThread || m.thread(m.Thread.ID).Err == nil) {
					m.refuse()
				}
			}), []string{"IfVersion/" + do.name + " applies at the right version", "IfVersion/WithVersions moves with an own " + do.name, andMore}},
		)
	}
	return all
}
