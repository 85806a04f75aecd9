// Waveforms of a song that has no peaks.json: it is decoded once from end to end, a window at a time, none kept.

import { WINDOW, readPadded } from "./audio/player.js";

const LONGEST_S = 15 * 60; // of longer songs, what is played is shown: they would be 40 kB a second and stem
const PAUSE_MS = 30;

/** Decode all windows of `sources` (Map of stem to source) and tell each to `found(start, samples)`; see Peaks.add. */
export async function scan(sources, length, found, signal) {
  const { rate } = sources.values().next().value;
  if (length > LONGEST_S * rate) return;
  for (let start = 0; start < length; start += WINDOW) {
    const end = Math.min(start + WINDOW, length);
    const samples = new Map();
    // One after the other: what is played comes first.
    for (const [stem, source] of sources) samples.set(stem, await readPadded(source, start, end, signal));
    found(start, samples);
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}
