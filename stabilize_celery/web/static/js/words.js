// Times, durations and statuses as people read them: the same words as on the command line.

let ahead = 0;

/** Learn the server's time: durations of what runs are told by it, whatever this machine's clock says. */
export function learnTime(nowMs) {
  ahead = nowMs - Date.now();
}

/** The server's time (epoch ms). */
export const now = () => Date.now() + ahead;

const two = (number) => String(number).padStart(2, "0");

/** A time span: `40 ms`, `1.2 s`, `0:50`, `1:02:03`, `3 d 4 h`. */
export function duration(ms) {
  const span = Math.max(0, ms);
  if (span < 1000) return `${Math.round(span)} ms`;
  const seconds = span / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const whole = Math.floor(seconds);
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600), Math.floor(whole / 60)];
  if (hours === 0) return `${minutes}:${two(whole % 60)} min`;
  if (days === 0) return `${hours}:${two(minutes % 60)}:${two(whole % 60)} h`;
  return `${days} d ${hours % 24} h`;
}

const UNITS = { w: 604_800_000, d: 86_400_000, h: 3_600_000, m: 60_000, s: 1000, ms: 1 };

/** What was given as an interval, as the command line writes it: `30s`, `1h30m`. */
export function interval(seconds) {
  let left = Math.round(seconds * 1000);
  let told = "";
  for (const [unit, ms] of Object.entries(UNITS)) {
    const amount = Math.floor(left / ms);
    left -= amount * ms;
    if (amount) told += `${amount}${unit}`;
  }
  return told;
}

/** A time of day, with the date unless it is today's. */
export function clock(ms) {
  if (!ms) return "";
  const at = new Date(ms);
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  if (at.toDateString() === new Date().toDateString()) return time;
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${time}`;
}

// Marks of writing direction: they show a name as another one, and turn round what stands behind it.
const MARKS = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** Text of others as it is shown. */
export const shown = (text) => text.replace(MARKS, "\ufffd");

/** JSON as it is shown: it holds the same. */
export const shownJson = (text) => text.replace(MARKS, (mark) => `\\u${mark.charCodeAt(0).toString(16).padStart(4, "0")}`);

export const count = (number) => number.toLocaleString("en");

export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

export const shortId = (id) => (id.length <= 8 ? id : `…${id.slice(-6)}`);

/** Every status with its glyph: colour is never the only sign. */
/** Of a workflow that says nothing. */
export const DEFAULT_PRIORITY = 4;

export const STATUSES = {
  NOT_STARTED: "·",
  RUNNING: "▶",
  SUSPENDED: "‖",
  BUFFERED: "◷",
  PAUSED: "‖",
  SUCCEEDED: "✔",
  FAILED_CONTINUE: "!",
  TERMINAL: "✘",
  STOPPED: "■",
  CANCELED: "⊘",
  SKIPPED: "↷",
};

export const glyph = (status) => STATUSES[status] ?? "?";

/** The name of a status as CSS has it. */
export const styleOf = (status) => `s-${status.toLowerCase().replaceAll("_", "-")}`;

const ENDED = new Set(["SUCCEEDED", "FAILED_CONTINUE", "TERMINAL", "STOPPED", "CANCELED", "SKIPPED"]);

export const isEnded = (status) => ENDED.has(status);

export const isFailure = (status) => status === "TERMINAL" || status === "STOPPED" || status === "FAILED_CONTINUE";

/** How long something took, or has taken until now; empty before it began. */
export function elapsed(line) {
  const begin = line.started_ms || line.waiting_since_ms;
  if (!begin) return "";
  return duration((line.ended_ms || now()) - begin);
}
