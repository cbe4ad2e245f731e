// The list of workflows: search and filters in the address, pages as they come into sight, statuses that live.

import { follow, get, withQuery } from "./api.js";
import { fill, h, settled } from "./dom.js";
import { clock, DEFAULT_PRIORITY, elapsed, glyph, isEnded, learnTime, plural, STATUSES, styleOf } from "./words.js";
import { VirtualList } from "./virtual.js";

const FILTERS = ["q", "status", "application", "name", "since", "until"];
const LISTED = ["RUNNING", "PAUSED", "BUFFERED", "SUCCEEDED", "TERMINAL", "CANCELED", "STOPPED", "NOT_STARTED"];
const PAGE = 200;

const time = (text) => (text ? new Date(text).getTime() : "");

export async function listView({ main, life, query, setState }) {
  const wanted = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]));
  const { q, status, application, name } = wanted;
  const until = time(wanted.until);
  const asked = { q, status, application, name, since_ms: time(wanted.since), until_ms: until };
  const lines = [];
  const byId = new Map();
  let cursor = null;
  let isWhole = false;
  let isLoading = false;
  let lookedAt = 0;

  const told = h("p", { class: "dim", role: "status" });
  const more = h("button", { type: "button", hidden: true, onclick: () => load() }, "Keep searching");
  const list = new VirtualList({
    label: "Workflows",
    height: 38,
    make: makeRow,
    show: (row, index) => showRow(row, lines[index]),
    onChoose: (index) => (location.hash = `#/workflows/${encodeURIComponent(lines[index].id)}`),
    onEnd: () => !q && load(),
  });
  life.onEnd(() => list.end());
  fill(
    main,
    h("div", { class: "stack" }, h("h1", { class: "unseen" }, "Workflows"), filters(wanted), head(), list.element, h("div", { class: "under" }, told, more)),
  );

  async function load() {
    if (isLoading || isWhole) return;
    isLoading = true;
    try {
      const page = await get(withQuery("/workflows", { ...asked, limit: PAGE, cursor }));
      if (life.isOver) return;
      learnTime(page.now_ms);
      page.items.forEach(put);
      cursor = page.cursor;
      isWhole = cursor === null;
      lookedAt += page.looked_at;
    } finally {
      isLoading = false;
    }
    show();
  }

  /** Take a line to where it belongs: newest first. */
  function put(line) {
    const known = byId.get(line.id);
    if (known) return void Object.assign(known, line);
    byId.set(line.id, line);
    let [low, high] = [0, lines.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (isNewer(lines[middle], line)) low = middle + 1;
      else high = middle;
    }
    lines.splice(low, 0, line);
  }

  function drop(id) {
    if (byId.delete(id)) lines.splice(lines.findIndex((one) => one.id === id), 1);
  }

  function show() {
    list.update(lines.length);
    more.hidden = isWhole || !q;
    const rest = isWhole ? "" : " so far";
    const search = q ? `, ${plural(lookedAt, "workflow")} looked through` : "";
    told.textContent = lines.length || !isWhole ? `${plural(lines.length, "workflow")}${rest}${search}` : "There are none.";
  }

  /** Those in sight that go on: their statuses are followed. */
  function followed() {
    const [first, last] = list.range;
    return lines.slice(first, last).filter((line) => !isEnded(line.status)).map((line) => line.id);
  }

  function onLines(news) {
    learnTime(news.now_ms);
    // More came than is told of: those between are not known.
    if (lines.length > 0 && !news.is_all && !news.newest.some((line) => byId.has(line.id))) return void startOver();
    // What is older than the last one comes with the next page.
    for (const line of news.newest) if (isWhole || lines.length === 0 || isNewer(line, lines.at(-1))) put(line);
    for (const line of news.shown) {
      if (status && line.status !== status) drop(line.id);
      else if (byId.has(line.id)) put(line);
    }
    show();
    return undefined;
  }

  function startOver() {
    lines.length = 0;
    byId.clear();
    [cursor, isWhole, lookedAt] = [null, false, 0];
    return load();
  }

  await load();
  let stop = () => {};
  let shown = null;
  const watch = () => {
    const ids = followed().join(",");
    if (ids === shown || life.isOver) return;
    shown = ids;
    stop();
    stop = follow(withQuery("/streams/workflows", { q, status, application, name, since_ms: asked.since_ms, ids }), { lines: onLines }, setState);
  };
  life.onEnd(() => stop());
  life.listen(list.element, "scroll", settled(400, watch), { passive: true });
  if (!until) watch();
  life.every(1000, () => list.draw());
}

const isNewer = (one, other) => one.started_ms > other.started_ms || (one.started_ms === other.started_ms && one.id > other.id);

function makeRow() {
  const cells = ["status", "id", "application", "name", "started", "took"];
  return h("div", {}, cells.map((cell) => h("span", { class: `cell ${cell}`, role: "gridcell" })));
}

function showRow(row, line) {
  const [status, id, application, name, started, took] = row.children;
  const letters = line.dead_letters.length;
  const lasts = elapsed(line);
  if (took.textContent !== lasts) took.textContent = lasts;
  // What is there already stays: somebody may have selected it.
  const told = JSON.stringify([line.id, line.status, line.application, line.name, line.priority, line.dead_letters, clock(line.started_ms)]);
  if (row.dataset.told === told) return;
  row.dataset.told = told;
  fill(status, h("span", { class: `chip ${styleOf(line.status)}` }, `${glyph(line.status)} ${line.status}`));
  fill(id, h("a", { href: `#/workflows/${encodeURIComponent(line.id)}`, tabindex: -1 }, line.id));
  fill(application, line.application);
  fill(
    name,
    line.name,
    line.priority !== DEFAULT_PRIORITY && h("span", { class: "dim" }, ` priority ${line.priority}`),
    letters > 0 && [" ", h("a", { class: "chip dead", href: "#/dead", tabindex: -1, title: line.dead_letters.join(", ") }, plural(letters, "dead letter"))],
  );
  started.textContent = clock(line.started_ms);
}

function head() {
  const titles = ["status", "id", "application", "name", "started", "took"];
  return h("div", { class: "row heads", "aria-hidden": true }, titles.map((one) => h("span", { class: `cell ${one}` }, one)));
}

function filters(wanted) {
  const address = () => withQuery("#/workflows", Object.fromEntries(new FormData(form)));
  const go = () => (location.hash = address());
  // Each pause in typing would be one step on the way back.
  const later = settled(350, () => (wanted[document.activeElement?.name] ? location.replace(address()) : go()));
  const field = (name, label, type = "search") =>
    h(
      "label",
      {},
      h("span", {}, label),
      h("input", { name, type, value: wanted[name], oninput: type === "search" ? later : undefined, onchange: go }),
    );
  const choice = h("select", { name: "status", onchange: go }, h("option", { value: "" }, "any"));
  for (const one of LISTED) {
    choice.append(h("option", { value: one, selected: one === wanted.status }, `${STATUSES[one]} ${one}`));
  }
  const form = h(
    "form",
    { class: "filters", role: "search", onsubmit: (event) => void (event.preventDefault(), go()) },
    field("q", "Search id, name, application"),
    h("label", {}, h("span", {}, "Status"), choice),
    field("application", "Application"),
    field("name", "Name"),
    field("since", "Started after", "datetime-local"),
    field("until", "Started before", "datetime-local"),
    h("a", { class: "button", href: "#/workflows" }, "Clear"),
  );
  // The field that was typed in goes on being typed in.
  const last = sessionStorage.getItem("filter");
  form.addEventListener("focusin", (event) => sessionStorage.setItem("filter", event.target.name ?? ""));
  queueMicrotask(() => {
    const input = last && wanted[last] && form.elements[last];
    if (input && input.type === "search" && document.activeElement === document.body) {
      input.focus();
      input.setSelectionRange(input.value.length, input.value.length);
    }
  });
  return form;
}
