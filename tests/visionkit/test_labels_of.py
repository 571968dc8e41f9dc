"""Labels of an image in the form of a prediction, made of its target alone."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

from datamodules.joint import JointData
from datamodules.pair_scenes import PairSceneData, PairTarget
from datamodules.scene_data import SceneData
from visionkit.data import VisionDataModule
from visionkit.predictions import (
    Classification,
    DepthMap,
    Detections,
    DisparityMap,
    Faces,
    FlowField,
    ImagePrediction,
    Instances,
    LabelMap,
    MultiTaskPrediction,
    Poses,
    Prediction,
)
from visionkit.predictions.labels import LabelFacts, extended, labels_of
from visionkit.synthetic import TargetKey

FORMS: dict[str, type[Prediction]] = {
    "labels": Classification,
    "presence": Classification,
    "boxes": Detections,
    "masks": Instances,
    "label_map": LabelMap,
    "keypoints": Poses,
    "depth": DepthMap,
    "high_res": ImagePrediction,
    "clean": ImagePrediction,
    "identity": Faces,
    "disparity": DisparityMap,
    "flow": FlowField,
}


def labels_in(data: VisionDataModule, number: int = 1) -> tuple[Any, np.ndarray, Any]:
    sample = data.samples("train")[number]
    pixels = sample.image.read()
    facts = data.label_facts().of_size((pixels.shape[0], pixels.shape[1]))
    return sample.target, pixels, labels_of(sample.target, facts)


@pytest.mark.parametrize("key", (*get_args(TargetKey), *get_args(PairTarget)))
def test_every_kind_of_label_is_drawn(key: str) -> None:
    pairs = key in get_args(PairTarget)
    data: VisionDataModule = PairSceneData(key, count=2) if pairs else SceneData(key, count=2, size=(96, 128))  # type: ignore[arg-type]
    _, pixels, labels = labels_in(data)
    assert type(labels) is FORMS[key]
    drawn = labels.draw(pixels)
    assert drawn.dtype == np.uint8 and (drawn.shape != pixels.shape or (drawn != pixels).any())


def test_labels_are_those_of_the_target() -> None:
    target, _, labels = labels_in(SceneData("masks", count=2, size=(96, 128)))
    assert len(labels) == len(target["labels"]) and (labels.scores == 1).all()
    assert sorted(labels.names) == sorted(SceneData("boxes").classes[label] for label in target["labels"])
    target, _, labels = labels_in(SceneData("label_map", count=2, size=(96, 128)))
    assert (labels.labels[target["label_map"] < 255] == target["label_map"][target["label_map"] < 255]).all()


def test_heads_have_the_names_of_their_own_parts() -> None:
    parts = {"what": SceneData("labels", count=2), "far": SceneData("depth", count=2)}
    _, _, labels = labels_in(JointData(parts, together=[["what", "far"]]))
    assert isinstance(labels, MultiTaskPrediction) and set(labels) == {"what", "far"}
    assert labels.class_names() == [parts["what"].classes[1]]


def test_labels_that_no_class_has_a_name_for_are_shown_too() -> None:
    boxes = [[0, 0, 4, 4], [1, 1, 5, 5], [np.nan, 0, 1, 1]]
    found = labels_of({"boxes": np.array(boxes), "labels": np.array([0, 7, -1])}, LabelFacts(("cat",), (8, 8)))
    assert isinstance(found, Detections) and found.names == ["cat", "class 7"]
    assert extended((), np.array([2, -1]))[0] == ("unknown class", "class 2")
    assert labels_of({"labels": np.int64(3)}, LabelFacts()).class_names() == ["class 3"]  # type: ignore[union-attr]
    assert labels_of({}, LabelFacts()) is None
    assert labels_of({"keypoints": np.zeros((1, 17, 3))}, LabelFacts()) is None  # nobody knows their skeleton
