"""Augmentation of people: scale, rotation, shift, flip, half a body; all of it one view of the one resample."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, Self

import numpy as np

from datamodules.augment import SampleAugment
from datamodules.photometric import ColorStep, EraseStep, Steps, color_matrix
from visionkit.errors import UsageError
from visionkit.skeleton import Skeleton
from visionkit.types import Photometric, Sample, View


class PoseAugment(SampleAugment):
    """Moves a person's crop, or a whole image, about; places follow by the same geometry that resamples the image.

    When the image is flipped, left and right keypoints change their names, as the skeleton's flip pairs state.

    Args:
        scale: The region grows or shrinks by a factor from 1 - s to 1 + s.
        rotation: Largest turn in degrees.
        rotate: Fraction of samples that are turned at all.
        shift: Largest move of the region, as a fraction of its sides.
        flip: Probability of a horizontal flip.
        half_body: Probability of a crop about the upper or the lower half of the labeled keypoints, where enough are.
        half_body_keypoints: Labeled keypoints from which a half can be taken.
        brightness: Factor from 1 - b to 1 + b.
        contrast: Factor from 1 - c to 1 + c, about middle gray.
        saturation: Factor from 1 - s to 1 + s.
        erasing: Probability of a rectangle of noise, so that keypoints are trained on their neighbors.

    Example:
        >>> augment = PoseAugment(rotation=45).with_skeleton(Skeleton.of("coco17"))
        >>> sample = augment(sample, np.random.default_rng(0))
    """

    def __init__(
        self,
        *,
        scale: float = 0.25,
        rotation: float = 30.0,
        rotate: float = 0.6,
        shift: float = 0.05,
        flip: float = 0.5,
        half_body: float = 0.0,
        half_body_keypoints: int = 8,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        erasing: float = 0.0,
    ) -> None:
        fractions = {"rotate": rotate, "shift": shift, "flip": flip, "half_body": half_body, "erasing": erasing}
        fractions |= {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        for name, value in fractions.items():
            if not 0 <= value <= 1:
                raise UsageError(f"augment.{name} {value}: allowed is 0 to 1")
        if not 0 <= scale < 1 or not 0 <= rotation <= 180:
            raise UsageError(f"augment.scale {scale} must lie in [0, 1) and rotation {rotation} between 0 and 180")
        self.scale, self.rotation, self.rotate, self.shift, self.flip = scale, rotation, rotate, shift, flip
        self.half_body, self.half_body_keypoints = half_body, half_body_keypoints
        self.brightness, self.contrast, self.saturation, self.erasing = brightness, contrast, saturation, erasing
        self.swap: tuple[tuple[int, int], ...] | None = None

    def with_skeleton(self, skeleton: Skeleton) -> Self:
        """The same augmentation, knowing which keypoints change places in a flipped image."""
        out = copy.copy(self)
        out.swap = skeleton.swap
        return out

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if self.flip and self.swap is None:
            raise UsageError("augment: PoseAugment needs the skeleton to flip; use with_skeleton, or set flip to 0")
        if sample.view is not None:
            box = np.array(sample.view.box, dtype=np.float64)
        else:
            height, width = sample.image.size
            box = np.array([0, 0, width, height], dtype=np.float64)
        target: Any = dict(sample.target)
        half = bool(self.half_body) and rng.random() < self.half_body
        if half and sample.view is not None:
            box = self._half(box, np.asarray(target["keypoints"])[0], bool(rng.random() < 0.5))
        sides, middle = box[2:] - box[:2], (box[:2] + box[2:]) / 2
        factor = 1 + self.scale * rng.uniform(-1, 1)
        middle = middle + self.shift * rng.uniform(-1, 1, 2) * sides
        angle = float(self.rotation * rng.uniform(-1, 1)) if self.rotation and rng.random() < self.rotate else 0.0
        flip = bool(self.flip and rng.random() < self.flip)
        region = np.concatenate([middle - sides * factor / 2, middle + sides * factor / 2])
        if flip and "keypoints" in target:
            target["keypoints"] = flipped(np.asarray(target["keypoints"]), self.swap or ())
        steps: list[Photometric] = [] if sample.photometric is None else [sample.photometric]
        if self.brightness or self.contrast or self.saturation:
            turns = rng.uniform(-1, 1, 3) * (self.brightness, self.contrast, self.saturation)
            steps.append(ColorStep(tuple(color_matrix(1 + turns[0], 1 + turns[1], 1 + turns[2], 0.0).ravel().tolist())))
        if self.erasing and rng.random() < self.erasing:
            x, y, area, shape = rng.random(4)
            side, ratio = float(np.sqrt(0.02 + 0.13 * area)), float(np.exp(0.7 * (2 * shape - 1)))
            steps.append(EraseStep(float(x), float(y), side, ratio, int(rng.integers(2**31))))
        view = View(tuple(region.tolist()), flip, angle)
        return replace(sample, target=target, view=view, photometric=Steps(tuple(steps)) if steps else None)

    def _half(self, box: np.ndarray, keypoints: np.ndarray, upper: bool) -> np.ndarray:
        """A region of the same ratio about half of the labeled keypoints; the whole one where they are too few."""
        places = keypoints[keypoints[:, 2] > 0, :2].astype(np.float64)
        if len(places) < self.half_body_keypoints:
            return box
        order = np.argsort(places[:, 1], kind="stable")
        chosen = places[order[: len(order) // 2] if upper else order[len(order) // 2 :]]
        low, high = chosen.min(axis=0), chosen.max(axis=0)
        sides = box[2:] - box[:2]
        # As large as the part needs with a margin, but no larger than the whole was.
        fraction = min(1.0, max(0.25, 1.5 * float(((high - low) / sides).max())))
        middle = (low + high) / 2
        return np.concatenate([middle - sides * fraction / 2, middle + sides * fraction / 2])


def flipped(keypoints: np.ndarray, swap: tuple[tuple[int, int], ...]) -> np.ndarray:
    """(N, K, 3) with flip pairs exchanged; places stay, since the geometry moves them."""
    out = keypoints.copy()
    for first, second in swap:
        out[:, [first, second]] = out[:, [second, first]]
    return out
