// The elements of a conversation's items. Content becomes text nodes, never HTML.

// el returns a new element. An attribute whose name begins with on is a listener. One that is false or null is left out.
export function el(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else if (value === false || value == null) continue;
    else e.setAttribute(name, value === true ? "" : value);
  }
  e.append(...children.flat(Infinity).filter((c) => c != null));
  return e;
}

// link returns an anchor for an http or https URL, and plain text for any other.
function link(url, text) {
  return /^https?:\/\//.test(url ?? "") ? el("a", { href: url, rel: "noopener noreferrer", target: "_blank" }, text) : text;
}

const renderers = {
  user_message(item, act) {
    return [
      el("div", { class: "bubble" },
        item.quoted_text ? el("p", { class: "text label" }, "“" + item.quoted_text + "”") : null,
        el("p", { class: "text" }, item.content.map((c) => c.text).join(" ")),
        (item.attachments ?? []).map((a) => el("span", { class: "chip" }, a.name))),
      el("div", { class: "acts" }, el("button", { type: "button", class: "plain", "data-act": "retry", onclick: () => act.retry(item) }, "Answer again")),
    ];
  },

  assistant_message(item, act) {
    const sources = item.content.flatMap((c) => c.annotations ?? []).map((a) => a.source);
    return [
      item.content.map((c) => el("p", { class: "text" }, c.text)),
      sources.length ? el("ol", { class: "sources" }, sources.map((s) => el("li", {}, link(s.url, s.title || s.filename || s.id)))) : null,
      el("div", { class: "acts" }, ["positive", "negative"].map((kind) =>
        el("button", { type: "button", class: "plain", "data-kind": kind, "aria-pressed": "false", onclick: (e) => act.feedback(item, kind, e.currentTarget) },
          kind === "positive" ? "Good" : "Bad"))),
    ];
  },

  widget(item, act) {
    return el("div", { class: "box" }, component(item.widget, (action) => act.action(item, action)));
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

  generated_image: (item) => item.image
    ? el("img", { class: "made", src: item.image.url, alt: "A generated image" })
    : el("p", { class: "text" }, "An image is being made"),

  end_of_turn: () => null,
};

function task(t) {
  return el("li", { class: "task " + (t.status_indicator ?? "none") }, t.title ?? t.title_query ?? t.content ?? t.type);
}

// component returns the element of a widget's component. An unknown one becomes a labelled box with its children.
function component(c, act) {
  if (!c || typeof c !== "object") return null;
  const children = (Array.isArray(c.children) ? c.children : c.children ? [c.children] : []).map((k) => component(k, act));
  switch (c.type) {
    case "Card": case "Col": case "Row": case "Box": case "Form": case "ListView": case "ListViewItem":
      return el("div", { class: c.type === "Row" ? "row" : null }, children);
    case "Title": return el("h3", {}, c.value ?? "");
    case "Text": case "Caption": case "Markdown": case "Label":
      return el("p", { class: c.type === "Caption" ? "text label" : "text", "data-component": c.id }, c.value ?? "");
    case "Image": return /^(https:|data:image\/)/.test(c.src ?? "") ? el("img", { class: "made", src: c.src, alt: c.alt ?? "" }) : null;
    case "Divider": return el("hr");
    case "Button": {
      const action = c.onClickAction ?? c.action;
      return el("button", { type: "button", disabled: !action, onclick: () => act(action) }, c.label ?? "Button");
    }
  }
  return el("div", {}, el("span", { class: "label" }, c.type ?? "component"), children);
}

// render returns the element of an item.
export function render(item, act, streaming) {
  const body = renderers[item.type]?.(item, act) ?? (item.type in renderers ? null : el("p", { class: "text label" }, item.type));
  return el("li", { id: "item-" + item.id, class: item.type + (streaming ? " streaming" : ""), "data-type": item.type }, body);
}

// update applies an update of the stream to an item, and returns whether the item changed. It ignores unknown updates:
// the finished item has their result.
export function update(item, u) {
  switch (u.type) {
    case "assistant_message.content_part.added":
    case "assistant_message.content_part.done":
      item.content[u.content_index] = u.content;
      return true;
    case "assistant_message.content_part.text_delta":
      item.content[u.content_index].text += u.delta;
      return true;
    case "assistant_message.content_part.annotation_added":
      (item.content[u.content_index].annotations ??= []).splice(u.annotation_index, 0, u.annotation);
      return true;
    case "workflow.task.added":
      item.workflow.tasks.splice(u.task_index, 0, u.task);
      return true;
    case "workflow.task.updated":
      item.workflow.tasks[u.task_index] = u.task;
      return true;
    case "generated_image.updated":
      item.image = u.image;
      return true;
    case "widget.root.updated":
      item.widget = u.widget;
      return true;
    case "widget.component.updated":
    case "widget.streaming_text.value_delta": {
      const found = find(item.widget, u.component_id);
      if (found && u.component) Object.assign(found, u.component);
      else if (found) found.value = (found.value ?? "") + u.delta;
      return Boolean(found);
    }
  }
  return false;
}

function find(c, id) {
  if (!c || typeof c !== "object") return null;
  if (c.id === id) return c;
  for (const k of Array.isArray(c.children) ? c.children : [c.children]) {
    const found = find(k, id);
    if (found) return found;
  }
  return null;
}
