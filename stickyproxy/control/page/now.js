// What needs a look, in words, and the figures of the moment.

import { loads, spread } from "./balance.js";
import { byId, clock, counted, duration, el, latency, list, say, set, short } from "./dom.js";

const WARN_DAYS = 21;

/** Whole days until a certificate ends. */
export const daysLeft = (certificate, now) => Math.floor((certificate.expires - now) / 86400);

/** How a certificate stands: null is well. */
export const standing = (certificate, now) => {
  const days = daysLeft(certificate, now);
  return days < 0 ? "down" : days < WARN_DAYS ? "ejected" : null;
};

/** Each trouble: `state` for its colour, `title`, `text`, and the cluster that it is in, if one. */
export function* troubles({ snapshot, figures, history }) {
  const now = snapshot.now;
  for (const [name, cluster] of Object.entries(snapshot.clusters)) {
    const backends = Object.entries(cluster.backends);
    const out = backends.filter(([, each]) => ["down", "ejected"].includes(each.status));
    if (backends.every(([, each]) => ["down", "ejected", "maintenance"].includes(each.status))) {
      yield { state: "down", title: `${name} has no backend that serves`, text: "", cluster: name };
    }
    for (const [id, each] of out) {
      const until = each.ejected_until ? `, until ${clock(each.ejected_until)}` : "";
      yield { state: each.status, title: `${name} ${id} is ${each.status}`, text: `${each.why}; for ${duration(now - each.since)}${until}`, cluster: name };
    }
    if (cluster.queued) {
      yield { state: "ejected", title: `${name} is full`, text: `${counted(cluster.queued, "client")} waiting for a place`, cluster: name };
    }
    const found = figures && spread(cluster, loads(name, cluster, history));
    if (found?.uneven) yield { state: "ejected", title: `${name} is uneven`, text: `${found.text} of ${found.of}`, cluster: name };
  }
  for (const certificate of snapshot.certificates) {
    const state = standing(certificate, now);
    const days = daysLeft(certificate, now);
    const when = days < 0 ? `ended ${clock(certificate.expires)}` : `ends in ${counted(days, "day")}`;
    const name = certificate.names[0] ?? certificate.path;
    if (state) yield { state, title: `The certificate for ${name} ${when}`, text: certificate.path };
  }
  const differing = differences(snapshot);
  if (differing.length) {
    const names = differing.slice(0, 4).join(", ") + (differing.length > 4 ? ", …" : "");
    yield { state: "drain", title: `${counted(differing.length, "backend")} not as in the file`, text: names };
  }
}

/** Backends that an operator has changed, as "cluster backend". */
export const differences = (snapshot) => Object.entries(snapshot.clusters).flatMap(([name, { backends }]) =>
  Object.entries(backends).filter(([, each]) => Object.keys(each.file).length).map(([id]) => `${name} ${id}`));

export function showTrouble(world) {
  const all = [...troubles(world)];
  const shown = all.slice(0, 8);
  if (all.length > 8) shown.push({ state: "calm", title: `and ${all.length - 8} more`, text: "below, with “only with trouble”" });
  if (!all.length) {
    const count = Object.values(world.snapshot.clusters).reduce((sum, { backends }) => sum + Object.keys(backends).length, 0);
    const clusters = counted(Object.keys(world.snapshot.clusters).length, "cluster");
    shown.push({ state: "up", title: "All is well.", text: `${clusters}, ${counted(count, "backend")}` });
  }
  list(byId("trouble").querySelector("ul"), shown, (each) => each.title, () => el("li", {}, el("b"), el("span")), (node, each) => {
    node.dataset.state = each.state;
    const title = node.firstElementChild;
    if (each.cluster && !title.firstElementChild) {
      title.append(el("a", { href: `#cluster-${each.cluster}`, text: each.title }));
    } else if (!each.cluster) say(title, each.title);
    say(node.lastElementChild, each.text ? ` – ${each.text}` : "");
  });
}

export function showTiles({ snapshot, figures, history }) {
  if (!figures) return;
  const rate = history.now("", "rate");
  const errors = history.now("", "errors");
  const share = rate ? (100 * errors) / rate : 0;
  const frontends = Object.values(snapshot.frontends);
  const connections = frontends.reduce((sum, each) => sum + each.connections, 0);
  const tunnels = history.now("", "websockets");
  const sessions = Object.values(snapshot.clusters).filter((each) => each.sessions !== null);
  const broken = Object.values(figures.clusters).reduce((sum, { broken: why }) => sum + Object.values(why).reduce((a, b) => a + b, 0), 0);
  const tiles = [
    { name: "Requests", value: short(rate), unit: "/s" },
    { name: "Errors (5xx)", value: rate === null ? "–" : `${share >= 10 ? Math.round(share) : share.toFixed(1)}`, unit: "%", bad: share >= 1 },
    { name: "50 % within", value: latency(history.now("", "p50")), unit: "" },
    { name: "99 % within", value: latency(history.now("", "p99")), unit: "" },
    { name: "Open WebSockets", value: short(tunnels), unit: "" },
    { name: "Client connections", value: short(connections), unit: "" },
    { name: "Sessions kept here", value: sessions.length ? short(sessions.reduce((sum, each) => sum + each.sessions, 0)) : "–", unit: "" },
    { name: "Lost their backend", value: short(broken), unit: "since the start" },
  ];
  list(byId("tiles").querySelector("dl"), tiles, (tile) => tile.name, (tile) =>
    el("div", {}, el("dt", { text: tile.name }), el("dd", {}, el("span"), " ", el("small"))), (node, tile) => {
    say(node.querySelector("dd span"), tile.value);
    say(node.querySelector("small"), tile.unit);
    set(node, "data-bad", tile.bad);
  });
}
