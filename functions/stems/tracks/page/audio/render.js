// Renders the current mix as a WAV, window by window: the browser moves what is done out of the tab's memory.

import { WINDOW, readPadded } from "./player.js";

const CHANNELS = 2;
const BYTES = 3; // 24 bits, as the stems have
const FULL = 0x7fffff;
const MOST_BYTES = 0xffffffff - 44; // what the header of a WAV can say

/**
 * Mix the stems of `sources` (Map of stem to source) with `gains` (Map of stem to gain), from sample `start` to `end`.
 *
 * `progress` is told the share that is done, from 0 to 1. Resolves to {blob, clipped}: the WAV, and how many samples
 * were too loud for it. Rejects with AbortError when `signal` says so.
 */
export async function render(sources, gains, start, end, { signal, progress }) {
  const rate = sources.values().next().value.rate;
  const size = (end - start) * CHANNELS * BYTES;
  if (size > MOST_BYTES) throw new Error("the mix is too long for a WAV: choose a region");
  let blob = new Blob([header(rate, size)]);
  let clipped = 0;
  const heard = [...sources].filter(([stem]) => gains.get(stem) > 0);
  for (let at = start; at < end; at += WINDOW) {
    const until = Math.min(at + WINDOW, end);
    const mixed = Array.from({ length: CHANNELS }, () => new Float32Array(until - at));
    const add = async ([stem, source]) => addTo(mixed, await readPadded(source, at, until, signal), gains.get(stem));
    await Promise.all(heard.map(add));
    signal.throwIfAborted();
    const packed = pack(mixed);
    clipped += packed.clipped;
    blob = new Blob([blob, packed.bytes], { type: "audio/wav" });
    progress((until - start) / (end - start));
  }
  return { blob, clipped };
}

function addTo(mixed, channels, gain) {
  mixed.forEach((sum, channel) => {
    const samples = channels[Math.min(channel, channels.length - 1)];
    for (let i = 0; i < sum.length; i++) sum[i] += gain * samples[i];
  });
}

function pack(channels) {
  const bytes = new Uint8Array(channels[0].length * channels.length * BYTES);
  let clipped = 0;
  for (let i = 0, at = 0; i < channels[0].length; i++) {
    for (const samples of channels) {
      let value = Math.round(samples[i] * (FULL + 1));
      if (value > FULL || value < -FULL - 1) {
        value = value > 0 ? FULL : -FULL - 1;
        clipped += 1;
      }
      bytes[at++] = value;
      bytes[at++] = value >> 8;
      bytes[at++] = value >> 16;
    }
  }
  return { bytes, clipped };
}

function header(rate, size) {
  const view = new DataView(new ArrayBuffer(44));
  const text = (at, word) => [...word].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + size + (size & 1), true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, CHANNELS, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * CHANNELS * BYTES, true);
  view.setUint16(32, CHANNELS * BYTES, true);
  view.setUint16(34, 8 * BYTES, true);
  text(36, "data");
  view.setUint32(40, size, true);
  return view.buffer;
}
