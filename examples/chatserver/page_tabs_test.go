package main

import (
	"context"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/internal/testenv"
)

// A second tab shows an answer word by word, also if it was opened in the middle of it. It shows nothing of another user's.
func TestASecondTabShowsTheAnswer(t *testing.T) {
	next := make(chan struct{})
	srv, b := serverFor(t, script(map[string]func(context.Context, *chatkit.Turn) error{"talk": held(next, "One", ", two", ", three.")}))
	b.say("hello")
	id := value[string](b, "location.hash.slice(1)")
	second := openTab(t, b.ctx, srv.url+"/#"+id)
	second.until(contains("#items", "You said: hello"))
	b.begin("do talk")
	second.until(contains("#items", "do talk") + " && " + contains("#progress", "Thinking"))
	release(t, next)
	second.until(contains("#items .streaming", "One") + " && document.getElementById('progress').textContent === ''")
	third := openTab(t, b.ctx, srv.url+"/#"+id)
	third.until(contains("#items .streaming", "One"))
	release(t, next)
	second.until(contains("#items .streaming", "One, two"))
	third.until(contains("#items .streaming", "One, two"))
	release(t, next)
	for _, tab := range []*browser{b, second, third} {
		tab.until(contains("#items", "One, two, three.") + " && " + count(".streaming") + " === 0 && " + count(".assistant_message") + " === 2")
		tab.clean()
	}
	b.rename("Numbers")
	second.until(contains("#threads", "Numbers"))
	b.click("#delete")
	b.click("dialog .danger")
	second.until(contains("#closed", "This conversation was deleted.") + " && document.getElementById('text').disabled")
}

// A page shows the answer that another device has asked for, when it is stored.
func TestThePageFindsAnotherDevicesAnswer(t *testing.T) {
	next := make(chan struct{})
	srv, b := serverFor(t, script(map[string]func(context.Context, *chatkit.Turn) error{"talk": held(next, "From the phone.")}))
	c := newClient(t, srv.url, "ada", testKey)
	id := testenv.Value(c.newThread(t.Context(), "hello", func(object) {}))(t)
	stored, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- c.say(t.Context(), id, "do talk", func(item object) {
			if item["type"] == "user_message" {
				close(stored)
			}
		})
	}()
	<-stored
	b.run(chromedp.Navigate(srv.url+"/#"+id), chromedp.Reload())
	b.until(contains("#items", "do talk") + " && " + contains("#progress", "No answer is stored. If one is under way, it appears here.") + " && " + count("#progress [data-act=again]") + " === 1")
	release(t, next)
	testenv.Must(t, <-done)
	b.until(contains("#items", "From the phone.") + " && document.getElementById('progress').textContent === ''")
	b.clean()
}
