// FLAC: frames say where they stand in the song, so any part is found by a few looks into the file (RFC 9639).

import { decode } from "./decode.js";

const LOOK = 48 * 1024; // bytes fetched to find a frame: more than two frames of 24 bits
const CLOSE = 2; // seconds: nearer than this, reading on costs less than another look
const MOST_LOOKS = 24;

/** Open a FLAC; see openSource. `size` in bytes. */
export async function openFlac(fetchPart, size, signal) {
  const head = await fetchPart(0, LOOK, signal);
  if (name(head) !== "fLaC") throw new Error("this is no FLAC");
  const info = head.slice(8, 42);
  const view = new DataView(info.buffer);
  const rate = view.getUint32(10) >>> 12;
  const channels = ((info[12] >> 1) & 7) + 1;
  const length = (info[13] & 15) * 2 ** 32 + view.getUint32(14);
  if (!length) throw new Error("it does not say how long it is");
  let audio = 4;
  for (let last = false; !last;) {
    // A picture may be megabytes: only the headers of these blocks are looked at.
    const at = audio + 4 > head.length ? await fetchPart(audio, 4, signal) : head.subarray(audio, audio + 4);
    if (at.length < 4) throw new Error("its audio does not begin where it should");
    last = at[0] >= 0x80;
    audio += 4 + ((at[1] << 16) | (at[2] << 8) | at[3]);
  }
  const file = { info, rate, channels, length, size, block: view.getUint16(0), fetchPart };
  // Frames that are known, by sample; the end counts as one.
  file.known = [
    { sample: 0, at: audio },
    { sample: length, at: size },
  ];
  const part = (start, end, signal) => decodePart(file, start, end, signal);
  return { length, rate, channels, part };
}

async function decodePart(file, start, end, signal) {
  const from = await seek(file, start, signal);
  const wanted = Math.min(end, file.length);
  let bytes = new Uint8Array(0);
  let reached = { sample: from.sample, at: 0 };
  while (reached.sample < wanted) {
    const begin = from.at + bytes.length;
    if (begin >= file.size) break;
    const guess = ((wanted - reached.sample) * (file.size - file.known[0].at)) / file.length;
    const more = await file.fetchPart(begin, Math.ceil(guess * 1.1) + LOOK, signal);
    bytes = joined(bytes, more);
    const isWhole = from.at + bytes.length >= file.size;
    reached = walk(file, bytes, reached, wanted);
    if (reached.sample < wanted && isWhole) reached = { sample: file.length, at: bytes.length };
  }
  remember(file, { sample: reached.sample, at: from.at + reached.at });
  const decoded = await decode(asFile(file, bytes.subarray(0, reached.at)), file.channels, file.rate);
  return { buffer: decoded, offset: start - from.sample };
}

/** Go from frame to frame until one begins at `wanted` or later; return the last one found. */
function walk(file, bytes, reached, wanted) {
  for (let at = reached.at + 1; at + 16 < bytes.length && reached.sample < wanted; at++) {
    const sample = frameAt(file, bytes, at);
    // The samples of a frame may look like a header; then they do not continue the song.
    if (sample !== null && sample > reached.sample && sample - reached.sample <= file.block) {
      reached = { sample, at };
      at += 8;
    }
  }
  return reached;
}

/** Return a frame that begins at `sample` or less than some seconds before. */
async function seek(file, sample, signal) {
  for (let looks = 0; looks < MOST_LOOKS; looks++) {
    const after = file.known.findIndex((frame) => frame.sample > sample);
    const low = file.known[after - 1];
    const high = file.known[after];
    if (sample - low.sample < CLOSE * file.rate || high.at - low.at < 2 * LOOK) return low;
    const share = (sample - low.sample) / (high.sample - low.sample);
    const guess = low.at + share * (high.at - low.at) - LOOK / 2;
    const at = Math.round(Math.min(Math.max(guess, low.at + 1), high.at - LOOK));
    const bytes = await file.fetchPart(at, LOOK, signal);
    const found = firstFrame(file, bytes, low.sample, high.sample);
    if (!found) return low;
    remember(file, { sample: found.sample, at: at + found.at });
  }
  return file.known.findLast((frame) => frame.sample <= sample);
}

function firstFrame(file, bytes, low, high) {
  for (let at = 0; at + 16 < bytes.length; at++) {
    const sample = frameAt(file, bytes, at);
    if (sample !== null && sample > low && sample < high) return { sample, at };
  }
  return null;
}

function remember(file, frame) {
  const after = file.known.findIndex((known) => known.sample >= frame.sample);
  if (after > 0 && file.known[after].sample !== frame.sample) file.known.splice(after, 0, frame);
}

/** Return the number of the first sample of the frame that begins here, or null. */
function frameAt(file, bytes, at) {
  if (bytes[at] !== 0xff || (bytes[at + 1] & 0xfe) !== 0xf8) return null;
  const blockCode = bytes[at + 2] >> 4;
  const rateCode = bytes[at + 2] & 15;
  if (!blockCode || rateCode === 15 || bytes[at + 3] >> 4 > 10 || bytes[at + 3] & 1) return null;
  let end = at + 4;
  const lead = Math.clz32(~(bytes[end] << 24)); // as in UTF-8: how many bytes the number has
  if (lead === 1 || lead > 7) return null;
  let number = lead ? bytes[end] & (0x7f >> lead) : bytes[end];
  end += 1;
  for (let i = 1; i < lead; i++, end++) {
    if (bytes[end] >> 6 !== 2) return null;
    number = number * 64 + (bytes[end] & 63);
  }
  if (blockCode === 6) end += 1;
  if (blockCode === 7) end += 2;
  if (rateCode === 12) end += 1;
  if (rateCode === 13 || rateCode === 14) end += 2;
  if (crc8(bytes, at, end) !== bytes[end]) return null;
  return bytes[at + 1] & 1 ? number : number * file.block;
}

function crc8(bytes, from, to) {
  let crc = 0;
  for (let at = from; at < to; at++) {
    crc ^= bytes[at];
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x80 ? ((crc << 1) ^ 0x07) & 0xff : crc << 1;
  }
  return crc;
}

/** Make a file of some frames: the stream's description with the length left open, and the frames. */
function asFile(file, frames) {
  const made = new Uint8Array(42 + frames.length);
  made.set([0x66, 0x4c, 0x61, 0x43, 0x80, 0, 0, 34]);
  made.set(file.info, 8);
  made[21] &= 0xf0; // the number of samples: unknown
  made.fill(0, 22, 42); // … and their checksum
  made.set(frames, 42);
  return made;
}

function joined(first, second) {
  const made = new Uint8Array(first.length + second.length);
  made.set(first);
  made.set(second, first.length);
  return made;
}

function name(bytes) {
  return String.fromCharCode(...bytes.subarray(0, 4));
}
