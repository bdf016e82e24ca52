// Clients that lost their backend, certificates, and what the proxy says.

import { byId, clock, counted, duration, el, list, say } from "./dom.js";
import { daysLeft, standing } from "./now.js";

const LINES = 200;
/** Why a client was not served by its own backend: docs/metrics.md, sticky_broken_total. */
const WHY = {
  gone: "is not in the configuration any more",
  maintenance: "is in maintenance",
  drained: "was drained",
  unreachable: "could not be reached",
  down: "was down",
  rebalanced: "had far more than its share",
  lost: "was not there, and no other may serve it",
};

export function showBroken({ snapshot, figures }) {
  const sums = {};
  for (const { broken } of Object.values(figures?.clusters ?? {})) {
    for (const [why, count] of Object.entries(broken)) if (count) sums[why] = (sums[why] ?? 0) + count;
  }
  const told = Object.entries(sums).sort((a, b) => b[1] - a[1]).map(([why, count]) => `${count.toLocaleString("en")} ${why}`);
  say(byId("broken").querySelector(".counts"), told.length ? `Since the start: ${told.join(", ")}.` : "Nobody, since the start.");
  const last = Object.entries(snapshot.clusters).flatMap(([cluster, { breaks }]) => breaks.map((each) => ({ ...each, cluster })));
  list(byId("broken").querySelector("ul"), together(last.sort((a, b) => b.when - a.when)), (each) => `${each.key} ${each.when}`, () =>
    el("li", {}, el("b"), el("span"), el("time")), (node, each) => {
    const [who, what, when] = node.children;
    say(who, each.client + (each.count > 1 ? ` (${each.count} ×)` : ""));
    say(what, `${each.cluster}: ${each.own ?? "its backend"} ${WHY[each.why] ?? each.why}${each.served ? `; ${each.served} serves it` : ""}`);
    say(when, clock(each.when));
    when.title = `${duration(snapshot.now - each.when)} ago`;
  });
}

/** What happened to one client several times, once: as of the last time. */
function together(breaks) {
  const found = new Map();
  for (const each of breaks) {
    const key = [each.cluster, each.client, each.own, each.served, each.why].join(" ");
    if (found.has(key)) found.get(key).count += 1;
    else found.set(key, { ...each, key, count: 1 });
  }
  return [...found.values()].slice(0, 30);
}

export function showCertificates({ snapshot }) {
  const found = [...snapshot.certificates].sort((a, b) => a.expires - b.expires);
  const place = byId("certificates").querySelector("ul");
  list(place, found.length ? found : [null], (each) => (each ? `${each.frontend} ${each.path} ${each.serial}` : ""), (each) =>
    each === null ? el("li", { class: "empty", text: "No frontend has TLS." })
      : el("li", { title: `${each.path}\nissued by ${each.issuer}` }, el("b", { text: each.names.join(", ") || each.path }), el("span", { class: "soft", text: each.frontend }), el("span")),
  (node, each) => {
    if (!each) return;
    const days = daysLeft(each, snapshot.now);
    const state = standing(each, snapshot.now);
    if (state) node.dataset.state = state;
    say(node.lastElementChild, days < 0 ? `ended ${clock(each.expires)}` : days > 999 ? "for years" : `${counted(days, "day")} left`);
  });
}

/** A line of the log: `time`, `level`, `text`. */
export function hearLog({ time, level, text }) {
  const place = byId("log").querySelector("ol");
  const follows = place.scrollTop + place.clientHeight >= place.scrollHeight - 4;
  place.append(el("li", { "data-level": level }, el("time", { text: clock(time) }), ` ${text}`));
  while (place.childElementCount > LINES) place.firstElementChild.remove();
  if (follows) place.scrollTop = place.scrollHeight;
}
