package authz_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// saver is SaveThread or SaveAttachment, which own their rows alike.
type saver struct {
	op             store.Op
	there, nowhere string // ids
	save           func(ctx context.Context, s store.Store, id string, o chat.Owner) error
	remove         func(ctx context.Context, s store.Store, id string) error
	owner          func(t *testing.T, s store.Store, id string) (chat.Owner, error)
}

func eachSaver(t *testing.T, f func(*testing.T, saver)) {
	t.Run("thread", func(t *testing.T) {
		f(t, saver{store.OpSaveThread, thr, noThr,
			func(ctx context.Context, s store.Store, id string, o chat.Owner) error {
				return s.SaveThread(ctx, thread(id, o))
			},
			func(ctx context.Context, s store.Store, id string) error { return s.DeleteThread(ctx, id) },
			func(t *testing.T, s store.Store, id string) (chat.Owner, error) {
				v, err := s.LoadThread(t.Context(), id)
				return v.Owner, err
			}})
	})
	t.Run("attachment", func(t *testing.T) {
		f(t, saver{store.OpSaveAttachment, atc, noAtc,
			func(ctx context.Context, s store.Store, id string, o chat.Owner) error {
				return s.SaveAttachment(ctx, attachment(id, o))
			},
			func(ctx context.Context, s store.Store, id string) error { return s.DeleteAttachment(ctx, id) },
			func(t *testing.T, s store.Store, id string) (chat.Owner, error) {
				v, err := s.LoadAttachment(t.Context(), id)
				return v.Owner, err
			}})
	})
}

func (s saver) stored(t *testing.T, w world, id string, want chat.Owner) {
	t.Helper()
	if o, err := s.owner(t, w.base, id); err != nil || o != want {
		t.Errorf("%s is of %v, %v, want of %v", id, o, err, want)
	}
}

func (s saver) notStored(t *testing.T, w world, id string) {
	t.Helper()
	if o, err := s.owner(t, w.base, id); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("%s is of %v, %v, want none", id, o, err)
	}
}

// TestSaveModes: the caller's mode means what it means without this layer. A new row is never nobody's.
func TestSaveModes(t *testing.T) {
	eachSaver(t, func(t *testing.T, s saver) {
		for _, c := range []struct {
			mode  store.SaveMode
			id    string
			owner chat.Owner
			want  error
		}{
			{store.Upsert, s.there, chat.Owner{}, nil},
			{store.Upsert, s.there, ada, nil},
			{store.Upsert, s.there, bob, store.ErrConflict},
			{store.Upsert, s.nowhere, chat.Owner{}, nil},
			{store.Upsert, s.nowhere, ada, nil},
			{store.InsertOnly, s.there, chat.Owner{}, store.ErrConflict},
			{store.InsertOnly, s.there, ada, store.ErrConflict},
			{store.InsertOnly, s.nowhere, ada, nil},
			{store.UpdateOnly, s.there, chat.Owner{}, nil},
			{store.UpdateOnly, s.there, bob, store.ErrConflict},
			{store.UpdateOnly, s.nowhere, ada, store.ErrNotFound},
		} {
			t.Run(fmt.Sprint(c.mode, c.id, c.owner.Subject), func(t *testing.T) {
				w := newWorld(t, authz.OwnerOnly())
				wants(t, s.save(store.WithSaveMode(as(t, ada), c.mode), w, c.id, c.owner), c.want)
				if c.id == s.nowhere && c.want != nil {
					s.notStored(t, w, c.id)
				} else {
					s.stored(t, w, c.id, ada)
				}
			})
		}
	})
}

// TestModesGivenToTheBase: what is there is saved UpdateOnly and what is not InsertOnly, with the owner that was decided about.
func TestModesGivenToTheBase(t *testing.T) {
	eachSaver(t, func(t *testing.T, s saver) {
		w := newWorld(t, authz.AnyOf(authz.OwnerOnly(), authz.HasRole("op")))
		must(t, s.save(as(t, ada), w, s.there, chat.Owner{}))
		must(t, s.save(as(t, ada), w, s.nowhere, chat.Owner{}))
		must(t, s.save(store.WithSaveMode(as(t, ada), store.UpdateOnly), w, s.there, chat.Owner{}))
		saves := slices.DeleteFunc(w.spy.take(), func(c call) bool { return c.op != s.op })
		want := []call{{op: s.op, mode: store.UpdateOnly}, {op: s.op, mode: store.InsertOnly}, {op: s.op, mode: store.UpdateOnly}}
		if !slices.Equal(saves, want) {
			t.Errorf("the base was asked for %v, want %v", saves, want)
		}
	})
}

// TestOwnerComesFromTheStoredRow: whoever saves it, and whatever they say.
func TestOwnerComesFromTheStoredRow(t *testing.T) {
	eachSaver(t, func(t *testing.T, s saver) {
		w := newWorld(t, authz.AnyOf(authz.OwnerOnly(), authz.HasRole("op")))
		op := as(t, eve, "op")
		must(t, s.save(op, w, s.there, chat.Owner{}))
		s.stored(t, w, s.there, ada)
		wants(t, s.save(op, w, s.there, eve), store.ErrConflict)
		s.stored(t, w, s.there, ada)
	})
}

// TestInsertForAnotherOwner: the policy decides, and who may not is denied.
func TestInsertForAnotherOwner(t *testing.T) {
	eachSaver(t, func(t *testing.T, s saver) {
		for _, c := range []struct {
			role string
			mode store.SaveMode
			for_ chat.Owner
			want error
		}{
			{"", store.Upsert, ada, store.ErrDenied},
			{"", store.InsertOnly, ada, store.ErrDenied},
			{"", store.UpdateOnly, ada, store.ErrNotFound},
			{"admin", store.Upsert, ada, nil},
			{"admin", store.InsertOnly, ada, nil},
			{"admin", store.Upsert, eve, store.ErrDenied},
			{"op", store.Upsert, eve, nil},
		} {
			w := newWorld(t, authz.AnyOf(authz.OwnerOnly(), authz.TenantAdmin("admin"), authz.HasRole("op")))
			wants(t, s.save(store.WithSaveMode(as(t, bob, c.role), c.mode), w, s.nowhere, c.for_), c.want)
			if c.want == nil {
				s.stored(t, w, s.nowhere, c.for_)
			} else {
				s.notStored(t, w, s.nowhere)
			}
		}
	})
}

// TestUnownedRowIsNobodys: not its finder's, not the tenant's, not a grantee's; and nobody can claim it.
func TestUnownedRowIsNobodys(t *testing.T) {
	eachSaver(t, func(t *testing.T, s saver) {
		w := newWorld(t, authz.AnyOf(granting("ada", authz.Editor), authz.TenantAdmin("admin"), authz.HasRole("op")))
		must(t, s.save(t.Context(), w.base, s.nowhere, chat.Owner{}))
		for _, role := range []string{"", "admin"} {
			ctx := as(t, ada, role)
			wants(t, s.save(ctx, w, s.nowhere, chat.Owner{}), store.ErrConflict)
			wants(t, s.save(ctx, w, s.nowhere, ada), store.ErrConflict)
			must(t, s.remove(ctx, w, s.nowhere))
			wants(t, errOf(w.LoadThread(ctx, s.nowhere)), store.ErrNotFound)
		}
		s.stored(t, w, s.nowhere, chat.Owner{})
		wants(t, s.save(as(t, ada, "op"), w, s.nowhere, ada), store.ErrConflict)
		must(t, s.save(as(t, ada, "op"), w, s.nowhere, chat.Owner{}))
		s.stored(t, w, s.nowhere, chat.Owner{})
		must(t, s.remove(as(t, ada, "op"), w, s.nowhere))
		s.notStored(t, w, s.nowhere)
	})
}

// TestEditorsSaveCannotOutrunOwnersDelete: in whatever mode, the row stays deleted.
func TestEditorsSaveCannotOutrunOwnersDelete(t *testing.T) {
	for _, mode := range []store.SaveMode{store.Upsert, store.UpdateOnly} {
		for _, owner := range []chat.Owner{{}, ada} {
			w := newWorld(t, granting("bob", authz.Editor))
			w.spy.once(store.OpSaveThread, func() { must(t, w.base.DeleteThread(t.Context(), thr)) })
			wants(t, w.SaveThread(store.WithSaveMode(as(t, bob), mode), thread(thr, owner)), store.ErrNotFound)
			wants(t, errOf(w.base.LoadThread(t.Context(), thr)), store.ErrNotFound)
		}
	}
}

// TestOperatorsSaveCannotOutrunOwnersDelete: a role that may create rows for others brings nothing back, either.
func TestOperatorsSaveCannotOutrunOwnersDelete(t *testing.T) {
	eachSaver(t, func(t *testing.T, s saver) {
		w := newWorld(t, authz.HasRole("op"))
		w.spy.once(s.op, func() { must(t, s.remove(t.Context(), w.base, s.there)) })
		wants(t, s.save(as(t, eve, "op"), w, s.there, chat.Owner{}), store.ErrNotFound)
		s.notStored(t, w, s.there)
	})
}

// TestOwnersUpsertAfterTheirDelete inserts, as an Upsert does; their UpdateOnly does not.
func TestOwnersUpsertAfterTheirDelete(t *testing.T) {
	eachSaver(t, func(t *testing.T, s saver) {
		w := newWorld(t, authz.OwnerOnly())
		w.spy.once(s.op, func() { must(t, s.remove(t.Context(), w.base, s.there)) })
		must(t, s.save(as(t, ada), w, s.there, chat.Owner{}))
		s.stored(t, w, s.there, ada)

		w.spy.once(s.op, func() { must(t, s.remove(t.Context(), w.base, s.there)) })
		w.spy.take()
		wants(t, s.save(store.WithSaveMode(as(t, ada), store.UpdateOnly), w, s.there, ada), store.ErrNotFound)
		s.notStored(t, w, s.there)
		if ops := w.spy.take(); len(ops) != 2 {
			t.Errorf("the base's calls: %v, want a look and a save", ops)
		}
	})
}

// TestInsertRacesAnothersInsert: the other's row stays as it is.
func TestInsertRacesAnothersInsert(t *testing.T) {
	eachSaver(t, func(t *testing.T, s saver) {
		w := newWorld(t, authz.AnyOf(authz.OwnerOnly(), authz.HasRole("op")))
		w.spy.once(s.op, func() { must(t, s.save(t.Context(), w.base, s.nowhere, eve)) })
		wants(t, s.save(as(t, ada), w, s.nowhere, chat.Owner{}), store.ErrConflict)
		s.stored(t, w, s.nowhere, eve)

		// An operator who creates for ada finds a row that is bob's.
		w = newWorld(t, authz.AnyOf(authz.OwnerOnly(), authz.HasRole("op")))
		w.spy.once(s.op, func() { must(t, s.save(t.Context(), w.base, s.nowhere, bob)) })
		wants(t, s.save(as(t, eve, "op"), w, s.nowhere, ada), store.ErrConflict)
		s.stored(t, w, s.nowhere, bob)
	})
}

// TestInsertRacesOwnInsert: an Upsert replaces it, an InsertOnly is a conflict.
func TestInsertRacesOwnInsert(t *testing.T) {
	eachSaver(t, func(t *testing.T, s saver) {
		w := newWorld(t, authz.OwnerOnly())
		w.spy.once(s.op, func() { must(t, s.save(t.Context(), w.base, s.nowhere, ada)) })
		must(t, s.save(as(t, ada), w, s.nowhere, chat.Owner{}))
		s.stored(t, w, s.nowhere, ada)

		w = newWorld(t, authz.OwnerOnly())
		w.spy.once(s.op, func() { must(t, s.save(t.Context(), w.base, s.nowhere, ada)) })
		wants(t, s.save(store.WithSaveMode(as(t, ada), store.InsertOnly), w, s.nowhere, chat.Owner{}), store.ErrConflict)
		if ops := w.spy.take(); len(ops) != 2 {
			t.Errorf("the base's calls: %v, want a look and a save", ops)
		}

		// An operator who creates for ada finds that she has.
		w = newWorld(t, authz.HasRole("op"))
		w.spy.once(s.op, func() { must(t, s.save(t.Context(), w.base, s.nowhere, ada)) })
		must(t, s.save(as(t, eve, "op"), w, s.nowhere, ada))
		s.stored(t, w, s.nowhere, ada)
	})
}

// TestSecondLookIsFresh: it must not be answered by what the write has just disproved.
func TestSecondLookIsFresh(t *testing.T) {
	eachSaver(t, func(t *testing.T, s saver) {
		w := newWorld(t, authz.OwnerOnly())
		w.spy.once(s.op, func() { must(t, s.save(t.Context(), w.base, s.nowhere, ada)) })
		must(t, s.save(as(t, ada), w, s.nowhere, chat.Owner{}))
		looks := slices.DeleteFunc(w.spy.take(), func(c call) bool { return c.op.IsWrite() })
		if len(looks) != 2 || looks[0].fresh || !looks[1].fresh {
			t.Errorf("looks: %+v", looks)
		}
	})
}

// refusingMode is a base that answers saves of one mode with an error, whatever is there.
func refusingMode(op store.Op, m store.SaveMode, err error) store.Middleware {
	return layer.Intercept("refusing", layer.InterceptorFunc(
		func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			if c.Op == op && store.SaveModeFrom(ctx) == m {
				return err
			}
			return next(ctx)
		}))
}

// TestOperatorsInsertNeverBecomesTheirOwn: a row for somebody else that cannot be inserted is not saved as the operator's.
func TestOperatorsInsertNeverBecomesTheirOwn(t *testing.T) {
	eachSaver(t, func(t *testing.T, s saver) {
		w := newWorld(t, authz.OwnerOnly())
		guarded := store.Wrap(w.base, authz.New(authz.HasRole("op")), refusingMode(s.op, store.InsertOnly, store.ErrConflict))
		wants(t, s.save(as(t, eve, "op"), guarded, s.nowhere, ada), store.ErrConflict)
		s.notStored(t, w, s.nowhere)
	})
}

// TestLastSaveNeedsBothRights: where nobody can say whether the row is there, the policy must allow the save for both.
func TestLastSaveNeedsBothRights(t *testing.T) {
	only := func(a authz.Action) authz.Policy {
		return policyFunc(func(_ context.Context, r authz.Request) (authz.Decision, error) {
			if r.Action == a && (a == authz.Create || !r.Owner.IsZero()) {
				return authz.Allow, nil
			}
			return authz.Deny, nil
		})
	}
	eachSaver(t, func(t *testing.T, s saver) {
		t.Run("who may only create", func(t *testing.T) {
			w := newWorld(t, authz.OwnerOnly())
			guarded := store.Wrap(w.base, authz.New(only(authz.Create)), refusingMode(s.op, store.InsertOnly, store.ErrConflict))
			wants(t, s.save(as(t, ada), guarded, s.nowhere, chat.Owner{}), store.ErrConflict)
			s.notStored(t, w, s.nowhere)
		})
		t.Run("who may only write", func(t *testing.T) {
			w := newWorld(t, authz.OwnerOnly())
			guarded := store.Wrap(w.base, authz.New(only(authz.Write)), layer.Intercept("spy", w.spy),
				refusingMode(s.op, store.UpdateOnly, store.ErrNotFound))
			wants(t, s.save(as(t, ada), guarded, s.there, chat.Owner{}), store.ErrDenied)
			if slices.ContainsFunc(w.spy.take(), func(c call) bool { return c.op == s.op && c.mode == store.Upsert }) {
				t.Error("saved all the same")
			}
		})
	})
}

// flicker is a row of ada's that comes and goes between every look and write of others.
type flicker struct {
	store.Store
	w world
	s saver
	t *testing.T
}

func (f flicker) flip() {
	if _, err := f.s.owner(f.t, f.w.base, f.s.there); err == nil {
		must(f.t, f.s.remove(f.t.Context(), f.w.base, f.s.there))
	} else {
		must(f.t, f.s.save(f.t.Context(), f.w.base, f.s.there, ada))
	}
}

func (f flicker) SaveThread(ctx context.Context, v chat.Thread) error {
	f.flip()
	return f.Store.SaveThread(ctx, v)
}

func (f flicker) SaveAttachment(ctx context.Context, v chat.Attachment) error {
	f.flip()
	return f.Store.SaveAttachment(ctx, v)
}

// TestOwnersUpsertOfRowThatKeepsComingAndGoing ends well.
func TestOwnersUpsertOfRowThatKeepsComingAndGoing(t *testing.T) {
	eachSaver(t, func(t *testing.T, s saver) {
		for _, startThere := range []bool{true, false} {
			w := newWorld(t, authz.OwnerOnly())
			if !startThere {
				must(t, s.remove(t.Context(), w.base, s.there))
			}
			guarded := store.Wrap(flicker{w.base, w, s, t}, authz.New(authz.OwnerOnly()))
			must(t, s.save(as(t, ada), guarded, s.there, chat.Owner{}))
			s.stored(t, w, s.there, ada)
		}
	})
}

// TestSavesOfOneIDByMany: of owners who save and delete under one id at once, the first gets it for good, no Upsert of theirs
// fails, and nobody else's ever gets through. Run with -race.
func TestSavesOfOneIDByMany(t *testing.T) {
	eachSaver(t, func(t *testing.T, s saver) {
		w := newWorld(t, authz.OwnerOnly())
		guarded := store.Wrap(w.base, authz.New(authz.OwnerOnly()))
		must(t, s.save(as(t, ada), guarded, s.nowhere, chat.Owner{}))
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for range 300 {
					switch {
					case i < 3:
						wants(t, s.save(as(t, ada), guarded, s.nowhere, chat.Owner{}), nil)
					case i < 5:
						wants(t, s.remove(as(t, ada), guarded, s.nowhere), nil)
					case i < 7:
						wants(t, s.save(as(t, eve), guarded, s.nowhere, chat.Owner{}), store.ErrConflict)
					default:
						wants(t, s.remove(as(t, eve), guarded, s.nowhere), nil)
					}
				}
			})
		}
		wg.Wait()
		must(t, s.save(as(t, ada), guarded, s.nowhere, chat.Owner{}))
		s.stored(t, w, s.nowhere, ada)
	})
}
