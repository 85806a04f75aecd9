"""The picture in README.md: a song, its true stems, and what the bundled model makes of it, as spectrograms.

`python -m tests.data.training.picture PICTURE [SONG]`: without true stems beside it, only what comes out is shown.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from stems.separate.model import DEMO, load
from stems_local.quality import samples
from tests.data.training import data, metrics
from tests.data.training.evaluate import separated

_HERE = Path(__file__).resolve().parents[1]
_WINDOW = 4096
_LOWEST_HZ, _HIGHEST_HZ, _ROWS = 40, 16000, 160
_FLOOR_DB = -65.0


def draw(song: Path, picture: Path, most_s: float) -> None:
    """Write a PNG with a row for the song and one for each stem: true on the left where known, separated right."""
    mixture = _read(song, most_s)
    stems = separated(load(DEMO, Path()), torch.from_numpy(mixture))
    truth = {
        source: _read(path, most_s) for source in stems if (path := song.with_suffix("") / f"{source}.mp3").exists()
    }
    columns = 2 if truth else 1
    figure = Figure(figsize=(5.5 * columns, 8), layout="constrained", dpi=90)
    grid = figure.add_gridspec(len(stems) + 1, columns)
    _spectrogram(figure.add_subplot(grid[0, :]), mixture, f"{song.name}, as it goes in")
    for row, (source, stem) in enumerate(stems.items(), 1):
        share_db = 10 * np.log10((stem**2).mean() / (mixture**2).mean() + 1e-12)
        told = f"{share_db:.1f} dB of the song's power"
        if truth:
            _spectrogram(figure.add_subplot(grid[row, 0]), truth[source], f"{source}, true")
            told = f"SDR {metrics.sdr_db(truth[source], stem):.1f} dB"
        _spectrogram(figure.add_subplot(grid[row, columns - 1]), stem, f"{source}, separated: {told}")
    figure.supxlabel("seconds")
    figure.supylabel("Hz")
    with io.BytesIO() as full:
        figure.savefig(full, format="png")
        Image.open(full).convert("RGB").quantize(64).save(picture, optimize=True)  # a fifth of the size


def _read(path: Path, most_s: float) -> NDArray[np.float32]:
    return np.ascontiguousarray(samples(path)[: int(most_s * data.SAMPLE_RATE_HZ)].T)


def _spectrogram(axes: Axes, sound: NDArray[np.float32], title: str) -> None:
    """Draw one with pitch upwards: frequencies in octaves."""
    window = torch.hann_window(_WINDOW)
    mono = torch.from_numpy(sound.mean(0))
    power = torch.stft(mono, _WINDOW, _WINDOW // 2, window=window, return_complex=True).abs().square().numpy()
    rows = np.geomspace(_LOWEST_HZ, _HIGHEST_HZ, _ROWS) * _WINDOW / data.SAMPLE_RATE_HZ
    level_db = 10 * np.log10(power[np.round(rows).astype(int)] / _WINDOW + 1e-12)
    extent = (0, sound.shape[1] / data.SAMPLE_RATE_HZ, np.log10(_LOWEST_HZ), np.log10(_HIGHEST_HZ))
    axes.imshow(level_db, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=_FLOOR_DB, vmax=20)
    axes.set_yticks([2, 3, 4], ["100", "1k", "10k"])
    axes.set_title(title, fontsize=9, loc="left", pad=3)


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", type=Path)
    parser.add_argument("song", type=Path, nargs="?", default=_HERE / "song.mp3")
    parser.add_argument("--seconds", type=float, default=30.0, help="how much of the song to show")
    options = parser.parse_args()
    draw(options.song, options.picture, options.seconds)


if __name__ == "__main__":
    main()
