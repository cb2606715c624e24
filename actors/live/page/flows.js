// The list of flows: the oldest first, since those are the ones that somebody waits for.

import { el, seconds, setText, short } from "./format.js";

const SHOWN = 60;

export class Flows {
  constructor(list, note, onOpen, onChoose) {
    this.list = list;
    this.note = note;
    this.onOpen = onOpen;
    this.onChoose = onChoose;
    this.chosen = null;
    this.items = [];
    list.addEventListener("keydown", (event) => this.key(event));
  }

  render(world, ref, engine) {
    const all = [...world.flows.values()].filter((flow) =>
      (!ref || flow.strategy === ref) && (!engine || flow.engines.includes(engine)));
    all.sort((a, b) => a.began - b.began);
    const shown = all.slice(0, SHOWN);
    setText(this.note, [
      all.length > SHOWN ? `the oldest ${SHOWN} of ${all.length}` : `${all.length}`,
      engine ? `at ${engine}` : "",
    ].filter(Boolean).join(" "));
    this.fit(shown.length);
    shown.forEach((flow, i) => this.write(this.items[i], flow, world.now()));
    this.list.setAttribute("aria-activedescendant", this.chosen ? `flow-${this.chosen}` : "");
  }

  fit(size) {
    while (this.items.length < size) {
      const item = el("li", { role: "option" }, el("code"), el("span", { class: "state" }),
        el("span", { class: "at" }), el("span", { class: "age" }));
      item.addEventListener("click", () => {
        this.choose(item.dataset.flow);
        this.onOpen(item.dataset.flow);
      });
      this.items.push(item);
      this.list.append(item);
    }
    while (this.items.length > size) this.items.pop().remove();
  }

  write(item, flow, now) {
    item.dataset.flow = flow.id;
    item.id = `flow-${flow.id}`;
    item.setAttribute("aria-selected", flow.id === this.chosen);
    const [id, state, at, age] = item.children;
    setText(id, short(flow.id));
    setText(state, flow.state);
    setText(at, flow.engines.join(" "));
    setText(age, seconds(Math.max(0, now - flow.began)));
  }

  key(event) {
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
    if (step) {
      const at = this.items.findIndex((item) => item.dataset.flow === this.chosen);
      const next = this.items[Math.max(0, Math.min(this.items.length - 1, at + step))];
      if (next) this.choose(next.dataset.flow);
    } else if (event.key === "Enter" && this.chosen) {
      this.onOpen(this.chosen);
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  choose(id) {
    this.chosen = id;
    for (const item of this.items) item.setAttribute("aria-selected", item.dataset.flow === id);
    this.items.find((item) => item.dataset.flow === id)?.scrollIntoView({ block: "nearest" });
    this.onChoose(id);
  }
}
