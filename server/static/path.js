// The timeline of a path, drawn by uPlot over the drawing that the page brings: same data, and a cursor that reads it.
"use strict";

const HEIGHT = 220;
const MARK_DASH = [4, 4];
let chart = null;
let shown = "";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const ms = (us) => (us === null ? null : us / 1000);
const percent = (bp) => (bp === null ? null : bp / 100);
const digits = (value, unit, least) => (value === null || value === undefined ? "–" : `${value.toFixed(least)} ${unit}`);

function marksOf(told) {
  const other = told.routes.filter((span) => span.change === "changed" || span.change === "balanced");
  return [
    ...other.map((span) => ({ at: span.since_us / 1e6, colour: "--dim" })),
    ...told.rungs.slice(1).map((span) => ({ at: span.since_us / 1e6, colour: "--warn" })),
  ];
}

function drawBehind(plot, told) {
  const { left, top, width, height } = plot.bbox;
  const x = (s) => Math.min(Math.max(plot.valToPos(s, "x", true), left), left + width);
  const ctx = plot.ctx;
  ctx.save();
  ctx.globalAlpha = 0.16;
  ctx.fillStyle = colour("--d");
  for (const span of told.slower) {
    const from = x(span.since_us / 1e6);
    ctx.fillRect(from, top, Math.max(2, x((span.until_us ?? told.until_us) / 1e6) - from), height);
  }
  ctx.globalAlpha = 1;
  ctx.setLineDash(MARK_DASH);
  for (const mark of marksOf(told)) {
    ctx.strokeStyle = colour(mark.colour);
    ctx.beginPath();
    ctx.moveTo(x(mark.at), top);
    ctx.lineTo(x(mark.at), top + height);
    ctx.stroke();
  }
  ctx.restore();
}

function timeLabel(s) {
  const iso = new Date(s * 1e3).toISOString();
  return iso.slice(11, 16) === "00:00" ? iso.slice(5, 10) : iso.slice(11, 16);
}

// A value without a neighbour makes no line: on a new server there is only one.
const alone = (plot, series) => plot.data[series].flatMap((value, at, all) => (value != null && all[at - 1] == null && all[at + 1] == null ? [at] : []));

function optionsOf(told, width) {
  const dots = { show: true, size: 6, filter: alone };
  const axis = { stroke: colour("--dim"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 }, font: "12px Inter, sans-serif" };
  const invisible = { stroke: "transparent", points: { show: false } };
  const lossSeries = (label, dash) => ({ label, scale: "%", stroke: colour("--bad"), width: 1, dash, points: dots, value: (_, v) => digits(v, "%", 2) });
  return {
    width,
    height: HEIGHT,
    tzDate: (s) => uPlot.tzDate(new Date(s * 1e3), "Etc/UTC"),
    cursor: { drag: { x: true, y: false } },
    scales: { ms: { range: (_, low, high) => [0, (high || 1) * 1.1] }, "%": { range: (_, low, high) => [0, Math.max(5, high || 0)] } },
    axes: [{ ...axis, space: 64, values: (_, all) => all.map(timeLabel) }, { ...axis, scale: "ms", size: 56, values: (_, all) => all.map((v) => `${v} ms`) }, { ...axis, scale: "%", side: 1, size: 48, grid: { show: false }, values: (_, all) => all.map((v) => `${v} %`) }],
    bands: [{ series: [3, 2], fill: colour("--leg-transit") }],
    series: [
      { label: "UTC", value: (plot, s, _, at) => (s === null ? "–" : new Date(s * 1e3).toISOString().slice(0, 16).replace("T", " ")) },
      { label: "usual", scale: "ms", stroke: colour("--leg-access"), width: 1, points: { show: false }, value: (_, v) => digits(v, "ms", 1) },
      { label: "usual, least", scale: "ms", ...invisible, value: (_, v) => digits(v, "ms", 1) },
      { label: "usual, most", scale: "ms", ...invisible, value: (_, v) => digits(v, "ms", 1) },
      { label: "p95", scale: "ms", stroke: colour("--leg-host"), width: 1, points: dots, value: (_, v) => digits(v, "ms", 1) },
      { label: "median", scale: "ms", stroke: colour("--link"), width: 2, points: dots, value: (_, v) => digits(v, "ms", 1) },
      lossSeries("loss →", []),
      lossSeries("loss ←", [3, 3]),
    ],
    hooks: { drawClear: [(plot) => drawBehind(plot, told)] },
  };
}

function dataOf({ columns: c }) {
  return [
    c.at_us.map((us) => us / 1e6),
    ...[c.usual_us, c.usual_low_us, c.usual_high_us, c.rtt_p95_us, c.rtt_p50_us].map((list) => list.map(ms)),
    ...[c.loss_bp, c.loss_back_bp].map((list) => list.map(percent)),
  ];
}

async function draw() {
  const place = document.querySelector("[data-chart]");
  const address = document.querySelector("[data-timeline]")?.dataset.timeline;
  if (!place || !address || address === shown) return;
  shown = address;
  const answer = await fetch(address, { headers: { Accept: "application/json" } });
  if (!answer.ok) return; // the drawing that the page brought stays
  const told = await answer.json();
  if (chart) chart.destroy();
  chart = new uPlot(optionsOf(told, widthOf(place.closest("section"))), dataOf(told), place);
}

function widthOf(section) {
  const style = getComputedStyle(section);
  return section.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
}

function fit() {
  const section = document.querySelector(".over-time");
  if (chart && section) chart.setSize({ width: widthOf(section), height: HEIGHT });
}

function drawAnew() {
  shown = "";
  draw().then(fit);
}

draw().then(fit);
document.addEventListener("pathgrade:fresh", () => draw().then(fit));
document.addEventListener("htmx:afterRequest", (event) => {
  if (!event.target.querySelector("[data-chart]")) return;
  shown = ""; // the part brought an empty place for the chart
  draw().then(fit);
});
addEventListener("resize", fit);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAnew);
