// The open conversation: its items, as the server's events and pages change them.
import { accessTo, ask, newest } from "./api.js";
import { $, el, gone, home, phone, titled } from "./dom.js";
import { fail, keptFailures } from "./failures.js";
import { refresh, render } from "./items.js";
import { follow } from "./scroll.js";
import { denied, owned, words } from "./sharing.js";
import { update } from "./updates.js";

// open is what the page shows. Others only read it.
export const open = {
  id: "", // of the thread, also while it is loaded; "" for a conversation that has not begun
  thread: null, // null means that the next message begins one
  access: null, // whose it is, and what the user may do: see sharing.js
  visit: 0, // counts visits: a late answer for an earlier visit is not shown
  stream: null, // the AbortController of the answer that this tab reads
  changes: 0, // counts events that add or remove items, also of other tabs: what was asked before is out of date then
  readOnly: "", // why the user cannot write here
};

let items = new Map(); // by id, in the order of the page
let drafts = new Set(); // ids of items that are announced and not stored yet
let act = {}; // what the buttons in items do

export const listen = (actions) => { act = actions; };
export const all = () => [...items.values()];
export const draftsNow = () => [...drafts].map((id) => items.get(id));

// unanswered reports whether the newest stored item is a user's message: its answer may be under way elsewhere.
export const unanswered = () => all().findLast((i) => !drafts.has(i.id))?.type === "user_message";

const row = (id) => document.getElementById("item-" + id);

// put shows an item, new or changed. streaming says that its updates follow.
export function put(item, streaming = false) {
  const had = items.get(item.id);
  const before = row(item.id);
  items.set(item.id, item);
  if (streaming) drafts.add(item.id);
  else drafts.delete(item.id);
  dirty.delete(item.id);
  if (before && !streaming && !before.classList.contains("streaming") && JSON.stringify(had) === JSON.stringify(item)) return;
  if (before && refresh(before, item, act, streaming, domains())) return;
  const now = render(item, act, streaming, domains());
  if (before) replace(before, now);
  else $("items").append(now);
  document.querySelector(".empty")?.remove();
}

const domains = () => open.thread?.allowed_image_domains;

// replace keeps the keyboard's place.
function replace(before, now) {
  const places = (e) => [...e.querySelectorAll("button, input, textarea, a")];
  const at = places(before).indexOf(document.activeElement);
  before.replaceWith(now);
  if (at >= 0) (places(now)[at] ?? { focus: home }).focus();
}

function take(id) {
  items.delete(id);
  drafts.delete(id);
  if (row(id)) gone(row(id));
}

// Updates are shown at most once in a frame. After a slow frame, the next one waits, so that the page stays usable.
const dirty = new Set();
let planned = false;
let notBefore = 0;

function soon(id) {
  dirty.add(id);
  if (planned) return;
  planned = true;
  const wait = notBefore - performance.now();
  if (wait > 4) setTimeout(() => requestAnimationFrame(paint), wait);
  else requestAnimationFrame(paint);
}

function paint() {
  planned = false;
  const began = performance.now();
  for (const id of [...dirty]) if (items.has(id)) put(items.get(id), true);
  dirty.clear();
  const took = performance.now() - began;
  notBefore = performance.now() + (took > 8 ? 3 * took : 0);
}

// handle applies an event of a stream. own is the row of the user's message that is being sent, if there is one.
export function handle(e, own) {
  if (e.type.startsWith("thread.item.") && e.type !== "thread.item.updated") open.changes++;
  switch (e.type) {
    case "thread.created":
      open.id = e.thread.id;
      show(e.thread);
      history.replaceState(null, "", "#" + e.thread.id);
      document.dispatchEvent(new Event("listchanged"));
      break;
    case "thread.updated":
      show(e.thread);
      document.dispatchEvent(new Event("listchanged"));
      break;
    case "thread.item.added":
      if (e.item.type !== "assistant_message" || e.item.content?.some((c) => c.text)) said();
      put(e.item, true);
      break;
    case "thread.item.done":
    case "thread.item.replaced":
      if (e.item.type === "user_message") own?.remove();
      else said();
      put(e.item);
      break;
    case "thread.item.removed": take(e.item_id); break;
    case "thread.item.updated": {
      const item = items.get(e.item_id);
      if (item && update(item, e.update)) soon(item.id);
      if (e.update.type !== "assistant_message.content_part.added") said();
      break;
    }
    case "progress_update": progress(e.text); break;
    case "notice": said(); aside(el("li", { class: "box notice " + (e.level ?? "") }, e.title ? el("strong", {}, e.title) : null, el("p", { class: "text" }, e.message))); break;
    case "client_effect": aside(el("li", { class: "effect" }, `Effect ${e.name}: ${JSON.stringify(e.data)}`)); break;
    case "error": said(); fail(e.message ?? "Something went wrong.", { again: e.allow_retry && act.again() }); break;
  }
}

function aside(li) {
  $("items").append(li);
  document.querySelector(".empty")?.remove();
}

// progress shows what the assistant does, below the conversation. more follows the text.
export function progress(text, thinking = false, ...more) {
  const had = $("progress").contains(document.activeElement);
  $("progress").replaceChildren(text, ...more);
  if (had) home();
  $("progress").classList.toggle("thinking", thinking);
}

function said() {
  if ($("progress").classList.contains("thinking")) progress("");
}

// settle ends what a stream has left open.
export function settle() {
  paint();
  progress("");
  for (const i of draftsNow()) if (i.type === "assistant_message" && !i.content.some((c) => c.text)) take(i.id);
  for (const e of document.querySelectorAll(".streaming")) e.classList.remove("streaming");
}

// show shows the thread's title and status.
export function show(t) {
  open.thread = t;
  const closed = t?.status?.type && t.status.type !== "active" ? `This conversation is ${t.status.type}. ${t.status.reason ?? ""}` : "";
  $("title").textContent = titled(t);
  document.title = (t?.title ? titled(t) + " · " : "") + "chatserver";
  const shared = words(open.access);
  $("rename").hidden = !t || denied(open.access);
  $("share").hidden = $("delete").hidden = !t || !owned(open.access);
  writable(closed || (denied(open.access) ? shared : ""));
  says([shared, closed].filter(Boolean).join(" "));
  document.dispatchEvent(new Event("opened"));
}

// writable enables the message box, or says why the user cannot write.
export function writable(why) {
  open.readOnly = why;
  $("text").disabled = $("send").disabled = $("file").disabled = Boolean(why);
  $("items").classList.toggle("readonly", Boolean(why));
  says(why);
}

function says(text) {
  $("closed").textContent = text;
  $("closed").hidden = !text;
}

// visit opens the thread with this id, or none. An answer that is under way elsewhere goes on: see turn.js.
export async function visit(id) {
  act.detach();
  act.leave(open.id, id);
  open.id = id;
  const mine = ++open.visit;
  items = new Map();
  drafts = new Set();
  $("announce").textContent = "";
  progress("");
  $("items").replaceChildren();
  $("older").hidden = true;
  open.access = null;
  show(null);
  follow();
  if (!id) {
    $("items").append(...keptFailures(""));
    if (!$("items").children.length) $("items").append(act.starters());
    if (!phone.matches) $("text").focus();
    return;
  }
  try {
    const [t, page, access] = await Promise.all([ask("threads.get_by_id", { thread_id: id }), newest(id), accessTo(id)]);
    if (mine !== open.visit) return;
    open.access = access;
    show(t);
    for (const item of page.data) put(item);
    for (const li of keptFailures(id)) {
      const before = row(li.dataset.after);
      if (before) before.after(li);
      else $("items").append(li);
    }
    older(id, page, mine);
    act.resume(id);
    act.visited(id);
  } catch (err) {
    if (mine !== open.visit) return;
    if (err.status === 404) {
      open.id = "";
      history.replaceState(null, "", location.pathname);
    }
    fail(err.status === 404 ? "There is no such conversation." : err.message, { lasting: false });
  }
}

// older makes the button load the items before a page.
function older(id, page, mine) {
  $("older").hidden = !page.has_more;
  $("older").onclick = async () => {
    let next;
    try {
      next = await ask("items.list", { thread_id: id, limit: 50, order: "desc", after: page.after });
    } catch (err) {
      if (mine === open.visit) fail(err.message);
      return;
    }
    if (mine !== open.visit) return;
    const height = $("scroll").scrollHeight;
    const before = next.data.reverse().filter((i) => !items.has(i.id));
    items = new Map([...before.map((i) => [i.id, i]), ...items]);
    $("items").prepend(...before.map((i) => render(i, act, false, domains())));
    $("scroll").scrollTop += $("scroll").scrollHeight - height;
    older(id, next, mine);
  };
}

// reload shows what the server has now, for example after a lost connection.
export async function reload() {
  const id = open.thread?.id;
  const { visit: mine, changes } = open;
  if (!id || open.stream) return;
  const [t, page] = await Promise.all([ask("threads.get_by_id", { thread_id: id }), newest(id), recheck()]);
  if (mine !== open.visit || open.stream) return;
  if (changes !== open.changes) return reload();
  if (JSON.stringify(t.title) !== JSON.stringify(open.thread.title) || t.status?.type !== open.thread.status?.type) show(t);
  merge(page, id);
}

// recheck asks what the user may do now in another user's conversation, or with own in the user's own, and says what has changed.
export async function recheck(own = false) {
  const { access, visit: mine } = open;
  if (!open.thread || (owned(access) && !own)) return;
  let now;
  try {
    now = await accessTo(open.thread.id);
  } catch (err) {
    if (err.status !== 404) return; // the next request asks again
    now = { by: owned(access) ? "" : access.by, role: "ended" };
  }
  if (mine !== open.visit || now.role === (open.access?.role ?? "owner")) return;
  open.access = now;
  show(open.thread);
  document.dispatchEvent(new Event("listchanged"));
}

// merge shows the newest page. Drafts stay until there is an answer.
function merge(page, id) {
  const stored = page.data;
  if (page.has_more && !stored.some((i) => items.has(i.id))) { // too much is new
    items = new Map();
    $("items").replaceChildren();
    older(id, page, open.visit);
  }
  const ids = new Set(stored.map((i) => i.id));
  const answered = stored.at(-1) && stored.at(-1).type !== "user_message";
  let inside = !page.has_more;
  for (const i of all()) {
    inside ||= ids.has(i.id); // what is older than the page is not the page's business
    if (inside && !ids.has(i.id) && (answered || !drafts.has(i.id))) take(i.id);
  }
  let last = null;
  for (const i of stored) {
    put(i);
    const li = row(i.id);
    if (last && !(last.compareDocumentPosition(li) & Node.DOCUMENT_POSITION_FOLLOWING)) last.after(li);
    last = li;
  }
  // The map has the order of the page.
  items = new Map([...$("items").children].map((li) => li.id.slice("item-".length)).filter((k) => items.has(k)).map((k) => [k, items.get(k)]));
}
