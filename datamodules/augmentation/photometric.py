"""Parts that change pixel values: what is done is drawn with the sample, and done on the image at network size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from datamodules.augmentation.checks import check, check_p, check_range
from visionkit.augmentation import SampleAugment
from visionkit.types import Photometric, Sample

_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_RGB = np.linalg.inv(_YIQ)
_LUMA = _YIQ[0]


def color_matrix(brightness: float, contrast: float, saturation: float, hue: float) -> np.ndarray:
    """Puts four color changes into one (3, 4) matrix for RGB from 0 to 255.

    Args:
        brightness: Factor of all values.
        contrast: Factor of the distance from middle gray.
        saturation: Factor of the distance from the pixel's luma.
        hue: Turn in the chroma plane of YIQ, as a fraction of the circle.
    """
    angle = 2 * math.pi * hue
    cos, sin = saturation * math.cos(angle), saturation * math.sin(angle)
    chroma = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    linear = brightness * contrast * (_RGB @ chroma @ _YIQ)
    return np.concatenate([linear, np.full((3, 1), 128 * (1 - contrast))], axis=1)


@dataclass(frozen=True)
class Steps:
    """Photometric changes one after the other."""

    steps: tuple[Photometric, ...]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        for step in self.steps:
            image = step(image)
        return image


@dataclass(frozen=True)
class ColorStep:
    """One (3, 4) matrix, row by row, over the colors of every pixel; gray images take what it does to gray."""

    matrix: tuple[float, ...]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        import cv2

        matrix = np.array(self.matrix, dtype=np.float32).reshape(3, 4)
        channels = image.shape[2]
        if channels == 1:
            gain, offset = float(_LUMA @ matrix[:, :3].sum(axis=1)), float(_LUMA @ matrix[:, 3])
            table = np.clip(np.arange(256) * gain + offset + 0.5, 0, 255).astype(np.uint8)
            gray: np.ndarray = table[image]
            return gray
        if channels == 4:  # transparency stays
            matrix = np.concatenate([np.insert(matrix, 3, 0, axis=1), [[0, 0, 0, 1, 0]]]).astype(np.float32)
        out: np.ndarray = cv2.transform(image, matrix)
        return out


@dataclass(frozen=True)
class LightStep:
    """Light from one side: a factor that grows evenly across the image.

    Attributes:
        angle: Where it comes from, in radians.
        strength: Factors run from 1 - strength to 1 + strength between the far ends.
    """

    angle: float
    strength: float

    def __call__(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        across = np.linspace(-1, 1, width, dtype=np.float32) * np.float32(math.cos(self.angle))
        down = np.linspace(-1, 1, height, dtype=np.float32) * np.float32(math.sin(self.angle))
        reach = abs(math.cos(self.angle)) + abs(math.sin(self.angle))
        factor = 1 + np.float32(self.strength / reach) * (across[None] + down[:, None])
        out: np.ndarray = np.clip(image * factor[..., None] + 0.5, 0, 255).astype(np.uint8)
        return out


@dataclass(frozen=True)
class EraseStep:
    """Fills a rectangle.

    Attributes:
        x: Its center, fraction of the width.
        y: Its center, fraction of the height.
        side: Square root of its area, fraction of the shorter side.
        ratio: Width / height.
        seed: Random seed of the noise it is filled with; None fills with gray.
    """

    x: float
    y: float
    side: float
    ratio: float
    seed: int | None

    def __call__(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        side = self.side * min(height, width)
        half_w, half_h = side * math.sqrt(self.ratio) / 2, side / math.sqrt(self.ratio) / 2
        left, right = max(0, round(self.x * width - half_w)), min(width, round(self.x * width + half_w))
        top, bottom = max(0, round(self.y * height - half_h)), min(height, round(self.y * height + half_h))
        out = image.copy()
        part = out[top:bottom, left:right]
        if self.seed is None:
            part[:] = 114
        else:
            part[:] = np.random.default_rng(self.seed).integers(0, 256, part.shape, dtype=np.uint8)
        return out


def then(sample: Sample, step: Photometric) -> Sample:
    """The sample with one more step at the end of its photometric chain."""
    before = sample.photometric
    steps = () if before is None else before.steps if isinstance(before, Steps) else (before,)
    return sample.changed(photometric=Steps((*steps, step)))


# ---------------------------------------------------------------------- parts


@dataclass(frozen=True)
class ColorJitter(SampleAugment):
    """Changes colors at random; all four changes are one matrix.

    Args:
        brightness: Factor from 1 - b to 1 + b.
        contrast: Factor from 1 - c to 1 + c, about middle gray (128).
        saturation: Factor from 1 - s to 1 + s.
        hue: Largest turn of the hue, as a fraction of the circle (at most 0.5). It is a rotation in YIQ, which keeps
            the luma, at a third of the time that a turn in HSV takes.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        check(0, 1, brightness=self.brightness, contrast=self.contrast, saturation=self.saturation)
        check(0, 0.5, hue=self.hue)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not (self.brightness or self.contrast or self.saturation or self.hue):
            return sample
        b, c, s, h = rng.uniform(-1, 1, 4).tolist()
        matrix = color_matrix(1 + self.brightness * b, 1 + self.contrast * c, 1 + self.saturation * s, self.hue * h)
        return then(sample, ColorStep(tuple(matrix.ravel().tolist())))


@dataclass(frozen=True)
class RandomLight(SampleAugment):
    """Lights the image from a random side.

    Args:
        light: Largest strength, see `LightStep`; 0 turns it off.
    """

    light: float = 0.3

    def __post_init__(self) -> None:
        check(0, 1, light=self.light)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not self.light:
            return sample
        return then(sample, LightStep(float(rng.uniform(0, 2 * math.pi)), float(self.light * rng.random())))


@dataclass(frozen=True)
class RandomErasing(SampleAugment):
    """Fills a random rectangle with noise (Zhong et al., 2017); what is known of the image stays.

    Args:
        p: Probability of the rectangle.
        area: Smallest and largest area, as a fraction of the square over the shorter side.
        aspect_ratio: Smallest and largest width / height of the rectangle.
    """

    p: float = 0.5
    area: tuple[float, float] = (0.02, 0.33)
    aspect_ratio: tuple[float, float] = (0.3, 1 / 0.3)

    def __post_init__(self) -> None:
        check_p(self)
        check_range(1.0, area=self.area)
        check_range(aspect_ratio=self.aspect_ratio)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not (self.p and rng.random() < self.p):
            return sample
        x, y, area, shape = (float(draw) for draw in rng.random(4))
        side = math.sqrt(self.area[0] + (self.area[1] - self.area[0]) * area)
        low, high = math.log(self.aspect_ratio[0]), math.log(self.aspect_ratio[1])
        return then(sample, EraseStep(x, y, side, math.exp(low + (high - low) * shape), int(rng.integers(2**31))))


@dataclass(frozen=True)
class CutOut(SampleAugment):
    """Fills a random square with gray (DeVries and Taylor, 2017).

    Args:
        cutout: Side of the square as a fraction of the shorter side; 0 turns it off.
    """

    cutout: float = 0.25

    def __post_init__(self) -> None:
        check(0, 1, cutout=self.cutout)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not self.cutout:
            return sample
        x, y = rng.random(2)
        return then(sample, EraseStep(float(x), float(y), self.cutout, 1.0, None))
