// The panel shows what the decorators do. It asks the server once a second while it is visible.
import { el } from "./items.js";

const $ = (id) => document.getElementById(id);
const count = (n) => Math.round(n).toLocaleString("en");
const ms = (n) => (n < .1 ? Math.round(1000 * n) + " µs" : (n < 10 ? n.toFixed(1) : Math.round(n)) + " ms");

let asking = false; // one request at a time
let user = 0; // counts users: an answer for an earlier user is not shown
let last = "";

async function refresh() {
  if (asking || document.hidden || !$("panel").checkVisibility()) return;
  asking = true;
  const mine = user;
  try {
    const res = await fetch("/panel", { signal: AbortSignal.timeout(10_000) });
    const text = await res.text();
    if (!res.ok || mine !== user || text === last) return;
    last = text;
    show(JSON.parse(text));
  } catch {
    // The server is unreachable: the conversation shows that.
  } finally {
    asking = false;
  }
}

function show(p) {
  const numbers = [
    ["base reads saved", count(p.base_reads_saved)], ["cache hit ratio", Math.round(100 * p.hit_ratio) + " %"],
    ["calls", count(p.ops.reduce((sum, o) => sum + o.count, 0))], ["base reads", count(p.base_reads)],
    ["shared loads", count(p.flights_shared)], ["refusals", count(p.refusals)],
  ];
  $("numbers").replaceChildren(...numbers.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  $("ops").tBodies[0].replaceChildren(...p.ops.map((o) =>
    el("tr", {}, el("th", { scope: "row" }, o.op), el("td", {}, count(o.count)), el("td", {}, ms(o.p50_ms)), el("td", {}, ms(o.p99_ms)))));
  const end = Math.max(...p.trace.map((s) => s.start_ms + s.ms), .001);
  $("trace").replaceChildren(tree(p.trace, end));
}

// tree shows spans with their results and durations. A bar shows when each span ran.
function tree(spans, end, depth = 0) {
  return el("ul", {}, spans.map((s) => {
    const bar = el("i", {});
    bar.style.marginLeft = `${100 * s.start_ms / end}%`;
    bar.style.width = `${100 * s.ms / end}%`;
    const did = ["chatkit.request.type", "chatstore.cache.result", "chatstore.flight.role", "chatstore.code"].map((k) => s.attributes?.[k])
      .filter((v) => v && v !== "ok").map((v) => el("span", { class: "chip " + v }, v));
    const name = el("span", {}, s.name, did);
    name.style.paddingLeft = `${depth}em`; // indent only the name: all bars have one axis
    return el("li", {},
      el("div", { class: "span" }, name, el("span", { class: "ms" }, ms(s.ms))),
      el("div", { class: "bar", "aria-hidden": "true" }, bar),
      s.children ? tree(s.children, end, depth + 1) : null);
  }));
}

// forget removes the data of the user.
export function forget() {
  user++;
  last = "";
  $("trace").replaceChildren();
}

export function start() {
  refresh();
  setInterval(refresh, 1000);
  document.addEventListener("visibilitychange", refresh);
}
