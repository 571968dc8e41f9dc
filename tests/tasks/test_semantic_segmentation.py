"""Semantic segmentation: losses, metrics, label maps, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.semantic_segmentation import SemanticSegmentationTask
from tasks.semantic_segmentation.metrics import (
    SegmentationCounts,
)
from tests.ranks import on_two_ranks
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.predictor import Predictor

CLASSES = ("sky", "road", "tree")
SMALL = {"channels": (8, 8, 8, 8, 8)}


def build(**arguments):
    own = {"unet": SMALL} if arguments.get("architecture", "unet") == "unet" else {}
    defaults = {"classes": CLASSES, "input": InputSpec(size=(64, 64), resize_mode="stretch"), **own}
    return SemanticSegmentationTask("test_resnet", **{**defaults, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"losses": {"dise": 1.0}}, "did you mean 'dice'"),
        ({"losses": {"dice": 0.0}}, "above 0"),
        ({"loss_options": {"cross_entropy": {"gamma": 1}}}, "model.loss_options cross_entropy"),
        ({"class_weights": [1.0]}, "3 classes need as many weights"),
        ({"class_weights": [1.0, 1.0, 1.0], "class_balance": "log"}, "give one of them"),
        ({"classes": ()}, "at least one class"),
        ({"architecture": "unett"}, "did you mean 'unet'"),
        ({"input": InputSpec(resize_mode="native", divisor=8)}, "multiples of 32"),
    ],
)
def test_what_is_refused_when_built(arguments, message):
    with pytest.raises(UsageError, match=message):
        build(**arguments)


def _measured(rank):
    metric = SegmentationCounts(3)
    metric.update(*_images(rank))
    return {key: value.numpy() for key, value in metric.compute().items()}


@pytest.mark.timeout(600)
def test_two_ranks_state_what_one_states():
    alone = SegmentationCounts(3)
    for number in range(2):
        alone.update(*_images(number))
    wanted = alone.compute()
    for prediction in on_two_ranks(_measured):
        assert prediction.keys() == wanted.keys()
        assert all(np.array_equal(prediction[key], value.numpy()) for key, value in wanted.items())


def _images(number):
    generator = torch.manual_seed(number)
    truth = torch.randint(0, 3, (1, 20, 20), generator=generator)
    return torch.randint(0, 3, (1, 20, 20), generator=generator).to(torch.uint8), truth


# ---------------------------------------------------------------------- predictions


@pytest.mark.parametrize("fit", ["crop", "letterbox", "stretch", "pad", "native"])
@pytest.mark.parametrize("name", ["unet", "fpn"])
def test_a_prediction_has_exactly_the_images_size(fit, name):
    own = {name: SMALL if name == "unet" else {"pyramid_channels": 16, "channels": 64}}
    task = build(architecture=name, input=InputSpec(size=(64, 64), resize_mode=fit), **own).eval()
    predictor = Predictor(task)
    for size in ((1, 1), (37, 53), (64, 64), (97, 64), (3, 211)):
        labels = predictor(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)).labels
        assert labels.shape == size
        assert ((labels < 3) | (labels == 255)).all()
        if fit not in ("crop",):
            assert (labels < 3).all()


def test_batches_of_images_without_a_label_are_counted_and_reported(caplog):
    task = build()
    empty = {"inputs": {}, "target": {"label_map": torch.full((2, 8, 8), 255)}, "geometry": [], "id": []}
    task.train_batch(empty)
    task.on_train_epoch_end()
    assert "2 images of this epoch had nothing but ignored pixels" in caplog.text
    caplog.clear()
    task.on_train_epoch_end()
    assert not caplog.text
