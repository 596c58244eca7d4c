/* The plots of the panel "Status": a card for each, with the latest values in words. */
import { make } from "./dom.js";
import { plot } from "./plot.js";
import { bucketsSince, quantile } from "./status_metrics.js";
import { bytes, count, duration, percent } from "./status_words.js";

const KEPT = 450; /* readings: a quarter of an hour */

/* Routes that this page asks by itself. */
const OWN = /^\/(metrics|readyz|web\/.*|models|)$/;

/* How much a counter grew in a second between two readings. */
function rate(before, now, name, keep) {
  if (!before) return null;
  const grown = now.sum(name, keep) - (before.sum(name, keep) ?? 0);
  return grown < 0 ? null : (grown * 1000) / (now.when - before.when);
}

/* a for each b, where there were any. */
function ratio(a, b) {
  return b > 0 ? a / b : null;
}

function firstToken(part) {
  const name = "lstmd_time_to_first_token_seconds";
  return (before, now, old) => (before ? quantile(part, bucketsSince(old.buckets(name), now.buckets(name))) : null);
}

/* lines: [words, function of (the reading before, this one, that of a minute ago) -> number or null]. */
const cards = [
  {
    title: "Tokens a second",
    hint: "A token is a character or a word, as the model has it.",
    format: count,
    lines: [
      ["written", (before, now) => rate(before, now, "lstmd_completion_tokens_total")],
      ["read as prompts", (before, now) => rate(before, now, "lstmd_prompt_tokens_total")],
      ["scored", (before, now) => rate(before, now, "lstmd_scored_tokens_total")],
    ],
  },
  {
    title: "Requests a second",
    hint: "The requests that this page makes for its charts are not counted.",
    format: count,
    lines: [
      ["all", (before, now) => rate(before, now, "lstmd_http_requests_total", ({ route }) => !OWN.test(route))],
      [
        "refused or failed",
        (before, now) => rate(before, now, "lstmd_http_requests_total", ({ route, code }) => !OWN.test(route) && code >= "400"),
      ],
    ],
  },
  {
    title: "Texts at this moment",
    hint: "If texts always wait, the daemon needs more cores.",
    format: count,
    lines: [
      ["being written", (before, now) => now.sum("lstmd_sequences")],
      ["waiting", (before, now) => now.sum("lstmd_queue_depth")],
    ],
  },
  {
    title: "Texts in a batch",
    hint: "The network makes one step for all texts of a batch at once. A larger batch costs less for each text.",
    format: count,
    lines: [
      [
        "mean",
        (before, now) =>
          ratio(
            rate(before, now, "lstmd_engine_step_sequences_total"),
            rate(before, now, "lstmd_engine_steps_total"),
          ),
      ],
    ],
  },
  {
    title: "Time to the first token",
    hint: "Texts of the last minute.",
    format: duration,
    lines: [
      ["half are faster", firstToken(0.5)],
      ["95 of 100 are faster", firstToken(0.95)],
    ],
  },
  {
    title: "Prompts found in the cache",
    hint: "The daemon remembers what the network was like after a prompt, so a prompt that begins alike is not read again.",
    format: percent,
    range: [0, 1],
    lines: [
      [
        "in the last seconds",
        (before, now) => {
          const hits = rate(before, now, "lstmd_cache_hits_total");
          return ratio(hits, hits + rate(before, now, "lstmd_cache_misses_total"));
        },
      ],
      [
        "since the start",
        (before, now) =>
          ratio(now.sum("lstmd_cache_hits_total"), now.sum("lstmd_cache_hits_total") + now.sum("lstmd_cache_misses_total")),
      ],
    ],
  },
  {
    title: "Memory",
    hint: "Of the daemon, and what the cache takes of it.",
    format: bytes,
    lines: [
      ["in all", (before, now) => now.sum("process_resident_memory_bytes")],
      ["cache", (before, now) => now.sum("lstmd_cache_bytes")],
    ],
  },
  {
    title: "Data a second",
    hint: "Bodies of requests and answers, with those of this page.",
    format: bytes,
    lines: [
      ["sent", (before, now) => rate(before, now, "lstmd_http_sent_bytes_total")],
      ["received", (before, now) => rate(before, now, "lstmd_http_received_bytes_total")],
    ],
  },
  {
    title: "Processor",
    hint: "1 is one core that works all the time.",
    format: (value) => value?.toFixed(2) ?? "–",
    lines: [["cores at work", (before, now) => rate(before, now, "process_cpu_seconds_total")]],
  },
];

class Card {
  #card;
  #rows = [];
  #values;
  #time;
  #box;
  #plot = null;

  constructor(card) {
    this.#card = card;
    this.#box = make("div", { className: "plot", role: "img", "aria-label": `${card.title}, over time` });
    this.#values = card.lines.map(() => make("dd", {}, "–"));
    this.#time = make("p", { className: "status-time", ariaHidden: "true" });
    const names = card.lines.map(([words], i) =>
      make("div", { className: `status-value line-${i + 1}` }, make("dt", {}, words), this.#values[i]),
    );
    this.element = make(
      "section",
      { className: "card", "aria-label": card.title },
      make("h3", {}, card.title),
      make("dl", {}, ...names),
      this.#box,
      this.#time,
      make("p", { className: "hint" }, card.hint),
    );
  }

  add(before, now, old) {
    const gap = before || this.#rows.length === 0 ? [] : [[new Date(now.when), ...this.#card.lines.map(() => NaN)]];
    const values = this.#card.lines.map(([, value]) => value(before, now, old));
    this.#rows = [...this.#rows, ...gap, [new Date(now.when), ...values]].slice(-KEPT);
    this.#say(this.#rows.at(-1));
    if (this.#plot) this.#plot.updateOptions({ file: this.#rows });
  }

  #say([, ...values], when = "") {
    values.forEach((value, i) => (this.#values[i].textContent = this.#card.format(value)));
    this.#time.textContent = when;
  }

  /* Points at a reading: its values stand in the place of the latest. */
  #point(row) {
    if (row) this.#say(row, row[0].toLocaleTimeString());
  }

  async draw() {
    const { format, range = [0, null], lines } = this.#card;
    this.#plot = await plot(this.#box, this.#rows, {
      labels: ["Time", ...lines.map(([words]) => words)],
      legend: "never",
      connectSeparatedPoints: false,
      fillGraph: lines.length === 1,
      interactionModel: {},
      includeZero: true,
      valueRange: range,
      rightGap: 28,
      axes: {
        x: { drawGrid: false, axisLabelWidth: 60, pixelsPerLabel: 90 },
        y: { axisLabelFormatter: format, axisLabelWidth: 58, pixelsPerLabel: 32 },
      },
      highlightCallback: (event, x, points, row) => this.#point(this.#rows[row]),
      unhighlightCallback: () => this.#say(this.#rows.at(-1)),
    });
    this.#plot.updateOptions({ file: this.#rows });
  }
}

export class Cards {
  #cards;
  #drawn = false;

  constructor(box) {
    this.#cards = cards.map((card) => new Card(card));
    box.replaceChildren(...this.#cards.map(({ element }) => element));
  }

  /* The reading before this one, or null; this one; the oldest of the last minute. */
  add(before, now, old) {
    for (const card of this.#cards) card.add(before, now, old);
    if (this.#drawn || !before) return;
    this.#drawn = true;
    for (const card of this.#cards) card.draw().catch(() => (card.element.querySelector(".plot").hidden = true));
  }
}
