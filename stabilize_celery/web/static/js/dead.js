// Messages that nobody handles any more: look at them, let them be handled again, or give them up.

import { get, part, post } from "./api.js";
import { confirm } from "./dialog.js";
import { fill, h } from "./dom.js";
import { clock, plural, shortId } from "./words.js";

export async function deadView({ main, life, service }) {
  const place = h("div", { class: "pad scroll" });
  fill(main, h("div", { class: "stack" }, place));
  const show = async () => {
    const { items } = await get("/dead");
    if (life.isOver) return;
    const letters = items.map((letter) => card(letter, service.read_only, show));
    const all = items.filter((one) => !one.is_unknown);
    const replayAll = h("button", { type: "button", onclick: () => replay(all, show) }, `Replay all ${all.length}`);
    fill(
      place,
      h("h1", {}, "Dead letters"),
      h(
        "p",
        { class: "dim" },
        items.length === 0 ? "There are none." : `${plural(items.length, "message")} that could not be handled.`,
      ),
      all.length > 1 && !service.read_only && h("div", { class: "buttons" }, replayAll),
      letters,
      h("div", { class: "buttons wrap" }, h("button", { type: "button", onclick: show }, "Refresh")),
    );
  };
  await show();
}

async function replay(letters, onDone) {
  const act = async () => {
    const vain = [];
    for (const one of letters) {
      const why = await replayed(one);
      if (why) vain.push(`${one.name} of ${shortId(one.workflow_id)}: ${why}`);
    }
    const done = letters.length - vain.length;
    if (vain.length) throw new Error(`${done} of ${plural(letters.length, "message")} handled again. ${vain.slice(0, 10).join(". ")}`);
    return { told: `${plural(done, "message")} handled again` };
  };
  const text = "They are handled as if they had never failed: fix first what made them fail.";
  await confirm({ title: `Replay ${plural(letters.length, "message")}?`, text, verb: "Replay", act });
  // Also where it had no effect: then what is seen is not how it is.
  onDone();
}

/** Replay one; returns why that had no effect. */
async function replayed(letter) {
  try {
    const { took_effect: tookEffect, told } = await post(`${pathOf(letter)}/replay`);
    return tookEffect ? "" : told;
  } catch (error) {
    if (error.status === 401) throw error;
    return error.message;
  }
}

const pathOf = ({ workflow_id: id, name }) => `/dead/${part(id)}/${part(name)}`;

function card(letter, isReadOnly, onDone) {
  const name = `${letter.kind} of ${shortId(letter.workflow_id)}`;
  const drop = async () => {
    const text = "Its workflow ends TERMINAL: nothing else would move it on.";
    const act = () => post(`${pathOf(letter)}/drop`);
    if (await confirm({ title: `Drop ${name}?`, text, verb: "Drop it", isGrave: true, act })) onDone();
  };
  return h(
    "article",
    { class: "card" },
    h("h2", {}, letter.kind, h("span", { class: "dim" }, ` ${letter.ref_id} · ${plural(letter.tries, "try").replace("trys", "tries")} · ${clock(letter.at_ms)}`)),
    h("p", {}, h("a", { href: `#/workflows/${part(letter.workflow_id)}` }, letter.workflow_id), h("code", {}, ` ${letter.name}`)),
    letter.is_unknown && h("p", { class: "bad" }, "This version does not know the message: perhaps the workers run a newer release than the page."),
    letter.error && h("details", {}, h("summary", {}, letter.error.trim().split("\n").pop()), h("pre", { tabindex: 0 }, letter.error)),
    !isReadOnly &&
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "button", class: "first", onclick: () => replay([letter], onDone) }, "Replay"),
        h("button", { type: "button", class: "grave", onclick: drop }, "Drop"),
      ),
  );
}
