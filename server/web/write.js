/* The panel "Write": a text that the model goes on with.
 *
 * The text is in the editor (write_editor.js), the request in the form (write_options.js), and one run at a time adds to
 * the text (write_run.js), or fills cards beside each other (write_cards.js). The address names the last request; opened
 * elsewhere, it gives the same text. #write?prompt=Oil fills the form alone, and with a seed the page generates at once. */
import { chosen } from "./daemon.js";
import { button, byId, clearFailure, copy, describeFailure, make, notify, showFailure } from "./dom.js";
import { Cards } from "./write_cards.js";
import { codeOf } from "./write_code.js";
import { Editor } from "./write_editor.js";
import { showExamples } from "./write_examples.js";
import { emptiness, reasons, shortening, showFigures, showWarnings } from "./write_facts.js";
import { bodyOf, fillForm, newSeed, parametersOf } from "./write_options.js";
import { Figures, run } from "./write_run.js";
import { addSamplers } from "./write_samplers.js";
import { draft, forgetTexts, keepDraft, rememberText, showTexts } from "./write_texts.js";

const TEMPERATURES = [0.3, 0.8, 1.0, 1.3, 1.8];
const INSIDE = 2000; /* characters that "Look inside" gets: the end of the text */
const LOOK = 250; /* milliseconds between two looks at the figures of a run */

let editor = null;
const cards = new Cards();
let running = null; /* the AbortController of the run */
let ended = Promise.resolve(); /* when the run is over */
let last = null; /* the last run: {body, base, write}: its request, the text before it, and which function ran it */
let shownModel = null; /* whose labels and examples stand there */
let fresh = true; /* nothing was shown yet */

/* The form, with a seed: the next one, unless this one is kept. */
function nextBody() {
  const body = bodyOf(byId("form"), editor.text);
  if (byId("lock").checked && body.seed !== undefined) return body;
  body.seed = newSeed();
  byId("seed").value = body.seed;
  return body;
}

function wholeText(base) {
  return { text: base.text, marks: base.marks };
}

/* What a link needs to do the last run again. */
function linkOfLast() {
  return `${parametersOf(last.body)}${last.write === temperatureRow ? "&row=true" : ""}`;
}

function keepRequest(body, base, write = writeOn) {
  last = { body, base, write };
  history.replaceState(null, "", `#write?${linkOfLast()}`);
  showSteps();
  showCode();
}

function showCode() {
  const language = byId("form").elements.namedItem("language").value;
  try {
    byId("code").textContent = codeOf(language, last?.body ?? bodyOf(byId("form"), editor.text));
  } catch (error) {
    byId("code").textContent = describeFailure(error).detail; /* no model yet */
  }
}

function setRunning(controller) {
  const before = document.activeElement;
  running = controller;
  byId("go").setAttribute("aria-disabled", String(!!running));
  byId("row").disabled = !!running;
  byId("halt").hidden = !running;
  if (!running && before === byId("halt")) byId("go").focus();
  showSteps();
}

function showSteps() {
  byId("undo").disabled = !editor.canUndo;
  byId("redo").disabled = !editor.canRedo;
  byId("retry").disabled = !last || !!running;
}

function beginRun() {
  setRunning(new AbortController());
  clearFailure(byId("problem"), byId("form"));
  notify("");
  showWarnings([]);
  byId("facts").hidden = true;
  byId("facts").replaceChildren();
  byId("status-line").textContent = "Generating …";
  byId("editor").scrollIntoView({ block: "nearest" });
  chosen.refresh();
  return running.signal;
}

/* What failed, and how to go on where something had been written. */
function showBreak(error, tokens, goesOn) {
  showFailure(byId("problem"), error, byId("form"));
  byId("status-line").textContent = "";
  if (tokens === 0) return;
  const detail = error.name === "ConnectionError" ? "" : ` (${describeFailure(error).detail})`;
  const words = `The stream broke off after ${tokens.toLocaleString()} tokens${detail}. The text up to there is kept.`;
  byId("problem").replaceChildren(make("p", {}, words));
  if (goesOn) byId("problem").append(button("Go on from here", () => generate()));
}

/* Does work({figures, signal}) as the one run. goesOn: the text in the editor is what can go on if the run breaks off. */
async function asRun(work, { goesOn = false } = {}) {
  const signal = beginRun();
  const figures = new Figures();
  const timer = setInterval(() => figures.tokens > 0 && showFigures(figures), LOOK);
  try {
    await work({ figures, signal });
    byId("status-line").textContent = "Done.";
  } catch (error) {
    if (signal.aborted) byId("status-line").textContent = "Stopped.";
    else showBreak(error, figures.tokens, goesOn);
  } finally {
    clearInterval(timer);
    setRunning(null);
  }
  keep();
}

function remember(body) {
  const { text, marks } = editor;
  rememberText({ text, marks, link: parametersOf(body), model: body.model, at: Date.now() });
  showTexts(reopen);
}

/* The text in the editor goes on. */
async function writeOn(body) {
  const base = wholeText(editor);
  const work = async (options) => {
    let end = null;
    keepRequest(body, base);
    editor.begin();
    try {
      await run(body, { ...options, show: (_, text) => editor.add(text), end: (_, event) => (end = event) });
    } finally {
      editor.end();
      if (options.figures.tokens > 0) showFigures(options.figures, end, body.seed);
      if (editor.text !== base.text) remember(body);
    }
    showWarnings([...emptiness(base.text, editor.text, end), ...shortening(base.text, body), ...end.warnings]);
  };
  cards.clear();
  await asRun(work, { goesOn: true });
}

function chooseCard(card, base) {
  const at = base.text.length;
  editor.replace(base.text + card.text, [...base.marks, [at, at + card.text.length]]);
  keepRequest(card.request, base);
  byId("seed").value = card.request.seed;
  remember(card.request);
  cards.mark(card);
  byId("status-line").textContent = `The text goes on with: ${card.title}.`;
  editor.focus();
  keep();
}

/* Several continuations. requests: [{body, entries: [{title, request}]}], an entry for each text of a request. */
async function writeCards(requests, write) {
  const base = wholeText(editor);
  cards.begin(
    requests.flatMap(({ entries }) => entries),
    (card) => chooseCard(card, base),
  );
  const warnings = new Set();
  await asRun(async ({ figures, signal }) => {
    keepRequest(requests[0].body, base, write);
    let first = 0;
    const runs = requests.map(({ body, entries }) => {
      const own = cards.list.slice(first, (first += entries.length));
      const end = (index, event) => {
        own[index].finish(reasons[event.finish_reason] ?? event.finish_reason);
        event.warnings.forEach((text) => warnings.add(text));
      };
      return run(body, { figures, signal, show: (index, text) => own[index].add(text), end });
    });
    try {
      await Promise.all(runs);
      showWarnings([...shortening(base.text, requests[0].body), ...warnings]);
    } finally {
      await Promise.allSettled(runs);
      for (const card of cards.list) if (card.button.disabled) card.finish("stopped");
      if (figures.tokens > 0) showFigures(figures, null, requests[0].body.seed);
      else cards.clear();
    }
  });
}

function seedBehind(seed, index) {
  return (seed + index) % (Number.MAX_SAFE_INTEGER + 1);
}

function several(body) {
  const { n, ...one } = body;
  const entries = Array.from({ length: n }, (_, index) => {
    const seed = seedBehind(body.seed, index);
    return { title: `Seed ${seed}`, request: { ...one, seed } };
  });
  return writeCards([{ body, entries }], several);
}

function temperatureRow(body) {
  const { n, ...one } = body;
  return writeCards(
    TEMPERATURES.map((temperature) => {
      const request = { ...one, temperature };
      return { body: request, entries: [{ title: `Temperature ${temperature.toFixed(1)}`, request }] };
    }),
    temperatureRow,
  );
}

async function writeWith(write) {
  try {
    const body = nextBody();
    const many = Number.isInteger(body.n) && body.n > 1 && body.n <= 128;
    await (write ?? (many ? several : writeOn))(body);
  } catch (error) {
    byId("facts").hidden = true;
    showFailure(byId("problem"), error, byId("form"));
  }
}

/* write: one of writeOn(), several() and temperatureRow(); else what the form means. */
function generate(write) {
  if (!running) ended = writeWith(write);
}

/* The same place, another seed. */
function retry() {
  if (running || !last) return;
  const { base, write } = last;
  byId("lock").checked = false;
  editor.replace(base.text, base.marks);
  generate(write === temperatureRow ? write : undefined);
}

/* The list of models may come again while somebody is at the page: only another model changes it. */
function showModel() {
  const { model } = chosen;
  const key = model ? `${model.name} ${model.modified_at}` : "";
  if (key === shownModel) return;
  shownModel = key;
  showLabels();
  showExamples(startFrom);
}

function showLabels() {
  const labels = chosen.model?.labels ?? [];
  const before = byId("label").value;
  byId("label").replaceChildren(new Option("none", ""), ...labels.map((name) => new Option(name, name)));
  if (labels.includes(before)) byId("label").value = before;
  byId("label-field").hidden = labels.length === 0;
}

function startFrom(text, label) {
  if (running) return;
  if (label !== undefined) byId("label").value = label;
  editor.replace(text);
  generate();
}

function reopen({ text, marks, link }) {
  if (running) return;
  const parameters = new URLSearchParams(link);
  if (!chooseModel(parameters)) return;
  fillForm(parameters);
  byId("lock").checked = false;
  editor.replace(text, marks);
  editor.focus();
  keep();
}

/* address: the link whose text this is; a reload does not run it again. */
function keep() {
  const { text, marks } = editor;
  const address = last && !running ? `#write?${linkOfLast()}` : "";
  keepDraft({ text, marks, address, link: linkOfForm(), lock: byId("lock").checked });
}

function linkOfForm() {
  try {
    return parametersOf(bodyOf(byId("form"), ""));
  } catch {
    return ""; /* a field that is wrong, or no model yet */
  }
}

/* Resolves when the page knows the models. */
function models() {
  if (chosen.model) return Promise.resolve();
  return new Promise((resolve) => chosen.addEventListener("change", () => resolve(), { once: true }));
}

/* The model of a link; false where the daemon does not have it. */
function chooseModel(parameters) {
  const name = parameters.get("model");
  if (!name) return true;
  const known = chosen.models.some((model) => model.name === name);
  if (known) chosen.choose(name);
  else notify(`This text is of the model ${name}, which this daemon has not loaded.`);
  return known;
}

async function openLink(parameters) {
  running?.abort();
  await Promise.all([models(), ended]);
  if (!chooseModel(parameters)) return;
  fillForm(parameters);
  byId("lock").checked = parameters.has("seed");
  if (parameters.has("prompt")) editor.replace(parameters.get("prompt"));
  if (parameters.has("seed")) generate(parameters.has("row") ? temperatureRow : undefined);
}

function restoreDraft({ text, marks, link, lock }) {
  fillForm(new URLSearchParams(link));
  byId("lock").checked = lock;
  editor.restore(text, marks);
}

function resetForm() {
  for (const input of byId("form").elements) {
    if (!input.name || input.name === "prompt" || input.name === "language") continue;
    if (input.type === "checkbox") input.checked = input.defaultChecked;
    else if (input instanceof HTMLSelectElement) input.selectedIndex = 0;
    else input.value = input.defaultValue;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }
  byId("lock").checked = false;
  clearFailure(byId("problem"), byId("form"));
}

function lookInside() {
  const label = byId("label").value;
  location.hash = `#inside?${new URLSearchParams({ text: editor.text.slice(-INSIDE), ...(label && { label }) })}`;
}

function onKey(event) {
  if (event.isComposing) return;
  if (event.key === "Escape" && running && !byId("write").hidden && !document.querySelector("dialog[open]")) running.abort();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && byId("form").contains(event.target)) {
    event.preventDefault();
    generate();
  }
}

function listen() {
  const on = (id, type, action) => byId(id).addEventListener(type, action);
  on("form", "submit", (event) => {
    event.preventDefault();
    generate();
  });
  on("halt", "click", () => running?.abort());
  on("retry", "click", retry);
  on("undo", "click", () => editor.undo());
  on("redo", "click", () => editor.redo());
  on("row", "click", () => generate(temperatureRow));
  on("seed", "change", () => (byId("lock").checked = byId("seed").value !== ""));
  on("copy-seed", "click", (event) => copy(byId("seed").value, event.currentTarget));
  on("copy-text", "click", (event) => copy(editor.text, event.currentTarget));
  on("copy-link", "click", (event) => copy(location.href, event.currentTarget));
  on("copy-code", "click", (event) => copy(byId("code").textContent, event.currentTarget));
  on("look-inside", "click", lookInside);
  on("defaults", "click", resetForm);
  on("texts-forget", "click", () => {
    forgetTexts();
    showTexts(reopen);
  });
  on("code-box", "toggle", showCode);
  for (const radio of document.querySelectorAll("[name=language]")) radio.addEventListener("change", showCode);
  document.addEventListener("keydown", onKey);
  window.addEventListener("pagehide", keep);
  editor.addEventListener("change", showSteps);
  chosen.addEventListener("change", showModel);
}

export async function mount() {
  editor = new Editor(byId("editor"), byId("prompt"), byId("written"));
  listen();
  showModel();
  showTexts(reopen);
  await addSamplers(byId("options")).catch(() => {}); /* the other fields keep the daemon's defaults */
}

/* A reload shows what was there; a link from elsewhere is done. */
export function show(parameters) {
  const before = fresh ? draft() : null;
  fresh = false;
  if (parameters.size > 0 && before?.address !== location.hash) return void openLink(parameters);
  if (before) restoreDraft(before);
  else if (last) history.replaceState(null, "", `#write?${linkOfLast()}`);
}

export function hide() {}
