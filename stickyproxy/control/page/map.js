// Frontends, their routes and clusters, side by side, with lines between them: what leads where.

import { byId, el, list, say, set } from "./dom.js";

const STATES = ["up", "starting", "full", "drain", "trial", "ejected", "down", "maintenance", "idle", "unknown"];
const MANY = 40; // dots of a cluster

const place = () => byId("map").querySelector(".map");
let lines = [];
let drawn = "";

/** Rows: `{key, frontend, text, cluster}`. */
function routesOf(snapshot) {
  return Object.entries(snapshot.frontends).flatMap(([frontend, { routes, cluster, protocol }]) => {
    const rows = routes.map((route, number) => ({
      key: `${frontend} ${number}`, frontend, cluster: route.cluster, text: `${route.host ?? ""}${route.path ?? ""}` || "everything",
    }));
    const rest = routes.length ? "everything else" : protocol === "tcp" ? "every connection" : "everything";
    rows.push({ key: `${frontend} rest`, frontend, cluster, text: cluster === null ? `${rest}: 404` : rest });
    return rows;
  });
}

export function showMap({ snapshot, figures, history }) {
  const [frontends, routes, clusters] = ["frontends", "routes", "clusters"].map((name) => place().querySelector(`.${name}`));
  const rows = routesOf(snapshot);
  list(frontends, Object.entries(snapshot.frontends), ([name]) => name, makeFrontend, updateFrontend);
  list(routes, rows, (row) => row.key, (row) => el("li", {}, el("div", { class: "chip" }, el("code"), el("span", { class: "to soft" }))), (node, row) => {
    say(node.querySelector("code"), row.text);
    say(node.querySelector(".to"), row.cluster === null ? "is answered 404" : `of ${row.frontend} to ${row.cluster}`);
    set(node, "data-key", row.key);
  });
  list(clusters, Object.entries(snapshot.clusters).sort(beside(rows)), ([name]) => name, makeCluster, (node, item) => updateCluster(node, item, history, figures));
  lines = rows.flatMap((row) => [
    [frontends.kept.get(row.frontend), routes.kept.get(row.key), row],
    ...(clusters.kept.has(row.cluster) ? [[routes.kept.get(row.key), clusters.kept.get(row.cluster), row]] : []),
  ]);
  draw();
  showKey(snapshot);
}

/** Clusters in the order of the routes that lead to them, so that few lines cross. */
function beside(rows) {
  const middle = new Map();
  for (const cluster of new Set(rows.map((row) => row.cluster))) {
    const places = rows.flatMap((row, number) => (row.cluster === cluster ? [number] : []));
    middle.set(cluster, places.reduce((sum, number) => sum + number, 0) / places.length);
  }
  return ([a], [b]) => (middle.get(a) ?? rows.length) - (middle.get(b) ?? rows.length);
}

function makeFrontend([name]) {
  return el("li", { "data-frontend": name }, el("div", { class: "chip" }, el("b", { text: name }), el("span", { class: "soft" }), el("span", { class: "soft mono" })));
}

function updateFrontend(node, [, frontend]) {
  const [, about, where] = node.firstElementChild.children;
  const kind = frontend.protocol.toUpperCase() + (frontend.tls ? " on TLS" : "");
  say(about, `${kind}, ${frontend.connections} open`);
  say(where, frontend.addresses.join(" ") || frontend.listen.join(" "));
}

function makeCluster([name]) {
  const chip = el("a", { class: "chip", href: `#cluster-${name}` }, el("b", { text: name }), el("span", { class: "soft" }), el("span", { class: "dots" }));
  return el("li", { "data-cluster": name }, chip);
}

function updateCluster(node, [name, cluster], history) {
  const [, about, dots] = node.firstElementChild.children;
  const backends = Object.entries(cluster.backends);
  const well = backends.filter(([, each]) => ["up", "starting", "full", "unknown", "trial"].includes(each.status)).length;
  const rate = history.now(name, "rate");
  say(about, `${well} of ${backends.length} up${rate === null ? "" : `, ${rate >= 10 ? Math.round(rate) : rate.toFixed(1)}/s`}`);
  set(node.firstElementChild, "data-state", well ? null : "down");
  list(dots, backends.slice(0, MANY), ([id]) => id, () => el("i", { role: "img" }), (dot, [id, each]) => {
    set(dot, "data-state", each.status);
    set(dot, "title", `${id}: ${each.status}`);
    set(dot, "aria-label", `${id}: ${each.status}`);
  });
}

/** The lines, if anything has moved. */
function draw() {
  const svg = place().querySelector("svg");
  const origin = svg.getBoundingClientRect();
  if (!origin.width) return; // a narrow screen has no lines
  const at = (node) => {
    const box = node.getBoundingClientRect();
    return { left: box.left - origin.left, right: box.right - origin.left, y: Math.round(box.top + box.height / 2 - origin.top) };
  };
  const paths = lines.map(([from, to]) => {
    const [a, b] = [at(from), at(to)];
    const middle = (a.right + b.left) / 2;
    return `M${a.right} ${a.y}C${middle} ${a.y} ${middle} ${b.y} ${b.left} ${b.y}`;
  });
  if (paths.join() === drawn) return;
  drawn = paths.join();
  svg.replaceChildren(...paths.map((d) => {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", d);
    return path;
  }));
}

/** What is under the pointer, or has the focus, and all that it leads to, stands out. */
function light(event) {
  const node = event.type === "mouseleave" || event.type === "focusout" ? null : event.target.closest?.("li");
  const rows = new Set(lines.filter(([from, to]) => node && (from === node || to === node)).map(([, , row]) => row));
  const paths = place().querySelectorAll("path");
  const hot = new Set();
  lines.forEach(([from, to, row], number) => {
    const on = rows.has(row);
    paths[number]?.classList.toggle("hot", on);
    if (on) hot.add(from).add(to);
  });
  for (const chip of place().querySelectorAll(".chip")) chip.classList.toggle("hot", hot.has(chip.parentNode));
}

function showKey(snapshot) {
  const there = new Set(Object.values(snapshot.clusters).flatMap(({ backends }) => Object.values(backends).map((each) => each.status)));
  const states = STATES.filter((state) => there.has(state));
  list(byId("key"), states, (state) => state, (state) => el("span", { class: "state", "data-state": state, text: state }));
}

for (const type of ["mouseover", "mouseleave", "focusin", "focusout"]) place().addEventListener(type, light);
new ResizeObserver(draw).observe(place());
