"""The transform where it is worked out by hand: one pixel, a turn, a draft, and what a `Geometry` is by default."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from visionkit.geometry import Geometry, InputSpec, resize_image
from visionkit.types import View


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_geometry_of_places_alone_neither_flips_nor_turns():
    plain = Geometry((40, 60), (10, 0, 50, 40), (20, 20), (3, 5), (26, 30))
    assert plain.matrix.tolist() == [[0.5, 0, 0], [0, 0.5, 3]]
    assert plain.apply_points([[10.0, 0.0], [50.0, 40.0]]).tolist() == [[5, 3], [25, 23]]
    assert (plain.interpolation, plain.fill) == ("bilinear", 114)


def test_boxes_are_clipped_to_what_is_shown_and_to_the_file():
    geometry = Geometry((40, 60), (10, 0, 50, 40), (20, 20), (3, 5), (26, 30))
    assert geometry.content == (5, 3, 25, 23) and geometry.scale == (0.5, 0.5)
    assert geometry.apply_boxes(np.array([[0, 10, 30, 60]])).tolist() == [[5, 8, 15, 23]]
    assert geometry.invert_boxes(torch.tensor([[0.0, 0.0, 30.0, 13.0]])).tolist() == [[0, 0, 60, 20]]
    flipped = geometry._replace(flip=True)
    assert flipped.apply_boxes(torch.tensor([[10.0, 0.0, 20.0, 40.0]])).tolist() == [[20, 3, 25, 23]]


@pytest.mark.parametrize("fit", ["crop", "letterbox", "stretch", "pad"])
def test_an_input_of_one_pixel_shows_the_mean_of_the_image(fit):
    geometry = Geometry.plan(InputSpec(size=(1, 1), resize_mode=fit, crop_fraction=1.0), (20, 20))
    assert torch.equal(geometry.apply_image(noise(20, 20)), resize_image(noise(20, 20), (1, 1)))


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_half_a_turn_of_an_image_that_is_shrunk_to_pixels_is_the_shrunk_image_turned(size):
    image = noise(24, 24)
    image[:, 10:14] = 255  # what a mean over the whole and a mean of two halves weigh differently
    view = View((0, 0, 24, 24), rotation=180.0)
    found = Geometry.plan(InputSpec(size=size, resize_mode="stretch"), (24, 24), view).apply_image(image)
    assert (found.int() - resize_image(image, size).flip(1, 2).int()).abs().max() <= 1


@pytest.mark.parametrize("source", [(1, 1), (7, 1), (1, 7)])
def test_a_native_input_is_at_least_a_pixel_and_no_larger_than_it_must_be(source):
    spec = InputSpec(size=(64, 64), resize_mode="native", divisor=4)
    geometry = Geometry.plan(spec, source)
    assert geometry.resized == source and geometry.size == (4 if source[0] < 5 else 8, 4 if source[1] < 5 else 8)
    assert Geometry.plan(spec, (9, 9), View((3, 3, 3.4, 3.4), rotation=5.0)).resized == (1, 1)


@pytest.mark.parametrize("fit", ["letterbox", "pad"])
def test_a_line_is_shown_as_a_line(fit):
    """Of an extremely long image the short side is one pixel, not none and not two."""
    spec = InputSpec(size=(16, 16), resize_mode=fit)
    assert Geometry.plan(spec, (2, 1000)).resized == (1, 16) and Geometry.plan(spec, (1000, 2)).resized == (16, 1)
    assert Geometry.plan(spec, (2, 1000)).offset == (7, 0) and Geometry.plan(spec, (1000, 2)).offset == (0, 7)


def test_a_draft_keeps_the_view_to_whole_pixels_of_its_own():
    geometry = Geometry.plan(InputSpec(size=(8, 8), resize_mode="stretch"), (80, 160), View((40, 16, 80, 48)))
    draft = noise(10, 20)  # decoded at an eighth
    assert torch.equal(geometry.apply_image(draft), resize_image(draft[2:6, 5:10].copy(), (8, 8)))
    tiny = Geometry.plan(InputSpec(size=(8, 8), resize_mode="stretch"), (80, 160), View((40, 17, 42, 18)))
    assert torch.equal(tiny.apply_image(draft), resize_image(draft[2:3, 5:6].copy(), (8, 8)))


def test_a_turned_view_of_a_draft_shows_what_the_view_of_the_image_does():
    image = np.kron(noise(10, 10), np.ones((8, 8, 1), np.uint8))
    view = View((8, 16, 56, 64), rotation=90.0)
    geometry = Geometry.plan(InputSpec(size=(6, 6), resize_mode="stretch"), (80, 80), view)
    assert (geometry.apply_image(image[4::8, 4::8]).int() - geometry.apply_image(image).int()).abs().max() < 90
    expected = np.rot90(image[4::8, 4::8][2:8, 1:7])
    assert np.abs(geometry.apply_image(image[4::8, 4::8]).permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1


def test_vectors_turn_flip_and_grow_with_the_image():
    vectors = np.zeros((2, 10, 10), np.float32)
    vectors[0] = 3.0  # to the right
    spec = InputSpec(size=(20, 30), resize_mode="stretch")
    moved = [
        Geometry.plan(spec, (10, 10), View((0, 0, 10, 10), flip, rotation)).apply_vectors(vectors)[:, 10, 15].tolist()
        for flip, rotation in ((False, 0.0), (True, 0.0), (False, 90.0))
    ]
    assert moved == [pytest.approx([9, 0]), pytest.approx([-9, 0]), pytest.approx([0, -6], abs=1e-6)]
    beside = Geometry.plan(spec, (10, 10), View((-10, 0, 10, 10))).apply_vectors(vectors)
    assert (beside[:, :, :15] == 0).all() and (beside[0, :, 15:] == 4.5).all()
