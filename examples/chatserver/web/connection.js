// Whether the server can be reached. While it cannot, the page says so and asks again and again.
import { $ } from "./dom.js";

let timer = 0;
let wait = 0; // milliseconds until the next question
let away = false;

function say() {
  $("offline").textContent = navigator.onLine
    ? "The server cannot be reached. This page tries again by itself."
    : "You are offline. This page goes on when the connection is back.";
  $("offline").hidden = false;
}

// lost is called for each request without an answer.
export function lost() {
  say();
  if (away) return;
  away = true;
  wait = 500;
  later();
}

// back is called for each answer. When the server was away, the document gets the event reconnected.
export function back() {
  if (!away) return;
  away = false;
  clearTimeout(timer);
  $("offline").hidden = true;
  document.dispatchEvent(new Event("reconnected"));
}

function later() {
  clearTimeout(timer);
  timer = setTimeout(check, wait);
  wait = Math.min(2 * wait, 10_000);
}

async function check() {
  if (!away) return;
  try {
    if ((await fetch("/healthz", { cache: "no-store" })).ok) return back();
  } catch { /* still away */ }
  say();
  later();
}

window.addEventListener("offline", lost);
window.addEventListener("online", check);
