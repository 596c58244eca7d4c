/* Elements, and what went wrong beside them. Text of models and of the daemon only ever becomes text nodes. */
import { ProblemError } from "../client.js";

export function byId(id) {
  return document.getElementById(id);
}

/* make("button", {type: "button", className: "quiet", onclick: save, "aria-label": "Save"}, "Save", icon) */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties))
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/* A button with its action. */
export function button(text, onclick, properties = {}) {
  return make("button", { type: "button", className: "quiet", onclick, ...properties }, text);
}

/* What failed, as {detail, fields}: fields has a message for each field that is wrong. */
export function describeFailure(error) {
  if (error instanceof ProblemError) return { detail: error.message, fields: error.fields };
  if (error.name === "ConnectionError") return { detail: connectionText(error), fields: {} };
  return { detail: error.message, fields: {} };
}

function connectionText({ message, cause }) {
  if (!cause) return `${message[0].toUpperCase()}${message.slice(1)}.`;
  return `The daemon cannot be reached (${cause.message}).`;
}

/* Shows what failed: the message of a field beside the input of that name in the form, the rest in the box. A closed
 * <details> opens if a wrong field is in it. */
export function showFailure(box, error, form = null) {
  clearFailure(box, form);
  const { detail, fields } = describeFailure(error);
  const rest = Object.entries(fields).filter(([name, message]) => !showAtField(form, name, message));
  box.replaceChildren(make("p", {}, detail));
  if (rest.length > 0)
    box.append(make("ul", {}, ...rest.map(([name, message]) => make("li", {}, `${name}: ${message}`))));
  box.hidden = false;
  form?.querySelector("[aria-invalid]")?.focus();
}

export function clearFailure(box, form = null) {
  box.replaceChildren();
  box.hidden = true;
  for (const input of form?.querySelectorAll("[aria-invalid]") ?? []) {
    byId(input.getAttribute("aria-errormessage"))?.remove();
    input.removeAttribute("aria-invalid");
    const rest = describing(input).filter((id) => id !== input.getAttribute("aria-errormessage"));
    if (rest.length > 0) input.setAttribute("aria-describedby", rest.join(" "));
    else input.removeAttribute("aria-describedby");
    input.removeAttribute("aria-errormessage");
  }
}

/* The ids of what is read out with the input. */
function describing(input) {
  return input.getAttribute("aria-describedby")?.split(" ") ?? [];
}

function showAtField(form, name, message) {
  const input = form?.elements.namedItem(name.split(/[[.]/)[0]);
  if (!(input instanceof Element)) return false;
  const id = `${input.id}-problem`;
  input.setAttribute("aria-invalid", "true");
  input.setAttribute("aria-errormessage", id);
  input.setAttribute("aria-describedby", [...describing(input), id].join(" "));
  const text = make("p", { id, className: "field-problem" }, message);
  const field = input.closest("[data-field]"); /* what else belongs to the input: a slider, a hint */
  if (field) field.append(text);
  else input.after(text);
  for (let box = input.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
  return true;
}

/* A line below the header, until the next one. */
export function notify(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

/* <div><dt>name</dt><dd>value</dd></div> for a <dl>. */
export function fact(name, value) {
  return make("div", {}, make("dt", {}, name), make("dd", {}, value));
}

/* Only a page from https or this computer has navigator.clipboard. */
function copyOldWay(text) {
  const area = make("textarea", { value: text, className: "skip" });
  const before = document.activeElement;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  before?.focus();
  if (!done) throw new Error("The browser does not let this page copy.");
}

/* The text goes to the clipboard, and the button says so. */
export async function copy(text, pressed) {
  pressed.dataset.text ??= pressed.textContent;
  try {
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else copyOldWay(text);
    pressed.textContent = "Copied";
  } catch (error) {
    notify(describeFailure(error).detail);
  }
  setTimeout(() => (pressed.textContent = pressed.dataset.text), 1500);
}

/* Offers a file. */
export function save(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  make("a", { href: url, download: name }).click();
  URL.revokeObjectURL(url);
}
