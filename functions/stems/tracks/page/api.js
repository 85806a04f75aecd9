// The REST function, as the page talks to it. All addresses are relative to this server.

import { signIn } from "./session.js";

const TRIES = 5;
const FIRST_WAIT_MS = 500; // doubles each time

/** What went wrong, in words for people. `status`: of the answer; 0 where none came. */
export class Problem extends Error {
  constructor(message, status = 0) {
    super(message);
    this.name = "Problem";
    this.status = status;
  }
}

/** Read the RFC 9457 problem of an answer. */
export async function problemOf(answer) {
  const body = await answer.json().catch(() => null);
  return new Problem(body?.detail || `the server answers ${answer.status}`, answer.status);
}

/** Do what only reads, again after a while where the server is busy or cannot be reached. */
export async function patiently(work) {
  for (let tried = 1; ; tried++) {
    try {
      return await work();
    } catch (error) {
      const mayPass = error instanceof Problem && [0, 429, 502, 503, 504].includes(error.status);
      if (!mayPass || tried === TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, FIRST_WAIT_MS * 2 ** (tried - 1)));
    }
  }
}

async function ask(method, path, { body, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal, cache: "no-cache" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("the server cannot be reached");
  }
  if (answer.status === 401 && (await signIn())) return ask(method, path, { body, signal });
  if (!answer.ok) throw await problemOf(answer);
  return answer.status === 204 ? null : answer.json();
}

export const getTracks = ({ q, limit = 50, signal }) => {
  const query = new URLSearchParams({ limit, ...(q && { q }) });
  return ask("GET", `/v1/tracks?${query}`, { signal });
};
export const getPage = (next) => ask("GET", next);
export const getTrack = (songhash, signal) => ask("GET", `/v1/tracks/${songhash}`, { signal });
export const removeTrack = (songhash, upload) => ask("DELETE", `/v1/tracks/${songhash}${upload ? "?upload=1" : ""}`);
export const rerunTrack = (songhash, options) => ask("POST", `/v1/tracks/${songhash}/rerun`, { body: options });
export const getQueue = () => ask("GET", "/v1/queue");
export const cancelJob = (id) => ask("DELETE", `/v1/jobs/${id}`);
export const retryJob = (id) => ask("POST", `/v1/jobs/${id}/retry`);
export const getModels = () => ask("GET", "/v1/models");
export const startUpload = (body) => ask("POST", "/v1/uploads", { body });
export const getJson = (path, signal) => ask("GET", path, { signal });
