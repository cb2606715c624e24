// Two strategies side by side: how long their flows took, as the share that was done by a time.

import { count, el, seconds, svg } from "./format.js";

const FIGURES = [
  ["ttft", "Time to first token"],
  ["tpot", "Time per output token"],
  ["jct", "Job completion time"],
];
const [WIDTH, HEIGHT, LEFT, BELOW] = [400, 230, 42, 22];
const SHARES = [0.5, 0.9, 0.99];

export class Compare {
  constructor(left, right, plots) {
    this.selects = [left, right];
    this.plots = plots;
  }

  render(world) {
    const refs = [...world.strategies.keys()].sort();
    this.selects.forEach((select, i) => offer(select, refs, world.traffic()[i]?.ref));
    const chosen = this.selects.map((select) => world.strategies.get(select.value)?.endings ?? []);
    const parts = FIGURES.map(([name, title]) => plot(name, title, this.selects.map((select, i) => ({
      ref: select.value,
      kind: "ab"[i],
      values: chosen[i].map((ending) => ending[name]).filter((value) => value !== null)
        .sort((x, y) => x - y),
    }))));
    this.plots.replaceChildren(...parts, failures(this.selects, chosen));
  }
}

// What can be chosen; what was chosen stays.
function offer(select, refs, otherwise) {
  const known = [...select.options].map((option) => option.value);
  if (known.join() === refs.join()) return;
  const chosen = select.value || otherwise;
  select.replaceChildren(...refs.map((ref) => el("option", { value: ref }, ref)));
  if (refs.includes(chosen)) select.value = chosen;
}

export function quantile(sorted, share) {
  if (!sorted.length) return null;
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

function plot(name, title, series) {
  const most = Math.max(...series.map(({ values }) => quantile(values, 0.995) ?? 0), 1e-6);
  const x = (value) => LEFT + Math.min(1, value / most) * (WIDTH - LEFT - 8);
  const y = (share) => 8 + (1 - share) * (HEIGHT - BELOW - 8);
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title },
    ...grid(most, x, y),
    ...series.map(({ kind, values }) => svg("path", { class: `steps ${kind}`, d: steps(values, x, y) })));
  return el("figure", { "data-figure": name }, el("figcaption", {}, title), picture, table(series));
}

function grid(most, x, y) {
  const across = [0, 0.5, 0.9, 1].flatMap((share) => [
    svg("path", { class: "grid", d: `M${LEFT} ${y(share)}H${WIDTH - 8}` }),
    svg("text", { x: LEFT - 5, y: y(share) + 4, "text-anchor": "end" }, `${share * 100} %`),
  ]);
  const down = [0, 0.25, 0.5, 0.75, 1].map((share) =>
    svg("text", { x: x(share * most), y: HEIGHT - 6, "text-anchor": share ? (share === 1 ? "end" : "middle") : "start" },
      share ? seconds(share * most) : "0"));
  return [...across, ...down];
}

// At most one step for each pixel.
function steps(values, x, y) {
  if (!values.length) return "";
  const every = Math.max(1, Math.floor(values.length / WIDTH));
  let d = `M${x(0)} ${y(0)}`;
  for (let i = 0; i < values.length; i += every) d += `H${x(values[i]).toFixed(1)}V${y((i + 1) / values.length).toFixed(1)}`;
  return `${d}H${x(values[values.length - 1]).toFixed(1)}V${y(1)}H${WIDTH - 8}`;
}

function table(series) {
  const [a, b] = series.map(({ values }) => SHARES.map((share) => quantile(values, share)));
  const row = (kind, ref, found, values) => el("tr", {},
    el("th", { scope: "row" }, el("i", { class: kind }), ref || "–"),
    el("td", { class: "number" }, count(values.length)),
    ...found.map((value) => el("td", {}, seconds(value))));
  const ratios = SHARES.map((_, i) => (a[i] && b[i] ? `${(b[i] / a[i]).toFixed(2)} ×` : "–"));
  const heads = ["", "flows", ...SHARES.map((share) => `P${share * 100}`)];
  return el("table", {},
    el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {},
      row("a", series[0].ref, a, series[0].values), row("b", series[1].ref, b, series[1].values),
      el("tr", { class: "ratio" }, el("th", { scope: "row" }, "second to first"), el("td"),
        ...ratios.map((ratio) => el("td", {}, ratio)))));
}

function failures(selects, chosen) {
  const lines = selects.map((select, i) => {
    const outcomes = new Map();
    for (const { outcome } of chosen[i]) outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    const told = [...outcomes].map(([outcome, n]) => `${count(n)} ${outcome.replace("_", " ")}`);
    return el("p", {}, el("i", { class: "ab"[i] }), `${select.value || "–"}: ${told.join(", ") || "no flow has ended yet"}`);
  });
  return el("div", { class: "outcomes" }, ...lines);
}
