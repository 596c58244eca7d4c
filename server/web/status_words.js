/* Numbers as a person reads them. "–" stands for what is not known. */
const NONE = "–";

export function count(value) {
  if (value === null || !Number.isFinite(value)) return NONE;
  return value.toLocaleString(undefined, { maximumFractionDigits: value !== 0 && Math.abs(value) < 10 ? 1 : 0 });
}

export function percent(part) {
  return part === null || !Number.isFinite(part) ? NONE : `${(100 * part).toFixed(part > 0 && part < 0.1 ? 1 : 0)} %`;
}

export function bytes(value) {
  if (value === null || !Number.isFinite(value)) return NONE;
  const names = ["B", "kB", "MB", "GB", "TB"];
  const step = Math.min(names.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, value)) / 3)));
  const scaled = value / 1000 ** step;
  return `${scaled.toFixed(step > 0 && scaled < 100 ? 1 : 0)} ${names[step]}`;
}

/* A short time: "12 µs", "3.4 ms", "1.2 s". */
export function duration(seconds) {
  if (seconds === null || !Number.isFinite(seconds)) return NONE;
  if (seconds === 0) return "0 s";
  const [scale, unit] = seconds < 1e-3 ? [1e6, "µs"] : seconds < 1 ? [1e3, "ms"] : [1, "s"];
  const value = seconds * scale;
  return `${value.toFixed(value < 10 ? 1 : 0)} ${unit}`;
}

/* A long time: "3 days 4 h", "2 min 5 s". */
export function span(seconds) {
  const units = [
    [86400, "d"],
    [3600, "h"],
    [60, "min"],
    [1, "s"],
  ];
  const first = units.findIndex(([size]) => seconds >= size);
  if (first < 0) return "0 s";
  const [size, name] = units[first];
  const [smaller, lesser] = units[first + 1] ?? [Infinity];
  const rest = Math.floor((seconds % size) / smaller);
  return `${Math.floor(seconds / size)} ${name}${rest > 0 ? ` ${rest} ${lesser}` : ""}`;
}
