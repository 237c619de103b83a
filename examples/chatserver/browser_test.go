package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	keyboard "github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/chatstore/chatstore/examples/chatserver/answer"
	"github.com/chatstore/chatstore/internal/testenv"
)

var screenshot = flag.String("screenshot", "", "a `file`: the tests write pictures of the page into its folder, for the documentation")

// browser is a page in a real Chromium.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu     sync.Mutex
	faults []string
}

// startPage starts a server and opens its page. change is as for startServer. Tests with a browser run in parallel, so they
// call this first.
func startPage(t *testing.T, change func(*config)) *browser {
	t.Helper()
	t.Parallel()
	return newBrowser(t, startServer(t, change).url)
}

// newBrowser opens a page in a profile of its own.
func newBrowser(t *testing.T, url string) *browser {
	t.Helper()
	b := openTab(t, chromium(t), url, chromedp.WithNewBrowserContext())
	b.until("document.querySelector('#user option') !== null && document.querySelector('.empty') !== null")
	return b
}

// openTab opens a page in the browser, or in the profile of a tab, to which ctx belongs.
func openTab(t *testing.T, ctx context.Context, url string, opts ...chromedp.ContextOption) *browser {
	t.Helper()
	ctx, cancel := chromedp.NewContext(ctx, opts...)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx}
	testenv.Must(t, chromedp.Listen(ctx, b.hear))
	testenv.Value(chromedp.Call(ctx, network.Enable, network.EnableParams{}))(t)
	b.run(chromedp.EmulateViewport(1280, 800), chromedp.Navigate(url))
	return b
}

// one is the browser that tests share while at least one of them runs.
var one struct {
	sync.Mutex
	users int
	ctx   context.Context
	stop  func() error
}

// chromium returns the context of the shared browser.
func chromium(t *testing.T) context.Context {
	t.Helper()
	bin := testenv.Program(t, "chromium", "chromium")
	one.Lock()
	defer one.Unlock()
	if one.users == 0 {
		dir := testenv.Value(os.MkdirTemp("", "chromium"))(t)
		opts := append(chromedp.DefaultExecAllocatorOptions[:],
			chromedp.ExecPath(bin), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(dir), chromedp.WSURLReadTimeout(hang),
			chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
		ctx, cancel := chromedp.NewExecAllocator(context.Background(), opts...)
		one.ctx, _ = chromedp.NewContext(ctx) // chromedp.Cancel ends it
		one.stop = func() error {
			defer cancel()
			return errors.Join(chromedp.Cancel(one.ctx), os.RemoveAll(dir)) // Cancel waits for the browser's end
		}
		testenv.Must(t, chromedp.Do(one.ctx))
	}
	one.users++
	t.Cleanup(func() {
		one.Lock()
		defer one.Unlock()
		if one.users--; one.users == 0 {
			if err := one.stop(); err != nil {
				t.Error(err)
			}
		}
	})
	return one.ctx
}

// hear records faults of the page.
func (b *browser) hear(e any) {
	fault := ""
	switch e := e.(type) {
	case *runtime.EventExceptionThrown:
		fault = e.ExceptionDetails.Text
		if thrown := e.ExceptionDetails.Exception; thrown != nil {
			fault += " " + thrown.Description
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError {
			fault = "console.error"
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError {
			fault = e.Entry.Text + " " + e.Entry.URL
		}
	case *network.EventLoadingFailed:
		if !e.Canceled {
			fault = "loading failed: " + e.ErrorText
		}
	case *page.EventJavascriptDialogOpening:
		fault = "a dialog of the browser: " + e.Message
	}
	if fault != "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.faults = append(b.faults, fault)
	}
}

func (b *browser) run(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, hang)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("%v; the page shows:\n%s\nfaults: %q", err, b.text("body"), b.heard())
	}
}

func (b *browser) text(selector string) string {
	s, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string](fmt.Sprintf("document.querySelector(%q)?.innerText ?? ''", selector)))
	return s
}

// until waits until an expression is true in the page.
func (b *browser) until(expression string) {
	b.t.Helper()
	_, err := chromedp.Run(b.ctx, chromedp.Poll[bool](expression, chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(hang)))
	if err != nil {
		b.t.Fatalf("%s: %v; the page shows:\n%s\nfaults: %q", expression, err, b.text("body"), b.heard())
	}
}

// say sends a message with the keyboard and waits for the end of the answer.
func (b *browser) say(text string) {
	b.t.Helper()
	b.free()
	b.run(chromedp.SendKeys(chromedp.CSS("#text"), text))
	b.enter(0)
	b.idle()
}

// enter presses Enter as a keyboard does. kb.Enter would insert a newline even if the page handles the key. Modifier 8 is
// Shift.
func (b *browser) enter(modifiers int64) {
	b.t.Helper()
	down := keyboard.DispatchKeyEventParams{Type: keyboard.DispatchKeyEventTypeKeyDown, Text: "\r"}
	up := keyboard.DispatchKeyEventParams{Type: keyboard.DispatchKeyEventTypeKeyUp}
	for _, e := range []keyboard.DispatchKeyEventParams{down, up} {
		e.Key, e.Code, e.WindowsVirtualKeyCode, e.Modifiers = "Enter", "Enter", 13, modifiers
		testenv.Value(chromedp.Call(b.ctx, keyboard.DispatchKeyEvent, e))(b.t)
	}
}

// idle waits until a message is on its way and its answer has ended.
func (b *browser) idle() {
	b.t.Helper()
	b.until("document.getElementById('text').value === ''")
	b.free()
}

// free waits for the end of the answer that the page shows. Before that, the page takes no message.
func (b *browser) free() {
	b.t.Helper()
	b.until("document.getElementById('items').ariaBusy !== 'true'")
}

// painted waits until the page has shown a change: it follows the end in the frame after it.
func (b *browser) painted() {
	b.t.Helper()
	b.do("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
}

func (b *browser) click(selector string) {
	b.t.Helper()
	b.run(chromedp.WaitVisible(chromedp.CSS(selector)))
	b.painted() // which may move what is clicked
	b.run(chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// rename names the open conversation with the page's dialog.
func (b *browser) rename(title string) {
	b.t.Helper()
	b.click("#rename")
	b.run(chromedp.SetValue(chromedp.CSS("dialog input"), title))
	b.click("dialog .primary")
}

// picture writes a screenshot. Nothing compares it: it is small enough for the documentation, and made to be looked at.
func (b *browser) picture(path string) {
	b.t.Helper()
	png := testenv.Value(chromedp.Run(b.ctx, chromedp.CaptureScreenshot()))(b.t)
	testenv.Must(b.t, os.MkdirAll(filepath.Dir(path), 0o755))
	testenv.Must(b.t, os.WriteFile(path, png, 0o644))
	if len(png) > 200_000 {
		b.t.Errorf("%s: %d bytes", path, len(png))
	}
}

// become changes the user, and waits until the page has the new user's list. The page takes one change at a time.
func (b *browser) become(user string) {
	b.t.Helper()
	b.run(chromedp.SetValue(chromedp.CSS("#user"), user))
	b.until(fmt.Sprintf("!document.getElementById('user').disabled && document.getElementById('user').value === %q", user))
}

// resize changes the size of the window, and waits until the page has it.
func (b *browser) resize(width, height int64, opts ...chromedp.EmulateViewportOption) {
	b.t.Helper()
	b.run(chromedp.EmulateViewport(width, height, opts...))
	b.until(fmt.Sprintf("matchMedia('(width: %dpx)').matches", width))
}

// do runs a script in the page, and waits for its value if that is a promise.
func (b *browser) do(script string) {
	b.t.Helper()
	b.run(chromedp.Evaluate[chromedp.Void](script, chromedp.EvalAwaitPromise))
}

// heard returns the faults of the page so far.
func (b *browser) heard() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.faults)
}

// clean fails the test if the page had a fault.
func (b *browser) clean() {
	b.t.Helper()
	if faults := b.heard(); len(faults) > 0 {
		b.t.Errorf("the page's faults:\n%s", strings.Join(faults, "\n"))
	}
}

// contains returns a JavaScript expression that is true if an element's text contains text.
func contains(selector, text string) string {
	return fmt.Sprintf("(document.querySelector(%q)?.innerText ?? '').includes(%q)", selector, text)
}

// A user has a conversation, finds it after a reload, and deletes it. Another user sees nothing of it.
func TestThePage(t *testing.T) {
	b := startPage(t, func(c *config) { c.responder = answer.NewDemo(answer.WithPace(time.Millisecond)) })

	b.say("Where does the cache keep my thread?")
	b.until(contains("#items", "You said: Where does the cache keep my thread?"))
	b.until(contains("#threads", "Where does the cache"))
	b.say("/workflow")
	b.until(contains("#items", "Made tea"))
	b.say("/sources")
	b.until(contains("#items", "Boiling point"))
	// The panel shows the turn as a tree, with the results of the cache.
	b.until(contains("#trace > ul > li:only-child", "threads.add_user_message") + " && " +
		contains("#trace ul ul", "add_thread_item") + " && " + contains("#trace ul ul", "hit"))
	b.run(chromedp.Reload())
	b.until(contains("#items", "You said: Where does the cache keep my thread?"))
	b.until(contains("#title", "Where does the cache"))

	b.until("Number(document.querySelector('#numbers dd')?.innerText) > 0") // base reads saved
	b.until(contains("#ops", "add_thread_item"))
	b.rename("Renamed")
	b.until(contains("#threads", "Renamed"))

	b.become("grace")
	b.until("document.getElementById('threads').children.length === 0 && document.querySelector('.empty') !== null")
	if text := b.text("body"); strings.Contains(text, "Renamed") || strings.Contains(text, "load_thread_items 3") {
		t.Errorf("grace sees ada's data:\n%s", text)
	}
	b.say("I am somebody else")
	b.until(contains("#threads", "I am somebody else"))

	b.become("ada")
	b.until(contains("#threads", "Renamed") + " && !" + contains("#threads", "somebody else"))
	b.click("#threads button")
	b.until(contains("#items", "Where does the cache keep my thread?"))
	b.click("#delete")
	b.click("dialog .danger")
	b.until("document.getElementById('threads').children.length === 0 && document.querySelector('.empty') !== null")
	b.run(chromedp.Reload())
	b.until("document.querySelector('.empty') !== null && document.getElementById('threads').children.length === 0")

	b.clean()
}

// The page can do everything that the assistant can show.
func TestThePageShowsEveryItem(t *testing.T) {
	b := startPage(t, func(c *config) { c.responder = answer.NewDemo(answer.WithPace(time.Millisecond)) })

	b.say("/widget")
	b.click("[data-type=widget] button")
	b.until(contains("[data-type=widget]", "pressed 1 times"))
	b.say("/tool") // the page runs the tool by itself
	b.until(contains("#items", "Your browser says:"))
	b.say("/form")
	b.click("[data-type=structured_input] input[value=Tea]")
	b.click("[data-type=structured_input] input[value=Milk]")
	b.run(chromedp.SendKeys(chromedp.CSS("[data-type=structured_input] textarea"), "a biscuit"))
	b.click("[data-type=structured_input] button.primary")
	b.until(contains("#items", "a biscuit"))
	b.until(contains("#items", "Tea or coffee? Tea."))
	b.idle()
	b.until("document.activeElement.id === 'text'") // the button that had the focus is gone
	b.say("/image")
	b.until("document.querySelector('[data-type=generated_image] img')?.naturalWidth > 0")
	b.say("/notice")
	b.until(contains("#items .notice", "A notice"))
	b.say("/effect")
	b.say("/progress")
	b.until(contains("#items", "Here is your cup."))
	b.say("/remove")
	b.until("!" + contains("#items", "I did not say this."))
	b.say("/title My tea")
	b.until(contains("#title", "My tea"))
	b.say("/fail retry")
	b.until(contains(".failure", "The kettle is broken."))
	b.click(".failure [data-act=again]")
	b.idle()
	b.say("/hidden the password is tea")
	b.until(contains("#items", "remember"))

	// A file is uploaded and sent.
	file := filepath.Join(t.TempDir(), "tea.txt")
	testenv.Must(t, os.WriteFile(file, []byte("tea"), 0o600))
	b.run(chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{file}))
	b.until(contains("#attached", "tea.txt"))
	b.say("look")
	b.until(contains("#items", "with tea.txt (text/plain)"))

	// Content is only text: no script in it runs, and it creates no elements.
	b.say(`<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`)
	b.until(contains("#items", "You said: <img src=x"))
	b.until("document.title !== 'owned' && document.querySelector('#items img[src=x]') === null")

	// Shift+Enter starts a new line.
	b.run(chromedp.SendKeys(chromedp.CSS("#text"), "one"))
	b.enter(8)
	b.say("two")
	b.until(contains("#items", "You said: one\ntwo"))

	// A long answer is stopped with the keyboard. After a reload, the part before the stop is there.
	b.run(chromedp.SendKeys(chromedp.CSS("#text"), "/long 20000"))
	b.enter(0)
	b.until(contains("#items .streaming", "kettle"))
	b.run(chromedp.KeyEvent(kb.Escape))
	b.idle()
	// The server saves it after the page has disconnected, so a reload may come too early.
	eventually(t, func() string {
		b.run(chromedp.Reload())
		b.until("document.querySelector('#items .user_message') !== null")
		if !strings.Contains(b.text("#items li:last-child"), "kettle") {
			return "the stopped answer was not saved:\n" + b.text("#items")
		}
		return ""
	})

	b.say("/lock")
	b.until("document.getElementById('text').disabled")
	b.clean()
}

// The next user of the page sees neither drafts nor attachments nor threads of the user before, however late the answers
// come.
func TestThePageForgetsTheUserBefore(t *testing.T) {
	b := startPage(t, func(c *config) { c.responder = answer.NewDemo(answer.WithPace(0)) })
	b.say("ada's own words")

	file := filepath.Join(t.TempDir(), "tea.txt")
	testenv.Must(t, os.WriteFile(file, []byte("tea"), 0o600))
	b.run(chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{file}))
	b.until(contains("#attached", "tea.txt"))
	b.run(chromedp.SendKeys(chromedp.CSS("#text"), "a draft of ada's"))

	// Ada's next list and upload are held back until grace is signed in.
	b.do(`(() => {
		const real = window.fetch;
		window.held = [];
		window.fetch = async (url, init) => {
			const res = await real(url, init);
			if (/attachments.create|threads.list/.test(init?.body) && !window.graceIsThere) {
				await new Promise((resolve) => window.held.push(resolve));
			}
			return res;
		};
	})()`)
	b.rename("Renamed")
	b.run(chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{file}))
	b.until("window.held.length === 2")
	b.do("window.graceIsThere = true")
	b.become("grace")
	b.until("document.querySelector('.empty') !== null && document.getElementById('threads').children.length === 0")
	b.do("window.held.forEach((go) => go()); fetch('/session').then(() => fetch('/session'))")
	b.until("document.getElementById('text').value === ''")
	for _, place := range []string{"#threads", "#attached", "#items", "#title", "#trace", "#listed"} {
		text := b.text(place)
		for _, hers := range []string{"Renamed", "ada", "tea", "add_thread_item"} {
			if strings.Contains(text, hers) {
				t.Errorf("grace sees in %s: %s", place, text)
			}
		}
	}

	// Ada comes back, even though the list of the user in between did not arrive.
	b.become("ada")
	b.until(contains("#threads", "Renamed"))
	b.do(`(() => {
		const real = window.fetch;
		window.fetch = (url, init) => String(init?.body).includes("threads.list")
			? Promise.reject(new TypeError("away")) : real(url, init);
		window.mend = () => { window.fetch = real; };
	})()`)
	b.become("grace")
	b.until(contains("#listed", "cannot be reached"))
	b.do("window.mend()")
	b.become("ada")
	b.until(contains("#threads", "Renamed"))
	b.clean()
}

// A session that ended in another tab is noticed when the user returns to this tab.
func TestThePageNoticesAnotherTabsUser(t *testing.T) {
	b := startPage(t, nil)
	b.say("ada's own words")
	b.do(`fetch("/session", { method: "POST", body: '{"user":"grace"}' })`)
	b.do("document.dispatchEvent(new Event('visibilitychange'))")
	b.until("document.getElementById('user').value === 'grace'")
	b.until("document.querySelector('.empty') !== null && document.getElementById('threads').children.length === 0")
	b.clean()
}

// A tool's result that the server refuses is sent only once. Then the user can give it.
func TestThePageDoesNotInsist(t *testing.T) {
	b := startPage(t, nil)
	b.do(`(() => {
		const real = window.fetch;
		window.outputs = 0;
		window.fetch = (url, init) => String(init?.body).includes("add_client_tool_output") && !window.back
			? (window.outputs++, Promise.reject(new TypeError("the server is away")))
			: real(url, init);
	})()`)
	b.say("/tool")
	b.until(contains(".failure", "The server cannot be reached."))
	b.say("hello")
	b.until(contains("#items", "You said: hello"))
	b.until("window.outputs === 1")

	b.do("window.back = true")
	b.say("/tool")
	b.until(contains("#items", "Your browser says:"))
	b.clean()
}

// The page announces a stream's text when it ends. A refused feedback is not shown as given.
func TestThePageSaysWhatHappened(t *testing.T) {
	b := startPage(t, nil)
	b.say("/effect")
	b.until(contains("#items .effect", "hello, page"))
	b.say("hello")
	b.until("document.getElementById('announce').textContent.includes('You said: hello')")

	b.click("[data-type=assistant_message]:last-child button[data-kind=positive]")
	b.until("document.querySelector('[data-kind=positive]').ariaPressed === 'true'")
	b.click("[data-type=assistant_message]:last-child button[data-kind=negative]")
	b.until("document.querySelector('[data-kind=negative]').ariaPressed === 'true'")
	b.until("document.querySelector('[data-kind=positive]').ariaPressed === 'false'")
	b.do(`window.fetch = () => Promise.reject(new TypeError("the server is away"))`)
	b.click("[data-type=assistant_message]:last-child button[data-kind=positive]")
	b.until(contains(".failure", "The server cannot be reached."))
	b.until("document.querySelector('[data-kind=positive]').ariaPressed === 'false'")
	b.clean()
}

// A link that cannot be decoded, or to a thread of another user, leaves a working page.
func TestThePageOfABadLink(t *testing.T) {
	t.Parallel()
	srv := startServer(t, nil)
	id := testenv.Value(newClient(t, srv.url, "grace", testKey).newThread(t.Context(), "grace's own words", func(object) {}))(t)
	b := newBrowser(t, srv.url+"/#%E0%A4%A")
	b.say("hello")
	b.do("location.hash = " + `"` + id + `"`)
	b.until(contains(".failure", "no such conversation"))
	if strings.Contains(b.text("body"), "grace's own words") {
		t.Error("ada sees grace's data")
	}
}
