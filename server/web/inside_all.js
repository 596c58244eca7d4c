/* All units of a layer over the text: the heat map, in an order, and the strongest ones of a place. */
import { byId, clearFailure, showFailure } from "./dom.js";
import { rove } from "./inside_boxes.js";
import { inspect } from "./inside_data.js";
import { HeatMap } from "./inside_map.js";
import { showScale, step } from "./inside_scale.js";
import { makeChip, unitsOf } from "./inside_unit.js";
import { signed } from "./inside_words.js";

const MOST = 2e6; /* numbers that the page asks for at once */
const WORK = 2e7; /* multiplications for the order of alike units */
const STRONGEST = 8;

/* The text of the first tokens. */
function beginningOf({ tokens, fields, between, kind }, count) {
  if (count === tokens.length) return fields.text;
  if (kind !== "byte") return tokens.slice(0, count).map(({ token }) => token).join(between);
  const bytes = new TextEncoder().encode(fields.text).subarray(0, count);
  return new TextDecoder().decode(bytes).replace(/\ufffd$/, "");
}

/* The units so that each is followed by the one that is most like it (cosine), from the strongest on. */
function alikeOrder(strengths, unitCount, tokenCount, valueAt) {
  const samples = Math.max(16, Math.min(tokenCount, Math.floor(WORK / (unitCount * unitCount))));
  const rows = strengths.map((_, unit) => {
    const row = Float32Array.from({ length: samples }, (_, i) => valueAt(unit, Math.floor((i * tokenCount) / samples)));
    const length = Math.sqrt(row.reduce((sum, x) => sum + x * x, 0)) || 1;
    return row.map((x) => x / length);
  });
  const left = new Set(strengths.keys());
  let last = strengths.indexOf(Math.max(...strengths));
  const order = [last];
  left.delete(last);
  while (left.size > 0) {
    let best = -2;
    let next = 0;
    const from = rows[last];
    for (const unit of left) {
      const other = rows[unit];
      let product = 0;
      for (let i = 0; i < samples; i++) product += from[i] * other[i];
      if (product > best) [best, next] = [product, unit];
    }
    order.push((last = next));
    left.delete(last);
  }
  return order;
}

export class All {
  #cursor;
  #unit;
  #map;
  #look = null;
  #values = null; /* [token][unit] in one row */
  #units = 0;
  #columns = 0;
  #order = [];
  #limit = 1;
  #row = 0; /* that of the unit, or where keys and pointer are */
  #seen = false;
  #wanted = false;
  #asking = null;

  constructor(cursor, unit) {
    this.#cursor = cursor;
    this.#unit = unit;
    this.#map = new HeatMap(byId("inside-map"), "All units over time. Arrow keys move, Enter chooses a unit.", {
      point: (row, column, byKey) => this.#point(row, column, byKey),
      choose: (row, column) => {
        cursor.pin(column);
        unit.choose(this.#order[row]);
      },
    });
    unit.addEventListener("choose", () => {
      this.#row = this.#order.indexOf(unit.unit);
      this.#mark();
    });
    unit.addEventListener("layer", () => this.#want());
    cursor.addEventListener("move", () => this.#mark());
    byId("inside-order").addEventListener("change", () => this.#sort());
    byId("inside-strongest").addEventListener("click", (event) => {
      const chip = event.target.closest("button");
      if (chip) unit.choose(chip.unit);
    });
    const watch = new IntersectionObserver((entries) => {
      this.#seen = entries.at(-1).isIntersecting;
      this.#load();
    }, { rootMargin: "200px" });
    watch.observe(byId("inside-all"));
  }

  /* Another text, before its units are known. */
  begin(look) {
    this.#look = look;
  }

  #want() {
    this.#wanted = true;
    this.#load();
  }

  /* Asks for the numbers when the map is seen. */
  async #load() {
    if (!this.#seen || !this.#wanted) return;
    this.#wanted = false;
    this.#asking?.abort();
    const { signal } = (this.#asking = new AbortController());
    clearFailure(byId("inside-map-problem"));
    try {
      await this.#ask(signal);
    } catch (error) {
      if (!signal.aborted) this.#fail(error);
    }
  }

  async #ask(signal) {
    const look = this.#look;
    const { layer, vector } = this.#unit;
    const units = unitsOf(look.model, layer);
    const columns = Math.min(look.tokens.length, Math.max(1, Math.floor(MOST / units)));
    const values = new Float32Array(columns * units);
    const fields = { ...look.fields, text: beginningOf(look, columns), layers: [layer], c: vector === "c" };
    await inspect(fields, ({ layers: [one] }, i) => i < columns && values.set(one[vector], i * units), signal);
    if (signal.aborted) return;
    this.#values = values;
    this.#units = units;
    this.#columns = columns;
    this.#sort();
  }

  #fail(error) {
    const tooMuch = error.fields?.text?.includes("max_inspect");
    const count = this.#look.tokens.length * unitsOf(this.#look.model, this.#unit.layer);
    const plain = `This text and layer have ${count.toLocaleString("en")} numbers, more than the daemon gives in one answer ` +
      `(limits.max_inspect). Look into a shorter text.`;
    showFailure(byId("inside-map-problem"), tooMuch ? new Error(plain) : error);
    this.#values = null;
    byId("inside-map").hidden = byId("inside-strongest-part").hidden = true;
    byId("inside-map-words").textContent = "";
  }

  #valueAt(unit, column) {
    return this.#values[column * this.#units + unit];
  }

  #sort() {
    if (!this.#values) return;
    const strengths = Array.from({ length: this.#units }, () => 0);
    for (let i = 0; i < this.#values.length; i++) strengths[i % this.#units] += Math.abs(this.#values[i]);
    const order = [...strengths.keys()];
    const how = byId("inside-order").value;
    if (how === "strength") order.sort((a, b) => strengths[b] - strengths[a]);
    const valueAt = (unit, column) => this.#valueAt(unit, column);
    this.#order = how === "alike" ? alikeOrder(strengths, this.#units, this.#columns, valueAt) : order;
    this.#limit = this.#limitOf();
    byId("inside-map").hidden = byId("inside-strongest-part").hidden = false;
    this.#row = this.#order.indexOf(this.#unit.unit);
    this.#draw();
    this.#mark();
  }

  /* Two of 100 values are beyond the colours. */
  #limitOf() {
    const every = Math.max(1, Math.floor(this.#values.length / 20000));
    const sample = this.#values.filter((_, i) => i % every === 0).map(Math.abs).sort();
    return Math.max(0.05, sample[Math.floor(0.98 * (sample.length - 1))]);
  }

  #draw() {
    const limit = this.#limit;
    const rows = this.#order.map((unit) => ({ scale: "d", limit, value: (column) => this.#valueAt(unit, column) }));
    const height = [40, 80, 160, 400].findIndex((most) => this.#units <= most);
    this.#map.show({
      columns: this.#columns,
      rows,
      heads: this.#look.heads,
      least: { width: this.#look.kind === "word" ? 60 : 12, height: [12, 6, 3, 2][height] ?? 1 },
    });
    const label = `From ${signed(-limit)} (blue) over 0 to ${signed(limit)} (red)`;
    showScale(byId("inside-all-scale"), "d", label, { 0: [signed(-limit)], 8: ["0"], 16: [signed(limit)] });
  }

  #mark() {
    if (!this.#values) return;
    const column = Math.min(this.#cursor.at, this.#columns - 1);
    this.#map.mark(column, this.#row);
    this.#showStrongest(column);
    this.#say(this.#row, column);
  }

  #point(row, column, byKey) {
    this.#row = row ?? this.#order.indexOf(this.#unit.unit);
    if (byKey) this.#cursor.pin(column);
    else this.#cursor.peek(column);
    this.#mark();
  }

  #say(row, column) {
    const unit = this.#order[row];
    if (unit === undefined) return;
    const all = this.#look.tokens.length;
    const part = this.#columns < all ? ` The map shows the first ${this.#columns.toLocaleString("en")} of ${all.toLocaleString("en")} tokens.` : "";
    const place = `“${this.#look.heads[column]}” (${column + 1} of ${all})`;
    byId("inside-map-words").textContent =
      `Unit ${unit} after ${place}: ${this.#unit.vector} is ${signed(this.#valueAt(unit, column))}.${part}`;
  }

  #showStrongest(column) {
    const box = byId("inside-strongest");
    if (box.contains(document.activeElement) && this.#cursor.at !== this.#cursor.pinned) return;
    const units = [...this.#order.keys()].sort((a, b) => Math.abs(this.#valueAt(b, column)) - Math.abs(this.#valueAt(a, column)));
    const focused = box.contains(document.activeElement) ? document.activeElement.unit : null;
    const chips = units.slice(0, STRONGEST).map((unit) => {
      const value = this.#valueAt(unit, column);
      const colour = `d${step("d", value, this.#limit)}`;
      return makeChip(unit, this.#unit.vector, value, colour, unit === this.#unit.unit);
    });
    box.replaceChildren(...chips);
    rove(box);
    chips.find(({ unit }) => unit === focused)?.focus();
  }
}
