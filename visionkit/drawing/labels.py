"""Positions of labels: beside the box that they name, off every other label, and off what other boxes hold."""

from __future__ import annotations

import numpy as np

Rectangle = tuple[int, int, int, int]  # x1, y1, x2, y2

_REACH = 6
"""How many label heights a label may be moved away from its box."""


class Labels:
    """Chooses the positions of an image's labels one after the other, each in view of those before it.

    Args:
        boxes: (N, 4) x1, y1, x2, y2 of what the labels name, in pixels of the canvas.
        size: Height and width of the canvas in pixels.
        free: Whether the boxes are to stay free of labels, as faces are: a label is then moved away from its box until
            it lies on no box, and lies inside its own box where nothing else is left. Otherwise it stays at its box, at
            the position that covers least of other boxes.
    """

    def __init__(self, boxes: np.ndarray, size: tuple[int, int], free: bool = False) -> None:
        self._boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        self._size, self._free = size, free
        self._taken: list[Rectangle] = []

    def place(self, number: int, width: int, height: int) -> Rectangle | None:
        """The position of one label, which the labels after it keep off.

        Args:
            number: Index of its box.
            width: Width of the label in pixels.
            height: Height of the label in pixels.

        Returns:
            None where every position lies on another label or partly outside the canvas.
        """
        found = self._best(self._beside(number, width, height), number, strict=self._free)
        if found is None and self._free:
            found = self._best(self._around(number, width, height), number, strict=True)
            if found is None:
                found = self._best(self._beside(number, width, height), number, strict=False)
        if found is not None:
            self._taken.append(found)
        return found

    def _best(self, places: np.ndarray, number: int, strict: bool) -> Rectangle | None:
        """The first of the positions that cover least of the boxes, and no label; where `strict`, nothing at all."""
        height, width = self._size
        inside = (places[:, :2] >= 0).all(axis=1) & (places[:, 2] <= width) & (places[:, 3] <= height)
        places = places[inside]
        if self._taken:
            places = places[~_shared(places, np.array(self._taken, np.float64)).any(axis=1)]
        if not len(places):
            return None
        covered = _shared(places, self._boxes)
        covered[:, number] *= 0.5  # rather the label's own box than that of another
        total = covered.sum(axis=1)
        best = int(np.argmin(total))
        if strict and total[best] > 0:
            return None
        x1, y1, x2, y2 = (int(value) for value in places[best])
        return x1, y1, x2, y2

    def _beside(self, number: int, w: int, h: int) -> np.ndarray:
        """Above, below, and inside at the top and at the bottom, each at the left, at the right and between."""
        x1, y1, x2, y2 = self._whole(number)
        columns = (x1, x2 - w, (x1 + x2 - w) // 2)
        return self._rectangles([(x, y) for y in (y1 - h, y2, y1, y2 - h) for x in columns], w, h)

    def _around(self, number: int, w: int, h: int) -> np.ndarray:
        """Positions farther away in steps of half a label, the nearest first."""
        x1, y1, x2, y2 = self._whole(number)
        rows = np.arange(y1 - _REACH * h, y2 + (_REACH - 1) * h + 1, max(1, h // 2))
        columns = np.arange(x1 - w - 2 * h, x2 + 2 * h + 1, max(1, h // 2))
        x, y = (each.ravel() for each in np.meshgrid(columns, rows))
        across = np.maximum(0, np.maximum(x1 - x - w, x - x2))
        down = np.maximum(0, np.maximum(y1 - y - h, y - y2))
        order = np.argsort(across + down, kind="stable")
        return self._rectangles(np.stack([x, y], axis=1)[order], w, h)

    def _whole(self, number: int) -> Rectangle:
        """The part of a box on the canvas, with its borders on whole pixels, none of it left out."""
        height, width = self._size
        x1, y1, x2, y2 = self._boxes[number].clip(0, [width, height, width, height])
        return int(np.floor(x1)), int(np.floor(y1)), int(np.ceil(x2)), int(np.ceil(y2))

    def _rectangles(self, corners: object, w: int, h: int) -> np.ndarray:
        """Labels at upper left corners, moved to the side where they would leave the canvas."""
        places = np.asarray(corners, np.float64).reshape(-1, 2)
        x = places[:, 0].clip(0, max(0, self._size[1] - w))
        return np.stack([x, places[:, 1], x + w, places[:, 1] + h], axis=1)


def _shared(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, M) areas that rectangles share."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return np.asarray((high - low).clip(min=0).prod(axis=2))
