package store_test

import (
	"strings"
	"testing"

	"github.com/chatstore/chatstore/store"
)

var (
	nobody = store.Owner{}
	ada    = store.Owner{Tenant: "acme", Subject: "ada"}
	bob    = store.Owner{Tenant: "acme", Subject: "bob"}
	solo   = store.Owner{Subject: "ada"}
	owners = []store.Owner{nobody, ada, bob, solo, {Tenant: "other", Subject: "ada"}}
)

func TestOwnerFilters(t *testing.T) {
	for _, c := range []struct {
		name string
		f    store.OwnerFilter
		want []store.Owner
	}{
		{"the zero filter is never everybody", store.OwnerFilter{}, []store.Owner{nobody}},
		{"OwnedBy nobody is the zero filter", store.OwnedBy(nobody), []store.Owner{nobody}},
		{"OwnedBy", store.OwnedBy(ada), []store.Owner{ada}},
		{"InTenant", store.InTenant("acme"), []store.Owner{ada, bob}},
		{"InTenant of no tenant has no unowned rows", store.InTenant(""), []store.Owner{solo}},
		{"AnyOwner", store.AnyOwner(), owners},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []store.Owner
			for _, o := range owners {
				if c.f.Match(o) {
					got = append(got, o)
				}
			}
			if len(got) != len(c.want) {
				t.Fatalf("matches %v, want %v", got, c.want)
			}
			for i := range got {
				if got[i] != c.want[i] {
					t.Errorf("matches %v, want %v", got, c.want)
				}
			}
		})
	}
}

// An intersection matches exactly what both match, and says so when that can be nothing.
func TestIntersect(t *testing.T) {
	filters := []store.OwnerFilter{{}, store.OwnedBy(ada), store.OwnedBy(bob), store.OwnedBy(solo), store.InTenant("acme"),
		store.InTenant("other"), store.InTenant(""), store.AnyOwner()}
	for _, f := range filters {
		for _, g := range filters {
			both, ok := f.Intersect(g)
			for _, o := range owners {
				want := f.Match(o) && g.Match(o)
				if got := ok && both.Match(o); got != want {
					t.Errorf("%+v and %+v on %+v: %v, want %v", f, g, o, got, want)
				}
			}
		}
	}
}

func TestGeneratedIDs(t *testing.T) {
	for _, c := range []struct {
		ids  store.IDGenerator
		hex  int
		name string
	}{{store.DefaultIDs{}, 8, "DefaultIDs"}, {store.LongIDs{}, 32, "LongIDs"}} {
		seen := map[string]bool{}
		check := func(id, prefix string) {
			t.Helper()
			rest, ok := strings.CutPrefix(id, prefix)
			if !ok || len(rest) != c.hex || strings.Trim(rest, "0123456789abcdef") != "" || seen[id] {
				t.Errorf("%s: %q; want %s and %d hex digits, never twice", c.name, id, prefix, c.hex)
			}
			seen[id] = true
		}
		check(c.ids.GenerateThreadID(t.Context()), "thr_")
		for kind, prefix := range map[store.ItemKind]string{
			store.KindMessage: "msg_", store.KindToolCall: "tc_", store.KindTask: "tsk_", store.KindWorkflow: "wf_",
			store.KindAttachment: "atc_", store.KindSDKHiddenContext: "shcx_", "unheard_of": "msg_",
		} {
			check(c.ids.GenerateItemID(t.Context(), kind, store.Thread{}), prefix)
		}
	}
}

func TestKindOf(t *testing.T) {
	for typ, want := range map[store.ItemType]store.ItemKind{
		store.TypeUserMessage: store.KindMessage, store.TypeAssistantMessage: store.KindMessage,
		store.TypeClientToolCall: store.KindToolCall, store.TypeWidget: store.KindMessage,
		store.TypeGeneratedImage: store.KindMessage, store.TypeStructuredInput: store.KindMessage,
		store.TypeTask: store.KindTask, store.TypeWorkflow: store.KindWorkflow,
		store.TypeHiddenContext: store.KindMessage, store.TypeSDKHiddenContext: store.KindSDKHiddenContext,
		store.TypeEndOfTurn: store.KindMessage, "unheard_of": store.KindMessage,
	} {
		if got := store.KindOf(typ); got != want {
			t.Errorf("KindOf(%s) is %s, want %s", typ, got, want)
		}
	}
}
