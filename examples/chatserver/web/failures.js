// Failures stay in the conversation, also when the user comes back to it, until they are mended or dismissed.
import { $, button, el, gone } from "./dom.js";

const kept = new Map(); // rows by thread id; "" is for the conversation that has not begun
let place = () => ""; // the open thread's id

export const failuresOf = (where) => { place = where; };

// keep makes a row stay in a conversation, shown or not. It comes back behind the item that is the newest now.
export function keep(li, id = place()) {
  kept.set(id, [...(kept.get(id) ?? []), li]);
  if (id !== place()) return li;
  if (!li.isConnected) $("items").append(li);
  const before = [...$("items").children].findLast((e) => e.id.startsWith("item-"));
  if (before) li.dataset.after = before.id.slice("item-".length);
  return li;
}

// drop removes a row for good.
export function drop(li) {
  gone(li);
  for (const [id, rows] of kept) kept.set(id, rows.filter((r) => r !== li));
}

// keptFailures returns the rows of a thread.
export const keptFailures = (id) => kept.get(id) ?? [];

// moveFailures moves the rows of a conversation that has just begun.
export function moveFailures(id) {
  if (kept.has("")) kept.set(id, [...(kept.get(id) ?? []), ...kept.get("")]);
  kept.delete("");
}

export const forgetFailures = () => kept.clear();

// fail shows a failure at the end of the conversation. again, if given, is what "Try again" does: it calls its argument when it
// begins, which removes the failure. where is the conversation's id, if that may not be the open one.
export function fail(text, { again, lasting = true, where = place() } = {}) {
  const last = $("items").lastElementChild;
  if (where === place() && last?.classList.contains("failure") && last.firstChild.textContent === text) drop(last); // say it once
  const li = el("li", { class: "failure", role: "alert" }, el("span", {}, text),
    again ? el("button", { type: "button", "data-act": "again", onclick: () => again(() => drop(li)) }, "Try again") : null,
    button("Dismiss", () => drop(li), "dismiss"));
  if (lasting) keep(li, where);
  else $("items").append(li);
}
