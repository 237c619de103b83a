package stacktest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

// sharedStack wraps base, which keeps grants, in the recommended stack with Shared.
func sharedStack(base sharing.Store) store.Store {
	p := authz.AnyOf(authz.OwnerOnly(), authz.Shared(base))
	return parts{policy: p, share: true}.wrap(base, "tracing", "metrics", "authz", "cache", "metrics")
}

func TestTheRecommendedStackWithSharedConforms(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		s := sharedStack(sharing.New(memstore.New()))
		t.Cleanup(func() { must(t, store.Close(s)) })
		return s
	}, storetest.WithVersionsRequired())
}

// twoProcesses is a random history of ada's thread, in two processes without a bus. So the cache of each can have old rows.
type twoProcesses struct {
	t         *testing.T
	r         *rand.Rand
	base      sharing.Store
	processes [2]store.Store
	step      int
	grants    map[sharing.Grantee]int // the step of each
	was       []map[string]string     // the base's answers after each step, by read
	log       []string
}

var (
	bobs       = store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "bob"}, Roles: []string{"staff"}}
	bobsGrants = []sharing.Grantee{{Tenant: "acme", Subject: "bob"}, {Tenant: "acme", Group: "staff"}, {Tenant: "acme"}}
)

// sharedReads are the reads of the history. Each returns the answer as a text.
var sharedReads = map[string]func(context.Context, store.Store) string{
	"LoadThread": func(ctx context.Context, s store.Store) string {
		th, err := s.LoadThread(ctx, threadID)
		return th.Title + " " + store.CodeOf(err).String()
	},
	"LoadItem": func(ctx context.Context, s store.Store) string {
		it, err := s.LoadItem(ctx, threadID, "msg_1")
		return it.JSON().String() + " " + store.CodeOf(err).String()
	},
	"LoadThreadItems": func(ctx context.Context, s store.Store) string {
		page, err := s.LoadThreadItems(ctx, threadID, store.PageQuery{})
		text := store.CodeOf(err).String()
		for _, it := range page.Data {
			text += " " + it.JSON().String()
		}
		return text
	},
	"LoadAttachment": func(ctx context.Context, s store.Store) string {
		a, err := s.LoadAttachment(ctx, "atc_1")
		return a.JSON().String() + " " + store.CodeOf(err).String()
	},
}

// do makes one random step.
func (p *twoProcesses) do() {
	p.step++
	ctx, in := store.WithPrincipal(p.t.Context(), ada), p.r.IntN(2)
	s := p.processes[in]
	to := bobsGrants[p.r.IntN(len(bobsGrants))]
	text := fmt.Sprint("text ", p.step)
	var err error
	did := ""
	switch p.r.IntN(9) {
	case 0, 1:
		did, err = "save thread", s.SaveThread(ctx, chat.Thread{ID: threadID, Title: text, CreatedAt: noon})
	case 2, 3:
		it := testenv.OrPanic(chat.NewItem("msg_1", noon, chat.AssistantMessage{Content: []chat.AssistantContent{{Type: "output_text", Text: text}}}))
		did, err = "save item", s.SaveItem(ctx, threadID, it)
	case 4:
		did, err = "delete thread", s.DeleteThread(ctx, threadID)
		clear(p.grants)
	case 5:
		a := testenv.OrPanic(chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "file", Name: text, MIMEType: "text/plain"}))
		if a.ThreadID = threadID; p.r.IntN(3) == 0 {
			a.ThreadID = ""
		}
		did, err = "save attachment in "+a.ThreadID, s.SaveAttachment(ctx, a)
	case 6, 7:
		did = fmt.Sprint("grant to ", to)
		// The guarded Share would ask a cache whether the thread exists.
		if err = p.base.Grant(ctx, sharing.Grant{ThreadID: threadID, To: to, Role: sharing.Viewer, By: ada.Owner}); err == nil {
			p.grants[to] = p.step
		}
	case 8:
		did, err = fmt.Sprint("revoke from ", to), p.base.Revoke(ctx, threadID, to)
		delete(p.grants, to)
	}
	if code := store.CodeOf(err); code != store.CodeOK && code != store.CodeNotFound {
		p.t.Fatal(err)
	}
	p.log = append(p.log, fmt.Sprintf("%d. in process %d: %s: %v", p.step, in, did, err))
	now := map[string]string{}
	for name, read := range sharedReads {
		now[name] = read(ctx, p.base)
	}
	p.was = append(p.was, now)
}

// read makes one random read, by ada or bob, and checks that bob sees no more than he may.
func (p *twoProcesses) read() {
	in := p.r.IntN(2)
	for name, read := range sharedReads {
		read(store.WithPrincipal(p.t.Context(), ada), p.processes[p.r.IntN(2)]) // fills a cache
		ctx := store.WithPrincipal(p.t.Context(), bobs)
		if p.r.IntN(2) == 0 {
			ctx, _ = store.WithVersions(ctx)
		}
		got := read(ctx, p.processes[in])
		since := 0
		for _, step := range p.grants {
			since = max(since, step)
		}
		ok := strings.TrimSpace(got) == "not_found" || got == "ok" // the answers without rows
		if since > 0 && name == "LoadAttachment" {
			a, err := p.base.LoadAttachment(ctx, "atc_1")
			if now := p.was[p.step-1][name]; err == nil && a.ThreadID != "" {
				ok = ok || got == now
			}
		} else if since > 0 {
			ok = false
			for _, was := range p.was[since-1:] {
				ok = ok || got == was[name]
			}
		}
		if !ok {
			p.t.Fatalf("bob has a grant since step %d (0: none), and %s in process %d shows\n%s\n%s", since, name, in, got, strings.Join(p.log, "\n"))
		}
	}
}

// Bob sees nothing without a grant, and with one nothing that is older than it, also if a cache has older rows.
func TestAGrantShowsNothingOlderThanItself(t *testing.T) {
	for seed := range uint64(tries(3000, 300)) {
		base := sharing.New(memstore.New())
		p := &twoProcesses{t: t, r: rand.New(rand.NewPCG(seed, 0)), base: base, grants: map[sharing.Grantee]int{}}
		for i := range p.processes {
			p.processes[i] = store.Wrap(base, authz.New(authz.AnyOf(authz.OwnerOnly(), authz.Shared(base)), authz.ShareBelow()), cache.New())
		}
		for range 30 {
			p.do()
			if p.r.IntN(2) == 0 {
				p.read()
			}
		}
		must(t, store.Close(p.processes[:]...))
	}
}
