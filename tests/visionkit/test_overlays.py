"""Boxes and masks in a real offline run of W&B, read back from its files; the tasks name no logger."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning import Trainer
from PIL import Image

from tests.contracts.cases import build, samples
from tests.visionkit.offline_run import folders, read_run, teardown
from visionkit.callbacks.images import ImageLogger
from visionkit.data import Split, VisionDataModule
from visionkit.loggers import WandbTracker
from visionkit.masks import encode_masks
from visionkit.predictions import Instances, LabelMap
from visionkit.types import Sample


class CaseData(VisionDataModule):
    """The samples of the contract suite."""

    def __init__(self, case: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.case = case

    def dataset(self, split: Split) -> Sequence[Sample]:
        return samples(self.case, 3)


@pytest.fixture(autouse=True, scope="module")
def offline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        yield
    teardown()


@pytest.mark.parametrize("name", ["semantic_segmentation", "detection", "instance_segmentation"])
def test_a_run_has_boxes_and_masks_over_the_bare_images(name, tmp_path):
    everything = {} if name == "semantic_segmentation" else {"score_threshold": 0.0, "max_detections": 7}
    task = build(name, **everything)
    tracker = WandbTracker(save_dir=str(tmp_path), offline=True)
    trainer = Trainer(
        accelerator="cpu",
        logger=tracker,
        default_root_dir=tmp_path,
        callbacks=[ImageLogger(count=3)],
        max_steps=1,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(task, datamodule=CaseData(name, input=task.input, classes=task.classes, batch_size=3))
    tracker.finish()
    run = read_run(folders(tmp_path)[-1])
    (row,) = [row for row in run.history if "images overlays.filenames" in row]
    files = run.folder / "files"
    known = samples(name, 3)
    assert row["images overlays.count"] == 3
    for number, sample in enumerate(known):
        bare = np.asarray(Image.open(files / row["images overlays.filenames"][number]))
        assert np.array_equal(bare, sample.image.read())
    if name != "detection":
        for number, sample in enumerate(known):
            stored = row["images overlays.all_masks"][number]
            assert stored.keys() == {"truth", "prediction"}
            truth, said = (read_mask(files / stored[key]["path"]) for key in ("truth", "prediction"))
            assert np.array_equal(truth, wanted(name, sample.target))
            assert said.shape == truth.shape and set(np.unique(said)) <= {*range(len(task.classes)), 255}
    if name != "semantic_segmentation":
        for number, sample in enumerate(known):
            stored = row["images overlays.all_boxes"][number]
            (box,) = json.loads((files / stored["truth"]["path"]).read_text())["box_data"]
            height, width = sample.image.size
            corners = [box["position"][side] for side in ("minX", "minY", "maxX", "maxY")]
            assert corners == pytest.approx(sample.target["boxes"][0] / [width, height, width, height], abs=1e-6)
            assert box["class_id"] == sample.target["labels"][0] and box["scores"] == {"score": 1.0}
            said = json.loads((files / stored["prediction"]["path"]).read_text())["box_data"]
            assert len(said) == 7
            assert all(0 <= value <= 1 for each in said for value in each["position"].values())


def read_mask(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.asarray(image)


def wanted(name: str, target: Any) -> np.ndarray:
    if name == "semantic_segmentation":
        return target["label_map"]
    return np.where(target["masks"][0], target["labels"][0], 255)


def test_layers_follow_the_size_that_is_asked_for():
    labels = np.zeros((40, 60), np.uint8)
    labels[:, 30:] = 1
    small = LabelMap(("a", "b"), labels).overlay((20, 30))
    assert small.labels.shape == (20, 30) and (small.labels[:, 15:] == 1).all() and not small.labels[:, :15].any()
    assert LabelMap(tuple(map(str, range(300))), labels.astype(np.uint16)).overlay((20, 30)) is None

    masks = np.zeros((3, 40, 60), bool)
    masks[0, :, :20] = masks[1, :, 10:40] = masks[2] = True
    said = Instances(
        ("a", "b"),
        (40, 60),
        [[0, 0, 20, 40], [10, 0, 40, 40], [0, 0, 60, 40]],
        [0.9, 0.6, 0.2],
        [0, 1, 1],
        masks=tuple(encode_masks(masks)),
    ).overlay((20, 30))
    assert said.labels[0].tolist() == [0] * 10 + [1] * 10 + [255] * 10, (
        "the highest-scoring on top, the unsure not painted"
    )
    assert np.allclose(said.boxes[1], [1 / 6, 0, 2 / 3, 1]), "boxes are all there, for the viewer's own threshold"
    assert len(said.boxes) == 3
