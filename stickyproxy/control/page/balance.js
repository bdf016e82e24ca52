// How evenly clients lie on the backends of a cluster: each one's share beside the share that its weight asks for.

const TAKING = new Set(["up", "starting", "full", "trial", "unknown"]);
const FEW = 5; // for each backend; with fewer the figure is chance

/** Whether new clients may come to it. */
export const takes = (backend) => TAKING.has(backend.status) && backend.weight > 0 && !backend.backup;

/** By what it is counted: sessions where the proxy keeps them, else what backends got in the last minute. */
export function loads(name, cluster, history) {
  const kept = Object.values(cluster.backends).every((backend) => backend.sessions !== null);
  const load = (id, backend) => (kept ? backend.sessions : history.minute(name, id));
  return {
    of: kept ? "sessions" : "requests of the last minute",
    by: Object.fromEntries(Object.entries(cluster.backends).map(([id, backend]) => [id, load(id, backend)])),
  };
}

/** Shares of 1 for each backend: what it `has`, and what it `should` (null: nothing by its weight, it takes no one). */
export function shares(cluster, by) {
  const total = Object.values(by).reduce((sum, load) => sum + load, 0);
  const weights = Object.values(cluster.backends).reduce((sum, each) => sum + (takes(each) ? each.weight : 0), 0);
  return Object.fromEntries(Object.entries(cluster.backends).map(([id, backend]) => {
    const should = takes(backend) && weights ? backend.weight / weights : null;
    return [id, { has: total ? by[id] / total : 0, should }];
  }));
}

/** In words: the most that a backend has of what it should; null: it means nothing. `uneven`: worth a look. */
export function spread(cluster, { of, by }) {
  const taking = Object.keys(cluster.backends).filter((id) => takes(cluster.backends[id]));
  const total = taking.reduce((sum, id) => sum + by[id], 0);
  if (taking.length < 2) return null;
  if (total < FEW * taking.length) return { text: "too few to tell", uneven: false, of };
  const weights = taking.reduce((sum, id) => sum + cluster.backends[id].weight, 0);
  const ratio = (id) => by[id] / total / (cluster.backends[id].weight / weights);
  const most = taking.reduce((a, b) => (ratio(b) > ratio(a) ? b : a));
  const times = ratio(most);
  if (times < 1.15) return { text: "even", uneven: false, of, times };
  return { text: `${most} has ${times.toFixed(times < 10 ? 1 : 0)} × its share`, uneven: times >= 1.6, of, times };
}
