// The elements of a conversation's items. An assistant's text is Markdown, a user's is plain.
import { button, copier, el, link, named } from "./dom.js";
import { show } from "./markdown.js";
import { component, image } from "./widgets.js";

export { el } from "./dom.js";

const renderers = {
  user_message(item, act) {
    return [
      bubble(item),
      el("div", { class: "acts" }, copier(() => textOf(item)), button("Answer again", () => act.retry(item), "retry")),
    ];
  },

  assistant_message(item, act, domains, streaming) {
    const sources = item.content.flatMap((c) => c.annotations ?? []).map((a) => a.source);
    return [
      item.content.map((c, i) => show(el("div", { class: "md" }), c.text, domains, streaming && i === item.content.length - 1)),
      sources.length ? el("ol", { class: "sources" }, sources.map((s) => el("li", {}, link(s.url, named(s.title) || named(s.filename) || s.id)))) : null,
      el("div", { class: "acts" }, copier(() => textOf(item)), ["positive", "negative"].map((kind) =>
        button(kind === "positive" ? "Good" : "Bad", (e) => act.feedback(item, kind, e.currentTarget), "feedback", { "data-kind": kind, "aria-pressed": "false" }))),
    ];
  },

  widget(item, act, domains) {
    return el("div", { class: "box" }, component(item.widget, (action) => act.action(item, action), domains));
  },

  workflow(item) {
    const w = item.workflow;
    return el("div", { class: "box" },
      el("div", { class: "label" }, w.summary?.title ?? (w.summary ? `Took ${w.summary.duration} s` : "Working")),
      el("ul", {}, w.tasks.map(task)));
  },

  task: (item) => el("div", { class: "box" }, el("ul", {}, task(item.task))),

  client_tool_call(item, act) {
    const head = el("div", { class: "label" }, `Tool: ${item.name}`);
    if (item.status !== "pending") return el("div", { class: "box" }, head, el("code", {}, JSON.stringify(item.output ?? null)));
    const input = el("input", { type: "text", "aria-label": "The tool's result, as JSON", value: "{}" });
    const run = (e) => { e.preventDefault(); act.output(input.value); };
    return el("form", { class: "box", onsubmit: run }, head, el("code", {}, JSON.stringify(item.arguments)), el("div", { class: "row" }, input, el("button", {}, "Give result")));
  },

  structured_input(item, act) {
    if (item.status !== "pending") {
      return el("div", { class: "box" }, item.inputs.map((q) => el("div", {},
        el("div", { class: "label" }, q.question), q.answer?.skipped ? "—" : (q.answer?.values ?? []).join(", "))));
    }
    const form = el("form", { class: "box" });
    for (const q of item.inputs) {
      form.append(el("fieldset", { "data-id": q.id }, el("legend", {}, q.question),
        q.type === "freeform"
          ? el("textarea", { name: item.id + q.id, rows: 2, "aria-label": q.question, placeholder: q.description ?? "" })
          : (q.options ?? []).map((o) => el("label", {}, el("input", { type: q.multiple ? "checkbox" : "radio", name: item.id + q.id, value: o.value }), " ", o.value))));
    }
    const answers = () => Object.fromEntries([...form.querySelectorAll("fieldset")].map((f) => [f.dataset.id, {
      values: [...f.querySelectorAll("input:checked, textarea")].map((i) => i.value).filter(Boolean),
    }]));
    form.append(el("div", { class: "row" }, el("button", { class: "primary" }, "Answer"),
      el("button", { type: "button", onclick: () => act.form(item, { status: "skipped", answers: {} }) }, "Skip")));
    form.addEventListener("submit", (e) => { e.preventDefault(); act.form(item, { status: "answered", answers: answers() }); });
    return form;
  },

  generated_image: (item, act, domains) => item.image
    ? image(item.image.url, "A generated image", domains)
    : el("p", { class: "text" }, "An image is being made"),

  end_of_turn: () => null,
};

function task(t) {
  return el("li", { class: "task " + (t.status_indicator ?? "none") }, t.title ?? t.title_query ?? t.content ?? t.type);
}

const textOf = (item) => (item.content ?? []).map((c) => c.text).join(" ");

function bubble(item) {
  return el("div", { class: "bubble" },
    item.quoted_text ? el("p", { class: "text label" }, "“" + item.quoted_text + "”") : null,
    textOf(item) ? el("p", { class: "text" }, textOf(item)) : null,
    item.attachments?.length ? el("div", { class: "attachments" }, item.attachments.map(attachment)) : null);
}

// attachment returns a picture, or a link to the file. Both come from this server: see package files.
function attachment(a) {
  const at = "/files/" + encodeURIComponent(a.id);
  const name = named(a.name) || "A file";
  if (a.preview_url) return el("a", { href: at, target: "_blank", rel: "noopener" }, el("img", { class: "preview", src: a.preview_url, alt: name }));
  return el("a", { class: "chip", href: at, download: name }, name);
}

// unsentMessage returns the element of a message that the server does not have yet.
export function unsentMessage(message) {
  return el("li", { class: "user_message sending", "data-type": "unsent" },
    bubble({ content: [{ text: message.text }], attachments: message.attachments, quoted_text: message.quoted }));
}

// render returns the element of an item. An item that cannot be shown does not hide the others.
export function render(item, act, streaming, domains) {
  let body;
  try {
    body = renderers[item.type]?.(item, act, domains, streaming) ?? (item.type in renderers ? null : el("p", { class: "text label" }, item.type));
  } catch (err) {
    console.warn(err);
    body = el("p", { class: "text label" }, "This part cannot be shown.");
  }
  return el("li", { id: "item-" + item.id, class: item.type + (streaming ? " streaming" : ""), "data-type": item.type }, body);
}

// refresh brings an element up to date without replacing it, and returns whether it could. Only texts grow often enough.
export function refresh(li, item, act, streaming, domains) {
  if (item.type !== "assistant_message" || !streaming || item.content.some((c) => c.annotations?.length)) return false;
  const parts = li.querySelectorAll(":scope > .md");
  item.content.forEach((c, i) => {
    const into = parts[i] ?? el("div", { class: "md" });
    show(into, c.text, domains, i === item.content.length - 1);
    if (!parts[i]) li.querySelector(":scope > .acts").before(into);
  });
  return true;
}
