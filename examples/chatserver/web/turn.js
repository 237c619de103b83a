// Requests that are answered with a stream: messages, actions, and answers to forms and tools.
import { aborted, ask, events, final, newest, post, unknown } from "./api.js";
import { $, button, el, home } from "./dom.js";
import { askSure } from "./dialogs.js";
import { drop, fail, keep, moveFailures } from "./failures.js";
import { unsentMessage } from "./items.js";
import { known } from "./list.js";
import { follow } from "./scroll.js";
import { tell, watch } from "./tabs.js";
import { all, handle, open, progress, reload, settle, unanswered, visit, writable } from "./thread.js";

const wait = () => progress("Wait for the answer to end, or stop it.");

function busy(on) {
  const focused = document.activeElement; // hiding it moves the focus to the body
  $("send").hidden = on;
  $("stop").hidden = !on;
  $("items").setAttribute("aria-busy", on);
  if (!focused?.checkVisibility({ visibilityProperty: true })) home();
}

// announce gives a screen reader the text of a stream, once and as a whole.
function announce(text) { $("announce").textContent = text; }

// runs are the requests whose answers are not complete. The user may have opened another conversation since, so that visit is not
// the present one: the events are then kept until the user comes back.
const runs = new Set(); // {thread, visit, stop, message, own, events, stored, over}

const here = (run) => run.visit === open.visit && !run.over;

// crowded reports whether so many answers are under way that the browser has hardly a connection left.
export const crowded = () => runs.size > 3;

// endAll ends all answers, when the user changes.
export function endAll() {
  for (const run of runs) {
    run.over = true;
    run.stop.abort();
  }
}

function apply(run, e) {
  try {
    handle(e, run.own);
  } catch (err) {
    console.warn(err); // one odd event does not end the answer
  }
}

function attachTo(run) {
  run.visit = open.visit;
  open.stream = run.stop;
  busy(true);
  announce("Answering");
  progress("Thinking", true);
}

function take(run, e) {
  if (e.type === "thread.created") {
    run.thread = e.thread.id;
    if (here(run)) moveFailures(run.thread);
  }
  if (e.type === "thread.item.done" && e.item.type === "user_message") {
    run.stored = true;
    run.message = e.item;
  }
  const about = e.type.startsWith("thread.item.") ? "item" : e.type;
  if (about !== "thread.created" && about !== "thread.updated" && about !== "error") run.events.push(structuredClone(e));
  if (here(run)) apply(run, e);
  else if (about === "error") fail(e.message ?? "Something went wrong.", { where: run.thread, again: e.allow_retry && again(run) });
  else if (about !== "item") document.dispatchEvent(new Event("listchanged"));
  tell({ thread: run.thread, event: e });
}

const again = (run) => run.message && ((done) => answerAgain(run.message, done));

const lastMessage = () => all().findLast((i) => i.type === "user_message");

// respond makes a request and shows its stream. It returns the error that ended it, whether an event came before, and the run.
// own is the row of the message that is being sent.
async function respond(type, params, own) {
  const message = all().find((i) => i.type === "user_message" && i.id === params.item_id);
  const run = { thread: open.id, message: message ?? lastMessage(), own, stop: new AbortController(), events: [] };
  runs.add(run);
  attachTo(run);
  let began = false;
  let error = null;
  let said = "";
  try {
    for await (const e of events(await post(type, params, run.stop.signal))) {
      if (run.over) break;
      began = true;
      take(run, e);
      if (e.type === "thread.item.done" && e.item.type === "assistant_message") said += e.item.content.map((c) => c.text).join(" ") + "\n";
    }
  } catch (err) {
    error = err;
  }
  runs.delete(run);
  if (run.over) return { began, error: null, run };
  if (here(run)) {
    open.stream = null;
    busy(false);
    announce(said);
    settle();
    watch();
  }
  tell({ thread: run.thread, end: true });
  if (began && error && !aborted(error)) fail("The connection broke before the answer was complete.", { where: run.thread, again: again(run) });
  if (here(run) && error?.status === 403) writable("You may read this conversation, but not write in it.");
  if (here(run) && !error) runTools();
  return { began, error, run };
}

// request is respond for what is not a message. A failure can be tried again if repeating it does no harm.
async function request(type, params, repeat = true) {
  if (open.stream) return wait();
  const { began, error, run } = await respond(type, params);
  if (!error || began || aborted(error)) return;
  if (unknown(error) && here(run)) await reload().catch(() => {}); // it may have been carried out
  const once = (done) => { if (open.stream) wait(); else { done(); request(type, params); } };
  fail(error.message, { where: run.thread, again: repeat && !final(error) && once });
}

// send sends a message. It appears at once, and is replaced by the stored one. If the server does not take it, it stays with
// the reason.
export async function send(message) {
  const own = unsentMessage(message);
  document.querySelector(".empty")?.remove();
  $("items").append(own);
  follow();
  const input = { content: [{ type: "input_text", text: message.text }], attachments: message.attachments.map((a) => a.id), inference_options: {} };
  const id = open.id;
  const before = id ? new Set(all().map((i) => i.id)) : known();
  const { error, run } = await (id ? respond("threads.add_user_message", { thread_id: id, input }, own) : respond("threads.create", { input }, own));
  if (run.stored || run.over) return;
  const why = el("span", {}, "Not sent. " + (!error ? "The server did not store it." : aborted(error) ? "You stopped it." : error.message));
  own.classList.replace("sending", "unsent");
  own.append(el("div", { class: "acts failure", role: "alert" }, why,
    button("Try again", async () => {
      if (open.stream) return wait();
      if (!error || unknown(error)) {
        try {
          if (await arrived(message, id, before)) {
            drop(own);
            if (unanswered()) act.again()(() => {});
            return;
          }
        } catch (err) {
          why.textContent = "Not sent. " + err.message;
          return;
        }
      }
      drop(own);
      send(message);
    }, "again", { hidden: Boolean(error && final(error)) }),
    button("Edit", () => { drop(own); act.edit(message); }, "edit")));
  keep(own, run.thread);
}

// arrived looks whether the server has stored a message whose request had no answer. If so, it shows the message.
async function arrived(message, id, before) {
  const same = (i) => i.type === "user_message" && !before.has(i.id) && i.content.map((c) => c.text).join(" ") === message.text
    && (i.attachments ?? []).map((a) => a.id).join() === message.attachments.map((a) => a.id).join();
  if (id) {
    const found = (await newest(id)).data.find(same);
    if (found && open.thread?.id === id) await reload();
    return Boolean(found);
  }
  for (const t of (await ask("threads.list", { limit: 10, order: "desc" })).data) {
    if (before.has(t.id) || !(await newest(t.id)).data.some(same)) continue;
    history.replaceState(null, "", "#" + t.id);
    open.id = t.id; // the draft stays in the box
    await visit(t.id);
    document.dispatchEvent(new Event("listchanged"));
    return true;
  }
  return false;
}

// answerAgain answers a message again. The server removes what comes after it.
async function answerAgain(item, done) {
  if (open.stream) return wait();
  const rows = all();
  const later = rows.slice(rows.findIndex((i) => i.id === item.id) + 1).some((i) => i.type === "user_message");
  if (later && !(await askSure("Answer again?", "This removes the messages after it.", "Answer again"))) return;
  if (open.stream) return wait();
  done?.();
  const row = document.getElementById("item-" + item.id);
  for (const li of document.querySelectorAll("#items > .failure")) {
    if (row?.compareDocumentPosition(li) & Node.DOCUMENT_POSITION_FOLLOWING) drop(li);
  }
  request("threads.retry_after_item", { thread_id: open.thread.id, item_id: item.id });
}

// act has what the buttons in items do.
export const act = {
  retry: answerAgain,
  detach() { // the page no longer shows the answer
    open.stream = null;
    busy(false);
  },
  resume(id) { // the page shows it again
    const run = [...runs].findLast((r) => r.thread === id && !r.over);
    if (!run) return;
    attachTo(run);
    if (run.own && !run.stored) $("items").append(run.own);
    for (const e of run.events) apply(run, structuredClone(e));
  },
  again() {
    const last = lastMessage();
    return last && ((done) => answerAgain(last, done));
  },
  action: (item, action) => request("threads.custom_action", { thread_id: open.thread.id, item_id: item.id, action }, false),
  form: (item, input) => request("threads.add_structured_input", { thread_id: open.thread.id, item_id: item.id, input }),
  output(text) {
    let result;
    try { result = JSON.parse(text); } catch { return fail("The result is not JSON."); }
    request("threads.add_client_tool_output", { thread_id: open.thread.id, result });
  },
  async feedback(item, kind, pressed) {
    try {
      await ask("items.feedback", { thread_id: open.thread.id, item_ids: [item.id], kind });
      for (const b of pressed.parentElement.querySelectorAll("[data-kind]")) b.setAttribute("aria-pressed", b === pressed);
    } catch (err) {
      fail(err.message);
    }
  },
};

// The tools that this page can run. For any other tool, the user types the result.
const tools = { get_local_time: () => ({ time: new Date().toISOString(), zone: Intl.DateTimeFormat().resolvedOptions().timeZone }) };

const ran = new Set(); // ids of calls that ran: a call whose result was refused must not run again and again

export function runTools() {
  const last = all().at(-1);
  if (open.stream || open.readOnly || last?.type !== "client_tool_call" || last.status !== "pending" || !Object.hasOwn(tools, last.name) || ran.has(last.id)) return;
  ran.add(last.id);
  act.output(JSON.stringify(tools[last.name]()));
}
