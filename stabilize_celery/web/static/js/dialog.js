// Asking before something is done: what it does stands on the button, nothing happens by accident.

import { JsonText } from "./api.js";
import { fill, h, say } from "./dom.js";

/**
 * Ask for confirmation and values, then act. `fields`: [{ name, label, kind, value, required }], kind text, json or
 * check. `act(values)` returns what happened; its error stands in the dialog. Returns whether it was done.
 */
export function confirm({ title, text, verb, isGrave = false, fields = [], act }) {
  return new Promise((resolve) => {
    const told = h("p", { class: "bad", role: "alert" });
    const inputs = fields.map(input);
    const button = h("button", { class: isGrave ? "grave" : "first", value: "do" }, verb);
    const form = h(
      "form",
      { onsubmit: (event) => void (event.preventDefault(), send()) },
      h("h2", {}, title),
      text && h("p", {}, text),
      inputs.map(({ row }) => row),
      told,
      h("div", { class: "buttons" }, h("button", { type: "button", onclick: () => dialog.close() }, "Back"), button),
    );
    const dialog = h("dialog", { "aria-label": title }, form);
    let isDone = false;
    async function send() {
      button.disabled = true;
      fill(told);
      try {
        const values = Object.fromEntries(inputs.map(({ name, read }) => [name, read()]));
        const outcome = await act(values);
        if (outcome?.took_effect === false) throw new Error(`No effect: ${outcome.told}`);
        isDone = true;
        dialog.close();
        if (outcome?.told) say(outcome.told);
      } catch (error) {
        fill(told, error.message);
      } finally {
        button.disabled = false;
      }
    }
    // What it asks about is no longer there to be seen.
    const onMove = () => dialog.close();
    addEventListener("hashchange", onMove);
    dialog.addEventListener("close", () => {
      removeEventListener("hashchange", onMove);
      dialog.remove();
      resolve(isDone);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

function input({ name, label, kind = "text", value = "", required = false }) {
  const id = `field-${name}`;
  if (kind === "check") {
    const box = h("input", { type: "checkbox", id });
    return { name, row: h("label", { class: "check", for: id }, box, label), read: () => box.checked };
  }
  const isJson = kind === "json";
  const box = isJson
    ? h("textarea", { id, rows: 5, spellcheck: "false", value, required })
    : h("input", { id, type: kind, value, required, min: kind === "number" ? 1 : undefined });
  const read = () => {
    if (kind === "number") return Number(box.value);
    if (!isJson) return box.value;
    try {
      return box.value.trim() ? new JsonText(box.value) : null;
    } catch (error) {
      throw new Error(`${label} is not JSON: ${error.message}. Text is written in quotes: "text".`);
    }
  };
  return { name, row: h("div", { class: "field" }, h("label", { for: id }, label), box), read };
}
