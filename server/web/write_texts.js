/* What this tab remembers: the texts that were written, and the one that is being edited. A bounded part of
 * sessionStorage; another tab sees nothing of it. */
import { button, byId, make } from "./dom.js";

const TEXTS = "write.texts";
const DRAFT = "write.draft";
const MOST = 30;
const CHARACTERS = 300000; /* of all texts */
const LONGEST = 100000; /* of one text: a longer one loses its beginning */

function read(key, fallback) {
  try {
    return JSON.parse(sessionStorage.getItem(key)) ?? fallback;
  } catch {
    return fallback;
  }
}

function write(key, value) {
  try {
    sessionStorage.setItem(key, JSON.stringify(value));
  } catch {
    sessionStorage.removeItem(key); /* full: the page works without it */
  }
}

function shortened(text, marks) {
  const cut = Math.max(0, text.length - LONGEST);
  const kept = marks.map(([start, end]) => [Math.max(0, start - cut), end - cut]).filter(([, end]) => end > 0);
  return { text: text.slice(cut), marks: kept };
}

/* The newest first: {text, marks, link, model, at}. */
function pastTexts() {
  return read(TEXTS, []);
}

export function rememberText({ text, marks, ...facts }) {
  const all = [{ ...shortened(text, marks), ...facts }, ...pastTexts()].slice(0, MOST);
  let left = CHARACTERS;
  write(
    TEXTS,
    all.filter((one) => (left -= one.text.length) >= 0),
  );
}

export function forgetTexts() {
  sessionStorage.removeItem(TEXTS);
}

/* {text, marks, address, form}, or null. */
export function draft() {
  return read(DRAFT, null);
}

export function keepDraft({ text, marks, ...rest }) {
  write(DRAFT, { ...shortened(text, marks), ...rest });
}

/* The list in the page; reopen(one) puts a text back. */
export function showTexts(reopen) {
  const past = pastTexts();
  byId("texts").replaceChildren(
    ...past.map((one) => {
      const about = `${one.model} · ${new Date(one.at).toLocaleTimeString()} · ${one.text.length.toLocaleString()} characters`;
      const open = button("", () => reopen(one));
      open.append(make("span", { dir: "auto" }, one.text.slice(0, 200)), make("span", { className: "hint" }, about));
      return make("li", {}, open);
    }),
  );
  byId("texts-none").hidden = past.length > 0;
  byId("texts-forget").hidden = past.length === 0;
}
