// A mix: volume, mute and solo of each stem. Plain data, to and from the text that a link carries.

export const COMPLEMENT = "no_"; // no_vocals is the song without its vocals

/** Fires `change`. `stems`: names. Volumes are 0 to 100. */
export class Mix extends EventTarget {
  constructor(stems) {
    super();
    this.channels = new Map(stems.map((stem) => [stem, { volume: 100, muted: isDoubled(stem, stems), solo: false }]));
    this.usual = this.text();
  }

  set(stem, change) {
    Object.assign(this.channels.get(stem), change);
    this.dispatchEvent(new Event("change"));
  }

  /** Return the gain of each stem, from 0 to 1. */
  gains() {
    const anySolo = [...this.channels.values()].some(({ solo }) => solo);
    return new Map(
      [...this.channels].map(([stem, { volume, muted, solo }]) => [
        stem,
        muted || (anySolo && !solo) ? 0 : gainOf(volume),
      ]),
    );
  }

  /** Return the mix as `vocals-80m~drums-100s`, or "" where it is as at the beginning. */
  toString() {
    const text = this.text();
    return text === this.usual ? "" : text;
  }

  text() {
    return [...this.channels]
      .map(([stem, { volume, muted, solo }]) => `${stem}-${volume}${muted ? "m" : ""}${solo ? "s" : ""}`)
      .join("~");
  }

  /** Take over what such a text says; what it says of other stems, and what is no such text, is left alone. */
  read(text) {
    for (const part of text.split("~")) {
      const [, stem, volume, muted, solo] = part.match(/^([a-z0-9_]{1,32})-(\d{1,3})(m?)(s?)$/) ?? [];
      if (!this.channels.has(stem) || volume > 100) continue;
      Object.assign(this.channels.get(stem), { volume: Number(volume), muted: Boolean(muted), solo: Boolean(solo) });
    }
    this.dispatchEvent(new Event("change"));
  }
}

/** The fader's place as a gain: squared, so that its middle is half as loud (-12 dB). */
export function gainOf(volume) {
  return (volume / 100) ** 2;
}

/** Tell whether `no_x` would be heard twice, beside the stems that it consists of. */
function isDoubled(stem, stems) {
  const others = stems.filter((other) => !other.startsWith(COMPLEMENT) && other !== stem.replace(COMPLEMENT, ""));
  return stem.startsWith(COMPLEMENT) && others.length > 0;
}
