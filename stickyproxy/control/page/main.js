// The dashboard: what is new comes from the feed, and each part of the page shows its side of it.

import { hasToken, keepToken } from "./ask.js";
import { showCertificates, showBroken, hearLog } from "./asides.js";
import { change, lock, offerReload, onToken } from "./changing.js";
import { Charts } from "./charts.js";
import { showClusters } from "./clusters.js";
import { byId, clock, duration, say } from "./dom.js";
import { Feed } from "./feed.js";
import { History } from "./history.js";
import { showMap } from "./map.js";
import { showTiles, showTrouble } from "./now.js";
import { ready as readyToAsk } from "./who.js";

/** All that is known: `snapshot` and `figures` are null until the first ones have come. */
const world = { snapshot: null, figures: null, history: new History(), started: null };
const charts = new Charts(world.history);
const WORDS = { live: "live", polling: "live, asked every second", lost: "no connection; trying again", locked: "locked" };

const feed = new Feed((kind, value, more) => {
  if (kind === "snapshot") {
    if (world.snapshot && value.started !== world.snapshot.started) world.history.last = null; // it was started again
    announce(world.snapshot, value);
    world.snapshot = value;
  } else if (kind === "figures") {
    world.figures = value;
    world.history.add(value, performance.now() / 1000);
    charts.draw(world);
  } else if (kind === "log") {
    hearLog(value);
  } else if (kind === "state") {
    byId("live").dataset.state = value;
    say(byId("live").lastElementChild, WORDS[value]);
    if (value === "locked") lock(more);
  }
  if (world.snapshot && kind !== "log") show();
});

function show() {
  const { snapshot } = world;
  const from = snapshot.configuration?.split("/").pop() ?? "no file";
  const processes = snapshot.processes.length > 1 ? `, ${snapshot.processes.length} processes` : "";
  say(byId("about"), `${snapshot.version}${processes}, up ${duration(snapshot.now - snapshot.started)}, ${from}`);
  byId("about").title = `since ${clock(snapshot.started)}\n${snapshot.configuration ?? ""}`;
  byId("reload").hidden = snapshot.configuration === null;
  showTrouble(world);
  showTiles(world);
  showMap(world);
  showClusters(world, change);
  showBroken(world);
  showCertificates(world);
  readyToAsk(world);
}

/** What has changed, for those who do not see it. */
function announce(before, now) {
  if (!before) return;
  const told = [];
  for (const [name, cluster] of Object.entries(now.clusters)) {
    for (const [id, backend] of Object.entries(cluster.backends)) {
      const old = before.clusters[name]?.backends[id];
      const lasting = old && !["full", "starting"].includes(backend.status) && !["full"].includes(old.status);
      if (lasting && old.status !== backend.status) told.push(`${name} ${id} is ${backend.status}: ${backend.why}.`);
    }
  }
  if (told.length) byId("said").replaceChildren(document.createTextNode(told.slice(0, 5).join(" ")));
}

// Light and dark.

const THEMES = ["system", "light", "dark"];
const night = matchMedia("(prefers-color-scheme: dark)");
let theme = localStorage.getItem("stickyproxy-theme") ?? "system";

function paint() {
  document.documentElement.toggleAttribute("data-dark", theme === "dark" || (theme === "system" && night.matches));
  say(byId("theme"), `Theme: ${theme}`);
  charts.paint();
}

night.addEventListener("change", paint);
byId("theme").onclick = () => {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  localStorage.setItem("stickyproxy-theme", theme);
  paint();
};
paint();

// The token.

onToken(() => {
  say(byId("unlock"), hasToken() ? "Lock" : "Unlock…");
  if (byId("live").dataset.state === "locked") feed.again();
});
const forget = () => {
  keepToken("");
  say(byId("unlock"), "Unlock…");
};
byId("unlock").onclick = () => (hasToken() ? forget() : lock());
byId("reload").onclick = () => offerReload(world.snapshot);

// Pages that the browser keeps when they are left would go on with a token.
addEventListener("pagehide", forget);
feed.run();
