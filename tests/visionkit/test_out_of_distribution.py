"""Images unlike a model's own are marked, its own are not, and what distinguishes them travels with the weights."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.contracts.cases import BACKBONES, build, given
from tests.tiny_training import tiny_task, train
from visionkit.backbone_task import BackboneTask
from visionkit.bundle import save_bundle
from visionkit.checkpoint import load_task, read_checkpoint
from visionkit.errors import CheckpointError, UsageError
from visionkit.feature_statistics import statistics_from
from visionkit.novelty import Novelty, novelty_sentence
from visionkit.out_of_distribution import FEWEST, STATISTICS, FeatureStatistics, tap_of
from visionkit.predictor import Predictor, load
from visionkit.registry import task_class, task_names


def own(count: int, seed: int = 0) -> list[np.ndarray]:
    """Soft vertical ramps of two colors."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 120, 40)[:, None, None]
    return [
        (ramp + rng.integers(0, 60, 3) + rng.normal(0, 4, (40, 40, 3))).clip(0, 255).astype(np.uint8)
        for _ in range(count)
    ]


def noise(count: int) -> list[np.ndarray]:
    return [np.random.default_rng(k).integers(0, 256, (40, 40, 3), dtype=np.uint8) for k in range(count)]


@pytest.fixture(scope="module")
def task():
    torch.manual_seed(0)
    task = tiny_task().eval()
    task.statistics = statistics_from(task, own(60))
    return task


def test_its_own_images_are_seldom_marked_and_others_are(task):
    predictor = Predictor(task)
    held = [predictor.examine(image).novelty for image in own(60, seed=1)]
    assert np.mean([each.unlike for each in held]) <= 0.1
    assert all(predictor.examine(image).novelty.unlike for image in noise(6))
    assert (held[0].percentile, held[0].images) == (99.0, 60)


def test_a_stream_and_threads_report_the_same(task):
    images = own(5, seed=2) + noise(3)
    predictor = Predictor(task, batch_size=3)
    expected = [predictor.examine(image).novelty.score for image in images]
    streamed = [result.novelty.score for result in predictor.stream(images, batch_size=4)]
    assert streamed == pytest.approx(expected, rel=1e-3)
    found: dict[int, float] = {}

    def ask(k: int) -> None:
        found[k] = predictor.examine(images[k]).novelty.score

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(len(images))]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert [found[k] for k in range(len(images))] == pytest.approx(expected, rel=1e-3)
    assert not any(module._forward_hooks for module in task.modules()), "nothing is left behind"


def test_statistics_travel_and_models_without_them_work(task, tmp_path):
    folder = save_bundle(task, tmp_path / "bundle", card={})
    assert (folder / STATISTICS).stat().st_size < 100_000
    again = load(folder)
    for image in (*own(2, seed=3), *noise(2)):
        assert again.examine(image).novelty.score == pytest.approx(
            Predictor(task).examine(image).novelty.score, rel=0.02
        )
    checkpoint = {"state_dict": task.state_dict()}
    task.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "a.ckpt")
    assert load(tmp_path / "a.ckpt").examine(noise(1)[0]).novelty.unlike
    (folder / STATISTICS).unlink()
    assert load(folder).examine(noise(1)[0]).novelty is None


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.pop("mean", None) or r["arrays"].pop("mean"),
        lambda r: r.update(features=10**9),
        lambda r: r.update(directions=-1),
        lambda r: r.update(threshold=0),
        lambda r: r.update(rest="x"),
        lambda r: r["arrays"].update(mean="%%%"),
        lambda r: r["arrays"].update(deviations=r["arrays"]["mean"]),
        lambda r: r.clear(),
    ],
)
def test_damaged_statistics_are_refused_in_one_line(task, tmp_path, change):
    folder = save_bundle(task, tmp_path / "bundle", card={})
    record = json.loads((folder / STATISTICS).read_text())
    change(record)
    (folder / STATISTICS).write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=STATISTICS) as error:
        load(folder)
    assert "\n" not in str(error.value)
    (folder / STATISTICS).write_text("[1")
    with pytest.raises(CheckpointError, match=STATISTICS):
        load(folder)


def test_features_that_report_nothing_make_no_statistics(task):
    rng = np.random.default_rng(0)
    assert FeatureStatistics.of(rng.normal(size=(FEWEST - 1, 8))) is None
    assert FeatureStatistics.of(np.ones((50, 8))) is None
    assert FeatureStatistics.of(np.full((50, 8), np.nan)) is None
    found = FeatureStatistics.of(rng.normal(size=(500, 8)))
    assert found is not None and found.novelty(np.zeros((1, 9))) == []
    assert 0.9 < found.threshold < 2.0
    with pytest.raises(UsageError, match="at least 20"):
        statistics_from(task, own(3))
    with pytest.raises(UsageError, match="no backbone"):
        statistics_from(build("super_resolution"), own(30))


def test_the_sentence_states_what_was_compared():
    assert novelty_sentence(None) == novelty_sentence(Novelty(0.9, 99.0, 1200)) == ""
    message = novelty_sentence(Novelty(2.34, 99.0, 1200))
    assert "2.3 times as far out as 99 % of its 1,200 held-out images" in message


@pytest.mark.parametrize("network", BACKBONES)
def test_maps_and_tokens_are_pooled(network):
    built = build("classification", network).eval()
    tap = tap_of(built.network)
    with torch.inference_mode(), tap:
        built(torch.zeros(3, 3, *built.input.size, dtype=torch.uint8))
    features = tap.take(3)
    assert features.shape[0] == 3 and features.ndim == 2 and torch.isfinite(features).all()
    assert tap.take(3) is None, "once per pass"


@pytest.mark.parametrize("name", [name for name in task_names() if issubclass(task_class(name), BackboneTask)])
def test_every_task_with_a_backbone_has_features(name):
    built = build(name).eval()
    images = [np.random.default_rng(k).integers(0, 256, (64, 64, 3), dtype=np.uint8) // (k % 3 + 1) for k in range(20)]
    built.statistics = statistics_from(built, [given(name, image) for image in images])
    assert Predictor(built).examine(given(name, np.zeros((64, 64, 3), np.uint8))).novelty is not None


def test_a_training_leaves_statistics_in_the_checkpoints_of_a_validation(tmp_path):
    train(tmp_path, max_steps=3, val_check_interval=2, checkpoint_every=1, val_images=24)
    (best,) = (tmp_path / "checkpoints").glob("best-*.ckpt")
    kept = read_checkpoint(best)["visionkit"]["features"]
    assert kept["images"] == 24 and load_task(best).statistics is not None
    last = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert last["global_step"] == 3 and "features" not in last["visionkit"], "of other weights than these"
    assert not any(module._forward_hooks for module in load_task(best).modules())


def test_predict_states_it(task, tmp_path, capsys):
    from PIL import Image

    from ui.cli import main

    folder = save_bundle(task, tmp_path / "bundle", card={})
    (tmp_path / "in").mkdir()
    for name, image in (("own", own(1, seed=5)[0]), ("noise", noise(1)[0])):
        Image.fromarray(image).save(tmp_path / "in" / f"{name}.png")
    assert main(["predict", str(folder), str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    records = {
        Path(r["source"]).stem: r
        for r in map(json.loads, (tmp_path / "out/predictions.jsonl").read_text().splitlines())
    }
    assert records["noise"]["out_of_distribution"]["unlike"] is True
    assert records["own"]["out_of_distribution"] == {
        **records["own"]["out_of_distribution"],
        "unlike": False,
        "images": 60,
    }
    message = capsys.readouterr()
    assert "1 of 2 look unlike the images this model was made with" in message.err and "99 % of its 60" in message.err
    assert "(unlike its own images)" in message.out
