package main

import (
	"context"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
)

// hostile are texts that try to run a script, to load something, or to leave the page.
var hostile = []string{
	`<img src=x onerror="window.owned=1">`,
	`<script>window.owned=1</script>`,
	`<svg onload="window.owned=1"><animate onbegin="window.owned=1"></svg>`,
	`<iframe srcdoc="<script>parent.owned=1</script>"></iframe>`,
	`<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=window.owned=1&gt;">`,
	`<style>body { display: none }</style><form action="https://evil.example"><input name=text id=text></form>`,
	`[click](javascript:window.owned=1)`,
	`[click](JaVaScRiPt:window.owned=1)`,
	"[click](java\tscript:window.owned=1)",
	`[click](data:text/html,<script>window.owned=1</script>)`,
	`[click][ref]` + "\n\n[ref]: javascript:window.owned=1",
	`<javascript:window.owned=1>`,
	`![pixel](https://evil.example/pixel.png)`,
	`![pixel](https://notgood.example/pixel.png)`,
	`![pixel](http://good.example/pixel.png)`,
	`![a](x" onerror="window.owned=1)`,
	"```js\" onmouseover=\"window.owned=1\n<img src=x onerror=window.owned=1>\n```",
	"```html\n<script>window.owned=1</script><img src=x onerror=window.owned=1>\n```",
	"| a |\n| - |\n| <img src=x onerror=window.owned=1> |",
	"# <a href=javascript:window.owned=1 id=items>x</a>",
}

// No part of a text runs, loads something, or replaces a part of the page. That holds for answers and for users' messages.
func TestThePageRunsNothingOfATextsOwn(t *testing.T) {
	all := strings.Join(hostile, "\n\n")
	_, b := serverFor(t, script(map[string]func(context.Context, *chatkit.Turn) error{
		"attack": func(ctx context.Context, t *chatkit.Turn) error {
			var err error
			if t.Thread.AllowedImageDomains, err = chat.ParseJSON(`["good.example"]`); err != nil {
				return err
			}
			for _, h := range hostile {
				if err := saying(h)(ctx, t); err != nil {
					return err
				}
			}
			return saying(strings.SplitAfter(all, "")...)(ctx, t)
		},
		"odd": func(ctx context.Context, t *chatkit.Turn) error {
			widget, err := chat.ParseJSON(`{"type":"Card","children":[{"type":"Markdown","value":5},{"type":"Text","value":{}},{"type":{}},{"type":"Image","src":5}]}`)
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
	b.begin(all) // echoed, too
	b.idle()
	b.say("do attack")
	b.until(contains("#items", "<script>window.owned=1</script>")) // shown as text
	// Every link and button of the answers is pressed.
	b.do(`for (const a of document.querySelectorAll(".md a")) { a.removeAttribute("target"); if (!/^https?:/.test(a.href)) a.click(); }`)
	for _, bad := range []string{
		"window.owned !== undefined", "document.querySelectorAll('#text').length !== 1", "document.querySelectorAll('#items').length !== 1",
		"getComputedStyle(document.body).display === 'none'",
		"document.querySelector('#items :is(script, style, iframe, svg, math, form, object, img)') !== null",
		"[...document.querySelectorAll('#items *')].some((e) => [...e.attributes].some((a) => a.name.startsWith('on')))",
		"[...document.querySelectorAll('#items a')].some((a) => !/^(https?:|mailto:)/.test(a.href))",
		"performance.getEntriesByType('resource').some((r) => r.name.includes('example'))",
	} {
		if value[bool](b, bad) {
			t.Errorf("the page: %s", bad)
		}
	}
	// The page itself cannot make HTML of a text.
	if !value[bool](b, "(() => { try { document.createElement('p').innerHTML = '<b>x</b>'; return false; } catch { return true; } })()") {
		t.Error("the page's policy lets scripts assign HTML")
	}
	// Only a picture of an allowed domain is an image.
	kinds := value[string](b, `import("/markdown.js").then((m) => ["https://good.example/a.png", "https://a.good.example/a.png", "https://evil.example/a.png",
		"data:image/png,x", "x"].map((u) => m.picture(u, "alt", ["good.example"]).tagName).join())`)
	if kinds != "IMG,IMG,SPAN,SPAN,SPAN" {
		t.Errorf("pictures: %s", kinds)
	}
	// The same holds for a generated image. An item that cannot be shown hides no other. Names do not turn the text round.
	for script, want := range map[string]string{
		`import("/items.js").then((m) => ["https://good.example/a.png", "https://evil.example/a.png", "data:image/png;base64,AA=="].map((url) =>
			m.render({ id: "x", type: "generated_image", image: { url } }, {}, false, ["good.example"]).querySelectorAll("img").length).join())`: "1,0,1",
		`import("/items.js").then((m) => m.render({ id: "x", type: "workflow" }, {}, false, []).textContent)`:                                  "This part cannot be shown.",
		`import("/dom.js").then((m) => [m.named("a\u202Egnp.exe"), m.titled({ title: "\u200B\u2060 " }), m.titled({ title: " Tea" })].join())`: "agnp.exe,New conversation,Tea",
	} {
		if got := value[string](b, script); got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
	b.say("do odd")
	b.until(contains("[data-type=widget]", "5") + " && " + contains("[data-type=widget]", "[object Object]") + " && " + count(".failure") + " === 0")
	b.run(chromedp.Reload())
	b.until(contains("[data-type=widget]", "[object Object]"))
	b.cleanExcept("TrustedHTML", "good.example", "ERR_", "Content Security Policy")
}

const lesson = "## Tea\n\nA **list** with `code`:\n\n- one\n- two\n\n| cup | °C |\n| --- | ---: |\n| green | 80 |\n\n" +
	"```go\nfunc boil() error {\n\treturn nil // done\n}\n```\n\nSee [the *page*](https://example.com/)."

// An answer is shown as Markdown, with highlighted code that can be copied. While it streams, the page renders at most once in
// a frame, and half of a code block breaks nothing.
func TestThePageShowsMarkdown(t *testing.T) {
	next := make(chan struct{})
	long := strings.Repeat("word ", 20_000)
	_, b := serverFor(t, script(map[string]func(context.Context, *chatkit.Turn) error{
		"teach": saying(strings.SplitAfter(lesson, " ")...),
		"half":  held(next, "Before\n\n```go\nfunc half() {", "\n}\n```\n\nafter"),
		"long":  saying(strings.SplitAfter(long, " ")...),
	}))
	b.say("do teach")
	for _, want := range []string{
		contains(".md h2", "Tea"), contains(".md strong", "list"), count(".md li") + " === 2", contains(".md td[align=right]", "80"),
		contains(".code .hljs-keyword", "func"), contains(".code .hljs-comment", "done"), contains(".codebar", "go"),
		"document.querySelector('.md a').href === 'https://example.com/' && document.querySelector('.md a').rel.includes('noopener')",
	} {
		b.until(want)
	}
	b.do(`(() => {
		window.copied = window.said = "";
		navigator.clipboard.writeText = async (t) => { window.copied = t; };
		const copy = document.querySelector(".code [data-act=copy]"); // says it for two seconds
		new MutationObserver(() => { window.said += copy.textContent; }).observe(copy, { childList: true });
	})()`)
	b.click(".code [data-act=copy]")
	b.until(`window.copied === "func boil() error {\n\treturn nil // done\n}"`)
	b.until("window.said.includes('Copied')")
	b.do(`document.querySelector(".assistant_message > .acts [data-act=copy]").click()`)
	b.until(`window.copied.startsWith("## Tea")`)

	b.begin("do half")
	release(t, next)
	b.until(contains(".streaming .code", "func half() {") + " && " + contains(".streaming .block p", "Before"))
	release(t, next)
	b.idle()
	b.until(contains("#items li:last-child .code pre", "}") + " && " + contains("#items li:last-child .block:last-child", "after"))

	// Each render is one batch of mutations.
	b.do(`window.renders = 0; window.frames_ = 0;
		new MutationObserver((all) => { if (all.some((m) => m.target.closest?.(".md"))) window.renders++; })
			.observe(document.getElementById("items"), { subtree: true, childList: true });
		const real = window.requestAnimationFrame;
		window.requestAnimationFrame = (f) => real((at) => { window.frames_++; f(at); });`)
	b.say("do long")
	b.until("document.querySelector('#items li:last-child .md').textContent.length > 99000")
	if renders, frames := value[int](b, "window.renders"), value[int](b, "window.frames_"); renders > frames+2 || renders > 5_000 {
		t.Errorf("20,000 pieces: %d renders in %d frames", renders, frames)
	} else {
		t.Logf("20,000 pieces: %d renders in %d frames", renders, frames)
	}
	b.clean()
}

// A screen can show a table or code that is wider than itself, without becoming wider.
func (b *browser) fits() {
	b.t.Helper()
	b.until("document.documentElement.scrollWidth <= innerWidth && document.getElementById('scroll').scrollWidth <= document.getElementById('scroll').clientWidth")
}
