// A state diagram as SVG: bars, ways and labels, without any flow.

import { svg } from "./format.js";

const NOTES = { Idle: "waits for room", Done: "just ended" };

// The elements, and by state the one that says how many flows are there.
export function picture(plan) {
  const counts = new Map();
  const parts = [
    head(),
    ...plan.quiet.map((line) => path(line, "quiet")),
    ...plan.lines.map((line) => path(line, "way")),
    ...[...plan.bars].flatMap(([state, bar]) => drawn(state, bar, counts)),
    ...plan.lines.flatMap((line) => [path(line, "behind"), label(line)]),
  ];
  return { parts, counts };
}

function drawn(state, bar, counts) {
  const middle = bar.y + bar.h / 2;
  const note = NOTES[state];
  const count = svg("text", { class: "count", "data-state": state, "text-anchor": "end",
    x: bar.x + bar.w - 12, y: middle + 5 }, "0");
  counts.set(state, count);
  return [
    svg("rect", { class: "bar", x: bar.x, y: bar.y, width: bar.w, height: bar.h, rx: 7 }),
    svg("text", { class: "state", x: bar.x + 12, y: middle + (note ? -2 : 4) }, state),
    ...(note ? [svg("text", { class: "note", x: bar.x + 12, y: middle + 13 }, note)] : []),
    count,
  ];
}

function head() {
  const marker = svg("marker", { id: "head", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7,
    markerHeight: 7, orient: "auto" }, svg("path", { class: "head", d: "M0 0L8 4L0 8z" }));
  return svg("defs", {}, marker);
}

function path(line, kind) {
  const d = line.points.map(([x, y], i) => `${i ? "L" : "M"}${x} ${y}`).join("");
  const end = kind === "behind" ? null : "url(#head)";
  return svg("path", { class: kind, d, "marker-end": end });
}

function label(line) {
  const [x, y] = line.labelAt;
  const lines = line.label.map(({ text, sent }, i) =>
    svg("text", { class: sent ? "sent" : "event", x, y: y + i * 13 }, text));
  return svg("g", {}, svg("title", {}, line.full), ...lines);
}
