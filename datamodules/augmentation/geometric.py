"""Parts that move the image: they refine its one view, and every target follows by the geometry of that view.

A view is a region of the file that is turned about its center and then flipped. So a flip comes last wherever it
stands, a crop is taken in the frame of the turned region, and nothing is resampled here.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from datamodules.augmentation.checks import check, check_p, check_range
from visionkit.augmentation import SampleAugment
from visionkit.errors import UsageError
from visionkit.skeleton import Skeleton
from visionkit.targets import fixed, per_instance
from visionkit.types import Sample, View

_TRIES = 10
FlipPairs = tuple[tuple[int, int], ...]


class GeometricPart(SampleAugment):
    """Base of the parts that refine the view; targets that no view can move are refused."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if left := fixed(sample.target):
            raise UsageError(f"augment: {type(self).__name__} cannot move {', '.join(left)}; its data module does so")
        return self.move(sample, view_of(sample), rng)

    @abstractmethod
    def move(self, sample: Sample, view: View, rng: np.random.Generator) -> Sample:
        """Returns the sample with its view refined.

        Args:
            sample: Training sample.
            view: View of the sample up to here; the whole file where it has none.
            rng: Source of every draw.
        """


def view_of(sample: Sample) -> View:
    """The view of a sample; the whole file where it has none."""
    height, width = sample.image.size
    return sample.view or View((0, 0, width, height))


def cut(view: View, x: float, y: float, width: float, height: float) -> View:
    """A part of a view, or more than it.

    Args:
        view: Region to cut from.
        x: Left of the part, from the left of the region in its own turned frame.
        y: Top of the part.
        width: Width of the part.
        height: Height of the part.
    """
    x1, y1, x2, y2 = view.box
    if view.rotation:  # the part's center goes back into the file
        angle = math.radians(view.rotation)
        dx, dy = x + (width - (x2 - x1)) / 2, y + (height - (y2 - y1)) / 2
        x = (x1 + x2 - width) / 2 + math.cos(angle) * dx - math.sin(angle) * dy - x1
        y = (y1 + y2 - height) / 2 + math.sin(angle) * dx + math.cos(angle) * dy - y1
    return View((x1 + x, y1 + y, x1 + x + width, y1 + y + height), view.flip, view.rotation)


@dataclass(frozen=True)
class RandomResizedCrop(GeometricPart):
    """Cuts a random region of random shape, which becomes the input (Szegedy et al., 2015).

    Args:
        area: Smallest and largest fraction of the area; what torchvision calls the scale of its crop.
        aspect_ratio: Smallest and largest width / height of the region.
    """

    area: tuple[float, float] = (0.08, 1.0)
    aspect_ratio: tuple[float, float] = (0.75, 4 / 3)

    def __post_init__(self) -> None:
        check_range(1.0, area=self.area)
        check_range(aspect_ratio=self.aspect_ratio)

    def move(self, sample: Sample, view: View, rng: np.random.Generator) -> Sample:
        width, height = round(view.box[2] - view.box[0]), round(view.box[3] - view.box[1])
        return sample.changed(view=cut(view, *self._part(height, width, rng)))

    def _part(self, height: int, width: int, rng: np.random.Generator) -> tuple[float, float, float, float]:
        (least, most), ratio = self.area, self.aspect_ratio
        low, high = math.log(ratio[0]), math.log(ratio[1])
        for _ in range(_TRIES):
            area = height * width * (least + (most - least) * rng.random())
            shape = math.exp(low + (high - low) * rng.random())
            w, h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
            if 0 < w <= width and 0 < h <= height:
                return int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h
        w, h = min(width, max(1, round(height * ratio[1]))), min(height, max(1, round(width / ratio[0])))
        return (width - w) // 2, (height - h) // 2, w, h


@dataclass(frozen=True)
class RandomCrop(GeometricPart):
    """Pads the image and cuts a region of its own size, for small square images such as CIFAR's.

    Args:
        padding: Largest shift as a fraction of the sides (CIFAR's 4 of 32 is 0.125).
    """

    padding: float = 0.125

    def __post_init__(self) -> None:
        check(0, 1, padding=self.padding)

    def move(self, sample: Sample, view: View, rng: np.random.Generator) -> Sample:
        width, height = view.box[2] - view.box[0], view.box[3] - view.box[1]
        x, y = (
            int(rng.integers(-reach, reach + 1)) for reach in (round(side * self.padding) for side in (width, height))
        )
        return sample.changed(view=cut(view, x, y, width, height))


@dataclass(frozen=True)
class ScaleJitter(GeometricPart):
    """Shows a random part of the image, or the image with a border.

    The part lies anywhere inside of the image; one that is larger has the image anywhere inside of it.

    Args:
        scale: Smallest and largest zoom: 2 shows half of each side, 0.5 adds a border as wide as half the image.
        aspect_ratio: Smallest and largest factor on width / height of the part.
        translate: How far beyond the border a part may reach, as a fraction of its sides.
        crop_size: Height and width in file pixels of the part at zoom 1; the image's own by default.
        min_visibility: An object is dropped where a smaller fraction of its box is visible. Up to ten parts are drawn
            until some object is visible.
    """

    scale: tuple[float, float] = (0.5, 2.0)
    aspect_ratio: tuple[float, float] = (1.0, 1.0)
    translate: float = 0.0
    crop_size: tuple[int, int] | None = None
    min_visibility: float = 0.0

    def __post_init__(self) -> None:
        check_range(scale=self.scale, aspect_ratio=self.aspect_ratio)
        check(0, 1, translate=self.translate, min_visibility=self.min_visibility)
        if self.crop_size is not None and (len(self.crop_size) != 2 or min(self.crop_size) < 1):
            raise UsageError(f"augment.crop_size {tuple(self.crop_size)}: give height and width, both at least 1")

    def move(self, sample: Sample, view: View, rng: np.random.Generator) -> Sample:
        tries = _TRIES if self.min_visibility and len(sample.target.get("boxes", ())) else 1
        moved = sample
        for _ in range(tries):
            moved = drop_hidden(sample.changed(view=self._part(view, rng)), self.min_visibility)
            if len(moved.target.get("boxes", ())):
                break
        return moved

    def zoom(self, rng: np.random.Generator) -> float:
        """The zoom of one sample, evenly on a logarithmic scale."""
        return _between(self.scale, rng)

    def _part(self, view: View, rng: np.random.Generator) -> View:
        width, height = view.box[2] - view.box[0], view.box[3] - view.box[1]
        zoom, ratio = self.zoom(rng), math.sqrt(_between(self.aspect_ratio, rng))
        tall, wide = self.crop_size or (height, width)
        w, h = max(wide / zoom * ratio, 1.0), max(tall / zoom / ratio, 1.0)
        return cut(view, self._start(w, width, rng), self._start(h, height, rng), w, h)

    def _start(self, part: float, whole: float, rng: np.random.Generator) -> float:
        low, high = sorted((0.0, whole - part))
        return float(rng.uniform(low - self.translate * part, high + self.translate * part))


@dataclass(frozen=True)
class LargeScaleJitter(ScaleJitter):
    """Scale jitter as wide as published: the zoom is drawn evenly from 0.1 to 2 (Ghiasi et al., 2021).

    Args:
        scale: Smallest and largest zoom: 2 shows half of each side, 0.1 is mostly border.
        aspect_ratio: See `ScaleJitter`.
        translate: See `ScaleJitter`.
        crop_size: See `ScaleJitter`.
        min_visibility: See `ScaleJitter`.
    """

    scale: tuple[float, float] = (0.1, 2.0)
    min_visibility: float = 0.3

    def zoom(self, rng: np.random.Generator) -> float:
        return float(rng.uniform(*self.scale))


@dataclass(frozen=True)
class RandomAffine(GeometricPart):
    """Zooms, moves and turns the image about its center.

    Args:
        scale: Smallest and largest zoom; above 1 enlarges.
        aspect_ratio: Smallest and largest factor on width / height of the part.
        translate: Largest move as a fraction of the sides.
        rotate: Largest turn to each side in degrees.
        rotate_p: Probability of a turn.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    aspect_ratio: tuple[float, float] = (1.0, 1.0)
    translate: float = 0.0
    rotate: float = 0.0
    rotate_p: float = 1.0

    def __post_init__(self) -> None:
        check_range(scale=self.scale, aspect_ratio=self.aspect_ratio)
        check(0, 1, translate=self.translate, rotate_p=self.rotate_p)
        check(0, 180, rotate=self.rotate)

    def move(self, sample: Sample, view: View, rng: np.random.Generator) -> Sample:
        width, height = view.box[2] - view.box[0], view.box[3] - view.box[1]
        zoom, ratio = _between(self.scale, rng), math.sqrt(_between(self.aspect_ratio, rng))
        w, h = width / zoom * ratio, height / zoom / ratio
        x, y = self.translate * rng.uniform(-1, 1, 2) if self.translate else (0.0, 0.0)
        view = cut(view, (width - w) / 2 + float(x) * width, (height - h) / 2 + float(y) * height, w, h)
        if self.rotate and rng.random() < self.rotate_p:
            view = view._replace(rotation=view.rotation + float(self.rotate * rng.uniform(-1, 1)))
        return sample.changed(view=view)


@dataclass(frozen=True)
class RandomQuarterTurn(GeometricPart):
    """Turns the image by quarters, each of the four ways equally often, for images without an up."""

    def move(self, sample: Sample, view: View, rng: np.random.Generator) -> Sample:
        turns = int(rng.integers(4))
        width, height = view.box[2] - view.box[0], view.box[3] - view.box[1]
        w, h = (height, width) if turns % 2 else (width, height)
        view = cut(view, (width - w) / 2, (height - h) / 2, w, h)
        return sample.changed(view=view._replace(rotation=(view.rotation + 90.0 * turns) % 360))


@dataclass(frozen=True)
class RandomHorizontalFlip(GeometricPart):
    """Flips the image left and right; keypoints of a pair, such as left and right eye, exchange their names.

    Args:
        p: Probability of the flip.
        flip_pairs: Pairs of keypoint numbers that exchange their names; those of the data's skeleton by default.
    """

    p: float = 0.5
    flip_pairs: FlipPairs | None = None

    def __post_init__(self) -> None:
        check_p(self)

    def with_skeleton(self, skeleton: Skeleton) -> SampleAugment:
        return self if self.flip_pairs is not None else replace(self, flip_pairs=skeleton.swap)

    def move(self, sample: Sample, view: View, rng: np.random.Generator) -> Sample:
        if self.p and self.flip_pairs is None and "keypoints" in sample.target:
            raise UsageError(
                "augment: a flip needs to know which keypoints are a pair; use with_skeleton, give flip_pairs, or set "
                "its probability to 0"
            )
        if not (self.p and rng.random() < self.p):
            return sample
        target: Any = dict(sample.target)
        if "keypoints" in target:
            target["keypoints"] = exchanged(np.asarray(target["keypoints"]), self.flip_pairs or ())
        return sample.changed(target=target, view=View(view.box, not view.flip, view.rotation))


@dataclass(frozen=True)
class RandomHalfBody(GeometricPart):
    """Cuts about the upper or the lower half of a person's labeled keypoints; of a person's crop alone.

    Args:
        p: Probability of the cut.
        min_keypoints: Labeled keypoints from which a half can be taken.
    """

    p: float = 0.3
    min_keypoints: int = 8

    def __post_init__(self) -> None:
        check_p(self)

    def move(self, sample: Sample, view: View, rng: np.random.Generator) -> Sample:
        if not (self.p and rng.random() < self.p) or sample.view is None or "keypoints" not in sample.target:
            return sample
        upper = bool(rng.random() < 0.5)
        keypoints = np.asarray(sample.target["keypoints"])[0]
        points = keypoints[keypoints[:, 2] > 0, :2].astype(np.float64)
        if len(points) < self.min_keypoints:
            return sample
        order = np.argsort(points[:, 1], kind="stable")
        chosen = points[order[: len(order) // 2] if upper else order[len(order) // 2 :]]
        low, high = chosen.min(axis=0), chosen.max(axis=0)
        box = np.array(view.box, dtype=np.float64)
        sides = box[2:] - box[:2]
        # As large as the part needs with a margin, but no larger than the whole was.
        half = sides * min(1.0, max(0.25, 1.5 * float(((high - low) / sides).max()))) / 2
        center = (low + high) / 2
        return sample.changed(view=view._replace(box=(*(center - half).tolist(), *(center + half).tolist())))


@dataclass(frozen=True)
class SanitizeBoundingBoxes(GeometricPart):
    """Drops objects of which the view leaves too little; every key that has one row per object loses the same rows.

    Args:
        min_visibility: Smallest fraction of its box that an object keeps.
    """

    min_visibility: float = 0.3

    def __post_init__(self) -> None:
        check(0, 1, min_visibility=self.min_visibility)

    def move(self, sample: Sample, view: View, rng: np.random.Generator) -> Sample:
        return drop_hidden(sample, self.min_visibility)


def drop_hidden(sample: Sample, min_visibility: float) -> Sample:
    """The sample without the objects of whose boxes the view shows less than a fraction."""
    if not min_visibility or "boxes" not in sample.target:
        return sample
    boxes = np.asarray(sample.target["boxes"], dtype=np.float64).reshape(-1, 4)
    return sample.changed(target=rows(sample.target, visible(boxes, view_of(sample)) >= min_visibility))


def visible(boxes: np.ndarray, view: View) -> np.ndarray:
    """(N,) fraction of each box's area that a view shows; of a turned view, of the box that encloses it.

    Args:
        boxes: (N, 4) x1, y1, x2, y2 in file pixels.
        view: Region that is shown.
    """
    x1, y1, x2, y2 = view.box
    angle = math.radians(view.rotation)
    cos, sin = round(math.cos(angle), 12), round(math.sin(angle), 12)
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2) - ((x1 + x2) / 2, (y1 + y2) / 2)
    corners = corners @ np.array([[cos, -sin], [sin, cos]])
    low, high = corners.min(axis=1), corners.max(axis=1)
    half = np.array([(x2 - x1) / 2, (y2 - y1) / 2])
    shown = (high.clip(-half, half) - low.clip(-half, half)).prod(axis=1)
    return np.asarray(shown / np.maximum((high - low).prod(axis=1), 1e-9))


def rows(target: Any, keep: np.ndarray) -> Any:
    """The target with some of its objects.

    Args:
        target: See `visionkit.types.Target`.
        keep: (N,) bool, or the numbers of the rows to keep.
    """
    return {**target, **{key: target[key][keep] for key in per_instance(target)}} if "boxes" in target else target


def exchanged(keypoints: np.ndarray, flip_pairs: FlipPairs) -> np.ndarray:
    """(N, K, 3) with flip pairs exchanged; positions stay, since the geometry moves them."""
    out = keypoints.copy()
    for first, second in flip_pairs:
        out[:, [first, second]] = out[:, [second, first]]
    return out


def _between(limits: tuple[float, float], rng: np.random.Generator) -> float:
    """A factor between two, drawn evenly on a logarithmic scale; nothing is drawn where they are equal."""
    low, high = limits
    return low if low == high else math.exp(math.log(low) + (math.log(high) - math.log(low)) * rng.random())
