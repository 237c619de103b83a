// Requests to the server.
import { back, lost } from "./connection.js";

// The server's own words for these refusals are not for users.
const plain = {
  403: "You are not allowed to do this.",
  404: "This conversation was deleted, or is no longer shared with you.",
  413: "The message is too long.",
  429: "Too many at once: wait a moment.",
};

// refusedFile says why the server does not take a file.
export function refusedFile(err) {
  if (err.status !== 413) return err.message;
  return err.code === "limited" ? "You have no room for more files." : "The file is too large: at most 10 MB.";
}

// Refused is the error of an answer that is no success.
export class Refused extends Error {
  constructor(status, error) {
    super(plain[status] ?? error?.message ?? `The server answered ${status}.`);
    this.status = status;
    this.code = error?.code;
  }
}

// Unreachable is the error of a request without an answer. The server may have carried it out.
export class Unreachable extends Error {
  constructor() {
    super(navigator.onLine ? "The server cannot be reached." : "You are offline.");
  }
}

// unknown reports whether the server may have carried out a request that ended with this error.
export const unknown = (err) => !(err instanceof Refused) || err.status >= 500;

// final reports whether repeating a request that ended with this error cannot help.
export const final = (err) => err instanceof Refused && [400, 403, 404, 413].includes(err.status);

// aborted reports whether the user ended a request.
export const aborted = (err) => err.name === "AbortError";

async function send(url, init) {
  let res;
  try {
    res = await fetch(url, init);
  } catch (err) {
    if (aborted(err)) throw err;
    lost();
    throw new Unreachable();
  }
  back();
  if (!res.ok) throw new Refused(res.status, (await res.json().catch(() => ({}))).error);
  return res;
}

// post makes a request of the protocol. When the server denies it, the document gets the event refused.
export async function post(type, params, signal) {
  try {
    return await send("/chatkit", { method: "POST", signal, headers: { "Content-Type": "application/json" }, body: JSON.stringify({ type, params }) });
  } catch (err) {
    if (err.status === 403 || err.status === 404) document.dispatchEvent(new Event("refused"));
    throw err;
  }
}

export const ask = async (type, params) => (await post(type, params)).json();

// newest returns the newest page of a thread's items, oldest first.
export async function newest(id) {
  const page = await ask("items.list", { thread_id: id, limit: 50, order: "desc" });
  page.data.reverse();
  return page;
}

export const session = async () => (await send("/session")).json();

export const signIn = (user) => send("/session", { method: "POST", body: JSON.stringify({ user }) });

// sharedWithMe returns the conversations that others share with the user.
export const sharedWithMe = async () => (await (await send("/shared")).json()).data;

const sharedAt = (id) => "/shared/" + encodeURIComponent(id);

// accessTo returns whose conversation it is, the user's role in it, and, to its owner, with whom it is shared.
export const accessTo = async (id) => (await send(sharedAt(id))).json();

// grant shares the user's conversation. The role "none" ends that.
export const grant = (id, user, role) => send(sharedAt(id), { method: "PUT", body: JSON.stringify({ user, role }) });

// events yields the events of a stream. An event may be split anywhere. A line that begins with a colon is a heartbeat.
export async function* events(res) {
  const reader = res.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch (err) {
      if (aborted(err)) throw err;
      lost();
      throw new Unreachable();
    }
    if (part.done) return;
    text += part.value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const data = text.slice(0, end).split("\n").filter((l) => l.startsWith("data:")).map((l) => l.slice(5)).join("\n");
      if (data) yield JSON.parse(data);
    }
  }
}

// upload sends a file to where an attachment's descriptor says. fetch does not report the progress of an upload. The
// promise fails if signal aborts.
export function upload(to, file, progress, signal) {
  return new Promise((resolve, reject) => {
    const x = new XMLHttpRequest();
    x.open(to.method, to.url);
    for (const [name, value] of Object.entries(to.headers)) x.setRequestHeader(name, value);
    x.upload.addEventListener("progress", (e) => progress(e.loaded / (e.total || 1)));
    x.addEventListener("load", () => {
      if (x.status < 300) return resolve();
      let error;
      try { ({ error } = JSON.parse(x.responseText)); } catch { /* not the server's own error */ }
      reject(new Refused(x.status, error));
    });
    x.addEventListener("error", () => { lost(); reject(new Unreachable()); });
    x.addEventListener("abort", () => reject(new DOMException("Removed.", "AbortError")));
    signal.addEventListener("abort", () => x.abort());
    x.send(file);
  });
}
