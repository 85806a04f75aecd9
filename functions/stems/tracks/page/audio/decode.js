// The browser's own decoder, for files that lie in memory.

const decoders = new Map();

/** Decode a file in memory (its buffer is given away) without changing its sample rate. */
export async function decode(bytes, channels, rate) {
  const key = `${channels}/${rate}`;
  if (!decoders.has(key)) decoders.set(key, new OfflineAudioContext(channels, 1, rate));
  return decoders.get(key).decodeAudioData(bytes.buffer);
}

/** Return samples `from` to `to` of a decoded part, as a view into it; silence where it ends early. */
export function cut(decoded, channels, from, to) {
  return Array.from({ length: channels }, (_, channel) => {
    const part = decoded.getChannelData(Math.min(channel, decoded.numberOfChannels - 1)).subarray(from, to);
    if (part.length === to - from) return part;
    const samples = new Float32Array(to - from);
    samples.set(part);
    return samples;
  });
}
