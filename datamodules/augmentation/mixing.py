"""Parts that mix several samples into one; the others are drawn from the generator of the sample itself.

So a mixed sample depends on (seed, epoch, index) and on the data alone, whatever the number of workers. Each sample is
resampled once onto the common canvas, its targets by the same geometry. These parts come first in a list.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from datamodules.augmentation.checks import check, check_p, check_range
from datamodules.augmentation.geometric import rows, view_of, visible
from visionkit.augmentation import SampleAugment
from visionkit.errors import UsageError
from visionkit.geometry import Geometry
from visionkit.images import ImageSource
from visionkit.targets import apply_target, field_of, fixed, placed
from visionkit.types import Sample, View

FILL = 114
"""Value of pixels that no image covers, as beside a letterboxed image."""


class MixingPart(SampleAugment):
    """Base of the parts that mix samples: draws others, and refuses what cannot be mixed."""

    mixes = True
    _samples: Sequence[Sample] | None = None

    def with_samples(self, samples: Sequence[Sample]) -> SampleAugment:
        out = copy.copy(self)
        object.__setattr__(out, "_samples", samples)
        return out

    def another(self, rng: np.random.Generator) -> Sample:
        """A random sample of the data set, as it is before any augmentation."""
        if self._samples is None:
            raise UsageError(
                f"augment: {type(self).__name__} mixes samples of one data set and has none; joined data cannot use it"
            )
        return self._checked(self._samples[int(rng.integers(len(self._samples)))])

    def _checked(self, sample: Sample, view: View | None = None) -> Sample:
        """The sample, where it can be mixed.

        Args:
            sample: Sample of the data set.
            view: The one view that it may have.
        """
        name = type(self).__name__
        if sample.view != view:
            raise UsageError(f"augment: {name} mixes whole images: put it before the parts that move, and give no crop")
        if len(sample.inputs) > 1:
            raise UsageError(f"augment: {name} mixes single images, and a sample has {', '.join(sample.inputs)}")
        left = fixed(sample.target)
        if left or not placed(sample.target):
            raise UsageError(f"augment: {name} mixes targets with positions, not {', '.join(left or sample.target)}")
        return sample


@dataclass(frozen=True)
class Mosaic(MixingPart):
    """Puts four samples around a random point of a canvas of twice the size (Bochkovskiy et al., 2020).

    The middle of the canvas is shown, where objects keep their size; a `ScaleJitter` behind it shows another part, or
    with a `scale` below 1 more of the canvas, and drops the objects that it cuts off.

    Args:
        p: Probability of a mosaic.
        size: Height and width in pixels that each image is fitted into; the sample's own by default.
        min_visibility: Smallest fraction of its box that an object keeps on the canvas to be a target.
    """

    p: float = 1.0
    size: tuple[int, int] | None = None
    min_visibility: float = 0.3

    def __post_init__(self) -> None:
        check_p(self)
        check(0, 1, min_visibility=self.min_visibility)
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise UsageError(f"augment.Mosaic.size {tuple(self.size)}: give height and width, both at least 1")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not (self.p and rng.random() < self.p):
            return sample
        members = [self._checked(sample), *(self.another(rng) for _ in range(3))]
        height, width = self.size or sample.image.size
        y, x = (round(side * (0.5 + draw)) for side, draw in zip((height, width), rng.random(2), strict=True))
        image, target = np.full((2 * height, 2 * width, 3), FILL, np.uint8), None
        for quadrant, member in enumerate(members):
            h, w = member.image.size
            fit = min(height / h, width / w)
            resized = (max(1, round(h * fit)), max(1, round(w * fit)))
            offset = (y if quadrant > 1 else y - resized[0], x if quadrant % 2 else x - resized[1])
            place = Geometry((h, w), (0, 0, w, h), resized, offset, (2 * height, 2 * width))
            shown = np.zeros(place.size, dtype=bool)
            left, top, right, bottom = place.content
            shown[top:bottom, left:right] = True
            pixels, more = _on_canvas(member, place, self.min_visibility, sample.draft)
            image[shown] = pixels[shown]
            target = more if target is None else merged(target, more, shown)
        top, left = height // 2, width // 2
        view = View((left, top, left + width, top + height))
        return sample.with_image(ImageSource(image, sample.image.name), target=target, view=view)


@dataclass(frozen=True)
class MixUp(MixingPart):
    """Lays a second sample over the image, half transparent; the objects of both are targets (Zhang et al., 2019).

    Args:
        p: Probability that two samples are mixed.
        alpha: Of the beta distribution that the weight of the first image is drawn from: the larger, the nearer to
            one half, where the objects of both can be seen.
    """

    p: float = 0.5
    alpha: float = 32.0

    def __post_init__(self) -> None:
        check_p(self)
        check_range(alpha=(self.alpha, self.alpha))

    def _checked(self, sample: Sample, view: View | None = None) -> Sample:
        maps = sorted(name for name in placed(sample.target) if not field_of(name).per_instance)
        if maps:
            raise UsageError(f"augment: MixUp mixes objects; of {', '.join(maps)} there is no mixture, so use Mosaic")
        return super()._checked(sample, view)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not (self.p and rng.random() < self.p):
            return sample
        frame = _frame(sample)
        own, other = self._checked(sample, sample.view and View(frame)), self.another(rng)
        weight = np.float32(rng.beta(self.alpha, self.alpha))
        (x1, y1, x2, y2), (h, w) = frame, other.image.size
        fit = min((y2 - y1) / h, (x2 - x1) / w)
        resized = (max(1, round(h * fit)), max(1, round(w * fit)))
        offset = (
            y1 + int(rng.integers(max(0, y2 - y1 - resized[0]) + 1)),
            x1 + int(rng.integers(max(0, x2 - x1 - resized[1]) + 1)),
        )
        place = Geometry((h, w), (0, 0, w, h), resized, offset, own.image.size)
        pixels, more = _on_canvas(other, place, 0.0, sample.draft)
        image = own.image.read(3).copy()
        left, top, right, bottom = place.content
        part = image[top:bottom, left:right]
        part[:] = np.rint(weight * part + (1 - weight) * pixels[top:bottom, left:right]).astype(np.uint8)
        target = merged(own.target, more, np.zeros(0, dtype=bool))
        return own.with_image(ImageSource(image, own.image.name), target=target)


@dataclass(frozen=True)
class CopyPaste(MixingPart):
    """Pastes objects of another sample, cut out by their masks, onto the image (Ghiasi et al., 2021).

    Args:
        p: Probability that objects are pasted.
        scale: Smallest and largest zoom of the other image.
        fraction: Probability of each of its objects to be pasted.
        min_visibility: Smallest fraction of its mask that a covered object keeps to be a target, and of its box that
            a pasted one shows.
    """

    p: float = 0.5
    scale: tuple[float, float] = (0.5, 1.5)
    fraction: float = 0.5
    min_visibility: float = 0.3

    def __post_init__(self) -> None:
        check_p(self)
        check_range(scale=self.scale)
        check(0, 1, fraction=self.fraction, min_visibility=self.min_visibility)

    def _checked(self, sample: Sample, view: View | None = None) -> Sample:
        if not {"boxes", "masks"} <= sample.target.keys():
            raise UsageError(
                "augment: CopyPaste (copy_paste) cuts objects out by masks; leave it out, or set data.target masks"
            )
        return super()._checked(sample, view)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not (self.p and rng.random() < self.p):
            return sample
        frame = _frame(sample)
        own, other = self._checked(sample, sample.view and View(frame)), self.another(rng)
        (height, width), (h, w) = (frame[3] - frame[1], frame[2] - frame[0]), other.image.size
        low, high = math.log(self.scale[0]), math.log(self.scale[1])
        zoom = math.exp(low + (high - low) * rng.random())
        resized = (max(1, round(h * zoom)), max(1, round(w * zoom)))
        top, left = (
            int(rng.integers(min(0, whole - part), max(0, whole - part) + 1))
            for whole, part in zip((height, width), resized, strict=True)
        )
        chosen = rng.random(len(other.target["boxes"])) < self.fraction
        if "iscrowd" in other.target:
            chosen = chosen & (np.asarray(other.target["iscrowd"]) == 0)  # a region of many is no object
        other = replace(other, target=rows(other.target, chosen))
        offset = (frame[1] + top, frame[0] + left)
        place = Geometry((h, w), (0, 0, w, h), resized, offset, own.image.size)
        pixels, more = _on_canvas(other, place, self.min_visibility, sample.draft)
        if not len(more["masks"]):
            return sample
        shown = more["masks"].any(axis=0)
        image = np.where(shown[..., None], pixels, own.image.read(3))
        target = merged(self._covered(own.target, shown), more, shown)
        return own.with_image(ImageSource(image, own.image.name), target=target)

    def _covered(self, target: Any, shown: np.ndarray) -> dict[str, Any]:
        """The objects of the image under what is pasted: masks lose it, boxes shrink, hidden ones are dropped."""
        before = np.asarray(target["masks"], dtype=bool)
        masks = before & ~shown
        areas, left = before.sum(axis=(1, 2)), masks.sum(axis=(1, 2))
        boxes = np.array(target["boxes"], dtype=np.float32).reshape(-1, 4)
        for row in (left < areas).nonzero()[0]:
            if left[row]:
                down, across = masks[row].any(axis=1).nonzero()[0], masks[row].any(axis=0).nonzero()[0]
                boxes[row] = across[0], down[0], across[-1] + 1, down[-1] + 1
        keep = (left == areas) | ((left > 0) & (left >= self.min_visibility * areas))
        changed = {**target, "masks": masks, "boxes": boxes}
        if "keypoints" in target:
            changed["keypoints"] = _hidden(np.array(target["keypoints"], dtype=np.float32), shown)
        return rows(changed, keep)  # type: ignore[no-any-return]


def _hidden(keypoints: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """(N, K, 3) keypoints, those under what is pasted as hidden ones."""
    x, y = (np.floor(keypoints[..., k]).astype(int).clip(0, shown.shape[1 - k] - 1) for k in range(2))
    keypoints[..., 2] = np.where(shown[y, x], keypoints[..., 2].clip(max=1), keypoints[..., 2])
    return keypoints


def _frame(sample: Sample) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of what is shown: the whole image, or the middle of a mosaic."""
    x1, y1, x2, y2 = (int(side) for side in view_of(sample).box)
    return x1, y1, x2, y2


def merged(target: Any, other: Any, shown: np.ndarray) -> dict[str, Any]:
    """Two targets on one canvas: objects are listed together, maps show the other one where its image is shown.

    Args:
        target: Target of what is there.
        other: Target of what is put onto it.
        shown: (H, W) bool, where the other image covers the canvas.
    """
    out: dict[str, Any] = {}
    for key, value in target.items():
        field = field_of(key)
        if not (field.per_instance or field.placed):
            out[key] = value
        elif key in other and field.per_instance:
            out[key] = np.concatenate([np.asarray(value), np.asarray(other[key])])
        elif key in other:
            out[key] = np.where(shown, np.asarray(other[key]), np.asarray(value))
    return out


def _on_canvas(
    sample: Sample, place: Geometry, min_visibility: float, draft: bool
) -> tuple[np.ndarray, dict[str, Any]]:
    """The image (H, W, 3) and the target of a sample on the canvas, without objects of which it shows too little."""
    target: Any = sample.target
    if "boxes" in target:
        left, top, right, bottom = place.content
        corners = place.invert_points(np.array([[left, top], [right, bottom]], dtype=np.float64)).flatten().tolist()
        boxes = np.asarray(target["boxes"], dtype=np.float64).reshape(-1, 4)
        target = rows(target, visible(boxes, View(tuple(corners))) >= min_visibility)
    moved = {key: np.asarray(value) for key, value in apply_target(place, target, drop=True).items()}
    pixels = sample.image.read(3, min_scale=min(1.0, max(place.scale)) if draft else None)
    return place.apply_image(pixels).permute(1, 2, 0).numpy(), moved
