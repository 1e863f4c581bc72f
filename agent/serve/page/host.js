/**
 * This host now: a tile for each kind of thing, and its disks with the days until they are full.
 */

import { bar, el, fill, table } from "./dom.js";
import { bytes, duration, number, quantity } from "./format.js";

/** @typedef {import("./api.js").Value} Value */

const METRICS = [
  "cpu_usage_percent", "cpu_usage_per_core_percent", "load_average_1m", "load_average_5m", "load_average_15m",
  "memory_total_bytes", "memory_used_bytes", "memory_usage_percent", "swap_total_bytes", "swap_used_bytes",
  "disk_total_bytes", "disk_used_bytes", "disk_free_bytes", "disk_usage_percent", "inode_usage_percent", "disk_readonly",
  "disk_read_bytes_per_sec", "disk_write_bytes_per_sec", "disk_io_util_percent",
  "network_bytes_recv_per_sec", "network_bytes_sent_per_sec",
  "sensor_temperature_celsius", "sensor_throttled", "sensor_undervoltage",
  "host_boot_time_seconds", "host_uptime_seconds", "host_info", "limpet_build_info",
];

/** The query whose answer everything here is made of. */
export const EXPRESSION = `{__name__=~"${METRICS.join("|")}"}`;

/** From which share on a bar warns, and from which it is bad: those of the alerts that ship. */
const LEVELS = { cpu: [80, 95], memory: [85, 95], disk: [80, 90], inode: [80, 90], temperature: [75, 85] };

/** @param {number} value @param {keyof typeof LEVELS} kind @returns {"good"|"warn"|"bad"} */
const level = (value, kind) => (value >= LEVELS[kind][1] ? "bad" : value >= LEVELS[kind][0] ? "warn" : "good");

/** The values of one moment, by the metrics' names. */
export class Values {
  /** @param {Value[]} found */
  constructor(found) {
    /** @type {Map<string, {labels: Record<string, string>, value: number}[]>} */
    this._by = new Map();
    for (const { metric, value } of found) {
      const name = metric.__name__;
      this._by.set(name, [...(this._by.get(name) || []), { labels: metric, value: Number(value[1]) }]);
    }
  }

  /** @param {string} name */
  all(name) {
    return this._by.get(name) || [];
  }

  /** Return the only value of a metric, NaN where there is none. @param {string} name */
  one(name) {
    return this.all(name)[0]?.value ?? NaN;
  }

  /** Return the sum of a metric, NaN where there is none. @param {string} name */
  sum(name) {
    return this.all(name).length ? this.all(name).reduce((sum, { value }) => sum + value, 0) : NaN;
  }

  /** Return a label's value, of the first series that has it. @param {string} label */
  label(label) {
    for (const found of this._by.values()) for (const { labels } of found) if (labels[label]) return labels[label];
    return "";
  }

  /** Return the labels that all series share: those of the host. */
  shared() {
    const all = [...this._by.values()].flat().map(({ labels }) => labels);
    return Object.entries(all[0] || {}).filter(([name, value]) => name !== "__name__" && all.every((one) => one[name] === value));
  }
}

/** Show the tiles. @param {Element} node @param {Values} values @param {number} now Unix seconds */
export function showTiles(node, values, now) {
  fill(node, cpu(values), memory(values), load(values), network(values), io(values), heat(values), up(values, now));
}

/** @param {string} title @param {string|HTMLElement} main @param {...any} more */
function tile(title, main, ...more) {
  return el("div", { class: "card tile" }, el("h3", {}, title), main instanceof Node ? main : el("p", { class: "big" }, main), more);
}

/** Return two values, each with what it is. @param {string} first @param {string} is @param {string} second @param {string} was */
function pair(first, is, second, was) {
  const line = (/** @type {string} */ value, /** @type {string} */ name) => el("p", {}, el("span", { class: "soft" }, `${name} `), el("b", {}, value));
  return el("div", { class: "pair" }, line(first, is), line(second, was));
}

/** @param {string} text */
const small = (text) => text && el("p", { class: "soft" }, text);

/** @param {Values} values */
function cpu(values) {
  const usage = values.one("cpu_usage_percent");
  const cores = values.all("cpu_usage_per_core_percent").sort((a, b) => Number(a.labels.core) - Number(b.labels.core));
  const rows = cores.slice(0, 16).map(({ labels, value }) =>
    el("li", {}, el("span", {}, labels.core), bar(value / 100, `core ${labels.core}: ${quantity(value, "percent")}`, level(value, "cpu")), el("span", { class: "number", "aria-hidden": "true" }, value.toFixed(0))),
  );
  return tile("CPU", quantity(usage, "percent"), el("ul", { class: "cores" }, rows), cores.length > 16 && small(`and ${cores.length - 16} more cores`));
}

/** @param {Values} values */
function memory(values) {
  const [used, total, percent] = [values.one("memory_used_bytes"), values.one("memory_total_bytes"), values.one("memory_usage_percent")];
  const [swapped, swap] = [values.one("swap_used_bytes"), values.one("swap_total_bytes")];
  return tile(
    "Memory", quantity(percent, "percent"),
    Number.isFinite(percent) && bar(percent / 100, `memory in use: ${quantity(percent, "percent")}`, level(percent, "memory")),
    small(`${bytes(used)} of ${bytes(total)}`),
    swap > 0 && small(`swap ${bytes(swapped)} of ${bytes(swap)}`),
  );
}

/** @param {Values} values */
function load(values) {
  const cores = values.all("cpu_usage_per_core_percent").length;
  const rest = [5, 15].map((minutes) => small(`${minutes} min ${number(values.one(`load_average_${minutes}m`))}`));
  return tile("Load", number(values.one("load_average_1m")), rest, cores > 0 && small(`of ${cores} ${cores === 1 ? "core" : "cores"}`));
}

/** @param {Values} values */
function network(values) {
  const rows = values.all("network_bytes_recv_per_sec").map(({ labels, value }) => {
    const sent = values.all("network_bytes_sent_per_sec").find((one) => one.labels.interface === labels.interface);
    return { name: labels.interface, received: value, sent: sent?.value ?? NaN };
  });
  const busiest = rows.sort((a, b) => b.received + b.sent - a.received - a.sent).slice(0, 3);
  return tile(
    "Network",
    pair(quantity(values.sum("network_bytes_recv_per_sec"), "bytes_per_sec"), "in", quantity(values.sum("network_bytes_sent_per_sec"), "bytes_per_sec"), "out"),
    small(busiest.map(({ name }) => name).join(", ") + (rows.length > 3 ? ` and ${rows.length - 3} more` : "")),
  );
}

/** @param {Values} values */
function io(values) {
  const busiest = values.all("disk_io_util_percent").sort((a, b) => b.value - a.value)[0];
  return tile(
    "Disk I/O",
    pair(quantity(values.sum("disk_read_bytes_per_sec"), "bytes_per_sec"), "read", quantity(values.sum("disk_write_bytes_per_sec"), "bytes_per_sec"), "write"),
    busiest && small(`${busiest.labels.device} busy ${quantity(busiest.value, "percent")}`),
  );
}

/** @param {Values} values */
function heat(values) {
  const hottest = values.all("sensor_temperature_celsius").sort((a, b) => b.value - a.value);
  const trouble = [values.sum("sensor_throttled") > 0 && "slowed down", values.sum("sensor_undervoltage") > 0 && "supply too weak"].filter(Boolean);
  if (!hottest.length && !trouble.length) return null;
  const first = hottest[0];
  return tile(
    "Temperature", first ? quantity(first.value, "celsius") : "–",
    first && bar(first.value / 100, `temperature: ${quantity(first.value, "celsius")}`, level(first.value, "temperature")),
    first && small(first.labels.sensor + (hottest.length > 1 ? ` and ${hottest.length - 1} more` : "")),
    trouble.length > 0 && el("p", { class: "bad-text" }, trouble.join(", ")),
  );
}

/** @param {Values} values @param {number} now */
function up(values, now) {
  const seconds = Number.isFinite(values.one("host_uptime_seconds")) ? values.one("host_uptime_seconds") : now - values.one("host_boot_time_seconds");
  const info = values.all("host_info")[0]?.labels;
  return tile("Up for", duration(seconds), small(info ? `${info.os} ${info.kernel_release}` : ""), small(info?.machine || ""));
}

/**
 * Show the disks. `trends` is the server's forecast; null: it is not known yet.
 * @param {Element} node
 * @param {Values} values
 * @param {any} trends
 */
export function showDisks(node, values, trends) {
  const of = (/** @type {string} */ name, /** @type {Record<string, string>} */ labels) =>
    values.all(name).find((one) => one.labels.mountpoint === labels.mountpoint && one.labels.device === labels.device)?.value ?? NaN;
  const rows = values
    .all("disk_usage_percent")
    .sort((a, b) => b.value - a.value)
    .map(({ labels, value }) => {
      const trend = trends?.file_systems.find((/** @type {any} */ one) => one.labels.mountpoint === labels.mountpoint && one.labels.device === labels.device);
      const inodes = of("inode_usage_percent", labels);
      return [
        labels.mountpoint,
        [el("div", { class: "share" }, bar(value / 100, "", level(value, "disk")), quantity(value, "percent"))],
        full(trend),
        bytes(of("disk_free_bytes", labels)),
        `${bytes(of("disk_used_bytes", labels))} of ${bytes(of("disk_total_bytes", labels))}`,
        Number.isFinite(inodes) ? el("span", { class: level(inodes, "inode") !== "good" && `${level(inodes, "inode")}-text` }, quantity(inodes, "percent")) : "–",
        [`${labels.device}, ${labels.fstype}`, of("disk_readonly", labels) > 0 && el("b", { class: "bad-text" }, " read-only")],
      ];
    });
  fill(node, rows.length ? [table("Disks", ["mount point", "in use", "full in", ">free", ">used", ">inodes", "device"], rows), trends && small(`“Full in” is the trend of up to a week. ${trends.method}.`)] : el("p", { class: "soft" }, "There are no values of disks."));
}

/** Return when a file system is full, in words, with the range of that. @param {any} trend */
function full(trend) {
  if (!trend || trend.free_bytes_per_day === null) return "–";
  const days = trend.days_until_full;
  if (days === null) return el("span", { class: "soft" }, trend.free_bytes_per_day < 0 ? "years" : "not filling");
  const [soon, late] = trend.days_until_full_range;
  const kind = days < 2 ? "bad" : days < 7 ? "warn" : "good";
  const range = soon === null || amount(soon) === amount(late ?? Infinity) ? "" : ` (${amount(soon)} to ${late === null ? "never" : amount(late)})`;
  return [el("b", { class: kind !== "good" && `${kind}-text` }, `${amount(days)} ${days === 1 ? "day" : "days"}`), el("span", { class: "soft" }, range)];
}

/** @param {number} days */
const amount = (days) => number(days >= 10 ? Math.round(days) : Math.round(days * 10) / 10);
