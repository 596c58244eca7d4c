/* A file of Keras, PyTorch or TensorFlow becomes a model: POST /models/{name}/import, with the files as parts of a form. */
import { call, chosen } from "./daemon.js";
import { button, byId, clearFailure, make, showFailure } from "./dom.js";
import { badgesOf, networkOf } from "./models_card.js";
import { bytes } from "./status_words.js";

/* The parts of the form that the daemon reads. */
const parts = {
  file: "the model",
  weights: "weights of a TensorFlow.js model",
  architecture: "architecture (model.to_json)",
  vocabulary: "vocabulary",
  vocabulary_from_text: "the text that it was trained on",
};
const SMALL = 1 << 22; /* bytes of a JSON file that is looked into */

let files = []; /* [{file, part}] */
let running = null; /* AbortController */
let hooks;

/* ---- which file is what ------------------------------------------------------------------------------------------ */

async function jsonPart(file) {
  if (file.size > SMALL) return "vocabulary";
  let content;
  try {
    content = JSON.parse(await file.text());
  } catch {
    return "vocabulary";
  }
  if (content?.modelTopology) return "file";
  return /^(Sequential|Functional|Model)$/.test(content?.class_name) ? "architecture" : "vocabulary";
}

async function partOf(file) {
  const ending = file.name.toLowerCase().split(".").at(-1);
  if (ending === "json") return jsonPart(file);
  if (ending === "bin") return "weights";
  if (["pkl", "pickle"].includes(ending)) return "vocabulary";
  if (["txt", "csv", "md"].includes(ending)) return "vocabulary_from_text";
  return "file";
}

/* A name that the daemon accepts. */
function nameOf(file) {
  const stem = file.name.replace(/\.[^.]*$/, "");
  const name = stem.replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[.-]+/, "");
  return name.slice(0, 64);
}

async function take(list) {
  for (const file of list) {
    const part = await partOf(file);
    files = files.filter((one) => one.file.name !== file.name && (part !== "file" || one.part !== "file"));
    files.push({ file, part });
    const name = byId("models-import-name");
    if (part === "file" && name.value === "") name.value = nameOf(file);
  }
  showFiles();
  warnOfName();
}

function showFiles() {
  const rows = files.map((one, i) => {
    const id = `models-part-${i}`;
    const select = make("select", { id }, ...Object.entries(parts).map(([part, words]) => new Option(words, part)));
    select.value = one.part;
    select.addEventListener("change", () => (one.part = select.value));
    const drop = () => {
      files.splice(i, 1);
      showFiles();
      byId("models-import-files").focus();
    };
    return make(
      "li",
      {},
      make("label", { htmlFor: id }, `${one.file.name} (${bytes(one.file.size)}) is`),
      select,
      button("Leave out", drop, { "aria-label": `Leave out ${one.file.name}` }),
    );
  });
  byId("models-import-parts").replaceChildren(...rows);
}

function warnOfName() {
  const name = byId("models-import-name").value;
  const taken = chosen.all.some((model) => model.name === name);
  byId("models-import-taken").textContent = taken ? `There is a model ${name}. The new one takes its place.` : "";
}

/* ---- the request ------------------------------------------------------------------------------------------------- */

function queryOf(form) {
  const query = new URLSearchParams();
  for (const name of ["vocabulary_order", "token_level", "activation"])
    if (form.elements[name].selectedIndex > 0) query.set(name, form.elements[name].value);
  for (const name of ["lower", "scaled_ids"]) if (form.elements[name].checked) query.set(name, "true");
  if (form.elements.window.value !== "") query.set("window", form.elements.window.value);
  return query.size > 0 ? `?${query}` : "";
}

function bodyOf(form) {
  const body = new FormData();
  for (const { file, part } of files) body.set(part, file, file.name);
  const typed = form.elements.vocabulary.value;
  if (typed.trim() !== "") body.set("vocabulary", typed);
  return body;
}

/* The reader names the part that is wrong at the beginning of what it says. */
function withField(error) {
  const { message = "" } = error;
  if (!error.fields || Object.keys(error.fields).length > 0) return error;
  const [, part] = /^(file|vocabulary|vocabulary_from_text|architecture|weights): /.exec(message) ?? [];
  if (/holds no vocabulary/.test(message) || /^vocabulary/.test(part ?? ""))
    error.fields = { vocabulary: "The model does not say what its tokens are, or not the same. Give its vocabulary, or the text that it was trained on." };
  else if (part) error.fields = { file: "This file cannot be used." };
  return error;
}

function showResult(model) {
  const notes = model.training?.imported?.notes ?? [];
  const use = button("Use it here", () => {
    chosen.choose(model.name);
    location.hash = "#write";
  });
  byId("models-import-result").replaceChildren(
    make("h3", {}, model.name, " ", ...badgesOf(model, null)),
    make("p", {}, `${model.training?.imported?.format ?? "It"} is read: ${networkOf(model)}`),
    ...(notes.length > 0 ? [make("ul", {}, ...notes.map((note) => make("li", {}, note)))] : []),
    make("p", { className: "buttons" }, use),
  );
  byId("models-import-result").hidden = false;
}

async function run(form) {
  if (running) return;
  clearFailure(byId("models-import-problem"), form);
  byId("models-import-result").hidden = true;
  if (!files.some(({ part }) => part === "file")) {
    const error = Object.assign(new Error("Choose the file of a model first."), { fields: {} });
    return showFailure(byId("models-import-problem"), error, form);
  }
  const mine = (running = new AbortController());
  const name = form.elements.name.value;
  const size = files.reduce((sum, { file }) => sum + file.size, 0);
  byId("models-import-status").textContent = `Sending ${bytes(size)}; then the daemon reads them …`;
  byId("models-import-stop").hidden = false;
  byId("models-import-go").disabled = true;
  try {
    const path = `models/${encodeURIComponent(name)}/import${queryOf(form)}`;
    const model = await call(path, bodyOf(form), { signal: mine.signal });
    byId("models-import-status").textContent = `${name} is imported and loaded.`;
    showResult(model);
    files = [];
    form.reset();
    showFiles();
    warnOfName();
    await hooks.imported(name);
  } catch (error) {
    byId("models-import-status").textContent = mine.signal.aborted ? "Stopped." : "";
    if (!mine.signal.aborted) showFailure(byId("models-import-problem"), withField(hooks.explain(error)), form);
  }
  byId("models-import-go").disabled = false;
  byId("models-import-stop").hidden = true;
  running = null;
}

/* ---- the part of the panel --------------------------------------------------------------------------------------- */

/* Files may be dropped anywhere in the box. */
function listenToDrops(box) {
  const over = (on) => box.classList.toggle("over", on);
  box.addEventListener("dragover", (event) => {
    event.preventDefault();
    over(true);
  });
  box.addEventListener("dragleave", () => over(false));
  box.addEventListener("drop", (event) => {
    event.preventDefault();
    over(false);
    take([...event.dataTransfer.files]);
  });
}

/* explain(error): the error in better words; imported(name): a model is new. */
export function mount(given) {
  hooks = given;
  const form = byId("models-import");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run(form);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") running?.abort();
  });
  byId("models-import-files").addEventListener("change", async ({ target }) => {
    await take([...target.files]);
    target.value = "";
  });
  byId("models-import-name").addEventListener("input", warnOfName);
  byId("models-import-stop").addEventListener("click", () => running?.abort());
  listenToDrops(form);
}
