// MP3 as `separate` encodes it: any run of frames is decoded by itself, found by arithmetic where the bit rate is
// constant, and by walking to it where it is not.
//
// A frame needs its predecessors: the bit reservoir reaches back 511 bytes, the overlap of the transform one frame,
// the filter bank another half. So some frames more are decoded in front and thrown away.

import { decode } from "./decode.js";
import { FrameIndex } from "./frames.js";

const BIT_RATES_KBIT = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
const RATES_HZ = [44100, 48000, 32000];
const FRAME = 1152; // samples
const DECODER_DELAY = 529; // samples by which every decoder is late (LAME's technical FAQ)
const RESERVOIR = 511; // bytes
const OVERHEAD = 38; // bytes of a frame that are not audio: header, checksum, side information
const LEAST_FRAME = 96; // bytes: 32 kbit/s at 48 kHz
const SLACK = 4; // bytes by which padding may move a frame

/** Open an MP3; see openSource. `size` in bytes. */
export async function openMp3(fetchPart, size, signal) {
  let head = await fetchPart(0, 4096, signal);
  let at = id3Size(head);
  if (at + 1024 > head.length) {
    head = await fetchPart(at, 4096, signal);
  } else {
    head = head.subarray(at);
  }
  const first = header(head, 0);
  if (!first) throw new Error("no MPEG-1 layer III frame where the audio should begin");
  const tag = infoTag(head, first);
  const file = { base: at + first.bytes, size, ...first, ...tag, average: (144 * first.bitRate) / first.rate };
  const least = tag.isConstant ? file.average : LEAST_FRAME;
  file.warmUp = 2 + Math.ceil(RESERVOIR / (least - OVERHEAD));
  const index = new FrameIndex(fetchPart, header, file);
  file.span = tag.isConstant
    ? (first, count) => constantSpan(file, first, count)
    : (first, count, signal) => index.span(first, count, signal);
  const part = (start, end, signal) => decodePart(file, fetchPart, start, end, signal);
  return { length: tag.length, rate: first.rate, channels: first.channels, part };
}

async function decodePart(file, fetchPart, start, end, signal) {
  const skip = file.delay + DECODER_DELAY;
  const wanted = Math.max(0, Math.floor((start + skip) / FRAME) - file.warmUp);
  const span = await file.span(wanted, Math.min(file.frames, Math.ceil((end + skip) / FRAME)) - wanted, signal);
  const { first, count, from, to } = span;
  const bytes = await fetchPart(from, to - from, signal);
  const begin = file.isConstant ? sync(bytes, file) : 0;
  const expected = file.base + first * file.average;
  if (begin === null || (file.isConstant && Math.abs(from + begin - expected) > SLACK)) {
    throw new Error("its bit rate is not constant, as it says");
  }
  let finish = begin;
  for (let frame = 0; frame < count; frame++) {
    const found = header(bytes, finish);
    if (!found || finish + found.bytes > bytes.length) throw new Error(`frame ${first + frame} is missing`);
    finish += found.bytes;
  }
  const decoded = await decode(bytes.slice(begin, finish), file.channels, file.rate);
  // What a decoder leaves out is at the front, where a frame's reservoir is missing: those are thrown away anyway.
  const lost = count * FRAME - decoded.length;
  const offset = start + skip - first * FRAME - lost;
  if (lost < 0 || offset < 0) throw new Error(`this browser decodes ${decoded.length} samples of ${count} frames`);
  return { buffer: decoded, offset };
}

/** Say between which bytes some frames of a constant bit rate lie; padding moves them by less than SLACK. */
function constantSpan({ base, average }, first, count) {
  const from = Math.max(base, Math.floor(base + first * average) - SLACK);
  return { first, count, from, to: Math.ceil(base + (first + count) * average) + SLACK };
}

/** Find the first frame near the beginning of `bytes`: one that another one of the same kind follows. */
function sync(bytes, file) {
  for (let at = 0; at <= 3 * SLACK; at++) {
    const found = header(bytes, at);
    if (!found || found.bitRate !== file.bitRate || found.rate !== file.rate) continue;
    if (at + found.bytes >= bytes.length || header(bytes, at + found.bytes)) return at;
  }
  return null;
}

/** Read a frame's header, or return null where there is none of MPEG-1 layer III. */
function header(bytes, at) {
  if (bytes[at] !== 0xff || (bytes[at + 1] & 0xfe) !== 0xfa) return null;
  const bitRate = BIT_RATES_KBIT[bytes[at + 2] >> 4] * 1000;
  const rate = RATES_HZ[(bytes[at + 2] >> 2) & 3];
  if (!bitRate || !rate) return null;
  const padding = (bytes[at + 2] >> 1) & 1;
  const channels = bytes[at + 3] >> 6 === 3 ? 1 : 2;
  return { bitRate, rate, channels, bytes: Math.floor((144 * bitRate) / rate) + padding };
}

/** Read the LAME tag in the first frame: how many frames follow, and what the encoder put around the song. */
function infoTag(head, first) {
  const at = 4 + (first.channels === 1 ? 17 : 32);
  const view = new DataView(head.buffer, head.byteOffset);
  const name = String.fromCharCode(...head.subarray(at, at + 4));
  // `Info` stands for a constant bit rate, `Xing` for any other; 15: all four fields of the old tag are there.
  if (!["Info", "Xing"].includes(name) || view.getUint32(at + 4) !== 15) throw new Error("it has no LAME tag");
  const frames = view.getUint32(at + 8);
  const lame = at + 120;
  const delay = (head[lame + 21] << 4) | (head[lame + 22] >> 4);
  const padding = ((head[lame + 22] & 15) << 8) | head[lame + 23];
  return { isConstant: name === "Info", frames, delay, length: frames * FRAME - delay - padding };
}

function id3Size(head) {
  if (String.fromCharCode(...head.subarray(0, 3)) !== "ID3") return 0;
  return 10 + ((head[6] << 21) | (head[7] << 14) | (head[8] << 7) | head[9]);
}
