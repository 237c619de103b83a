package chatkit_test

import (
	"context"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/internal/testenv"
)

// times returns the ids of a page's rows with their times.
func times(v any) string {
	var all []string
	for _, row := range v.([]any) {
		r := row.(object)
		all = append(all, r["id"].(string)+" "+r["created_at"].(string))
	}
	return strings.Join(all, ", ")
}

// The Python SDK stores the local time of its server without a zone. A browser would read it as the local time of its user.
func TestATimeWithoutAZoneIsOfTheServersZone(t *testing.T) {
	g := newRig(t, script{})
	r := script{respond: func(ctx context.Context, turn *chatkit.Turn) error {
		turn.Thread.Title = "Tea"
		it, err := turn.History(ctx, 100)
		if err != nil {
			return err
		}
		return turn.Emit(ctx, chatkit.ItemReplaced{Item: it[0]})
	}}
	const naive = "2026-07-01T12:30:00.5"
	for _, id := range []string{"thr", "winter"} {
		at := map[string]string{"thr": naive, "winter": "2026-01-01 12:00:00"}[id]
		th := testenv.Value(chat.ParseThread(`{"id":"` + id + `","created_at":"` + at + `","status":{"type":"active"},"metadata":{}}`))(t)
		testenv.Must(t, g.s.SaveThread(ada, th))
	}
	testenv.Must(t, g.s.SaveThread(ada, testenv.Value(chat.ParseThread(`{"id":"new","created_at":"2026-07-01T10:31:00Z"}`))(t)))
	const body = `"type":"assistant_message","content":[]`
	g.put("i1", naive, body)
	g.put("i2", "2026-07-01T10:31:00Z", body)
	g.put("i3", "2026-07-01T12:32:00+02:00", body)
	g.put("i4", "2026-07-01T05:33:00-05:00", body)

	for _, want := range []struct{ zone, items, threads string }{
		{"",
			"i2 2026-07-01T10:31:00Z, i3 2026-07-01T12:32:00+02:00, i4 2026-07-01T05:33:00-05:00, i1 2026-07-01T12:30:00.5Z",
			"thr 2026-07-01T12:30:00.5Z, new 2026-07-01T10:31:00Z, winter 2026-01-01T12:00:00Z",
		},
		{"Europe/Berlin",
			"i1 2026-07-01T10:30:00.5Z, i2 2026-07-01T10:31:00Z, i3 2026-07-01T12:32:00+02:00, i4 2026-07-01T05:33:00-05:00",
			"new 2026-07-01T10:31:00Z, thr 2026-07-01T10:30:00.5Z, winter 2026-01-01T11:00:00Z",
		},
	} {
		var loc *time.Location // nil is UTC
		if want.zone != "" {
			loc = testenv.Value(time.LoadLocation(want.zone))(t)
		}
		g.h = chatkit.NewHandler(g.s, r, chatkit.WithZone(loc))
		_, thread := g.ask("ada", "threads.get_by_id", object{"thread_id": "thr"})
		if got := times(thread["items"].(object)["data"]); got != want.items {
			t.Errorf("%q: the items of get_by_id are %s, want %s", want.zone, got, want.items)
		}
		_, page := g.ask("ada", "items.list", object{"thread_id": "thr", "order": "asc"})
		if got := times(page["data"]); got != want.items {
			t.Errorf("%q: the items are %s, want %s", want.zone, got, want.items)
		}
		_, page = g.ask("ada", "threads.list", object{})
		if got := times(page["data"]); got != want.threads {
			t.Errorf("%q: the threads are %s, want %s", want.zone, got, want.threads)
		}
	}
	all := g.stream("ada", "threads.add_user_message", message("hello"))
	wantTypes(t, all, "thread.item.done stream_options thread.item.replaced thread.updated")
	th := all[3]["thread"].(object)
	if got := th["created_at"]; got != "2026-07-01T10:30:00.5Z" {
		t.Errorf("the event has a thread of %v", got)
	}
	if it := testenv.Value(g.s.LoadItem(ada, "thr", "i1"))(t); !strings.Contains(it.JSON().String(), naive+`"`) {
		t.Errorf("the stored item became %s", it.JSON())
	}
}
