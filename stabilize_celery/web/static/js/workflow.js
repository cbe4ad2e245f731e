// One workflow: graph, time line, stages, history, reasons; lives by its stream of events.

import { follow, get, part, withQuery } from "./api.js";
import { workflowActions } from "./actions.js";
import { fill, focusOf, h, settled, setTitle } from "./dom.js";
import { Gantt } from "./gantt.js";
import { Graph } from "./graph.js";
import { History } from "./history.js";
import { Model } from "./model.js";
import { json, StagePanel } from "./stage.js";
import { Table } from "./table.js";
import { clock, count, DEFAULT_PRIORITY, duration, glyph, learnTime, now, shortId, shownJson, styleOf } from "./words.js";

const TABS = { graph: "Graph", gantt: "Time line", stages: "Stages", events: "History", why: "Why", result: "Result", definition: "Definition" };

export async function workflowView({ main, life, parts, query, service, setState }) {
  const id = parts[1];
  const path = `/workflows/${part(id)}`;
  fill(main, h("p", { class: "pad dim", role: "status" }, "Loading …"));
  const model = new Model(await get(path));
  if (life.isOver) return;
  learnTime(model.state.now_ms);
  const page = new Page(model, life, service, path, () => reload());
  let isReloading = false;
  let isAskedAgain = false;

  /** Read the whole again: after what changes more than the stages that it happened to. */
  async function reload() {
    isAskedAgain = isReloading;
    if (isReloading) return;
    isReloading = true;
    try {
      const state = await get(path);
      if (life.isOver) return;
      learnTime(state.now_ms);
      model.load(state);
      page.renew();
    } finally {
      isReloading = false;
    }
    if (isAskedAgain) await reload();
  }

  fill(main, page.element);
  page.move(parts, query);
  life.moved = (...place) => page.move(...place);
  // Which stages are out of reach by now is told with the whole: it is read when nothing happens for a while.
  const onQuiet = settled(4000, () => life.isOver || document.hidden || reload());
  const onChange = (change, position) => {
    model.state.position = position || model.state.position;
    const began = performance.now();
    const changed = model.apply(change);
    if (changed === null) return void reload();
    page.update(changed, change);
    onQuiet();
    page.element.dataset.applied = (performance.now() - began).toFixed(1);
    page.element.dataset.changes = Number(page.element.dataset.changes ?? 0) + 1;
    return undefined;
  };
  const stop = follow(
    () => withQuery(`/streams/workflows/${part(id)}`, { from: model.state.position }),
    {
      change: onChange,
      reload: (_, position) => {
        model.state.position = position || model.state.position;
        reload();
      },
      // What was to be read meanwhile was not.
      back: () => reload(),
      gone: () => {
        stop();
        page.end();
      },
    },
    setState,
  );
  life.onEnd(stop);
}

class Page {
  constructor(model, life, service, path, reload) {
    Object.assign(this, { model, life, service, path, reload });
    this.views = {};
    this.head = h("header", { class: "head" });
    this.tabs = h("div", { class: "tabs", role: "tablist", "aria-label": "Views" });
    this.body = h("div", { class: "body", role: "tabpanel", tabindex: -1 });
    this.panel = new StagePanel(model, {
      onClose: () => this.choose(null),
      onDone: reload,
      isReadOnly: service.read_only,
    });
    this.element = h("div", { class: "stack workflow" }, this.head, this.tabs, h("div", { class: "split" }, this.body, this.panel.element));
    this.fillTabs();
    this.fillHead();
    life.every(1000, () => !model.isOver && !this.isGone && this.tick());
    this.later = settled(250, () => this.panel.show(this.panel.ref));
    this.reasonsLater = settled(800, () => this.tab === "why" && this.showReasons());
  }

  fillTabs() {
    for (const [name, title] of Object.entries(TABS)) {
      const tab = h("a", { role: "tab", href: this.address(name), dataset: { tab: name } }, title);
      this.tabs.append(tab);
    }
  }

  address(tab, ref = this.ref) {
    return withQuery(`#${this.path}/${tab}`, { stage: ref ?? "" });
  }

  fillHead() {
    const { state } = this.model;
    setTitle(`${state.name || "workflow"} ${shortId(state.id)}`);
    this.took = h("span", {});
    this.counts = h("p", { class: "counts" });
    this.chip = h("span", { class: "chip" });
    const actions = this.service.read_only || this.isGone ? [] : workflowActions(this.model, this.reload);
    const focusAgain = focusOf(this.head);
    fill(
      this.head,
      h(
        "div",
        {},
        h("h1", {}, state.name || "workflow", " ", this.chip),
        h(
          "p",
          { class: "dim" },
          h("bdi", {}, state.application),
          " · ",
          h("code", { class: "id" }, state.id),
          ` · started ${clock(state.started_ms)} · `,
          this.took,
          state.parent_id && [" · called by ", h("a", { href: `#/workflows/${part(state.parent_id)}` }, state.parent_id)],
          state.priority !== DEFAULT_PRIORITY && ` · priority ${state.priority}`,
          state.restarts > 0 && ` · restarted ${state.restarts}×`,
        ),
        this.counts,
        this.isGone && h("p", { class: "bad", role: "alert" }, "This workflow is gone: its retention is over. What is seen here is how it was last."),
        this.reasonOf(state),
      ),
      h("div", { class: "buttons" }, actions),
    );
    focusAgain();
    this.actionsFor = state.status;
    this.tick();
    this.count();
  }

  reasonOf(state) {
    if (state.status === "PAUSED") return h("p", {}, `Paused by ${state.paused_by || "somebody"}.`);
    const by = state.canceled_by ? ` (by ${state.canceled_by})` : "";
    return state.reason ? h("p", { class: state.status === "TERMINAL" ? "bad brief" : "brief", title: state.reason + by }, state.reason + by) : null;
  }

  tick() {
    const { state } = this.model;
    this.chip.textContent = `${glyph(state.status)} ${state.status}`;
    this.chip.className = `chip ${styleOf(state.status)}`;
    this.took.textContent = duration((state.ended_ms ?? now()) - state.started_ms);
  }

  count() {
    const counts = this.model.counts();
    fill(
      this.counts,
      Object.entries(counts).map(([status, number]) => h("span", { class: `chip ${styleOf(status)}` }, `${glyph(status)} ${count(number)} ${status}`)),
    );
  }

  /** Show what the address says: which view, which stage. */
  move(parts, query) {
    const tab = parts[2] in TABS ? parts[2] : "graph";
    const ref = query.get("stage");
    const isOther = ref !== this.ref;
    this.ref = ref;
    if (tab !== this.tab) this.showTab(tab);
    for (const link of this.tabs.children) {
      link.href = this.address(link.dataset.tab);
      link.setAttribute("aria-selected", link.dataset.tab === tab);
    }
    this.view?.choose?.(ref);
    if (isOther) this.panel.show(this.model.stages.has(ref) ? ref : null, { isFocused: this.isAsked });
    this.isAsked = false;
  }

  choose(ref) {
    this.isAsked = ref !== null;
    location.hash = this.address(this.tab, ref);
    if (ref === null) (this.body.querySelector("[tabindex='0']") ?? this.body).focus({ preventScroll: true });
  }

  /** Say that it is no longer there: nothing goes on, and nothing can be done to it. */
  end() {
    this.isGone = true;
    this.fillHead();
    this.panel.end();
  }

  showTab(tab) {
    this.tab = tab;
    this.view = null;
    const make = { graph: Graph, gantt: Gantt, stages: Table }[tab];
    if (make !== undefined) {
      this.view = this.views[tab] ??= new make(this.model, this.life, (ref) => this.choose(ref));
      fill(this.body, this.view.element);
      if (this.stale?.has(tab)) this.refresh(this.view);
      this.view.draw();
    } else if (tab === "events") {
      this.view = this.views.events ??= new History(this.path, this.life, (ref) => this.choose(ref));
      fill(this.body, this.view.element);
    } else if (tab === "why") this.showReasons();
    else if (tab === "result") this.showResult();
    else this.showDefinition();
  }

  async showReasons() {
    const { items } = await get(`${this.path}/why`);
    if (this.tab !== "why") return;
    const most = items.slice(0, 500);
    fill(
      this.body,
      h(
        "div",
        { class: "pad scroll" },
        items.length === 0 && h("p", {}, "Nothing waits, and nothing failed."),
        most.map((one) => this.reason(one)),
        items.length > most.length && h("p", { class: "dim" }, `… and ${count(items.length - most.length)} more`),
      ),
    );
  }

  reason({ ref_id, kind, text, detail, advice, traceback }) {
    const name = ref_id ? h("a", { href: this.address("why", ref_id) }, ref_id) : "the workflow";
    return h(
      "article",
      { class: "reason" },
      h("h3", {}, name, h("span", { class: "dim" }, ` ${kind}`)),
      h("p", {}, text),
      detail && h("p", { class: "dim" }, detail),
      advice && h("p", {}, "→ ", h("code", {}, advice)),
      traceback && h("details", {}, h("summary", {}, "Traceback"), h("pre", { tabindex: 0 }, traceback)),
    );
  }

  async showResult() {
    const { has_ended: hasEnded, status, value, failure } = await get(`${this.path}/result`);
    if (this.tab !== "result") return;
    const told = hasEnded ? failure : `It is ${status}: there is a result once it has ended.`;
    const isPlain = value === null || typeof value !== "object" || Object.keys(value).length === 0;
    const shown = isPlain ? h("pre", { tabindex: 0 }, shownJson(JSON.stringify(value))) : json("Result", value, true);
    fill(this.body, h("div", { class: "pad scroll" }, told ? h("p", { class: failure ? "bad" : "" }, told) : shown));
  }

  async showDefinition() {
    const { definition } = await get(`${this.path}/definition`);
    if (this.tab !== "definition") return;
    fill(this.body, h("div", { class: "pad scroll" }, json("Definition", definition, true)));
  }

  /** Show what changed in the stages `changed`. */
  update(changed, change) {
    if (this.actionsFor !== this.model.state.status) this.onStatus();
    this.count();
    this.markStale();
    if (this.view) this.refresh(this.view);
    this.views.events?.add(change);
    if (changed.includes(this.panel.ref)) this.later();
    this.reasonsLater();
  }

  onStatus() {
    this.fillHead();
    if (this.tab === "result") this.showResult();
  }

  /** Show a model that was loaded again. */
  renew() {
    if (this.actionsFor !== this.model.state.status) this.onStatus();
    else this.fillHead();
    this.markStale();
    if (this.view) this.refresh(this.view);
    this.views.graph?.renew();
    this.views.events?.reload();
    if (this.panel.ref !== null) this.panel.show(this.panel.ref);
    this.reasonsLater();
  }

  markStale() {
    this.stale = new Set(Object.keys(this.views));
  }

  refresh(view) {
    this.stale.delete(this.tab);
    if (view.update) view.update();
    else view.draw?.();
  }
}
