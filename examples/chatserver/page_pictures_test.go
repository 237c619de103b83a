package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/internal/testenv"
)

const walk = `The cache answers a read without the database. A **write** to the thread makes its entry stale:

` + "```go" + `
s := store.Wrap(base,
	tracing.New(),
	authz.New(authz.OwnerOnly()),
	cache.New(), // the entry of a changed thread is dropped
)
thread, err := s.LoadThread(ctx, "thr_1")
` + "```" + `

| layer | answers | base reads |
| --- | --- | ---: |
| authz | foreign threads | 0 |
| cache | threads read before | 0 |
| base | all others | 1 |`

// The page fits its window in all sizes and colours, with everything that a conversation can have.
func TestThePageLooksGood(t *testing.T) {
	_, b := serverFor(t, script(map[string]func(context.Context, *chatkit.Turn) error{
		"walk": func(ctx context.Context, t *chatkit.Turn) error {
			t.Thread.Title = "How the cache works"
			return saying(walk)(ctx, t)
		},
		"deep": saying(strings.Repeat(">", 40) + " deep"),
		"press": func(ctx context.Context, t *chatkit.Turn) error {
			widget, err := chat.ParseJSON(fmt.Sprintf(`{"type":"Card","children":[{"type":"Button","label":%q}]}`, strings.Repeat("unbreakable", 30)))
			if err != nil {
				return err
			}
			it, err := t.NewItem(ctx, chat.Widget{Widget: widget})
			if err != nil {
				return err
			}
			return t.Emit(ctx, chatkit.ItemDone{Item: it})
		},
	}))
	dir := t.TempDir()
	if *screenshot != "" {
		dir = filepath.Dir(*screenshot)
	}
	picture := func(name string) {
		b.painted()
		b.fits()
		b.picture(filepath.Join(dir, name+".png"))
	}
	both := func(name string) {
		for _, scheme := range []string{"light", "dark"} {
			b.media(scheme)
			picture(name + "-" + scheme)
		}
	}
	phone := func() { b.resize(390, 844, chromedp.EmulateMobile) }

	b.media("light")
	picture("empty")
	b.say("/title Names for a teapot")
	b.click("#new")
	b.until(count(".empty") + " === 1")
	b.say("Hello")
	b.until(contains("#items", "You said: Hello"))
	b.click("#new")
	b.until(count(".empty") + " === 1")

	b.say("do walk")
	b.until(contains("#title", "How the cache works"))
	for range 2 { // the first loads the items, the second finds all in the cache
		b.do("document.querySelector('[data-act=retry]').click()")
		b.idle()
	}
	b.until(contains("#compare", "All reads came from memory.") + " && " + count(".code") + " === 1")
	// The words of the message are the picture's, not the test's.
	b.do("document.querySelector('.user_message .text').textContent = 'How does the cache work?'")
	b.do("document.getElementById('scroll').scrollTop = 0")
	both("desktop")
	phone()
	both("phone")
	b.click("#menu")
	picture("phone-list")
	b.do("document.getElementById('backdrop').click()")
	b.click("#toggle")
	b.until(contains("#compare", "this turn"))
	picture("phone-panel")
	b.do("document.getElementById('backdrop').click()")
	b.resize(1280, 800)

	b.say("/fail retry")
	b.say("/image")
	b.say("/widget")
	file := filepath.Join(t.TempDir(), "tea.txt")
	testenv.Must(t, os.WriteFile(file, []byte("tea"), 0o600))
	b.run(chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{file}))
	b.say("What is in this file?")
	b.until(count("li.failure") + " === 1 && " + count(".user_message a.chip") + " === 1")
	b.do("for (const p of document.querySelectorAll('.md p')) if (p.textContent.includes('do walk')) p.textContent = p.textContent.replace('do walk', 'How does the cache work?')")
	both("items")
	phone()
	picture("phone-items")
	b.say(strings.Repeat("unbreakable", 30))
	b.say("do press")
	b.say("do deep")
	b.until("document.querySelector('#items li:last-child .md')?.innerText.includes('deep')")
	b.fits()
	if deep := value[int](b, "[...document.querySelectorAll('#items li:last-child blockquote p')].at(-1).clientWidth"); deep < 100 {
		t.Errorf("a deep quote is %d px wide", deep)
	}
	picture("phone-wide")
	b.clean()
}
