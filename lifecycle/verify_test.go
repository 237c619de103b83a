package lifecycle_test

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
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
)

type differences map[lifecycle.Difference]int

func verified(t *testing.T, to, from store.Store, opts ...lifecycle.Option) differences {
	t.Helper()
	found := differences{}
	for d, err := range lifecycle.Verify(t.Context(), to, from, opts...) {
		testenv.Must(t, err)
		found[d]++
	}
	return found
}

// pair has two stores with random rows.
type pair struct {
	t        *testing.T
	r        *rand.Rand
	from, to store.Store
}

func (p pair) either() store.Store { return []store.Store{p.from, p.to}[p.r.IntN(2)] }

func (p pair) second(n int) time.Time { return noon.Add(time.Duration(p.r.IntN(n)) * time.Second) }

func (p pair) thread(id string) chat.Thread {
	return chat.Thread{ID: id, CreatedAt: p.second(2), Title: fmt.Sprint(p.r.IntN(2)), Owner: ada}
}

func (p pair) item(id string) chat.Item {
	text := []chat.AssistantContent{{Text: fmt.Sprint(p.r.IntN(2))}}
	return testenv.OrPanic(chat.NewItem(id, p.second(2), chat.AssistantMessage{Content: text}))
}

func (p pair) attachment(id string) chat.Attachment {
	return testenv.OrPanic(chat.NewAttachment(id, chat.AttachmentBody{Type: "file", Name: fmt.Sprint(p.r.IntN(2)), MIMEType: "text/plain"}))
}

// alter makes a random write to s. It ignores conflicts.
func (p pair) alter(s store.Store) {
	p.t.Helper()
	ctx := context.Background()
	id := func(kind string, n int) string { return fmt.Sprint(kind, p.r.IntN(n)) }
	var err error
	switch thread := id("thr_", 4); p.r.IntN(11) {
	case 9, 10: // the same item, behind those of its time
		var it chat.Item
		if it, err = s.LoadItem(ctx, thread, id("msg_", 6)); err == nil {
			err = errors.Join(s.DeleteThreadItem(ctx, thread, it.ID), s.AddThreadItem(ctx, thread, it))
		}
	case 0:
		err = s.DeleteThread(ctx, thread)
	case 1:
		err = s.SaveThread(ctx, p.thread(thread))
	case 2:
		err = s.SaveAttachment(ctx, p.attachment(id("atc_", 4)))
	case 3:
		err = s.DeleteAttachment(ctx, id("atc_", 4))
	case 4, 5:
		err = s.DeleteThreadItem(ctx, thread, id("msg_", 6))
	default:
		err = s.SaveItem(ctx, thread, p.item(id("msg_", 6)))
	}
	if err != nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
		p.t.Error(err)
	}
}

// newPair returns two stores with the same rows.
func newPair(t *testing.T, seed uint64) pair {
	p := pair{t, rand.New(rand.NewPCG(seed, 0)), memstore.New(), memstore.New()}
	for range 30 {
		p.alter(p.from)
	}
	_, err := lifecycle.Import(t.Context(), p.to, strings.NewReader(exported(t, p.from)))
	testenv.Must(t, err)
	return p
}

// snapshot returns the rows of s by their place in a Difference, and the items of each thread in order.
func snapshot(t *testing.T, s store.Store) (rows map[lifecycle.Difference][2]string, items map[string][]chat.Item) {
	t.Helper()
	rows, items = map[lifecycle.Difference][2]string{}, map[string][]chat.Item{}
	for th, err := range lifecycle.Threads(t.Context(), s, store.AnyOwner()) {
		testenv.Must(t, err)
		rows[lifecycle.Difference{Kind: store.RowThread, ID: th.ID}] = [2]string{th.JSON().String(), fmt.Sprint(th.Owner)}
		for it, err := range lifecycle.Items(t.Context(), s, th.ID) {
			testenv.Must(t, err)
			rows[lifecycle.Difference{Kind: store.RowItem, ThreadID: th.ID, ID: it.ID}] = [2]string{it.JSON().String()}
			items[th.ID] = append(items[th.ID], it)
		}
	}
	for a, err := range lifecycle.Attachments(t.Context(), s, store.AnyOwner()) {
		testenv.Must(t, err)
		rows[lifecycle.Difference{Kind: store.RowAttachment, ID: a.ID}] = [2]string{a.JSON().String(), fmt.Sprint(a.Owner)}
	}
	return rows, items
}

// wanted returns the differences of two stores that are not written to.
func wanted(t *testing.T, to, from store.Store) differences {
	t.Helper()
	all := differences{}
	have, haveItems := snapshot(t, to)
	rows, items := snapshot(t, from)
	for d := range maps.Keys(have) {
		if _, ok := rows[d]; !ok {
			rows[d] = [2]string{}
		}
	}
	for d, row := range rows {
		if d.Kind == store.RowItem {
			thread := lifecycle.Difference{Kind: store.RowThread, ID: d.ThreadID}
			if have[thread] == [2]string{} || rows[thread] == [2]string{} {
				continue
			}
		}
		switch other := have[d]; {
		case row == other:
			continue
		case other == [2]string{}:
			d.What = "missing"
		case row == [2]string{}:
			d.What = "only here"
		case row[1] == other[1]:
			d.What = "document"
		case row[0] == other[0]:
			d.What = "owner"
		default:
			d.What = "document and owner"
		}
		all[d] = 1
	}
	for id := range items {
		// The items that both have at the same time, in the order of each.
		common := func(of, others []chat.Item) (ids []string) {
			for _, it := range of {
				if slices.ContainsFunc(others, func(o chat.Item) bool { return o.ID == it.ID && o.CreatedAt.Equal(it.CreatedAt) }) {
					ids = append(ids, it.ID)
				}
			}
			return ids
		}
		if !slices.Equal(common(items[id], haveItems[id]), common(haveItems[id], items[id])) {
			all[lifecycle.Difference{Kind: store.RowThread, ID: id, What: "order"}] = 1
		}
	}
	return all
}

func TestVerifyFindsExactlyTheDifferences(t *testing.T) {
	kinds := map[string]int{}
	for seed := range uint64(400) {
		p := newPair(t, seed)
		if got := verified(t, p.to, p.from); len(got) != 0 {
			t.Fatalf("seed %d: of equal stores, got %v", seed, got)
		}
		for range p.r.IntN(20) {
			p.alter(p.either())
		}
		if p.r.IntN(4) == 0 {
			th := p.thread("thr_own")
			testenv.Must(t, p.to.SaveThread(t.Context(), th))
			th.Owner, th.Title = bob, fmt.Sprint(p.r.IntN(2))
			testenv.Must(t, p.from.SaveThread(t.Context(), th))
		}
		want := wanted(t, p.to, p.from)
		if got := verified(t, p.to, p.from); !maps.Equal(got, want) {
			t.Fatalf("seed %d: got %v, want %v", seed, got, want)
		}
		for d := range want {
			kinds[d.Kind+" "+d.What]++
		}
	}
	if len(kinds) != 12 {
		t.Errorf("the seeds had the differences %v", kinds)
	}
}

// hot makes a random write to rows that only hot writes to. Their times are other rows' times never.
func (p pair) hot(s store.Store) {
	p.t.Helper()
	ctx := context.Background()
	n := p.r.IntN(3)
	hot, file := p.item(fmt.Sprint("msg_hot", n)), p.attachment(fmt.Sprint("atc_hot", n))
	hot.CreatedAt = noon.Add(time.Duration(n-10) * time.Hour)
	thread := p.thread(fmt.Sprint("thr_hot", n))
	var err error
	switch in := fmt.Sprint("thr_", p.r.IntN(4)); p.r.IntN(8) {
	case 0, 1:
		err = s.SaveItem(ctx, in, hot)
	case 2:
		err = s.DeleteThreadItem(ctx, in, hot.ID)
	case 3: // the same thread, with another title
		var old chat.Thread
		if old, err = s.LoadThread(ctx, "thr_3"); err == nil {
			old.Title += "."
			err = s.SaveThread(ctx, old)
		}
	case 4:
		err = s.SaveThread(ctx, thread)
	case 5:
		err = s.DeleteThread(ctx, thread.ID)
	case 6:
		err = s.SaveItem(ctx, thread.ID, p.item("msg_1"))
	case 7:
		err = errors.Join(s.DeleteAttachment(ctx, file.ID), s.SaveAttachment(ctx, file))
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		p.t.Error(err)
	}
}

// written returns s with hot writes before and after its calls.
func (p pair) written(s store.Store, hot func()) store.Store {
	return store.Wrap(s, layer.Intercept("written", layer.InterceptorFunc(
		func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			for p.r.IntN(3) == 0 {
				hot()
			}
			err := next(ctx)
			for p.r.IntN(3) == 0 {
				hot()
			}
			return err
		})))
}

// Rows that no writer changes are listed exactly if they differ, while writers change other rows.
func TestVerifyWhileStoresAreWritten(t *testing.T) {
	listed := 0
	for seed := range uint64(400) {
		p := newPair(t, seed)
		for range p.r.IntN(20) {
			p.alter(p.either())
		}
		if seed%10 == 0 { // an item walk of several pages, whose thread is deleted and made again
			for _, s := range []store.Store{p.from, p.to} {
				testenv.Must(t, s.SaveThread(t.Context(), p.thread("thr_hot0")))
				for i := range 250 {
					testenv.Must(t, s.AddThreadItem(t.Context(), "thr_hot0", p.item(fmt.Sprint("msg_", i))))
				}
			}
		}
		cold := func(d lifecycle.Difference) bool {
			return !strings.Contains(d.ID+d.ThreadID, "hot") && (d.ID != "thr_3" || d.What != "document")
		}
		want := wanted(t, p.to, p.from)
		hot := func() { p.hot(p.from) }
		if seed%2 == 0 {
			hot = func() { p.hot(p.either()) }
		}
		got := verified(t, p.written(p.to, hot), p.written(p.from, hot))
		for d := range want {
			if n := got[d]; n == 1 || !cold(d) {
				continue
			}
			busy := d
			if busy.What = "changing"; d.What != "order" || got[busy] != 1 {
				t.Fatalf("seed %d: %v is not listed once: %v", seed, d, got)
			}
		}
		for d := range got {
			busy := d
			if busy.What = "order"; cold(d) && want[d] == 0 && (d.What != "changing" || want[busy] == 0) {
				t.Fatalf("seed %d: %v is listed, and only %v differ", seed, d, want)
			}
			listed++
		}
	}
	if listed < 1000 {
		t.Errorf("%d differences listed", listed)
	}
}

// twins returns two stores with the same thread and its items. They are in another order at the second, if swapped.
func twins(t *testing.T, swapped bool) (to, from store.Store) {
	to, from = memstore.New(), memstore.New()
	for _, s := range []store.Store{to, from} {
		testenv.Must(t, s.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: noon}))
		for i := range 3 {
			if swapped && s == to {
				i = 2 - i
			}
			it := testenv.OrPanic(chat.NewItem(fmt.Sprint("msg_", i), noon, chat.EndOfTurn{}))
			testenv.Must(t, s.AddThreadItem(t.Context(), "thr_1", it))
		}
	}
	return to, from
}

// before returns s with f called before each call of this op.
func before(s store.Store, op store.Op, f func()) store.Store {
	return store.Wrap(s, layer.Intercept("before", layer.InterceptorFunc(
		func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			if c.Op == op {
				f()
			}
			return next(ctx)
		})))
}

func TestVerifyListsWhatAlwaysChangesAsChanging(t *testing.T) {
	to, from := twins(t, true)
	n := 0
	source := before(from, store.OpLoadThread, func() {
		n++
		testenv.Must(t, from.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: noon, Title: fmt.Sprint(n)}))
	})
	got := verified(t, to, source)
	want := differences{{Kind: store.RowThread, ID: "thr_1", What: "changing"}: 1}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	testenv.Must(t, to.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: noon, Title: "another"}))
	got = verified(t, to, source)
	want[lifecycle.Difference{Kind: store.RowThread, ID: "thr_1", What: "changing"}]++ // the document and the order
	if !maps.Equal(got, want) || n < 40 {
		t.Errorf("got %v, want %v; %d writes", got, want, n)
	}
}

// An item that is deleted and added again between the walks of the two stores stands last in one of them.
func TestVerifyListsAnOrderOnlyOfOneVersion(t *testing.T) {
	to, from := twins(t, false)
	again := func(s store.Store) {
		it := testenv.Value(s.LoadItem(t.Context(), "thr_1", "msg_0"))(t)
		testenv.Must(t, errors.Join(s.DeleteThreadItem(t.Context(), "thr_1", "msg_0"), s.AddThreadItem(t.Context(), "thr_1", it)))
	}
	done := false
	target := before(to, store.OpLoadThreadItems, func() {
		if !done { // the walk of the source has begun
			again(from)
			again(to)
			done = true
		}
	})
	if got := verified(t, target, from); len(got) != 0 || !done {
		t.Errorf("got %v", got)
	}
	again(to)
	again(to)
	want := differences{{Kind: store.RowThread, ID: "thr_1", What: "order"}: 1}
	unversioned := store.Wrap(from, layer.Intercept("unversioned", layer.InterceptorFunc(
		func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			return next(layer.Own(ctx))
		})))
	testenv.Must(t, to.DeleteThreadItem(t.Context(), "thr_1", "msg_2"))
	testenv.Must(t, to.AddThreadItem(t.Context(), "thr_1", testenv.Value(from.LoadItem(t.Context(), "thr_1", "msg_2"))(t)))
	for name, s := range map[string]store.Store{"versions": from, "no versions": unversioned} {
		if got := verified(t, to, s); !maps.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

// An error of any call ends the sequence. A sequence that ends without one has listed all.
func TestVerifyEndsWithTheErrorOfEitherStore(t *testing.T) {
	var p pair
	var want differences
	// A pair with a thread, an order, an item and an attachment that differ.
	for seed, kinds := uint64(0), map[string]bool{}; len(kinds) < 4; seed++ {
		p = newPair(t, seed)
		for range 20 {
			p.alter(p.either())
		}
		want = wanted(t, p.to, p.from)
		clear(kinds)
		for d := range want {
			if kinds[d.Kind] = true; d.What == "order" {
				kinds[d.What] = true
			}
		}
	}
	for _, op := range []store.Op{store.OpLoadThread, store.OpLoadThreads, store.OpLoadItem, store.OpLoadThreadItems, store.OpLoadAttachment} {
		for i := range 2 {
			failing := [2]store.Store{p.to, p.from}
			f := faulty.New(failing[i])
			failing[i] = f
			ended := false
			for after := 0; !ended; after++ {
				f.Reset()
				f.Inject(faulty.Fault{Op: op, Skip: after, Times: 1, Do: faulty.Fail(store.ErrUnavailable)})
				got, errs := differences{}, 0
				for d, err := range lifecycle.Verify(t.Context(), failing[0], failing[1]) {
					if errs > 0 {
						t.Fatal("the sequence went on after its error")
					}
					if err == nil {
						got[d]++
						continue
					}
					if errs++; !errors.Is(err, store.ErrUnavailable) || d != (lifecycle.Difference{}) {
						t.Errorf("got %v with %v", err, d)
					}
				}
				if ended = errs == 0; ended && !maps.Equal(got, want) {
					t.Errorf("%v: without an error, got %v, want %v", op, got, want)
				}
				if ended && after == 0 {
					t.Errorf("%v: no call failed", op)
				}
			}
		}
	}
	for got, err := range lifecycle.Verify(t.Context(), p.to, p.from) {
		if _, listed := want[got]; err != nil || !listed {
			t.Error(got, err)
		}
		break
	}
}

func TestVerifyTellsItsProgress(t *testing.T) {
	from := memstore.New()
	fill(t, from)
	var last lifecycle.Counts
	calls := 0
	progress := lifecycle.WithProgress(func(c lifecycle.Counts) { calls, last = calls+1, c })
	verified(t, memstore.New(), from, progress)
	if want := (lifecycle.Counts{Threads: 4, Attachments: 4}); last != want || calls != 5 {
		t.Errorf("got %+v after %d calls, want %+v", last, calls, want)
	}
	verified(t, from, from, lifecycle.WithoutAttachments(), progress)
	if want := (lifecycle.Counts{Threads: 4, Items: 504}); last != want || calls != 9 {
		t.Errorf("got %+v after %d calls, want %+v", last, calls, want)
	}
	for _, err := range lifecycle.Verify(t.Context(), from, struct{ store.Store }{from}) {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Error("got", err)
		}
	}
}
