// Songs on their way into the bucket: straight there by a presigned POST, a few at a time.

import { Problem, startUpload } from "./api.js";

const AT_ONCE = 3;

/** The uploads of this tab. Fires `change`. An upload: {id, file, options, state, sent, key, error}. */
export class Uploads extends EventTarget {
  constructor() {
    super();
    this.all = [];
    addEventListener("beforeunload", (event) => {
      if (this.all.some(({ state }) => state === "queued" || state === "sending")) event.preventDefault();
    });
  }

  /** Take files in; `options`: {model, stems, format} as POST /v1/uploads takes them, empty ones left out. */
  add(files, options) {
    for (const file of files) {
      const upload = { id: crypto.getRandomValues(new Uint32Array(1))[0], file, options, state: "queued", sent: 0 };
      this.all.push(upload);
      if (!file.size) this.fail(upload, new Problem("the file is empty"));
    }
    this.next();
  }

  retry(upload) {
    Object.assign(upload, { state: "queued", sent: 0, error: null });
    this.next();
  }

  /** Take an upload from the list; one on its way is broken off. */
  remove(upload) {
    this.all = this.all.filter((other) => other !== upload);
    upload.request?.abort();
    this.next();
  }

  /** Forget those whose jobs are known by now. `keys`: Set of object keys. */
  arrived(keys) {
    const left = this.all.filter((upload) => upload.state !== "sent" || !keys.has(upload.key));
    if (left.length === this.all.length) return;
    this.all = left;
    this.changed();
  }

  next() {
    const free = AT_ONCE - this.all.filter(({ state }) => state === "sending").length;
    const waiting = this.all.filter(({ state }) => state === "queued").slice(0, Math.max(0, free));
    waiting.forEach((upload) => this.send(upload));
    this.changed();
  }

  async send(upload) {
    upload.state = "sending";
    const { file, options } = upload;
    try {
      const form = await startUpload({ name: file.name, size: file.size, ...options });
      if (form.max_bytes && file.size > form.max_bytes) {
        throw new Problem("the file is larger than this server takes");
      }
      if (!this.all.includes(upload)) return;
      upload.key = form.key;
      await this.post(upload, form);
      upload.state = "sent";
    } catch (error) {
      if (error.name !== "AbortError") this.fail(upload, error);
    }
    this.next();
  }

  /** Send the file. fetch() would tell nothing of its progress. */
  post(upload, { url, fields }) {
    const body = new FormData();
    Object.entries(fields).forEach(([name, value]) => body.append(name, value));
    body.append("file", upload.file); // what follows the file is not read
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      upload.request = request;
      request.upload.addEventListener("progress", ({ loaded, total }) => {
        upload.sent = loaded / total;
        this.changed();
      });
      request.addEventListener("load", () => {
        if (request.status >= 200 && request.status < 300) resolve();
        else reject(new Problem(storageMessage(request), request.status));
      });
      request.addEventListener("error", () => reject(new Problem("the storage cannot be reached")));
      request.addEventListener("abort", () => reject(new DOMException("broken off", "AbortError")));
      request.open("POST", url);
      request.send(body);
    });
  }

  fail(upload, error) {
    Object.assign(upload, { state: "failed", error: error.message });
    this.changed();
  }

  changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/** Read what MinIO says in XML. */
function storageMessage(request) {
  const text = request.responseText.match(/<Message>([^<]*)<\/Message>/)?.[1];
  return text ? `the storage refuses the file: ${text}` : `the storage answers ${request.status}`;
}
