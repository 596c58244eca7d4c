/* A model in words, as the daemon describes it. */
import { fact, make } from "./dom.js";
import { bytes, count } from "./status_words.js";

const tokens = { char: "characters", word: "words", byte: "bytes" };
const cells = { lstm: "LSTM", gru: "GRU", rnn: "simple RNN" };

function badge(text, kind = "") {
  return make("span", { className: `badge ${kind}` }, text);
}

export function badgesOf(model, used) {
  const badges = [];
  if (model.default) badges.push(badge("default", "strong"));
  if (used?.name === model.name) badges.push(badge("used here", "strong"));
  if (model.state !== "loaded") badges.push(badge(model.state === "loading" ? "is being loaded" : "not loaded"));
  return badges;
}

export function networkOf(model) {
  const { cell, layers, hidden_size, hidden_sizes, embedding_size, dense = [], window, error } = model;
  if (!cell) return error ?? "Its files cannot be read.";
  const sizes = hidden_sizes?.join(" + ") ?? hidden_size;
  const parts = [`${cells[cell] ?? cell}, ${layers} ${layers === 1 ? "layer" : "layers"} of ${sizes} units`];
  if (embedding_size > 0) parts.push(`embedding of ${embedding_size}`);
  for (const { size, activation } of dense) parts.push(`dense layer of ${size} (${activation})`);
  if (window) parts.push(`sees the last ${window.size} tokens alone`);
  return `${parts.join(", ")}. ${error ?? ""}`;
}

/* Nats per character, and bits. */
function lossOf(nats) {
  return nats === null || nats === undefined ? null : `${nats.toFixed(3)} (${(nats / Math.LN2).toFixed(2)} bits)`;
}

/* A link to the job that made it, a corpus, or the program that wrote it. */
function originOf({ job, dataset }, whole) {
  const imported = whole?.training?.imported;
  if (job) return fact("made by", make("a", { href: `#train?job=${encodeURIComponent(job)}` }, job));
  if (dataset) return fact("trained on", dataset);
  return imported ? fact("imported from", imported.format) : fact("made by", "not known");
}

export function factsOf(model, whole) {
  if (!model.cell) return [];
  const { parameters, vocabulary_size, token_level, weights, size_bytes, modified_at, labels } = model;
  const validation = lossOf(model.validation_nats_per_character);
  const training = lossOf(model.train_nats_per_character);
  return [
    fact("parameters", count(parameters)),
    fact("alphabet", `${count(vocabulary_size)} ${tokens[token_level] ?? "tokens"}`),
    ...(validation ? [fact("loss, nats a character", validation)] : []),
    ...(training ? [fact("loss, training text", training)] : []),
    ...(validation || training ? [] : [fact("loss", "not known")]),
    originOf(model, whole),
    ...(model.job && model.dataset ? [fact("trained on", model.dataset)] : []),
    fact("date", new Date(modified_at).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" })),
    fact("files", `${bytes(size_bytes)}${weights && weights !== "f32" ? `, ${weights}` : ""}`),
    ...(labels.length > 0 ? [fact("labels", labels.join(", "))] : []),
  ];
}

function table(caption, heads, rows) {
  return make(
    "table",
    {},
    make("caption", {}, caption),
    make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, ...rows.map(([name, ...cells]) => make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((cell) => make("td", {}, cell))))),
  );
}

/* Numbers and words of an object, by their names. */
function plainFacts(object) {
  const plain = Object.entries(object ?? {}).filter(([, value]) => value !== null && typeof value !== "object");
  return plain.map(([name, value]) => [name.replaceAll("_", " "), String(value)]);
}

/* What GET /models/{name} says beyond the list. */
export function detailsOf({ training, tensors }) {
  const parts = [];
  const notes = training?.imported?.notes ?? [];
  if (notes.length > 0) parts.push(make("ul", {}, ...notes.map((note) => make("li", {}, note))));
  const rows = [...plainFacts(training), ...plainFacts(training?.options)];
  if (rows.length > 0) parts.push(table("How it was trained", ["", "value"], rows));
  const shapes = (tensors ?? []).map(({ name, shape, parameters }) => [name, shape.join(" × "), count(parameters)]);
  parts.push(table("Its tensors", ["name", "shape", "parameters"], shapes));
  return [make("div", { className: "models-scroll", tabIndex: 0, role: "group", "aria-label": "Training and tensors" }, ...parts)];
}
