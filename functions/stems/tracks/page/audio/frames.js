// Where the frames of an MP3 of variable bit rate lie: found by walking from frame to frame, as far as is asked for.

const STEP = 16; // frames between two that are noted: 0.4 s
const PIECE = 256 * 1024; // bytes fetched at a time; none of them is kept

/** `header(bytes, at)`: reads a frame's header. `base`: the byte of frame 0; `frames`: how many there are. */
export class FrameIndex {
  constructor(fetchPart, header, { base, size, frames }) {
    Object.assign(this, { fetchPart, header, size, frames });
    this.noted = [base];
    this.frame = 0; // reached
    this.at = base;
    this.walking = Promise.resolve();
  }

  /** Resolve to {first, count, from, to}: whole frames around those asked for, and the bytes they fill. */
  async span(first, count, signal) {
    // One walk at a time; where another's was broken off, this one goes on from there.
    this.walking = this.walking.catch(() => {}).then(() => this.walk(first + count, signal));
    await this.walking;
    const begin = Math.floor(first / STEP);
    const end = Math.ceil((first + count) / STEP);
    const last = Math.min(end * STEP, this.frames);
    return { first: begin * STEP, count: last - begin * STEP, from: this.noted[begin], to: this.noted[end] ?? this.at };
  }

  async walk(wanted, signal) {
    const goal = Math.min(Math.ceil(wanted / STEP) * STEP, this.frames);
    while (this.frame < goal) {
      const bytes = await this.fetchPart(this.at, Math.min(PIECE, this.size - this.at), signal);
      let at = 0;
      for (;;) {
        const found = this.frame < this.frames ? this.header(bytes, at) : null;
        if (!found || at + found.bytes > bytes.length) break;
        at += found.bytes;
        this.frame += 1;
        if (this.frame % STEP === 0) this.noted.push(this.at + at);
      }
      if (!at) throw new Error(`frame ${this.frame} is missing`);
      this.at += at;
    }
  }
}
