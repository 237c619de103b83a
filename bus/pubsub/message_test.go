package pubsub_test

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/bus/pubsub"
	"github.com/chatstore/chatstore/internal/rules"
)

func TestDecode(t *testing.T) {
	long := strings.Repeat("x", 257)
	for payload, want := range map[string][]bus.Change{
		`{"t":["thr_1"]}`: {{ThreadID: "thr_1"}},
		`{"t":["thr_1","thr_2"],"a":["atc_1"],"o":"cache","w":18446744073709551615}`: {
			{ThreadID: "thr_1", AttachmentID: "atc_1", Origin: "cache", Write: math.MaxUint64},
			{ThreadID: "thr_2", Origin: "cache", Write: math.MaxUint64},
		},
		`{"all":true,"o":"cache"}`:                         {{All: true, Origin: "cache"}},
		`{"t":["thr_1"],"more":[{"a":["atc_1"],"w":2}]}`:   {{ThreadID: "thr_1"}, {AttachmentID: "atc_1", Write: 2}},
		`{"more":[{"t":["thr_1"]}],"of":"later versions"}`: {{ThreadID: "thr_1"}},
		`{"t":["thr_1"],"ot":"acme","os":"ada"}`:           {{ThreadID: "thr_1"}}, // unknown members
		`{"t":["` + "\uFFFD" + `"]}`:                       {{ThreadID: "\uFFFD"}},
		`{"p":"a","n":1,"h":1,"k":"c"}`:                    nil,
		`{"p":"a","n":0,"bye":true}`:                       nil,
	} {
		got, err := pubsub.Decode(payload)
		if err != nil || !reflect.DeepEqual(got.Changes, want) {
			t.Errorf("%s: got %+v, %v", payload, got.Changes, err)
		}
	}
	for _, payload := range []string{
		``, `x`, `null`, `{}`, `[]`, `"x"`, `{"t":["thr_1"]`, `{"t":["thr_1"]} {}`, `{"t":"thr_1"}`, `{"t":[1]}`,
		`{"t":[""]}`, `{"t":[null]}`, `{"a":[""]}`, `{"t":["a\n"]}`, `{"a":["` + long + `"]}`, `{"t":["` + "\xff" + `"]}`, `{"t":["\ud800"]}`,
		`{"o":"cache","w":1}`, `{"more":[{}]}`, `{"t":["thr_1"],"o":"` + long + `"}`, `{"t":["thr_1"],"w":-1}`, `{"t":["thr_1"],"w":1.5}`,
		`{"t":["thr_1"],"n":1}`, `{"t":["thr_1"],"p":"a"}`, `{"t":["thr_1"],"p":"a","n":1,"h":1}`, `{"t":["thr_1"],"bye":true,"p":"a","n":1}`,
		`{"n":1,"h":1}`, `{"bye":true}`, `{"p":"a","n":1}`, `{"p":"` + long + `","h":1}`,
	} {
		if m, err := pubsub.Decode(payload); !errors.Is(err, pubsub.ErrUndecodable) {
			t.Errorf("%q: got %+v, %v", payload, m, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"t":["thr_1","thr_2"],"a":["atc_1"],"o":"cache","w":3,"p":"a","n":1}`, `{"all":true,"more":[{"t":["x"],"ot":"acme","os":"ada"}]}`,
		`{"p":"a","n":1,"h":1,"k":"c"}`, `{"p":"a","bye":true}`, `{"t":["\ud800"]}`, "{\"t\":[\"\xff\"]}", `{"T":["x"],"t":[]}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		m, err := pubsub.Decode(payload)
		if err != nil {
			if !errors.Is(err, pubsub.ErrUndecodable) || !reflect.DeepEqual(m, pubsub.Message{}) {
				t.Fatalf("got %+v, %v", m, err)
			}
			return
		}
		for _, c := range m.Changes {
			if c.ThreadID == "" && c.AttachmentID == "" && !c.All {
				t.Fatalf("decoded an empty change: %+v", c)
			}
			for _, id := range []string{c.ThreadID, c.AttachmentID} {
				if id != "" && rules.IDFault(id) != "" {
					t.Fatalf("decoded an invalid id: %q", id)
				}
			}
		}
		again, err := pubsub.Encode(m)
		if err != nil {
			t.Fatalf("%+v was decoded, but cannot be encoded: %v", m, err)
		}
		if back, err := pubsub.Decode(again); err != nil || !reflect.DeepEqual(back, m) {
			t.Fatalf("%+v became %+v, %v", m, back, err)
		}
	})
}
