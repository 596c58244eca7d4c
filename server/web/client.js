/* A client of lstmd for browsers and node 18 or newer: one file, no dependencies. client.d.ts has the types,
 * docs/frontend.md the examples.
 *
 *   import { Lstmd } from "http://localhost:8080/client.js";
 *   for await (const text of new Lstmd().stream({ prompt: "Oil ", length: 200 })) show(text);
 *
 * @typedef {import("./client.js").GenerateRequest} GenerateRequest
 * @typedef {import("./client.js").Generation} Generation
 * @typedef {import("./client.js").CallOptions} CallOptions
 */

/** What calls throw, besides the signal's reason after an abort. */
export class LstmdError extends Error {
  name = "LstmdError";
}

/** No answer came, or it broke off. `cause` is what fetch threw. */
export class ConnectionError extends LstmdError {
  name = "ConnectionError";
}

/** The daemon refused the request, or failed while it sent a stream. */
export class ProblemError extends LstmdError {
  name = "ProblemError";

  constructor(problem, response) {
    super(problem.detail || problem.title || `HTTP status ${response.status}`);
    const wait = response.headers.get("Retry-After") ?? "";
    this.problem = problem;
    /** The HTTP status, or the problem's if a stream failed on the way. */
    this.status = problem.status ?? response.status;
    /** What is wrong, by the name of the field. */
    this.fields = Object.fromEntries((problem.errors ?? []).map(({ field, message }) => [field, message]));
    /** Names the request in the daemon's log. */
    this.requestId = response.headers.get("X-Request-Id");
    /** Seconds, or null. */
    this.retryAfter = /^\d+$/.test(wait) ? Number(wait) : null;
  }
}

async function problemOf(response, signal) {
  const text = await response.text().catch(() => "");
  signal?.throwIfAborted();
  try {
    return new ProblemError(Object(JSON.parse(text)), response);
  } catch {
    return new ProblemError({}, response); /* not the daemon's: a proxy's page */
  }
}

/* What to throw where fetch or a reader threw. */
function failureOf(error, signal) {
  if (signal?.aborted) return signal.reason;
  if (error instanceof LstmdError) return error;
  return new ConnectionError(`the connection failed: ${error.message}`, { cause: error });
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, seconds * 1000);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/* The server-sent events of an answer. Leaving it closes the connection, which ends the work in the daemon. */
async function* readBlocks(response, signal) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder(); /* keeps half a character until the rest comes */
  let rest = "";
  try {
    for (let done = false; !done; ) {
      const part = await reader.read();
      done = part.done;
      const blocks = (rest + decoder.decode(part.value, { stream: !done })).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const event = { type: "message" };
        for (const line of block.split("\n")) {
          const colon = line.indexOf(": ");
          const name = line.slice(0, colon);
          if (name === "data" || name === "id") event[name] = line.slice(colon + 2);
          else if (name === "event") event.type = line.slice(colon + 2);
        }
        if (event.data !== undefined) yield event;
      }
    }
  } catch (error) {
    throw failureOf(error, signal);
  } finally {
    reader.cancel().catch(() => {});
  }
}

/* The events of a text until [DONE]. */
async function* readEvents(response, signal) {
  for await (const { type, data } of readBlocks(response, signal)) {
    if (data === "[DONE]") return;
    if (type === "error") throw new ProblemError(JSON.parse(data), response);
    yield JSON.parse(data);
  }
  throw new ConnectionError("the stream broke off");
}

/** A text as it is written: iterate over it for its pieces, or over events() for all that comes with them. Both read the
 * same stream, once. Leaving the loop ends the request. */
export class TextStream {
  #events;
  #choices = [];
  #end = null;
  #failure = new LstmdError("the stream was left before its end");

  /* begin() is called when the stream is first read: it gives the request's fields and hears of the end. */
  constructor(begin, send, signal) {
    this.#events = this.#read(begin, send, signal);
  }

  async *#read(begin, send, signal) {
    let call;
    try {
      call = begin();
      for await (const event of readEvents(await send(call.fields), signal)) {
        this.#take(event);
        if (event.finish_reason && event.index === 0) call.commit?.(event);
        yield event;
      }
      this.#end = this.#whole(call.fields.prompt ?? "");
    } catch (error) {
      throw (this.#failure = error);
    } finally {
      call?.release?.();
    }
  }

  #take({ delta, token_count, logprobs, ...fields }) {
    const choice = (this.#choices[fields.index] ??= { completion: "" });
    choice.completion += delta;
    if (logprobs) (choice.logprobs ??= []).push(...logprobs);
    Object.assign(choice, fields);
  }

  /* A prompt of token ids has no text here: the text is the completion alone. */
  #whole(prompt) {
    const promptOf = (choice) => (Array.isArray(prompt) ? prompt[choice.prompt_index] : prompt);
    const textOf = (one) => (typeof one === "string" ? one : "");
    const choices = this.#choices.map((choice) => ({ ...choice, text: textOf(promptOf(choice)) + choice.completion }));
    const { index, prompt_index, ...whole } = choices[0];
    if (choices.length === 1 && prompt_index === undefined) return whole;
    const { logprobs, state, ...shared } = whole;
    const firsts = choices.filter((choice, i) => choice.prompt_index !== choices[i - 1]?.prompt_index || i === 0);
    const sum = (list, name) => list.reduce((total, { usage }) => total + usage[name], 0);
    shared.usage = {
      prompt_tokens: sum(firsts, "prompt_tokens"),
      cached_tokens: sum(firsts, "cached_tokens"),
      completion_tokens: sum(choices, "completion_tokens"),
    };
    return { ...shared, choices: choices.map(({ id, model, usage, timings, warnings, ...choice }) => choice) };
  }

  /** All events, of all continuations. */
  events() {
    return this.#events;
  }

  /** The pieces of the (first) text, never with half a character. */
  async *[Symbol.asyncIterator]() {
    for await (const { index, delta } of this.#events) if (index === 0 && delta) yield delta;
  }

  /** What generate() would have given; reads what has not been read. @returns {Promise<Generation>} */
  async result() {
    for await (const _ of this.#events);
    if (!this.#end) throw this.#failure;
    return this.#end;
  }
}

/** A text that goes on from call to call, one call at a time, as one longer request would have written it. The state is
 * here and not in the daemon. A call that fails changes nothing. */
export class Writer {
  #client;
  #defaults;
  #fed;
  #state;
  #turn = 0;
  #busy;

  constructor(client, defaults = {}) {
    this.#client = client;
    this.#defaults = defaults;
    this.reset();
  }

  /** Forgets the text, and a call that is running. */
  reset() {
    this.state = null;
  }

  /** What the network remembers: keep it, and set it to go on from it, here or in another writer. null: nothing. */
  get state() {
    return this.#state;
  }

  set state(state) {
    this.#turn++;
    this.#busy = false;
    this.#fed = "";
    this.#state = state;
  }

  /** A text that the network reads before it writes on. @param {string} text */
  feed(text) {
    this.#fed += text;
    return this;
  }

  /** The next token, usually a character, and how likely the likeliest ones are.
   * @param {GenerateRequest} [request] @param {CallOptions} [options] */
  async next(request, options) {
    const answer = await this.generate({ logprobs: 20, ...request, length: 1 }, options);
    const top = answer.logprobs?.[0]?.top_logprobs ?? [];
    const probabilities = top.map(({ token, logprob }) => ({ text: token, probability: Math.exp(logprob) }));
    return { text: answer.completion, probabilities, finish_reason: answer.finish_reason };
  }

  /** @param {GenerateRequest} [request] @param {CallOptions} [options] @returns {Promise<Generation>} */
  async generate(request, options) {
    const { fields, commit, release } = this.#begin(request);
    try {
      const answer = await this.#client.generate(fields, options);
      commit(answer);
      return answer;
    } finally {
      release();
    }
  }

  /** @param {GenerateRequest} [request] @param {CallOptions} [options] @returns {TextStream} */
  stream(request, options) {
    return this.#client.stream(() => this.#begin(request), options);
  }

  #begin(request) {
    if (this.#busy) throw new LstmdError("another call of this writer is running");
    this.#busy = true;
    const turn = this.#turn;
    const fed = this.#fed;
    const state = this.#state;
    const prompt = fed + (request?.prompt ?? "");
    const { seed, label, ...defaults } = this.#defaults; /* these two begin a text */
    const first = state ? { ...defaults, state } : this.#defaults;
    return {
      fields: { ...first, ...request, prompt, return_state: true },
      commit: (answer) => {
        if (turn !== this.#turn) return;
        this.#fed = this.#fed.slice(fed.length);
        this.#state = answer.state ?? answer.choices[0].state;
      },
      release: () => {
        if (turn === this.#turn) this.#busy = false;
      },
    };
  }
}

/** A daemon. */
export class Lstmd {
  #fetch;

  /** @param {import("./client.js").LstmdOptions} [options] */
  constructor({ baseURL, token, retries = 2, maxWait = 10, fetch = globalThis.fetch } = {}) {
    /* Without a base URL: the daemon that served this file. */
    const base = new URL(baseURL ?? new URL(".", import.meta.url), globalThis.location?.href);
    if (!/^https?:$/.test(base.protocol)) throw new TypeError("baseURL must be the URL of a daemon");
    this.baseURL = base.href.replace(/\/*$/, "/");
    this.token = token;
    this.retries = retries;
    this.maxWait = maxWait;
    this.#fetch = fetch;
  }

  /** @param {GenerateRequest} [request] @param {CallOptions} [options] @returns {Promise<Generation>} */
  generate(request, options) {
    return this.call("generate", { ...request, stream: false }, options);
  }

  /** The request goes out when the stream is first read.
   * @param {GenerateRequest} [request] @param {CallOptions} [options] @returns {TextStream} */
  stream(request = {}, { signal } = {}) {
    const begin = typeof request === "function" ? request : () => ({ fields: request });
    return new TextStream(begin, (fields) => this.request("generate", { ...fields, stream: true }, { signal }), signal);
  }

  /** A text that goes on from call to call. @param {GenerateRequest} [defaults] @returns {Writer} */
  writer(defaults) {
    return new Writer(this, defaults);
  }

  /** @param {CallOptions} [options] */
  score(request, options) {
    return this.call("score", request, options);
  }

  /** The state after a text, for `state` of a request. @param {CallOptions} [options] */
  state(request, options) {
    return this.call("state", request, options);
  }

  /** @param {CallOptions} [options] */
  tokenize(request, options) {
    return this.call("tokenize", request, options);
  }

  /** @param {CallOptions} [options] */
  detokenize(request, options) {
    return this.call("detokenize", request, options);
  }

  /** @param {CallOptions} [options] */
  async models(options) {
    return (await this.call("models", undefined, options)).models;
  }

  /** @param {string} name @param {CallOptions} [options] */
  model(name, options) {
    return this.call(`models/${encodeURIComponent(name)}`, undefined, options);
  }

  /** Any route that answers with JSON: POST with a body, else GET. An answer without content is null.
   * @param {string} path @param {import("./client.js").RequestOptions} [options] */
  async call(path, body, options = {}) {
    const response = await this.request(path, body, options);
    try {
      return response.status === 204 ? null : await response.json();
    } catch (error) {
      throw failureOf(error, options.signal);
    }
  }

  /** The server-sent events of a route, each as {id, type, data}. @param {string} path
   * @param {import("./client.js").RequestOptions} [options] */
  async *events(path, options = {}) {
    const response = await this.request(path, undefined, options);
    if (response.status !== 204) yield* readBlocks(response, options.signal);
  }

  /** Any route, answered as fetch() does. A body that is no plain object or list goes out as it is. Only 429 and 503 with
   * Retry-After are sent again: nothing has run then. @param {string} path
   * @param {import("./client.js").RequestOptions} [options] */
  async request(path, body, options = {}) {
    for (let left = this.retries; ; left--) {
      const response = await this.#ask(path, body, options);
      if (response.ok) return response;
      const problem = await problemOf(response, options.signal);
      const { status, retryAfter } = problem;
      const busy = (status === 429 || status === 503) && retryAfter !== null;
      if (!busy || retryAfter > this.maxWait || left <= 0) throw problem;
      await pause(retryAfter, options.signal);
    }
  }

  async #ask(path, body, { signal, method = body ? "POST" : "GET", headers: more }) {
    const fetch = this.#fetch; /* a browser's fetch is not called as a method */
    const plain = body && (Array.isArray(body) || Object.getPrototypeOf(body) === Object.prototype);
    const headers = { ...(plain && { "Content-Type": "application/json" }), ...more };
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    try {
      return await fetch(this.baseURL + path, { method, headers, body: plain ? JSON.stringify(body) : body, signal });
    } catch (error) {
      throw failureOf(error, signal);
    }
  }
}
