"""Every registered method on drawn clips: what it must find, that it repeats itself, and what it refuses."""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from tests.visionkit.families.propagation.disks import SIZE, clip, iou
from visionkit.errors import DataError, UsageError
from visionkit.families.propagation.label_propagation import LabelPropagation, propagate
from visionkit.families.propagation.propagator import Propagator, make_propagator, propagator_names, register

SMALL: dict[str, dict[str, Any]] = {
    "label_propagation": {"short_side": 256},
    "osvos": {"short_side": 96, "crop": 64, "steps": 16, "batch_size": 2, "lr": 5e-3},
}
"""Arguments by which a method takes little time on the clips; methods of other packages have their defaults."""
METHODS = propagator_names()


def make(name: str, **more: Any) -> Propagator:
    return make_propagator(name, arguments={**SMALL.get(name, {}), **more})


def followed(propagator: Propagator, images: list[np.ndarray], mask: np.ndarray) -> list[np.ndarray]:
    return [propagator.begin(images[0], mask), *(propagator.update(image) for image in images[1:])]


@pytest.mark.parametrize("name", METHODS)
def test_objects_are_followed_with_their_numbers_and_alike_each_time(name: str) -> None:
    images, masks = clip(4, objects=2)
    given = np.array([0, 7, 3], np.uint8)[masks[0]]
    propagator = make(name)
    found = followed(propagator, images, given)
    assert np.array_equal(found[0], given)
    assert all(each.dtype == np.uint8 and each.shape == SIZE and set(np.unique(each)) == {0, 3, 7} for each in found)
    for each, truth in zip(found, masks, strict=True):
        assert iou(each == 7, truth == 1) > 0.65 and iou(each == 3, truth == 2) > 0.65
    again = followed(propagator, images[:3], given)  # begins again, with nothing of the clip before
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=False))


@pytest.mark.parametrize("name", METHODS)
def test_gray_frames_are_taken_and_one_of_another_size_is_refused(name: str) -> None:
    images, masks = clip(3)
    gray = [image[..., 0] for image in images]
    propagator = make(name)
    with pytest.raises(UsageError, match="call begin with the first frame"):
        propagator.update(images[0])
    assert np.array_equal(propagator.begin(gray[0], 255 * masks[0]), masks[0])
    with pytest.raises(DataError, match="128x90 pixels; the first one has 128x96"):
        propagator.update(gray[1][:90])
    assert all(iou(propagator.update(gray[k]), masks[k]) > 0.65 for k in (1, 2))


def test_labels_come_from_the_most_similar_places_near_by() -> None:
    features = torch.nn.functional.normalize(torch.randn(5, 9, 12, generator=torch.manual_seed(0)), dim=0)
    labels = torch.rand(2, 3, 9, 12)
    shifted = torch.stack([features.roll((1, 2), (1, 2)), features.roll((5, 5), (1, 2))])
    found = propagate(features, shifted, labels, radius=3, top_k=1, temperature=0.1)
    # Where the shifted place is inside and near, its label is taken whole; the second frame has it too far away.
    assert torch.allclose(found[:, :8, :10], labels[0][:, 1:, 2:])
    every = propagate(features, shifted[:1], labels[:1], radius=20, top_k=10**6, temperature=1e6)
    assert torch.allclose(every, labels[0].mean((1, 2))[:, None, None].expand_as(every), atol=1e-4)


def test_memory_holds_the_first_frame_and_the_last_ones() -> None:
    images, masks = clip(5)
    propagator = LabelPropagation(short_side=64, context=2)
    followed(propagator, images, masks[0])
    assert len(propagator._recent) == 2


def test_what_is_not_known_takes_no_part() -> None:
    """A rim of 255 about the object must not eat into it as background would."""
    images, masks = clip(2)
    rim = masks[0].copy()
    rim[cv2.dilate(masks[0], np.ones((13, 13), np.uint8)) > masks[0]] = 255
    propagator = LabelPropagation(short_side=96)
    found = followed(propagator, images, rim)[1]
    assert (found == 1)[masks[1] == 1].mean() > 0.9
    background, own = propagator._first[1].numpy()
    known = cv2.resize((rim != 255).astype(np.float32), background.shape[::-1], interpolation=cv2.INTER_AREA)
    assert (known == 0).any() and np.allclose(background + own, known, atol=1e-6)


def test_wrong_names_and_values_are_reported_at_once() -> None:
    with pytest.raises(UsageError, match="did you mean 'label_propagation'"):
        make_propagator("label_propagations")
    with pytest.raises(UsageError, match="did you mean 'top_k'"):
        make_propagator("label_propagation", arguments={"topk": 3})
    with pytest.raises(UsageError, match="temperature: 'warm' is not a number"):
        make_propagator("label_propagation", arguments={"temperature": "warm"})
    with pytest.raises(UsageError, match="radius 0: allowed are numbers from 1 to 100"):
        make_propagator("label_propagation", arguments={"radius": 0})
    images, masks = clip(1)
    with pytest.raises(UsageError, match="has no map of stride 7; it has strides 2, 4, 8, 16, 32"):
        make_propagator("label_propagation", arguments={"strides": [7]}).begin(images[0], masks[0])
    with pytest.raises(UsageError, match=r"short_side 4096: .* at most 1254 fits them"):
        make_propagator("label_propagation", arguments={"short_side": 4096}).begin(images[0], masks[0])
    with pytest.raises(UsageError, match="did you mean"):
        make_propagator("label_propagation", "tf_efficientnet_lite00").begin(images[0], masks[0])


def test_another_package_brings_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visionkit.families.propagation.propagator.PROPAGATORS._registered", {})

    @dataclasses.dataclass
    class Still(Propagator):
        def open(self, size: Any) -> Any:
            return size

        def start(self, frame: Any, image: Any, masks: np.ndarray, progress: Any) -> None:
            self.scores = torch.from_numpy(np.eye(2, dtype=np.float32)[masks].transpose(2, 0, 1))

        def step(self, image: Any) -> Any:
            return self.scores

    register("test_only", Still)
    images, masks = clip(2)
    found = followed(make_propagator("test_only", arguments={"short_side": 96}), images, masks[0])
    assert np.array_equal(found[1], masks[0]) and "test_only" in propagator_names()
