/* The form for a training: presets by time, and all options. Both come from the daemon's own table
 * (web/training.json), so the page has no list of options. */
import { call, chosen, daemon } from "./daemon.js";
import { byId, clearFailure, make, showFailure } from "./dom.js";
import { chosenText, isReadingOption, keepText, showSplit } from "./train_text.js";

/* Time limits in minutes, and the preset that makes most of each; null: no limit, and a preset by choice. */
const TIMES = [
  { minutes: 1, title: "One minute", preset: "tiny", help: "it learns words and lines: a first look, a lesson" },
  { minutes: 10, title: "Ten minutes", preset: "small", help: "a first good model of 100 kB to some MB" },
  { minutes: 60, title: "An hour", preset: "medium", help: "a larger network, for a larger text" },
  { minutes: null, title: "My own choice", help: "a preset, or every option by hand" },
];

/* Headings of the form, each with the option that it stands before. */
const GROUPS = { validation: "Text", level: "Tokens", cell: "Network", optimizer: "Learning", batch: "Batches and time", validate_every: "Checks and samples" };

let table = null; /* {options, presets} */

function names() {
  return Object.keys(table.options).filter((name) => !isReadingOption(name) && name !== "preset");
}

function input(name) {
  return byId(`train-${name}`);
}

function titleOf(name) {
  return name === "lr" ? "Learning rate (lr)" : name[0].toUpperCase() + name.slice(1).replaceAll("_", " ");
}

function choicesOf(option) {
  if (option.enum) return option.enum;
  return option.type === "boolean" ? ["true", "false"] : null;
}

/* A field that may stay empty. A select says what empty means; showDefaults() fills that in. */
function optionField(name, option) {
  const id = `train-${name}`;
  const choices = choicesOf(option);
  const common = { id, name, title: option.description };
  const field = choices
    ? make("select", common, make("option", { value: "" }), ...choices.map((value) => make("option", { value }, wordOf(value))))
    : make("input", { ...common, type: "text", autocomplete: "off", spellcheck: false, inputMode: Array.isArray(option.type) ? "text" : "decimal" });
  field.setAttribute("aria-describedby", `${id}-help`);
  const unit = option.unit ? ` (${option.unit})` : "";
  return make("div", {}, make("label", { htmlFor: id }, titleOf(name) + unit), field, make("p", { id: `${id}-help`, className: "hint" }, sentence(option.description)));
}

function sentence(text) {
  return text[0].toUpperCase() + text.slice(1);
}

function wordOf(value) {
  return { true: "yes", false: "no" }[value] ?? value;
}

function makeOptions() {
  let group = null;
  for (const name of names()) {
    if (GROUPS[name] || !group) {
      const fields = make("div", { className: "fields" });
      byId("train-options").append(make("h3", {}, GROUPS[name] ?? "Options"), fields);
      group = fields;
    }
    group.append(optionField(name, table.options[name]));
  }
  for (const name of Object.keys(table.options).filter(isReadingOption)) byId("train-reading").append(optionField(name, table.options[name]));
}

function makeTimes() {
  TIMES.forEach(({ minutes, title, help }, i) => {
    const id = `train-time-${minutes ?? "own"}`;
    const radio = make("input", { id, type: "radio", name: "time", value: String(i), checked: i === 0 });
    radio.setAttribute("aria-describedby", `${id}-help`);
    byId("train-times").append(make("div", { className: "time" }, radio, make("label", { htmlFor: id }, title), make("p", { id: `${id}-help`, className: "hint" }, help)));
  });
  const select = make("select", { id: "train-preset", name: "preset" });
  for (const [name, { description }] of Object.entries(table.presets)) select.append(make("option", { value: name }, `${name}: ${description}`));
  byId("train-times").after(make("div", { id: "train-preset-field", hidden: true }, make("label", { htmlFor: "train-preset" }, "Preset"), select));
}

function time() {
  return TIMES[byId("train-form").elements.namedItem("time").value];
}

function presetName() {
  return time().minutes ? time().preset : input("preset").value;
}

/* The values that empty fields have. */
function defaults() {
  const limit = time().minutes ? { max_minutes: time().minutes } : {};
  return { ...table.presets[presetName()].options, ...limit };
}

function showDefaults() {
  const values = defaults();
  byId("train-preset-field").hidden = time().minutes !== null;
  for (const [name, option] of Object.entries(table.options)) {
    const field = input(name);
    if (!field || name === "preset") continue;
    const value = values[name] === undefined ? "not set" : wordOf(values[name]);
    if (choicesOf(option)) field.options[0].textContent = `${value} (as it is)`;
    else field.placeholder = String(value);
  }
  const part = Number(input("validation").value || values.validation);
  if (part >= 0 && part <= 0.5) showSplit(part);
}

function valueOf(name, option) {
  const text = input(name).value;
  if (option.type === "boolean") return text === "true";
  const isNumber = option.type === "integer" || option.type === "number";
  const number = Number(text.replace(",", "."));
  return isNumber && text.trim() !== "" && Number.isFinite(number) ? number : text; /* the daemon says what is no number */
}

function requestBody() {
  const limit = time().minutes ? { max_minutes: time().minutes } : {};
  const body = { model: input("model").value.trim(), preset: presetName(), ...limit };
  if (chosenText()) body.dataset = chosenText().name;
  if (input("init_from").value) body.init_from = input("init_from").value;
  if (input("deploy").checked) body.deploy = true;
  for (const name of names()) if (input(name).value !== "") body[name] = valueOf(name, table.options[name]);
  return body;
}

/* A name for the model from the text's, unless somebody wrote one. */
export function suggestName() {
  const text = chosenText();
  const field = input("model");
  if (text && (field.value === "" || field.dataset.suggested === field.value)) {
    field.value = text.name.replace(/\.[^.]*$/, "").toLowerCase();
    field.dataset.suggested = field.value;
  }
  hintName();
  if (table) showDefaults();
}

function hintName() {
  const known = chosen.all.some(({ name }) => name === input("model").value.trim());
  byId("train-model-hint").hidden = !known;
  byId("train-model-hint").textContent = known ? "There is a model of this name. The training replaces it at its end." : "";
}

function showModels() {
  const select = input("init_from");
  const before = select.value;
  select.replaceChildren(new Option("nothing: begin anew", ""), ...chosen.all.map(({ name }) => new Option(`the model ${name}`, name)));
  select.value = [...select.options].some(({ value }) => value === before) ? before : "";
  hintName();
}

/* started(job) hears of the job. */
async function submit(started) {
  const [form, box, go] = [byId("train-form"), byId("train-problem"), byId("train-go")];
  clearFailure(box, form);
  if (!chosenText()) {
    showFailure(box, new Error("There is no text yet. Drop one, or choose one."));
    byId("train-file").focus();
    return;
  }
  go.disabled = true;
  try {
    const headers = { "Idempotency-Key": crypto.getRandomValues(new Uint32Array(4)).join("-") };
    const job = await call("train", requestBody(), { headers });
    keepText();
    started(job);
  } catch (error) {
    showFailure(box, error, form);
  }
  go.disabled = false;
}

export async function mountForm(started) {
  byId("train-form").addEventListener("submit", (event) => {
    event.preventDefault();
    submit(started);
  });
  table = await daemon.call("web/training.json");
  makeTimes();
  makeOptions();
  byId("train-form").addEventListener("input", () => {
    showDefaults();
    hintName();
  });
  chosen.addEventListener("change", showModels);
  showModels();
  showDefaults();
}
