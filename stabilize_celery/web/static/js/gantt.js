// When each stage waited, ran and ended, as bars on a time line; as many rows as there are stages.

import { fill, h } from "./dom.js";
import { FONT, noteOf } from "./drawing.js";
import { cut, palette, sized } from "./palette.js";
import { clock, duration, glyph, now } from "./words.js";

const ROW = 24;
const NAMES = 220;
const HEAD = 30;
const STEPS_S = [0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400, 604800];

export class Gantt {
  constructor(model, life, onChoose) {
    this.model = model;
    this.onChoose = onChoose;
    this.chosen = null;
    this.canvas = h("canvas", { class: "stuck", "aria-hidden": true });
    this.space = h("div", { class: "space" });
    this.element = h(
      "div",
      { class: "gantt", tabindex: 0, role: "listbox", "aria-label": "Stages on a time line, by their start" },
      this.canvas,
      this.space,
    );
    this.told = h("p", { class: "unseen", role: "status" });
    this.element.append(this.told);
    this.element.addEventListener("scroll", () => this.draw(), { passive: true });
    this.element.addEventListener("click", (event) => this.click(event));
    this.element.addEventListener("keydown", (event) => this.onKey(event));
    const watcher = new ResizeObserver(() => this.draw());
    watcher.observe(this.element);
    life.onEnd(() => watcher.disconnect());
    life.listen(window, "colours", () => this.draw());
    life.every(1000, () => !this.model.isOver && this.draw());
    this.update();
  }

  /** Sort the stages again: after a change. */
  update() {
    const begin = (stage) => stage.started_ms || stage.waiting_since_ms;
    this.rows = this.model.refs
      .map((ref) => this.model.stages.get(ref))
      .filter(begin)
      .sort((one, other) => begin(one) - begin(other));
    this.space.style.height = `${this.rows.length * ROW + HEAD + 12}px`;
    this.draw();
  }

  choose(ref) {
    this.chosen = ref;
    this.draw();
  }

  draw() {
    if (this.isAsked) return;
    this.isAsked = true;
    requestAnimationFrame(() => {
      this.isAsked = false;
      if (this.element.isConnected) this.paint();
    });
  }

  paint() {
    const [width, height] = [this.element.clientWidth, this.element.clientHeight];
    if (!width) return;
    const colours = palette();
    const pen = sized(this.canvas, width, height);
    pen.clearRect(0, 0, width, height);
    const { started_ms: begin, ended_ms: ended } = this.model.state;
    const end = Math.max(ended ?? now(), begin + 1, ...this.rows.slice(-1).map((row) => row.ended_ms));
    const scale = (width - NAMES - 90) / (end - begin);
    const x = (ms) => NAMES + (ms - begin) * scale;
    drawAxis(pen, colours, begin, end, x, height);
    const first = Math.floor(this.element.scrollTop / ROW);
    const last = Math.min(this.rows.length, first + Math.ceil(height / ROW) + 1);
    for (let at = first; at < last; at += 1) {
      this.paintRow(pen, colours, this.rows[at], HEAD + at * ROW - this.element.scrollTop, x, width);
    }
    pen.clearRect(0, 0, width, HEAD - 8);
    drawTimes(pen, colours, begin, end, x);
    if (this.rows.length === 0) {
      pen.fillStyle = colours.dim;
      pen.fillText("Nothing has begun yet.", NAMES, HEAD + 20);
    }
  }

  paintRow(pen, colours, stage, y, x, width) {
    if (stage.ref_id === this.chosen) {
      pen.fillStyle = colours.bg;
      pen.fillRect(0, y, width, ROW);
      pen.fillStyle = colours.chosen;
      pen.fillRect(0, y, 4, ROW);
    }
    pen.font = `12.5px ${FONT}`;
    pen.fillStyle = colours.status[stage.status];
    pen.fillText(glyph(stage.status), 10, y + 16);
    pen.fillStyle = colours.fg;
    pen.fillText(cut(pen, stage.ref_id, NAMES - 44), 30, y + 16);
    const waited = stage.waiting_since_ms || 0;
    const began = stage.started_ms || now();
    pen.fillStyle = colours.status[stage.status];
    if (waited) {
      pen.globalAlpha = 0.35;
      pen.fillRect(x(waited), y + 8, Math.max(2, x(began) - x(waited)), ROW - 16);
      pen.globalAlpha = 1;
    }
    const end = stage.ended_ms || now();
    if (stage.started_ms) pen.fillRect(x(began), y + 5, Math.max(3, x(end) - x(began)), ROW - 10);
    pen.fillStyle = colours.dim;
    pen.font = `11px ${FONT}`;
    const told = duration(end - (stage.started_ms || waited)) + (stage.runs > 1 ? ` · run ${stage.runs}` : "");
    pen.fillText(told, Math.min(x(end) + 6, width - 84), y + 16);
  }

  click(event) {
    const top = event.clientY - this.element.getBoundingClientRect().top;
    if (top < HEAD - 8) return;
    const row = this.rows[Math.floor((top - HEAD + this.element.scrollTop) / ROW)];
    if (row !== undefined) this.onChoose(row.ref_id);
  }

  onKey(event) {
    const moves = { ArrowDown: 1, ArrowUp: -1 };
    if (event.key === "Enter" && this.chosen !== null) return this.onChoose(this.chosen);
    if (!(event.key in moves) || this.rows.length === 0) return undefined;
    event.preventDefault();
    const at = this.rows.findIndex((row) => row.ref_id === this.chosen);
    const next = Math.max(0, Math.min(this.rows.length - 1, at + moves[event.key]));
    this.chosen = this.rows[next].ref_id;
    fill(this.told, `${this.chosen}: ${noteOf(this.rows[next])}`);
    const top = next * ROW;
    const seen = this.element.clientHeight - HEAD - ROW;
    if (top < this.element.scrollTop) this.element.scrollTop = top;
    if (top > this.element.scrollTop + seen) this.element.scrollTop = top - seen;
    return this.draw();
  }
}

function stepOf(begin, end) {
  const wanted = (end - begin) / 8000;
  return (STEPS_S.find((step) => step >= wanted) ?? wanted) * 1000;
}

function drawAxis(pen, colours, begin, end, x, height) {
  pen.strokeStyle = colours.line;
  pen.lineWidth = 1;
  pen.beginPath();
  for (let ms = 0; ms <= end - begin; ms += stepOf(begin, end)) {
    pen.moveTo(x(begin + ms), HEAD - 8);
    pen.lineTo(x(begin + ms), height);
  }
  pen.stroke();
}

function drawTimes(pen, colours, begin, end, x) {
  pen.fillStyle = colours.dim;
  pen.font = `11px ${FONT}`;
  pen.fillText(clock(begin), 10, 16);
  for (let ms = 0; ms <= end - begin; ms += stepOf(begin, end)) pen.fillText(`+${duration(ms)}`, x(begin + ms) + 3, 16);
}
