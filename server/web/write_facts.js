/* What is said of a run: its figures while it goes and at its end, and warnings. */
import { byId, fact, make } from "./dom.js";

export const reasons = {
  length: "length reached",
  eos: "end of text",
  stop: "stop text",
  pattern: "pattern complete",
};

/* [name, value] of each. */
function factsOf(figures, event, seed) {
  const speed = event?.timings.tokens_per_second ?? figures.tokensPerSecond;
  return [
    ...(event ? [["Ended by", reasons[event.finish_reason] ?? event.finish_reason]] : []),
    ["Tokens", (event?.usage.completion_tokens ?? figures.tokens).toLocaleString()],
    ["Tokens/s", Math.round(speed).toLocaleString()],
    ...(figures.first === null ? [] : [["First token after", `${Math.round(figures.first).toLocaleString()} ms`]]),
    ...(seed === null ? [] : [["Seed", String(seed)]]),
  ];
}

/* Between two looks at a run only the values change, in place. */
export function showFigures(figures, event = null, seed = null) {
  const facts = factsOf(figures, event, seed);
  const values = byId("facts").querySelectorAll("dd");
  if (values.length === facts.length && !event) facts.forEach(([, value], i) => (values[i].firstChild.data = value));
  else byId("facts").replaceChildren(...facts.map(([name, value]) => fact(name, value)));
  byId("facts").hidden = false;
}

export function showWarnings(warnings) {
  byId("warnings").replaceChildren(...warnings.map((text) => make("li", {}, text)));
  byId("warnings").hidden = warnings.length === 0;
}

/* What the page says where the model reads less than the text. */
export function shortening({ length }, { prompt }) {
  const read = prompt.length;
  return read < length ? [`The model has read the last ${read.toLocaleString()} characters of the text.`] : [];
}

/* What the page says where a run adds nothing, as after a text that the model takes for complete. */
export function emptiness(before, after, end) {
  return before === after && end.finish_reason === "eos" ? ["The model takes this text for complete and adds nothing. Try again, or change its end."] : [];
}
