// The time axis over all stems: seeking by click, a loop by dragging, playhead, and a slider for the keyboard.

import { el, setAttribute, setText } from "./dom.js";
import { clock, spoken } from "./words.js";

const DRAG_PX = 6;
const LEAST_LOOP_S = 0.1;
const LABEL_PX = 72;
const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];

/**
 * `root`: the element in whose lanes (`.lane`) the song runs from left to right; CSS draws playhead and loop from its
 * properties --played, --from and --to, shares of the song. Fires `seek` (detail: seconds) and `loop` (detail: [s, s], or null: as before).
 */
export class Timeline extends EventTarget {
  constructor(duration, root) {
    super();
    Object.assign(this, { duration, root });
    this.ruler = el("div", { class: "ruler", "aria-hidden": "true" });
    this.slider = el("input", {
      type: "range",
      class: "position",
      min: 0,
      max: duration.toFixed(2),
      step: "any",
      value: 0,
      "aria-label": "Position",
      oninput: () => this.emit("seek", this.slider.valueAsNumber),
    });
    this.slider.addEventListener("keydown", (event) => this.press(event));
    root.addEventListener("pointerdown", (event) => {
      const lane = event.target.closest(".lane");
      if (lane && event.button === 0) this.follow(event, lane);
    });
    new ResizeObserver(() => this.drawRuler()).observe(this.ruler);
  }

  /** Show where the song stands, in seconds. */
  show(seconds) {
    const share = this.duration ? Math.min(1, seconds / this.duration) : 0;
    this.root.style.setProperty("--played", share.toFixed(5));
    this.slider.value = seconds;
    setAttribute(this.slider, "aria-valuetext", `${spoken(seconds)} of ${spoken(this.duration)}`);
  }

  showLoop(loop) {
    this.root.classList.toggle("looping", Boolean(loop));
    if (!loop) return;
    const [from, to] = loop.map((seconds) => (seconds / this.duration).toFixed(5));
    this.root.style.setProperty("--from", from);
    this.root.style.setProperty("--to", to);
  }

  /** Move by the keys that a slider has: their usual steps would be a share of the song, of whatever length. */
  press(event) {
    const here = this.slider.valueAsNumber;
    const steps = { ArrowLeft: -5, ArrowDown: -5, ArrowRight: 5, ArrowUp: 5, PageDown: -30, PageUp: 30 };
    const to = { Home: 0, End: this.duration }[event.key] ?? here + steps[event.key] / (event.shiftKey ? 5 : 1);
    if (Number.isNaN(to)) return;
    event.preventDefault();
    this.emit("seek", Math.min(this.duration, Math.max(0, to)));
  }

  /** Follow a pointer from its press on: a click seeks, a drag makes a loop. */
  follow(event, lane) {
    const from = this.secondsAt(event, lane);
    const x = event.clientX;
    let loop = null;
    lane.setPointerCapture(event.pointerId);
    const move = (event) => {
      if (!loop && Math.abs(event.clientX - x) < DRAG_PX) return;
      loop = [from, this.secondsAt(event, lane)].sort((a, b) => a - b);
      this.showLoop(loop);
    };
    const end = (event) => {
      lane.removeEventListener("pointermove", move);
      lane.removeEventListener("pointerup", end);
      lane.removeEventListener("pointercancel", end);
      if (event.type === "pointercancel") this.emit("loop", null);
      else if (loop && loop[1] - loop[0] >= LEAST_LOOP_S) this.emit("loop", loop);
      else this.emit("seek", from);
    };
    lane.addEventListener("pointermove", move);
    lane.addEventListener("pointerup", end);
    lane.addEventListener("pointercancel", end);
  }

  secondsAt(event, lane) {
    const { left, width } = lane.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - left) / width)) * this.duration;
  }

  drawRuler() {
    const fitting = this.ruler.clientWidth / LABEL_PX;
    const step = STEPS_S.find((seconds) => this.duration / seconds <= fitting) ?? STEPS_S.at(-1);
    const marks = [];
    for (let at = 0; at < this.duration && marks.length < 200; at += step) {
      const mark = el("span", { text: clock(at) });
      mark.style.left = `${(100 * at) / this.duration}%`;
      marks.push(mark);
    }
    this.ruler.replaceChildren(...marks);
  }

  emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** The time played and the time in all. */
export class Clock {
  constructor(duration) {
    this.now = el("span", { class: "now", text: clock(0) });
    this.element = el("p", { class: "clock" }, this.now, el("span", { class: "muted", text: ` / ${clock(duration)}` }));
  }

  show(seconds) {
    setText(this.now, clock(seconds));
  }
}
