/**
 * What happened to this host, read off its series: gaps, starts, outages, steps of the clock, losses, and the times beyond
 * the thresholds of the alerts that ship. Pure functions; the series say it as exactly as the steps of the query do.
 */

import { el } from "./dom.js";
import { duration, moment, plural, quantity } from "./format.js";

/** @typedef {import("./api.js").Line} Line */
/** @typedef {{from: number, to: number|null, level: "info"|"warn"|"bad", text: string, lasting?: boolean}} Happening `to` is null of a moment, and of what still lasts */
/** @typedef {[number, number][]} Points */

const OF = "limpet_page_event";
const SHOWN = 40;
const CLOCK_STEP = 5;
const OUTAGE = 300;

const NOTED = ["limpet_start_time_seconds", "host_boot_time_seconds"];

/** @typedef {{metric: string, level: (labels: Record<string, string>) => Happening["level"], text: (by: number, labels: Record<string, string>) => string}} Counter */

/** @type {Counter[]} */
const COUNTERS = [
  { metric: "memory_oom_kills_total", level: () => "bad", text: (by) => `${plural(by, "process was", "processes were")} killed for want of memory` },
  { metric: "limpet_destination_dropped_samples_total", level: (of) => (["unchanged", "relabeled"].includes(of.reason) ? "info" : "warn"), text: (by, of) => `${plural(by, "sample")} will not reach ${of.destination}: ${of.reason}` },
  { metric: "limpet_collector_failures_total", level: () => "warn", text: (by, of) => `The collector ${of.collector} failed ${by === 1 ? "once" : `${by} times`}` },
  { metric: "limpet_collector_timeouts_total", level: () => "warn", text: (by, of) => `The collector ${of.collector} was left behind ${by === 1 ? "once" : `${by} times`}: it did not answer in time` },
];

/** @typedef {{id: string, value: string, least: number, bad?: number, unit: string, text: (labels: Record<string, string>) => string}} Threshold */

/** @type {Threshold[]} the levels and durations are those of config/prometheus/rules */
const THRESHOLDS = [
  { id: "cpu", value: "avg_over_time(cpu_usage_percent[$5m])", least: 80, bad: 95, unit: "percent", text: () => "The CPU was busy" },
  { id: "memory", value: "avg_over_time(memory_usage_percent[$5m])", least: 85, bad: 95, unit: "percent", text: () => "Memory was short" },
  { id: "disk", value: "max_over_time(disk_usage_percent[$])", least: 80, bad: 90, unit: "percent", text: (of) => `${of.mountpoint} was nearly full` },
  { id: "inode", value: "max_over_time(inode_usage_percent[$])", least: 80, unit: "percent", text: (of) => `${of.mountpoint} was nearly out of inodes` },
  { id: "heat", value: "avg_over_time(sensor_temperature_celsius[$5m])", least: 85, unit: "celsius", text: (of) => `${of.sensor} was hot` },
  { id: "readonly", value: "max_over_time(disk_readonly[$])", least: 1, bad: 1, unit: "", text: (of) => `${of.mountpoint} was read-only` },
  { id: "throttled", value: "max_over_time(sensor_throttled[$])", least: 1, unit: "", text: () => "The processor was slowed down" },
  { id: "undervoltage", value: "max_over_time(sensor_undervoltage[$])", least: 1, bad: 1, unit: "", text: () => "The supply was too weak" },
  { id: "held", value: "max_over_time(limpet_destination_held[$])", least: 1, bad: 1, unit: "", text: (of) => `${of.destination} was held: it needed an operator` },
  { id: "outage", value: "max_over_time(limpet_destination_oldest_pending_age_seconds[$])", least: OUTAGE, unit: "seconds", text: (of) => `Nothing reached ${of.destination}` },
];

/** Return the query about when agent and host were started: a point each step at which there were samples. @param {number} step */
export function starts(step) {
  return `last_over_time({__name__=~"${NOTED.join("|")}"}[${step}s])`;
}

/** Return the query about what was counted, and what was beyond a threshold: only the points at which something was. @param {number} step */
export function incidents(step) {
  const long = `${Math.max(step, 300)}s`;
  const as = (/** @type {string} */ text, /** @type {string} */ id) => `label_replace(${text}, "${OF}", "${id}", "", "")`;
  const window = (/** @type {string} */ text) => text.replace("$5m", long).replace("$", `${step}s`);
  const counted = COUNTERS.map(({ metric }) => as(`last_over_time(${metric}[${long}]) - last_over_time(${metric}[${long}] offset ${step}s) > 0`, metric));
  return [...counted, ...THRESHOLDS.map(({ id, value, least }) => as(`${window(value)} >= ${least}`, id))].join(" or ");
}

/**
 * Return what happened, the newest first.
 * @param {Line[]} started the answer to `starts`
 * @param {Line[]} found the answer to `incidents`
 * @param {number} step of both, in seconds
 * @param {number} end Unix seconds: until when it was queried
 * @returns {Happening[]}
 */
export function happenings(started, found, step, end) {
  const all = [
    ...started.flatMap(({ metric, values }) => noted(metric.__name__, points(values), started, step, end)),
    ...found.flatMap(({ metric, values }) => [...counted(metric, points(values)), ...exceeded(metric, points(values), step, end)]),
  ];
  return all.sort((a, b) => b.from - a.from);
}

/** @param {[number, string][]} values @returns {Points} */
const points = (values) => values.map(([at, text]) => [at, Number(text)]);

/** @param {string} name @param {Points} values @param {Line[]} all @param {number} step @param {number} end @returns {Happening[]} */
function noted(name, values, all, step, end) {
  if (name === "host_boot_time_seconds") return boots(changes(values), all, step);
  return [...gaps(values, step, end), ...changes(values).map(([, , to]) => instant(to, "info", "The agent started"))];
}

/** @param {Record<string, string>} labels @param {Points} values @returns {Happening[]} */
function counted(labels, values) {
  const kind = COUNTERS.find(({ metric }) => metric === labels[OF]);
  return kind ? values.map(([at, by]) => instant(at, kind.level(labels), kind.text(by, labels))) : [];
}

/** @param {number} at @param {Happening["level"]} level @param {string} text @returns {Happening} */
const instant = (at, level, text) => ({ from: at, to: null, level, text });

/** Return each change of a value: when it was seen, and from what to what. @param {Points} values @returns {[number, number, number][]} */
function changes(values) {
  return values.slice(1).flatMap(([at, value], index) => (value === values[index][1] ? [] : [[at, values[index][1], value]]));
}

/**
 * Return the stretches without samples: more than three times as long as samples usually are apart.
 * @param {Points} values @param {number} step @param {number} end @returns {Happening[]}
 */
function gaps(values, step, end) {
  const times = values.map(([at]) => at);
  if (!times.length) return [];
  const apart = times.slice(1).map((at, index) => at - times[index]).sort((a, b) => a - b);
  const usual = Math.max(apart[Math.floor(apart.length / 2)] || step, step, 15);
  return [...times.slice(1), end].flatMap((at, index) => {
    const long = at - times[index];
    if (long <= 3 * usual) return [];
    const open = index === times.length - 1;
    return [{ from: times[index], to: open ? null : at, lasting: open, level: "bad", text: open ? "No samples since then" : "No samples: the agent did not run, or could not write" }];
  });
}

/**
 * Return boots and steps of the clock. The time of the boot is the clock less the uptime, so that it moves by as much as
 * the clock is set; where the agent was started at the same time, after that boot, the host was booted.
 * @param {[number, number, number][]} moved @param {Line[]} all @param {number} step @returns {Happening[]}
 */
function boots(moved, all, step) {
  const starts = all.filter(({ metric }) => metric.__name__ === "limpet_start_time_seconds").flatMap(({ values }) => changes(points(values)));
  return moved.flatMap(([at, from, to]) => {
    const by = to - from;
    if (Math.abs(by) < CLOCK_STEP) return [];
    if (starts.some(([seen, , start]) => Math.abs(seen - at) <= Math.max(150, 2 * step) && start > to - 60)) return [instant(to, "warn", "The host was booted")];
    return [instant(at, "warn", `The clock was set ${by > 0 ? "forward" : "back"} by ${duration(Math.abs(by))}`)];
  });
}

/** @param {Record<string, string>} labels @param {Points} values @param {number} step @param {number} end @returns {Happening[]} */
function exceeded(labels, values, step, end) {
  const kind = THRESHOLDS.find(({ id }) => id === labels[OF]);
  if (!kind) return [];
  const apart = Math.max(2.5 * step, 150);
  return stretches(values, apart).map((of) => {
    const most = Math.max(...of.map(([, value]) => value));
    const [first, last] = [of[0][0], of[of.length - 1][0]];
    const lasting = end - last <= apart;
    const bad = kind.bad !== undefined && most >= kind.bad;
    const outage = kind.id === "outage";
    const more = outage ? `: the oldest sample waited ${duration(most)}` : kind.unit ? `: up to ${quantity(most, kind.unit)}` : "";
    return { from: outage ? first - of[0][1] : first - step, to: lasting ? null : last, level: bad ? "bad" : "warn", text: kind.text(labels) + more, lasting };
  });
}

/** Return the points in stretches that are no further apart than some seconds. @param {Points} values @param {number} apart @returns {Points[]} */
function stretches(values, apart) {
  /** @type {Points[]} */
  const found = [];
  for (const point of values) {
    const last = found[found.length - 1];
    if (last && point[0] - last[last.length - 1][0] <= apart) last.push(point);
    else found.push([point]);
  }
  return found;
}

/** Return the list of what happened. @param {Happening[]} found @param {number} step */
export function list(found, step) {
  if (!found.length) return [el("p", { class: "soft" }, "Nothing in this time.")];
  const rows = found.slice(0, SHOWN).map(({ from, to, level, text, lasting }) =>
    el(
      "li", { class: level },
      el("time", { datetime: new Date(from * 1000).toISOString() }, moment(from)),
      el("span", { class: "what" }, text),
      (to !== null || lasting) && el("span", { class: "soft" }, lasting ? "still so" : `for ${duration(/** @type {number} */ (to) - from)}`),
    ),
  );
  return [
    el("ul", { class: "events" }, rows),
    el("p", { class: "soft" }, `Seen in steps of ${duration(step)}.${found.length > SHOWN ? ` ${found.length - SHOWN} more: choose a shorter time.` : ""}`),
  ];
}
