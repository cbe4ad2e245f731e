// Workers, queues, partitions and the server.

import { follow } from "./api.js";
import { fill, h } from "./dom.js";
import { count, duration, learnTime, plural } from "./words.js";

export async function fleetView({ main, life, setState }) {
  const place = h("div", { class: "pad scroll" }, h("p", { class: "dim" }, "Loading …"));
  fill(main, h("div", { class: "stack" }, place));
  life.onEnd(follow("/streams/fleet", { fleet: (fleet) => show(place, fleet) }, setState));
}

function show(place, fleet) {
  learnTime(fleet.now_ms);
  const late = Math.max(0, ...fleet.partitions.map((one) => one.late_ms));
  const due = fleet.partitions.reduce((sum, one) => sum + one.due, 0);
  fill(
    place,
    h("h1", {}, "Fleet"),
    h(
      "div",
      { class: "tiles" },
      tile("Workers", count(fleet.workers.filter((one) => one.answers).length), fleet.workers.length === 0),
      tile("Messages in queues", fleet.broker_error ? "?" : count(fleet.queues.reduce((sum, one) => sum + Math.max(0, one.length), 0))),
      tile("Oldest message due", due ? `${duration(late)} ago` : "none", late > 5000),
      tile("Redis", `${fleet.server.version}, ${fleet.server.ping_ms} ms`, isRisky(fleet.server)),
    ),
    isRisky(fleet.server) && h("p", { class: "bad" }, risk(fleet.server)),
    fleet.broker_error && h("p", { class: "bad" }, fleet.broker_error),
    workers(fleet.workers),
    queues(fleet.queues),
    partitions(fleet.partitions),
  );
}

const isRisky = (server) => server.appendonly === "no" || !["noeviction", "unknown"].includes(server.maxmemory_policy);

function risk({ appendonly, maxmemory_policy: policy }) {
  const told = [appendonly === "no" && "appendonly is no: a crash of Redis loses workflows"];
  if (!["noeviction", "unknown"].includes(policy)) told.push(`maxmemory-policy is ${policy}: state can vanish`);
  return `⚠ ${told.filter(Boolean).join("; ")}.`;
}

const tile = (name, value, isBad = false) =>
  h("div", { class: isBad ? "card tile bad" : "card tile" }, h("span", { class: "dim" }, name), h("strong", {}, isBad ? `⚠ ${value}` : value));

function table(title, heads, rows, nothing) {
  return h(
    "section",
    {},
    h("h2", {}, title),
    rows.length === 0 && h("p", {}, nothing),
    rows.length > 0 &&
      h(
        "table",
        {},
        h("thead", {}, h("tr", {}, heads.map((one) => h("th", { scope: "col" }, one)))),
        h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell) => h("td", {}, cell))))),
      ),
  );
}

function workers(found) {
  const rows = found.map((one) => [
    one.answers ? "● answers" : "○ silent",
    one.node,
    `${duration(one.silent_ms)} ago`,
    one.queues.join(", "),
    h("details", { dataset: { name: one.id } }, h("summary", {}, plural(one.types.length, "task type")), one.types.join(", ")),
    one.version,
  ]);
  const nothing = "No worker is running: start one with `celery -A APP worker` or `stabilize-celery worker -A APP`.";
  return table("Workers", ["", "Node", "Last heard from", "Queues", "Knows", "Version"], rows, nothing);
}

function queues(found) {
  const rows = found.map((one) => [
    one.name,
    one.length < 0 ? "?" : count(one.length),
    one.workers === 0 ? h("span", { class: "bad" }, "⚠ nobody listens") : plural(one.workers, "worker"),
  ]);
  return table("Queues", ["Queue", "Waiting messages", "Served by"], rows, "There are none.");
}

function partitions(found) {
  const rows = found
    .filter((one) => one.due > 0)
    .map((one) => [String(one.number), count(one.due), duration(one.late_ms)]);
  const nothing = `${plural(found.length, "partition")}; nothing is due in any of them.`;
  return table("Partitions with messages due", ["Partition", "Messages due", "Oldest due since"], rows, nothing);
}
