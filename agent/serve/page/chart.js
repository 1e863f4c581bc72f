/**
 * One panel as a chart that everybody can read: drawn with uPlot, with a tooltip, keys, and the same numbers as a table.
 *
 * For a screen reader the chart is a slider over time: the arrows move it, and it says the time and the values there.
 */

import { clock, count, date, moment, number, quantity } from "./format.js";
import { color, el, fill, table } from "./dom.js";
import { summary } from "./panels.js";

/** @typedef {import("./panels.js").Panel} Panel */
/** @typedef {import("./panels.js").Grid} Grid */
/** @typedef {import("./panels.js").Track} Track */
/** @typedef {{zoom: (from: number, to: number) => void, scale: (factor: number, around?: number) => void, back: () => void}} Moves */

const HEIGHT = 200;
/** Pixels for the labels of the axis, by the unit. @type {Record<string, number>} */
const WIDTHS = { bytes_per_sec: 74, celsius: 62, percent: 52, samples: 62 };
const TABLE_ROWS = 24;
const COLORS = 8;
/** Fewer values than these are points: a line needs two. */
const FEW = 3;
const SYNC = "limpet";

export class Chart {
  /** @param {Panel} panel @param {Moves} moves */
  constructor(panel, moves) {
    this._panel = panel;
    this._moves = moves;
    this._plot = null;
    this._shape = "";
    /** @type {Track[]} */
    this._tracks = [];
    /** @type {number[]} */
    this._times = [];
    this._at = -1;
    const title = `chart-${panel.id}`;
    this._place = el("div", {
      class: "plot", tabindex: 0, role: "slider", "aria-labelledby": title, "aria-orientation": "horizontal",
      ondblclick: () => this._moves.back(), onkeydown: (/** @type {KeyboardEvent} */ event) => this._key(event), onblur: () => this._point(-1),
    });
    this._tip = el("div", { class: "tip", hidden: true });
    this._legend = el("ul", { class: "legend" });
    this._table = el("div", { class: "scroll values", hidden: true, tabindex: 0, role: "region", "aria-label": `${panel.title}: values` });
    this._switch = el("button", { type: "button", "aria-expanded": "false", onclick: () => this._toggle() }, "Table");
    this.node = el(
      "article", { class: "card chart", id: `panel-${panel.id}`, hidden: true },
      el("div", { class: "head" }, el("h3", { id: title }, panel.title, el("span", { class: "soft" }, ` ${panel.about}`)), this._switch),
      this._place, this._tip, this._legend, this._table,
    );
    new ResizeObserver(() => this._plot?.setSize(this._size())).observe(this._place);
  }

  /** Show what is in the grid. @param {Grid} grid */
  show(grid) {
    const { tracks, more } = grid.tracks(this._panel);
    this.node.hidden = tracks.length === 0;
    if (!tracks.length) return;
    this._tracks = tracks;
    this._times = grid.times;
    const shape = JSON.stringify([tracks.map(({ name }) => name), color("--text")]);
    const data = [this._times, ...tracks.map(({ values }) => values)];
    if (this._plot && shape === this._shape) this._plot.setData(data);
    else this._draw(data, grid.step);
    this._shape = shape;
    this._tell(more);
  }

  /** @param {any[]} data @param {number} step */
  _draw(data, step) {
    this._plot?.destroy();
    const { unit, most } = this._panel;
    const [text, line] = [color("--soft"), color("--line")];
    const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 }, font: "12px system-ui, sans-serif" };
    const alone = this._tracks.length === 1;
    this._plot = new window.uPlot(
      {
        ...this._size(),
        legend: { show: false },
        scales: { x: { time: true }, y: { range: (_, low, high) => limits(low ?? 0, high ?? 1, unit, most) } },
        cursor: { sync: { key: SYNC, setSeries: false, filters: { pub: (/** @type {string} */ type) => type === "mousemove" || type === "mouseleave" } }, drag: { x: true, y: false, setScale: false }, points: { size: 7 }, bind: { dblclick: () => () => null } },
        axes: [
          { ...axis, space: 70, size: 32, values: (_, splits) => labels(splits) },
          { ...axis, size: WIDTHS[unit] || 42, incrs: unit.startsWith("bytes") ? POWERS : undefined, values: (_, splits) => splits.map((value) => scaled(value, unit)) },
        ],
        series: [
          {},
          ...this._tracks.map((track, index) => ({
            label: track.name,
            stroke: color(`--line-${index % COLORS}`),
            width: index === 0 ? 2 : 1.5,
            dash: index >= COLORS ? [5, 3] : undefined,
            fill: alone || (index === 0 && most === 100 && this._tracks.length < 3) ? color("--fill") : undefined,
            points: { size: 5, show: (plot, line) => plot.data[line].filter((/** @type {any} */ one) => one !== null).length < FEW },
            gaps: (plot, line, _, __, gaps) => real(plot, gaps, spacing(plot.data[line]) * step * 2.5),
          })),
        ],
        hooks: {
          setCursor: [(plot) => this._point(plot.cursor.idx ?? -1, plot.cursor.left ?? -1)],
          setSelect: [(plot) => this._selected(plot)],
        },
      },
      data,
      this._place,
    );
  }

  _size() {
    return { width: Math.max(200, this._place.clientWidth), height: HEIGHT };
  }

  /** @param {any} plot */
  _selected(plot) {
    const { left, width } = plot.select;
    if (width < 4) return;
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this._moves.zoom(plot.posToVal(left, "x"), plot.posToVal(left + width, "x"));
  }

  /** Show the values at a time in the tooltip, and say them. @param {number} index @param {number} [left] in pixels */
  _point(index, left = -1) {
    this._at = index;
    const shown = index >= 0 && left >= 0 && index < this._times.length;
    this._tip.hidden = !shown;
    if (!shown) return;
    const rows = this._tracks.map((track, line) => el("li", {}, mark(line), `${track.name} `, el("b", {}, quantity(near(track.values, index), this._panel.unit))));
    fill(this._tip, el("p", {}, moment(this._times[index])), el("ul", {}, rows));
    this._tip.classList.toggle("flip", left > this._place.clientWidth / 2);
    this._announce(index);
  }

  /** @param {number} index */
  _announce(index) {
    const { _place: place, _times: times } = this;
    const values = this._tracks.map((track) => `${track.name} ${quantity(near(track.values, index), this._panel.unit)}`);
    const attributes = { min: 0, max: times.length - 1, now: index, text: `${moment(times[index])}: ${values.join(", ")}` };
    for (const [name, value] of Object.entries(attributes)) place.setAttribute(`aria-value${name}`, String(value));
  }

  /** @param {KeyboardEvent} event */
  _key(event) {
    const last = this._times.length - 1;
    const here = this._at < 0 ? last : this._at;
    const by = event.shiftKey ? 10 : 1;
    /** @type {Record<string, () => void>} */
    const keys = {
      ArrowLeft: () => this._move(Math.max(0, here - by)),
      ArrowRight: () => this._move(Math.min(last, here + by)),
      Home: () => this._move(0),
      End: () => this._move(last),
      "+": () => this._moves.scale(0.5, this._times[here]),
      "-": () => this._moves.scale(2, this._times[here]),
      Escape: () => this._moves.back(),
    };
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  }

  /** @param {number} index */
  _move(index) {
    this._plot.setCursor({ left: this._plot.valToPos(this._times[index], "x"), top: HEIGHT / 3 });
  }

  _toggle() {
    this._table.hidden = !this._table.hidden;
    this._switch.setAttribute("aria-expanded", String(!this._table.hidden));
    this._rows();
  }

  /** Bring the legend, the words for a screen reader and the table up to date. @param {number} more */
  _tell(more) {
    const { unit } = this._panel;
    fill(
      this._legend,
      this._tracks.map((track, index) => {
        const { mean, most, last } = summary(track.values);
        const title = `mean ${quantity(mean, unit)}, most ${quantity(most, unit)}`;
        return el("li", { title }, mark(index), `${track.name} `, el("b", {}, quantity(last, unit)));
      }),
      more > 0 && el("li", { class: "soft" }, `${more} more are not drawn`),
    );
    if (this._at < 0) this._announce(this._times.length - 1);
    this._rows();
  }

  _rows() {
    if (this._table.hidden) return;
    const { unit, title } = this._panel;
    const every = Math.max(1, Math.ceil(this._times.length / TABLE_ROWS));
    const picked = this._times.map((_, index) => index).filter((index) => (this._times.length - 1 - index) % every === 0);
    const numbers = this._tracks.map(({ name, values }) => {
      const { least, mean, most, last } = summary(values);
      return [name, ...[least, mean, most, last].map((value) => quantity(value, unit))];
    });
    const rows = picked.map((index) => [moment(this._times[index]), ...this._tracks.map(({ values }) => quantity(near(values, index), unit))]);
    fill(
      this._table,
      table(`${title}: the numbers of this time`, ["of", ">least", ">mean", ">most", ">last"], numbers),
      table(`${title}: values, newest first`, ["time", ...this._tracks.map(({ name }) => `>${name}`)], rows.reverse()),
    );
  }
}

const POWERS = Array.from({ length: 16 }, (_, power) => [1, 2, 4, 8, 16, 32, 64, 128, 256, 512].map((n) => n * 1024 ** power)).slice(0, 5).flat();

/** Return the mark of a line in its color. @param {number} index */
function mark(index) {
  return el("span", { class: `mark c${index % COLORS}`, "aria-hidden": "true" });
}

/** Return a value of the axis, which are round. @param {number} value @param {string} unit */
function scaled(value, unit) {
  if (unit === "percent") return `${number(value)} %`;
  return unit === "samples" ? count(value) : quantity(value, unit);
}

/** Return the lowest and highest value of the axis. @param {number} low @param {number} high @param {string} unit @param {number} [most] */
function limits(low, high, unit, most) {
  if (most) return [0, most];
  if (unit === "celsius") return [Math.floor((low - 2) / 5) * 5, Math.ceil((high + 2) / 5) * 5];
  return [Math.min(0, low), high > 0 ? high * 1.08 : 1];
}

/** Return how many steps apart the values of a track usually are. @param {(number|null)[]} values */
function spacing(values) {
  const places = values.flatMap((value, index) => (value === null ? [] : [index]));
  const apart = places.slice(1).map((place, index) => place - places[index]).sort((a, b) => a - b);
  return apart.length ? apart[Math.floor(apart.length / 2)] : 1;
}

/** Return the gaps that are longer than some seconds: a series of each minute has none every 15 s. @param {any} plot @param {[number, number][]} gaps @param {number} seconds */
function real(plot, gaps, seconds) {
  return gaps.filter(([from, to]) => plot.posToVal(to, "x", true) - plot.posToVal(from, "x", true) > seconds);
}

/** Return the value at a place, or the one before it that still holds. @param {(number|null)[]} values @param {number} index */
function near(values, index) {
  const most = spacing(values);
  for (let back = 0; back < most && index - back >= 0; back += 1) {
    if (values[index - back] !== null) return values[index - back];
  }
  return null;
}

/** Return the labels of the time axis: the date where the day changes. @param {number[]} splits */
function labels(splits) {
  const step = splits[1] - splits[0];
  return splits.map((at, index) => {
    if (step >= 86400) return date(at).slice(step > 26 * 86400 ? 0 : 5);
    const isNewDay = index > 0 && date(at) !== date(splits[index - 1]);
    return isNewDay ? date(at).slice(5) : clock(at, step < 60);
  });
}
