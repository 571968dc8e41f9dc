"""What correlation filters are made of: windows cut out of a frame, labels, tapers and peaks.

A window lies on whole pixels, so nothing is resampled where it is cut; what its place is off the object is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Window:
    """A rectangle of whole pixels; may reach outside the frame.

    Attributes:
        left: First column.
        top: First row.
        width: Number of columns.
        height: Number of rows.
    """

    left: int
    top: int
    width: int
    height: int

    @classmethod
    def about(cls, center: tuple[float, float], width: int, height: int) -> Window:
        """The window of that size whose center is nearest.

        Args:
            center: x and y.
            width: Number of columns.
            height: Number of rows.
        """
        return cls(round(center[0] - width / 2), round(center[1] - height / 2), width, height)

    @property
    def center(self) -> tuple[float, float]:
        """X and y."""
        return self.left + self.width / 2, self.top + self.height / 2

    def cut(self, frame: np.ndarray) -> np.ndarray:
        """(height, width, 3) its pixels; beyond the frame those of the border are repeated.

        Args:
            frame: (h, w, 3).
        """
        height, width = frame.shape[:2]
        right, bottom = self.left + self.width, self.top + self.height
        if self.left >= 0 and self.top >= 0 and right <= width and bottom <= height:
            return frame[self.top : bottom, self.left : right]
        rows = np.arange(self.top, bottom).clip(0, height - 1)
        columns = np.arange(self.left, right).clip(0, width - 1)
        pixels: np.ndarray = frame[rows[:, None], columns[None]]
        return pixels


def luminance(pixels: np.ndarray) -> np.ndarray:
    """(h, w) float64 from 0 to 1, weighted as ITU-R BT.601 does; a gray image keeps its values.

    Args:
        pixels: (h, w, 3) uint8 RGB.
    """
    gray: np.ndarray = (pixels @ np.array([299.0, 587.0, 114.0])) / 255e3
    return gray


def cosine_taper(size: tuple[int, int]) -> np.ndarray:
    """(h, w) Hann windows of both sides, multiplied: 1 in the middle, near 0 at the border, nowhere 0."""
    rows, columns = (np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2 for length in size)
    taper: np.ndarray = rows[:, None] * columns[None]
    return taper


def gaussian_label(size: tuple[int, int], sigma: float) -> np.ndarray:
    """(h, w) 1 at row 0 and column 0, falling off to all sides, cyclic.

    Args:
        size: Height and width.
        sigma: Standard deviation in rows and columns.
    """
    rows, columns = (np.fft.fftfreq(length, 1 / length) for length in size)
    label: np.ndarray = np.exp(-0.5 * (rows[:, None] ** 2 + columns[None] ** 2) / sigma**2)
    return label


def peak(response: np.ndarray) -> tuple[float, float, float]:
    """Row, column and height of the maximum of a cyclic response; negative beyond the middle.

    Places between samples are those of parabolas through the maximum and its neighbors.

    Args:
        response: (h, w).
    """
    height, width = response.shape
    row, column = divmod(int(response.argmax()), width)
    top = float(response[row, column])
    rows = [float(response[(row + step) % height, column]) for step in (-1, 1)]
    columns = [float(response[row, (column + step) % width]) for step in (-1, 1)]
    places = []
    for place, (before, after), length in ((row, rows, height), (column, columns, width)):
        bend = before - 2 * top + after
        offset = 0.5 * (before - after) / bend if bend < 0 else 0.0
        places.append((place if place < (length + 1) // 2 else place - length) + offset)
    return places[0], places[1], top
