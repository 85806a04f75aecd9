// A stem as a source of samples: any part of it is fetched by Range and decoded by itself, exact to the sample.
//
// A song of an hour is 5 GB of samples. So nothing is ever decoded whole: the player and the renderer ask for
// windows of some seconds. `decodeAudioData` decodes them, since it needs neither HTTPS (as WebCodecs and
// AudioWorklet do) nor code of ours, and runs off the main thread.

import { patiently, Problem, problemOf } from "../api.js";
import { cut } from "./decode.js";
import { openFlac } from "./flac.js";
import { openMp3 } from "./mp3.js";
import { openWav } from "./wav.js";

const OPENERS = { mp3: openMp3, flac: openFlac, wav: openWav };

/** Formats from the one with the fewest bytes to fetch. */
export const PREFERRED = ["mp3", "flac", "wav"];

/**
 * Open a stem ({stem, format, url, size, etag} of the track).
 *
 * Returns {length, rate, channels, part, read}: samples, Hz; `part(start, end, signal)` resolves to {buffer, offset}: an
 * AudioBuffer in which sample `start` stands at `offset`; `read(start, end, signal)` to one Float32Array of end - start
 * samples per channel. Rejects with Problem.
 */
export async function openSource(stem, signal) {
  const open = OPENERS[stem.format];
  if (!open) throw new Problem(`${stem.stem}.${stem.format}: this page cannot play the format ${stem.format}`, 415);
  const fetchPart = (offset, length, signal) => patiently(() => fetchRange(stem, offset, length, signal));
  const fail = (error) => {
    throw named(error, stem);
  };
  const source = await open(fetchPart, stem.size, signal).catch(fail);
  const part = (start, end, signal) => source.part(start, end, signal).catch(fail);
  const read = async (start, end, signal) => {
    const { buffer, offset } = await part(start, end, signal);
    return cut(buffer, source.channels, offset, offset + end - start);
  };
  return { ...source, part, read };
}

/** Fetch `length` bytes of a stem from `offset` (fewer at its end) as a Uint8Array. */
async function fetchRange(stem, offset, length, signal) {
  const last = Math.min(offset + length, stem.size) - 1;
  // If-Match: a stem that was separated anew meanwhile must not be joined to parts of the old one.
  const headers = { Range: `bytes=${offset}-${last}`, "If-Match": `"${stem.etag}"` };
  const answer = await fetch(stem.url, { headers, signal }).catch(asProblem);
  if (answer.status === 412) throw new Problem("the song was separated anew meanwhile: load the page again", 412);
  if (!answer.ok) throw await problemOf(answer);
  const bytes = new Uint8Array(await answer.arrayBuffer().catch(asProblem));
  return answer.status === 206 ? bytes : bytes.subarray(offset, last + 1);
}

function asProblem(error) {
  throw error.name === "AbortError" ? error : new Problem("the server cannot be reached");
}

function named(error, stem) {
  if (error.name === "AbortError" || error instanceof Problem) return error;
  return new Problem(`${stem.stem}.${stem.format}: ${error.message}`, 422);
}
