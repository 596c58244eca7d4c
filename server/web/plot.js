/* Charts, by dygraphs: lines over a number or a time. The library is loaded when the first chart is made. Its own legend
 * writes style attributes, which the page's policy forbids, so the legend is made here. */
import { make } from "./dom.js";

let library = null;

function load() {
  library ??= new Promise((resolve, reject) => {
    const base = new URL(".", import.meta.url);
    const fail = () => reject(new Error("The chart library could not be loaded."));
    document.head.append(
      make("link", { rel: "stylesheet", href: new URL("dygraph.min.css", base).href }),
      make("script", { src: new URL("dygraph.min.js", base).href, onload: resolve, onerror: fail }),
    );
  }).then(() => {
    Dygraph.PLUGINS = Dygraph.PLUGINS.filter((plugin) => plugin !== Dygraph.Plugins.Legend);
  });
  return library;
}

const plots = new Map(); /* charts, with their boxes and what they need to be drawn in other colours */

function colours(palette) {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return { colors: palette.map((i) => of(`--plot-${i}`)), gridLineColor: of("--line"), axisLineColor: of("--line") };
}

/* Four digits that count: 0.002 and not 2e-3. */
export function digits(value) {
  return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString() : String(Number(value.toPrecision(4)));
}

/* One entry per line: its colour, its name, and the value under the pointer. */
function drawLegend(legend, drawn, { x, points } = {}) {
  const formats = { x: drawn.getOptionForAxis("valueFormatter", "x"), y: drawn.getOptionForAxis("valueFormatter", "y") };
  const entries = drawn.getLabels().slice(1).map((name, i) => {
    const swatch = make("span", { className: "swatch" });
    swatch.style.background = drawn.getColors()[i];
    const point = points?.find((one) => one.name === name);
    return make("span", { className: "entry" }, swatch, point ? `${name} ${digits(point.yval)}` : name);
  });
  const at = x === undefined ? [] : [make("span", { className: "at" }, `${drawn.getLabels()[0]} ${formats.x(x, (name) => drawn.getOptionForAxis(name, "x"))}`)];
  legend.replaceChildren(...entries, ...at);
}

/* A finger scrolls the page over a chart, and a tap shows values. */
function interaction() {
  const { touchstart, touchmove, touchend, ...model } = Dygraph.defaultInteractionModel;
  return model;
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

/* Draws rows [[x, y1, y2], ...] in the box; options are those of dygraphs (labels, title, logscale, ylabel), and palette:
 * which of the six colours each line has. A legend stands below the box, unless legend is "never". Returns a Dygraph:
 * update it by updateOptions({file: rows}), and end it by unplot(). The box needs a height by its style, and an aria-label
 * or a table beside it, as a canvas says nothing. */
export async function plot(box, rows, { palette = [1, 2, 3, 4, 5, 6], ...options }) {
  await load();
  const legend = make("p", { className: "legend" });
  legend.setAttribute("aria-hidden", "true");
  const drawn = new Dygraph(box, rows, {
    ...colours(palette),
    strokeWidth: 2,
    connectSeparatedPoints: true,
    interactionModel: interaction(),
    highlightCallback: (event, x, points) => drawLegend(legend, drawn, { x, points }),
    unhighlightCallback: () => drawLegend(legend, drawn),
    ...options,
    axes: withSafeLabels(options.axes),
  });
  const sized = new ResizeObserver(() => box.offsetWidth > 0 && drawn.resize());
  sized.observe(box);
  if (options.legend !== "never") box.after(legend);
  drawLegend(legend, drawn);
  plots.set(drawn, { box, palette, legend, sized });
  return drawn;
}

/* The chart in a box, or undefined. */
export function plotIn(box) {
  return [...plots].find(([, one]) => one.box === box)?.[0];
}

export function unplot(drawn) {
  const { legend, sized } = plots.get(drawn);
  plots.delete(drawn);
  sized.disconnect();
  legend.remove();
  drawn.destroy();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const [drawn, { palette, legend }] of plots) {
    drawn.updateOptions(colours(palette));
    drawLegend(legend, drawn);
  }
});
