package layer_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest"
)

// losing is a Transformer whose loads fail for texts with "lost". It reports the lost rows.
func losing(cause error, lost func(ctx context.Context, threadID string, err *store.Error)) layer.Transformer {
	fail := func(doc chat.JSON) error {
		if strings.Contains(doc.String(), "lost") {
			return cause
		}
		return nil
	}
	return layer.Transformer{
		LoadThread:     func(_ context.Context, t chat.Thread) (chat.Thread, error) { return t, fail(t.JSON()) },
		LoadItem:       func(_ context.Context, it chat.Item) (chat.Item, error) { return it, fail(it.JSON()) },
		LoadAttachment: func(_ context.Context, a chat.Attachment) (chat.Attachment, error) { return a, fail(a.JSON()) },
		Lossless:       true,
		Unreadable:     lost,
	}
}

// ofEach saves four rows of each kind: the first and the third are lost.
func ofEach(t *testing.T) store.Store {
	base := memstore.New()
	for i, text := range []string{"lost", "good", "lost", "good"} {
		th, it, a := thread(text), item(text), attachment(text)
		th.ID, it.ID, a.ID = fmt.Sprint("thr_", i), fmt.Sprint("msg_", i), fmt.Sprint("atc_", i)
		it.ThreadID = ""
		testenv.Must(t, errors.Join(base.SaveThread(t.Context(), th), base.SaveItem(t.Context(), "thr_0", it), base.SaveAttachment(t.Context(), a)))
	}
	return base
}

// listed returns the ids of a walk over each kind of row in pages of this limit, and the error of the last.
func listed(ctx context.Context, s store.Store, limit int) (ids []string, err error) {
	l, _ := store.As[driver.AttachmentLister](s)
	walk(&ids, &err, limit, func(q store.PageQuery) (store.Page[chat.Thread], error) {
		return s.LoadThreads(ctx, store.ThreadQuery{PageQuery: q, Owner: store.OwnedBy(ada)})
	}, func(t chat.Thread) string { return t.ID })
	walk(&ids, &err, limit, func(q store.PageQuery) (store.Page[chat.Item], error) {
		return s.LoadThreadItems(ctx, "thr_0", q)
	}, func(it chat.Item) string { return it.ID })
	if l != nil {
		walk(&ids, &err, limit, func(q store.PageQuery) (store.Page[chat.Attachment], error) {
			return l.ListAttachments(ctx, store.ThreadQuery{PageQuery: q, Owner: store.OwnedBy(ada)})
		}, func(a chat.Attachment) string { return a.ID })
	}
	return ids, err
}

func walk[T any](ids *[]string, err *error, limit int, load func(store.PageQuery) (store.Page[T], error), id func(T) string) {
	for q := (store.PageQuery{Limit: limit, Order: store.OldestFirst}); ; {
		p, e := load(q)
		for _, row := range p.Data {
			*ids = append(*ids, id(row))
		}
		if e != nil || !p.HasMore {
			*err = errors.Join(*err, e)
			return
		}
		q.After = p.After
	}
}

func TestUnreadableRowsAreLeftOutOfPages(t *testing.T) {
	base := ofEach(t)
	want := []string{"thr_1", "thr_3", "msg_1", "msg_3", "atc_1", "atc_3"}
	for _, limit := range []int{1, 2, 3, 100} {
		lost := map[string]int{}
		note := func(_ context.Context, threadID string, err *store.Error) {
			if err.Code != store.CodeInternal {
				t.Errorf("got %v", err)
			}
			lost[threadID+" "+err.Kind+" "+err.ID]++
		}
		s := store.Wrap(base, layer.Transform("lose", losing(errors.New("no key"), note)))
		got, err := listed(t.Context(), s, limit)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("limit %d: got %v, %v", limit, got, err)
		}
		rows := slices.Sorted(maps.Keys(lost))
		if fmt.Sprint(rows) != "[ attachment atc_0  attachment atc_2  thread thr_0  thread thr_2 thr_0 item msg_0 thr_0 item msg_2]" {
			t.Errorf("limit %d: reported were %v", limit, rows)
		}
		clear(lost)
		// Walks of whole stores, such as an export, must not lack rows unnoticed.
		if _, err := listed(store.WithNoStore(t.Context()), s, limit); store.CodeOf(err) != store.CodeInternal || len(lost) > 0 {
			t.Errorf("limit %d: under WithNoStore: %v, reported were %v", limit, err, lost)
		}
		_, errT := s.LoadThread(t.Context(), "thr_0")
		_, errI := s.LoadItem(t.Context(), "thr_0", "msg_0")
		_, errA := s.LoadAttachment(t.Context(), "atc_0")
		for _, err := range []error{errT, errI, errA} {
			if store.CodeOf(err) != store.CodeInternal || len(lost) > 0 {
				t.Errorf("a load of the row alone: %v, reported were %v", err, lost)
			}
		}
	}
}

// A key service that is away would make every list empty.
func TestOnlyInternalErrorsLeaveRowsOut(t *testing.T) {
	base := ofEach(t)
	for _, cause := range []error{store.ErrUnavailable, context.Canceled, context.DeadlineExceeded} {
		tr := losing(cause, func(_ context.Context, _ string, err *store.Error) { t.Error("left out", err) })
		if _, err := listed(t.Context(), store.Wrap(base, layer.Transform("away", tr)), 100); store.CodeOf(err) != store.CodeOf(cause) {
			t.Errorf("%v: got %v", cause, err)
		}
	}
	off := store.Wrap(base, layer.Transform("off", losing(errors.New("no key"), nil)))
	if _, err := listed(t.Context(), off, 100); store.CodeOf(err) != store.CodeInternal {
		t.Errorf("without Unreadable: %v", err)
	}
}

// A cache above must not patch a list that lacks rows. An unreadable item that is saved again keeps its place among items of its
// time. The list does not show that place.
func TestACacheAboveUnreadableShowsTheBasesOrder(t *testing.T) {
	ctx := store.WithPrincipal(t.Context(), store.Principal{Owner: ada})
	ignore := func(context.Context, string, *store.Error) {}
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 0))
		bare := store.Wrap(memstore.New(), layer.Transform("lose", losing(errors.New("no key"), ignore)))
		s := store.Wrap(bare, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New(cache.WithWindow(5)))
		th := thread("good")
		th.ID = "thr_0"
		testenv.Must(t, s.SaveThread(ctx, th))
		for range 40 {
			it := item([]string{"lost", "good"}[r.IntN(2)])
			it.ID, it.ThreadID, it.CreatedAt = fmt.Sprint("msg_", r.IntN(8)), "", noon.Add(time.Duration(r.IntN(2))*time.Second)
			switch r.IntN(3) {
			case 0:
				testenv.Must(t, s.DeleteThreadItem(ctx, "thr_0", it.ID))
			default:
				if err := s.SaveItem(ctx, "thr_0", it); err != nil {
					t.Fatal(err)
				}
			}
			limit := 1 + r.IntN(9)
			got, err := listed(ctx, s, limit)
			want, errBare := listed(ctx, struct{ store.Store }{bare}, limit)
			if err != nil || errBare != nil || !slices.Equal(got, want) {
				t.Fatalf("seed %d: got %v, %v; the base has %v, %v", seed, got, err, want, errBare)
			}
		}
	}
}

func TestATransformWithUnreadableKeepsTheContract(t *testing.T) {
	tr := losing(errors.New("no key"), func(context.Context, string, *store.Error) {})
	for _, layers := range [][]store.Middleware{{}, {authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New()}} {
		storetest.Run(t, func(*testing.T) store.Store {
			return store.Wrap(memstore.New(), append(slices.Clip(layers), layer.Transform("lose", tr))...)
		}, storetest.WithVersionsRequired())
	}
	if _, rewrites := store.As[layer.Rewriter](store.Wrap(memstore.New(), layer.Transform("lose", tr))); !rewrites {
		t.Error("it is no Rewriter")
	}
}
