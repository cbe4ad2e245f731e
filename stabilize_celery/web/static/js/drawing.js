// How nodes and lines of the graph look on a canvas.

import { cellsOf } from "./layout.js";
import { cut, palette } from "./palette.js";
import { count, duration, elapsed, glyph, isEnded, now } from "./words.js";

export const FONT = "system-ui, sans-serif";
const HEAD = 44;
const MANY_LINES = 1500;

/** Lines between nodes: curves, or straight where there are very many; only those that cross the window. */
export function drawLinks(pen, links, window, scale, chosen) {
  const colours = palette();
  const seen = links.filter(({ from, to }) => crosses(from, to, window));
  const isPlain = seen.length > MANY_LINES;
  pen.lineWidth = Math.max(1, 0.7 / scale);
  for (const isChosen of [false, true]) {
    pen.strokeStyle = isChosen ? colours.accent : colours.line;
    pen.beginPath();
    for (const { from, to } of seen) {
      if ((from === chosen || to === chosen) !== isChosen) continue;
      const [x1, y1] = [from.x + from.width, from.y + from.height / 2];
      const [x2, y2] = [to.x, to.y + to.height / 2];
      pen.moveTo(x1, y1);
      const bend = Math.min(80, Math.max(24, (x2 - x1) / 2));
      if (isPlain) pen.lineTo(x2, y2);
      else pen.bezierCurveTo(x1 + bend, y1, x2 - bend, y2, x2, y2);
      if (scale > 0.4 && !isPlain) {
        pen.moveTo(x2 - 7, y2 - 4);
        pen.lineTo(x2, y2);
        pen.lineTo(x2 - 7, y2 + 4);
      }
    }
    pen.stroke();
  }
}

function crosses(from, to, { left, right, top, bottom }) {
  const [low, high] = from.y < to.y ? [from.y, to.y + to.height] : [to.y, from.y + from.height];
  return from.x < right && to.x + to.width > left && low < bottom && high > top;
}

/** Jumps back: dashed, above the nodes. */
export function drawJumps(pen, jumps, scale) {
  if (jumps.length === 0 || scale < 0.15) return;
  pen.save();
  pen.setLineDash([5, 4]);
  pen.strokeStyle = palette().dim;
  pen.lineWidth = 1.2;
  pen.beginPath();
  for (const { from, to } of jumps) {
    const [x1, y1] = [from.x + from.width * 0.75, from.y];
    const [x2, y2] = [to.x + to.width * 0.25, to.y];
    const rise = 26 + Math.min(60, Math.abs(x1 - x2) / 12);
    pen.moveTo(x1, y1);
    pen.bezierCurveTo(x1, y1 - rise, x2, y2 - rise, x2, y2 - 1);
    pen.moveTo(x2 - 4, y2 - 8);
    pen.lineTo(x2, y2 - 1);
    pen.lineTo(x2 + 5, y2 - 7);
  }
  pen.stroke();
  pen.restore();
}

/** One stage: a band and a glyph in the colour of its status, its name, how long, how often. */
export function drawStage(pen, node, stage, scale, isChosen) {
  const colours = palette();
  const { x, y, width, height } = node;
  const colour = colours.status[stage.status];
  if (scale < 0.35) {
    // Ten thousand of them may be in sight: a plain field of colour each.
    pen.fillStyle = colour;
    pen.fillRect(x, y, width, height);
    if (!isChosen) return;
    pen.strokeStyle = colours.chosen;
    pen.lineWidth = 3 / scale;
    pen.strokeRect(x, y, width, height);
    return;
  }
  pen.fillStyle = colours.surface;
  pen.strokeStyle = isChosen ? colours.chosen : colours.line;
  pen.lineWidth = isChosen ? 3 : 1;
  if (stage.status === "NOT_STARTED" || stage.status === "SKIPPED") pen.setLineDash([4, 3]);
  pen.beginPath();
  pen.roundRect(x, y, width, height, 6);
  pen.fill();
  pen.stroke();
  pen.setLineDash([]);
  pen.fillStyle = colour;
  pen.fillRect(x + 1, y + 5, 5, height - 10);
  pen.font = `600 16px ${FONT}`;
  pen.fillText(glyph(stage.status), x + 14, y + 22);
  pen.fillStyle = colours.fg;
  pen.font = `600 13px ${FONT}`;
  pen.fillText(cut(pen, stage.ref_id, width - 48), x + 36, y + 20);
  pen.font = `11.5px ${FONT}`;
  pen.fillStyle = colours.dim;
  pen.fillText(fitting(pen, stage, width - 44), x + 36, y + 38);
  if (stage.can_multiply) drawStack(pen, node);
  if (stage.instances) drawBar(pen, node, stage.instances);
}

/** What stands below the name of a stage, as far as there is room; its glyph says the status, too, so that goes first. */
function fitting(pen, stage, room) {
  const whole = noteOf(stage);
  if (pen.measureText(whole).width <= room) return cut(pen, whole, room);
  return cut(pen, moreOf(stage).join(" · ") || whole, room);
}

/** What is told of a stage in a line. */
export function noteOf(stage) {
  const status = stage.status === "NOT_STARTED" ? "not started" : stage.status.toLowerCase().replaceAll("_", " ");
  return [status, ...moreOf(stage)].join(" · ");
}

function moreOf(stage) {
  const told = [];
  const took = elapsed(stage);
  if (took) told.push(took);
  if (stage.instances) told.push(`${count(stage.instances.done)} of ${count(stage.instances.total)}`);
  if (stage.runs > 1) told.push(`run ${stage.runs}`);
  if (stage.attempts > 1) told.push(isEnded(stage.status) ? `${stage.attempts} attempts` : `attempt ${stage.attempts}`);
  if (stage.is_idle) told.push("no worker runs it");
  if (stage.status === "BUFFERED" && stage.mutex_key) told.push(`mutex ${stage.mutex_key}`);
  if (stage.status === "SUSPENDED" && stage.waits) told.push(`signal ${stage.waits}`);
  return told;
}

function drawStack(pen, { x, y, width, height }) {
  pen.strokeStyle = palette().line;
  pen.lineWidth = 1;
  pen.beginPath();
  for (const off of [3, 6]) {
    pen.moveTo(x + 8 + off, y + height + off - 1);
    pen.lineTo(x + width + off - 4, y + height + off - 1);
    pen.lineTo(x + width + off - 1, y + 8 + off);
  }
  pen.stroke();
}

function drawBar(pen, { x, y, width, height }, { total, done, failed }) {
  const colours = palette();
  const [left, long] = [x + 10, width - 18];
  pen.fillStyle = colours.line;
  pen.fillRect(left, y + height - 6, long, 3);
  pen.fillStyle = colours.status.SUCCEEDED;
  pen.fillRect(left, y + height - 6, (long * done) / total, 3);
  pen.fillStyle = colours.status.TERMINAL;
  pen.fillRect(left + (long * done) / total, y + height - 6, (long * failed) / total, 3);
}

/** Many stages alike as a field of cells, each in the colour of its status; their numbers are told in words. */
export function drawFold(pen, node, model, scale, isChosen) {
  const colours = palette();
  const { x, y, width, height } = node;
  pen.fillStyle = colours.surface;
  pen.strokeStyle = isChosen ? colours.chosen : colours.line;
  pen.lineWidth = isChosen ? 3 : 1;
  pen.beginPath();
  pen.roundRect(x, y, width, height, 6);
  pen.fill();
  pen.stroke();
  const { cell, columns } = cellsOf(node.refs.length);
  pen.imageSmoothingEnabled = false;
  const field = fieldOf(node, model, columns);
  pen.drawImage(field, x + 10, y + HEAD, field.width * cell, field.height * cell);
  if (cell * scale > 5) drawGrid(pen, x + 10, y + HEAD, field, cell);
  if (scale < 0.2) return;
  const first = model.stages.get(node.refs[0]);
  const counts = model.counts(node.refs);
  const told = Object.entries(counts).map(([status, number]) => `${glyph(status)} ${count(number)}`);
  pen.fillStyle = colours.fg;
  pen.font = `600 13px ${FONT}`;
  pen.fillText(cut(pen, `${count(node.refs.length)} × ${first.tasks[0] ?? first.type}`, width - 24), x + 12, y + 19);
  pen.font = `12px ${FONT}`;
  pen.fillStyle = colours.dim;
  pen.fillText(cut(pen, `${told.join("  ")}  ${spanOf(node, model)}`, width - 24), x + 12, y + 36);
}

/** Lines between the cells, where they are large enough to be told apart. */
function drawGrid(pen, left, top, { width, height }, cell) {
  pen.strokeStyle = palette().surface;
  pen.lineWidth = 1;
  pen.beginPath();
  for (let column = 1; column < width; column += 1) {
    pen.moveTo(left + column * cell, top);
    pen.lineTo(left + column * cell, top + height * cell);
  }
  for (let line = 1; line < height; line += 1) {
    pen.moveTo(left, top + line * cell);
    pen.lineTo(left + width * cell, top + line * cell);
  }
  pen.stroke();
}

function spanOf(node, model) {
  let [begin, end, isOpen] = [Infinity, 0, false];
  for (const ref of node.refs) {
    const stage = model.stages.get(ref);
    if (stage.started_ms) begin = Math.min(begin, stage.started_ms);
    if (stage.started_ms && !stage.ended_ms) isOpen = true;
    end = Math.max(end, stage.ended_ms);
  }
  return begin === Infinity ? "" : duration((isOpen ? now() : end) - begin);
}

/** The field as an image, a pixel a stage: only what changed is painted again. */
function fieldOf(node, model, columns) {
  const colours = palette();
  if (node.field === undefined || node.fieldColours !== colours) {
    node.field = document.createElement("canvas");
    node.field.width = columns;
    node.field.height = Math.ceil(node.refs.length / columns);
    node.fieldColours = colours;
    node.painted = [];
  }
  const pen = node.field.getContext("2d");
  node.refs.forEach((ref, at) => {
    const status = model.stages.get(ref).status;
    if (node.painted[at] === status) return;
    node.painted[at] = status;
    pen.fillStyle = colours.status[status];
    pen.fillRect(at % columns, Math.floor(at / columns), 1, 1);
  });
  return node.field;
}

/** The stage of a fold under a point of the graph, or undefined. */
export function cellAt(node, x, y) {
  const { cell, columns } = cellsOf(node.refs.length);
  const [column, line] = [Math.floor((x - node.x - 10) / cell), Math.floor((y - node.y - HEAD) / cell)];
  if (column < 0 || column >= columns || line < 0) return undefined;
  return node.refs[line * columns + column];
}
