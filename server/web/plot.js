/* Charts, by dygraphs: lines over a number or a time. The library is loaded when the first chart is made. */
import { make } from "./dom.js";

let library = null;

function load() {
  library ??= new Promise((resolve, reject) => {
    const base = new URL(".", import.meta.url);
    document.head.append(
      make("link", { rel: "stylesheet", href: new URL("dygraph.min.css", base).href }),
      make("script", { src: new URL("dygraph.min.js", base).href, onload: resolve, onerror: reject }),
    );
  });
  return library;
}

const plots = new Set();

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return { colors: [1, 2, 3, 4, 5, 6].map((i) => of(`--plot-${i}`)), gridLineColor: of("--line"), axisLineColor: of("--line") };
}

/* What stands beside the pointer: nodes, since dygraphs' own text has style attributes, which the page's policy forbids. */
function legendOf({ dygraph, x, xHTML, series }) {
  const legend = document.createDocumentFragment();
  if (x === undefined) return legend;
  legend.append(`${xHTML}:`);
  for (const { isVisible, y, yHTML, color, label } of series) {
    if (!isVisible || (!y && !yHTML)) continue;
    const name = make("b", {}, label);
    name.style.color = color;
    legend.append(dygraph.getOption("labelsSeparateLines") ? make("br") : "", " ", name, `: ${yHTML}`);
  }
  return legend;
}

/* dygraphs takes the text at an axis for markup. It may be a model's. */
function escaped(text) {
  return String(text).replace(/[&<>]/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

function withSafeLabels(axes = {}) {
  const safe = ({ axisLabelFormatter: format, ...axis }) =>
    format ? { ...axis, axisLabelFormatter: (...values) => escaped(format(...values)) } : axis;
  return Object.fromEntries(Object.entries(axes).map(([name, axis]) => [name, safe(axis)]));
}

/* Draws rows [[x, y1, y2], ...] in the box; options are those of dygraphs (labels, title, logscale, rollPeriod, ylabel).
 * Returns a Dygraph: update it by updateOptions({file: rows}). The box needs a height by its style, and an aria-label or a
 * table beside it, as a canvas says nothing. */
export async function plot(box, rows, options) {
  await load();
  const drawn = new Dygraph(box, rows, { ...colours(), strokeWidth: 2, legend: "follow", legendFormatter: legendOf, connectSeparatedPoints: true, ...options, axes: withSafeLabels(options.axes) });
  plots.add(drawn);
  new ResizeObserver(() => box.offsetWidth > 0 && drawn.resize()).observe(box);
  return drawn;
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const drawn of plots) drawn.updateOptions(colours());
});
