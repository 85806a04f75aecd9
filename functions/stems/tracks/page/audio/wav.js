// WAV (and RF64) with 16 or 24 bits or floats, as `separate` writes it: no decoder is needed.

const FLOAT = 3;
const EXTENSIBLE = 0xfffe;
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
      const part = (start, end, signal) => decodePart(format, fetchPart, at + 8, start, end, signal);
      return { length: Math.floor(bytes / format.frame), rate: format.rate, channels: format.channels, part };
    }
    at += 8 + length + (length & 1);
  }
  throw new Error("its samples do not begin where they should");
}

async function decodePart({ rate, frame, channels, bytes, isFloat }, fetchPart, base, start, end, signal) {
  const part = await fetchPart(base + start * frame, (end - start) * frame, signal);
  const buffer = new AudioBuffer({ numberOfChannels: channels, length: end - start, sampleRate: rate });
  const made = Array.from({ length: channels }, (_, channel) => buffer.getChannelData(channel));
  const frames = Math.floor(part.length / frame);
  const view = new DataView(part.buffer, part.byteOffset);
  const sample = isFloat ? (at) => view.getFloat32(at, true) : whole(part, bytes);
  for (let i = 0, at = 0; i < frames; i++) {
    for (let channel = 0; channel < channels; channel++, at += bytes) made[channel][i] = sample(at);
  }
  return { buffer, offset: 0 };
}

/** Return what reads a whole number of 16 or 24 bits as a sample: in the upper bytes its sign is right. */
function whole(part, bytes) {
  const low = bytes === 3 ? (at) => part[at] << 8 : () => 0;
  return (at) => (low(at) | (part[at + bytes - 2] << 16) | (part[at + bytes - 1] << 24)) / 0x80000000;
}

function fmt(view, at) {
  const tag = view.getUint16(at, true);
  const channels = view.getUint16(at + 2, true);
  const rate = view.getUint32(at + 4, true);
  const bits = view.getUint16(at + 14, true);
  const isFloat = (tag === EXTENSIBLE ? view.getUint16(at + 24, true) : tag) === FLOAT;
  if (isFloat ? bits !== 32 : bits !== 16 && bits !== 24) {
    throw new Error(`it has ${bits} bits a sample, neither whole numbers of 16 or 24 nor floats of 32`);
  }
  return { channels, rate, isFloat, bytes: bits / 8, frame: (channels * bits) / 8 };
}

function name(bytes, at) {
  return String.fromCharCode(...bytes.subarray(at, at + 4));
}
