// The colours of the style sheet, for what is drawn on a canvas.

import { shown, STATUSES, styleOf } from "./words.js";

let known = null;

/** The colours as they are now: light or dark. */
export function palette() {
  if (known !== null) return known;
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const names = ["fg", "dim", "bg", "surface", "line", "accent", "chosen"];
  known = Object.fromEntries(names.map((name) => [name, colour(name)]));
  known.status = Object.fromEntries(Object.keys(STATUSES).map((status) => [status, colour(styleOf(status))]));
  return known;
}

addEventListener("colours", () => (known = null));

/** Make a canvas as sharp as the screen; returns its context, scaled to CSS pixels. */
export function sized(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  const [w, t] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== t) {
    canvas.width = w;
    canvas.height = t;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  return pen;
}

const widths = new Map();

/** A text cut so that it fits; how wide it is is measured once. */
export function cut(pen, whole, width) {
  const key = `${pen.font} ${width | 0} ${whole}`;
  const found = widths.get(key);
  if (found !== undefined) return found;
  const text = shown(whole);
  let fitting = text;
  if (pen.measureText(text).width > width) {
    let [low, high] = [0, text.length];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (pen.measureText(`${text.slice(0, middle)}…`).width <= width) low = middle;
      else high = middle - 1;
    }
    fitting = `${text.slice(0, low)}…`;
  }
  if (widths.size > 50000) widths.clear();
  widths.set(key, fitting);
  return fitting;
}
