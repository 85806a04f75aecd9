"""Training: the same weights after a kill, a file that the engine loads, and measures that are right."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner

from stems.separate.model import load_file
from tests.data.training import augment, baseline, data, metrics, model
from tests.data.training.evaluate import MIXTURE, SIMPLE, evaluate, separated, summary, table
from tests.data.training.train import CHECKPOINT, LOG, Recipe, Run, loss, main, schedule, train

RATE = data.SAMPLE_RATE_HZ
LENGTH = 3 * RATE


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """Make three songs of noise; the last one has no vocals."""
    rng = np.random.default_rng(0)
    for number in range(3):
        folder = tmp_path / "songs" / str(number)
        folder.mkdir(parents=True)
        for source in data.SOURCES:
            level = 0.0 if (number, source) == (2, "vocals") else 0.1
            soundfile.write(folder / f"{source}.wav", rng.normal(0, level, (LENGTH, 2)), RATE, "PCM_16")
    return tmp_path / "songs"


@pytest.fixture
def recipe(songs: Path, tmp_path: Path) -> Recipe:
    return Recipe(
        songs, tmp_path / "out", architecture="tiny", steps=2, batch=2, segment_s=1.0, epoch_steps=1, bfloat16=False
    )


def weights(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(path / CHECKPOINT, weights_only=True)["average"]["state"]
    return found


def quiet(_: str) -> None:
    """Say nothing."""


def test_a_killed_training_goes_on_to_the_same_weights(recipe: Recipe) -> None:
    train(recipe, quiet)

    def kill(_: str) -> None:
        raise KeyboardInterrupt

    broken = replace(recipe, out=recipe.out.with_name("broken"))
    with pytest.raises(KeyboardInterrupt):
        train(broken, kill)
    assert torch.load(broken.out / CHECKPOINT, weights_only=True)["step"] == 1
    train(broken, quiet)
    ours, theirs = weights(recipe.out), weights(broken.out)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    log = [json.loads(line) for line in (broken.out / LOG).read_text().splitlines()]
    assert [entry["step"] for entry in log] == [1, 2]


def test_a_step_changes_the_weights_and_another_seed_the_outcome(recipe: Recipe) -> None:
    runs = [Run(replace(recipe, seed=seed)) for seed in (1, 1, 2)]
    (batch,) = data.batches(data.scan(recipe.songs), recipe.shape, 1, range(1))
    losses = [run.learn(batch) for run in runs]
    assert losses[0] == losses[1] != losses[2]
    before, after = model.build("tiny", 1).state_dict(), runs[0].network.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_checkpoint_of_another_recipe_is_refused_but_the_end_may_move(recipe: Recipe) -> None:
    train(recipe, quiet)
    with pytest.raises(ValueError, match="of another recipe: batch 2 and not 3, seed 1 and not 9"):
        train(replace(recipe, batch=3, seed=9), quiet)
    train(replace(recipe, steps=3), quiet)
    assert torch.load(recipe.out / CHECKPOINT, weights_only=True)["step"] == 3


def test_a_step_without_finite_gradients_is_left_out(recipe: Recipe) -> None:
    run = Run(recipe)
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    assert np.isnan(run.learn(torch.full((2, 4, 2, RATE), float("inf"))))
    assert all(torch.equal(before[name], value) for name, value in run.network.state_dict().items())


def test_the_command_trains_for_a_time_and_the_engine_loads_what_it_wrote(recipe: Recipe) -> None:
    out = recipe.out
    arguments = ["--songs", str(recipe.songs), "--valid", str(recipe.songs), "--out", str(out), "--epoch-steps", "2"]
    arguments += ["--architecture", "tiny", "--batch", "2", "--segment-s", "1", "--minutes", "0.001", "--float32"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert set(json.loads((out / LOG).read_text().splitlines()[-1])["sdr_db"]) == set(data.SOURCES)
    loaded = load_file(out / "demo.safetensors")
    assert loaded.sources == data.SOURCES
    assert loaded.segment_length == int(RATE * 7.8)
    assert {each.dtype for each in loaded.parts[0].network.parameters()} == {torch.float32}
    average = weights(out)
    for name, value in loaded.parts[0].network.state_dict().items():
        torch.testing.assert_close(value, average[name], rtol=1e-3, atol=1e-6)


def test_the_command_wants_steps_or_minutes(recipe: Recipe) -> None:
    result = CliRunner().invoke(main, ["--songs", str(recipe.songs), "--out", str(recipe.out)])
    assert result.exit_code == 2


@pytest.mark.parametrize("architecture", sorted(model.ARCHITECTURES))
def test_every_architecture_is_exported_small_and_separates(architecture: str, tmp_path: Path) -> None:
    network = model.build(architecture, 0)
    path = tmp_path / "demo.safetensors"
    model.export(network, network.state_dict(), path, {"steps": 0})
    assert path.stat().st_size < 8e6
    stems = separated(load_file(path), torch.randn(2, RATE) * 0.1)
    assert {source: stem.shape for source, stem in stems.items()} == dict.fromkeys(data.SOURCES, (2, RATE))


def test_the_schedule_rises_and_falls_to_nothing() -> None:
    rates = [schedule(progress) for progress in np.linspace(0, 1, 201)]
    top = int(np.argmax(rates))
    assert 0 < rates[0] < 0.1
    assert rates[top] == pytest.approx(1, abs=0.01)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0)
    by_time, by_steps = (Recipe(Path(), Path(), minutes=2), Recipe(Path(), Path(), steps=10))
    assert (by_time.progress(5, 30), by_steps.progress(5, 30)) == (0.25, 0.5)


def test_the_loss_is_the_distance_as_a_share_of_the_mixture() -> None:
    stems = torch.full((2, 4, 2, RATE), 0.1)
    assert float(loss(stems, stems)) == 0
    assert float(loss(stems + 0.1, stems)) == pytest.approx(0.25, rel=1e-3)
    assert float(loss(10 * stems + 1, 10 * stems)) == pytest.approx(0.25, rel=1e-3)


def test_before_the_first_step_every_source_is_a_share_of_the_mixture() -> None:
    network = model.build("demo", 1).eval()
    mixture = torch.randn(1, 2, RATE) * 0.1
    with torch.inference_mode():
        (stems,) = network(mixture)
    for stem in stems:
        share = float((stem * mixture[0]).sum() / (mixture**2).sum())
        rest = stem - share * mixture[0]
        assert 0.1 < share < 1
        assert rest.std() < 0.5 * share * mixture.std()


def test_songs_in_the_making_are_passed_over(songs: Path) -> None:
    (songs / "1" / "bass.wav").unlink()
    soundfile.write(songs / "2" / "bass.wav", np.zeros((10, 2)), RATE, "PCM_16")
    assert [song.name for song in data.scan(songs)] == ["0"]
    assert data.scan(songs, LENGTH + 1) == []
    with pytest.raises(ValueError, match="no songs"):
        next(data.batches([], data.Shape(1, 1), 0, range(1)))


def test_a_batch_follows_from_seed_and_step(songs: Path) -> None:
    found = data.scan(songs, augment.longest(RATE))
    shape = data.Shape(2, RATE)
    first = list(data.batches(found, shape, 1, range(6)))
    assert first[0].shape == (2, 4, 2, RATE)
    assert all(
        torch.equal(one, other)
        for one, other in zip(first[3:], data.batches(found, shape, 1, range(3, 6)), strict=True)
    )
    assert not torch.equal(first[0], data.batch(found, shape, 2, 0))


def test_augmented_stems_are_exchanged_but_never_changed_in_shape() -> None:
    stems = torch.rand(4, 4, 2, 1000)
    chain = augment.chain(remix=1.0)
    torch.manual_seed(0)
    changed = chain(stems.clone())
    assert changed.shape == stems.shape
    assert not torch.equal(changed, stems)
    assert torch.equal(chain.eval()(stems.clone()), stems)


def test_resampling_moves_a_tone_and_keeps_its_level(monkeypatch: pytest.MonkeyPatch) -> None:
    time_s = np.arange(3 * RATE) / RATE
    tone = np.stack([np.sin(2 * np.pi * 1000 * time_s)] * 2).astype(np.float32)
    samples = augment.taken(RATE, 1.1)
    monkeypatch.setattr(augment, "_COLOUR_CHANCE", 0)
    faster = augment.colour(tone[:, :samples], RATE, np.random.default_rng(0))
    assert faster.shape == (2, RATE)
    assert np.argmax(np.abs(np.fft.rfft(faster[0]))) == pytest.approx(1000 * samples / augment._padded(RATE), abs=1)
    assert faster.std() == pytest.approx(tone.std(), rel=0.01)


def test_measures_of_known_errors() -> None:
    rng = np.random.default_rng(0)
    truth, noise = rng.normal(0, 0.1, (2, 2, 4 * RATE)).astype(np.float32)
    assert metrics.sdr_db(truth, truth) > 100
    assert metrics.bss_sdr_db(truth, truth) > 100
    assert metrics.si_sdr_db(truth, 0.5 * truth) > 100
    for measure in (metrics.sdr_db, metrics.si_sdr_db, metrics.bss_sdr_db):
        assert measure(truth, truth + 0.1 * noise) == pytest.approx(20, abs=0.1)
    assert metrics.sdr_db(truth, 0.5 * truth) == pytest.approx(6.02, abs=0.01)
    truth[:, :RATE] = 0
    assert metrics.bss_sdr_db(truth, truth + 0.1 * noise) == pytest.approx(20, abs=0.1)
    assert np.isnan(metrics.bss_sdr_db(truth, 0 * truth))
    assert metrics.silent(0 * truth)


def test_an_evaluation_leaves_out_silent_stems_and_ranks_the_mixture(songs: Path, tmp_path: Path) -> None:
    network = model.build("tiny", 0)
    path = tmp_path / "demo.safetensors"
    model.export(network, network.state_dict(), path, {})
    scores = [score for song in data.scan(songs)[1:] for score in evaluate(song, path)]
    summed = summary(scores, "demo")
    measured = summed["SDR"]
    assert measured["drums"][MIXTURE]["songs"] == 2
    assert measured["vocals"][MIXTURE]["songs"] == 1
    assert measured["vocals"][MIXTURE]["median_db"] == pytest.approx(-4.8, abs=0.1)
    assert measured["drums"][SIMPLE]["median_db"] > measured["drums"][MIXTURE]["median_db"]
    shown = table(summed, "demo")
    assert "| mixture |" in shown
    assert "| songs | 2 | 2 | 2 | 1 | |" in shown


def test_simple_methods_find_clicks_and_low_tones() -> None:
    time_s = np.arange(2 * RATE) / RATE
    bass = np.stack([np.sin(2 * np.pi * 80 * time_s)] * 2).astype(np.float32) * 0.3
    drums = np.zeros_like(bass)
    drums[:, ::11025] = 1.0
    truth = {"bass": bass, "drums": drums}
    gained_db: dict[str, list[float]] = {source: [] for source in data.SOURCES}
    for source, _, estimate in baseline.estimates(bass + drums, RATE):
        of = truth.get(source, bass)
        gained_db[source].append(metrics.sdr_db(of, estimate) - metrics.sdr_db(of, bass + drums))
    assert max(gained_db["bass"]) > 5
    assert max(gained_db["drums"]) > 5
