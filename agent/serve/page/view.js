/**
 * Which time is shown: the last hour up to the present, or a stretch that stands still. A value with no memory of its
 * own but the way back.
 */

/** @typedef {{span: number, end: number|null}} Stretch `end` is null where it is the present */

/** The lengths to choose from, by their names. */
export const RANGES = [["1 h", 3600], ["6 h", 21600], ["24 h", 86400], ["7 d", 604800], ["30 d", 2592000], ["1 y", 31536000]];

const LEAST = 60;
const MOST = 2 * 31536000;

export class View {
  /** @param {() => number} now the host's time in Unix seconds @param {() => void} changed */
  constructor(now, changed) {
    this._now = now;
    this._changed = changed;
    /** @type {Stretch} */
    this.stretch = { span: 3600, end: null };
    /** @type {Stretch[]} */
    this._back = [];
  }

  /** Whether the end is the present. */
  get live() {
    return this.stretch.end === null;
  }

  /** First and last moment, in Unix seconds. */
  get limits() {
    const end = this.stretch.end ?? this._now();
    return [end - this.stretch.span, end];
  }

  /** @param {number} span seconds up to the present */
  last(span) {
    this._back = [];
    this._go({ span, end: null });
  }

  /** @param {number} from Unix seconds @param {number} to Unix seconds */
  zoom(from, to) {
    if (to - from < LEAST) {
      const middle = (from + to) / 2;
      [from, to] = [middle - LEAST / 2, middle + LEAST / 2];
    }
    this._back.push(this.stretch);
    this._go({ span: Math.min(to - from, MOST), end: to });
  }

  /** Make it shorter or longer around a moment, or around its middle. @param {number} factor @param {number} [around] */
  scale(factor, around) {
    const [from, to] = this.limits;
    const middle = around ?? (from + to) / 2;
    const end = middle + (to - middle) * factor;
    if (factor > 1 && end >= this._now()) this._go({ span: Math.min(this.stretch.span * factor, MOST), end: null });
    else this.zoom(middle - (middle - from) * factor, end);
  }

  /** Move by a part of its length; what would reach beyond the present follows it. @param {number} part */
  move(part) {
    const [, to] = this.limits;
    const end = to + part * this.stretch.span;
    this._go({ span: this.stretch.span, end: end >= this._now() ? null : end });
  }

  /** Go back to what was shown before the last zoom; without one, to the present. */
  back() {
    this._go(this._back.pop() || { span: this.stretch.span, end: null });
  }

  /** @param {Stretch} stretch */
  _go(stretch) {
    this.stretch = stretch;
    this._changed();
  }
}
