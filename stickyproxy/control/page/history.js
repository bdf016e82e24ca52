// The last fifteen minutes, from figures that only ever count up: rates and percentiles, by cluster and of all ("").

export const KEPT = 900; // points, one a second
const WINDOW = 10; // points that a percentile is made of
const MINUTE = 60;
const COLUMNS = ["rate", "errors", "p50", "p90", "p99", "websockets"];

/** The value below which the share `q` lies, as PromQL's histogram_quantile has it; null: there was nothing. */
export function quantile(counts, bounds, q) {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (!(total > 0)) return null;
  let below = 0;
  for (let place = 0; place < bounds.length; place++) {
    if (below + counts[place] >= total * q) {
      const from = place ? bounds[place - 1] : 0;
      return from + (bounds[place] - from) * ((total * q - below) / counts[place]);
    }
    below += counts[place];
  }
  return bounds[bounds.length - 1];
}

const websockets = (cluster) => Object.values(cluster.backends).reduce((sum, backend) => sum + backend.websockets, 0);

export class History {
  constructor() {
    this.times = [];
    this.columns = new Map();
    this.recent = new Map(); // how often each bucket was hit, point by point
    this.served = new Map(); // requests of each backend, counted up
    this.last = null;
  }

  /** The figures of the moment `time`, in seconds. */
  add(figures, time) {
    const before = this.last;
    this.last = { figures, time };
    const step = before ? time - before.time : 0;
    if (before && step <= 0) return;
    if (step > 10) this.point(time - step / 2, figures, null, step); // a gap
    this.point(time, figures, before?.figures ?? null, step);
    this.count(figures);
  }

  point(time, figures, before, step) {
    this.times.push(time);
    const sums = { rate: null, errors: null, websockets: 0 };
    const all = figures.bounds.map(() => 0).concat(0);
    for (const [name, cluster] of Object.entries(figures.clusters)) {
      const old = before?.clusters[name];
      const hits = old ? cluster.seconds.map((count, place) => count - (old.seconds[place] ?? 0)) : null;
      const known = hits !== null && hits.every((count) => count >= 0);
      const row = { rate: null, errors: null, websockets: websockets(cluster) };
      if (known) {
        row.rate = (cluster.requests - old.requests) / step;
        row.errors = (cluster.errors - old.errors) / step;
        sums.rate += row.rate;
        sums.errors += row.errors;
        hits.forEach((count, place) => { all[place] += count; });
      }
      sums.websockets += row.websockets;
      this.push(name, row, known ? hits : null, figures.bounds);
    }
    this.push("", sums, all, figures.bounds);
    for (const [name, columns] of this.columns) {
      if (columns.rate.length < this.times.length) COLUMNS.forEach((column) => columns[column].push(null)); // it is gone
    }
    if (this.times.length > KEPT) {
      this.times.shift();
      for (const columns of this.columns.values()) COLUMNS.forEach((column) => columns[column].shift());
    }
  }

  push(name, row, hits, bounds) {
    let columns = this.columns.get(name);
    if (!columns) {
      columns = Object.fromEntries(COLUMNS.map((column) => [column, this.times.slice(1).map(() => null)]));
      this.columns.set(name, columns);
      this.recent.set(name, []);
    }
    const recent = this.recent.get(name);
    recent.push(hits);
    if (recent.length > WINDOW) recent.shift();
    const sum = bounds.map(() => 0).concat(0);
    for (const each of recent) each?.forEach((count, place) => { sum[place] += count; });
    for (const q of [50, 90, 99]) row[`p${q}`] = quantile(sum, bounds, q / 100);
    for (const column of COLUMNS) columns[column].push(row[column]);
  }

  count(figures) {
    for (const [cluster, { backends }] of Object.entries(figures.clusters)) {
      for (const [id, { requests, relays_opened: relays }] of Object.entries(backends)) {
        const key = `${cluster}/${id}`;
        const counts = this.served.get(key) ?? [];
        if (counts.length && requests + relays < counts[counts.length - 1]) counts.length = 0; // it began anew
        counts.push(requests + relays);
        if (counts.length > MINUTE) counts.shift();
        this.served.set(key, counts);
      }
    }
  }

  /** Columns of a cluster, or of all. */
  of(name) {
    return this.columns.get(name) ?? Object.fromEntries(COLUMNS.map((column) => [column, this.times.map(() => null)]));
  }

  /** The newest of a column. */
  now(name, column) {
    const values = this.of(name)[column];
    return values.length ? values[values.length - 1] : null;
  }

  /** Requests and TCP connections that a backend got in the last minute, or since we look. */
  minute(cluster, backend) {
    const counts = this.served.get(`${cluster}/${backend}`) ?? [];
    return counts.length > 1 ? counts[counts.length - 1] - counts[0] : 0;
  }

  /** Those in a second, over the last five. */
  rate(cluster, backend) {
    const counts = (this.served.get(`${cluster}/${backend}`) ?? []).slice(-6);
    return counts.length > 1 ? (counts[counts.length - 1] - counts[0]) / (counts.length - 1) : null;
  }
}
