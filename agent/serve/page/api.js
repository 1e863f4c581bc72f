/**
 * Requests to the server, and what comes of them: answers, refusals, and no answer. The requests go to this page's own
 * server and nowhere else.
 */

/** A request may wait for its turn at the server, and then take half a minute. */
const DEADLINE_MS = 60_000;

/** @typedef {{metric: Record<string, string>, value: [number, string]}} Value */
/** @typedef {{metric: Record<string, string>, values: [number, string][]}} Line */

/** The server did not answer: it does not run, or the link is down. */
export class Away extends Error {}

/** The server answered that it will not. */
export class Refused extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Seconds that the host's clock is ahead of this browser's, as of the newest answer. */
let ahead = 0;

/** What the server warned of, as of the newest answer to each kind of request. */
const warned = new Map();

/** Return the host's time, in Unix seconds. */
export function now() {
  return Date.now() / 1000 + ahead;
}

/** Return how many seconds the host's clock is ahead of this browser's. */
export function skew() {
  return ahead;
}

/** Return the warnings of the newest answers, each once. */
export function warnings() {
  return [...new Set([...warned.values()].flat())];
}

/**
 * Return the values of an expression at one time, or at the host's present.
 * @param {string} expression
 * @param {number} [time] Unix seconds
 * @returns {Promise<Value[]>}
 */
export async function query(expression, time) {
  const data = await ask("query", time === undefined ? { query: expression } : { query: expression, time: String(time) });
  return data.result;
}

/**
 * Return the lines of an expression over time, a point each `step` seconds.
 * @param {string} expression
 * @param {number} start Unix seconds
 * @param {number} end Unix seconds
 * @param {number} step
 * @param {AbortSignal} [signal]
 * @returns {Promise<Line[]>}
 */
export async function range(expression, start, end, step, signal) {
  const words = { query: expression, start: String(start), end: String(end), step: String(step) };
  return (await ask("query_range", words, signal)).result;
}

/** Return the state of buffer and destinations: what `limpet buffer status --json` prints, and a `verdict` in words. */
export function buffer() {
  return ask("buffer");
}

/** Return the `collectors`, and in words which of them are `failing`. */
export function collectors() {
  return ask("collectors");
}

/** Return the trend of each of the `file_systems`, and the `method`. */
export function forecast() {
  return ask("forecast");
}

/**
 * Send a request, and return the `data` of the answer. Throws Away where there is none, Refused where the server will not.
 * @param {string} path below /api/v1/
 * @param {Record<string, string>} [words] sent as a form
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
async function ask(path, words, signal) {
  const deadline = AbortSignal.timeout(DEADLINE_MS);
  let answer;
  let body;
  try {
    answer = await fetch(`api/v1/${path}`, {
      method: words ? "POST" : "GET",
      body: words && new URLSearchParams(words),
      cache: "no-store",
      signal: signal ? AbortSignal.any([deadline, signal]) : deadline,
    });
    body = await answer.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Away("no answer");
  }
  const date = Date.parse(answer.headers.get("Date") || "");
  // The header is in whole seconds: what is less than two may be the rounding and the way.
  if (!Number.isNaN(date)) ahead = Math.abs(date - Date.now()) < 2000 ? 0 : (date + 500 - Date.now()) / 1000;
  const document = parsed(body);
  if (!answer.ok || document?.status !== "success") {
    throw new Refused(answer.status, document?.error || `HTTP ${answer.status}`);
  }
  warned.set(path, document.warnings || []);
  return document.data;
}

/** @param {string} text */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
