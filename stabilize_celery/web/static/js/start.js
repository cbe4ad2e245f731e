// Start a workflow from its definition.

import { JsonText, part, post } from "./api.js";
import { fill, h } from "./dom.js";

const EXAMPLE = {
  application: "shop",
  name: "order",
  context: { order_id: 7 },
  stages: [
    { ref_id: "pay", type: "work", name: "Pay", tasks: [{ name: "charge", implementing_class: "charge" }] },
    {
      ref_id: "send",
      type: "work",
      name: "Send",
      requisite_stage_ref_ids: ["pay"],
      tasks: [{ name: "ship", implementing_class: "ship" }],
    },
  ],
};

export async function startView({ main }) {
  const text = h("textarea", { id: "definition", rows: 24, spellcheck: "false", value: JSON.stringify(EXAMPLE, null, 2) });
  const key = h("input", { id: "key", autocomplete: "off" });
  const priority = h("input", { id: "priority", type: "number", min: 0, max: 9, placeholder: "that of the definition" });
  const told = h("div", { class: "bad", role: "alert" });
  const file = h("input", { type: "file", id: "file", accept: ".json,application/json", onchange: read });
  async function read() {
    if (file.files[0]) text.value = await file.files[0].text();
  }
  const asked = () => ({
    idempotency_key: key.value.trim() || null,
    priority: priority.value === "" ? null : Number(priority.value),
  });
  async function send() {
    fill(told);
    try {
      const definition = new JsonText(text.value);
      const started = await post("/workflows", { definition, ...asked() });
      location.hash = `#/workflows/${part(started.id)}`;
    } catch (error) {
      const problems = error.problems ?? [];
      const lines = problems.map((one) => h("li", {}, h("code", {}, one.path), `: ${one.message}`));
      const first = problems.length ? `Nothing was started. ${problems.length} problems:` : error.message;
      fill(told, h("p", {}, first), lines.length > 0 && h("ul", {}, lines));
    }
  }
  const form = h(
    "form",
    { class: "pad scroll start", onsubmit: (event) => void (event.preventDefault(), send()) },
    h("h1", {}, "Start a workflow"),
    h("div", { class: "field" }, h("label", { for: "file" }, "Load a JSON file"), file),
    h("div", { class: "field" }, h("label", { for: "definition" }, "Definition (JSON)"), text),
    h("div", { class: "field" }, h("label", { for: "key" }, "Idempotency key (optional: the same key starts one workflow)"), key),
    h("div", { class: "field" }, h("label", { for: "priority" }, "Priority (optional: 0 goes first, 9 last)"), priority),
    told,
    h("div", { class: "buttons" }, h("button", { class: "first" }, "Start")),
  );
  fill(main, h("div", { class: "stack" }, form));
}
