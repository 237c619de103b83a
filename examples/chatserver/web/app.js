// The page: users, addresses, and the keys and buttons around the conversation.
import { Unreachable, accessTo, ask, session, signIn } from "./api.js";
import * as composer from "./composer.js";
import { askSure, askText } from "./dialogs.js";
import { $, button, el } from "./dom.js";
import { fail, failuresOf, forgetFailures } from "./failures.js";
import * as layout from "./layout.js";
import * as lists from "./list.js";
import * as panel from "./panel.js";
import * as scroll from "./scroll.js";
import { share } from "./sharing.js";
import { greet, tabsOf, tell, watch } from "./tabs.js";
import { listen, open, progress, recheck, reload, show, unanswered, visit } from "./thread.js";
import { act, endAll, runTools } from "./turn.js";

let who = ""; // the user
let users = []; // of this demo

// attempt shows the failure of something that the user has asked for.
async function attempt(f) {
  const mine = open.visit;
  try {
    return await f();
  } catch (err) {
    if (mine === open.visit) fail(err.message);
    return null;
  }
}

// linked returns the thread id in the page's address.
function linked() {
  try { return decodeURIComponent(location.hash.slice(1)); } catch { return ""; }
}

Object.assign(act, {
  edit: composer.edit,
  leave: composer.leave,
  starters: composer.starters,
  visited(id) {
    greet(id);
    if (unanswered() && !open.stream && !document.querySelector("#items .failure")) {
      progress("No answer is stored. If one is under way, it appears here. ", false,
        open.readOnly ? "" : button("Try again", () => act.again()?.(() => {}), "again"));
    }
    runTools();
  },
});
listen(act);
failuresOf(() => open.id);

window.addEventListener("hashchange", () => {
  layout.closeDrawers();
  const id = linked();
  if (id !== (open.thread?.id ?? "") || !id) visit(id);
});

document.addEventListener("keydown", (e) => {
  if (e.key !== "Escape" || e.isComposing || document.querySelector("dialog[open]")) return;
  if (layout.closeDrawers() || e.defaultPrevented || e.target.closest?.("#search, select, dialog")) return;
  open.stream?.abort();
});

$("stop").addEventListener("click", () => open.stream?.abort());
$("new").addEventListener("click", () => {
  layout.closeDrawers();
  if (location.hash) location.hash = "";
  else visit("");
});
$("rename").addEventListener("click", async () => {
  const id = open.thread.id;
  const title = await askText("The conversation's name", open.thread.title ?? "", "Rename");
  if (title === null) return;
  const t = await attempt(() => ask("threads.update", { thread_id: id, title }));
  if (!t) return;
  if (open.thread?.id === id) show(t);
  changed();
});
$("share").addEventListener("click", async () => {
  const id = open.thread.id;
  const access = await attempt(() => accessTo(id));
  if (!access || open.thread?.id !== id) return;
  open.access = access;
  share(id, users.filter((u) => u !== who), access, watch);
});
$("delete").addEventListener("click", async () => {
  const id = open.thread.id;
  if (!(await askSure("Delete this conversation?", "Its messages cannot be restored.", "Delete"))) return;
  if (!(await attempt(() => ask("threads.delete", { thread_id: id })))) return;
  if (open.thread?.id === id) location.hash = "";
  changed();
  tell({ gone: id });
});

// changed reloads the list, also in other tabs.
function changed() {
  lists.list();
  tell({ list: true });
}

// become shows the page of a user. It removes everything of the user before.
async function become(user, id) {
  who = user;
  endAll();
  tabsOf(user);
  $("user").value = user;
  composer.clear();
  forgetFailures();
  lists.forgetList();
  panel.forget();
  if (!id) history.replaceState(null, "", location.pathname);
  await Promise.all([visit(id), lists.list()]);
}

// arrive loads the session's user, and signs in if there is none.
async function arrive(id) {
  const before = who;
  let { user, ...demo } = await session();
  if (who !== before || $("user").disabled) return; // the user was changed here meanwhile
  users = demo.users;
  composer.commands(demo.commands);
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

// comeBack shows what has changed while the page was hidden or the server away. Another tab may have changed the user.
async function comeBack() {
  const before = who;
  try {
    await arrive(who ? "" : linked());
  } catch (err) {
    if (!(err instanceof Unreachable)) fail(err.message); // connection.js says that the server is away
    return;
  }
  if (who !== before || $("user").disabled) return;
  lists.list();
  watch();
  if (open.thread) await reload().catch(() => {});
  else if (linked()) await visit(linked());
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) comeBack(); });
document.addEventListener("reconnected", comeBack);
document.addEventListener("refused", () => recheck(true));

composer.start();
layout.start();
lists.start();
scroll.start();
attempt(() => arrive(linked())).finally(panel.start);
