/**
 * Numbers, lengths of time and moments as people read them, with their units. Pure functions from values to text.
 *
 * The forms are those of the commands (`limpet status`), so that both say the same.
 */

const SIZES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const MINUTE = 60;
const HOUR = 3600;
const DAY = 86400;

/** What stands where there is no value. */
export const NONE = "–";

/**
 * Return a plain number with the digits that matter: 1,234, 12.3, 0.05.
 * @param {number} value
 */
export function number(value) {
  if (!Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : 2;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

/**
 * Return a number of things, exact below a million.
 * @param {number} value
 */
export function count(value) {
  if (!Number.isFinite(value)) return NONE;
  if (Math.abs(value) < 1e6) return Math.round(value).toLocaleString("en");
  return value >= 1e9 ? `${(value / 1e9).toFixed(2)} G` : `${(value / 1e6).toFixed(2)} M`;
}

/**
 * Return a number of things with its noun: 1 sample, 2 samples.
 * @param {number} value
 * @param {string} one
 * @param {string} [many]
 */
export function plural(value, one, many) {
  return `${count(value)} ${value === 1 ? one : many || `${one}s`}`;
}

/**
 * Return bytes with a binary unit: 512 B, 1.5 KiB, 256 MiB.
 * @param {number} value
 */
export function bytes(value) {
  if (!Number.isFinite(value)) return NONE;
  let power = 0;
  let left = value;
  while (Math.abs(left) >= 1023.95 && power < SIZES.length - 1) {
    left /= 1024;
    power += 1;
  }
  const text = power === 0 ? left.toFixed(0) : left.toFixed(1).replace(/\.0$/, "");
  return `${text} ${SIZES[power]}`;
}

/**
 * Return a length of time in its two largest units: 12 s, 2 min 5 s, 3 h 4 min, 5 d 3 h.
 * @param {number} seconds
 */
export function duration(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0) return NONE;
  const whole = Math.round(seconds);
  for (const [large, small, name, rest] of [[DAY, HOUR, "d", "h"], [HOUR, MINUTE, "h", "min"], [MINUTE, 1, "min", "s"]]) {
    if (whole >= large) {
      const more = Math.floor((whole % large) / small);
      return `${Math.floor(whole / large).toLocaleString("en")} ${name}${more ? ` ${more} ${rest}` : ""}`;
    }
  }
  return `${whole} s`;
}

/**
 * Return a value with its unit, as the metrics' table names units.
 * @param {number|null|undefined} value
 * @param {string} unit
 */
export function quantity(value, unit) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  switch (unit) {
    case "bytes": return bytes(value);
    case "bytes_per_sec": return `${bytes(value)}/s`;
    case "percent": return `${Math.abs(value) >= 99.95 ? value.toFixed(0) : value.toFixed(1)} %`;
    case "celsius": return `${value.toFixed(1)} °C`;
    case "seconds": return duration(value);
    case "samples": return plural(value, "sample");
    default: return number(value);
  }
}

const two = (/** @type {number} */ value) => String(value).padStart(2, "0");

/**
 * Return the date of a moment in this browser's time zone: 2026-05-01.
 * @param {number} seconds Unix time
 */
export function date(seconds) {
  const at = new Date(seconds * 1000);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

/**
 * Return the time of day of a moment: 14:05, or 14:05:20 where seconds matter.
 * @param {number} seconds Unix time
 * @param {boolean} [exact]
 */
export function clock(seconds, exact = true) {
  const at = new Date(seconds * 1000);
  const text = `${two(at.getHours())}:${two(at.getMinutes())}`;
  return exact ? `${text}:${two(at.getSeconds())}` : text;
}

/**
 * Return a moment with its date: 2026-05-01 14:05:20.
 * @param {number} seconds Unix time
 */
export function moment(seconds) {
  return Number.isFinite(seconds) ? `${date(seconds)} ${clock(seconds)}` : NONE;
}

/**
 * Return how far a moment is from another: 5 s ago, 2 h 3 min ahead of this clock.
 * @param {number} seconds Unix time
 * @param {number} now Unix time
 */
export function ago(seconds, now) {
  const age = now - seconds;
  return age >= -0.5 ? `${duration(Math.max(0, age))} ago` : `${duration(-age)} ahead of this clock`;
}
