/* The panel "Models": what each model is, and what an administrator does with it.
 *
 *   models_card.js     a model in words
 *   models_compare.js  two models side by side
 *   models_import.js   a file of Keras, PyTorch or TensorFlow becomes a model */
import { call, chosen, daemon, withToken } from "./daemon.js";
import { button, byId, clearFailure, make, showFailure } from "./dom.js";
import { badgesOf, detailsOf, factsOf, networkOf } from "./models_card.js";
import * as compare from "./models_compare.js";
import * as importing from "./models_import.js";

const PERIOD = 5000; /* milliseconds from one reading of the list to the next */

let shown = ""; /* the list that the cards show, as JSON */
let timer = null;
let visible = false;
let busy = null; /* the model with which something is being done */
const wholes = new Map(); /* name and date -> the model with its training; asked for once */

/* ---- cards ------------------------------------------------------------------------------------------------------- */

function path(name) {
  return `models/${encodeURIComponent(name)}`;
}

async function wholeOf({ name, modified_at }) {
  const key = `${name} ${modified_at}`;
  if (!wholes.has(key)) wholes.set(key, await withToken(() => daemon.model(name), { ask: false }));
  return wholes.get(key);
}

/* How a model came here if neither a job nor a corpus says so: another program wrote it. */
async function showOrigin(model, list) {
  if (model.error || model.job || model.dataset) return;
  const whole = await wholeOf(model).catch(() => null);
  if (whole) list.replaceChildren(...factsOf(model, whole));
}

function detailsBox(model) {
  const content = make("div", {});
  const box = make("details", { "data-part": "details" }, make("summary", {}, "Training and tensors"), content);
  box.addEventListener("toggle", async () => {
    if (!box.open || content.firstChild) return;
    try {
      content.replaceChildren(...detailsOf(await withToken(() => daemon.model(model.name))));
    } catch (error) {
      const problem = make("div", { className: "problem", role: "alert" });
      content.replaceChildren(problem);
      showFailure(problem, error);
    }
  });
  return box;
}

function actionsOf(model) {
  const { name, state } = model;
  const named = (words) => ({ "aria-label": `${words} ${name}`, "data-part": words });
  const act = (words, work, done) => button(words, () => change(name, work, done), named(words));
  const post = (verb) => () => call(`${path(name)}/${verb}`, undefined, { method: "POST" });
  const buttons = [];
  if (state === "loaded") {
    const used = chosen.model?.name === name;
    const words = used ? "Used here" : "Use here";
    const pressed = { "aria-label": `${words} ${name}`, "data-part": "Use here", "aria-pressed": String(used) };
    buttons.push(button(words, () => chosen.choose(name), pressed));
    buttons.push(button("Compare", () => compare.begin(name), named("Compare")));
  }
  if (state === "unloaded") buttons.push(act("Load", post("load"), "is loaded"));
  if (state === "loaded") buttons.push(act("Load again", post("load"), "is loaded again"));
  if (!model.default) {
    if (state === "loaded") buttons.push(act("Unload", post("unload"), "is unloaded"));
    buttons.push(act("Make default", () => call("models/default", { name }, { method: "PUT" }), "is the default now"));
    buttons.push(button("Delete", () => remove(name), named("Delete")));
  }
  for (const one of buttons) one.disabled = busy === name;
  return make("p", { className: "models-actions" }, ...buttons);
}

function cardOf(model) {
  const list = make("dl", {}, ...factsOf(model, null));
  const id = `models-name-${model.name}`;
  showOrigin(model, list);
  return make(
    "li",
    { className: "card", "data-name": model.name },
    make("div", { className: "models-head" }, make("h3", { id, tabIndex: -1 }, model.name), ...badgesOf(model, chosen.model)),
    make("p", {}, networkOf(model)),
    list,
    detailsBox(model),
    actionsOf(model),
    make("div", { className: "problem", role: "alert", hidden: true }),
  );
}

function cardNamed(name) {
  return [...byId("models-list").children].find((card) => card.dataset.name === name);
}

/* The cards are made anew, but the focus, open details and problems stay. */
function render() {
  const models = chosen.all;
  const list = byId("models-list");
  const at = document.activeElement;
  const focus = list.contains(at) ? { name: at.closest("li").dataset.name, part: at.dataset.part } : null;
  const open = [...list.querySelectorAll("details[open]")].map((box) => box.closest("li").dataset.name);
  const problems = new Map(
    [...list.querySelectorAll(":scope > li > .problem:not([hidden])")].map((box) => [box.closest("li").dataset.name, box]),
  );
  list.replaceChildren(...models.map(cardOf));
  for (const name of open) cardNamed(name)?.querySelector("details").toggleAttribute("open", true);
  for (const [name, box] of problems) cardNamed(name)?.querySelector(":scope > .problem").replaceWith(box);
  byId("models-none").hidden = models.length > 0;
  if (focus) focusOn(focus);
}

/* A button that is gone leaves the focus to the model's name, a model that is gone to the title. */
function focusOn({ name, part }) {
  const card = cardNamed(name);
  const same = [...(card?.querySelectorAll("[data-part]") ?? [])].find(({ dataset }) => dataset.part === part);
  const target = same?.matches("details") ? same.querySelector("summary") : same;
  (target && !target.disabled ? target : (card?.querySelector("h3") ?? byId("models-title"))).focus();
}

/* ---- the list ---------------------------------------------------------------------------------------------------- */

/* What is read again and again tells the other panels only what is new. */
async function refresh(options) {
  const models = await withToken(() => daemon.models(), options);
  if (JSON.stringify(models) === JSON.stringify(chosen.all)) return;
  chosen.take(models);
}

async function follow() {
  clearTimeout(timer);
  try {
    if (!document.hidden) await refresh({ ask: false });
    clearFailure(byId("models-problem"));
  } catch (error) {
    if (byId("models-problem").hidden) showFailure(byId("models-problem"), error);
  }
  const loading = chosen.all.some(({ state }) => state === "loading");
  if (visible) timer = setTimeout(follow, loading ? 500 : PERIOD);
}

function changed() {
  const now = JSON.stringify([chosen.all, chosen.model?.name]);
  if (now === shown) return;
  shown = now;
  render();
}

/* ---- what an administrator does ---------------------------------------------------------------------------------- */

/* An address without administration answers as if the path did not exist. */
function explain(error) {
  if (error.status !== 404 || !/^there is nothing at/.test(error.message)) return error;
  return new Error("This address does not administer: the daemon has another one for it (admin.listen). Open the page there.");
}

async function change(name, work, done) {
  if (busy) return;
  busy = name;
  byId("models-status").textContent = `${name} …`;
  render();
  const problem = cardNamed(name).querySelector(":scope > .problem");
  clearFailure(problem);
  try {
    await work();
    byId("models-status").textContent = `${name} ${done}.`;
    busy = null;
    await refresh();
  } catch (error) {
    byId("models-status").textContent = "";
    busy = null;
    const box = cardNamed(name)?.querySelector(":scope > .problem") ?? byId("models-problem");
    showFailure(box, explain(error));
  }
  render();
}

function remove(name) {
  const dialog = byId("models-delete");
  byId("models-delete-name").textContent = name;
  dialog.returnValue = "";
  dialog.addEventListener(
    "close",
    () => dialog.returnValue === "delete" && change(name, () => call(path(name), undefined, { method: "DELETE" }), "is deleted"),
    { once: true },
  );
  dialog.showModal();
  byId("models-delete-keep").focus();
}

/* ---- the panel --------------------------------------------------------------------------------------------------- */

/* A model was imported: it stands in the list. */
async function imported(name) {
  await refresh();
  changed();
  cardNamed(name)?.querySelector("h3").focus();
}

export function mount() {
  compare.mount();
  importing.mount({ imported, explain });
  chosen.addEventListener("change", changed);
  changed();
}

function appear(parameters) {
  visible = true;
  follow();
  compare.appear(parameters);
  const card = cardNamed(parameters.get("name"));
  card?.scrollIntoView({ block: "nearest" });
  card?.querySelector("h3").focus();
}

function disappear() {
  visible = false;
  clearTimeout(timer);
}

export { appear as show, disappear as hide };
