// Shared conversations: what the user may do in another user's, and the dialog for the user's own.
import { grant } from "./api.js";
import { modal } from "./dialogs.js";
import { el } from "./dom.js";

// An access is what accessTo of api.js returns. It is null for a conversation that has just begun. The role "ended" is the page's
// own: the sharing ended while the conversation was open, or, without by, the conversation was deleted.

export const owned = (a) => !a || a.role === "owner";

// denied reports whether the user cannot write.
export const denied = (a) => a?.role === "viewer" || a?.role === "ended";

// others reports whether other users can read or write the conversation.
export const others = (a) => Boolean(a && (a.role === "owner" ? a.data?.length : a.role !== "ended"));

// words says what the user may do in another user's conversation.
export function words(a) {
  switch (a?.role) {
    case "viewer": return `${a.by} shares this conversation with you. You can read it.`;
    case "editor": return `${a.by} shares this conversation with you. You can write in it.`;
    case "ended": return !a.by ? "This conversation was deleted." : `${a.by} no longer shares this conversation with you.`;
  }
  return "";
}

const roles = { none: "No access", viewer: "Can read", editor: "Can write" };

// share shows the dialog in which the owner shares a conversation with users. It keeps access up to date.
export function share(id, users, access, onclose) {
  const saved = new Map((access.data ?? []).map((g) => [g.user, g.role]));
  const says = el("p", { role: "status" });
  let turn = Promise.resolve(); // one change at a time: the last choice must win

  async function save(user, select) {
    const role = select.value;
    if (role === (saved.get(user) ?? "none")) return;
    try {
      await grant(id, user, role);
    } catch (err) {
      select.value = saved.get(user) ?? "none";
      says.className = "failure";
      says.textContent = "Not saved. " + err.message;
      return;
    }
    if (role === "none") saved.delete(user);
    else saved.set(user, role);
    access.data = [...saved].map(([user, role]) => ({ user, role }));
    says.className = "";
    says.textContent = `Saved. ${user}: ${roles[role].toLowerCase()}.`;
  }

  function person(user) {
    const select = el("select", { onchange: () => { turn = turn.then(() => save(user, select)); } },
      Object.entries(roles).map(([value, text]) => el("option", { value, selected: value === (saved.get(user) ?? "none") }, text)));
    return el("label", {}, el("span", {}, user), select);
  }

  const d = modal([
    el("h2", { id: "dialog-title" }, "Share this conversation"),
    el("p", {}, users.length ? "Each choice is saved at once." : "There is no other user."),
    el("div", { class: "people" }, users.map(person)), says,
    el("div", { class: "row end" }, el("button", { type: "button", class: "primary", onclick: () => d.close() }, "Done")),
  ], onclose);
}
