/* The text of /metrics as numbers. Source: the text format of Prometheus, version 0.0.4. */

function valueOf(text) {
  if (text === "+Inf") return Infinity;
  return text === "-Inf" ? -Infinity : Number(text);
}

function labelsOf(text) {
  const labels = {};
  for (const [, name, value] of text.matchAll(/(\w+)="((?:\\.|[^"\\])*)"/g))
    labels[name] = value.replace(/\\(.)/g, (_, letter) => (letter === "n" ? "\n" : letter));
  return labels;
}

/* One reading of /metrics. `when` is in milliseconds. */
export class Metrics {
  #series = new Map(); /* name -> [{labels, value}] */

  constructor(text, when) {
    this.when = when;
    for (const line of text.split("\n")) {
      const [, name, labels, value] = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
      if (!name) continue;
      if (!this.#series.has(name)) this.#series.set(name, []);
      this.#series.get(name).push({ labels: labelsOf(labels ?? ""), value: valueOf(value) });
    }
  }

  all(name) {
    return this.#series.get(name) ?? [];
  }

  /* The sum over all labels that `keep` likes; null where there is no such figure. */
  sum(name, keep = () => true) {
    const found = this.all(name).filter(({ labels }) => keep(labels));
    return found.length > 0 ? found.reduce((total, { value }) => total + value, 0) : null;
  }

  /* Counts by upper bound, added up over all labels: [[0.001, 3], [0.003, 5], [Infinity, 5]]. */
  buckets(name, keep = () => true) {
    const counts = new Map();
    for (const { labels, value } of this.all(`${name}_bucket`)) {
      const bound = valueOf(labels.le);
      if (keep(labels)) counts.set(bound, (counts.get(bound) ?? 0) + value);
    }
    return [...counts].sort(([a], [b]) => a - b);
  }
}

/* What came between two readings of a histogram. `before` may be empty: since the start. */
export function bucketsSince(before, after) {
  const earlier = new Map(before);
  return after.map(([bound, count]) => [bound, count - (earlier.get(bound) ?? 0)]);
}

/* How many a histogram has counted. */
export function countOf(buckets) {
  return buckets.at(-1)?.[1] ?? 0;
}

/* The value below which this part of all lies, as Prometheus' histogram_quantile estimates it: values are spread evenly
 * within a bucket. null where nothing was counted. */
export function quantile(part, buckets) {
  const rank = part * countOf(buckets);
  if (rank === 0) return null;
  let [low, below] = [0, 0];
  for (const [bound, count] of buckets) {
    if (count >= rank) return bound === Infinity ? low : low + ((bound - low) * (rank - below)) / (count - below);
    [low, below] = [bound, count];
  }
  return low;
}
