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
  const asked = { q, status, application, name, since_ms: time(wanted.since), until_ms: time(wanted.until) };
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
      page.items.forEach((line) => put(line));
      cursor = page.cursor;
      isWhole = cursor === null;
      lookedAt += page.looked_at;
    } finally {
      isLoading = false;
    }
    show();
  }

  function put(line, atTop = false) {
    const known = byId.get(line.id);
    if (known) return void Object.assign(known, line);
    byId.set(line.id, line);
    if (atTop) lines.unshift(line);
    else lines.push(line);
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
    for (const line of [...news.newest].reverse()) {
      if (byId.has(line.id) || isNewer(line)) put(line, true);
    }
    for (const line of news.shown) if (byId.has(line.id)) put(line);
    show();
  }

  const isNewer = (line) => lines.length === 0 || line.started_ms >= lines[0].started_ms;

  await load();
  let stop = () => {};
  let shown = null;
  const watch = () => {
    const ids = followed().join(",");
    if (ids === shown || life.isOver) return;
    shown = ids;
    stop();
    stop = follow(withQuery("/streams/workflows", { q, status, application, name, ids }), { lines: onLines }, setState);
  };
  life.onEnd(() => stop());
  life.listen(list.element, "scroll", settled(400, watch), { passive: true });
  if (!asked.until_ms) watch();
  life.every(1000, () => list.draw());
}

function makeRow() {
  const cells = ["status", "id", "application", "name", "started", "took"];
  return h("div", {}, cells.map((cell) => h("span", { class: `cell ${cell}`, role: "gridcell" })));
}

function showRow(row, line) {
  const [status, id, application, name, started, took] = row.children;
  const letters = line.dead_letters.length;
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
  took.textContent = elapsed(line);
}

function head() {
  const titles = ["status", "id", "application", "name", "started", "took"];
  return h("div", { class: "row heads", "aria-hidden": true }, titles.map((one) => h("span", { class: `cell ${one}` }, one)));
}

function filters(wanted) {
  const go = () => {
    const given = Object.fromEntries(new FormData(form));
    location.hash = withQuery("#/workflows", given);
  };
  const later = settled(350, go);
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
