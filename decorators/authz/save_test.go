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
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// saver is SaveThread or SaveAttachment, which have the same rules of owners.
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
		t.Errorf("the owner of %s is %v, %v, want %v", id, o, err, want)
	}
}

func (s saver) notStored(t *testing.T, w world, id string) {
	t.Helper()
	if o, err := s.owner(t, w.base, id); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("%s is stored with the owner %v, %v, want no row", id, o, err)
	}
}

// TestSaveModes checks that save modes work as without this layer, and that a new row always gets an owner.
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

// TestModesGivenToTheBase checks that an existing row is saved UpdateOnly and a new one InsertOnly.
func TestModesGivenToTheBase(t *testing.T) {
	eachSaver(t, func(t *testing.T, s saver) {
		w := newWorld(t, authz.AnyOf(authz.OwnerOnly(), authz.HasRole("op")))
		must(t, s.save(as(t, ada), w, s.there, chat.Owner{}))
		must(t, s.save(as(t, ada), w, s.nowhere, chat.Owner{}))
		must(t, s.save(store.WithSaveMode(as(t, ada), store.UpdateOnly), w, s.there, chat.Owner{}))
		saves := slices.DeleteFunc(w.spy.take(), func(c call) bool { return c.op != s.op })
		want := []call{{op: s.op, mode: store.UpdateOnly}, {op: s.op, mode: store.InsertOnly}, {op: s.op, mode: store.UpdateOnly}}
		if !slices.Equal(saves, want) {
			t.Errorf("the base's saves: %v, want %v", saves, want)
		}
	})
}

// TestOwnerComesFromTheStoredRow checks that a save never changes the owner.
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

// TestInsertForAnotherOwner checks that the policy decides for which owners a caller may insert rows.
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

// TestUnownedRowIsNobodys checks that only HasRole gives access to a row without an owner. Grants and TenantAdmin do not, and no
// caller can become its owner.
func TestUnownedRowIsNobodys(t *testing.T) {
	eachSaver(t, func(t *testing.T, s saver) {
		w := newWorld(t, authz.AnyOf(granting("ada", sharing.Editor), authz.TenantAdmin("admin"), authz.HasRole("op")))
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

// TestEditorsSaveCannotOutrunOwnersDelete checks that a concurrent save of an editor does not restore a deleted row.
func TestEditorsSaveCannotOutrunOwnersDelete(t *testing.T) {
	for _, mode := range []store.SaveMode{store.Upsert, store.UpdateOnly} {
		for _, owner := range []chat.Owner{{}, ada} {
			w := newWorld(t, granting("bob", sharing.Editor))
			w.spy.once(store.OpSaveThread, func() { must(t, w.base.DeleteThread(t.Context(), thr)) })
			wants(t, w.SaveThread(store.WithSaveMode(as(t, bob), mode), thread(thr, owner)), store.ErrNotFound)
			wants(t, errOf(w.base.LoadThread(t.Context(), thr)), store.ErrNotFound)
		}
	}
}

// TestOperatorsSaveCannotOutrunOwnersDelete checks the same for a role that may create rows for other owners.
func TestOperatorsSaveCannotOutrunOwnersDelete(t *testing.T) {
	eachSaver(t, func(t *testing.T, s saver) {
		w := newWorld(t, authz.HasRole("op"))
		w.spy.once(s.op, func() { must(t, s.remove(t.Context(), w.base, s.there)) })
		wants(t, s.save(as(t, eve, "op"), w, s.there, chat.Owner{}), store.ErrNotFound)
		s.notStored(t, w, s.there)
	})
}

// TestOwnersUpsertAfterTheirDelete checks that an owner's Upsert inserts the row again, and that UpdateOnly does not.
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

// TestInsertRacesAnothersInsert checks that the other owner's row stays as it is.
func TestInsertRacesAnothersInsert(t *testing.T) {
	eachSaver(t, func(t *testing.T, s saver) {
		w := newWorld(t, authz.AnyOf(authz.OwnerOnly(), authz.HasRole("op")))
		w.spy.once(s.op, func() { must(t, s.save(t.Context(), w.base, s.nowhere, eve)) })
		wants(t, s.save(as(t, ada), w, s.nowhere, chat.Owner{}), store.ErrConflict)
		s.stored(t, w, s.nowhere, eve)

		// An operator creates a row for ada, but bob has just created it.
		w = newWorld(t, authz.AnyOf(authz.OwnerOnly(), authz.HasRole("op")))
		w.spy.once(s.op, func() { must(t, s.save(t.Context(), w.base, s.nowhere, bob)) })
		wants(t, s.save(as(t, eve, "op"), w, s.nowhere, ada), store.ErrConflict)
		s.stored(t, w, s.nowhere, bob)
	})
}

// TestInsertRacesOwnInsert checks that an Upsert replaces the caller's other insert, and that InsertOnly is a conflict.
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

		// An operator creates a row for ada, but she has just created it.
		w = newWorld(t, authz.HasRole("op"))
		w.spy.once(s.op, func() { must(t, s.save(t.Context(), w.base, s.nowhere, ada)) })
		must(t, s.save(as(t, eve, "op"), w, s.nowhere, ada))
		s.stored(t, w, s.nowhere, ada)
	})
}

// TestSecondLookIsFresh checks that the second load does not come from a cache, whose entry is out of date.
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

// refusingMode returns err for every save in mode m.
func refusingMode(op store.Op, m store.SaveMode, err error) store.Middleware {
	return layer.Intercept("refusing", layer.InterceptorFunc(
		func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			if c.Op == op && store.SaveModeFrom(ctx) == m {
				return err
			}
			return next(ctx)
		}))
}

// TestOperatorsInsertNeverBecomesTheirOwn checks that a failed insert for another owner is not saved as the operator's row.
func TestOperatorsInsertNeverBecomesTheirOwn(t *testing.T) {
	eachSaver(t, func(t *testing.T, s saver) {
		w := newWorld(t, authz.OwnerOnly())
		guarded := store.Wrap(w.base, authz.New(authz.HasRole("op")), refusingMode(s.op, store.InsertOnly, store.ErrConflict))
		wants(t, s.save(as(t, eve, "op"), guarded, s.nowhere, ada), store.ErrConflict)
		s.notStored(t, w, s.nowhere)
	})
}

// TestLastSaveNeedsBothRights checks the save that is left to the base: the policy must allow both to create and to write.
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
				t.Error("an Upsert reached the base")
			}
		})
	})
}

// flicker is a base in which ada's row appears or disappears before every save.
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

// TestOwnersUpsertOfRowThatKeepsComingAndGoing checks that the Upsert succeeds.
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

// TestSavesOfOneIDByMany checks concurrent saves and deletes of one id by two owners. The id stays with its first owner, whose
// calls all succeed. The other owner's saves are conflicts. Run it with -race.
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
