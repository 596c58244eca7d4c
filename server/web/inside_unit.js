/* One hidden unit: which one, by number or by what it follows; its value along the text, and its gates. */
import { clearFailure, byId, make, showFailure } from "./dom.js";
import { Boxes, rove } from "./inside_boxes.js";
import { inspect } from "./inside_data.js";
import { HeatMap } from "./inside_map.js";
import { showScale, step } from "./inside_scale.js";
import { heard, percent, signed } from "./inside_words.js";

const FOUND = 3; /* units of each property */

/* The properties of a probe: what a unit follows, and where the property is large. */
const properties = {
  position: ["the position in the line", "far from the start of the line"],
  quotes: ["quotation marks", "inside quotation marks"],
  brackets: ["brackets", "inside brackets"],
  capital: ["capital letters", "at a capital letter"],
  border: ["borders of words", "at a space or a sign"],
  digit: ["digits", "at a digit"],
};

/* The rows of the gates: letter of /inspect, name, colour scale. */
const gates = {
  lstm: [["i", "input i", "g"], ["f", "forget f", "g"], ["g", "candidate g", "d"], ["o", "output o", "g"]],
  gru: [["r", "reset r", "g"], ["z", "update z", "g"], ["n", "candidate n", "d"]],
  rnn: [],
};

const lessons = {
  lstm: "The forget gate keeps the memory c, the input gate lets the candidate into it, and the output gate shows it as h.",
  gru: "The update gate keeps the old h, or lets the candidate in; the reset gate says how much the candidate knows of the old h.",
};

export function unitsOf({ hidden_sizes, hidden_size }, layer) {
  return hidden_sizes?.[layer] ?? hidden_size;
}

/* A unit to choose, with a number. */
export function makeChip(unit, name, value, colour, pressed) {
  const number = make("small", {}, signed(value));
  const chip = make("button", { type: "button", className: `chip ${colour}` }, heard("Unit "), String(unit), heard(`, ${name}`), " ", number);
  chip.unit = unit;
  chip.setAttribute("aria-pressed", String(pressed));
  return chip;
}

/* The unit that follows a property best. A property that holds at one or two places proves nothing. */
function bestOf(probe, count) {
  let best = { unit: 0, strength: -1 };
  for (const { property, mean, units } of probe.properties) {
    const often = property === "position" || Math.min(mean, 1 - mean) * count > 2.5;
    for (const { unit, r } of units) {
      const strength = Math.abs(r) + (often ? 1 : 0);
      if (strength > best.strength) best = { unit, strength };
    }
  }
  return best.unit;
}

/* Tells by "choose" that another unit is shown, and by "layer" that all of them are others. */
export class Unit extends EventTarget {
  layer = 0;
  vector = "h";
  unit = 0;
  #look = null;
  #probe = null;
  #values = null; /* of the unit: {h, c, i, ...}, a Float32Array each */
  #limit = 1; /* the largest that the colours show */
  #own = null; /* whether the reader chose the unit, for this model */
  #asking = null;
  #boxes;
  #map;

  constructor(cursor, open) {
    super();
    this.cursor = cursor;
    this.#boxes = new Boxes(byId("inside-unit-tokens"), cursor, "The text, coloured by the unit", open);
    this.#map = new HeatMap(byId("inside-gates"), "The gates of the unit along the text", {
      point: (row, column, byKey) => (byKey ? cursor.pin(column) : cursor.peek(column)),
      choose: (row, column) => cursor.pin(column),
    });
    cursor.addEventListener("move", () => this.#move());
    byId("inside-layer").addEventListener("change", () => this.#choosePart());
    byId("inside-vector").addEventListener("change", () => this.#choosePart());
    byId("inside-number").addEventListener("change", () => {
      if (byId("inside-number").reportValidity()) this.choose(byId("inside-number").valueAsNumber);
    });
    byId("inside-finder").addEventListener("click", (event) => {
      const chip = event.target.closest("button");
      if (chip) this.choose(chip.unit);
    });
  }

  /* What to ask the probe for; before load(). */
  probeOf({ name, layers, cell }) {
    if (this.#own?.model !== name) {
      this.layer = layers - 1;
      this.vector = "h";
      this.#own = null;
    }
    if (cell !== "lstm") this.vector = "h";
    this.layer = Math.min(this.layer, layers - 1);
    return { layer: this.layer, vector: this.vector, units: FOUND };
  }

  /* Shows a unit of the text. */
  async load(look) {
    this.#look = look;
    this.#probe = look.end.probe;
    const { layers, cell } = look.model;
    byId("inside-layer").replaceChildren(
      ...Array.from({ length: layers }, (_, i) => new Option(i === layers - 1 ? `${i} (top)` : String(i), i)),
    );
    byId("inside-layer").value = this.layer;
    byId("inside-layer-field").hidden = layers === 1;
    byId("inside-vector-field").hidden = cell !== "lstm";
    byId("inside-vector").value = this.vector;
    byId("inside-gates-part").hidden = gates[cell].length === 0;
    showScale(byId("inside-gates-scale"), "g", "Gates from 0, closed (pale), to 1, open (green)", { 0: ["0 closed"], 10: ["1 open"] });
    byId("inside-gates-lesson").textContent = lessons[cell] ?? "";
    await this.#boxes.fill(look.texts, look.between);
    this.#showUnits();
  }

  #showUnits() {
    byId("inside-number").max = unitsOf(this.#look.model, this.layer) - 1;
    const unit = this.#own?.unit ?? bestOf(this.#probe, this.#look.tokens.length);
    this.#show(unit);
    this.dispatchEvent(new Event("layer"));
  }

  /* The reader chose a unit. */
  choose(unit) {
    this.#own = { model: this.#look.model.name, unit };
    this.#show(unit);
  }

  /* The reader chose a layer, which has other units, or h or c: other units follow other things. */
  async #choosePart() {
    const look = this.#look;
    const layer = Number(byId("inside-layer").value);
    this.#own = { model: look.model.name, unit: layer === this.layer ? this.unit : undefined };
    this.layer = layer;
    this.vector = byId("inside-vector").value;
    await this.#try(async (signal) => {
      const probe = { layer: this.layer, vector: this.vector, units: FOUND };
      const end = await inspect({ ...look.fields, probe }, () => {}, signal);
      if (this.#look !== look) return;
      this.#probe = end.probe;
      this.#showUnits();
    });
  }

  async #show(unit) {
    const look = this.#look;
    const { cell } = look.model;
    this.unit = unit;
    byId("inside-number").value = unit;
    this.#showFinder();
    this.dispatchEvent(new Event("choose"));
    await this.#try(async (signal) => {
      const names = ["h", ...(cell === "lstm" ? ["c"] : []), ...gates[cell].map(([letter]) => letter)];
      const values = Object.fromEntries(names.map((name) => [name, new Float32Array(look.tokens.length)]));
      const take = ({ layers: [{ h, c, gates: all }] }, i) => {
        const one = { ...all, h, c };
        for (const name of names) values[name][i] = one[name][0];
      };
      const wanted = { layers: [this.layer], units: [unit], c: cell === "lstm", gates: gates[cell].length > 0 };
      await inspect({ ...look.fields, ...wanted }, take, signal);
      if (this.#look !== look) return;
      this.#values = values;
      this.#paint();
    });
  }

  /* Does work(signal); a later call ends it. */
  async #try(work) {
    this.#asking?.abort();
    const { signal } = (this.#asking = new AbortController());
    clearFailure(byId("inside-unit-problem"));
    try {
      await work(signal);
    } catch (error) {
      if (!signal.aborted) showFailure(byId("inside-unit-problem"), error);
    }
  }

  #paint() {
    const values = this.#values[this.vector];
    const limit = (this.#limit = Math.max(0.05, largestOf(values)));
    this.#boxes.paint(
      (i) => `d${step("d", values[i], limit)}`,
      (i) => `${this.#look.names[i]}, ${this.vector} ${signed(values[i])}`,
    );
    const label = `From ${signed(-limit)} (blue) over 0 to ${signed(limit)} (red)`;
    showScale(byId("inside-unit-scale"), "d", label, { 0: [signed(-limit)], 8: ["0"], 16: [signed(limit)] });
    this.#showGates();
    this.#sayWhat();
    this.#move();
  }

  #showGates() {
    const { cell } = this.#look.model;
    const row = ([letter, name, scale]) => {
      const values = this.#values[letter];
      const limit = letter === "c" || letter === "h" ? Math.max(0.05, largestOf(values)) : 1;
      return { name, scale, limit, value: (column) => values[column] };
    };
    const states = cell === "lstm" ? [["c", "memory c", "d"], ["h", "shown h", "d"]] : [["h", "state h", "d"]];
    this.#map.show({
      columns: this.#look.tokens.length,
      rows: [...gates[cell], ...states].map(row),
      heads: this.#look.heads,
      least: { width: this.#look.kind === "word" ? 60 : 12, height: 24 },
    });
  }

  #sayWhat() {
    const found = this.#probe.properties
      .map(({ property, units }) => ({ property, r: units.find(({ unit }) => unit === this.unit)?.r }))
      .filter(({ r }) => r !== undefined)
      .sort((a, b) => Math.abs(b.r) - Math.abs(a.r));
    const name = `Unit ${this.unit}`;
    if (found.length === 0) {
      byId("inside-follows").textContent = `${name} is not among those that follow one of the properties closely.`;
      return;
    }
    const [{ property, r }] = found;
    const [what, where] = properties[property] ?? [property, property];
    const text = `${name} follows ${what} (r = ${signed(r)}): it is ${r > 0 ? "high" : "low"} ${where}.`;
    byId("inside-follows").textContent = text;
  }

  #showFinder() {
    const rows = this.#probe.properties.map(({ property, units }) => {
      const chips = units.map(({ unit, r }) => this.#chip(unit, r, property));
      const [what] = properties[property] ?? [property];
      const name = make("span", { className: "chips-name" }, what);
      if (chips.length === 0) name.append(make("span", { className: "hint" }, " the same everywhere in this text"));
      const list = make("div", { className: "chips", role: "toolbar", "aria-label": `Units that follow ${what}` }, ...chips);
      return make("div", {}, name, ...(chips.length > 0 ? [list] : []));
    });
    const chosen = document.activeElement?.closest?.("#inside-finder button")?.key;
    byId("inside-finder").replaceChildren(...rows);
    for (const list of byId("inside-finder").querySelectorAll(".chips")) rove(list);
    for (const chip of byId("inside-finder").querySelectorAll("button")) if (chip.key === chosen) chip.focus();
  }

  #chip(unit, r, property) {
    const chip = makeChip(unit, "r", r, `d${step("d", r)}`, unit === this.unit);
    chip.key = `${property} ${unit}`;
    return chip;
  }

  #move() {
    if (!this.#values) return;
    const at = Math.min(this.cursor.at, this.#look.tokens.length - 1);
    this.#map.mark(at, -1);
    byId("inside-gates-words").textContent = this.#words(at);
  }

  #words(at) {
    const of = (name) => this.#values[name]?.[at];
    const token = `At “${this.#look.heads[at]}”`;
    const { cell } = this.#look.model;
    if (cell === "lstm")
      return (
        `${token} it keeps ${percent(of("f"))} of its memory, takes in ${percent(of("i"))} of the candidate ` +
        `${signed(of("g"))}, so its memory c is ${signed(of("c"))}, and lets ${percent(of("o"))} of that be seen: h is ${signed(of("h"))}.`
      );
    return (
      `${token} it keeps ${percent(of("z"))} of its old value and takes the rest from the candidate ${signed(of("n"))}, ` +
      `which knows ${percent(of("r"))} of the old state: h is ${signed(of("h"))}.`
    );
  }
}

export function largestOf(values) {
  let largest = 0;
  for (const value of values) largest = Math.max(largest, Math.abs(value));
  return largest;
}
