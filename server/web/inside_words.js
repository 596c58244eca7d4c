/* Tokens and numbers in words: as they are shown, and as a screen reader says them. */
import { make } from "./dom.js";

/* What has no glyph, or one that is not seen. A line ends after its sign. */
const shown = { "\n": "⏎\n", "\r": "␍", "\t": "⇥\t", "": "∅" };
const named = {
  "\n": "line end", "\r": "carriage return", "\t": "tab", " ": "space", "\u00a0": "no-break space", "": "nothing",
  "<eos>": "end of the text", "\ufffd": "part of a character", ".": "full stop", ",": "comma", "'": "apostrophe", '"': "quotation mark", "-": "hyphen",
  "(": "open bracket", ")": "close bracket", ":": "colon", ";": "semicolon", "!": "exclamation mark", "?": "question mark",
};

function hex(text) {
  return text.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
}

/* Controls have no glyph; joiners act on their neighbours, and stay as they are. */
function isUnseen(text) {
  return /^[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]$/u.test(text) && !/[\u200c\u200d]/.test(text);
}

function isControl(text) {
  return /^[\0-\x1f\x7f]$/.test(text);
}

/* For a text that is read on: a space stays one. */
export function inText(text) {
  if (shown[text]) return shown[text];
  if (isControl(text)) return String.fromCodePoint(text === "\x7f" ? 0x2421 : 0x2400 + text.charCodeAt(0));
  return isUnseen(text) ? `‹${hex(text)}›` : text;
}

/* For a token that stands alone. */
export function alone(text) {
  if (text === " ") return "␣";
  const glyph = inText(text).trimEnd();
  return /^\p{M}/u.test(glyph) ? `◌${glyph}` : glyph || `‹${hex(text)}›`;
}

/* For a screen reader, which often leaves signs out. */
export function spoken(text) {
  if (named[text]) return named[text];
  if (isUnseen(text) || /^\s+$/.test(text)) return `U+${hex(text)}`;
  return /^\p{Lu}$/u.test(text) ? `capital ${text}` : text;
}

/* For a screen reader alone. */
export function heard(text) {
  return make("span", { className: "heard" }, text);
}

export function percent(p) {
  if (p >= 0.9995) return "100 %";
  return `${(100 * p).toFixed(p >= 0.0995 ? 0 : p >= 0.00995 ? 1 : 2)} %`;
}

/* "1 in 37" */
export function oneIn(p) {
  const n = 1 / p;
  return p > 0.67 ? "" : `, 1 in ${n < 10 ? n.toFixed(1) : Math.round(n).toLocaleString("en")}`;
}

export function signed(value, digits = 2) {
  const text = Math.abs(value).toFixed(digits);
  return (value < 0 && Number(text) !== 0 ? "−" : "+") + text;
}

export function bits(nats) {
  return nats / Math.LN2;
}
