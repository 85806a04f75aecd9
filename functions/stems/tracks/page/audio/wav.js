// WAV (and RF64) with 16 or 24 bits, as `separate` writes it: no decoder is needed.

const SCAN = 4096; // bytes in which the chunks before the samples lie

/** Open a WAV; see openSource. `size` in bytes. */
export async function openWav(fetchPart, size, signal) {
  const head = await fetchPart(0, SCAN, signal);
  const view = new DataView(head.buffer, head.byteOffset, head.length);
  const kind = name(head, 0);
  if ((kind !== "RIFF" && kind !== "RF64") || name(head, 8) !== "WAVE") throw new Error("this is no WAV");
  let format = null;
  for (let at = 12; at + 8 <= head.length;) {
    const length = view.getUint32(at + 4, true);
    if (name(head, at) === "fmt ") format = fmt(view, at + 8);
    if (name(head, at) === "data" && format) {
      // RF64 says 2^32 - 1 here; nothing but tags may follow, which the length tells from samples below 4 GiB.
      const bytes = kind === "RF64" ? size - at - 8 : Math.min(length, size - at - 8);
      const read = (start, end, signal) => readSamples(format, fetchPart, at + 8, start, end, signal);
      return { length: Math.floor(bytes / format.frame), rate: format.rate, channels: format.channels, read };
    }
    at += 8 + length + (length & 1);
  }
  throw new Error("its samples do not begin where they should");
}

async function readSamples({ frame, channels, bytes }, fetchPart, base, start, end, signal) {
  const part = await fetchPart(base + start * frame, (end - start) * frame, signal);
  const made = Array.from({ length: channels }, () => new Float32Array(end - start));
  const frames = Math.floor(part.length / frame);
  for (let i = 0, at = 0; i < frames; i++) {
    for (let channel = 0; channel < channels; channel++, at += bytes) {
      // Into the upper bytes of an integer, so that its sign is right.
      const low = bytes === 3 ? part[at] << 8 : 0;
      const value = low | (part[at + bytes - 2] << 16) | (part[at + bytes - 1] << 24);
      made[channel][i] = value / 0x80000000;
    }
  }
  return made;
}

function fmt(view, at) {
  const channels = view.getUint16(at + 2, true);
  const rate = view.getUint32(at + 4, true);
  const bits = view.getUint16(at + 14, true);
  if (bits !== 16 && bits !== 24) throw new Error(`it has ${bits} bits a sample, not 16 or 24`);
  return { channels, rate, bytes: bits / 8, frame: (channels * bits) / 8 };
}

function name(bytes, at) {
  return String.fromCharCode(...bytes.subarray(at, at + 4));
}
