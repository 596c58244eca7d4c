/* The panel "Look inside": a text as the network reads it. What it expected, how surprised it was, what it keeps.
 *
 *   inside_data.js    /inspect, token by token; the place that is looked at
 *   inside_boxes.js   the text as boxes        inside_map.js   numbers over the text, on a canvas
 *   inside_expect.js  a place's distribution   inside_unit.js  one unit      inside_all.js  all units
 *   inside_words.js, inside_scale.js           tokens, numbers and colours */
import { call, chosen } from "./daemon.js";
import { byId, clearFailure, make, showFailure } from "./dom.js";
import { All } from "./inside_all.js";
import { Boxes } from "./inside_boxes.js";
import { Cursor, inspect } from "./inside_data.js";
import { Expected, showScore } from "./inside_expect.js";
import { showScale, surpriseClass } from "./inside_scale.js";
import { Unit } from "./inside_unit.js";
import { alone, inText, percent, spoken } from "./inside_words.js";
import { plot } from "./plot.js";

const TOP = 12; /* alternatives of a place */
const LINKED = 2000; /* characters of the longest text in the address */

const cursor = new Cursor();
const undone = []; /* the texts before this one */
let look = null; /* what is shown: the text and all that /inspect said of it */
let running = null; /* AbortController of what is asked for the text */
let asked = null; /* the model that is asked */
let visible = false;
let boxes, expected, unit, all, chart;

/* ---- a text and its tokens --------------------------------------------------------------------------------------- */

/* What the boxes show, and what a screen reader says. A byte is shown as its part of a character. */
function nameTokens({ tokens, fields, kind }) {
  const bytes = (character) => new TextEncoder().encode(character).length;
  if (kind === "byte" && bytes(fields.text) === tokens.length) {
    const parts = [...fields.text].flatMap((character) =>
      Array.from({ length: bytes(character) }, (_, i) => ({ character, i, of: bytes(character) })),
    );
    return {
      texts: parts.map(({ character, i }) => (i === 0 ? inText(character) : "₁₂₃₄"[i])),
      names: parts.map(({ character, i, of }) => spoken(character) + (of > 1 ? `, byte ${i + 1} of ${of}` : "")),
      heads: parts.map(({ character, i }) => (i === 0 ? alone(character) : "₁₂₃₄"[i])),
    };
  }
  const all = tokens.map(({ token }) => token);
  return { texts: all.map(inText), names: all.map(spoken), heads: all.map(alone) };
}

const kinds = { char: "character", word: "word", byte: "byte" };

/* The daemon advises to ask for less of each token, which the reader cannot. */
function inPlainWords(error) {
  if (error.fields?.text?.includes("limits.max_inspect"))
    error.fields.text = "is too long: the daemon bounds the numbers of an answer (limits.max_inspect). Look into a shorter text.";
  return error;
}

async function read(text, signal) {
  const { model } = chosen;
  const label = byId("inside-label").value;
  const fields = { model: chosen.name, text, ...(label && { label }) };
  const tokens = [];
  const asked = { ...fields, top: TOP, probe: unit.probeOf(model) };
  const end = await inspect(asked, (token) => tokens.push(token), signal).catch((error) => {
    throw inPlainWords(error);
  });
  const kind = kinds[model.token_level];
  const found = { model, fields, tokens, end, next: { ...end.next, logprob: null }, kind, between: kind === "word" ? " " : "" };
  return { ...found, ...nameTokens(found) };
}

/* ---- what is shown ----------------------------------------------------------------------------------------------- */

function labelOf(i) {
  const { surprise, logprob } = look.tokens[i] ?? {};
  if (i === look.tokens.length) return "what comes next";
  if (surprise === null) return `${look.names[i]}, without a probability`;
  return `${look.names[i]}, ${percent(Math.exp(logprob))}, surprise ${surprise.toFixed(2)} bits`;
}

function paint() {
  const what = byId("inside-colour").value;
  const classOf = (i) => (i === look.tokens.length ? "next" : surpriseClass(look.tokens[i][what]));
  boxes.paint(classOf, labelOf);
  const texts = Object.fromEntries([0, 2, 4, 6, 8].map((i) => [i, [String(i), (i * Math.LN2).toFixed(1)]]));
  texts[9] = ["9+ bits", "6.2 nats"];
  showScale(byId("inside-scale"), "s", `Colours of ${what}, from 0 to 9 bits (6.2 nats) and more`, texts);
}

function move() {
  if (!look) return;
  expected.show(look, cursor.at, cursor.at !== cursor.pinned);
  chart?.setSelection(Math.min(cursor.at, look.tokens.length));
}

async function showChart() {
  const file = [...look.tokens, look.next].map(({ surprise, entropy }, i) => [i + 1, surprise ?? null, entropy]);
  if (chart) return chart.updateOptions({ file, dateWindow: null });
  /* dygraphs takes labels for HTML: no token goes there. */
  const whole = (x) => (Number.isInteger(x) ? String(x) : "");
  chart = await plot(byId("inside-plot"), file, {
    labels: ["Place", "surprise (bits)", "entropy (bits)"],
    axes: { x: { axisLabelFormatter: whole, drawGrid: false }, y: { axisLabelWidth: 28 } },
    includeZero: true,
    legend: "never",
  });
  move();
}

/* The place under the pointer. */
function placeIn(event) {
  const [x] = chart.eventToDomCoords(event);
  return Math.max(0, Math.min(look.tokens.length, Math.round(chart.toDataXCoord(x)) - 1));
}

function listenToChart() {
  const box = byId("inside-plot");
  box.addEventListener("pointermove", (event) => {
    if (chart && event.buttons === 0) cursor.peek(placeIn(event));
  });
  box.addEventListener("pointerleave", () => cursor.peek(null));
  box.addEventListener("click", (event) => chart && cursor.pin(placeIn(event)));
}

async function showLook(pin) {
  for (const word of document.querySelectorAll(".inside-kind")) word.textContent = look.kind;
  const { warnings } = look.end;
  byId("inside-warnings").replaceChildren(...warnings.map((text) => make("li", {}, text)));
  byId("inside-warnings").hidden = warnings.length === 0;
  byId("inside-result").hidden = false;
  await boxes.fill([...look.texts, "▸"], look.between);
  paint();
  showScore(look);
  all.begin(look);
  cursor.pin(Math.min(pin, look.tokens.length));
  showChart().catch(() => (byId("inside-plot").hidden = true)); /* the boxes say the same */
  await unit.load(look);
}

/* The place that is seen first: the one that surprised the model most. */
function mostSurprising({ tokens }) {
  return tokens.reduce((best, { surprise }, i) => (surprise > (tokens[best].surprise ?? -1) ? i : best), 0);
}

/* ---- what the reader does ---------------------------------------------------------------------------------------- */

/* Does work(signal) and says what it does; ends what ran before. True if it came to its end. */
async function attempt(doing, work) {
  running?.abort();
  const mine = (running = new AbortController());
  asked = chosen.model?.name;
  byId("inside-stop").hidden = false;
  byId("inside-status").textContent = doing;
  clearFailure(byId("inside-problem"), byId("inside-form"));
  let done = false;
  try {
    await work(mine.signal);
    done = !mine.signal.aborted;
  } catch (error) {
    if (!mine.signal.aborted) {
      byId("inside-result").hidden = true;
      look = null;
      showFailure(byId("inside-problem"), error, byId("inside-form"));
    }
  }
  if (running !== mine) return false;
  byId("inside-status").textContent = mine.signal.aborted ? "Stopped." : "";
  if (document.activeElement === byId("inside-stop")) byId("inside-look").focus();
  byId("inside-stop").hidden = true;
  running = null;
  return done;
}

function take(text) {
  if (look && look.fields.text !== text) undone.push(look.fields.text);
  byId("inside-undo").hidden = undone.length === 0;
  const link = text.length <= LINKED ? `#inside?text=${encodeURIComponent(text)}` : "#inside";
  if (visible) history.replaceState(null, "", link);
}

async function lookAt(text, signal, pin) {
  const found = await read(text, signal);
  if (signal.aborted) return;
  take(text);
  look = found;
  await showLook(pin ?? mostSurprising(found));
}

function reading(text, pin) {
  return attempt("Reading …", (signal) => lookAt(text, signal, pin));
}

/* The model writes behind a prompt, which may be ids. */
function writing(prompt, pin, more = {}) {
  const number = (name) => byId(`inside-${name}`).valueAsNumber;
  const label = byId("inside-label").value;
  return attempt("Writing …", async (signal) => {
    const body = { model: chosen.name, prompt, length: number("length"), temperature: number("temperature"), ...more };
    if (Number.isFinite(number("seed"))) body.seed = number("seed");
    if (label) body.label = label;
    const { text } = await call("generate", body, { signal });
    if (text === "") throw new Error("The model wrote nothing: it ended the text at once.");
    await lookAt(text, signal, pin);
    if (!signal.aborted) byId("inside-text").value = text;
  });
}

/* The text goes on from an alternative: what stood there and behind it is written anew. */
async function goOn(index, { id, token }) {
  const ids = look.tokens.slice(0, index).map((one) => one.id);
  let done;
  if (token === "<eos>") {
    const text = look.tokens.slice(0, index).map((one) => one.token).join(look.between);
    if (text === "") return (byId("inside-status").textContent = "The text would end before it begins.");
    byId("inside-text").value = text;
    done = await reading(text, index);
  } else done = await writing([...ids, id], index);
  if (done) boxes.focus();
}

/* A text to begin with, so that there is something to see. */
function example() {
  return writing("", undefined, { length: 120, min_length: 60, temperature: 0.7 });
}

/* ---- the panel --------------------------------------------------------------------------------------------------- */

function showLabels() {
  const labels = chosen.model?.labels ?? [];
  byId("inside-label").replaceChildren(new Option("none", ""), ...labels.map((name) => new Option(name, name)));
  byId("inside-label-field").hidden = labels.length === 0;
}

/* The model is another one, or there is one at last. */
function changeModel() {
  if (look?.model.name !== chosen.model?.name) showLabels();
  if (visible) refresh();
}

function refresh() {
  if (!chosen.model || (running ? asked : look?.model.name) === chosen.model.name) return;
  const text = byId("inside-text").value;
  if (text) reading(text);
  else example();
}

function listen() {
  byId("inside-form").addEventListener("submit", (event) => {
    event.preventDefault();
    reading(byId("inside-text").value);
  });
  byId("inside-text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("inside-form").requestSubmit();
  });
  byId("inside-form").addEventListener("keydown", (event) => {
    if (event.key === "Escape") running?.abort();
  });
  byId("inside-write").addEventListener("click", () => writing(""));
  byId("inside-stop").addEventListener("click", () => running?.abort());
  byId("inside-undo").addEventListener("click", async () => {
    const text = undone.pop();
    byId("inside-text").value = text;
    if (await reading(text)) undone.pop(); /* the text that is left now */
    byId("inside-undo").hidden = undone.length === 0;
  });
  byId("inside-colour").addEventListener("change", paint);
  cursor.addEventListener("move", move);
  listenToChart();
  chosen.addEventListener("change", changeModel);
}

export function mount() {
  const open = () => expected.focus();
  boxes = new Boxes(byId("inside-tokens"), cursor, "The text, coloured by surprise", open);
  expected = new Expected(goOn, () => boxes.focus());
  unit = new Unit(cursor, open);
  all = new All(cursor, unit);
  listen();
  showLabels();
}

function appear(parameters) {
  visible = true;
  const text = parameters.get("text");
  const label = parameters.get("label");
  if (label !== null) byId("inside-label").value = label;
  if (!text || text === look?.fields.text) return refresh();
  byId("inside-text").value = text;
  if (chosen.model) reading(text);
}

function disappear() {
  visible = false;
}

export { appear as show, disappear as hide };
