// The page: a list of conversations, the open conversation, and the stream of its newest answer.
import { el, render, update } from "./items.js";
import * as panel from "./panel.js";

const $ = (id) => document.getElementById(id);

let thread = null; // the open one; null means that the next message begins one
let items = new Map(); // items of the open thread, by id, in the order of the page
let stream = null; // the AbortController of the running answer
let files = []; // attached to the next message
let shown = 0; // counts visits: a late answer for an earlier visit is not shown
let who = ""; // the user

// Requests.

class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `The server answered ${status}.`);
    this.status = status;
  }
}

async function post(type, params, signal) {
  const res = await fetch("/chatkit", {
    method: "POST", signal, headers: { "Content-Type": "application/json" }, body: JSON.stringify({ type, params }),
  });
  if (!res.ok) throw new Refused(res.status, (await res.json().catch(() => ({}))).error);
  return res;
}

const ask = async (type, params) => (await post(type, params)).json();

// events yields the events of a stream. An event may be split anywhere. A line that begins with a colon is a heartbeat.
async function* events(res) {
  const reader = res.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const data = text.slice(0, end).split("\n").filter((l) => l.startsWith("data:")).map((l) => l.slice(5)).join("\n");
      if (data) yield JSON.parse(data);
    }
  }
}

// The conversation.

const act = {
  retry: (item) => respond("threads.retry_after_item", { thread_id: thread.id, item_id: item.id }),
  action: (item, action) => respond("threads.custom_action", { thread_id: thread.id, item_id: item.id, action }),
  form: (item, input) => respond("threads.add_structured_input", { thread_id: thread.id, item_id: item.id, input }),
  output(text) {
    let result;
    try { result = JSON.parse(text); } catch { return fail("The result is not JSON."); }
    respond("threads.add_client_tool_output", { thread_id: thread.id, result });
  },
  async feedback(item, kind, button) {
    if (!(await attempt(() => ask("items.feedback", { thread_id: thread.id, item_ids: [item.id], kind })))) return;
    for (const b of button.parentElement.children) b.setAttribute("aria-pressed", b === button);
  },
};

function put(item, streaming = false) {
  const before = document.getElementById("item-" + item.id);
  const now = render(item, act, streaming);
  items.set(item.id, item);
  if (before) before.replaceWith(now);
  else $("items").append(now);
  document.querySelector(".empty")?.remove();
}

function take(id) {
  items.delete(id);
  document.getElementById("item-" + id)?.remove();
}

// atEnd makes a change and keeps the newest item in view if it was in view before.
function atEnd(change) {
  const s = $("scroll");
  const near = s.scrollHeight - s.scrollTop - s.clientHeight < 80;
  change();
  if (near) s.scrollTop = s.scrollHeight;
}

function handle(e) {
  switch (e.type) {
    case "thread.created":
      open(e.thread);
      history.replaceState(null, "", "#" + e.thread.id);
      list();
      break;
    case "thread.updated":
      open(e.thread);
      list();
      break;
    case "thread.item.added": put(e.item, true); break;
    case "thread.item.done":
    case "thread.item.replaced": put(e.item); break;
    case "thread.item.removed": take(e.item_id); break;
    case "thread.item.updated": {
      const item = items.get(e.item_id);
      if (item && update(item, e.update)) put(item, true);
      break;
    }
    case "progress_update": $("progress").textContent = e.text; break;
    case "notice": $("items").append(el("li", { class: "box notice", role: "status" }, e.title ? el("strong", {}, e.title) : null, el("p", { class: "text" }, e.message))); break;
    case "client_effect": $("items").append(el("li", { class: "effect" }, `Effect ${e.name}: ${JSON.stringify(e.data)}`)); break;
    case "error": fail(e.message ?? "Something went wrong.", e.allow_retry); break;
  }
}

// respond makes a request whose answer is a stream. It returns whether an event came.
async function respond(type, params) {
  if (stream) {
    $("progress").textContent = "Wait for the answer to end, or stop it.";
    return false;
  }
  const mine = shown;
  stream = new AbortController();
  busy(true);
  fail("");
  announce("Answering");
  let began = false;
  let said = "";
  try {
    for await (const e of events(await post(type, params, stream.signal))) {
      began = true;
      if (mine === shown) atEnd(() => handle(e));
      if (e.type === "thread.item.done" && e.item.type === "assistant_message") said += e.item.content.map((c) => c.text).join(" ") + "\n";
    }
  } catch (err) {
    if (err.name !== "AbortError" && mine === shown) fail(err.message, began);
  }
  if (mine === shown) {
    announce(said);
    $("progress").textContent = "";
    for (const e of document.querySelectorAll(".streaming")) e.classList.remove("streaming");
  }
  stream = null;
  busy(false);
  if (mine === shown) runTools();
  return began;
}

// The tools that this page can run. For any other tool, the user types the result.
const tools = { get_local_time: () => ({ time: new Date().toISOString(), zone: Intl.DateTimeFormat().resolvedOptions().timeZone }) };

const ran = new Set(); // ids of calls that ran: a call whose result was refused must not run again and again

function runTools() {
  const last = [...items.values()].at(-1);
  if (last?.type !== "client_tool_call" || last.status !== "pending" || !Object.hasOwn(tools, last.name) || ran.has(last.id)) return;
  ran.add(last.id);
  act.output(JSON.stringify(tools[last.name]()));
}

// announce gives a screen reader the text of a stream, once and as a whole.
function announce(text) { $("announce").textContent = text; }

function busy(on) {
  $("send").hidden = on;
  $("stop").hidden = !on;
  $("items").setAttribute("aria-busy", on);
}

function fail(text, retry) {
  const last = [...items.values()].findLast((i) => i.type === "user_message");
  $("failure").hidden = !text;
  $("failure").replaceChildren(text, ...(retry && last ? [el("button", { type: "button", onclick: () => act.retry(last) }, "Try again")] : []));
}

async function attempt(f) {
  const mine = shown;
  try {
    return await f();
  } catch (err) {
    if (mine === shown) fail(err.message);
    return null;
  }
}

// open shows the thread's title and status.
function open(t) {
  thread = t;
  const closed = t && t.status?.type && t.status.type !== "active";
  $("title").textContent = t ? t.title || "Untitled" : "New conversation";
  document.title = (t?.title ? t.title + " · " : "") + "chatserver";
  $("rename").hidden = $("delete").hidden = !t;
  $("text").disabled = $("send").disabled = Boolean(closed);
  $("text").placeholder = closed ? `This conversation is ${t.status.type}. ${t.status.reason ?? ""}` : "Message, or /help";
  mark();
}

// visit opens the thread with this id, or none.
async function visit(id) {
  stream?.abort();
  const mine = ++shown;
  items = new Map();
  fail("");
  announce("");
  $("progress").textContent = "";
  $("items").replaceChildren();
  $("older").hidden = true;
  open(null);
  if (!id) {
    $("items").append(el("li", { class: "empty" }, "Say something. /help lists what this assistant can show."));
    $("text").focus();
    return;
  }
  try {
    const [t, page] = await Promise.all([
      ask("threads.get_by_id", { thread_id: id }), ask("items.list", { thread_id: id, limit: 50, order: "desc" }),
    ]);
    if (mine !== shown) return;
    open(t);
    for (const item of page.data.reverse()) put(item);
    older(id, page, mine);
    $("scroll").scrollTop = $("scroll").scrollHeight;
    runTools();
  } catch (err) {
    if (mine !== shown) return;
    if (err.status === 404) history.replaceState(null, "", location.pathname);
    fail(err.status === 404 ? "There is no such conversation." : err.message);
  }
}

// older makes the button load the items before a page.
function older(id, page, mine) {
  $("older").hidden = !page.has_more;
  $("older").onclick = async () => {
    const next = await attempt(() => ask("items.list", { thread_id: id, limit: 50, order: "desc", after: page.after }));
    if (!next || mine !== shown) return;
    const height = $("scroll").scrollHeight;
    const before = next.data.reverse();
    items = new Map([...before.map((i) => [i.id, i]), ...items]);
    $("items").prepend(...before.map((i) => render(i, act)));
    $("scroll").scrollTop += $("scroll").scrollHeight - height;
    older(id, next, mine);
  };
}

// The list.

let listed = ""; // the ids and titles in the list
let lists = 0; // counts requests: only the answer of the last one is shown

// list reloads the list with at least as many rows as before. With a cursor, it appends the next page.
async function list(after) {
  const mine = ++lists;
  const limit = after ? 30 : Math.min(Math.max($("threads").children.length, 30), 100);
  const page = await attempt(() => ask("threads.list", { limit, after }));
  if (!page || mine !== lists) return;
  const now = JSON.stringify(page.data.map((t) => [t.id, t.title]));
  if (!after && now === listed) return; // replacing a row during a click would lose the click
  listed = after ? "" : now;
  const rows = page.data.map((t) => el("li", {}, el("button", {
    type: "button", "data-id": t.id, onclick: () => { location.hash = t.id; },
  }, t.title || "Untitled")));
  if (after) $("threads").append(...rows);
  else $("threads").replaceChildren(...rows);
  mark();
  $("more").hidden = !page.has_more;
  $("more").onclick = () => list(page.after);
}

// mark marks the row of the open conversation.
function mark() {
  for (const b of document.querySelectorAll("#threads button")) b.setAttribute("aria-current", b.dataset.id === thread?.id);
}

// User actions.

$("composer").addEventListener("submit", async (e) => {
  e.preventDefault();
  const text = $("text").value.trim();
  if (stream || (!text && !files.length)) return;
  const input = {
    content: [{ type: "input_text", text }], attachments: files.map((f) => f.id), inference_options: {},
  };
  $("text").value = "";
  const sent = thread
    ? await respond("threads.add_user_message", { thread_id: thread.id, input })
    : await respond("threads.create", { input });
  if (!sent) $("text").value = $("text").value || text; // refused: keep the text
  else attach([]);
  $("text").focus();
});

$("text").addEventListener("keydown", (e) => {
  if (e.key !== "Enter" || e.shiftKey || e.isComposing) return;
  e.preventDefault();
  $("composer").requestSubmit();
});

document.addEventListener("keydown", (e) => {
  if (e.key === "Escape") stream?.abort();
});

$("stop").addEventListener("click", () => stream?.abort());
$("new").addEventListener("click", () => {
  if (location.hash) location.hash = "";
  else visit("");
});
$("rename").addEventListener("click", async () => {
  const title = prompt("The conversation's name", thread.title ?? "");
  if (title === null) return;
  const t = await attempt(() => ask("threads.update", { thread_id: thread.id, title }));
  if (t) { open(t); list(); }
});
$("delete").addEventListener("click", async () => {
  if (!confirm("Delete this conversation?")) return;
  if (!(await attempt(() => ask("threads.delete", { thread_id: thread.id })))) return;
  location.hash = "";
  list();
});
$("toggle").addEventListener("click", () => {
  $("toggle").setAttribute("aria-expanded", document.body.classList.toggle("panel"));
});

function attach(now) {
  files = now;
  $("attached").replaceChildren(...files.map((f) => el("li", {}, el("span", { class: "chip" }, f.name, " ",
    el("button", { type: "button", class: "plain", "aria-label": "Remove " + f.name, onclick: () => attach(files.filter((g) => g !== f)) }, "×")))));
}

$("file").addEventListener("change", async () => {
  const file = $("file").files[0];
  $("file").value = "";
  if (!file) return;
  const owner = who;
  await attempt(async () => {
    const a = await ask("attachments.create", { name: file.name, size: file.size, mime_type: file.type || "application/octet-stream" });
    const up = a.upload_descriptor;
    const res = await fetch(up.url, { method: up.method, headers: up.headers, body: file });
    if (!res.ok) throw new Refused(res.status, (await res.json().catch(() => ({}))).error);
    if (owner === who) attach([...files, a]);
  });
});

// linked returns the thread id in the page's address.
function linked() {
  try { return decodeURIComponent(location.hash.slice(1)); } catch { return ""; }
}

window.addEventListener("hashchange", () => {
  const id = linked();
  if (id !== (thread?.id ?? "") || !id) visit(id);
});

// Users.

async function signIn(user) {
  const res = await fetch("/session", { method: "POST", body: JSON.stringify({ user }) });
  if (!res.ok) throw new Error("Signing in failed.");
}

// become shows the page of a user. It removes everything of the user before.
async function become(user, id) {
  who = user;
  $("user").value = user;
  $("text").value = "";
  $("threads").replaceChildren();
  listed = "";
  $("more").hidden = true;
  attach([]);
  panel.forget();
  if (!id) history.replaceState(null, "", location.pathname);
  await Promise.all([visit(id), list()]);
}

// arrive loads the session's user, and signs in if there is none.
async function arrive(id) {
  let { user, users } = await (await fetch("/session")).json();
  if (!users.includes(user)) {
    user = users.includes(who) ? who : users[0];
    await signIn(user);
  }
  if (user === who) return;
  $("user").replaceChildren(...users.map((u) => el("option", { value: u }, u)));
  await become(user, id);
}

$("user").addEventListener("change", async () => {
  const user = $("user").value;
  $("user").disabled = true; // one change at a time
  await attempt(async () => {
    await signIn(user);
    await become(user, "");
  });
  $("user").value = who;
  $("user").disabled = false;
});

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) attempt(() => arrive("")); // another tab may have changed the user
});

attempt(async () => {
  await arrive(linked());
  panel.start();
});
