// The engines: a line each where they are few, a tile each where they are many, a table of all.

import { bytes, count, el, rate, seconds, setText } from "./format.js";

const FEW = 9;
const OWNERS = ["used", "granted", "cached", "free"];
const ROLES = { prefill: "P", decode: "D", both: "B" };

const COLUMNS = [
  ["engine", (e) => e.name],
  ["role", (e) => e.role],
  ["state", (e) => e.status],
  ["queue", (e) => count(e.waiting)],
  ["batch", (e) => (e.slots ? `${e.running} / ${e.slots}` : count(e.running))],
  ["pages by owner", null],
  ["in use", (e) => count(e.used_pages)],
  ["granted", (e) => count(e.granted_pages)],
  ["cached", (e) => count(e.cached_pages)],
  ["free", (e) => count(e.free_pages)],
  ["to prefill", (e) => count(e.waiting_tokens)],
  ["prefill tok/s", (e) => rate(e.prefill_per_s)],
  ["from cache tok/s", (e) => rate(e.matched_per_s)],
  ["decode tok/s", (e) => rate(e.decode_per_s)],
  ["step", (e) => (e.step_s ? seconds(e.step_s) : "–")],
  ["sending", (e) => count(e.sending)],
  ["link", (e) => (e.transfer_bytes_per_s ? `${bytes(e.transfer_bytes_per_s)}/s` : "–")],
];

function pages(engine) {
  const bar = el("span", { class: "pages", title: pagesText(engine) });
  for (const owner of OWNERS) bar.append(el("i", { class: owner }));
  fill(bar, engine);
  return bar;
}

function fill(bar, engine) {
  for (const [i, owner] of OWNERS.entries()) {
    const share = engine.total_pages ? engine[`${owner}_pages`] / engine.total_pages : 0;
    bar.children[i].style.flexGrow = share;
  }
}

const pagesText = (engine) =>
  OWNERS.map((owner) => `${count(engine[`${owner}_pages`])} ${owner}`).join(", ") +
  ` of ${count(engine.total_pages)} pages`;

const about = (engine) =>
  `${engine.name} (${engine.role}, ${engine.status}): queue ${engine.waiting}, batch ` +
  `${engine.running}, ${pagesText(engine)}`;

export class Fleet {
  // `onPick` hears the name of an engine, or null where none is chosen any more.
  constructor(box, table, onPick) {
    this.box = box;
    this.table = table;
    this.onPick = onPick;
    this.shown = new Map();
    this.rows = new Map();
    this.picked = null;
  }

  render(engines, tableIsSeen) {
    const sorted = [...engines.values()].sort((a, b) => natural(a.name, b.name));
    const few = sorted.length <= FEW;
    this.box.className = few ? "lines" : "tiles";
    if (few !== this.few) this.shown.clear();
    this.few = few;
    place(this.box, this.shown, sorted, (engine) => this.made(engine), (item, engine) => {
      if (item.shows === engine) return; // nothing was heard of it since
      item.shows = engine;
      item.className = `engine ${engine.status}`;
      item.title = about(engine);
      item.setAttribute("aria-label", about(engine));
      item.setAttribute("aria-pressed", engine.name === this.picked);
      fill(item.querySelector(".pages"), engine);
      if (few) this.line(item, engine);
      else setText(item.querySelector("b"), String(engine.load));
    });
    if (tableIsSeen) this.renderTable(sorted);
  }

  made(engine) {
    const pick = () => this.pick(engine.name === this.picked ? null : engine.name);
    const parts = this.few
      ? [el("b", {}, engine.name), el("small", { class: "role" }, ROLES[engine.role]),
         pages(engine), el("span", { class: "told" })]
      : [el("small", {}, engine.name), pages(engine), el("b")];
    return el("button", { "data-engine": engine.name, onclick: pick }, ...parts);
  }

  pick(name) {
    this.picked = name;
    for (const [known, item] of this.shown) item.setAttribute("aria-pressed", known === name);
    this.onPick(name);
  }

  line(item, engine) {
    const perSecond = engine.prefill_per_s + engine.decode_per_s;
    const told = engine.status === "alive"
      ? `${engine.running} + ${engine.waiting} · ${rate(perSecond)} tok/s`
      : engine.status;
    setText(item.querySelector(".told"), told);
  }

  renderTable(sorted) {
    if (!this.body) {
      this.body = el("tbody");
      const heads = COLUMNS.map(([name]) => el("th", { scope: "col" }, name));
      this.table.replaceChildren(el("thead", {}, el("tr", {}, ...heads)), this.body);
    }
    place(this.body, this.rows, sorted,
      (engine) => el("tr", { "data-row": engine.name },
        ...COLUMNS.map(([, write]) => el("td", {}, write ? null : pages(engine)))),
      (row, engine) => {
        if (row.shows === engine) return;
        row.shows = engine;
        row.className = engine.status;
        COLUMNS.forEach(([, write], i) => {
          if (write) setText(row.children[i], write(engine));
          else fill(row.children[i].firstChild, engine);
        });
      });
  }
}

// Keep one element for each entry, in the order of the entries.
function place(parent, known, entries, make, update) {
  const names = new Set(entries.map((entry) => entry.name));
  for (const [name, item] of known) {
    if (!names.has(name)) {
      item.remove();
      known.delete(name);
    }
  }
  entries.forEach((entry, i) => {
    if (!known.has(entry.name)) known.set(entry.name, make(entry));
    const item = known.get(entry.name);
    if (parent.children[i] !== item) parent.insertBefore(item, parent.children[i] ?? null);
    update(item, entry);
  });
  while (parent.children.length > entries.length) parent.lastChild.remove();
}

const natural = (a, b) => a.localeCompare(b, "en", { numeric: true });
