// The elements of widgets.
import { el } from "./dom.js";
import { picture, show } from "./markdown.js";

const words = (v) => String(v ?? "");

// image returns a picture that is in its address itself, or one of an allowed server.
export function image(src, alt, domains) {
  return /^data:image\//.test(src) ? el("img", { class: "made", src, alt }) : picture(src, alt, domains);
}

// component returns the element of a widget's component. An unknown one becomes a labelled box with its children.
export function component(c, act, domains) {
  if (!c || typeof c !== "object") return null;
  const children = (Array.isArray(c.children) ? c.children : c.children ? [c.children] : []).map((k) => component(k, act, domains));
  switch (c.type) {
    case "Card": case "Col": case "Row": case "Box": case "Form": case "ListView": case "ListViewItem":
      return el("div", { class: c.type === "Row" ? "row" : null }, children);
    case "Title": return el("h3", {}, words(c.value));
    case "Markdown": return show(el("div", { class: "md", "data-component": c.id }), words(c.value), domains);
    case "Text": case "Caption": case "Label":
      return el("p", { class: c.type === "Caption" ? "text label" : "text", "data-component": c.id }, words(c.value));
    case "Image": return image(words(c.src), words(c.alt), domains);
    case "Divider": return el("hr");
    case "Button": {
      const action = c.onClickAction ?? c.action;
      return el("button", { type: "button", disabled: !action, onclick: () => act(action) }, words(c.label ?? "Button"));
    }
  }
  return el("div", {}, el("span", { class: "label" }, words(c.type ?? "component")), children);
}
