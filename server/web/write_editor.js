/* The editor: a textarea with the whole text, and a layer behind it that marks what the model wrote.
 *
 * While the model writes, the layer shows the end of the text and the textarea waits: the browser lays out a few thousand
 * characters a frame, however long the text grows. The textarea takes the whole text when the run ends.
 *
 * Every change is a step that undo() takes back: a run, a choice, a stretch of typing. */
import { make } from "./dom.js";

const SHOWN = 4000; /* characters that the layer keeps of a text that is being written */
const MARKED = 50000; /* the longest text that is marked at rest */
const PAUSE = 1200; /* typing goes on with the same step for so many milliseconds */
const STEPS = 200;
const STEP_CHARACTERS = 4e6; /* of all steps */

/* How many characters two texts share at their beginnings, and at their ends. */
function sharedEnds(before, after) {
  const most = Math.min(before.length, after.length);
  let first = 0;
  while (first < most && before[first] === after[first]) first++;
  let last = 0;
  while (last < most - first && before[before.length - 1 - last] === after[after.length - 1 - last]) last++;
  return [first, last];
}

/* The marks after an edit that kept the first and last characters: a mark never grows by what was typed. */
function movedMarks(marks, first, behind, shift) {
  const moved = [];
  const keep = (start, end) => end > start && moved.push([start, end]);
  for (const [start, end] of marks) {
    keep(start, Math.min(end, first));
    keep(Math.max(start, behind) + shift, end + shift);
  }
  return moved;
}

/* The end of a text that is being written: what was given, then what is new. */
class Tail {
  constructor(layer, given) {
    this.layer = layer;
    this.given = document.createTextNode(given.slice(-SHOWN));
    this.fresh = document.createTextNode("");
    layer.replaceChildren(this.given, make("mark", {}, this.fresh));
    layer.scrollTop = layer.scrollHeight;
  }

  add(text) {
    const { layer, given, fresh } = this;
    const follows = layer.scrollHeight - layer.scrollTop - layer.clientHeight < 40;
    if (text.length > SHOWN) fresh.data = text.slice(-SHOWN);
    else fresh.appendData(text);
    if (given.length > 0 && given.length + fresh.length > 2 * SHOWN) given.data = "";
    if (fresh.length > 2 * SHOWN) fresh.data = fresh.data.slice(-SHOWN);
    if (follows) layer.scrollTop = layer.scrollHeight;
  }
}

export class Editor extends EventTarget {
  #area;
  #layer;
  #box;
  #now = { text: "", marks: [] };
  #past = [];
  #future = [];
  #typed = 0; /* when the last letter of this step came */
  #tail = null;
  #written = "";

  constructor(box, area, layer) {
    super();
    [this.#box, this.#area, this.#layer] = [box, area, layer];
    this.#now.text = area.value;
    area.addEventListener("input", () => this.#type());
    area.addEventListener("scroll", () => this.#follow());
    area.addEventListener("keydown", (event) => this.#key(event));
    area.addEventListener("beforeinput", (event) => {
      if (event.inputType === "historyUndo") this.undo();
      else if (event.inputType === "historyRedo") this.redo();
      else return;
      event.preventDefault();
    });
  }

  get text() {
    return this.#now.text;
  }

  get marks() {
    return this.#now.marks;
  }

  get canUndo() {
    return this.#past.length > 0 && !this.#tail;
  }

  get canRedo() {
    return this.#future.length > 0 && !this.#tail;
  }

  focus() {
    this.#area.focus();
  }

  /* Another text, as one step. marks: [start, end] of what the model wrote. */
  replace(text, marks = []) {
    if (text === this.text) return;
    this.#step({ text, marks });
    this.#typed = 0;
    this.#show(text.length);
  }

  /* Puts back what restore() of an earlier page had; there is nothing to undo. */
  restore(text, marks) {
    this.#now = { text, marks };
    this.#past = [];
    this.#future = [];
    this.#show(text.length);
  }

  undo() {
    if (this.canUndo) this.#travel(this.#past, this.#future);
  }

  redo() {
    if (this.canRedo) this.#travel(this.#future, this.#past);
  }

  /* The model writes from here until end(). */
  begin() {
    this.#tail = new Tail(this.#layer, this.text);
    this.#written = "";
    this.#box.classList.add("live");
    this.#area.readOnly = true;
    this.#tell();
  }

  add(text) {
    this.#written += text;
    this.#tail.add(text);
  }

  end() {
    const { text, marks } = this.#now;
    const written = this.#written;
    this.#tail = null;
    this.#written = "";
    this.#box.classList.remove("live");
    this.#area.readOnly = false;
    if (written) this.replace(text + written, [...marks, [text.length, text.length + written.length]]);
    else this.#show(text.length);
  }

  #step(next) {
    this.#past.push(this.#now);
    this.#future = [];
    this.#now = next;
    let characters = this.#past.reduce((sum, { text }) => sum + text.length, 0);
    while (this.#past.length > STEPS || (this.#past.length > 1 && characters > STEP_CHARACTERS))
      characters -= this.#past.shift().text.length;
  }

  #type() {
    const text = this.#area.value;
    const [first, last] = sharedEnds(this.text, text);
    const marks = movedMarks(this.marks, first, this.text.length - last, text.length - this.text.length);
    const at = performance.now();
    if (this.#typed && at - this.#typed < PAUSE) this.#now = { text, marks };
    else this.#step({ text, marks });
    this.#typed = at;
    this.#mark();
    this.#tell();
  }

  #key(event) {
    if (event.isComposing || event.altKey || !(event.ctrlKey || event.metaKey)) return;
    const key = event.key.toLowerCase();
    if (key === "z" && !event.shiftKey) this.undo();
    else if (key === "y" || key === "z") this.redo();
    else return;
    event.preventDefault();
  }

  #travel(from, to) {
    const before = this.text;
    to.push(this.#now);
    this.#now = from.pop();
    this.#typed = 0;
    this.#show(this.text.length - sharedEnds(before, this.text)[1]);
  }

  #show(caret) {
    const area = this.#area;
    area.value = this.text;
    area.setSelectionRange(caret, caret);
    if (caret === this.text.length) area.scrollTop = area.scrollHeight;
    this.#mark();
    this.#tell();
  }

  /* The layer has the same text in no colour; only the marks are seen. */
  #mark() {
    const { text, marks } = this.#now;
    const parts = [];
    let at = 0;
    if (text.length <= MARKED)
      for (const [start, end] of marks) {
        parts.push(text.slice(at, start), make("mark", {}, text.slice(start, end)));
        at = end;
      }
    this.#layer.replaceChildren(...parts, parts.length > 0 ? `${text.slice(at)}\n` : "");
    this.#follow();
  }

  #follow() {
    if (!this.#tail) this.#layer.scrollTop = this.#area.scrollTop;
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }
}
