"""Labels keep off each other, off faces, and off what other boxes hold."""

from __future__ import annotations

import numpy as np
import pytest

from visionkit.drawing.labels import Labels, _shared
from visionkit.predictions import Faces


def rows_of_faces(number: int, gap: float = 1.8, side: int = 50) -> np.ndarray:
    """Faces as in a group photo, ten per row."""
    corners = np.array([(20 + gap * side * (k % 10), 60 + 1.9 * side * (k // 10)) for k in range(number)])
    return np.concatenate([corners, corners + side], axis=1)


def placed(boxes: np.ndarray, size: tuple[int, int], w: int, h: int, free: bool) -> np.ndarray:
    labels = Labels(boxes, size, free)
    found = [labels.place(number, w, h) for number in range(len(boxes))]
    assert all(found), "every face has its label"
    return np.array(found, np.float64)


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return _shared(first, second) > 0


@pytest.mark.parametrize("number", [1, 2, 30, 100])
@pytest.mark.parametrize("shift", [(0, 0), (-20, -60)], ids=["inside", "at the border"])
def test_labels_cover_no_face_and_no_label(number, shift):
    boxes = rows_of_faces(number) + np.tile(shift, 2)
    places = placed(boxes, (1100, 980), 84, 18, free=True)
    assert not overlaps(places, boxes).any()
    assert not (overlaps(places, places) & ~np.eye(number, dtype=bool)).any()
    assert np.array_equal(places, placed(boxes, (1100, 980), 84, 18, free=True)), "the same each time"


def test_a_label_stands_above_then_below_and_inside_where_nothing_else_is_left():
    size = (200, 200)
    assert Labels(np.array([[50, 60, 120, 120]]), size, True).place(0, 60, 20) == (50, 40, 110, 60)
    assert Labels(np.array([[50, 5, 120, 120]]), size, True).place(0, 60, 20) == (50, 120, 110, 140)
    assert Labels(np.array([[0, 0, 200, 200]]), size, True).place(0, 60, 20) == (0, 0, 60, 20)
    assert Labels(np.array([[0, 0, 9, 9]]), (10, 10), True).place(0, 60, 20) is None


def test_a_label_keeps_off_other_objects_where_it_can():
    boxes = np.array([[50, 60, 120, 120], [40, 20, 130, 58]])  # the second lies just above the first
    for free in (True, False):
        assert Labels(boxes, (200, 200), free).place(0, 60, 20) == (50, 120, 110, 140)


def test_drawn_names_leave_the_faces_as_they_are():
    boxes = np.array([[60, 60, 160, 160], [150, 170, 250, 270], [165, 55, 265, 155]], np.float32)
    names = ("Ada Lovelace", None, "Bo")
    found = Faces(
        boxes, np.eye(3), np.ones(3), np.full((3, 5, 2), np.nan), names, np.array([0.9, 0.1, 0.8]), faces_found=3
    )
    drawn = found.draw(np.zeros((330, 330, 3), np.uint8))
    for x1, y1, x2, y2 in boxes.astype(int):
        assert not drawn[y1 + 4 : y2 - 4, x1 + 4 : x2 - 4].any(), "a label lies on a face"
    ink = (drawn > 200).all(axis=2)
    assert ink.sum() > 100, "the names are written"
