// Markdown to elements. The text is hostile: it comes from models and other users. HTML in it is shown as text. What marked
// makes of the rest is sanitised all the same. The page's policy demands that too: it takes HTML from DOMPurify only.
import { Marked } from "./vendor/marked.esm.js";
import hljs from "./vendor/highlight.min.js";
import "./vendor/purify.min.js"; // sets globalThis.DOMPurify
import { copier, el, link } from "./dom.js";

const purify = globalThis.DOMPurify;

const escape = (s) => (s ?? "").replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

const marked = new Marked({
  gfm: true, breaks: true,
  renderer: {
    html: ({ text, block }) => (block ? `<p>${escape(text.trimEnd())}</p>` : escape(text)),
    // Not an img element: a picture is a request to a server. place decides about it.
    image: ({ href, text }) => `<a class="picture" href="${escape(href)}">${escape(text)}</a>`,
  },
});

const rules = {
  RETURN_DOM_FRAGMENT: true,
  ALLOWED_TAGS: ["a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "input", "li", "ol", "p", "pre",
    "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"],
  ALLOWED_ATTR: ["align", "checked", "class", "disabled", "href", "start", "type"],
  ADD_URI_SAFE_ATTR: ["align", "checked", "disabled", "start", "type"], // the values of all others must be such addresses
  ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
  ALLOW_DATA_ATTR: false, ALLOW_ARIA_ATTR: false,
};

// allowed reports whether a picture may be loaded without a click: over https, from one of these domains or below it.
export function allowed(url, domains) {
  try {
    const u = new URL(url);
    return u.protocol === "https:" && (domains ?? []).some((d) => u.hostname === d.toLowerCase() || u.hostname.endsWith("." + d.toLowerCase()));
  } catch {
    return false;
  }
}

// picture returns an image, or a link to it where images of its server are not allowed.
export function picture(url, alt, domains) {
  if (allowed(url, domains)) return el("img", { class: "made", src: url, alt, loading: "lazy", referrerpolicy: "no-referrer" });
  return el("span", { class: "picture" }, "Image: ", link(url, alt || url || "without an address"));
}

const mostHighlighted = 50_000; // characters; more would stop the page for too long

function codeBlock(code, open) {
  const name = /(?:^|\s)language-(\S+)/.exec(code.className)?.[1] ?? "";
  const text = code.textContent.replace(/\n$/, "");
  const inner = el("code", { class: "hljs" }, text);
  // The block that still grows is highlighted only while it is short.
  if (hljs.getLanguage(name) && text.length < (open ? 4_000 : mostHighlighted)) {
    inner.replaceChildren(purify.sanitize(hljs.highlight(text, { language: name, ignoreIllegals: true }).value, rules));
  }
  return el("div", { class: "code" }, el("div", { class: "codebar" }, el("span", {}, name), copier(() => text)), el("pre", { tabindex: "0" }, inner));
}

// place makes a sanitised fragment ready for the page.
function place(fragment, domains, open) {
  for (const code of fragment.querySelectorAll("pre > code")) code.parentElement.replaceWith(codeBlock(code, open));
  for (const a of fragment.querySelectorAll("a")) {
    const url = a.getAttribute("href") ?? "";
    if (a.className === "picture") a.replaceWith(picture(url, a.textContent, domains));
    else if (url.startsWith("mailto:")) a.rel = "noopener noreferrer nofollow";
    else a.replaceWith(link(url, el("span", {}, ...a.childNodes)));
  }
  for (const box of fragment.querySelectorAll("input")) {
    if (box.type === "checkbox") box.disabled = true;
    else box.remove();
  }
  for (const t of fragment.querySelectorAll("table")) {
    const scroll = el("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Table" });
    t.replaceWith(scroll);
    scroll.append(t);
  }
  return fragment;
}

const shown = new WeakMap(); // the blocks that an element shows

// show renders a text into an element. It renders only the blocks that differ from the element's last text. open says that
// the text still grows.
export function show(into, text, domains, open) {
  const tokens = marked.lexer(text);
  // A link may be defined far from its use, so a definition renders everything again.
  const links = JSON.stringify(tokens.links) + JSON.stringify(domains ?? null);
  const last = shown.get(into);
  const before = last?.links === links ? last.blocks : [];
  const now = [];
  tokens.filter((t) => t.type !== "space").forEach((token, i, all) => {
    const growing = Boolean(open) && i === all.length - 1;
    const had = before[i];
    if (had && had.raw === token.raw && had.growing === growing) {
      now.push(had);
      return;
    }
    const one = Object.assign([token], { links: tokens.links });
    now.push({ raw: token.raw, growing, node: el("div", { class: "block" }, place(purify.sanitize(marked.parser(one), rules), domains, growing)) });
  });
  const same = now.findIndex((b, i) => b !== before[i]);
  const keep = same < 0 ? now.length : same;
  if (before.length === 0) into.replaceChildren();
  while (into.children.length > keep) into.lastChild.remove();
  into.append(...now.slice(keep).map((b) => b.node));
  shown.set(into, { links, blocks: now });
  return into;
}
