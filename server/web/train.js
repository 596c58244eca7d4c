/* The panel "Train". #train has the form and the list of trainings; #train?job=j000001 shows one, and
 * #train?job=j000001&with=j000002,j000003 has the curves of others beside it. So a reload shows the same.
 *
 * train_text.js: the text and its preview; train_form.js: presets and options; train_feed.js: what happens to a job;
 * train_job.js: one job; train_curve.js: charts and files; train_try.js: the new model beside another one. */
import { chosen, daemon, list, wantsToken, withToken } from "./daemon.js";
import { byId, describeFailure, make, showFailure } from "./dom.js";
import { mountCurves, showCurves } from "./train_curve.js";
import { Feed, isOver } from "./train_feed.js";
import { mountForm, suggestName } from "./train_form.js";
import { mountJob, sentenceOf, showJob, STATES } from "./train_job.js";
import { listTexts, mountText, restoreText } from "./train_text.js";
import { mountTry, showTry, stopTry } from "./train_try.js";

const POLL_SECONDS = 3;
const PAGE = 50;

let jobs = []; /* the newest first */
let older = false; /* somebody asked for more than a page */
let wanted = []; /* ids in the address, the chosen job first */
const feeds = new Map(); /* by id */
let timer = null;
let textsRead = null;
let shown = false;

/* ---- the list ---- */

async function readJobs(options) {
  const read = [];
  for (let after = ""; ; ) {
    const page = await withToken(() => daemon.call(`train?limit=${PAGE}${after && `&after=${after}`}`), options);
    read.push(...page.jobs);
    byId("train-jobs-more").hidden = page.jobs.length < PAGE;
    if (!older || page.jobs.length < PAGE) break;
    after = page.jobs.at(-1).id;
  }
  jobs = read;
}

function ago(date) {
  const minutes = Math.round((Date.now() - new Date(date)) / 60000);
  if (minutes < 1) return "just now";
  if (minutes < 90) return `${minutes} min ago`;
  if (minutes < 2880) return `${Math.round(minutes / 60)} h ago`;
  return new Date(date).toLocaleDateString();
}

function lossOf({ progress }) {
  const loss = progress?.best_validation_nats_per_char ?? progress?.train_nats_per_char;
  return loss == null ? [] : [`loss ${loss.toFixed(3)}`];
}

function jobLine(job) {
  const state = make("span", { className: "state" }, STATES[job.state]);
  state.dataset.state = job.state;
  const facts = [job.dataset ?? "a text", ...lossOf(job), ago(job.created)].join(" · ");
  const lines = [make("span", { className: "job-name" }, job.model, " ", state), make("span", { className: "hint" }, facts)];
  if (!isOver(job)) lines.push(make("span", { className: "hint" }, sentenceOf(job)));
  return make("li", {}, make("a", { href: `#train?job=${job.id}` }, ...lines));
}

/* Leaves the list alone where it has not changed: a link in it may have the focus. */
function showJobs() {
  const box = byId("train-jobs");
  const lines = jobs.map(jobLine);
  const key = lines.map((line) => line.textContent).join("\n");
  byId("train-jobs-none").hidden = jobs.length > 0;
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  const focused = document.activeElement?.getAttribute("href");
  box.replaceChildren(...lines);
  if (focused) [...box.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus();
}

/* ---- the jobs that are shown ---- */

function feedOf(id) {
  if (feeds.has(id)) return feeds.get(id);
  const feed = new Feed(id);
  feeds.set(id, feed);
  feed.addEventListener("change", () => news(feed));
  return feed;
}

function promptOf({ samples }) {
  const prompt = samples.get(Math.max(...samples.keys()))?.[0].prompt ?? "";
  return prompt.replace(/^\S*\s+/, "") || "The "; /* it may begin within a word */
}

let ready = null; /* the job whose model was looked for */

function news(feed) {
  if (!shown || !wanted.includes(feed.id)) return;
  const first = feeds.get(wanted[0]);
  if (feed === first) {
    showJob(feed);
    if (feed.job?.state === "succeeded") showNewModel(feed);
    if (feed.trouble && wantsToken(feed.trouble)) gate(feed.trouble);
  }
  if (first.job) showCurves(wanted.map((id) => feeds.get(id)).filter(({ gone }) => !gone)).catch(failJob);
}

function failJob(error) {
  showFailure(byId("train-job-problem"), error);
}

async function showNewModel(feed) {
  if (ready !== feed.id) {
    ready = feed.id;
    await list({ ask: false }).catch(() => {});
  }
  if (feed.id === wanted[0]) showTry(feed.job.model, promptOf(feed));
}

/* One stream of events for the chosen job; the others are asked now and then, since a browser has few connections. */
function followWanted() {
  for (const [id, feed] of feeds) {
    if (id === wanted[0] && shown) feed.follow();
    else feed.stop();
  }
  for (const id of wanted.slice(1)) {
    const feed = feeds.get(id);
    if (!feed.job || !isOver(feed.job)) feed.read().catch((error) => (feed.gone = error.status === 404));
  }
}

function address(ids) {
  return `#train?job=${ids[0]}${ids.length > 1 ? `&with=${ids.slice(1).join(",")}` : ""}`;
}

function showCompare() {
  const others = jobs.filter(({ id }) => id !== wanted[0]);
  const box = byId("train-compare");
  const key = JSON.stringify([wanted, others.map(({ id, state }) => [id, state])]);
  byId("train-compare-box").hidden = others.length === 0;
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  box.replaceChildren(...others.map((job) => compareLine(job)));
}

function compareLine({ id, model, state, created }) {
  const input = make("input", { id: `train-with-${id}`, type: "checkbox", value: id, checked: wanted.includes(id) });
  const label = make("label", { htmlFor: input.id }, `${model} ${id}, ${STATES[state].toLowerCase()}, ${ago(created)}`);
  input.addEventListener("change", () => {
    const ids = input.checked ? [...wanted, id] : wanted.filter((one) => one !== id);
    history.replaceState(null, "", address(ids));
    want(ids);
  });
  return make("p", { className: "check" }, input, " ", label);
}

function want(ids) {
  wanted = ids;
  for (const id of ids) feedOf(id);
  followWanted();
  showCompare();
  if (ids.length > 0) news(feeds.get(ids[0]));
}

/* ---- a daemon that says no ---- */

function gate(error) {
  const token = wantsToken(error);
  byId("train-gate-text").textContent = token ? "Training needs an admin token." : sentence(describeFailure(error).detail);
  byId("train-gate-button").textContent = token ? "Give a token" : "Try again";
  byId("train-gate").hidden = false;
  byId("train-start").hidden = byId("train-job").hidden = true;
}

function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}`;
}

function openGate() {
  byId("train-gate").hidden = true;
  byId("train-start").hidden = wanted.length > 0;
  byId("train-job").hidden = wanted.length === 0;
}

/* ---- time ---- */

/* Once, when the daemon lets the page in. */
function readTexts() {
  textsRead ??= listTexts({ ask: false }).then(restoreText);
  return textsRead.catch(() => (textsRead = null));
}

async function poll(options) {
  clearTimeout(timer);
  try {
    await readJobs(options);
    openGate();
    await readTexts();
    showJobs();
    showCompare();
    followWanted();
  } catch (error) {
    if (error.status === undefined && jobs.length > 0) byId("train-said").textContent = describeFailure(error).detail;
    else gate(error);
  }
  clearTimeout(timer);
  if (shown && !document.hidden) timer = setTimeout(() => poll({ ask: false }), POLL_SECONDS * 1000);
}

/* ---- the panel ---- */

export async function mount() {
  mountText(suggestName);
  mountJob(() => (location.hash = "#train"));
  mountCurves(failJob);
  mountTry();
  byId("train-gate-button").addEventListener("click", () => poll({ ask: true }));
  byId("train-jobs-more").addEventListener("click", () => {
    older = true;
    poll({ ask: true });
  });
  document.addEventListener("visibilitychange", () => shown && poll({ ask: false }));
  await mountForm((job) => (location.hash = `#train?job=${job.id}`));
}

export async function show(parameters) {
  shown = true;
  const job = parameters.get("job");
  const others = (parameters.get("with") ?? "").split(",").filter((id) => id && id !== job);
  const moved = job !== (wanted[0] ?? null);
  openGate();
  want(job ? [job, ...others] : []);
  openGate();
  await poll({ ask: false });
  if (chosen.all.length === 0) list({ ask: false }).catch(() => {});
  if (moved && job) byId("train-job-title").focus();
}

export function hide() {
  shown = false;
  clearTimeout(timer);
  stopTry();
  for (const feed of feeds.values()) feed.stop();
}
