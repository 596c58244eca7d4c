/* Two models side by side: the same prompt, temperature and seed. */
import { chosen, daemon, withToken } from "./daemon.js";
import { byId, clearFailure, fact, showFailure } from "./dom.js";
import { count } from "./status_words.js";

const sides = ["a", "b"];
let running = null; /* AbortController */

function sideId(side, part) {
  return byId(`models-${side}-${part}`);
}

/* ---- the two choices --------------------------------------------------------------------------------------------- */

function fill() {
  const names = chosen.models.map(({ name }) => name);
  const [first, second] = sides.map((side) => sideId(side, "model").value);
  const a = names.includes(first) ? first : chosen.model?.name;
  const b = names.includes(second) ? second : (names.find((name) => name !== a) ?? a);
  sides.forEach((side, i) => {
    const select = sideId(side, "model");
    select.replaceChildren(...names.map((name) => new Option(name, name)));
    select.value = [a, b][i] ?? "";
  });
  byId("models-compare-go").disabled = names.length === 0;
  byId("models-compare-one").hidden = names.length > 1;
}

/* This model is the second one, beside the one that the page uses. */
export function begin(name) {
  const other = chosen.model?.name === name ? chosen.models.find((model) => model.name !== name)?.name : chosen.model?.name;
  sideId("a", "model").value = other ?? name;
  sideId("b", "model").value = name;
  byId("models-compare-prompt").focus();
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

/* Text that comes in pieces is drawn once per frame. */
class Output {
  #node = document.createTextNode("");
  #waiting = "";

  constructor(box) {
    box.replaceChildren(this.#node);
  }

  add(text) {
    if (this.#waiting === "") setTimeout(() => this.#draw(), 16);
    this.#waiting += text;
  }

  #draw() {
    this.#node.appendData(this.#waiting);
    this.#waiting = "";
  }
}

function showFacts(side, { tokens_per_second }, { completion_tokens }, finish) {
  sideId(side, "facts").append(
    fact("tokens", count(completion_tokens)),
    fact("tokens a second", count(tokens_per_second)),
    fact("ended by", finish === "eos" ? "the model" : finish),
  );
}

/* How well the model knew the prompt: the fewer bits, the better. */
async function showScore(side, model, text, signal) {
  if (text === "") return;
  const score = await withToken(() => daemon.score({ model, text }, { signal }));
  if (Number.isFinite(score.bits_per_char) && score.warnings.length === 0)
    sideId(side, "facts").prepend(fact("surprise at the prompt", `${score.bits_per_char.toFixed(2)} bits a character`));
}

/* A prompt in another alphabet has many. */
function showWarnings(side, warnings) {
  const [first, ...more] = warnings;
  if (first) sideId(side, "facts").append(fact("note", more.length > 0 ? `${first}, and ${more.length} more like this` : first));
}

async function write(side, fields, signal) {
  const model = sideId(side, "model").value;
  const prompt = fields.prompt;
  clearFailure(sideId(side, "problem"));
  sideId(side, "facts").replaceChildren();
  sideId(side, "given").textContent = prompt;
  const output = new Output(sideId(side, "written"));
  try {
    await withToken(async () => {
      for await (const event of daemon.stream({ ...fields, model }, { signal }).events()) {
        output.add(event.delta);
        if (event.finish_reason) showFacts(side, event.timings, event.usage, event.finish_reason);
        showWarnings(side, event.warnings ?? []);
      }
    });
    await showScore(side, model, prompt, signal);
  } catch (error) {
    if (!signal.aborted) showFailure(sideId(side, "problem"), error, byId("models-compare"));
  }
}

function fieldsOf(form) {
  const number = (name) => form.elements.namedItem(name).valueAsNumber;
  if (!Number.isFinite(number("seed"))) form.elements.seed.value = crypto.getRandomValues(new Uint32Array(1))[0];
  return {
    prompt: form.elements.prompt.value,
    length: number("length"),
    temperature: number("temperature"),
    seed: number("seed"),
  };
}

async function run(form) {
  if (running) return;
  const lock = byId("models-compare-lock").checked;
  if (!lock) form.elements.seed.value = "";
  const mine = (running = new AbortController());
  const fields = fieldsOf(form);
  byId("models-compare-result").hidden = false;
  byId("models-compare-stop").hidden = false;
  byId("models-compare-go").disabled = true;
  byId("models-compare-status").textContent = "Both write …";
  for (const side of sides) sideId(side, "title").textContent = sideId(side, "model").value;
  await Promise.all(sides.map((side) => write(side, fields, mine.signal)));
  byId("models-compare-status").textContent = mine.signal.aborted ? "Stopped." : `Done, with seed ${fields.seed}.`;
  byId("models-compare-go").disabled = false;
  if (document.activeElement === byId("models-compare-stop")) byId("models-compare-go").focus();
  byId("models-compare-stop").hidden = true;
  running = null;
}

/* ---- the part of the panel --------------------------------------------------------------------------------------- */

export function mount() {
  const form = byId("models-compare");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run(form);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") running?.abort();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  byId("models-compare-stop").addEventListener("click", () => running?.abort());
  form.elements.seed.addEventListener("input", () => (byId("models-compare-lock").checked = form.elements.seed.value !== ""));
  chosen.addEventListener("change", fill);
  fill();
}

/* #models?a=NAME&b=NAME&prompt=TEXT: another panel, or a link, fills in the form. */
export function appear(parameters) {
  const form = byId("models-compare");
  for (const name of ["prompt", "length", "temperature", "seed"])
    if (parameters.has(name)) form.elements.namedItem(name).value = parameters.get(name);
  if (parameters.has("seed")) byId("models-compare-lock").checked = true;
  for (const side of sides) if (parameters.has(side)) sideId(side, "model").value = parameters.get(side);
}
