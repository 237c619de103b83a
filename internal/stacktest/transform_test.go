package stacktest_test

import (
	"context"
	"errors"
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest"
	"github.com/chatstore/chatstore/storetest/faulty"
)

// sealed is a stack whose base gets every thread, item and attachment through t.
func sealed(t testing.TB, base store.Store, tr layer.Transformer) store.Store {
	return inRecommended(t, layer.Transform("seal", tr)(base), cache.New())
}

// same changes nothing, but through all functions of a Transformer.
var same = layer.Transformer{
	SaveThread:     func(_ context.Context, t chat.Thread) (chat.Thread, error) { return t, nil },
	LoadThread:     func(_ context.Context, t chat.Thread) (chat.Thread, error) { return t, nil },
	SaveItem:       func(_ context.Context, it chat.Item) (chat.Item, error) { return it, nil },
	LoadItem:       func(_ context.Context, it chat.Item) (chat.Item, error) { return it, nil },
	SaveAttachment: func(_ context.Context, a chat.Attachment) (chat.Attachment, error) { return a, nil },
	LoadAttachment: func(_ context.Context, a chat.Attachment) (chat.Attachment, error) { return a, nil },
	Lossless:       true,
}

func TestATransformInTheRecommendedStackKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		s := sealed(t, memstore.New(), same)
		t.Cleanup(func() { must(t, store.Close(s)) })
		return s
	})
}

// A lossless transform keeps the cache's patches: a turn on a cached thread reads nothing from the base. As a Rewriter it costs
// one read after each write.
func TestALosslessTransformKeepsTheCachesPatches(t *testing.T) {
	for _, lossless := range []bool{true, false} {
		base := faulty.New(memstore.New())
		tr := same
		tr.Lossless = lossless
		s := sealed(t, base, tr)
		t.Cleanup(func() { must(t, store.Close(s)) })
		seed(t, s, 30)
		ctx := caller(t.Context())
		load(t, ctx, s)
		page(t, ctx, s)
		base.Reset()
		for _, it := range []chat.Item{endOfTurn("msg_a"), endOfTurn("msg_b")} {
			must(t, s.AddThreadItem(ctx, threadID, it))
			page(t, ctx, s)
		}
		reads := base.Total() - 2
		if lossless != (reads == 0) {
			t.Errorf("lossless %v: %d reads of the base", lossless, reads)
		}
	}
}

// An error of a Transformer's save is no unknown outcome, after which the cache would hold the thread back.
func TestAFailedTransformKeepsTheThreadCached(t *testing.T) {
	base := faulty.New(memstore.New())
	tr := same
	tr.SaveItem = func(context.Context, chat.Item) (chat.Item, error) { return chat.Item{}, errors.New("no key") }
	s := sealed(t, base, tr)
	t.Cleanup(func() { must(t, store.Close(s)) })
	must(t, base.SaveThread(store.WithPrincipal(t.Context(), ada), chat.Thread{ID: threadID, CreatedAt: noon, Owner: ada.Owner}))
	ctx := caller(t.Context())
	load(t, ctx, s)
	if err := s.AddThreadItem(ctx, threadID, endOfTurn("msg_a")); store.CodeOf(err) != store.CodeInternal || !store.IsDefinite(err) {
		t.Fatal(err)
	}
	load(t, ctx, s)
	base.Reset()
	for range 100 {
		load(t, ctx, s)
	}
	if n := base.Total(); n != 0 {
		t.Errorf("100 loads after the failed save read the base %d times", n)
	}
}
