// One stage beside the graph: its runs with tasks, errors, context and outputs, and what can be done to it.

import { get, part, withQuery } from "./api.js";
import { stageActions } from "./actions.js";
import { fill, focusOf, h } from "./dom.js";
import { clock, count, duration, elapsed, glyph, isEnded, isFailure, now, plural, shownJson, styleOf } from "./words.js";

const LONGEST_JSON = 200000;

export class StagePanel {
  constructor(model, { onClose, onDone, isReadOnly }) {
    Object.assign(this, { model, onClose, onDone, isReadOnly });
    this.element = h("aside", { class: "panel", hidden: true, "aria-label": "Stage", tabindex: -1 });
    this.element.addEventListener("keydown", (event) => event.key === "Escape" && onClose());
    this.ref = null;
  }

  /** Show a stage; null: none. */
  async show(ref, { isFocused = false } = {}) {
    const isNew = ref !== this.ref;
    this.ref = ref;
    this.element.hidden = ref === null;
    if (ref === null) return;
    if (isNew) this.fill(this.model.stages.get(ref), null);
    if (isFocused) this.element.focus();
    try {
      const detail = await get(`/workflows/${part(this.model.state.id)}/stages/${part(ref)}`);
      if (this.ref === ref) this.fill(this.model.stages.get(ref), detail);
    } catch (error) {
      if (this.ref === ref) this.element.append(h("p", { class: "bad pad" }, error.message));
    }
  }

  fill(stage, detail) {
    if (stage === undefined) return void fill(this.element, h("p", { class: "pad" }, "There is no such stage."));
    // What was opened stays open, and where one has read.
    const opened = new Set([...this.element.querySelectorAll("details[open]")].map((one) => one.dataset.name));
    const top = this.element.scrollTop;
    const focusAgain = focusOf(this.element);
    const actions = this.isReadOnly ? [] : stageActions(this.model, stage, this.onDone);
    fill(
      this.element,
      h(
        "header",
        {},
        h("h2", {}, stage.ref_id),
        h("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: this.onClose }, "✕"),
      ),
      h("p", {}, h("span", { class: `chip ${styleOf(stage.status)}` }, `${glyph(stage.status)} ${stage.status}`), " ", elapsed(stage)),
      isNews(stage, detail) && h("p", { class: isFailure(stage.status) ? "bad" : "" }, stage.told),
      actions.length > 0 && h("div", { class: "buttons wrap" }, actions),
      facts(stage),
      detail === null && h("p", { class: "dim" }, "Loading …"),
      detail && detail.runs.map((run, at) => runOf(run, detail.runs_in_all - at, detail.runs_in_all)),
      detail && json("Context, as defined", detail.context),
      detail && this.history(stage.ref_id),
    );
    for (const one of this.element.querySelectorAll("details")) if (opened.has(one.dataset.name)) one.open = true;
    this.element.scrollTop = top;
    focusAgain();
  }

  /** Its workflow is no longer there: nothing can be done to it. */
  end() {
    this.isReadOnly = true;
    for (const one of this.element.querySelectorAll(".buttons")) one.remove();
  }

  /** What happened to the stage: read once it is opened. */
  history(ref) {
    const place = h("div", {}, h("p", { class: "dim" }, "Loading …"));
    const show = async () => {
      try {
        const { items, position } = await get(withQuery(`/workflows/${part(this.model.state.id)}/events`, { ref }));
        const rows = items.map((one) => h("tr", {}, h("td", { class: "dim at" }, clock(one.at_ms)), h("td", {}, one.told)));
        const more = position !== null && h("p", { class: "dim" }, `These are the first ${count(items.length)}; History has all.`);
        fill(place, h("table", {}, h("tbody", {}, rows)), more);
      } catch (error) {
        fill(place, h("p", { class: "bad" }, error.message));
      }
    };
    const onToggle = (event) => event.target.open && show();
    return h("details", { dataset: { name: "Events" }, ontoggle: onToggle }, h("summary", {}, "Events"), place);
  }
}

/** Whether what is told of a stage is more than what stands with its task anyway. */
function isNews(stage, detail) {
  if (!stage.told) return false;
  const plain = (text) => text.split(/\s+/).join(" ").slice(0, stage.told.length - 1);
  const tasks = detail?.runs.flatMap((run) => run.tasks) ?? [];
  return !tasks.some((task) => task.error.message && stage.told.startsWith(plain(task.error.message)));
}

function facts(stage) {
  const rows = [
    ["Name", stage.name],
    ["Type", stage.type],
    ["Tasks", stage.tasks.join(", ")],
    ["After", listed(stage.requisites)],
    ["Join", stage.join !== "AND" && stage.join],
    ["Split", stage.split !== "AND" && stage.split],
    ["Jumps to", listed(stage.jumps)],
    ["Mutex", stage.mutex_key && h("a", { href: "#/locks" }, stage.mutex_key)],
    ["Region", stage.region.join(", ")],
    ["Waits for signal", stage.waits],
    ["Calls", stage.child && workflowLink(stage.child)],
    ["Instances", stage.instances && instancesOf(stage.instances)],
  ];
  return pairs(rows);
}

const listed = (names) => (names.length > 8 ? `${names.slice(0, 8).join(", ")} and ${count(names.length - 8)} more` : names.join(", "));

const workflowLink = (id) => h("a", { href: `#/workflows/${part(id)}` }, id);

const instancesOf = ({ total, begun, done, failed }) =>
  `${count(done)} of ${count(total)} done, ${count(begun - done - failed)} open${failed ? `, ${count(failed)} failed` : ""}`;

const pairs = (rows) =>
  h("dl", {}, rows.filter(([, value]) => value).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));

function runOf(run, number, inAll) {
  const took = run.started_ms ? duration((run.ended_ms || now()) - run.started_ms) : "";
  const content = [
    pairs([
      ["Started", clock(run.started_ms)],
      ["Ended", clock(run.ended_ms)],
      ["Fencing token", run.token || ""],
      ["Waits until", clock(run.wait_deadline_ms)],
      ["Called", run.child && workflowLink(run.child)],
    ]),
    run.tasks.map(taskOf),
    run.instances.length > 0 && instanceTable(run.instances),
    json("Outputs", run.outputs, true),
    json("Context, as its tasks changed it", run.context),
  ];
  if (inAll === 1) return h("section", {}, content);
  const title = `Run ${number}: ${glyph(run.status)} ${run.status} ${took}`;
  return h("details", { dataset: { name: `run ${number}` }, open: number === inAll }, h("summary", {}, title), content);
}

function taskOf(task) {
  const took = task.started_ms ? duration((task.ended_ms || now()) - task.started_ms) : "";
  const tried = [
    task.attempts > 1 && `attempt ${task.attempts}`,
    task.retries > 0 && plural(task.retries, "retry").replace("retrys", "retries"),
    task.polls > 0 && plural(task.polls, "poll"),
  ];
  const { type, message, traceback, ...more } = task.error;
  return h(
    "div",
    { class: "task" },
    h(
      "p",
      {},
      h("span", { class: `chip ${styleOf(task.status)}` }, `${glyph(task.status)} ${task.status}`),
      ` ${task.name}`,
      task.name !== task.implementing_class && h("span", { class: "dim" }, ` (${task.implementing_class})`),
      h("span", { class: "dim" }, ` ${[took, ...tried].filter(Boolean).join(" · ")}`),
    ),
    message && h("p", { class: isEnded(task.status) ? "bad lines" : "lines" }, message.startsWith(`${type}: `) ? message : [type, message].filter(Boolean).join(": ")),
    traceback && h("details", { dataset: { name: `trace ${task.name}` }, open: true }, h("summary", {}, "Traceback"), h("pre", { tabindex: 0 }, traceback)),
    Object.keys(more).length > 0 && json("Full error", more),
  );
}

/** Its run is there, and no worker has begun its task. */
const isQueued = (one) => one.status === "RUNNING" && one.attempts === 0;

function instanceTable(instances) {
  const head = ["#", "Status", "Took", "Attempts", "Why"].map((one) => h("th", { scope: "col" }, one));
  const rows = instances.map((one) =>
    h(
      "tr",
      {},
      h("td", {}, one.index),
      h("td", {}, isQueued(one) ? h("span", { class: "dim" }, "queued") : h("span", { class: `chip ${styleOf(one.status)}` }, `${glyph(one.status)} ${one.status}`)),
      h("td", {}, isQueued(one) ? "" : elapsed(one)),
      h("td", {}, one.attempts),
      h("td", {}, one.reason),
    ),
  );
  return h("table", {}, h("caption", {}, "Instances"), h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows));
}

/** A value as JSON, folded up; nothing for an empty one. */
export function json(title, value, isOpen = false) {
  if (Object.keys(value).length === 0) return null;
  // Numbers stand beside each other.
  let text = shownJson(JSON.stringify(value, null, 2)).replace(/\[\s+([-\d.eE+,\s]+?)\s+\]/g, (_, inner) => `[${inner.replace(/\s+/g, " ")}]`);
  if (text.length > LONGEST_JSON) text = `${text.slice(0, LONGEST_JSON)}\n… ${count(text.length - LONGEST_JSON)} more characters`;
  return h("details", { open: isOpen, dataset: { name: title } }, h("summary", {}, title), h("pre", { tabindex: 0 }, text));
}
