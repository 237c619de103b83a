// The files of the next message. They are uploaded at once; the message waits for them.
import { aborted, ask, final, refusedFile, upload } from "./api.js";
import { $, button, el, gone, named } from "./dom.js";

const most = 10; // the server takes no more

let files = []; // {name, made, error, stop, li}
let changed = () => {};

const nameOf = (file) => named(file.name) || "A file";

export const onChange = (f) => { changed = f; };
export const attached = () => files.filter((f) => f.made).map((f) => f.made);
export const uploading = () => files.some((f) => !f.made && !f.error);
export const failed = () => files.some((f) => f.error);

// attach uploads files.
export function attach(list) {
  for (const file of list) {
    if (files.length >= most) {
      $("attached").append(el("li", { role: "alert", class: "failed most" }, `A message has at most ${most} attachments.`));
      return;
    }
    begin(file);
  }
}

function begin(file) {
  const stop = new AbortController();
  const bar = el("progress", { max: 1, value: 0, "aria-label": "Upload of " + nameOf(file) });
  const image = file.type.startsWith("image/") ? el("img", { src: URL.createObjectURL(file), alt: "" }) : null;
  const f = { name: file.name, stop, image };
  f.li = el("li", {}, image, el("span", { class: "name" }, nameOf(file)), bar,
    button("×", () => remove(f), "remove", { "aria-label": "Remove " + nameOf(file) }));
  files.push(f);
  $("attached").append(f.li);
  run(f, file, bar);
}

async function run(f, file, bar) {
  try {
    const made = await ask("attachments.create", { name: file.name, size: file.size, mime_type: file.type || "application/octet-stream" });
    f.id = made.id;
    if (f.stop.signal.aborted) return discard(f);
    await upload(made.upload_descriptor, file, (part) => { bar.value = part; }, f.stop.signal);
    f.made = made;
    bar.remove();
  } catch (err) {
    if (aborted(err)) return;
    f.error = refusedFile(err);
    f.li.classList.add("failed");
    bar.replaceWith(el("span", { role: "alert" }, f.error), final(err) ? "" : button("Try again", () => { remove(f); begin(file); changed(); }, "again"));
  }
  changed();
}

// discard removes the upload from the server. If that fails, an unused file is left there.
function discard(f) {
  if (f.id) ask("attachments.delete", { attachment_id: f.id }).catch(() => {});
}

function remove(f) {
  forget(f);
  discard(f);
  document.querySelector("#attached .most")?.remove();
  changed();
}

function forget(f) {
  f.stop.abort();
  gone(f.li);
  if (f.image) URL.revokeObjectURL(f.image.src);
  files = files.filter((g) => g !== f);
}

// takeAttached returns the attachments for a message, and begins anew.
export function takeAttached() {
  const made = attached();
  clearAttached();
  return made;
}

// giveBack attaches what a message had.
export function giveBack(made) {
  for (const a of made) {
    const f = { name: a.name, made: a, id: a.id, stop: new AbortController() };
    f.li = el("li", {}, a.preview_url ? el("img", { src: a.preview_url, alt: "" }) : null, el("span", { class: "name" }, nameOf(a)),
      button("×", () => remove(f), "remove", { "aria-label": "Remove " + nameOf(a) }));
    files.push(f);
    $("attached").append(f.li);
  }
}

// exchangeAttached shows the files of another draft, and returns those that were shown. Their uploads go on.
export function exchangeAttached(others) {
  const before = files;
  files = others;
  $("attached").replaceChildren(...files.map((f) => f.li));
  return before;
}

export function clearAttached() {
  for (const f of [...files]) forget(f);
  $("attached").replaceChildren();
}
