/* The panel "Write": a text that the model goes on with. */
import { chosen, daemon, withToken } from "./daemon.js";
import { byId, clearFailure, fact, make, showFailure } from "./dom.js";

let samplerNames = ["temperature"]; /* until showOptions() knows all */
let running = null; /* AbortController of the request */

/* The inputs of the sampler's options. The daemon says which there are and what their bounds are. */
async function showOptions() {
  const options = Object.entries(await daemon.call("web/sampler.json"));
  const boxes = options.filter(([name]) => !byId(name)).map(([name, option]) => optionBox(name, option));
  byId("options").prepend(...boxes);
  for (const [name, option] of options) {
    const input = byId(name);
    input.min = option.minimum ?? option.exclusiveMinimum;
    input.max = option.maximum ?? option.exclusiveMaximum;
    input.title = option.description;
  }
  samplerNames = options.map(([name]) => name);
}

function optionBox(name, option) {
  const input = make("input", { id: name, name, type: "number", placeholder: option.off ? "off" : String(option.default) });
  input.step = option.type === "integer" ? "1" : "any";
  const text = name[0].toUpperCase() + name.slice(1).replaceAll("_", " ");
  return make("div", {}, make("label", { htmlFor: name }, text), input);
}

function requestBody() {
  const body = { model: chosen.name, prompt: byId("prompt").value, length: byId("length").valueAsNumber };
  for (const name of ["seed", ...samplerNames])
    if (byId(name).value !== "") body[name] = byId(name).valueAsNumber;
  for (const name of ["stop", "label"])
    if (byId(name).value !== "") body[name] = byId(name).value;
  return body;
}

function showBeginning() {
  byId("given").textContent = byId("prompt").value;
  byId("written").textContent = "";
  byId("facts").hidden = byId("warnings").hidden = true;
  byId("result").hidden = false;
}

function showEnd(end) {
  const reasons = { length: "length reached", eos: "end of text", stop: "stop text" };
  const time = end.timings;
  byId("facts").replaceChildren(
    fact("Ended by", reasons[end.finish_reason] || end.finish_reason),
    fact("Tokens", String(end.usage.completion_tokens)),
    fact("Tokens/s", Math.round(time.tokens_per_second).toLocaleString()),
    fact("Server time", `${(time.queue_ms + time.prompt_ms + time.generate_ms).toFixed(1)} ms`),
    fact("Seed", String(end.seed)),
  );
  byId("warnings").replaceChildren(...end.warnings.map((text) => make("li", {}, text)));
  byId("facts").hidden = false;
  byId("warnings").hidden = end.warnings.length === 0;
}

/* The text before stays until this one begins. */
async function showStream(events) {
  let begun = false;
  for await (const event of events) {
    if (!begun) showBeginning();
    begun = true;
    byId("written").append(event.delta);
    if (event.finish_reason) showEnd(event);
  }
}

async function generate() {
  if (running) return;
  running = new AbortController();
  const { signal } = running;
  byId("go").disabled = true;
  byId("halt").hidden = false;
  byId("status-line").textContent = "Generating …";
  clearFailure(byId("problem"), byId("form"));
  try {
    await withToken((lstmd) => showStream(lstmd.stream(requestBody(), { signal }).events()));
    byId("status-line").textContent = "Done.";
  } catch (error) {
    if (!signal.aborted) showFailure(byId("problem"), error, byId("form"));
    byId("status-line").textContent = signal.aborted ? "Stopped." : "";
  }
  running = null;
  byId("halt").hidden = true;
  byId("go").disabled = false;
}

function showLabels() {
  const labels = chosen.model?.labels ?? [];
  byId("label").replaceChildren(new Option("none", ""), ...labels.map((name) => new Option(name, name)));
  byId("label-field").hidden = labels.length === 0;
}

export function mount() {
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    generate();
  });
  byId("halt").addEventListener("click", () => running?.abort());
  byId("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("form").requestSubmit();
  });
  chosen.addEventListener("change", showLabels);
  showLabels();
  return showOptions().catch(() => {}); /* the other fields keep the daemon's defaults */
}

export function show() {}

export function hide() {}
