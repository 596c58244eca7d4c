/* A heat map: rows of numbers over the tokens of a text, on a canvas that draws only what is seen. It says nothing by itself:
 * point() tells what is under the pointer or the keys, and the caller puts that into words. */
import { make } from "./dom.js";
import { coloursOf, onTheme, step } from "./inside_scale.js";

const HEAD = 20; /* pixels of the line of tokens on top */

export class HeatMap {
  #names = make("div", { className: "map-names" });
  #space = make("div", { className: "map-space" });
  #canvas = make("canvas", { className: "map-canvas" });
  #scroll;
  #data = null;
  #cell = { width: 1, height: 1 };
  #colours = {};
  #at = { row: 0, column: 0 };
  #queued = false;
  #pointing = false; /* the pointer is in the map, which stays where it is */

  /* point(row, column, byKey): null, null where the pointer has gone. choose(row, column): click or Enter. */
  constructor(box, label, { point, choose }) {
    this.#scroll = make("div", { className: "map-scroll", tabIndex: 0, role: "application", "aria-label": label });
    this.#scroll.setAttribute("aria-roledescription", "heat map");
    this.#space.append(this.#canvas);
    this.#scroll.append(this.#space);
    box.className = "map";
    box.replaceChildren(this.#names, this.#scroll);
    this.point = point;
    this.choose = choose;
    this.#listen();
    new ResizeObserver(() => this.#layOut()).observe(this.#scroll);
    onTheme(() => {
      this.#colours = {};
      this.draw();
    });
  }

  /* {columns, rows: [{name, scale, limit, values(column)}], heads: texts of the columns, least: {width, height}, row} */
  show(data) {
    this.#data = data;
    this.#names.replaceChildren(...data.rows.filter(({ name }) => name).map(({ name }) => make("span", {}, name)));
    this.#names.hidden = !data.rows[0]?.name;
    this.#at.row = Math.min(this.#at.row, data.rows.length - 1);
    this.#layOut();
  }

  /* The column that is looked at, and the row that is chosen. */
  mark(column, row) {
    const before = this.#at;
    this.#at = { row, column };
    if (!this.#pointing) this.#reveal(row !== before.row);
    this.draw();
  }

  draw() {
    if (this.#queued) return;
    this.#queued = true;
    requestAnimationFrame(() => {
      this.#queued = false;
      if (this.#data && this.#canvas.width > 0) this.#paint();
    });
  }

  #layOut() {
    const seen = this.#scroll.clientWidth;
    if (!this.#data || seen === 0) return;
    const { columns, rows, least } = this.#data;
    const width = Math.max(least.width, Math.min(2 * least.width, Math.floor(seen / Math.max(1, columns))));
    this.#cell = { width, height: least.height };
    const height = HEAD + rows.length * least.height;
    const ratio = window.devicePixelRatio;
    this.#space.style.width = `${columns * width}px`;
    this.#space.style.height = this.#canvas.style.height = `${height}px`;
    this.#canvas.style.width = `${Math.min(seen, columns * width)}px`;
    this.#canvas.width = Math.round(Math.min(seen, columns * width) * ratio);
    this.#canvas.height = Math.round(height * ratio);
    for (const name of this.#names.children) name.style.height = `${least.height}px`;
    this.draw();
  }

  #paint() {
    const { columns, rows } = this.#data;
    const { width, height } = this.#cell;
    const left = this.#scroll.scrollLeft;
    const first = Math.floor(left / width);
    const count = Math.min(columns - first, Math.ceil(this.#canvas.clientWidth / width) + 1);
    const context = this.#canvas.getContext("2d");
    const ratio = window.devicePixelRatio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    context.imageSmoothingEnabled = false;
    if (count > 0 && rows.length > 0)
      context.drawImage(this.#image(first, count), first * width - left, HEAD, count * width, rows.length * height);
    this.#paintHeads(context, first, count, left);
    this.#paintMarks(context, left);
  }

  /* A pixel per cell. */
  #image(first, count) {
    const { rows } = this.#data;
    const image = new ImageData(count, rows.length);
    let at = 0;
    for (const { scale, limit, value } of rows) {
      const colours = (this.#colours[scale] ??= coloursOf(scale));
      for (let i = 0; i < count; i++) {
        const [r, g, b] = colours[step(scale, value(first + i), limit)];
        image.data[at++] = r;
        image.data[at++] = g;
        image.data[at++] = b;
        image.data[at++] = 255;
      }
    }
    const canvas = new OffscreenCanvas(count, rows.length);
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  #paintHeads(context, first, count, left) {
    const { width } = this.#cell;
    const style = getComputedStyle(this.#scroll);
    context.font = `${Math.min(13, width + 1)}px ui-monospace, monospace`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let i = first; i < first + count; i++) {
      const at = i === this.#at.column;
      context.fillStyle = at ? style.getPropertyValue("--accent") : style.getPropertyValue("--ink");
      context.fillText(this.#data.heads[i], (i + 0.5) * width - left, HEAD / 2, width);
    }
  }

  #paintMarks(context, left) {
    const { width, height } = this.#cell;
    const { row, column } = this.#at;
    const { rows, columns } = this.#data;
    context.strokeStyle = getComputedStyle(this.#scroll).getPropertyValue("--ink");
    context.lineWidth = 1.5;
    context.strokeRect(column * width - left + 0.5, 1, width - 1, HEAD + rows.length * height - 2);
    if (row >= 0)
      context.strokeRect(-left - 2, HEAD + row * height - 0.5, columns * width + 4, Math.max(3, height + 1));
  }

  #cellAt(event) {
    const rect = this.#canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - rect.left + this.#scroll.scrollLeft) / this.#cell.width);
    const row = Math.floor((event.clientY - rect.top - HEAD) / this.#cell.height);
    if (!this.#data || column < 0 || column >= this.#data.columns || row >= this.#data.rows.length) return null;
    return { column, row: Math.max(0, row) };
  }

  #listen() {
    const scroll = this.#scroll;
    scroll.addEventListener("scroll", () => this.draw());
    this.#canvas.addEventListener("pointermove", (event) => {
      const cell = event.pointerType === "touch" ? null : this.#cellAt(event);
      if (cell) this.#still(() => this.point(cell.row, cell.column, false));
    });
    this.#canvas.addEventListener("pointerleave", () => this.#still(() => this.point(null, null, false)));
    this.#canvas.addEventListener("click", (event) => {
      const cell = this.#cellAt(event);
      if (cell) this.#still(() => this.choose(cell.row, cell.column));
    });
    scroll.addEventListener("keydown", (event) => this.#press(event));
  }

  #still(work) {
    this.#pointing = true;
    work();
    this.#pointing = false;
  }

  #press(event) {
    if (!this.#data || event.ctrlKey || event.metaKey || event.altKey) return;
    const { columns, rows } = this.#data;
    const moves = {
      ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0],
      Home: [0, -columns], End: [0, columns], PageDown: [10, 0], PageUp: [-10, 0],
    };
    const { row, column } = this.#at;
    if (event.key === "Enter" || event.key === " ") this.choose(row, column);
    else if (moves[event.key]) {
      const bound = (value, count) => Math.max(0, Math.min(count - 1, value));
      const [down, right] = moves[event.key];
      this.#at = { row: bound(row + down, rows.length), column: bound(column + right, columns) };
      this.#reveal(true);
      this.draw();
      this.point(this.#at.row, this.#at.column, true);
    } else return;
    event.preventDefault();
  }

  /* Scrolls the map to the column, and to the row. */
  #reveal(toRow) {
    const { width, height } = this.#cell;
    const scroll = this.#scroll;
    const left = this.#at.column * width;
    if (left < scroll.scrollLeft || left + width > scroll.scrollLeft + scroll.clientWidth)
      scroll.scrollLeft = left - scroll.clientWidth / 2;
    if (!toRow) return;
    const top = HEAD + this.#at.row * height;
    if (top < scroll.scrollTop || top + height > scroll.scrollTop + scroll.clientHeight)
      scroll.scrollTop = top - scroll.clientHeight / 2;
  }
}
