// Requests, times and WebSockets of the last fifteen minutes, drawn by uPlot.

import { byId, el, latency, list, say, short } from "./dom.js";
import { KEPT } from "./history.js";

const ms = (value) => latency(value);
const LEAST = 120; // seconds that are shown from the start
const STEPS = [30, 60, 120, 300]; // between two labels
const PLOTS = [
  { title: "requests a second", lines: [["answered", "rate", "own"], ["5xx", "errors", "down"]], format: short, height: 130 },
  { title: "time to answer", lines: [["50 %", "p50", "drain"], ["90 %", "p90", "own"], ["99 %", "p99", "out"]], format: ms, height: 110 },
  { title: "open WebSockets", lines: [["open", "websockets", "own"]], format: short, height: 110 },
];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const ago = (seconds) => (seconds === 0 ? "now" : seconds % 60 ? `${seconds} s` : `${seconds / 60} min`).replace("-", "−");

/** Where the axis of time has labels, with room for them. */
function moments(plot) {
  const span = -plot.scales.x.min;
  const step = STEPS.find((each) => (plot.width / span) * each > 70) ?? 300;
  return Array.from({ length: Math.floor(span / step) + 1 }, (_, count) => -count * step || 0).reverse();
}

export class Charts {
  constructor(history) {
    this.history = history;
    this.plots = [];
    this.shown = "";
    byId("charted").onchange = (event) => {
      this.shown = event.target.value;
      this.update();
    };
    new ResizeObserver(() => this.plots.length && this.update()).observe(byId("plots"));
  }

  /** Colours have changed. */
  paint() {
    const made = this.plots.length > 0;
    for (const { plot } of this.plots) plot.destroy();
    byId("plots").replaceChildren();
    this.plots = [];
    if (made) this.update();
  }

  draw({ figures }) {
    const names = Object.keys(figures.clusters).sort();
    list(byId("charted"), ["", ...names], (name) => name, (name) => el("option", { value: name, text: name || "all clusters" }));
    if (this.shown && !names.includes(this.shown)) byId("charted").value = this.shown = "";
    this.update();
  }

  update() {
    if (!this.plots.length) this.plots = PLOTS.map((spec) => this.make(spec));
    const { times } = this.history;
    const columns = this.history.of(this.shown);
    const now = times[times.length - 1] ?? 0;
    for (const { spec, plot, values, node } of this.plots) {
      const width = node.clientWidth;
      if (width && width !== plot.width) plot.setSize({ width, height: spec.height });
      plot.setData([times.map((time) => time - now), ...spec.lines.map(([, column]) => columns[column])]);
      spec.lines.forEach(([, column], place) => say(values[place], spec.format(columns[column][times.length - 1])));
    }
  }

  make(spec) {
    const values = spec.lines.map(() => el("b"));
    const names = spec.lines.map(([name, , tone], place) => el("span", { class: `line tone-${tone}` }, `${name} `, values[place]));
    const place = el("div", { "aria-hidden": "true" });
    const node = el("figure", {}, el("figcaption", {}, el("span", { text: spec.title }), ...names), place);
    byId("plots").append(node);
    const axis = { stroke: colour("soft"), font: "11px system-ui", grid: { stroke: colour("line"), width: 1 }, ticks: { show: false } };
    const options = {
      width: node.clientWidth || 400,
      height: spec.height,
      legend: { show: false },
      cursor: { show: false },
      scales: {
        x: { time: false, range: (plot, from) => [Math.min(-LEAST, Math.max(from, -KEPT)), 0] },
        y: { range: (plot, low, high) => [0, high > 0 ? high * 1.15 : 1] },
      },
      axes: [
        { ...axis, size: 22, gap: 2, grid: { show: false }, splits: (plot) => moments(plot), values: (plot, at) => at.map(ago) },
        { ...axis, size: 54, gap: 4, space: 26, values: (plot, at) => at.map(spec.format) },
      ],
      series: [{}, ...spec.lines.map(([, , tone], index) => ({ stroke: colour(tone), width: 1.5, points: { show: false }, fill: index === 0 && spec.lines.length < 3 ? `${colour(tone)}22` : undefined }))],
    };
    return { spec, values, node, plot: new uPlot(options, [[], ...spec.lines.map(() => [])], place) };
  }
}
