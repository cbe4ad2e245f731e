// All stages as a list: what the graph shows, for reading, searching and keyboards.

import { fill, h, settled } from "./dom.js";
import { noteOf } from "./drawing.js";
import { VirtualList } from "./virtual.js";
import { clock, count, elapsed, glyph, plural, STATUSES, styleOf } from "./words.js";

const SORTS = {
  "as defined": null,
  "by start": (one, other) => (one.started_ms || Infinity) - (other.started_ms || Infinity),
  "longest first": (one, other) => length(other) - length(one),
};
const length = (stage) => (stage.started_ms ? (stage.ended_ms || Date.now()) - stage.started_ms : 0);

export class Table {
  constructor(model, life, onChoose) {
    this.model = model;
    this.rows = [];
    this.wanted = { text: "", status: "", sort: "as defined" };
    this.list = new VirtualList({
      label: "Stages",
      height: 36,
      make: () => h("div", {}, CELLS.map((cell) => h("span", { class: `cell ${cell}`, role: "gridcell" }))),
      show: (row, index) => showRow(row, this.rows[index]),
      onChoose: (index) => onChoose(this.rows[index].ref_id),
    });
    life.onEnd(() => this.list.end());
    life.every(1000, () => !this.model.isOver && this.list.draw());
    this.told = h("span", { class: "dim", role: "status" });
    this.element = h("div", { class: "stack inner" }, this.filters(), heads(), this.list.element);
    this.update();
  }

  filters() {
    const set = (name) => (event) => {
      this.wanted[name] = event.target.value;
      this.update();
    };
    const option = (value, text) => h("option", { value }, text);
    const statuses = Object.keys(STATUSES).map((one) => option(one, `${STATUSES[one]} ${one}`));
    const later = settled(120, set("text"));
    return h(
      "div",
      { class: "filters" },
      h("label", {}, h("span", {}, "Search"), h("input", { type: "search", oninput: later })),
      h("label", {}, h("span", {}, "Status"), h("select", { onchange: set("status") }, option("", "any"), statuses)),
      h("label", {}, h("span", {}, "Order"), h("select", { onchange: set("sort") }, Object.keys(SORTS).map((one) => option(one, one)))),
      this.told,
    );
  }

  /** Filter and sort again: after a change. */
  update() {
    const { text, status, sort } = this.wanted;
    const words = text.trim().toLowerCase();
    const found = [];
    for (const ref of this.model.refs) {
      const stage = this.model.stages.get(ref);
      if (status && stage.status !== status) continue;
      if (words && !`${ref} ${stage.name} ${stage.tasks.join(" ")} ${stage.told}`.toLowerCase().includes(words)) continue;
      found.push(stage);
    }
    if (SORTS[sort] !== null) found.sort(SORTS[sort]);
    this.rows = found;
    this.told.textContent = plural(found.length, "stage");
    this.list.update(found.length);
  }

  choose(ref) {
    const at = this.rows.findIndex((stage) => stage.ref_id === ref);
    if (at >= 0) this.list.choose(at);
  }

  draw() {
    this.list.draw();
  }
}

const CELLS = ["status", "ref", "tasks", "started", "took", "note"];

const heads = () =>
  h("div", { class: "row heads", "aria-hidden": true }, CELLS.map((one) => h("span", { class: `cell ${one}` }, one === "ref" ? "stage" : one)));

function showRow(row, stage) {
  const [status, ref, tasks, started, took, note] = row.children;
  fill(status, h("span", { class: `chip ${styleOf(stage.status)}` }, `${glyph(stage.status)} ${stage.status}`));
  fill(ref, stage.ref_id);
  fill(tasks, stage.tasks.join(", "));
  started.textContent = clock(stage.started_ms);
  took.textContent = elapsed(stage);
  const extra = noteOf({ ...stage, started_ms: 0, waiting_since_ms: 0 }).split(" · ").slice(1);
  if (stage.requisites.length > 20) extra.push(`after ${count(stage.requisites.length)} stages`);
  fill(note, [...extra, stage.told].filter(Boolean).join(" · "));
}
