// What is shown beside the page when a flow or a strategy is opened.

import { el, seconds } from "./format.js";
import { get } from "./stream.js";

const LOOK_EVERY_MS = 500;

export class Drawer {
  constructor(dialog, onClose) {
    this.dialog = dialog;
    this.subject = null;
    dialog.addEventListener("close", () => {
      if (dialog.open) return; // told late: something else has been opened since
      this.subject = null;
      clearTimeout(this.timer);
      onClose();
    });
    // A click beside it closes it.
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close();
    });
  }

  close() {
    if (this.dialog.open) this.dialog.close();
  }

  open(subject, title, ...under) {
    this.close();
    clearTimeout(this.timer);
    this.subject = subject;
    this.body = el("div", { class: "body" });
    const close = el("button", { class: "plain close", "aria-label": "Close",
      onclick: () => this.close() }, "×");
    this.dialog.replaceChildren(el("header", {}, el("h2", {}, title), ...under, close), this.body);
    this.dialog.showModal();
  }

  // --- a flow, looked at again while it goes on ---

  flow(id) {
    this.open(id, "Flow ", el("code", {}, id));
    this.look(id);
  }

  async look(id) {
    try {
      const view = await get(`/live/flows/${encodeURIComponent(id)}`);
      if (this.subject !== id) return;
      const top = this.body.scrollTop;
      this.body.replaceChildren(...flowParts(view));
      this.body.scrollTop = top;
      if (view.goes_on) this.timer = setTimeout(() => this.look(id), LOOK_EVERY_MS);
    } catch (error) {
      if (this.subject === id) this.body.replaceChildren(el("p", { class: "error" }, error.message));
    }
  }

  // --- a strategy ---

  async strategy(ref, share) {
    this.open(ref, "Strategy ", el("code", {}, ref));
    try {
      const view = await get(`/live/strategies/${encodeURIComponent(ref)}`);
      if (this.subject === ref) this.body.replaceChildren(...strategyParts(view, share, (other) =>
        this.strategy(other, null)));
    } catch (error) {
      if (this.subject === ref) this.body.replaceChildren(el("p", { class: "error" }, error.message));
    }
  }
}

function flowParts(view) {
  const facts = [
    ["strategy", view.strategy],
    [view.goes_on ? "state" : "outcome", view.state],
    ["time", `${seconds(view.duration_s)}${view.goes_on ? ", goes on" : ""}`],
    ["at", view.engines.join(" ") || null],
    ["prompt", view.prompt ? `${view.prompt.num_tokens} tokens` : null],
    ["answer", view.answers.length ? `${view.answers.map((a) => a.num_tokens).join(" + ")} tokens` : null],
  ].filter(([, value]) => value);
  return [
    el("dl", { class: "facts" }, ...facts.map(([name, value]) =>
      el("div", {}, el("dt", {}, name), el("dd", { "data-fact": name }, value)))),
    el("h3", {}, "Waterfall"),
    waterfall(view),
    el("p", { class: "went" }, view.where_time_went),
    ...texts(view),
  ];
}

function waterfall(view) {
  const rows = view.bars.map((bar) => {
    const name = el("span", { class: "name", title: bar.name }, bar.name);
    name.style.paddingLeft = `${bar.depth * 12}px`;
    const drawn = el("i", { class: `bar ${kindOf(bar)}` });
    const whole = view.duration_s || 1;
    const begin = Math.min(1, Math.max(0, bar.begin_s / whole));
    drawn.style.left = `${begin * 100}%`;
    drawn.style.width = `${Math.min(1 - begin, bar.duration_s / whole) * 100}%`;
    return el("div", { class: `row${bar.error ? " failed" : ""}`, title: bar.details, "data-span": bar.name },
      name, el("span", { class: "track" }, drawn),
      el("span", { class: "took" }, seconds(bar.duration_s)),
      el("span", { class: "details" }, bar.details));
  });
  const more = view.num_bars - view.bars.length;
  if (more > 0) rows.push(el("p", {}, `and ${more} more spans`));
  return el("div", { class: "waterfall" }, ...rows);
}

const PHASES = new Set(["queue", "prefill", "decode", "wait"]);

function kindOf(bar) {
  if (PHASES.has(bar.name)) return bar.name;
  if (bar.name === "kv.transfer") return "transfer";
  return bar.kind;
}

function texts(view) {
  if (!view.prompt) {
    return [el("p", { class: "hint" }, "Its tokens were not kept: nobody looked when it ended.")];
  }
  if (view.withheld) {
    return [el("p", { class: "hint" }, "What was asked and answered is shown to operators' keys only.")];
  }
  const answers = view.answers.flatMap((answer, i) =>
    said(view.answers.length > 1 ? `Answer ${i + 1}` : "Answer", answer));
  return [...answers, ...said("Prompt", view.prompt)];
}

function said(title, { num_tokens, tokens }) {
  const left = num_tokens - tokens.length;
  const chips = tokens.map(([id, text], i) =>
    el("span", { class: i % 2 ? "token odd" : "token", title: `token ${id}, number ${left + i}` }, text));
  return [
    el("h3", {}, `${title} `, el("small", {}, left ? `the last ${tokens.length} tokens` : "")),
    el("p", { class: "tokens", "data-said": title.toLowerCase() }, ...chips),
  ];
}

function strategyParts(view, share, open) {
  const versions = view.versions.map((version) => el("tr", { class: version.ref === view.ref ? "shown" : "" },
    el("td", {}, el("button", { class: "plain link", onclick: () => open(version.ref) }, version.ref)),
    el("td", {}, version.serves.join("; ") || "nobody"),
    el("td", {}, version.origin),
    el("td", {}, version.verdict)));
  const heads = ["version", "serves", "from", "check"].map((name) => el("th", { scope: "col" }, name));
  const source = view.source.replace(/\n$/, "").split("\n").map((line) => el("code", {}, line || " "));
  return [
    ...(share === null || share === undefined ? [] : [el("p", { class: "went" },
      `${Math.round(share * 100)} % of the flows that began in the last minute`)]),
    el("h3", {}, "Versions"),
    el("table", { class: "versions" }, el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...versions)),
    el("h3", {}, "Source"),
    el("pre", { class: "source", "data-source": view.ref }, ...source),
  ];
}
