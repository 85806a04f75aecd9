"""What is sung: syllables, spelled in the phones of `phonemes`, parted by blanks."""

from dataclasses import dataclass

import numpy as np

# Sung words and their syllables.
WORDS = """
l ah v|y uw|m iy|n ay t|d ey|hh aa r t|ay|w iy|s ow l|f ay r|b ey,b iy|ow v,er|n eh,v er|t ah,n ay t|s t aa r z
s k ay|f ao l|f l ay|hh ow l d|d aw n|r iy l|f iy l|t ay m|m ay n d|l ay t|d aa r k|aw t|k ah m|b ae k|hh ow m|g ow
s t ey|ah,w ey|r ah n|s ah n|r ey n|d ae n s|m uw v|sh ay n|sh ey k|w ey k|b r ey k|t r uw|b l uw|th r uw|w er l d
dh ah|ah n d|ih n|t uw|s ah m,b ah,d iy|w ih,dh aw t|f ao r,eh,v er|k r ay,ih ng|w ey,t ih ng|l uh,k ih ng
hh iy r|ch ey n jh|jh ah s t|dh ih s|l ay f|l ao s t|g ao n|k ao l|n ey m|ay z|k ih s|t ah ch|s l ow|s ih ng|s ao ng
d r iy m|d r iy,m er|s ih,t iy|m ih r,er|r ih,v er|ow|hh ay|l ow|w ao k|t ao k|n ow|y eh|s ey|w ay|p l ey|p ah,p ah
m ah,n iy|b ao,d iy|k r ey,z iy|ey n,jh ah l|hh eh,v ah n|th ih ng k|b er n|t er n|s iy|z ow n|v oy s|ch oy s|jh oy
"""
FILLERS = ("l aa", "n aa", "ow", "aa", "uw", "d uw", "y eh", "hh ey", "w ow", "m m aa", "d aa", "t uw", "b aa", "iy")
ONSETS = (
    *("", "b", "d", "f", "g", "hh", "jh", "k", "l", "m", "n", "p", "r", "s", "sh", "t", "th", "v", "w", "y", "z", "ch"),
    *("s t", "s p", "s k", "t r", "p l", "b r", "k l", "g r", "f l", "s w", "dh", "zh", "s t r", "s m", "s n"),
)
VOWELS = ("aa", "ae", "ah", "ao", "eh", "er", "ih", "iy", "uh", "uw", "ey", "ay", "aw", "ow", "oy")
CODAS = (
    *("",) * 14,
    *("n", "m", "l", "r", "s", "z", "t", "d", "k", "v", "ng", "sh", "f", "p", "th", "n d", "s t", "n t"),
)


@dataclass(frozen=True, slots=True)
class Syllable:
    """One sung syllable."""

    start_s: float  # when its vowel starts: the consonants come before
    duration_s: float  # of the vowel and what follows
    pitch: float  # MIDI note number
    text: str  # phones, as `lyrics` writes them
    velocity: float  # loudness, 0 to 1


def _made_up(rng: np.random.Generator) -> str:
    """Return a syllable of no language."""
    return " ".join(f"{rng.choice(ONSETS)} {rng.choice(VOWELS)} {rng.choice(CODAS)}".split())


def _line(size: int, english: float, filler: float, rng: np.random.Generator) -> list[str]:
    """Return a line of `size` syllables; `english` and `filler` are the shares of words and of "la la"."""
    words = [word.split(",") for word in WORDS.replace("\n", "|").split("|") if word]
    line: list[str] = []
    while len(line) < size:
        drawn = rng.random()
        if drawn < filler:
            line += [str(rng.choice(FILLERS))] * int(rng.integers(1, 5))
        elif drawn < filler + english:
            line += words[int(rng.integers(len(words)))]
        else:
            line.append(_made_up(rng))
    return line[:size]


def lyrics(count: int, rng: np.random.Generator) -> list[str]:
    """Return exactly `count` syllables in a flat list: new lines, lines sung before, and a hook that comes back."""
    english, filler = rng.uniform(0.1, 0.8), rng.choice([0.03, 0.1, 0.2])
    hook = _line(int(rng.integers(3, 8)), english, 0.3, rng)
    lines = [hook]
    text: list[str] = []
    while len(text) < count:
        drawn = rng.random()
        if drawn < 0.25:
            text += hook
        elif drawn < 0.45:
            text += lines[int(rng.integers(len(lines)))]
        else:
            lines.append(_line(int(rng.integers(4, 11)), english, filler, rng))
            text += lines[-1]
    return text[:count]
