// Numbers, times and elements: how everything on the page is written.

export function seconds(s) {
  if (s === null || s === undefined || !isFinite(s)) return "–";
  if (s >= 100) return `${Math.round(s)} s`;
  if (s >= 1) return `${s.toFixed(2)} s`;
  if (s >= 0.001) return `${(s * 1e3).toFixed(s >= 0.1 ? 0 : 1)} ms`;
  return `${Math.round(s * 1e6)} µs`;
}

export function count(n) {
  if (n >= 1e6) return `${(n / 1e6).toFixed(1)} M`;
  if (n >= 1e4) return `${Math.round(n / 1e3)} k`;
  return Math.round(n).toLocaleString("en");
}

export function rate(n) {
  return n >= 9.95 || n === 0 ? count(n) : n.toFixed(1);
}

export function bytes(n) {
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (n >= size) return `${(n / size).toFixed(1)} ${unit}`;
  }
  return `${Math.round(n)} B`;
}

export const short = (flow) => flow.slice(0, 8);

// An element; text is only ever set as text, so that nothing a user wrote can be markup.
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  return filled(made, attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  return filled(made, attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
