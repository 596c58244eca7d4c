/* What /inspect says, token by token as it comes. */
import { ConnectionError, ProblemError } from "../client.js";
import { withToken } from "./daemon.js";

const SLICE = 12; /* milliseconds of work before the page may paint again */

async function* linesOf(response, signal) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let begun = performance.now();
  try {
    for (;;) {
      const { done, value = "" } = await reader.read();
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        yield line;
        if (performance.now() - begun < SLICE) continue;
        await new Promise((resolve) => setTimeout(resolve));
        begun = performance.now();
      }
      if (done) return;
    }
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    throw new ConnectionError("the answer broke off", { cause: error });
  } finally {
    reader.cancel().catch(() => {});
  }
}

/* Asks /inspect. take(token, index) is called for each InspectedToken; returns the rest of the answer. */
export function inspect(fields, take, signal) {
  return withToken(async (lstmd) => {
    const response = await lstmd.request("inspect", { ...fields, stream: true }, { signal });
    let count = 0;
    for await (const line of linesOf(response, signal)) {
      const one = JSON.parse(line);
      if (one.status) throw new ProblemError(one, response);
      if (one.tokens === undefined && "id" in one) take(one, count++);
      else return one;
    }
    throw new ConnectionError("the answer broke off");
  });
}

/* The place in the text that is looked at. A "move" comes when it changes. What is pinned stays; a pointer peeks. */
export class Cursor extends EventTarget {
  pinned = 0;
  #peeked = null;

  get at() {
    return this.#peeked ?? this.pinned;
  }

  pin(index) {
    this.pinned = index;
    this.#peeked = null;
    this.dispatchEvent(new Event("move"));
  }

  /* null: looks at what is pinned again. */
  peek(index) {
    if (index === this.#peeked) return;
    this.#peeked = index;
    this.dispatchEvent(new Event("move"));
  }
}
