/* A picture of loss curves as an SVG file, for a document or a slide: lines, axes and a legend. Knows no page. */
const SPACE = "http://www.w3.org/2000/svg";
const WIDTH = 800;
const HEIGHT = 450;
const BOX = { left: 64, right: 780, top: 44, bottom: 386 };

function shape(tag, attributes, text) {
  const element = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/* About `count` round numbers from low to high. */
function ticks(low, high, count) {
  const rough = (high - low || 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

function logTicks(low, high) {
  const found = [];
  for (let power = 10 ** Math.floor(Math.log10(low)); power <= high; power *= 10)
    for (const factor of [1, 1.5, 2, 3, 5, 7]) found.push(Number((factor * power).toPrecision(12)));
  return found.filter((value) => value >= low && value <= high);
}

function scale(low, high, from, to, log) {
  const at = log ? Math.log : (value) => value;
  const span = at(high) - at(low) || 1;
  return (value) => Number((from + ((at(value) - at(low)) / span) * (to - from)).toFixed(2));
}

function range(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return low <= high ? [low, high] : [1, 2];
}

function axes(svg, x, y, { xTicks, yTicks, xLabel, yLabel }) {
  for (const value of xTicks) {
    svg.append(shape("line", { x1: x(value), x2: x(value), y1: BOX.bottom, y2: BOX.bottom + 5, stroke: "#635f57" }));
    svg.append(shape("text", { x: x(value), y: BOX.bottom + 20, "text-anchor": "middle" }, value.toLocaleString("en")));
  }
  for (const value of yTicks) {
    svg.append(shape("line", { x1: BOX.left, x2: BOX.right, y1: y(value), y2: y(value), stroke: "#dcd8cf" }));
    svg.append(shape("text", { x: BOX.left - 8, y: y(value) + 4, "text-anchor": "end" }, String(value)));
  }
  svg.append(shape("path", { d: `M${BOX.left} ${BOX.top}V${BOX.bottom}H${BOX.right}`, stroke: "#635f57", fill: "none" }));
  svg.append(shape("text", { x: (BOX.left + BOX.right) / 2, y: HEIGHT - 28, "text-anchor": "middle" }, xLabel));
  const middle = (BOX.top + BOX.bottom) / 2;
  svg.append(shape("text", { x: 16, y: middle, "text-anchor": "middle", transform: `rotate(-90 16 ${middle})` }, yLabel));
}

/* lines: [{name, colour, points: [[x, y], ...], dots, dashed}]; dots: the points are drawn, too. Returns the file's text. */
export function curveSvg({ title, lines, xLabel, yLabel, log }) {
  const points = lines.flatMap((line) => line.points).filter(([, y]) => !log || y > 0);
  const [left, right] = range(points.map(([x]) => x));
  const [low, high] = range(points.map(([, y]) => y));
  const x = scale(left, right, BOX.left, BOX.right, false);
  const y = scale(low, high, BOX.bottom, BOX.top, log);
  const width = 40 + 7 * Math.max(...lines.map(({ name }) => name.length)); /* of an entry of the legend */
  const columns = Math.max(1, Math.min(lines.length, Math.floor((BOX.right - BOX.left) / width)));
  const height = HEIGHT + 16 * (Math.ceil(lines.length / columns) - 1);
  const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${height}`, width: WIDTH, height });
  svg.setAttribute("font-family", "sans-serif");
  svg.setAttribute("font-size", "12");
  svg.append(shape("title", {}, title));
  svg.append(shape("rect", { width: WIDTH, height, fill: "#ffffff" }));
  svg.append(shape("text", { x: BOX.left, y: 24, "font-size": 15, "font-weight": "bold" }, title));
  axes(svg, x, y, { xTicks: ticks(left, right, 8), yTicks: log ? logTicks(low, high) : ticks(low, high, 10), xLabel, yLabel });
  lines.forEach(({ name, colour, points: all, dots, dashed }, i) => {
    const drawn = all.filter(([, value]) => !log || value > 0).map(([a, b]) => [x(a), y(b)]);
    const stroke = { stroke: colour, "stroke-width": 2, ...(dashed && { "stroke-dasharray": "6 3" }) };
    svg.append(shape("polyline", { points: drawn.map((point) => point.join(",")).join(" "), fill: "none", ...stroke }));
    if (dots) svg.append(...drawn.map(([cx, cy]) => shape("circle", { cx, cy, r: 3, fill: colour })));
    const at = BOX.left + (i % columns) * width;
    const row = HEIGHT - 8 + Math.floor(i / columns) * 16;
    svg.append(shape("line", { x1: at, x2: at + 16, y1: row - 4, y2: row - 4, ...stroke }));
    svg.append(shape("text", { x: at + 22, y: row }, name));
  });
  return `<?xml version="1.0" encoding="UTF-8"?>\n${new XMLSerializer().serializeToString(svg)}\n`;
}
