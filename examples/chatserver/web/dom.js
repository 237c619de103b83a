// Small helpers for elements. Content becomes text nodes, never HTML.

export const $ = (id) => document.getElementById(id);

export const phone = matchMedia("(max-width: 700px)");

// home gives the keyboard a place when what had the focus goes away. On a phone, focus in the message box opens a keyboard.
export function home() { $(phone.matches || $("text").disabled ? "scroll" : "text").focus(); }

// gone removes an element. The focus does not fall to the body.
export function gone(e) {
  const had = e.contains(document.activeElement);
  e.remove();
  if (had) home();
}

// named returns a name that others chose, without what turns the direction of text round. A name that shows nothing is "".
export function named(name) {
  const text = (name ?? "").replace(/[\u202A-\u202E\u2066-\u2069]/g, "").trim();
  return /^[\s\p{Cf}]*$/u.test(text) ? "" : text;
}

export const titled = (t) => named(t?.title) || "New conversation";

// el returns a new element. An attribute whose name begins with on is a listener. One that is false or null is left out.
export function el(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else if (value === false || value == null) continue;
    else e.setAttribute(name, value === true ? "" : value);
  }
  e.append(...children.flat(Infinity).filter((c) => c != null && c !== false));
  return e;
}

// link returns an anchor for an http or https URL, and plain text for any other.
export function link(url, text) {
  return /^https?:\/\//i.test(url ?? "") ? el("a", { href: url, title: url, rel: "noopener noreferrer nofollow", target: "_blank" }, text) : text;
}

// button returns a small button. what is its data-act attribute.
export function button(text, onclick, what, more = {}) {
  return el("button", { type: "button", class: "plain", "data-act": what, onclick, ...more }, text);
}

// copier returns a button that copies a text, or null where the browser has no clipboard (on pages without TLS).
export function copier(text) {
  if (!navigator.clipboard) return null;
  return button("Copy", async (e) => {
    const b = e.currentTarget;
    try {
      await navigator.clipboard.writeText(text());
      b.textContent = "Copied";
    } catch {
      b.textContent = "Not copied";
    }
    setTimeout(() => { b.textContent = "Copy"; }, 2000);
  }, "copy");
}
