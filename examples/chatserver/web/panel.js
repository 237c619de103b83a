// The panel: what the decorators do, asked for once a second while the page is seen.
import { el } from "./items.js";

const $ = (id) => document.getElementById(id);
const count = (n) => Math.round(n).toLocaleString("en");
const ms = (n) => (n < 10 ? n.toFixed(1) : Math.round(n)) + " ms";

async function refresh() {
  if (document.hidden) return;
  let p;
  try {
    const res = await fetch("/panel");
    if (!res.ok) return;
    p = await res.json();
  } catch {
    return; // the server is away: the conversation says so
  }
  const numbers = [
    ["base reads saved", count(p.base_reads_saved)], ["cache hit ratio", Math.round(100 * p.hit_ratio) + " %"],
    ["reads asked", count(p.reads)], ["base reads", count(p.base_reads)],
    ["flights shared", count(p.flights_shared)], ["refusals", count(p.refusals)],
  ];
  $("numbers").replaceChildren(...numbers.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  $("ops").tBodies[0].replaceChildren(...p.ops.map((o) =>
    el("tr", {}, el("td", {}, o.op), el("td", {}, count(o.count)), el("td", {}, ms(o.p50_ms)), el("td", {}, ms(o.p99_ms)))));
  $("trace").replaceChildren(tree(p.trace ?? []));
}

function tree(spans) {
  return el("ul", {}, spans.map((s) => el("li", {},
    s.name, " ", el("span", { class: "ms" }, ms(s.ms)),
    ["chatstore.cache.result", "chatstore.flight.role", "chatstore.code"].map((k) => s.attributes?.[k])
      .filter((v) => v && v !== "ok").map((v) => el("span", { class: "chip" }, v)),
    s.children ? tree(s.children) : null)));
}

export function start() {
  refresh();
  setInterval(refresh, 1000);
  document.addEventListener("visibilitychange", refresh);
}
