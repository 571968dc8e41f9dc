"""Parts that albumentations does; the only file that imports it, and only where something of it is used.

Every draw comes from the generator that is handed in, so a sample depends on (seed, epoch, index) alone.
Albumentations has generators of its own, which repeat themselves over workers and epochs; they are set for each sample.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from datamodules.augmentation.checks import check
from datamodules.augmentation.geometric import exchanged
from datamodules.augmentation.photometric import then
from datamodules.augmentation.policies import Policy, build_operation, draw_operations
from visionkit.augmentation import SampleAugment
from visionkit.errors import UsageError, suggest
from visionkit.images import ImageSource
from visionkit.skeleton import Skeleton
from visionkit.targets import per_instance, placed
from visionkit.types import Sample

_CARRIED = {"boxes", "masks", "keypoints", "label_map", "depth"}
"""What albumentations moves; any other target that belongs to positions is refused."""


@dataclass(frozen=True)
class PolicyStep:
    """Operations of albumentations on the image at network size.

    Attributes:
        operations: Names and strengths, see `datamodules.augmentation.policies`.
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


class _PolicyPart(SampleAugment):
    """Base of the policies: a few operations of albumentations, drawn with the sample."""

    policy: ClassVar[Policy]
    num_ops: int = 1
    magnitude: int = 0

    def __post_init__(self) -> None:
        check(1, 100, num_ops=self.num_ops)
        check(0, 30, magnitude=self.magnitude)
        library()  # seconds, once: workers inherit it

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if moved := placed(sample.target):
            raise UsageError(
                f"augment: {type(self).__name__} cannot move {', '.join(sorted(moved))}; use AlbumentationsAugment"
            )
        chosen = draw_operations(self.policy, rng, self.num_ops, self.magnitude)
        return then(sample, PolicyStep(chosen, int(rng.integers(2**31))))


@dataclass(frozen=True)
class RandAugment(_PolicyPart):
    """Applies random operations of equal strength (Cubuk et al., 2019); for images without positions to keep.

    Args:
        num_ops: Number of operations per sample.
        magnitude: Strength of the operations, 0 to 30.
    """

    policy: ClassVar[Policy] = "randaugment"
    num_ops: int = 2
    magnitude: int = 9


@dataclass(frozen=True)
class TrivialAugmentWide(_PolicyPart):
    """Applies one random operation of random strength (Mueller and Hutter, 2021)."""

    policy: ClassVar[Policy] = "trivialaugment"


@dataclass(frozen=True)
class AutoAugment(_PolicyPart):
    """Applies a random pair of operations of the policy that was found on ImageNet (Cubuk et al., 2018)."""

    policy: ClassVar[Policy] = "autoaugment"


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
        flip_pairs: Pairs of keypoint numbers that exchange their names when the image is flipped; those of the data's
            skeleton by default.
        min_visibility: An object of whose box less than this fraction is left is dropped.

    Example:
        >>> AlbumentationsAugment([{"name": "HorizontalFlip", "p": 0.5}, {"name": "GaussNoise", "p": 0.2}])
    """

    def __init__(
        self,
        transforms: Sequence[Mapping[str, Any]],
        *,
        flip_pairs: Sequence[tuple[int, int]] = (),
        min_visibility: float = 0.0,
    ) -> None:
        self.transforms = [dict(each) for each in transforms]
        self.flip_pairs = tuple((int(first), int(second)) for first, second in flip_pairs)
        self.min_visibility = min_visibility
        self._built: dict[bool, Any] = {}
        self._compose(True)  # a mistake is reported now, and workers inherit the import

    def with_skeleton(self, skeleton: Skeleton) -> SampleAugment:
        out = copy.copy(self)
        out.flip_pairs = self.flip_pairs or skeleton.swap
        return out

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
            out = exchanged(out, self.flip_pairs)
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
