// Schedules: what starts by itself, when it did and will; pause, resume, start now.

import { get, part, post } from "./api.js";
import { confirm } from "./dialog.js";
import { fill, h } from "./dom.js";
import { clock, count, DEFAULT_PRIORITY, interval, learnTime, shortId } from "./words.js";

const TITLES = ["Name", "Workflow", "When", "Next", "Last", "Started", ""];

export async function schedulesView({ main, life, service }) {
  const place = h("div", { class: "pad scroll" });
  fill(main, h("div", { class: "stack" }, place));
  const show = async () => {
    const { items, now_ms: nowMs } = await get("/schedules");
    if (life.isOver) return;
    learnTime(nowMs);
    const heads = h("tr", {}, TITLES.map((one) => h("th", { scope: "col" }, one)));
    const rows = items.map((one) => rowOf(one, service.read_only, show));
    fill(
      place,
      h("h1", {}, "Schedules"),
      items.length === 0 && h("p", { class: "dim" }, "There are no schedules. `stabilize-celery schedule add` adds one."),
      items.length > 0 && h("table", {}, h("thead", {}, heads), h("tbody", {}, rows)),
      h("div", { class: "buttons wrap" }, h("button", { type: "button", onclick: show }, "Refresh")),
    );
  };
  await show();
}

function rowOf(one, isReadOnly, onDone) {
  const priority = one.priority === DEFAULT_PRIORITY ? "" : ` priority ${one.priority}`;
  const last = one.last_id && [" ", h("a", { href: `#/workflows/${part(one.last_id)}` }, shortId(one.last_id))];
  return h(
    "tr",
    {},
    h("td", {}, one.name),
    h("td", {}, `${one.application} ${one.workflow_name}`, h("span", { class: "dim" }, priority)),
    h("td", {}, one.every_s === null ? `${one.cron} ${one.timezone}` : `every ${interval(one.every_s)}`),
    h("td", {}, one.is_paused ? "paused" : one.next_ms === null ? "-" : clock(one.next_ms)),
    h("td", {}, one.last_ms === null ? "-" : clock(one.last_ms), last),
    h("td", {}, count(one.started), one.skipped > 0 && `, ${count(one.skipped)} skipped`, one.error && h("p", { class: "bad brief" }, one.error)),
    h("td", {}, !isReadOnly && h("div", { class: "buttons" }, buttonsOf(one, onDone))),
  );
}

function buttonsOf(one, onDone) {
  const path = `/schedules/${part(one.name)}`;
  const ask = async (given) => (await confirm(given)) && onDone();
  const button = (title, given) => h("button", { type: "button", onclick: () => ask(given) }, title);
  const startNow = async () => {
    const { id } = await post(`${path}/start`);
    return { told: `Started ${id}` };
  };
  const text = "A workflow starts now; the schedule's times stay as they are.";
  const other = one.is_paused
    ? button("Resume", { title: `Resume ${one.name}?`, text: "It continues with its next time from now.", verb: "Resume", act: () => post(`${path}/resume`) })
    : button("Pause", { title: `Pause ${one.name}?`, text: "Nothing starts until it is resumed.", verb: "Pause", act: () => post(`${path}/pause`) });
  return [button("Start now", { title: `Start ${one.name} now?`, text, verb: "Start now", act: startNow }), other];
}
