// Where everything of a state diagram is: a row for each state, a line for each way between two.
//
//   [ Idle         o o                    2 ]    A line that passes a state goes behind its bar.
//      |Submitted          |Submitted            A flow leaves a bar where its line begins, and
//   [ Preparing    o                      1 ]    takes a place of its own in the next one.

const MARGIN = 14;
const NAME = 128; // of a bar, for the state's name
const COUNT = 64; // and for the number of flows
const LINE = 13;
const QUIET = 11; // between ways out that are only hinted at
const CHAR = 6.1;
const MAX_LINES = 3;

export function layout(diagram, width, height) {
  const columns = 1 + Math.max(-1, ...diagram.lines.map((line) => line.column));
  const quietColumns = 1 + Math.max(-1, ...diagram.quiet.map((line) => line.column));
  const room = width - 2 * MARGIN - quietColumns * QUIET - 20;
  const column = Math.max(92, Math.min(190, room / Math.max(1, columns)));
  const wide = Math.max(width, 2 * MARGIN + columns * column + quietColumns * QUIET + 20);
  const chars = Math.floor((column - 20) / CHAR);
  const labels = diagram.lines.map((line) => lines(line.labels, chars));
  const tops = rows(diagram, labels, height);
  const bar = (row) => ({ x: MARGIN, y: tops.at[row], w: wide - 2 * MARGIN, h: tops.bar });
  const x = (index) => MARGIN + 22 + index * column;
  const quietX = (index) => wide - MARGIN - 10 - index * QUIET;
  return {
    width: wide,
    height: tops.height,
    bars: new Map(diagram.states.map((state, row) => [state, places(bar(row))])),
    lines: diagram.lines.map((line, i) => ({
      ...way(diagram, bar, line, x(line.column)),
      label: labels[i],
      full: line.labels.map(({ events, commands }) =>
        events.join(", ") + (commands.length ? ` / ${commands.join(", ")}` : "")).join("\n"),
      labelAt: labelAt(bar, line, labels[i].length, x(line.column)),
    })),
    quiet: diagram.quiet.map((line) => way(diagram, bar, line, quietX(line.column))),
    routes: new Map(), // found so far, from one state to another
  };
}

// The part of a bar where flows are.
function places(bar) {
  return { ...bar, inner: { x: bar.x + NAME, y: bar.y + 4, w: bar.w - NAME - COUNT, h: bar.h - 8 } };
}

function rows(diagram, labels, height) {
  const n = diagram.states.length;
  const least = Array(n - 1).fill(26);
  diagram.lines.forEach((line, i) => {
    const gap = gapOf(line);
    if (gap < least.length) least[gap] = Math.max(least[gap], labels[i].length * LINE + 14);
  });
  const gaps = least.reduce((sum, gap) => sum + gap, 0);
  const spare = height - 2 * MARGIN - gaps;
  const bar = Math.max(30, Math.min(72, spare / n));
  const more = Math.max(0, (spare - n * bar) / (n - 1));
  const at = [];
  least.reduce((y, gap) => (at.push(y), y + bar + gap + more), MARGIN);
  at.push(n > 1 ? at[n - 2] + bar + least[n - 2] + more : MARGIN);
  return { at, bar, height: at[n - 1] + bar + MARGIN };
}

const gapOf = (line) => (line.end < line.begin ? line.begin - 1 : line.begin);

function way(diagram, bar, line, x) {
  const begin = bar(line.begin);
  const end = bar(line.end);
  const down = line.end > line.begin;
  const [before, after] = [diagram.states[line.begin], diagram.states[line.end]];
  if (line.begin === line.end) {
    const y = begin.y + begin.h;
    return { before, after, points: [[x, y], [x, y + 12], [x - 9, y + 12], [x - 9, y]] };
  }
  const points = down ? [[x, begin.y + begin.h], [x, end.y]] : [[x, begin.y], [x, end.y + end.h]];
  return { before, after, points };
}

function labelAt(bar, line, count, x) {
  const begin = bar(line.begin);
  const below = gapOf(line) === line.begin;
  return [x + 7, below ? begin.y + begin.h + 15 : begin.y - 6 - LINE * (count - 1)];
}

// The label of a way, cut into lines that fit: what comes, and what is sent. Of several things
// that are sent for the same events, the shortest is told.
function lines(labels, chars) {
  const sent = new Map();
  for (const { events, commands } of labels) {
    const [name, told] = [events.join(", "), commands.join(", ")];
    if (!sent.has(name) || told.length < sent.get(name).length) sent.set(name, told);
  }
  const all = [...sent].flatMap(([events, commands]) => [
    ...wrap(events, chars).map((text) => ({ text, sent: false })),
    ...(commands ? wrap(`→ ${commands}`, chars).map((text) => ({ text, sent: true })) : []),
  ]);
  if (all.length <= MAX_LINES) return all;
  const last = all[MAX_LINES - 1];
  return [...all.slice(0, MAX_LINES - 1), { ...last, text: `${last.text} …` }];
}

function wrap(text, chars) {
  const found = [""];
  for (const word of text.split(" ")) {
    const last = found[found.length - 1];
    if (last && last.length + word.length + 1 > chars) found.push(word);
    else found[found.length - 1] = last ? `${last} ${word}` : word;
  }
  return found;
}

// The lines that lead from one state to another, over others where no single one does.
export function route(lines, before, after) {
  const reached = new Map([[before, []]]);
  const queue = [before];
  while (queue.length) {
    const at = queue.shift();
    if (at === after) return reached.get(at);
    for (const line of lines) {
      if (line.before === at && !reached.has(line.after)) {
        reached.set(line.after, [...reached.get(at), line]);
        queue.push(line.after);
      }
    }
  }
  return [];
}
