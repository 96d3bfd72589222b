// Draws the matrix from its packed cells (layout: server/api/matrix.py) on a canvas.
//
// Every cell becomes a step: 0 = not measured, 1 ... 7 = from the best to the worst. Smaller copies of the steps,
// each of the worst of four, are what a fleet is drawn from that has more agents than the screen has dots:
// a single bad path is seen at any scale. Only the part in view is ever drawn.
"use strict";

(() => {
const picture = document.getElementById("picture");
if (!picture) return;
const canvas = picture.querySelector("canvas");
const tip = picture.querySelector(".tip");
const said = document.getElementById("said");
const table = document.getElementById("as-table");
const tools = document.querySelector(".zoom");
const find = document.getElementById("find");
const pen = canvas.getContext("2d", { alpha: false });
const known = JSON.parse(picture.dataset.steps);

const LARGEST = 36; // px of a cell of a large fleet; a small one's may be larger
const TEXT_FROM = 13; // px of a cell that a letter fits in
const NUMBER_FROM = 30; // and a number
const LABEL_FROM = 11;
const DETAIL_MS = 180; // a cell is rested upon, not passed over
const KEY_STEP = 10; // cells with Shift

let metric = picture.dataset.metric;
let data = null; // { agents, sites, none, cells, levels, bounds }
let view = { scale: 1, x: 0, y: 0 }; // px of a cell, and the cell coordinates of the corner
let cursor = { row: 0, column: 1 };
let pinned = false;
let size = { width: 0, height: 0, left: 0, top: 0, ratio: 1 };
let asked = 0; // the latest question for a cell's detail
let detailTimer = 0;
let drawing = false;

// --- reading ---

function address(chosen) {
  const query = new URLSearchParams({ profile: picture.dataset.profile, metric: chosen });
  if (picture.dataset.at) query.set("at", picture.dataset.at);
  return `/v1/matrix?${query}`;
}

function unpack(buffer) {
  const view = new DataView(buffer);
  if (view.getUint32(0) !== 0x50474d31) throw new Error("not a packed matrix");
  const length = view.getUint32(4, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const kind = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array }[head.cell_bytes];
  return { ...head, cells: new kind(buffer, 8 + length) };
}

function stepsOf(head) {
  const steps = new Uint8Array(head.cells.length);
  if (head.metric === "letter") {
    const codes = new Uint8Array(256);
    [...known.letters].forEach((letter, i) => { codes[letter.charCodeAt(0)] = i + 1; });
    for (let i = 0; i < steps.length; i++) steps[i] = codes[head.cells[i]];
    return steps;
  }
  const most = known.most[head.metric];
  for (let i = 0; i < steps.length; i++) {
    const value = head.cells[i];
    if (value === head.none) continue;
    let step = 1;
    for (const limit of most) if (value > limit) step++;
    steps[i] = step;
  }
  return steps;
}

// The worst of each two by two: a level has half the side of the level before.
function halved({ side, steps }) {
  const half = Math.ceil(side / 2);
  const made = new Uint8Array(half * half);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const at = (y >> 1) * half + (x >> 1);
      if (steps[y * side + x] > made[at]) made[at] = steps[y * side + x];
    }
  }
  return { side: half, steps: made };
}

function paint(level, colours) {
  const drawn = document.createElement("canvas");
  drawn.width = drawn.height = level.side;
  const on = drawn.getContext("2d", { alpha: false });
  const image = on.createImageData(level.side, level.side);
  const dots = new Uint32Array(image.data.buffer);
  for (let i = 0; i < dots.length; i++) dots[i] = colours[level.steps[i]];
  on.putImageData(image, 0, 0);
  return drawn;
}

const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const family = () => (metric === "letter" ? "letter" : "more");
const stepColour = (step) => token(step ? `--${family()}-${step}` : "--step-none");

function dot(hex) {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  return (255 << 24 | b << 16 | g << 8 | r) >>> 0; // as a little-endian machine keeps RGBA
}

// Relative luminance (WCAG 2.2): above 0.18 dark ink has the greater contrast.
function inkOn(hex) {
  const [r, g, b] = [1, 3, 5].map((at) => (parseInt(hex.slice(at, at + 2), 16) / 255) ** 2.2);
  return token(r * 0.2126 + g * 0.7152 + b * 0.0722 > 0.18 ? "--step-dark-ink" : "--step-light-ink");
}

function build(head) {
  const side = head.agents.length;
  const colours = Array.from({ length: 8 }, (_, step) => dot(stepColour(step)));
  const levels = [{ side, steps: stepsOf(head) }];
  while (levels.at(-1).side > 64) levels.push(halved(levels.at(-1)));
  for (const level of levels) level.drawn = paint(level, colours);
  const inks = Array.from({ length: 8 }, (_, step) => inkOn(stepColour(step)));
  const bounds = []; // where another site begins
  head.sites.forEach((site, i) => { if (!i || site !== head.sites[i - 1]) bounds.push(i); });
  return { ...head, side, levels, inks, bounds };
}

async function load() {
  const answer = await fetch(address(metric), { cache: "no-cache" });
  if (!answer.ok) throw new Error(`the matrix could not be read: ${answer.status}`);
  const head = unpack(await answer.arrayBuffer());
  if (head.metric !== metric) return; // another was chosen meanwhile
  const before = data;
  data = build(head);
  picture.querySelector(".picture-wait").hidden = true;
  if (!before || before.side !== data.side) {
    measure();
    fit();
    cursor = { row: 0, column: Math.min(1, data.side - 1) };
    fillNames();
  }
  draw();
}

// --- laying out ---

function measure() {
  const ratio = Math.max(1, window.devicePixelRatio || 1);
  const width = picture.clientWidth;
  const narrow = width < 600;
  const left = Math.min(narrow ? 84 : 150, labelRoom(narrow ? 78 : 144));
  const top = left;
  const most = Math.max(260, Math.min(window.innerHeight - 150, 900));
  const wanted = top + data.side * largest() + 8;
  const height = Math.round(Math.min(most, wanted, top + (width - left) + 1));
  size = { width, height, left, top, ratio };
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
}

function labelRoom(most) {
  pen.font = labelFont();
  const longest = Math.max(...data.agents.slice(0, 200).map((name) => pen.measureText(name).width));
  return Math.min(most, Math.ceil(longest)) + 14;
}

const labelFont = () => `500 ${12}px Inter, system-ui, sans-serif`;
const largest = () => Math.max(LARGEST, Math.min(56, 480 / data.side));
const inner = () => ({ width: size.width - size.left, height: size.height - size.top });

function fitScale() {
  const { width, height } = inner();
  return Math.min(largest(), Math.min(width, height) / data.side);
}

function fit() {
  view = { scale: fitScale(), x: 0, y: 0 };
  clamp();
}

function clamp() {
  const { width, height } = inner();
  view.scale = Math.min(largest(), Math.max(fitScale(), view.scale));
  view.x = Math.max(0, Math.min(view.x, data.side - width / view.scale));
  view.y = Math.max(0, Math.min(view.y, data.side - height / view.scale));
  picture.classList.toggle("zoomed", view.scale > fitScale() * 1.01);
}

function zoom(factor, px = size.left + inner().width / 2, py = size.top + inner().height / 2) {
  const column = view.x + (px - size.left) / view.scale;
  const row = view.y + (py - size.top) / view.scale;
  view.scale = Math.min(largest(), Math.max(fitScale(), view.scale * factor));
  view.x = column - (px - size.left) / view.scale;
  view.y = row - (py - size.top) / view.scale;
  clamp();
  draw();
}

// --- drawing ---

function draw() {
  if (drawing || !data) return;
  drawing = true;
  requestAnimationFrame(() => { drawing = false; drawNow(); });
}

function drawNow() {
  const { width, height, left, top, ratio } = size;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.fillStyle = token("--sheet");
  pen.fillRect(0, 0, width, height);
  drawCells();
  drawSites();
  if (view.scale >= TEXT_FROM) drawTexts();
  drawCursor();
  drawLabels();
  // For tests and the bench: what is drawn, and where its cells are.
  picture.dataset.drawn = data.metric;
  picture.dataset.grid = `${left} ${top} ${view.scale}`;
  if (!performance.getEntriesByName("matrix-drawn").length) performance.mark("matrix-drawn");
}

const toX = (column) => size.left + (column - view.x) * view.scale;
const toY = (row) => size.top + (row - view.y) * view.scale;

function drawCells() {
  const wanted = view.scale * size.ratio; // device dots of a cell: below one, the worst of a block is drawn
  let level = 0;
  while (level + 1 < data.levels.length && wanted * 2 ** level < 1) level++;
  const drawn = data.levels[level].drawn;
  const block = 2 ** level;
  pen.save();
  pen.beginPath();
  pen.rect(size.left, size.top, inner().width, inner().height);
  pen.clip();
  pen.imageSmoothingEnabled = false;
  const side = drawn.width * block * view.scale;
  pen.drawImage(drawn, toX(0), toY(0), side, side);
  pen.restore();
}

function range(from, room) {
  return [Math.max(0, Math.floor(from)), Math.min(data.side, Math.ceil(from + room / view.scale))];
}

function drawSites() {
  const [firstColumn, lastColumn] = range(view.x, inner().width);
  const [firstRow, lastRow] = range(view.y, inner().height);
  const right = Math.min(size.width, toX(data.side));
  const bottom = Math.min(size.height, toY(data.side));
  pen.strokeStyle = token("--sheet");
  if (view.scale >= 8) {
    pen.lineWidth = 1;
    pen.beginPath();
    for (let i = firstColumn; i <= lastColumn; i++) line(toX(i), size.top, toX(i), bottom);
    for (let i = firstRow; i <= lastRow; i++) line(size.left, toY(i), right, toY(i));
    pen.stroke();
  }
  if (data.bounds.length > 1 && data.bounds.length * 14 < data.side * view.scale) {
    pen.strokeStyle = token("--ink");
    pen.globalAlpha = 0.55;
    pen.beginPath();
    for (const at of data.bounds) {
      if (at > firstColumn && at < lastColumn) line(toX(at), size.top, toX(at), bottom);
      if (at > firstRow && at < lastRow) line(size.left, toY(at), right, toY(at));
    }
    pen.stroke();
    pen.globalAlpha = 1;
  }
}

function line(x1, y1, x2, y2) {
  pen.moveTo(Math.round(x1) + 0.5, Math.round(y1) + 0.5);
  pen.lineTo(Math.round(x2) + 0.5, Math.round(y2) + 0.5);
}

function markOf(value) {
  if (metric === "letter") return String.fromCharCode(value);
  if (metric === "rung") return known.rungs[value];
  if (view.scale < NUMBER_FROM) return "";
  if (metric === "rtt") return value < 9_950 ? (value / 1000).toFixed(1) : String(Math.round(value / 1000));
  if (metric === "age") return value < 6_000 ? `${Math.round(value / 60)}m` : `${Math.round(value / 3600)}h`;
  return value < 1_000 && value % 100 ? (value / 100).toFixed(1) : String(Math.round(value / 100));
}

function drawTexts() {
  const [firstColumn, lastColumn] = range(view.x, inner().width);
  const [firstRow, lastRow] = range(view.y, inner().height);
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  const large = metric === "letter" || metric === "rung";
  pen.font = `${large ? 650 : 500} ${Math.min(15, Math.round(view.scale * (large ? 0.6 : 0.36)))}px Inter, system-ui, sans-serif`;
  pen.save();
  pen.beginPath();
  pen.rect(size.left, size.top, inner().width, inner().height);
  pen.clip();
  for (let row = firstRow; row < lastRow; row++) {
    for (let column = firstColumn; column < lastColumn; column++) {
      const value = data.cells[row * data.side + column];
      if (value === data.none || row === column) continue;
      pen.fillStyle = data.inks[data.levels[0].steps[row * data.side + column]];
      pen.fillText(markOf(value), toX(column + 0.5), toY(row + 0.5) + 0.5);
    }
  }
  pen.restore();
}

function drawCursor() {
  const x = toX(cursor.column), y = toY(cursor.row), wide = Math.max(view.scale, 7);
  if (x + wide < size.left || y + wide < size.top || (document.activeElement !== canvas && tip.hidden)) return;
  pen.strokeStyle = token("--ink");
  pen.lineWidth = 2;
  pen.strokeRect(x - 1, y - 1, wide + 2, wide + 2);
  pen.lineWidth = 1;
  pen.strokeStyle = token("--sheet");
  pen.strokeRect(x - 2.5, y - 2.5, wide + 5, wide + 5);
}

// Names of agents where a cell is as high as they are, else names of sites where theirs are.
function labels() {
  if (view.scale >= LABEL_FROM) return data.agents.map((name, i) => ({ name, from: i, to: i + 1 }));
  return data.bounds.map((from, i) => ({ name: data.sites[from], from, to: data.bounds[i + 1] ?? data.side }));
}

function drawLabels() {
  pen.fillStyle = token("--sheet");
  pen.fillRect(0, 0, size.left, size.height);
  pen.fillRect(0, 0, size.width, size.top);
  pen.font = labelFont();
  pen.textBaseline = "middle";
  let lastY = -Infinity, lastX = -Infinity; // names that would stand on each other are left out
  for (const { name, from, to } of labels()) {
    const isRow = view.scale >= LABEL_FROM && from === cursor.row;
    const isColumn = view.scale >= LABEL_FROM && from === cursor.column;
    const y = toY((Math.max(from, view.y) + Math.min(to, view.y + inner().height / view.scale)) / 2);
    if (y > size.top && y < size.height && y - lastY >= LABEL_FROM) label(name, size.left - 6, lastY = y, 0, isRow);
    const x = toX((Math.max(from, view.x) + Math.min(to, view.x + inner().width / view.scale)) / 2);
    if (x > size.left && x < size.width && x - lastX >= LABEL_FROM) label(name, lastX = x, size.top - 6, -Math.PI / 2, isColumn);
  }
  pen.fillStyle = token("--dim");
  pen.textAlign = "left";
  pen.fillText("from ↓  to →", 8, size.top - 10, size.left - 12);
}

function label(name, x, y, turn, strong) {
  pen.save();
  pen.translate(x, y);
  pen.rotate(turn);
  pen.textAlign = turn ? "left" : "right";
  pen.fillStyle = token(strong ? "--ink" : "--dim");
  pen.fillText(shortened(name, size.left - 12), 0, 0);
  pen.restore();
}

function shortened(name, room) {
  if (pen.measureText(name).width <= room) return name;
  let kept = name.length;
  while (kept > 1 && pen.measureText(`${name.slice(0, kept)}…`).width > room) kept--;
  return `${name.slice(0, kept)}…`;
}

// --- one cell ---

const ends = () => [data.agents[cursor.row], data.agents[cursor.column]];

function pathAddress([src, dst]) {
  const query = new URLSearchParams({ profile: picture.dataset.profile });
  if (picture.dataset.at) query.set("at", picture.dataset.at);
  return `/paths/${encodeURIComponent(src)}/${encodeURIComponent(dst)}?${query}`;
}

function cellAt(event) {
  const box = canvas.getBoundingClientRect();
  const column = Math.floor(view.x + (event.clientX - box.left - size.left) / view.scale);
  const row = Math.floor(view.y + (event.clientY - box.top - size.top) / view.scale);
  const inside = event.clientX - box.left >= size.left && event.clientY - box.top >= size.top;
  return inside && row >= 0 && column >= 0 && row < data.side && column < data.side ? { row, column } : null;
}

function choose(cell, { speak = false, pin = false } = {}) {
  if (!cell) {
    hideTip();
    return;
  }
  const moved = cell.row !== cursor.row || cell.column !== cursor.column || tip.hidden;
  cursor = cell;
  pinned = pin;
  if (moved || pin) tell(speak);
  draw();
}

function tell(speak) {
  const [src, dst] = ends();
  const mine = ++asked;
  clearTimeout(detailTimer);
  tip.replaceChildren();
  const head = document.createElement("p");
  const strong = document.createElement("b");
  strong.textContent = src === dst ? `${src}: itself` : `${src} to ${dst}: ${atOnce()}`;
  head.append(strong);
  tip.append(head);
  if (pinned && src !== dst) tip.append(linkToPath());
  showTip();
  if (speak) said.textContent = strong.textContent;
  const measured = data.cells[cursor.row * data.side + cursor.column] !== data.none;
  if (src !== dst && measured) detailTimer = setTimeout(() => detail(src, dst, mine, speak), DETAIL_MS);
}

function atOnce() {
  const value = data.cells[cursor.row * data.side + cursor.column];
  if (value === data.none) return "not measured";
  const step = data.levels[0].steps[cursor.row * data.side + cursor.column];
  if (metric === "letter") return String.fromCharCode(value);
  const legend = document.querySelector(`[data-legend="${metric}"]`);
  return legend.children[step - 1].lastChild.textContent.trim();
}

function linkToPath() {
  const link = document.createElement("a");
  link.href = pathAddress(ends());
  link.textContent = "Open this path";
  return link;
}

async function detail(src, dst, mine, speak) {
  const query = new URLSearchParams({ src, dst, profile: picture.dataset.profile });
  if (picture.dataset.at) query.set("at", picture.dataset.at);
  const answer = await fetch(`/matrix/cell?${query}`).catch(() => null);
  if (!answer || !answer.ok || mine !== asked || tip.hidden) return;
  const told = new DOMParser().parseFromString(await answer.text(), "text/html").body;
  if (mine !== asked) return;
  if (speak) said.textContent = told.querySelector("b").textContent;
  tip.replaceChildren(...told.children);
  if (pinned) tip.append(linkToPath());
  showTip();
}

function showTip() {
  tip.hidden = false;
  tip.classList.toggle("pinned", pinned);
  const x = toX(cursor.column + 1) + 10, y = toY(cursor.row + 1) + 10;
  const { offsetWidth: width, offsetHeight: height } = tip;
  const left = x + width > size.width ? toX(cursor.column) - width - 10 : x;
  const top = y + height > size.height ? toY(cursor.row) - height - 10 : y;
  tip.style.left = `${Math.max(4, Math.min(left, size.width - width - 4))}px`;
  tip.style.top = `${Math.max(4, Math.min(top, size.height - height - 4))}px`;
}

function hideTip() {
  asked++;
  pinned = false;
  tip.hidden = true;
  draw();
}

function reveal() {
  const { width, height } = inner();
  const columns = width / view.scale, rows = height / view.scale;
  if (cursor.column < view.x) view.x = cursor.column;
  if (cursor.column + 1 > view.x + columns) view.x = cursor.column + 1 - columns;
  if (cursor.row < view.y) view.y = cursor.row;
  if (cursor.row + 1 > view.y + rows) view.y = cursor.row + 1 - rows;
  clamp();
}

// --- hands: pointers and keys ---

const pointers = new Map();
let start = null; // of a drag: { x, y, view }
let dragged = false;

canvas.addEventListener("pointerdown", (event) => {
  if (!data) return;
  pointers.set(event.pointerId, event);
  dragged = false;
  start = { x: event.clientX, y: event.clientY, view: { ...view }, spread: spread() };
  if (event.pointerType !== "touch" || picture.classList.contains("zoomed")) canvas.setPointerCapture(event.pointerId);
});

canvas.addEventListener("pointermove", (event) => {
  if (!data) return;
  if (!pointers.has(event.pointerId)) {
    if (event.pointerType === "mouse" && !pinned) choose(cellAt(event));
    return;
  }
  pointers.set(event.pointerId, event);
  if (pointers.size === 2) pinch();
  else if (Math.hypot(event.clientX - start.x, event.clientY - start.y) > 5) pan(event);
});

function pan(event) {
  dragged = true;
  picture.classList.add("panning");
  tip.hidden = true;
  view.x = start.view.x - (event.clientX - start.x) / view.scale;
  view.y = start.view.y - (event.clientY - start.y) / view.scale;
  clamp();
  draw();
}

function spread() {
  const [one, other] = [...pointers.values()];
  return other ? Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) : 0;
}

function pinch() {
  dragged = true;
  const box = canvas.getBoundingClientRect();
  const [one, other] = [...pointers.values()];
  const middle = [(one.clientX + other.clientX) / 2 - box.left, (one.clientY + other.clientY) / 2 - box.top];
  const now = spread();
  if (start.spread) zoom(now / start.spread, ...middle);
  start.spread = now;
}

function lift(event) {
  const wasDown = pointers.delete(event.pointerId);
  picture.classList.remove("panning");
  if (!wasDown || dragged || event.type === "pointercancel" || !data) return;
  const cell = cellAt(event);
  if (cell && event.pointerType === "mouse" && event.button === 0 && cell.row !== cell.column) {
    const value = data.cells[cell.row * data.side + cell.column];
    if (value !== data.none && view.scale >= 4) {
      location.assign(pathAddress([data.agents[cell.row], data.agents[cell.column]]));
      return;
    }
  }
  choose(cell, { speak: true, pin: true });
}

canvas.addEventListener("pointerup", lift);
canvas.addEventListener("pointercancel", lift);
canvas.addEventListener("pointerleave", () => { if (!pinned && !pointers.size && document.activeElement !== canvas) hideTip(); });

canvas.addEventListener("wheel", (event) => {
  // The page scrolls unless the matrix was chosen: Ctrl, or the focus.
  if (!data || !(event.ctrlKey || event.metaKey || document.activeElement === canvas)) return;
  event.preventDefault();
  const box = canvas.getBoundingClientRect();
  zoom(Math.exp(-event.deltaY / (event.deltaMode ? 12 : 400)), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const ACTS = {
  "+": () => zoom(1.5, toX(cursor.column + 0.5), toY(cursor.row + 0.5)),
  "=": () => zoom(1.5, toX(cursor.column + 0.5), toY(cursor.row + 0.5)),
  "-": () => zoom(1 / 1.5, toX(cursor.column + 0.5), toY(cursor.row + 0.5)),
  "0": () => { fit(); draw(); },
  Escape: hideTip,
  Enter: () => { const [src, dst] = ends(); if (src !== dst) location.assign(pathAddress([src, dst])); },
};

canvas.addEventListener("keydown", (event) => {
  if (!data || event.ctrlKey || event.altKey || event.metaKey) return;
  const by = event.shiftKey ? KEY_STEP : 1, last = data.side - 1;
  let { row, column } = cursor;
  if (event.key in MOVES) {
    row += MOVES[event.key][0] * by;
    column += MOVES[event.key][1] * by;
  } else if (event.key === "Home") column = 0;
  else if (event.key === "End") column = last;
  else if (event.key === "PageUp") row -= KEY_STEP;
  else if (event.key === "PageDown") row += KEY_STEP;
  else if (event.key in ACTS) {
    event.preventDefault();
    ACTS[event.key]();
    return;
  } else return;
  event.preventDefault();
  cursor = { row: Math.max(0, Math.min(last, row)), column: Math.max(0, Math.min(last, column)) };
  reveal();
  tell(true);
  draw();
});

canvas.addEventListener("focus", () => { if (data && canvas.matches(":focus-visible")) { reveal(); tell(true); } draw(); });
canvas.addEventListener("blur", () => { if (!pinned) hideTip(); });
document.addEventListener("pointerdown", (event) => { if (pinned && !picture.contains(event.target)) hideTip(); });

// --- tools ---

function fillNames() {
  const list = document.createElement("datalist");
  list.id = "agents";
  for (const name of data.agents) list.append(new Option(name));
  document.getElementById("agents")?.remove();
  tools.append(list);
  find.setAttribute("list", "agents");
}

find.addEventListener("change", () => {
  const at = data ? data.agents.indexOf(find.value.trim()) : -1;
  if (at < 0) return;
  cursor = { row: at, column: cursor.column === at ? (at + 1) % data.side : cursor.column };
  view.scale = Math.max(view.scale, 18);
  view.y = at - inner().height / view.scale / 2;
  reveal();
  tell(true);
  draw();
});

tools.addEventListener("click", (event) => {
  const chosen = event.target.closest("[data-zoom]")?.dataset.zoom;
  if (!data || !chosen) return;
  if (chosen === "in") zoom(1.6);
  if (chosen === "out") zoom(1 / 1.6);
  if (chosen === "all") { fit(); draw(); }
  if (chosen === "table") {
    table.hidden = !table.hidden;
    event.target.closest("button").setAttribute("aria-pressed", String(!table.hidden));
  }
});

document.querySelector(".metrics").addEventListener("click", (event) => {
  const link = event.target.closest("[data-metric]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  metric = link.dataset.metric;
  history.replaceState(null, "", link.href);
  for (const one of document.querySelectorAll("[data-metric][href]")) {
    if (one === link) one.setAttribute("aria-current", "true");
    else one.removeAttribute("aria-current");
  }
  for (const legend of document.querySelectorAll("[data-legend]")) legend.hidden = legend.dataset.legend !== metric;
  hideTip();
  load().catch(complain);
});

function complain(error) {
  const wait = picture.querySelector(".picture-wait");
  wait.hidden = false;
  wait.textContent = `${error.message}. The table below says the same.`;
  table.hidden = false;
}

// --- begin ---

picture.hidden = false;
tools.hidden = false;
table.hidden = true;
document.addEventListener("pathgrade:fresh", () => {
  table.hidden = tools.querySelector('[data-zoom="table"]').getAttribute("aria-pressed") !== "true";
  load().catch(complain);
});
new ResizeObserver(() => { if (data && picture.clientWidth !== size.width) { measure(); clamp(); draw(); } }).observe(picture);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (data) { data = build(data); draw(); } });
document.fonts.ready.then(draw);
load().catch(complain);
})();
