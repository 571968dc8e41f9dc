"""Training augmentation of images with objects: zoom, place, flip, quarter turns, colors; truth stays aligned.

Everything that moves pixels goes into the sample's one view, so it is done inside the one resample and costs nothing.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from datamodules.augment import SampleAugment
from datamodules.photometric import ColorStep, Steps, color_matrix
from visionkit.errors import UsageError
from visionkit.targets import per_instance
from visionkit.types import Photometric, Sample, Target, View

_TRIES = 10


class ObjectAugment(SampleAugment):
    """Augmentation for boxes, masks and whatever else belongs to objects.

    A part of the image, or more than the image, is cut at random and becomes the input (large-scale jitter, Ghiasi
    et al., 2021). An object of which too little is left loses its row in every key.

    Args:
        scale: Smallest and largest zoom: 1 is the whole image, 2 shows its half, 0.5 gives it a border of fill.
        crop: Height and width in file pixels of the part at zoom 1, in place of the image's own: for images of many
            sizes that are shown in their own pixels (`input.resize_mode native`), or that are larger than the input.
        ratio: Largest change of shape: 1.2 lets the part be up to 1.2 times wider or taller than the image's shape.
        move: How far beyond its border a part may reach, as a fraction of its side.
        flip: Probability of a horizontal flip.
        turn: Quarter turns, each of the four equally often, for images without an up: microscopes, aerial photos.
        min_visible: An object of whose box a smaller share is left is no target any more.
        brightness: Factor from 1 - b to 1 + b.
        contrast: Factor from 1 - c to 1 + c, about middle gray (128).
        saturation: Factor from 1 - s to 1 + s.
        hue: Largest turn of the hue, as a fraction of the circle (at most 0.5).
        draft: JPEG files may be decoded at reduced scale where that still exceeds the input.

    Example:
        >>> augment = ObjectAugment(scale=(0.8, 1.6), flip=0.5)
        >>> sample = augment(sample, np.random.default_rng(0))
    """

    def __init__(
        self,
        *,
        scale: tuple[float, float] = (0.8, 1.6),
        crop: tuple[int, int] | None = None,
        ratio: float = 1.15,
        move: float = 0.0,
        flip: float = 0.5,
        turn: bool = False,
        min_visible: float = 0.3,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        draft: bool = True,
    ) -> None:
        if not 0 < scale[0] <= scale[1]:
            raise UsageError(f"augment.scale {tuple(scale)}: give smallest and largest zoom, both above 0")
        if crop is not None and min(crop) < 1:
            raise UsageError(f"augment.crop {tuple(crop)}: give height and width, both at least 1")
        if ratio < 1:
            raise UsageError(f"augment.ratio {ratio}: allowed is 1 and more")
        limits = {"move": (move, 1.0), "flip": (flip, 1.0), "min_visible": (min_visible, 1.0), "hue": (hue, 0.5)}
        limits |= {"brightness": (brightness, 1.0), "contrast": (contrast, 1.0), "saturation": (saturation, 1.0)}
        for name, (value, most) in limits.items():
            if not 0 <= value <= most:
                raise UsageError(f"augment.{name} {value}: allowed is 0 to {most:g}")
        self.scale, self.ratio, self.move = (float(scale[0]), float(scale[1])), ratio, move
        self.crop = None if crop is None else (int(crop[0]), int(crop[1]))
        self.flip, self.turn, self.min_visible = flip, turn, min_visible
        self.colors = (brightness, contrast, saturation, hue)
        self.draft = draft

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        for key in ("label_map", "depth", "high_res"):
            if key in sample.target:
                raise UsageError(f"augment: ObjectAugment is about objects and leaves no {key} valid; choose another")
        boxes = np.asarray(sample.target.get("boxes", np.zeros((0, 4))), dtype=np.float64).reshape(-1, 4)
        flip = bool(self.flip and rng.random() < self.flip)
        turn = 90.0 * int(rng.integers(4)) if self.turn else 0.0
        view = View((0.0, 0.0, 0.0, 0.0))
        left = np.zeros(len(boxes))
        for _ in range(_TRIES):  # a part that shows some object, if there is one
            view = self._view(sample.image.size, flip, turn, rng)
            left = visible(boxes, view)
            if not len(boxes) or (left >= self.min_visible).any():
                break
        target = rows(sample.target, left >= self.min_visible)
        steps: list[Photometric] = [] if sample.photometric is None else [sample.photometric]
        if any(self.colors):
            turns = rng.uniform(-1, 1, 4)
            brightness, contrast, saturation = (1 + s * t for s, t in zip(self.colors[:3], turns[:3], strict=True))
            matrix = color_matrix(brightness, contrast, saturation, self.colors[3] * turns[3])
            steps.append(ColorStep(tuple(matrix.ravel().tolist())))
        photometric = Steps(tuple(steps)) if steps else None
        return replace(sample, target=target, view=view, photometric=photometric, draft=self.draft)

    def _view(self, size: tuple[int, int], flip: bool, turn: float, rng: np.random.Generator) -> View:
        height, width = size
        fit = 1.0
        if turn in (90.0, 270.0):  # the largest part of the image's own shape that the turned one holds
            height, width = width, height
            fit = min(width / size[1], height / size[0])
        low, high = math.log(self.scale[0]), math.log(self.scale[1])
        zoom = math.exp(low + (high - low) * rng.random())
        stretch = math.exp(math.log(self.ratio) * (2 * rng.random() - 1) / 2)
        tall, wide = self.crop or (fit * size[0], fit * size[1])
        w, h = max(wide / zoom * stretch, 1.0), max(tall / zoom / stretch, 1.0)
        x = _place(w, width, self.move, rng)
        y = _place(h, height, self.move, rng)
        # The part is placed in the turned image; its center goes back, since the view turns about it.
        dx, dy = x + w / 2 - width / 2, y + h / 2 - height / 2
        angle = math.radians(turn)
        cx = size[1] / 2 + math.cos(angle) * dx - math.sin(angle) * dy
        cy = size[0] / 2 + math.sin(angle) * dx + math.cos(angle) * dy
        return View((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), flip, turn)


def _place(part: float, whole: float, move: float, rng: np.random.Generator) -> float:
    """Where a part begins: inside of the whole, or around it where it is larger; `move` times its length beyond."""
    low, high = sorted((0.0, whole - part))
    return float(rng.uniform(low - move * part, high + move * part))


def visible(boxes: np.ndarray, view: View) -> np.ndarray:
    """(N,) fraction of each box's area that a view shows.

    Args:
        boxes: (N, 4) x1, y1, x2, y2 in file pixels.
        view: Turned by quarter turns at most.
    """
    x1, y1, x2, y2 = view.box
    if round(view.rotation / 90) % 2:  # turned about its center, a part covers what lies across
        cx, cy, w, h = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
        x1, y1, x2, y2 = cx - h / 2, cy - w / 2, cx + h / 2, cy + w / 2
    inside = np.clip(boxes, [x1, y1, x1, y1], [x2, y2, x2, y2])
    sides, whole = inside[:, 2:] - inside[:, :2], boxes[:, 2:] - boxes[:, :2]
    return np.asarray(sides.prod(axis=1) / np.maximum(whole.prod(axis=1), 1e-9))


def rows(target: Target, keep: np.ndarray) -> Target:
    """The target with some of its objects: every key that has one row per object loses the same ones.

    Args:
        target: See `visionkit.types.Target`.
        keep: (N,) bool.
    """
    changed: dict[str, Any] = dict(target)
    if "boxes" in target:
        changed |= {key: changed[key][keep] for key in per_instance(changed)}
    return changed  # type: ignore[return-value]
