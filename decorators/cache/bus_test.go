package cache_test

import (
	"context"
	"sync"
	"testing"

	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

func TestTwoCachesOnALocalBusAgree(t *testing.T) {
	base, bus := memstore.New(), cache.LocalBus()
	a := store.Wrap(base, cache.New(cache.WithBus(bus)))
	b := store.Wrap(base, cache.New(cache.WithBus(bus)))
	defer store.Close(a, b)
	fill(t, base, 3)
	must(t, a.SaveAttachment(t.Context(), attachment(t, "atc_1", "one")))
	for range 3 {
		warm(t, a)
		warm(t, b)
		get[store.Attachment](t)(b.LoadAttachment(t.Context(), "atc_1"))
		th := get[store.Thread](t)(a.LoadThread(t.Context(), "thr_1"))
		th.Title += "!"
		must(t, a.SaveThread(t.Context(), th))
		if got := get[store.Thread](t)(b.LoadThread(t.Context(), "thr_1")); got.Title != th.Title {
			t.Errorf("the other cache still answers %q, saved was %q", got.Title, th.Title)
		}
	}
	must(t, a.DeleteAttachment(t.Context(), "atc_1"))
	if _, err := b.LoadAttachment(t.Context(), "atc_1"); store.CodeOf(err) != store.CodeNotFound {
		t.Errorf("the other cache still has a deleted attachment: %v", err)
	}
}

// A cache's own message must not undo its own patch.
func TestOnesOwnMessageIsNotForeign(t *testing.T) {
	base, p := memstore.New(), &probe{}
	s := store.Wrap(base, cache.New(cache.WithBus(cache.LocalBus())), store.Intercept("probe", p))
	defer store.Close(s)
	fill(t, base, 3)
	warm(t, s)
	if n := p.readsOf(func() { turn(t, s, 0) }); n != 0 {
		t.Errorf("a warm turn on a bus cost %d base reads", n)
	}
}

// handBus is a Bus that a test moves by hand.
type handBus struct {
	mu        sync.Mutex
	f         func(store.Change)
	connected func(bool)
	sent      []store.Change
}

func (b *handBus) Publish(_ context.Context, c store.Change) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent = append(b.sent, c)
	return nil
}

func (b *handBus) Subscribe(_ context.Context, f func(store.Change), connected func(bool)) func() {
	b.f, b.connected = f, connected
	return func() {}
}

func TestNothingIsServedWhileTheBusIsAway(t *testing.T) {
	base, p, bus := memstore.New(), &probe{}, &handBus{}
	s := store.Wrap(base, cache.New(cache.WithBus(bus)), store.Intercept("probe", p))
	defer store.Close(s)
	fill(t, base, 3)
	warm2 := func() { warm(t, s); warm(t, s) }
	if n := p.readsOf(warm2); n != 4 {
		t.Errorf("before the first connection: %d base reads of 4", n)
	}
	bus.connected(true)
	if n := p.readsOf(warm2); n != 2 {
		t.Errorf("connected: %d base reads of 2", n)
	}
	bus.connected(false)
	if n := p.readsOf(warm2); n != 4 {
		t.Errorf("cut off: %d base reads of 4", n)
	}
	bus.connected(true)
	if n := p.readsOf(warm2); n != 2 {
		t.Errorf("connected again: %d base reads of 2: what was from before the gap must go", n)
	}
}

// A load that was under way when a gap opened must not be stored after it has closed: emptying the LRU is not enough.
func TestAGapMovesTheWordsOfLoadsUnderWay(t *testing.T) {
	for _, c := range []struct {
		name string
		gap  func(*handBus)
	}{
		{"reconnect", func(b *handBus) { b.connected(false); b.connected(true) }},
		{"change of the thread", func(b *handBus) { b.f(store.Change{ThreadID: "thr_1"}) }},
		{"change of all", func(b *handBus) { b.f(store.Change{All: true}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			base, p, bus := memstore.New(), &probe{}, &handBus{}
			s := store.Wrap(base, cache.New(cache.WithBus(bus)), store.Intercept("probe", p))
			defer store.Close(s)
			fill(t, base, 3)
			bus.connected(true)
			loaded, gate, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
			p.set(func(ctx context.Context, _ store.Call, next func(context.Context) error) error {
				err := next(ctx)
				close(loaded)
				<-gate
				return err
			})
			go func() { defer close(done); s.LoadThread(t.Context(), "thr_1") }()
			<-loaded
			p.set(nil)
			must(t, base.SaveThread(t.Context(), store.Thread{ID: "thr_1", Title: "elsewhere", CreatedAt: noon}))
			c.gap(bus)
			close(gate)
			<-done
			if th := get[store.Thread](t)(s.LoadThread(t.Context(), "thr_1")); th.Title != "elsewhere" {
				t.Errorf("a load from before the change was stored: %q", th.Title)
			}
		})
	}
}

func TestAWriteWithAnUnknownOutcomeIsAnnouncedUnstamped(t *testing.T) {
	base, p, bus := memstore.New(), &probe{}, &handBus{}
	s := store.Wrap(base, cache.New(cache.WithBus(bus)), store.Intercept("probe", p))
	defer store.Close(s)
	fill(t, base, 1)
	must(t, s.SaveThread(t.Context(), store.Thread{ID: "thr_1", CreatedAt: noon}))
	if err := s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_0", 0)); store.CodeOf(err) != store.CodeConflict {
		t.Fatal(err)
	}
	p.set(func(context.Context, store.Call, func(context.Context) error) error { return store.ErrUnavailable })
	_ = s.SaveThread(t.Context(), store.Thread{ID: "thr_1", CreatedAt: noon})
	if len(bus.sent) != 2 {
		t.Fatalf("sent %+v; want the success and the unknown, not the conflict", bus.sent)
	}
	if ok := bus.sent[0]; ok.ThreadID != "thr_1" || ok.Write == 0 || ok.Origin == "" {
		t.Errorf("a success was announced as %+v", ok)
	}
	if unknown := bus.sent[1]; unknown.ThreadID != "thr_1" || unknown.Write != 0 {
		t.Errorf("an unknown outcome was announced as %+v", unknown)
	}
}

// What carries this cache's name but no number is not known to have moved its words at the right time.
func TestAnUnstampedMessageOfOnesOwnIsForeign(t *testing.T) {
	base, p, bus := memstore.New(), &probe{}, &handBus{}
	s := store.Wrap(base, cache.New(cache.WithBus(bus)), store.Intercept("probe", p))
	defer store.Close(s)
	bus.connected(true)
	fill(t, base, 1)
	must(t, s.SaveThread(t.Context(), store.Thread{ID: "thr_1", CreatedAt: noon}))
	own := bus.sent[0]
	for _, c := range []struct {
		write uint64
		reads int64
	}{{own.Write, 0}, {0, 1}} {
		get[store.Thread](t)(s.LoadThread(t.Context(), "thr_1"))
		own.Write = c.write
		bus.f(own)
		if n := p.readsOf(func() { get[store.Thread](t)(s.LoadThread(t.Context(), "thr_1")) }); n != c.reads {
			t.Errorf("after a message of write %d, a read cost %d base reads, want %d", c.write, n, c.reads)
		}
	}
}
