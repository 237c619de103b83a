package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/chatstore/chatstore/examples/chatserver/answer"
	"github.com/chatstore/chatstore/internal/testenv"
)

// prefer sets what the user of the browser prefers: still pictures, and a colour scheme.
func (b *browser) prefer(scheme string) {
	b.t.Helper()
	testenv.Value(chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-reduced-motion", Value: "reduce"}, {Name: "prefers-color-scheme", Value: scheme},
	}}))(b.t)
}

// The panel draws the stack, lets its layers light up, and compares a turn with the reads of a store without the stack. Its
// switch turns the cache off for this user.
func TestThePanelExplainsTheStack(t *testing.T) {
	b := startPage(t, func(c *config) { c.responder = answer.NewDemo(answer.WithPace(time.Millisecond)) })
	b.do(`(() => { // counts what lights up
		const real = Element.prototype.animate;
		window.lit = [];
		Element.prototype.animate = function (...how) { window.lit.push(this.dataset.layer); return real.apply(this, how); };
	})()`)

	b.say("hello")
	b.until("[...document.querySelectorAll('#stack li')].map((l) => l.dataset.layer).join(' ') === " +
		"'tracing metrics(outer) authz cache tracing(base) metrics(inner) sqlite'")
	b.until("['tracing', 'metrics(outer)', 'authz', 'cache', 'tracing(base)', 'metrics(inner)', 'sqlite'].every((l) => window.lit.includes(l))")
	b.until(contains("#stack [data-layer=sqlite]", "SQLite"))

	// The words of the first turn agree with its numbers, whether it reads more than without the stack, or less.
	b.until(contains("#compare", "not in the cache yet") + " && !" + contains("#compare", "The cache was off") +
		" && !" + contains("#compare", "All reads"))

	b.do(`(() => {
		const real = window.fetch;
		window.mend = () => { window.fetch = real; };
		window.fetch = async (url, init) => {
			const res = await real(url, init);
			if (url !== "/panel") return res;
			const p = await res.json();
			Object.assign(p.turn.calls, { reads: 4, base_reads: 9 });
			return new Response(JSON.stringify(p));
		};
	})()`)
	b.until(contains("#compare", "These rows were not in the cache yet: 5 of the reads check that you may see or change the rows."))
	b.do("window.mend()")

	// The second turn finds everything in the cache.
	b.say("hello again")
	b.until(contains("#compare", "this turn: 0 reads") + " && /without the stack: [1-9][0-9]* reads/.test(document.getElementById('compare').textContent)")
	b.until(contains("#compare", "All reads came from memory."))
	b.until(`/Answered [1-9][0-9]* of [1-9][0-9]* reads from memory/.test(document.querySelector("#stack [data-layer=cache]").innerText)`)
	b.until(contains("#trace", "cache: hit") + " && " + contains("#trace", "authz: allowed") + " && " + contains("#trace", "SQLite"))
	b.until(contains("#numbers", "reads that the cache answered") + " && " + contains("#ops", "load_thread"))

	dir := t.TempDir()
	if *screenshot != "" {
		dir = filepath.Dir(*screenshot)
	}
	b.picture(filepath.Join(dir, "panel.png"))

	// Without the cache, the next turn reads the database.
	b.click("#cache")
	b.until(contains("#cachesays", "Your reads now go to the database."))
	b.say("once more")
	b.until("/this turn, with the cache off: [1-9][0-9]* reads/.test(document.getElementById('compare').textContent)")
	b.until("!" + contains("#trace", "cache: hit"))

	// No number stands without a word.
	b.until(`document.querySelectorAll("#panel dd").length > 0 && [...document.querySelectorAll("#panel dd")].every((d) => /[a-z]{3}/.test(d.previousElementSibling.innerText))`)
	b.until(`[...document.querySelectorAll("#panel td:last-child, #panel .did, #panel .reach, #panel .ms, #compare .row")].every((e) => !/^[0-9.,]+$/.test(e.innerText))`)

	// Reduced motion: layers are marked, but do not flash.
	b.prefer("light")
	b.do("window.lit.length = 0")
	b.say("quietly")
	b.until(contains("#items", "You said: quietly") + " && " + contains("#stack .reached .reach", "in the last turn"))
	b.until("window.lit.length === 0")

	b.prefer("dark")
	b.picture(filepath.Join(dir, "panel-dark.png"))
	b.resize(320, 700)
	b.do("document.body.classList.add('panel')")
	b.until("document.getElementById('panel').checkVisibility()")
	for _, wide := range []string{"#panel", "#stack li", "#compare", "#trace", "#ops"} {
		b.until(fmt.Sprintf("[...document.querySelectorAll(%q)].every((e) => e.scrollWidth <= e.clientWidth + 1 && e.getBoundingClientRect().right <= 321)", wide))
	}
	b.picture(filepath.Join(dir, "panel-phone.png"))
	b.do("document.body.classList.remove('panel')")
	b.resize(1360, 850)

	// Another user has numbers and a switch of one's own.
	b.become("grace")
	b.until("document.querySelector('.empty') !== null && " + contains("#stack", "in the last request") + " && !" + contains("#stack", "in the last turn") + " && document.getElementById('cache').checked")
	for _, place := range []string{"#trace", "#compare", "#numbers", "#ops"} {
		if text := b.text(place); strings.Contains(text, "add_") || strings.Contains(text, "without the stack") {
			t.Errorf("grace sees in %s: %s", place, text)
		}
	}
	b.become("ada")
	b.until("!document.getElementById('cache').checked && " + contains("#compare", "with the cache off"))
	b.clean()
}
