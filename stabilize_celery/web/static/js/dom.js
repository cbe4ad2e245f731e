// Elements from data. Text is always text: nothing is ever parsed as HTML.

import { shown } from "./words.js";

/** Make an element: `h("button", { class: "x", onclick: f, disabled: true }, "text", child)`. */
export function h(name, given = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(given)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "dataset") Object.assign(element.dataset, value);
    else if (key === "value") element.value = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  add(element, children);
  return element;
}

/** Append children: nodes, texts, lists of these; nothing for null and false. */
export function add(element, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : shown(String(child)));
  }
  return element;
}

/** Put children in place of what is there. */
export function fill(element, ...children) {
  element.replaceChildren();
  return add(element, ...children);
}

const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]";
const looksOf = (one) => [one.tagName, one.getAttribute("aria-label") ?? one.textContent, one.getAttribute("href")].join("\n");

/** Remember where the focus is inside of `element`; returns what puts it onto what looks the same there now. */
export function focusOf(element) {
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  const looks = focused && looksOf(focused);
  return () => {
    if (focused === null || focused.isConnected) return;
    const same = [...element.querySelectorAll(FOCUSABLE)].find((one) => looksOf(one) === looks);
    (same ?? element.closest("[tabindex]"))?.focus({ preventScroll: true });
  };
}

/** Tell something in passing: seen for a while, and read out by screen readers. */
export function say(text, isBad = false) {
  const place = document.getElementById("said");
  const note = h("p", { class: isBad ? "note bad" : "note" }, text);
  place.append(note);
  setTimeout(() => note.remove(), isBad ? 12000 : 5000);
}

/** Name what is seen, for the browser's tabs, its history and screen readers; nothing: only the program. */
export function setTitle(title) {
  document.title = shown([title, "stabilize-celery"].filter(Boolean).join(" · "));
}

/** Run at most once per `wait` ms, the last call wins. */
export function settled(wait, act) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...given), wait);
  };
}

/** What a view made that must end with it. */
export class Life {
  constructor() {
    this.ends = [];
    this.isOver = false;
  }

  /** Remember what to do at the end; done at once if that is past. */
  onEnd(act) {
    if (this.isOver) act();
    else this.ends.push(act);
  }

  listen(target, kind, act, options) {
    target.addEventListener(kind, act, options);
    this.onEnd(() => target.removeEventListener(kind, act, options));
  }

  every(ms, act) {
    const timer = setInterval(act, ms);
    this.onEnd(() => clearInterval(timer));
  }

  end() {
    this.isOver = true;
    for (const act of this.ends.splice(0)) act();
  }
}
