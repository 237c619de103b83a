// A ChatKitServer whose answers are told by the first word of the user's message, so that each kind of event can be had.
import { agents, AttachmentStore, ChatKitServer, CustomStreamError } from "chatkit-node-backend-sdk";

export class Server extends ChatKitServer {
  async *respond(thread, input, context) {
    const history = await this.store.loadThreadItems(thread.id, null, 20, "desc", context);
    const text = input?.content.map((part) => part.text).join(" ") ?? "tool";
    const [word, ...rest] = text.split(" ");
    switch (input ? word : "output") {
      case "output":
        yield* this.say(thread, `the tool said ${JSON.stringify(history.data[0].output)}`, context);
        break;
      case "title":
        yield* this.say(thread, "a title", context);
        thread.title = rest.join(" ");
        break;
      case "unknown": // members that no version of the wire has
        thread.status = { type: "locked", reason: "only <b>reading</b> & \u2028 thinking", x_until: null };
        thread.metadata = { ...thread.metadata, deep: [{ "": [null, 1e21, 0.1, true] }], constructor: "c" };
        thread.allowed_image_domains = ["img.example.com"];
        thread.x_pinned = { by: "👩‍💻", half: "\ud83d" };
        yield* this.say(thread, "noted", context);
        break;
      case "hidden":
        yield this.done(thread, context, { type: "hidden_context_item", content: { seen: [1, "two", null] } });
        yield* this.say(thread, "nothing to see", context);
        break;
      case "tool":
        yield this.done(thread, context, {
          type: "client_tool_call",
          status: "pending",
          call_id: "call_1",
          name: "pick_colour",
          arguments: { of: ["red", "green"] },
        }, "tool_call");
        break;
      case "widget":
        yield this.done(thread, context, { type: "widget", widget: card("Book it?"), copy_text: null });
        break;
      case "replace": {
        const { item } = yield* this.draft(thread, context, "a first idea");
        yield { type: "thread.item.replaced", item: { ...item, content: said("a better idea"), x_why: "better" } };
        break;
      }
      case "remove": {
        const { item } = yield* this.draft(thread, context, "never mind");
        yield { type: "thread.item.removed", item_id: item.id };
        yield* this.say(thread, "it is gone", context);
        break;
      }
      case "agent": {
        const turn = agents.createAgentContext(thread, this.store, context);
        yield* agents.streamAgentResponse(turn, agentRun(turn));
        break;
      }
      case "fail":
        yield* this.draft(thread, context, "so far so good");
        throw new CustomStreamError("out of ideas", true);
      case "vanish": // another tab deletes the thread while the answer is made
        await this.store.deleteThread(thread.id, context);
        if (rest[0] === "message") yield* this.say(thread, "too late", context);
        thread.title = "too late";
        break;
      default:
        yield* this.say(thread, `you said: ${text}`, context);
    }
  }

  async *action(thread, action, sender, context) {
    if (sender) yield { type: "thread.item.replaced", item: { ...sender, widget: card(`${action.type}: done`) } };
    yield* this.say(thread, `${action.type} ${JSON.stringify(action.payload)}`, context);
  }

  async addFeedback(threadId, itemIds, kind, context) {
    const thread = await this.store.loadThread(threadId, context);
    for (const id of itemIds) await this.store.loadItem(threadId, id, context);
    const { item } = this.done(thread, context, { type: "hidden_context_item", content: { kind, itemIds } });
    await this.store.addThreadItem(threadId, item, context);
  }

  // say streams an assistant message: added, text, done.
  async *say(thread, text, context) {
    const { item } = this.done(thread, context, { type: "assistant_message", content: [] });
    yield { type: "thread.item.added", item };
    const update = (what) => ({ type: "thread.item.updated", item_id: item.id, update: { content_index: 0, ...what } });
    yield update({ type: "assistant_message.content_part.added", content: said("")[0] });
    for (const delta of text.split(/(?<= )/)) {
      yield update({ type: "assistant_message.content_part.text_delta", delta });
    }
    yield update({ type: "assistant_message.content_part.done", content: said(text)[0] });
    yield { type: "thread.item.done", item: { ...item, content: said(text) } };
  }

  // draft finishes a message at once, and returns its event.
  async *draft(thread, context, text) {
    const event = this.done(thread, context, { type: "assistant_message", content: said(text) });
    yield event;
    return event;
  }

  done(thread, context, body, kind = "message") {
    const id = this.store.generateItemId(kind, thread, context);
    return {
      type: "thread.item.done",
      item: { id, thread_id: thread.id, created_at: new Date().toISOString(), ...body },
    };
  }
}

const said = (text) => [{ type: "output_text", text, annotations: [] }];

const card = (title) => ({ type: "Card", children: [{ type: "Text", value: title, id: "t" }], x_theme: null });

// agentRun is what a run of the agents SDK streams: thoughts, a tool of the server's, a widget, a message.
async function* agentRun(turn) {
  const model = (event) => ({ type: "raw_model_stream_event", data: { type: "model", event } });
  yield model({ type: "response.output_item.added", item: { type: "reasoning" } });
  yield model({ type: "response.reasoning_summary_text.delta", summary_index: 0, delta: "Let me think" });
  yield model({ type: "response.output_item.done", item: { type: "reasoning" } });
  const rawItem = { type: "function_call", callId: "c1", name: "look_up", arguments: '{"q":"tea"}' };
  yield { type: "run_item_stream_event", name: "tool_called", item: { type: "tool_call_item", rawItem } };
  const result = { type: "function_call_result", callId: "c1", name: "look_up", status: "completed" };
  yield {
    type: "run_item_stream_event",
    name: "tool_output",
    item: { type: "tool_call_output_item", rawItem: result, output: { leaves: 2.5 } },
  };
  await turn.streamWidget(card("Tea"), "Tea");
  const id = turn.generateId("message");
  yield model({ type: "response.output_item.added", item: { type: "message", role: "assistant", id } });
  yield model({ type: "response.content_part.added", content_index: 0, part: { type: "output_text", text: "" } });
  yield { type: "raw_model_stream_event", data: { type: "output_text_delta", delta: "Tea it is" } };
  const content = [{ type: "output_text", text: "Tea it is" }];
  yield model({ type: "response.output_item.done", item: { type: "message", role: "assistant", id, content } });
}

// Uploads keeps nothing but who announced what; its ids come from the store.
export class Uploads extends AttachmentStore {
  announced = new Map();

  constructor(store) {
    super();
    this.store = store;
  }

  generateAttachmentId(_mimeType, context) {
    return this.store.generateItemId("attachment", undefined, context);
  }

  async createAttachment({ name, size, mime_type }, context) {
    const id = this.generateAttachmentId(mime_type, context);
    this.announced.set(id, context.user);
    const common = { id, name, mime_type, upload_url: `https://files.example.com/${id}?put`, x_size: size };
    return mime_type.startsWith("image/")
      ? { type: "image", preview_url: `https://files.example.com/${id}?small`, ...common }
      : { type: "file", ...common };
  }

  async deleteAttachment(id, context) {
    if (this.announced.get(id) === context.user) this.announced.delete(id);
  }
}
