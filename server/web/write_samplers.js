/* The sampler's options as sliders. Which there are, their bounds and their meaning come from the daemon's one table. */
import { daemon } from "./daemon.js";
import { byId, make } from "./dom.js";

/* Where a slider is useful; the field beside it takes every value that the daemon allows. */
const extents = {
  temperature: { min: 0, max: 2, step: 0.05 },
  top_k: { min: 0, max: 100, step: 1 },
  top_p: { min: 0.01, max: 1, step: 0.01 },
  min_p: { min: 0, max: 0.5, step: 0.01 },
  repetition_penalty: { min: 0.5, max: 2, step: 0.05 },
  presence_penalty: { min: -2, max: 2, step: 0.1 },
  frequency_penalty: { min: -2, max: 2, step: 0.1 },
  repetition_window: { min: 0, max: 512, step: 8 },
};

export let samplerNames = ["temperature"]; /* until addSamplers() knows all */

function titleOf(name) {
  return name[0].toUpperCase() + name.slice(1).replaceAll("_", " ");
}

/* The number is the value; the slider follows it and sets it. An empty number is the daemon's default. */
function sliderFor(number, name, option) {
  const extent = extents[name];
  if (!extent) return null;
  const slider = make("input", { type: "range", ...extent, "aria-label": `${titleOf(name)}, slider` });
  const follow = () => {
    slider.value = number.value === "" ? option.default : number.value;
    slider.setAttribute("aria-valuetext", number.value === "" && option.off ? "off" : slider.value);
  };
  slider.addEventListener("input", () => {
    number.value = option.off && Number(slider.value) === option.default ? "" : slider.value;
    number.dispatchEvent(new Event("change", { bubbles: true }));
  });
  number.addEventListener("input", follow);
  number.addEventListener("change", follow);
  follow();
  return slider;
}

function fieldOf(name, option) {
  const number = byId(name) ?? make("input", { id: name, name, type: "number", className: "number" });
  number.step = "any";
  number.min = option.minimum ?? option.exclusiveMinimum;
  number.max = option.maximum ?? option.exclusiveMaximum;
  number.placeholder = option.off ? "off" : String(option.default);
  number.setAttribute("aria-describedby", `${name}-hint`);
  const slider = sliderFor(number, name, option);
  const hint = make("p", { id: `${name}-hint`, className: "hint" }, option.description);
  const field = number.closest(".sampler") ?? make("div", { className: "sampler", "data-field": "" });
  field.replaceChildren(make("label", { htmlFor: name }, titleOf(name)), number, ...(slider ? [slider] : []), hint);
  return field;
}

/* Adds what the page does not have yet to the box. */
export async function addSamplers(box) {
  const options = Object.entries(await daemon.call("web/sampler.json"));
  for (const [name, option] of options) {
    const field = fieldOf(name, option);
    if (!field.isConnected) box.append(field);
  }
  samplerNames = options.map(([name]) => name);
}
