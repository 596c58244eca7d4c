/* The text to train on: dropped, chosen, pasted, or one that the daemon has already. It goes to the daemon as a dataset,
 * and the daemon's description of it is the preview. A text that is replaced before a training uses it is deleted. */
import { call, daemon, withToken } from "./daemon.js";
import { byId, clearFailure, fact, make, showFailure } from "./dom.js";

const KEY = "train.text"; /* of this tab: a reload keeps the preview */
const EXCERPT = 600; /* characters */
const FORMATS = {
  text: "one running text",
  lines: "a document per line",
  csv: "a document per row, between commas",
  tsv: "a document per row, between tabs",
  jsonl: "a document per JSON object",
};
const READING = ["format", "columns", "label_column", "field", "csv_header", "bytes"];

/* What is shown. own: this tab chose it, and nothing has used it. there: the daemon has it; it has none that it could not
 * read. */
let draft = null; /* {name, blob, excerpt, own, there} */
let description = null; /* the daemon's */
let uploading = null; /* AbortController */
let all = [];
let changed = () => {};

export function isReadingOption(name) {
  return READING.includes(name);
}

/* The dataset's description, or null. */
export function chosenText() {
  return description;
}

function count(number) {
  return number.toLocaleString();
}

function sizeText(bytes) {
  const units = ["bytes", "kB", "MB", "GB"];
  let unit = 0;
  while (bytes >= 1000 && unit < 3) {
    bytes /= 1000;
    unit++;
  }
  return `${unit > 0 && bytes < 10 ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
}

/* ---- names ---- */

function nameOf(file) {
  const plain = (file.name ?? "").normalize("NFKD").replace(/\.gz$/i, "").replace(/[^A-Za-z0-9._-]+/g, "-");
  const name = plain.replace(/^[^A-Za-z0-9_]+/, "").replace(/-+(\.|$)/g, "$1");
  return name.length > 56 ? name.slice(-56).replace(/^[^A-Za-z0-9_]+/, "") : name || "text.txt";
}

function freeName(wanted) {
  const taken = (name) => all.some((dataset) => dataset.name === name) && !(draft?.own && draft.name === name);
  const [, stem, ending] = /^(.+?)(\.[^.]*)?$/.exec(wanted);
  let name = wanted;
  for (let i = 2; taken(name); i++) name = `${stem}-${i}${ending ?? ""}`;
  return name;
}

/* ---- what the text begins with ---- */

async function excerptOf(blob) {
  const bytes = new Uint8Array(await blob.slice(0, 4 * EXCERPT).arrayBuffer());
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) return ""; /* gzip */
  const encoding = bytes[0] === 0xff && bytes[1] === 0xfe ? "utf-16le" : bytes[0] === 0xfe && bytes[1] === 0xff ? "utf-16be" : "utf-8";
  const text = new TextDecoder(encoding).decode(bytes, { stream: true });
  return [...text].slice(0, EXCERPT).join("");
}

/* Several files become one text, in the order of their names. */
function join(files) {
  if (files.length === 1) return files[0];
  const sorted = [...files].sort((a, b) => a.name.localeCompare(b.name));
  if (sorted.some(({ name }) => /\.(csv|tsv|jsonl|ndjson|json|gz)$/i.test(name)))
    throw new Error("Several files can only be plain texts. Drop a table, JSON or packed file alone.");
  return new File(sorted.flatMap((file, i) => (i > 0 ? ["\n", file] : [file])), sorted[0].name);
}

/* ---- to the daemon and back ---- */

function reading() {
  const query = new URLSearchParams();
  for (const name of READING) {
    const value = byId(`train-${name}`).value;
    if (value) query.set(name, value);
  }
  return query;
}

function showUploading(shown) {
  byId("train-uploading").hidden = !shown;
  byId("train-drop").classList.toggle("busy", shown);
}

async function upload({ name, blob }) {
  uploading = new AbortController();
  showUploading(true);
  try {
    const options = { method: "PUT", headers: { "Content-Type": "text/plain" }, signal: uploading.signal };
    return await call(`datasets/${name}?${reading()}`, blob, options);
  } finally {
    uploading = null;
    showUploading(false);
  }
}

/* Does work, and says what went wrong with the text beside it. */
async function attempt(work) {
  clearFailure(byId("train-text-problem"), byId("train-form"));
  try {
    await work();
  } catch (error) {
    if (error.name !== "AbortError") showFailure(byId("train-text-problem"), error, byId("train-form"));
  }
}

async function forget(name) {
  await call(`datasets/${name}`, undefined, { method: "DELETE" });
}

function remember() {
  if (draft?.own && draft.there) sessionStorage.setItem(KEY, JSON.stringify({ name: draft.name, excerpt: draft.excerpt }));
  else sessionStorage.removeItem(KEY);
}

/* Sends the text that is shown. If the daemon cannot read it, the fields that say how to read it are opened. */
async function send() {
  description = null;
  try {
    description = await upload(draft);
    draft.there = true;
  } catch (error) {
    byId("train-reading-box").open = error.status === 422;
    throw error;
  } finally {
    await shown();
  }
  byId("train-preview-title").focus();
}

/* Takes files or a pasted text. */
function take(files) {
  if (uploading || files.length === 0) return;
  return attempt(async () => {
    const file = join(files);
    if (file.size === 0) throw new Error(`${file.name} is empty.`);
    await listTexts({ ask: true });
    for (const name of READING) byId(`train-${name}`).value = "";
    byId("train-reading-box").open = false;
    const old = draft;
    draft = { name: freeName(nameOf(file)), blob: file, excerpt: await excerptOf(file), own: true, there: false };
    if (old?.own && old.there && old.name !== draft.name) await forget(old.name).catch(() => {});
    await send();
  });
}

function discard() {
  return attempt(async () => {
    if (draft.there) await forget(draft.name);
    draft = description = null;
    await shown();
    byId("train-file").focus();
  });
}

function choose(name) {
  if (name === (draft?.there ? draft.name : "")) return;
  return attempt(async () => {
    draft = name ? { name, blob: null, excerpt: "", own: false, there: true } : null;
    description = null;
    if (name) description = await call(`datasets/${name}`);
    await shown();
  });
}

/* ---- the preview ---- */

async function shown() {
  remember();
  await listTexts({ ask: false }).catch(() => {});
  showPreview();
  changed();
}

function showPreview() {
  byId("train-preview").hidden = !draft;
  if (!draft) return;
  byId("train-preview-title").textContent = draft.name;
  byId("train-excerpt").textContent = draft.excerpt;
  byId("train-excerpt").hidden = !draft.excerpt;
  byId("train-read-again").disabled = !draft.blob;
  byId("train-reading-hint").textContent = draft.blob
    ? "The daemon reads the file again with these."
    : "Drop the file again to read it differently: the page does not have it any more.";
  for (const id of ["preview-facts", "split-box", "alphabet-box"]) byId(`train-${id}`).hidden = !description;
  if (description) showDescription(description);
}

function showDescription({ size, format, documents, characters, alphabet_size, alphabet, labels, encoding, bytes, users }) {
  const unit = bytes ? "bytes" : "characters";
  byId("train-preview-facts").replaceChildren(
    fact("Read as", FORMATS[format] ?? format),
    fact("Size", sizeText(size) + (encoding ? `, unpacked from ${encoding}` : "")),
    fact("Documents", count(documents)),
    fact(bytes ? "Bytes" : "Characters", count(characters)),
    fact("Alphabet", `${count(alphabet_size)} different ${unit}`),
    ...(labels > 0 ? [fact("Labels", count(labels))] : []),
  );
  byId("train-alphabet-title").textContent = `Its ${count(alphabet_size)} ${unit}${alphabet_size > 256 ? ", the first 256" : ""}`;
  byId("train-alphabet").replaceChildren(...[...(alphabet ?? "")].map((letter) => make("span", {}, nameOfLetter(letter))));
  byId("train-alphabet-box").hidden = !alphabet;
  byId("train-discard").disabled = users > 0;
  byId("train-discard").title = users > 0 ? "A training uses it." : "";
}

function nameOfLetter(letter) {
  const names = { " ": "space", "\n": "line end", "\t": "tab", "\r": "carriage return", "\u00a0": "no-break space", "\ufeff": "byte order mark" };
  return names[letter] ?? letter;
}

/* part: of the text, that the training checks itself with. */
export function showSplit(part) {
  if (!description) return;
  const whole = description.documents > 1 ? description.documents : description.characters;
  const unit = description.documents > 1 ? "documents" : description.bytes ? "bytes" : "characters";
  const check = Math.round(whole * part);
  byId("train-split-learn").style.flexGrow = whole - check;
  byId("train-split-check").style.flexGrow = check;
  byId("train-split-text").textContent =
    part > 0
      ? `It learns from about ${count(whole - check)} ${unit} (${Math.round(100 - part * 100)} %) and is checked with about ${count(check)} (${Math.round(part * 100)} %).`
      : `It learns from all ${count(whole)} ${unit}, and nothing checks it.`;
}

/* ---- the texts that the daemon has ---- */

export async function listTexts(options) {
  ({ datasets: all } = await withToken(() => daemon.call("datasets"), options));
  const select = byId("train-dataset");
  const items = all.map(({ name, size }) => new Option(`${name} (${sizeText(size)})`, name, false, draft?.there && name === draft.name));
  select.replaceChildren(new Option("none chosen", "", false, !draft?.there), ...items);
  byId("train-known").hidden = all.length === 0;
}

/* A training uses it now: it stays. */
export function keepText() {
  if (draft) draft.own = false;
  remember();
}

/* After a reload: the text that this tab had. */
export async function restoreText() {
  const saved = JSON.parse(sessionStorage.getItem(KEY));
  if (!saved || draft) return;
  try {
    description = await call(`datasets/${saved.name}`, undefined, { ask: false });
    draft = { ...saved, blob: null, own: true, there: true };
  } catch (error) {
    if (error.status === 404) sessionStorage.removeItem(KEY);
    return;
  }
  await shown();
}

/* ---- gestures ---- */

function mountDrop() {
  const form = byId("train-form");
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  for (const type of ["dragenter", "dragover"])
    form.addEventListener(type, (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      byId("train-drop").classList.add("over");
    });
  form.addEventListener("dragleave", (event) => {
    if (!form.contains(event.relatedTarget)) byId("train-drop").classList.remove("over");
  });
  form.addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    byId("train-drop").classList.remove("over");
    take([...event.dataTransfer.files]);
  });
}

function pasted(text) {
  return text ? [new File([text], "pasted.txt")] : [];
}

function mountPaste() {
  const opener = byId("train-paste-open");
  opener.addEventListener("click", () => {
    const open = byId("train-paste").hidden;
    byId("train-paste").hidden = !open;
    opener.setAttribute("aria-expanded", String(open));
    if (open) byId("train-paste-text").focus();
  });
  byId("train-paste-use").addEventListener("click", () => take(pasted(byId("train-paste-text").value)));
}

/* tell() hears of another text. */
export function mountText(tell) {
  changed = tell;
  byId("train-file").addEventListener("change", async ({ target }) => {
    await take([...target.files]);
    target.value = "";
  });
  byId("train-dataset").addEventListener("change", ({ target }) => choose(target.value));
  byId("train-read-again").addEventListener("click", () => attempt(send));
  byId("train-discard").addEventListener("click", discard);
  byId("train-upload-stop").addEventListener("click", () => uploading?.abort());
  mountDrop();
  mountPaste();
}
