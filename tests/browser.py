"""A real browser on the page, songs whose stems are known tones, and ears: what leaves the page's audio graph."""

import base64
import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from stems import naming
from stems.options import extension, quality
from stems.record import ModelInfo, Stem, Track
from stems.separate.audio import ffmpeg
from tests.programs import CHECKOUT, need
from tests.tracks_stack import Stack

RATE_HZ = 44100
Samples = NDArray[np.float64]
# By name of the format, as people ask for it: ffmpeg's arguments. One FLAC has more before its audio than a look takes.
_ENCODERS: Mapping[str, Sequence[str]] = {
    "mp3": ("-c:a", "libmp3lame", "-b:a", "320k"),
    "mp3-128": ("-c:a", "libmp3lame", "-b:a", "128k"),
    "mp3-v4": ("-c:a", "libmp3lame", "-q:a", "4"),
    "flac": ("-sample_fmt", "s32", "-bits_per_raw_sample", "24", "-metadata", f"comment={'x' * 60_000}"),
    "flac-16": ("-sample_fmt", "s16"),
    "wav": ("-c:a", "pcm_s24le", "-rf64", "auto"),
    "wav-16": ("-c:a", "pcm_s16le"),
    "wav-32f": ("-c:a", "pcm_f32le"),
}
expect.set_options(timeout=30_000)  # a busy machine is no failure

# Whatever the page connects to the loudspeakers is heard here, too: by an analyser for the spectrum, and by a worklet
# that is given every sample, however busy the machine is.
_EARS = """
const worklet = `registerProcessor("ears", class extends AudioWorkletProcessor {
  process([input]) {
    this.port.postMessage(input.map((samples) => samples.slice()));
    return true;
  }
})`;
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (to, ...rest) {
  if (to instanceof AudioDestinationNode && to.context instanceof AudioContext) {
    const context = to.context;
    if (!context.ears) {
      context.ears = new AnalyserNode(context, { fftSize: 16384, smoothingTimeConstant: 0 });
      const all = new GainNode(context);
      connect.call(all, context.ears);
      context.all = all;
      window.ears = { context, analyser: context.ears, heard: [], recording: false };
      window.ears.record = async () => {
        if (!window.ears.node) {
          const address = URL.createObjectURL(new Blob([worklet], { type: "text/javascript" }));
          await context.audioWorklet.addModule(address);
          window.ears.node = new AudioWorkletNode(context, "ears");
          window.ears.node.port.onmessage = ({ data }) => {
            if (window.ears.recording && data.length) window.ears.heard.push([data[0], data[1] ?? data[0]]);
          };
          connect.call(all, window.ears.node);
        }
        Object.assign(window.ears, { heard: [], recording: true });
      };
    }
    connect.call(this, context.all);
  }
  return connect.call(this, to, ...rest);
};
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the system's Chromium, without a window."""
    program = need("chromium")
    with sync_playwright() as playwright:
        arguments = ["--autoplay-policy=user-gesture-required", "--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@contextmanager
def tab(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """Open a page of a fresh profile; fail if a script of it fails, or it breaks its own Content-Security-Policy.

    To record what is heard, `bypass_csp` lets the recorder in.
    """
    context: BrowserContext = browser.new_context(base_url=url, accept_downloads=True, **options)
    context.add_init_script(_EARS)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
    yield page
    context.close()
    assert not errors, errors


def tone(frequency_hz: float, duration_s: float, level: float = 0.2) -> Samples:
    """Make a sine, of shape (samples, 2)."""
    wave = level * np.sin(2 * np.pi * frequency_hz * np.arange(round(duration_s * RATE_HZ)) / RATE_HZ)
    return np.stack([wave, wave], axis=1)


def put_song(
    stack: Stack,
    name: str,
    stems: Mapping[str, Samples],
    formats: Sequence[str] = ("mp3",),
    number: int = 0,
    peaks: Mapping[str, Sequence[int]] | None = None,
) -> Track:
    """Put a track into the bucket and the index. `formats`: of _ENCODERS.

    `peaks`: those of each stem, where the record is to name an object of them.
    """
    songhash = hashlib.sha256(f"{name} {number}".encode()).hexdigest()
    made: list[Stem] = []
    for stem, samples in stems.items():
        for format in formats:
            encoded = _encoded(samples.astype("<f4").tobytes(), format)
            stored = stack.put_stem(songhash, stem, extension(format), body=encoded)
            made.append(replace(stored, quality=quality(format)))
    duration_s = len(next(iter(stems.values()))) / RATE_HZ
    model = ModelInfo("demo", "0" * 64, "fp32")
    created_ms = 1_700_000_000_000 + number
    drawn = naming.peaks_object(songhash) if peaks else ""
    if peaks:
        length = round(duration_s * RATE_HZ)
        body = {"length": length, "sample_rate_hz": RATE_HZ, "stems": peaks}
        stack.put_object(drawn, json.dumps(body).encode())
    key = f"in/{name}"
    track = Track(
        songhash, name, "queue", key, "e" * 32, duration_s, RATE_HZ, 2, model, created_ms, tuple(made), peaks=drawn
    )
    stack.put_object(naming.record_object(songhash), track.to_json())
    stack.index.add(track)
    return track


@cache
def _encoded(samples: bytes, format: str) -> bytes:
    """Encode raw samples; the same ones once."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / f"out.{format.partition('-')[0]}"
        command = [ffmpeg(), "-v", "error", "-f", "f32le", "-ar", str(RATE_HZ), "-ac", "2", "-i", "pipe:"]
        subprocess.run([*command, *_ENCODERS[format], str(out)], input=samples, check=True)
        return out.read_bytes()


def level_db(page: Page, frequency_hz: float) -> float:
    """Return how loud a tone is in what the page plays now, in dB of full scale."""
    found: float = page.evaluate(
        """(frequency) => {
          const { analyser, context } = window.ears;
          const bins = new Float32Array(analyser.frequencyBinCount);
          analyser.getFloatFrequencyData(bins);
          const bin = Math.round((frequency * analyser.fftSize) / context.sampleRate);
          return Math.max(-200, ...bins.slice(bin - 2, bin + 3));
        }""",
        frequency_hz,
    )
    return found


@contextmanager
def recorded(page: Page) -> Iterator[list[Samples]]:
    """Record what the page plays; afterwards the list holds the samples, of shape (samples, 2)."""
    found: list[Samples] = []
    page.evaluate("() => window.ears.record()")
    yield found
    heard = page.evaluate(
        """() => {
          window.ears.recording = false;
          const text = (samples) => {
            const bytes = new Uint8Array(samples.buffer);
            let all = "";
            for (let at = 0; at < bytes.length; at += 4096) {
              all += String.fromCharCode(...bytes.subarray(at, at + 4096));
            }
            return btoa(all);
          };
          return [0, 1].map((channel) => {
            const parts = window.ears.heard.map((part) => part[channel]);
            const samples = new Float32Array(parts.reduce((length, part) => length + part.length, 0));
            parts.reduce((at, part) => (samples.set(part, at), at + part.length), 0);
            return text(samples);
          });
        }"""
    )
    found.append(np.stack([np.frombuffer(base64.b64decode(text), "<f4") for text in heard], axis=1).astype(np.float64))
    assert len(found[0]), "the audio graph did not run"


def screenshots() -> Path:
    """Return the folder in which the screenshots of a run are kept."""
    folder = Path(os.environ.get("STEMS_SCREENSHOTS") or CHECKOUT / ".stems" / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
