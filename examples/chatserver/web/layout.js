// Drawers: on a narrow window, the list and the panel come from the side. On a phone they are modal.
import { $, phone } from "./dom.js";

const drawers = { side: { button: "menu", narrow: phone }, panel: { button: "toggle", narrow: matchMedia("(max-width: 1100px)") } };

const isOpen = (name) => document.body.classList.contains(name);

function set(name, on) {
  if (on) for (const other of Object.keys(drawers)) if (other !== name && isOpen(other)) set(other, false);
  document.body.classList.toggle(name, on);
  $(drawers[name].button).setAttribute("aria-expanded", on);
  // Behind a modal drawer nothing takes the focus.
  for (const e of document.querySelectorAll("main, .skip")) e.inert = on && phone.matches;
  $("backdrop").hidden = !(on && phone.matches);
  if (!on) return $(drawers[name].button).focus();
  const into = $(name);
  into.tabIndex = -1;
  if (phone.matches) into.focus();
}

// closeDrawers closes what is open, and returns whether something was.
export function closeDrawers() {
  const which = Object.keys(drawers).filter((name) => isOpen(name) && drawers[name].narrow.matches);
  for (const name of which) set(name, false);
  return which.length > 0;
}

export function start() {
  for (const [name, d] of Object.entries(drawers)) {
    $(d.button).addEventListener("click", () => set(name, !isOpen(name)));
    for (const b of document.querySelectorAll(`[data-close=${name}]`)) b.addEventListener("click", () => set(name, false));
    d.narrow.addEventListener("change", (e) => { if (!e.matches && isOpen(name)) set(name, false); });
  }
  $("backdrop").addEventListener("click", closeDrawers);
}
