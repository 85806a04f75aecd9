// The songs under way: on their way up, waiting, being separated, failed.

import { cancelJob, retryJob } from "./api.js";
import { arrange, el, icon, iconButton, setAttribute, setText, showProblem } from "./dom.js";
import { secondsLeft } from "./live.js";
import { about, size, songName } from "./words.js";

const SHOWN_WAITING = 20;

/** The list. `element` hides itself while there is nothing to show. */
export class Queue {
  constructor(live, uploads) {
    Object.assign(this, { live, uploads });
    this.rows = new Map();
    this.count = el("span", { class: "count" });
    this.list = el("ul", { class: "rows" });
    this.more = el("p", { class: "muted", hidden: true });
    this.element = el(
      "section",
      { class: "queue", "aria-labelledby": "queue-title", hidden: true },
      el("h2", { id: "queue-title" }, "In progress ", this.count),
      this.list,
      this.more,
    );
    live.addEventListener("jobs", () => this.show());
    live.addEventListener("ended", ({ detail }) => uploads.arrived(new Set([detail.key])));
    uploads.addEventListener("change", () => this.show());
    setInterval(() => !document.hidden && this.show(), 1000); // time left goes on without news
  }

  show() {
    const jobs = [...this.live.jobs.values()];
    this.uploads.arrived(new Set(jobs.map(({ key }) => key)));
    const running = jobs.filter((job) => kind(job) === "running");
    const waiting = jobs.filter((job) => kind(job) === "waiting");
    waiting.sort((a, b) => (a.position ?? Infinity) - (b.position ?? Infinity) || compare(a.uploaded, b.uploaded));
    const failed = jobs.filter((job) => kind(job) === "failed");
    const shown = waiting.slice(0, SHOWN_WAITING);
    const wanted = [
      ...this.uploads.all.map((upload) => this.row(`upload ${upload.id}`, () => new UploadRow(this.uploads), upload)),
      ...[...running, ...shown, ...failed].map((job) => this.row(job.id, () => new JobRow(this.live), job)),
    ];
    arrange(
      this.list,
      wanted.map(({ element }) => element),
    );
    for (const [id, row] of this.rows) if (!wanted.includes(row)) this.rows.delete(id);
    const hidden = Math.max(this.live.counts?.waiting ?? 0, waiting.length) - shown.length;
    this.more.hidden = hidden <= 0;
    setText(this.more, `… and ${hidden} more waiting`);
    setText(this.count, String(wanted.length + Math.max(0, hidden)));
    this.element.hidden = !wanted.length;
  }

  row(id, make, value) {
    if (!this.rows.has(id)) this.rows.set(id, make());
    const row = this.rows.get(id);
    row.update(value);
    return row;
  }
}

function kind(job) {
  return job.state === "waiting" || job.state === "failed" ? job.state : "running";
}

function compare(a, b) {
  return (a ?? "") < (b ?? "") ? -1 : 1;
}

/** What uploads and jobs have in common: icon, name, a line on how it stands, progress, buttons. */
class Row {
  constructor() {
    this.icon = el("span", { class: "row-icon" });
    this.name = el("span", { class: "row-name" });
    this.status = el("span", { class: "row-status" });
    this.bar = el("progress", { max: 1, hidden: true });
    this.buttons = el("span", { class: "row-buttons" });
    this.element = el(
      "li",
      { class: "row" },
      this.icon,
      el("span", { class: "row-text" }, this.name, this.status, this.bar),
      this.buttons,
    );
  }

  /** `progress`: 0 to 1, undefined for a bar that only moves, null for none. `buttons`: names of them. */
  show({ state, symbol, name, status, progress, buttons }) {
    setAttribute(this.element, "data-state", state);
    setText(this.name, name);
    setAttribute(this.name, "title", name);
    setText(this.status, status);
    if (this.symbol !== symbol) this.icon.replaceChildren(icon((this.symbol = symbol)));
    this.bar.hidden = progress === null;
    setAttribute(this.bar, "aria-label", `Progress of ${name}`);
    if (progress === undefined) this.bar.removeAttribute("value");
    else if (progress !== null) this.bar.value = progress;
    arrange(this.buttons, buttons);
  }
}

class UploadRow extends Row {
  constructor(uploads) {
    super();
    this.cancel = iconButton("close", "", () => uploads.remove(this.upload));
    this.retry = el("button", {
      type: "button",
      class: "button small",
      text: "Retry",
      onclick: () => uploads.retry(this.upload),
    });
  }

  update(upload) {
    this.upload = upload;
    const { state, file, sent, error } = upload;
    const label = `${state === "failed" ? "Dismiss" : "Cancel"} ${file.name}`;
    setAttribute(this.cancel, "aria-label", label);
    setAttribute(this.cancel, "title", label);
    setAttribute(this.retry, "aria-label", `Retry ${file.name}`);
    const status = {
      queued: "Waiting to upload",
      sending: `Uploading · ${Math.floor(100 * sent)} % of ${size(file.size)}`,
      sent: "Uploaded · waiting for the server to see it",
      failed: `Upload failed: ${error}`,
    }[state];
    this.show({
      state,
      symbol: state === "failed" ? "alert" : "upload",
      name: file.name,
      status,
      progress: { queued: 0, sending: sent, sent: undefined, failed: null }[state],
      buttons: { queued: [this.cancel], sending: [this.cancel], sent: [], failed: [this.retry, this.cancel] }[state],
    });
  }
}

class JobRow extends Row {
  constructor(live) {
    super();
    const act =
      (action) =>
      async ({ currentTarget }) => {
        currentTarget.disabled = true;
        await action(this.job.id).then((job) => live.onJob(job), showProblem);
        currentTarget.disabled = false;
      };
    const needs = { "data-needs": "write" };
    this.cancel = iconButton("close", "", act(cancelJob), needs); // one that failed is forgotten
    this.retry = el("button", { type: "button", class: "button small", text: "Retry", onclick: act(retryJob), ...needs });
  }

  update(job) {
    this.job = job;
    const state = kind(job);
    const label = `${state === "failed" ? "Dismiss" : "Cancel"} ${job.name}`;
    setAttribute(this.cancel, "aria-label", label);
    setAttribute(this.cancel, "title", label);
    setAttribute(this.retry, "aria-label", `Retry ${job.name}`);
    this.show({
      state,
      symbol: { waiting: "clock", running: "wave", failed: "alert" }[state],
      name: songName(job.name),
      status: this.words(state, job),
      progress: { waiting: null, running: job.progress || undefined, failed: null }[state],
      buttons: state === "failed" ? [this.retry, this.cancel] : [this.cancel],
    });
  }

  words(state, job) {
    if (state === "failed") return `Failed: ${job.error ?? "no reason is known"}`;
    const left = state === "running" || typeof job.estimate_s === "number" ? secondsLeft(job) : null;
    const rest = left === null ? "" : ` · ${about(left)}`;
    if (state === "running") return `Separating · ${Math.floor(100 * job.progress)} %${rest}`;
    const place = job.position ? `Waiting · number ${job.position} in line` : "Waiting";
    const again = job.error ? ` · tried ${job.attempts}×: ${job.error}` : "";
    return place + rest + again;
  }
}
