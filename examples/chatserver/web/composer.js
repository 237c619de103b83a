// The message box: keys, attachments, and what is sent.
import { attach, attached, clearAttached, exchangeAttached, failed, giveBack, onChange, takeAttached, uploading } from "./attachments.js";
import { $, el } from "./dom.js";
import { open } from "./thread.js";
import { crowded, send } from "./turn.js";

let waiting = 0; // the visit whose message goes as soon as its files are there

const drafts = new Map(); // what the message boxes of other conversations have, by thread id; "" is for one that has not begun

const usual = $("hint").textContent; // the keys, which a phone does not have

function hint(text) {
  $("hint").textContent = text;
  $("hint").classList.toggle("usual", text === usual);
}

function submit() {
  const text = $("text").value.trim();
  waiting = uploading() && !open.stream ? open.visit : 0;
  if (open.stream || open.readOnly || (!text && !attached().length && !waiting)) return;
  if (open.id && !open.thread) return hint("The conversation is not loaded yet.");
  if (crowded()) return hint("Several answers are under way. Wait until one ends.");
  if (waiting) return hint("The message goes when its files are there.");
  if (failed()) return hint("A file was not uploaded. Try it again, or remove it.");
  hint(usual);
  $("text").value = "";
  send({ text, attachments: takeAttached() });
  $("text").focus();
}

// edit puts a message into the box again.
export function edit(message) {
  $("text").value = [message.text, $("text").value].filter(Boolean).join("\n");
  giveBack(message.attachments);
  $("text").focus();
}

// leave exchanges the draft of a conversation for that of another.
export function leave(from, to) {
  waiting = 0;
  hint(usual);
  if (from === to) return;
  const next = drafts.get(to) ?? { text: "", files: [] };
  drafts.set(from, { text: $("text").value, files: exchangeAttached(next.files) });
  drafts.delete(to);
  $("text").value = next.text;
}

// clear removes all drafts.
export function clear() {
  leave(null, "");
  $("text").value = "";
  clearAttached();
  for (const { files } of drafts.values()) {
    exchangeAttached(files);
    clearAttached();
  }
  drafts.clear();
}

const commandStarts = [
  ["What can you do?", "/help"], ["Show a card with a button", "/widget"], ["Ask me some questions", "/form"], ["Make a picture", "/image"],
];

const questionStarts = ["What can you help me with?", "How does a cache work?", "Tell me something about tea.", "Help me to plan my week."].map((q) => [q, q]);

let starts = questionStarts;

// commands says whether the assistant knows the demo's commands. A model does not.
export function commands(known) {
  starts = known ? commandStarts : questionStarts;
  $("text").placeholder = known ? "Message, or /help" : "Message";
}

// starters returns what an empty conversation shows.
export function starters() {
  return el("li", { class: "empty" }, el("p", {}, "Say something, or begin with one of these."),
    el("div", { class: "starters" }, starts.map(([words, text]) =>
      el("button", { type: "button", onclick: () => { if (!open.stream) send({ text, attachments: [] }); } }, words))));
}

const hasFiles = (e) => [...(e.dataTransfer?.types ?? [])].includes("Files");

export function start() {
  onChange(() => {
    if (waiting && waiting === open.visit) submit();
    else if (!failed()) hint(usual);
  });
  $("composer").addEventListener("submit", (e) => { e.preventDefault(); submit(); });
  $("text").addEventListener("keydown", (e) => {
    if (e.key !== "Enter" || e.shiftKey || e.isComposing) return;
    e.preventDefault();
    submit();
  });
  $("file").addEventListener("change", () => {
    const chosen = [...$("file").files];
    $("file").value = "";
    attach(chosen);
  });
  $("text").addEventListener("paste", (e) => {
    if (!e.clipboardData.files.length) return;
    e.preventDefault();
    attach(e.clipboardData.files);
  });
  document.addEventListener("dragover", (e) => {
    if (!hasFiles(e)) return;
    e.preventDefault();
    document.body.classList.toggle("dropping", !open.readOnly);
  });
  document.addEventListener("dragleave", (e) => { if (!e.relatedTarget) document.body.classList.remove("dropping"); });
  document.addEventListener("drop", (e) => {
    if (!hasFiles(e)) return;
    e.preventDefault(); // the browser would leave the page
    document.body.classList.remove("dropping");
    if (!open.readOnly) attach(e.dataTransfer.files);
  });
}
