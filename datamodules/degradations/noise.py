"""Noise of sensors: Gaussian, and the mixture of shot noise and read noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datamodules.degradations.parts import DegradationPart, Degraded, Range, bounds_of, drawn
from visionkit.errors import UsageError


@dataclass(frozen=True)
class GaussianNoise(DegradationPart):
    """Adds white Gaussian noise, drawn for every pixel and channel by itself.

    As in the papers on denoising (Dabov et al., 2007; Zhang et al., 2017), the noisy image is neither clipped nor
    rounded by default: that would make it a little easier (20.33 in place of 20.17 dB on Set12 at 25).

    Args:
        sigma: Standard deviation in gray levels of 255, or the smallest and the largest, drawn evenly per image.
        clip: Clip to 0 to 255.
        quantize: Clip and round to whole gray levels, as a file of 8 bits does.
        common: Fraction of the images whose noise is the same in all channels. Gray files are such images for a network
            of color, which takes the noise for the image where it has never met it.
    """

    sigma: Range = 25.0
    clip: bool = False
    quantize: bool = False
    common: float = 0.0
    condition = "noise_level"

    def __post_init__(self) -> None:
        bounds_of(self.sigma, 0, 255, "GaussianNoise.sigma")
        if not 0 <= self.common <= 1:
            raise UsageError(f"GaussianNoise.common {self.common:g}: a fraction of the images, 0 to 1")

    def __call__(self, degraded: Degraded, rng: np.random.Generator) -> Degraded:
        image = degraded.image
        sigma = np.float32(drawn(bounds_of(self.sigma, 0, 255, "GaussianNoise.sigma"), rng))
        is_common = self.common > 0 and rng.random() < self.common
        noisy = rng.standard_normal((*image.shape[:2], 1 if is_common else image.shape[2]), dtype=np.float32)
        noisy = noisy.repeat(image.shape[2], axis=2) if is_common else noisy
        noisy *= sigma
        noisy += image
        level = np.full(image.shape[:2], sigma, dtype=np.float32)
        return _noisy(degraded, noisy, level, self.clip, self.quantize)

    @property
    def noise_levels(self) -> tuple[float, float]:
        low, high = bounds_of(self.sigma, 0, 255, "GaussianNoise.sigma")
        return low, high

    def leaves_levels(self, whole: bool) -> bool:
        return self.quantize


@dataclass(frozen=True)
class PoissonGaussianNoise(DegradationPart):
    """Adds shot noise and read noise, whose variance is `gain` * brightness + `sigma` squared (Foi et al., 2008).

    Both are drawn as Gaussians, which shot noise is at the brightness of photographs.

    Args:
        gain: Gray levels of variance per gray level of brightness, or the smallest and the largest.
        sigma: Standard deviation of the read noise in gray levels of 255, or the smallest and the largest.
        clip: Clip to 0 to 255.
        quantize: Clip and round to whole gray levels, as a file of 8 bits does.
    """

    gain: Range = 1.0
    sigma: Range = 3.0
    clip: bool = False
    quantize: bool = False
    condition = "noise_level"

    def __post_init__(self) -> None:
        bounds_of(self.gain, 0, 255, "PoissonGaussianNoise.gain")
        bounds_of(self.sigma, 0, 255, "PoissonGaussianNoise.sigma")

    def __call__(self, degraded: Degraded, rng: np.random.Generator) -> Degraded:
        image = degraded.image
        gain = drawn(bounds_of(self.gain, 0, 255, "PoissonGaussianNoise.gain"), rng)
        sigma = drawn(bounds_of(self.sigma, 0, 255, "PoissonGaussianNoise.sigma"), rng)
        variance = np.float32(gain) * np.maximum(image, 0) + np.float32(sigma**2)
        noisy = image + rng.standard_normal(image.shape, dtype=np.float32) * np.sqrt(variance)
        return _noisy(degraded, noisy, np.sqrt(variance.mean(axis=2)), self.clip, self.quantize)

    def leaves_levels(self, whole: bool) -> bool:
        return self.quantize


def _noisy(degraded: Degraded, noisy: np.ndarray, level: np.ndarray, clip: bool, quantize: bool) -> Degraded:
    """The image with its noise, whose deviation is that of all noise so far."""
    if clip or quantize:
        np.clip(noisy, 0, 255, out=noisy)
    if quantize:
        np.rint(noisy, out=noisy)
    before = degraded.noise_level
    return degraded._replace(image=noisy, noise_level=level if before is None else np.hypot(before, level))
