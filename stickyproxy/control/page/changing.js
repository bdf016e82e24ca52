// Changes: a dialog that says what will happen, asks for the token where there is none, and tells what went wrong.

import { ask, hasToken, keepToken } from "./ask.js";
import { byId, counted, el, say } from "./dom.js";

const dialog = byId("change");
const form = dialog.querySelector("form");
const [what, token, problem, first] = [".what", ".token", ".problem", ".first"].map((each) => form.querySelector(each));
let told = () => {};
let act = null;

/** Call this whenever there is another token. */
export const onToken = (listener) => { told = listener; };

/** Ask for a change: `content` says what it means, `run` does it, and may return what there is to be read then. */
function offer(title, content, verb, run, needs = true) {
  say(byId("change-title"), title);
  what.replaceChildren(...content);
  say(first, verb);
  first.hidden = false;
  say(form.querySelector(".cancel"), "Cancel");
  problem.replaceChildren();
  token.hidden = !needs || hasToken();
  form.token.value = "";
  act = run;
  if (!dialog.open) dialog.showModal();
  (token.hidden ? what.querySelector("input") ?? first : what.querySelector("input") ?? form.token).focus();
}

form.querySelector(".cancel").onclick = () => dialog.close();
form.onsubmit = async (event) => {
  event.preventDefault();
  if (!token.hidden) {
    if (!form.token.value.trim()) return refuse("A token is needed.");
    keepToken(form.token.value);
  }
  const mine = act;
  first.disabled = true;
  try {
    const result = await mine();
    if (act !== mine) return; // another one has been offered meanwhile
    token.hidden = true;
    told();
    if (!result) return dialog.close();
    what.replaceChildren(...result);
    first.hidden = true;
    say(form.querySelector(".cancel"), "Close");
    problem.replaceChildren();
  } catch (refusal) {
    if (act !== mine) return;
    if (refusal.status === 401) {
      keepToken("");
      token.hidden = false;
      form.token.select();
    }
    refuse(refusal.message, refusal.mistakes);
  } finally {
    first.disabled = false;
  }
};
dialog.addEventListener("close", () => { form.token.value = ""; });

function refuse(text, mistakes = []) {
  const lines = mistakes.map(({ key, message }) => el("li", {}, el("code", { text: key }), ` ${message}`));
  problem.replaceChildren(el("p", { text }), el("ul", {}, ...lines));
}

/** Ask for the token alone; `why`: what the proxy said when it was asked without one. */
export function lock(why = "") {
  const text = why ? `Nothing can be seen from here without a token (${why}).` : "With it this page can change what the proxy does. It is forgotten when the page is left.";
  offer("Enter the token", [el("p", { class: "soft", text })], "Unlock", () => ask("GET", "/api/version").then(() => null));
  form.token.focus();
}

/** What is there of a backend, in words. */
function served(name, id, { snapshot, figures }) {
  const backend = snapshot.clusters[name].backends[id];
  const sockets = figures?.clusters[name]?.backends[id]?.websockets ?? 0;
  const parts = [`${backend.active} open${sockets ? ` (${counted(sockets, "WebSocket")} among them)` : ""}`];
  if (backend.sessions !== null) parts.push(counted(backend.sessions, "session"));
  return `${id} serves right now: ${parts.join(", ")}.`;
}

/** Offer what a button of a backend says. */
export function change(button, name, id, world) {
  const path = `/api/clusters/${encodeURIComponent(name)}/backends/${encodeURIComponent(id)}`;
  const put = (body) => ask("PUT", path, body).then(() => null);
  const now = el("p", { text: served(name, id, world) });
  const backend = world.snapshot.clusters[name].backends[id];
  if (button === "Drain") return offerDrain(name, id, now, put);
  if (button === "Maintenance") {
    const text = "It serves nobody from now on: its clients are bound to other backends at their next request. Connections that are open go on.";
    return offer(`${name} ${id}: maintenance`, [now, el("p", { text })], "Take it out", () => put({ state: "maintenance" }));
  }
  if (button === "Up") {
    return offer(`${name} ${id}: up`, [el("p", { text: "It takes new clients again." })], "Let it in", () => put({ state: "up" }));
  }
  const weight = el("input", { type: "number", min: 0, max: 256, step: 1, required: true, value: backend.weight });
  const text = "New clients come in proportion to the weights. With 0 it keeps its clients and takes no new ones. A hash moves some of its clients.";
  const label = el("label", {}, "Weight (0 to 256)", weight);
  return offer(`${name} ${id}: weight`, [el("p", { text }), label], "Set", () => put({ weight: Number(weight.value) }));
}

function offerDrain(name, id, now, put) {
  const radio = (value, text, checked) => el("label", { class: "row" }, el("input", { type: "radio", name: "drain", value, checked }), el("span", { text }));
  const deadline = el("input", { type: "text", value: "5m", pattern: "[0-9]+(ms|s|m|h|d)", "aria-label": "Deadline" });
  const content = [
    now,
    el("p", { text: "It takes no new clients." }),
    radio("keep", "Its clients stay until they leave by themselves", true),
    radio("close", "They are moved at once: its WebSockets are closed one after another, and what is left is cut after"),
    el("label", { class: "row" }, deadline),
  ];
  offer(`${name} ${id}: drain`, content, "Drain", () => {
    if (form.drain.value === "keep") return put({ state: "drain" });
    const wanted = { cluster: name, backend: id, window: deadline.value, deadline: deadline.value };
    return ask("POST", "/api/drains", wanted).then(() => null);
  });
}

/** Offer to load the file again. */
export function offerReload({ configuration }) {
  const text = "If it has a mistake, all stays as it is. Only what differs is changed.";
  offer("Load the configuration again", [el("p", {}, el("code", { text: configuration })), el("p", { text })], "Load it", async () => {
    const { changes } = await ask("POST", "/api/reload");
    const lines = changes.map((each) => el("li", { text: each }));
    return [el("p", { text: changes.length ? `It serves, with ${counted(changes.length, "change")}:` : "It serves, and nothing is different." }), el("ul", {}, ...lines)];
  });
}
