/* Beginnings that fit the model: it writes some itself, and their first words are offered. */
import { withToken } from "./daemon.js";

const known = new Map(); /* by model and the time of its weights */

/* The first words of a text, so that a model of characters goes on behind a space. */
function beginningOf(text, level) {
  const line = text.trimStart().split("\n")[0];
  const words = line.match(/^\S+(?:\s+\S+)?(?=\s)/)?.[0];
  if (!words || words.length > 30) return line.slice(0, 12);
  return level === "word" ? words : `${words} `;
}

async function ask({ name, token_level }) {
  const length = token_level === "word" ? 6 : 48;
  const body = { model: name, length, n: 4, temperature: 0.6, seed: 1 };
  const answer = await withToken((lstmd) => lstmd.generate(body), { ask: false });
  const all = (answer.choices ?? [answer]).map(({ completion }) => beginningOf(completion, token_level));
  return [...new Set(all)].filter((text) => text.trim() !== "");
}

/* Texts to begin with; none where the daemon does not answer. */
export function examplesOf(model) {
  const key = `${model.name} ${model.modified_at}`;
  if (!known.has(key)) known.set(key, ask(model).catch(() => (known.delete(key), [])));
  return known.get(key);
}
