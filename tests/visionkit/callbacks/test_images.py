"""Drawn samples reach every type of logger, or the user is reported where they are."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from PIL import Image

from tasks.classification import ClassificationTask
from tests.toy_data import ToyData
from visionkit.callbacks.images import ImageLogger
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.loading import collate
from visionkit.predictions import Classification
from visionkit.preprocess import Preprocessor


class Numbers(Logger):
    """A logger that knows numbers only."""

    name = version = "numbers"

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        pass


def class_folders(root: Path, each: int = 12) -> None:
    """Class folders of dark and light images."""
    rng = np.random.default_rng(0)
    for split, name, shift in ((s, n, v) for s in ("train", "val") for n, v in (("dark", 0), ("light", 120))):
        folder = root / split / name
        folder.mkdir(parents=True)
        for number in range(each):
            Image.fromarray(rng.integers(shift, shift + 120, (24, 30, 3), dtype=np.uint8)).save(
                folder / f"{number}.png"
            )


def fit(root: Path, logger: Any, callback: ImageLogger, **options: Any) -> Trainer:
    task = ClassificationTask(
        "test_resnet", classes=("dark", "light"), input=InputSpec((32, 32), resize_mode="stretch")
    )
    data = ToyData(input=task.input, classes=task.classes, batch_size=7)
    trainer = Trainer(
        accelerator="cpu",
        logger=logger,
        default_root_dir=root,
        callbacks=[callback],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **{"max_epochs": 2, **options},
    )
    trainer.fit(task, datamodule=data)
    return trainer


def test_csv_gets_files_in_the_run_and_the_same_samples_each_epoch(tmp_path, caplog):
    # Two validations an epoch, one drawing.
    callback = ImageLogger(count=3)
    trainer = fit(tmp_path, CSVLogger(str(tmp_path), name="metrics"), callback, val_check_interval=0.5)
    first, second = sorted((tmp_path / "images").iterdir())
    assert (first.name, second.name) == ("epoch0001", "epoch0002")
    names = [path.name for path in sorted(first.iterdir())]
    assert len(names) == 3
    assert names == [path.name for path in sorted(second.iterdir())]
    image = np.asarray(Image.open(first / names[0]))
    assert image.shape[0] >= 200
    assert image.shape[1] > 2 * image.shape[0], "truth beside prediction"
    assert not [record for record in caplog.records if "images" in record.getMessage()]
    # What is drawn is what is served: the same numbers as by hand, from the weights at the end.
    task: Any = trainer.lightning_module
    sample = callback._chosen[0]
    batch = collate([Preprocessor(task.input)(sample)])
    with torch.inference_mode():
        expected = task.eval().restore(task.decode(task.run(batch)), batch["geometry"])[0]
        drawn = callback._predict(trainer, task)[0]
    np.testing.assert_allclose(drawn.probabilities, expected.probabilities, atol=1e-6)


def test_tensorboard_gets_images(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(str(tmp_path), name="tensorboard")
    fit(tmp_path, logger, ImageLogger(count=2), max_epochs=1)
    logger.experiment.flush()
    events = EventAccumulator(logger.log_dir).Reload()
    assert sorted(events.Tags()["images"]) == ["images/0", "images/1"]
    shown = events.Images("images/0")[0]
    assert shown.step == 3
    assert shown.width > 2 * shown.height
    assert not (tmp_path / "images").exists()


def test_a_logger_without_images_is_reported_once(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        fit(tmp_path, Numbers(), ImageLogger(count=1))
    message = [record.getMessage() for record in caplog.records if "takes no images" in record.getMessage()]
    assert message == [f"images: Numbers takes no images; they are in {tmp_path / 'images'}"]
    assert len(list((tmp_path / "images").glob("*/*.png"))) == 2


def test_truth_and_row_of_a_classification():
    said = Classification(("cat", "dog"), np.array([0.3, 0.7]))
    truth = said.truth({"labels": np.int64(0)})
    assert isinstance(truth, Classification)
    assert truth.best == ("cat", 1.0)
    assert said.row(truth) == {
        "truth": "cat",
        "prediction": "dog",
        "probability": pytest.approx(0.7),
        "correct": False,
    }
    assert said.row() == {"prediction": "dog", "probability": pytest.approx(0.7)}
    assert said.truth({}) is None
    both = Classification(("cat", "dog"), np.array([0.6, 0.7]), multilabel=True)
    assert both.row(both.truth({"labels": np.array([1.0, 1.0])}))["correct"] is True


def test_large_images_are_reduced():
    callback = ImageLogger(max_side=100)
    assert callback._reduced(np.zeros((300, 400, 3), np.uint8)).shape == (75, 100, 3)


@pytest.mark.parametrize("arguments", [{"count": 0}, {"every_n_epochs": 0}, {"max_side": 1}])
def test_arguments_are_checked(arguments):
    with pytest.raises(UsageError):
        ImageLogger(**arguments)
