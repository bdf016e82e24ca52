// What is new, once a second: server-sent events, or asking again and again where there are none.
//
// The events are read with fetch rather than EventSource, which cannot send a token. Nothing is asked while nobody
// looks: a page that has been hidden for a minute lets go of its stream, and takes it up again when it is seen.

import { ask, check, fields } from "./ask.js";

const SILENCE = 15000; // ms without a word after which a stream is dead
const HIDDEN = 60000;
const PAUSE = 2000;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Feed {
  /** `tell(kind, value)`: "snapshot", "figures", "log"; "state" with "live", "polling", "lost", "locked". */
  constructor(tell) {
    this.tell = tell;
    this.stop = null;
    this.seen = Promise.resolve();
    document.addEventListener("visibilitychange", () => this.look());
  }

  /** A stream that waits for a token, or that another token would open wider, begins anew. */
  again() {
    this.unlock?.();
    this.stop?.abort();
  }

  look() {
    clearTimeout(this.hiding);
    if (document.hidden) {
      this.hiding = setTimeout(() => {
        this.seen = new Promise((resolve) => { this.back = resolve; });
        this.stop?.abort();
      }, HIDDEN);
    } else this.back?.();
  }

  async run() {
    for (;;) {
      await this.seen;
      try {
        await this.stream();
      } catch (problem) {
        if (problem.status === 401 || problem.status === 403) {
          this.tell("state", "locked", problem.message);
          await new Promise((resolve) => { this.unlock = resolve; });
          continue;
        }
        if (problem.status) await this.poll(30);
      }
      if (document.hidden) continue;
      this.tell("state", "lost");
      await pause(PAUSE);
    }
  }

  async stream() {
    this.stop = new AbortController();
    const answer = await fetch("/api/events", { headers: fields(), cache: "no-store", signal: this.stop.signal });
    await check(answer);
    this.tell("state", "live");
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ; ) {
      const dead = setTimeout(() => this.stop.abort(), SILENCE);
      const { value, done } = await reader.read().finally(() => clearTimeout(dead));
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) this.hear(part);
    }
  }

  hear(text) {
    let kind = "", data = "";
    for (const line of text.split("\n")) {
      if (line.startsWith("event: ")) kind = line.slice(7);
      else if (line.startsWith("data: ")) data += line.slice(6);
    }
    if (data) this.tell(kind, JSON.parse(data));
  }

  /** So many times, where no stream is to be had. */
  async poll(times) {
    for (let count = 0; count < times && !document.hidden; count++) {
      this.tell("snapshot", await ask("GET", "/api/snapshot"));
      this.tell("figures", await ask("GET", "/api/figures"));
      this.tell("state", "polling");
      await pause(1000);
    }
  }
}
