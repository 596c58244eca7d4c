/* Colour scales: classes of inside.css for text (s: surprise, d: minus to plus, g: gates), and their colours for a canvas. */
import { make } from "./dom.js";

export const SIZES = { s: 10, d: 17, g: 11 };

/* Bits: each step is one, the last one is open. */
export function surpriseClass(bits) {
  return bits === null ? "none" : `s${Math.min(SIZES.s - 1, Math.floor(bits))}`;
}

/* The step of a value from -limit to limit (d), or from 0 to 1 (g). */
export function step(scale, value, limit = 1) {
  const last = SIZES[scale] - 1;
  const part = scale === "d" ? (value / limit + 1) / 2 : value;
  return Math.max(0, Math.min(last, Math.round(part * last)));
}

/* The colours of a scale as [r, g, b]. */
export function coloursOf(scale) {
  const style = getComputedStyle(document.documentElement);
  return Array.from({ length: SIZES[scale] }, (_, i) => {
    const hex = style.getPropertyValue(`--${scale}${i}`).trim();
    return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  });
}

/* A legend: a swatch per step, with texts below some: {step: [line, ...]}. */
export function showScale(box, scale, label, texts) {
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", label);
  box.replaceChildren(
    ...Array.from({ length: SIZES[scale] }, (_, i) => {
      const lines = (texts[i] ?? []).map((text) => make("span", { className: "scale-text" }, text));
      return make("span", { className: "scale-step" }, make("span", { className: `swatch ${scale}${i}` }), ...lines);
    }),
  );
}

/* Calls back when the colours change. */
export function onTheme(change) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", change);
}
