"""Training augmentation; the only file that imports albumentations, and only where something of it is used.

Every draw comes from the generator that is handed in, so a sample depends on (seed, epoch, index) alone.
Albumentations has generators of its own, which repeat themselves over workers and epochs; they are set for each sample.
"""

from __future__ import annotations

import math
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from datamodules.photometric import ColorStep, EraseStep, Steps, color_matrix
from datamodules.policies import Policy, build_operation, draw_operations
from visionkit.errors import UsageError, suggest
from visionkit.images import ImageSource
from visionkit.remembered import RemembersArguments
from visionkit.targets import per_instance, placed
from visionkit.types import Photometric, Sample, View

Crop = Literal["resized", "pad", "none"]
_CARRIED = {"boxes", "masks", "keypoints", "label_map", "depth"}
"""What albumentations moves; any other target that belongs to positions is refused."""


class SampleAugment(ABC, metaclass=RemembersArguments):
    """A change of training samples that data modules take by short name on the command line."""

    @abstractmethod
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Returns the changed sample; draws from `rng` alone."""


class ClassificationAugment(SampleAugment):
    """Augmentation for targets without places (labels, identities): crop, flip, colors, policies, erasing.

    Crop and flip become the sample's view, so they are chosen before the file is decoded and cost no resampling of
    their own; everything else is done at network size.

    Args:
        crop: `resized` a random part of random shape (Szegedy et al., 2015); `pad` the whole image moved by up to
            `padding`, for small square images such as CIFAR's; `none` the whole image.
        scale: For `resized`, smallest and largest fraction of the area.
        ratio: For `resized`, smallest and largest width / height.
        padding: For `pad`, the largest shift as a fraction of the side (CIFAR's 4 of 32 is 0.125).
        flip: Probability of a horizontal flip.
        brightness: Factor from 1 - b to 1 + b.
        contrast: Factor from 1 - c to 1 + c, about middle gray (128).
        saturation: Factor from 1 - s to 1 + s.
        hue: Largest turn of the hue, as a fraction of the circle (at most 0.5). It is a rotation in YIQ, which keeps
            the
            luma: with the three above it is one matrix, at a third of the time that a turn in HSV takes.
        policy: `randaugment`, `trivialaugment`, `autoaugment` (see `datamodules.policies`), or `none`.
        operations: For `randaugment`, how many operations a sample.
        magnitude: For `randaugment`, their strength, 0 to 30.
        erasing: Probability of a rectangle of noise (Zhong et al., 2017), 2 % to 33 % of the area.
        cutout: Side of a gray square as a fraction of the shorter side (DeVries and Taylor, 2017); 0 is off.
        draft: JPEG files may be decoded at reduced scale where that still exceeds the input.

    Example:
        >>> augment = ClassificationAugment(crop="pad", policy="trivialaugment", cutout=0.25)
        >>> sample = augment(sample, np.random.default_rng(0))
    """

    def __init__(
        self,
        *,
        crop: Crop = "resized",
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (0.75, 4 / 3),
        padding: float = 0.125,
        flip: float = 0.5,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        policy: Policy = "none",
        operations: int = 2,
        magnitude: int = 9,
        erasing: float = 0.0,
        cutout: float = 0.0,
        draft: bool = True,
    ) -> None:
        choices: tuple[tuple[str, str, tuple[str, ...]], ...] = (
            ("crop", crop, get_args(Crop)),
            ("policy", policy, get_args(Policy)),
        )
        for name, choice, allowed in choices:
            if choice not in allowed:
                raise UsageError(
                    f"augment.{name} {choice!r}: allowed are {', '.join(allowed)}{suggest(choice, allowed)}"
                )
        if not 0 < scale[0] <= scale[1] <= 1 or not 0 < ratio[0] <= ratio[1]:
            raise UsageError(
                f"augment.scale {tuple(scale)} and ratio {tuple(ratio)}: give smallest and largest, scale within (0, 1]"
            )
        for name, value, most in (
            *(
                ("padding", padding, 1),
                ("flip", flip, 1),
                ("erasing", erasing, 1),
                ("cutout", cutout, 1),
                ("hue", hue, 0.5),
            ),
            *(("brightness", brightness, 1), ("contrast", contrast, 1), ("saturation", saturation, 1)),
        ):
            if not 0 <= value <= most:
                raise UsageError(f"augment.{name} {value}: allowed is 0 to {most}")
        if operations < 1 or not 0 <= magnitude <= 30:
            raise UsageError(
                f"augment.operations {operations} must be at least 1 and magnitude {magnitude} within 0 to 30"
            )
        self.crop, self.scale, self.ratio, self.padding, self.flip = (
            crop,
            (scale[0], scale[1]),
            (ratio[0], ratio[1]),
            padding,
            flip,
        )
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue
        self.policy, self.operations, self.magnitude = policy, operations, magnitude
        self.erasing, self.cutout, self.draft = erasing, cutout, draft
        if policy != "none":
            library()  # seconds, once: workers inherit it

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if moved := placed(sample.target):
            raise UsageError(
                f"augment: ClassificationAugment cannot move {', '.join(sorted(moved))}; use AlbumentationsAugment"
            )
        steps: list[Photometric] = [] if sample.photometric is None else [sample.photometric]
        view = self._view(sample, rng)
        if self.policy != "none":
            chosen = draw_operations(self.policy, rng, self.operations, self.magnitude)
            steps.append(PolicyStep(chosen, int(rng.integers(2**31))))
        if self.brightness or self.contrast or self.saturation or self.hue:
            steps.append(ColorStep(self._matrix(rng)))
        if self.erasing and rng.random() < self.erasing:
            steps.append(_draw_erasing(rng))
        if self.cutout:
            x, y = rng.random(2)
            steps.append(EraseStep(float(x), float(y), self.cutout, 1.0, None))
        return replace(sample, view=view, photometric=Steps(tuple(steps)) if steps else None, draft=self.draft)

    def _view(self, sample: Sample, rng: np.random.Generator) -> View:
        height, width = sample.image.size
        flip = bool(self.flip and rng.random() < self.flip)
        if self.crop == "resized":
            return View(_random_part(rng, height, width, self.scale, self.ratio), flip)
        x = y = 0
        if self.crop == "pad":
            reach_x, reach_y = round(width * self.padding), round(height * self.padding)
            x, y = int(rng.integers(-reach_x, reach_x + 1)), int(rng.integers(-reach_y, reach_y + 1))
        return View((x, y, x + width, y + height), flip)

    def _matrix(self, rng: np.random.Generator) -> tuple[float, ...]:
        turns = rng.uniform(-1, 1, 4)
        matrix = color_matrix(
            1 + self.brightness * turns[0],
            1 + self.contrast * turns[1],
            1 + self.saturation * turns[2],
            self.hue * turns[3],
        )
        return tuple(matrix.ravel().tolist())


@dataclass(frozen=True)
class PolicyStep:
    """Operations of albumentations on the image at network size.

    Attributes:
        operations: Names and strengths, see `datamodules.policies`.
        seed: Random seed of what albumentations still draws itself.
    """

    operations: tuple[tuple[str, float], ...]
    seed: int

    def __call__(self, image: np.ndarray) -> np.ndarray:
        channels = image.shape[2]
        colors = np.repeat(image, 3, axis=2) if channels == 1 else np.ascontiguousarray(image[:, :, :3])
        for number, (name, strength) in enumerate(self.operations):
            operation = build_operation(library(), name, strength)
            operation.set_random_seed(self.seed + number)
            colors = operation(image=colors)["image"]
        if channels == 1:
            return np.ascontiguousarray(colors[:, :, :1])
        return colors if channels == 3 else np.concatenate([colors, image[:, :, 3:]], axis=2)


def _random_part(
    rng: np.random.Generator, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[float, float, float, float]:
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(10):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * rng.random())
        shape = math.exp(low + (high - low) * rng.random())
        w, h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < w <= width and 0 < h <= height:
            x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return (x, y, x + w, y + h)
    w, h = min(width, round(height * ratio[1])), min(height, round(width / ratio[0]))
    x, y = (width - w) // 2, (height - h) // 2
    return (x, y, x + w, y + h)


def _draw_erasing(rng: np.random.Generator) -> EraseStep:
    x, y, area, shape = rng.random(4)
    ratio = math.exp(math.log(0.3) * (1 - 2 * shape))
    return EraseStep(float(x), float(y), math.sqrt(0.02 + 0.31 * float(area)), ratio, int(rng.integers(2**31)))


def library() -> Any:
    """Albumentations, imported when first needed (seconds) and kept from asking the network for its version."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations

    return albumentations


class AlbumentationsAugment(SampleAugment):
    """Any transforms of albumentations: on the decoded image, its boxes, masks, keypoints, label map and depth.

    Boxes are clipped to the image; an object without a valid box left is dropped with its mask and keypoints. What
    moves in from outside the image is ignored in label maps (255) and not measured in depth (0).

    Args:
        transforms: Transforms in order; each a mapping of `name` (a class of albumentations) and its arguments.
            `OneOf`, `SomeOf` and `Sequential` hold further ones under `transforms`.
        swap: Pairs of keypoints that change places when the image is flipped: left and right eye, ...
        min_visibility: An object of whose box less than this fraction is left is dropped.

    Example:
        >>> AlbumentationsAugment([{"name": "HorizontalFlip", "p": 0.5}, {"name": "GaussNoise", "p": 0.2}])
    """

    def __init__(
        self,
        transforms: Sequence[Mapping[str, Any]],
        *,
        swap: Sequence[tuple[int, int]] = (),
        min_visibility: float = 0.0,
    ) -> None:
        self.transforms = [dict(each) for each in transforms]
        self.swap = [(int(first), int(second)) for first, second in swap]
        self.min_visibility = min_visibility
        self._built: dict[bool, Any] = {}
        self._compose(True)  # a mistake is reported now, and workers inherit the import

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_built": {}}

    def _compose(self, with_boxes: bool) -> Any:
        if with_boxes not in self._built:
            lib = library()
            boxes = lib.BboxParams(
                format="pascal_voc",
                label_fields=["rows"],
                clip=True,
                filter_invalid_bboxes=True,
                min_visibility=self.min_visibility,
            )
            with warnings.catch_warnings():
                # It remarks that color changes do not need the boxes that are handed over.
                warnings.filterwarnings("ignore", message="Got processor for")
                self._built[with_boxes] = lib.Compose(
                    [_build(lib, each) for each in self.transforms],
                    bbox_params=boxes if with_boxes else None,
                    keypoint_params=lib.KeypointParams(format="xy", remove_invisible=False),
                    additional_targets={"depth": "mask"},
                )
        return self._built[with_boxes]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if sample.view is not None:
            raise UsageError(
                "augment: AlbumentationsAugment works on the whole image and comes before whatever sets a view"
            )
        target: dict[str, Any] = {key: np.asarray(value) for key, value in sample.target.items()}
        if left := sorted(placed(target) - _CARRIED):
            raise UsageError(
                f"augment: AlbumentationsAugment cannot move {', '.join(left)}; crop and flip belong to its data module"
            )
        if len(sample.inputs) > 1:
            raise UsageError(
                f"augment: AlbumentationsAugment changes one image, and a sample has {', '.join(sample.inputs)}"
            )
        image = sample.image.read(3)
        compose = self._compose("boxes" in target)
        compose.set_random_seed(int(rng.integers(2**31)))
        out = compose(**_pack(image, target))
        return sample.with_image(ImageSource(out["image"], sample.image.name), target=self._unpack(out, target))

    def _unpack(self, out: Mapping[str, Any], target: dict[str, Any]) -> Any:
        size = out["image"].shape[:2]
        changed = dict(target)
        if "label_map" in target:
            changed["label_map"] = out["mask"] - np.uint8(1)
        if "depth" in target:
            changed["depth"] = out["depth"]
        if "masks" in target:
            changed["masks"] = (
                np.asarray(out["masks"], dtype=bool) if len(target["masks"]) else np.zeros((0, *size), dtype=bool)
            )
        if "keypoints" in target:
            changed["keypoints"] = self._keypoints(
                np.asarray(out["keypoints"], dtype=np.float32), target["keypoints"], size
            )
        if "boxes" in target:
            rows = np.asarray(out["rows"], dtype=np.int64)
            for key in per_instance(changed):
                if key != "boxes":
                    changed[key] = changed[key][rows]
            changed["boxes"] = np.asarray(out["bboxes"], dtype=np.float32).reshape(-1, 4)
        return changed

    def _keypoints(self, moved: np.ndarray, before: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        out = np.array(before, dtype=np.float32)
        reference = moved[-3:]
        out[..., :2] = (moved[:-3] + 0.5).reshape(out[..., :2].shape)
        across, down = reference[1] - reference[0], reference[2] - reference[0]
        if across[0] * down[1] - across[1] * down[0] < 0:
            for first, second in self.swap:
                out[:, [first, second]] = out[:, [second, first]]
        x, y = out[..., 0], out[..., 1]
        out[(x < 0) | (y < 0) | (x > size[1]) | (y > size[0]) | (out[..., 2] == 0)] = 0
        return out


def _pack(image: np.ndarray, target: Mapping[str, np.ndarray]) -> dict[str, Any]:
    inputs: dict[str, Any] = {"image": image}
    if "boxes" in target:
        inputs |= {
            "bboxes": target["boxes"].reshape(-1, 4).astype(np.float32),
            "rows": list(range(len(target["boxes"]))),
        }
    if "masks" in target and len(target["masks"]):
        inputs["masks"] = target["masks"].astype(np.uint8)
    if "label_map" in target:
        # Moved by one, so that the 0 which fills in from outside comes back as 255.
        inputs["mask"] = target["label_map"].astype(np.uint8) + np.uint8(1)
    if "depth" in target:
        inputs["depth"] = target["depth"].astype(np.float32)
    if "keypoints" in target:
        # Albumentations counts pixel centers from 0. Three more points show whether the image was flipped.
        height, width = image.shape[:2]
        middle = np.array([width / 2, height / 2])
        reference = middle + np.array([(0, 0), (8, 0), (0, 8)])
        inputs["keypoints"] = (
            np.concatenate([target["keypoints"][..., :2].reshape(-1, 2), reference]).astype(np.float32) - 0.5
        )
    return inputs


def _build(lib: Any, given: Mapping[str, Any]) -> Any:
    arguments = dict(given)
    name = arguments.pop("name", None)
    known = [
        key
        for key, value in vars(lib).items()
        if isinstance(value, type) and issubclass(value, (lib.BasicTransform, lib.BaseCompose))
    ]
    if name not in known:
        raise UsageError(
            f"augment.transforms: {name!r} is not a transform of albumentations{suggest(str(name), known)}"
        )
    if "transforms" in arguments:
        arguments["transforms"] = [_build(lib, each) for each in arguments["transforms"]]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # an unknown argument only warns
            return getattr(lib, name)(**arguments)
    except (TypeError, ValueError, UserWarning) as error:
        raise UsageError(f"augment.transforms: {name}: {' '.join(str(error).split())[:200]}") from None
