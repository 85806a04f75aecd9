"""Soundfont instruments, played by FluidSynth dry: the room is the mix's affair."""

import sys
from collections.abc import Sequence

import fluidsynth
import numpy as np
from numpy.typing import NDArray

from tests.data.songmaker import fonts
from tests.data.songmaker.score import RATE_HZ, Note, Sampled

_DRUM_BANK = 128
_TAIL_S = 3.0
_SETTINGS = {
    "synth.dynamic-sample-loading": 1,  # presets are read from the file when first played
    "synth.reverb.active": 0,
    "synth.chorus.active": 0,
    "synth.polyphony": 128,
}


class Sampler:
    """The soundfonts of one song. A synthesizer keeps traces of what it played: the next song gets new ones."""

    def __init__(self) -> None:
        """Start with none open."""
        self._synths: dict[str, tuple[fluidsynth.Synth, int]] = {}

    def play(self, instrument: Sampled, notes: Sequence[Note], length: int) -> NDArray[np.float32]:
        """Return the notes as (2, length) samples at 44100 Hz.

        Raises FileNotFoundError where the soundfont is missing, ValueError where it lacks the instrument.
        """
        synth, font = self._synth(instrument.font)
        synth.system_reset()
        channel, bank = (9, _DRUM_BANK) if instrument.kit else (0, 0)
        if synth.program_select(channel, font, bank, instrument.program) != 0:
            raise ValueError(f"{instrument.font} has no program {instrument.program} in bank {bank}")
        blocks, here = [np.zeros(0, np.int16)], 0
        for at, sounds, pitch, velocity in _events(notes):
            if here < at:
                blocks.append(synth.get_samples(min(at, length) - min(here, length)))
                here = at
            if sounds:
                synth.noteon(channel, pitch, velocity)
            else:
                synth.noteoff(channel, pitch)
        blocks.append(synth.get_samples(max(0, min(length - here, int(_TAIL_S * RATE_HZ)))))
        sound = np.concatenate(blocks).astype(np.float32).reshape(-1, 2).T / 32768
        return np.pad(sound, ((0, 0), (0, length - sound.shape[1])))

    def close(self) -> None:
        """Let go of the soundfonts."""
        for synth, _ in self._synths.values():
            synth.delete()
        self._synths.clear()

    def _synth(self, font: str) -> tuple[fluidsynth.Synth, int]:
        if font not in self._synths:
            synth = fluidsynth.Synth(gain=0.4, samplerate=RATE_HZ, **_SETTINGS)
            self._synths[font] = synth, synth.sfload(str(fonts.path(font)))
        return self._synths[font]


def _events(notes: Sequence[Note]) -> list[tuple[int, bool, int, int]]:
    """Return (sample, whether a note begins, pitch, velocity) in order; a note ends where its pitch is struck anew."""
    events: list[tuple[int, bool, int, int]] = []
    struck: dict[int, int] = {}
    for note in sorted(notes, key=lambda note: note.start_s, reverse=True):
        start = round(note.start_s * RATE_HZ)
        end = min(start + max(1, round(note.duration_s * RATE_HZ)), struck.get(note.pitch, sys.maxsize))
        events.append((start, True, note.pitch, max(1, min(127, round(note.velocity * 127)))))
        if end > start:
            events.append((end, False, note.pitch, 0))
        struck[note.pitch] = start
    return sorted(events)
