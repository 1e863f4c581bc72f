/**
 * Elements, made and brought up to date. Text becomes text nodes and nothing else: what a label of a series says is never
 * read as HTML.
 */

/** @typedef {Node|string|number|null|undefined|false} Child lists of them may be nested */

/**
 * Return an element with attributes and children. An `on...` attribute is a listener; null, undefined and false are left out.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Child|Child[])} children
 * @returns {HTMLElement}
 */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...nodes(children));
  return node;
}

/**
 * Return the element with this id, which is in index.html.
 * @param {string} id
 * @returns {any}
 */
export function by(id) {
  const node = document.getElementById(id);
  if (!node) throw new Error(`index.html has no element ${id}`);
  return node;
}

/**
 * Make the children of a node those given, and change only what differs: the focus, a selection and the place of a
 * screen reader stay where they are.
 * @param {Element} node
 * @param {...(Child|Child[])} children
 */
export function fill(node, ...children) {
  sync(node, nodes(children));
}

/** @param {(Child|Child[])[]} children @returns {Node[]} */
function nodes(children) {
  return children
    .flat(Infinity)
    .filter((one) => one !== null && one !== undefined && one !== false && one !== "")
    .map((one) => (one instanceof Node ? one : document.createTextNode(String(one))));
}

/** @param {Element} node @param {Node[]} wanted */
function sync(node, wanted) {
  wanted.forEach((fresh, index) => {
    const old = node.childNodes[index];
    if (!old) node.append(fresh);
    else if (old.nodeName !== fresh.nodeName) node.replaceChild(fresh, old);
    else if (fresh instanceof Element && old instanceof Element) patch(old, fresh);
    else if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
  });
  while (node.childNodes.length > wanted.length) node.lastChild?.remove();
}

/** @param {Element} old @param {Element} fresh */
function patch(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  sync(old, [...fresh.childNodes]);
}

/**
 * Return a meter: a bar that is filled by a share of 0 to 1. Without a label, screen readers pass over it.
 * @param {number} share
 * @param {string} label
 * @param {"good"|"warn"|"bad"} level
 */
export function bar(share, label, level) {
  const filled = Math.min(100, Math.max(share > 0 ? 1 : 0, share * 100));
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", `meter ${level}`);
  svg.setAttribute("viewBox", "0 0 100 8");
  svg.setAttribute("preserveAspectRatio", "none");
  if (label) {
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", label);
  } else svg.setAttribute("aria-hidden", "true");
  for (const [name, width] of [["whole", 100], ["part", filled]]) {
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    rect.setAttribute("class", String(name));
    rect.setAttribute("width", String(Math.round(Number(width) * 10) / 10));
    rect.setAttribute("height", "8");
    svg.append(rect);
  }
  return svg;
}

/**
 * Return a table. A cell is text or nodes; a title that begins with `>` is of a column of numbers.
 * @param {string} caption
 * @param {string[]} titles
 * @param {(Child|Child[])[][]} rows the first cell of each is its heading
 */
export function table(caption, titles, rows) {
  const right = titles.map((title) => title.startsWith(">"));
  const cell = (/** @type {Child|Child[]} */ content, /** @type {number} */ index) =>
    index === 0
      ? el("th", { scope: "row" }, content)
      : el("td", { class: right[index] && "number" }, content);
  return el(
    "table",
    {},
    el("caption", {}, caption),
    el("thead", {}, el("tr", {}, titles.map((title, i) => el("th", { scope: "col", class: right[i] && "number" }, title.replace(/^>/, ""))))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map(cell)))),
  );
}

/**
 * Return a color of page.css as the browser computes it for the theme that is in force.
 * @param {string} name of a custom property: `--line`
 */
export function color(name) {
  const probe = document.documentElement.appendChild(document.createElement("i"));
  probe.style.color = `var(${name})`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
