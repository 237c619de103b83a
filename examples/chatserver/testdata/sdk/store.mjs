// RemoteStore is the SDK's Store over the bridge of bridge_test.go: POST {url}/{method} with the arguments.
import { isDeepStrictEqual } from "node:util";
import { MessageChannel, receiveMessageOnPort, Worker } from "node:worker_threads";
import { NotFoundError, Store } from "chatkit-node-backend-sdk";

export class RemoteStore extends Store {
  #url;
  #worker = new Worker(new URL("./asking.mjs", import.meta.url));
  #stored = new WeakSet(); // threads that the bridge has or had

  constructor(url) {
    super();
    this.#url = url;
    this.#worker.unref();
  }

  generateThreadId(context) {
    return this.#askAndWait("generateThreadId", { context });
  }

  generateItemId(type, thread, context) {
    return this.#askAndWait("generateItemId", { context, kind: type, thread });
  }

  async loadThread(threadId, context) {
    const thread = await this.#ask("loadThread", { context, thread_id: threadId });
    this.#stored.add(thread);
    return thread;
  }

  // The SDK saves new threads and old ones alike. Told apart here, no new thread replaces an old one whose id it drew,
  // and none that was deleted in the meantime comes back. The SDK goes on with the id that the thread has then.
  async saveThread(thread, context) {
    if (this.#stored.has(thread)) return this.#ask("saveThread", { context, thread, mode: "update" });
    for (let tries = 1; !this.#stored.has(thread); tries++) {
      try {
        await this.#ask("saveThread", { context, thread, mode: "insert" });
        this.#stored.add(thread);
      } catch (error) {
        if (error.code !== "conflict" || tries === 10) throw error;
        thread.id = this.generateThreadId(context);
      }
    }
  }

  deleteThread(threadId, context) {
    return this.#ask("deleteThread", { context, thread_id: threadId });
  }

  loadThreads(limit, after, order, context) {
    return this.#ask("loadThreads", { context, limit, after, order });
  }

  loadThreadItems(threadId, after, limit, order, context) {
    return this.#ask("loadThreadItems", { context, thread_id: threadId, after, limit, order });
  }

  // The SDK's streamAgentResponse adds a finished message, and its server adds it again for the done event: the same item
  // a second time is no conflict.
  async addThreadItem(threadId, item, context) {
    try {
      await this.#ask("addThreadItem", { context, thread_id: threadId, item });
    } catch (error) {
      if (error.code !== "conflict") throw error;
      const stored = await this.loadItem(threadId, item.id, context);
      if (!isDeepStrictEqual(stored, JSON.parse(JSON.stringify(item)))) throw error;
    }
  }

  saveItem(threadId, item, context) {
    return this.#ask("saveItem", { context, thread_id: threadId, item });
  }

  loadItem(threadId, itemId, context) {
    return this.#ask("loadItem", { context, thread_id: threadId, item_id: itemId });
  }

  deleteThreadItem(threadId, itemId, context) {
    return this.#ask("deleteThreadItem", { context, thread_id: threadId, item_id: itemId });
  }

  saveAttachment(attachment, context) {
    return this.#ask("saveAttachment", { context, attachment });
  }

  loadAttachment(attachmentId, context) {
    return this.#ask("loadAttachment", { context, attachment_id: attachmentId });
  }

  deleteAttachment(attachmentId, context) {
    return this.#ask("deleteAttachment", { context, attachment_id: attachmentId });
  }

  async #ask(method, args) {
    const response = await fetch(`${this.#url}/${method}`, { method: "POST", body: JSON.stringify(args) });
    return answerOf(response.status, await response.text());
  }

  // The SDK does not await ids: a worker asks for them while this thread waits.
  #askAndWait(method, args) {
    const { port1, port2 } = new MessageChannel();
    const done = new Int32Array(new SharedArrayBuffer(4));
    const request = { url: `${this.#url}/${method}`, body: JSON.stringify(args), port: port2, done };
    this.#worker.postMessage(request, [port2]);
    Atomics.wait(done, 0, 0, 30_000);
    const { status, text } = receiveMessageOnPort(port1)?.message ?? { status: 0, text: `${method}: no answer` };
    port1.close();
    return answerOf(status, text);
  }
}

function answerOf(status, text) {
  if (status === 0) throw new Error(text);
  if (status === 204) return undefined;
  const answer = JSON.parse(text);
  if (status === 200) return answer;
  throw Object.assign(answer.code === "not_found" ? new NotFoundError(answer.message) : new Error(answer.message), {
    code: answer.code,
  });
}
