"""Synthesise the bundled demo song, "Four Small Stems", and its four true stems.

Why: tests and newcomers need a song that may be given away and whose true drums, bass, other and vocals are known.
How: numpy arithmetic from fixed seeds, no samples; the voice is a glottal source sung through moving vowel formants.
The mixture is the exact 16-bit integer sum of the four stems.
Licence: words, music, program and output are the stems project's own, given to the public domain (CC0 1.0).
Usage: python tests/data/make_song.py [--stems DIR] OUT.mp3      (needs numpy, and ffmpeg on the PATH)
"""

import argparse
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Audio = NDArray[np.float64]  # (samples,) mono or (2, samples) stereo
RATE, LENGTH = 44100, 30 * 44100
TIME = np.arange(LENGTH) / RATE
BEAT = 60 / 126  # seconds; 14 bars of 4/4 and a final chord fill the 30 s
VERSE, CHORUS, LIFT, END = 8, 24, 40, 56  # where the parts after the intro start, in beats
# One chord a bar: bass root, then a four-note voicing (MIDI note numbers, D major).
G, A, D = [31, 59, 62, 66, 69], [33, 57, 61, 64, 69], [38, 57, 62, 66, 69]
BM, FSM = [35, 59, 62, 66, 69], [30, 57, 61, 64, 66]
CHORDS = [G, A, BM, G, D, A, G, A, FSM, BM, G, A, D, A, D]
SCALE = [12 * octave + step for octave in range(9) for step in (1, 2, 4, 6, 7, 9, 11)]
# Drums, one bar each in sixteenths: X loud, x softer, g a ghost note.
CRASH, TOMS = "|crash X", "|tom1 .............X|tom2 ..............X|tom3 ...............X"
START, LAST = "hat x.g.x.g.x.g.x.xg", "kick X|crash X"
COUNT = "kick X.......|hat x.g.x.g.|snare ........x.xxX" + TOMS
GROOVE = "kick X.........X.....|snare ....X..g.g..X|hat X.x.X.xgX.x.X.xg"
TURN = "kick X.........X.....|snare ....X..gx.xxX|hat X.x.X.xg" + TOMS
DANCE = "kick X..x....X.x.....|snare ....X..g.g..X|clap ....X.......X|hat Xg.xXg.xXg.xXg.x|open ..x...x...x...x"
ROLL = "kick X..x....|snare ....X...x.xxX.x|clap ....X|hat Xg.xXg.x|open ..x...x" + TOMS
BARS = [START, COUNT, GROOVE + CRASH, GROOVE, GROOVE, TURN, *2 * [DANCE + CRASH, DANCE, DANCE, ROLL], LAST]
VELOCITY = {"X": 1.0, "x": 0.7, "g": 0.15, ".": 0.0}
# Words and melody: beat, length in beats, MIDI note, phonemes ("Four small stems inside this song ...").
VERSE_TUNE = """0 1 66 f.o.r|1 .5 66 s.m.o.l|1.5 1 69 s.t.e.m.z|2.5 .5 66 i.n|3 .5 64 s.a.i.d|3.5 .5 62 dh.i.s|
4 1 64 s.o|5 1.75 62 o.n|8 1 69 p.u.l|9 .5 69 dh.e.m|9.5 1 71 a.u.t|10.5 .5 69 e.n.d|11 .5 66 s.I.n|11.5 .5 64 uh|
12 1 66 l.o|13 1.5 64 o.n|15 .5 66 uh.n.d|15.5 .5 69 l.e.t"""
CHORUS_TUNE = """0 1.3 71 dh.e.m|1.5 1.3 69 g.ou.u|3 .5 69 l.e.t|3.5 .5 71 dh.e.m|4 1.25 73 p.l.e|5.25 1.25 69 e.I|
7 .5 66 e.v|7.5 .5 69 r.I|8 1 69 v.o.I.s|9 .5 66 h.a.z|9.5 .5 64 i.t.s|10 1.5 66 ou.u.n|12 1 66 w.e|13 1.5 62 e.I|
15 .5 66 uh.n.d|15.5 .5 69 l.e.t|16 1.3 71 dh.e.m|17.5 1.3 71 g.ou.u|19 .5 71 l.e.t|19.5 .5 73 dh.e.m|
20 1.25 74 s.t.e|21.25 1.25 73 e.I|23 .5 69 f.o.r|23.5 .5 69 s.m.o.l|24 1 71 s.t.e.m.z|25 .5 69 i.n|25.5 .5 66 t.u|
26 1.75 66 s.o.n|28 1.5 64 t.u|29.5 .5 61 d.e|30 1.5 64 d.e.I|32 4.5 62 u.a"""
# Voiced phonemes: three formants (Hz) and loudness. Noisy ones: centre, width (Hz), seconds, loudness.
TABLE = """a 850 1250 2810 1|e 600 2000 2900 1|i 440 2250 3000 .95|I 370 2600 3250 .9|o 600 950 2710 1|
u 400 980 2650 .9|ou 520 1000 2700 1|uh 640 1400 2750 .9|m 280 1000 2200 .3|n 290 1500 2500 .32|l 380 1150 2900 .45|
r 420 1250 1750 .5|v 300 1200 2500 .2|dh 300 1450 2600 .2|z 300 1700 2600 .15"""
NOISES = """s 7200 2200 .1 .2|z 6800 2000 .07 .1|f 6000 4500 .09 .08|v 5000 4000 .05 .03|h 1500 1200 .07 .09|
t 4800 2500 .035 .28|p 1100 900 .03 .22|d 3600 2000 .022 .16|g 2000 900 .022 .15|dh 5000 4000 .04 .03"""
VOICED, NOISY = ({r.split()[0]: [float(x) for x in r.split()[1:]] for r in t.split("|")} for t in (TABLE, NOISES))
VOWELS = list(VOICED)[:8]


def seconds(beat: float) -> float:  # the off sixteenths come a little late (swing)
    return (beat + 0.035 * (round(beat * 4) % 2)) * BEAT


def shape(x: Audio, low: float, high: float) -> Audio:
    """A smooth band-pass by FFT: second-order slopes outside low..high Hz."""
    f = np.fft.rfftfreq(x.shape[-1], 1 / RATE) + 1e-9
    return np.fft.irfft(np.fft.rfft(x) / np.sqrt((1 + (low / f) ** 4) * (1 + (f / high) ** 4)), x.shape[-1])


def reverb(x: Audio, rng: np.random.Generator, length: float, wet: float) -> Audio:
    """A room: the sound convolved with decaying stereo noise, added after a short delay."""
    t = TIME[: int(length * RATE)]
    room = shape(rng.normal(size=(2, t.size)) * np.exp(-6.9 * t / length) * (t > 0.018), 250, 6500)
    n = x.shape[-1] + t.size
    tail = np.fft.irfft(np.fft.rfft(x, n) * np.fft.rfft(room / np.sqrt((room**2).sum() / 2), n), n)
    return x + wet * tail[:, : x.shape[-1]]


def put(track: Audio, time: float, sound: Audio, level: float, pan: float = 0.0) -> None:
    """Add a mono sound to a stereo track at a time, pan -1 (left) .. 1 (right), at equal power."""
    at, angle = max(0, int(time * RATE)), (pan + 1) * np.pi / 4
    sound = sound[: max(0, LENGTH - at)]
    track[:, at : at + sound.size] += level * np.outer([np.cos(angle), np.sin(angle)], sound)


def tone(note: float, beats: float, power: float, dark: float, decay: float, attack: float, top: int) -> Audio:
    """A note from sine partials: 1/k**power, each upper one dying faster by `dark`, with attack and release."""
    t, freq = TIME[: int(beats * BEAT * RATE)], 440 * 2 ** ((note - 69) / 12)
    out = np.zeros(t.size)
    for k in range(1, min(top, int(15000 / freq)) + 1):
        out += np.sin(2 * np.pi * freq * k * t + 0.7 * k * k) * np.exp(-t * (decay + dark * (k - 1))) / k**power
    return out * np.minimum(1, t / attack) * np.clip((beats * BEAT - t) / 0.04, 0, 1)


def make_drums(rng: np.random.Generator) -> Audio:
    track, t, long = np.zeros((2, LENGTH)), TIME[: RATE // 2], TIME[: 2 * RATE]

    def noise(decay: float, low: float, high: float) -> Audio:
        return shape(rng.normal(size=t.size), low, high) * np.exp(-t * decay)

    def thump(start: float, end: float, bend: float, decay: float) -> Audio:
        return np.sin(2 * np.pi * (end * t + (start - end) / bend * (1 - np.exp(-bend * t)))) * np.exp(-decay * t)

    ring = np.sum([np.sign(np.sin(2 * np.pi * f * long)) for f in (3170, 4210, 5390, 6130, 7910)], axis=0)
    metal = shape(0.2 * ring + 0.7 * rng.normal(size=long.size), 6000, 16000)
    wood = 0.5 * thump(260, 185, 40, 22) + 0.25 * thump(400, 330, 40, 30)
    kit: dict[str, tuple[Audio, float, float]] = {  # sound, level, pan
        "kick": (np.tanh(2.2 * thump(190, 50, 38, 13)) + 0.4 * noise(300, 1500, 8000), 0.74, 0),
        "snare": (wood + 0.9 * noise(19, 1200, 12000), 0.62, -0.05),
        "clap": (np.sum([np.roll(noise(28, 1000, 4500), 480 * d) for d in range(3)], axis=0), 0.5, 0.1),
        "hat": (metal[: t.size] * np.exp(-50 * t), 0.5, 0.3),
        "open": (metal[: t.size] * np.exp(-11 * t), 0.3, 0.3),
        "crash": (metal * np.exp(-2.2 * long), 0.42, -0.35),
    }
    for i, f in enumerate((165, 125, 92)):
        kit[f"tom{i + 1}"] = thump(1.6 * f, f, 18, 9) + 0.15 * noise(60, 800, 6000), 0.75, 0.5 * i - 0.5
    for bar, parts in enumerate(BARS):
        for drum, steps in (part.split() for part in parts.split("|")):
            sound, level, pan = kit[drum]
            for i, c in enumerate(steps):
                at, force = seconds(4 * bar + i / 4), level * VELOCITY[c]
                put(track, at + rng.normal(0, 0.003), sound, force * rng.normal(1, 0.07), pan)
    return reverb(track, rng, 0.9, 0.12)


def make_bass(rng: np.random.Generator) -> Audio:
    track = np.zeros((2, LENGTH))
    for b, (root, *_), (target, *_) in zip(range(0, 60, 4), CHORDS, [*CHORDS[1:], D], strict=True):
        walk = (3.5, 0.45, target - root + (-2 if target > root else 2))  # leads into the next bar
        line: list[tuple[float, float, int]] = [(0, 1.4, 0), (1.5, 0.45, 0), (2, 0.45, 7), (2.5, 0.9, 0), walk]
        if b < 4 or b >= END:
            line = [(0, 4 if b < 4 else 6, 0)]
        elif b >= CHORUS:
            line = [(x / 2, 0.42, 12 if x in (3, 6) else 0) for x in range(7)] + [(1.75, 0.2, 0), walk]
        for x, beats, up in line:
            note = np.tanh(1.5 * tone(root + up, beats, 0.8, 1.2, 1.1, 0.006, 30))
            put(track, seconds(b + x) + abs(rng.normal(0, 0.004)), note, 0.4 * rng.normal(1, 0.06))
    return shape(track, 38, 3500)


def make_other(rng: np.random.Generator) -> Audio:
    track = np.zeros((2, LENGTH))
    for b, (_, *notes) in zip(range(0, 60, 4), CHORDS, strict=True):
        chorus, end = CHORUS <= b < END, b >= END
        for i, note in enumerate(notes):
            for cents, pan in ((-7, -0.8), (0, 0.0), (7, 0.8)):  # a wide pad of three detuned saws
                pad = tone(note + cents / 100, 6.5 if end else 4.15, 1.0 if chorus else 1.4, 0.02, 0.25, 0.09, 30)
                put(track, seconds(b), pad, 0.058 if chorus else 0.04, pan)
            piano = tone(note, 4 if end else 1.3, 1.3, 1.4, 1.8, 0.003, 12)
            for x in (0,) if end else (0, 1.5, 3) if chorus else (0, 2.5):  # piano chords, strummed a little
                put(track, seconds(b + x) + 0.012 * i * rng.random(), piano, 0.14 * rng.normal(1, 0.1), 0.3 * i - 0.45)
        for step in range(0 if end else 16 if chorus else 8):  # the arpeggio: eighths, then sixteenths
            pluck = tone(notes[(0, 1, 2, 3, 2, 1, 3, 2)[step % 8]] + 12, 0.95, 0.8, 2.5, 5, 0.002, 16)
            put(track, seconds(b + step / (4 if chorus else 2)), pluck, 0.11 * rng.normal(1, 0.15), 0.7 * (-1) ** step)
    hook = [(0, 1, 78), (1, 0.5, 76), (1.5, 1, 74), (2.5, 0.5, 76), (3, 1, 78), (4, 2, 81), (6, 2, 76)]
    high = [(0, 1.5, 83), (1.5, 2.5, 81), (4, 3, 85), (7, 1, 81), (8, 3, 78), (11, 1, 81), (12, 4, 81), (16, 4, 86)]
    for start, tune, level in ((0, hook, 0.17), (LIFT, high, 0.12)):  # a lead line, with an echo
        for x, beats, note in tune:
            for echo, pan in enumerate((0.15, -0.6, 0.6)):
                sound = tone(note, beats + 0.2, 1.1, 0.15, 0.5, 0.015, 12)
                put(track, seconds(start + x) + 0.75 * BEAT * echo, sound, level * 0.3**echo, pan)
    return reverb(shape(track, 130, 14000), rng, 2.2, 0.22)


def sing(score: str, start: float, steps: int, rng: np.random.Generator) -> Audio:
    """One voice (mono), some scale steps off the tune: pitch and formant curves, every 64 samples, drive harmonics."""
    keys, ended = [(0.0, 500.0, 1500.0, 2600.0, 0.0)], 0.0  # time, three formants, loudness
    hiss, now = np.zeros((2, LENGTH)), np.arange(0, LENGTH + 64, 64) / RATE
    pitch, vibrato = np.full(now.size, 66.0), np.zeros(now.size)
    for beat, beats, name, word in (entry.split() for entry in score.split("|")):
        on, length = seconds(start + float(beat)) + rng.normal(0, 0.007), float(beats) * BEAT
        note, sounds = int(name), word.split(".")
        vowels = [n for n, s in enumerate(sounds) if s in VOWELS]
        first, after = vowels[0], vowels[-1] + 1
        body = length - 0.055 * (len(sounds) - after)  # what the closing consonants leave to the vowels
        keys += [(x, *keys[-1][1:4], 0.0) for x in (ended + 0.04, on - 0.065 * first - 0.03) if on - ended > 0.1]
        for n, s in enumerate(sounds):  # opening consonants come early, so that the vowel is on the beat
            early, late = 0.065 * (n - first), 0.6 * body if n < after else body + 0.055 * (n - after)
            at, share = on + (early if n <= first else late), 0.4 if n > first else 0.6 if len(vowels) > 1 else 1
            f1, f2, f3, level = VOICED.get(s, [*keys[-1][1:4], 0.0])
            hold, loud = max(0.03, share * body - 0.06) if s in VOWELS else 0.04, level * (0.1 + 0.012 * note)
            keys += [(at + x, f1, f2, f3, loud * rng.normal(1, 0.03)) for x in (0.02, 0.02 + hold)]
            if s in NOISY:
                centre, width, lasts, amount = NOISY[s]
                burst = shape(rng.normal(size=int(lasts * RATE)), centre - width / 2, centre + width / 2)
                swell = np.exp(-np.linspace(0, 4, burst.size)) if lasts < 0.04 else np.hanning(burst.size)
                put(hiss, at - 0.03, burst * swell / burst.std(), amount * 0.5)
        ended = on + length
        pitch[now >= on - 0.03] = SCALE[SCALE.index(note) + steps]
        vibrato += np.clip((now - on - 0.2) / 0.3, 0, min(1.0, length)) * (now < ended)
    keys.append((ended + 0.06, *keys[-1][1:4], 0.0))
    bell, smooth = np.hanning(57) / np.hanning(57).sum(), np.hanning(23) / np.hanning(23).sum()
    drift = np.convolve(rng.normal(size=now.size), np.hanning(301), "same") * 0.006  # nobody holds a pitch exactly
    glide = np.convolve(np.pad(pitch, 28, mode="edge"), bell, "valid") + drift
    f0 = 440 * 2 ** ((glide + 0.35 * vibrato * np.sin(2 * np.pi * 5.4 * now + 3 * drift) - 69) / 12)
    curve = np.array(sorted(keys, key=lambda key: key[0])).T
    *mouth, loudness = (np.convolve(np.interp(now, curve[0], c), smooth, "same") for c in curve[1:])
    poles = [np.pi * (2j * f - 0.06 * f - 50) for f in (*mouth, 0 * now + 3900, 0 * now + 4900)]
    bank = []
    for k in range(1, 41):
        w = 2j * np.pi * k * f0
        through = np.prod([abs(p) ** 2 / ((w - p) * (w - p.conj())) for p in poles], axis=0)
        bank.append(through * k**-0.6 * np.clip((12000 - k * f0) / 3000, 0, 1))
    even: Audio = loudness / np.sqrt(np.sum(np.abs(bank) ** 2, axis=0)) ** 0.8  # evens out the vowels
    turn = np.exp(2j * np.pi * np.cumsum(np.interp(TIME, now, f0)) / RATE)
    spin, voice = turn.copy(), shape(rng.normal(size=LENGTH), 2500, 9000) * np.interp(TIME, now, 0.04 * loudness)
    for weight in bank:
        voice += (spin * np.interp(TIME, now, even * weight)).imag
        spin *= turn
    return np.asarray(0.28 * voice + 1.4 * hiss[0])


def make_vocals(rng: np.random.Generator) -> Audio:
    track = np.zeros((2, LENGTH))
    put(track, 0, sing(VERSE_TUNE, VERSE, 0, rng), 0.95)
    for steps, level, pan in ((0, 1, 0), (0, 0.3, -0.7), (-2, 0.42, 0.6), (2, 0.25, -0.5)):  # a double, two harmonies
        put(track, 0, sing(CHORUS_TUNE, CHORUS, steps, rng), level, pan)
    return reverb(shape(track, 120, 14000), rng, 1.5, 0.16)


def master(stems: list[Audio], drive: float = 0.5, ceiling: float = 0.82) -> list[NDArray[np.int16]]:
    """Fade, limit the bus and round: one gain curve for all the stems, so that they still add up to the mix."""
    peaks = np.abs(np.sum(stems, axis=0)).max(axis=0).reshape(-1, 60).max(axis=1)
    gain = np.pad(np.minimum(1, ceiling / (drive * peaks + 1e-9)), 131, mode="edge")
    lowest = np.lib.stride_tricks.sliding_window_view(gain, 141).min(axis=1)  # 95 ms either side
    held = np.convolve(lowest, np.hanning(123) / np.hanning(123).sum(), "valid")
    curve = drive * np.clip((30 - TIME) / 1.2, 0, 1) * np.interp(TIME, (60 * np.arange(held.size) + 30) / RATE, held)
    return [np.round(32767 * curve * stem).astype(np.int16) for stem in stems]


def encode(track: NDArray[np.int16], path: Path, *options: str) -> None:
    command = ["ffmpeg", "-v", "error", "-y", "-f", "s16le", "-ar", str(RATE), "-ac", "2", "-i", "-", *options]
    command += ["-fflags", "+bitexact", "-flags:a", "+bitexact", str(path)]
    subprocess.run(command, input=track.T.astype("<i2").tobytes(), check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Synthesise the demo song (CC0).")
    parser.add_argument("--stems", type=Path, metavar="DIR", help="also write the true stems and the mixture as WAV")
    parser.add_argument("out", type=Path, metavar="OUT.mp3")
    args = parser.parse_args()
    makers = {"drums": make_drums, "bass": make_bass, "other": make_other, "vocals": make_vocals}
    tracks = master([make(np.random.default_rng(2024 + i)) for i, make in enumerate(makers.values())])
    mixture = np.asarray(np.sum(tracks, axis=0, dtype=np.int16))
    for name, track in zip([*makers, "mixture"], [*tracks, mixture], strict=True):
        if args.stems is not None:
            args.stems.mkdir(parents=True, exist_ok=True)
            encode(track, args.stems / f"{name}.wav")
    tags = ("-metadata", "title=Four Small Stems", "-metadata", "artist=stems", "-metadata", "copyright=CC0 1.0")
    encode(mixture, args.out, "-b:a", "128k", *tags)


if __name__ == "__main__":
    main()
