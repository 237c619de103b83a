// What other tabs and devices do in the open conversation. Tabs of one browser pass their events on. For all others, the page
// asks the server while a message has no answer, or while the conversation is shared.
import { others } from "./sharing.js";
import { draftsNow, handle, open, progress, reload, settle, unanswered } from "./thread.js";

const channel = new BroadcastChannel("chatserver");
let user = "";

export const tabsOf = (name) => { user = name; };

// tell tells the other tabs of this user.
export function tell(message) {
  if (user) channel.postMessage({ user, ...message });
}

// greet asks the other tabs for the answer that is under way.
export function greet(thread) {
  tell({ thread, hello: true });
  watch();
}

channel.addEventListener("message", ({ data: m }) => {
  if (!user || m.user !== user) return;
  if (m.gone && m.gone === open.thread?.id) document.dispatchEvent(new Event("refused"));
  if (m.list) document.dispatchEvent(new Event("listchanged"));
  if (!m.thread || m.thread !== open.thread?.id) return;
  if (m.hello) {
    if (open.stream) for (const item of draftsNow()) tell({ thread: m.thread, event: { type: "thread.item.added", item } });
  } else if (open.stream) {
    // This tab reads an answer of its own: the server has ended the other one.
  } else if (m.end) {
    settle();
    watch();
  } else if (m.event) {
    handle(m.event);
    if (m.event.item?.type === "user_message") progress("Thinking", true);
  }
});

let timer = 0;
let wait = 0;

// watch asks the server again and again, first after two seconds, then less and less often. In a shared conversation the longest
// pause is 5 s. In any other, watch ends after about four minutes.
export function watch() {
  clearTimeout(timer);
  wait = 2000;
  timer = setTimeout(look, wait);
}

async function look() {
  if (!document.hidden && open.thread && !open.stream && (unanswered() || others(open.access))) {
    await reload().catch(() => {}); // connection.js tells the user
    if (!open.stream && !unanswered()) progress("");
  }
  wait = others(open.access) ? Math.min(1.3 * wait, 5000) : 1.3 * wait;
  if (wait < 60_000) timer = setTimeout(look, wait);
}
