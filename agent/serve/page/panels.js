/**
 * What is charted: the panels, the one query that brings all their lines, and the grid of times that the answers fill.
 */

/** @typedef {import("./api.js").Line} Line */
/** @typedef {Record<string, string>} Labels */
/** @typedef {{metric: string, name: (labels: Labels) => string}} Source */
/** @typedef {{id: string, title: string, unit: string, most?: number, about: string, sources: Source[]}} Panel */
/** @typedef {{name: string, values: (number|null)[]}} Track */

/** The label that tells the lines of one answer apart; no series of a host has it. */
const OF = "limpet_page_metric";

/** @param {string} metric @param {(labels: Labels) => string} name @returns {Source} */
const source = (metric, name) => ({ metric, name });

/** @type {Panel[]} */
export const PANELS = [
  {
    id: "cpu", title: "CPU in use", unit: "percent", most: 100, about: "share of the time that was not idle",
    sources: [source("cpu_usage_percent", () => "all cores"), source("cpu_usage_per_core_percent", (of) => `core ${of.core}`)],
  },
  {
    id: "memory", title: "Memory in use", unit: "percent", most: 100, about: "share of what there is",
    sources: [source("memory_usage_percent", () => "memory"), source("swap_usage_percent", () => "swap")],
  },
  {
    id: "network", title: "Network", unit: "bytes_per_sec", about: "bytes a second of each interface",
    sources: [
      source("network_bytes_recv_per_sec", (of) => `${of.interface} received`),
      source("network_bytes_sent_per_sec", (of) => `${of.interface} sent`),
    ],
  },
  {
    id: "io", title: "Disk I/O", unit: "bytes_per_sec", about: "bytes a second of each device",
    sources: [
      source("disk_read_bytes_per_sec", (of) => `${of.device} read`),
      source("disk_write_bytes_per_sec", (of) => `${of.device} written`),
    ],
  },
  {
    id: "disks", title: "Disk space in use", unit: "percent", most: 100, about: "share of each file system",
    sources: [source("disk_usage_percent", (of) => of.mountpoint)],
  },
  {
    id: "load", title: "Load average", unit: "", about: "tasks that run or wait",
    sources: [1, 5, 15].map((minutes) => source(`load_average_${minutes}m`, () => `${minutes} min`)),
  },
  {
    id: "temperature", title: "Temperature", unit: "celsius", about: "of each sensor",
    sources: [source("sensor_temperature_celsius", (of) => of.sensor)],
  },
  {
    id: "backlog", title: "Samples that wait", unit: "samples", about: "for each destination",
    sources: [source("limpet_destination_pending_samples", (of) => of.destination)],
  },
];

/** How many lines a chart has at most; the largest are drawn. */
export const MOST = 12;

/**
 * Return the query for every line of these panels: one, so that a slow link is crossed once and the log is read once.
 * @param {Panel[]} panels
 * @param {number} step seconds between two points
 * @param {string} how `avg`, `min` or `max` of the samples of a step
 */
export function expression(panels, step, how) {
  const part = ({ metric }, /** @type {string} */ to) =>
    `label_replace(round(${how}_over_time(${metric}[${step}s]), ${to}), "${OF}", "${metric}", "", "")`;
  return panels.flatMap(({ unit, sources }) =>
    sources.map((one) => part(one, unit === "bytes_per_sec" || unit === "samples" ? "1" : "0.01")),
  ).join(" or ");
}

/**
 * Return the step for a stretch of time: at least its part in `points`, and a length that people know.
 * @param {number} seconds
 * @param {number} points
 */
export function stepFor(seconds, points) {
  const steps = [10, 15, 20, 30, 60, 90, 120, 180, 300, 600, 900, 1200, 1800, 3600, 5400, 7200, 10800, 21600, 43200, 86400, 172800];
  return steps.find((step) => step * points >= seconds) || Math.ceil(seconds / points / 86400) * 86400;
}

/**
 * Return a moment without its last seconds, so that times are plain ones.
 * @param {number} seconds Unix time
 */
export function round(seconds) {
  return Math.floor(seconds / 10) * 10;
}

/** Times a step apart, up to the end, and for each line of an answer its value at each of them, null where there is none. */
export class Grid {
  /** @param {number} start Unix seconds @param {number} end Unix seconds @param {number} step */
  constructor(start, end, step) {
    this.step = step;
    this.length = Math.max(1, Math.floor((end - start) / step)) + 1;
    this.start = round(end) - (this.length - 1) * step;
    /** @type {Map<string, {labels: Labels, values: (number|null)[]}>} */
    this.lines = new Map();
  }

  /** The last time. */
  get end() {
    return this.start + (this.length - 1) * this.step;
  }

  /** All times. */
  get times() {
    return Array.from({ length: this.length }, (_, index) => this.start + index * this.step);
  }

  /**
   * Put the lines of an answer in; what they say of a time replaces what was there.
   * @param {Line[]} lines
   */
  put(lines) {
    for (const { metric, values } of lines) {
      const key = JSON.stringify(metric);
      const line = this.lines.get(key) || { labels: metric, values: Array(this.length).fill(null) };
      this.lines.set(key, line);
      for (const [at, text] of values) {
        const index = Math.round((at - this.start) / this.step);
        const value = Number(text);
        if (index >= 0 && index < this.length) line.values[index] = Number.isFinite(value) ? value : null;
      }
    }
  }

  /**
   * Move on by some steps; what is older than the first time is forgotten.
   * @param {number} by
   */
  slide(by) {
    this.start += by * this.step;
    for (const [key, { values }] of this.lines) {
      values.splice(0, by);
      while (values.length < this.length) values.push(null);
      if (values.every((value) => value === null)) this.lines.delete(key);
    }
  }

  /**
   * Return the tracks of a panel, in the order of its sources and then by name. Of more than MOST there are those with
   * the largest mean; `more` says how many are left out.
   * @param {Panel} panel
   * @returns {{tracks: Track[], more: number}}
   */
  tracks(panel) {
    /** @type {Track[]} */
    const found = [];
    for (const { metric, name } of panel.sources) {
      const lines = [...this.lines.values()].filter(({ labels }) => labels[OF] === metric);
      const names = lines.map(({ labels }) => name(labels) || metric);
      const isTwice = (/** @type {string} */ one) => names.indexOf(one) !== names.lastIndexOf(one);
      const named = lines.map(({ labels, values }, index) => ({ name: names[index] + (isTwice(names[index]) ? ` on ${labels.device}` : ""), values }));
      found.push(...named.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true })));
    }
    if (found.length <= MOST) return { tracks: found, more: 0 };
    const kept = new Set([...found].sort((a, b) => mean(b.values) - mean(a.values)).slice(0, MOST));
    return { tracks: found.filter((one) => kept.has(one)), more: found.length - MOST };
  }
}

/**
 * Return the numbers of a track: least, mean, most and last of the values that are there.
 * @param {(number|null)[]} values
 */
export function summary(values) {
  const there = /** @type {number[]} */ (values.filter((value) => value !== null));
  return { least: Math.min(...there), mean: mean(values), most: Math.max(...there), last: there[there.length - 1] };
}

/** @param {(number|null)[]} values */
function mean(values) {
  const there = values.filter((value) => value !== null);
  return there.length ? there.reduce((sum, value) => sum + value, 0) / there.length : NaN;
}
