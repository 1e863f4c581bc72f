/**
 * What the agent does: its state in words with what to do first, the buffer, each destination with its ledger, and the
 * collectors. It shows what `limpet status --json` says.
 */

import { bar, el, fill, table } from "./dom.js";
import { ago, bytes, count, duration, moment, number } from "./format.js";

const STATES = { sending: "good", idle: "good", waiting: "warn", held: "bad", stopped: "soft" };
const FINE = ["✓", "good", "fine"];
const DO = ["!", "warn", "needs doing"];
const WRONG = ["!", "bad", "wrong"];
const UNKNOWN = ["–", "soft", "not known"];
const LOSS_LIMIT = 0.001;

/** Show the state of each part, and what to do first. @param {any} found @param {Element} parts @param {any} todo */
export function showState(found, parts, todo) {
  fill(
    parts,
    found.parts.map((/** @type {any} */ part) => {
      const [sign, kind, word] = part.ok === null ? UNKNOWN : !part.ok ? WRONG : part.do ? DO : FINE;
      return el(
        "li", { class: `part ${kind}` },
        el("span", { class: "sign", role: "img", "aria-label": word }, sign),
        el("b", {}, part.part),
        el("span", {}, part.said, part.do && el("span", { class: "do" }, `→ ${part.do}`)),
      );
    }),
  );
  todo.hidden = !found.first;
  if (found.first) fill(todo, el("b", {}, `Do first, ${found.first.part}: `), found.first.do || found.first.said);
}

/** @param {string} name @param {any} value */
const fact = (name, value) => [el("dt", {}, name), el("dd", {}, value)];

/** Show the buffer. @param {Element} node @param {any} one @param {number} now Unix seconds */
export function showBuffer(node, one, now) {
  const share = one.max_bytes ? one.bytes / one.max_bytes : 0;
  const level = share >= 0.95 ? "bad" : share >= 0.8 ? "warn" : "good";
  fill(
    node,
    el("h3", {}, "Buffer"),
    bar(share, `${(share * 100).toFixed(1)} % of the buffer is in use`, level),
    el(
      "dl", { class: "facts" },
      fact("size", `${bytes(one.bytes)}${one.max_bytes ? ` of ${bytes(one.max_bytes)}` : ""}`),
      fact("samples", `${count(one.samples)}, ${number(one.bytes_per_sample)} bytes each`),
      fact("oldest", when(one.oldest_timestamp_ms, now)),
      fact("newest", when(one.newest_timestamp_ms, now)),
      fact("full in", one.time_until_full_seconds === null ? "–" : `${duration(one.time_until_full_seconds)}, at the present pace`),
      fact("history", one.history_segments ? `${bytes(one.history_bytes)}, ${count(one.history_samples)} samples, since ${when(one.history_oldest_timestamp_ms, now)}` : "none"),
      fact("disk", [el("span", { class: one.disk_state && one.disk_state !== "ok" ? "bad-text" : "" }, one.disk_state || "–"), `, ${bytes(one.free_bytes)} free`]),
      fact("refused", one.quarantine_items ? el("span", { class: "warn-text" }, `${count(one.quarantine_samples)} samples: limpet buffer quarantine list`) : "none"),
      fact("damage", one.damaged_records ? el("span", { class: "bad-text" }, `${count(one.damaged_records)} places: limpet buffer verify`) : "none"),
    ),
  );
}

/** @param {number|null} ms @param {number} now */
function when(ms, now) {
  return ms === null || ms === undefined ? "–" : `${moment(ms / 1000)} (${ago(ms / 1000, now)})`;
}

/** Show a card for each destination. @param {Element} node @param {any} found the buffer's state @param {number} now */
export function showDestinations(node, found, now) {
  const all = found.destinations;
  if (!all.length) fill(node, el("p", { class: "card soft" }, "No destination has samples in this buffer."));
  else fill(node, all.map((/** @type {any} */ one) => destination(one, found.verdict.parts.find((/** @type {any} */ part) => part.part === `to ${one.name}`), now)));
}

/** @param {any} one @param {any} part @param {number} now */
function destination(one, part, now) {
  const { ledger } = one;
  const dropped = Object.entries(ledger.dropped).filter(([, samples]) => Number(samples) > 0);
  const lost = ledger.loss_ratio;
  const next = one.next_try_timestamp_ms === null ? 0 : one.next_try_timestamp_ms / 1000 - now;
  const shares = [["delivered", ledger.delivered, "good"], ["pending", ledger.pending, "warn"], ["dropped", dropped.reduce((sum, [, n]) => sum + Number(n), 0), "bad"]];
  return el(
    "article", { class: "card destination" },
    el("h3", {}, one.name, el("span", { class: `pill ${STATES[/** @type {"idle"} */ (one.state)] || "soft"}` }, one.state)),
    one.last_error && el("p", { class: one.state === "held" ? "bad-text" : "warn-text" }, one.last_error),
    part?.do && el("p", { class: "do" }, `→ ${part.do}`),
    one.removed_timestamp_ms && el("p", { class: "warn-text" }, `not in the configuration since ${moment(one.removed_timestamp_ms / 1000)}`),
    el(
      "dl", { class: "facts" },
      fact("backlog", `${count(one.pending_samples)} samples, ${bytes(one.pending_bytes)}`),
      fact("oldest sample", one.pending_samples ? when(one.oldest_pending_timestamp_ms, now) : "–"),
      fact("last delivery", when(one.delivered_timestamp_ms, now)),
      fact("drained in", one.drain_eta_seconds === null ? "–" : duration(one.drain_eta_seconds)),
      one.failed_tries > 0 && fact("failed tries", `${count(one.failed_tries)}${next > 1 ? `, the next in ${duration(next)}` : ""}`),
      fact("clock", one.clock_skew_seconds === null ? "not compared yet" : `this host is ${duration(Math.abs(one.clock_skew_seconds))} ${one.clock_skew_seconds < 0 ? "behind" : "ahead"}`),
    ),
    el("h4", {}, "Ledger"),
    el(
      "dl", { class: "facts" },
      fact("appended", count(ledger.appended)),
      shares.map(([name, samples]) => fact(String(name), name === "dropped" && dropped.length ? dropped.map(([reason, n]) => `${count(Number(n))} ${reason}`).join(", ") : count(Number(samples)))),
      fact("missed", count(ledger.missed)),
      fact("lost", el("span", { class: lost > LOSS_LIMIT ? "bad-text" : "" }, `${number(lost * 100)} % (limit ${LOSS_LIMIT * 100} %)`)),
    ),
  );
}

/** Show the collectors. @param {Element} node @param {any} found @param {number} now Unix seconds */
export function showCollectors(node, found, now) {
  const rows = found.collectors.map((/** @type {any} */ one) => [
    one.name,
    state(one),
    one.newest_timestamp_ms === null ? "–" : ago(one.newest_timestamp_ms / 1000, now),
    count(one.series),
    one.duration_seconds === null ? "–" : `${number(one.duration_seconds * 1000)} ms`,
    ...[one.failures, one.timeouts, one.unreadable].map((times) => (times === null ? "–" : count(times))),
  ]);
  fill(
    node,
    found.failing.map((/** @type {string} */ text) => el("p", { class: "todo" }, text)),
    rows.length
      ? table("Collectors", ["collector", "state", ">newest", ">series", ">last run", ">failures", ">timeouts", ">unreadable"], rows)
      : el("p", { class: "soft" }, "There is nothing of the collectors yet: they report each minute."),
  );
}

/** Return how a collector is, in a word. @param {any} one */
function state(one) {
  if (one.stuck_seconds) return el("span", { class: "bad-text" }, `no answer for ${duration(one.stuck_seconds)}`);
  if (one.denied) return el("span", { class: "warn-text" }, `${count(one.denied)} may not be read`);
  return el("span", { class: "good-text" }, "fine");
}
