/* What happens to one training job: the job as GET /train/{id} has it, the rows of its curve, its samples of all epochs.
 * Follows the job's events, and comes back after a broken connection. Draws nothing. */
import { daemon, wantsToken, withToken } from "./daemon.js";

const OVER = ["succeeded", "failed", "cancelled"];

export function isOver(job) {
  return OVER.includes(job.state);
}

function pause(seconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    const stop = () => {
      clearTimeout(timer);
      resolve();
    };
    signal.addEventListener("abort", stop, { once: true });
  });
}

/* A row of the curve from the event `progress`. */
function rowOf({ step, epoch, seconds, train_nats_per_char, learning_rate, gradient_norm, tokens_per_second }) {
  const rest = { train_nats_per_char, learning_rate, gradient_norm, tokens_per_second };
  return { step, epoch, seconds, ...rest, validation_nats_per_char: null };
}

/* Sends "change" when something is new, at most once per frame. */
export class Feed extends EventTarget {
  job = null; /* null: not known yet */
  rows = []; /* as in GET /train/{id}/metrics */
  samples = new Map(); /* by epoch: the samples, coldest first */
  gone = false; /* the job was deleted */
  trouble = null; /* why nothing comes */

  #id;
  #last = null; /* id of the last event that was seen */
  #following = null; /* AbortController */
  #told = false;
  #reading = null;
  #again = false;

  constructor(id) {
    super();
    this.#id = id;
  }

  get id() {
    return this.#id;
  }

  /* Begins, or goes on after stop(). */
  follow() {
    if (this.#following || this.gone || (this.job && isOver(this.job) && !this.trouble)) return;
    this.#following = new AbortController();
    this.#follow(this.#following.signal);
  }

  stop() {
    this.#following?.abort();
    this.#following = null;
  }

  async #follow(signal) {
    for (let wait = 1; !signal.aborted; wait = Math.min(2 * wait, 15)) {
      try {
        await this.read(signal);
        this.trouble = null;
        const headers = this.#last === null ? {} : { "Last-Event-ID": this.#last };
        for await (const event of daemon.events(`train/${this.#id}/events`, { headers, signal })) {
          wait = 1;
          this.#take(event);
        }
        await this.read(signal);
        if (isOver(this.job)) break;
      } catch (error) {
        if (signal.aborted) return;
        this.gone = error.status === 404;
        this.trouble = error;
        this.#tell();
        if (this.gone || wantsToken(error)) break; /* a wrong token again and again would count as guessing */
      }
      await pause(wait, signal);
    }
    if (!signal.aborted) this.#following = null;
    this.#tell();
  }

  #take({ id, type, data }) {
    if (id !== undefined) this.#last = id;
    const told = JSON.parse(data);
    if (type === "progress") this.#takeProgress(told);
    else if (type === "validation") this.#takeValidation(told);
    else if (type === "sample") this.#takeSample(told);
    else if (type === "state") this.#readAgain();
    else if (type === "note" && !this.job.notes.includes(told.text)) this.job.notes.push(told.text);
    this.#tell();
  }

  /* A run that goes on from a snapshot may have gone back: the daemon then has the curve. */
  #takeProgress(told) {
    const last = this.rows.at(-1);
    this.job.progress = told;
    if (!last || told.step > last.step) this.rows.push(rowOf(told));
    else if (told.step < last.step) this.#readAgain();
  }

  #takeValidation({ step, epoch, train_nats_per_char, validation_nats_per_char }) {
    const last = this.rows.at(-1);
    if (last && step < last.step) return; /* an old event, whose row was read */
    if (last?.step === step) {
      last.validation_nats_per_char ??= validation_nats_per_char;
      return;
    }
    const seconds = this.job.progress?.seconds ?? null;
    const train = train_nats_per_char ?? last?.train_nats_per_char ?? null;
    const none = { learning_rate: null, gradient_norm: null, tokens_per_second: null };
    this.rows.push({ step, epoch, seconds, train_nats_per_char: train, ...none, validation_nats_per_char });
  }

  #takeSample(sample) {
    const others = (this.samples.get(sample.epoch) ?? []).filter((one) => one.temperature !== sample.temperature);
    this.samples.set(
      sample.epoch,
      [...others, sample].sort((a, b) => a.temperature - b.temperature),
    );
  }

  #readAgain() {
    this.read(this.#following?.signal).catch((error) => {
      this.trouble = error;
      this.#tell();
    });
  }

  /* Reads the job and its curve; once more if somebody asks while it reads. */
  read(signal) {
    this.#again = this.#reading !== null;
    this.#reading ??= this.#read(signal).finally(() => (this.#reading = null));
    return this.#reading;
  }

  async #read(signal) {
    do {
      this.#again = false;
      const ask = (path) => withToken(() => daemon.call(`train/${this.#id}${path}`, undefined, { signal }), { ask: false });
      [this.job, { metrics: this.rows }] = await Promise.all([ask(""), ask("/metrics")]);
      this.#tell();
    } while (this.#again);
  }

  #tell() {
    if (this.#told) return;
    this.#told = true;
    setTimeout(() => {
      this.#told = false;
      this.dispatchEvent(new Event("change"));
    }, 30);
  }
}
