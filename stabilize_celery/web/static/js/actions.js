// What can be done to a workflow and to a stage, by how it is now.

import { part, post } from "./api.js";
import { confirm } from "./dialog.js";
import { h } from "./dom.js";
import { isEnded, shortId } from "./words.js";

const button = (text, act, kind = "") => h("button", { type: "button", class: kind, onclick: act }, text);

/** The buttons of a workflow. `onDone` is called once something was done. */
export function workflowActions(model, onDone) {
  const { id, status, regions } = model.state;
  const path = `/workflows/${part(id)}`;
  const name = `${model.state.name} ${shortId(id)}`;
  const ask = async (given) => (await confirm(given)) && onDone();
  const found = [];
  if (status === "RUNNING") {
    const text = "Running tasks finish; nothing new starts.";
    found.push(button("Pause", () => ask({ title: `Pause ${name}?`, text, verb: "Pause", act: () => post(`${path}/pause`) })));
  }
  if (status === "PAUSED") {
    const given = { title: `Resume ${name}?`, text: "What was held back starts now.", verb: "Resume" };
    found.push(button("Resume", () => ask({ ...given, act: () => post(`${path}/resume`) }), "first"));
  }
  if (!isEnded(status)) {
    for (const region of regions) {
      const given = { title: `Cancel region ${region}?`, text: "Work that is in its stages now is withdrawn.", verb: "Cancel the region" };
      const act = () => post(`${path}/cancel-region`, { region });
      found.push(button(`Cancel region ${region}`, () => ask({ ...given, isGrave: true, act })));
    }
    const given = { title: `Cancel ${name}?`, text: "Nothing new starts, and running tasks are asked to stop.", verb: "Cancel the workflow" };
    const fields = [{ name: "reason", label: "Reason (shown with the workflow)" }];
    found.push(button("Cancel", () => ask({ ...given, isGrave: true, fields, act: (values) => post(`${path}/cancel`, values) }), "grave"));
  }
  return found;
}

/** The buttons of a stage. */
export function stageActions(model, stage, onDone) {
  const { id, status } = model.state;
  const path = `/workflows/${part(id)}/stages/${part(stage.ref_id)}`;
  const ref = stage.ref_id;
  const found = [];
  const add = (text, given, kind) => {
    const ask = async () => (await confirm({ verb: text, ...given })) && onDone();
    found.push(button(text, ask, kind));
  };
  const plain = (verb) => () => post(`${path}/${verb}`);
  if (isEnded(status)) {
    const text = "This stage and those that follow it run again; the rest keeps its results.";
    add("Restart from here", { title: `Restart from ${ref}?`, text, act: plain("restart") }, "first");
    return found;
  }
  if (stage.offer) {
    const text = "The other stages of its choice are withdrawn.";
    add("Choose", { title: `Choose ${ref}?`, text, act: plain("choose") }, "first");
  }
  if (!isEnded(stage.status)) {
    const fields = [
      { name: "name", label: "Name", value: stage.waits, required: true },
      { name: "payload", label: "Payload (JSON, or nothing)", kind: "json" },
      { name: "transient", label: "Don't keep it if no task waits for it now", kind: "check" },
    ];
    const act = (values) => post(`${path}/signal`, values);
    const text = stage.waits ? `It waits for ${stage.waits}.` : "It is kept until the stage asks for it.";
    add(stage.waits ? `Signal ${stage.waits}` : "Signal", { title: `Signal ${ref}`, verb: "Send", text, fields, act }, stage.waits ? "first" : "");
  }
  if (stage.runs === 0 || isEnded(stage.status)) return found;
  if (stage.can_multiply) {
    const text = "Unfinished instances are cancelled, and the branch continues.";
    add("Complete instances", { title: `End the instances of ${ref}?`, text, isGrave: true, act: plain("complete-instances") });
  }
  if (stage.is_dynamic) {
    const fields = [
      { name: "number", label: "How many", kind: "number", value: 1, required: true },
      { name: "context", label: "Values that they see (a JSON object, or nothing)", kind: "json" },
    ];
    const act = ({ number, context }) => post(`${path}/add-instances`, { number, context: context ?? {} });
    add("Add instances", { title: `Add instances to ${ref}`, verb: "Add", fields, act });
  }
  add("Skip", { title: `Skip ${ref}?`, text: "The branch continues without the rest of its work.", isGrave: true, act: plain("skip") });
  const text = "Its branch ends; other branches continue.";
  add("Cancel stage", { title: `Cancel stage ${ref}?`, text, isGrave: true, act: plain("cancel") }, "grave");
  return found;
}
