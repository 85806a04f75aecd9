"""The bundled song through the pipeline with the bundled model: what is delivered is a separation.

The floors are 1.5 dB below what was measured when the weights were bundled (functions/stems/separate/models/demo.md).
"""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from stems.errors import StemsError
from stems_local.quality import compare
from tests.pipeline import Pipeline, samples
from tests.programs import CHECKOUT

SONG = CHECKOUT / "tests" / "data" / "song.mp3"
FLOOR_DB = {"drums": 6.9, "bass": 0.6, "other": 0.4, "vocals": 2.6}


@pytest.fixture(scope="module")
def delivered(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Upload the song with `mc`, asking for the model `demo`; fetch its stems over HTTP."""
    pipeline.mc("cp", "--attr", "model=demo", str(SONG), "stems/queue/quality.mp3")
    track = pipeline.done("quality.mp3")
    assert track["model"]["name"] == "demo"
    assert "synthetic music" in track["model"]["note"]
    assert {stem["gain_db"] for stem in track["stems"]} == {0.0}
    folder = tmp_path_factory.mktemp("delivered")
    for stem in FLOOR_DB:
        (folder / f"{stem}.mp3").write_bytes(pipeline.download(f"/v1/tracks/{track['songhash']}/{stem}"))
    return {stem: folder / f"{stem}.mp3" for stem in FLOOR_DB}


@pytest.mark.parametrize("stem", FLOOR_DB)
def test_a_delivered_stem_is_near_the_true_one_and_no_other(delivered: dict[str, Path], stem: str) -> None:
    truth = {each: SONG.with_suffix("") / f"{each}.mp3" for each in FLOOR_DB}
    reached_db = compare(truth[stem], delivered[stem])
    assert reached_db > FLOOR_DB[stem]
    assert reached_db > compare(truth[stem], SONG) + 5
    assert max(truth, key=lambda each: compare(truth[each], delivered[stem])) == stem


def test_the_true_stems_add_up_to_the_song() -> None:
    mixture = samples(SONG.read_bytes())
    total = sum(samples((SONG.with_suffix("") / f"{stem}.mp3").read_bytes()) for stem in FLOOR_DB)
    error = mixture - total
    assert (error**2).mean() < 0.01 * (mixture**2).mean()


def test_the_measure_sees_a_wrong_gain_a_delay_and_another_length(tmp_path: Path) -> None:
    truth = SONG.with_suffix("") / "vocals.mp3"
    assert compare(truth, truth) > 90
    assert compare(truth, truth, gain_db=-6.02) == pytest.approx(0, abs=0.1)  # twice as loud as it should be
    late, cut = tmp_path / "late.wav", tmp_path / "cut.wav"
    sound = np.asarray(samples(truth.read_bytes()))
    soundfile.write(late, np.roll(sound, 10, axis=0), 44100)
    soundfile.write(cut, sound[:-1000], 44100)
    assert compare(truth, late) < 20
    with pytest.raises(StemsError, match=r"cut.wav has 1322000 samples, .*vocals.mp3 has 1323000"):
        compare(truth, cut)
    text = tmp_path / "no.mp3"
    text.write_text("no sound")
    with pytest.raises(StemsError, match="cannot be decoded"):
        compare(truth, text)
