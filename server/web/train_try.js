/* A new model beside another one: the same prompt and seed, both texts as they are written. */
import { call, chosen, list, withToken } from "./daemon.js";
import { byId, clearFailure, make, showFailure } from "./dom.js";

let model = null; /* the new one's name */
let running = null; /* AbortController */

function showChoices() {
  const select = byId("train-try-beside");
  const before = select.value;
  const others = chosen.models.filter(({ name }) => name !== model);
  select.replaceChildren(...others.map(({ name, default: isDefault }) => new Option(isDefault ? `${name} (default)` : name, name)), new Option("no other model", ""));
  if ([...select.options].some(({ value }) => value === before)) select.value = before;
}

/* The new model's name, and a prompt to begin with. A model that a restart left unloaded can be loaded here. */
export function showTry(name, prompt) {
  const loaded = chosen.models.some((one) => one.name === name);
  byId("train-try").hidden = !chosen.all.some((one) => one.name === name);
  byId("train-try-form").hidden = !loaded;
  byId("train-try-load").hidden = loaded;
  if (name === model) return;
  model = name;
  byId("train-try-prompt").value = prompt;
  byId("train-try-beside").value = "";
  byId("train-try-texts").replaceChildren();
  showChoices();
  byId("train-try-beside").selectedIndex = 0;
}

/* A box for one text. Pieces are drawn once per frame. */
function column(name, prompt) {
  const written = make("span");
  const caption = make("figcaption", {}, name);
  const box = make("figure", {}, caption, make("p", { className: "text" }, make("span", { className: "given" }, prompt), written));
  let waiting = "";
  const draw = () => {
    written.append(waiting);
    waiting = "";
  };
  const add = (piece) => {
    if (!waiting) requestAnimationFrame(draw);
    waiting += piece;
  };
  return { box, caption, add, draw };
}

async function writeOne({ caption, add, draw }, request, signal) {
  await withToken(async (lstmd) => {
    for await (const event of lstmd.stream(request, { signal }).events()) {
      if (event.delta) add(event.delta);
      if (!event.finish_reason) continue;
      draw();
      caption.textContent = `${request.model} · ${Math.round(event.timings.tokens_per_second).toLocaleString()} tokens/s`;
    }
  });
}

async function write() {
  const [form, box] = [byId("train-try-form"), byId("train-try-problem")];
  running?.abort();
  const mine = (running = new AbortController());
  clearFailure(box, form);
  const number = (name) => byId(`train-try-${name}`).valueAsNumber; /* form.elements has a length of its own */
  const prompt = byId("train-try-prompt").value;
  const fields = { prompt, length: number("length"), temperature: number("temperature"), seed: Math.floor(Math.random() * 2 ** 32) };
  const names = [model, byId("train-try-beside").value].filter(Boolean);
  const columns = names.map((name) => column(name, prompt));
  byId("train-try-texts").replaceChildren(...columns.map((one) => one.box));
  byId("train-try-stop").hidden = false;
  try {
    await Promise.all(columns.map((one, i) => writeOne(one, { ...fields, model: names[i] }, mine.signal)));
  } catch (error) {
    if (!mine.signal.aborted) showFailure(box, error, form);
    mine.abort();
  }
  if (running === mine) byId("train-try-stop").hidden = true;
}

async function load() {
  clearFailure(byId("train-try-problem"));
  try {
    await call(`models/${model}/load`, undefined, { method: "POST" });
    await list({ ask: false });
    byId("train-try-prompt").focus();
  } catch (error) {
    showFailure(byId("train-try-problem"), error);
  }
}

export function stopTry() {
  running?.abort();
}

export function mountTry() {
  byId("train-try-form").addEventListener("submit", (event) => {
    event.preventDefault();
    write();
  });
  byId("train-try-stop").addEventListener("click", stopTry);
  byId("train-try-load").addEventListener("click", load);
  chosen.addEventListener("change", () => {
    showChoices();
    if (model) showTry(model);
  });
}
