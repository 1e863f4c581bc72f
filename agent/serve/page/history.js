/**
 * The charts and the events of the time that is chosen: requested as a whole once, and then only what is new.
 *
 * A time of a day and less is one query. Of a longer one each panel is a query of its own, one after another, so that
 * none exceeds what the server reads for one, and the first chart is there before the last is read.
 */

import * as api from "./api.js";
import { Chart } from "./chart.js";
import { by, el, fill } from "./dom.js";
import { happenings, incidents, list, starts } from "./events.js";
import { duration, moment } from "./format.js";
import { expression, Grid, PANELS, round, stepFor } from "./panels.js";
import { RANGES, View } from "./view.js";

/** @typedef {import("./panels.js").Panel} Panel */

const DAY = 86400;
const PHONE = 700;
const POINTS = 240;
const EVENT_STEPS = 360;

export class History {
  /** @param {(part: string, work: Promise<void>) => Promise<void>} watched notes what became of a request */
  constructor(watched) {
    this._watched = watched;
    this._view = new View(api.now, () => this._chosen());
    /** @type {Grid|null} */
    this._grid = null;
    this._asking = new AbortController();
    this._isLoading = false;
    const moves = { zoom: this._view.zoom.bind(this._view), scale: this._view.scale.bind(this._view), back: this._view.back.bind(this._view) };
    this._charts = PANELS.map((panel) => new Chart(panel, moves));
    by("charts").append(...this._charts.map(({ node }) => node));
    this._listen();
  }

  /** Bring the charts up to date: all of the time where it is new, else what came since. */
  async refresh() {
    if (this._isLoading) return;
    if (!this._grid) await this._load();
    else if (this._view.live) await this._follow(this._grid);
  }

  /** Bring the events up to date. */
  async events() {
    const { limits: [from, to], stretch } = this._view;
    const step = stepFor(to - from, EVENT_STEPS);
    const end = round(to);
    const start = end - Math.floor((to - from) / step) * step;
    const [started, found] = await Promise.all([starts(step), incidents(step)].map((text) => api.range(text, start, end, step)));
    if (stretch === this._view.stretch) fill(by("events"), list(happenings(started, found, step, to), step));
  }

  /** Draw again, in the colors of the theme that is in force. */
  draw() {
    const grid = this._grid;
    if (!grid) return;
    for (const chart of this._charts) chart.show(grid);
    const [from, to] = this._view.limits;
    const nothing = !this._isLoading && this._charts.every(({ node }) => node.hidden);
    by("span").textContent = `${moment(from)} to ${moment(to)}${this._view.live ? ", the present" : ""}. A point each ${duration(grid.step)}.${nothing ? " There are no samples in this time." : ""}`;
  }

  get _how() {
    return by("how").value;
  }

  async _load() {
    this._asking.abort();
    this._asking = new AbortController();
    const { signal } = this._asking;
    const [from, to] = this._view.limits;
    const grid = new Grid(from, to, stepFor(to - from, innerWidth < PHONE ? POINTS / 2 : POINTS));
    this._isLoading = true;
    by("charts").setAttribute("aria-busy", "true");
    try {
      for (const group of to - from > DAY ? PANELS.map((panel) => [panel]) : [PANELS]) {
        await this._watched(group.length > 1 ? "charts" : group[0].title, this._ask(group, grid, grid.start, grid.end, signal));
        if (signal.aborted) return;
        this._grid = grid;
        this.draw();
      }
    } finally {
      if (!signal.aborted) {
        this._isLoading = false;
        by("charts").removeAttribute("aria-busy");
        this.draw();
      }
    }
  }

  /** @param {Grid} grid */
  async _follow(grid) {
    const [, to] = this._view.limits;
    const steps = Math.floor((to - grid.end) / grid.step);
    if (steps < 1) return;
    const since = grid.end;
    grid.slide(steps);
    await this._ask(PANELS, grid, since, grid.end);
    if (grid === this._grid) this.draw();
  }

  /** @param {Panel[]} panels @param {Grid} grid @param {number} from @param {number} to @param {AbortSignal} [signal] */
  async _ask(panels, grid, from, to, signal) {
    grid.put(await api.range(expression(panels, grid.step, this._how), from, to, grid.step, signal));
  }

  /** Another time was chosen, or other points. */
  _chosen() {
    this._grid = null;
    this._isLoading = false;
    const { live, stretch } = this._view;
    for (const button of by("ranges").children) button.setAttribute("aria-pressed", String(live && Number(button.value) === stretch.span));
    this._watched("charts", this.refresh());
    this._watched("events", this.events());
  }

  _listen() {
    const view = this._view;
    fill(by("ranges"), RANGES.map(([name, span]) => el("button", { type: "button", value: span, "aria-pressed": String(span === view.stretch.span) }, name)));
    by("ranges").addEventListener("click", (/** @type {any} */ event) => event.target.value && view.last(Number(event.target.value)));
    by("earlier").addEventListener("click", () => view.move(-0.5));
    by("later").addEventListener("click", () => view.move(0.5));
    by("closer").addEventListener("click", () => view.scale(0.5));
    by("wider").addEventListener("click", () => view.scale(2));
    by("how").addEventListener("change", () => this._chosen());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }
}
