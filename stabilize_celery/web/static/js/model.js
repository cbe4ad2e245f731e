// A workflow as the page keeps it: stages by ref, who follows whom, stages alike folded into one node.

import { isEnded, isFailure } from "./words.js";

/** So many stages alike are still shown one by one. */
const FOLD_ABOVE = 12;

export class Model {
  constructor(state) {
    this.opened = new Set();
    this.load(state);
  }

  /** Take a whole state; what was opened stays open. */
  load(state) {
    this.state = state;
    this.stages = new Map(state.stages.map((line) => [line.ref_id, withDefaults(line)]));
    this.refs = [...this.stages.keys()];
    this.edges = edgesOf(this.stages);
    this.after = new Map(this.refs.map((ref) => [ref, []]));
    this.before = new Map(this.refs.map((ref) => [ref, []]));
    for (const [source, target] of this.edges) {
      this.after.get(source).push(target);
      this.before.get(target).push(source);
    }
    this.fold();
  }

  /** Take what changed; returns the refs of stages that did. */
  apply(change) {
    this.state.status = change.status;
    const changed = [];
    for (const line of change.stages) {
      const known = this.stages.get(line.ref_id);
      // A stage that a builder has planned meanwhile: the whole is read again.
      if (known === undefined) return null;
      const before = known.status;
      const { region, requisites, ...news } = withDefaults(line);
      Object.assign(known, news);
      if (news.status === "NOT_STARTED" && before === "SKIPPED") known.status = before;
      changed.push(line.ref_id);
    }
    return changed;
  }

  /** Make the nodes of the graph: a stage each, or one for many alike. */
  fold() {
    const groups = new Map();
    for (const ref of this.refs) {
      const stage = this.stages.get(ref);
      const alike = [stage.requisites.join("\n"), stage.tasks.join("\n"), this.after.get(ref).join("\n"), stage.parent];
      const key = alike.join("\u0000");
      if (groups.has(key)) groups.get(key).push(ref);
      else groups.set(key, [ref]);
    }
    this.nodes = [];
    this.nodeOf = new Map();
    for (const [key, refs] of groups) {
      const isFolded = refs.length > FOLD_ABOVE && !this.opened.has(refs[0]);
      if (isFolded) this.addNode({ id: `fold ${key}`, refs, isFold: true });
      else for (const ref of refs) this.addNode({ id: ref, refs: [ref], isFold: false, siblings: refs });
    }
    const seen = new Set();
    this.links = [];
    for (const [source, target, kind] of this.edges) {
      const [from, to] = [this.nodeOf.get(source), this.nodeOf.get(target)];
      const key = `${from.at} ${to.at}`;
      if (from === to || seen.has(key)) continue;
      seen.add(key);
      this.links.push({ from, to, kind });
    }
    this.jumps = [];
    for (const ref of this.refs) {
      for (const target of this.stages.get(ref).jumps) {
        if (this.nodeOf.has(target)) this.jumps.push({ from: this.nodeOf.get(ref), to: this.nodeOf.get(target) });
      }
    }
  }

  addNode(node) {
    node.at = this.nodes.length;
    this.nodes.push(node);
    for (const ref of node.refs) this.nodeOf.set(ref, node);
  }

  /** How many stages have each status. */
  counts(refs = this.refs) {
    const found = {};
    for (const ref of refs) {
      const status = this.stages.get(ref).status;
      found[status] = (found[status] ?? 0) + 1;
    }
    return found;
  }

  get isOver() {
    return isEnded(this.state.status);
  }

  /** A stage that is worth looking at first: one that failed, else one at work, else the first. */
  get telling() {
    const find = (test) => this.refs.find((ref) => test(this.stages.get(ref).status));
    return find(isFailure) ?? find((one) => one === "RUNNING") ?? find((one) => one === "SUSPENDED") ?? this.refs[0];
  }
}

const DEFAULTS = {
  name: "", type: "", requisites: [], parent: "", owner: "", tasks: [], join: "AND", split: "AND", jumps: [],
  mutex_key: "", can_multiply: false, is_dynamic: false, region: [], started_ms: 0, ended_ms: 0, waiting_since_ms: 0,
  runs: 0, attempts: 0, is_idle: false, waits: "", offer: "", child: "", instances: null, told: "",
};

/** The API leaves out what has its default. */
const withDefaults = (line) => ({ ...DEFAULTS, ...line });

function edgesOf(stages) {
  const edges = [];
  for (const [ref, stage] of stages) {
    for (const one of stage.requisites) if (stages.has(one)) edges.push([one, ref, "requisite"]);
    if (!stages.has(stage.parent)) continue;
    // Before stages run before their parent's tasks, after stages behind them.
    if (stage.owner === "STAGE_BEFORE") edges.push([ref, stage.parent, "part"]);
    else edges.push([stage.parent, ref, "part"]);
  }
  return edges;
}
