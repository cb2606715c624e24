// What does not depend on the fleet: light or dark, the list of keys, and the key to get in.

import { el } from "./format.js";

const THEME = "microserve.theme";
const DESCRIBED = [
  ["1 2 3", "flows, fleet, compare"],
  ["[ ]", "the strategy before, the one after"],
  ["s", "its source, versions and share"],
  ["j k ↓ ↑", "choose a flow"],
  ["Enter", "open it: waterfall and tokens"],
  ["/", "find a flow by how its id begins"],
  ["p", "pause, go on"],
  ["t", "light or dark"],
  ["Esc", "close; choose no engine any more"],
];

const preferred = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");

export function useTheme() {
  const chosen = localStorage.getItem(THEME);
  if (chosen) document.documentElement.dataset.theme = chosen;
}

export function switchTheme() {
  const now = document.documentElement.dataset.theme ?? preferred();
  const next = now === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem(THEME, next);
}

export function showKeys(dialog) {
  const lines = DESCRIBED.flatMap(([keys, what]) => [
    el("dt", {}, ...keys.split(" ").map((key) => el("kbd", {}, key))), el("dd", {}, what)]);
  dialog.replaceChildren(el("h2", {}, "Keys"), el("dl", {}, ...lines),
    el("form", { method: "dialog" }, el("button", {}, "Close")));
  dialog.showModal();
}

export function askForKey(dialog, use) {
  const input = el("input", { type: "password", "aria-label": "API key", autocomplete: "off" });
  const form = el("form", { method: "dialog" }, input, el("button", {}, "Look"));
  form.addEventListener("submit", () => use(input.value.trim()), { once: true });
  dialog.replaceChildren(el("h2", {}, "API key"),
    el("p", {}, "This gateway has keys. What is asked and answered is shown to operators' keys only."), form);
  if (!dialog.open) dialog.showModal();
}
