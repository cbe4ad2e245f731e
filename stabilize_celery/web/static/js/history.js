// What happened, oldest first: read in pages, then as it happens.

import { get, withQuery } from "./api.js";
import { fill, h } from "./dom.js";
import { VirtualList } from "./virtual.js";
import { clock, plural } from "./words.js";

export class History {
  constructor(path, life, onChoose) {
    this.path = path;
    this.life = life;
    this.lines = [];
    this.position = "0";
    this.list = new VirtualList({
      label: "History",
      height: 28,
      make: () => h("div", {}, ["at", "ref", "told"].map((cell) => h("span", { class: `cell ${cell}`, role: "gridcell" }))),
      show: (row, index) => showRow(row, this.lines[index]),
      onChoose: (index) => this.lines[index].ref_id && onChoose(this.lines[index].ref_id),
    });
    life.onEnd(() => this.list.end());
    this.told = h("p", { class: "dim under", role: "status" }, "Loading …");
    this.element = h("div", { class: "stack inner" }, this.list.element, this.told);
    this.reload();
  }

  /** Read what is not known yet. */
  async reload() {
    if (this.isReading) return void (this.isAsked = true);
    this.isReading = true;
    try {
      for (let isMore = true; isMore && !this.life.isOver; ) {
        const page = await get(withQuery(`${this.path}/events`, { from: this.position }));
        this.put(page.items);
        isMore = page.position !== null;
      }
    } finally {
      this.isReading = false;
    }
    if (this.isAsked) {
      this.isAsked = false;
      await this.reload();
    }
  }

  /** Take events of the stream; where it left some out they are read. */
  add({ told, left_out: leftOut }) {
    if (leftOut > 0 || this.isReading) return void this.reload();
    this.put(told);
    return undefined;
  }

  put(lines) {
    const box = this.list.element;
    const isAtEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 40;
    for (const line of lines) {
      if (!isAfter(line.id, this.position)) continue;
      this.lines.push(line);
      this.position = line.id;
    }
    this.list.update(this.lines.length);
    this.told.textContent = plural(this.lines.length, "event");
    if (isAtEnd) box.scrollTop = box.scrollHeight;
  }

  draw() {
    this.list.draw();
  }
}

function isAfter(id, other) {
  const [ms, number = 0] = id.split("-").map(Number);
  const [otherMs, otherNumber = 0] = other.split("-").map(Number);
  return ms > otherMs || (ms === otherMs && number > otherNumber);
}

function showRow(row, line) {
  const [at, ref, told] = row.children;
  at.textContent = `${clock(line.at_ms)}.${String(line.at_ms % 1000).padStart(3, "0")}`;
  fill(ref, line.ref_id);
  fill(told, line.told);
}
