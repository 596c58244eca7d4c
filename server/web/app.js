/* The page's frame: which panel is seen, and which model the page uses.
 *
 * A panel is a section of index.html and a module of the same name. The module is loaded when its panel is first seen:
 *
 *   export function mount(section)   builds what index.html does not have, once; may be async
 *   export function show(parameters) the panel is seen now; parameters are those behind its name in the address,
 *                                    as in #write?prompt=Oil&seed=7 (URLSearchParams)
 *   export function hide()           another panel is seen: stop asking the daemon again and again
 *
 * What panels share: daemon.js (requests, token, chosen model), dom.js (elements, problems), plot.js (charts). A panel
 * imports no other panel; goTo() leads from one to another. */
import { chosen, list } from "./daemon.js";
import { byId, describeFailure, make, notify } from "./dom.js";

const names = ["write", "inside", "models", "train", "status"];
const panels = {}; /* the modules that were mounted, by name */
let seen = null;

async function panelOf(name) {
  if (!panels[name]) {
    panels[name] = await import(`./${name}.js`);
    await panels[name].mount(byId(name));
  }
  return panels[name];
}

async function route() {
  const [address, parameters] = location.hash.slice(1).split(/\?(.*)/s);
  if (address === "main") return; /* the link that skips the header */
  const name = names.includes(address) ? address : names[0];
  if (seen && seen !== name) panels[seen]?.hide();
  seen = name;
  for (const other of names) byId(other).hidden = other !== name;
  for (const link of document.querySelectorAll("nav a"))
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  try {
    const panel = await panelOf(name);
    if (seen === name) await panel.show(new URLSearchParams(parameters));
  } catch (error) {
    notify(describeFailure(error).detail);
  }
}

function showModels() {
  const { models, model } = chosen;
  byId("chosen").replaceChildren(
    ...models.map(({ name, default: isDefault }) => {
      const option = make("option", { value: name }, isDefault ? `${name} (default)` : name);
      option.selected = name === model?.name;
      return option;
    }),
  );
  byId("chosen").disabled = models.length === 0;
  byId("model").textContent = model ? factsOf(model) : "There is no model yet.";
}

function factsOf({ name, cell, layers, hidden_size, parameters, vocabulary_size, token_level }) {
  return (
    `${name} · ${layers} × ${hidden_size} ${cell.toUpperCase()} · ${parameters.toLocaleString()} parameters · ` +
    `${vocabulary_size} tokens (${token_level})`
  );
}

chosen.addEventListener("change", showModels);
byId("chosen").addEventListener("change", () => chosen.choose(byId("chosen").value));
window.addEventListener("hashchange", route);
list().catch((error) => {
  byId("model").textContent = error.status === 401 ? "This daemon wants a token." : describeFailure(error).detail;
});
route();
