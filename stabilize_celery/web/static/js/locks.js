// Every mutex: who holds it, since when, and who waits, in the order in which they get it.

import { follow, part, withQuery } from "./api.js";
import { fill, h } from "./dom.js";
import { count, duration, learnTime, now, shortId } from "./words.js";

export async function locksView({ main, life, setState }) {
  const place = h("div", { class: "pad scroll" }, h("p", { class: "dim" }, "Loading …"));
  fill(main, h("div", { class: "stack" }, place));
  let found = null;
  let deadlocks = [];
  let isCut = false;
  const show = () => {
    if (found === null) return;
    fill(
      place,
      h("h1", {}, "Locks"),
      found.length === 0 && h("p", {}, "No mutex is held or waited for."),
      deadlocks.map(deadlockOf),
      isCut && h("p", { class: "dim" }, "Not all locks and workflows were followed: there may be more deadlocks."),
      found.map(lockOf),
    );
  };
  const onLocks = (news) => {
    learnTime(news.now_ms);
    found = news.items;
    deadlocks = news.deadlocks;
    isCut = news.is_cut;
    show();
  };
  life.onEnd(follow("/streams/locks", { locks: onLocks }, setState));
  life.every(1000, () => {
    for (const one of place.querySelectorAll("[data-since]")) one.textContent = since(Number(one.dataset.since));
  });
}

const since = (ms) => (ms ? duration(now() - ms) : "");

function lockOf(lock) {
  const scope = lock.scope === "GLOBAL" ? "" : ` ${lock.scope} ${lock.within}`;
  const rows = [
    ...lock.holders.map((one) => party("holds it", one, `token ${one.token}${one.worker ? `, on ${one.worker}` : ""}`)),
    ...lock.waiters.map((one, at) => party(`${at + 1}.`, one, "")),
  ];
  const left = lock.waiting - lock.waiters.length;
  return h(
    "article",
    { class: "card" },
    h("h2", {}, lock.key, lock.mark && [" ", h("span", { class: "chip bad" }, lock.mark)], h("span", { class: "dim" }, `${scope} · ${count(lock.limit)} at a time · ${count(lock.waiting)} waiting`)),
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, ["Place", "Who", "For", ""].map((one) => h("th", { scope: "col" }, one)))),
      h("tbody", {}, rows),
    ),
    left > 0 && h("p", { class: "dim" }, `… and ${count(left)} more`),
  );
}

/** Who waits for whom in a circle, and what would break it. */
function deadlockOf({ parties, commands }) {
  const told = ({ holder, holds, waiter, wants, relation }) =>
    h("li", {}, who(holder), " holds ", h("code", {}, holds), ` and can't end: its ${relation} `, who(waiter), " waits for ", h("code", {}, wants));
  return h(
    "article",
    { class: "card deadlock", role: "alert" },
    h("h2", {}, "Deadlock"),
    h("p", {}, "Each of these waits for another one to end. To break it, end one of them:"),
    h("ul", {}, parties.map(told)),
    h("ul", {}, commands.map((one) => h("li", {}, "→ ", h("code", {}, one)))),
  );
}

function who(one) {
  const what = one.section ? `section ${one.section}` : one.ref_id;
  const address = withQuery(`#/workflows/${part(one.workflow_id)}/graph`, { stage: one.ref_id });
  return h("a", { href: address }, h("bdi", {}, one.workflow_name || "workflow"), ` ${shortId(one.workflow_id)}`, what && [" / ", h("bdi", {}, what)]);
}

function party(place, one, note) {
  return h(
    "tr",
    {},
    h("td", {}, place),
    h("td", {}, who(one)),
    h("td", { dataset: { since: one.since_ms } }, since(one.since_ms)),
    h("td", { class: "dim" }, note),
  );
}
