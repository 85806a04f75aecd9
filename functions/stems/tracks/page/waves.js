// Waveforms: how loud each stem is along the song, and canvases that show it.

const POINTS = 2000;
const FULL = 255;
const BAR_PX = 2;
const GAP_PX = 1;

/** Peaks of the stems: up to 2000 values from 0 to 255 each, from the server, or from what is decoded bit by bit. */
export class Peaks {
  /** `given`: the body of peaks.json, or null. `length`: of the song, in samples. */
  constructor(stems, length, given) {
    this.length = length;
    this.stems = new Map(stems.map((stem) => [stem, given?.stems?.[stem] ?? new Uint8Array(POINTS)]));
    this.missing = stems.filter((stem) => !given?.stems?.[stem]);
  }

  /** The loudest point of all stems: it fills its lane. */
  get most() {
    let most = FULL / 8; // a song that is as good as silent stays flat
    for (const points of this.stems.values()) for (const point of points) most = Math.max(most, point);
    return most;
  }

  /** Take in decoded samples: `samples` is a Map of stem to channels that begin at sample `start`. */
  add(start, samples) {
    for (const stem of this.missing.filter((stem) => samples.has(stem))) {
      const points = this.stems.get(stem);
      const channels = samples.get(stem);
      const end = start + channels[0].length;
      const share = this.length / POINTS;
      for (let point = Math.floor(start / share); point < POINTS && point * share < end; point++) {
        const from = Math.max(0, Math.ceil(point * share) - start);
        const to = Math.min(channels[0].length, Math.ceil((point + 1) * share) - start);
        points[point] = Math.max(points[point], Math.min(FULL, Math.round(FULL * loudest(channels, from, to))));
      }
    }
    return this.missing.length > 0;
  }
}

function loudest(channels, from, to) {
  let most = 0;
  for (const samples of channels) {
    for (let i = from; i < to; i++) {
      const value = Math.abs(samples[i]);
      if (value > most) most = value;
    }
  }
  return most;
}

/** Draw points as bars over the whole canvas, in the colour that CSS gives it; `most` is as tall as the canvas. */
export function draw(canvas, points, most) {
  const scale = devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * scale);
  const height = Math.round(canvas.clientHeight * scale);
  if (!width || !height) return;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  context.fillStyle = getComputedStyle(canvas).color;
  const step = (BAR_PX + GAP_PX) * scale;
  const bars = Math.floor(width / step);
  for (let bar = 0; bar < bars; bar++) {
    const from = Math.floor((bar * points.length) / bars);
    const to = Math.max(from + 1, Math.floor(((bar + 1) * points.length) / bars));
    let peak = 0;
    for (let point = from; point < to; point++) peak = Math.max(peak, points[point]);
    // The root shows quiet passages, too.
    const tall = Math.max(scale, (peak / most) ** 0.7 * (height - 2 * scale));
    context.fillRect(bar * step, (height - tall) / 2, BAR_PX * scale, tall);
  }
}
