// What happens on the server, as it happens: by Server-Sent Events, and by asking where that stream breaks.

import { getQueue } from "./api.js";

const POLL_MS = 3000;
const REOPEN_MS = 15000;
const ENDED = new Set(["done", "gone", "dropped", "cancelled"]);

/**
 * The jobs, and news of tracks. Fires `jobs` (something changed in `jobs`, a Map of id to job), `track` and
 * `removed` (detail: the event's data), `ended` (detail: the job), `tracks` (they may have changed: look again),
 * `state` (`state`: live, polling, away).
 */
export class Live extends EventTarget {
  constructor() {
    super();
    this.jobs = new Map();
    this.state = "connecting";
    this.known = false;
    document.addEventListener("visibilitychange", () => {
      // Browsers allow six connections to a server, for all tabs together: a hidden one gives its own back.
      if (document.hidden) this.close();
      else this.open();
    });
    addEventListener("online", () => this.open());
    if (!document.hidden) this.open();
  }

  open() {
    this.close();
    this.refresh();
    const stream = new EventSource("/v1/events");
    this.stream = stream;
    stream.addEventListener("open", () => {
      clearInterval(this.polling);
      this.polling = null;
      this.refresh(); // what happened while nobody listened
      this.setState("live");
    });
    stream.addEventListener("job", (event) => this.onJob(JSON.parse(event.data)));
    stream.addEventListener("track", (event) => this.emit("track", JSON.parse(event.data)));
    stream.addEventListener("removed", (event) => this.emit("removed", JSON.parse(event.data)));
    stream.addEventListener("reset", () => {
      this.refresh();
      this.emit("tracks");
    });
    stream.addEventListener("error", () => {
      if (stream !== this.stream) return;
      this.poll();
      // The browser tries again by itself, unless the server answered with something that is no stream.
      if (stream.readyState === EventSource.CLOSED) this.reopening = setTimeout(() => this.open(), REOPEN_MS);
    });
  }

  close() {
    this.stream?.close();
    clearInterval(this.polling);
    clearTimeout(this.reopening);
    this.polling = null;
  }

  poll() {
    if (this.polling) return;
    this.setState("polling");
    this.polling = setInterval(() => this.refresh(), POLL_MS);
  }

  /** Ask for the whole queue. */
  async refresh() {
    const asked = Date.now();
    try {
      const { waiting, running, failed } = await getQueue();
      const jobs = [...running.jobs, ...waiting.jobs, ...failed.jobs];
      const before = new Map(this.jobs);
      this.counts = { waiting: waiting.count, running: running.count, failed: failed.count };
      this.jobs = new Map(jobs.map((job) => [job.id, this.stamped(job, before.get(job.id), asked)]));
      // What an event has told meanwhile is newer than this answer.
      for (const [id, job] of before) if (job.heard > asked) this.jobs.set(id, job);
      this.known = true;
      this.emit("jobs");
      if (this.state === "away") this.setState(this.polling ? "polling" : "live");
      if ([...before.keys()].some((id) => !this.jobs.has(id)) || this.polling) this.emit("tracks");
    } catch (error) {
      this.reason = error.message;
      this.poll();
      this.setState("away");
    }
  }

  onJob(job) {
    if (ENDED.has(job.state)) {
      this.jobs.delete(job.id);
      this.emit("ended", job);
    } else {
      this.jobs.set(job.id, this.stamped(job, this.jobs.get(job.id), Date.now()));
    }
    this.emit("jobs");
  }

  /** Note when a job was heard of, and when and where its progress was first seen. */
  stamped(job, before, heard) {
    const isSame = before?.since && before.state === job.state && before.since.progress <= job.progress;
    return { ...job, heard, since: isSame ? before.since : { progress: job.progress, time: heard } };
  }

  setState(state) {
    if (this.state === state) return;
    this.state = state;
    this.emit("state");
  }

  emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** Return the seconds until a job is done, or null: as the server says, else by how fast it went so far. */
export function secondsLeft(job, now = Date.now()) {
  if (typeof job.estimate_s === "number") return Math.max(0, job.estimate_s - (now - job.heard) / 1000);
  const gained = job.progress - job.since.progress;
  if (gained < 0.02) return null;
  const taken = (job.heard - job.since.time) / 1000;
  return Math.max(0, (taken / gained) * (1 - job.progress) - (now - job.heard) / 1000);
}
