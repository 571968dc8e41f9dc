"""How much an object has grown: a correlation filter over scales (DSST: Danelljan et al., BMVC 2014).

The object is cut out at many sizes about its place; each is a column of gradient histograms, and a filter over the
columns is trained to peak at the present size.
"""

from __future__ import annotations

import math

import numpy as np

from visionkit.following.gradients import CELL, gradient_histograms
from visionkit.following.windows import Window, luminance, peak

_MAX_PIXELS = 512
"""Pixels of what is cut out, at most."""
_MIN_SIDE = 4.0
"""Shortest side of an object, in pixels, unless it began smaller."""
_REGULARIZATION = 0.01


class ScaleFilter:
    """Estimates the scale of an object, relative to its first size.

    Args:
        sides: Width and height of the object in the first frame.
        frame_size: Height and width of the frames.
        count: Number of scales; odd.
        step: Ratio of two neighboring scales.
        learning_rate: Fraction that each frame has in the running averages.

    Attributes:
        scale: The estimate.
    """

    def __init__(
        self, sides: tuple[float, float], frame_size: tuple[int, int], count: int, step: float, learning_rate: float
    ) -> None:
        self.scale, self.step, self.learning_rate = 1.0, step, learning_rate
        middle = count // 2
        self.factors = step ** (np.arange(count) - middle)
        sigma = count / math.sqrt(count) / 4
        label = np.exp(-0.5 * ((np.arange(count) - middle) / sigma) ** 2)
        self._label = np.fft.rfft(np.roll(label, -middle))
        self._taper = np.hanning(count + 2)[1:-1]
        self._middle = middle
        shown = [side + 2 * CELL for side in sides]  # with some of what is about it
        shrink = min(1.0, math.sqrt(_MAX_PIXELS / math.prod(shown)))
        width, height = (max(int(side * shrink) // CELL, 2) * CELL for side in shown)
        self._shown, self._model_size = (shown[0], shown[1]), (height, width)
        self._least = min(1.0, max(_MIN_SIDE / side for side in sides))
        self._most = max(1.0, min(length / side for length, side in zip(reversed(frame_size), sides, strict=True)))

    def begin(self, frame: np.ndarray, center: tuple[float, float]) -> None:
        """Trains on the first frame.

        Args:
            frame: (h, w, 3) uint8 RGB.
            center: X and y of the object.
        """
        self._numerator, self._denominator = self._trained(self._columns(frame, center))

    def estimate(self, frame: np.ndarray, center: tuple[float, float]) -> None:
        """Sets `scale` from how the object looks in a frame.

        Args:
            frame: (h, w, 3) uint8 RGB.
            center: X and y of the object.
        """
        seen = np.fft.rfft(self._columns(frame, center))
        response = np.fft.irfft(
            (self._numerator * seen).sum(axis=0) / (self._denominator + _REGULARIZATION), len(self.factors)
        )
        _, steps, _ = peak(response[None])
        self.scale = min(max(self.scale * self.step**steps, self._least), self._most)

    def update(self, frame: np.ndarray, center: tuple[float, float]) -> None:
        """Trains on a frame at the scale that was estimated.

        Args:
            frame: (h, w, 3) uint8 RGB.
            center: X and y of the object.
        """
        numerator, denominator = self._trained(self._columns(frame, center))
        self._numerator += self.learning_rate * (numerator - self._numerator)
        self._denominator += self.learning_rate * (denominator - self._denominator)

    def _trained(self, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen = np.fft.rfft(columns)
        return self._label * seen.conj(), (seen * seen.conj()).real.sum(axis=0)

    def _columns(self, frame: np.ndarray, center: tuple[float, float]) -> np.ndarray:
        """(D, scales) the histograms of each scale, tapered."""
        histograms = gradient_histograms(self._patches(frame, center))
        columns: np.ndarray = histograms.reshape(len(self.factors), -1).T * self._taper
        return columns

    def _patches(self, frame: np.ndarray, center: tuple[float, float]) -> np.ndarray:
        """(scales, h, w) the object at each scale, gray; places between pixels are interpolated."""
        height, width = self._model_size
        # First whole blocks of pixels are averaged, so that a patch skips none.
        blocks = [
            max(1, int(side * self.scale / length)) for side, length in zip(self._shown, (width, height), strict=True)
        ]
        across, down = (
            math.ceil(side * self.scale * self.factors[-1] / block) + 3
            for side, block in zip(self._shown, blocks, strict=True)
        )
        window = Window.about(center, across * blocks[0], down * blocks[1])
        gray = luminance(window.cut(frame)).reshape(down, blocks[1], across, blocks[0]).mean(axis=(1, 3))
        places = []
        for axis, (length, count, limit) in enumerate(((width, blocks[0], across), (height, blocks[1], down))):
            own = (np.arange(length) + 0.5) / length - 0.5
            at = center[axis] + own[None] * (self._shown[axis] * self.scale * self.factors)[:, None]
            places.append((((at - (window.left, window.top)[axis]) / count) - 0.5).clip(0, limit - 1.001))
        columns, rows = places
        left, top = columns.astype(int), rows.astype(int)
        right_part, lower_part = (columns - left)[:, None, :], (rows - top)[:, :, None]
        above, below = (
            gray[(top + k)[:, :, None], left[:, None, :]] * (1 - right_part)
            + gray[(top + k)[:, :, None], (left + 1)[:, None, :]] * right_part
            for k in (0, 1)
        )
        patches: np.ndarray = above * (1 - lower_part) + below * lower_part
        return patches
