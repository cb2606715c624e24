// What the page knows: the fleet, the flows, and how flows of each strategy ended.

const KEPT = 2000; // endings of one strategy
const WINDOW_S = 60; // over which shares of traffic are counted
const RATE_S = 5;

export class World {
  // `watcher` hears reset(), moved(flow, before), ended(flow, outcome) and forgotten(flow).
  constructor(watcher) {
    this.watcher = watcher;
    this.engines = new Map();
    this.flows = new Map();
    this.strategies = new Map();
    this.endedAt = [];
    this.skew = 0;
  }

  // Seconds, by the gateway's clock.
  now() {
    return performance.now() / 1e3 + this.skew;
  }

  heed(told) {
    this.skew = told.now - performance.now() / 1e3;
    if (told.type === "whole") this.begin(told);
    for (const row of told.engines) this.engine(row);
    for (const name of told.gone ?? []) this.engines.delete(name);
    for (const passage of told.passed ?? []) this.passed(...passage);
    for (const sighting of told.flows) this.see(sighting);
    for (const ending of told.ended ?? []) this.end(ending);
    for (const flow of told.forgotten ?? []) this.forget(flow);
  }

  begin(told) {
    this.columns = told.columns;
    this.engines.clear();
    this.flows.clear();
    this.watcher.reset();
  }

  engine(row) {
    const engine = Object.fromEntries(this.columns.map((column, i) => [column, row[i]]));
    engine.load = engine.waiting + engine.running;
    this.engines.set(engine.name, engine);
  }

  strategy(ref) {
    if (!this.strategies.has(ref)) {
      this.strategies.set(ref, { ref, begun: [], endings: [], edges: new Map() });
    }
    return this.strategies.get(ref);
  }

  passed(ref, before, event, after, count) {
    const strategy = this.strategy(ref);
    const edge = `${before} ${after}`;
    strategy.edges.set(edge, (strategy.edges.get(edge) ?? 0) + count);
    if (event === "Submitted") strategy.begun.push([this.now(), count]);
  }

  see([id, strategy, state, began, engines, tokens]) {
    const known = this.flows.get(id);
    const flow = { id, strategy, state, began, engines, tokens };
    this.strategy(strategy);
    this.flows.set(id, flow);
    this.watcher.moved(flow, known?.state ?? null);
  }

  end([id, ref, outcome, jct, tokens, ttft]) {
    const flow = this.flows.get(id) ?? { id, strategy: ref, state: "Idle", engines: [] };
    const { endings } = this.strategy(ref);
    const tpot = ttft !== null && tokens > 1 ? Math.max(0, jct - ttft) / (tokens - 1) : null;
    endings.push({ outcome, jct, ttft, tpot, tokens });
    if (endings.length > KEPT) endings.splice(0, endings.length - KEPT);
    this.endedAt.push(this.now());
    this.flows.delete(id);
    this.watcher.ended(flow, outcome);
  }

  forget(id) {
    const flow = this.flows.get(id);
    if (flow) this.watcher.forgotten(flow);
    this.flows.delete(id);
  }

  // --- figures ---

  alive() {
    return [...this.engines.values()].filter((engine) => engine.status === "alive");
  }

  endedPerSecond() {
    const since = this.now() - RATE_S;
    this.endedAt = this.endedAt.filter((at) => at > since);
    return this.endedAt.length / RATE_S;
  }

  // Of each strategy that has flows or had some in the last minute, busiest first.
  traffic() {
    const since = this.now() - WINDOW_S;
    const inFlight = new Map();
    for (const flow of this.flows.values()) {
      inFlight.set(flow.strategy, (inFlight.get(flow.strategy) ?? 0) + 1);
    }
    const lines = [...this.strategies.values()].map((strategy) => {
      strategy.begun = strategy.begun.filter(([at]) => at > since);
      const begun = strategy.begun.reduce((sum, [, count]) => sum + count, 0);
      return { ref: strategy.ref, flows: inFlight.get(strategy.ref) ?? 0, begun };
    });
    const all = lines.reduce((sum, line) => sum + line.begun, 0);
    for (const line of lines) line.share = all ? line.begun / all : null;
    return lines.sort((a, b) => b.begun - a.begun || b.flows - a.flows || (a.ref < b.ref ? -1 : 1));
  }

  states(ref) {
    const counts = new Map();
    for (const flow of this.flows.values()) {
      if (flow.strategy === ref) counts.set(flow.state, (counts.get(flow.state) ?? 0) + 1);
    }
    return counts;
  }
}
