"""What a run leaves in its folder: whatever the logger, whatever happens, and without touching the training."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Callback
from lightning.pytorch.callbacks import EarlyStopping
from PIL import Image

from tests.tiny_training import end_state, tiny_task, train
from visionkit.bundle import save_bundle
from visionkit.callbacks.run_report import RunReport, report_best, target_of
from visionkit.checkpoint import load_task, read_checkpoint
from visionkit.errors import Terminated
from visionkit.run_report import summary
from visionkit.run_report.evaluation import Evaluation


class Fails(Callback):
    """Ends a training in its second epoch."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            raise Terminated("ended by SIGTERM after step 10")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A run that was ended and gone on with, and whose best checkpoint was then evaluated."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.raises(Terminated):
        train(folder, extra=[Fails()])
    ended = summary.read_summary(folder)
    trainer = train(folder)
    report_best(trainer, trainer.lightning_module)
    return folder, ended


def test_an_ended_run_is_summed_up(run):
    folder, ended = run
    assert ended["status"] == "ended by Terminated: ended by SIGTERM after step 10" and ended["steps"] == 10
    found = summary.read_summary(folder)
    assert found["status"] == "finished" and found["steps"] == 30 and "reason" not in found
    assert found["monitor"]["metric"] == "val/top1"
    assert (folder / found["checkpoints"]["best"]).is_file()
    assert found["val"]["checkpoint"] == found["checkpoints"]["best"] and found["val"]["images"] == 10
    assert found["val"]["metrics"]["val/top1"] == found["monitor"]["best"], "the best weights, not the last"
    assert all((folder / file).is_file() for file in found["val"]["files"])


def test_curves_go_on_after_a_resume(run):
    rows = [line.split(",") for line in (run[0] / "report" / "curves.csv").read_text().splitlines()[1:]]
    steps = [int(step) for step, _, name, _ in rows if name == "val/top1"]
    assert steps == [10, 20, 30]
    steps = [int(step) for step, _, name, _ in rows if name == "train/loss"]
    assert steps == sorted(set(steps)) and steps[-1] == 30
    assert Image.open(run[0] / "report" / "curves.png").width == 1120


def test_every_checkpoint_knows_its_run(run, tmp_path):
    card = read_checkpoint(run[0] / "checkpoints" / "last.ckpt")["visionkit"]["card"]
    assert card["data"] == "NoiseData; 40 training images, 10 validation images"
    assert card["training"] == "30 steps of 4 images, 3 epochs, on cpu" and card["step"] == 30
    assert "torch " in card["trained_with"]
    assert {row["metric"] for row in card["results"]} == {"top1", "f1_macro", "calibration_error"}
    assert all(row["split"] == "val" and "top-1" in row["protocol"] for row in card["results"])
    task = load_task(run[0] / "checkpoints" / "last.ckpt")
    folder = save_bundle(task, tmp_path / "bundle", card={"seed": 7})
    facts = json.loads((folder / "model.json").read_text())["card"]
    assert facts == {**card, "seed": 7}
    assert load_task(folder).card == facts
    assert "30 steps of 4 images" in (folder / "README.md").read_text()


def test_results_that_are_older_than_the_weights_name_their_step(tmp_path):
    options = {"max_steps": 6, "val_check_interval": 5, "checkpoint_every": 1, "limit_val_batches": 1}
    train(tmp_path, num_sanity_val_steps=0, check_val_every_n_epoch=1, **options)
    card = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["visionkit"]["card"]
    assert card["step"] == 6 and card["results"][0]["split"] == "val (at step 5)"
    (best,) = (tmp_path / "checkpoints").glob("best-*.ckpt")
    card = read_checkpoint(best)["visionkit"]["card"]
    assert card["step"] == 5 and card["results"][0]["split"] == "val"


def test_test_results_reach_the_card_of_the_checkpoint_they_belong_to(tmp_path):
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    for name in ("best.ckpt", "last.ckpt"):
        (checkpoints / name).write_bytes(b"PK")
    tested = {
        "checkpoint": "checkpoints/best.ckpt",
        "step": 5,
        "protocol": "p",
        "metrics": {"test/top1": 0.5, "test/loss": 1.0},
    }
    summary.update_summary(tmp_path, {"task": "classification", "test": tested})
    card = {"step": 5, "results": [{"metric": "top1", "value": 0.4, "split": "val", "protocol": "p"}]}
    row = {"metric": "top1", "value": 0.5, "split": "test", "protocol": "p"}
    known = summary.with_test_results(card, checkpoints / "best.ckpt")
    assert known["results"] == [*card["results"], row]
    assert summary.with_test_results(known, checkpoints / "best.ckpt") == known, "once, however often it is exported"
    assert summary.with_test_results(card, checkpoints / "last.ckpt") == card
    assert summary.with_test_results({**card, "step": 6}, checkpoints / "best.ckpt") == {**card, "step": 6}
    assert summary.with_test_results(card, tmp_path / "bundle") == card


def test_the_report_changes_no_weight(tmp_path, monkeypatch):
    options = {"max_epochs": 2, "limit_train_batches": 2, "limit_val_batches": 1}
    train(tmp_path / "with", **options)
    monkeypatch.setattr("visionkit.callbacks.RunReport", lambda *args: Callback())
    train(tmp_path / "without", **options)
    assert end_state(tmp_path / "with") == end_state(tmp_path / "without")
    assert not (tmp_path / "without" / "report").exists()


def test_a_report_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / "report").write_text("a file where the folder would be")
    with caplog.at_level(logging.WARNING):
        trainer = train(tmp_path, max_epochs=1, limit_train_batches=2)
    assert trainer.global_step == 2 and (tmp_path / "checkpoints" / "last.ckpt").is_file()
    assert "report: not all of it could be written" in caplog.text


def test_training_images_are_those_after_mixing(tmp_path):
    shown = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer: Any, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            report = next(each for each in trainer.callbacks if isinstance(each, RunReport))
            if batch_idx == 0 and report._first is not None:
                shown.append((report._first, batch))

    train(tmp_path, extra=[Watch()], max_epochs=1, task=tiny_task(mixup=8.0), limit_train_batches=1)
    first, batch = shown[0]
    assert (
        first["inputs"]["image"].dtype == torch.uint8
        and first["inputs"]["image"].shape == batch["inputs"]["image"].shape
    )
    assert not torch.equal(first["inputs"]["image"], batch["inputs"]["image"]), "mixed"
    assert first["target"][0]["labels"].shape == (2,)
    assert Image.open(tmp_path / "report" / "training-images.png").width > 500


def test_early_stopping_states_when_and_why(tmp_path):
    stop = EarlyStopping("val/top1", mode="max", patience=2, min_delta=2.0)
    trainer = train(tmp_path, extra=[stop], max_epochs=9, limit_train_batches=1)
    reason = summary.stopped_early(trainer)
    assert reason.startswith("stopped early after epoch 3 of 9: val/top1 did not get better than ")
    assert reason.endswith("in 2 checks in a row")
    found = summary.read_summary(tmp_path)
    assert (found["status"], found["reason"]) == ("stopped early", reason)
    bound = EarlyStopping("val/loss", stopping_threshold=1e9)
    assert "stopped early after epoch 1 of 9: " in summary.stopped_early(
        train(tmp_path / "b", extra=[bound], max_epochs=9, limit_train_batches=1)
    )


def test_targets_of_one_image():
    batch = {
        "target": {
            "heads": {
                "what": {"rows": torch.tensor([1]), "target": {"labels": torch.tensor([7])}},
                "things": {"rows": torch.tensor([0, 1]), "target": [{"boxes": 1}, {"boxes": 2}]},
            }
        }
    }
    assert target_of(batch, 0) == {"heads": {"things": {"boxes": 1}}}
    assert target_of(batch, 1)["heads"]["what"]["labels"] == 7


def test_images_of_an_order_of_their_own_get_no_truth():
    from visionkit.images import ImageSource
    from visionkit.loading import SampleDataset
    from visionkit.predictions import Classification
    from visionkit.types import Sample

    samples = [Sample.of(ImageSource(np.zeros((8, 8, 3), np.uint8)), {"labels": 0}, name) for name in "ab"]
    evaluation = Evaluation(SampleDataset(samples, None), 0, 1, 2)  # type: ignore[arg-type]
    said = Classification(("x", "y"), np.array([0.2, 0.8]))
    evaluation.add([said, said], {"id": ["a", "z"]})  # type: ignore[typeddict-item]
    assert [row.get("truth") for _, row in evaluation.rows] == ["x", None]
    assert len(evaluation.drawn) == 1
