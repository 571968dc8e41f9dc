"""Copies of images are found, and nothing else is taken for one."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from visionkit.checkup.near_duplicates import find_copies, fingerprint_of, groups_of
from visionkit.synthetic import make_scene

IMAGES, COPIES, SIZE = 240, 60, (96, 128)


def _saved(array: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def _scaled(array: np.ndarray, factor: float) -> np.ndarray:
    height, width = array.shape[:2]
    return np.asarray(Image.fromarray(array).resize((int(width * factor), int(height * factor))))


def _lighter(array: np.ndarray) -> np.ndarray:
    return np.clip(array * 1.1 + 6, 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "compressed": lambda array: _saved(array, 40),
    "scaled": lambda array: _saved(_scaled(array, 0.5), 85),
    "lighter": lambda array: _saved(_lighter(array), 85),
    "cut": lambda array: _saved(array[1:-1, 2:-2], 85),
    "flipped": lambda array: _saved(array[:, ::-1], 85),
}


@pytest.fixture(scope="module")
def scenes() -> list[np.ndarray]:
    return [make_scene(3, number, SIZE).image for number in range(IMAGES)]


@pytest.mark.parametrize("change", CHANGES)
def test_precision_and_recall_on_drawn_sets(change: str, scenes: list[np.ndarray]) -> None:
    copies = [CHANGES[change](scenes[4 * number]) for number in range(COPIES)]
    found = find_copies([fingerprint_of(array) for array in [*scenes, *copies]])
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    truth = {(4 * number, IMAGES + number) for number in range(COPIES)}
    assert len(pairs & truth) >= 0.99 * len(pairs), "precision"
    assert len(pairs & truth) >= 0.93 * len(truth), "recall"
    assert (found.flipped == (change == "flipped")).mean() > 0.95


def test_without_contrast_nothing_is_a_copy() -> None:
    flat = [np.full((40, 50, 3), value, dtype=np.uint8) for value in (3, 120, 250, 120)]
    assert not len(find_copies([fingerprint_of(array) for array in flat]).first)
    assert not len(find_copies([fingerprint_of(flat[0])]).first) and not len(find_copies([]).first)


def test_an_object_that_differs_makes_two_images() -> None:
    first = make_scene(3, 1, SIZE).image
    second = first.copy()
    second[20:60, 30:80] = second[20:60, 30:80][::-1, ::-1] ^ 64
    assert not len(find_copies([fingerprint_of(first), fingerprint_of(second)]).first)


def test_groups_are_what_pairs_connect() -> None:
    assert groups_of(np.array([4, 1, 2]), np.array([5, 2, 7])) == [[1, 2, 7], [4, 5]]
