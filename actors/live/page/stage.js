// Flows in motion: the diagram of a strategy with a dot for every flow, in its state's bar.

import { setText } from "./format.js";
import { layout, route } from "./layout.js";
import { picture } from "./picture.js";

const MOVE_MS = 650;
const FRAME_MS = 30; // between two pictures: smooth enough for dots, and half of the work
const FADE_MS = 1800;
const RADII = [5, 4, 3, 2.2, 1.6];
const GAP = 2.5;
const HIT = 9;
const WELL = new Set(["finished", "kept", "cancelled"]);

export class Stage {
  constructor(picture, canvas, onPick) {
    this.picture = picture;
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.dots = new Map();
    this.slots = new Map();
    this.chosen = null;
    this.isDim = () => false;
    this.calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    canvas.addEventListener("click", (event) => {
      const dot = this.at(event);
      if (dot) onPick(dot.id);
    });
  }

  // --- the diagram ---

  show(ref, diagram, flows) {
    this.ref = ref;
    this.diagram = diagram;
    this.clear();
    this.resize();
    for (const flow of flows) if (flow.strategy === ref) this.moved(flow, null);
  }

  // Of a strategy that cannot be drawn: nothing, rather than another one's picture.
  hide() {
    this.ref = this.diagram = this.plan = this.counts = null;
    this.picture.replaceChildren();
    this.clear();
  }

  clear() {
    this.dots.clear();
    this.slots.clear();
    this.wake();
  }

  resize() {
    if (!this.diagram) return;
    const box = this.picture.parentElement;
    this.plan = layout(this.diagram, box.clientWidth, box.clientHeight);
    const { width, height } = this.plan;
    const scale = devicePixelRatio || 1;
    for (const [name, value] of [["width", width], ["height", height]]) {
      this.picture.setAttribute(name, value);
      this.canvas[name] = value * scale;
      this.canvas.style[name] = `${value}px`;
    }
    this.context.setTransform(scale, 0, 0, scale, 0, 0);
    this.draw();
    for (const dot of this.dots.values()) this.settle(dot);
    this.wake();
  }

  draw() {
    const { parts, counts } = picture(this.plan);
    this.counts = counts;
    this.picture.replaceChildren(...parts);
  }

  // How many flows are in each state, as text: what the dots say, for who cannot see them.
  number(states, endedPerSecond) {
    for (const [state, text] of this.counts ?? []) {
      const waiting = state === "Idle" ? states.get("Waiting") ?? 0 : 0;
      const shown = (states.get(state) ?? 0) + waiting;
      setText(text, state === "Done" ? `${endedPerSecond} /s` : String(shown));
    }
  }

  // --- flows ---

  moved(flow, before) {
    if (flow.strategy !== this.ref || !this.plan) return;
    const row = this.row(flow.state);
    let dot = this.dots.get(flow.id);
    if (!dot) {
      dot = { id: flow.id, row: null, x: 0, y: 0 };
      this.dots.set(flow.id, dot);
      if (before !== null || flow.state !== "Waiting") this.put(dot, "Idle");
    }
    dot.flow = flow;
    if (dot.row !== row) this.go(dot, row);
  }

  ended(flow, outcome) {
    if (flow.strategy !== this.ref || !this.plan) return;
    this.moved({ ...flow, state: "Done" }, flow.state);
    const dot = this.dots.get(flow.id);
    dot.outcome = WELL.has(outcome) ? "well" : "failed";
    dot.fades = performance.now() + (dot.path ? MOVE_MS : 0);
    this.wake();
  }

  forgotten(flow) {
    const dot = this.dots.get(flow.id);
    if (dot) this.drop(dot);
    this.wake();
  }

  row(state) {
    const known = state === "Waiting" ? "Idle" : state;
    return this.plan.bars.has(known) ? known : "Idle";
  }

  // --- places ---

  put(dot, row) {
    this.free(dot);
    const taken = this.slots.get(row) ?? [];
    this.slots.set(row, taken);
    let slot = taken.findIndex((id) => id === null);
    if (slot < 0) slot = taken.length;
    taken[slot] = dot.id;
    [dot.row, dot.slot] = [row, slot];
    [dot.x, dot.y, dot.r] = this.place(dot);
  }

  free(dot) {
    const taken = this.slots.get(dot.row);
    if (!taken) return;
    taken[dot.slot] = null;
    while (taken.length && taken[taken.length - 1] === null) taken.pop();
  }

  drop(dot) {
    this.free(dot);
    this.dots.delete(dot.id);
  }

  place(dot) {
    const { inner } = this.plan.bars.get(dot.row);
    const n = this.slots.get(dot.row).length;
    const r = RADII.find((radius) => capacity(inner, radius) >= n) ?? RADII[RADII.length - 1];
    const pitch = 2 * r + GAP;
    const high = Math.max(1, Math.floor(inner.h / pitch));
    const wide = Math.max(1, Math.floor(inner.w / pitch));
    const column = Math.min(wide - 1, Math.floor(dot.slot / high));
    const top = inner.y + (inner.h - high * pitch) / 2;
    return [inner.x + (column + 0.5) * pitch, top + ((dot.slot % high) + 0.5) * pitch, r];
  }

  // Where it belongs now, as the bar may have become fuller.
  settle(dot) {
    if (!dot.path) [dot.x, dot.y, dot.r] = this.place(dot);
  }

  go(dot, row) {
    const from = [dot.x, dot.y];
    const ways = this.route(dot.row ?? "Idle", row);
    const fresh = dot.row === null;
    this.put(dot, row);
    const to = [dot.x, dot.y];
    if (this.calm || fresh) return this.wake();
    dot.path = [from, ...ways.flatMap((way) => way.points), to];
    dot.since = performance.now();
    [dot.x, dot.y] = from;
    return this.wake();
  }

  route(before, after) {
    const name = `${before} ${after}`;
    const { routes, lines, quiet } = this.plan;
    if (!routes.has(name)) routes.set(name, route([...lines, ...quiet], before, after));
    return routes.get(name);
  }

  // --- drawing: only while something moves ---

  wake() {
    if (!this.drawing) {
      this.drawing = true;
      requestAnimationFrame((now) => this.frame(now));
    }
  }

  frame(now) {
    const isDue = now - (this.painted ?? 0) >= FRAME_MS;
    if (isDue) {
      this.painted = now;
      this.drawing = this.step(now);
      this.paint(now);
    }
    if (this.drawing) requestAnimationFrame((next) => this.frame(next));
  }

  step(now) {
    let moving = false;
    for (const dot of this.dots.values()) {
      if (dot.path) {
        const done = Math.min(1, (now - dot.since) / MOVE_MS);
        [dot.x, dot.y] = along(dot.path, ease(done));
        if (done === 1) dot.path = null;
        moving = true;
      } else {
        this.settle(dot);
      }
      if (dot.outcome) {
        moving = true;
        if (now > dot.fades + FADE_MS) this.drop(dot);
      }
    }
    return moving;
  }

  paint(now) {
    const { context, canvas } = this;
    const style = getComputedStyle(canvas);
    const ink = Object.fromEntries(["dot", "well", "failed", "chosen"].map(
      (name) => [name, style.getPropertyValue(`--${name}`)]));
    context.clearRect(0, 0, canvas.width, canvas.height);
    for (const dot of this.dots.values()) {
      const faded = dot.outcome ? Math.max(0, 1 - Math.max(0, now - dot.fades) / FADE_MS) : 1;
      context.globalAlpha = faded * (this.isDim(dot.flow) ? 0.18 : 1);
      context.fillStyle = ink[dot.outcome ?? "dot"];
      circle(context, dot.x, dot.y, dot.r);
      context.fill();
      if (dot.id !== this.chosen) continue;
      context.globalAlpha = 1;
      context.strokeStyle = ink.chosen;
      context.lineWidth = 2;
      circle(context, dot.x, dot.y, dot.r + 4);
      context.stroke();
    }
    context.globalAlpha = 1;
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let [best, least] = [null, HIT];
    for (const dot of this.dots.values()) {
      const distance = Math.hypot(dot.x - x, dot.y - y);
      if (distance < least) [best, least] = [dot, distance];
    }
    return best;
  }
}

const capacity = (inner, r) =>
  Math.floor(inner.w / (2 * r + GAP)) * Math.max(1, Math.floor(inner.h / (2 * r + GAP)));

const ease = (t) => (t < 0.5 ? 2 * t * t : 1 - (2 - 2 * t) ** 2 / 2);

function circle(context, x, y, r) {
  context.beginPath();
  context.arc(x, y, r, 0, 7);
}

function along(points, share) {
  const lengths = points.slice(1).map(([x, y], i) => Math.hypot(x - points[i][0], y - points[i][1]));
  let rest = share * lengths.reduce((sum, length) => sum + length, 0);
  for (const [i, length] of lengths.entries()) {
    if (rest <= length && length > 0) {
      const [[x, y], [ex, ey]] = [points[i], points[i + 1]];
      return [x + ((ex - x) * rest) / length, y + ((ey - y) * rest) / length];
    }
    rest -= length;
  }
  return points[points.length - 1];
}
