"""Augmentation of targets at every pixel: what moves is one view, so image and truth stay aligned."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from datamodules.augment import SampleAugment
from datamodules.photometric import ColorStep, Steps, color_matrix
from visionkit.errors import UsageError
from visionkit.types import Photometric, Sample, View

_PLACED = {"label_map", "pixel_weight", "depth", "masks"}


class DenseAugment(SampleAugment):
    """Scale, crop, flip, turn and color, for label maps and depth.

    A part of the image is chosen before it is decoded, and resampled once, by the same code as in evaluation; the
    truth goes the same way by nearest value. What lies outside the image is ignored in label maps and not measured
    in depth.

    Args:
        scale: Smallest and largest magnification; at 2 half of each side is seen, below 1 there is a border around the
            image.
        crop: Height and width in file pixels that is seen at magnification 1; the whole image by default.
        stretch: Largest change of the ratio of width to height, as a factor; 1 keeps it.
        flip: Probability of a horizontal flip.
        rotation: Largest turn to each side in degrees.
        brightness: Factor from 1 - b to 1 + b.
        contrast: Factor from 1 - c to 1 + c, about middle gray.
        saturation: Factor from 1 - s to 1 + s.
        hue: Largest turn of the hue, as a fraction of the circle (at most 0.5).
        draft: JPEG files may be decoded at reduced scale where that still exceeds the input.

    Example:
        >>> augment = DenseAugment(scale=(0.75, 2.0), flip=0.5, brightness=0.3)
        >>> sample = augment(sample, np.random.default_rng(0))
    """

    def __init__(
        self,
        *,
        scale: tuple[float, float] = (0.5, 2.0),
        crop: tuple[int, int] | None = None,
        stretch: float = 1.0,
        flip: float = 0.5,
        rotation: float = 0.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        draft: bool = True,
    ) -> None:
        if not 0 < scale[0] <= scale[1] or stretch < 1 or (crop is not None and min(crop) < 1):
            raise UsageError(
                f"augment.scale {tuple(scale)}: give smallest and largest, above 0; stretch {stretch}: at least 1; "
                f"crop {crop}: height and width, at least 1"
            )
        for name, value, most in (
            *(("flip", flip, 1.0), ("rotation", rotation, 180.0), ("hue", hue, 0.5), ("brightness", brightness, 1.0)),
            *(("contrast", contrast, 1.0), ("saturation", saturation, 1.0)),
        ):
            if not 0 <= value <= most:
                raise UsageError(f"augment.{name} {value}: allowed is 0 to {most:g}")
        self.scale, self.stretch = (scale[0], scale[1]), stretch
        self.crop = None if crop is None else (crop[0], crop[1])
        self.flip, self.rotation, self.draft = flip, rotation, draft
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        other = sample.target.keys() - _PLACED
        if other & {"boxes", "keypoints", "high_res"}:
            raise UsageError(
                f"augment: DenseAugment is for label maps, depth and masks, not {', '.join(sorted(other))}; use "
                "AlbumentationsAugment"
            )
        draws = rng.random(10)
        steps: list[Photometric] = [] if sample.photometric is None else [sample.photometric]
        if self.brightness or self.contrast or self.saturation or self.hue:
            turns = 2 * draws[:4] - 1
            matrix = color_matrix(
                1 + self.brightness * turns[0],
                1 + self.contrast * turns[1],
                1 + self.saturation * turns[2],
                self.hue * turns[3],
            )
            steps.append(ColorStep(tuple(matrix.ravel().tolist())))
        view = self._view(sample.image.size, draws[4:])
        return replace(sample, view=view, photometric=Steps(tuple(steps)) if steps else None, draft=self.draft)

    def _view(self, size: tuple[int, int], draws: np.ndarray) -> View:
        low, high = math.log(self.scale[0]), math.log(self.scale[1])
        magnification = math.exp(low + (high - low) * draws[0])
        ratio = math.exp(math.log(self.stretch) * (2 * draws[1] - 1)) ** 0.5
        seen = self.crop or size
        height, width = seen[0] / magnification * ratio, seen[1] / magnification / ratio
        # Inside where the part fits in; otherwise anywhere, with the image inside of it.
        y = (size[0] - height) * draws[2]
        x = (size[1] - width) * draws[3]
        rotation = self.rotation * (2 * draws[4] - 1) if self.rotation else 0.0
        return View((x, y, x + width, y + height), bool(draws[5] < self.flip), float(rotation))
