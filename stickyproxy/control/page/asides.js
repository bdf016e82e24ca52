// Clients that lost their backend, certificates, and what the proxy says.

import { byId, clock, counted, duration, el, list, say } from "./dom.js";
import { daysLeft, standing } from "./now.js";

const LINES = 200;
/** Why a client was not served by its own backend: docs/metrics.md, sticky_broken_total. */
const WHY = {
  gone: "it is not in the configuration any more",
  maintenance: "it is in maintenance",
  drained: "its drain was over",
  unreachable: "it could not be reached",
  down: "it was down",
  rebalanced: "it had far more than its share",
  lost: "it was not there, and no other may serve the session",
};

export function showBroken({ figures, history }) {
  if (!figures) return;
  const sums = {};
  for (const { broken } of Object.values(figures.clusters)) {
    for (const [why, count] of Object.entries(broken)) if (count) sums[why] = (sums[why] ?? 0) + count;
  }
  const told = Object.entries(sums).sort((a, b) => b[1] - a[1]).map(([why, count]) => `${count.toLocaleString("en")} ${why}`);
  say(byId("broken").querySelector(".counts"), told.length ? `Since the start: ${told.join(", ")}.` : "Nobody, since the start.");
  const age = performance.now() / 1000;
  list(byId("broken").querySelector("ul"), history.broken, (each) => `${each.time} ${each.cluster} ${each.why}`, (each) =>
    el("li", {}, el("b", { text: `${each.cluster}: ${counted(each.count, "client")}` }), el("span", { text: WHY[each.why] ?? each.why }), el("time")),
  (node, each) => say(node.lastElementChild, `${duration(age - each.time)} ago`));
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
