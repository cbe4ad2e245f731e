// The page: which view the address asks for, who is signed in, light or dark.

import { get, post, Refused, remove } from "./api.js";
import { deadView } from "./dead.js";
import { fill, h, Life, say, setTitle } from "./dom.js";
import { fleetView } from "./fleet.js";
import { listView } from "./list.js";
import { locksView } from "./locks.js";
import { schedulesView } from "./schedules.js";
import { startView } from "./start.js";
import { learnTime } from "./words.js";
import { workflowView } from "./workflow.js";

const SECTIONS = [
  ["workflows", "Workflows"],
  ["locks", "Locks"],
  ["schedules", "Schedules"],
  ["fleet", "Fleet"],
  ["dead", "Dead letters"],
  ["start", "Start"],
];
const AGAIN_MS = 3000;
const main = document.getElementById("main");
let life = new Life();
let service = null;

/** What the address behind the # says: its parts, and what stands behind the ?. */
function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { parts: path.split("/").filter(Boolean).map(decoded), query: new URLSearchParams(query) };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // typed by hand: there is nothing of that name, which the view says
  }
}

const VIEWS = { locks: locksView, fleet: fleetView, dead: deadView, schedules: schedulesView, start: startView };
let shownPath = "";

async function show(isMoved = false) {
  const { parts, query } = place();
  const [section = "workflows", id] = parts;
  // Within one workflow the view itself follows the address.
  const path = `${section}/${id ?? ""}`;
  if (id !== undefined && path === shownPath && life.moved) return void life.moved(parts, query);
  shownPath = path;
  life.end();
  life = new Life();
  for (const link of document.querySelectorAll("#sections a")) {
    if (link.dataset.section === section) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const title = SECTIONS.find(([name]) => name === section)?.[1];
  setTitle(title);
  if (title === undefined) return void fill(main, h("p", { class: "pad" }, "There is no such page."));
  const view = section === "workflows" ? (id === undefined ? listView : workflowView) : VIEWS[section];
  const own = life;
  try {
    await view({ main, life: own, parts, query, service, setState });
    // What had the focus is gone with the view before.
    if (isMoved && !own.isOver && document.activeElement === document.body) main.focus({ preventScroll: true });
  } catch (error) {
    if (error.status === 401) isUnseen = true;
    if (own.isOver || error.name === "AbortError" || error.status === 401) return;
    const isAway = error.status === 503 || error.status === 0;
    const promise = isAway && h("p", { class: "dim" }, "The page tries again every few seconds and continues by itself.");
    fill(main, h("div", { class: "pad" }, h("h1", {}, "That did not work"), h("p", {}, error.message), promise));
    if (!("status" in error)) throw error;
    if (isAway) {
      setState(error.status === 0 ? "away" : "silent", error.message);
      // The view has not even begun: it is begun anew.
      const again = setTimeout(() => ((shownPath = ""), show()), AGAIN_MS);
      own.onEnd(() => (clearTimeout(again), setState("")));
    }
  }
}

function setState(state, detail = "") {
  const told = { live: "● live", away: "○ not connected", silent: "○ Redis is away", "": "" };
  const element = document.getElementById("live");
  element.textContent = told[state];
  element.className = `live ${state}`;
  element.title = detail;
}

function showSections() {
  const links = SECTIONS.filter(([name]) => name !== "start" || !service.read_only).map(([name, title]) =>
    h("a", { href: `#/${name}`, dataset: { section: name } }, title),
  );
  fill(document.getElementById("sections"), links);
  const kind = service.read_only ? "read-only" : "";
  const told = [service.namespace !== "stabilize" && service.namespace, service.user !== "local" && service.user, kind];
  document.getElementById("who").textContent = told.filter(Boolean).join(" · ");
  document.getElementById("sign-out").hidden = !service.asks_for_token;
}

let isSigningIn = false;
let isUnseen = false;

/** Ask for the token: in front of what is seen, which goes on afterwards. */
function signIn() {
  if (isSigningIn) return;
  isSigningIn = true;
  const told = h("p", { class: "bad", role: "alert" });
  const input = h("input", { type: "password", id: "token", autocomplete: "current-password", required: true });
  const form = h(
    "form",
    { onsubmit: (event) => void (event.preventDefault(), send()) },
    h("h2", {}, "Sign in"),
    h("label", { for: "token" }, "Token"),
    input,
    h("p", { class: "dim" }, "The one that the page was started with (STABILIZE_WEB_TOKEN)."),
    told,
    h("div", { class: "buttons" }, h("button", { class: "first" }, "Sign in")),
  );
  async function send() {
    try {
      await post("/session", { token: input.value });
      isSigningIn = false;
      dialog.remove();
      if (service === null || isUnseen) await begin();
      isUnseen = false;
    } catch (error) {
      fill(told, error.message);
    }
  }
  const dialog = h("dialog", { "aria-label": "Sign in", oncancel: (event) => event.preventDefault() }, form);
  document.body.append(dialog);
  dialog.showModal();
  input.focus();
}

async function begin() {
  service = await get("/service");
  learnTime(service.now_ms);
  showSections();
  shownPath = "";
  await show();
}

const THEMES = ["auto", "light", "dark"];

function setTheme(name) {
  localStorage.setItem("theme", name);
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  const button = document.getElementById("theme");
  button.textContent = { auto: "◐ Auto", light: "☀ Light", dark: "☾ Dark" }[name];
  button.setAttribute("aria-label", `Colours: ${name}. Change`);
  dispatchEvent(new Event("colours"));
}

document.getElementById("theme").addEventListener("click", () => {
  const at = THEMES.indexOf(localStorage.getItem("theme") ?? "auto");
  setTheme(THEMES[(at + 1) % THEMES.length]);
});
// Reading that nobody waits for: what a view asks for by itself, or when something in it is chosen.
addEventListener("unhandledrejection", (event) => {
  if (!(event.reason instanceof Refused)) return;
  event.preventDefault();
  if (event.reason.status !== 401) say(event.reason.message, true);
});
document.getElementById("sign-out").addEventListener("click", async () => {
  await remove("/session");
  // What was seen is for nobody who comes after.
  life.end();
  service = null;
  fill(main);
  fill(document.getElementById("sections"));
  signIn();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("colours")));
addEventListener("signed-out", signIn);
addEventListener("hashchange", () => service && show(true));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says which view is seen
  main.focus();
});
const kept = localStorage.getItem("theme");
setTheme(THEMES.includes(kept) ? kept : "auto");
function beginHere() {
  begin().catch((error) => {
    if (error.status === 401) return;
    fill(main, h("p", { class: "pad" }, error.message));
    if (error.status === 0) setTimeout(beginHere, AGAIN_MS);
  });
}
beginHere();
