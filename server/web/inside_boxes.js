/* A text as a row of boxes, one per token: coloured, pointed at, and gone through by keys. One tab stop. */
import { make } from "./dom.js";

const PER_FRAME = 1000;

function frame() {
  return new Promise((resolve) => {
    if (document.hidden) setTimeout(resolve);
    else requestAnimationFrame(() => setTimeout(resolve));
  });
}

/* That of the first letter. (dir=auto looks again at each box that is added.) */
function directionOf(texts) {
  const first = texts.find((text) => /\p{L}/u.test(text)) ?? "";
  return /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/.test(first) ? "rtl" : "ltr";
}

export class Boxes {
  #box;
  #cursor;
  #open;
  #items = [];
  #at = null; /* the box with the mark */
  #stop = null; /* the box that Tab reaches */
  #filling = 0;

  /* open(): Enter was pressed, or a box was clicked twice. */
  constructor(box, cursor, label, open) {
    this.#box = box;
    this.#cursor = cursor;
    this.#open = open;
    box.setAttribute("role", "listbox");
    box.setAttribute("aria-orientation", "horizontal");
    box.setAttribute("aria-label", label);
    box.addEventListener("pointerover", (event) => {
      if (event.pointerType !== "touch") this.#cursor.peek(this.#indexOf(event.target));
    });
    box.addEventListener("pointerleave", () => this.#cursor.peek(null));
    box.addEventListener("click", (event) => this.#pick(this.#indexOf(event.target)));
    box.addEventListener("keydown", (event) => this.#press(event));
    cursor.addEventListener("move", () => this.#mark());
  }

  /* texts: what each box shows; between: what stands between two of them. */
  async fill(texts, between) {
    const turn = ++this.#filling;
    const direction = directionOf(texts);
    const items = [];
    for (let from = 0; from < texts.length; from += PER_FRAME) {
      if (from > 0) await frame();
      if (turn !== this.#filling) return;
      const part = document.createDocumentFragment();
      for (const text of texts.slice(from, from + PER_FRAME)) {
        const item = make("span", { role: "option", tabIndex: -1 }, text);
        item.index = items.length;
        if (between && items.length > 0) part.append(between);
        part.append(item);
        items.push(item);
      }
      if (from === 0) this.#box.replaceChildren();
      this.#box.dir = direction;
      this.#box.append(part);
    }
    this.#items = items;
    this.#at = this.#stop = null;
    this.#mark();
  }

  /* The class and the spoken text of each box. */
  paint(classOf, labelOf) {
    this.#items.forEach((item, i) => {
      item.className = classOf(i);
      item.setAttribute("aria-label", labelOf(i));
    });
    this.#at?.classList.add("at");
  }

  focus() {
    this.#stop?.focus();
  }

  #indexOf(element) {
    return element.closest("[role=option]")?.index ?? null;
  }

  #pick(index) {
    if (index === null) return;
    this.#cursor.pin(index);
    this.focus();
  }

  #mark() {
    const at = this.#items[this.#cursor.at];
    const stop = this.#items[this.#cursor.pinned];
    if (this.#at !== at) {
      this.#at?.classList.remove("at");
      at?.classList.add("at");
      this.#at = at;
    }
    if (this.#stop === stop) return;
    this.#stop?.setAttribute("aria-selected", "false");
    if (this.#stop) this.#stop.tabIndex = -1;
    this.#stop = stop;
    if (!stop) return;
    stop.tabIndex = 0;
    stop.setAttribute("aria-selected", "true");
    this.#reveal(stop);
  }

  /* Scrolls the text, and not the page. */
  #reveal(item) {
    const box = this.#box;
    if (box.scrollHeight <= box.clientHeight) return;
    const inner = box.getBoundingClientRect();
    const rect = item.getBoundingClientRect();
    if (rect.top < inner.top) box.scrollTop -= inner.top - rect.top + 8;
    if (rect.bottom > inner.bottom) box.scrollTop += rect.bottom - inner.bottom + 8;
  }

  #press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const index = this.#indexOf(event.target);
    if (index === null) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.#cursor.pin(index);
      this.#open();
      return;
    }
    const to = this.#target(event.key, index);
    if (to === null) return;
    event.preventDefault();
    this.#pick(Math.max(0, Math.min(this.#items.length - 1, to)));
  }

  #target(key, index) {
    const forward = getComputedStyle(this.#box).direction === "rtl" ? "ArrowLeft" : "ArrowRight";
    if (key === "ArrowRight" || key === "ArrowLeft") return index + (key === forward ? 1 : -1);
    if (key === "Home") return 0;
    if (key === "End") return this.#items.length - 1;
    if (key === "ArrowDown") return this.#inNextLine(index, 1);
    if (key === "ArrowUp") return this.#inNextLine(index, -1);
    return null;
  }

  /* The box above or below. */
  #inNextLine(index, direction) {
    const rectOf = (i) => this.#items[i].getClientRects()[0] ?? this.#items[i].getBoundingClientRect();
    const { left, top } = rectOf(index);
    let line = null;
    let best = index;
    let distance = Infinity;
    for (let i = index + direction; this.#items[i]; i += direction) {
      const rect = rectOf(i);
      if (Math.abs(rect.top - top) < 4) continue;
      line ??= rect.top;
      if (Math.abs(rect.top - line) >= 4) break;
      if (Math.abs(rect.left - left) >= distance) continue;
      distance = Math.abs(rect.left - left);
      best = i;
    }
    return best;
  }
}

/* Makes a row of buttons one tab stop: the arrow keys go from one to the next. */
export function rove(box) {
  const buttons = () => [...box.querySelectorAll("button")];
  const stopAt = (chosen) => buttons().forEach((one) => (one.tabIndex = one === chosen ? 0 : -1));
  if (!box.contains(document.activeElement)) stopAt(box.querySelector("[aria-pressed=true]") ?? buttons()[0]);
  if (box.roves) return;
  box.roves = true;
  box.addEventListener("focusin", (event) => stopAt(event.target.closest("button")));
  box.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };
    const by = steps[event.key];
    if (by === undefined) return;
    event.preventDefault();
    const all = buttons();
    const to = Math.max(0, Math.min(all.length - 1, all.indexOf(document.activeElement) + by));
    all[to]?.focus();
  });
}
