// A worker that sends one request at a time for a thread that waits for the answer: see askAndWait in store.mjs.
import { parentPort } from "node:worker_threads";

parentPort.on("message", async ({ url, body, port, done }) => {
  let answer;
  try {
    const response = await fetch(url, { method: "POST", body });
    answer = { status: response.status, text: await response.text() };
  } catch (error) {
    answer = { status: 0, text: String(error) };
  }
  port.postMessage(answer);
  Atomics.store(done, 0, 1);
  Atomics.notify(done, 0);
});
