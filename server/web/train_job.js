/* The view of one job: its state in words, its figures, what may be done to it, its samples and notes. */
import { call, chosen, list } from "./daemon.js";
import { byId, clearFailure, fact, make, showFailure } from "./dom.js";
import { isOver } from "./train_feed.js";

export const STATES = { queued: "Waiting", running: "Training", paused: "Paused", succeeded: "Finished", failed: "Failed", cancelled: "Cancelled" };

let feed = null;
let trouble = null; /* of the feed, as it is shown */
let followsNewest = true; /* the slider of samples */
let said = null; /* the state that was read aloud last, with the job's id */
let deleted = () => {};

/* ---- words ---- */

function numberText(value, digits) {
  if (value === null || value === undefined) return "–";
  if (value > 0 && value < 1e-5) return value.toExponential(digits - 1);
  return Number(value.toPrecision(digits)).toLocaleString(undefined, { maximumSignificantDigits: digits });
}

export function timeText(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 90) return `${whole} s`;
  if (whole < 5400) return `${Math.round(whole / 60)} min`;
  if (whole > 172800) return `${Math.round(whole / 86400).toLocaleString()} days`;
  return `${Math.floor(whole / 3600)} h ${Math.round((whole % 3600) / 60)} min`;
}

const ENDLESS = 1e6; /* epochs: somebody else will end it */

/* A run that time ended in its first epoch says 0. */
function epochText({ epoch, epochs }) {
  return Math.max(1, epoch) + (epochs < ENDLESS ? ` of ${epochs}` : "");
}

export function sentenceOf(job) {
  const { state, reason, error, progress, model } = job;
  const epoch = progress ? `epoch ${epochText(progress)}` : "reading the text";
  const left = progress?.eta_seconds != null ? `, about ${timeText(progress.eta_seconds)} left` : "";
  switch (state) {
    case "queued":
      return `It waits for its turn${reason ? `: ${reason}` : progress ? " and goes on from its snapshot" : ""}.`;
    case "running":
      return `It trains: ${epoch}${left}.`;
    case "paused":
      return reason ? `It is paused: ${reason}.` : "It is paused. Resume goes on as if it had never stopped.";
    case "succeeded":
      return `The model ${model} is ready${progress?.seconds ? ` after ${timeText(progress.seconds)}` : ""}.`;
    case "failed":
      return `It failed: ${error}.`;
    default:
      return `It was cancelled${reason ? `: ${reason}` : ""}. No model came of it.`;
  }
}

/* Reads a change of state aloud, but not the state that a job has when it is opened. */
function sayState(job) {
  const key = `${job.id} ${job.state}`;
  if (said && said !== key && said.startsWith(`${job.id} `)) byId("train-said").textContent = `${job.model}: ${sentenceOf(job)}`;
  said = key;
}

/* ---- parts ---- */

function showHead(job) {
  byId("train-job-title").textContent = job.model;
  const badge = byId("train-job-state");
  badge.textContent = STATES[job.state];
  badge.dataset.state = job.state;
  byId("train-job-sentence").textContent = sentenceOf(job);
  const bar = byId("train-progress");
  bar.hidden = isOver(job) || job.state === "queued";
  bar.value = job.progress?.fraction ?? 0;
}

function showFigures(job) {
  const { progress } = job;
  byId("train-facts").hidden = !progress;
  if (!progress) return;
  const p = progress;
  byId("train-facts").replaceChildren(
    fact("Epoch", epochText(p)),
    fact("Step", `${numberText(p.step, 12)} of ${numberText(p.steps, 12)}`),
    fact("Training loss", numberText(p.train_nats_per_char, 4)),
    fact("Validation loss", numberText(p.validation_nats_per_char, 4)),
    fact("Best", numberText(p.best_validation_nats_per_char, 4)),
    fact("Learning rate", numberText(p.learning_rate, 3)),
    fact("Gradient norm", numberText(p.gradient_norm, 3)),
    fact("Tokens/s", numberText(p.tokens_per_second, 3)),
    fact("Time", timeText(p.seconds)),
    ...(isOver(job) ? [] : [fact("Left", timeText(p.eta_seconds))]),
  );
}

/* A button that goes away under the focus hands it to the title. */
function showActions({ state, model }) {
  const isDefault = chosen.all.some((one) => one.name === model && one.default);
  const may = {
    pause: state === "queued" || state === "running",
    resume: state === "paused",
    cancel: ["queued", "running", "paused"].includes(state),
    delete: state !== "running",
    default: state === "succeeded" && !isDefault,
  };
  let lost = false;
  for (const [name, shown] of Object.entries(may)) {
    const button = byId(`train-${name}`);
    if (!shown && document.activeElement === button) lost = true;
    button.hidden = !shown;
  }
  if (lost) byId("train-job-title").focus();
}

function showNotes({ notes, options }) {
  byId("train-notes-box").hidden = false;
  byId("train-notes").replaceChildren(...notes.map((text) => make("li", {}, text)));
  byId("train-job-options").replaceChildren(...Object.entries(options).map(([name, value]) => fact(name, String(value))));
}

/* ---- samples ---- */

function showSamples() {
  const epochs = [...feed.samples.keys()].sort((a, b) => a - b);
  byId("train-samples-card").hidden = epochs.length === 0;
  if (epochs.length === 0) return;
  const slider = byId("train-epoch");
  const at = followsNewest ? epochs.length - 1 : Math.min(Number(slider.value), epochs.length - 1);
  slider.max = epochs.length - 1;
  slider.value = at;
  slider.disabled = epochs.length === 1;
  slider.setAttribute("aria-valuetext", `epoch ${epochs[at]}`);
  byId("train-epoch-text").textContent = `${epochs[at]} of ${feed.job.progress?.epochs ?? epochs.at(-1)}`;
  drawSamples(feed.samples.get(epochs[at]));
}

function sampleCard({ temperature, prompt, text }) {
  const shown = make("p", { className: "text" }, make("span", { className: "given" }, prompt), text);
  return make("figure", {}, make("figcaption", {}, `Temperature ${temperature}`), shown);
}

/* Keeps the texts that stay as they are: somebody may be marking one. */
function drawSamples(samples) {
  const key = JSON.stringify(samples);
  const box = byId("train-samples");
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  box.replaceChildren(...samples.map(sampleCard));
}

/* ---- actions ---- */

function fail(error) {
  showFailure(byId("train-job-problem"), error);
}

/* Asks first where nothing can be undone. */
function confirmed(text, yes) {
  const dialog = byId("train-sure");
  byId("train-sure-text").textContent = text;
  byId("train-sure-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

async function act(button, work) {
  const of = feed;
  clearFailure(byId("train-job-problem"));
  button.disabled = true;
  try {
    await work(of);
  } catch (error) {
    fail(error);
  }
  button.disabled = false;
}

async function move({ id }, action) {
  await call(`train/${id}/${action}`, undefined, { method: "POST" });
  await feed.read();
}

const ACTIONS = {
  pause: (of) => move(of, "pause"),
  resume: (of) => move(of, "resume"),
  async cancel(of) {
    if (await confirmed(`Cancel the training of ${of.job.model}? It ends for good, and no model comes of it.`, "Cancel the training")) await move(of, "cancel");
  },
  async delete(of) {
    if (!(await confirmed(`Delete this training of ${of.job.model}? Its curve and samples go, the model stays.`, "Delete it"))) return;
    of.stop();
    await call(`train/${of.id}`, undefined, { method: "DELETE" });
    deleted();
  },
  async default(of) {
    await call("models/default", { name: of.job.model }, { method: "PUT" });
    await list({ ask: false });
    byId("train-said").textContent = `${of.job.model} is the default model now.`;
  },
};

/* ---- all of it ---- */

function showTrouble() {
  if (feed.trouble === trouble) return;
  trouble = feed.trouble;
  if (trouble) fail(feed.gone ? new Error("There is no such training: it was deleted.") : trouble);
  else clearFailure(byId("train-job-problem"));
}

/* Shows what the feed has now. */
export function showJob(shown) {
  if (feed !== shown) {
    followsNewest = true;
    trouble = null;
    clearFailure(byId("train-job-problem"));
  }
  feed = shown;
  showTrouble();
  if (!feed.job) return;
  showHead(feed.job);
  showFigures(feed.job);
  showActions(feed.job);
  showNotes(feed.job);
  showSamples();
  sayState(feed.job);
}

/* gone() hears that the job was deleted here. */
export function mountJob(gone) {
  deleted = gone;
  for (const [name, work] of Object.entries(ACTIONS)) byId(`train-${name}`).addEventListener("click", ({ currentTarget }) => act(currentTarget, work));
  byId("train-epoch").addEventListener("input", ({ target }) => {
    followsNewest = target.value === target.max;
    showSamples();
  });
  chosen.addEventListener("change", () => feed?.job && showActions(feed.job));
}
