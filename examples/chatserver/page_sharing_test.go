package main

import (
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/internal/testenv"
)

// The owner shares a conversation with the keyboard. The other user finds it, reads it, writes in it, and is told when that ends.
func TestThePageSharesAConversation(t *testing.T) {
	srv, ada := serverFor(t, nil)
	c := newClient(t, srv.url, "ada", testKey)
	waits := testenv.Value(c.newThread(t.Context(), "/tool", func(object) {}))(t) // for a tool of ada's page
	c.wantStatus(t, 200, "PUT", "/shared/"+waits, `{"user":"grace","role":"viewer"}`)
	grace := newBrowser(t, srv.url)
	grace.become("grace")
	dir := t.TempDir()
	if *screenshot != "" {
		dir = filepath.Dir(*screenshot)
	}
	pictures := func(b *browser, name string) {
		b.t.Helper()
		for _, window := range []struct {
			name, scheme string
			resize       func()
		}{
			{"phone", "light", func() { b.resize(390, 844, chromedp.EmulateMobile) }}, {"desktop", "dark", func() { b.resize(1280, 800) }},
		} {
			b.media(window.scheme)
			window.resize()
			b.painted()
			b.fits()
			b.picture(filepath.Join(dir, name+"-"+window.name+".png"))
		}
	}
	refresh := func(b *browser) { b.do("document.dispatchEvent(new Event('visibilitychange'))") } // as if the user came back to the tab
	const read, write = "ada shares this conversation with you. You can read it.", "ada shares this conversation with you. You can write in it."
	shown := func(ids string) string {
		return "[...document.querySelectorAll('.tools button')].filter((b) => !b.hidden && b.id !== 'toggle').map((b) => b.id).join(' ') === '" + ids + "'"
	}

	// The page of a user who can only read runs no tool. It would do that before it says what the user can do.
	grace.do("location.hash = '" + waits + "'")
	grace.until(contains("#closed", read) + " && " + count("[data-type=client_tool_call] form") + " === 1")
	if value[bool](grace, "document.getElementById('items').ariaBusy === 'true' || document.querySelector('.failure') !== null") {
		t.Error("the page of a viewer ran a tool")
	}
	c.wantStatus(t, 200, "PUT", "/shared/"+waits, `{"user":"grace","role":"none"}`)
	grace.run(chromedp.Reload())
	grace.until(contains("#items", "There is no such conversation."))

	ada.until(shown(""))
	ada.say("/title Our plan")
	ada.until(contains("#title", "Our plan") + " && " + shown("rename share delete"))
	open := func() {
		ada.do("document.getElementById('share').focus()")
		ada.enter(0)
		ada.until("document.activeElement.matches('dialog select')")
	}
	leave := func() {
		ada.run(chromedp.KeyEvent(kb.Escape))
		ada.until(count("dialog") + " === 0 && document.activeElement.id === 'share'")
	}
	choose := func(key, says string) {
		open()
		ada.run(chromedp.KeyEvent(key))
		ada.until(contains("dialog [role=status]", says))
	}
	choose(kb.ArrowDown, "Saved. grace: can read.")
	pictures(ada, "share")
	ada.intercept(`"role":"editor"`, false)
	ada.run(chromedp.KeyEvent(kb.ArrowDown))
	ada.until(contains("dialog .failure", "Not saved. The server cannot be reached.") + " && document.querySelector('dialog select').value === 'viewer'")
	ada.do("window.mend()")
	leave()

	refresh(grace)
	grace.until(contains("#threads section:first-child", "Shared with you") + " && " + contains("#threads", "by ada"))
	grace.run(chromedp.SendKeys(chromedp.CSS("#search"), "plan x"))
	grace.until(count("#threads li") + " === 0 && " + contains("#listed", "No conversation has this title."))
	grace.do("{ const s = document.getElementById('search'); s.value = 'PLAN'; s.dispatchEvent(new Event('input')); }")
	grace.click("#threads button")
	grace.until(contains("#closed", read) + " && document.getElementById('text').disabled && " + contains("#items", "/title Our plan") + " && " + shown(""))
	grace.until("[...document.querySelectorAll('[data-act=retry]')].every((b) => !b.checkVisibility())")
	pictures(grace, "shared")

	// The page finds by itself what others write, and what it may do now.
	choose(kb.ArrowDown, "Saved. grace: can write.")
	leave()
	ada.say("hello from ada")
	grace.until(contains("#items", "You said: hello from ada") + " && " + contains("#closed", write) + " && !document.getElementById('text').disabled && " + shown("rename"))
	grace.rename("Her plan")
	grace.until(contains("#title", "Her plan") + " && " + contains("#threads", "Her plan"))
	grace.say("hello from grace")
	ada.until(contains("#items", "You said: hello from grace") + " && " + contains("#title", "Her plan"))

	// A page that does not know it yet is told by the next refusal. The message stays. A hidden page does not ask by itself.
	grace.do("Object.defineProperty(document, 'hidden', { value: true })")
	choose(kb.ArrowUp, "Saved. grace: can read.")
	grace.begin("may I?")
	grace.until(contains("#closed", read) + " && " + contains(".unsent .bubble", "may I?") + " && " + contains(".unsent", "Not sent. You are not allowed to do this."))
	ada.run(chromedp.KeyEvent(kb.ArrowUp))
	ada.until(contains("dialog [role=status]", "Saved. grace: no access."))
	grace.click("[data-act=feedback]")
	grace.until(contains("#closed", "ada no longer shares this conversation with you.") + " && document.getElementById('text').disabled && " + shown("") +
		" && " + count("#threads li") + " === 0 && " + contains("#items", "hello from ada"))
	ada.clean()
	grace.cleanExcept("403", "404")
}

// The page offers the commands of the demo only if the demo answers. Without it, a starter asks a plain question.
func TestThePageOffersTheCommandsOfTheDemoOnly(t *testing.T) {
	_, b := serverFor(t, func(c *config) { c.responder = struct{ chatkit.Responder }{c.responder} })
	b.until("document.getElementById('text').placeholder === 'Message'")
	b.click(".starters button")
	b.until(contains("#items", "You said: What can you help me with?"))
	b.become("grace")
	b.until("document.querySelector('.empty') !== null && document.getElementById('text').placeholder === 'Message'")
	b.clean()
}
