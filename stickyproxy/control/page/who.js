// "Who serves this client?": what the proxy would do with its next request, and what it remembers of it.

import { ask } from "./ask.js";
import { byId, clock, duration, el, list, say } from "./dom.js";

const form = byId("who-form");
let world = null;

/** Frontends to choose from; the question can be asked. */
export function ready(known) {
  world = known;
  const frontends = Object.entries(world.snapshot.frontends).filter(([, each]) => each.protocol === "http");
  list(form.frontend, frontends, ([name]) => name, ([name]) => el("option", { value: name, text: name }));
  const needs = new Map();
  for (const [name, cluster] of Object.entries(world.snapshot.clusters)) {
    const need = needed(cluster);
    needs.set(need, [...(needs.get(need) ?? []), name]);
  }
  list(byId("decides"), needs, ([need]) => need, ([need]) => el("p", {}, el("b"), el("span", { text: `: ${need}` })),
    (node, [, clusters]) => say(node.firstElementChild, some(clusters)));
  const cookies = cookieNames();
  form.headers.placeholder = cookies.length ? `${cookies[0]}=…    (or: Cookie: ${cookies[0]}=…)` : "X-User: alice";
}

const links = () => Object.values(world.snapshot.clusters).flatMap((cluster) => cluster.affinity);
const cookieNames = () => [...new Set(links().map((link) => /^(?:cookie|learned) (.+)/.exec(link.name)?.[1]).filter(Boolean))];

const some = (all) => all.slice(0, 4).join(", ") + (all.length > 4 ? ` and ${all.length - 4} more` : "");

/** What has to be known of a client of this cluster. */
function needed({ affinity }) {
  const names = affinity.map(({ name, kept_by: keeper }) => (keeper === "client" ? `its ${name}` : name === "source" ? "its address" : name));
  return names.length && names[0] !== "none" ? `kept by ${names.join(", else ")}` : "nobody is bound here";
}

/** Header lines of what was typed: lines as they are, cookies, or the bare value of one, whichever it is the value of. */
export function headerLines(text, cookies) {
  const lines = [];
  for (const line of text.split("\n").map((each) => each.trim()).filter(Boolean)) {
    if (/^[!#$%&'*+.^_`|~0-9A-Za-z-]+:/.test(line)) lines.push(line);
    else if (line.includes("=") && !/=+$/.test(line)) lines.push(`Cookie: ${line}`);
    else lines.push(`Cookie: ${(cookies.length ? cookies : ["SRV"]).map((name) => `${name}=${line}`).join("; ")}`);
  }
  return lines;
}

/** The URL of what was typed: whole, or a host with a path, or a path alone. */
export function wholeURL(text) {
  if (/^[a-z]+:\/\//i.test(text)) return text;
  return text === "" || text.startsWith("/") ? `http://${location.hostname}${text || "/"}` : `http://${text}`;
}

form.onsubmit = async (event) => {
  event.preventDefault();
  if (!world) return;
  const address = form.address.value.trim();
  const headers = headerLines(form.headers.value, cookieNames());
  const question = { url: wholeURL(form.url.value.trim()), headers };
  if (address) question.address = address;
  if (form.frontend.value) question.frontend = form.frontend.value;
  const answer = byId("answer");
  try {
    const [told, sessions] = await Promise.all([
      form.frontend.value ? ask("POST", "/api/explain", question) : null,
      address ? ask("GET", `/api/sessions?address=${encodeURIComponent(address)}`) : null,
    ]);
    answer.replaceChildren(...(told ? verdict(told, question) : []), ...known(sessions, address));
  } catch (problem) {
    answer.replaceChildren(el("p", { class: "hint", text: `That cannot be answered: ${problem.message}` }));
  }
};

/** The answer, what is missing to be sure, and each step. */
function* verdict(told, { headers }) {
  const cluster = world.snapshot.clusters[told.cluster];
  const backend = cluster?.backends[told.backend];
  const [, names = told.backend, last] = /^(?:served by ([^:]*): )?(.*)/s.exec(told.why[told.why.length - 1]);
  const who = told.backend === null ? [el("b", { text: "Nobody" }), " serves it: ", last]
    : [el("b", { text: names }), ` of cluster `, el("a", { href: `#cluster-${told.cluster}`, text: told.cluster }), ` serves it: ${last}.`];
  yield el("p", { class: "verdict" }, ...who);
  const own = cluster?.affinity.find((link) => /^cookie /.test(link.name) && link.kept_by === "client");
  const cookie = own?.name.slice("cookie ".length);
  if (own && !headers.some((line) => /^cookie:/i.test(line) && line.includes(`${cookie}=`))) {
    const text = `Clients of ${told.cluster} carry their backend in the cookie ${cookie}, which was not given: this is where a new client would go. `
      + `To ask for a certain one, paste its cookie: in its browser under Developer tools › Application (or Storage) › Cookies.`;
    yield el("p", { class: "hint", text });
  }
  const spoilt = told.why.find((step) => step.includes("its cookie does not count"));
  if (spoilt && told.outcome !== "kept") {
    yield el("p", { class: "hint", text: `It is taken for a new client: ${spoilt.slice(spoilt.indexOf("its cookie"))}. Was it copied as a whole?` });
  }
  if (backend && backend.status !== "up") {
    yield el("p", {}, el("span", { class: "state", "data-state": backend.status, text: backend.status }), ` ${backend.why}`);
  }
  yield el("h3", { text: "Why, step by step" });
  yield el("ol", {}, ...told.why.map((step) => el("li", { text: step })));
}

/** Sessions that are known by the address, in any cluster, TCP too. */
function* known(found, address) {
  if (!found) return;
  const { sessions } = found;
  yield el("h3", { text: sessions.length ? `What is remembered of ${address}` : "" });
  if (!sessions.length) {
    const tables = Object.values(found.clusters).some((links) => links.some((link) => link.kept_by === "table"));
    if (tables) yield el("p", { class: "soft", text: `No session is known by the address ${address} alone.` });
    return;
  }
  const now = world.snapshot.now;
  const row = (each) => el("tr", {}, el("td", { text: each.cluster }), el("td", {}, el("b", { text: each.backend })),
    el("td", { text: `${duration(now - each.since)} ago`, title: clock(each.since) }),
    el("td", { text: `${duration(now - each.seen)} ago`, title: clock(each.seen) }),
    el("td", { text: each.why }));
  const heads = ["Cluster", "Backend", "Bound", "Seen", "Why"].map((text) => el("th", { scope: "col", text }));
  yield el("table", { class: "sessions" }, el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...sessions.map(row)));
}
