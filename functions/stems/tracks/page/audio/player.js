// Plays the stems of a song in step: windows of some seconds are decoded, and scheduled on one clock to the sample.
//
// All stems of a window start at the same frame of the context's clock, and only when all of them are there; where
// one is late, all wait. Memory holds a few windows, whatever the song's length.

import { cut } from "./decode.js";

export const WINDOW = 1152 * 224; // samples: 5.9 s, a whole number of MP3 frames
const KEPT_WINDOWS = 4;
const AHEAD_S = 4; // scheduled beyond what is heard
const LEAD_S = 0.08; // from a decision to the first sample
const TICK_MS = 100;
const SMOOTH_S = 0.01; // a gain's way to a new value, against clicks

/** Fires `state` (playing, stalled or paused), `window` (detail {index, samples}: decoded just now), `problem`. */
export class Player extends EventTarget {
  /** `sources`: Map of stem to source (see openSource), all of one rate. */
  constructor(sources) {
    super();
    const all = [...sources.values()];
    this.sources = sources;
    this.rate = all[0].rate;
    if (all.some((source) => source.rate !== this.rate)) throw new Error("the stems differ in their sample rates");
    this.length = Math.max(...all.map((source) => source.length));
    this.state = "paused";
    this.loop = null;
    this.position_ = 0;
    this.gains = new Map();
    this.windows = new Map();
    this.plan = [];
    this.run = 0;
  }

  /** Where the song stands, in samples. */
  get position() {
    if (this.state === "paused" || !this.plan.length) return this.position_;
    return this.heardAt(this.frame());
  }

  /** Start or go on. Must first be called from a gesture of the user: browsers keep silent else. */
  async play() {
    if (this.state !== "paused") return;
    this.connect();
    if (this.position_ >= this.length) this.position_ = 0;
    this.setState("stalled");
    await this.context.resume();
    if (this.state === "stalled") this.restart(this.position_);
  }

  pause() {
    if (this.state === "paused") return;
    this.position_ = Math.min(this.position, this.length);
    this.halt();
    this.setState("paused");
    this.context.suspend();
  }

  /** Go to a sample. */
  seek(sample) {
    this.position_ = Math.max(0, Math.min(Math.round(sample), this.length));
    if (this.state !== "paused") this.restart(this.position_);
    this.dispatchEvent(new Event("seek"));
  }

  /** Repeat {start, end} (samples) from now on, or nothing (null). What is heard goes on without a gap. */
  setLoop(loop) {
    this.loop = loop;
    if (this.state === "playing") this.replan();
  }

  /** Set the gain of each stem, from 0 to 1. */
  setGains(gains) {
    for (const [stem, gain] of gains) {
      this.gains.set(stem, gain);
      const node = this.nodes?.get(stem);
      if (node) node.gain.gain.setTargetAtTime(gain, this.context.currentTime, SMOOTH_S);
    }
  }

  /** Loudest sample of a stem of late, from 0 to 1. */
  level(stem) {
    const node = this.state === "playing" && this.nodes?.get(stem);
    if (!node) return 0;
    node.meter.getFloatTimeDomainData(node.samples);
    return node.samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
  }

  /** Let go of everything. */
  close() {
    this.halt();
    this.state = "paused";
    this.windows.forEach((window) => window.abort.abort());
    this.windows.clear();
    this.context?.close();
  }

  connect() {
    if (this.context) return;
    // At the song's own rate nothing is resampled: windows join to the sample.
    this.context = new AudioContext({ sampleRate: this.rate });
    this.nodes = new Map();
    for (const stem of this.sources.keys()) {
      const gain = new GainNode(this.context, { gain: this.gains.get(stem) ?? 1 });
      const meter = new AnalyserNode(this.context, { fftSize: 1024 });
      gain.connect(meter).connect(this.context.destination);
      this.nodes.set(stem, { gain, meter, samples: new Float32Array(meter.fftSize) });
    }
  }

  setState(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }

  frame() {
    return Math.round(this.context.currentTime * this.rate);
  }

  /** Return the sample that is heard at a frame of the clock. */
  heardAt(frame) {
    const piece = this.plan.findLast((piece) => piece.frame <= frame) ?? this.plan[0];
    return piece.sample + Math.max(0, Math.min(frame - piece.frame, piece.length));
  }

  halt() {
    this.run += 1;
    clearInterval(this.timer);
    this.plan.forEach((piece) => piece.nodes.forEach((node) => node.stop()));
    this.plan = [];
  }

  restart(sample) {
    this.halt();
    this.setState("stalled");
    this.next = { sample, frame: 0 };
    this.timer = setInterval(() => this.tick(), TICK_MS);
    this.pump(this.run);
  }

  /** Keep what is heard within the next moment, and plan anew what comes after it. */
  replan() {
    const at = this.frame() + Math.round(LEAD_S * this.rate);
    const last = this.plan.at(-1);
    if (!last || at >= last.frame + last.length) return;
    const sample = this.heardAt(at);
    this.run += 1;
    for (const piece of this.plan.filter((piece) => piece.frame + piece.length > at)) {
      piece.length = Math.max(0, at - piece.frame);
      piece.nodes.forEach((node) => node.stop(Math.max(at, piece.frame) / this.rate));
    }
    this.plan = this.plan.filter((piece) => piece.length > 0);
    this.next = { sample, frame: at };
    this.pump(this.run);
  }

  tick() {
    const now = this.frame();
    const last = this.plan.at(-1);
    if (last && now >= last.frame + last.length) {
      if (last.sample + last.length >= this.length && !this.isLooping(last.sample)) {
        this.pause();
        this.seek(0);
        return;
      }
      this.setState("stalled");
    } else if (last && now >= this.plan[0].frame) {
      this.setState("playing");
    }
    this.plan = this.plan.filter((piece) => piece === last || piece.frame + piece.length > now - this.rate);
    if (!this.pumping) this.pump(this.run);
  }

  isLooping(sample) {
    return this.loop !== null && sample < this.loop.end;
  }

  /** Schedule windows until there are AHEAD_S of them. */
  async pump(run) {
    this.pumping = true;
    try {
      while (run === this.run && this.next.frame < this.frame() + AHEAD_S * this.rate) {
        const { sample } = this.next;
        if (sample >= this.length && !this.isLooping(sample)) break;
        const parts = await this.window(Math.floor(sample / WINDOW));
        if (run !== this.run) return;
        this.schedule(parts);
      }
      if (run === this.run) this.prefetch();
    } catch (error) {
      if (run === this.run && error.name !== "AbortError") this.fail(error);
    } finally {
      if (run === this.run) this.pumping = false;
    }
  }

  schedule(parts) {
    const { sample } = this.next;
    const start = Math.floor(sample / WINDOW) * WINDOW;
    const looping = this.isLooping(sample);
    const end = Math.min(start + WINDOW, looping ? this.loop.end : this.length);
    const earliest = this.frame() + Math.round(LEAD_S * this.rate);
    // Late: all stems begin again together, later.
    const frame = this.next.frame >= this.frame() + 128 ? this.next.frame : earliest;
    const nodes = [...parts].map(([stem, { buffer, offset, reach }]) => {
      const node = new AudioBufferSourceNode(this.context, { buffer });
      node.connect(this.nodes.get(stem).gain);
      node.onended = () => node.disconnect();
      const length = Math.max(0, Math.min(end, reach) - sample); // a stem may be shorter than the others
      node.start(frame / this.rate, (offset + sample - start) / this.rate, length / this.rate);
      return node;
    });
    this.plan.push({ frame, sample, length: end - sample, nodes });
    this.next = { sample: looping && end === this.loop.end ? this.loop.start : end, frame: frame + end - sample };
  }

  prefetch() {
    const index = Math.floor(this.next.sample / WINDOW);
    if (index * WINDOW < this.length) this.window(index).catch(() => {}); // asked for again when its turn comes
  }

  /** Return the parts of a window by stem, as `decode` does; the last few windows are kept. */
  window(index) {
    const known = this.windows.get(index);
    this.windows.delete(index); // the most recent one stands last
    const window = known ?? this.load(index);
    this.windows.set(index, window);
    while (this.windows.size > KEPT_WINDOWS) {
      const [oldest, { abort }] = this.windows.entries().next().value;
      abort.abort();
      this.windows.delete(oldest);
    }
    return window.parts;
  }

  load(index) {
    const abort = new AbortController();
    const parts = this.decode(index, abort.signal).catch((error) => {
      if (this.windows.get(index)?.abort === abort) this.windows.delete(index);
      throw error;
    });
    return { abort, parts };
  }

  /** Decode a window: a Map of stem to {buffer, offset, reach}; `reach`: the sample at which window or stem ends. */
  async decode(index, signal) {
    const start = index * WINDOW;
    const end = Math.min(start + WINDOW, this.length);
    const decode = async ([stem, source]) => {
      const reach = Math.min(end, source.length);
      return [stem, { ...(await source.part(start, reach, signal)), reach }];
    };
    const within = [...this.sources].filter(([, source]) => source.length > start);
    const parts = new Map(await Promise.all(within.map(decode)));
    const views = [...parts].map(([stem, { buffer, offset, reach }]) => [
      stem,
      cut(buffer, buffer.numberOfChannels, offset, offset + reach - start),
    ]);
    this.dispatchEvent(new CustomEvent("window", { detail: { start, samples: new Map(views) } }));
    return parts;
  }

  fail(error) {
    this.pause();
    this.dispatchEvent(new CustomEvent("problem", { detail: error }));
  }
}

/** Read samples of a source, silence beyond its end. */
export async function readPadded(source, start, end, signal) {
  const reach = Math.min(end, source.length);
  if (reach <= start) return Array.from({ length: source.channels }, () => new Float32Array(end - start));
  const samples = await source.read(start, reach, signal);
  if (reach === end) return samples;
  return samples.map((part) => {
    const whole = new Float32Array(end - start);
    whole.set(part);
    return whole;
  });
}
