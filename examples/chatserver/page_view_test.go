package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/examples/chatserver/identity"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
)

const atEnd = "(() => { const s = document.getElementById('scroll'); return s.scrollHeight > s.clientHeight && s.scrollHeight - s.scrollTop - s.clientHeight < 2; })()"

// The view follows the end, also when a picture arrives late, but not after the user has scrolled up. A button leads back.
func TestThePageFollowsTheEnd(t *testing.T) {
	next := make(chan struct{})
	_, b := serverFor(t, script(map[string]func(context.Context, *chatkit.Turn) error{
		"talk": held(next, strings.Repeat("line\n\n", 60), strings.Repeat("more\n\n", 60), "last"),
	}))
	b.begin("do talk")
	release(t, next)
	b.until(contains("#items", "line") + " && " + atEnd)
	b.do("document.getElementById('scroll').scrollTop = 100")
	b.until("!document.getElementById('newest').hidden")
	release(t, next)
	b.until(contains("#items", "more"))
	b.painted()
	if at := value[int](b, "Math.round(document.getElementById('scroll').scrollTop)"); at != 100 {
		t.Errorf("the view moved from 100 to %d", at)
	}
	b.click("#newest")
	b.until(atEnd + " && document.getElementById('newest').hidden")
	release(t, next)
	b.idle()
	b.until(contains("#items li:last-child", "last") + " && " + atEnd)
	b.say("/image")
	b.until("document.querySelector('[data-type=generated_image] img')?.naturalWidth > 0 && " + atEnd)
	b.do("document.querySelector('[data-type=generated_image] img').style.height = '900px'") // it arrives late
	b.until(atEnd)
	b.clean()
}

// The list has groups by date, and a search that loads further pages. Names and deletions are asked for in the page's dialogs.
func TestThePageGroupsAndSearchesTheList(t *testing.T) {
	ada := store.WithPrincipal(t.Context(), store.Principal{Owner: chat.Owner{Tenant: identity.Tenant, Subject: "ada"}})
	_, b := serverFor(t, func(c *config) {
		c.wrap = func(base store.Store, bb bus.Bus, reg prometheus.Registerer, tp trace.TracerProvider) (store.Store, error) {
			s, err := wrap(base, bb, reg, tp)
			if err != nil {
				return nil, err
			}
			noon := time.Now().Truncate(24 * time.Hour).Add(12 * time.Hour)
			for i := range 140 {
				th := chat.Thread{ID: fmt.Sprintf("thr_%03d", i), Title: fmt.Sprintf("Tea %03d", i), CreatedAt: noon.AddDate(0, 0, -i)}
				if i == 135 {
					th.Title = "The Kettle"
				}
				if err := s.SaveThread(ada, th); err != nil {
					return nil, err
				}
			}
			return s, nil
		}
	})
	b.until(count("#threads li") + " === 30")
	heads := value[string](b, "[...document.querySelectorAll('#threads h3')].map((h) => h.innerText).join()")
	if !strings.HasPrefix(strings.TrimPrefix(heads, "Today,"), "Yesterday,Previous 7 days,") { // midnight may have passed
		t.Errorf("groups: %s", heads)
	}
	b.until("[...document.querySelectorAll('#threads time')].every((t) => t.dateTime && t.innerText)")
	b.run(chromedp.SendKeys(chromedp.CSS("#search"), "kettle"))
	b.until(count("#threads li") + " === 1 && " + contains("#threads", "The Kettle"))
	b.run(chromedp.SendKeys(chromedp.CSS("#search"), "xyz"))
	b.until(contains("#listed", "No conversation has this title."))
	b.do("{ const s = document.getElementById('search'); s.value = ''; s.dispatchEvent(new Event('input')); }")
	b.until(count("#threads li") + " === 140")
	b.click("#threads button")
	b.until(contains("#title", "Tea 000"))

	b.click("#rename")
	b.until("document.activeElement.matches('dialog input') && document.activeElement.value === 'Tea 000'")
	b.run(chromedp.KeyEvent(kb.Escape))
	b.until(count("dialog") + " === 0 && document.activeElement.id === 'rename'")
	b.rename("Green")
	b.until(contains("#title", "Green") + " && " + contains("#threads", "Green"))
	b.click("#delete")
	b.click("dialog button[type=button]") // Cancel
	b.until(count("dialog") + " === 0 && " + contains("#title", "Green"))
	b.clean()
}

// Files are chosen, dropped or pasted, shown with their upload's progress, and removed. A message waits for its files.
func TestThePageAttaches(t *testing.T) {
	srv, b := serverFor(t, nil)
	other := testenv.Value(newClient(t, srv.url, "ada", testKey).newThread(t.Context(), "elsewhere", func(object) {}))(t)
	// Uploads do not end before the test lets them.
	b.do(`(() => {
		const send = XMLHttpRequest.prototype.send;
		window.held = new Map(); // by name: the answers to the announcements come in any order
		XMLHttpRequest.prototype.send = function (file) { window.held.set(file.name, () => send.call(this, file)); };
		window.go = () => { XMLHttpRequest.prototype.send = send; window.held.forEach((f) => f()); };
		window.transfer = async (name, type) => {
			const data = new DataTransfer();
			const canvas = Object.assign(document.createElement("canvas"), { width: 40, height: 30 });
			const png = await new Promise((done) => canvas.toBlob(done));
			data.items.add(new File([type === "image/png" ? png : "tea"], name, { type }));
			return data;
		};
	})()`)
	b.do(`transfer("drop.png", "image/png").then((dataTransfer) => {
		document.getElementById("scroll").dispatchEvent(new DragEvent("dragover", { dataTransfer, bubbles: true, cancelable: true }));
		window.over = document.body.classList.contains("dropping");
		document.getElementById("scroll").dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
	})`)
	b.until("window.over && !document.body.classList.contains('dropping')")
	b.do(`transfer("paste.txt", "text/plain").then((clipboardData) =>
		document.getElementById("text").dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true })))`)
	file := filepath.Join(t.TempDir(), "chosen.txt")
	testenv.Must(t, os.WriteFile(file, []byte("tea"), 0o600))
	b.run(chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{file}))
	b.until(count("#attached progress") + " === 3 && window.held.size === 3 && document.querySelector('#attached img')?.naturalWidth === 40")
	b.click("#attached [aria-label='Remove paste.txt']")
	b.until("!" + contains("#attached", "paste.txt"))
	// A file that is removed while it is announced is not uploaded, and leaves nothing on the server.
	b.do(`(() => {
		const real = window.fetch;
		window.fetch = async (url, init) => {
			if (String(init?.body).includes("attachments.delete")) window.deleted = true;
			const res = await real(url, init);
			if (String(init?.body).includes("late.txt")) await new Promise((go) => { window.late = go; });
			return res;
		};
		return transfer("late.txt", "text/plain").then((clipboardData) =>
			document.getElementById("text").dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true })));
	})()`)
	b.until("typeof window.late === 'function'")
	b.do("window.deleted = false")
	b.click("#attached [aria-label='Remove late.txt']")
	b.do("window.late()")
	b.until("window.deleted && window.held.size === 3")

	b.begin("look")
	b.until(contains("#hint", "The message goes when its files are there.") + " && document.getElementById('text').value === 'look'")
	// The uploads end while the user is in another conversation: the message is not sent there.
	b.do("location.hash = '" + other + "'")
	b.until(contains("#items", "You said: elsewhere") + " && document.getElementById('text').value === '' && " + count("#attached li") + " === 0")
	b.do("window.held.delete('paste.txt'); window.go()")
	b.say("hello")
	b.until(contains("#items", "You said: hello"))
	if n := value[int](b, count(".user_message")); n != 2 {
		t.Errorf("%d messages, want 2:\n%s", n, b.text("#items"))
	}
	b.click("#new")
	b.until("document.getElementById('text').value === 'look' && " + count("#attached li") + " === 2 && " + count("#attached progress") + " === 0")
	b.do("document.getElementById('text').focus()")
	b.enter(0)
	b.until(contains("#items", "with drop.png (image/png)") + " && " + contains("#items", "with chosen.txt (text/plain)") + " && !" + contains("#items", "paste.txt"))
	b.idle()
	b.until("document.querySelector('.user_message img.preview')?.naturalWidth === 40 && " + contains(".user_message a.chip", "chosen.txt") +
		" && document.querySelector('#attached').children.length === 0")

	b.run(chromedp.SetUploadFiles(chromedp.CSS("#file"), slices.Repeat([]string{file}, 11)))
	b.until(contains("#attached", "A message has at most 10 attachments.") + " && " + count("#attached progress") + " === 0") // which moves the rows
	b.click("#attached [data-act=remove]")
	b.until(count("#attached li") + " === 9")
	b.clean()
}

// On a phone, the list and the panel are drawers that the keyboard and a touch beside them close. Starters begin a conversation.
func TestThePageOnAPhone(t *testing.T) {
	_, b := serverFor(t, nil)
	b.media("light")
	b.resize(390, 844, chromedp.EmulateMobile)
	b.until("getComputedStyle(document.getElementById('side')).display === 'none'")
	b.click(".starters button:nth-child(2)")
	b.until(contains("#items", "A card"))
	b.idle()
	b.fits()
	closed := "document.body.classList.length === 0 && !document.querySelector('main').inert && document.getElementById('backdrop').hidden"
	for button, drawer := range map[string]string{"menu": "side", "toggle": "panel"} {
		for _, end := range []func(){
			func() { b.run(chromedp.KeyEvent(kb.Escape)) },
			func() { b.do("document.getElementById('backdrop').click()") },
			func() { b.click("#" + drawer + " .close") },
		} {
			b.click("#" + button)
			b.until(fmt.Sprintf("getComputedStyle(document.getElementById(%q)).display !== 'none' && document.getElementById(%[1]q).contains(document.activeElement)"+
				" && document.querySelector('main').inert && document.querySelector('.skip').inert && document.getElementById(%q).ariaExpanded === 'true'", drawer, button))
			end()
			b.until(closed + fmt.Sprintf(" && document.activeElement.id === %q", button))
		}
	}
	b.click("#menu")
	b.click("#new")
	b.until(closed + " && " + count(".empty") + " === 1")
	b.click("#menu")
	b.click("#threads button")
	b.until(closed + " && " + contains("#items", "A card"))

	// On a small desktop, the panel covers nothing.
	for _, width := range []int64{1000, 750} {
		b.resize(width, 800)
		b.click("#toggle")
		b.until("document.getElementById('panel').checkVisibility()")
		for _, id := range []string{"send", "toggle", "text", "title"} {
			b.until(fmt.Sprintf("(() => { const box = document.getElementById(%q).getBoundingClientRect(); return box.left >= 0 && box.width > 40 &&"+
				" box.right <= document.getElementById('panel').getBoundingClientRect().left; })()", id))
		}
		b.run(chromedp.KeyEvent(kb.Escape))
		b.until(closed)
	}
	b.clean()
}

// A conversation that the user may only read says so when the server refuses a message. The message stays.
func TestThePageOfASharedConversation(t *testing.T) {
	var grants sharing.Store
	srv, b := serverFor(t, func(c *config) {
		c.users = []string{"grace", "ada"}
		c.wrap = func(base store.Store, _ bus.Bus, _ prometheus.Registerer, _ trace.TracerProvider) (store.Store, error) {
			grants = sharing.New(base)
			return store.Wrap(grants, authz.New(authz.AnyOf(authz.OwnerOnly(), authz.Shared(grants)))), nil
		}
	})
	id := testenv.Value(newClient(t, srv.url, "ada", testKey).newThread(t.Context(), "ada's plans", func(object) {}))(t)
	testenv.Must(t, grants.Grant(t.Context(), sharing.Grant{
		ThreadID: id, To: sharing.Grantee{Tenant: identity.Tenant, Subject: "grace"}, Role: sharing.Viewer, By: chat.Owner{Tenant: identity.Tenant, Subject: "ada"},
	}))
	b.do(fmt.Sprintf("location.hash = %q", id))
	b.until(contains("#items", "ada's plans"))
	b.begin("may I?")
	b.until(contains("#closed", "You may read this conversation, but not write in it.") + " && " + contains(".unsent .bubble", "may I?"))
	b.cleanExcept("403")
}
