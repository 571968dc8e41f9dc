"""Augmentation for faces: the small mistakes of an alignment, light from the side, and things held before the face."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from datamodules.augment import SampleAugment
from datamodules.photometric import ColorStep, EraseStep, LightStep, Steps, color_matrix
from visionkit.errors import UsageError
from visionkit.types import Photometric, Sample, View


class FaceAugment(SampleAugment):
    """Moves, turns, scales and flips a face a little, in one resample, and changes its light.

    Args:
        shift: Largest move as a fraction of the side.
        zoom: Smallest and largest fraction of the image's side that is seen; above 1 the border is filled.
        stretch: Largest change of width over height.
        rotation: Largest turn in degrees.
        flip: Probability of a horizontal flip.
        brightness: Factor from 1 - b to 1 + b.
        contrast: Factor from 1 - c to 1 + c, about middle gray.
        light: Largest strength of light from one side, see `LightStep`.
        erasing: Probability of a rectangle of noise, 2 % to 20 % of the area.
        cutout: Side of a gray square as a fraction of the shorter side; 0 is off.

    Example:
        >>> sample = FaceAugment(rotation=10.0)(sample, np.random.default_rng(0))
    """

    def __init__(
        self,
        *,
        shift: float = 0.05,
        zoom: tuple[float, float] = (0.88, 1.06),
        stretch: float = 0.06,
        rotation: float = 8.0,
        flip: float = 0.5,
        brightness: float = 0.25,
        contrast: float = 0.25,
        light: float = 0.3,
        erasing: float = 0.2,
        cutout: float = 0.0,
    ) -> None:
        for name, value, most in (
            *(("shift", shift, 0.5), ("stretch", stretch, 0.5), ("rotation", rotation, 180), ("flip", flip, 1)),
            *(("brightness", brightness, 1), ("contrast", contrast, 1), ("light", light, 1)),
            *(("erasing", erasing, 1), ("cutout", cutout, 1)),
        ):
            if not 0 <= value <= most:
                raise UsageError(f"augment.{name} {value}: allowed is 0 to {most}")
        if not 0 < zoom[0] <= zoom[1]:
            raise UsageError(f"augment.zoom {tuple(zoom)}: give the smallest and the largest, above 0")
        self.shift, self.zoom, self.stretch, self.rotation, self.flip = (
            shift,
            (zoom[0], zoom[1]),
            stretch,
            rotation,
            flip,
        )
        self.brightness, self.contrast, self.light = brightness, contrast, light
        self.erasing, self.cutout = erasing, cutout

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        height, width = sample.image.size
        x, y, turn = rng.uniform(-1, 1, 3)
        zoom = rng.uniform(*self.zoom)
        ratio = math.exp(rng.uniform(-1, 1) * math.log1p(self.stretch) / 2)
        half_w, half_h = width * zoom * ratio / 2, height * zoom / ratio / 2
        center_x, center_y = width / 2 + x * self.shift * width, height / 2 + y * self.shift * height
        view = View(
            (center_x - half_w, center_y - half_h, center_x + half_w, center_y + half_h),
            bool(rng.random() < self.flip),
            float(turn * self.rotation),
        )
        steps = [*([] if sample.photometric is None else [sample.photometric]), *self._steps(rng)]
        return replace(sample, view=view, photometric=Steps(tuple(steps)) if steps else None)

    def _steps(self, rng: np.random.Generator) -> list[Photometric]:
        steps: list[Photometric] = []
        bright, contrast, side = rng.uniform(-1, 1, 3)
        if self.light:
            steps.append(LightStep(float(rng.uniform(0, 2 * math.pi)), float(abs(side) * self.light)))
        if self.brightness or self.contrast:
            matrix = color_matrix(1 + self.brightness * bright, 1 + self.contrast * contrast, 1.0, 0.0)
            steps.append(ColorStep(tuple(matrix.ravel().tolist())))
        if self.erasing and rng.random() < self.erasing:
            place_x, place_y, area, shape = rng.random(4)
            ratio = math.exp(math.log(0.4) * (1 - 2 * shape))
            side_ = math.sqrt(0.02 + 0.18 * float(area))
            steps.append(EraseStep(float(place_x), float(place_y), side_, ratio, int(rng.integers(2**31))))
        if self.cutout:
            place_x, place_y = rng.random(2)
            steps.append(EraseStep(float(place_x), float(place_y), self.cutout, 1.0, None))
        return steps
