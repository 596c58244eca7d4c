/* The curves of one or several jobs: the loss in a large chart, three figures in small ones, a table for those who do not
 * see a canvas, and both as a file. */
import { daemon, withToken } from "./daemon.js";
import { byId, make, save } from "./dom.js";
import { digits, plot, unplot } from "./plot.js";
import { curveSvg } from "./train_svg.js";

const X = {
  step: { label: "Step", of: (row) => row.step },
  minutes: { label: "Minutes", of: (row) => row.seconds / 60 },
};
const LOSS = "Loss (nats per character)";
const SMALL = { learning_rate: "Learning rate", gradient_norm: "Gradient norm", tokens_per_second: "Tokens per second" };
const PRINT = ["#1f5f8b", "#8a3d12", "#2f6b2f", "#7a3b8f", "#8a6d00", "#555b66"]; /* on white paper */

let feeds = []; /* the chosen job first */
const charts = {}; /* by the box's name: {drawn, key}; a key changes when a chart must be made anew */
let drawing = null;
let again = false;

function choice(id) {
  return byId(`train-${id}`).value;
}

/* The average of each point and those before it. */
function smooth(points, window) {
  let sum = 0;
  return points.map(([x, y], i) => {
    sum += y;
    if (i >= window) sum -= points[i - window][1];
    return [x, sum / Math.min(window, i + 1)];
  });
}

/* The training loss in the row of a validation is the mean of its epoch. It is no point of the line, unless a short
 * training has no other rows. */
function rowsWith(name, rows) {
  const known = rows.filter((row) => row[name] !== null);
  const measured = name === "train_nats_per_char" ? known.filter((row) => row.learning_rate !== null) : known;
  return measured.length > 0 ? measured : known;
}

function pointsOf(feed, name, window = 1) {
  const of = X[choice("x")].of;
  const points = rowsWith(name, feed.rows).map((row) => [of(row), row[name]]);
  return window > 1 ? smooth(points, window) : points;
}

/* The lines of the large chart. One job: a colour for each of its lines; several: a colour for each job. */
function lossLines() {
  const window = Number(choice("smoothing"));
  const several = feeds.length > 1;
  return feeds.flatMap((feed, i) => {
    const name = several ? `${feed.job.model} ${feed.id}` : "";
    const train = pointsOf(feed, "train_nats_per_char", window);
    const validation = pointsOf(feed, "validation_nats_per_char");
    return [
      { name: several ? name : "training", colour: several ? i : 0, points: train },
      { name: several ? `${name} validation` : "validation", colour: several ? i : 1, points: validation, dots: true, dashed: several },
    ];
  });
}

function smallLines(name) {
  const nameOf = ({ job, id }) => (feeds.length > 1 ? `${job.model} ${id}` : SMALL[name]);
  return feeds.map((feed, i) => ({ name: nameOf(feed), colour: i, points: pointsOf(feed, name) }));
}

/* One row per x, with null where a line has no point there. */
function rowsOf(lines) {
  const rows = new Map();
  lines.forEach(({ points }, i) => {
    for (const [x, y] of points) {
      if (!rows.has(x)) rows.set(x, [x, ...lines.map(() => null)]);
      rows.get(x)[i + 1] = y;
    }
  });
  return [...rows.values()].sort((a, b) => a[0] - b[0]);
}

const COLOURS = [2, 1, 3, 4, 5, 6]; /* of the page: a line's colour is one of these */

function optionsOf(lines, extra) {
  const dotted = ({ dashed }) => ({ drawPoints: true, pointSize: 3, strokePattern: dashed ? [6, 3] : null });
  return {
    labels: [X[choice("x")].label, ...lines.map(({ name }) => name)],
    palette: lines.map(({ colour }) => COLOURS[colour % COLOURS.length]),
    series: Object.fromEntries(lines.filter(({ dots }) => dots).map((line) => [line.name, dotted(line)])),
    axes: { x: { pixelsPerLabel: 70 }, y: { axisLabelWidth: 56, axisLabelFormatter: digits } },
    ...extra,
  };
}

async function draw(box, lines, extra) {
  const key = JSON.stringify([lines.map(({ name }) => name), extra, choice("x")]);
  const rows = rowsOf(lines);
  byId(`train-plot-${box}`).parentElement.hidden = rows.length === 0;
  const old = charts[box];
  if (old && (old.key !== key || rows.length === 0)) {
    unplot(old.drawn);
    delete charts[box];
  }
  if (rows.length === 0) return;
  if (charts[box]) charts[box].drawn.updateOptions({ file: rows });
  else charts[box] = { key, drawn: await plot(byId(`train-plot-${box}`), rows, optionsOf(lines, extra)) };
}

async function drawAll() {
  const log = choice("scale") === "log";
  await draw("loss", lossLines(), { logscale: log, ylabel: LOSS, includeZero: false });
  for (const name of Object.keys(SMALL)) await draw(name, smallLines(name), { title: SMALL[name] });
}

/* Draws what the feeds have now. A call while it draws makes it draw once more. */
async function drawSoon() {
  again = true;
  if (drawing) return drawing;
  drawing = (async () => {
    while (again) {
      again = false;
      await drawAll();
    }
  })();
  try {
    await drawing;
  } finally {
    drawing = null;
  }
}

function cell(value, digits = 4) {
  return make("td", {}, value === null ? "–" : value.toFixed(digits));
}

/* The last row of each epoch. */
function showTable() {
  const [feed] = feeds;
  const last = new Map();
  for (const row of feed.rows) last.set(row.epoch, { ...row, learning_rate: row.learning_rate ?? last.get(row.epoch)?.learning_rate ?? null });
  byId("train-table").replaceChildren(
    ...[...last.values()].map((row) =>
      make("tr", {}, make("th", { scope: "row" }, String(row.epoch)), make("td", {}, row.step.toLocaleString()), cell(row.train_nats_per_char), cell(row.validation_nats_per_char), cell(row.learning_rate, 6)),
    ),
  );
}

/* Shows these jobs, the chosen one first; again whenever they have news. */
export function showCurves(shown) {
  feeds = shown.filter(({ job }) => job);
  const some = feeds.some(({ rows }) => rows.length > 0);
  byId("train-curves").hidden = !some;
  if (!some) return Promise.resolve();
  if (byId("train-table-box").open) showTable();
  return drawSoon();
}

async function saveCsv() {
  const headers = { Accept: "text/csv" };
  const answer = await withToken((lstmd) => lstmd.request(`train/${feeds[0].id}/metrics`, undefined, { headers }));
  save(`${feeds[0].job.model}-${feeds[0].id}.csv`, "text/csv", await answer.text());
}

export function svgText() {
  const lines = lossLines().map((line) => ({ ...line, colour: PRINT[line.colour % PRINT.length] }));
  const names = feeds.map(({ job }) => job.model).join(", ");
  return curveSvg({ title: `Loss of ${names}`, lines, xLabel: X[choice("x")].label, yLabel: LOSS, log: choice("scale") === "log" });
}

/* fail(error) shows why there is no file. */
export function mountCurves(fail) {
  for (const id of ["x", "scale", "smoothing"]) byId(`train-${id}`).addEventListener("change", () => showCurves(feeds));
  byId("train-table-box").addEventListener("toggle", () => feeds.length > 0 && showTable());
  byId("train-csv").addEventListener("click", () => saveCsv().catch(fail));
  byId("train-svg").addEventListener("click", () => save(`${feeds[0].job.model}-${feeds[0].id}.svg`, "image/svg+xml", svgText()));
}
