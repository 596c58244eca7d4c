import { Lstmd, ProblemError } from "/client.js";

const lstmd = new Lstmd();

const element = (id) => document.getElementById(id);

function show(id, visible) {
  element(id).hidden = !visible;
}

/* Model text only ever becomes text nodes. */
function fillList(list, rows, makeRow) {
  list.replaceChildren(...rows.flatMap(makeRow));
}

function describe(name, text) {
  const box = document.createElement("div");
  const term = document.createElement("dt");
  const value = document.createElement("dd");
  term.textContent = name;
  value.textContent = text;
  box.append(term, value);
  return box;
}

function listItem(text) {
  const item = document.createElement("li");
  item.textContent = text;
  return item;
}

let samplerNames = ["temperature"]; /* until showOptions() knows all */

/* The inputs of the sampler's options. The daemon says which there are and what their bounds are. */
async function showOptions() {
  const options = Object.entries(await lstmd.call("web/sampler.json"));
  const boxes = options.filter(([name]) => !element(name)).map(([name, option]) => optionBox(name, option));
  element("options").prepend(...boxes);
  for (const [name, option] of options) {
    const input = element(name);
    input.min = option.minimum ?? option.exclusiveMinimum;
    input.max = option.maximum ?? option.exclusiveMaximum;
    input.title = option.description;
  }
  samplerNames = options.map(([name]) => name);
}

function optionBox(name, option) {
  const box = document.createElement("div");
  const label = document.createElement("label");
  const input = document.createElement("input");
  label.htmlFor = input.id = name;
  label.textContent = name[0].toUpperCase() + name.slice(1).replaceAll("_", " ");
  input.type = "number";
  input.step = option.type === "integer" ? "1" : "any";
  input.placeholder = option.off ? "off" : String(option.default);
  box.append(label, input);
  return box;
}

function requestBody() {
  const body = {
    prompt: element("prompt").value,
    length: element("length").valueAsNumber,
  };
  for (const name of ["seed", ...samplerNames])
    if (element(name).value !== "") body[name] = element(name).valueAsNumber;
  if (element("stop").value !== "") body.stop = element("stop").value;
  if (element("label").value !== "") body.label = element("label").value;
  return body;
}

function showBeginning() {
  element("given").textContent = element("prompt").value;
  element("written").textContent = "";
  fillList(element("facts"), [], () => []);
  show("facts", false);
  show("warnings", false);
  show("result", true);
}

function showEnd(end) {
  const reasons = { length: "length reached", eos: "end of text", stop: "stop text" };
  const time = end.timings;
  fillList(element("facts"), [
    ["Ended by", reasons[end.finish_reason] || end.finish_reason],
    ["Tokens", String(end.usage.completion_tokens)],
    ["Tokens/s", Math.round(time.tokens_per_second).toLocaleString()],
    ["Server time", `${(time.queue_ms + time.prompt_ms + time.generate_ms).toFixed(1)} ms`],
    ["Seed", String(end.seed)],
  ], ([name, text]) => [describe(name, text)]);
  fillList(element("warnings"), end.warnings, (text) => [listItem(text)]);
  show("facts", true);
  show("warnings", end.warnings.length > 0);
}

/* The text before stays until this one begins. */
async function showStream(events) {
  let begun = false;
  for await (const event of events) {
    if (!begun) showBeginning();
    begun = true;
    element("written").append(event.delta);
    if (event.finish_reason) showEnd(event);
  }
}

function showProblem(problem) {
  const fields = (problem.errors || []).map((error) => `${error.field}: ${error.message}`);
  element("problem").replaceChildren(document.createTextNode(problem.detail || problem.title));
  if (fields.length > 0) {
    const list = document.createElement("ul");
    fillList(list, fields, (text) => [listItem(text)]);
    element("problem").append(list);
  }
  show("problem", true);
}

/* Calls the daemon with the token, if there is one; it is kept until the tab is closed. A daemon that wants one gets it
 * asked for. */
async function send(call) {
  lstmd.token = element("token").value;
  try {
    const answer = await call();
    sessionStorage.setItem("token", lstmd.token);
    return answer;
  } catch (error) {
    if (error.status === 401) {
      show("token-field", true);
      element("token").focus();
    }
    throw error;
  }
}

/* What to show of what a call threw. */
function problemOf(error) {
  if (!(error instanceof ProblemError)) return { detail: `The daemon cannot be reached (${(error.cause ?? error).message}).` };
  if (error.status !== 401) return { detail: error.message, ...error.problem };
  /* The daemon's own words for a 401 are of headers, which nobody sets here. */
  const none = element("token").value === "";
  return { detail: none ? "Enter a token and generate again." : "The daemon does not know this token." };
}

let running = null; /* AbortController of the request */

async function generate() {
  running = new AbortController();
  element("go").disabled = true;
  show("halt", true);
  element("status").textContent = "Generating …";
  show("problem", false);
  try {
    const stream = lstmd.stream(requestBody(), { signal: running.signal });
    await send(() => showStream(stream.events()));
    element("status").textContent = "Done.";
  } catch (error) {
    const halted = error.name === "AbortError";
    if (!halted) showProblem(problemOf(error));
    element("status").textContent = halted ? "Halted." : "";
  }
  show("halt", false);
  element("go").disabled = false;
}

async function showModel() {
  const model = (await send(() => lstmd.models())).find((candidate) => candidate.default);
  if (!model) {
    element("model").textContent = "There is no model yet.";
    return;
  }
  element("model").textContent =
    `${model.name} · ${model.layers} × ${model.hidden_size} ${model.cell.toUpperCase()} · ` +
    `${model.parameters.toLocaleString()} parameters · ${model.vocabulary_size} tokens (${model.token_level})`;
  element("label").replaceChildren(new Option("none", ""), ...model.labels.map((name) => new Option(name, name)));
  show("label-field", model.labels.length > 0);
}

element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  generate();
});

element("halt").addEventListener("click", () => running.abort());

element("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) element("form").requestSubmit();
});

function begin() {
  showModel().catch((error) => {
    element("model").textContent = error.status === 401 ? "This daemon wants a token." : "The daemon cannot be reached.";
  });
}

element("token").addEventListener("change", begin);
element("token").value = sessionStorage.getItem("token") || "";
show("token-field", element("token").value !== "");
showOptions().catch(() => {}); /* the other fields keep the daemon's defaults */
begin();
