/* The panel "Status": how the daemon is. It reads /metrics every two seconds while it is seen.
 *
 *   status_metrics.js  /metrics as numbers       status_cards.js  the plots       status_words.js  numbers as words */
import { daemon, withToken } from "./daemon.js";
import { button, byId, clearFailure, fact, make, showFailure } from "./dom.js";
import { Cards } from "./status_cards.js";
import { Metrics, bucketsSince, countOf, quantile } from "./status_metrics.js";
import { bytes, count, duration, percent, span } from "./status_words.js";

const FIRST = 1000; /* milliseconds until the second reading: a speed needs two */
const PERIOD = 2000;
const MINUTE = 60_000;

let readings = []; /* those of the last minute, the newest last */
let cards;
let timer = null; /* of the next reading */
let reading = null; /* AbortController of the one that is going on */
let visible = false;
let paused = false;
let failed = ""; /* what the problem box says: said once */

/* ---- what is shown ----------------------------------------------------------------------------------------------- */

function showFacts(now) {
  const { version, revision } = now.all("lstmd_build_info")[0]?.labels ?? {};
  const start = now.sum("process_start_time_seconds");
  const listeners = now.all("lstmd_connections").map(({ labels, value }) => {
    const limit = now.sum("lstmd_connections_limit", ({ listener }) => listener === labels.listener);
    return `${count(value)} of ${count(limit)}${labels.listener === "server" ? "" : ` (${labels.listener})`}`;
  });
  byId("status-facts").replaceChildren(
    fact("version", `${version} (${revision})`),
    fact("runs for", span(now.when / 1000 - start)),
    fact("since", new Date(start * 1000).toLocaleString()),
    fact("models in memory", count(now.sum("lstmd_models_loaded"))),
    fact("sessions", count(now.sum("lstmd_sessions"))),
    fact("connections", listeners.join(", ")),
    fact("open files", `${count(now.sum("process_open_fds"))} of ${count(now.sum("process_max_fds"))}`),
  );
}

const waits = [
  ["wait for a place in the batch", "lstmd_queue_seconds"],
  ["from the request to the first token", "lstmd_time_to_first_token_seconds"],
  ["each token after the first", "lstmd_time_per_token_seconds"],
  ["from the request to the end of a text", "lstmd_generation_seconds"],
];

function showLatency() {
  const now = readings.at(-1);
  const before = byId("status-window").value === "minute" ? readings[0] : null;
  const rows = waits.map(([words, name]) => {
    const buckets = bucketsSince(before?.buckets(name) ?? [], now.buckets(name));
    const cells = [0.5, 0.95, 0.99].map((part) => make("td", {}, duration(quantile(part, buckets))));
    return make("tr", {}, make("th", { scope: "row" }, words), ...cells, make("td", {}, count(countOf(buckets))));
  });
  byId("status-latency-rows").replaceChildren(...rows);
}

function jobRow(now, id) {
  const of = (name, data) =>
    now.sum(name, (labels) => labels.train_job === id && (data === undefined || labels.data === data));
  const loss = (data) => of("lstmd_train_loss_nats", data)?.toFixed(3) ?? "–";
  const done = of("lstmd_train_progress_ratio") ?? 0;
  const left = of("lstmd_train_eta_seconds");
  const bar = make("progress", { value: done, max: 1, "aria-label": `How much of ${id} is done` });
  return make(
    "li",
    {},
    make("p", {}, make("a", { href: `#train?job=${encodeURIComponent(id)}` }, id), ` ${percent(done)} done`),
    bar,
    make(
      "dl",
      {},
      fact("loss, training text", loss("train")),
      fact("loss, other text", loss("validation")),
      fact("tokens a second", count(of("lstmd_train_tokens_per_second"))),
      fact("time left", left === null || !Number.isFinite(left) ? "–" : span(left)),
    ),
  );
}

function showJobs(now) {
  const ids = new Set(now.all("lstmd_train_progress_ratio").map(({ labels }) => labels.train_job));
  const of = (outcome) => now.sum("lstmd_train_jobs_total", (labels) => labels.outcome === outcome);
  const words = [
    `${count(now.sum("lstmd_train_running_jobs"))} running`,
    `${count(now.sum("lstmd_train_waiting_jobs"))} waiting for room`,
    `since the start ${count(of("succeeded"))} succeeded, ${count(of("failed"))} failed, ${count(of("cancelled"))} cancelled`,
  ];
  const none = now.sum("lstmd_train_running_jobs") === null;
  byId("status-jobs-line").textContent = none ? "This daemon does not train." : `${words.join(", ")}.`;
  byId("status-jobs-list").replaceChildren(...[...ids].sort().map((id) => jobRow(now, id)));
}

function showDisk(now) {
  const size = now.sum("lstmd_state_dir_size_bytes");
  const free = now.sum("lstmd_state_dir_free_bytes");
  const known = size !== null && size > 0;
  byId("status-disk-meter").hidden = !known;
  byId("status-disk-line").textContent = known
    ? `${bytes(free)} of ${bytes(size)} are free where the daemon keeps models, texts and jobs.`
    : "The daemon keeps nothing on a disk: it has no state directory (server.state_dir).";
  if (!known) return;
  byId("status-disk-meter").value = 1 - free / size;
  byId("status-disk-meter").textContent = `${percent(1 - free / size)} used`;
}

/* Figures that are zero on a good day. */
const troubles = [
  ["texts refused: the queue was full", "lstmd_refused_total"],
  ["texts that took longer than limits.request_timeout", "lstmd_generations_total", ({ end }) => end === "timeout"],
  ["texts that ended because the daemon stopped", "lstmd_generations_total", ({ end }) => end === "shutdown"],
  ["texts whose client left", "lstmd_generations_total", ({ end }) => end === "cancelled"],
  ["answers with a status of 500 or more", "lstmd_http_requests_total", ({ code }) => code >= "500"],
  ["connections refused: all were busy", "lstmd_connections_refused_total"],
  ["idle connections closed to make room", "lstmd_connections_closed_total"],
  ["training jobs that failed", "lstmd_train_jobs_total", ({ outcome }) => outcome === "failed"],
  ["reloads that found a mistake", "lstmd_reload_failures_total"],
  ["imports without a complete sandbox", "lstmd_imports_unsandboxed_total"],
];

function showTroubles(now) {
  const seen = troubles.map(([words, name, keep]) => [words, now.sum(name, keep)]).filter(([, value]) => value > 0);
  byId("status-troubles-line").hidden = seen.length > 0;
  byId("status-troubles-list").replaceChildren(...seen.map(([words, value]) => make("li", {}, `${count(value)} ${words}`)));
}

function showAll() {
  const now = readings.at(-1);
  byId("status-figures").hidden = false;
  showFacts(now);
  showLatency();
  showJobs(now);
  showDisk(now);
  showTroubles(now);
}

/* ---- readings ---------------------------------------------------------------------------------------------------- */

/* A daemon that started anew counts from zero. */
function isAnother(now) {
  const start = (metrics) => metrics?.sum("process_start_time_seconds");
  return readings.length > 0 && start(readings.at(-1)) !== start(now);
}

function take(now) {
  if (isAnother(now)) readings = [];
  const before = readings.at(-1) ?? null;
  readings = [...readings.filter(({ when }) => now.when - when <= MINUTE), now];
  cards.add(before, now, readings[0]);
  showAll();
}

/* What /readyz says: a word, or why not. */
async function readiness(signal) {
  try {
    const { model } = await daemon.call("readyz", undefined, { signal });
    return `Ready: ${model} answers.`;
  } catch (error) {
    if (!error.status) throw error;
    return `Not ready: ${error.message}.`;
  }
}

function fail(error) {
  const words = error.status === 403 ? `The figures are not shown here: ${error.message}.` : "";
  const said = words || error.message;
  byId("status-token").hidden = error.status !== 401;
  if (said === failed) return;
  failed = said;
  showFailure(byId("status-problem"), words ? new Error(words) : error);
  byId("status-state").textContent = error.status ? "" : "It does not answer.";
}

function heal() {
  if (failed) clearFailure(byId("status-problem"));
  failed = "";
  byId("status-token").hidden = true;
}

async function read(options) {
  const mine = (reading = new AbortController());
  const { signal } = mine;
  try {
    const asked = Date.now();
    const ready = readiness(signal);
    const text = withToken(async () => (await daemon.request("metrics", undefined, { signal })).text(), options);
    const [state, metrics] = await Promise.all([ready, text]);
    if (signal.aborted) return;
    heal();
    if (byId("status-state").textContent !== state) byId("status-state").textContent = state;
    take(new Metrics(metrics, asked));
  } catch (error) {
    if (!signal.aborted) fail(error);
  }
  if (!signal.aborted) next(readings.length === 1 ? FIRST : PERIOD);
}

function next(wait) {
  clearTimeout(timer);
  timer = visible && !paused && !document.hidden ? setTimeout(() => read({ ask: false }), wait) : null;
}

function stop() {
  clearTimeout(timer);
  reading?.abort();
}

/* ---- the panel --------------------------------------------------------------------------------------------------- */

function pause() {
  paused = !paused;
  byId("status-pause").textContent = paused ? "Go on" : "Pause";
  if (paused) stop();
  else next(0);
}

export function mount() {
  cards = new Cards(byId("status-cards"));
  byId("status-pause").addEventListener("click", pause);
  byId("status-window").addEventListener("change", showLatency);
  byId("status-token").append(button("Give a token", () => read({ ask: true })));
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) stop();
    else next(0);
  });
}

function appear() {
  visible = true;
  next(0);
}

function disappear() {
  visible = false;
  stop();
}

export { appear as show, disappear as hide };
