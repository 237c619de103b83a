// The panel shows how the user's own requests pass through the stack. It asks the server once a second while it is visible.
import { el } from "./items.js";

const $ = (id) => document.getElementById(id);
const ms = (n) => (n < .1 ? Math.round(1000 * n) + " µs" : (n < 10 ? n.toFixed(1) : Math.round(n)) + " ms");
const some = (n, thing) => n.toLocaleString("en") + " " + thing + (n === 1 ? "" : "s");
const BASE = "base"; // the layer of spans that reach the database

let asking = false; // one request at a time
let epoch = 0; // counts users and turns of the switch: an answer to an earlier question is not shown
let last = "";
let played = new Map(); // how many calls of a request have lit the stack

async function ask(init) {
  const mine = epoch;
  const res = await fetch("/panel", { signal: AbortSignal.timeout(10_000), ...init });
  const text = await res.text();
  if (!res.ok) throw new Error(`The server answered ${res.status}.`);
  if (mine !== epoch || text === last) return;
  last = text;
  show(JSON.parse(text));
}

async function refresh() {
  if (asking || document.hidden || !$("panel").checkVisibility()) return;
  asking = true;
  try {
    await ask();
  } catch {
    // The server is unreachable: the conversation shows that.
  } finally {
    asking = false;
  }
}

async function turnCache() {
  const cache = $("cache").checked;
  epoch++;
  last = "";
  try {
    await ask({ method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ cache }) });
  } catch (err) {
    $("cache").checked = !cache;
    $("cachesays").textContent = "The switch did not reach the server. " + err.message;
  }
}

function show(p) {
  drawStack(p);
  drawTurn(p.turn);
  $("cache").checked = p.cache;
  $("cachesays").textContent = p.cache
    ? "The cache answers your reads. Turn it off and send a message to see the difference."
    : "Your reads now go to the database. Send a message to see the difference. Other users keep their cache.";
  const t = p.totals;
  $("numbers").replaceChildren(...[
    [t.hits, "reads that the cache answered"], [t.base_reads, "reads of the database"],
    [t.base_writes, "writes to the database"], [t.requests, "requests of yours"],
  ].map(([value, name]) => el("div", {}, el("dt", {}, name), el("dd", {}, value.toLocaleString("en")))));
  $("ops").tBodies[0].replaceChildren(...p.ops.map((o) => el("tr", {}, el("th", { scope: "row" }, o.op),
    el("td", {}, o.calls.toLocaleString("en")), el("td", {}, ms(o.mean_ms)))));
  $("trace").replaceChildren(...(p.turn ? request(p.turn, p.stack) : []));
  const another = p.last && p.last.n !== p.turn?.n;
  $("request").replaceChildren(...(another ? request(p.last, p.stack) : []));
  $("request").previousElementSibling.hidden = !another;
  light([p.turn, p.last].filter((r) => r?.trace), p.stack);
}

// The stack.

const database = (name) => ({ sqlite: "SQLite", postgres: "PostgreSQL", mysql: "MySQL" }[name] ?? name);

// layers has for each layer what it does, and what it did for the user.
const layers = {
  tracing: ["Records a span for each call: what was asked, and how long it took.",
    (t) => `Recorded ${some(t.reads + t.writes, "call")}.`],
  "metrics(outer)": ["Counts and times the calls that your requests make.",
    (t) => `Counted ${some(t.reads, "read")} and ${some(t.writes, "write")}.`],
  authz: ["Checks that you may see or change each row.",
    (t) => `Let ${some(t.reads + t.writes, "call")} pass.` + (t.hidden ? ` Not counted: ${some(t.hidden, "request")} with a call that was refused or failed.` : "")],
  cache: ["Keeps rows in memory and answers repeated reads from there.",
    (t) => `Answered ${t.hits.toLocaleString("en")} of ${some(t.lookups, "read")} from memory.`],
  "tracing(base)": ["Records the calls that go on to the database.",
    (t) => `Recorded ${some(t.base_reads + t.base_writes, "call")}.`],
  "metrics(inner)": ["Times the database alone.",
    (t, p) => (t.base_reads + t.base_writes ? `The database takes ${ms(p.base_mean_ms)} for a call, on average.` : "No call came this far.")],
};

const baseLayer = [
  "Keeps the conversations.",
  (t) => `Made ${some(t.base_reads, "read")} and ${some(t.base_writes, "write")} for you.`,
];

function drawStack(p) {
  const reached = {};
  const marked = p.turn ?? p.last;
  for (const s of marked?.trace ? flat(marked.trace) : []) {
    for (const name of parts(s, p.stack)) reached[name] = (reached[name] ?? 0) + 1;
  }
  p.stack.forEach((name, i) => {
    const base = i === p.stack.length - 1;
    const [does, did] = layers[name] ?? (base ? baseLayer : ["Another layer.", () => ""]);
    let row = $("stack").children[i];
    if (row?.dataset.layer !== name) { // rows stay, so that they can light up
      row = el("li", { "data-layer": name }, el("div", { class: "head" }, el("strong", {}, base ? database(name) : name), el("span", { class: "reach" })),
        el("p", {}, does), el("p", { class: "did" }));
      if ($("stack").children[i]) $("stack").children[i].replaceWith(row);
      else $("stack").append(row);
    }
    row.querySelector(".did").textContent = did(p.totals, p);
    row.querySelector(".reach").textContent = reached[name] ? `${some(reached[name], "call")} in the last ${p.turn ? "turn" : "request"}` : "";
    row.classList.toggle("reached", Boolean(reached[name]));
  });
}

// flat returns the calls of the store in a tree of spans, in the order of their starts.
function flat(s) {
  return [...(s.layer ? [s] : []), ...(s.children ?? []).flatMap(flat)];
}

const isWrite = (s) => !s.name.startsWith("load_");

// parts returns the names of the layers that had a part in a span.
function parts(s, stack) {
  const below = stack.indexOf(`tracing(${BASE})`);
  if (s.layer === BASE) return stack.slice(below);
  return stack.slice(0, below).filter((name) => name !== "cache" || s.cache || isWrite(s));
}

// light lets the layers light up in the order in which the new calls passed through them.
let timers = [];
const still = matchMedia("(prefers-reduced-motion: reduce)");

function light(requests, stack) {
  const calls = new Map(requests.map((r) => [r.n, flat(r.trace)]));
  const steps = [...calls].flatMap(([n, all]) => all.slice(played.get(n) ?? 0).slice(-20)).flatMap((s) => parts(s, stack));
  played = new Map([...calls].map(([n, all]) => [n, all.length]));
  if (!steps.length) return;
  timers.forEach(clearTimeout);
  const pause = Math.min(70, 3000 / steps.length);
  timers = steps.map((name, i) => setTimeout(() => {
    if (!still.matches) document.querySelector(`#stack [data-layer="${name}"]`)?.animate(
      { opacity: [1, 0] }, { duration: 800, pseudoElement: "::after" });
  }, i * pause));
}

// The comparison of a turn with and without the stack.

function drawTurn(turn) {
  const box = $("compare");
  if (!turn) {
    box.replaceChildren(el("p", {}, "Send a message to compare the stack with the bare database."));
    return;
  }
  if (turn.hidden) {
    box.replaceChildren(refused(turn));
    return;
  }
  const { reads, base_reads: base, base_writes: writes } = turn.calls;
  const most = Math.max(reads, base, 1);
  const bar = (label, n, kind) => {
    const fill = el("i", {});
    fill.style.width = `${100 * n / most}%`;
    return el("div", { class: "row " + kind }, el("span", {}, label, el("b", {}, some(n, "read"))), el("div", { class: "bar", "aria-hidden": "true" }, fill));
  };
  let says = `The database also made ${some(writes, "write")}, which no cache can save.`;
  if (turn.running) says = "The turn is still running.";
  else if (base > reads) says = (turn.cache ? "These rows were not in the cache yet" : "The cache was off") + `: ${base - reads} of the reads check that you may see or change the rows. ` + says;
  else if (turn.cache && base > 0) says = "Some rows were not in the cache yet. Send another message. " + says;
  else if (base === 0) says = "All reads came from memory. " + says;
  box.replaceChildren(
    el("p", {}, "Reads of the database:"),
    bar(turn.cache ? "this turn: " : "this turn, with the cache off: ", base, turn.cache ? "with" : "off"), bar("without the stack: ", reads, "without"), el("p", {}, says));
}

const refused = (r) => el("p", {}, `${r.kind} was refused or failed. Its calls are not shown, because they could reveal whether somebody else's conversation exists.`);

// The spans.

// request returns the elements of a request: what it cost in words, and its spans.
function request(r, stack) {
  if (r.hidden) return [refused(r)];
  const c = r.calls;
  const end = Math.max(r.trace.ms, ...flat(r.trace).map((s) => s.start_ms + s.ms), .001);
  return [
    el("p", {}, `${some(c.reads + c.writes, "call")} of the store led to ${some(c.base_reads, "read")} of the database and ${some(c.base_writes, "write")} to it.`),
    tree([r.trace], stack, end, r.running),
  ];
}

// chips returns what the layers did in a span. Tracing and metrics take part in every call and are left out.
function chips(s, stack) {
  const chip = (text, kind) => el("span", { class: "chip " + (kind ?? "") }, text);
  if (!s.layer) return [];
  if (s.layer === BASE) return [chip(database(stack.at(-1)), "base")];
  const cache = isWrite(s) ? "updated" : { hit: "hit", miss: "miss", bypass: "off" }[s.cache] ?? "not asked";
  return [chip("authz: allowed"), chip("cache: " + cache, s.cache), s.shared ? chip("joined another load") : null];
}

// tree shows spans with their layers and durations. A bar shows when each span ran.
function tree(spans, stack, end, running, depth = 0) {
  return el("ul", {}, spans.map((s) => {
    const bar = el("i", {});
    bar.style.marginLeft = `${100 * s.start_ms / end}%`;
    bar.style.width = `${100 * (running && !depth ? end : s.ms) / end}%`;
    const name = el("span", {}, s.name, " ", chips(s, stack));
    name.style.paddingLeft = `${depth * .8}em`; // indent only the name: all bars have one axis
    return el("li", {},
      el("div", { class: "span" }, name, el("span", { class: "ms" }, running && !depth ? "running" : ms(s.ms))),
      el("div", { class: "bar", "aria-hidden": "true" }, bar),
      s.children ? tree(s.children, stack, end, running, depth + 1) : null);
  }));
}

// forget removes the data of the user.
export function forget() {
  epoch++;
  last = "";
  played.clear();
  timers.forEach(clearTimeout);
  for (const id of ["stack", "compare", "numbers", "trace", "request"]) $(id).replaceChildren();
  $("ops").tBodies[0].replaceChildren();
}

export function start() {
  $("cache").addEventListener("change", turnCache);
  refresh();
  setInterval(refresh, 1000);
  $("toggle").addEventListener("click", refresh);
  document.addEventListener("visibilitychange", refresh);
}
