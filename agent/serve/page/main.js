/**
 * The page: requests the state of this host every few seconds, and shows it.
 *
 * Promises: while the page is hidden or paused it requests nothing. Where the server does not answer, the page says so, keeps
 * what it has and tries again, each time after twice as long, up to a minute. A request that is refused costs its own part.
 */

import * as api from "./api.js";
import { by, el, fill } from "./dom.js";
import { bytes, duration, moment } from "./format.js";
import { History } from "./history.js";
import { EXPRESSION, Values, showDisks, showTiles } from "./host.js";
import { showBuffer, showCollectors, showDestinations, showState } from "./sending.js";

const EVERY = 10;
const SLOW_EVERY = 60;
const LONGEST_WAIT = 60;
/** From which age on the newest sample is called old, in seconds. */
const OLD = 120;
/** From which difference on the clocks of host and browser are worth a word, in seconds. */
const CLOCKS_DIFFER = 60;
const THEME = "limpet-theme";

const state = {
  /** @type {any} */ buffer: null,
  values: new Values([]),
  /** @type {any} */ trends: null,
  isPaused: false,
  isAsking: false,
  /** The login is not taken any more: nothing is tried with it until somebody asks for that. */ isOut: false,
  failures: 0,
  /** When the server answered last, by this browser's clock in ms. */ answered: 0,
  /** Why there is no answer, in words. */ away: "",
  /** What was refused, by the part of the page. @type {Map<string, string>} */ refused: new Map(),
  slowAt: 0,
};
/** @type {ReturnType<typeof setTimeout>|undefined} */
let timer;
const history = new History(watched);

// What is requested.

/** Request everything that is due, show it, and plan the next round. */
async function round() {
  if (state.isPaused || document.hidden || state.isAsking || state.isOut) return;
  clearTimeout(timer);
  state.isAsking = true;
  const parts = [watched("host", host()), watched("charts", history.refresh())];
  if (Date.now() >= state.slowAt) {
    state.slowAt = Date.now() + SLOW_EVERY * 1000;
    parts.push(watched("forecast", forecast()), watched("collectors", collectors()), watched("events", history.events()));
  }
  state.away = "";
  await Promise.all(parts);
  state.failures = state.away ? state.failures + 1 : 0;
  if (state.away) state.slowAt = 0;
  state.isAsking = false;
  timer = setTimeout(round, 1000 * Math.min(EVERY * 2 ** state.failures, state.failures ? LONGEST_WAIT : EVERY));
  tell();
}

/**
 * Wait for a part of the page, and note what became of it; it never throws.
 * @param {string} part
 * @param {Promise<void>} work
 */
async function watched(part, work) {
  try {
    await work;
    state.answered = Date.now();
    state.refused.delete(part);
  } catch (error) {
    failed(part, error);
  }
  if (!state.buffer) by("first").textContent = state.refused.get("host") || state.away || by("first").textContent;
  by("trouble").hidden = state.refused.size === 0;
  by("trouble").textContent = [...state.refused].map(([name, why]) => `${name}: ${why}`).join(" · ");
  tell();
}

/** @param {string} part @param {any} error */
function failed(part, error) {
  if (error.name === "AbortError" || state.isOut) return;
  if (error instanceof api.Refused && error.status === 401) {
    state.isOut = true;
    state.away = "The server wants to know who you are: load this page again to log in.";
  } else if (error instanceof api.Refused && error.status === 403) state.away = "You have no right to read this.";
  else if (error instanceof api.Refused && part === "host" && error.status >= 429) state.away = `The server cannot answer: ${error.message}.`;
  else if (error instanceof api.Refused) state.refused.set(part, error.message);
  else if (error instanceof api.Away) state.away = "No answer from the server (limpet serve): it does not run, or the link is down.";
  else {
    state.refused.set(part, `this page failed: ${error.message}`);
    console.error(error);
  }
}

/** State, buffer and destinations, and the host's values at its newest sample. */
async function host() {
  const [found, values] = await Promise.all([api.buffer(), api.query(EXPRESSION)]);
  const newest = found.newest_timestamp_ms / 1000;
  const isOld = newest > 0 && Math.abs(api.now() - newest) > OLD;
  state.buffer = found;
  state.values = new Values(isOld ? await api.query(EXPRESSION, newest) : values);
  by("as-of").textContent = isOld ? `as of ${moment(newest)}` : "";
  show();
}

async function forecast() {
  state.trends = await api.forecast();
  showDisks(by("disks"), state.values, state.trends);
}

async function collectors() {
  showCollectors(by("collectors"), await api.collectors(), api.now());
}

// What is shown.

function show() {
  const { buffer, values } = state;
  const now = api.now();
  by("first").hidden = true;
  by("main").hidden = false;
  const name = values.label("hostname");
  by("host").textContent = name || "this host";
  document.title = name ? `${name} – Limpet` : "Limpet";
  by("labels").textContent = values.shared().filter(([key]) => key !== "hostname").map(([key, value]) => `${key} ${value}`).join(" · ");
  showState(buffer.verdict, by("parts"), by("todo"));
  showTiles(by("tiles"), values, now);
  showDisks(by("disks"), values, state.trends);
  showBuffer(by("buffer"), buffer, now);
  showDestinations(by("destinations"), buffer, now);
}

/** Say in one line whether this is live. It changes only where its meaning does, so that a screen reader is not flooded. */
function tell() {
  const [kind, text] = word();
  by("live").className = `live ${kind}`;
  if (by("live-text").textContent !== text) by("live-text").textContent = text;
  document.body.classList.toggle("stale", Boolean(state.away));
  by("retry").hidden = !state.away;
  foot();
}

/** @returns {[string, string]} */
function word() {
  if (state.away) return ["bad", `${state.away}${state.buffer ? ` What is shown is of ${moment(state.answered / 1000)}.` : ""}`];
  if (state.isPaused) return ["warn", "Paused: no requests."];
  switch (state.buffer?.verdict.word) {
    case undefined: return ["warn", "Asking this host …"];
    case "ok": return ["good", "Live: all is well."];
    case "attention": return ["warn", "Live: something needs doing."];
    case "stopped": return ["bad", "The agent is stopped: nothing is collected."];
    default: return ["warn", "Live: not all can be seen of the agent."];
  }
}

/** Bytes that the page has received: what a link by the megabyte is paid for. */
let received = 0;
new PerformanceObserver((entries) => {
  for (const entry of entries.getEntries()) received += /** @type {any} */ (entry).transferSize;
}).observe({ type: "resource", buffered: true });

function foot() {
  const ahead = api.skew();
  const version = state.values.all("limpet_build_info")[0]?.labels.version;
  fill(
    by("foot"),
    [
      version && `Limpet ${version}`,
      `times are of this browser (${Intl.DateTimeFormat().resolvedOptions().timeZone})`,
      received > 0 && `this page has received ${bytes(received)}`,
      ...api.warnings(),
    ].filter(Boolean).join(" · "),
    Math.abs(ahead) > CLOCKS_DIFFER && el("b", { class: "warn-text" }, ` · This host's clock is ${duration(Math.abs(ahead))} ${ahead > 0 ? "ahead of" : "behind"} this browser's.`),
  );
}

// What people do.

function listen() {
  by("retry").addEventListener("click", () => {
    state.isOut = false;
    round();
  });
  by("pause").addEventListener("click", () => {
    state.isPaused = !state.isPaused;
    by("pause").setAttribute("aria-pressed", String(state.isPaused));
    tell();
    round();
  });
  document.addEventListener("visibilitychange", round);
  const apply = (/** @type {string} */ theme) => document.documentElement.toggleAttribute("data-theme", Boolean(theme)) && document.documentElement.setAttribute("data-theme", theme);
  by("theme").value = localStorage.getItem(THEME) || "";
  apply(by("theme").value);
  by("theme").addEventListener("change", () => {
    localStorage.setItem(THEME, by("theme").value);
    apply(by("theme").value);
    history.draw();
  });
}

listen();
round();
