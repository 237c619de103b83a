package main

import (
	"context"
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/internal/testenv"
)

// A visit elsewhere neither ends an answer nor loses a message, and shows nothing of them there. Stop and Escape end the answer of
// the open conversation only.
func TestThePageGoesOnWhileTheUserIsElsewhere(t *testing.T) {
	next, last := make(chan struct{}), make(chan struct{})
	srv, b := serverFor(t, script(map[string]func(context.Context, *chatkit.Turn) error{
		"talk": held(next, "One", ", two", ", three."),
		"more": held(last, "One", ", two"), // the responder that was stopped may still wait for next
	}))
	other := testenv.Value(newClient(t, srv.url, "ada", testKey).newThread(t.Context(), "elsewhere", func(object) {}))(t)
	b.say("hello")
	id := value[string](b, "location.hash.slice(1)")
	visit := func(id, shows string) {
		t.Helper()
		b.do("location.hash = '" + id + "'")
		b.until(contains("#items", "You said: "+shows))
	}

	b.begin("do talk")
	release(t, next)
	b.until(contains("#items .streaming", "One"))
	visit(other, "elsewhere")
	b.until("document.getElementById('stop').hidden && " + count("#items .streaming") + " === 0")
	b.say("meanwhile")
	b.run(chromedp.KeyEvent(kb.Escape))
	release(t, next)
	b.until(contains("#items", "You said: meanwhile"))
	visit(id, "hello")
	b.until(contains("#items .streaming", "One, two") + " && !document.getElementById('stop').hidden")
	release(t, next)
	b.until(contains("#items", "One, two, three.") + " && " + count(".streaming") + " === 0")
	b.idle()
	if users, answers := value[int](b, count(".user_message")), value[int](b, count(".assistant_message")); users != 2 || answers != 2 {
		t.Errorf("%d messages and %d answers, want 2 and 2:\n%s", users, answers, b.text("#items"))
	}

	// A message that fails while the user is elsewhere waits in its own conversation. So does a draft.
	b.do(`(() => {
		const real = window.fetch;
		window.fetch = async (url, init) => {
			if (!String(init?.body).includes("add_user_message")) return real(url, init);
			await new Promise((go) => { window.lose = go; });
			window.fetch = real;
			throw new TypeError("gone");
		};
	})()`)
	b.begin("lost words")
	b.until(contains(".sending", "lost words") + " && typeof window.lose === 'function'")
	visit(other, "elsewhere")
	b.do("window.lose()")
	b.until("document.getElementById('offline').hidden")
	b.say("still here")
	if value[bool](b, contains("#items", "lost words")) {
		t.Errorf("a message of another conversation:\n%s", b.text("#items"))
	}
	visit(id, "hello")
	b.until(contains(".unsent", "lost words") + " && " + contains(".unsent", "Not sent. The server cannot be reached."))
	b.press(".unsent [data-act=edit]")
	b.until("document.getElementById('text').value === 'lost words'")
	visit(other, "elsewhere")
	b.until("document.getElementById('text').value === ''")
	visit(id, "hello")
	b.until("document.getElementById('text').value === 'lost words'")
	b.become("grace")
	b.until("document.querySelector('.empty') !== null && document.getElementById('text').value === ''")
	b.become("ada")
	b.until(count("#threads li") + " === 2")
	visit(id, "hello")
	b.until("document.getElementById('text').value === ''")

	// Escape in the search ends no answer. A stop before the first word leaves no answer, and the keyboard its place.
	b.begin("do talk")
	release(t, next)
	b.until(contains("#items .streaming", "One"))
	b.do("document.getElementById('search').focus()")
	b.run(chromedp.KeyEvent(kb.Escape))
	release(t, next)
	b.until(contains("#items .streaming", "One, two"))
	b.do("document.getElementById('text').focus()")
	b.run(chromedp.KeyEvent(kb.Escape))
	b.idle()
	b.begin("do talk")
	b.until(count(".assistant_message.streaming") + " === 1 && " + count(".user_message") + " === 4")
	b.click("#stop")
	b.idle()
	b.until(count(".assistant_message") + " === 3 && document.activeElement.id === 'text'")

	// A change of user ends the answers.
	b.begin("do more")
	release(t, last)
	b.until(contains("#items .streaming", "One"))
	b.become("grace")
	b.until("document.querySelector('.empty') !== null && document.getElementById('stop').hidden")
	b.become("ada")
	b.until(count("#threads li") + " === 2")
	visit(id, "hello")
	if value[bool](b, "!document.getElementById('stop').hidden") {
		t.Error("the answer went on after a change of user")
	}
	b.clean()
}

// An answer about the time before the user's last step undoes nothing. The page asks again.
func TestThePageIgnoresLateAnswers(t *testing.T) {
	srv, b := serverFor(t, nil)
	// late holds back the next answer to a request, and looks again at what the server has.
	late := func(request string) {
		t.Helper()
		b.do(fmt.Sprintf(`(() => {
			const real = window.fetch;
			window.late = null;
			window.fetch = async (url, init) => {
				const res = await real(url, init);
				if (window.late || !(init?.body ?? String(url)).includes(%q)) return res;
				await new Promise((go) => { window.late = () => { window.fetch = real; go(); }; });
				return res;
			};
			document.dispatchEvent(new Event("reconnected"));
		})()`, request))
		b.until("typeof window.late === 'function'")
	}
	arrive := func() { b.do("window.late(); fetch('/session').then(() => fetch('/session'))") }

	b.say("hello")
	late("items.list")
	testenv.Must(t, newClient(t, srv.url, "ada", testKey).say(t.Context(), value[string](b, "location.hash.slice(1)"), "from my phone", func(object) {}))
	b.say("and more")
	arrive()
	b.until(contains("#items", "You said: from my phone"))
	if n := value[int](b, count(".user_message")); n != 3 {
		t.Errorf("%d messages, want 3:\n%s", n, b.text("#items"))
	}

	second := openTab(t, b.ctx, srv.url+"/#"+value[string](b, "location.hash.slice(1)"))
	second.until(count(".user_message") + " === 3")
	late("items.list")
	second.say("from my other tab")
	b.until(contains("#items", "You said: from my other tab"))
	arrive()
	if n := value[int](b, count(".user_message")); n != 4 {
		t.Errorf("%d messages after one in another tab, want 4:\n%s", n, b.text("#items"))
	}

	late("/session")
	b.become("grace")
	arrive()
	if user := value[string](b, "document.getElementById('user').value"); user != "grace" {
		t.Errorf("the user is %s again", user)
	}
	b.clean()
}
