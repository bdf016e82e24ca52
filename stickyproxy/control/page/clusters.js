// Every cluster with its backends: how each is and why, what it serves, its share, and what can be done to it.

import { loads, shares, spread } from "./balance.js";
import { byId, clock, counted, duration, el, latency, list, say, set, short } from "./dom.js";

const FEW = 8; // clusters that are all open at first
const TROUBLE = ["down", "ejected", "trial", "full"];
const most = new Map(); // what a draining backend served when it began to drain, as far as this page has seen

/** Whether a backend is worth a look. */
const troubled = (backend) => TROUBLE.includes(backend.status) || Object.keys(backend.file).length > 0;

export function showClusters(world, change) {
  const { snapshot } = world;
  const wanted = byId("filter").value.trim().toLowerCase();
  const names = Object.keys(snapshot.clusters);
  const shown = names.filter((name) => matches(name, snapshot.clusters[name], wanted));
  const place = byId("clusters").querySelector(".all");
  list(place, shown, (name) => name, (name) => makeCluster(name, names.length <= FEW || wanted !== "", () => showClusters(world, change)),
    (node, name) => updateCluster(node, name, world, change));
  say(byId("found"), shown.length === names.length ? "" : `${shown.length} of ${counted(names.length, "cluster")}`);
  for (const id of ["filter", "only"]) byId(id).oninput = () => showClusters(world, change);
}

function matches(name, cluster, wanted) {
  const backends = Object.entries(cluster.backends);
  if (byId("only").checked && !backends.some(([, each]) => troubled(each))) return false;
  return !wanted || [name, ...backends.flatMap(([id, each]) => [id, each.endpoint])].some((text) => text.toLowerCase().includes(wanted));
}

function makeCluster(name, open, update) {
  const summary = el("summary", {}, el("h3", { text: name }), el("span"), el("span", { class: "soft" }), el("span", { class: "spread" }));
  const heads = [["Backend"], ["Is"], ["Why"], ["Weight", true], ["Serving", true], ["Requests", true], ["5xx", true], ["Clients"], ["", true]];
  const columns = heads.map(([text, number]) => el("th", { scope: "col", class: number && "number" }, text || el("span", { class: "hidden", text: "Actions" })));
  const table = el("table", { class: "backends" }, el("caption", { class: "hidden", text: `Backends of ${name}` }), el("colgroup", {}, ...heads.map(() => el("col"))), el("thead", {}, el("tr", {}, ...columns)), el("tbody"));
  return el("details", { class: "card", id: `cluster-${name}`, open, ontoggle: update }, summary, el("div", { class: "scroll" }, table));
}

function updateCluster(node, name, world, change) {
  const cluster = world.snapshot.clusters[name];
  const { history } = world;
  const counts = loads(name, cluster, history);
  const found = spread(cluster, counts);
  const [, state, about, even] = node.querySelector("summary").children;
  const backends = Object.entries(cluster.backends);
  const sums = new Map();
  for (const [, each] of backends) sums.set(each.status, (sums.get(each.status) ?? 0) + 1);
  say(state, [...sums].map(([word, count]) => `${count} ${word}`).join(", "));
  const kept = cluster.affinity.map((link) => link.name).join(", then ") || "none";
  const pace = `${short(history.now(name, "rate"))}/s, 99 % within ${latency(history.now(name, "p99"))}`;
  say(about, `${cluster.balance}; affinity: ${kept}; ${pace}`);
  say(even, found ? `${found.text}${found.text === "even" ? ` (${found.of})` : ""}` : "");
  set(even, "data-bad", found?.uneven);
  set(even, "title", found ? `by ${found.of}; each backend beside the share of its weight` : null);
  if (!node.open) return;
  const parts = { name, cluster, counts, shares: shares(cluster, counts.by), world, change };
  list(node.querySelector("tbody"), backends, ([id]) => id, ([id]) => makeBackend(id), (row, [id, each]) => updateBackend(row, id, each, parts));
}

function makeBackend(id) {
  const cells = [
    el("td", {}, el("b", { text: id }), el("div", { class: "soft mono" })),
    el("td", {}, el("span", { class: "state" }), el("div", { class: "soft" })),
    el("td", { class: "why" }, el("span"), el("div", { class: "left", hidden: true }, el("progress"), el("span")), el("div", {}, el("span", { class: "differs", hidden: true }))),
    el("td", { class: "number" }), el("td", { class: "number" }), el("td", { class: "number" }), el("td", { class: "number" }),
    el("td", {}, el("span"), el("div", { class: "bar", "aria-hidden": "true" }, el("i"), el("u"))),
    el("td", { class: "acts" }),
  ];
  return el("tr", { "data-backend": id }, ...cells);
}

function updateBackend(row, id, backend, { name, counts, shares, world, change }) {
  const [who, is, why, weight, active, rate, errors, load, acts] = row.cells;
  const { snapshot, figures, history } = world;
  const numbers = figures?.clusters[name]?.backends[id];
  say(who.lastElementChild, backend.endpoint.replace(/^tcp:/, "") + (backend.backup ? ", backup" : ""));
  say(is.firstElementChild, backend.status);
  set(is.firstElementChild, "data-state", backend.status);
  say(is.lastElementChild, `for ${duration(snapshot.now - backend.since)}`);
  is.lastElementChild.title = `since ${clock(backend.since)}`;
  say(why.firstElementChild, backend.why + (backend.ejected_until ? `; until ${clock(backend.ejected_until)}` : ""));
  showLeft(why.children[1], `${name}/${id}`, backend);
  const differs = Object.entries(backend.file).map(([key, value]) => `${key} ${value}`).join(", ");
  why.lastElementChild.firstElementChild.hidden = !differs;
  say(why.lastElementChild.firstElementChild, differs && `the file says: ${differs}`);
  say(weight, backend.weight);
  const sockets = (numbers?.websockets ?? 0) + (numbers?.relays ?? 0);
  const word = numbers?.relays ? "TCP" : "WS";
  const room = backend.limit ? ` of ${backend.limit}` : "";
  say(active, `${backend.active}${room}${sockets ? ` (${sockets} ${word})` : ""}${backend.queued ? `, ${backend.queued} wait` : ""}`);
  say(rate, `${short(history.rate(name, id))}/s`);
  say(errors, numbers ? short(numbers.errors) : "–");
  const has = shares[id].has;
  const count = counts.by[id];
  say(load.firstElementChild, counts.of === "sessions" ? counted(count, "session") : `${counted(count, "request")} a min`);
  const [bar, mark] = load.lastElementChild.children;
  bar.style.width = `${(has * 100).toFixed(1)}%`;
  mark.hidden = shares[id].should === null;
  mark.style.left = `calc(${((shares[id].should ?? 0) * 100).toFixed(1)}% - 1px)`;
  const should = shares[id].should === null ? "takes no new clients" : `its weight asks for ${Math.round(shares[id].should * 100)} %`;
  load.title = `${Math.round(has * 100)} % of ${counts.of}; ${should}`;
  list(acts, actsOf(backend), (act) => act, (act) => el("button", { type: "button", text: act, "aria-label": `${act}: ${name} ${id}` }), (button, act) => {
    button.onclick = () => change(act, name, id, world);
  });
}

/** What can be done: the first is what one most likely wants. */
function actsOf(backend) {
  const states = { up: ["Drain", "Maintenance"], drain: ["Up", "Maintenance"], maintenance: ["Up", "Drain"] };
  return [...states[backend.state], "Weight"];
}

/** How far a drain is. */
function showLeft(node, key, backend) {
  const left = backend.active + (backend.sessions ?? 0);
  node.hidden = !(backend.state === "drain" || (backend.state === "maintenance" && left));
  if (node.hidden) return most.delete(key);
  const all = Math.max(most.get(key) ?? 0, left);
  most.set(key, all);
  const [progress, text] = node.children;
  progress.max = all || 1;
  progress.value = all ? all - left : 1;
  progress.setAttribute("aria-label", `drain of ${key}`);
  const sessions = backend.sessions ? ` and ${counted(backend.sessions, "session")}` : "";
  const unknown = backend.sessions === null ? "; clients may still have its cookie" : "";
  say(text, left ? `${backend.active} open${sessions} left` : `nothing is open${unknown}`);
}

// A link to a cluster opens it.
function openNamed() {
  const node = location.hash.startsWith("#cluster-") ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
  if (node) node.open = true;
}
addEventListener("hashchange", openNamed);
