/* One request whose text comes in pieces: at most one piece a frame, and the figures of the run. */
import { withToken } from "./daemon.js";

/* Shows what came, once a frame. A tab that is not seen has no frames: flush() does it at the end. */
class Pieces {
  #waiting = new Map();
  #frame = 0;

  constructor(show) {
    this.show = show;
  }

  add(index, text) {
    this.#waiting.set(index, (this.#waiting.get(index) ?? "") + text);
    this.#frame ||= requestAnimationFrame(() => this.flush());
  }

  flush() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    for (const [index, text] of this.#waiting) this.show(index, text);
    this.#waiting.clear();
  }
}

/* What is known of a run at any time, also when it was stopped or broke off. */
export class Figures {
  tokens = 0;
  first = null; /* milliseconds until the first token */
  begun = performance.now();

  count(tokens) {
    this.first ??= performance.now() - this.begun;
    this.tokens += tokens;
  }

  /* As this page saw it; the daemon's own figure comes at the end. */
  get tokensPerSecond() {
    const seconds = (performance.now() - this.begun) / 1000;
    return this.tokens / Math.max(seconds, 0.001);
  }
}

/* Only the likeliest choice is no stream. */
async function* eventsOf(lstmd, body, signal) {
  if (body.choice_mode !== "likeliest") return yield* lstmd.stream(body, { signal }).events();
  const answer = await lstmd.generate(body, { signal });
  yield { ...answer, index: 0, delta: answer.completion, token_count: answer.usage.completion_tokens };
}

/* Runs a request. show(index, text): a piece of a continuation. end(index, event): its last event. Throws what failed;
 * all that came before has been shown then. */
export async function run(body, { figures, signal, show, end }) {
  const pieces = new Pieces(show);
  try {
    await withToken(async (lstmd) => {
      for await (const event of eventsOf(lstmd, body, signal)) {
        figures.count(event.token_count);
        if (event.delta) pieces.add(event.index, event.delta);
        if (!event.finish_reason) continue;
        pieces.flush();
        end(event.index, event);
      }
    });
  } finally {
    pieces.flush();
  }
}
