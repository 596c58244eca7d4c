/* The fields of a request: from the form into a body, from a link into the form, and from a body into a link.
 *
 * A link has the names and the forms of GET /generate: #write?prompt=Oil&seed=7&stop=a&stop=b&choices=["x","y"] */
import { ProblemError } from "../client.js";
import { chosen } from "./daemon.js";
import { byId } from "./dom.js";
import { samplerNames } from "./write_samplers.js";

/* What the model reads of a text: a recurrent network has forgotten what was long before. */
const READ = 16000;

const texts = ["label", "regex", "choice_mode"];
const lists = ["stop", "choices"];
const checks = ["ignore_eos", "include_stop"];
const numbers = () => ["length", "seed", "n", "min_length", ...samplerNames];

/* A line a text; \n and \t stand for what a line cannot have. */
function linesOf(text) {
  const letters = { n: "\n", t: "\t", "\\": "\\" };
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.replace(/\\([nt\\])/g, (_, letter) => letters[letter]));
}

function fieldText(list) {
  return list.map((text) => text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll("\t", "\\t")).join("\n");
}

/* What the browser does not even give us as a value. */
function refuseUnreadable(form) {
  const wrong = [...form.elements].filter((input) => input.name && input.validity?.badInput);
  if (wrong.length === 0) return;
  const errors = wrong.map(({ name }) => ({ field: name, message: "is not a number" }));
  throw new ProblemError({ status: 422, detail: "A field is not a number.", errors }, new Response());
}

export function newSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0];
}

/* The end of a text that a request names, never with half a character. */
export function promptOf(text) {
  const end = text.slice(-READ);
  return text.length > READ && /^[\udc00-\udfff]/.test(end) ? end.slice(1) : end;
}

/* The request that the form means. What is empty or off is left to the daemon's default. */
export function bodyOf(form, text) {
  refuseUnreadable(form);
  const body = { model: chosen.name, prompt: promptOf(text) };
  for (const name of numbers()) if (byId(name).value !== "") body[name] = byId(name).valueAsNumber;
  for (const name of texts) if (byId(name).value !== "") body[name] = byId(name).value;
  for (const name of lists) {
    const list = linesOf(byId(name).value);
    if (list.length > 0) body[name] = list;
  }
  for (const name of checks) if (byId(name).checked) body[name] = true;
  if (body.n === 1) delete body.n;
  if (!body.choices) delete body.choice_mode;
  return body;
}

/* The link's part behind "#write?". */
export function parametersOf(body) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(body))
    if (name === "stop") for (const text of value) parameters.append(name, text);
    else parameters.set(name, typeof value === "object" ? JSON.stringify(value) : value);
  return parameters.toString();
}

function listOf(parameters, name) {
  if (name === "stop") return parameters.getAll(name);
  try {
    return [JSON.parse(parameters.get(name))].flat().map(String);
  } catch {
    return parameters.getAll(name);
  }
}

/* Fills the form from a link. With a seed, the link is a whole request: what it does not have is at its default. */
export function fillForm(parameters) {
  const whole = parameters.has("seed");
  const set = (name, key, value, fallback) => {
    if (!whole && !parameters.has(name)) return;
    byId(name)[key] = parameters.has(name) ? value() : fallback;
    byId(name).dispatchEvent(new Event("change", { bubbles: true }));
    for (let box = byId(name).closest("details"); box && parameters.has(name); box = box.parentElement.closest("details"))
      box.open = true;
  };
  for (const name of numbers()) set(name, "value", () => parameters.get(name), byId(name).dataset.default ?? "");
  for (const name of texts) set(name, "value", () => parameters.get(name), byId(name).dataset.default ?? "");
  for (const name of lists) set(name, "value", () => fieldText(listOf(parameters, name)), "");
  for (const name of checks) set(name, "checked", () => parameters.get(name) === "true", false);
}
