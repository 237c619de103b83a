package main

import (
	"context"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/internal/testenv"
)

// A message appears before the server has answered, then the page says that the assistant thinks, until the first word.
func TestThePageShowsAMessageAtOnce(t *testing.T) {
	next := make(chan struct{})
	_, b := serverFor(t, script(map[string]func(context.Context, *chatkit.Turn) error{"talk": held(next, "First words", ", last words.")}))
	b.do(`(() => {
		const real = window.fetch;
		window.gate = new Promise((go) => { window.go = go; });
		window.fetch = async (url, init) => { if (String(init?.body).includes("threads.create")) await window.gate; return real(url, init); };
	})()`)
	b.begin("do talk")
	b.until(contains(".user_message.sending", "do talk") + " && " + contains("#progress", "Thinking") + " && document.getElementById('text').value === ''")
	b.do("window.go()")
	b.until(count(".sending") + " === 0 && " + count(".user_message") + " === 1 && " + contains("#progress", "Thinking"))
	release(t, next)
	b.until(contains(".assistant_message", "First words") + " && document.getElementById('progress').textContent === ''")
	release(t, next)
	b.until(contains(".assistant_message", "First words, last words."))
	b.idle()
	b.until(contains("#title", "New conversation") + " && " + contains("#threads", "New conversation")) // the responder gives no title
	b.clean()
}

// A message that the server did not take stays in the conversation, also after the next one, and is sent once.
func TestThePageKeepsWhatWasNotSent(t *testing.T) {
	_, b := serverFor(t, nil)
	for _, thread := range []string{"threads.create", "threads.add_user_message"} {
		// The request did not reach the server.
		b.intercept(thread, false)
		b.begin("first words of " + thread)
		b.until(contains(".unsent", "Not sent. The server cannot be reached.") + " && " + contains(".unsent .bubble", "first words"))
		b.press(".unsent [data-act=again]")
		b.until("window.tried === 2 && " + contains(".unsent", "Not sent.") + " && document.getElementById('items').ariaBusy !== 'true'")
		b.do("window.mend()")
		b.press(".unsent [data-act=again]")
		b.until(contains("#items", "You said: first words of "+thread) + " && " + count(".unsent") + " === 0")
		b.idle()
		// The request reached the server, and the answer was lost.
		if thread == "threads.create" {
			b.click("#new")
			b.until(count(".empty") + " === 1")
		}
		b.intercept(thread, true)
		b.begin("second words of " + thread)
		b.until(contains(".unsent", "Not sent."))
		b.do("window.mend()")
		b.press(".unsent [data-act=again]")
		b.until(contains("#items", "You said: second words of "+thread) + " && " + count(".unsent") + " === 0")
		b.idle()
	}
	b.run(chromedp.Reload())
	b.until(contains("#items", "You said: second words of threads.add_user_message"))
	if n := value[int](b, count(".user_message")); n != 3 {
		t.Fatalf("%d messages, want 3:\n%s", n, b.text("#items"))
	}
	b.until(count("#threads button") + " === 2")

	// A message can be edited instead. What was not sent is there after a visit elsewhere, and after the next message.
	b.intercept("add_user_message", false)
	b.begin("typo")
	b.until(contains(".unsent", "Not sent."))
	b.do("window.mend()")
	b.say("next")
	b.until(contains("#items", "You said: next") + " && " + contains(".unsent .bubble", "typo"))
	b.click("#threads section:last-child li:last-child button")
	b.until(count(".unsent") + " === 0")
	b.click("#threads section:first-child li:first-child button")
	b.until(contains(".unsent .bubble", "typo"))
	b.press(".unsent [data-act=edit]")
	b.until("document.getElementById('text').value === 'typo' && " + count(".unsent") + " === 0")

	// Where trying again cannot help, the page does not offer it.
	b.begin("")
	b.do("document.getElementById('text').value = 'long '.repeat(300_000)")
	b.enter(0)
	b.until(contains(".unsent", "Not sent. The message is too long.") + " && !document.querySelector('.unsent [data-act=again]').checkVisibility()")
	b.cleanExcept("413")
}

// A failed answer stays until it is tried again or dismissed. Trying it again asks before it removes later messages.
func TestThePageKeepsFailures(t *testing.T) {
	fail := true
	_, b := serverFor(t, script(map[string]func(context.Context, *chatkit.Turn) error{
		"break": func(ctx context.Context, t *chatkit.Turn) error {
			if fail {
				return chatkit.Failure{Code: "custom", Message: "The kettle is broken.", AllowRetry: true}
			}
			return saying("Mended.")(ctx, t)
		},
	}))
	b.say("do break")
	b.until(contains("li.failure", "The kettle is broken."))
	b.say("something else")
	b.until(contains("#items", "You said: something else") + " && " + contains("li.failure", "The kettle is broken."))
	b.click("li.failure [data-act=again]")
	b.until(contains("dialog", "This removes the messages after it."))
	b.run(chromedp.KeyEvent("\x1b"))
	b.until(count("dialog") + " === 0 && " + contains("#items", "something else") + " && " + count("li.failure") + " === 1")
	fail = false
	b.click("li.failure [data-act=again]")
	b.click("dialog .danger")
	b.until(contains("#items", "Mended.") + " && " + count("li.failure") + " === 0 && !" + contains("#items", "something else"))
	b.idle()
	b.say("/fail")
	b.until(contains("li.failure", "The kettle is broken."))
	b.click("li.failure [data-act=dismiss]")
	b.until(count("li.failure") + " === 0 && document.activeElement.id === 'text'")
	b.clean()
}

// The page says that it is offline, and goes on by itself: it then shows what has happened in between.
func TestThePageSaysThatItIsOffline(t *testing.T) {
	srv, b := serverFor(t, nil)
	b.say("hello")
	id := value[string](b, "location.hash.slice(1)")
	emulate := func(offline bool) {
		testenv.Value(chromedp.Call(b.ctx, network.OverrideNetworkState, network.OverrideNetworkStateParams{
			Offline: offline, DownloadThroughput: -1, UploadThroughput: -1,
		}))(t)
		testenv.Value(chromedp.Call(b.ctx, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{
			MatchedNetworkConditions: []*network.Conditions{{Offline: offline, DownloadThroughput: -1, UploadThroughput: -1}},
		}))(t)
	}
	emulate(true)
	b.until("!document.getElementById('offline').hidden && " + contains("#offline", "You are offline."))
	b.begin("are you there?")
	b.until(contains(".unsent", "Not sent. You are offline."))

	c := newClient(t, srv.url, "ada", testKey)
	testenv.Must(t, c.say(t.Context(), id, "from my phone", func(object) {}))
	emulate(false)
	b.until("document.getElementById('offline').hidden && " + contains("#items", "You said: from my phone"))
	b.press(".unsent [data-act=again]")
	b.until(contains("#items", "You said: are you there?") + " && " + count(".unsent") + " === 0")
	b.cleanExcept("ERR_INTERNET_DISCONNECTED", "Failed to load resource")
}
