// A list of any length of which only what is seen exists: rows of one height, moved by keys or pointer.

import { h } from "./dom.js";

/**
 * Rows of `height` px. `make()` returns an empty row, `show(row, index)` fills it again for another index.
 * `onChoose(index)`: Enter or a click. `onEnd()`: the last rows come into sight.
 */
export class VirtualList {
  constructor({ label, height, make, show, onChoose = () => {}, onEnd = () => {} }) {
    Object.assign(this, { height, make, show, onChoose, onEnd });
    this.count = 0;
    this.chosen = -1;
    this.rows = [];
    this.space = h("div", { class: "space" });
    this.element = h("div", { class: "virtual", tabindex: 0, role: "grid", "aria-label": label }, this.space);
    this.element.addEventListener("scroll", () => this.draw(), { passive: true });
    this.element.addEventListener("keydown", (event) => this.onKey(event));
    this.space.addEventListener("click", (event) => this.onClick(event));
    this.watcher = new ResizeObserver(() => this.draw());
    this.watcher.observe(this.element);
  }

  /** Say how many there are; rows in sight are filled again. */
  update(count) {
    this.count = count;
    this.element.setAttribute("aria-rowcount", count);
    this.space.style.height = `${count * this.height}px`;
    this.draw();
  }

  draw() {
    const first = Math.max(0, Math.floor(this.element.scrollTop / this.height) - 3);
    const seen = Math.ceil(this.element.clientHeight / this.height) + 6;
    const last = Math.min(this.count, first + seen);
    while (this.rows.length < last - first) {
      const row = this.make();
      row.setAttribute("role", "row");
      row.classList.add("row");
      this.rows.push(row);
      this.space.append(row);
    }
    this.rows.forEach((row, at) => {
      const index = first + at;
      row.hidden = index >= last;
      if (row.hidden) return;
      row.dataset.index = index;
      row.id = `${this.name ??= `v${Math.random().toString(36).slice(2)}`}-${index}`;
      row.setAttribute("aria-rowindex", index + 1);
      row.setAttribute("aria-selected", index === this.chosen);
      row.style.transform = `translateY(${index * this.height}px)`;
      this.show(row, index);
    });
    if (last === this.count) this.onEnd();
  }

  /** The first and the last index in sight. */
  get range() {
    const first = Math.floor(this.element.scrollTop / this.height);
    return [first, Math.min(this.count, first + Math.ceil(this.element.clientHeight / this.height))];
  }

  /** Mark a row, and bring it into sight. */
  choose(index) {
    this.chosen = Math.max(-1, Math.min(this.count - 1, index));
    const top = this.chosen * this.height;
    const box = this.element;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + this.height > box.scrollTop + box.clientHeight) box.scrollTop = top + this.height - box.clientHeight;
    this.draw();
    if (this.chosen >= 0) box.setAttribute("aria-activedescendant", `${this.name}-${this.chosen}`);
  }

  onKey(event) {
    const page = Math.max(1, Math.floor(this.element.clientHeight / this.height) - 1);
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in moves) {
      event.preventDefault();
      this.choose(Math.max(0, Math.min(this.count - 1, Math.max(0, this.chosen) + moves[event.key] - (this.chosen < 0))));
    } else if (event.key === "Enter" && this.chosen >= 0) {
      this.onChoose(this.chosen);
    }
  }

  onClick(event) {
    if (event.target.closest("a, button")) return;
    const row = event.target.closest(".row");
    if (row === null) return;
    this.choose(Number(row.dataset.index));
    this.onChoose(this.chosen);
  }

  end() {
    this.watcher.disconnect();
  }
}
