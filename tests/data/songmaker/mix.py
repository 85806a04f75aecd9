"""What a mixing engineer might do: a treatment for every part, a balance of the stems, and a pressed mix."""

import numpy as np
from numpy.typing import NDArray

from tests.data.songmaker import effects
from tests.data.songmaker.effects import Sound

# How loud a part stands in its stem and a stem in the mix, in dB around -20 dB of full scale, and how far they stray.
_ROLE_DB = {"lead": 0.0, "backing": -7.0, "choir": -8.0, "pad": -4.0, "power": -1.0, "drums": 0.0, "bass": 0.0}
_OTHER_ROLE_DB = -2.0
_STEM_DB = {"drums": 0.0, "bass": -1.5, "other": -0.5, "vocals": 0.0}
_REFERENCE_DB, _SPREAD_DB = -20.0, 2.5
_PEAK = 0.97


def drums(sound: Sound, rng: np.random.Generator) -> Sound:
    """Return a treated drum kit: colour, pressure, a room, tamed peaks."""
    sound = _pressed(effects.equalize(sound, rng, 6), rng)
    if rng.random() < 0.7:
        sound = effects.reverberate(sound, rng, float(rng.uniform(0.2, 1.2)), float(rng.uniform(0.02, 0.25)))
    sound = effects.soften(sound, float(rng.uniform(2.5, 8)))
    return _leveled(effects.place(sound, 0.0, float(rng.uniform(0.2, 1))), "drums", rng)


def bass(sound: Sound, rng: np.random.Generator) -> Sound:
    """Return a treated bass: now and then driven, dry, in the middle."""
    if rng.random() < 0.15:
        sound = effects.distort(sound, float(rng.uniform(0.5, 2)))
    sound = _pressed(effects.equalize(sound, rng, 6), rng)
    return _leveled(effects.place(sound, 0.0, float(rng.choice((0.0, 0.3)))), "bass", rng)


def instrument(sound: Sound, role: str, beat_s: float, rng: np.random.Generator) -> Sound:
    """Return any other instrument, treated: power chords distorted, the rest with whatever a studio has."""
    if role == "power":
        sound = effects.distort(sound, float(rng.uniform(1, 8)))
    elif rng.random() < 0.1:
        sound = effects.distort(sound, float(rng.uniform(0.5, 2)))
    sound = _pressed(effects.equalize(sound, rng, 6), rng)
    if rng.random() < 0.3:
        sound = effects.band(sound, float(rng.uniform(60, 250)), None)
    if rng.random() < 0.2:
        sound = effects.chorus(sound, rng)
    pan = 0.0 if role in ("pad", "choir") else float(np.clip(rng.normal(0, 0.4), -0.9, 0.9))
    sound = effects.place(sound, pan, float(rng.uniform(0, 1)))
    if rng.random() < 0.15:
        sound = effects.echo(sound, beat_s * float(rng.choice((0.5, 0.75, 1))), 0.5, 0.3)
    if rng.random() < 0.75:
        sound = effects.reverberate(sound, rng, float(rng.uniform(0.3, 2.5)), float(rng.uniform(0.03, 0.35)))
    return _leveled(sound, role, rng)


def voice(mono: NDArray[np.float32], role: str, beat_s: float, rng: np.random.Generator) -> Sound:
    """Return a treated voice: bright, pressed, in a room; backing voices doubled and to the sides."""
    sound = effects.brighten(np.stack([mono, mono]), float(rng.uniform(2500, 5000)), float(rng.uniform(0, 10)))
    sound = effects.band(effects.equalize(sound, rng, 4), float(rng.uniform(60, 140)), None)
    if rng.random() < 0.85:
        sound = sound * effects.gain_curve(sound, rng.uniform(-12, -2), rng.uniform(2, 6), rng.uniform(0.05, 0.3))
    if rng.random() < 0.08:
        sound = effects.distort(sound, float(rng.uniform(0.3, 1)))
    if role == "backing" or rng.random() < 0.12:
        sound = effects.chorus(sound, rng)
    pan = float(rng.normal(0, 0.04)) if role == "lead" else float(rng.uniform(-0.7, 0.7))
    sound = effects.place(sound, float(np.clip(pan, -1, 1)), 1.0)
    if rng.random() < 0.3:
        sound = effects.echo(sound, beat_s * float(rng.choice((0.5, 0.75, 1))), 0.4, 0.2)
    if rng.random() < 0.9:
        sound = effects.reverberate(sound, rng, float(rng.uniform(0.4, 3)), float(rng.uniform(0.03, 0.3)))
    return _leveled(sound, role, rng)


def master(stems: dict[str, Sound], rng: np.random.Generator) -> dict[str, NDArray[np.int16]]:
    """Balance the stems and press the mix; one gain curve for all, so that the stems still add up to it.

    Neither a stem nor the sum of them exceeds full scale.
    """
    balanced = {stem: _at(sound, _STEM_DB[stem] + rng.normal(0, _SPREAD_DB)) for stem, sound in stems.items()}
    mixture = np.sum(list(balanced.values()), axis=0)
    if rng.random() < 0.7:
        gain = effects.gain_curve(mixture, float(rng.uniform(-3, 4)), float(rng.uniform(1.5, 4)), 0.15)
        balanced = {stem: sound * gain for stem, sound in balanced.items()}
        mixture = mixture * gain
    peak = max(float(np.abs(sound).max()) for sound in (*balanced.values(), mixture))
    scale = np.float32(32767 * _PEAK / peak if peak else 0.0)
    return {stem: np.round(sound * scale).astype(np.int16) for stem, sound in balanced.items()}


def _pressed(sound: Sound, rng: np.random.Generator) -> Sound:
    if rng.random() < 0.6:
        return sound
    return sound * effects.gain_curve(sound, rng.uniform(-8, 2), rng.uniform(2, 6), rng.uniform(0.05, 0.4))


def _leveled(sound: Sound, role: str, rng: np.random.Generator) -> Sound:
    return _at(sound, _ROLE_DB.get(role, _OTHER_ROLE_DB) + rng.normal(0, _SPREAD_DB))


def _at(sound: Sound, loudness_db: float) -> Sound:
    level = effects.loudness(sound)
    return sound * np.float32(10 ** ((loudness_db + _REFERENCE_DB) / 20) / level) if level else sound
