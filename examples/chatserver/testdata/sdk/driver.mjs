// node driver.mjs URL asks a ChatKitServer of the SDK, whose Store is the bridge at URL, for all that it can do. It prints
// a line {"step"} for each step, the last with an "error" if it failed, and {"rows"}: what was saved and not deleted.
import assert from "node:assert/strict";
import { ChatKitServer, NotFoundError } from "chatkit-node-backend-sdk";
import { Server, Uploads } from "./server.mjs";
import { RemoteStore } from "./store.mjs";

console.log = () => {}; // the SDK's, whatever its logger
const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

// Remembering notes the JSON of every row as it was saved last. Reads have to answer with it.
class Remembering extends RemoteStore {
  rows = new Map();

  async saveThread(thread, context) {
    await super.saveThread(thread, context);
    this.rows.set(`${context.user} thread ${thread.id}`, JSON.stringify(thread));
  }

  async loadThread(id, context) {
    const thread = await super.loadThread(id, context);
    this.#expect(`${context.user} thread ${id}`, thread);
    return thread;
  }

  async deleteThread(id, context) {
    await super.deleteThread(id, context);
    this.rows.delete(`${context.user} thread ${id}`);
    const items = `${context.user} item ${id} `;
    for (const name of [...this.rows.keys()].filter((name) => name.startsWith(items))) this.rows.delete(name);
  }

  async addThreadItem(threadId, item, context) {
    await super.addThreadItem(threadId, item, context);
    this.rows.set(`${context.user} item ${threadId} ${item.id}`, JSON.stringify(item));
  }

  async saveItem(threadId, item, context) {
    await super.saveItem(threadId, item, context);
    this.rows.set(`${context.user} item ${threadId} ${item.id}`, JSON.stringify(item));
  }

  async loadItem(threadId, id, context) {
    const item = await super.loadItem(threadId, id, context);
    this.#expect(`${context.user} item ${threadId} ${id}`, item);
    return item;
  }

  async loadThreadItems(threadId, after, limit, order, context) {
    const page = await super.loadThreadItems(threadId, after, limit, order, context);
    for (const item of page.data) this.#expect(`${context.user} item ${threadId} ${item.id}`, item);
    return page;
  }

  async deleteThreadItem(threadId, id, context) {
    await super.deleteThreadItem(threadId, id, context);
    this.rows.delete(`${context.user} item ${threadId} ${id}`);
  }

  async saveAttachment(attachment, context) {
    await super.saveAttachment(attachment, context);
    this.rows.set(`${context.user} attachment ${attachment.id}`, JSON.stringify(attachment));
  }

  async loadAttachment(id, context) {
    const attachment = await super.loadAttachment(id, context);
    this.#expect(`${context.user} attachment ${id}`, attachment);
    return attachment;
  }

  async deleteAttachment(id, context) {
    await super.deleteAttachment(id, context);
    this.rows.delete(`${context.user} attachment ${id}`);
  }

  #expect(name, row) {
    assert.equal(JSON.stringify(row), this.rows.get(name), `a read of ${name}`);
  }
}

const errors = []; // those that the SDK tells its client nothing of
const quiet = {
  info() {},
  warn() {},
  debug() {},
  error(message, { error }) {
    if (message === "Unhandled error in stream") errors.push(error);
  },
};
const store = new Remembering(process.argv[2]);
const server = new Server(store, new Uploads(store), quiet);
const asked = new Set();

// ask sends a request as the user, and returns what the SDK answers: an object, or all events.
async function ask(user, type, params) {
  asked.add(type);
  const result = await server.process(JSON.stringify({ type, params }), { user });
  if (!result.isStreaming) return result.toJSON();
  const events = [];
  for await (const chunk of result) {
    assert.match(chunk, /^data: [^\n]*\n\n$/);
    events.push(JSON.parse(chunk.slice("data: ".length)));
  }
  return events;
}

async function step(name, f) {
  try {
    await f();
    print({ step: name });
  } catch (error) {
    print({ step: name, error: error.stack });
    process.exitCode = 1;
    throw error;
  }
}

// texts returns what the items of a thread say, oldest first, as the user sees them.
async function texts(user, thread_id) {
  const { data } = await ask(user, "items.list", { thread_id, limit: 1000 });
  return data.map((item) => item.content?.map((part) => part.text).join("") ?? item.type);
}

const input = (text, more) => ({
  input: { content: [{ type: "input_text", text }], attachments: [], inference_options: {}, ...more },
});

const say = (user, thread_id, text, more) =>
  ask(user, "threads.add_user_message", { thread_id, ...input(text, more) });

// create opens a thread and returns its id.
async function create(user, text, more) {
  const [created] = await ask(user, "threads.create", input(text, more));
  return created.thread.id;
}

// types returns the types of the events; updates of an item that follow each other count once.
const types = (events) =>
  events.map(({ type }) => type).filter((type, n, all) => type !== "thread.item.updated" || all[n - 1] !== type);
const doneItems = (events) => events.filter(({ type }) => type === "thread.item.done").map(({ item }) => item);
const answered = ["thread.item.added", "thread.item.updated", "thread.item.done"];

const ada = "ada";
const grace = "grace";
let thread; // ada's, from the first step on

await step("threads.create", async () => {
  const events = await ask(ada, "threads.create", input("hello"));
  assert.deepEqual(types(events), ["thread.created", "thread.item.done", ...answered]);
  thread = events[0].thread.id;
  assert.match(thread, /^thr_[0-9a-f]{32}$/);
  const [question, answer] = doneItems(events);
  assert.equal(question.content[0].text, "hello");
  assert.equal(answer.content[0].text, "you said: hello");
  assert.equal(answer.thread_id, thread);
  assert.match(answer.id, /^msg_[0-9a-f]{32}$/);
});

await step("threads.create, the id drawn is taken", async () => {
  const ids = [];
  for (let n = 0; n < 6; n++) ids.push(await create(grace, `one of six: ${n}`));
  assert.equal(new Set(ids).size, 6);
  for (const [n, id] of ids.entries()) assert.equal((await texts(grace, id))[0], `one of six: ${n}`);
  for (const id of ids) await ask(grace, "threads.delete", { thread_id: id });
});

await step("threads.create, the id stays taken", async () => {
  class Stuck extends RemoteStore {
    generateThreadId() {
      return thread;
    }
  }
  const stuck = new Server(new Stuck(process.argv[2]), undefined, quiet);
  const request = JSON.stringify({ type: "threads.create", params: input("mine") });
  for (const user of [ada, grace]) {
    const { generator } = await stuck.process(request, { user });
    await assert.rejects(generator.next(), { code: "conflict" });
  }
  assert.deepEqual(await texts(ada, thread), ["hello", "you said: hello"]);
});

await step("threads.add_user_message", async () => {
  const events = await say(ada, thread, "more", { quoted_text: "hel", inference_options: { model: "m", x_t: 0.7 } });
  assert.deepEqual(types(events), ["thread.item.done", ...answered]);
  const question = await store.loadItem(thread, doneItems(events)[0].id, { user: ada });
  assert.equal(question.quoted_text, "hel");
  assert.deepEqual(question.inference_options, { model: "m", x_t: 0.7 });
  assert.deepEqual(await texts(ada, thread), ["hello", "you said: hello", "more", "you said: more"]);
});

await step("threads.add_user_message changes the title", async () => {
  const events = await say(ada, thread, "title of the tale");
  assert.equal(events.at(-1).type, "thread.updated");
  assert.equal(events.at(-1).thread.title, "of the tale");
  assert.equal((await ask(ada, "threads.get_by_id", { thread_id: thread })).title, "of the tale");
});

await step("what nobody knows is kept", async () => {
  const odd = "<b>&amp;</b> \u2028 \u0000 \ud83d é 👩‍💻";
  const id = await create(ada, "unknown", {
    content: [
      { type: "input_text", text: "unknown", x_lang: null },
      { type: "input_tag", id: "t", text: odd, data: { n: -1e-7 } },
    ],
    x_draft: "is not saved by the SDK",
  });
  await ask(ada, "threads.update", { thread_id: id, title: odd });
  const loaded = await store.loadThread(id, { user: ada });
  assert.equal(loaded.title, odd);
  assert.deepEqual(loaded.x_pinned, { by: "👩‍💻", half: "\ud83d" });
  assert.deepEqual(loaded.status, { type: "locked", reason: "only <b>reading</b> & \u2028 thinking", x_until: null });
  assert.deepEqual(loaded.metadata, { deep: [{ "": [null, 1e21, 0.1, true] }], constructor: "c" });
  assert.deepEqual(loaded.allowed_image_domains, ["img.example.com"]);
  const { data } = await store.loadThreadItems(id, null, 1, "asc", { user: ada });
  assert.equal(data[0].content[0].x_lang, null);
  assert.equal(data[0].content[1].text, odd);
});

await step("threads.add_user_message leaves a hidden item", async () => {
  const events = await say(ada, thread, "hidden");
  assert.deepEqual(types(events), ["thread.item.done", ...answered], "its done event is nobody's business");
  assert.equal((await texts(ada, thread)).includes("hidden_context_item"), false);
  const { data } = await store.loadThreadItems(thread, null, 2, "desc", { user: ada });
  assert.deepEqual(data.map(({ type }) => type), ["assistant_message", "hidden_context_item"]);
  assert.deepEqual(data[1].content, { seen: [1, "two", null] });
});

await step("threads.add_client_tool_output", async () => {
  const [, call] = doneItems(await say(ada, thread, "tool"));
  assert.match(call.id, /^tc_[0-9a-f]{32}$/);
  const result = { colour: "red", x: [null] };
  const events = await ask(ada, "threads.add_client_tool_output", { thread_id: thread, result });
  assert.deepEqual(types(events), ["thread.item.replaced", ...answered]);
  assert.equal(doneItems(events)[0].content[0].text, 'the tool said {"colour":"red","x":[null]}');
  const stored = await store.loadItem(thread, call.id, { user: ada });
  assert.equal(stored.status, "completed");
  assert.deepEqual(stored.output, result);
  await assert.rejects(ask(ada, "threads.add_client_tool_output", { thread_id: thread, result: 1 }), /No pending/);
});

let widget;
await step("threads.custom_action", async () => {
  [, widget] = doneItems(await say(ada, thread, "widget"));
  const action = { type: "book", payload: { seats: 2 } };
  const events = await ask(ada, "threads.custom_action", { thread_id: thread, item_id: widget.id, action });
  assert.deepEqual(types(events), ["thread.item.replaced", ...answered]);
  const stored = await store.loadItem(thread, widget.id, { user: ada });
  assert.equal(stored.widget.children[0].value, "book: done");
  assert.equal(stored.widget.x_theme, null);
  assert.equal(stored.created_at, widget.created_at);
  const bare = await ask(ada, "threads.custom_action", { thread_id: thread, action });
  assert.equal(doneItems(bare)[0].content[0].text, 'book {"seats":2}');
  await assert.rejects(
    ask(ada, "threads.custom_action", { thread_id: thread, item_id: "msg_none", action }),
    NotFoundError,
  );
});

await step("an item is replaced", async () => {
  const [, draft] = doneItems(await say(ada, thread, "replace"));
  const stored = await store.loadItem(thread, draft.id, { user: ada });
  assert.equal(stored.content[0].text, "a better idea");
  assert.equal(stored.x_why, "better");
  assert.equal((await texts(ada, thread)).includes("a first idea"), false);
});

await step("an item is removed", async () => {
  const [, draft] = doneItems(await say(ada, thread, "remove"));
  await assert.rejects(store.loadItem(thread, draft.id, { user: ada }), NotFoundError);
  assert.deepEqual((await texts(ada, thread)).slice(-2), ["remove", "it is gone"]);
});

await step("an agent answers", async () => {
  const id = await create(ada, "agent");
  const items = (await store.loadThreadItems(id, null, 20, "asc", { user: ada })).data;
  assert.deepEqual(items.map(({ type }) => type).sort(), [
    "assistant_message", "server_tool_call", "server_tool_call", "user_message", "widget", "workflow",
  ]);
  assert.equal(items.find(({ type }) => type === "assistant_message").content[0].text, "Tea it is");
  assert.deepEqual(items.find(({ result }) => result).result, { leaves: 2.5 });
  assert.deepEqual(errors.splice(0), []);
});

await step("the answer fails", async () => {
  const events = await say(ada, thread, "fail");
  assert.deepEqual(types(events), ["thread.item.done", "thread.item.done", "error"]);
  assert.deepEqual(events.at(-1), { type: "error", code: "custom", message: "out of ideas", allow_retry: true });
  assert.deepEqual((await texts(ada, thread)).slice(-2), ["fail", "so far so good"]);
});

await step("threads.retry_after_item", async () => {
  const before = await texts(ada, thread);
  const { data } = await ask(ada, "items.list", { thread_id: thread, limit: 4 });
  const events = await ask(ada, "threads.retry_after_item", { thread_id: thread, item_id: data[3].id });
  assert.deepEqual(types(events), answered);
  assert.deepEqual(await texts(ada, thread), [...before, "you said: more"]); // this SDK leaves what follows
  await assert.rejects(
    ask(ada, "threads.retry_after_item", { thread_id: thread, item_id: "msg_none" }),
    /not found in thread/,
  );
});

await step("items.feedback", async () => {
  const params = { thread_id: thread, item_ids: [widget.id], kind: "positive" };
  assert.deepEqual(await ask(ada, "items.feedback", params), {});
  const { data } = await store.loadThreadItems(thread, null, 1, "desc", { user: ada });
  assert.deepEqual(data[0].content, { kind: "positive", itemIds: [widget.id] });
});

let picture;
await step("attachments.create", async () => {
  picture = await ask(ada, "attachments.create", { name: "a<b>.png", size: 5, mime_type: "image/png" });
  assert.match(picture.id, /^atc_[0-9a-f]{32}$/);
  assert.equal(picture.type, "image");
  assert.deepEqual(await store.loadAttachment(picture.id, { user: ada }), picture);
  assert.equal(picture.x_size, 5);
  const events = await say(ada, thread, "look", { attachments: [picture.id] });
  assert.deepEqual(doneItems(events)[0].attachments, [picture]);
  assert.deepEqual((await store.loadItem(thread, doneItems(events)[0].id, { user: ada })).attachments, [picture]);
});

await step("attachments.delete", async () => {
  const file = await ask(ada, "attachments.create", { name: "b.txt", size: 1, mime_type: "text/plain" });
  assert.equal(file.type, "file");
  assert.deepEqual(await ask(ada, "attachments.delete", { attachment_id: file.id }), {});
  await assert.rejects(store.loadAttachment(file.id, { user: ada }), NotFoundError);
  assert.deepEqual(await ask(ada, "attachments.delete", { attachment_id: file.id }), {}, "again");
  await assert.rejects(say(ada, thread, "look", { attachments: [file.id] }), NotFoundError);
});

await step("threads.get_by_id", async () => {
  const got = await ask(ada, "threads.get_by_id", { thread_id: thread });
  assert.deepEqual(Object.keys(got).sort(), ["created_at", "id", "items", "metadata", "status", "title"]);
  assert.deepEqual(got.status, { type: "active" });
  assert.equal(got.items.has_more, true);
  const { data } = await store.loadThreadItems(thread, null, 20, "asc", { user: ada });
  assert.equal(data.length, 20);
  assert.equal(got.items.after, data[19].id);
  assert.deepEqual(got.items.data, data.filter(({ type }) => type !== "hidden_context_item"));
  assert.ok(got.items.data.length < 20, "a hidden item is on this page");
  const fresh = await create(ada, "short");
  const { items } = await ask(ada, "threads.get_by_id", { thread_id: fresh });
  assert.deepEqual([items.data.length, items.has_more, items.after], [2, false, null]);
  await assert.rejects(ask(ada, "threads.get_by_id", { thread_id: "thr_none" }), NotFoundError);
});

// pages returns all rows of a listing, asked for a few at a time.
async function pages(user, type, params) {
  const rows = [];
  for (let after = null; ; ) {
    const page = await ask(user, type, { ...params, after });
    assert.ok(page.data.length <= params.limit);
    rows.push(...page.data);
    if (!page.has_more) {
      assert.equal(page.after, null);
      return rows;
    }
    assert.equal(typeof page.after, "string");
    after = page.after;
  }
}

await step("items.list", async () => {
  const all = (await ask(ada, "items.list", { thread_id: thread, limit: 1000 })).data;
  assert.ok(all.length > 20);
  for (const limit of [1, 3, 20]) { // pages of one: a hidden item is all of a page, and the cursor to the next
    assert.deepEqual(await pages(ada, "items.list", { thread_id: thread, limit, order: "asc" }), all);
    assert.deepEqual(await pages(ada, "items.list", { thread_id: thread, limit, order: "desc" }), all.toReversed());
  }
  const page = await ask(ada, "items.list", { thread_id: thread, order: "desc" });
  assert.equal(page.has_more, true);
  assert.equal((await ask(ada, "items.list", { thread_id: thread, limit: 1_000_000 })).has_more, false);
  await assert.rejects(ask(ada, "items.list", { thread_id: thread, after: "msg_none" }), NotFoundError);
  await assert.rejects(ask(ada, "items.list", { thread_id: thread, limit: -1 }), { code: "invalid" });
  assert.deepEqual(await ask(ada, "items.list", { thread_id: "thr_none" }), { data: [], has_more: false, after: null });
});

await step("threads.list", async () => {
  const made = await Promise.all(Array.from({ length: 8 }, (_, n) => create(grace, `at once ${n}`)));
  const all = (await ask(grace, "threads.list", { limit: 1000 })).data;
  assert.deepEqual(all.map(({ id }) => id).sort(), made.toSorted());
  assert.deepEqual(all[0].items, { data: [], has_more: false, after: null });
  for (const limit of [1, 3, 8]) {
    assert.deepEqual(await pages(grace, "threads.list", { limit }), all, "newest first unless told otherwise");
    assert.deepEqual(await pages(grace, "threads.list", { limit, order: "asc" }), all.toReversed());
  }
  for (let n = 1; n < all.length; n++) assert.ok(all[n].created_at <= all[n - 1].created_at);
  await assert.rejects(ask(grace, "threads.list", { after: "thr_none" }), NotFoundError);
  await assert.rejects(ask(grace, "threads.list", { after: thread }), NotFoundError, "ada's is no cursor of grace's");
});

await step("threads.update", async () => {
  const updated = await ask(ada, "threads.update", { thread_id: thread, title: "" });
  assert.equal(updated.title, "");
  assert.equal((await ask(ada, "threads.update", { thread_id: thread, title: "Titel" })).title, "Titel");
  assert.equal((await ask(ada, "threads.get_by_id", { thread_id: thread })).title, "Titel");
  await assert.rejects(ask(ada, "threads.update", { thread_id: "thr_none", title: "x" }), NotFoundError);
});

await step("threads.delete", async () => {
  const id = await create(ada, "short-lived");
  assert.deepEqual(await ask(ada, "threads.delete", { thread_id: id }), {});
  await assert.rejects(ask(ada, "threads.get_by_id", { thread_id: id }), NotFoundError);
  assert.deepEqual((await ask(ada, "items.list", { thread_id: id })).data, []);
  await assert.rejects(say(ada, id, "still there?"), NotFoundError);
  assert.deepEqual(await ask(ada, "threads.delete", { thread_id: id }), {}, "again");
});

await step("a thread deleted while it is answered stays deleted", async () => {
  for (const what of ["vanish title", "vanish message"]) {
    const id = await create(ada, "soon gone");
    const events = await say(ada, id, what);
    assert.deepEqual(events.at(-1), { type: "error", code: "stream.error", allow_retry: true });
    const [error, ...others] = errors.splice(0);
    assert.ok(error instanceof NotFoundError);
    assert.deepEqual(others, []);
    await assert.rejects(ask(ada, "threads.get_by_id", { thread_id: id }), NotFoundError);
  }
});

await step("another user finds nothing", async () => {
  const before = JSON.stringify([...store.rows]);
  const action = { type: "book" };
  for (const [type, params] of Object.entries({
    "threads.get_by_id": {},
    "threads.update": { title: "mine" },
    "threads.add_user_message": input("hello?"),
    "threads.add_client_tool_output": { result: 1 },
    "threads.retry_after_item": { item_id: widget.id },
    "threads.custom_action": { item_id: widget.id, action },
    "items.feedback": { item_ids: [widget.id], kind: "negative" },
    "items.list": { after: widget.id },
  })) {
    await assert.rejects(ask(grace, type, { thread_id: thread, ...params }), NotFoundError, type);
  }
  assert.deepEqual(await ask(grace, "items.list", { thread_id: thread }), { data: [], has_more: false, after: null });
  assert.deepEqual(await ask(grace, "threads.delete", { thread_id: thread }), {});
  assert.deepEqual(await ask(grace, "attachments.delete", { attachment_id: picture.id }), {});
  await store.deleteThreadItem(thread, widget.id, { user: grace });
  await assert.rejects(store.loadItem(thread, widget.id, { user: grace }), NotFoundError);
  await assert.rejects(store.loadAttachment(picture.id, { user: grace }), NotFoundError);
  await assert.rejects(store.saveItem(thread, { ...widget, widget: {} }, { user: grace }), NotFoundError);
  await assert.rejects(store.addThreadItem(thread, { ...widget, id: "msg_new" }, { user: grace }), NotFoundError);
  await assert.rejects(store.saveAttachment({ ...picture, name: "mine" }, { user: grace }), { code: "conflict" });
  const own = await create(grace, "my own");
  await assert.rejects(say(grace, own, "look", { attachments: [picture.id] }), NotFoundError);
  const look = { ...widget, type: "user_message", thread_id: own, attachments: [picture] };
  await assert.rejects(store.addThreadItem(own, look, { user: grace }), NotFoundError);
  await ask(grace, "threads.delete", { thread_id: own });
  assert.equal(JSON.stringify([...store.rows]), before);
  assert.equal((await ask(ada, "threads.get_by_id", { thread_id: thread })).title, "Titel");
  assert.deepEqual(await store.loadAttachment(picture.id, { user: ada }), picture);
  await assert.rejects(store.loadThread(thread, {}), { code: "unauthenticated" });
});

await step("two users talk at once", async () => {
  const turns = [ada, grace].flatMap((user) =>
    Array.from({ length: 10 }, async (_, n) => {
      const id = await create(user, `${user} ${n}`);
      await say(user, id, `${n} again`);
      assert.deepEqual(await texts(user, id), [
        `${user} ${n}`, `you said: ${user} ${n}`, `${n} again`, `you said: ${n} again`,
      ]);
      return [user, id];
    }),
  );
  for (const [user, id] of await Promise.all(turns)) {
    await assert.rejects(ask(user === ada ? grace : ada, "threads.get_by_id", { thread_id: id }), NotFoundError);
  }
});

await step("every request type of the SDK was asked", () => {
  const sdk = ChatKitServer.prototype;
  const source = String(sdk.processNonStreaming) + String(sdk.processStreamingImpl);
  const all = [...source.matchAll(/case "([a-z_.]+)":/g)].map(([, type]) => type);
  assert.equal(all.length, 13);
  assert.deepEqual([...asked].sort(), all.sort());
});

await step("no error went unseen", () => assert.deepEqual(errors, []));

print({ rows: Object.fromEntries(store.rows) });
