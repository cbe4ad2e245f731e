// The graph on a canvas: moved and zoomed by pointer or keys, drawn again only when something changed.

import { fill, h, say } from "./dom.js";
import { cellAt, drawFold, drawJumps, drawLinks, drawStage, noteOf } from "./drawing.js";
import { layout } from "./layout.js";
import { palette, sized } from "./palette.js";
import { count, plural } from "./words.js";

const LARGEST = 2.5;
const SMALLEST = 0.01;
const MANY_LINKS = 1500;

export class Graph {
  constructor(model, life, onChoose) {
    this.model = model;
    this.onChoose = onChoose;
    this.scale = 1;
    this.left = 0;
    this.top = 0;
    this.chosen = null;
    this.canvas = h("canvas", {
      tabindex: 0,
      role: "application",
      "aria-roledescription": "graph",
      "aria-label": "The workflow as a graph. Arrow keys go from stage to stage, Enter shows one, plus and minus zoom.",
      "aria-describedby": "graph-told",
    });
    this.told = h("p", { class: "unseen", id: "graph-told", role: "status" });
    this.tip = h("div", { class: "tip", hidden: true });
    this.box = h("div", { class: "graph" }, this.canvas, this.told, this.tip, this.tools());
    this.element = this.box;
    const watcher = new ResizeObserver(() => this.resize());
    watcher.observe(this.box);
    life.onEnd(() => watcher.disconnect());
    life.listen(window, "colours", () => this.draw());
    life.every(1000, () => !this.model.isOver && this.draw());
    this.listen();
    this.arrange();
  }

  tools() {
    const tool = (text, label, act) => h("button", { type: "button", title: label, "aria-label": label, onclick: act }, text);
    return h(
      "div",
      { class: "tools" },
      tool("+", "Zoom in", () => this.zoom(1.3)),
      tool("−", "Zoom out", () => this.zoom(1 / 1.3)),
      tool("⤢", "Show all of it", () => this.fit()),
      tool("▶", "Go to what runs or failed", () => this.show(this.model.telling)),
      tool("▦", "Fold stages that are alike", () => this.refold()),
    );
  }

  /** Lay it out again: after a change of its stages or folds. */
  arrange() {
    this.whole = layout(this.model.nodes, this.model.links);
    this.isFitted = this.width > 0 && (this.fit(), true);
    this.draw();
  }

  /** Take a model that was loaded again: the view stays where it was if the nodes are the same. */
  renew() {
    const before = this.whole;
    this.whole = layout(this.model.nodes, this.model.links);
    if (before.width !== this.whole.width || before.height !== this.whole.height) this.fit();
    this.draw();
  }

  refold() {
    this.model.opened.clear();
    this.model.fold();
    this.arrange();
  }

  open(node) {
    this.model.opened.add(node.refs[0]);
    this.model.fold();
    this.arrange();
    this.show(node.refs[0]);
    say(`${plural(node.refs.length, "stage")} opened; ▦ folds them again`);
  }

  resize() {
    this.width = this.box.clientWidth;
    this.height = this.box.clientHeight;
    // Until somebody moves it, it fits what room there is.
    if (this.width > 0 && !this.isMoved) {
      this.isFitted = true;
      this.fit();
    }
    this.draw();
  }

  fit() {
    const { width, height } = this.whole;
    const all = Math.min(this.width / width, this.height / height, 1.2);
    if (all >= 0.25 || this.model.nodes.length < 2) {
      this.scale = Math.max(SMALLEST, all);
      this.left = (width - this.width / this.scale) / 2;
      this.top = (height - this.height / this.scale) / 2;
      return this.draw();
    }
    // Too much to be read at once: what is worth a look first.
    this.scale = Math.max(0.5, Math.min(1, this.height / height));
    this.show(this.model.telling);
    return undefined;
  }

  /** Bring a stage into the middle. */
  show(ref) {
    const node = this.model.nodeOf.get(ref);
    if (node === undefined) return;
    this.left = node.x + node.width / 2 - this.width / 2 / this.scale;
    this.top = node.y + node.height / 2 - this.height / 2 / this.scale;
    // Nothing is left of the first column.
    this.left = Math.max(this.left, Math.min(-20, (this.whole.width - this.width / this.scale) / 2));
    if (node.width * this.scale > this.width) this.left = node.x - 20;
    this.draw();
  }

  choose(ref) {
    this.chosen = ref;
    this.draw();
  }

  zoom(by, x = this.width / 2, y = this.height / 2) {
    this.isMoved = true;
    const scale = Math.max(SMALLEST, Math.min(LARGEST, this.scale * by));
    this.left += x / this.scale - x / scale;
    this.top += y / this.scale - y / scale;
    this.scale = scale;
    this.draw();
  }

  draw() {
    if (this.isAsked || !this.width) return;
    this.isAsked = true;
    requestAnimationFrame(() => {
      this.isAsked = false;
      this.paint();
    });
  }

  paint() {
    const began = performance.now();
    const pen = sized(this.canvas, this.width, this.height);
    pen.clearRect(0, 0, this.width, this.height);
    const [right, bottom] = [this.left + this.width / this.scale, this.top + this.height / this.scale];
    const window = { left: this.left, right, top: this.top, bottom };
    const chosen = this.chosen === null ? null : this.model.nodeOf.get(this.chosen);
    this.paintLinks(pen, window, chosen);
    this.look(pen);
    for (const node of this.seen(window)) {
      if (node.isFold) drawFold(pen, node, this.model, this.scale, node === chosen);
      else drawStage(pen, node, this.model.stages.get(node.id), this.scale, node === chosen);
    }
    drawJumps(pen, this.model.jumps, this.scale);
    this.canvas.dataset.painted = Math.round(performance.now() - began);
    this.canvas.dataset.paints = Number(this.canvas.dataset.paints ?? 0) + 1;
  }

  look(pen) {
    pen.scale(this.scale, this.scale);
    pen.translate(-this.left, -this.top);
  }

  /** Very many lines are kept as an image: what happens changes nodes only. */
  paintLinks(pen, window, chosen) {
    const { links } = this.model;
    if (links.length < MANY_LINKS) {
      pen.save();
      this.look(pen);
      drawLinks(pen, links, window, this.scale, chosen);
      pen.restore();
      return;
    }
    const seen = [links, this.whole, palette(), chosen, this.scale, this.left, this.top, this.width, this.height, devicePixelRatio];
    if (this.linksSeen?.some((one, at) => one !== seen[at]) ?? true) {
      this.linksImage ??= document.createElement("canvas");
      const inner = sized(this.linksImage, this.width, this.height);
      inner.clearRect(0, 0, this.width, this.height);
      this.look(inner);
      drawLinks(inner, links, window, this.scale, chosen);
      this.linksSeen = seen;
    }
    pen.drawImage(this.linksImage, 0, 0, this.width, this.height);
  }

  /** The nodes in the window: whole columns are left out, and within one those above and below. */
  *seen({ left, right, top, bottom }) {
    for (const column of this.whole.columns) {
      if (column.right < left || column.left > right) continue;
      for (const node of column.nodes) {
        if (node.y > bottom) break;
        if (node.y + node.height >= top) yield node;
      }
    }
  }

  /** What is under a point of the canvas: a node, and the stage. */
  under(event) {
    const box = this.canvas.getBoundingClientRect();
    const x = (event.clientX - box.left) / this.scale + this.left;
    const y = (event.clientY - box.top) / this.scale + this.top;
    for (const node of this.seen({ left: x, right: x, top: y, bottom: y })) {
      if (x < node.x || x > node.x + node.width) continue;
      return { node, ref: node.isFold ? cellAt(node, x, y) : node.id };
    }
    return null;
  }

  listen() {
    const canvas = this.canvas;
    let grip = null;
    let moved = 0;
    canvas.addEventListener("pointerdown", (event) => {
      this.isMoved = true;
      grip = { x: event.clientX, y: event.clientY };
      moved = 0;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (grip === null) return this.hint(event);
      const [dx, dy] = [event.clientX - grip.x, event.clientY - grip.y];
      moved += Math.abs(dx) + Math.abs(dy);
      this.left -= dx / this.scale;
      this.top -= dy / this.scale;
      grip = { x: event.clientX, y: event.clientY };
      this.draw();
      return undefined;
    });
    canvas.addEventListener("pointerup", (event) => {
      grip = null;
      if (moved < 6) this.click(event);
    });
    canvas.addEventListener("pointerleave", () => (this.tip.hidden = true));
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        if (event.ctrlKey || event.metaKey || Math.abs(event.deltaY) >= Math.abs(event.deltaX)) {
          this.zoom(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
        } else {
          this.left += event.deltaX / this.scale;
          this.draw();
        }
      },
      { passive: false },
    );
    canvas.addEventListener("keydown", (event) => this.onKey(event));
  }

  click(event) {
    const found = this.under(event);
    if (found === null) return;
    if (found.ref !== undefined) this.onChoose(found.ref);
    else if (found.node.isFold) this.open(found.node);
  }

  hint(event) {
    const found = this.under(event);
    const stage = found?.ref === undefined ? null : this.model.stages.get(found.ref);
    const isHead = found !== null && found.node.isFold && stage === null;
    this.canvas.style.cursor = found === null ? "grab" : "pointer";
    this.tip.hidden = !isHead && (stage === null || (!found.node.isFold && !stage.told));
    if (this.tip.hidden) return;
    const box = this.canvas.getBoundingClientRect();
    fill(this.tip, isHead ? "Click to show these stages one by one" : `${stage.ref_id}: ${noteOf(stage)}`);
    if (stage?.told) this.tip.append(h("br"), stage.told);
    this.tip.style.left = `${Math.min(event.clientX - box.left + 14, this.width - 320)}px`;
    this.tip.style.top = `${event.clientY - box.top + 14}px`;
  }

  onKey(event) {
    const { key } = event;
    if (key === "+" || key === "=") this.zoom(1.3);
    else if (key === "-") this.zoom(1 / 1.3);
    else if (key === "0") this.fit();
    else if (key === "Enter" && this.chosen !== null) this.enter();
    else if (key.startsWith("Arrow")) this.go(key);
    else return;
    event.preventDefault();
  }

  enter() {
    const node = this.model.nodeOf.get(this.chosen);
    if (node.isFold) this.open(node);
    else this.onChoose(this.chosen);
  }

  /** Go to a neighbour: along the lines to left and right, within the column up and down. */
  go(key) {
    const from = this.chosen === null ? null : this.model.nodeOf.get(this.chosen);
    let to = this.model.nodes[0];
    if (from !== null) {
      const nodes = this.whole.columns.find((one) => one.nodes.includes(from)).nodes;
      const nearest = (found) => found.reduce((best, one) => (away(one) < away(best) ? one : best), found[0]);
      const away = (node) => Math.abs(node.y + node.height / 2 - from.y - from.height / 2);
      if (key === "ArrowRight") to = nearest(from.out);
      if (key === "ArrowLeft") to = nearest(from.into);
      if (key === "ArrowDown") to = nodes[nodes.indexOf(from) + 1];
      if (key === "ArrowUp") to = nodes[nodes.indexOf(from) - 1];
    }
    if (to === undefined) return;
    const ref = to.refs[0];
    this.isMoved = true;
    this.chosen = ref;
    const stage = this.model.stages.get(ref);
    this.told.textContent = to.isFold
      ? `${count(to.refs.length)} stages alike, from ${ref}; Enter shows them one by one`
      : `${ref}: ${noteOf(stage)}`;
    this.show(ref);
  }
}
