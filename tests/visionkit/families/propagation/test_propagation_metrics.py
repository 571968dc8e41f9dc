"""J, F and their statistics: cases worked out by hand, and the published masks of OSVOS."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.real_data import real_data
from visionkit.families.propagation.metrics import (
    SequenceScores,
    Statistics,
    boundary,
    combine,
    contour_accuracy,
    region_similarity,
)


def square(left: int, top: int = 2, side: int = 4, size: tuple[int, int] = (20, 20)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_region_similarity() -> None:
    empty = np.zeros((20, 20), bool)
    assert region_similarity(square(2), square(4)) == 8 / 24
    assert region_similarity(empty, empty) == 1 and region_similarity(square(2), empty) == 0
    assert region_similarity(square(2), square(4), void=square(2)) == 0  # what is left of it is missed
    assert region_similarity(square(2), square(4), void=~square(4)) == 8 / 16


def test_the_boundary_lies_left_and_above() -> None:
    found = np.argwhere(boundary(square(2, 2, 2, (6, 6)))).tolist()
    # Rows and columns 1 (outside) and 3 (inside), since each pixel is compared with those after it.
    assert found == [[1, 1], [1, 2], [1, 3], [2, 1], [2, 3], [3, 1], [3, 2], [3, 3]]
    edge = np.zeros((4, 4), bool)
    edge[:, 3] = True
    assert np.argwhere(boundary(edge)).tolist() == [[0, 2], [1, 2], [2, 2], [3, 2]]


def test_contour_accuracy() -> None:
    empty, far = np.zeros((20, 20), bool), square(2, 14)
    assert contour_accuracy(empty, empty) == 1
    assert contour_accuracy(square(2), empty) == 0 == contour_accuracy(empty, square(2))
    assert contour_accuracy(square(2), square(2)) == 1 and contour_accuracy(square(2), far) == 0
    # The default of 20 x 20 pixels is one pixel; a square that is shifted by one has all of its boundary near.
    assert contour_accuracy(square(2), square(3)) == 1
    # Shifted by two: of 16 boundary pixels the two vertical lines (5 each, corners included) lose one side each.
    ours, real = boundary(square(2)), boundary(square(4))
    reach = {(y + v, x + u) for y, x in np.argwhere(real) for v, u in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))}
    right = sum((int(y), int(x)) in reach for y, x in np.argwhere(ours))
    assert 0 < right < 16 and contour_accuracy(square(2), square(4)) == pytest.approx(right / 16)
    assert contour_accuracy(square(2), square(4), tolerance=2) == 1
    both = square(2) | far
    assert contour_accuracy(square(2), both) == pytest.approx(2 * 0.5 / 1.5)  # half of the truth is found
    assert contour_accuracy(both, square(2), void=far) == 1


def test_statistics_over_frames() -> None:
    # Quarters of 9 frames share their ends: 0 to 2, 2 to 4, 4 to 6, 6 to 8.
    values = [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]
    found = Statistics.of(values)
    assert found.mean == pytest.approx(0.6) and found.recall == 5 / 9 and found.decay == pytest.approx(0.9 - 0.3)
    assert Statistics.of([0.7]) == Statistics(0.7, 1.0, 0.0)
    # Ends are rounded half up: of 8 frames at 0, 2, 4, 5 (5.25), 7.
    assert Statistics.of([1, 1, 1, 0, 0, 0, 0, 0]).decay == 1
    assert Statistics.of(np.arange(300) / 300).decay == pytest.approx(-0.7475, abs=2e-3)  # more than a byte counts


def test_objects_of_the_first_frame_count_and_each_alike() -> None:
    first = np.zeros((20, 20), np.uint8)
    first[square(2)], first[square(12)], first[0] = 1, 4, 255
    scores = SequenceScores(first)
    later = first.copy()
    later[square(12, 12)] = 9  # came later: nobody marked it
    scores.add(first, first)
    scores.add(np.where(first == 1, 1, 0), later)
    assert {n: (each.j, each.f) for n, each in scores.objects.items()} == {1: ([1, 1], [1, 1]), 4: ([1, 0], [1, 0])}
    numbers = combine(list(scores.objects.values()))
    assert numbers["j_and_f"] == numbers["j_mean"] == 0.75 and numbers["f_recall"] == 0.75


def test_masks_of_0_and_255_are_one_object() -> None:
    mask = square(2).astype(np.uint8) * 255
    scores = SequenceScores(mask)
    for found in (mask, mask // 255, mask // 51, mask // 255 * 7):
        scores.add(found, mask)
    assert scores.objects[1].j == [1] * 4
    labels = SequenceScores(mask // 85)
    labels.add(mask, mask // 85)
    assert labels.objects[3].j == [1]


def test_published_masks_of_osvos() -> None:
    folder = real_data("video/davis_car_shadow")

    def read(place: str, number: int) -> np.ndarray:
        return np.asarray(Image.open(folder / place / "car-shadow" / f"{number:05}.png"))

    scores = SequenceScores(read("Annotations/480p", 0))
    for number in range(0, 40):
        scores.add(read("results_osvos", number), read("Annotations/480p", number))
    j, f = np.array(scores.objects[1].j), np.array(scores.objects[1].f)
    assert (round(j.mean(), 4), round(f.mean(), 4)) == (0.9237, 0.9131)
    assert (round(j[1:-1].mean(), 4), round(f[1:-1].mean(), 4)) == (0.9284, 0.9174)
