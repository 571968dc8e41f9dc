"""What is wrong with restored and enlarged images: which spatial frequencies are off, and how much detail is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from visionkit.analysis.base import Analysis, Case, Row, Tables
from visionkit.run_report.charts import Bars, Chart

EDGES = (0.0, 1 / 8, 1 / 4, 1 / 2)
"""Lower ends of the bands, as fractions of the highest frequency that pixels along a row can hold (Nyquist)."""

BANDS = ("up to 1/8", "1/8 to 1/4", "1/4 to 1/2", "above 1/2")


def band_energy(image: np.ndarray) -> np.ndarray:
    """(4,) mean square of an image in each band of spatial frequency; they add up to the mean square of the image.

    Args:
        image: (h, w) or (h, w, C); channels are averaged.
    """
    planes = np.asarray(image, dtype=np.float64)
    planes = planes[:, :, None] if planes.ndim == 2 else planes
    height, width, channels = planes.shape
    power = np.square(np.abs(np.fft.fft2(planes, axes=(0, 1)))).sum(axis=2)
    frequency = 2 * np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    band = np.searchsorted(EDGES, frequency, side="right") - 1
    sums = np.bincount(band.ravel(), weights=power.ravel(), minlength=len(BANDS))
    return np.asarray(sums / (height * width) ** 2 / channels)


class ImageAnalysis(Analysis):
    """The squared error of images by band of spatial frequency.

    Args:
        monitor: The metric that chooses a checkpoint, and "min" or "max".
    """

    def __init__(self, monitor: tuple[str, str] = ("psnr_rgb", "max")) -> None:
        super().__init__(monitor)
        self._sums = np.zeros((3, len(BANDS)))
        self._gains: list[np.ndarray] = []

    def row(self, case: Case) -> Row:
        truth: Any = case.truth
        if truth is not None:
            self.add_pixels(case.prediction.rgb, truth.rgb)  # type: ignore[attr-defined]
        return {**case.prediction.row(truth), **case.measure()}

    def add_pixels(self, ours: np.ndarray, truth: np.ndarray) -> None:
        """Adds the errors of one image; what the truth has beyond its right and bottom is left out.

        Args:
            ours: (h, w, C) uint8.
            truth: (h, w, C) uint8.
        """
        height, width = (min(a, b) for a, b in zip(ours.shape[:2], truth.shape[:2], strict=True))
        made, real = (each[:height, :width].astype(np.float64) for each in (ours, truth))
        error = band_energy(made - real)
        self._sums += np.stack([error, band_energy(made), band_energy(real)])
        total = error.sum()
        if total:
            with np.errstate(divide="ignore"):
                self._gains.append(-10 * np.log10(1 - error / total))

    def tables(self) -> Tables:
        error, made, real = self._sums
        if not self.rows:
            return {}
        gains = np.mean(self._gains, axis=0) if self._gains else np.zeros(len(BANDS))
        return {
            "error breakdown": [
                {
                    "band": name,
                    "of squared error": float(error[k] / error.sum()) if error.sum() else 0.0,
                    "dPSNR": float(gains[k]),
                    "detail kept": float(made[k] / real[k]) if real[k] else 0.0,
                }
                for k, name in enumerate(BANDS)
            ]
        }

    def charts(self) -> dict[str, Chart]:
        return {"error breakdown": Bars("band", "of squared error")}

    def notes(self) -> Sequence[str]:
        return (
            "Bands of spatial frequency, as fractions of the highest one that pixels along a row can hold. dPSNR is by "
            "how many dB PSNR rises where a band is mended, the mean over images; detail kept is the energy of the "
            "prediction by that of the truth, below 1 where it is blurred. In RGB, no border left out.",
        )
