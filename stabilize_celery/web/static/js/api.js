// Asking the API: errors are those of the server, in its words.

const BASE = "api/v1";

/** An answer that is a problem; `status` is HTTP's, 0: no answer at all. */
export class Refused extends Error {
  constructor(status, told, problems = []) {
    super(told);
    this.status = status;
    this.problems = problems;
  }
}

/** JSON that somebody wrote: it is sent as it was written, with numbers that JavaScript can't hold. */
export class JsonText {
  /** Throws a SyntaxError: it is not JSON. */
  constructor(text) {
    JSON.parse(text);
    this.text = text;
  }
}

function encoded(body) {
  const written = [];
  const text = JSON.stringify(body, (_, value) => (value instanceof JsonText ? `\u0000${written.push(value.text) - 1}` : value));
  return text.replace(/"\\u0000(\d+)"/g, (_, at) => written[at]);
}

const LONG_NUMBER = /[[:,]\s*-?\d{16}/;
const asWritten = (_, value, { source }) => (Number.isInteger(value) && !Number.isSafeInteger(value) ? JSON.rawJSON(source) : value);

/** What an answer says. Numbers that JavaScript can't hold stay as they are written, where the browser can do that. */
function decoded(text) {
  return JSON.parse(text, JSON.rawJSON && LONG_NUMBER.test(text) ? asWritten : undefined);
}

async function ask(method, path, body, signal) {
  const options = { method, headers: { accept: "application/json" }, credentials: "same-origin", signal };
  if (method !== "GET") {
    options.headers["content-type"] = "application/json";
    options.body = encoded(body ?? {});
  }
  let answer;
  try {
    answer = await fetch(`${BASE}${path}`, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The page's server does not answer.");
  }
  const told = await answer.text().then(decoded).catch(() => ({}));
  if (answer.ok) return told;
  if (answer.status === 401) dispatchEvent(new CustomEvent("signed-out"));
  throw new Refused(answer.status, told.detail || told.title || answer.statusText, told.problems ?? []);
}

export const get = (path, signal) => ask("GET", path, undefined, signal);
export const post = (path, body) => ask("POST", path, body);
export const remove = (path) => ask("DELETE", path);

/** Put names and values behind a path; empty ones are left out. */
export function withQuery(path, values) {
  const given = Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const query = new URLSearchParams(given).toString();
  return query ? `${path}?${query}` : path;
}

export const part = (text) => encodeURIComponent(text);

/**
 * Follow a stream of server-sent events while the page is seen; `on` has a function per kind of event.
 * `path` may be a function: it is asked each time that the stream is opened. Returns a function that ends it.
 */
export function follow(path, on, onState = () => {}) {
  let source = null;
  let retry = 0;
  const close = () => {
    clearTimeout(retry);
    source?.close();
    source = null;
  };
  const open = () => {
    close();
    source = new EventSource(`${BASE}${typeof path === "function" ? path() : path}`);
    source.onopen = () => onState("live");
    source.onerror = () => {
      onState("away");
      if (source?.readyState !== EventSource.CLOSED) return;
      // A stream that was refused is not tried again by the browser itself, and says not why: the session may be over.
      get("/service").catch(() => {});
      retry = setTimeout(open, 3000);
    };
    for (const [kind, act] of Object.entries(on)) {
      source.addEventListener(kind, (event) => {
        onState("live");
        act(JSON.parse(event.data), event.lastEventId);
      });
    }
    // The page's server is there, and can't reach Redis; it says when it can again.
    source.addEventListener("away", (event) => onState("silent", JSON.parse(event.data).detail));
    source.addEventListener("back", () => onState("live"));
  };
  const onSight = () => {
    if (document.hidden) close();
    else if (source === null) open();
  };
  document.addEventListener("visibilitychange", onSight);
  open();
  return () => {
    document.removeEventListener("visibilitychange", onSight);
    close();
    onState("");
  };
}
