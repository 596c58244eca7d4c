/* Beginnings that fit the model: it writes some itself, and their first words are offered. */
import { chosen, withToken } from "./daemon.js";
import { button, byId } from "./dom.js";

const known = new Map(); /* by model and the time of its weights */

/* The first words of a text, so that a model of characters goes on behind a space. */
function beginningOf(text, level) {
  const line = text.trimStart().split("\n")[0];
  const words = line.match(/^\S+(?:\s+\S+)?(?=\s)/)?.[0];
  if (!words || words.length > 30) return line.slice(0, 12);
  return level === "word" ? words : `${words} `;
}

/* One after the other: four texts at once may be more than this daemon allows. */
async function ask({ name, token_level }) {
  const length = token_level === "word" ? 6 : 48;
  const all = new Set();
  for (let seed = 1; seed <= 4; seed++) {
    const body = { model: name, length, temperature: 0.6, seed };
    const { completion } = await withToken((lstmd) => lstmd.generate(body), { ask: false });
    all.add(beginningOf(completion, token_level));
  }
  return [...all].filter((text) => text.trim() !== "");
}

/* Texts to begin with; none where the daemon does not answer. */
function examplesOf(model) {
  const key = `${model.name} ${model.modified_at}`;
  if (!known.has(key)) known.set(key, ask(model).catch(() => (known.delete(key), [])));
  return known.get(key);
}

/* Buttons that begin a text: begin(text, label). */
export async function showExamples(begin) {
  const { model } = chosen;
  if (!model) return (byId("examples").hidden = true);
  const texts = await examplesOf(model);
  if (model.name !== chosen.model?.name) return;
  const labels = (model.labels ?? []).slice(0, 8);
  byId("examples").replaceChildren(
    "Begin with",
    ...labels.map((label) => button(label, () => begin("", label), { title: `A text with the label ${label}` })),
    ...texts.map((text) => button(text.trim(), () => begin(text))),
  );
  byId("examples").hidden = labels.length + texts.length === 0;
}
