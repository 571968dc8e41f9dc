"""KCF (Henriques et al., TPAMI 2015): a kernelized correlation filter on the raw pixels of the object."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from visionkit.following.visual_tracker import VisualTracker
from visionkit.following.windows import Window, cosine_taper, gaussian_label, luminance, peak

_LARGE = 100
"""Mean side of an object, in pixels, from which the image is taken at half its size, at a third from twice that on."""
_MIN_WINDOW = 16


@dataclass
class Kcf(VisualTracker):
    """Follows what the pixels of the object look like; its size stays that of the first box.

    The paper's variant on raw pixels: gray values less their mean under a cosine window, a Gaussian kernel, ridge
    regression onto a Gaussian label over all cyclic shifts, and a running average of template and coefficients. The
    defaults are the paper's for raw pixels. Differences: the maximum is found between pixels too, and a window has at
    least 16 pixels a side, so objects of a few pixels have room to move.

    Attributes:
        padding: Sides of the window beyond those of the object, as a multiple of them.
        kernel_sigma: Standard deviation of the kernel.
        label_sigma: Standard deviation of the label over the mean side of the object.
        regularization: Weight of the regularization.
        learning_rate: Fraction that each frame has in the running averages.
    """

    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        "padding": (0, 8),
        "kernel_sigma": (0.001, 100),
        "label_sigma": (0.001, 1),
        "regularization": (1e-9, 1),
        "learning_rate": (0, 1),
    }

    padding: float = 1.5
    kernel_sigma: float = 0.2
    label_sigma: float = 0.1
    regularization: float = 1e-4
    learning_rate: float = 0.075

    def start(self, frame: np.ndarray) -> None:
        mean_side = math.sqrt(math.prod(self.sides))
        self._step = step = 1 + int(mean_side // _LARGE)
        width, height = (max(round(side * (1 + self.padding) / step), _MIN_WINDOW) for side in self.sides)
        self._size = (height, width)
        self._taper = cosine_taper((height, width))
        self._label = np.fft.rfft2(gaussian_label((height, width), max(self.label_sigma * mean_side / step, 0.3)))
        self._fft, self._back = np.fft.rfft2, partial(np.fft.irfft2, s=(height, width))
        self._offset = (0.0, 0.0)
        window = self._window()
        # The object is off the middle of its window by as much in all frames.
        self._offset = (self.center[0] - window.center[0], self.center[1] - window.center[1])
        self._template, self._coefficients = self._trained(frame, window)

    def step(self, frame: np.ndarray) -> float:
        window = self._window()
        seen = self._fft(self._features(frame, window))
        response = self._back(self._coefficients * self._fft(self._kernel(seen, self._template)))
        row, column, score = peak(response)
        x, y = window.center
        self.center = (x + self._offset[0] + column * self._step, y + self._offset[1] + row * self._step)
        self._keep_in_sight()
        for average, new in zip(
            (self._template, self._coefficients), self._trained(frame, self._window()), strict=True
        ):
            average += self.learning_rate * (new - average)
        return score

    def _window(self) -> Window:
        """The window about the object, on whole pixels."""
        height, width = self._size
        center = (self.center[0] - self._offset[0], self.center[1] - self._offset[1])
        return Window.about(center, width * self._step, height * self._step)

    def _features(self, frame: np.ndarray, window: Window) -> np.ndarray:
        """(h, w) gray values less their mean, tapered."""
        (height, width), step = self._size, self._step
        gray = luminance(window.cut(frame)).reshape(height, step, width, step).mean(axis=(1, 3))
        features: np.ndarray = (gray - gray.mean()) * self._taper
        return features

    def _trained(self, frame: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Template and coefficients of one frame, in the Fourier domain."""
        template = self._fft(self._features(frame, window))
        kernel = self._fft(self._kernel(template, template))
        return template, self._label / (kernel + self.regularization)

    def _kernel(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(h, w) the Gaussian kernel of one image and all cyclic shifts of another, both in the Fourier domain."""
        shifted = self._back(first * second.conj())
        energies = [self._back(each * each.conj())[0, 0] for each in (first, second)]
        distances = np.maximum(sum(energies) - 2 * shifted, 0) / shifted.size
        kernel: np.ndarray = np.exp(-distances / self.kernel_sigma**2)
        return kernel
