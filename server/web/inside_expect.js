/* The distribution that a token was drawn from, as bars, and the numbers of its place. */
import { rove } from "./inside_boxes.js";
import { alone, bits, heard, oneIn, percent, spoken } from "./inside_words.js";
import { byId, fact, make } from "./dom.js";

const BEFORE = 24; /* characters of the text that the title repeats */

/* The rows of a place: [{id, token, p, drawn}], and what the other tokens have together. */
function rowsOf(one) {
  const rows = one.top.map(({ id, token, logprob }) => ({ id, token, p: Math.exp(logprob), drawn: id === one.id }));
  const known = rows.length;
  if (one.id !== undefined && one.logprob !== null && !rows.some(({ drawn }) => drawn))
    rows.push({ id: one.id, token: one.token, p: Math.exp(one.logprob), drawn: true, unlikely: true });
  return { rows, known, rest: Math.max(0, 1 - rows.reduce((sum, { p }) => sum + p, 0)) };
}

function barOf({ token, p, drawn, unlikely }, largest) {
  const inner = make("span", { className: "fill" });
  inner.style.width = `${(100 * p) / largest}%`;
  return make(
    "button",
    { type: "button", className: unlikely ? "guess drawn unlikely" : drawn ? "guess drawn" : "guess" },
    make("span", { className: "glyph", dir: "auto", ariaHidden: "true" }, alone(token)),
    heard(`${spoken(token)}, `),
    make("span", { className: "track" }, inner),
    make("span", { className: "value" }, percent(p)),
    make("span", { className: "mark" }, drawn ? "◂ came" : ""),
  );
}

function numbersOf(one) {
  if (one.entropy === null) return [];
  const facts = [
    fact("Entropy before it", `${one.entropy.toFixed(2)} bits, like ${(2 ** one.entropy).toFixed(1)} equally likely ones`),
  ];
  if (one.id === undefined) return facts;
  const p = Math.exp(one.logprob);
  const surprise = `${one.surprise.toFixed(2)} bits, ${(-one.logprob).toFixed(2)} nats`;
  return [fact("Probability", percent(p) + oneIn(p)), fact("Surprise", surprise), ...facts];
}

export class Expected {
  #rows = [];
  #look = null;
  #index = 0;

  /* goOn(index, id): the text goes on from there. leave(): back to the text. */
  constructor(goOn, leave) {
    const box = byId("inside-bars");
    box.addEventListener("click", (event) => {
      const bar = event.target.closest("button");
      if (bar) goOn(this.#index, this.#rows[[...box.children].indexOf(bar)]);
    });
    box.addEventListener("keydown", (event) => {
      if (event.key === "Escape") leave();
    });
  }

  /* index may be the one behind the last token: what comes next. */
  show(look, index, peeked) {
    const box = byId("inside-bars");
    const inside = box.contains(document.activeElement);
    if (inside && peeked) return;
    const one = look.tokens[index] ?? look.next;
    const { rows, known, rest } = rowsOf(one);
    this.#look = look;
    this.#index = index;
    this.#rows = rows;
    const largest = Math.max(...rows.map(({ p }) => p), 1e-9);
    box.replaceChildren(...rows.map((row) => barOf(row, largest)));
    box.classList.toggle("wide", rows.some(({ token }) => token.length > 2));
    rove(box);
    if (inside) this.focus();
    this.#title(one);
    const others = look.model.vocabulary_size - rows.length;
    byId("inside-rest").textContent =
      known > 0 && others > 0 ? `The other ${others.toLocaleString("en")} tokens have ${percent(rest)} together.` : "";
    byId("inside-numbers").replaceChildren(...numbersOf(one));
  }

  #title(one) {
    const { texts, between } = this.#look;
    const before = [...texts.slice(Math.max(0, this.#index - BEFORE), this.#index).join(between) + between].slice(-BEFORE);
    const place = make("span", { className: "here" }, one.id === undefined ? "?" : this.#look.heads[this.#index]);
    byId("inside-place").replaceChildren(make("span", {}, before.join("")), place);
    if (one.entropy === null) byId("inside-place").append(" nothing precedes it, so it has no probability");
  }

  focus() {
    const box = byId("inside-bars");
    (box.querySelector(".drawn") ?? box.querySelector("button"))?.focus();
  }
}

/* A row of the comparison: bits per character as a bar. */
function comparison(name, value, largest, className) {
  const inner = make("span", { className: `fill ${className}` });
  inner.style.width = `${(100 * value) / largest}%`;
  const words = make("span", { className: "compare-name" }, name, make("b", {}, `${value.toFixed(2)} bits`));
  return make("div", { className: "compare" }, words, make("span", { className: "track" }, inner));
}

/* How well the model knows the text, against a guess that knows nothing. */
export function showScore(look) {
  const { end, model } = look;
  const per = look.kind;
  const blind = Math.log2(model.vocabulary_size);
  const own = bits(end.nats_per_token);
  const rows = [["This model needs ", own, "own"], ["A blind guess needs ", blind, "blind"]];
  const held = model.validation_nats_per_character;
  if (held !== null && per === "character") rows.splice(1, 0, ["On texts it never saw, it needs ", bits(held), "held"]);
  const largest = Math.max(...rows.map(([, value]) => value));
  byId("inside-compare").replaceChildren(
    make("p", {}, `For each ${per},`),
    ...rows.map(([name, value, className]) => comparison(name, value, largest, className)),
  );
  byId("inside-figures").replaceChildren(
    fact("Bits per character", end.bits_per_char.toFixed(3)),
    fact("Nats per character", end.nats_per_char.toFixed(3)),
    fact("Perplexity", end.perplexity.toFixed(2)),
    fact("Characters", end.characters.toLocaleString("en")),
    fact("Tokens", end.token_count.toLocaleString("en")),
  );
  const size = model.vocabulary_size.toLocaleString("en");
  byId("inside-blind").textContent = `Here it is ${end.perplexity.toFixed(1)}; a blind guess chooses among all ${size}.`;
}
