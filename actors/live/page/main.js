// The live page: one stream of changes, three views of it, and a drawer. All of it by keyboard, too.

import { Compare } from "./compare.js";
import { Drawer } from "./drawer.js";
import { Fleet } from "./fleet.js";
import { Flows } from "./flows.js";
import { count, el, rate, setText } from "./format.js";
import { askForKey, showKeys, switchTheme, useTheme } from "./habits.js";
import { Stage } from "./stage.js";
import { get, Stream, useKey } from "./stream.js";
import { World } from "./world.js";

const RENDER_MS = 250;
const $ = (id) => document.getElementById(id);

const diagrams = new Map();
let [view, ref, picked, pinned] = ["flows", null, null, false];

const stage = new Stage($("diagram"), $("dots"), (flow) => openFlow(flow));
const world = new World({
  reset: () => stage.clear(),
  moved: (flow, before) => stage.moved(flow, before),
  ended: (flow, outcome) => stage.ended(flow, outcome),
  forgotten: (flow) => stage.forgotten(flow),
});
const drawer = new Drawer($("drawer"), () => {});
const flows = new Flows($("list"), $("flows-note"), openFlow, choose);
const fleet = new Fleet($("engines"), $("table"), pickEngine);
const compare = new Compare($("left"), $("right"), $("plots"));
const stream = new Stream((told) => world.heed(told), showStatus);

// --- what the user does ---

function openFlow(id) {
  choose(id);
  drawer.flow(id);
}

function choose(id) {
  flows.chosen = id;
  stage.chosen = id;
  stage.wake();
}

function pickEngine(name) {
  picked = name;
  stage.isDim = (flow) => name !== null && !flow.engines.includes(name);
  stage.wake();
  render();
}

function show(name) {
  view = name;
  for (const main of document.querySelectorAll("main")) main.hidden = main.id !== name;
  for (const button of document.querySelectorAll("nav button")) {
    button.setAttribute("aria-current", button.dataset.view === name ? "page" : "false");
  }
  render();
  if (name === "flows") stage.resize();
}

async function showStrategy(name) {
  ref = name;
  if (!diagrams.has(name)) diagrams.set(name, get(`/live/diagrams/${encodeURIComponent(name)}`));
  try {
    const diagram = await diagrams.get(name);
    if (ref === name) stage.show(name, diagram, world.flows.values());
  } catch (error) {
    diagrams.delete(name);
    if (ref === name) {
      stage.hide();
      $("empty").textContent = error.message;
    }
  }
  render();
}

function nextStrategy(step) {
  const refs = [...$("tabs").querySelectorAll("[role=tab]")].map((tab) => tab.dataset.ref);
  if (!refs.length) return;
  pinned = true;
  showStrategy(refs[(refs.indexOf(ref) + step + refs.length) % refs.length]);
}

function openStrategy() {
  const line = world.traffic().find((line) => line.ref === ref);
  if (ref) drawer.strategy(ref, line?.share);
}

function togglePause() {
  stream.pause(!stream.paused);
  setText($("pause"), stream.paused ? "Go on" : "Pause");
}

function showStatus(status) {
  const words = { live: "live", away: "gateway is away", paused: "paused", locked: "key wanted" };
  setText($("status"), words[status]);
  $("status").className = status;
  if (status === "locked") {
    askForKey($("login"), (key) => {
      useKey(key);
      stream.restart();
    });
  }
}

// --- what is shown, four times a second ---

function render() {
  const traffic = world.traffic();
  if (!pinned && traffic.length && (ref === null || !world.strategies.has(ref))) showStrategy(traffic[0].ref);
  figures();
  if (view === "flows") {
    tabs(traffic);
    $("empty").hidden = Boolean(stage.diagram);
    stage.number(world.states(ref), rate(world.endedPerSecond()));
    flows.render(world, null, picked);
  }
  fleet.render(world.engines, view === "fleet");
  const gone = world.engines.size - world.alive().length;
  setText($("engines-note"), `${world.alive().length}${gone ? `, ${gone} gone` : ""}`);
  if (view === "compare") compare.render(world);
}

function figures() {
  const alive = world.alive();
  const sum = (column) => alive.reduce((total, engine) => total + engine[column], 0);
  const told = {
    engines: count(alive.length),
    "in flight": count(world.flows.size),
    "ended/s": rate(world.endedPerSecond()),
    "prefill tok/s": rate(sum("prefill_per_s")),
    "decode tok/s": rate(sum("decode_per_s")),
  };
  if (!$("figures").children.length) {
    for (const name of Object.keys(told)) $("figures").append(el("dt", {}, name), el("dd", { "data-figure": name }));
  }
  for (const [name, value] of Object.entries(told)) {
    setText($("figures").querySelector(`[data-figure="${name}"]`), value);
  }
}

function tabs(traffic) {
  const known = [...$("tabs").querySelectorAll("[role=tab]")].map((tab) => tab.dataset.ref);
  const refs = traffic.map((line) => line.ref).sort();
  if (known.join() !== refs.join()) {
    const source = el("button", { class: "plain", id: "source", "aria-keyshortcuts": "s",
      onclick: openStrategy }, "Source and versions");
    $("tabs").replaceChildren(...refs.map((name) => el("button", { role: "tab", "data-ref": name,
      onclick: () => { pinned = true; showStrategy(name); } }, el("b", {}, name.replace("@installed", "")),
      el("small"))), source);
  }
  for (const line of traffic) {
    const tab = $("tabs").querySelector(`[data-ref="${line.ref}"]`);
    tab.setAttribute("aria-selected", line.ref === ref);
    const share = line.share === null ? "" : ` · ${Math.round(line.share * 100)} %`;
    setText(tab.querySelector("small"), `${count(line.flows)}${share}`);
  }
}

// --- keyboard ---

const KEYS = {
  1: () => show("flows"),
  2: () => show("fleet"),
  3: () => show("compare"),
  "/": () => $("find").focus(),
  j: () => move("ArrowDown"),
  k: () => move("ArrowUp"),
  ArrowDown: () => move("ArrowDown"),
  ArrowUp: () => move("ArrowUp"),
  Enter: () => flows.chosen && openFlow(flows.chosen),
  "[": () => nextStrategy(-1),
  "]": () => nextStrategy(1),
  s: openStrategy,
  p: togglePause,
  t: () => { switchTheme(); stage.wake(); },
  "?": () => showKeys($("keys")),
  Escape: () => fleet.pick(null),
};

function move(key) {
  $("list").focus();
  flows.key(new KeyboardEvent("keydown", { key }));
}

addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, dialog");
  const onButton = event.key === "Enter" && event.target.closest("button");
  if (typing || onButton || event.ctrlKey || event.metaKey || event.altKey) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

$("find").addEventListener("keydown", (event) => {
  if (event.key === "Escape") event.target.blur();
  if (event.key !== "Enter" || !event.target.value.trim()) return;
  const wanted = event.target.value.trim();
  const known = [...world.flows.keys()].find((id) => id.startsWith(wanted));
  openFlow(known ?? wanted);
});

for (const button of document.querySelectorAll("nav button")) {
  button.addEventListener("click", () => show(button.dataset.view));
}
for (const id of ["left", "right"]) $(id).addEventListener("change", render);
$("status").addEventListener("click", () => stream.restart());
$("pause").addEventListener("click", togglePause);
$("theme").addEventListener("click", KEYS.t);
$("help").addEventListener("click", KEYS["?"]);
addEventListener("resize", () => stage.resize());
useTheme();
show("flows");
stream.restart();
setInterval(() => { if (!document.hidden && !stream.paused) render(); }, RENDER_MS);
