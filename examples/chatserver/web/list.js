// The list of conversations: grouped by date, and searched by title.
import { ask, sharedWithMe } from "./api.js";
import { $, el, titled } from "./dom.js";
import { open } from "./thread.js";

let rows = []; // the loaded threads, newest first
let shared = []; // what others share with the user, the last shared first
let next = ""; // the cursor behind them; "" after the last one
let asked = 0; // counts requests: only the answer of the last one is shown
let drawn = ""; // what the list shows

export const known = () => new Set(rows.map((t) => t.id));

export function forgetList() {
  asked++;
  rows = [];
  shared = [];
  next = "";
  $("search").value = "";
  draw();
}

// list reloads the newest threads. The older ones that are loaded stay.
export async function list() {
  const mine = ++asked;
  const got = await load(() => Promise.all([ask("threads.list", { limit: Math.min(Math.max(rows.length, 30), 100) }), sharedWithMe()]));
  if (!got || mine !== asked) return;
  const [page] = got;
  shared = got[1];
  const fresh = new Set(page.data.map((t) => t.id));
  const last = page.data.at(-1)?.created_at ?? "";
  const older = page.has_more ? rows.filter((t) => !fresh.has(t.id) && t.created_at < last) : [];
  rows = [...page.data, ...older];
  if (!older.length) next = page.has_more ? page.after : "";
  draw();
  find();
}

async function load(request) {
  try {
    const got = await request();
    $("listed").textContent = "";
    return got;
  } catch (err) {
    $("listed").textContent = "The list is not up to date. " + err.message;
    return null;
  }
}

async function more() {
  const mine = asked;
  const page = await load(() => ask("threads.list", { limit: $("search").value ? 100 : 30, after: next }));
  if (!page || mine !== asked) return false;
  const had = known();
  rows.push(...page.data.filter((t) => !had.has(t.id)));
  next = page.has_more ? page.after : "";
  draw();
  return true;
}

const sought = () => $("search").value.trim().toLowerCase();
const found = (from) => from.filter((t) => titled(t).toLowerCase().includes(sought()));

let finding = false;

// find loads further pages until the search has enough results.
async function find() {
  if (finding) return;
  finding = true;
  while (sought() && next && found(rows).length < 30 && await more());
  finding = false;
  if (sought() && !next && !found([...shared, ...rows]).length) $("listed").textContent = "No conversation has this title.";
}

const day = 24 * 60 * 60 * 1000;
const names = (options) => new Intl.DateTimeFormat("en-GB", options);
const clock = names({ hour: "2-digit", minute: "2-digit" });
const date = names({ day: "numeric", month: "short" });
const month = names({ month: "long" });
const whole = names({ dateStyle: "full", timeStyle: "short" });

// group returns the heading above a thread, and the short form of its time.
function group(at, now) {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate());
  const days = Math.ceil((midnight - at) / day); // a day with a clock change counts as any other
  if (days <= 0) return ["Today", clock.format(at)];
  if (days === 1) return ["Yesterday", clock.format(at)];
  if (days <= 7) return ["Previous 7 days", date.format(at)];
  return [month.format(at) + (at.getFullYear() === now.getFullYear() ? "" : " " + at.getFullYear()), date.format(at)];
}

function line(t, more) {
  return el("li", {}, el("button", { type: "button", "data-id": t.id, title: titled(t), onclick: () => { location.hash = t.id; } },
    el("span", {}, titled(t)), more));
}

function draw() {
  $("more").hidden = !next;
  const now = new Date();
  const shown = found(rows);
  const theirs = found(shared);
  const state = JSON.stringify([now.toDateString(), [...theirs, ...shown].map((t) => [t.id, t.title, t.by])]);
  if (state === drawn) return mark(); // replacing a row during a click would lose the click
  drawn = state;
  const groups = theirs.length ? [{ heading: "Shared with you", rows: theirs.map((t) => line(t, el("span", { class: "by" }, "by " + t.by))) }] : [];
  for (const t of shown) {
    const at = new Date(t.created_at);
    const [heading, short] = group(at, now);
    if (groups.at(-1)?.heading !== heading) groups.push({ heading, rows: [] });
    groups.at(-1).rows.push(line(t, el("time", { datetime: t.created_at, title: whole.format(at) }, short)));
  }
  $("threads").replaceChildren(...groups.map((g, i) => el("section", { "aria-labelledby": "group-" + i }, el("h3", { id: "group-" + i }, g.heading), el("ul", {}, g.rows))));
  mark();
}

// mark marks the row of the open conversation.
function mark() {
  for (const b of $("threads").querySelectorAll("button")) b.setAttribute("aria-current", b.dataset.id === open.thread?.id);
}

export function start() {
  document.addEventListener("listchanged", list);
  document.addEventListener("opened", mark);
  $("more").addEventListener("click", more);
  $("search").addEventListener("input", () => { $("listed").textContent = ""; draw(); find(); });
}
