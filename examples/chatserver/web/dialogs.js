// Questions to the user, in the page's own dialogs.
import { el } from "./dom.js";

// modal shows a dialog with the heading dialog-title and returns it. Escape and a click beside it close it.
export function modal(content, onclose) {
  const d = el("dialog", { "aria-labelledby": "dialog-title", onclose: () => { onclose(d.returnValue); d.remove(); } }, content);
  d.addEventListener("keydown", (e) => {
    if (e.key !== "Escape") return;
    e.preventDefault();
    d.close();
  });
  d.addEventListener("click", (e) => { if (e.target === d) d.close(); }); // the backdrop
  document.body.append(d);
  d.showModal();
  return d;
}

// question shows a dialog and returns a promise: the entered text, true for a question without a text, or null if the user
// cancels.
function question({ title, text, value, ok, danger }) {
  return new Promise((resolve) => {
    const input = value === undefined ? null : el("input", { type: "text", id: "dialog-value", value, maxlength: 250, autocomplete: "off", "aria-labelledby": "dialog-title" });
    const cancel = el("button", { type: "button", onclick: () => d.close() }, "Cancel");
    const form = el("form", { onsubmit: (e) => { e.preventDefault(); d.close("yes"); } },
      el("h2", { id: "dialog-title" }, title), text ? el("p", {}, text) : null, input,
      el("div", { class: "row end" }, cancel, el("button", { type: "submit", class: danger ? "danger" : "primary" }, ok)));
    const d = modal(form, (value) => resolve(value === "yes" ? input?.value ?? true : null));
    if (input) input.select();
    else cancel.focus(); // Enter must not delete anything by accident
  });
}

export const askText = (title, value, ok) => question({ title, value, ok });
export const askSure = (title, text, ok) => question({ title, text, ok, danger: true });
